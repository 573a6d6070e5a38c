"""A person's keyword arguments become one typed request, or an error that names the nearest valid word."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.records import Config, GenerateRequest, Inputs

_INPUT_FIELDS: Final = frozenset(Inputs.__struct_fields__)
_CONFIG_FIELDS: Final = frozenset(Config.__struct_fields__) - {"options"}
_REQUEST_FIELDS: Final = frozenset({"task", "model", "backend", "adapters"})
_OTHER_NAMES: Final = {
    "num_inference_steps": "steps",
    "num_images_per_prompt": "num_images",
    "guidance": "guidance_scale",
    "negative": "negative_prompt",
    "mask_image": "mask",
    "audio_length": "audio_length_s",
}
"""What diffusers and the command line call it → what the request calls it."""

FIELD_NAMES: Final = tuple(sorted(_INPUT_FIELDS | _CONFIG_FIELDS | _REQUEST_FIELDS))


def build_request(prompt: str, options: Mapping[str, Any]) -> GenerateRequest:
    """Sort `options` into inputs, configuration and the rest, and check every value.

    Names that the lab does not know go to `config.options`; whether the pipeline takes them is checked against its
    signature before anything is loaded. Without a task, a picture means `image2image`, and with a mask `inpaint`.

    Raises
    ------
    InvalidRequestError
        For a value of the wrong type or out of range, an empty prompt, or two names for one option.
    """
    inputs: dict[str, Any] = {"prompt": prompt}
    config: dict[str, Any] = {"options": _own_options(options)}
    request: dict[str, Any] = {"inputs": inputs, "config": config}
    for given, value in options.items():
        if given == "options":
            continue
        name = request_name(given)
        home = _home_of(name, inputs=inputs, config=config, request=request)
        if name in home:
            raise InvalidRequestError(f"{name} is given twice, once as {given}", hint=f"Pass {name} once.")
        home[name] = value
    if "task" not in request and inputs.get("image") is not None:
        request["task"] = "image2image" if inputs.get("mask") is None else "inpaint"
    built = _convert(request)
    _require_prompt(built)
    return built


def request_name(given: str) -> str:
    """What the request calls an option, which diffusers and the command line may call otherwise."""
    return _OTHER_NAMES.get(given, given)


def _own_options(options: Mapping[str, Any]) -> dict[str, Any]:
    own = options.get("options", {})
    if not isinstance(own, Mapping):
        raise InvalidRequestError(
            f"options is a {type(own).__name__}", hint="Pass the pipeline's own arguments as a dictionary, by name."
        )
    return dict(own)


def _home_of(name: str, *, inputs: dict[str, Any], config: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    if name in _INPUT_FIELDS:
        return inputs
    if name in _CONFIG_FIELDS:
        return config
    if name in _REQUEST_FIELDS:
        return request
    options: dict[str, Any] = config["options"]
    return options


def _convert(request: dict[str, Any]) -> GenerateRequest:
    try:
        return msgspec.convert(request, GenerateRequest)
    except msgspec.ValidationError as error:
        fact, _, place = str(error).partition(" - at `$.")
        last, first_word = place.rstrip("`").split(".")[-1], fact.partition(" ")[0]
        name = first_word if first_word in FIELD_NAMES else last  # our own facts begin with the field they are about
        message = f"{name}: {fact}" if name and name not in fact else fact
        raise InvalidRequestError(message, hint=f"Options and their ranges: {_field_help(name)}") from error


def _field_help(name: str) -> str:
    nearest = difflib.get_close_matches(name, FIELD_NAMES, n=1)
    return f"help(omnirt_lab.generate), option {nearest[0]!r}." if nearest else "help(omnirt_lab.generate)."


def _require_prompt(request: GenerateRequest) -> None:
    if request.task.startswith("text2") and not request.inputs.prompt.strip():
        raise InvalidRequestError("the prompt is empty", hint="Say what the picture shows: generate('a red circle').")
