"""Runs that are answered from the history: asked for, with a seed, and only where nothing can differ."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from omnirt_lab import GenerateResult, Lab
from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.lab.words import WordsParser, add_run_options, options_of
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.pipelines.environment import environment
from omnirt_lab.pipelines.result_key import find_result_key
from omnirt_lab.records import Adapter, Config, GenerateRequest
from omnirt_lab.views.text import report_text

QUICK = {"steps": 2, "seed": 7, "progress": False}
KEPT = {**QUICK, "result_cache": True}
PROMPT = "a red circle"


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    before = SETTINGS.current
    yield
    SETTINGS.current = before


def asked(result: GenerateResult) -> tuple[int, int] | None:
    """Calls and hits of the result cache; None where it was not asked."""
    return next(((use.calls, use.hits) for use in result.report.cache_details if use.cache_type == "result"), None)


def test_the_same_run_again_is_answered_from_the_history_and_names_the_one_that_made_it(lab: Lab):
    lab.cache.clear()
    first = lab.generate(PROMPT, **KEPT)
    lab.cache.clear()

    second = lab.generate(PROMPT, **KEPT)

    (use,) = second.report.cache_details
    made_ms = first.report.duration_ms - first.report.timings["load_ms"]
    assert (asked(first), asked(second)) == ((1, 0), (1, 1))
    assert second.report.cache_hits == ("result",)
    assert use.source_run_id == first.report.run_id != second.report.run_id
    assert use.saved_ms < made_ms
    assert second.report.artifacts == first.report.artifacts
    assert second.images[0].tobytes() == first.images[0].tobytes()
    assert (second.report.stages, second.report.device_placement, second.report.result_key) == ((), {}, None)
    assert second.report.config_resolved == first.report.config_resolved
    assert f"made by run {first.report.run_id}" in report_text(second.report)
    stats = lab.cache.stats()
    assert stats["resident_pipeline"]["models"] == ()
    assert (stats["result"]["calls"], stats["result"]["hits"]) == (1, 1)
    assert stats["result"]["saved_ns"] == pytest.approx(use.saved_ms * 1e6, abs=1)


def test_it_is_off_unless_it_is_asked_for_and_each_call_may_leave_it(lab: Lab):
    lab.generate(PROMPT, **KEPT)

    assert asked(lab.generate(PROMPT, **QUICK)) is None
    lab.configure(result_cache=True)
    assert asked(lab.generate(PROMPT, **QUICK)) == (1, 1)
    assert asked(lab.generate(PROMPT, **QUICK, result_cache=False)) is None
    assert asked(lab.generate(PROMPT, steps=2, progress=False)) is None
    assert lab.cache.stats()["result"]["is_enabled"]


def test_a_queued_job_is_answered_too(lab: Lab):
    first = lab.generate(PROMPT, **KEPT)

    second = lab.submit(PROMPT, steps=2, seed=7, result_cache=True).result()

    assert asked(second) == (1, 1)
    assert second.report.artifacts == first.report.artifacts


def test_a_purged_or_deleted_run_and_one_whose_picture_is_gone_answer_nothing(lab: Lab):
    first = lab.generate(PROMPT, **KEPT)
    lab.journal.trash(first.report.run_id)
    second = lab.generate(PROMPT, **KEPT)
    lab.journal.purge([first.report.run_id, second.report.run_id])
    third = lab.generate(PROMPT, **KEPT)
    lab.journal.artifacts.path(third.report.artifacts[0].sha256).unlink()
    fourth = lab.generate(PROMPT, **KEPT)

    assert [asked(result) for result in (second, third, fourth)] == [(1, 0)] * 3
    assert asked(lab.generate(PROMPT, **KEPT)) == (1, 1)


def test_a_run_that_was_answered_does_not_answer_others_and_keeps_its_picture(lab: Lab):
    first = lab.generate(PROMPT, **KEPT)
    second = lab.generate(PROMPT, **KEPT)
    lab.journal.purge([first.report.run_id])

    assert asked(lab.generate(PROMPT, **KEPT)) == (1, 0)
    assert second.images[0].size == (64, 64)


def test_a_replay_is_never_answered_from_the_history(lab: Lab):
    lab.configure(result_cache=True)
    lab.generate(PROMPT, **KEPT)
    answered = lab.generate(PROMPT, **KEPT)

    replay = lab.replay(answered.report.run_id, progress=False)

    assert replay.verdict == "bit_exact"
    assert asked(replay.result) is None
    assert "denoise" in {stage.name for stage in replay.result.report.stages}


def test_what_came_to_an_error_answers_nothing(lab: Lab):
    lab.configure(result_cache=True)
    for _ in range(2):
        with pytest.raises(Exception, match="no such callback"):
            lab.generate(PROMPT, on_event=None, callback_on_step_end_tensor_inputs=["no such callback"], **QUICK)
        (use,) = (use for use in lab.last_report().cache_details if use.cache_type == "result")
        assert (use.calls, use.hits) == (1, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": None}, "result_cache needs a seed"),
        ({"execution_mode": "subprocess"}, "result_cache does not go with execution_mode 'subprocess'"),
    ],
)
def test_what_cannot_be_answered_is_refused_where_it_is_asked_for(lab: Lab, options: dict, message: str):
    with pytest.raises(InvalidRequestError, match=message):
        lab.generate(PROMPT, **{**KEPT, **options})


def test_the_command_line_has_it_as_well():
    parser = WordsParser(prog="omnirt run")
    add_run_options(parser)

    assert options_of(parser.parse_args(["--result-cache", "--seed", "7"])) == {"result_cache": True, "seed": 7}


class TestKey:
    """What decides the result decides the key, and nothing else does."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return shutil.copytree(get_model("tiny-shapes").location, tmp_path / "model")

    @pytest.fixture
    def request_of(self, folder: Path):
        def build(adapters: tuple[Adapter, ...] = (), **config: object) -> GenerateRequest:
            return GenerateRequest(model=str(folder), adapters=adapters, config=Config(**{"seed": 7, **config}))

        return build

    def key(self, request: GenerateRequest) -> str | None:
        return find_result_key(request, embed_metadata=True)

    def test_equal_requests_have_one_key_whoever_asked_for_the_cache(self, request_of):
        assert self.key(request_of()) == self.key(request_of()) == self.key(request_of(result_cache=True))

    def test_every_setting_of_the_request_is_in_it(self, request_of):
        settings = [
            {},
            {"seed": 8},
            {"steps": 3},
            {"dtype": "bfloat16"},
            {"scheduler": "euler"},
            {"num_images": 2},
            {"execution_mode": "modular"},
            {"options": {"eta": 0.5}},
        ]

        assert len({self.key(request_of(**config)) for config in settings}) == len(settings)

    def test_other_weights_are_another_key(self, request_of, folder):
        before = self.key(request_of())
        weights = next(folder.glob("unet/*.safetensors"))
        os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1))

        assert self.key(request_of()) != before

    def test_an_adapter_is_known_by_its_files_and_scale_and_one_of_the_hub_is_not(self, request_of, tmp_path):
        path = tmp_path / "lora.safetensors"
        keys = []
        for content, scale in ((b"one", 1.0), (b"one", 0.5), (b"three", 1.0)):
            path.write_bytes(content)
            keys.append(self.key(request_of(adapters=(Adapter(source=str(path), scale=scale),))))

        assert len({self.key(request_of()), *keys}) == 4
        assert self.key(request_of(adapters=(Adapter(source="owner/name"),))) is None

    def test_threads_torch_s_settings_and_what_is_written_into_files_are_in_it(self, request_of):
        request = request_of()
        keys = {self.key(request), find_result_key(request, embed_metadata=False)}
        threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
        try:
            torch.set_num_threads(threads + 1)
            assert environment().torch_threads == threads + 1
            keys.add(self.key(request))
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision("medium")
            keys.add(self.key(request))
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)

        assert len(keys) == 4

    def test_without_a_seed_there_is_none(self):
        assert self.key(GenerateRequest()) is None
