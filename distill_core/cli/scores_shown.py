"""The scores of a run for people: a table of all models, and sentences that sum it up.

In: an evaluation (`api.evaluate`). Out: a rich table, lines of text. Knows no api call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.table import Table

from distill_core.cli.terminal import amount, number, share, size, table
from distill_core.scores import SCORES


def evaluation_table(evaluation: dict[str, Any]) -> Table:
    """Lay out the scores of all models."""
    metric = _metric(evaluation)
    shown = table(
        *("model", ">para-\nmeters", f">{SCORES[metric].title.replace(' ', chr(10), 1)}"),
        *(">95 %\ninterval", ">bits\nper byte", ">KL to\nteacher", ">on own\nsamples"),
        *(">invalid\nanswers", ">prompt\ntokens/s", ">answer\ntokens/s", ">peak\nmemory"),
        ">tokens\ntrained on",
    )
    for name, scores in evaluation["models"].items():
        shown.add_row(
            str(scores.get("title") or name.replace("_", " ")),
            amount(scores.get("parameters")),
            score_text(metric, scores.get(metric)),
            _interval(metric, scores.get(f"{metric}_ci95")),
            number(scores.get("bits_per_byte")),
            number(scores.get("kl_to_teacher")),
            number(scores.get("kl_to_teacher_on_own_samples")),
            share(scores.get("invalid_rate")),
            number(scores.get("prompt_tokens_per_s"), 0),
            number(scores.get("tokens_per_s"), 0),
            size(scores.get("peak_memory_bytes")),
            amount(scores.get("trained_tokens")),
        )
    return shown


def evaluation_sentences(evaluation: dict[str, Any]) -> list[str]:
    """Sum an evaluation up."""
    metric = _metric(evaluation)
    chosen = evaluation.get("metric") or {}
    lines = []
    if chosen.get("reason"):
        lines.append(f"Judged by {SCORES[metric].title}: {chosen['reason']}.")
    if evaluation.get("invalid_rule"):
        lines.append(f"Invalid answers: {evaluation['invalid_rule']}.")
    whose = "the original model" if evaluation.get("compared_with") == "original" else "the teacher"
    if evaluation.get("retention") is not None:
        sure = _sure(evaluation, "retention", share)
        lines.append(f"The student keeps {share(evaluation['retention'])} of {whose}{sure}.")
    if evaluation.get("gap_closed") is not None:
        sure = _sure(evaluation, "gap_closed", share)
        closed = share(evaluation["gap_closed"])
        lines.append(f"It closes {closed} of the gap from the untrained student to {whose}{sure}.")
    if evaluation.get("size_ratio"):
        speed = evaluation.get("speedup")
        sure = _sure(evaluation, "speedup", lambda value: f"{value:.1f}")
        faster = f" and answers {speed:.1f} times as fast{sure}" if speed else ""
        lines.append(f"It is {evaluation['size_ratio']:.1f} times smaller{faster}.")
    if evaluation.get("verdict"):
        against = str(evaluation.get("verdict_against") or "").replace("_", " ")
        lines.append(f"Verdict{f' against {against}' if against else ''}: {evaluation['verdict']}.")
        lines += [str(evaluation["verdict_reason"])] if evaluation.get("verdict_reason") else []
    return lines


def _metric(evaluation: dict[str, Any]) -> str:
    """The score that the task is judged by."""
    return str((evaluation.get("metric") or {}).get("name") or "exact_match")


def score_text(name: str, value: float | None) -> str:
    """Write a score in its unit: shares as percentages."""
    return share(value) if SCORES[name].unit == "0–1" else number(value)


def _interval(name: str, bounds: list[float] | None) -> str:
    if not bounds:
        return "–"
    return "–".join(score_text(name, bound) for bound in bounds)


def _sure(evaluation: dict[str, Any], name: str, write: Callable[[float], str]) -> str:
    low, high = evaluation.get(f"{name}_ci95") or (None, None)
    return "" if low is None or high is None else f" (95 %: {write(low)} – {write(high)})"
