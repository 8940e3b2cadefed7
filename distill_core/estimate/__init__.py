"""A run's memory and time, before anything is loaded.

In: a recipe, and perhaps what earlier runs on this machine have measured. Out: bytes by part (at
the highest stage), seconds as a range and what they rest on, disk and downloads. Loads no weights,
downloads nothing; `memory_need.py` and `time_need.py` hold the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distill_core import device as machine
from distill_core.errors import RecipeError
from distill_core.estimate import cache_need, fitted, memory_need, savings, time_need, weights_need
from distill_core.estimate.row_facts import DataFacts, Lengths, data_facts, lengths
from distill_core.estimate.shapes import StageShape, stage_shapes, tokenizer_folder
from distill_core.estimate.time_need import FORMULA_RANGE, MEASURED_RANGE, Speed
from distill_core.estimate.weights_need import Networks
from distill_core.models import model_facts
from distill_core.recipe import DistillStage, Recipe
from distill_core.recipe.plan import PlannedStage, named_models, plan, student_origin

SHOTS_PER_STAGE = 10
"""How often a stage is scored where the recipe does not say."""

_BYTES_PER_ANSWER = 300


def estimate(
    recipe: Recipe,
    *,
    history: Sequence[Mapping[str, Any]] = (),
    dry: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Forecast memory and time (keys: `api.estimate`).

    Args:
        recipe: what would be run.
        history: speeds of earlier runs, newest first, as `past_speeds.past_speeds` gives them.
        dry: what dry steps of this recipe have measured, as `dry_process.dry_steps` gives it.

    Raises:
        RecipeError: if a model or size is wrong, so that nothing can be counted.
    """
    work = Work(recipe, dry)
    memory = work.memory()
    total = sum(memory.values())
    available = machine.usable_memory(work.device)
    seconds, measured = work.seconds(history)
    basis = "measured on an earlier run" if measured else "formula"
    basis = "measured by a dry step" if dry else basis
    return {
        "memory_bytes": memory,
        "total_memory_bytes": total,
        "available_memory_bytes": available,
        "fits": total <= available,
        "memory_basis": "measured by a dry step" if dry else "formula",
        "savings": [] if total <= available else savings.savings(work),
        "time_s": seconds,
        "time_parts": time_need.parts(work.stages, answers=any(map(work.answers, work.stages))),
        "training_s": round(work.training_s(history), 2),
        "time_basis": basis + work.assumption(),
        "steps": sum(stage.total_steps for stage in work.stages if not stage.baseline),
        "download_bytes": work.download_bytes(),
        "disk_bytes": work.disk_bytes(),
        "caches": [one.as_dict() for one in work.caches()],
    }


class Work:
    """A recipe with all that the formulas need; raises `RecipeError` where it cannot be counted."""

    def __init__(self, recipe: Recipe, dry: Mapping[str, Any] | None = None) -> None:
        self.recipe = recipe
        self.dry = {one["stage"]: one for one in dry["stages"]} if dry else {}
        self.shapes = stage_shapes(recipe)
        problems = [problem for shape in self.shapes for problem in shape.problems]
        if problems:
            raise RecipeError(problems)
        wanted = recipe.device if machine.available(recipe.device) else "auto"
        self.device = machine.pick_device(wanted)
        self.bf16 = machine.dtype_name(machine.pick_dtype(recipe.precision, self.device)) == "bf16"
        self.data: DataFacts = data_facts(recipe.data, recipe.task)
        self.stages: list[PlannedStage] = plan(
            recipe, labelled=max(1, self.data.labelled), unlabelled=self.data.unlabelled
        )

    def networks(self, stage: PlannedStage) -> Networks:
        """Who is in memory while the stage is trained."""
        shape = self._shape(stage)
        assert shape.student is not None  # problems were raised before
        from distill_core.teachers import precision

        settings = stage.settings
        if not isinstance(settings, DistillStage) or not stage.uses_unlabelled:
            return Networks(None, shape.student)
        others = [one.config for one in shape.teachers[1:] if one.config is not None]
        chosen = precision.chosen(
            settings.teacher_precision, precision=self.recipe.precision, device=self.device
        )
        return Networks(shape.source, shape.student, tuple(others), chosen)

    def answers(self, stage: PlannedStage) -> int:
        """How many answers the teacher writes before the stage is trained."""
        settings = stage.settings
        if not isinstance(settings, DistillStage) or not stage.uses_unlabelled:
            return 0
        asked = self.data.unlabelled
        if settings.teacher_answers.rows == "all":
            asked += self.data.labelled
        return asked * settings.teacher_answers.best_of

    def rows(self, stage: PlannedStage) -> Lengths:
        """Lengths of the rows, by the tokenizer of the stage's student."""
        folder = tokenizer_folder(self._shape(stage).student_name)
        return lengths(self.recipe.data, folder, self.recipe.task)

    def memory(self) -> dict[str, int]:
        """Bytes by part of the stage that needs most."""
        return max(self._stage_needs(), key=lambda need: sum(need.values()))

    def heaviest(self) -> int:
        """Index, in the recipe, of the stage that needs most memory."""
        needs = [sum(need.values()) for need in self._stage_needs()]
        return min(needs.index(max(needs)), len(self.recipe.stages) - 1)

    def _stage_needs(self) -> list[dict[str, int]]:
        stages = self.stages
        if self.dry:  # a baseline trains the same student, and nobody beside it
            stages = [stage for stage in stages if not stage.baseline]
        return [memory_need.highest(self.moments(stage)) for stage in stages]

    def moments(self, stage: PlannedStage) -> fitted.Moments:
        """Bytes by part at each moment of a stage; fitted where dry steps have been taken."""
        formula = self.formula(stage)
        if stage.baseline or stage.index not in self.dry:
            return formula
        networks = self.networks(stage)
        group = memory_need.group_of(stage, networks, self.rows(stage), device=self.device.type)
        weights = model_facts.parameters(networks.student) * 4
        return fitted.fitted(
            formula,
            self.dry[stage.index],
            tokens=group.tokens,
            weights=weights + formula["training"]["teacher"],
            on_cpu=self.device.type == "cpu",
        )

    def formula(self, stage: PlannedStage) -> fitted.Moments:
        """The same by sizes alone."""
        return memory_need.moments(
            stage,
            self.networks(stage),
            self.rows(stage),
            device=self.device.type,
            bf16=self.bf16,
            max_new_tokens=self.recipe.evaluation.max_new_tokens,
            answers=self.answers(stage),
        )

    def seconds(self, history: Sequence[Mapping[str, Any]]) -> tuple[list[float], bool]:
        """Lowest and highest seconds, and whether every stage's speed was measured before."""
        speed = self._speed()
        other = self._final_scores(speed)
        for stage in self.stages:
            other += self._around(stage, self.networks(stage), self.rows(stage), speed)
        found = self._trainings(history)
        low = high = sum(one["start_s"] for one in self.dry.values())
        for formula, known in found:
            share = FORMULA_RANGE if known is None else MEASURED_RANGE
            seconds = formula if known is None else known
            low, high = low + share[0] * seconds, high + share[1] * seconds
        measured = all(known is not None for _, known in found)
        ratios = [known / formula for formula, known in found if known is not None]
        if measured:
            other *= sum(ratios) / len(ratios)
        share = MEASURED_RANGE if measured else FORMULA_RANGE
        low, high = low + share[0] * other, high + share[1] * other
        return [round(low, 1), round(high, 1)], measured

    def training_s(self, history: Sequence[Mapping[str, Any]]) -> float:
        """Seconds of all optimiser steps: measured where they were, else by the formula."""
        found = self._trainings(history)
        return sum(formula if known is None else known for formula, known in found)

    def _trainings(self, history: Sequence[Mapping[str, Any]]) -> list[tuple[float, float | None]]:
        """Seconds of each stage's steps: by the formula, and by a speed measured before.

        Where dry steps were taken, baselines, of which there are none, are reckoned from them.
        """
        speed = self._speed()
        precision = "bf16" if self.bf16 else "fp32"
        keys = time_need.stage_keys(self.stages, device=self.device.type, precision=precision)
        dry = [
            {**self.dry[stage.index], "stage": key}
            for stage, key in zip(self.stages, keys, strict=True)
            if not stage.baseline and stage.index in self.dry
        ]
        found: list[tuple[float, float | None]] = []
        for stage, key in zip(self.stages, keys, strict=True):
            networks, rows = self.networks(stage), self.rows(stage)
            formula = time_need.training_s(stage, networks, rows, speed)
            found.append((formula, time_need.measured_s(stage, rows, key, [*dry, *history])))
        if dry:
            ratios = [known / formula for formula, known in found if known is not None]
            share = sum(ratios) / len(ratios)
            found = [(one, one * share if known is None else known) for one, known in found]
        return found

    def _speed(self) -> Speed:
        import torch

        dtype = torch.bfloat16 if self.bf16 else torch.float32
        return Speed(machine.matmul_flops_per_s(self.device, dtype), self.device.type)

    def assumption(self) -> str:
        """What was taken for granted, in words; empty when all rows were counted."""
        if self.data.problems:
            return "; the data cannot be read yet"
        if not self.data.known:
            return f"; assumes {self.data.rows:,} rows, since the data set is not on this disk yet"
        return ""

    def download_bytes(self) -> int:
        """Bytes of models that have to be fetched first."""
        return sum(model_facts.facts(name)["download_bytes"] for name in named_models(self.recipe))

    def disk_bytes(self) -> int:
        """Bytes on disk at the most: models of all stages, checkpoints of one, downloads."""
        saved = checkpoints = 0
        for stage in self.stages:
            student = self.networks(stage).student
            saved += model_facts.parameters(student) * model_facts.BYTES_PER_PARAMETER
            trained = weights_need.trained_parameters(student, stage.settings.adapter)
            checkpoints = max(checkpoints, (self.recipe.checkpoints.keep + 1) * 12 * trained)
        answers = sum(
            self.answers(stage) // stage.settings.teacher_answers.best_of
            for stage in self.stages
            if isinstance(stage.settings, DistillStage)
        )
        answers *= _BYTES_PER_ANSWER
        caches = sum(one.bytes for one in self.caches())
        return saved + checkpoints + answers + caches + self.download_bytes()

    def caches(self) -> list[cache_need.CacheNeed]:
        """What is kept of teachers, stage by stage; the same teacher's twice counts twice."""
        needs = (
            cache_need.cache_need(stage, self.networks(stage), self.rows(stage))
            for stage in self.stages
        )
        return [need for need in needs if need is not None]

    def _shape(self, stage: PlannedStage) -> StageShape:
        """A baseline trains the network of the stage that its student comes from."""
        return self.shapes[student_origin(self.stages)[2] if stage.baseline else stage.index]

    def _around(
        self, stage: PlannedStage, networks: Networks, rows: Lengths, speed: Speed
    ) -> float:
        """Seconds of a stage beside its training: answers first, then scores on the way."""
        seconds = 0.0
        settings = stage.settings
        if networks.teacher is not None and isinstance(settings, DistillStage):
            seconds += time_need.asking_s(
                networks, rows, speed, count=self.answers(stage), settings=settings.teacher_answers
            )
            if stage.keeps_teacher:
                count = cache_need.rows_asked(stage)
                seconds += time_need.reading_s(networks, rows, speed, count=count)
        if stage.text_of is not None:  # all rows in the teacher's words: those with labels, too
            taught = self.stages[stage.text_of]
            assert isinstance(taught.settings, DistillStage), "only teachers write text"
            answered = taught.settings.teacher_answers
            count = 0 if answered.rows == "all" else self.data.labelled * answered.best_of
            seconds += time_need.asking_s(
                self.networks(taught), rows, speed, count=count, settings=answered
            )
        every = self.recipe.evaluation.every_steps
        shots = 1 + (stage.total_steps // every if every else SHOTS_PER_STAGE)
        count = min(self.recipe.evaluation.rows, max(1, self.data.held_out))
        return seconds + shots * self._score(networks.student, rows, speed, count)

    def _final_scores(self, speed: Speed) -> float:
        """Seconds of the last evaluation: every member answers every held-out row."""
        last = self.shapes[-1]
        rows = lengths(self.recipe.data, tokenizer_folder(last.student_name), self.recipe.task)
        several = [one.config for one in last.teachers if len(last.teachers) > 1]
        # the mixture asks each of several teachers, and then each one answers for itself
        members = [*(several * 2 or [last.source]), last.student, last.student]
        members += [last.student] * len(self.recipe.evaluation.baselines)
        count = min(self.recipe.evaluation.final_rows, max(1, self.data.held_out))
        return sum(self._score(shape, rows, speed, count) for shape in members)

    def _score(self, shape: Any, rows: Lengths, speed: Speed, count: int) -> float:
        longest = self.recipe.evaluation.max_new_tokens
        answers = time_need.answering_s(shape, rows, speed, count=count, max_new_tokens=longest)
        return answers + time_need.scoring_s(shape, rows, speed, count=count)
