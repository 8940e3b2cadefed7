"""What can be chosen in Compare: the run, who answers, and the student's rival in a blind vote.

In: rows of `api.runs` and `api.comparable`. Out: choices of components. Knows nothing of Gradio.
"""

from __future__ import annotations

from typing import Any

from ui import text
from ui.state import list_runs
from ui.tab_train import run_label

OTHERS_TOO = "◇ marks students of other runs: tick them to set them beside this run's."


def runs_beside(shown: dict[str, Any], runs_dir: str) -> dict[str, str]:
    """Id and label of the runs that may be chosen: those that finished, and the one in view."""
    return {
        run["run"]: run_label(run)
        for run in list_runs(runs_dir)
        if run["run"] == shown["run"] or run["status"]["state"] == "finished"
    }


def models(known: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Models by their mark, title and size."""
    return [
        (
            f"{text.ROLE_MARKS.get(model['role'], '◇')} {model['title']} · "
            f"{text.count_text(model['parameters'])}",
            model["key"],
        )
        for model in known
    ]


def info(known: list[dict[str, Any]]) -> str:
    """Tell that other runs' students may answer, too, where there are any."""
    return OTHERS_TOO if any(model["role"] == "other" for model in known) else ""


def first(known: list[dict[str, Any]]) -> list[str]:
    """Ask teacher, student, untrained student and baseline; other runs when chosen."""
    return [model["key"] for model in known if model["role"] != "other"]


def rivals(known: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Who may stand against the student in a blind vote."""
    return [(str(model["title"]), model["key"]) for model in known if model["key"] != "student"]


def first_rival(known: list[dict[str, Any]]) -> str | None:
    """The teacher, where it is there."""
    return next((key for _, key in rivals(known)), None)
