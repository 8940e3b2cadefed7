"""From a verdict to a recipe that can be run.

In: a `Scoring`, the method, and what is known of named models. Out: a mapping that
`recipe_yaml.parse` accepts and `checks` passes, and what the user still has to put in. Where the
answers name no rows or no teacher, built-in ones stand in, so that every recipe runs as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import yaml

from distill_core.advisor import recipe_rows, recipe_training, stand_ins, student_sizes
from distill_core.advisor.answers import Answers
from distill_core.advisor.evidence import Evidence, Road
from distill_core.advisor.observed import STARTER, STARTER_TEACHER
from distill_core.advisor.recipe_training import value
from distill_core.advisor.scoring import Scoring
from distill_core.advisor.stand_ins import STAND_IN
from distill_core.advisor.student_sizes import Kind, Known
from distill_core.recipe import Recipe, ready_recipes, recipe_yaml

_KINDS: dict[str, Kind] = {
    "new weights": "scratch",
    "the teacher, narrower": "width_prune",
    "the teacher's lower layers": "layer_drop",
}


def write(
    scoring: Scoring, settings: dict[str, dict[str, Any]], evidence: Evidence, known: Known
) -> tuple[dict[str, Any] | None, list[str]]:
    """Write the recipe of a verdict, and the list of what is left to put in.

    Returns None where the verdict trains nothing.
    """
    verdict, answers = scoring.verdict, scoring.facts.answers
    if (road := evidence.verdicts[verdict].road) == "none":
        return None, []
    draft = _Draft(answers=answers, settings=settings, evidence=evidence, known=known)
    if answers.data.source == STARTER and draft.is_pocket and draft.as_it_comes(verdict):
        return plain(ready_recipes.read("pocket_student")), draft.left_to_fill(road)
    recipe: dict[str, Any] = {
        "name": verdict.replace("_", "-"),
        "data": draft.data(),
        "stages": _STAGES[verdict](draft),
    }
    if draft.answer_length():
        recipe["evaluation"] = draft.answer_length()
    if draft.reads_only:
        recipe = {**recipe, "task": "text_classification"} | {"stages": draft.with_a_head(recipe)}
    return plain(recipe_yaml.parse(recipe)), draft.left_to_fill(road)


def plain(recipe: Recipe) -> dict[str, Any]:
    """A recipe as the mapping that its YAML holds."""
    return yaml.safe_load(recipe_yaml.dumps(recipe))


class _Draft:
    """Answers turned into pieces of a recipe."""

    def __init__(
        self,
        *,
        answers: Answers,
        settings: dict[str, dict[str, Any]],
        evidence: Evidence,
        known: Known,
    ) -> None:
        self.answers = answers
        self.settings = settings
        self.evidence = evidence
        self.start = evidence.recipe
        self.known = known
        self.rows = answers.data.source or STARTER
        named = answers.teacher.name if answers.teacher.exists is not False else None
        self.teacher = named or (STARTER_TEACHER if self.rows == STARTER else STAND_IN)
        self.text_only = answers.teacher.access in {"text", "top_k"}

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """The teacher's layers, width and so on; empty where nobody knows them."""
        return self.known.facts(self.teacher) or {}

    @property
    def is_pocket(self) -> bool:
        """Whether the built-in task and its teacher are meant, or stand in."""
        return self.rows == STARTER and self.teacher == STARTER_TEACHER and not self._base()

    def as_it_comes(self, verdict: str) -> bool:
        """Whether the starter's own recipe is what the rules ask for."""
        open_task = value(self.settings, "on_policy")
        return verdict == "distill" and not self.text_only and not open_task

    @property
    def reads_only(self) -> bool:
        """Whether the teacher is an encoder, which can do nothing but tell classes apart."""
        said = self.answers.teacher.writes_text
        if said is not None and self.teacher == self.answers.teacher.name:
            return not said
        own = self.teacher == STARTER_TEACHER  # known without looking
        return not own and "causal_lm" not in self.facts.get("tasks", ["causal_lm"])

    @property
    def across(self) -> bool:
        """Whether probabilities are compared although the tokenizers differ."""
        other = self.answers.teacher.same_tokenizer is False
        return other and self._base() is not None and not self.text_only and not self.reads_only

    @property
    def rank(self) -> int | None:
        """LoRA's rank, where the rules ask for an adapter."""
        rank = value(self.settings, "lora_rank")
        return rank if isinstance(rank, int) else None

    def with_a_head(self, recipe: dict[str, Any]) -> list[dict[str, Any]]:
        """The stages; a teacher that tells no classes apart yet is tuned before it teaches."""
        first, *rest = recipe["stages"]
        if first["kind"] != "distill" or self.facts.get("labels"):
            return [first, *rest]
        return [self.tune(self.teacher), first | {"teacher": "previous"}, *rest]

    # --- rows ---

    @property
    def _most_tokens(self) -> float | None:
        return self.answers.teacher.context_tokens or self.facts.get("max_seq_len")

    def data(self) -> dict[str, Any]:
        """Sources and held-out rows."""
        most = None if self.rows == STARTER else self._most_tokens
        return recipe_rows.data(self.answers, self.start, text_only=self.text_only, most=most)

    def answer_length(self) -> dict[str, Any]:
        """Room for the longest answer that was seen, where the default would cut it."""
        if self.is_pocket or self.reads_only:
            return {}
        room = recipe_rows.answer_room(self.answers, self.start, self._most_tokens)
        return {"max_new_tokens": room} if room else {}

    def left_to_fill(self, road: Road) -> list[str]:
        """What the answers did not say, and what stands in for it."""
        return stand_ins.left_to_fill(
            self.answers,
            teacher=self.teacher,
            taught=road == "teacher",
            text_only=self.text_only,
            is_pocket=self.is_pocket,
            sized=self.is_pocket or bool(self.facts),
        )

    # --- students ---

    def _needs_own(self) -> bool:
        """Whether the student cannot be made of a teacher."""
        return self.text_only or self.answers.teacher.exists is False

    def _base(self) -> str | None:
        """The published checkpoint that the student starts from; None: it is made of its teacher.

        Where nobody teaches and no model is named, one stands in.
        """
        if self.answers.student.name:
            return self.answers.student.name
        return STAND_IN if self._needs_own() and self.rows != STARTER else None

    def student(self) -> dict[str, Any]:
        """What the student starts from."""
        base = self._base()
        if base:
            return {"init": "pretrained", "model": base}
        if self.is_pocket:
            return _pocket_stage()["student"]
        made = student_sizes.shaped(self.teacher, self._kind(), self._ratio(), self.known)
        return made | ({"vocab_trim": {}} if "vocabulary" in self.settings else {})

    def _kind(self) -> Kind:
        wanted = value(self.settings, "initialisation", "")
        return _KINDS.get(wanted, "layer_drop")

    def middle(self) -> dict[str, Any]:
        """A student halfway, on a logarithmic scale, between teacher and student."""
        if self.is_pocket:
            start = self.start
            sizes = {"layers": start.middle_layers, "hidden_size": start.middle_width}
            return {"init": "scratch", **sizes}
        return student_sizes.shaped(self.teacher, self._kind(), self._ratio() ** 0.5, self.known)

    def _ratio(self) -> float:
        known = self.facts.get("parameters")
        parameters = known or self.answers.teacher.parameters
        student = self.answers.student.max_parameters
        if not parameters or not student:
            return self.start.times_smaller
        if known and not self.answers.teacher.name:  # as many times smaller as asked of the other
            parameters = self.answers.teacher.parameters or known
        return max(1.0, parameters / student)

    # --- stages ---

    def distill(self, *, student: dict[str, Any] | None = None, teacher: str = "") -> Any:
        """A stage that learns from the teacher; on its text where probabilities cannot be had."""
        if self.text_only:
            return self.fine_tune()
        student = student or self.student()
        stage: dict[str, Any] = {
            "kind": "distill",
            "teacher": teacher or self.teacher,
            "student": student,
            "losses": self._losses(student),
            "optim": self._optim(student),
            **self._room_for_answers(),
        }
        precision = value(self.settings, "teacher_precision")
        if precision and not self.is_pocket and not self.reads_only:
            stage["teacher_precision"] = precision
        if self.rank and student["init"] == "pretrained":
            stage |= self._lora(stage["optim"])
        return stage

    def own_samples(self) -> list[dict[str, Any]]:
        """The last stage of an open task, where the rules ask for one: the student's own answers.

        The teacher judges them token by token, so both have to have the same tokens.
        """
        share = value(self.settings, "on_policy")
        if not share or self.text_only or self.across or self.reads_only:
            return []
        stage: dict[str, Any] = {
            "kind": "distill",
            "teacher": self.teacher,
            "student": {"init": "pretrained", "model": "previous"},
            "losses": [{"name": "jsd", "weight": 1.0, "beta": self.start.jsd_beta}],
            "on_policy_fraction": share,
            "optim": {"learning_rate": self.start.learning_rates["own_samples"], "epochs": 1.0},
            **self._room_for_answers(),
        }
        precise = value(self.settings, "teacher_precision")
        return [stage | ({"teacher_precision": precise} if precise else {})]

    def _room_for_answers(self) -> dict[str, Any]:
        room = self.answer_length()
        return {"teacher_answers": room} if room else {}

    def fine_tune(self, *, lora: bool = False) -> dict[str, Any]:
        """A stage that trains the student on labels alone."""
        student = self.student()
        if student["init"] == "pretrained":
            stage: dict[str, Any] = {"kind": "fine_tune", "model": student["model"]}
        elif lora:
            stage = {"kind": "fine_tune", "model": self.teacher}
        else:
            stage = {"kind": "fine_tune", "model": self.teacher, "student": student}
        stage["optim"] = self._optim(stage.get("student", {"init": "pretrained"}))
        if lora or (self.rank and "student" not in stage):
            stage |= self._lora(stage["optim"])
        return stage

    def tune(self, model: str) -> dict[str, Any]:
        """A stage that trains a model as it is: the teacher, or the student before."""
        optim = self._optim({"init": "pretrained"})
        adapter = self._lora(optim) if self.rank else {}
        return {"kind": "fine_tune", "model": model, "optim": optim} | adapter

    def _losses(self, student: dict[str, Any]) -> list[dict[str, Any]]:
        across = self.across and student["init"] == "pretrained"
        return recipe_training.losses(self.settings, self.start, student, across=across)

    def _optim(self, student: dict[str, Any]) -> dict[str, Any]:
        if not self.is_pocket:
            return recipe_training.optim(self.start, student)
        optim = dict(_pocket_stage()["optim"])
        if student["init"] != "scratch":
            optim |= self.start.starter_tuning
        return optim

    def _lora(self, optim: dict[str, Any]) -> dict[str, Any]:
        rank = self.rank or int(self.evidence.rules["R15"].numbers["rank"])
        return recipe_training.lora(self.start, optim, rank)


def _pocket_stage() -> dict[str, Any]:
    return plain(ready_recipes.read("pocket_student"))["stages"][0]


_STAGES: dict[str, Callable[[_Draft], list[dict[str, Any]]]] = {
    "fine_tune": lambda d: [d.fine_tune()],
    "lora_fine_tune": lambda d: [d.fine_tune(lora=True)],
    "distill": lambda d: [d.distill(), *d.own_samples()],
    "distill_then_fine_tune": lambda d: [d.distill(), d.tune("previous")],
    "fine_tune_then_distill": lambda d: [d.tune(d.teacher), d.distill(teacher="previous")],
    "progressive_distill": lambda d: [
        d.distill(student=d.middle()),
        d.distill(teacher="previous"),
    ],
}
