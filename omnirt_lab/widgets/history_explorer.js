/**
 * The history as a table in a notebook. The runs come once, as columns of JSON in a buffer; finding, sorting and
 * scrolling happen here, so that they go on while the kernel is busy. What changes a run is asked of the kernel, which
 * answers with the run as it is then. Texts of others go in by textContent.
 *
 * @typedef {{run_id: string, prompt: string, model: string, task: string, state: string, enqueued_at_ms: number,
 *   duration_ms: number | null, duration: string, peak_bytes: number | null, peak: string, steps: number | null,
 *   tags: string[], rating: number | null, note: string | null, trashed: boolean, has_picture: boolean,
 *   folded: string}} Run
 * @typedef {{text: string, model: string, task: string, state: string, tag: string, rating: string, trash: boolean,
 *   sort: string, descending: boolean}} Wish
 */

export const ROW_PX = 58;
const SETTLED_MS = 60;
const PATIENCE_MS = 400;
const STARS = [1, 2, 3, 4, 5];
const EXACT = ["model", "task", "state"];
const FILTERS = [...EXACT, "tag", "rating"];
// class of a column, and what it sorts by
const HEADS = [["mark"], ["picture"], ["prompt", ["prompt", "Prompt"]], ["words", ["", "Tags, note"]],
  ["rating", ["rating", "Rating"]], ["model", ["model", "Model"], ["state", "State"]],
  ["when", ["enqueued_at_ms", "When"], ["steps", "Steps"]], ["figures", ["duration_ms", "Time"], ["peak_bytes", "Memory"]]];

/** @param {Record<string, any[]>} columns @returns {Run[]} */
export function runsOf(columns) {
  const names = Object.keys(columns);
  return columns.run_id.map((_, index) => {
    const run = Object.fromEntries(names.map((name) => [name, columns[name][index]]));
    run.folded = run.prompt.toLowerCase();
    return run;
  });
}

/** The runs that are wanted, in order. @param {Run[]} runs @param {Wish} wish */
export function matching(runs, wish) {
  const text = wish.text.toLowerCase();
  const found = runs.filter((run) =>
    run.trashed === wish.trash
    && (!text || run.folded.includes(text))
    && EXACT.every((field) => !wish[field] || run[field] === wish[field])
    && (!wish.tag || run.tags.includes(wish.tag))
    && (!wish.rating || (run.rating ?? 0) >= Number(wish.rating)));
  return sorted(found, wish.sort, wish.descending);
}

/** Sorted by a field, unknown ones last. @param {Run[]} runs @param {string} field @param {boolean} descending */
function sorted(runs, field, descending) {
  const sign = descending ? -1 : 1;
  const key = field === "prompt" ? "folded" : field;
  return runs.slice().sort((one, other) => {
    const a = one[key], b = other[key];
    if (a === b) return other.enqueued_at_ms - one.enqueued_at_ms;
    if (a === null || b === null) return a === null ? 1 : -1;
    return a < b ? -sign : sign;
  });
}

/** The values of a field, each once. @param {Run[]} runs @param {string} field @returns {string[]} */
export function choices(runs, field) {
  return [...new Set(runs.flatMap((run) => run[field]))].sort();
}

/** The rows to draw. @param {number} scrollTop @param {number} heightPx @param {number} count */
export function windowOf(scrollTop, heightPx, count) {
  // with a few beyond, for what is scrolled to next
  const first = Math.max(0, Math.floor(scrollTop / ROW_PX) - 4);
  return { first, end: Math.min(count, Math.ceil((scrollTop + heightPx) / ROW_PX) + 4) };
}

/**
 * The selection after a click on one: it alone, it more or less, or all from the anchor to it.
 * @param {Set<string>} selected @param {string[]} order @param {string | null} anchor @param {"one" | "toggle" | "range"} how
 */
export function withClick(selected, order, id, anchor, how) {
  if (how === "toggle") {
    const next = new Set(selected);
    return next.delete(id) ? next : next.add(id);
  }
  const from = how === "range" && anchor !== null ? order.indexOf(anchor) : -1;
  const to = order.indexOf(id);
  return new Set(from < 0 ? [id] : order.slice(Math.min(from, to), Math.max(from, to) + 1));
}

/** What to add and remove for tags to be as typed. @param {string[]} before @param {string} typed */
export function tagChange(before, typed) {
  const after = typed.split(",").map((tag) => tag.trim()).filter(Boolean);
  return { add: after.filter((tag) => !before.includes(tag)), remove: before.filter((tag) => !after.includes(tag)) };
}

/** Local time, to the minute. @param {number} ms since 1970 */
export function moment(ms) {
  return new Date(ms).toLocaleString("sv").slice(0, 16); // Swedes write as ISO does
}

const digits = (number) => number.toLocaleString("en");

/** @param {number} count @param {string} noun */
export function counted(count, noun) {
  return `${digits(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** An element; texts are shown as they are. @param {string} tag @param {...(Node | string)} children */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const button = (textContent, rest = {}) => make("button", { type: "button", textContent, ...rest });
const words = (className, text) => make("bdi", { className, textContent: text, title: text });

class Explorer {
  /** @param {any} model @param {HTMLElement} el @param {AbortSignal} signal */
  constructor(model, el, signal) {
    this.model = model;
    // all runs, by id, those of the table in order, and the elements of those in view
    this.runs = [];
    this.byId = new Map();
    this.shown = [];
    this.rows = new Map();
    /** Id → address of the thumbnail; null while it is on its way. */
    this.pictures = new Map();
    this.wish = { text: "", trash: false, sort: "enqueued_at_ms", descending: true };
    this.selected = new Set();
    this.active = this.anchor = null;
    this.name = `omnirt-history-${Math.random().toString(36).slice(2)}`;
    this.build(el);
    const hear = this.hear.bind(this);
    model.on("msg:custom", hear);
    signal.addEventListener("abort", () => {
      model.off("msg:custom", hear);
      clearTimeout(this.settling);
      clearTimeout(this.patience);
      for (const address of this.pictures.values()) if (address) URL.revokeObjectURL(address);
    });
    this.ask({ kind: "load" });
  }

  build(el) {
    const bar = (...inside) => make("div", { className: "bar" }, ...inside);
    this.search = make("input", { type: "search", placeholder: "Find in prompts", ariaLabel: "Find in prompts",
      oninput: () => this.find({ text: this.search.value }) });
    this.filters = new Map(FILTERS.map((field) => [field, make("select", { ariaLabel: field,
      onchange: ({ target }) => this.find({ [field]: target.value }) })]));
    this.trash = make("input", { type: "checkbox", onchange: () => {
      this.select([]);
      this.find({ trash: this.trash.checked });
    } });
    this.trashLabel = make("span");
    const again = button("Refresh", { onclick: () => this.ask({ kind: "load" }) });
    this.count = make("span", { className: "count" });
    this.out = button("", { onclick: () => this.change({ kind: this.wish.trash ? "undelete" : "trash" }) });
    this.purge = button("", { onclick: () => this.deleteForGood() });
    this.sorters = HEADS.flatMap(([, ...sorts]) => sorts.map(([value, text]) =>
      button(text, { value, disabled: !value, onclick: () => this.sortBy(value) })));
    const sorters = this.sorters.values();
    const heads = HEADS.map(([className, ...sorts]) =>
      make("span", { className, role: "columnheader" }, ...sorts.map(() => sorters.next().value)));
    this.space = make("div", { className: "space", role: "rowgroup", onclick: (event) => this.click(event) });
    this.body = make("div", { className: "body", tabIndex: 0, role: "grid", ariaLabel: "Runs", ariaMultiSelectable: "true",
      onscroll: () => this.draw(), onkeydown: (event) => event.target === this.body && this.key(event) },
    make("div", { className: "head", role: "row" }, ...heads), this.space);
    this.said = make("span", { role: "status" });
    this.undo = button("Undo", { hidden: true, onclick: () => this.ask(this.undone) });
    this.failed = make("div", { className: "failed", role: "alert" });
    this.root = make("div", { className: "omnirt-history", onkeydown: (event) => event.stopPropagation() },
      bar(this.search, ...this.filters.values(), make("label", {}, this.trash, this.trashLabel), again),
      bar(this.count, this.out, this.purge),
      this.body, bar(this.said, this.undo), this.failed);
    this.root.dataset.lmSuppressShortcuts = "true"; // or "d d" in the table would delete the notebook's cell
    el.append(this.root);
  }

  /** Another click turns the order round. */
  sortBy(sort) {
    const isAgain = this.wish.sort === sort;
    this.find({ sort, descending: isAgain ? !this.wish.descending : !["prompt", "model", "state"].includes(sort) });
  }

  ask(message) {
    clearTimeout(this.patience);
    this.patience = setTimeout(() => this.root.classList.add("waiting"), PATIENCE_MS);
    this.model.send(message);
  }

  /** Ask for a change of the selected runs, or of these. */
  change(change, run_ids = [...this.selected]) {
    if (run_ids.length) this.ask({ ...change, run_ids });
  }

  /** @param {any} message @param {DataView[]} buffers */
  hear(message, buffers) {
    clearTimeout(this.patience);
    this.root.classList.remove("waiting");
    if (message.kind === "thumbnails") return this.takePictures(message.run_ids, buffers);
    if (message.kind === "select") return this.select(message.run_ids, false);
    this.failed.textContent = message.kind === "error" ? `${message.message}. ${message.hint}` : "";
    this.said.textContent = message.said ?? "";
    this.undone = message.undo;
    this.undo.hidden = !this.undone;
    return buffers.length ? this.take(message, runsOf(JSON.parse(new TextDecoder().decode(buffers[0])))) : undefined;
  }

  /** All runs, or those that have changed, as they are now. */
  take({ kind, is_trash, gone, selected_ids }, runs) {
    const now = new Map(runs.map((run) => [run.run_id, run]));
    this.runs = kind === "runs" ? runs
      : this.runs.filter((run) => !gone.includes(run.run_id)).map((run) => now.get(run.run_id) ?? run);
    this.byId = new Map(this.runs.map((run) => [run.run_id, run]));
    if (is_trash) this.wish.trash = this.trash.checked = true;
    this.clear([...this.rows.keys()]);
    this.refresh();
    this.select((selected_ids ?? [...this.selected]).filter((id) => this.byId.get(id)?.trashed === this.wish.trash));
  }

  /** Take rows out of the page. */
  clear(ids) {
    for (const id of ids) {
      this.rows.get(id)?.remove();
      this.rows.delete(id);
    }
  }

  /** What depends on which runs there are. */
  refresh() {
    for (const [field, select] of this.filters) {
      const values = field === "rating" ? STARS.map(String) : choices(this.runs, field === "tag" ? "tags" : field);
      const text = (value) => (field === "rating" ? `${"★".repeat(Number(value))} or more` : value);
      select.replaceChildren(make("option", { textContent: `Any ${field}`, value: "" }),
        ...values.map((value) => make("option", { textContent: text(value), value })));
      this.wish[field] = select.value = values.includes(this.wish[field]) ? this.wish[field] : "";
      select.hidden = values.length < (field === "tag" ? 1 : 2);
    }
    this.find({}, false);
  }

  find(change, toTop = true) {
    Object.assign(this.wish, change);
    this.shown = matching(this.runs, this.wish);
    this.space.style.height = `${this.shown.length * ROW_PX}px`;
    if (toTop) this.body.scrollTop = 0;
    this.body.ariaRowCount = String(this.shown.length);
    const trashed = this.runs.filter((run) => run.trashed).length;
    this.trashLabel.textContent = `Trash (${digits(trashed)})`;
    this.total = this.wish.trash ? trashed : this.runs.length - trashed;
    for (const sorter of this.sorters) {
      sorter.dataset.order = sorter.value !== this.wish.sort ? "none" : this.wish.descending ? "descending" : "ascending";
    }
    this.countUp();
    this.draw();
  }

  countUp() {
    const { shown, selected, total } = this;
    this.count.textContent = (shown.length === total ? "" : `${digits(shown.length)} of `)
      + counted(total, "run") + (selected.size ? ` · ${digits(selected.size)} selected` : "");
    this.out.textContent = this.wish.trash ? "Put back" : "Trash";
    this.purge.hidden = !this.wish.trash;
    this.purge.textContent = "Delete for good";
    this.isSure = false;
    this.out.disabled = this.purge.disabled = !selected.size;
  }

  /** The rows in view, and no others, as elements; those that stay are not touched. */
  draw() {
    const { first, end } = windowOf(this.body.scrollTop, this.body.clientHeight, this.shown.length);
    const wanted = new Map(this.shown.slice(first, end).map((run, index) => [run.run_id, first + index]));
    this.clear([...this.rows.keys()].filter((id) => !wanted.has(id)));
    for (const [id, index] of wanted) {
      const row = this.rows.get(id) ?? this.row(this.byId.get(id));
      row.style.transform = `translateY(${index * ROW_PX}px)`;
      row.ariaRowIndex = String(index + 1);
      row.ariaSelected = String(this.selected.has(id));
      row.classList.toggle("active", id === this.active);
      row.querySelector("[type=checkbox]").checked = this.selected.has(id);
      if (!row.parentNode) this.space.append(row);
      this.rows.set(id, row);
    }
    this.body.setAttribute("aria-activedescendant", this.rows.get(this.active)?.id ?? "");
    clearTimeout(this.settling);
    this.settling = setTimeout(() => {
      const missing = [...wanted.keys()].filter((id) => this.byId.get(id)?.has_picture && !this.pictures.has(id));
      for (const id of missing) this.pictures.set(id, null);
      this.change({ kind: "thumbnails", side_px: 2 * (ROW_PX - 12) }, missing);
    }, SETTLED_MS);
  }

  row(run) {
    const none = (text) => make("span", { className: "none", textContent: text });
    const cells = {
      mark: [make("input", { type: "checkbox", tabIndex: -1, ariaLabel: "Select" })],
      picture: [this.image(run)],
      prompt: [words("text", run.prompt)],
      words: [make("div", { className: "tags" }, ...(run.tags.length ? run.tags.map((tag) => words("tag", tag)) : [none("tag")])),
        make("div", { className: "note" }, run.note ? words("", run.note) : none("note"))],
      rating: STARS.map((star) => button("★",
        { className: star <= run.rating ? "star on" : "star", tabIndex: -1, value: star, ariaLabel: counted(star, "star") })),
      model: [words("", run.model), words(`state ${run.state}`, run.state)],
      when: [words("", moment(run.enqueued_at_ms)), words("", run.steps === null ? "" : counted(run.steps, "step"))],
      figures: [words("", run.duration), words("", run.peak)],
    };
    const row = make("div", { className: "row", role: "row", id: `${this.name}-${run.run_id}` },
      ...Object.entries(cells).map(([className, inside]) => make("span", { className, role: "gridcell" }, ...inside)));
    row.dataset.id = run.run_id;
    return row;
  }

  image(run) {
    const src = this.pictures.get(run.run_id);
    return src ? make("img", { src, alt: "" }) : make("i", { className: run.has_picture ? "coming" : "" });
  }

  /** @param {string[]} ids @param {DataView[]} buffers one each, empty where the picture is gone */
  takePictures(ids, buffers) {
    ids.forEach((id, index) => {
      if (!buffers[index].byteLength || this.pictures.get(id) || !this.byId.has(id)) return;
      this.pictures.set(id, URL.createObjectURL(new Blob([buffers[index]])));
      this.rows.get(id)?.querySelector(".picture").replaceChildren(this.image(this.byId.get(id)));
    });
  }

  select(ids, tell = true) {
    this.selected = new Set(ids);
    // a message, not a synchronised trait: those wait for the kernel's answer, and a cell could overtake the second
    if (tell) this.model.send({ kind: "select", run_ids: [...ids] });
    this.countUp();
    this.draw();
  }

  click(event) {
    const { target } = event;
    const run = this.byId.get(target.closest(".row")?.dataset.id);
    if (!run || target.matches(".editor")) return;
    this.active = run.run_id;
    if (target.matches(".star")) this.rate(run, Number(target.value));
    else if (target.closest(".tags, .note")) this.edit(run, target.closest(".tags") ? "tags" : "note");
    else {
      const isMore = event.ctrlKey || event.metaKey || target.closest(".mark");
      this.choose(run.run_id, event.shiftKey ? "range" : isMore ? "toggle" : "one");
      this.body.focus({ preventScroll: true });
    }
  }

  choose(id, how) {
    this.select(withClick(this.selected, this.shown.map((run) => run.run_id), id, this.anchor, how));
    if (how !== "range") this.anchor = id;
  }

  /** A rating that it has already is taken back. */
  rate(run, rating) {
    this.change({ kind: "rate", rating: rating === run.rating ? null : rating }, [run.run_id]);
  }

  /** A field where the tags or note stand. In a selected row, tags are added to, and taken from, all selected runs. */
  edit(run, what) {
    const place = this.rows.get(run.run_id)?.querySelector(`.${what}`);
    if (!place) return;
    const value = what === "tags" ? run.tags.join(", ") : run.note ?? "";
    const end = (keeps) => {
      field.onblur = null; // taking it out of the page blurs it
      field.replaceWith(place);
      const typed = field.value.trim();
      if (!keeps || typed === value) return;
      if (what === "note") this.change({ kind: "note", note: typed || null }, [run.run_id]);
      else this.change({ kind: "tag", ...tagChange(run.tags, typed) }, this.selected.has(run.run_id) ? undefined : [run.run_id]);
    };
    const field = make("input", { className: "editor", value, ariaLabel: what, onblur: () => end(true), onkeydown: ({ key }) => {
      if (key !== "Enter" && key !== "Escape") return;
      end(key === "Enter");
      this.body.focus({ preventScroll: true });
    } });
    place.replaceWith(field);
    field.focus();
  }

  /** The first click asks, the second does it. */
  deleteForGood() {
    if (this.isSure) this.change({ kind: "purge" });
    else this.purge.textContent = `Really delete ${counted(this.selected.size, "run")}?`;
    this.isSure = !this.isSure;
  }

  key(event) {
    const { key } = event;
    const run = this.byId.get(this.active);
    const page = Math.max(1, Math.floor(this.body.clientHeight / ROW_PX) - 1);
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[key];
    const isCommand = event.ctrlKey || event.metaKey;
    if (by !== undefined) this.move(by, event.shiftKey);
    else if (isCommand && key === "a") this.select(this.shown.map((one) => one.run_id));
    else if (isCommand || event.altKey) return;
    else if (key === "Escape") this.select([]);
    else if (key === "/") this.search.focus();
    else if (key === "Delete") this.out.click();
    else if (!run) return;
    else if (key === " ") this.choose(run.run_id, "toggle");
    else if (/^[1-5]$/.test(key)) this.rate(run, Number(key));
    else if (key === "t" || key === "n") this.edit(run, key === "t" ? "tags" : "note");
    else return;
    event.preventDefault();
  }

  move(by, isRange) {
    const at = this.shown.findIndex((run) => run.run_id === this.active);
    const to = Math.min(this.shown.length - 1, Math.max(0, at + by));
    if (to < 0) return;
    this.active = this.shown[to].run_id;
    const headroom = this.body.clientHeight - this.space.offsetTop - ROW_PX;
    this.body.scrollTop = Math.min(to * ROW_PX, Math.max(this.body.scrollTop, to * ROW_PX - headroom));
    this.choose(this.active, isRange ? "range" : "one");
  }
}

/** @param {{model: any, el: HTMLElement}} context */
function render({ model, el }) {
  const closing = new AbortController();
  new Explorer(model, el, closing.signal);
  return () => closing.abort();
}

export default { render };
