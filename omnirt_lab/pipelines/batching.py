"""Which requests may share one call of a pipeline, and what the shared call is given."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from omnirt_lab.errors import PipelineError
from omnirt_lab.pipelines.call_arguments import call_parameters
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.pipelines.loading import get_pipeline_class
from omnirt_lab.records import GenerateRequest

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_LISTED: Final = ("prompt", "negative_prompt", "generator")
"""Arguments of which a shared call has one a request."""

_FIXED_LENGTH: Final = ("CLIPTextModel", "T5EncoderModel")
"""Text encoders to which diffusers' pipelines give every prompt padded to one length. With others, such as Qwen's, a
longer prompt of a companion would change what a shorter one is padded to."""


def shape_of(request: GenerateRequest) -> GenerateRequest | None:
    """What requests that may share a call have in common: all but the texts and the seed. None for one that may not.

    Only single pictures from a text are merged. A denoiser's cache decides by the whole batch what it leaves out, and
    an option that is no plain number may hold texts or tensors that belong to one prompt.
    """
    config, inputs = request.config, request.inputs
    if (
        request.task != "text2image"
        or config.execution_mode != "legacy_call"
        or config.num_images != 1
        or config.denoiser_cache is not None
        or config.result_cache
        or inputs.image is not None
        or inputs.mask is not None
        or not all(isinstance(value, bool | int | float) for value in config.options.values())
    ):
        return None
    negative_prompt = None if inputs.negative_prompt is None else ""
    return replace(
        request,
        inputs=replace(inputs, prompt="", negative_prompt=negative_prompt),
        config=replace(config, seed=None),
    )


def takes_batches(request: GenerateRequest) -> bool:
    """Whether the model's pipeline takes several prompts, and none of them changes what another one comes to.

    Raises
    ------
    LabError
        If the model cannot be run at all.
    """
    return is_batched_by_rows(get_pipeline_class(get_model(request.model), request.task))


def is_batched_by_rows(pipeline_class: type[DiffusionPipeline]) -> bool:
    """Whether its call takes several prompts, and none of them changes what another one comes to."""
    return takes_lists(pipeline_class) and _has_fixed_length(pipeline_class)


def takes_lists(pipeline_class: type[DiffusionPipeline]) -> bool:
    """Whether its call is declared to take a list of prompts and one of generators."""
    accepted = call_parameters(pipeline_class)
    return all(
        name in accepted and "list" in str(accepted[name].annotation).lower() for name in ("prompt", "generator")
    )


def shared_arguments(arguments: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The arguments of one call for all rows: `arguments`, with a list where each row has a value of its own."""
    return {**arguments, **{name: [row[name] for row in rows] for name in _LISTED if name in arguments}}


def row_of(output: object, index: int, size: int) -> dict[str, Any]:
    """What a call for `size` pictures has returned, as far as it concerns one of them.

    Raises
    ------
    PipelineError
        If it has returned another number of pictures.
    """
    pictures = output.get("images") if isinstance(output, dict) else None
    count = 0 if pictures is None else len(pictures)
    if pictures is None or count != size:
        raise PipelineError(
            f"the pipeline returned {count} pictures for {size} prompts in one call",
            hint="Leave batching off for this model: lab.configure(max_batch_size=1).",
        )
    flagged = output.get("nsfw_content_detected") if isinstance(output, dict) else None
    row: dict[str, Any] = {"images": pictures[index : index + 1]}
    if isinstance(flagged, list):
        row["nsfw_content_detected"] = flagged[index : index + 1]
    return row


def _has_fixed_length(pipeline_class: type[DiffusionPipeline]) -> bool:
    """Whether all text encoders that it is made with are of a kind whose prompts are padded to one length."""
    parameters = inspect.signature(pipeline_class.__init__).parameters.values()
    encoders = [str(parameter.annotation) for parameter in parameters if parameter.name.startswith("text_encoder")]
    return bool(encoders) and all(any(name in encoder for name in _FIXED_LENGTH) for encoder in encoders)
