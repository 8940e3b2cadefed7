"""A student's size before anything is built.

In: a teacher's name and a student's settings. Out: its configuration, parameters, and how it
relates to its teacher, in numbers and words. Loads no weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distill_core.errors import ModelError
from distill_core.models import model_facts
from distill_core.recipe import LayerDropStudent, PretrainedStudent, Student, WidthPruneStudent

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def student_shape(
    source: PretrainedConfig, student: Student, *, field: str = ""
) -> PretrainedConfig:
    """The configuration of a student made from `source`; `field` is the student's in the recipe.

    Raises:
        ModelError: if its sizes do not fit the architecture, or its model cannot be found.
    """
    from distill_core.students.shape import student_config

    if isinstance(student, PretrainedStudent) and student.model:
        return model_facts.config(student.model, field=f"{field}.model" if field else "")
    try:
        return student_config(source, student)
    except ModelError as error:
        place = f"{field}.{error.field or 'init'}" if field else ""
        raise ModelError(str(error), field=place) from None


def student_facts(teacher: str, student: Student) -> dict[str, Any]:
    """Size a student (keys: `api.student_facts`); raises as `student_shape` does."""
    source = model_facts.config(teacher)
    shape = student_shape(source, student)
    count = model_facts.parameters(shape)
    return {
        "parameters": count,
        "bytes": count * model_facts.BYTES_PER_PARAMETER,
        "layers": shape.num_hidden_layers,
        "hidden_size": shape.hidden_size,
        "size_ratio": model_facts.parameters(source) / count,
        "layer_map": _kept_in_words(source, student),
    }


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
