"""The held-out prompts of a run as a table: teacher beside student, step by step.

In: `sample` events. Out: HTML in which differences are struck out or underlined. Knows nothing of
Gradio or of where events come from.
"""

from __future__ import annotations

import difflib
import re
from html import escape
from typing import Any

from ui import text

STEPS_SHOWN = 3
"""The newest, one from the middle, the first."""
LONG = 180
"""Characters of an answer from which on it is folded; an untrained student writes to the end."""

NEWEST = 2
"""Column of the newest step: beside the teacher's."""

_PIECES = re.compile(r"\w+|\s+|[^\w\s]")


def samples_html(samples: list[dict[str, Any]], stages: list[dict[str, Any]]) -> str:
    """Draw the table: one row a prompt; the student at up to three steps, newest first."""
    baselines = {stage["index"] for stage in stages if stage.get("baseline")}
    own = [sample for sample in samples if sample.get("stage") not in baselines]
    if not own:
        return f'<p class="ds-muted">{escape(text.NO_SAMPLES)}</p>'
    many = len({sample.get("stage") for sample in own}) > 1
    moments = _some(sorted({_moment(sample) for sample in own}))
    other = [sample for sample in samples if sample.get("stage") in baselines]
    last_other = max((_moment(sample) for sample in other), default=None)
    heads = ["prompt", _head("teacher", "● teacher")]
    for stage, step in moments:
        where = f"stage {stage + 1}, step {step:,}" if many else f"step {step:,}"
        newest = ", the newest" if (stage, step) == moments[0] and len(moments) > 1 else ""
        heads.append(_head("student", f"◆ student, {where}{newest}"))
    if last_other:
        heads.append(_head("other", f"○ labels only, step {last_other[1]:,}"))
    rows = []
    for prompt in dict.fromkeys(sample["prompt"] for sample in own):
        about = [sample for sample in samples if sample["prompt"] == prompt]
        asked: dict[str, Any] = next((s for s in reversed(about) if s.get("teacher")), {})
        teacher = str(asked.get("teacher") or "")
        reference = next((s["reference"] for s in reversed(about) if s.get("reference")), "")
        cells = [escape(prompt), _code(escape(teacher) or "–", teacher) + _sure(asked, "teacher")]
        for moment in [*moments, *([last_other] if last_other else [])]:
            found = next((s for s in reversed(about) if _moment(s) == moment), None)
            cells.append(_answer(found, teacher or reference))
        pairs = enumerate(zip(heads, cells, strict=True))
        rows.append("".join(_cell(head, cell, newest=at == NEWEST) for at, (head, cell) in pairs))
    head = "".join(f'<th scope="col">{cell}</th>' for cell in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="ds-scroll" tabindex="0" role="region" aria-label="Held-out prompts">'
        f'<table class="ds-table ds-samples"><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        f'</table></div><p class="ds-small">{text.SAMPLES_LEGEND}</p>'
    )


def marked(answer: str, wanted: str) -> str:
    """Write an answer as HTML: what is not in `wanted` struck out, what is missing underlined."""
    ours, theirs = _PIECES.findall(answer), _PIECES.findall(wanted)
    matcher = difflib.SequenceMatcher(None, ours, theirs, autojunk=False)
    if matcher.ratio() < 0.3 and answer.strip():
        return f"<del>{escape(answer)}</del>"
    html = []
    for kind, left, right, low, high in matcher.get_opcodes():
        mine, missing = "".join(ours[left:right]), "".join(theirs[low:high])
        if kind == "equal":
            html.append(escape(mine))
            continue
        html.append(f"<del>{escape(mine)}</del>" if mine.strip() else escape(mine))
        html.append(f"<ins>{escape(missing)}</ins>" if missing.strip() else "")
    return "".join(html)


def _head(role: str, words: str) -> str:
    return f'<span class="ds-ink-{role}">{words}</span>'


def _cell(head: str, html: str, *, newest: bool) -> str:
    """A cell that says on a narrow screen, where cells stand below each other, what it is."""
    mark = ' class="ds-newest"' if newest else ""
    return f'<td{mark}><div class="ds-cell-head" aria-hidden="true">{head}</div>{html}</td>'


def _answer(sample: dict[str, Any] | None, wanted: str) -> str:
    if sample is None:
        return '<span class="ds-muted">–</span>'
    answer, sure = str(sample.get("student") or ""), _sure(sample, "student")
    if answer == wanted:
        right = f'{escape(answer)} <b class="ds-right" title="as the teacher">✓</b>'
        return _code(right, answer) + sure
    if not answer:
        return f'<span class="ds-muted">{text.NO_ANSWER}</span>'
    return _code(marked(answer, wanted), answer) + sure


def _sure(sample: dict[str, Any], who: str) -> str:
    """How likely a class is for a model that tells them apart; nothing for one that writes."""
    probability = sample.get(f"{who}_probability")
    if not isinstance(probability, int | float):
        return ""
    return f' <span class="ds-muted">{text.percent_text(probability, 0)}</span>'


def _code(html: str, answer: str) -> str:
    """Set as code; lines break after commas rather than inside a word; a long answer is folded."""
    code = f'<span class="ds-mono">{html.replace(",", ",<wbr>")}</span>'
    if len(answer) <= LONG:
        return code
    return f'<details class="ds-long"><summary>{code}</summary></details>'


def _moment(sample: dict[str, Any]) -> tuple[int, int]:
    return int(sample.get("stage") or 0), int(sample.get("step") or 0)


def _some(moments: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Up to three moments, the newest first."""
    if len(moments) <= STEPS_SHOWN:
        return moments[::-1]
    return [moments[-1], moments[len(moments) // 2], moments[0]]
