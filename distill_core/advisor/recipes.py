"""From a verdict to a recipe that can be run.

In: a `Scoring` and the method. Out: a mapping that `recipe_yaml.parse` accepts, and what the user
still has to fill in. Knows no weights; facts of a named model come from the caller.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import yaml

from distill_core import ready_recipes, recipe_yaml
from distill_core.advisor.answers import Answers
from distill_core.advisor.evidence import Evidence
from distill_core.advisor.scoring import Scoring
from distill_core.recipe import Recipe

STARTER_TEACHER = "pocket-teacher"
YOUR_TEACHER, YOUR_STUDENT, YOUR_ROWS = "your-teacher", "your-student", "your_rows.jsonl"

ModelFacts = Callable[[str], dict[str, Any] | None]
"""Reads a model's `layers`, `parameters`, …; None where it cannot."""

_RATES = {"full": 5.0e-5, "new": 1.0e-3, "shaped": 3.0e-4, "lora": 5.0e-4}
"""Learning rates: LoRA's is ten times that of full training (R16)."""


def write(
    scoring: Scoring,
    settings: dict[str, dict[str, Any]],
    evidence: Evidence,
    model_facts: ModelFacts,
) -> tuple[dict[str, Any] | None, list[str]]:
    """Write the recipe of a verdict, and the list of what is left to fill in.

    Returns None where the verdict trains nothing.
    """
    verdict, answers = scoring.verdict, scoring.facts.answers
    if evidence.verdicts[verdict].road == "none":
        return None, []
    if is_starter(answers) and verdict == "distill" and not _text_only(answers):
        return plain(ready_recipes.read("pocket_student")), []
    draft = _Draft(answers=answers, settings=settings, model_facts=model_facts)
    recipe: dict[str, Any] = {
        "name": verdict.replace("_", "-"),
        "data": draft.data(),
        "stages": _STAGES[verdict](draft),
    }
    if draft.reads_only:
        recipe = {**recipe, "task": "text_classification"} | {"stages": draft.with_a_head(recipe)}
    return plain(recipe_yaml.parse(recipe)), draft.left_to_fill()


def plain(recipe: Recipe) -> dict[str, Any]:
    """A recipe as the mapping that its YAML holds."""
    return yaml.safe_load(recipe_yaml.dumps(recipe))


def is_starter(answers: Answers) -> bool:
    """Whether the answers describe the built-in task and its teacher."""
    return answers.data.source == "starter" and answers.teacher.name in {None, STARTER_TEACHER}


def _text_only(answers: Answers) -> bool:
    teacher = answers.teacher
    return teacher.access in {"text", "top_k"} or teacher.same_tokenizer is False


class _Draft:
    """Answers turned into pieces of a recipe."""

    def __init__(
        self,
        *,
        answers: Answers,
        settings: dict[str, dict[str, Any]],
        model_facts: ModelFacts,
    ) -> None:
        self.answers = answers
        self.settings = settings
        self.starter = answers.data.source == "starter"
        self.teacher = answers.teacher.name or (STARTER_TEACHER if self.starter else YOUR_TEACHER)
        self._model_facts = model_facts
        self.text_only = _text_only(answers)

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """The teacher's layers, width and so on; empty where nobody knows them."""
        unknown = self.teacher == YOUR_TEACHER
        return {} if unknown else self._model_facts(self.teacher) or {}

    @property
    def reads_only(self) -> bool:
        """Whether the teacher is an encoder, which can do nothing but tell classes apart."""
        own = self.teacher == STARTER_TEACHER  # known without looking
        return not own and "causal_lm" not in self.facts.get("tasks", ["causal_lm"])

    def with_a_head(self, recipe: dict[str, Any]) -> list[dict[str, Any]]:
        """The stages; a teacher that tells no classes apart yet is tuned before it teaches."""
        first, *rest = recipe["stages"]
        if first["kind"] != "distill" or self.facts.get("labels"):
            return [first, *rest]
        return [self.tune(self.teacher), first | {"teacher": "previous"}, *rest]

    # --- data ---

    def data(self) -> dict[str, Any]:
        """Sources and held-out rows."""
        if self.starter:
            return {
                "sources": [{"kind": "starter", "split": split} for split in self._splits()],
                "held_out": {"kind": "starter", "split": "held_out"},
                "max_seq_len": 128,
            }
        name = self.answers.data.source or YOUR_ROWS
        is_file = "." in PurePath(name).name or name.count("/") != 1
        source = {"kind": "file", "path": name} if is_file else {"kind": "hub", "id": name}
        labelled = self.answers.data.labelled_rows or 0
        share = min(0.5, max(0.1, 200 / labelled)) if labelled else 0.1
        return {"sources": [source], "held_out": round(share, 3)}

    def _splits(self) -> list[str]:
        return ["labelled", "unlabelled"] if not self.text_only else ["labelled"]

    def left_to_fill(self) -> list[str]:
        """What the answers did not say and a run needs."""
        missing = []
        if not self.answers.data.source:
            missing.append(f"Put the path of your rows in place of {YOUR_ROWS}.")
        if self.teacher == YOUR_TEACHER and not self.text_only and self._has_teacher():
            missing.append(f"Put your teacher's name or folder in place of {YOUR_TEACHER}.")
        if self.text_only and self._has_teacher():
            missing.append("Let the teacher answer your unlabelled rows, and add them as a file.")
        if self._base() == YOUR_STUDENT:
            missing.append(f"Put the small model's name or folder in place of {YOUR_STUDENT}.")
        if not self._own_student() and self._base() is None and not self.facts:
            missing.append("Set the student's layers and width; Build shows its size as you do.")
        return missing

    def _has_teacher(self) -> bool:
        return self.answers.teacher.exists is not False

    # --- students ---

    def _base(self) -> str | None:
        """The published small checkpoint that the student starts from; None for the starter."""
        if self.answers.student.name:
            return self.answers.student.name
        if self.starter:
            return None
        needs_own = self.text_only or not self._has_teacher()
        if self.answers.student.published_checkpoint or needs_own:
            return YOUR_STUDENT
        return None

    def student(self) -> dict[str, Any]:
        """What the student starts from."""
        base = self._base()
        if base:
            return {"init": "pretrained", "model": base}
        if self._own_student():
            return _pocket_stage()["student"]
        return self._shaped(self._ratio())

    def _own_student(self) -> bool:
        """Whether the starter's own student is meant."""
        return self.starter and self.teacher == STARTER_TEACHER

    def middle(self) -> dict[str, Any]:
        """A student halfway, on a logarithmic scale, between teacher and student."""
        if self._own_student():
            return {"init": "scratch", "layers": 3, "hidden_size": 120}
        return self._shaped(self._ratio() ** 0.5)

    def _shaped(self, ratio: float) -> dict[str, Any]:
        """A student of the teacher's architecture, so many times smaller."""
        if self.settings.get("initialisation", {}).get("rule") == "R14.nothing":
            return self._scratch(ratio)
        return {"init": "layer_drop", "layers": self._layers(ratio)}

    def _ratio(self) -> float:
        parameters = self.answers.teacher.parameters or self.facts.get("parameters")
        student = self.answers.student.max_parameters
        return max(1.0, parameters / student) if parameters and student else 4.0

    def _layers(self, ratio: float) -> int:
        layers = int(self.facts.get("layers") or 24)
        return max(1, min(layers - 1, int(layers / ratio)))

    def _scratch(self, ratio: float) -> dict[str, Any]:
        """Depth and width shrunk alike: parameters go with depth times width squared."""
        layers, width = self.facts.get("layers") or 24, self.facts.get("hidden_size") or 1024
        heads = self.facts.get("attention_heads") or 16
        head = max(8, width // heads)
        shrink = ratio ** (1 / 3)
        return {
            "init": "scratch",
            "layers": max(1, int(layers / shrink)),
            "hidden_size": max(head, int(width / shrink) // head * head),
        }

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
            "losses": self._losses(),
            "optim": self._optim(student),
        }
        if "lora_rank" in self.settings and student["init"] == "pretrained":
            stage |= self._lora(stage["optim"])
        return stage

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
        if lora or ("lora_rank" in self.settings and "student" not in stage):
            stage |= self._lora(stage["optim"])
        return stage

    def tune(self, model: str) -> dict[str, Any]:
        """A stage that trains a model as it is: the teacher, or the student before."""
        return {"kind": "fine_tune", "model": model, "optim": self._optim({"init": "pretrained"})}

    def _losses(self) -> list[dict[str, Any]]:
        share = float(self.settings.get("cross_entropy_weight", {}).get("value", 0.1))
        temperature = float(self.settings.get("temperature", {}).get("value", 1.0))
        losses = [{"name": "forward_kl", "weight": round(1 - share, 3), "temperature": temperature}]
        if share:
            losses.append({"name": "cross_entropy", "weight": share})
        return losses

    def _optim(self, student: dict[str, Any]) -> dict[str, Any]:
        if self._own_student():
            optim = dict(_pocket_stage()["optim"])
            if student["init"] != "scratch":
                optim |= {"learning_rate": 5.0e-4, "max_steps": 300}
            return optim
        kind = {"pretrained": "full", "scratch": "new", "layer_drop": "shaped"}[student["init"]]
        return {"learning_rate": _RATES[kind], "epochs": 3}

    def _lora(self, optim: dict[str, Any]) -> dict[str, Any]:
        rank = int(self.settings.get("lora_rank", {}).get("value", 16))
        adapter = {"kind": "lora", "rank": rank, "alpha": 2.0 * rank}
        return {"adapter": adapter, "optim": optim | {"learning_rate": _RATES["lora"]}}


def _pocket_stage() -> dict[str, Any]:
    return plain(ready_recipes.read("pocket_student"))["stages"][0]


_STAGES: dict[str, Callable[[_Draft], list[dict[str, Any]]]] = {
    "fine_tune": lambda d: [d.fine_tune()],
    "lora_fine_tune": lambda d: [d.fine_tune(lora=True)],
    "distill": lambda d: [d.distill()],
    "distill_then_fine_tune": lambda d: [d.distill(), d.tune("previous")],
    "fine_tune_then_distill": lambda d: [d.tune(d.teacher), d.distill(teacher="previous")],
    "progressive_distill": lambda d: [
        d.distill(student=d.middle()),
        d.distill(teacher="previous"),
    ],
}
