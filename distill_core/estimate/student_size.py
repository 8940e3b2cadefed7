"""A student's size before anything is built.

In: a teacher's name and a student's settings. Out: its configuration, parameters, and how it
relates to its teacher, in numbers and words. Loads no weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distill_core.models import model_facts
from distill_core.recipe import LayerDropStudent, PretrainedStudent, Student

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def student_shape(
    source: PretrainedConfig, student: Student, *, field: str = ""
) -> PretrainedConfig:
    """The configuration of a student made from `source`.

    Raises:
        ModelError: if its sizes do not fit the architecture, or its model cannot be found.
    """
    from distill_core.students.shape import student_config

    if isinstance(student, PretrainedStudent) and student.model:
        return model_facts.config(student.model, field=field)
    return student_config(source, student)


def student_facts(teacher: str, student: Student) -> dict[str, Any]:
    """Size a student (keys: `api.student_facts`); raises as `student_shape` does."""
    from distill_core.students.shape import layer_words

    source = model_facts.config(teacher)
    shape = student_shape(source, student)
    count = model_facts.parameters(shape)
    layers = source.num_hidden_layers
    return {
        "parameters": count,
        "bytes": count * model_facts.BYTES_PER_PARAMETER,
        "layers": shape.num_hidden_layers,
        "hidden_size": shape.hidden_size,
        "size_ratio": model_facts.parameters(source) / count,
        "layer_map": layer_words(layers, student) if isinstance(student, LayerDropStudent) else "",
    }
