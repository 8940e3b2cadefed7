"""Facts: the answers, and what follows from them by arithmetic.

In: `Answers`, and the user's past runs on such rows. Out: `Facts`, in which None means unknown, and
the words that sentences fill in. Knows the numbers of the evidence, but not which rule holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from distill_core.advisor.answers import Answers
from distill_core.advisor.evidence import Evidence, License
from distill_core.advisor.past_runs import NO_PAST, Past

GIB = 2**30

Truth = bool | None
"""Three values: None is unknown (Kleene's logic)."""


def all_of(*values: Truth) -> Truth:
    """Whether all hold: one that does not decides, else one unknown leaves it open."""
    if False in values:
        return False
    return None if None in values else True


def any_of(*values: Truth) -> Truth:
    """Whether one holds: one that does decides, else one unknown leaves it open."""
    if True in values:
        return True
    return None if None in values else False


def negate(value: Truth) -> Truth:
    """The opposite; unknown stays unknown."""
    return None if value is None else not value


def at_least(value: float | None, limit: float | None) -> Truth:
    """Whether a number reaches a limit."""
    return None if value is None or limit is None else value >= limit


def below(value: float | None, limit: float | None) -> Truth:
    """Whether a number stays under a limit."""
    return negate(at_least(value, limit))


def one_of(value: str | None, *choices: str) -> Truth:
    """Whether an answer is one of some."""
    return None if value is None else value in choices


@dataclass(frozen=True)
class Facts:
    """Answers and their arithmetic; bytes and parameters as numbers, None where unknown."""

    answers: Answers
    past: Past
    """What the user's own runs have shown."""
    license: License | None
    teacher_is_good: Truth
    """Measured against the untrained student where both scores are there, else as answered."""
    size_ratio: float | None
    """Teacher's over student's parameters."""
    most_times_smaller: float
    """How much smaller dropping layers can make a student."""
    full_bytes: float | None
    """Training all weights of the student on this machine."""
    lora_bytes: float | None
    """The student's frozen weights under LoRA."""
    both_bytes: float | None
    """Student in training and the teacher's weights."""
    machine_bytes: float | None
    target_bytes: float | None
    teacher_8bit: float | None
    teacher_4bit: float | None
    rows_enough: int
    """Held-out rows that are enough to start with."""
    score_rows: float
    score_error: float
    """Standard error in points of a score of 90 % on those rows."""
    two_errors: float | None
    """Two standard errors, in points, of the teacher's score minus the untrained student's."""
    least_hours: float | None
    """Of reading all rows once, forward and back, on a fast device of the kind that is there."""


def derive(answers: Answers, evidence: Evidence, past: Past = NO_PAST) -> Facts:
    """Work out what follows from the answers."""
    memory, bits = evidence.rules["R16"].numbers, evidence.rules["R22"].numbers
    student, teacher = answers.student.max_parameters, answers.teacher.parameters
    there = answers.teacher.exists is not False
    full = _times(student, memory["full_bytes"] * memory["workspace"])
    weights = _times(teacher, memory["teacher_bytes"])
    held_out, labelled = answers.data.held_out_rows, answers.data.labelled_rows
    enough = evidence.rules["R0"].numbers["enough_rows"]
    rows = max(held_out or 0.0, min(enough, (labelled or 0) / 2), 1.0)
    two_errors = _two_errors(answers, evidence.rules["R1"].numbers["standard_errors"])
    return Facts(
        answers=answers,
        past=past,
        license=evidence.license(answers.teacher.license),
        teacher_is_good=_teacher_is_good(answers, two_errors),
        size_ratio=teacher / student if teacher and student and there else None,
        most_times_smaller=evidence.rules["R13"].numbers["most_times_smaller"],
        full_bytes=full,
        lora_bytes=_times(student, memory["lora_bytes"] * memory["workspace"]),
        both_bytes=full + weights if full is not None and weights is not None else None,
        machine_bytes=_times(answers.machine.memory_gib, GIB),
        target_bytes=_times(answers.student.device_memory_gib, GIB),
        teacher_8bit=_times(teacher, bits["bytes_8bit"] * bits["room"]),
        teacher_4bit=_times(teacher, bits["bytes_4bit"] * bits["room"]),
        rows_enough=int(enough),
        score_rows=rows,
        score_error=100 * math.sqrt(0.9 * 0.1 / rows),
        two_errors=two_errors,
        least_hours=_least_hours(answers, evidence),
    )


def training_flops(parameters: float, tokens: float) -> float:
    """Operations of one pass over the tokens, forward and back: 6 per parameter and token."""
    return 6.0 * parameters * tokens


def _least_hours(answers: Answers, evidence: Evidence) -> float | None:
    data, student, device = answers.data, answers.student.max_parameters, answers.machine.device
    rows = [count for count in (data.labelled_rows, data.unlabelled_rows) if count]
    if not student or not rows or device is None:
        return None
    per_row = data.mean_tokens or evidence.arithmetic.tokens_per_row[0]
    fastest = evidence.arithmetic.flops_per_s[device][1]
    return training_flops(student, sum(rows) * per_row) / fastest / 3600


def _teacher_is_good(answers: Answers, two_errors: float | None) -> Truth:
    teacher, untrained = answers.teacher.held_out_score, answers.student.untrained_score
    if teacher is None or untrained is None or two_errors is None:
        return answers.teacher.good_at_task
    return 100 * (teacher - untrained) > two_errors


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _two_errors(answers: Answers, errors: float) -> float | None:
    rows = answers.data.held_out_rows
    scores = (answers.teacher.held_out_score, answers.student.untrained_score)
    if not rows or scores[0] is None or scores[1] is None:
        return None
    variance = sum(score * (1 - score) / rows for score in scores if score is not None)
    return 100 * errors * math.sqrt(variance)


# --- words ------------------------------------------------------------------------------------


def words(facts: Facts) -> dict[str, str]:
    """What `{names}` in the evidence's sentences stand for."""
    answers = facts.answers
    rows = answers.data.held_out_rows
    entry = facts.license
    split = max(0, facts.rows_enough - (rows or 0))
    return {
        "labelled_rows": _count(answers.data.labelled_rows),
        "unlabelled_rows": _count(answers.data.unlabelled_rows),
        "held_out_rows": _count(rows),
        "split_rows": f"{split}",
        "duplicate_rows": _count(answers.data.duplicate_rows),
        "leaked_rows": _count(answers.data.leaked_rows),
        "longest_tokens": _count(answers.data.longest_tokens),
        "context_tokens": _count(answers.teacher.context_tokens),
        "least_hours": "?" if facts.least_hours is None else f"{facts.least_hours:.2g}",
        "budget_hours": _hours(answers.constraints.budget_gpu_hours),
        "past_words": facts.past.words,
        "weak_words": _weak_words(facts),
        "score_rows": _count(facts.score_rows),
        "score_error": f"{facts.score_error:.1f}",
        "teacher_score": _percent(answers.teacher.held_out_score),
        "untrained_score": _percent(answers.student.untrained_score),
        "two_errors": "?" if facts.two_errors is None else f"{facts.two_errors:.1f}",
        "teacher_score_words": _score_words(answers),
        "license_name": entry.name if entry else answers.teacher.license or "the licence",
        "license_text": entry.text if entry else "",
        "size_ratio": "?" if facts.size_ratio is None else f"{facts.size_ratio:.3g}",
        "full_memory": gib(facts.full_bytes),
        "lora_memory": gib(facts.lora_bytes),
        "both_memory": gib(facts.both_bytes),
        "machine_memory": gib(facts.machine_bytes),
        "target_memory": gib(facts.target_bytes),
        "teacher_8bit": gib(facts.teacher_8bit),
        "teacher_4bit": gib(facts.teacher_4bit),
        "teacher_parameters": parameters(answers.teacher.parameters),
        "calls_per_month": _count(answers.constraints.calls_per_month),
    }


def fill(template: str, values: dict[str, Any]) -> str:
    """Fill a sentence of the evidence; its first letter becomes a capital."""
    text = template.format_map(values)
    return text[:1].upper() + text[1:]


def _score_words(answers: Answers) -> str:
    score, untrained = answers.teacher.held_out_score, answers.student.untrained_score
    measured = score is not None and untrained is not None
    assumed = answers.teacher.exists is None or answers.teacher.good_at_task is None
    if assumed and not measured:
        return "That is assumed so far; nobody has said so."
    if score is None:
        return "You say that it answers this task well."
    text = f"{_percent(score)} % on held-out rows"
    return (
        f"{text}; the untrained student {_percent(untrained)} %."
        if untrained is not None
        else (f"{text}.")
    )


def _weak_words(facts: Facts) -> str:
    """What was measured, where that is why the teacher counts as weak."""
    teacher = facts.answers.teacher.held_out_score
    untrained = facts.answers.student.untrained_score
    if facts.two_errors is None or facts.teacher_is_good is not False:
        return ""
    return f"{_percent(teacher)} % against {_percent(untrained)} % before any training. "


def _hours(value: float | None) -> str:
    return "no limit" if value is None else f"{value:g}"


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.3g}"


def _count(value: float | None) -> str:
    return "an unknown number of" if value is None else f"{value:,.0f}"


def parameters(value: float | None) -> str:
    """Write a number of parameters: 0.18 M, 135 M, 7 B."""
    if value is None:
        return "unknown"
    for limit, unit, size in ((1e9, "B", 1e9), (1e5, "M", 1e6)):
        if value >= limit:
            return f"{value / size:.3g} {unit}"
    return f"{value:,.0f}"


def gib(value: float | None) -> str:
    """Write bytes: 3.2 MiB, 16.8 GiB."""
    if value is None:
        return "unknown"
    if value >= GIB / 10:
        return f"{value / GIB:.3g} GiB"
    return f"{value / 2**20:.3g} MiB"
