"""The teacher answers rows in text, once: sequence-level distillation (Kim and Rush 2016).

In: a teacher and rows. Out: the same rows with the teacher's answers, and progress on the way. The
answers are kept beside the runs, under a name made of all that they depend on; a pass that was cut
short goes on where it ended, and the next run finds them done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core import files, ranks
from distill_core.data.formats import Row
from distill_core.data.spooled import Spooled
from distill_core.data.tokenize import encode_prompt, pad_token_id
from distill_core.errors import DataError
from distill_core.events import Event, progress
from distill_core.recipe import TeacherAnswerSettings
from distill_core.teachers.likelihood import best_answers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distill_core.generate import Continuation
    from distill_core.teachers.base import Teacher

FOLDER = "teacher_answers"
ANSWERS_AT_ONCE = 256
"""Answers that are generated before they are stored: a batch of `continuations` on a GPU."""

ANSWERS_AT_ONCE_ON_CPU = 128

_LAYOUT = 2
"""Of a stored line; answers in another layout are not read."""


@dataclass
class Answered:
    """Rows with the teacher's answers, and how many of those were left out or cut."""

    rows: Sequence[Row]
    asked: int = 0
    empty: int = 0
    """Rows left out since the answer has no text."""
    duplicates: int = 0
    """Rows left out since another one has the same prompt and answer."""
    unfinished: int = 0
    """Answers that were cut at their longest length."""
    mean_log_likelihood: float | None = None
    """Of the answers that were kept, per token, by the teacher itself; None for one sample each."""

    def as_labels(self) -> Sequence[Row]:
        """The rows, with the teacher's words for labels."""
        return Spooled(replace(row, answered_by_teacher=False) for row in self.rows)

    def facts(self) -> dict[str, Any]:
        """All but the rows, for events."""
        return {item.name: getattr(self, item.name) for item in fields(self)[1:]}


@dataclass(frozen=True, slots=True)
class _Answer:
    """One stored line."""

    row: str
    text: str
    finished: bool
    log_likelihood: float | None

    def line(self) -> str:
        cells = [self.row, self.text, self.finished, self.log_likelihood]
        return json.dumps(cells, ensure_ascii=False) + "\n"


@dataclass
class _Asked:
    """Prompts that differ, under the key of their token ids."""

    prompts: dict[str, list[int]] = field(default_factory=dict)
    key_of: dict[int, str] = field(default_factory=dict)
    """By place of the row."""


def answer_rows(
    rows: Sequence[Row],
    *,
    teacher: Teacher,
    tokenizer: PreTrainedTokenizerBase,
    fingerprint: str,
    settings: TeacherAnswerSettings,
    max_seq_len: int,
    seed: int,
    folder: Path,
) -> Generator[Event, None, Answered]:
    """Give rows the teacher's answer: those that have none, or all, as the settings say.

    Yields `progress` events. `fingerprint` identifies the teacher's weights; with the template, the
    settings and each prompt's token ids it names the stored answers, so that answers of another
    teacher are never taken. Rows that the teacher is not asked, and plain texts, stay as they are;
    those whose answer is empty, or the same as another's to the same prompt, are left out.

    Raises:
        DataError: when no row is left.
        DiskFullError: when answers cannot be stored; those stored before are kept.
    """
    asked = _asked(rows, tokenizer, settings, max_seq_len)
    if not asked.prompts:
        return Answered(rows)
    path = folder / f"{_key(fingerprint, tokenizer, settings, seed)}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    known = ranks.agree(lambda: _read(path))
    words = "the teacher answers rows that have no answer"
    if settings.rows == "all":
        words = "the teacher answers all rows"
    # the same batches whatever is stored already, so that a resumed pass gives the same answers
    order = sorted(asked.prompts, key=lambda key: (len(asked.prompts[key]), key))
    most = ANSWERS_AT_ONCE if teacher.device.type != "cpu" else ANSWERS_AT_ONCE_ON_CPU
    at_once = max(1, most // settings.best_of)
    groups = [order[start : start + at_once] for start in range(0, len(order), at_once)]
    for turn in range(0, len(groups), ranks.count()):  # a group for each process
        yield progress("caching teacher", words, done=turn * at_once, total=len(order))
        chosen = groups[turn : turn + ranks.count()]
        if all(key in known for group in chosen for key in group):
            continue
        mine = chosen[ranks.number()] if ranks.number() < len(chosen) else []
        prompts = {key: asked.prompts[key] for key in mine}
        new = ranks.gather(_ask(teacher, tokenizer, prompts, settings, seed) if mine else [])
        fresh = [answer for answer in new if answer.row not in known]
        ranks.agree(partial(_append, path, fresh))
        known = {answer.row: answer for answer in new} | known
    yield progress("caching teacher", words, done=len(order), total=len(order))
    return _with_answers(rows, asked, known, settings)


def _asked(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    settings: TeacherAnswerSettings,
    max_seq_len: int,
) -> _Asked:
    """Find the rows to answer, and encode their prompts."""
    room = max(1, max_seq_len - settings.max_new_tokens)  # a longer prompt loses its head
    asked = _Asked()
    for place, row in enumerate(rows):
        if row.text is None and (settings.rows == "all" or row.response is None):
            prompt = encode_prompt(row, tokenizer, max_tokens=room)
            key = asked.key_of[place] = _row_key(prompt)
            asked.prompts.setdefault(key, prompt)
    return asked


def _ask(
    teacher: Teacher,
    tokenizer: PreTrainedTokenizerBase,
    prompts: dict[str, list[int]],
    settings: TeacherAnswerSettings,
    seed: int,
) -> list[_Answer]:
    """Let the teacher answer each prompt, and keep its best answer."""
    keys, times = list(prompts), range(settings.best_of)
    found = teacher.answers(
        [prompts[key] for key in keys for _ in times],
        max_new_tokens=settings.max_new_tokens,
        sampling_temperature=settings.sampling_temperature,
        seed=seed,
        # by the prompt, not by its place: the answer is the same in whatever data it stands
        streams=[(int(key, 16), time) for key in keys for time in times],
    )
    best: list[tuple[Continuation, float | None]] = [(answer, None) for answer in found]
    if settings.best_of > 1:
        candidates = [
            found[start : start + settings.best_of]
            for start in range(0, len(found), settings.best_of)
        ]
        asked = [prompts[key] for key in keys]
        best = [*best_answers(teacher, asked, candidates, pad_token_id=pad_token_id(tokenizer))]
    texts = tokenizer.batch_decode([answer.ids for answer, _ in best], skip_special_tokens=True)
    return [
        # half of a character may stand where an answer was cut
        _Answer(key, text.rstrip("\ufffd"), answer.stop is not None, likelihood)
        for key, text, (answer, likelihood) in zip(keys, texts, best, strict=True)
    ]


def _with_answers(
    rows: Sequence[Row], asked: _Asked, known: dict[str, _Answer], settings: TeacherAnswerSettings
) -> Answered:
    found = Spooled[Row]()
    result = Answered(found, asked=len(asked.key_of))
    seen: set[str] = set()
    kept: list[_Answer] = []
    for place, row in enumerate(rows):
        key = asked.key_of.get(place)
        if key is None:
            found.append(row)
        elif key in seen:
            result.duplicates += 1
        elif not known[key].text.strip():
            result.empty += 1
        else:
            seen.add(key)
            kept.append(known[key])
            result.unfinished += not known[key].finished
            answer = row.answered(known[key].text, unfinished=not known[key].finished)
            found.append(answer)
    if not found:
        raise DataError(
            f"All {result.asked:,} answers of the teacher are empty, so no row is left to learn "
            "from. Check the prompt template, or take a teacher that follows instructions.",
            field="data.prompt_template",
        )
    likelihoods = [one.log_likelihood for one in kept if one.log_likelihood is not None]
    if likelihoods:
        result.mean_log_likelihood = sum(likelihoods) / len(likelihoods)
    return result


def _key(
    fingerprint: str, tokenizer: PreTrainedTokenizerBase, settings: TeacherAnswerSettings, seed: int
) -> str:
    parts = {
        "layout": _LAYOUT,
        "teacher": fingerprint,
        "template": tokenizer.chat_template,
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        # which rows are asked does not change what is answered
        "settings": settings.model_dump(exclude={"rows"}),
        "seed": seed if settings.sampling_temperature else 0,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _row_key(ids: list[int]) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:20]


def _read(path: Path) -> dict[str, _Answer]:
    """Stored answers by row key; a last line that was cut short is left out."""
    known: dict[str, _Answer] = {}
    if path.is_file():
        # `splitlines` would also cut at line separators inside a text
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                answer = _Answer(*json.loads(line))
            except (ValueError, TypeError):
                continue
            known[answer.row] = answer
    return known


def _append(path: Path, answers: Sequence[_Answer]) -> None:
    with files.disk_full_told(path.parent), path.open("a", encoding="utf-8") as stream:
        # begins on a line of its own even after a line that was cut short
        if stream.tell() and not _ends_in_newline(path):
            stream.write("\n")
        stream.write("".join(answer.line() for answer in answers))


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, 2)
        return stream.read(1) == b"\n"
