"""A student's size before anything is built.

In: a teacher's name, a student's settings, perhaps its data. Out: its configuration, parameters,
and how it relates to its teacher, in numbers and words. Loads no weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distill_core.errors import ModelError
from distill_core.estimate.kept_tokens import kept_token_count
from distill_core.models import model_facts
from distill_core.recipe import (
    DataSettings,
    LayerDropStudent,
    PretrainedStudent,
    Student,
    WidthPruneStudent,
)

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def student_shape(
    source: PretrainedConfig, student: Student, *, vocabulary: int | None = None, field: str = ""
) -> PretrainedConfig:
    """The configuration of a student made from `source`.

    Args:
        source: of the teacher, or of the student's own model where it names one.
        student: its settings.
        vocabulary: how many tokens are left where it is trimmed; None for all, or not known.
        field: the student's place in the recipe, for errors.

    Raises:
        ModelError: if its sizes do not fit the architecture.
    """
    from distill_core.students.shape import student_config

    if vocabulary is not None:
        vocabulary = min(vocabulary, source.vocab_size)
    try:
        return student_config(source, student, vocabulary=vocabulary)
    except ModelError as error:
        place = f"{field}.{error.field or 'init'}" if field else ""
        raise ModelError(str(error), field=place) from None


def student_facts(
    teacher: str, student: Student, data: DataSettings | None = None, *, task: str = "causal_lm"
) -> dict[str, Any]:
    """Size a student (keys: `api.student_facts`); raises as `student_shape` does."""
    source = model_facts.config(teacher)
    own = student.model if isinstance(student, PretrainedStudent) else None
    start = model_facts.config(own) if own else source
    vocabulary = None
    if student.vocab_trim is not None and data is not None:
        vocabulary = kept_token_count(data, own or teacher, student.vocab_trim, task=task)
    shape = student_shape(start, student, vocabulary=vocabulary)
    count = model_facts.parameters(shape)
    words = [_kept_in_words(source, student)]
    if student.vocab_trim is not None:
        words.append(_tokens_in_words(vocabulary, start.vocab_size))
    return {
        "parameters": count,
        "bytes": count * model_facts.BYTES_PER_PARAMETER,
        "layers": shape.num_hidden_layers,
        "hidden_size": shape.hidden_size,
        "vocab_size": shape.vocab_size,
        "size_ratio": model_facts.parameters(source) / count,
        "layer_map": "; ".join(filter(None, words)),
    }


def _tokens_in_words(kept: int | None, of: int) -> str:
    if kept is None:
        return "a smaller vocabulary, counted once data and tokenizer are here"
    return f"vocabulary {min(kept, of):,} of {of:,}"


def _kept_in_words(source: PretrainedConfig, student: Student) -> str:
    """Which of the teacher's parts stay: "layers 1–6 of 30; 6 of 9 heads"; "" for none of it."""
    from distill_core.students.pruned_sizes import pruned_sizes, whole_sizes
    from distill_core.students.shape import layer_words

    if not isinstance(student, LayerDropStudent | WidthPruneStudent):
        return ""
    words = [layer_words(source.num_hidden_layers, student)]
    if isinstance(student, WidthPruneStudent):
        sizes, whole = pruned_sizes(source, student), whole_sizes(source)
        words += [
            f"{kept:,} of {of:,} {name}"
            for kept, of, name in (
                (sizes.heads, whole.heads, "heads"),
                (sizes.units, whole.units, "feed-forward units"),
                (sizes.hidden, whole.hidden, "dimensions"),
            )
            if kept < of
        ]
    return "; ".join(words)
