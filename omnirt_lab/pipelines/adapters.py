"""LoRA adapters laid over a pipeline's weights for the length of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from diffusers import DiffusionPipeline
from diffusers.loaders.lora_base import LoraBaseMixin
from huggingface_hub.constants import HF_HUB_OFFLINE
from safetensors import SafetensorError

from omnirt_lab.errors import InvalidRequestError, ModelLoadError, NotAvailableError, UnsupportedTaskError
from omnirt_lab.pipelines.library_messages import quiet_libraries
from omnirt_lab.records import Adapter, WarningData

_LOADER_ERRORS: Final = (OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError, SafetensorError)


@contextmanager
def use_adapters(pipeline: DiffusionPipeline, adapters: Sequence[Adapter]) -> Iterator[tuple[WarningData, ...]]:
    """Load the adapters, give each its scale, and take them away when the block ends; the weights are as before then.

    Yields what the libraries had to say about them, as about keys that fit nothing.

    Raises
    ------
    NotAvailableError
        If peft is not installed.
    InvalidRequestError
        If two have one name, or the pipeline came with adapters of its own.
    UnsupportedTaskError
        If this pipeline class takes no LoRA.
    ModelLoadError
        If one cannot be read, or holds nothing for this pipeline.
    """
    if not adapters:
        yield ()
        return
    _check(pipeline, adapters)
    notes: list[WarningData] = []
    names = [adapter.name for adapter in adapters]
    try:
        for index, adapter in enumerate(adapters):
            with quiet_libraries() as messages:
                _load(pipeline, adapter)
            notes += [_note(text) for text in messages if not _is_about_earlier(text, names[:index])]
        pipeline.set_adapters(names, [adapter.scale for adapter in adapters])
        yield tuple(notes)
    finally:
        pipeline.unload_lora_weights()


def _check(pipeline: DiffusionPipeline, adapters: Sequence[Adapter]) -> None:
    if find_spec("peft") is None:
        raise NotAvailableError("adapters need peft, which is not installed", hint="pip install 'omnirt-lab[lora]'")
    if not isinstance(pipeline, LoraBaseMixin):
        raise UnsupportedTaskError(
            f"{type(pipeline).__name__} takes no LoRA adapters", hint="Leave adapters out, or use another model."
        )
    if _loaded(pipeline):
        raise InvalidRequestError(
            f"the pipeline already has adapters of its own: {', '.join(sorted(_loaded(pipeline)))}",
            hint="Unload them (unload_lora_weights) or leave adapters out of the request.",
        )
    names = [adapter.name for adapter in adapters]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequestError(f"two adapters are called {name!r}", hint="Give each a name of its own.")


def _load(pipeline: Any, adapter: Adapter) -> None:
    is_local = Path(adapter.source).expanduser().exists()
    try:
        pipeline.load_lora_weights(
            str(Path(adapter.source).expanduser()) if is_local else adapter.source,
            weight_name=adapter.weight_name,
            adapter_name=adapter.name,
            local_files_only=is_local or HF_HUB_OFFLINE,
        )
    except _LOADER_ERRORS as exc:
        raise ModelLoadError(
            f"the adapter {adapter.source} could not be laid over {type(pipeline).__name__}: {exc}",
            hint="Give a folder, file or hub id with LoRA weights made for this kind of model.",
        ) from exc
    if adapter.name not in _loaded(pipeline):
        raise ModelLoadError(
            f"the adapter {adapter.source} holds no weights for {type(pipeline).__name__}",
            hint="Use one that was trained for this kind of model.",
        )


def _note(message: str) -> WarningData:
    return WarningData(code="adapter_load", message=message)


def _is_about_earlier(message: str, earlier: Sequence[str]) -> bool:
    """Whether it only says that adapters were there already, or reports their weights as missing from this one's file.

    Transformers does both for each adapter after the first; the weights are as they should be.
    """
    if "Already found a `peft_config`" in message:
        return True
    rows = [line for line in message.splitlines() if "| MISSING" in line or "| UNEXPECTED" in line]
    return bool(rows) and all(any(f".{name}.weight" in row for name in earlier) for row in rows)


def _loaded(pipeline: Any) -> set[str]:
    return {name for names in pipeline.get_list_adapters().values() for name in names}
