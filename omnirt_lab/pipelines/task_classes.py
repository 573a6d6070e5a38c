"""Which pipeline class does which task: diffusers' own tables, read without importing the classes.

Importing `diffusers.pipelines.auto_pipeline` loads every pipeline there is, which takes seconds; its tables are
literals, so their text is read instead. `tests/pipelines/test_task_classes.py` holds them beside the imported ones.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from omnirt_lab.records import Task

_TABLES: Final[dict[str, Task]] = {
    "AUTO_TEXT2IMAGE_PIPELINES_MAPPING": "text2image",
    "AUTO_IMAGE2IMAGE_PIPELINES_MAPPING": "image2image",
    "AUTO_INPAINT_PIPELINES_MAPPING": "inpaint",
    "AUTO_TEXT2VIDEO_PIPELINES_MAPPING": "text2video",
    "AUTO_IMAGE2VIDEO_PIPELINES_MAPPING": "image2video",
    "AUTO_TEXT2AUDIO_PIPELINES_MAPPING": "text2audio",
}

_TASK_WORDS: Final[tuple[tuple[str, Task], ...]] = (
    ("Inpaint", "inpaint"),
    ("Fill", "inpaint"),
    ("Img2Img", "image2image"),
    ("Edit", "edit"),
    ("Kontext", "edit"),
    ("Pix2Pix", "edit"),
    ("ImageToVideo", "image2video"),
    ("Image2Video", "image2video"),
    ("I2V", "image2video"),
    ("StableVideo", "image2video"),
    ("Video", "text2video"),
    ("AnimateDiff", "text2video"),
    ("Mochi", "text2video"),
    ("Wan", "text2video"),
    ("LTX", "text2video"),
    ("Audio", "text2audio"),
    ("Music", "text2audio"),
    ("AceStep", "text2audio"),
)
"""For classes that no table has: the first word found in the class name. Diffusers names its classes by task."""


def tasks_of(pipeline_class: str) -> tuple[Task, ...]:
    """The tasks that a model saved with this class can do, through its own class or a sibling on the same weights."""
    listed = [task for task in _TABLES.values() if pipeline_class_for(pipeline_class, task) is not None]
    named = _task_by_name(pipeline_class)
    return tuple(listed if listed and named != "edit" else [*listed, named])


def pipeline_class_for(pipeline_class: str, task: Task) -> str | None:
    """The class that does `task` on the weights of a model saved with `pipeline_class`; None if there is none."""
    tables = _read_tables()
    families = [name for table in tables.values() for name, listed in table.items() if listed == pipeline_class]
    if pipeline_class in tables.get(task, {}).values():
        return pipeline_class
    sibling = next((tables[task][family] for family in families if family in tables.get(task, {})), None)
    if sibling is None and _task_by_name(pipeline_class) == task and (task == "edit" or not families):
        return pipeline_class
    return sibling


def find_family(pipeline_class: str) -> str | None:
    """What diffusers calls the models that this class runs, such as `stable-diffusion-xl`; None if no table has it."""
    return next(
        (name for table in _read_tables().values() for name, listed in table.items() if listed == pipeline_class), None
    )


def own_task(pipeline_class: str) -> Task:
    """What a call of this class does: by diffusers' tables, else by its name."""
    named = _task_by_name(pipeline_class)
    listed = [task for task, table in _read_tables().items() if pipeline_class in table.values()]
    return named if named == "edit" or named in listed or not listed else listed[0]


def _task_by_name(pipeline_class: str) -> Task:
    return next((task for word, task in _TASK_WORDS if word in pipeline_class), "text2image")


@cache
def _read_tables() -> dict[Task, dict[str, str]]:
    """Task → model family → class name."""
    spec = find_spec("diffusers")
    if spec is None or not spec.submodule_search_locations:
        return {}
    path = Path(spec.submodule_search_locations[0]) / "pipelines" / "auto_pipeline.py"
    if not path.is_file():
        return {}
    tables: dict[Task, dict[str, str]] = {task: {} for task in _TABLES.values()}
    for table, family, class_name in _entries(ast.parse(path.read_text(encoding="utf-8"))):
        tables[_TABLES[table]][family] = class_name
    return tables


def _entries(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Table, family and class of every `TABLE = OrderedDict([(family, Class), …])` and `TABLE[family] = Class`."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=table)], value=ast.Call(args=[ast.List(elts=pairs)])):
                found = [(table, pair) for pair in pairs]
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=table), slice=family)], value=class_name):
                found = [(table, ast.Tuple(elts=[family, class_name]))]
            case _:
                continue
        for name, pair in found:
            match pair:
                case ast.Tuple(elts=[ast.Constant(value=str(family_name)), ast.Name(id=listed)]) if name in _TABLES:
                    yield name, family_name, listed
