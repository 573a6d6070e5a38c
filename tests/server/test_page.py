"""The page for people, in a real browser at a real server."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from PIL import Image

from omnirt_lab.journal import Journal
from omnirt_lab.records import Artifact, JobFinishedData, StageStartData
from tests.journal.writing import begin, run, step, wish
from tests.server.serving import Serving, running_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MODULES = Path(__file__).parents[2] / "extensions/omnirt_server/page"
PICTURES = Path(__file__).parents[2] / "test-artifacts"
WICKED = '<img src=x onerror="window.hacked=1"> a wicked prompt'


@pytest.fixture
def page(browser: Browser, server: Serving) -> Iterator[Page]:
    """The page, opened with the token; whatever it logs or asks of another server fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
    opened = context.new_page()
    logged: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: logged.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: logged.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(f"{server.url}/omnirt?token={server.token}")
    opened.get_by_role("status").filter(has_text="waiting").wait_for()
    yield opened
    context.close()
    assert logged == []
    assert [url for url in asked if not url.startswith(server.url)] == []


def save(page: Page, name: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"page-{name}.png").write_bytes(page.screenshot())  # by `path` it would leave a thread behind


def test_who_is_not_logged_in_is_sent_to_the_login_page(server: Serving):
    for path in ("/omnirt", "/omnirt/page/page.js"):
        answer = httpx.get(f"{server.url}{path}")

        assert answer.status_code == 302
        assert "/login?next=" in answer.headers["location"]
    assert httpx.get(f"{server.url}/omnirt/findings/{'0' * 16}").status_code == 401


def test_the_page_and_its_files_have_types_tags_and_a_strict_policy(server: Serving):
    kinds = {"/omnirt": "text/html", "/omnirt/page/page.css": "text/css", "/omnirt/page/fold.js": "text/javascript"}
    for path, kind in kinds.items():
        answer = server.client.get(path)
        again = server.client.get(path, headers={"If-None-Match": answer.headers["etag"]})

        assert answer.headers["content-type"].startswith(kind)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..%2fapp.py", "%2e%2e/app.py"])
def test_no_other_file_is_served(server: Serving, name: str):
    assert server.client.get(f"/omnirt/page/{name}").status_code == 404


def test_addresses_begin_with_the_base_url(tmp_path: Path):
    with running_server(tmp_path / "state", tmp_path, "--OmniRTApp.runners=0", base_url="/a/b/") as server:
        text = server.client.get("/omnirt").text

        assert 'data-base-url="/a/b/"' in text
        assert server.client.get("/omnirt/page/page.js").status_code == 200


@pytest.mark.browser
def test_a_running_job_appears_moves_and_ends(page: Page, server: Serving):
    with server.journal.worker() as worker:
        writer = begin(server.journal, worker, wish("a live circle"))
        writer.emit(StageStartData(device="cpu"), stage="denoise")
        card = page.locator("#live article", has_text="a live circle")
        card.wait_for()
        for index in range(5):
            step(writer, index)
        card.get_by_text("step 5 of 20").wait_for()
        save(page, "live")
        for index in range(5, 20):
            step(writer, index)
        card.get_by_text("step 20 of 20").wait_for()
        writer.finish(JobFinishedData())

    page.locator("#runs button", has_text="a live circle").get_by_text("succeeded").wait_for()
    card.wait_for(state="detached")


@pytest.mark.browser
def test_markup_in_a_prompt_is_text(page: Page, server: Serving):
    with server.journal.worker() as worker:
        run(server.journal, worker, wish(WICKED))

    row = page.locator("#runs button", has_text="a wicked prompt")
    row.click()

    assert row.locator(".prompt").text_content() == WICKED
    page.locator("#report-body .findings").wait_for()
    assert page.locator("#report-title").text_content() == WICKED
    assert page.evaluate("window.hacked") is None


@pytest.mark.browser
def test_the_report_opens_with_its_pictures_and_escape_closes_it(page: Page, server: Serving):
    png = _png(server.journal)
    with server.journal.worker() as worker:
        run(server.journal, worker, wish("a pictured circle"), artifacts=(png,))
    page.locator("#runs button", has_text="a pictured circle").press("Enter")

    page.locator("#report-body .findings li").first.wait_for()
    picture = page.locator("#report-body .pictures img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    save(page, "report")
    page.keyboard.press("Escape")

    assert not page.locator("#report").is_visible()
    assert page.evaluate("document.activeElement.textContent").startswith("a pictured circle")


@pytest.mark.browser
def test_the_form_queues_a_job_with_its_whole_seed_and_cancel_ends_it(page: Page, server: Serving):
    page.get_by_label("Prompt", exact=True).fill("a queued square")
    page.get_by_label("Seed").fill(str(2**63 - 1))
    page.get_by_role("button", name="Generate").click()
    waiting = page.locator("#queue li", has_text="a queued square")
    waiting.wait_for()
    job = server.journal.list_jobs(states=("queued",), limit=1)[0]
    assert json.loads(server.client.get(f"/v1/runs/{job.run_id}").text)["request"]["config"]["seed"] == 2**63 - 1

    waiting.get_by_role("button", name="Cancel").click()

    page.locator("#runs button", has_text="a queued square").get_by_text("cancelled").wait_for()
    assert server.journal.get_job(job.job_id).state == "cancelled"


@pytest.mark.browser
def test_arrow_keys_walk_the_runs_and_filters_find_them(page: Page, server: Serving):
    with server.journal.worker() as worker:
        for name in ("walk one", "walk two"):
            run(server.journal, worker, wish(name))
    page.get_by_label("Find in prompts").fill("walk")
    rows = page.locator("#runs button")
    page.locator("#runs:not(:has(li:nth-child(3))) li:nth-child(2)", has_text="walk one").wait_for()

    rows.first.focus()
    page.keyboard.press("ArrowDown")

    assert page.evaluate("document.activeElement.textContent").startswith("walk one")
    page.get_by_label("State").select_option("failed")
    page.get_by_text("No run matches.").wait_for()


@pytest.mark.browser
def test_the_page_is_dark_on_request_and_no_wider_than_a_telephone(page: Page, server: Serving):
    with server.journal.worker() as worker:
        run(server.journal, worker, wish("a picture with rather many words in its prompt"))
    page.locator("#runs button", has_text="rather many words").wait_for()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    save(page, "dark")
    page.get_by_role("button", name="Theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == light != dark

    page.set_viewport_size({"width": 380, "height": 800})
    save(page, "narrow")

    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    overlaps = """rows => rows.flatMap(row => [...row.querySelectorAll('.run-words > *')].filter(
        text => text.getBoundingClientRect().right > row.querySelector('.badge').getBoundingClientRect().left
    ).map(text => text.textContent))"""
    assert page.locator("#runs .run").count() > 0
    assert page.locator("#runs .run").evaluate_all(overlaps) == []


def test_the_modules_fold_events_and_write_requests(tmp_path: Path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    for module in MODULES.glob("*.js"):
        shutil.copy(module, tmp_path / module.name)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(Path(__file__).with_name("page.test.js"), tmp_path / "page.test.js")

    done = subprocess.run(
        [node, "--test", "page.test.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout


def _png(journal: Journal) -> Artifact:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "crimson").save(buffer, "PNG")
    return journal.artifacts.put_bytes(buffer.getvalue(), "image/png", width_px=64, height_px=64)
