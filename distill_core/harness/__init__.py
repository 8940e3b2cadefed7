"""Scores of the tasks of lm-eval, the field's harness, for every model of a run.

In: a run or a model, names of tasks. Out: rows under lm-eval's own names (task, metric, value,
stderr), kept in the run's `harness.json`. The models are ours, the counting is lm-eval's.
"""

from __future__ import annotations

import importlib.metadata
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill_core import files, models, runs
from distill_core.comparing import lineup
from distill_core.device import pick_device
from distill_core.errors import DistillError, ModelError, RunError

FILE = "harness.json"

INSTALL = "Install it: pip install 'distill-studio[lm-eval]'"

PLAIN = "model"
"""The key of a model that belongs to no run."""

_SEED = 1234
"""lm-eval's own for few-shot examples and sampling, so that its figures are found again."""

_SETTINGS = ("model", "task", "metric", "filter", "n_shot", "n_samples", "chat_template")
"""What makes two rows the same measurement."""


def _silent(message: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Request:
    """What is to be scored, and how."""

    tasks: Sequence[str]
    tasks_dir: Path | None = None
    """A folder with task files of the user's."""
    limit: int | None = None
    """Only the first rows of each task."""
    shots: int | None = None
    """Examples before each question; None: as the task has it."""
    chat_template: bool = False
    """Put each question into the model's chat template."""
    batch_size: int = 8
    bars: bool = False
    """Draw lm-eval's own progress on stderr."""
    tell: Callable[[str], None] = field(default=_silent)
    """Is told in words what is going on."""


def names_a_model(name: str) -> bool:
    """Whether a name is a model's, by itself or as a folder, and not a run's."""
    folder = Path(name).expanduser()
    if name in models.BUILT_IN or (folder / "config.json").is_file():
        return True
    return name.count("/") == 1 and name[0].isalnum() and not folder.parent.is_dir()


def score_run(run_dir: Path, request: Request, *, members: Sequence[str] | None) -> dict[str, Any]:
    """Score a run's members, one after the other, and put the rows into its `harness.json`.

    Args:
        run_dir: The run's folder.
        request: Tasks and settings.
        members: Keys of the line-up; None: everyone whose weights are there.

    Raises:
        RunError: if no such member has weights yet.
        DistillError: if lm-eval is not installed, or cannot score these tasks.
        DataError, HubUnreachable: as `task_files.load_tasks`.
    """
    recipe = runs.load_recipe(run_dir)
    if recipe.task != "causal_lm":
        raise RunError(
            f"lm-eval asks models that write text; those of {run_dir.name} tell classes apart.\n"
            f"Score them with: distill-studio evaluate {run_dir.name}"
        )
    if members is None:
        chosen = [found for found in lineup.read(run_dir) if lineup.exists(run_dir, found)]
    else:
        chosen = [lineup.member(run_dir, key) for key in members]
    if not chosen:
        raise RunError(f"{run_dir.name} has no model with weights yet. Wait until it has begun.")
    tasks = _tasks(request)
    device = pick_device(recipe.device)
    rows: list[dict[str, Any]] = []
    for one in chosen:
        request.tell(f"Scoring the {one.title}")
        loaded = lineup.load(run_dir, one, device=device)
        facts = {"model": one.key, "title": one.title, "fingerprint": loaded.fingerprint}
        found = _scores(loaded.model, loaded.tokenizer, tasks, request)
        rows += [facts | row for row in found]
        _store(run_dir, rows)  # one model's hours are not lost with the next one
        del loaded
    return _document(run_dir.name, rows)


def score_model(name: str, request: Request) -> dict[str, Any]:
    """Score one model by its name or folder; stores nothing.

    Raises:
        ModelError: if it cannot be loaded.
        DistillError, DataError: as `score_run`.
    """
    import torch

    _require()
    folder = models.resolve(name, progress=request.tell)
    tasks = _tasks(request)
    network = models.load_model(folder, dtype=torch.float32, device=pick_device("auto"))
    facts = {"model": PLAIN, "title": name, "fingerprint": models.fingerprint(folder)}
    request.tell(f"Scoring {name}")
    found = _scores(network, models.load_tokenizer(folder), tasks, request)
    return _document(None, [facts | row for row in found])


def read(run_dir: Path) -> dict[str, Any] | None:
    """What a run has been given so far; None where it has not been scored."""
    return files.read_json(run_dir / FILE) or None


def _require() -> None:
    try:
        import lm_eval  # noqa: F401
    except ImportError:
        raise DistillError(
            f"lm-eval is not installed, so its tasks cannot be asked.\n{INSTALL}"
        ) from None


def _tasks(request: Request) -> dict[str, Any]:
    """Find the tasks and settle how many examples each shows, as `lm-eval` itself does."""
    _require()
    from distill_core.harness.task_files import load_tasks

    folder = request.tasks_dir.expanduser().absolute() if request.tasks_dir else None
    tasks = load_tasks(request.tasks, folder, tell=request.tell)
    for name, task in tasks["tasks"].items():
        if getattr(task, "UNSAFE_CODE", False):
            raise DistillError(
                f"{name} runs the code that a model writes, which is not done here.\n"
                "Export the student and score it with lm-eval on a machine that you can lose."
            )
        by_itself = task.get_config("num_fewshot")
        if request.shots is not None and by_itself != 0:  # 0 in the task's file is meant
            task.set_config(key="num_fewshot", value=request.shots)
        elif by_itself is None:
            task.set_config(key="num_fewshot", value=0)
    return tasks


def _scores(
    network: Any, tokenizer: Any, tasks: dict[str, Any], request: Request
) -> list[dict[str, Any]]:
    """Ask one model, and bring lm-eval's results into rows."""
    import numpy as np
    import torch
    from lm_eval import evaluator

    from distill_core.harness.asked_model import asked_model

    if request.chat_template and not getattr(tokenizer, "chat_template", None):
        raise ModelError("The model has no chat template.\nLeave --chat-template out.")
    for task in tasks["tasks"].values():
        task.set_fewshot_seed(seed=_SEED)
    random.seed(0)
    np.random.seed(_SEED)
    torch.manual_seed(_SEED)
    try:
        results = evaluator.evaluate(
            lm=asked_model(network, tokenizer, batch_size=request.batch_size, bars=request.bars),
            task_dict=tasks,
            limit=request.limit,
            log_samples=False,
            apply_chat_template=request.chat_template,
            fewshot_as_multiturn=request.chat_template,
        )
    except (DistillError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # tasks bring code along, and assert
        words = " ".join(str(error).split()) or type(error).__name__
        raise DistillError(
            f"lm-eval stopped in {', '.join(request.tasks)}: {words[:300]}\n"
            "Look at the task's file; it may ask for more than this model has."
        ) from error
    return [row | {"chat_template": request.chat_template} for row in rows_of(results)]


def rows_of(results: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per task, metric and filter out of what lm-eval returns; groups last.

    Its keys are `metric,filter` and `metric_stderr,filter`; a stderr may be "N/A".
    """
    rows = []
    scored = results["results"] | results.get("groups", {})
    for task, found in scored.items():
        for key, value in found.items():
            metric, _, chosen = key.partition(",")
            if not chosen or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            stderr = found.get(f"{metric}_stderr,{chosen}")
            rows.append(
                {
                    "task": task,
                    "version": results["versions"].get(task),
                    "metric": metric,
                    "filter": chosen,
                    "value": float(value),
                    "stderr": float(stderr) if isinstance(stderr, int | float) else None,
                    "higher_is_better": results["higher_is_better"].get(task, {}).get(metric),
                    "n_shot": results["n-shot"].get(task),
                    "n_samples": (results["n-samples"].get(task) or {}).get("effective"),
                }
            )
    return rows


def _document(run: str | None, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "run": run,
        "harness": f"lm-eval {importlib.metadata.version('lm_eval')}",
        "scored_time_s": time.time(),
        "scores": rows,
    }


def _store(run_dir: Path, rows: list[dict[str, Any]]) -> None:
    """Put rows into the run's file: the same measurement again replaces the one before.

    So does one of other weights: what a model was before it was trained on is not what it is.
    """
    again = {_same(row) for row in rows}
    weights = {row["model"]: row["fingerprint"] for row in rows}
    kept = [
        row
        for row in (read(run_dir) or {}).get("scores", [])
        if _same(row) not in again
        and weights.get(row["model"], row["fingerprint"]) == row["fingerprint"]
    ]
    files.replace_json(run_dir / FILE, _document(run_dir.name, [*kept, *rows]))


def _same(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in _SETTINGS)
