"""Attributes of single objects, replaced for a while and put back exactly."""

from __future__ import annotations

from typing import Any

_ABSENT = object()


class InstancePatch:
    """One entry of an object's own `__dict__`; the class and every other instance stay as they are."""

    def __init__(self, target: object, name: str, replacement: Any) -> None:
        self._attributes = vars(target)
        self._name = name
        self._replacement = replacement
        self._before = self._attributes.get(name, _ABSENT)

    def install(self) -> None:
        """Set the entry."""
        self._attributes[self._name] = self._replacement

    def remove(self) -> None:
        """Put the entry back; one that was never set, or that somebody else has replaced since, stays as it is."""
        if self._attributes.get(self._name) is not self._replacement:
            return
        if self._before is _ABSENT:
            del self._attributes[self._name]
        else:
            self._attributes[self._name] = self._before
