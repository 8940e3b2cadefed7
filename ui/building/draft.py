"""A recipe while it is being written: a mapping that may still be wrong.

In: YAML text, edits by dotted path. Out: YAML text, and where in it the pair of models stands.
Keeps whatever was typed, wrong values included; what is right is for `api.check` to say.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any

import yaml

Mapping = dict[str, Any]

METHODS: dict[str, tuple[str, ...]] = {
    "Distill": ("distill",),
    "Fine-tune": ("fine_tune",),
    "Fine-tune → distill": ("fine_tune", "distill"),
    "Distill → fine-tune": ("distill", "fine_tune"),
}
"""Ways to make a student; each is nothing but a list of stages."""

SEVERAL_STAGES = "Progressive, or other stages"
"""Stands for stages that no method names, such as a teacher made smaller step by step."""

PREVIOUS = "previous"

TASKS = {"causal_lm": "Write text", "text_classification": "Tell classes apart"}
"""What models can be made for, in words."""

_UNREAD: dict[str, tuple[str, ...]] = {
    "causal_lm": (r"data\.classes", r"data\.columns\.(text_pair|label)"),
    "text_classification": (
        r"data\.(prompt_template|system_prompt)",
        r"data\.columns\.(prompt|response|messages)",
        r"evaluation\.(max_new_tokens|metric)",
        r"stages\.\d+\.(teacher_answers|student_answers|on_policy_fraction)",
    ),
}
"""Settings that a task never reads: patterns of their paths."""


class BrokenYaml(ValueError):
    """Text that is no YAML mapping; edits by path would lose it."""


def read(text: str) -> Mapping:
    """Parse YAML text; raises `BrokenYaml` when it is no mapping."""
    try:
        data = yaml.safe_load(text) if text.strip() else {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise BrokenYaml(f"The YAML cannot be read{where}. Mend it there first.") from None
    if not isinstance(data, dict):
        raise BrokenYaml("The YAML holds no settings. Pick a ready recipe to start again.")
    return data


def write(draft: Mapping) -> str:
    """Write a draft as YAML, small groups on one line."""
    return yaml.safe_dump(
        draft, sort_keys=False, allow_unicode=True, width=96, default_flow_style=None
    )


def get(draft: Any, path: str, default: Any = None) -> Any:
    """Read the value at a dotted path, such as `stages.0.optim.epochs`."""
    for key in path.split("."):
        if isinstance(draft, dict) and key in draft:
            draft = draft[key]
        elif isinstance(draft, list) and key.isdigit() and int(key) < len(draft):
            draft = draft[int(key)]
        else:
            return default
    return draft


def put(draft: Mapping, path: str, value: Any) -> Mapping:
    """Return a draft with a value set at a dotted path; groups on the way are made."""
    changed = copy.deepcopy(draft)
    *way, last = path.split(".")
    target: Any = changed
    for key in way:
        index: Any = int(key) if isinstance(target, list) else key
        if isinstance(target, dict) and not isinstance(target.get(key), dict | list):
            target[key] = {}
        target = target[index]
    target[int(last) if isinstance(target, list) else last] = value
    return changed


def drop(draft: Mapping, path: str) -> Mapping:
    """Return a draft without the value at a dotted path."""
    changed = copy.deepcopy(draft)
    way, _, last = path.rpartition(".")
    target = get(changed, way) if way else changed
    if isinstance(target, list) and last.isdigit() and int(last) < len(target):
        del target[int(last)]
    elif isinstance(target, dict):
        target.pop(last, None)
    return changed


def frame(draft: Mapping, path: str) -> list[tuple[int, str]]:
    """Tell what stands around a path: the length of each list on it, and the kind of its item.

    A field that was laid out for another frame no longer means the setting that its path names.
    """
    found = []
    way = path.split(".")
    for place, key in enumerate(way):
        held = get(draft, ".".join(way[:place])) if place else draft
        if isinstance(held, list) and key.isdigit():
            found.append((len(held), str(get(held, f"{key}.kind", ""))))
    return found


# --- task -------------------------------------------------------------------------------------


def task(draft: Mapping) -> str:
    """What the models are made for; a name that is none counts as the default."""
    named = str(draft.get("task") or "causal_lm")
    return named if named in TASKS else "causal_lm"


def is_read(draft: Mapping, path: str) -> bool:
    """Whether the task at hand reads a setting at all."""
    return not any(re.fullmatch(pattern, path) for pattern in _UNREAD[task(draft)])


# --- stages -----------------------------------------------------------------------------------


def kinds(draft: Mapping) -> tuple[str, ...]:
    """List the kinds of the stages, in order."""
    stages = draft.get("stages")
    if not isinstance(stages, list):
        return ()
    return tuple(str(get(stage, "kind", "")) for stage in stages)


def method(draft: Mapping) -> str | None:
    """Name the method that the stages amount to; None for a list of another shape."""
    return next((name for name, shape in METHODS.items() if shape == kinds(draft)), None)


@dataclass(frozen=True)
class Pair:
    """Where a recipe names its teacher (or the model to tune) and its student."""

    teacher_path: str
    student_path: str
    has_teacher: bool


def pair(draft: Mapping) -> Pair:
    """Find the pair: the first distil stage and where its teacher comes from."""
    shape = kinds(draft)
    if "distill" not in shape:
        return Pair("stages.0.model", "stages.0.student", has_teacher=False)
    stage = shape.index("distill")
    student_path, path, earlier = f"stages.{stage}.student", f"stages.{stage}.teacher", stage
    while get(draft, path) == PREVIOUS and earlier > 0:
        earlier -= 1
        key = "model" if shape[earlier] == "fine_tune" else "teacher"
        path = f"stages.{earlier}.{key}"
    if isinstance(get(draft, path), list):  # a mixture: the first one stands for it
        path = f"{path}.0.model"
    return Pair(path, student_path, has_teacher=True)


def distill_stage(draft: Mapping) -> int | None:
    """Find the first stage that asks a teacher."""
    shape = kinds(draft)
    return shape.index("distill") if "distill" in shape else None


def with_teacher(draft: Mapping, stage: int) -> Mapping:
    """Return a draft whose stage has one teacher more; the first time, its only one is listed."""
    path = f"stages.{stage}.teacher"
    named = get(draft, path)
    listed = named if isinstance(named, list) else [{"model": named or "", "weight": 1.0}]
    return put(draft, path, [*copy.deepcopy(listed), {"model": "", "weight": 1.0}])


def without_teacher(draft: Mapping, path: str) -> Mapping:
    """Return a draft without one of several teachers; where one is left, it is named alone."""
    way = path.rpartition(".")[0]
    left = get(drop(draft, path), way)
    if isinstance(left, list) and len(left) == 1:
        return put(draft, way, get(left[0], "model", ""))
    return put(draft, way, left)


def with_method(draft: Mapping, name: str, shelf: Mapping | None = None) -> Mapping:
    """Return a draft with the stages of a method.

    Stages of the same kind keep their settings; `shelf` (kind → stage) holds those put aside
    before, so that going back and forth loses nothing.
    """
    now = pair(draft)
    teacher, student = get(draft, now.teacher_path), get(draft, now.student_path)
    old = {**(shelf or {}), **stages_by_kind(draft)}
    stages = []
    for index, kind in enumerate(METHODS[name]):
        stage = {"kind": kind, **copy.deepcopy(old.get(kind) or _new_stage(draft))}
        stage.pop("student", None)
        key = "teacher" if kind == "distill" else "model"
        mixture = isinstance(stage.get(key), list) and get(stage, f"{key}.0.model") == teacher
        if index or not mixture:
            stage[key] = PREVIOUS if index else teacher
        trains_student = kind == "distill" or METHODS[name] == ("fine_tune",)
        if trains_student and student is not None:
            stage["student"] = copy.deepcopy(student)
        stages.append(_in_order(stage))
    return {**copy.deepcopy(draft), "stages": stages}


def stages_by_kind(draft: Mapping) -> Mapping:
    """Take the stages apart by kind, the last of each."""
    stages = draft.get("stages")
    listed = stages if isinstance(stages, list) else []
    return {str(stage.get("kind")): stage for stage in listed if isinstance(stage, dict)}


def _new_stage(draft: Mapping) -> Mapping:
    """Give a new stage the optimiser of the first one: same batch, same number of steps."""
    optim = get(draft, "stages.0.optim")
    return {"optim": copy.deepcopy(optim)} if isinstance(optim, dict) else {}


def _in_order(stage: Mapping) -> Mapping:
    first = ("kind", "teacher", "model", "student")
    rest = [key for key in stage if key not in first]
    return {key: stage[key] for key in (*first, *rest) if key in stage}
