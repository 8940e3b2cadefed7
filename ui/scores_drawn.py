"""The scores of a run's models on held-out rows, with their intervals, as a table.

In: a run's evaluation (`api.evaluate`). Out: HTML, every text escaped. Knows nothing of Gradio.
"""

from __future__ import annotations

from html import escape
from typing import Any

from ui import text, theme

COLUMNS = {
    "teacher": ("teacher", "teacher"),
    "student": ("student", "student"),
    "fine_tuned_on_labels": ("baseline", "fine-tuned on labels"),
    "untrained_student": ("untrained", "untrained student"),
}

MAIN_ROWS = 4
"""Always in view: exact match, quality kept, size, speed."""

VERDICTS: dict[str, tuple[theme.Tone, str, str]] = {
    "beats": ("good", "✓", "The student beats {against}"),
    "no difference": ("neutral", "=", "No difference between the student and {against}"),
    "worse": ("bad", "✕", "The student is worse than {against}"),
    "inconclusive": ("warn", "?", "Too few rows to tell the student from {against}"),
}


def table(evaluation: dict[str, Any]) -> str:
    """Draw the scores; columns are the models that were scored, teacher and student first."""
    models = evaluation.get("models", {})
    keys = [key for key in COLUMNS if key in models] + [key for key in models if key not in COLUMNS]
    head = "".join(f'<th scope="col">{_name(key)}</th>' for key in keys)
    rows = _rows(evaluation, models, keys)
    first, rest = "".join(rows[:MAIN_ROWS]), "".join(rows[MAIN_ROWS:])
    more = _table("More scores", head, rest)
    folded = f"<details class='ds-more'><summary>More scores</summary>{more}</details>"
    return (
        f"{_title(evaluation)}{_table('Scores', head, first)}{verdict(evaluation)}"
        f"{folded if rest else ''}"
    )


def _table(name: str, head: str, rows: str) -> str:
    return (
        f"<div class='ds-scroll' tabindex='0' role='region' aria-label='{name}'>"
        f"<table class='ds-table'><thead><tr><td></td>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _title(evaluation: dict[str, Any]) -> str:
    data = evaluation.get("data", {})
    overlap = int(data.get("overlap_with_training") or 0)
    chip = theme.chip(
        f"{overlap:,} rows shared with training" if overlap else "none seen in training",
        "warn" if overlap else "good",
        "⚠" if overlap else "✓",
    )
    return f"<h3>On {int(data.get('rows') or 0):,} held-out rows</h3>{chip}"


def _name(key: str) -> str:
    role, title = COLUMNS.get(key, ("other", key.removeprefix("run:")))
    colour = role if role in {"teacher", "student"} else "other"
    mark = text.ROLE_MARKS[role]
    sign = f'<span aria-hidden="true">{mark}</span>'
    return f'<span class="ds-ink-{colour}">{sign} {escape(title)}</span>'


def _rows(evaluation: dict[str, Any], models: dict[str, Any], keys: list[str]) -> list[str]:
    teacher = models.get("teacher") or {}

    def cells(write: Any) -> list[str]:
        return [write(key, models[key]) for key in keys]

    lines = [
        ("exact match", cells(lambda _, scores: _with_interval(scores, "exact_match"))),
        ("quality kept", cells(lambda key, scores: _kept(key, scores, evaluation, teacher))),
        ("size", cells(lambda _, scores: _ratio(teacher, scores, "parameters", "smaller"))),
        ("speed", cells(lambda _, scores: _ratio(scores, teacher, "tokens_per_s", "faster"))),
        ("latency, median", cells(lambda _, scores: _unit(scores, "latency_p50_ms", "ms"))),
        ("KL to the teacher", cells(lambda _, scores: _unit(scores, "kl_to_teacher", "nats"))),
        ("agrees with teacher", cells(lambda _, scores: _share(scores, "top1_agreement"))),
        ("cross-entropy", cells(lambda _, scores: _unit(scores, "cross_entropy", "nats"))),
        ("calibration error", cells(lambda _, scores: _share(scores, "calibration_error"))),
    ]
    shown = [(name, row) for name, row in lines if any(cell != "–" for cell in row)]
    return [
        f"<tr><th scope='row'>{name}</th>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>"
        for name, row in shown
    ]


def _with_interval(scores: dict[str, Any], key: str) -> str:
    if scores.get(key) is None:
        return "–"
    return f"<b>{text.percent_text(scores[key])}</b>{interval(scores.get(f'{key}_ci95'))}"


def interval(bounds: Any) -> str:
    """Write a 95 % interval beside its score."""
    if not bounds or None in bounds:
        return ""
    low, high = (f"{100 * float(bound):.1f}" for bound in bounds)
    return f' <span class="ds-muted" title="95 % interval">{low}–{high}</span>'


def _kept(
    key: str, scores: dict[str, Any], evaluation: dict[str, Any], teacher: dict[str, Any]
) -> str:
    if key == "student" and evaluation.get("retention") is not None:
        kept = f"<b>{text.percent_text(evaluation['retention'])}</b>"
        return kept + interval(evaluation.get("retention_ci95"))
    best = teacher.get("exact_match")
    if key == "teacher" or not best or scores.get("exact_match") is None:
        return "–"
    return text.percent_text(scores["exact_match"] / best)


def _ratio(above: dict[str, Any], below: dict[str, Any], key: str, word: str) -> str:
    if not above.get(key) or not below.get(key):
        return "–"
    ratio = float(above[key]) / float(below[key])
    if abs(ratio - 1) < 0.005:
        return "1 ×"
    opposite = {"smaller": "larger", "faster": "slower"}[word]
    return f"{text.factor_text(max(ratio, 1 / ratio))} {word if ratio > 1 else opposite}"


def _unit(scores: dict[str, Any], key: str, unit: str) -> str:
    return "–" if scores.get(key) is None else f"{float(scores[key]):.3g} {unit}"


def _share(scores: dict[str, Any], key: str) -> str:
    return "–" if scores.get(key) is None else text.percent_text(scores[key])


def verdict(evaluation: dict[str, Any]) -> str:
    """Say whether distilling was worth it, against what, and how sure that is."""
    word = str(evaluation.get("verdict") or "")
    if word not in VERDICTS:
        return ""
    tone, icon, sentence = VERDICTS[word]
    key = str(evaluation.get("verdict_against") or "the baseline")
    against = COLUMNS.get(key, ("", key.replace("_", " ")))[1]
    if key == "fine_tuned_on_labels":
        against = "the same student fine-tuned on the labels"
    elif key in COLUMNS:
        against = f"the {against}"
    p = evaluation.get("paired_test_p")
    sure = (
        ""
        if p is None
        else (" (paired test, p < .001)" if p < 0.001 else f" (paired test, p = {p:.3f})")
    )
    words = sentence.format(against=against) + sure
    return f'<p class="ds-verdict">{theme.chip(words, tone, icon)}</p>'
