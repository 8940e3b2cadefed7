"""Tasks of lm-eval by name: from a folder of the user's, or from those that lm-eval brings along.

In: names, perhaps a folder with YAML files. Out: lm-eval's own task objects, their data read. Asks
the network only for data that is not on this machine. Knows no models.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from distill_core.data import hub
from distill_core.errors import DataError, DistillError, HubUnreachable

_HEAD = re.compile(
    r"""^["']?(task|group|tag)["']?:[ \t]*([^\s#]*)[ \t]*(?:\#.*)?((?:\n[ \t]*-[ \t]*\S+)*)""", re.M
)
_FIELD = "tasks"


def load_tasks(
    names: Sequence[str], folder: Path | None, *, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Find tasks, groups and tags, and read their data (`lm_eval.tasks.TaskDict`).

    Relative paths in a task file of the user's start at `folder`. Data on this machine is taken
    as it is; only where some is missing is the hub asked.

    Args:
        names: As lm-eval has them.
        folder: Its YAML files come first; a task of the same name hides lm-eval's.
        tell: Is told in words what takes long.

    Raises:
        DataError: for a name that nobody knows, a task file that is wrong, or missing data.
        HubUnreachable: for data that is not on this machine when the hub does not answer.
    """
    manager, wanted = _manager(names, folder, tell)
    try:
        return _read(manager, wanted, folder, offline=True)
    except Exception as error:  # task files may run anything
        needs_network = _is_offline(error)
        if not needs_network or not hub.hub_answers():
            raise _explained(error, names, folder, offline=needs_network) from error
    tell("Downloading the data of " + ", ".join(names))
    try:
        return _read(manager, wanted, folder, offline=False)
    except Exception as error:
        raise _explained(error, names, folder, offline=False) from error


def _read(manager: Any, wanted: list[str], folder: Path | None, *, offline: bool) -> dict[str, Any]:
    place = contextlib.chdir(folder) if folder else contextlib.nullcontext()
    with place, hub.quiet(offline=offline), _metrics_from_here(offline):
        found: dict[str, Any] = manager.load(wanted)
    return found


@contextlib.contextmanager
def _metrics_from_here(offline: bool) -> Iterator[None]:
    """Keep `evaluate`, which some tasks take their metric from, off a network that is dead."""
    from evaluate import config

    before = config.HF_EVALUATE_OFFLINE
    config.HF_EVALUATE_OFFLINE = offline or before
    try:
        yield
    finally:
        config.HF_EVALUATE_OFFLINE = before


def _manager(
    names: Sequence[str], folder: Path | None, tell: Callable[[str], None]
) -> tuple[Any, list[str]]:
    """lm-eval's task manager with as few files as will do, and what to ask it for.

    Reading all of its 14,000 files takes the better part of a minute, so a task that lm-eval brings
    along is asked for by its file; groups and tags, which name others, need them all.
    """
    from lm_eval.tasks import TaskManager

    own = _own_manager(folder)
    shipped = {} if set(names) <= set(own.all_tasks) else shipped_names()
    known = {*own.all_tasks, *shipped}
    for name in names:
        if name not in known:
            raise _unknown(name, known, folder)
    if all(_alone(name, own) or shipped.get(name) for name in names):
        return own, [name if name in own.all_tasks else str(shipped[name]) for name in names]
    tell("Reading all task files of lm-eval, since a group names others; this takes a while")
    return TaskManager(include_path=str(folder) if folder else None), list(names)


def _alone(name: str, own: Any) -> bool:
    """Whether the user's folder has a name and everything that it stands for."""
    if name not in own.all_tasks:
        return False
    listed = (own.task_index[name].cfg or {}).get("task")
    items = listed if isinstance(listed, list) else []
    members = [item if isinstance(item, str) else item.get("task") for item in items]
    return all(_alone(member, own) for member in members if isinstance(member, str))


def _own_manager(folder: Path | None) -> Any:
    from lm_eval.tasks import TaskManager

    if folder is None:
        return TaskManager(include_defaults=False)
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {folder}.\nGive the folder that holds the tasks' YAML files.",
            field=_FIELD,
        )
    for file in sorted(folder.rglob("*.yaml")):
        _refuse_unreadable(file)
    return TaskManager(include_path=str(folder), include_defaults=False)


def _refuse_unreadable(file: Path) -> None:
    """lm-eval leaves files out that it cannot read; here they are told."""
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        load_yaml(file, resolve_func=False)
    except Exception as error:
        raise DataError(
            f"{file} is no task file: {_short(error)}\n"
            "Mend it, or move it out of the folder of tasks.",
            field=_FIELD,
        ) from error


@functools.lru_cache(maxsize=1)
def shipped_names() -> dict[str, Path | None]:
    """Names that lm-eval brings along: a task's file; None for groups and tags.

    Read from the heads of its files as text, which takes a second.
    """
    import lm_eval.tasks

    found: dict[str, Path | None] = {}
    root = Path(lm_eval.tasks.__file__).parent
    files = (path for path in root.rglob("*") if path.suffix in {"", ".yaml"} and path.is_file())
    for path in sorted(files, key=lambda path: path.as_posix()):
        for kind, name, listed in _HEAD.findall(path.read_text(encoding="utf-8", errors="replace")):
            if kind == "task" and name and path.suffix == ".yaml":
                found.setdefault(name.strip("'\""), path)
            elif kind == "group" and name:
                found[name.strip("'\"")] = None
            elif kind == "tag":
                for tag in [name, *re.findall(r"-[ \t]*(\S+)", listed)]:
                    found.setdefault(tag.strip("'\""), None)
    found.pop("", None)
    return found


def _unknown(name: str, known: set[str], folder: Path | None) -> DataError:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    places = f"{folder} and lm-eval have" if folder else "lm-eval has"
    cure = f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
    if not folder:
        cure = f"{cure} Tasks of your own: --tasks-dir DIR.".strip()
    return DataError(
        f"{places} no task, group or tag {name!r}.\n{cure or 'Check its name.'}", field=_FIELD
    )


def _is_offline(error: BaseException | None) -> bool:
    """Whether something was missing that the network may have."""
    while error is not None:
        if isinstance(error, ConnectionError) or "on the Hugging Face Hub" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _explained(
    error: Exception, names: Sequence[str], folder: Path | None, *, offline: bool
) -> DistillError:
    """Turn whatever lm-eval, a task file or `datasets` raised into one of ours."""
    shown = ", ".join(names)
    if isinstance(error, DistillError):
        return error
    if offline or isinstance(error, ConnectionError):
        return HubUnreachable(
            f"The Hugging Face hub cannot be reached, and the data of {shown} is not on this "
            "disk yet.\nConnect and try again, or give tasks on files of yours: --tasks-dir DIR.",
            field=_FIELD,
        )
    where = f" Relative paths start at {folder}." if folder else ""
    return DataError(
        f"{shown} cannot be read: {_short(error)}\nCheck the task file and its data.{where}",
        field=_FIELD,
    )


def _short(error: Exception) -> str:
    if isinstance(error, StopIteration):
        return "a data file is empty."
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else words[:199] + "…"
