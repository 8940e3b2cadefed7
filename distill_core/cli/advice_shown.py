"""A recommendation as sentences for the terminal.

In: what `api.advise` returns. Out: lines of text. Knows no api call and no files.
"""

from __future__ import annotations

from typing import Any

from distill_core.cli.terminal import duration


def advice_sentences(advice: dict[str, Any]) -> list[str]:
    """Write a recommendation: reasons, confidence, the runner-up, what to expect, what is next."""
    lines = [str(advice["title"]), str(advice["summary"])]
    if advice["measured"]:
        lines += measured_sentences(advice["measured"])
    sure = advice["confidence"]
    lines.append(f"Confidence: {sure['level']}. {sure['why']}")
    for reason in advice["reasons"]:
        lines.append(
            f"- {reason['headline'].rstrip('.')}: {reason['sentence']} "
            f"[{reason['rule']}, {reason['source']}]"
        )
    rival = advice["runner_up"]
    turn = rival["flips_when"]
    flip = f" It would win {turn}." if turn else " No one or two answers would turn it."
    lines.append(f"Runner-up: {rival['title']}. {rival['why_lost']}{flip}")
    for name, entry in advice["expected"].items():
        if isinstance(entry, dict):
            lines.append(f"Expected {name}: {_range(entry)} ({entry['what']}) [{entry['source']}]")
    for entry in advice["filled"]:
        lines.append(f"Filled in: {entry['field']} {entry['value']}. {entry['words']}")
    lines += [f"Not read: {note}" for note in advice["notes"]]
    lines += [_own_run(run) for run in advice["past_runs"]]
    lines += [f"Sources disagree: {entry['sentence']}" for entry in advice["conflicts"]]
    lines += [f"Note: {warning['sentence']}" for warning in advice["warnings"]]
    lines += [f"Next: {step}" for step in advice["next_steps"]]
    return [line for line in lines if line]


def measured_sentences(found: dict[str, Any]) -> list[str]:
    """What a probe has found, beside what the rules say without it."""
    words = str(found["words"])
    return [
        f"{words[:1].upper()}{words[1:]} ({found['seeds']} seeds, probe {found['run']}).",
        f"The published rules alone say: {found['rules_title']}.",
    ]


def _own_run(run: dict[str, Any]) -> str:
    """A run on these rows: what it has shown, or why it does not count."""
    if run["not_counted"]:
        return f"Your run: {run['name']}, {run['not_counted']}."
    return f"Your run: {run['name']}. {run['words']}".rstrip()


def _range(entry: dict[str, Any]) -> str:
    """A range in its unit: 80–96.8 %, 14–24.8 GB, 3 min–2 h."""
    ends = entry["low"], entry["high"]
    if entry["unit"] == "bytes":
        shown = [f"{end / 1e9:.3g} GB" for end in ends]
    elif entry["unit"] == "s":
        shown = [duration(end) for end in ends]
    else:
        shown = [f"{end:.3g} {entry['unit']}" for end in ends]
    return shown[0] if shown[0] == shown[1] else "–".join(shown)
