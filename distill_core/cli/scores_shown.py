"""The scores of a run for people: a table of all models, and sentences that sum it up.

In: an evaluation (`api.evaluate`). Out: a rich table, lines of text. Knows no api call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.table import Table

from distill_core.cli.terminal import amount, number, share, size, table
from distill_core.scores import SCORES
from distill_core.tasks import task_of

_COLUMNS: dict[str, tuple[str, ...]] = {
    "causal_lm": (
        *("bits_per_byte", "kl_to_teacher", "kl_to_teacher_on_own_samples", "invalid_rate"),
        *("prompt_tokens_per_s", "tokens_per_s", "peak_memory_bytes", "trained_tokens"),
    ),
    "text_classification": (
        *("macro_f1", "kl_to_teacher", "top1_agreement", "calibration_error"),
        *("rows_per_s", "latency_p50_ms", "peak_memory_bytes", "trained_tokens"),
    ),
}
"""Scores beside the one that the task is judged by."""

_HEADS = {
    "bits_per_byte": "bits\nper byte",
    "kl_to_teacher": "KL to\nteacher",
    "kl_to_teacher_on_own_samples": "on own\nsamples",
    "invalid_rate": "invalid\nanswers",
    "prompt_tokens_per_s": "prompt\ntokens/s",
    "tokens_per_s": "answer\ntokens/s",
    "peak_memory_bytes": "peak\nmemory",
    "trained_tokens": "tokens\ntrained on",
    "top1_agreement": "agrees with\nteacher",
    "calibration_error": "calibration\nerror",
    "rows_per_s": "texts/s",
    "latency_p50_ms": "latency,\nms",
}


def evaluation_table(evaluation: dict[str, Any]) -> Table:
    """Lay out the scores of all models."""
    metric = _metric(evaluation)
    names = _COLUMNS[task_of(evaluation.get("task")).name]
    shown = table(
        *("model", ">para-\nmeters", f">{SCORES[metric].title.replace(' ', chr(10), 1)}"),
        ">95 %\ninterval",
        *(f">{_HEADS.get(name, SCORES[name].title)}" for name in names),
    )
    for key, scores in evaluation["models"].items():
        shown.add_row(
            str(scores.get("title") or key.replace("_", " ")),
            amount(scores.get("parameters")),
            score_text(metric, scores.get(metric)),
            _interval(metric, scores.get(f"{metric}_ci95")),
            *(_cell(name, scores.get(name)) for name in names),
        )
    return shown


def _cell(name: str, value: float | None) -> str:
    """Write a score as it is read best: sizes with their unit, speeds whole."""
    unit = SCORES[name].unit
    if unit == "bytes":
        return size(value)
    if unit == "tokens":
        return amount(value)
    return number(value, 0) if unit.endswith("/s") else score_text(name, value)


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


def harness_table(harness: dict[str, Any]) -> Table:
    """Lay out the scores of lm-eval's tasks, value and standard error as lm-eval prints them."""
    shown = table("model", "task", ">rows", ">shots", "metric", ">value", ">± stderr")
    shown.title = str(harness.get("harness") or "lm-eval")
    for row in harness["scores"]:
        filtered = "" if row["filter"] == "none" else f" ({row['filter']})"
        way = {True: " ↑", False: " ↓"}.get(row["higher_is_better"], "")
        shown.add_row(
            str(row["title"]),
            row["task"] + (", in its template" if row["chat_template"] else ""),
            number(row["n_samples"], 0),
            number(row["n_shot"], 0),
            f"{row['metric']}{filtered}{way}",
            number(row["value"], 4),
            number(row["stderr"], 4),
        )
    return shown


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
