"""Build's sticky summary: is the recipe ready, what will it need, and how to run it elsewhere.

In: problems and an estimate. Out: HTML, every text escaped. Knows nothing of Gradio.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from distill_core.api import Problem
from ui import form, text, theme

PARTS = {
    "teacher": "teacher",
    "student": "student",
    "optimiser": "optimiser",
    "activations": "activations",
    "loss": "loss",
    "features": "features",
    "context": "program",
}
"""Parts of the memory, in the order in which they are drawn."""

ICONS = {"error": "✕", "warning": "⚠", "info": "i"}
TONES: dict[str, theme.Tone] = {"error": "bad", "warning": "warn", "info": "neutral"}


def ready(problems: Sequence[Problem]) -> str:
    """A chip: no problems, or how many."""
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = sum(problem.severity == "warning" for problem in problems)
    if errors:
        return theme.chip(f"{errors} problem{'s' if errors > 1 else ''}", "bad", "✕")
    if warnings:
        return theme.chip(f"{warnings} warning{'s' if warnings > 1 else ''}", "warn", "⚠")
    return theme.chip("no problems", "good", "✓")


def problem_list(problems: Sequence[Problem]) -> str:
    """Every problem with its field, worst first."""
    order = ("error", "warning", "info")
    ranked = sorted(problems, key=lambda problem: order.index(problem.severity))
    return "".join(
        f'<li class="ds-problem-item ds-{TONES[problem.severity]}">'
        f'<span aria-hidden="true">{ICONS[problem.severity]}</span> '
        f'<span class="ds-hidden">{problem.severity}: </span>'
        f"{_named(problem.field)}"
        f"{escape(problem.message)} <b>{escape(problem.fix)}</b></li>"
        for problem in ranked
    )


def _named(field: str) -> str:
    """The setting's name as the form has it; its key is told to a hand that rests on it."""
    if not field:
        return ""
    stage = re.match(r"stages\.(\d+)\.", field)
    number = f"stage {int(stage[1]) + 1}, " if stage and stage[1] != "0" else ""
    named = form.words(re.sub(r"(\.\d+)+$", "", field))
    return f'<span class="ds-named" title="{escape(field)}">{number}{escape(named)}:</span> '


def memory(estimate: dict[str, Any]) -> str:
    """A bar of the memory by part, against what is there."""
    parts = estimate.get("memory_bytes", {})
    total = float(estimate.get("total_memory_bytes") or sum(parts.values()))
    there = float(estimate.get("available_memory_bytes") or 0)
    whole = max(total, there) or 1.0
    names = [name for name in PARTS if parts.get(name)]
    spans = "".join(
        f'<span class="ds-part-{name}" style="width:{100 * parts[name] / whole:.2f}%"></span>'
        for name in names
    )
    legend = "".join(
        f'<li><i class="ds-part-{name}" aria-hidden="true"></i>{PARTS[name]} '
        f"{text.bytes_text(parts[name])}</li>"
        for name in names
    )
    fits = estimate.get("fits", True)
    head = f"<b>Memory {text.bytes_text(total)}</b> of {text.bytes_text(there)} free"
    head += (
        f' <span class="ds-muted">({escape(str(estimate.get("memory_basis") or "formula"))})</span>'
    )
    if not fits:
        head += " " + theme.chip("does not fit", "bad", "✕")
    label = f"Memory: {text.bytes_text(total)} of {text.bytes_text(there)}"
    return (
        f'<div class="ds-need">{head}<div class="ds-bar ds-memory" role="img" '
        f'aria-label="{escape(label)}">{spans}</div><ul class="ds-parts">{legend}</ul>'
        f"{_savings(estimate.get('savings') or [])}</div>"
    )


def _savings(savings: Sequence[dict[str, Any]]) -> str:
    """What to change where the run does not fit, and what each change would save."""
    lines = "".join(
        f"<li>{escape(one['change'])}: <b>{one['saves_bytes'] / 2**20:,.0f} MiB</b> less"
        f"{', then it fits' if one['fits'] else ''} "
        f'<span class="ds-muted">({escape(one["field"])})</span></li>'
        for one in savings
    )
    return f'<p>What would help:</p><ul class="ds-savings">{lines}</ul>' if lines else ""


def needs(estimate: dict[str, Any]) -> str:
    """Time with what it goes into and its basis, download and disk."""
    low, high = estimate.get("time_s") or (None, None)
    span = text.time_range(low, high)
    parts = estimate.get("time_parts") or [f"{int(estimate.get('steps') or 0):,} steps"]
    basis = escape(str(estimate.get("time_basis") or ""))
    download = estimate.get("download_bytes") or 0
    fetched = text.bytes_text(download) if download else "nothing"
    disk = estimate.get("disk_bytes") or 0
    on_disk = f" · disk {text.bytes_text(disk)}" if disk else ""
    caches = "".join(_cache(one) for one in estimate.get("caches") or [])
    return (
        f'<div class="ds-need"><b>Time {span}</b>: {escape(", ".join(parts))} '
        f'<span class="ds-muted">({basis})</span></div>'
        f'<div class="ds-need"><b>Download</b> {fetched}'
        f'<span class="ds-muted">{on_disk}</span></div>{caches}'
    )


def _cache(one: dict[str, Any]) -> str:
    """What is kept of a teacher: all together, and for each token."""
    most = "up to " if one["at_most"] else ""
    return (
        f'<div class="ds-need"><b>Teacher cache {most}{text.bytes_text(one["bytes"])}</b> '
        f'<span class="ds-muted">({most}{one["bytes_per_token"]:,} bytes a token × '
        f"{one['tokens']:,} tokens, and the head)</span></div>"
    )


def card(
    problems: Sequence[Problem], estimate: dict[str, Any] | None, *, says: str, file_name: str
) -> str:
    """The whole summary: `says` is the recipe in one sentence, `file_name` its YAML file."""
    blocked = any(problem.severity == "error" for problem in problems)
    listed = problem_list(problems)
    need = memory(estimate) + needs(estimate) if estimate else ""
    command = f"distill-studio run {file_name}"
    return (
        f'<div class="ds-summary-head"><h3>{"Not ready" if blocked else "Ready"}</h3>'
        f'{ready(problems)}</div><p class="ds-muted">{escape(says)}</p>'
        f'<ul class="ds-problems" aria-live="polite">{listed}</ul>{need}'
        f'<div class="ds-command"><code>{escape(command)}</code>'
        f'<button type="button" class="ds-small-button" data-copy="{escape(command)}">'
        "Copy</button></div>"
    )
