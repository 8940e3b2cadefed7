"""Lets a process of its own take the dry steps: it may run out of memory, and nobody else dies.

In: a recipe. Out: what `dry_step` measured, remembered in this process for as long as the recipe's
models, data, losses and sizes stay the same. The folder of the steps is thrown away afterwards.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

from distill_core import device as machine
from distill_core import files
from distill_core.errors import DataError, DistillError, ModelError, OutOfMemory
from distill_core.estimate import Work
from distill_core.estimate.row_facts import data_stamp
from distill_core.recipe import Recipe

PATIENCE_S = 900.0

RECIPE, MEASURED = "recipe.json", "measured.json"


REMEMBERED = 32

SHARE_OF_MEMORY = 0.8
"""What the formula may reckon for the steps: it guesses, and they should not run out of memory."""

_NEEDS_NOTHING: Any = {
    "name": True,
    "evaluation": True,
    "checkpoints": True,
    "stages": {"__all__": {"optim": {"max_steps", "epochs", "learning_rate", "schedule"}}},
}
"""Settings that change neither a step's memory nor its time."""

_known: OrderedDict[str, dict[str, Any]] = OrderedDict()


def remembered(recipe: Recipe) -> dict[str, Any] | None:
    """What has been measured of such a recipe since this process began; None: nothing."""
    return _known.get(_key(recipe))


def dry_steps(recipe: Recipe) -> dict[str, Any]:
    """Take them and remember; keys: `device`, and `stages`, each with what `dry_step` found.

    Where the recipe would not fit, by the formula, they are taken with fewer rows at once.

    Raises:
        RecipeError: if a model or size is wrong.
        DataError: if the rows are not on this disk yet.
        OutOfMemory: if not even one row at once would fit, or the process ran out of memory.
        DistillError: what a run would say of its models and data.
    """
    told = _measured(_that_fits(recipe))
    _known[_key(recipe)] = told
    while len(_known) > REMEMBERED:
        _known.popitem(last=False)
    return told


def _key(recipe: Recipe) -> str:
    plain = recipe.model_dump(mode="json", exclude=_NEEDS_NOTHING)
    return repr((sorted(plain.items()), data_stamp(recipe.data)))


def _that_fits(recipe: Recipe) -> Recipe:
    """The recipe, with fewer rows at once until it fits by the formula; raises as `dry_steps`."""
    work = Work(recipe)
    if not work.data.known:
        raise DataError(
            "The rows are not on this disk yet, so that no step can be taken with them.\n"
            "Start the run, which downloads them first; or take the formula's forecast.",
        )
    room = SHARE_OF_MEMORY * machine.usable_memory(work.device)
    while (needed := sum(Work(recipe).memory().values())) > room:
        sizes = [one.optim.micro_batch_size for one in recipe.stages]
        if max(sizes) == 1:
            raise OutOfMemory(
                f"By the formula {needed / 1e9:.1f} GB are needed with one row at once, and "
                f"{room / 1e9:.1f} GB can be used: no step is tried.\n"
                "Change what the forecast names first.",
                field="data.max_seq_len",
            )
        data: Any = recipe.model_dump(mode="json")
        for stage, size in zip(data["stages"], sizes, strict=True):
            optim = stage["optim"]
            optim["micro_batch_size"] = max(1, min(size, optim["global_batch_size"]) // 2)
        recipe = Recipe.model_validate(data)
    return recipe


def _measured(recipe: Recipe) -> dict[str, Any]:
    """Start the process, wait for it, read what it wrote.

    Raises:
        OutOfMemory: if the system ended the process.
        DistillError: what a run would say: models that are not here, data that cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="distill-studio-dry-") as name:
        folder = Path(name)
        (folder / RECIPE).write_text(recipe.model_dump_json(), encoding="utf-8")
        source = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        with open(folder / "log", "wb") as log:
            try:
                done = subprocess.run(
                    [sys.executable, "-m", "distill_core.dry_step", name],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=os.environ | {"PYTHONPATH": path, "TQDM_DISABLE": "1"},
                    timeout=PATIENCE_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise DistillError(
                    f"The dry step took more than {PATIENCE_S / 60:.0f} minutes and was ended.\n"
                    "Lower micro_batch_size or data.max_seq_len, or go by the formula."
                ) from None
        told = files.read_json(folder / MEASURED)
        if told.get("error"):
            kind = OutOfMemory if told.get("out_of_memory") else ModelError
            raise kind(str(told["error"]), field=str(told.get("field", "")))
        if done.returncode < 0 and not told:
            raise OutOfMemory(
                "The dry step's process was ended by the system, as happens when memory runs out.\n"
                "Lower micro_batch_size or data.max_seq_len.",
                field="data.max_seq_len",
            )
        if not told:
            lines = (folder / "log").read_text("utf-8", errors="replace").strip().splitlines()
            raise DistillError(
                f"The dry step broke off: {lines[-1][:300] if lines else 'no message'}\n"
                "The forecast by the formula stays."
            )
    return told
