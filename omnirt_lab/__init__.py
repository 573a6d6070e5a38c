"""OmniRT Lab: run diffusion pipelines in Jupyter, and see where the time and memory went.

>>> import omnirt_lab as lab
>>> result = lab.generate("a red circle on a blue background", steps=20, seed=7)
>>> result.images, result.report
>>> lab.history().to_pandas()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

__version__ = "0.1.0"

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from omnirt_lab.errors import LabError
    from omnirt_lab.lab.api import (
        cache,
        compare,
        configure,
        generate,
        get_job,
        get_report,
        history,
        last_report,
        models,
        observe,
        panel,
        profile,
        publish,
        replay,
        submit,
        sweep,
        unobserve,
        unpublish,
        validate,
    )
    from omnirt_lab.lab.compare import Comparison
    from omnirt_lab.lab.history import History
    from omnirt_lab.lab.jobs import Job
    from omnirt_lab.lab.profile import Profile
    from omnirt_lab.lab.replay import Replay
    from omnirt_lab.lab.results import GenerateResult, RunReport
    from omnirt_lab.lab.session import Lab
    from omnirt_lab.lab.sweep import Sweep
    from omnirt_lab.lab.validation import Validation
    from omnirt_lab.records import Adapter, Artifact, Config, GenerateRequest, Inputs

_API: Final = "omnirt_lab.lab.api"
_RECORDS: Final = "omnirt_lab.records"
_HOME_OF: Final = {
    **dict.fromkeys(
        (
            "cache",
            "compare",
            "configure",
            "generate",
            "get_job",
            "get_report",
            "history",
            "last_report",
            "models",
            "observe",
            "panel",
            "profile",
            "publish",
            "replay",
            "submit",
            "sweep",
            "unobserve",
            "unpublish",
            "validate",
        ),
        _API,
    ),
    **dict.fromkeys(("Adapter", "Artifact", "Config", "GenerateRequest", "Inputs"), _RECORDS),
    "GenerateResult": "omnirt_lab.lab.results",
    "RunReport": "omnirt_lab.lab.results",
    "Comparison": "omnirt_lab.lab.compare",
    "History": "omnirt_lab.lab.history",
    "Job": "omnirt_lab.lab.jobs",
    "Lab": "omnirt_lab.lab.session",
    "Profile": "omnirt_lab.lab.profile",
    "Replay": "omnirt_lab.lab.replay",
    "Sweep": "omnirt_lab.lab.sweep",
    "Validation": "omnirt_lab.lab.validation",
    "LabError": "omnirt_lab.errors",
}
"""Public name → the module that has it; loaded when it is first asked for (PEP 562)."""

__all__ = [
    "Adapter",
    "Artifact",
    "Comparison",
    "Config",
    "GenerateRequest",
    "GenerateResult",
    "History",
    "Inputs",
    "Job",
    "Lab",
    "LabError",
    "Profile",
    "Replay",
    "RunReport",
    "Sweep",
    "Validation",
    "cache",
    "compare",
    "configure",
    "generate",
    "get_job",
    "get_report",
    "history",
    "last_report",
    "models",
    "observe",
    "panel",
    "profile",
    "publish",
    "replay",
    "submit",
    "sweep",
    "unobserve",
    "unpublish",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Make `%omnirt` and `%%omnirt` known to IPython: `%load_ext omnirt_lab`."""
    from omnirt_lab.magics import register  # IPython is heavy

    register(shell)
