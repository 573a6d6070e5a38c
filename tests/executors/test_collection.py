"""The garbage collector passes over the libraries, and finds what is garbage all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

CIRCLE = """
class Circle:
    def __init__(self):
        self.own = self

    def __del__(self):
        print("found")
"""

SCRIPT = """
import gc
from omnirt_lab.executors.collection import uncollected

before = gc.get_stats()
with uncollected():
    kept = [[] for _ in range(100_000)]
    Circle()
    print(gc.get_stats() == before, gc.isenabled())
print(any(one is kept[-1] for one in gc.get_objects(generation=2)), gc.isenabled(), gc.get_freeze_count())
gc.collect()
Circle()
"""

LAST = """
from omnirt_lab.executors.collection import end_quickly

if {quick}:
    end_quickly()
Circle()
"""

NOT_MINE = """
import gc
from omnirt_lab.executors.collection import uncollected

gc.freeze()
gc.disable()
frozen = gc.get_freeze_count()
with uncollected():
    pass
print(gc.isenabled(), gc.get_freeze_count() == frozen)
"""

IMPORTED = """
import gc
from omnirt_lab.executors import get_executor

before = gc.get_stats()
get_executor("subprocess")
print(gc.get_stats() == before)
"""


def test_an_executor_s_libraries_are_imported_in_such_a_block() -> None:
    assert _said(IMPORTED) == ["True"]


def test_a_block_is_not_collected_and_its_garbage_is_found_later() -> None:
    assert _said(CIRCLE + SCRIPT) == ["True False", "True True 0", "found", "found"]


@pytest.mark.parametrize(("quick", "said"), [(False, ["found"]), (True, [])])
def test_only_a_process_that_is_told_to_end_quickly_leaves_its_garbage_to_the_system(
    quick: bool, said: list[str]
) -> None:
    assert _said(CIRCLE + LAST.format(quick=quick)) == said


def test_who_has_frozen_objects_or_stopped_the_collector_finds_both_so() -> None:
    assert _said(NOT_MINE) == ["False True"]


def _said(script: str) -> list[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()
