"""Whole runs small enough for a test: forty rows, four steps, and what was told.

In: a folder, settings that differ. Out: files of rows, recipes, events. Knows no models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distill_core import pipeline
from distill_core.recipe import Recipe, recipe_yaml

TEXTS = ["turn on the light", "dim the fan", "turn off the tv", "light in the hall"]
SMALLER = {"init": "layer_drop", "layers": 2}


def spelled(number: int) -> str:
    """A number as three letters that the tiny tokenizer knows."""
    return " ".join(chr(97 + number // place % 26) for place in (676, 26, 1))


def write_rows(folder: Path, *, answers: Sequence[str] = ("on", "off", "two")) -> Path:
    """Forty rows, ten of them without an answer."""
    lines = []
    for row in range(40):
        line = {"prompt": f"please {TEXTS[row % 4]} {chr(97 + row % 26)} {chr(97 + row // 3)}"}
        if row % 4 != 3:
            line["response"] = answers[row % len(answers)]
        lines.append(json.dumps(line))
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines))
    return path


def data(rows_file: Path, *, max_seq_len: int = 32) -> dict[str, Any]:
    """These rows, three of ten held out."""
    source = {"kind": "file", "path": str(rows_file)}
    return {"sources": [source], "held_out": 0.3, "max_seq_len": max_seq_len}


def optim(steps: int = 4, **more: Any) -> dict[str, Any]:
    """Four rows a step, in two parts."""
    sizes = {"max_steps": steps, "global_batch_size": 4, "micro_batch_size": 2}
    return sizes | {"learning_rate": 0.01} | more


def distill(teacher: str | list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A stage whose student is every second layer of its teacher."""
    return {
        "kind": "distill",
        "teacher": teacher,
        "student": SMALLER,
        "teacher_answers": {"max_new_tokens": 4},
        "optim": optim(),
    } | more


def recipe(
    rows_file: Path, stages: list[dict[str, Any]], *, max_seq_len: int = 32, **more: Any
) -> Recipe:
    """Looked at and saved every second step, all unless `more` says otherwise.

    Two rows are scored at the end: most tests look at steps, and every model answers every row.
    """
    settings = {
        "data": data(rows_file, max_seq_len=max_seq_len),
        "stages": stages,
        "evaluation": {"rows": 4, "samples": 2, "max_new_tokens": 4, "every_steps": 2},
        "checkpoints": {"every_steps": 2},
    } | more
    settings["evaluation"] = {"final_rows": 2} | settings["evaluation"]
    return recipe_yaml.parse(settings)


def go(
    made: Recipe,
    folder: Path,
    *,
    stop_after: int | None = None,
    stop_when: Callable[[dict[str, Any]], bool] = lambda event: False,
    wish: str = "stop",
    **more: Any,
) -> list[dict[str, Any]]:
    """Run a recipe in this process, to its end; returns its events.

    `stop_after`: so many steps, or `stop_when` some event has come, it is asked to stop or pause.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(recipe_yaml.dumps(made))
    events, asked = list[dict[str, Any]](), list[str]()
    more.setdefault("should_stop", lambda: asked[-1] if asked else None)
    for event in pipeline.run(made, folder, **more):
        events.append(event)
        enough = event["type"] == "step" and len(of(events, "step")) == stop_after
        if enough or stop_when(event):
            asked.append(wish)
    return events


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The events of one type."""
    return [event for event in events if event["type"] == kind]
