"""Runs on disk: one folder each, from which every curve and table can be rebuilt.

In: a recipe, or a run's name. Out: folders under the runs folder, and plain descriptions of them.
Knows nothing of torch, of how training works, or of how a run's state changes (`run_control.py`).
"""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from distill_core import files
from distill_core.errors import RunError
from distill_core.recipe import DistillStage, Recipe, recipe_yaml
from distill_core.runs import status as run_status
from distill_core.runs.status import Status

LATEST = "latest"


def default_runs_dir(runs_dir: str | Path | None = None) -> Path:
    """Return `runs_dir`, else `$DISTILL_RUNS_DIR`, else `./runs`, as an absolute path."""
    return Path(runs_dir or os.environ.get("DISTILL_RUNS_DIR") or "runs").expanduser().absolute()


# --- create, find -------------------------------------------------------------------------------


def create(recipe: Recipe, runs_dir: Path, *, state: str = "queued") -> Path:
    """Make a run's folder, complete or not at all; raises `DiskFullError`, `RunError`."""
    now = time.time()
    stem = f"{datetime.fromtimestamp(now):%Y%m%d-%H%M%S}-{recipe.name}"
    make_runs_dir(runs_dir)
    unfinished = runs_dir / f".new-{stem}-{os.getpid()}-{time.monotonic_ns()}"
    try:
        with files.disk_full_told(runs_dir):
            unfinished.mkdir()
            files.replace_text(unfinished / "recipe.yaml", recipe_yaml.dumps(recipe))
            fresh = run_status.EMPTY | {"created_time_s": now, "queued_time_s": now}
            fresh |= {"state": state, "device": recipe.device, "name": recipe.name}
            fresh["cwd"] = os.getcwd()  # relative paths in the recipe mean this folder
            if state == "running":
                fresh |= run_status.this_process() | {"foreground": True}
            run_status.write(unfinished, fresh)
            files.replace_json(unfinished / "summary.json", _first_summary(recipe))
            return _rename_to_free_name(unfinished, stem)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def resolve(run: str | Path, runs_dir: Path) -> Path:
    """Find a run's folder by id, beginning of an id, `latest`, or path; raises `RunError`."""
    text = str(run)
    if isinstance(run, Path) or "/" in text or os.sep in text:
        folder = Path(run).expanduser()
        if _is_run(folder):
            return folder.absolute()
        raise RunError(f"{text} is not the folder of a run: it has no recipe.yaml and status.json.")
    if text and not text.startswith(".") and _is_run(runs_dir / text):
        return runs_dir / text  # the others need not be looked at
    known = [folder.name for folder in folders(runs_dir)]
    if not known:
        raise RunError(
            f"There are no runs in {runs_dir} yet.\n"
            "Start one with `distill-studio start RECIPE`, or name another folder with --runs-dir."
        )
    if text == LATEST:
        return max((runs_dir / name for name in known), key=_created)
    matching = [name for name in known if text and name.startswith(text)]
    if len(matching) == 1:
        return runs_dir / matching[0]
    if matching:
        raise RunError(f"{text!r} is the beginning of several runs: {', '.join(matching[:4])}.")
    near = difflib.get_close_matches(text, known, n=1, cutoff=0.3) or known[-1:]
    raise RunError(f"There is no run {text!r} in {runs_dir}.\nDid you mean {near[0]}?")


def folders(runs_dir: Path) -> list[Path]:
    """List the runs' folders, oldest first by name."""
    try:
        with os.scandir(runs_dir) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []
    return [runs_dir / name for name in sorted(names) if _is_run(runs_dir / name)]


def load_recipe(run_dir: Path) -> Recipe:
    """Read a run's recipe back; raises `RecipeError`."""
    return recipe_yaml.load(run_dir / "recipe.yaml")


# --- describe -----------------------------------------------------------------------------------


def list_runs(runs_dir: Path) -> list[dict[str, Any]]:
    """Describe all runs, newest first, from their small files only."""
    found = [(folder, run_status.current(folder)) for folder in folders(runs_dir)]
    positions = _queue_positions(found)
    rows = [
        {
            "run": folder.name,
            "name": status.get("name") or folder.name,
            "path": str(folder),
            "created_time_s": status.get("created_time_s"),
            "status": status | {"queue_position": positions.get(folder)},
            "summary": files.read_json(folder / "summary.json"),
        }
        for folder, status in found
    ]
    return sorted(rows, key=lambda row: (row["created_time_s"] or 0, row["run"]), reverse=True)


def show(run_dir: Path) -> dict[str, Any]:
    """Describe one run; the shape is in `api.show`."""
    status = run_status.current(run_dir)
    position = None
    if status["state"] == "queued":
        siblings = [(other, run_status.read(other)) for other in folders(run_dir.parent)]
        position = _queue_positions(siblings).get(run_dir)
    try:
        recipe_text = (run_dir / "recipe.yaml").read_text(encoding="utf-8")
    except OSError:
        recipe_text = ""
    recipe: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        recipe = recipe_yaml.loads(recipe_text).model_dump(mode="json")
    return {
        "run": run_dir.name,
        "name": status.get("name") or run_dir.name,
        "path": str(run_dir),
        "created_time_s": status.get("created_time_s"),
        "status": status | {"queue_position": position},
        "recipe": recipe,
        "recipe_yaml": recipe_text,
        "evaluation": files.read_json(run_dir / "evaluation.json") or None,
        "harness": files.read_json(run_dir / "harness.json") or None,
        "environment": files.read_json(run_dir / "environment.json"),
        "summary": files.read_json(run_dir / "summary.json"),
    }


def read_log(run_dir: Path, *, lines: int = 200) -> str:
    """Return the last lines of `worker.log`, read from its end."""
    try:
        with open(run_dir / "worker.log", "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - max(1, lines) * 400))
            tail = file.read()
    except OSError:
        return ""
    return "\n".join(tail.decode("utf-8", "replace").splitlines()[-lines:])


# --- private ------------------------------------------------------------------------------------


def _is_run(folder: Path) -> bool:
    return (folder / run_status.FILE_NAME).is_file() and (folder / "recipe.yaml").is_file()


def _created(folder: Path) -> tuple[float, str]:
    return run_status.read(folder).get("created_time_s") or 0.0, folder.name


def make_runs_dir(runs_dir: Path) -> None:
    """Make the runs folder; raises `RunError` where that is not possible."""
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in files.DISK_FULL_CODES:
            raise files.disk_full(runs_dir.parent) from error
        raise RunError(
            f"Cannot make the runs folder {runs_dir}: {error.strerror}.\n"
            "Choose another with --runs-dir or DISTILL_RUNS_DIR."
        ) from None


def _rename_to_free_name(unfinished: Path, stem: str) -> Path:
    """Rename in one step; a name that is taken gets a number."""
    for number in range(1, 1000):
        target = unfinished.with_name(stem if number == 1 else f"{stem}-{number}")
        if target.exists():
            continue
        try:
            os.rename(unfinished, target)
        except OSError:
            if not target.exists():
                raise
            continue  # another process was quicker
        return target
    raise RunError(f"There are a thousand runs called {stem} already.")


def _queue_positions(found: list[tuple[Path, Status]]) -> dict[Path, int]:
    queued = sorted(
        (status.get("queued_time_s") or 0, folder)
        for folder, status in found
        if status["state"] == "queued"
    )
    return {folder: place for place, (_, folder) in enumerate(queued, start=1)}


def _first_summary(recipe: Recipe) -> dict[str, Any]:
    last = recipe.stages[-1]
    named = [one.model for one in last.teachers] if isinstance(last, DistillStage) else [last.model]
    teacher = " + ".join(named)
    return {"teacher": teacher, "kinds": [stage.kind for stage in recipe.stages]}
