"""What the spans of a trace say about a run: every name stands here.

`gen_ai.*` and `error.type` are OpenTelemetry's semantic conventions for generative AI; those have no operation for
pictures, so that what is ours is called `omnirt.*`. A fact that was not measured has no attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from omnirt_lab.records import RunReport, StageTiming, StepTiming, Task
from omnirt_lab.records.trace import Attribute
from omnirt_lab.units import ms_from_ns

OPERATION: Final = "generate_content"

OPERATION_NAME: Final = "gen_ai.operation.name"
OUTPUT_TYPE: Final = "gen_ai.output.type"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_COUNT: Final = "gen_ai.request.choice.count"
ERROR_TYPE: Final = "error.type"

BACKEND: Final = "omnirt.backend"
BATCH_SIZE: Final = "omnirt.batch_size"
CACHE_HITS: Final = "omnirt.cache.hits"
CACHE_SAVED_MS: Final = "omnirt.cache.saved_ms"
CACHE_TYPE: Final = "omnirt.cache.type"
CLASS_NAME: Final = "omnirt.component.class"
CLOCK: Final = "omnirt.clock"
DEVICE: Final = "omnirt.device"
DURATION_MS: Final = "omnirt.duration_ms"
EVENTS_DROPPED: Final = "omnirt.events_dropped"
EXECUTION_MODE: Final = "omnirt.execution_mode"
IS_OPEN: Final = "omnirt.is_open"
JOB_ID: Final = "omnirt.job_id"
MEMORY_KIND: Final = "omnirt.memory.kind"
NEGATIVE_PROMPT: Final = "omnirt.negative_prompt"
NODE: Final = "omnirt.node"
PEAK_BYTES: Final = "omnirt.memory.peak_bytes"
PIPELINE_CLASS: Final = "omnirt.pipeline_class"
PROMPT: Final = "omnirt.prompt"
QUEUE_WAIT_MS: Final = "omnirt.queue_wait_ms"
RUN_ID: Final = "omnirt.run_id"
SOLVER_CALLS: Final = "omnirt.step.solver_calls"
STAGE: Final = "omnirt.stage"
STATE: Final = "omnirt.state"
STEP_INDEX: Final = "omnirt.step.index"
STEPS_COUNT: Final = "omnirt.steps.count"
STEPS_LEFT_OUT: Final = "omnirt.steps.left_out"
STEPS_PLANNED: Final = "omnirt.steps.planned"
TASK: Final = "omnirt.task"
TIMESTEP: Final = "omnirt.step.timestep"
WORKER_ID: Final = "omnirt.worker_id"

_PROVIDER: Final = "diffusers"

_OUTPUT_TYPES: Final[dict[Task, str]] = {"text2video": "video", "image2video": "video", "text2audio": "audio"}


def of_run(report: RunReport, *, job_id: str | None, has_texts: bool) -> dict[str, Attribute]:
    """What the root span says; the prompts only where `has_texts`."""
    saved_ms = [use.saved_ms for use in report.cache_details if use.saved_ms is not None]
    config, inputs = report.request.config, report.request.inputs
    return _known(
        {
            OPERATION_NAME: OPERATION,
            OUTPUT_TYPE: _OUTPUT_TYPES.get(report.request.task, "image"),
            PROVIDER_NAME: _PROVIDER,
            REQUEST_MODEL: report.model,
            REQUEST_SEED: config.seed,
            REQUEST_COUNT: config.num_images,
            ERROR_TYPE: None if report.error is None else report.error.type,
            RUN_ID: report.run_id,
            JOB_ID: job_id,
            TASK: report.task,
            BACKEND: report.backend,
            EXECUTION_MODE: report.execution_mode,
            STATE: report.state,
            WORKER_ID: report.worker_id,
            NODE: report.backend_timeline[-1].node if report.backend_timeline else None,
            PIPELINE_CLASS: report.pipeline_class,
            BATCH_SIZE: report.batch_size,
            QUEUE_WAIT_MS: report.queue_wait_ms,
            DURATION_MS: report.duration_ms,
            STEPS_COUNT: len(report.steps),
            STEPS_PLANNED: report.steps_planned,
            CACHE_HITS: report.cache_hits,
            CACHE_SAVED_MS: sum(saved_ms) if saved_ms else None,
            MEMORY_KIND: report.memory.kind,
            PEAK_BYTES: max(report.memory.peak_bytes.values(), default=None),
            EVENTS_DROPPED: report.probe.events_dropped,
            PROMPT: inputs.prompt if has_texts else None,
            NEGATIVE_PROMPT: inputs.negative_prompt if has_texts else None,
        }
    )


def of_stage(stage: StageTiming, *, steps_left_out: int) -> dict[str, Attribute]:
    """What a stage's span says."""
    return _known(
        {
            STAGE: stage.name,
            CLASS_NAME: stage.class_name,
            DEVICE: stage.device,
            CLOCK: stage.clock,
            MEMORY_KIND: stage.memory_kind,
            PEAK_BYTES: stage.peak_bytes,
            CACHE_TYPE: stage.cache_type,
            CACHE_SAVED_MS: None if stage.saved_ns is None else ms_from_ns(stage.saved_ns),
            ERROR_TYPE: stage.error,
            STEPS_LEFT_OUT: steps_left_out or None,
        }
    )


def of_step(step: StepTiming) -> dict[str, Attribute]:
    """What a step's span says."""
    return _known({STEP_INDEX: step.index, TIMESTEP: step.timestep, SOLVER_CALLS: step.solver_calls, CLOCK: step.clock})


def _known(facts: Mapping[str, Attribute | None]) -> dict[str, Attribute]:
    return {name: value for name, value in facts.items() if value is not None}
