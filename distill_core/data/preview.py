"""One training row as the model will see it.

In: a recipe and a row's number. Out: its tokens, each marked as supervised or not, and the facts of
the data (shape: `api.preview`). Downloads nothing and loads no weights.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from distill_core import models
from distill_core.data.classes import TextRow, encode_text
from distill_core.data.formats import Row
from distill_core.data.sources import Prepared, prepare
from distill_core.data.tokenize import IGNORE_INDEX, encode
from distill_core.recipe import (
    PREVIOUS,
    DataSettings,
    DistillStage,
    FileSource,
    PretrainedStudent,
    Recipe,
)
from distill_core.recipe.plan import teacher_field


def preview(recipe: Recipe, *, index: int = 0) -> dict[str, Any]:
    """Show row `index` (counted from 0; larger ones wrap); raises `DataError`, `ModelError`."""
    data = _prepared(recipe)
    row = data.train[index % len(data.train)]
    shown = {
        "facts": data.facts,
        "index": index % len(data.train),
        "rows": len(data.train),
        "origin": row.origin,
        "labelled": row.labelled,
        "label": row.label if isinstance(row, TextRow) else None,
        "truncated": False,
    }
    stage = recipe.stages[0]
    name, field = getattr(stage, "model", ""), "stages.0.model"
    if isinstance(stage, DistillStage):
        name, field = stage.teachers[0].model, teacher_field(0, stage, 0)
    if isinstance(stage.student, PretrainedStudent) and stage.student.model:
        # it reads rows with its own tokenizer
        name, field = stage.student.model, "stages.0.student.model"
    folder = None
    if name != PREVIOUS:
        folder = models.local_folder(name, field=field)
    if folder is None:
        note = f"These are words; tokens are shown once {name} is on this machine."
        return shown | {"tokens": _words(row), "supervised_tokens": None, "note": note}
    tokenizer = _tokenizer(folder)
    if isinstance(row, TextRow):
        return shown | _text_tokens(row, tokenizer, recipe.data.max_seq_len)
    encoded = encode(row, tokenizer, recipe.data.max_seq_len)
    tokens = [
        {"text": tokenizer.decode([token]), "supervised": label != IGNORE_INDEX}
        for token, label in zip(encoded.input_ids, encoded.labels, strict=True)
    ]
    return shown | {
        "tokens": tokens,
        "supervised_tokens": encoded.supervised_tokens,
        "truncated": encoded.truncated,
        "note": "" if row.labelled else "No label: the teacher answers this row before training.",
    }


def _text_tokens(row: TextRow, tokenizer: Any, max_seq_len: int) -> dict[str, Any]:
    """A text as its model reads it; what is learnt is one class for the whole of it."""
    encoded = encode_text(row, tokenizer, max_seq_len, [row.label] if row.label else [])
    return {
        "tokens": [
            {"text": tokenizer.decode([token]), "supervised": False} for token in encoded.input_ids
        ],
        "supervised_tokens": 0,
        "truncated": encoded.truncated,
        "note": "" if row.labelled else "No label: only the teacher's opinion is learnt here.",
    }


def _words(row: Row) -> list[dict[str, Any]]:
    if isinstance(row, TextRow):
        texts = [part for part in (row.text, row.text_pair) if part is not None]
        return [{"text": f"{part}\n", "supervised": False} for part in texts]
    parts = [(message["content"], False) for message in row.prompt_messages]
    parts += [(row.response, True)] if row.response else []
    parts += [(row.text, True)] if row.text else []
    return [{"text": f"{text}\n", "supervised": supervised} for text, supervised in parts]


def _prepared(recipe: Recipe) -> Prepared:
    """The recipe's rows, remembered while settings and files stay the same."""
    sources = [*recipe.data.sources, recipe.data.held_out]
    paths = [Path(source.path) for source in sources if isinstance(source, FileSource)]
    stamps = tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)
    return _prepare_once(recipe.data.model_dump_json(), recipe.seed, recipe.task, stamps)


@functools.lru_cache(maxsize=4)
def _prepare_once(data: str, seed: int, task: str, stamps: tuple[int, ...]) -> Prepared:
    return prepare(DataSettings.model_validate_json(data), seed=seed, task=task)


@functools.lru_cache(maxsize=4)
def _tokenizer(folder: Path) -> Any:
    return models.load_tokenizer(folder)
