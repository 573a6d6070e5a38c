"""Takes requests through their life: validate, queue, execute, result."""

from omnirt_lab.engine.engine import Engine, unattended
from omnirt_lab.engine.inputs import InputFiles, Picture
from omnirt_lab.engine.requests import build_request

__all__ = ["Engine", "InputFiles", "Picture", "build_request", "unattended"]
