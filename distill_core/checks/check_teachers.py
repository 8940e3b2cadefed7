"""Rules about a stage's teachers: several of them, their number format, whom they judge.

In: a stage with its networks' configurations, and the recipe. Out: problems. Reads tokenizers, no
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from distill_core import device as machine
from distill_core.errors import Problem
from distill_core.estimate.shapes import StageShape
from distill_core.pair_doctor import ACROSS_TOKENIZERS, examine
from distill_core.pair_doctor.sides import tokenizer_of
from distill_core.recipe import DistillStage, Recipe, ScratchStudent, StudentAnswerSettings


def mixed_vocabularies(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """Probabilities can only be mixed where the same id means the same token."""
    if len(shape.teachers) < 2:
        return
    first = tokenizer_of(shape.teachers[0].name)
    for other in shape.teachers[1:]:
        theirs = tokenizer_of(other.name)
        if other.trimmed != shape.teachers[0].trimmed:
            yield Problem(
                severity="error",
                field=other.field,
                message="One of these teachers has only some of its tokens left, trimmed in the "
                "stage before, so their probabilities cannot be mixed.",
                fix="Trim in this stage only, or name one teacher.",
            )
            continue
        if first is None or theirs is None:
            continue
        if theirs.get_vocab() != first.get_vocab():
            shared = len(first.get_vocab().items() & theirs.get_vocab().items())
            yield Problem(
                severity="error",
                field=other.field,
                message=f"{other.name} and the first teacher have different tokenizers: {shared:,} "
                f"of {len(first):,} tokens have the same id, so their probabilities cannot be "
                "mixed.",
                fix="Choose teachers of one family, or learn from one after the other in stages.",
            )
        elif (theirs.chat_template or "") != (first.chat_template or ""):
            yield Problem(
                severity="warning",
                field=other.field,
                message=f"{other.name} has another chat template than the first teacher, and reads "
                "prompts in the first one's form.",
                fix="Its answers may suffer; a copy that was fine-tuned on the same form is safer.",
            )


def mixed_twice(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """One model with two shares is computed twice."""
    seen: set[str] = set()
    for teacher in shape.teachers:
        if teacher.name and teacher.name in seen:
            yield Problem(
                severity="warning",
                field=teacher.field,
                message=f"{teacher.name} is named twice in this mixture, and asked twice.",
                fix="Name it once, with the sum of the weights.",
            )
        seen.add(teacher.name)


def number_format(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """A number format that does not work on the device, or is of no use there."""
    from distill_core.teachers import precision

    stage = shape.stage
    if not isinstance(stage, DistillStage) or not machine.available(recipe.device):
        return
    field, device = f"{shape.field}.teacher_precision", machine.pick_device(recipe.device)
    chosen = precision.chosen(stage.teacher_precision, precision=recipe.precision, device=device)
    refused = precision.refusal(chosen, device)
    if refused is not None:
        yield Problem(severity="error", field=field, message=refused[0], fix=refused[1])
    elif stage.teacher_precision == "bf16" and not machine.has_bf16(device):
        yield Problem(
            severity="warning",
            field=field,
            message=f"{machine.device_name(device)} has no bf16 of its own: the teacher would take "
            "half the memory and more time.",
            fix="Choose auto or fp32, or int8 on a CPU.",
        )
    elif chosen == "int8" and device.type == "cpu":
        yield from _int8_here(field)


def _int8_here(field: str) -> Iterator[Problem]:
    """What int8 brings on this CPU, by a measurement of some milliseconds."""
    from distill_core.teachers.int8 import gain as measured

    gain = measured()
    if gain < 1:
        yield Problem(
            severity="warning",
            field=field,
            message=f"This CPU multiplies int8 at {gain:.2g} times the speed of fp32 (measured "
            "now): the teacher would be smaller, and slower.",
            fix="Choose auto, unless memory is what is lacking.",
        )
    elif machine.cpu_has_fast_bf16():
        yield Problem(
            severity="info",
            field=field,
            message="This CPU computes bf16 itself, which is about as fast as int8 and comes "
            "closer to the teacher's own numbers (README, Teachers).",
            fix="Choose bf16, unless memory is what is lacking.",
        )


def unseen_inside(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """A term that needs what the stage's teacher does not provide: a mixture has no one inside."""
    stage = shape.stage
    if not isinstance(stage, DistillStage):
        return
    from distill_core.losses.objective import needs_of
    from distill_core.teachers.mixture import PROVIDES

    provided = PROVIDES[len(stage.teachers) > 1]
    for place, loss in enumerate(stage.losses):
        lacking = sorted(needs_of(loss) - provided) if loss.is_active else []
        if lacking:
            yield Problem(
                severity="error",
                field=f"{shape.field}.losses.{place}",
                message=f"{loss.name} needs the teacher's {_words(lacking)}, and several teachers "
                "have none in common: only probabilities are mixed.",
                fix=f"Leave {loss.name} out, or name one teacher.",
            )


# --- the student's own answers ------------------------------------------------------------------


def nothing_judges(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """The student's own answers are never labels: only a comparison can judge them."""
    stage = shape.stage
    if not isinstance(stage, DistillStage) or not stage.on_policy_fraction:
        return
    field = f"{shape.field}.on_policy_fraction"
    active = [loss for loss in stage.losses if loss.is_active]
    idle = [loss.name for loss in active if not loss.asks_teacher]
    if active and len(idle) == len(active):
        yield Problem(
            severity="error",
            field=field,
            message=f"{idle[0]} alone cannot judge what the student writes: its own answers are "
            "no labels.",
            fix="Add reverse_kl or jsd, which compare with the teacher, or set this to 0.",
        )
    elif idle and stage.on_policy_fraction == 1:
        yield Problem(
            severity="warning",
            field=field,
            message=f"The student writes every step's answers, and none of them is a label: "
            f"{idle[0]} stays empty.",
            fix=f"Lower it, such as 0.25, or leave {idle[0]} out.",
        )


def read_otherwise(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """The ids that the student writes must be the same text to its teacher."""
    stage = shape.stage
    if not isinstance(stage, DistillStage) or not stage.on_policy_fraction:
        return
    from distill_core.data.alignment import reads_alike

    report = examine(shape)
    why = ""
    if any(loss.name == ACROSS_TOKENIZERS and loss.is_active for loss in stage.losses):
        why = f"{ACROSS_TOKENIZERS} is made for two tokenizers"
    elif (
        report is not None
        and report.match is not None
        and not reads_alike(report.student.tokenizer, report.teacher.tokenizer)
    ):
        why = "these have different tokenizers or chat templates"
    if why:
        yield Problem(
            severity="error",
            field=f"{shape.field}.on_policy_fraction",
            message="The teacher can judge what the student writes only where both read the same "
            f"ids, and {why}.",
            fix="Set it to 0, or choose a student of the same family and compare token by token.",
        )


def cannot_write_yet(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """Random weights write noise, and the teacher's opinion of noise teaches little."""
    stage = shape.stage
    if not isinstance(stage, DistillStage) or not stage.on_policy_fraction:
        return
    if isinstance(stage.student, ScratchStudent):
        yield Problem(
            severity="warning",
            field=f"{shape.field}.on_policy_fraction",
            message="A student of random weights writes noise at first, and the teacher judges "
            "noise.",
            fix="Distil it on the data in a stage before, then continue it as `previous` here "
            "(arXiv 2306.13649 begins with students that can write).",
        )


def never_written(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """Settings of answers that the student is never asked for."""
    stage = shape.stage
    if not isinstance(stage, DistillStage) or stage.on_policy_fraction:
        return
    if stage.student_answers != StudentAnswerSettings():
        yield Problem(
            severity="warning",
            field=f"{shape.field}.student_answers",
            message="on_policy_fraction is 0, so the student is never asked to answer.",
            fix="Set on_policy_fraction to 0.25, say, or leave student_answers out.",
        )


RULES: tuple[Callable[[StageShape, Recipe], Iterator[Problem]], ...] = (
    mixed_vocabularies,
    mixed_twice,
    number_format,
    unseen_inside,
    nothing_judges,
    read_otherwise,
    cannot_write_yet,
    never_written,
)


def _words(names: list[str]) -> str:
    return " and ".join(name.replace("_", " ") for name in names)
