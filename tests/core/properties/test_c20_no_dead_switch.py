"""C20, no dead switch: every setting that a recipe has changes a batch, a step, or a file.

Settings of a run are changed one at a time in real runs on tiny models (`settings_changed.py`);
those of terms in real steps. A setting that is in no list fails the last test.
"""

from __future__ import annotations

import hashlib
import json
import typing
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml

from distill_core import evaluate, pipeline, trainer
from distill_core.recipe import (
    AttentionLoss,
    CrossEntropyLoss,
    CrossTokenizerLoss,
    ForwardKLLoss,
    HiddenStatesLoss,
    JSDLoss,
    Loss,
    SkewedForwardKLLoss,
    SkewedReverseKLLoss,
    TemperatureSchedule,
    WeightSchedule,
    recipe_yaml,
)
from distill_core.students.calibration import Calibration
from distill_core.trainer import train
from tests import readme_tables
from tests.core.nets import tiny_llama
from tests.core.properties.settings_changed import BASES, CHANGES, ELSEWHERE, GROUPS
from tests.core.ways import one_teacher, stage_of

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.filterwarnings("ignore:Truncating")
MEASURED = {"tokens_per_s", "memory_bytes", "time_s", "seconds"}


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_teacher_dir: Path,
    tiny_student_dir: Path,
    tiny_encoder_dir: Path,
) -> dict[str, str]:
    """Models and files by the letter that recipes call them by."""
    folder = tmp_path_factory.mktemp("rows")
    prompts, chats, classes = [], [], []
    words = ["turn on the light", "dim the fan", "turn off the tv", "light in the hall"]
    for n in range(20):
        asked, said = f"{words[n % 4]} {chr(97 + n)}", ["on", "off", "two"][n % 3]
        answer = {"response": said} if n % 4 != 3 else {}
        prompts.append({"prompt": asked, "other": f"in {chr(97 + n)} kitchen"} | answer)
        chat = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        short = [{"role": "user", "content": f"tv {chr(97 + n)}"}, chat[1]]
        chats.append({"messages": chat, "other": short})
        turned = ["off", "two", "on"][n % 3]
        classes.append({"text": asked, "label": said, "other": turned})
    found = {"T": tiny_teacher_dir, "O": tiny_student_dir, "E": tiny_encoder_dir}
    for letter, rows in (("P", prompts), ("C", chats), ("X", classes)):
        found[letter] = folder / f"{letter}.jsonl"
        found[letter].write_text("\n".join(map(json.dumps, rows)))
    return {letter: str(path) for letter, path in found.items()}


def hashed(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def trace(recipe: Any, folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a recipe; returns its batches, what it showed, and the files that it wrote."""
    batches: list[Any] = []
    make, score, draw = trainer._batches, evaluate.evaluate_members, Calibration.batches

    def drawn(self: Any, *how: Any, **more: Any) -> Any:
        made = list(draw(self, *how, **more))
        batches.append([one.input_ids.tolist() for one in made])
        return made

    def kept(*step: Any) -> Any:
        made = make(*step)
        batches.append([(one.input_ids.tolist(), one.labels.tolist()) for one in made])
        return made

    def chosen(run_dir: Path, rows: Any, **how: Any) -> Any:
        """The final scores take longest: only what they are asked for, and by which metric."""
        how["recipe"] = recipe.model_copy(
            update={"evaluation": recipe.evaluation.model_copy(update={"baselines": []})}
        )
        batches.append(("scored", len(rows)))
        if recipe.evaluation.metric == "auto" and not asks_metric:
            return {"models": {}}
        return (yield from score(run_dir, rows, **how))

    asks_metric = recipe.name == "judged"
    patch.setattr(trainer, "_batches", kept)
    patch.setattr(Calibration, "batches", drawn)
    patch.setattr(evaluate, "evaluate_members", chosen)
    folder.mkdir(parents=True)
    shown, saved = [], []
    for event in pipeline.run(recipe, folder):
        if event["type"] in {"step", "evaluation", "sample"}:
            metrics = event.pop("metrics", {})
            plain = {k: v for k, v in metrics.items() if k not in MEASURED}
            shown.append((plain, {k: v for k, v in event.items() if k not in MEASURED}))
        if event["type"] == "checkpoint":
            saved.append(sorted(path.name for path in (folder / "checkpoints").rglob("step_*")))
    patch.undo()
    judged = json.loads((folder / "evaluation.json").read_text()).get("metric")
    answers = sorted((folder.parent / "teacher_answers").glob("*.jsonl"))
    return {
        "batches": batches,
        "shown": shown,
        "saved": saved,
        "judged": judged,
        "student": hashed(folder / "student" / "model.safetensors"),
        "answers": [path.read_text() for path in answers],
    }


@pytest.fixture(scope="module")
def traces(
    places: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> typing.Callable[[str, list[str]], dict[str, Any]]:
    """The trace of a base with overrides, run once."""
    known: dict[str, dict[str, Any]] = {}

    def of(base: str, overrides: list[str]) -> dict[str, Any]:
        name = json.dumps([base, overrides])
        if name not in known:
            filled = Template(yaml.safe_dump(BASES[base])).substitute(places)
            given = [Template(one).substitute(places) for one in overrides]
            recipe = recipe_yaml.loads(filled, given)
            folder = tmp_path_factory.mktemp("c20") / "runs" / "one"
            with pytest.MonkeyPatch.context() as patch:
                known[name] = trace(recipe, folder, patch)
        return known[name]

    return of


@pytest.mark.parametrize("setting", CHANGES)
def test_every_setting_of_a_run_changes_batches_steps_or_files(
    traces: typing.Any, setting: str
) -> None:
    base, before, change = CHANGES[setting]
    if setting == "evaluation.metric":
        before = [*before, "name=judged"]
    first, second = traces(base, before), traces(base, [*before, *change])
    changed = [part for part in first if first[part] != second[part]]
    assert changed, f"{setting} changes nothing"


# --- terms --------------------------------------------------------------------------------------

LOSSES: tuple[Any, ...] = typing.get_args(typing.get_args(Loss)[0])
PREFIX = "stages each (distill).losses each "

SPECIAL: dict[str, tuple[Any, Any]] = {
    "(forward_kl).weight.start": (
        ForwardKLLoss(weight=WeightSchedule(start=1.0, end=0.2)),
        ForwardKLLoss(weight=WeightSchedule(start=0.7, end=0.2)),
    ),
    "(forward_kl).weight.end": (
        ForwardKLLoss(weight=WeightSchedule(start=1.0, end=0.2)),
        ForwardKLLoss(weight=WeightSchedule(start=1.0, end=0.4)),
    ),
    "(forward_kl).weight.schedule": (
        ForwardKLLoss(weight=WeightSchedule(start=1.0, end=0.2)),
        ForwardKLLoss(weight=WeightSchedule(start=1.0, end=0.2, schedule="cosine")),
    ),
    "(forward_kl).weight.fraction": (
        ForwardKLLoss(weight=WeightSchedule(start=1.0, end=0.2)),
        ForwardKLLoss(weight=WeightSchedule(start=1.0, end=0.2, fraction=0.5)),
    ),
    "(forward_kl).temperature.start": (
        ForwardKLLoss(temperature=TemperatureSchedule(start=3.0, end=1.0)),
        ForwardKLLoss(temperature=TemperatureSchedule(start=2.0, end=1.0)),
    ),
    "(forward_kl).temperature.end": (
        ForwardKLLoss(temperature=TemperatureSchedule(start=3.0, end=1.0)),
        ForwardKLLoss(temperature=TemperatureSchedule(start=3.0, end=2.0)),
    ),
    "(forward_kl).temperature.schedule": (
        ForwardKLLoss(temperature=TemperatureSchedule(start=3.0, end=1.0)),
        ForwardKLLoss(temperature=TemperatureSchedule(start=3.0, end=1.0, schedule="cosine")),
    ),
    "(forward_kl).temperature.fraction": (
        ForwardKLLoss(temperature=TemperatureSchedule(start=3.0, end=1.0)),
        ForwardKLLoss(temperature=TemperatureSchedule(start=3.0, end=1.0, fraction=0.5)),
    ),
    "(jsd).beta": (JSDLoss(), JSDLoss(beta=0.2)),
    "(skewed_forward_kl).skew": (SkewedForwardKLLoss(), SkewedForwardKLLoss(skew=0.5)),
    "(skewed_reverse_kl).skew": (SkewedReverseKLLoss(), SkewedReverseKLLoss(skew=0.5)),
    "(cross_tokenizer).hybrid": (CrossTokenizerLoss(), CrossTokenizerLoss(hybrid=False)),
    "(cross_tokenizer).uld_weight": (CrossTokenizerLoss(), CrossTokenizerLoss(uld_weight=0.5)),
    "(hidden_states).distance": (HiddenStatesLoss(), HiddenStatesLoss(distance="cosine")),
    "(hidden_states).normalize": (HiddenStatesLoss(), HiddenStatesLoss(normalize=False)),
    "(hidden_states).layers": (HiddenStatesLoss(), HiddenStatesLoss(layers="last")),
    "(hidden_states).layer_map": (HiddenStatesLoss(), HiddenStatesLoss(layer_map="1:1, 2:2")),
    "(attention).compares": (AttentionLoss(), AttentionLoss(compares="values")),
    "(attention).distance": (AttentionLoss(), AttentionLoss(distance="mse")),
    "(attention).relation_heads": (
        AttentionLoss(compares="values"),
        AttentionLoss(compares="values", relation_heads=2),
    ),
    "(attention).layers": (AttentionLoss(), AttentionLoss(layers="all")),
    "(attention).layer_map": (AttentionLoss(), AttentionLoss(layer_map="1:1")),
}
EVERYWHERE: dict[str, tuple[Any, Any]] = {
    f"({loss.model_fields['name'].default}).{name}": (
        loss(),
        loss(**{name: value}),
    )
    for loss in LOSSES
    for name, value in (("weight", 0.33), ("temperature", 5.0))
    if name in loss.model_fields
}
TERMS = SPECIAL | EVERYWHERE
TEXT_AS_LABELS = f"{PREFIX}(cross_entropy).targets"


@pytest.mark.parametrize("setting", TERMS)
def test_every_setting_of_a_term_changes_steps(tmp_path: Path, setting: str) -> None:
    seen = []
    for place, term in enumerate(TERMS[setting]):
        made = stage_of(tmp_path / str(place), tiny_llama(), one_teacher(), [term], steps=4)
        seen.append([event["metrics"]["loss"] for event in train(made) if event["type"] == "step"])
    assert max(abs(a - b) / abs(a) for a, b in zip(*seen, strict=True)) > 1e-6


def test_the_teachers_text_may_be_a_label(traces: typing.Any) -> None:
    before = ["stages.0.losses=[{name: forward_kl}, {name: cross_entropy}]"]
    change = ["stages.0.losses.1.targets=labels_and_teacher_text"]
    first, second = traces("distill", before), traces("distill", [*before, *change])
    assert first["batches"] == second["batches"]
    assert first["student"] != second["student"]


# --- nothing is left out ------------------------------------------------------------------------


def test_every_setting_is_tried() -> None:
    from distill_core.recipe import Recipe

    every = {path for path, _, _ in readme_tables._settings(Recipe, "", {})}
    tried = {f"{PREFIX}{name}" for name in TERMS} | {TEXT_AS_LABELS, *CHANGES, *ELSEWHERE, *GROUPS}
    assert sorted(every - tried) == [], "no test changes these"
    assert sorted(tried - every) == [], "there is no such setting"
    for test in ELSEWHERE.values():
        file, name = test.split("::")
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), test


def test_every_term_is_tried() -> None:
    names = {loss.model_fields["name"].default for loss in LOSSES}
    assert {name.split(")")[0].strip("(") for name in TERMS} == names
    assert CrossEntropyLoss in LOSSES
