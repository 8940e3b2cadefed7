"""Rules about the task: classes that can be told apart, and settings that only one task reads.

In: a recipe and what its rows are. Out: problems. Reads configurations, no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from distill_core.errors import DataError, ModelError, Problem
from distill_core.estimate.row_facts import DataFacts
from distill_core.estimate.shapes import classes, head_of_classes
from distill_core.models import model_facts
from distill_core.models.classifiers import check_teacher, fits, tasks_of
from distill_core.recipe import (
    PREVIOUS,
    CrossEntropyLoss,
    DistillStage,
    FineTuneStage,
    PretrainedStudent,
    Recipe,
    TeacherAnswerSettings,
)
from distill_core.recipe.plan import teacher_field

FEW_ROWS_OF_A_CLASS = 8
MANY_CLASSES = 200

_WRITERS_ONLY = {
    "prompt_template": "It frames prompts; a text is read as it is.",
    "system_prompt": "It opens conversations; a text is read as it is.",
}


def is_classification(recipe: Recipe) -> bool:
    """Whether the recipe's models tell classes apart."""
    return recipe.task == "text_classification"


def unclear_classes(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """Fewer than two classes, or rows of a class that is not among them."""
    if not is_classification(recipe) or data.problems or not data.known:
        return
    from distill_core.data.classes import settle_classes

    try:
        settle_classes(recipe.data, data.classes, data.held_out_classes, head_of_classes(recipe))
    except DataError as error:
        yield _error(error.field, error)


def teachers_of_other_classes(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """A teacher's logits must mean the classes of the rows, in their order."""
    labels = classes(recipe)
    if labels is None or data.problems or not data.known or any(unclear_classes(recipe, data)):
        return
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, DistillStage):
            continue
        for place, one in enumerate(stage.teachers):
            if one.model == PREVIOUS:
                continue
            field = teacher_field(index, stage, place)
            named = bool(recipe.data.classes)
            try:
                config = model_facts.config(one.model, field=field)
            except ModelError:
                continue  # told where its networks are looked at
            try:
                check_teacher(labels, config, named=named, name=one.model, field=field)
            except ModelError as error:
                yield _error(field, error)


def new_heads(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """A model that is trained, and whose own head does not tell these classes apart."""
    labels = classes(recipe)
    if labels is None or data.problems or not data.known:
        return
    for index, stage in enumerate(recipe.stages):
        own = stage.student.model if isinstance(stage.student, PretrainedStudent) else None
        name = own or (stage.model if isinstance(stage, FineTuneStage) else PREVIOUS)
        if name == PREVIOUS:
            continue
        try:
            config = model_facts.config(name)
        except ModelError:
            continue
        if recipe.task in tasks_of(config) and not fits(labels, config):
            yield Problem(
                severity="info",
                field=f"stages.{index}.student.model" if own else f"stages.{index}.model",
                message=f"{name} gets a new head for the {len(labels)} classes "
                f"{', '.join(labels[:6])}{', …' if len(labels) > 6 else ''}.",
                fix="Nothing to do; this stage trains it.",
            )


def few_rows_of_a_class(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """A class that is hardly ever seen is hardly ever learnt."""
    rare = [label for label, rows in data.classes.items() if rows < FEW_ROWS_OF_A_CLASS]
    if not rare or len(data.classes) > MANY_CLASSES:
        return
    more = f" and {len(rare) - 1} more" if len(rare) > 1 else ""
    rows = data.classes[rare[0]]
    yield Problem(
        severity="warning",
        field="data.sources",
        message=f"The class {rare[0]!r}{more} has only {rows} training row{'s' * (rows != 1)}.",
        fix="Add rows of it, or look at the macro-F1: accuracy hides rare classes.",
    )


def unscored_classes(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """A class that no held-out row has is never scored."""
    missing = [label for label in data.classes if not data.held_out_classes.get(label)]
    if not missing or len(data.classes) > MANY_CLASSES:
        return
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    yield Problem(
        severity="warning",
        field="data.held_out",
        message=f"The class {missing[0]!r}{more} has no held-out row: no score tells how well it "
        "is learnt.",
        fix="Hold out more rows, or a file that has rows of every class.",
    )


def many_classes(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """So many different labels are answers rather than classes."""
    if len(data.classes) > MANY_CLASSES:
        yield Problem(
            severity="warning",
            field="data.columns.label",
            message=f"The label column has {len(data.classes):,} different values in "
            f"{data.labelled:,} labelled rows: is it a class?",
            fix="Name the column that holds the class, or set task to causal_lm.",
        )


def settings_of_the_other_task(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """A setting that the task never reads would be a dead switch."""
    if not is_classification(recipe):
        if recipe.data.classes is not None:
            yield _unread("data.classes", "It names classes, and these models write text.")
        return
    for name, why in _WRITERS_ONLY.items():
        if getattr(recipe.data, name) is not None:
            yield _unread(f"data.{name}", why)
    if recipe.evaluation.metric != "auto":
        yield _unread("evaluation.metric", "Classes are judged by accuracy, macro-F1 beside it.")
    if "fine_tuned_on_teacher_text" in recipe.evaluation.baselines:
        why = "Teachers of classes write none."
        yield _unread("evaluation.baselines", f"fine_tuned_on_teacher_text is about text. {why}")
    for index, stage in enumerate(recipe.stages):
        if isinstance(stage, DistillStage) and stage.teacher_answers != TeacherAnswerSettings():
            yield _unread(
                f"stages.{index}.teacher_answers",
                "It is about answers in text; here the teacher scores every class of every row.",
            )
        if isinstance(stage, DistillStage) and stage.on_policy_fraction:
            yield _unread(f"stages.{index}.on_policy_fraction", "Students of classes write none.")
        if isinstance(stage, DistillStage):
            for place, loss in enumerate(stage.losses):
                if isinstance(loss, CrossEntropyLoss) and not loss.needs_labels:
                    field = f"stages.{index}.losses.{place}.targets"
                    yield _unread(field, "Teachers of classes write none.")


RULES: tuple[Callable[[Recipe, DataFacts], Iterator[Problem]], ...] = (
    unclear_classes,
    teachers_of_other_classes,
    new_heads,
    few_rows_of_a_class,
    unscored_classes,
    many_classes,
    settings_of_the_other_task,
)


def _unread(field: str, why: str) -> Problem:
    return Problem(
        severity="error",
        field=field,
        message=f"{field.rpartition('.')[2]} is not read by this task. {why}",
        fix="Leave it empty.",
    )


def _error(field: str, error: Exception) -> Problem:
    message, _, fix = str(error).partition("\n")
    return Problem(severity="error", field=field, message=message, fix=fix)
