"""The teacher answers rows that have no answer, once.

In: a teacher and rows. Out: the same rows with the teacher's answers, and progress on the way. The
answers are kept beside the runs, under a name made of all that they depend on; a pass that was cut
short goes on where it ended, and the next run finds them done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill_core import files
from distill_core.data.formats import Row
from distill_core.data.tokenize import encode_prompt
from distill_core.events import Event, progress
from distill_core.recipe import TeacherAnswerSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distill_core.teachers.local import LocalTeacher

FOLDER = "teacher_answers"
BATCH_ROWS = 512


def answer_rows(
    rows: Sequence[Row],
    *,
    teacher: LocalTeacher,
    tokenizer: PreTrainedTokenizerBase,
    fingerprint: str,
    settings: TeacherAnswerSettings,
    max_seq_len: int,
    seed: int,
    folder: Path,
) -> Generator[Event, None, list[Row]]:
    """Give every unlabelled row the teacher's answer; labelled rows are returned as they are.

    Yields `progress` events. `fingerprint` identifies the teacher's weights; with the template, the
    settings and each prompt's token ids it names the stored answers, so that answers of another
    teacher are never taken.

    Raises:
        DiskFullError: when answers cannot be stored; those stored before are kept.
    """
    places = [place for place, row in enumerate(rows) if row.response is None and row.text is None]
    if not places:
        return list(rows)
    room = max(1, max_seq_len - settings.max_new_tokens)  # a longer prompt loses its head
    prompts = {place: encode_prompt(rows[place], tokenizer, max_tokens=room) for place in places}
    path = folder / f"{_key(fingerprint, tokenizer, settings, seed)}.jsonl"
    known = _read(path)
    wanted = {place: _row_key(prompts[place]) for place in places}
    words = "the teacher answers rows that have no answer"
    folder.mkdir(parents=True, exist_ok=True)
    # the same batches whatever is stored already, so that a resumed pass gives the same answers
    order = sorted(places, key=lambda place: len(prompts[place]))
    for start in range(0, len(order), BATCH_ROWS):
        yield progress("caching teacher", words, done=start, total=len(order))
        chosen = order[start : start + BATCH_ROWS]
        if all(wanted[place] in known for place in chosen):
            continue
        answers = teacher.answers(
            [prompts[place] for place in chosen],
            max_new_tokens=settings.max_new_tokens,
            sampling_temperature=settings.sampling_temperature,
            seed=seed + start,
        )
        texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
        new = {wanted[place]: text for place, text in zip(chosen, texts, strict=True)}
        _append(path, new)
        known |= new
    yield progress("caching teacher", words, done=len(order), total=len(order))
    answered = list(rows)
    for place in places:
        answered[place] = rows[place].answered(known[wanted[place]])
    return answered


def _key(
    fingerprint: str, tokenizer: PreTrainedTokenizerBase, settings: TeacherAnswerSettings, seed: int
) -> str:
    parts = {
        "teacher": fingerprint,
        "template": tokenizer.chat_template,
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "settings": settings.model_dump(),
        "seed": seed if settings.sampling_temperature else 0,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _row_key(ids: list[int]) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:20]


def _read(path: Path) -> dict[str, str]:
    """Stored answers by row key; a last line that was cut short is left out."""
    known: dict[str, str] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row, text = json.loads(line)
            except ValueError:
                continue
            known[row] = text
    return known


def _append(path: Path, answers: dict[str, str]) -> None:
    lines = [json.dumps([row, text], ensure_ascii=False) + "\n" for row, text in answers.items()]
    with files.disk_full_told(path.parent), path.open("a", encoding="utf-8") as stream:
        # begins on a line of its own even after a line that was cut short
        if stream.tell() and not _ends_in_newline(path):
            stream.write("\n")
        stream.write("".join(lines))


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, 2)
        return stream.read(1) == b"\n"
