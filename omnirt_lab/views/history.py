"""What changing the history says: how many runs, and how many bytes that frees."""

from __future__ import annotations

from omnirt_lab.views import numbers


def trashed_text(runs: int, freeable_bytes: int) -> str:
    """After runs have gone into the trash, which frees nothing yet."""
    return f"{numbers.count(runs, 'run')} in the trash; deleting for good frees about {numbers.size(freeable_bytes)}"


def undeleted_text(runs: int) -> str:
    """After runs have come out of the trash."""
    return f"{numbers.count(runs, 'run')} taken out of the trash"


def purged_text(runs: int, freed_bytes: int) -> str:
    """After runs have been deleted for good."""
    return f"{numbers.count(runs, 'run')} deleted for good; {numbers.size(freed_bytes)} freed"
