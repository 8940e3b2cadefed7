"""Answers that the machine, the rows and the models give by themselves.

In: answers with gaps. Out: the same answers with what could be seen, each with the words that say
where it was read. What the user has answered is left alone. Reads files and configurations on this
machine; asks the hub only where it is told to. Knows no rule.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill_core import device as machine_facts
from distill_core import models
from distill_core.advisor import answers as answer_fields
from distill_core.advisor.answers import Answers
from distill_core.advisor.evidence import load
from distill_core.advisor.questions import starter_facts
from distill_core.errors import DistillError
from distill_core.models import model_facts
from distill_core.recipe import ColumnSettings, DataSettings, FileSource
from distill_core.starter.splits import SPLITS

GIB = 2**30
STARTER, STARTER_TEACHER = "starter", "pocket-teacher"

_SAMPLE = 2000
"""Rows whose lengths are counted."""


@dataclass(frozen=True)
class Seen:
    """One answer that was seen; `words` say where."""

    field: str
    value: Any
    words: str


@dataclass
class Observed:
    """Answers completed, what was filled in, and what could not be read."""

    answers: Answers
    filled: list[Seen] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def complete(answers: Answers, *, hub: bool = False) -> Observed:
    """Fill the gaps; `hub`: small files of models that are not on this machine may be fetched."""
    found = Observed(answers)
    for look in (_machine, _rows, _teacher, _student, _pair):
        try:
            for seen in look(found.answers, hub):
                _fill(found, seen)
        except (DistillError, OSError) as error:
            found.notes.append(" ".join(str(error).split()))
    return found


def _fill(found: Observed, seen: Seen) -> None:
    if seen.value is None or answer_fields.get(found.answers, seen.field) is not None:
        return
    found.answers = answer_fields.replace(found.answers, {seen.field: seen.value})
    found.filled.append(seen)


# --- the machine ------------------------------------------------------------------------------


def _machine(answers: Answers, hub: bool) -> Iterator[Seen]:
    facts = machine_facts.facts()
    memory = facts["device_memory_total_bytes"] or facts["memory_total_bytes"]
    here = "Read from this machine."
    if answers.machine.device not in (None, facts["device"]):
        return  # it will be trained elsewhere
    yield Seen("machine.device", facts["device"], here)
    yield Seen("machine.memory_gib", round(memory / GIB, 1) if memory else None, here)
    yield Seen("machine.fast_bf16", facts["fast_bf16"], here)


# --- rows -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowFacts:
    """What a source of rows is, by reading it once."""

    title: str
    labelled: int
    unlabelled: int
    duplicates: int
    """Rows that repeat an earlier one, prompt and answer alike."""
    repeated: int
    """Prompts that come more than once with an answer."""
    contradicted: int
    """Of these, the ones whose answers differ."""
    lengths: tuple[float, float, float]
    """Tokens: mean and longest of a row, longest of an answer; from a sample."""
    counted_in: str
    """What the lengths rest on, in words."""
    asks: frozenset[str]


def _rows(answers: Answers, hub: bool) -> Iterator[Seen]:
    data = answers.data
    if data.source == STARTER:
        yield from _starter_rows()
        return
    source = row_source(data.source)
    if source is None:
        return
    found = row_facts(source, answers.teacher.name)
    here = f"Read from {found.title}."
    yield Seen("data.labelled_rows", found.labelled, here)
    yield Seen("data.unlabelled_rows", found.unlabelled, here)
    yield Seen("data.duplicate_rows", found.duplicates, here)
    mean, longest, answer = found.lengths
    yield Seen("data.mean_tokens", round(mean, 1), f"{here} {found.counted_in}")
    yield Seen("data.longest_tokens", longest, f"{here} {found.counted_in}")
    yield Seen("data.answer_tokens", answer or None, f"{here} {found.counted_in}")
    yield from _labels(found)
    held_out = row_source(data.held_out_source)
    if held_out is not None:
        aside = row_facts(held_out, answers.teacher.name)
        there = f"Read from {aside.title}."
        yield Seen("data.held_out_rows", aside.labelled, there)
        yield Seen("data.leaked_rows", len(found.asks & aside.asks), f"{here} {there}")


def _starter_rows() -> Iterator[Seen]:
    """Known without making them; no prompt of theirs is in two splits."""
    words = "The starter's own rows."
    for name, split in (("labelled", "labelled"), ("unlabelled", "unlabelled")):
        yield Seen(f"data.{name}_rows", SPLITS[split].size, words)
    yield Seen("data.held_out_rows", SPLITS["held_out"].size, words)
    yield Seen("data.leaked_rows", 0, words)
    yield Seen("data.label_quality", "mixed", f"{words} {SPLITS['labelled'].description}.")


def _labels(found: RowFacts) -> Iterator[Seen]:
    """Labels that contradict each other are wrong somewhere; that none does proves nothing."""
    numbers = load().rules["D"].numbers
    if found.repeated < numbers["repeated_prompts"]:
        return
    share = found.contradicted / found.repeated
    quality = next((q for q in ("poor", "mixed") if share >= numbers[f"{q}_labels"]), None)
    words = (
        f"Of {found.repeated:,} prompts in {found.title} that come more than once, "
        f"{found.contradicted:,} have different answers."
    )
    yield Seen("data.label_quality", quality, words)


def row_source(name: str | None) -> FileSource | None:
    """A file on this machine; None for anything else."""
    return FileSource(path=name) if name and Path(name).expanduser().is_file() else None


def row_facts(source: FileSource, model: str | None = None) -> RowFacts:
    """Read rows once; counted by the model's tokenizer where it is on this machine.

    Raises:
        DataError: if the file or its columns cannot be used.
    """
    stamp = Path(source.path).expanduser().stat().st_mtime_ns
    return _read_rows(source.model_dump_json(), model or "", stamp)


@functools.lru_cache(maxsize=16)
def _read_rows(source_json: str, model: str, stamp: int) -> RowFacts:
    from distill_core.data.sources import load_source

    source = FileSource.model_validate_json(source_json)
    settings = DataSettings(sources=[source], columns=ColumnSettings())
    loaded = load_source(settings, source=source)
    rows = loaded.rows
    labelled = [row for row in rows if row.labelled]
    answers: dict[str, set[str]] = defaultdict(set)
    times: Counter[str] = Counter()
    whole: Counter[tuple[str, str]] = Counter()
    for row in rows:
        key, answer = row.content_hash, (row.response or row.text or "").strip()
        whole[key, answer] += 1
        if row.labelled and row.response is not None:
            answers[key].add(answer)
            times[key] += 1
    repeated = [key for key, count in times.items() if count > 1]
    lengths, counted_in = _lengths(rows[:: max(1, len(rows) // _SAMPLE)], model)
    return RowFacts(
        title=loaded.title,
        labelled=len(labelled),
        unlabelled=len(rows) - len(labelled),
        duplicates=sum(count - 1 for count in whole.values()),
        repeated=len(repeated),
        contradicted=sum(len(answers[key]) > 1 for key in repeated),
        lengths=lengths,
        counted_in=counted_in,
        asks=frozenset(row.content_hash for row in rows),
    )


def _lengths(rows: Sequence[Any], model: str) -> tuple[tuple[float, float, float], str]:
    count, words = _counter(model)
    prompts = [count("\n".join(part["content"] for part in row.prompt_messages)) for row in rows]
    replies = [count(row.response or row.text or "") for row in rows]
    whole = [sum(pair) for pair in zip(prompts, replies, strict=True)]
    return (sum(whole) / len(whole), max(whole), max(replies)), words


def _counter(model: str) -> tuple[Any, str]:
    """How many tokens a text has: by the model's own tokenizer, else about four letters each."""
    try:
        folder = models.local_folder(model) if model else None
    except DistillError:
        folder = None
    if folder is None:
        letters = int(load().rules["D"].numbers["letters_per_token"])
        return lambda text: -(-len(text) // letters), f"{letters} letters are taken as a token."
    tokenizer = models.load_tokenizer(folder)
    return (
        lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]),
        f"Counted in tokens of {model}.",
    )


# --- models -----------------------------------------------------------------------------------


def model_here(name: str | None, *, hub: bool) -> dict[str, Any] | None:
    """A model's facts; None where it is not on this machine and the hub is not to be asked."""
    if not name:
        return None
    if name not in models.BUILT_IN and models.local_folder(name) is None and not hub:
        return None
    return model_facts.facts(name)


def _teacher(answers: Answers, hub: bool) -> Iterator[Seen]:
    name = answers.teacher.name
    if answers.teacher.exists is False:
        return
    facts = model_here(name, hub=hub)
    if facts is None:
        return
    here = f"Read from {name}."
    yield Seen("teacher.exists", True, here)
    yield Seen("teacher.access", "weights", here)
    yield Seen("teacher.parameters", float(facts["parameters"]), here)
    licence = facts["license"]
    yield Seen("teacher.license", licence if licence != "not stated" else None, here)
    yield Seen("teacher.context_tokens", facts["max_seq_len"], here)
    yield Seen("teacher.writes_text", "causal_lm" in facts["tasks"], here)
    if name == STARTER_TEACHER and answers.data.source == STARTER:
        score = starter_facts().get("teacher.held_out_score")
        yield Seen("teacher.held_out_score", score, "Measured on rows that it has not seen.")


def _student(answers: Answers, hub: bool) -> Iterator[Seen]:
    facts = model_here(answers.student.name, hub=hub)
    if facts is None:
        return
    here = f"Read from {answers.student.name}."
    yield Seen("student.published_checkpoint", True, here)
    yield Seen("student.max_parameters", float(facts["parameters"]), here)


def _pair(answers: Answers, hub: bool) -> Iterator[Seen]:
    """Whether both cut text into the same tokens; a student made of its teacher surely does."""
    teacher, student = answers.teacher.name, answers.student.name
    if answers.teacher.exists is False:
        return
    if student is None:
        if answers.student.published_checkpoint is False and answers.teacher.access == "weights":
            words = "A student that is made of its teacher has its teacher's tokenizer."
            yield Seen("teacher.same_tokenizer", True, words)
        return
    if any(model_here(name, hub=hub) is None for name in (teacher, student)):
        return
    from distill_core.pair_doctor import pair_report
    from distill_core.recipe import PretrainedStudent

    report = pair_report(str(teacher), PretrainedStudent(model=student))
    yield Seen("teacher.same_tokenizer", report["comparable"], report["verdict"])
