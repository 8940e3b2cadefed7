"""The blind vote: two answers without names, a vote, then whose they were.

In: held-out prompts, a rival of the student, votes. Out: HTML and a tally. Knows nothing of the
layout.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import gradio as gr

from distill_core import api
from ui import theme
from ui.comparing import answers_drawn
from ui.comparing.compare_handlers import comparable, run_in_view, stream, waiting

TIE = "tie"

NO_VOTE = (gr.update(interactive=False),) * 3
VOTE = (gr.update(interactive=True),) * 3


def blind(
    prompts: list[dict[str, Any]],
    rival: str | None,
    max_new_tokens: int,
    run_id: str,
    runs_dir: str,
) -> Iterator[tuple[Any, ...]]:
    """Let student and rival answer a held-out prompt, in random order and without names.

    Yields the prompt shown, the panes, the ballot, and the three buttons.
    """
    run = run_in_view(run_id, runs_dir)
    known = {model["key"]: model for model in comparable(run, runs_dir)}
    if not prompts or "student" not in known or rival not in known:
        told = "Needs held-out prompts, the student and somebody to stand against it."
        yield "", theme.alert("No vote yet", told, "warn"), {}, *NO_VOTE
        return
    prompt = random.choice(prompts)["prompt"]
    answers = [waiting(known["student"]), waiting(known[str(rival)])]
    random.shuffle(answers)
    asked = f"<p>Prompt: <b>{theme.escape(prompt)}</b></p>"
    yield asked, answers_drawn.panes(answers, hidden=True), {}, *NO_VOTE
    try:
        for _ in stream(run, prompt, answers, 0.0, max_new_tokens, runs_dir):
            yield gr.skip(), answers_drawn.panes(answers, hidden=True), gr.skip(), *NO_VOTE
    except (api.DistillError, OSError) as error:
        yield asked, theme.alert("No answer", str(error)), {}, *NO_VOTE
        return
    ballot = {"run": run, "answers": answers, "rival": rival}
    yield asked, answers_drawn.panes(answers, hidden=True), ballot, *VOTE


def cast(choice: str, ballot: dict[str, Any], tally: Any) -> tuple[Any, ...]:
    """Count a vote (A, B or tie) and show whose answers they were."""
    answers = ballot.get("answers") or []
    if not answers:
        return gr.skip(), gr.skip(), {}, gr.skip(), *NO_VOTE
    winner = TIE if choice == TIE else answers["AB".index(choice)]["key"]
    named = TIE if winner == TIE else ("student" if winner == "student" else "rival")
    votes = counted(tally, str(ballot["run"]), str(ballot["rival"]), named)
    rival = next(answer for answer in answers if answer["key"] != "student")
    told = tally_text(votes, str(ballot["run"]), str(ballot["rival"]), str(rival["title"]))
    return answers_drawn.panes(answers), votes, {}, told, *NO_VOTE


def counted(tally: Any, run: str, rival: str, named: str) -> dict[str, Any]:
    """Return the tally with one more vote; it comes from the browser and may be anything."""
    votes = dict(tally) if isinstance(tally, dict) else {}
    key = f"{run} {rival}"
    old = votes.get(key)
    row = {name: 0 for name in ("student", "rival", TIE)}
    if isinstance(old, dict):
        row.update({name: n for name, n in old.items() if name in row and isinstance(n, int)})
    row[named] += 1
    return {**votes, key: row}


def tally_text(votes: dict[str, Any], run: str, rival: str, title: str) -> str:
    """Say how the votes stand."""
    row = votes[f"{run} {rival}"]
    total = sum(row.values())
    return (
        f'<p aria-live="polite">After {total} vote{"s" if total > 1 else ""}: '
        f"<b>student {row['student']}</b> · {theme.escape(title)} {row['rival']} · "
        f"no difference {row[TIE]}</p>"
    )
