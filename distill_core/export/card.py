"""The model card of an exported student: what it is, how it was made, how well it does.

In: a run's folder. Out: README.md with metadata that the Hugging Face hub reads. Every figure comes
from the run's own files; folders of this machine are reduced to their last part.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import yaml

from distill_core import files, models, runs
from distill_core.errors import ModelError
from distill_core.export.card_scores import eval_results, harness_table, scores_table
from distill_core.export.paths import is_local_path, last_part
from distill_core.models.licences import licence_note
from distill_core.models.weights import fingerprint
from distill_core.recipe import DistillStage, Loss, Recipe, ScratchStudent, recipe_yaml
from distill_core.recipe.plan import named_models
from distill_core.runs import journal
from distill_core.steps.schedule import in_words
from distill_core.tasks import task_of


def write_card(run_dir: Path, target: Path) -> None:
    """Write the card of a run's student."""
    from huggingface_hub import ModelCardData

    recipe = runs.load_recipe(run_dir)
    evaluation = files.read_json(run_dir / "evaluation.json")
    asked = harness_table(files.read_json(run_dir / "harness.json"))
    licences = {name: _licence(name) for name in named_models(recipe)}
    data = ModelCardData(
        language=None,
        license=_student_licence(licences),
        library_name="transformers",
        pipeline_tag=task_of(recipe.task).pipeline_tag,
        tags=["distillation", "distill-studio"],
        base_model=_base_model(recipe),
        model_name=recipe.name,
        eval_results=eval_results(evaluation, task_of(recipe.task)),
    )
    sections = [
        f"# {recipe.name}",
        _what_it_is(recipe, evaluation),
        _use(recipe),
        "## Scores\n\n" + (scores_table(evaluation) or "This run has not been evaluated."),
        *([asked] if asked else []),
        "## How it was made\n\n" + _making(run_dir, recipe),
        "## Data\n\n" + _data(run_dir, recipe),
        "## Licence\n\n" + _licence_chain(licences),
        "## Intended use and limits\n\n" + _limits(recipe, evaluation),
    ]
    text = f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"
    target.write_text(text, encoding="utf-8")


def _what_it_is(recipe: Recipe, evaluation: dict[str, Any]) -> str:
    names = [_shown(name) for name in named_models(recipe)]
    last = recipe.stages[-1]
    verb = "distilled from" if isinstance(last, DistillStage) else "fine-tuned from"
    what = f"A small {task_of(recipe.task).title}"
    words = f"{what}, {verb} {' and '.join(names)} with Distill Studio."
    student = evaluation.get("models", {}).get("student")
    if student:
        words += f" It has {student['parameters']:,} parameters"
        ratio = evaluation.get("size_ratio")
        words += f", {ratio:.1f} times fewer than its teacher." if ratio else "."
    return words


def _use(recipe: Recipe) -> str:
    if recipe.task == "text_classification":
        paired = bool(recipe.data.columns.text_pair)
        text = '{"text": "…", "text_pair": "…"}' if paired else '"…"'
        return f"""## Use

```python
from transformers import pipeline

tell = pipeline("text-classification", model=".")  # this folder
print(tell({text}, top_k=None))  # every class with its probability
```"""
    template = recipe.data.prompt_template
    shaped = f"Prompts were given in this form:\n\n```text\n{template}\n```\n\n" if template else ""
    return f"""## Use

{shaped}```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
messages = [{{"role": "user", "content": "…"}}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
answer = model.generate(**inputs, max_new_tokens={recipe.evaluation.max_new_tokens})
print(tokenizer.decode(answer[0][inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```"""


def _making(run_dir: Path, recipe: Recipe) -> str:
    lines = []
    for number, stage in enumerate(recipe.stages, 1):
        if isinstance(stage, DistillStage):
            terms = ", ".join(map(_term, stage.losses))
            words = f"distilled from {_teachers(stage)}: {terms}"
        else:
            words = f"fine-tuned {_shown(stage.model)} on labels"
        adapter = f", LoRA of rank {stage.adapter.rank}, merged" if stage.adapter else ""
        lines.append(f"{number}. {words}{adapter}; student: {stage.student.init}.")
    environment = files.read_json(run_dir / "environment.json")
    versions = environment.get("versions") or environment.get("packages") or {}
    lines.append("")
    lines.append(f"Weights fingerprint `{fingerprint(run_dir / 'student')}`, seed {recipe.seed}.")
    if isinstance(versions, dict) and versions:
        shown = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        lines.append(f"Made with {shown}.")
    lines.append(f"\nThe recipe:\n\n```yaml\n{_recipe_text(recipe)}```")
    return "\n".join(lines)


def _teachers(stage: DistillStage) -> str:
    """The teacher's name, or those of a mixture with their shares."""
    names = [(_shown(one.model), one.weight) for one in stage.teachers]
    if len(names) == 1:
        return names[0][0]
    return "a mixture of " + " and ".join(f"{name} ({weight:.0%})" for name, weight in names)


def _term(loss: Loss) -> str:
    """Such as `0.9 × jsd (temperature 2, beta 0.5)`."""
    own = [
        f"{name} {in_words(value)}"
        for name, value in loss
        if name not in {"name", "weight"} and value is not None
    ]
    return f"{in_words(loss.weight)} × {loss.name}" + (f" ({', '.join(own)})" if own else "")


def _data(run_dir: Path, recipe: Recipe) -> str:
    facts = _data_facts(run_dir)
    titles = [_source_title(source) for source in recipe.data.sources]
    lines = [f"Learnt from: {', '.join(titles)}."]
    if facts:
        lines.append(
            f"{facts.get('rows', 0):,} training rows, {facts.get('labelled', 0):,} labelled and "
            f"{facts.get('unlabelled', 0):,} answered by the teacher; "
            f"{facts.get('held_out', 0):,} held out, chosen by content; "
            f"{facts.get('overlap', 0):,} overlapping rows were removed from training."
        )
    return "\n".join(lines)


def _data_facts(run_dir: Path) -> dict[str, Any]:
    lines, _ = journal.read_lines(run_dir, 0)
    for line in lines:
        if b'"run_started"' in line:
            try:
                found = orjson.loads(line).get("data")
            except orjson.JSONDecodeError:
                continue
            return found if isinstance(found, dict) else {}
    return {}


def _source_title(source: Any) -> str:
    if source.kind == "starter":
        return f"the pocket-assistant rows ({source.split})"
    return f"`{last_part(source.path)}`" if source.kind == "file" else f"`{source.id}`"


def _licence(name: str) -> str:
    try:
        return str(models.facts(name)["license"])
    except ModelError:
        return "not stated"


def _student_licence(licences: dict[str, str]) -> str | None:
    """One licence where all models share it; else the reader has to look."""
    shared = set(licences.values())
    return next(iter(shared)) if len(shared) == 1 and "not stated" not in shared else "other"


def _licence_chain(licences: dict[str, str]) -> str:
    lines = ["A student carries the terms of what it was made from:", ""]
    for name, licence in licences.items():
        note = licence_note(name, licence)
        lines.append(f"- {_shown(name)}: {licence}. {note.text if note else ''}".rstrip())
        if note and note.binding:
            lines.append(f"  Terms: {note.source}")
    lines.append("- The training data has terms of its own, which are not recorded here.")
    return "\n".join(lines)


def _limits(recipe: Recipe, evaluation: dict[str, Any]) -> str:
    return (
        "Meant for the task of the rows above; the scores hold for prompts like the held-out "
        "ones and say nothing about others. It can be wrong with confidence, and repeats errors "
        "and leanings of its teacher. Longest row in training: "
        f"{recipe.data.max_seq_len} tokens. Check answers before acting on them."
    )


def _base_model(recipe: Recipe) -> list[str] | None:
    """Hub ids of the models whose weights the student started from."""
    student, source = None, ""
    for stage in recipe.stages:
        student = stage.student
        named = stage.teachers[0].model if isinstance(stage, DistillStage) else stage.model
        own = student.model if student.init == "pretrained" else None
        source = own or (named if named != "previous" else source)
    if student is None or isinstance(student, ScratchStudent):
        return None
    built_in = models.BUILT_IN.get(source)
    hub_id = built_in.hub_id if built_in else source
    return [hub_id] if hub_id and _is_hub_id(hub_id) else None


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not Path(name).expanduser().exists() and name[0].isalnum()


def _shown(name: str) -> str:
    built_in = models.BUILT_IN.get(name)
    if built_in and built_in.hub_id:
        return f"[{built_in.hub_id}](https://huggingface.co/{built_in.hub_id})"
    if name == "previous":
        return "the stage before"
    return (
        f"[{name}](https://huggingface.co/{name})" if _is_hub_id(name) else f"`{last_part(name)}`"
    )


def _recipe_text(recipe: Recipe) -> str:
    """The recipe as YAML, with every path on this machine reduced to its last part."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        if isinstance(value, list):
            return [clean(item) for item in value]
        return last_part(value) if isinstance(value, str) and is_local_path(value) else value

    content = clean(yaml.safe_load(recipe_yaml.dumps(recipe)))
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=96)
