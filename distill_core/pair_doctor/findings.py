"""What there is to say about a pair, topic by topic.

In: both sides and how their token → id maps relate. Out: `Finding`s, each with its cure where there
is one. Looks nothing up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from distill_core.models.licences import licence_note

if TYPE_CHECKING:
    from distill_core.data.vocabularies import MapMatch
    from distill_core.pair_doctor.sides import Side

Role = Literal["teacher", "student"]
State = Literal["good", "note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    state: State
    text: str
    fix: str = ""
    about: Literal["pair", "teacher", "student"] = "pair"


def findings(
    teacher: Side, student: Side, match: MapMatch | None, *, classes: bool = False
) -> tuple[Finding, ...]:
    """Everything that is worth saying, in a fixed order.

    `classes`: they tell classes apart, so that there is no chat, no answer and no vocabulary's
    softmax to speak of.
    """
    if classes:
        return (
            *_same_ids(teacher, student, match),
            *(found for found in _padding(teacher, student) if found.state == "error"),
            *_trimming(teacher, student),
            *_context(teacher, student),
            *_architecture(teacher, student),
            *_licences(teacher, student),
        )
    return (
        *_maps(teacher, student, match),
        *_padding(teacher, student),
        *_trimming(teacher, student),
        *_ends(teacher, student, match),
        *_marks(teacher, student),
        *_templates(teacher, student),
        *_context(teacher, student),
        *_architecture(teacher, student),
        *_licences(teacher, student),
    )


def title(name: str) -> str:
    """A model's name without the path of its folder."""
    return Path(name).name or name


def _same_ids(teacher: Side, student: Side, match: MapMatch | None) -> Iterator[Finding]:
    """Teacher and student of classes are given the same ids of each text."""
    if match is None or match.kind == "same":
        yield from _maps(teacher, student, match)
        return
    yield Finding(
        "token → id map",
        "error",
        f"Both read the same ids of a text, but of the teacher's {teacher.tokens:,} tokens and the "
        f"student's {student.tokens:,} only {match.shared:,} have the same id.",
        "Choose a student of the same family, or a smaller copy of the teacher.",
    )


def _maps(teacher: Side, student: Side, match: MapMatch | None) -> Iterator[Finding]:
    topic = "token → id map"
    if match is None:
        missing = student if student.tokenizer is None else teacher
        yield Finding(
            topic,
            "note",
            f"The tokenizer of {title(missing.name)} is not on this machine yet.",
            "It is compared once the model has been downloaded.",
        )
    elif match.kind == "same":
        yield Finding(topic, "good", f"The same {match.shared:,} tokens with the same ids.")
    elif match.kind == "extended":
        more = (teacher.tokens or 0) - (student.tokens or 0)
        yield Finding(
            topic,
            "note",
            f"The same {match.shared:,} tokens with the same ids; the "
            f"{'teacher' if more > 0 else 'student'} has {abs(more):,} more, which are cut before "
            "the two are compared.",
        )
    else:
        yield Finding(
            topic,
            "warning",
            f"Of the teacher's {teacher.tokens:,} tokens and the student's {student.tokens:,}, "
            f"{match.shared:,} have the same id and {match.named:,} the same name.",
            "Use cross_tokenizer, which goes by the text of tokens, or learn from the teacher's "
            "text alone.",
        )


def _padding(teacher: Side, student: Side) -> Iterator[Finding]:
    topic = "padded vocabulary"
    for role, side in _two(teacher, student):
        if side.padded < 0:
            yield Finding(
                topic,
                "error",
                f"The {role}'s tokenizer has {side.tokens:,} tokens, but the model only "
                f"{side.rows:,} rows for them.",
                "The folder mixes two models; copy or download it again.",
                about=role,
            )
        elif side.padded:
            yield Finding(
                topic,
                "note",
                f"The {role}'s vocabulary is padded: {side.rows:,} rows for {side.tokens:,} "
                "tokens. The rest is cut before any softmax.",
                about=role,
            )


def _trimming(teacher: Side, student: Side) -> Iterator[Finding]:
    if student.trimmed and not teacher.trimmed:
        yield Finding(
            "trimmed vocabulary",
            "note",
            f"The student keeps {student.kept_words}; the two are compared on these, and what the "
            "teacher gives to all others is measured.",
            about="student",
        )


def _ends(teacher: Side, student: Side, match: MapMatch | None) -> Iterator[Finding]:
    topic = "end of an answer"
    if teacher.tokenizer is None or student.tokenizer is None:
        return
    for role, side in _two(teacher, student):
        if side.turn_end is None:
            yield Finding(
                topic,
                "warning",
                f"The {role}'s tokenizer has no token that ends an answer: nobody learns to stop.",
                "Give it an eos_token.",
                about=role,
            )
            return
    if teacher.turn_end == student.turn_end:
        yield Finding(topic, "good", f"{teacher.turn_end}, supervised, so that the student stops.")
    elif match is not None and match.comparable:
        yield Finding(
            topic,
            "warning",
            f"The teacher ends an answer with {teacher.turn_end}, the student with "
            f"{student.turn_end}: compared id by id, the student would learn the teacher's.",
            "Use cross_tokenizer, which takes the two for the same.",
        )
    else:
        yield Finding(
            topic, "good", f"{teacher.turn_end} → {student.turn_end}, taken to mean the same."
        )


def _marks(teacher: Side, student: Side) -> Iterator[Finding]:
    if teacher.tokenizer is None or student.tokenizer is None:
        return
    words = []
    for word, ours, theirs in (
        ("BOS", teacher.bos, student.bos),
        ("EOS", teacher.eos, student.eos),
        ("pad", teacher.pad, student.pad),
    ):
        change = "" if ours == theirs else f" → {theirs or 'none'}"
        words.append(f"{word} {ours or 'none'}{change}")
    yield Finding("special tokens", "good", f"{', '.join(words)}; padding is told by its mask.")


def _templates(teacher: Side, student: Side) -> Iterator[Finding]:
    topic = "chat template"
    if teacher.tokenizer is None or student.tokenizer is None:
        return
    if (teacher.template or "") != (student.template or ""):
        yield Finding(
            topic,
            "note",
            f"{title(student.name)} has another chat template than its teacher: each reads a row "
            "in its own, and they are compared where their answers meet.",
        )
    elif teacher.template is None:
        yield Finding(topic, "note", "None: prompt, line break, answer, end of sequence.")
    else:
        yield Finding(topic, "good", "The same.")


def _context(teacher: Side, student: Side) -> Iterator[Finding]:
    ours, theirs = teacher.context, student.context
    if not ours or not theirs:
        return
    words = f"{ours:,} tokens." if ours == theirs else f"{ours:,} tokens → {theirs:,} tokens."
    yield Finding("context length", "note" if theirs < ours else "good", words)


def _architecture(teacher: Side, student: Side) -> Iterator[Finding]:
    words = " → ".join(
        f"{side.architecture}, {side.layers} × {side.hidden_size}" for side in (teacher, student)
    )
    yield Finding("architecture", "good", f"{words} (layers × width).")


def _licences(teacher: Side, student: Side) -> Iterator[Finding]:
    for role, side in _two(teacher, student):
        stated = side.licence or "not stated"
        note = licence_note(side.name, stated)
        duty = note is not None and note.binding
        yield Finding(
            "licence",
            "note" if duty or stated == "not stated" else "good",
            f"Of the {role}: {stated}. {note.text if note else ''}".strip(),
            f"Read it before sharing the student: {note.source}" if note and duty else "",
            about=role,
        )


def _two(teacher: Side, student: Side) -> list[tuple[Role, Side]]:
    """Both models; a student that is shaped from its teacher brings nothing of its own."""
    both: list[tuple[Role, Side]] = [("teacher", teacher), ("student", student)]
    return both[:1] if student.name == teacher.name else both
