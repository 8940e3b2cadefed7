"""What a recipe's rows are, for forecasts and checks: counts, lengths, and what is wrong.

In: a recipe's data, and the folder of a tokenizer. Out: counts and token lengths, each remembered
until a setting or a file changes. Downloads nothing: rows on the hub that are not on this disk are
counted as unknown.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core.errors import DataError, DistillError, ModelError, Problem
from distill_core.estimate.sampled_rows import Sample, sampled
from distill_core.recipe import DataSettings, FileSource, HubSource, StarterSource

if TYPE_CHECKING:
    from distill_core.data.formats import Row
    from distill_core.data.sources import Prepared

UNKNOWN_ROWS = 10_000
"""Rows that a hub data set is taken to have before it is read."""
_SAMPLE = 64
_GUESSED_ANSWER_TOKENS = 24


@dataclass(frozen=True)
class DataFacts:
    """Counts of rows; `known` is False where the data is not on this disk yet."""

    rows: int
    labelled: int
    unlabelled: int
    held_out: int
    overlap: int = 0
    duplicates: int = 0
    """Rows, held-out ones among them, that ask what another asks already."""
    unanswered: int = 0
    """Rows without an answer in files and data sets where others have one."""
    other_form: bool = False
    """Whether held-out rows are plain texts and none to learn from is, or the other way round."""
    classes: Mapping[str, int] = field(default_factory=dict)
    """Of text_classification: training rows of each class."""
    held_out_classes: Mapping[str, int] = field(default_factory=dict)
    known: bool = True
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Lengths:
    """Tokens of a row: mean and longest of a sample, and how many of them are supervised."""

    mean: float
    longest: int
    prompt: float
    answer: float
    measured: bool = field(default=True)
    seen: tuple[int, ...] = ()
    """Tokens of each row of the sample, an answer included; empty where nothing was measured."""


def data_facts(data: DataSettings, task: str = "causal_lm") -> DataFacts:
    """Count a recipe's rows; what cannot be read is told in `problems`, nothing is raised."""
    return _facts(_of_rows(data), task, _Data(data), data_stamp(data))


def lengths(data: DataSettings, tokenizer_folder: Path | None, task: str = "causal_lm") -> Lengths:
    """Measure a sample of the rows; without tokenizer or rows, `max_seq_len` is the guess."""
    counted = data_facts(data, task)
    if tokenizer_folder is None or counted.problems or not counted.known:
        half = data.max_seq_len / 2
        return Lengths(half, data.max_seq_len, half / 2, half / 2, measured=False)
    return _lengths(data.model_dump_json(), task, _Data(data), data_stamp(data), tokenizer_folder)


def row_sample(
    data: DataSettings, tokenizer_folder: Path | None, task: str = "causal_lm"
) -> Sample | None:
    """A sample of the rows in tokens; None without tokenizer or rows.

    Raises:
        DataError: the model's chat template refuses a row.
        ModelError: the tokenizer cannot be loaded.
    """
    counted = data_facts(data, task)
    if tokenizer_folder is None or counted.problems or not counted.known:
        return None
    return _sampled(data.model_dump_json(), task, _Data(data), data_stamp(data), tokenizer_folder)


def training_rows(data: DataSettings, task: str = "causal_lm") -> Sequence[Row] | None:
    """The rows to learn from; None where they cannot be read, or are not on this disk yet."""
    counted = data_facts(data, task)
    if counted.problems or not counted.known:
        return None
    return _prepared(_of_rows(data), task, _Data(data), data_stamp(data)).train


def _of_rows(data: DataSettings) -> str:
    """What decides the rows: where they are cut does not."""
    return data.model_dump_json(exclude={"max_seq_len"})


class _Data:
    """Carries settings past a cache whose key is their text."""

    def __init__(self, data: DataSettings) -> None:
        self.settings = data

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Data)


@functools.lru_cache(maxsize=4)
def _prepared(key: str, task: str, data: _Data, stamp: tuple[Any, ...]) -> Prepared:
    from distill_core.data.sources import prepare

    return prepare(data.settings, seed=0, task=task)


@functools.lru_cache(maxsize=16)
def _facts(key: str, task: str, data: _Data, stamp: tuple[Any, ...]) -> DataFacts:
    settings = data.settings
    if _on_the_hub(settings) and _hub_answers():
        return _unknown(settings)
    try:
        prepared = _prepared(key, task, data, stamp)
    except DistillError as error:
        return DataFacts(0, 0, 0, 0, problems=_all_problems(settings, task, error))
    found = prepared.facts
    plain = {"text" in source["columns"] for source in found["sources"]}
    return DataFacts(
        rows=found["rows"],
        labelled=found["labelled"],
        unlabelled=found["unlabelled"],
        held_out=found["held_out"],
        overlap=found["overlap"],
        duplicates=found["duplicates"],
        unanswered=_unanswered(settings, found["sources"]),
        other_form=(prepared.held_out[0].text is not None) not in plain,
        classes=found.get("classes", {}),
        held_out_classes=found.get("held_out_classes", {}),
    )


@functools.lru_cache(maxsize=16)
def _lengths(key: str, task: str, data: _Data, stamp: tuple[Any, ...], folder: Path) -> Lengths:
    sample, limit = _sampled(key, task, data, stamp, folder), data.settings.max_seq_len
    rows = sample.rows
    answers = [row.answer for row in rows if row.answer]
    prompts = [row.kept - row.answer for row in rows]
    answer = sum(answers) / len(answers) if answers else float(_GUESSED_ANSWER_TOKENS)
    prompt = sum(prompts) / len(prompts)
    longest = max(prompts) + max(answers, default=_GUESSED_ANSWER_TOKENS)
    drawn = itertools.cycle(answers or [_GUESSED_ANSWER_TOKENS])
    # who has no answer will be given one
    seen = [row.kept + (0 if row.answer else next(drawn)) for row in rows]
    return Lengths(
        mean=min(limit, prompt + answer),
        longest=min(limit, longest),
        prompt=prompt,
        answer=answer,
        seen=tuple(min(limit, one) for one in seen),
    )


@functools.lru_cache(maxsize=16)
def _sampled(key: str, task: str, data: _Data, stamp: tuple[Any, ...], folder: Path) -> Sample:
    rows = _prepared(_of_rows(data.settings), task, data, stamp).train
    even = [*rows[:: max(1, math.ceil(len(rows) / _SAMPLE))]]
    more = itertools.islice((row for row in rows if row.labelled), _SAMPLE // 4)
    limit = data.settings.max_seq_len
    return sampled([*even, *more], _tokenizer(folder, _stamp(folder)), limit, even=len(even))


@functools.lru_cache(maxsize=4)
def _tokenizer(folder: Path, stamp: int) -> Any:
    from distill_core.models.weights import load_tokenizer

    return load_tokenizer(folder)


def _stamp(folder: Path) -> int:
    """When the newest of a folder's JSON files was written."""
    return max((file.stat().st_mtime_ns for file in folder.glob("*.json")), default=0)


def _all_problems(data: DataSettings, task: str, first: DistillError) -> tuple[Problem, ...]:
    """Every source that cannot be read, not only the first."""
    from distill_core.data.sources import load_source

    errors: list[DistillError] = []
    sources = [(f"data.sources.{place}", source) for place, source in enumerate(data.sources)]
    if not isinstance(data.held_out, float):
        sources.append(("data.held_out", data.held_out))
    for name, source in sources:
        try:
            load_source(data, source=source, field=name, task=task)
        except DistillError as error:
            errors.append(error)
    problems = [_problem(error) for error in errors or [first]]
    return tuple(dict.fromkeys(problems))


def _problem(error: DistillError) -> Problem:
    place = error.field if isinstance(error, DataError | ModelError) else "data.sources"
    message, _, fix = str(error).partition("\n")
    return Problem(severity="error", field=place, message=message, fix=fix)


def _unanswered(data: DataSettings, sources: Sequence[Mapping[str, Any]]) -> int:
    """Rows that lack what others of their source have; the starter's lack it by design."""
    return sum(
        found["unanswered"]
        for source, found in zip(data.sources, sources, strict=True)
        if not isinstance(source, StarterSource) and found["unanswered"] < found["rows"]
    )


def _unknown(data: DataSettings) -> DataFacts:
    """Count what can be counted without reading: limits, else a guess."""
    rows = sum(source.limit or UNKNOWN_ROWS for source in data.sources)
    share = data.held_out if isinstance(data.held_out, float) else None
    held_out = (
        round(rows * share) if share is not None else getattr(data.held_out, "limit", 0) or 1000
    )
    unlabelled = sum(
        source.limit or UNKNOWN_ROWS
        for source in data.sources
        if isinstance(source, StarterSource) and source.split == "unlabelled"
    )
    return DataFacts(rows, rows - unlabelled, unlabelled, held_out, known=False)


def _on_the_hub(data: DataSettings) -> bool:
    return any(isinstance(source, HubSource) for source in [*data.sources, data.held_out])


def _hub_answers() -> bool:
    from distill_core.data.hub import hub_answers

    return hub_answers()


def data_stamp(data: DataSettings) -> tuple[Any, ...]:
    """Changes when a file does, or when the hub begins or ceases to answer."""
    stamps = []
    for source in [*data.sources, data.held_out]:
        if isinstance(source, FileSource):
            try:
                seen = Path(source.path).expanduser().stat()
                stamps.append((seen.st_mtime_ns, seen.st_size))
            except OSError:
                stamps.append((0, 0))
    answers = _hub_answers() if _on_the_hub(data) else None
    return (*stamps, answers, str(Path.cwd()))
