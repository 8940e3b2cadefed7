"""Which layer of the student learns from which layer of the teacher.

In: both depths, and what the recipe or the student's start says. Out: pairs counted from 1, and
the same in words. Knows nothing of losses, builds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from distill_core.errors import ModelError


def layer_pairs(
    student_layers: int,
    teacher_layers: int,
    *,
    layers: str = "all",
    layer_map: str | None = None,
    kept: Sequence[int] | None = None,
) -> list[tuple[int, int]]:
    """(student's layer, teacher's layer), counted from 1, ascending by student layer.

    An explicit `layer_map` such as "1:2, 2:4" is taken as it is. Otherwise the last layer always
    learns from the last; with `layers` "all", the others from the teacher's layer that they were
    copied from (`kept`, counted from 0), or else from evenly spaced ones.

    Raises:
        ModelError: if the map names a layer that is not there.
    """
    if layer_map:
        pairs = [tuple(map(int, pair.split(":"))) for pair in layer_map.split(",")]
        for student, teacher in pairs:
            for who, number, depth in (
                ("student", student, student_layers),
                ("teacher", teacher, teacher_layers),
            ):
                if not 1 <= number <= depth:
                    raise ModelError(
                        f"layer_map {layer_map!r} names layer {number} of the {who}, which has "
                        f"layers 1 to {depth}.\nName layers that are there, or leave it empty."
                    )
        return sorted((student, teacher) for student, teacher in pairs)
    last = (student_layers, teacher_layers)
    if layers == "last":
        return [last]
    if kept is not None:
        return [(place, layer + 1) for place, layer in enumerate(kept[:-1], 1)] + [last]
    ratio = teacher_layers / student_layers
    return [(layer, max(1, round(layer * ratio))) for layer in range(1, student_layers)] + [last]


def pair_words(pairs: Sequence[tuple[int, int]]) -> str:
    """Say the pairs: "student layer 1 learns from teacher layer 2, 2 from 4, 3 from 5"."""
    first, *rest = pairs
    words = [f"student layer {first[0]} learns from teacher layer {first[1]}"]
    return ", ".join(words + [f"{student} from {teacher}" for student, teacher in rest])
