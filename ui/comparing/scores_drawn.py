"""The scores of a run's models on held-out rows, with their intervals, as a table.

In: a run's evaluation (`api.evaluate`). Out: HTML, every text escaped. Knows nothing of Gradio.
"""

from __future__ import annotations

from html import escape
from typing import Any

from distill_core import api
from ui import text, theme

COLUMNS = {
    "teacher": ("teacher", "teacher"),
    "original": ("other", "original model"),
    "student": ("student", "student"),
    "fine_tuned_on_labels": ("baseline", "fine-tuned on labels"),
    "fine_tuned_on_teacher_text": ("baseline", "fine-tuned on teacher's text"),
    "untrained_student": ("untrained", "untrained student"),
}

MAIN_ROWS = 4
"""Always in view: the task's own score, quality kept, size, speed."""

VERDICTS: dict[str, tuple[theme.Tone, str, str]] = {
    "beats": ("good", "✓", "The student beats {against}"),
    "no difference": ("neutral", "=", "No difference between the student and {against}"),
    "worse": ("bad", "✕", "The student is worse than {against}"),
    "inconclusive": ("warn", "?", "Not enough to tell the student from {against}"),
}


def table(evaluation: dict[str, Any]) -> str:
    """Draw the scores; columns are the models that were scored, teacher and student first."""
    models = evaluation.get("models", {})
    keys = [key for key in COLUMNS if key in models] + [key for key in models if key not in COLUMNS]
    head = "".join(f'<th scope="col">{model_title(key, models[key])}</th>' for key in keys)
    rows = _rows(evaluation, models, keys)
    first, rest = "".join(rows[:MAIN_ROWS]), "".join(rows[MAIN_ROWS:])
    more = framed("More scores", head, rest)
    folded = f"<details class='ds-more'><summary>More scores</summary>{more}</details>"
    return (
        f"{_title(evaluation)}{framed('Scores', head, first)}{verdict(evaluation)}"
        f"{_ratios(evaluation)}{folded if rest else ''}{_rules(evaluation)}"
    )


def framed(label: str, head: str, rows: str) -> str:
    """Put rows into a table that scrolls by itself."""
    return (
        f"<div class='ds-scroll' tabindex='0' role='region' aria-label='{label}'>"
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


def model_title(key: str, scores: dict[str, Any]) -> str:
    """Name a model by colour, mark and title."""
    role, title = COLUMNS.get(key, ("other", str(scores.get("title") or key)))
    colour = role if role in {"teacher", "student"} else "other"
    mark = text.ROLE_MARKS[role]
    sign = f'<span aria-hidden="true">{mark}</span>'
    return f'<span class="ds-ink-{colour}">{sign} {escape(title)}</span>'


def metric_of(evaluation: dict[str, Any]) -> str:
    """Name the score that the task is judged by."""
    return str((evaluation.get("metric") or {}).get("name") or "exact_match")


def _rows(evaluation: dict[str, Any], models: dict[str, Any], keys: list[str]) -> list[str]:
    metric = metric_of(evaluation)
    large = models.get("teacher") or models.get("original") or {}
    speed = "rows_per_s" if evaluation.get("task") == "text_classification" else "tokens_per_s"
    differences = {item["against"]: item for item in evaluation.get("comparisons") or []}

    def cells(write: Any) -> list[str]:
        return [write(key, models[key]) for key in keys]

    lines = [
        (_title_of(metric), cells(lambda _, scores: _score(scores, metric, bold=True))),
        ("quality kept", cells(lambda key, scores: _kept(key, scores, evaluation, large))),
        ("size", cells(lambda _, scores: _ratio(large, scores, "parameters", "smaller"))),
        ("speed", cells(lambda _, scores: _ratio(scores, large, speed, "faster"))),
        ("student against it", cells(lambda key, _: _difference(differences.get(key), metric))),
        *[
            (_title_of(name), cells(lambda _, scores, name=name: _score(scores, name)))
            for name in api.SCORES
            if name != metric
        ],
    ]
    shown = [(name, row) for name, row in lines if any(cell != "–" for cell in row)]
    return [
        f"<tr><th scope='row'>{name}</th>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>"
        for name, row in shown
    ]


def _title_of(name: str) -> str:
    score = api.SCORES[name]
    better = {"higher": " · more is better", "lower": " · less is better"}.get(score.better, "")
    return f'<span title="{escape(score.description + better)}">{escape(score.title)}</span>'


def _score(scores: dict[str, Any], name: str, *, bold: bool = False) -> str:
    """Write a score in its own unit, with its interval where it has one."""
    if scores.get(name) is None:
        return "–"
    words = in_unit(name, scores[name])
    shown = f"<b>{words}</b>" if bold else words
    return shown + interval(scores.get(f"{name}_ci95"), name)


def in_unit(name: str, value: float) -> str:
    """Write a score: shares as percentages, memory in bytes, counts whole."""
    unit = api.SCORES[name].unit
    if unit == "0–1":
        return text.percent_text(value)
    if unit == "bytes":
        return text.bytes_text(value)
    if unit.endswith("/s"):
        return f"{text.number_text(value)} {unit}"
    if unit == "tokens" or name == "trained_steps":
        return f"{text.count_text(value)} {unit}".strip()
    short = {"nats per token": "nats"}.get(unit, unit)
    return f"{text.number_text(float(value))} {short}".strip()


def _difference(item: dict[str, Any] | None, metric: str) -> str:
    """Write how much better the student is than this model: points, interval, p-value."""
    if not item:
        return "–"
    share = api.SCORES[metric].unit == "0–1"
    factor, unit = (100, "points") if share else (1, api.SCORES[metric].unit)
    low, high = item["difference_ci95"]
    digits = 1 if share else 3
    words = f"{factor * item['difference']:+.{digits}f} {unit}"
    sure = f"{factor * low:+.{digits}f} to {factor * high:+.{digits}f}"
    return f'{words} <span class="ds-muted" title="95 % interval">{sure}</span>'


def _ratios(evaluation: dict[str, Any]) -> str:
    """Say what was gained, each ratio with its interval."""
    closed, speedup = evaluation.get("gap_closed"), evaluation.get("speedup")
    told = []
    if closed is not None:
        sure = interval(evaluation.get("gap_closed_ci95"), "retention")
        told.append(
            f"Gap from the untrained student closed: <b>{text.percent_text(closed)}</b>{sure}"
        )
    if speedup is not None and evaluation.get("speedup_ci95"):
        low, high = (text.number_text(bound) for bound in evaluation["speedup_ci95"])
        sure = f'<span class="ds-muted" title="95 % interval">({low}–{high})</span>'
        told.append(f"Answers <b>{text.factor_text(speedup)}</b> as fast {sure}")
    return f'<p class="ds-small">{" · ".join(told)}</p>' if told else ""


def _rules(evaluation: dict[str, Any]) -> str:
    """Say how the metric was chosen, what counts as invalid, and what the memory is."""
    reason = (evaluation.get("metric") or {}).get("reason")
    told = [
        f"Judged by {api.SCORES[metric_of(evaluation)].title}: {reason}." if reason else "",
        f"Invalid: {evaluation['invalid_rule']}." if evaluation.get("invalid_rule") else "",
        f"Peak memory: {evaluation['peak_memory_is']}." if evaluation.get("peak_memory_is") else "",
    ]
    words = " ".join(part for part in told if part)
    return f'<p class="ds-small ds-muted">{escape(words)}</p>' if words else ""


def interval(bounds: Any, name: str = "exact_match") -> str:
    """Write a 95 % interval beside its score; `name` tells the unit."""
    if not bounds or None in bounds:
        return ""
    score = api.SCORES.get(name)
    is_share = score is None or score.unit == "0–1"
    low, high = (
        f"{100 * float(bound):.1f}" if is_share else text.number_text(bound) for bound in bounds
    )
    return f' <span class="ds-muted" title="95 % interval">{low}–{high}</span>'


def _kept(
    key: str, scores: dict[str, Any], evaluation: dict[str, Any], large: dict[str, Any]
) -> str:
    """Write the share of the large model's score; where less is better, the other way round."""
    if key == "student" and evaluation.get("retention") is not None:
        kept = f"<b>{text.percent_text(evaluation['retention'])}</b>"
        return kept + interval(evaluation.get("retention_ci95"), "retention")
    metric = metric_of(evaluation)
    best, own = large.get(metric), scores.get(metric)
    if key in {"teacher", "original"} or not best or own is None:
        return "–"
    if api.SCORES[metric].better == "lower":
        return text.percent_text(best / own) if own else "–"
    return text.percent_text(own / best)


def _ratio(above: dict[str, Any], below: dict[str, Any], key: str, word: str) -> str:
    if not above.get(key) or not below.get(key):
        return "–"
    ratio = float(above[key]) / float(below[key])
    if abs(ratio - 1) < 0.005:
        return "1 ×"
    opposite = {"smaller": "larger", "faster": "slower"}[word]
    return f"{text.factor_text(max(ratio, 1 / ratio))} {word if ratio > 1 else opposite}"


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
    elif key == "fine_tuned_on_teacher_text":
        against = "the same student fine-tuned on the teacher's text"
    elif key in COLUMNS:
        against = f"the {against}"
    p = evaluation.get("paired_test_p")
    sure = (
        ""
        if p is None
        else (" (paired test, p < .001)" if p < 0.001 else f" (paired test, p = {p:.3f})")
    )
    words = sentence.format(against=against) + sure
    reason = escape(str(evaluation.get("verdict_reason") or ""))
    why = f'<br><span class="ds-small ds-muted">{reason}</span>' if reason else ""
    return f'<p class="ds-verdict">{theme.chip(words, tone, icon)}{why}</p>'
