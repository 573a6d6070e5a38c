from __future__ import annotations

from omnirt_lab.folds.operators import OperatorCall, StageSpan, by_stage


def call(name: str, start: int, end: int, **fields: object) -> OperatorCall:
    return OperatorCall(name=name, lane=str(fields.pop("lane", "thread 1")), start_ns=start, end_ns=end, **fields)  # type: ignore[arg-type]


STAGES = (StageSpan("denoise", 100, 200), StageSpan("vae_decode", 200, 300))


def totals(*calls: OperatorCall) -> dict[str | None, dict[str, tuple[int, int, int]]]:
    return {
        stage.stage: {total.name: (total.calls, total.self_cpu_ns, total.cpu_ns) for total in stage.operators}
        for stage in by_stage(calls, STAGES)
    }


def test_a_call_belongs_to_the_stage_in_which_it_began():
    found = totals(call("a", 100, 110), call("a", 199, 205), call("a", 205, 215))

    assert found == {"denoise": {"a": (2, 16, 16)}, "vae_decode": {"a": (1, 10, 10)}}


def test_what_ran_outside_of_the_stages_comes_last():
    stages = by_stage([call("before", 10, 20), call("after", 300, 310)], STAGES)

    assert [stage.stage for stage in stages] == ["denoise", "vae_decode", None]
    assert [stage.duration_ns for stage in stages] == [100, 100, None]
    assert {total.name for total in stages[-1].operators} == {"before", "after"}


def test_a_call_has_its_own_time_and_that_of_what_it_called():
    found = totals(call("linear", 100, 150), call("addmm", 110, 140), call("copy", 120, 125))

    assert found["denoise"] == {"linear": (1, 20, 50), "addmm": (1, 25, 30), "copy": (1, 5, 5)}


def test_a_call_inside_one_of_the_same_operator_counts_its_time_once():
    found = totals(call("conv", 100, 160), call("inner", 110, 150), call("conv", 120, 140))

    assert found["denoise"]["conv"] == (2, 20 + 20, 60)


def test_calls_of_two_threads_do_not_nest():
    found = totals(call("a", 100, 160), call("b", 110, 150, lane="thread 2"))

    assert found["denoise"] == {"a": (1, 60, 60), "b": (1, 40, 40)}


def test_times_of_a_device_are_the_kernels_that_an_operator_and_its_callees_launched():
    calls = [
        call("linear", 100, 150, device_ns=0),
        call("addmm", 110, 140, device_ns=70),
        call("gemm kernel", 130, 200, lane="cuda:0, stream 7", is_kernel=True),
    ]

    denoise, _ = by_stage(calls, STAGES)

    figures = {total.name: (total.self_device_ns, total.device_ns) for total in denoise.operators}
    assert figures == {"linear": (0, 70), "addmm": (70, 70)}


def test_without_a_device_its_times_are_unknown():
    denoise, _ = by_stage([call("a", 100, 110)], STAGES)

    assert (denoise.operators[0].self_device_ns, denoise.operators[0].device_ns) == (None, None)


def test_a_stage_that_ran_twice_is_one_with_both_durations():
    spans = (*STAGES, StageSpan("denoise", 400, 450))

    stages = by_stage([call("a", 100, 110), call("a", 410, 420)], spans)

    assert [(stage.stage, stage.duration_ns, stage.self_cpu_ns) for stage in stages] == [
        ("denoise", 150, 20),
        ("vae_decode", 100, 0),
    ]
