"""Rules about the rows: are there labels where they are needed, and enough, and fit, to score on.

In: a recipe and the counts of its rows. Out: problems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from distill_core.errors import Problem
from distill_core.estimate.row_facts import DataFacts
from distill_core.recipe import (
    DistillStage,
    Recipe,
    StarterSource,
    StudentAnswerSettings,
    TeacherAnswerSettings,
)
from distill_core.recipe.plan import cast, plan

FEW_HELD_OUT = 200
"""Below it scores are too rough to decide on (Miller 2024, arXiv 2411.00640)."""

FEW_REPEATED = 0.01
MANY_REPEATED = 0.5
"""Shares of rows that repeat a prompt: below the first not told, from the second on a warning."""

_ROOM_FOR_PROMPT = 16


def fine_tune_without_labels(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """Fine-tuning learns from labels alone."""
    if not _has_no_labels(data):
        return
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, DistillStage):
            yield Problem(
                severity="error",
                field="data.sources",
                message=f"Stage {index + 1} fine-tunes on labels, and none of the {data.rows:,} "
                "rows has an answer.",
                fix="Add labelled rows, name the response column, or distil instead.",
            )


def hard_labels_without_labels(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """Hard labels are never asked of rows that have none."""
    if not _has_no_labels(data):
        return
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, DistillStage):
            continue
        alone = all(loss.needs_labels for loss in stage.losses if loss.is_active)
        for place, loss in enumerate(stage.losses):
            if loss.needs_labels and loss.is_active:
                yield Problem(
                    severity="error" if alone else "warning",
                    field=f"stages.{index}.losses.{place}",
                    message=f"{loss.name} needs labels, and none of the {data.rows:,} rows has an "
                    f"answer{'' if alone else ', so this term will stay empty'}.",
                    fix="Add labelled rows, or use forward_kl alone.",
                )


def labels_put_aside(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """Where the teacher answers every row, none of them has a label any more."""
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, DistillStage) or stage.teacher_answers.rows != "all":
            continue
        if recipe.data.columns.text:
            continue
        alone = all(loss.needs_labels for loss in stage.losses if loss.is_active)
        for place, loss in enumerate(stage.losses):
            if loss.needs_labels and loss.is_active:
                yield Problem(
                    severity="error" if alone else "warning",
                    field=f"stages.{index}.losses.{place}",
                    message="teacher_answers.rows is all, so the teacher's answers take the place "
                    f"of the labels, and {loss.name} has none to learn from.",
                    fix="Set its targets to labels_and_teacher_text, leave it out, or set "
                    "teacher_answers.rows to unlabelled.",
                )


def baseline_without_labels(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """This baseline is the same student on labels."""
    if _has_no_labels(data) and "fine_tuned_on_labels" in recipe.evaluation.baselines:
        yield Problem(
            severity="error",
            field="evaluation.baselines",
            message="fine_tuned_on_labels needs labelled rows, and there are none.",
            fix="Leave the baseline out, or add labelled rows.",
        )


def baseline_without_teacher(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """This baseline is the same student on its teacher's text."""
    wanted = "fine_tuned_on_teacher_text" in recipe.evaluation.baselines
    if wanted and cast(plan(recipe, labelled=1, unlabelled=0)).taught_in is None:
        yield Problem(
            severity="error",
            field="evaluation.baselines",
            message="fine_tuned_on_teacher_text needs a teacher, and no stage teaches the student.",
            fix="Leave the baseline out, or add a distil stage.",
        )


def few_held_out(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """Too few rows to tell two models apart."""
    if data.problems or not data.known:
        return
    scored = min(data.held_out, recipe.evaluation.final_rows)
    if scored < FEW_HELD_OUT:
        half_width = 100 * 1.96 * (0.9 * 0.1 / max(1, scored)) ** 0.5
        yield Problem(
            severity="warning",
            field="data.held_out" if data.held_out < FEW_HELD_OUT else "evaluation.final_rows",
            message=f"Only {scored} rows are scored at the end: a score of 90 % would be known "
            f"to ±{half_width:.0f} points.",
            fix=f"Hold out {FEW_HELD_OUT}–600 labelled rows (arXiv 2411.00640).",
        )


def overlap(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """Rows to learn from that are also scored on."""
    if data.overlap:
        rows = "1 training row asks" if data.overlap == 1 else f"{data.overlap:,} training rows ask"
        yield Problem(
            severity="warning",
            field="data.held_out",
            message=f"{rows} what a held-out row asks too; they are left out of training, so "
            "that scores stay honest.",
            fix="Nothing to do; remove them from the file to be rid of this.",
        )


def held_out_from_elsewhere(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """Scores tell of the rows they were taken on."""
    aside = recipe.data.held_out
    if isinstance(aside, float):
        return
    built_in = isinstance(aside, StarterSource)
    learnt = {isinstance(source, StarterSource) for source in recipe.data.sources}
    if built_in not in learnt:
        yield Problem(
            severity="warning",
            field="data.held_out",
            message="The held-out rows are the starter's, and none of those to learn from is: "
            "scores would say nothing of what your rows teach."
            if built_in
            else "All rows to learn from are the starter's, and the held-out ones are not: scores "
            "would say nothing of what the starter's teach.",
            fix="Set held_out to 0.1, which keeps that share of your own rows aside, or name a "
            "file of rows like them."
            if built_in
            else "Add rows like the held-out ones to data.sources, or hold out the starter's "
            "split held_out.",
        )
    elif data.other_form and recipe.task == "causal_lm":
        yield Problem(
            severity="warning",
            field="data.held_out",
            message="Either the held-out rows or those to learn from are plain texts, and the "
            "others are questions with answers: scores would be of another task.",
            fix="Hold out rows of the same kind; held_out: 0.1 keeps that share of your own rows "
            "aside.",
        )


def repeated_rows(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """Rows that ask the same weigh more than others."""
    in_sources = data.rows + data.overlap
    in_sources += data.held_out if isinstance(recipe.data.held_out, float) else 0
    share = data.duplicates / max(1, in_sources)
    if share >= FEW_REPEATED:
        same = "ask" if recipe.task == "causal_lm" else "say"
        yield Problem(
            severity="warning" if share >= MANY_REPEATED else "info",
            field="data.sources",
            message=f"{data.duplicates:,} of {in_sources:,} rows {same} what another row {same}s "
            "already: what is repeated weighs more than the rest.",
            fix="Nothing to do if they answer it differently on purpose; else remove them from "
            "the file.",
        )


def missing_answers(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """An empty cell makes a row unlabelled, which may not be meant."""
    if not data.unanswered:
        return
    taught = any(isinstance(stage, DistillStage) for stage in recipe.stages)
    lacks = "answer" if recipe.task == "causal_lm" else "class"
    rows = "1 row has" if data.unanswered == 1 else f"{data.unanswered:,} rows have"
    yield Problem(
        severity="info" if taught else "warning",
        field="data.sources",
        message=f"{rows} no {lacks} where others have one: "
        + ("unlabelled, for a teacher alone." if taught else "fine-tuning leaves them out."),
        fix="Nothing to do if that is meant; else fill them in."
        if taught
        else "Fill them in, or distil: a teacher can judge rows that have none.",
    )


def no_room_for_prompts(recipe: Recipe, data: DataFacts) -> Iterator[Problem]:
    """Whoever may answer at such length sees little of the question."""
    if recipe.task != "causal_lm":
        return
    longest = recipe.data.max_seq_len
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, DistillStage) or data.problems:
            continue
        asked: dict[str, TeacherAnswerSettings | StudentAnswerSettings] = {}
        if data.unlabelled or stage.teacher_answers.rows != "unlabelled":
            asked["teacher_answers"] = stage.teacher_answers
        if stage.on_policy_fraction:
            asked["student_answers"] = stage.student_answers
        for name, settings in asked.items():
            answers = settings.max_new_tokens
            if longest - answers >= _ROOM_FOR_PROMPT:
                continue
            yield Problem(
                severity="warning",
                field=f"stages.{index}.{name}.max_new_tokens",
                message=f"Answers of up to {answers} tokens leave {max(1, longest - answers)} of "
                f"max_seq_len {longest} for the prompt, which is cut to that.",
                fix="Lower it, or raise data.max_seq_len.",
            )


RULES: tuple[Callable[[Recipe, DataFacts], Iterator[Problem]], ...] = (
    fine_tune_without_labels,
    hard_labels_without_labels,
    labels_put_aside,
    baseline_without_labels,
    baseline_without_teacher,
    few_held_out,
    overlap,
    held_out_from_elsewhere,
    repeated_rows,
    missing_answers,
    no_room_for_prompts,
)


def _has_no_labels(data: DataFacts) -> bool:
    return not data.problems and data.known and data.labelled == 0
