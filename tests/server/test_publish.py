from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.server.running import body, wait_for
from tests.server.serving import Serving, running_server, server_environment

NOTEBOOK = """
import sys
import omnirt_lab as lab
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.pipelines.loading import load_pipeline, resolve_placement

pipe = load_pipeline(get_model("tiny-shapes"), task="text2image", placement=resolve_placement(None, None)).pipeline
lab.publish(pipe, name="mine")
print("published", flush=True)
for line in sys.stdin:
    if line == "unpublish\\n":
        lab.unpublish("mine")
    elif line == "publish\\n":
        lab.publish(pipe, name="mine")
    elif line == "own call\\n":
        pipe("a blue square", num_inference_steps=2, height=64, width=64)
    print("done", flush=True)
"""


class Notebook:
    """A process of a user's that has published a pipeline as `mine`, and does what it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._expect("published")

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        self._expect("done")

    def _expect(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{line}\n"


@contextmanager
def notebook(server: Serving, home: Path) -> Iterator[Notebook]:
    process = subprocess.Popen(
        [sys.executable, "-c", NOTEBOOK],
        env=server_environment(server.state_dir, home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            yield Notebook(process)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server without a runner: what is answered, a notebook has made."""
    home = tmp_path_factory.mktemp("publish")
    with running_server(home / "state", home, "--OmniRTApp.runners=0") as serving:
        yield serving


@pytest.fixture(scope="module")
def own(server: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """The notebook of the module's tests, started by the first one that asks for it."""
    with notebook(server, tmp_path_factory.mktemp("notebook")) as running:
        yield running


def model_ids(server: Serving) -> list[str]:
    return [model["id"] for model in server.client.get("/v1/models").json()["data"]]


def test_without_a_notebook_the_allowed_models_are_listed_and_nobody_serves_them(server: Serving):
    answer = server.client.get("/v1/models").json()

    assert answer["object"] == "list"
    (model,) = answer["data"]
    assert (model["id"], model["object"], model["owned_by"], model["workers"]) == (
        "tiny-shapes",
        "model",
        "omnirt-lab",
        [],
    )
    assert server.client.get("/v1/models/tiny-shapes").json() == model


def test_an_unknown_model_is_404_also_one_with_a_slash(server: Serving):
    for name in ("nobodys", "owner/name", "owner%2Fname"):
        response = server.client.get(f"/v1/models/{name}")

        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_allowed")


def test_a_published_pipeline_is_listed_and_serves_requests_until_it_is_unpublished(server: Serving, own: Notebook):
    (model,) = [model for model in server.client.get("/v1/models").json()["data"] if model["id"] == "mine"]
    assert model["owned_by"] == "notebook"
    config = {"steps": 3, "seed": 11, "width": 64, "height": 96, "num_images": 2, "guidance_scale": 2.0}

    response = server.client.post("/v1/generate", json=body(model="mine", config=config))

    assert response.status_code == 200, response.text
    report = response.json()["metadata"]
    assert [report["worker_id"]] == model["workers"]
    assert [(a["width_px"], a["height_px"], a["seed"]) for a in report["artifacts"]] == [(64, 96, 11), (64, 96, 12)]
    assert report["config_resolved"]["num_inference_steps"] == 3
    assert report["config_resolved"]["guidance_scale"] == 2.0
    own.tell("unpublish")
    assert model_ids(server) == ["tiny-shapes"]
    assert server.client.post("/v1/generate", json=body(model="mine")).status_code == 404
    own.tell("publish")
    assert "mine" in model_ids(server)


def test_the_same_request_gives_the_same_picture_whoever_runs_it(server: Serving, own: Notebook):
    first = server.client.post("/v1/generate", json=body(model="mine")).json()
    own.tell("own call")
    second = server.client.post("/v1/generate", json=body(model="mine")).json()

    pictures = [server.client.get(f"/v1/artifacts/{a['outputs'][0]['sha256']}").content for a in (first, second)]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert first["metadata"]["latent_stats"] == second["metadata"]["latent_stats"] is not None


def test_what_a_published_pipeline_does_not_take_fails_with_its_own_error(server: Serving, own: Notebook):
    for config in (
        {"dtype": "float16"},
        {"options": {"colour": "red"}},
        {"execution_mode": "ray"},
        {"execution_mode": "modular"},
        {"timeout_s": 9.0},
    ):
        response = server.client.post("/v1/generate", json=body(model="mine", config=config))

        assert response.status_code == 400, response.text
        assert response.json()["error"]["hint"]
    assert server.client.post("/v1/generate", json=body(model="mine")).status_code == 200


def test_a_killed_notebook_serves_no_longer_and_what_waits_for_it_is_lost(server: Serving, own: Notebook):
    """The last one: nothing of the notebook is left."""
    endless = {"steps": 1000, "width": 128, "height": 128, "num_images": 4}
    running, waiting = (
        server.client.post("/v1/generate", json=body(model="mine", config=endless, async_run=True)).json()["job_id"]
        for _ in range(2)
    )
    wait_for(lambda: server.journal.get_job(running).state == "running", "the first job runs")
    own.process.kill()

    for job_id in (running, waiting):
        wait_for(lambda job_id=job_id: server.journal.get_job(job_id).state == "lost", "it is lost")
    assert model_ids(server) == ["tiny-shapes"]
