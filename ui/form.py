"""Settings of a recipe as fields of a form, made from the recipe's JSON schema.

In: the schema, a draft. Out: `Setting`s in plain words, and a Gradio component for each. Knows no
setting by heart beyond nicer words for some names: a new setting appears without a change here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr

Kind = Literal[
    "number", "integer", "numbers", "text", "choice", "toggle", "several", "group", "variant"
]
Schema = dict[str, Any]
Field = gr.Checkbox | gr.CheckboxGroup | gr.Dropdown | gr.Number | gr.Textbox

WORDS = {
    "max_seq_len": "Longest row, tokens",
    "global_batch_size": "Rows per step",
    "micro_batch_size": "Rows at once in memory",
    "loss_chunk_rows": "Tokens at once in the loss",
    "compile_loss": "Compile the loss",
    "liger_loss": "Liger's kernels on CUDA",
    "grad_clip_norm": "Gradient clip",
    "warmup_fraction": "Warm-up",
    "max_steps": "Steps",
    "max_new_tokens": "Longest answer, tokens",
    "final_rows": "Held-out rows at the end",
    "evaluation.rows": "Held-out rows while training",
    "teacher_answers.rows": "Rows to answer",
    "teacher_answers": "Text from the teacher",
    "on_policy_fraction": "Steps written by the student",
    "student_answers": "The student's own answers",
    "targets": "Hard labels",
    "teacher_precision": "Teacher's number format",
    "teacher_cache": "Teacher cache",
    "teacher_cache.k": "Tokens kept",
    "teacher_cache.samples": "Tokens drawn",
    "teacher_cache.precision": "Number format on disk",
    "best_of": "Best of … answers",
    "checkpoints.keep": "Checkpoints kept",
    "student.keep": "Which layers",
    "checkpoints.every_steps": "Save every … steps",
    "evaluation.every_steps": "Score every … steps",
    "hidden_size": "Width",
    "intermediate_size": "Feed-forward width",
    "id": "Name on the hub",
    "limit": "At most … rows",
    "adapter": "LoRA adapter",
    "keep_layers": "Exactly these layers",
    "vocab_trim": "Trim the vocabulary",
    "extra_tokens": "Tokens to keep beside these",
    "calibration_rows": "Rows to measure importance on",
    "optim": "Optimiser",
    "fine_tuned_on_labels": "fine-tuned on labels",
    "weight.start": "Weight at first",
    "weight.end": "Weight in the end",
    "temperature.start": "Temperature at first",
    "temperature.end": "Temperature in the end",
    "weight.schedule": "How it gets there",
    "temperature.schedule": "How it gets there",
    "weight.fraction": "Share of the steps",
    "temperature.fraction": "Share of the steps",
    "columns.text": "Text column",
    "columns.text_pair": "Second text column",
    "columns.label": "Class column",
    "columns.prompt": "Prompt column",
    "columns.response": "Answer column",
    "columns.messages": "Chat column",
}


@dataclass(frozen=True)
class Setting:
    """One setting, ready to be shown."""

    path: str
    label: str
    info: str
    kind: Kind
    optional: bool = False
    choices: tuple[str, ...] = ()
    default: Any = None
    node: Any = None
    """Schema of a group's own settings, of the group that a number may give way to, or of the
    variants of which one is chosen."""

    @property
    def key(self) -> str:
        """Last part of the path: the setting's name."""
        return self.path.rpartition(".")[2]


def words(path: str) -> str:
    """Say a setting's name in plain words: `stages.0.optim.learning_rate` → Learning rate."""
    name = path.rpartition(".")[2]
    in_group = ".".join(path.split(".")[-2:])
    return WORDS.get(in_group) or WORDS.get(name) or name.replace("_", " ").capitalize()


def field_id(path: str) -> str:
    """Name the element that shows a setting; problems are put under it."""
    return "ds-field-" + path.replace(".", "-")


def resolve(schema: Schema, node: Any) -> Schema:
    """Follow a node's `$ref` (and a lone `allOf`) into the schema's definitions."""
    while isinstance(node, dict) and "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        node = {**schema["$defs"][name], **{k: v for k, v in node.items() if k != "$ref"}}
    return node if isinstance(node, dict) else {}


def find(schema: Schema, path: str) -> Schema:
    """Find the node of a dotted path of names, such as `data.columns`."""
    node = resolve(schema, schema)
    for key in path.split("."):
        node = resolve(schema, node.get("properties", {}).get(key, {}))
    return node


def variants(schema: Schema, node: Any) -> dict[str, Schema]:
    """List the variants of a union by tag, such as starter, file, hub; {} for other nodes."""
    mapping = resolve(schema, node).get("discriminator", {}).get("mapping", {})
    return {tag: resolve(schema, {"$ref": reference}) for tag, reference in mapping.items()}


def tag(schema: Schema, node: Any) -> dict[str, Any]:
    """Return the tag that a group must carry, such as `kind: lora`; {} when it has none."""
    properties = resolve(schema, node).get("properties", {})
    return {name: child["const"] for name, child in properties.items() if "const" in child}


def settings(schema: Schema, node: Any, path: str) -> list[Setting]:
    """List the settings of a group; tags, unions and lists of groups are left to the caller."""
    properties = resolve(schema, node).get("properties", {})
    made = (
        _setting(schema, resolve(schema, child), f"{path}.{name}" if path else name)
        for name, child in properties.items()
    )
    return [setting for setting in made if setting is not None]


def _setting(schema: Schema, node: Schema, path: str) -> Setting | None:
    if "const" in node or "discriminator" in node:
        return None
    listed = node.get("anyOf") or node.get("oneOf") or []
    branches = [resolve(schema, branch) for branch in listed]
    optional = any(branch.get("type") == "null" for branch in branches)
    solid = [branch for branch in branches if branch.get("type") != "null"]
    instead = next((branch for branch in solid if branch.get("type") == "object"), None)
    if [branch.get("type") for branch in solid] == ["number", "object"]:
        solid = solid[:1]
    if branches and len(solid) != 1:
        return None
    value = solid[0] if solid else node
    if optional and "discriminator" in value:
        kinds = tuple(variants(schema, value))
        info = str(node.get("description", ""))
        return Setting(path, words(path), info, "variant", True, kinds, node=value)
    kind = _kind(schema, value)
    if kind is None:
        return None
    options = value.get("enum") or resolve(schema, value.get("items", {})).get("enum") or []
    if kind == "several" and not options:
        options = [resolve(schema, value["items"])["const"]]
    return Setting(
        path=path,
        label=words(path),
        info=_info(node, value, kind, optional),
        kind=kind,
        optional=optional,
        choices=tuple(str(option) for option in options),
        default=node.get("default"),
        node=value if kind == "group" else instead,
    )


def _kind(schema: Schema, node: Schema) -> Kind | None:
    if "enum" in node:
        return "choice"
    items = resolve(schema, node.get("items", {}))
    if node.get("type") == "array":
        if items.get("type") == "integer":
            return "numbers"
        return "several" if "enum" in items or "const" in items else None
    kinds: dict[str, Kind] = {
        "number": "number",
        "integer": "integer",
        "string": "text",
        "boolean": "toggle",
        "object": "group",
    }
    return kinds.get(str(node.get("type")))


def _info(node: Schema, value: Schema, kind: Kind, optional: bool) -> str:
    text = str(node.get("description", ""))
    if kind not in {"number", "integer"}:
        return text
    limits = _range(value)
    return f"{text} {limits}".strip() if limits else text


def _range(node: Schema) -> str:
    """Say the range in words: `0–1`, `above 0, at most 100`."""
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    parts = []
    if low is not None:
        parts.append(f"at least {low:,}")
    if above is not None:
        parts.append(f"above {above:,}")
    if high is not None and high < 1e6:
        parts.append(f"at most {high:,}")
    if below is not None:
        parts.append(f"below {below:,}")
    return f"({', '.join(parts)})" if parts else ""


def component(setting: Setting, value: Any, *, show_info: bool = True) -> Field:
    """Make the Gradio component of a setting; `None` shows its default.

    No range is given to the component: Gradio would refuse the value in a passing message, and
    the problem belongs under the field.
    """
    shown = setting.default if value is None else value
    info = setting.info if show_info else None
    look: Any = {
        "label": setting.label,
        "info": info,
        "elem_id": field_id(setting.path),
        "interactive": True,
        "min_width": 150,
    }
    if setting.kind == "toggle":
        return gr.Checkbox(value=bool(shown), **look)
    if setting.kind == "group":
        return gr.Checkbox(value=value is not None, **look)
    if setting.kind == "several":
        chosen = [str(item) for item in shown] if isinstance(shown, list) else []
        named = [(words(choice), choice) for choice in setting.choices]
        return gr.CheckboxGroup(choices=named, value=chosen, **look)
    if setting.kind == "variant":
        named = [("none", ""), *((choice.replace("_", " "), choice) for choice in setting.choices)]
        own = str(shown.get("kind", "")) if isinstance(shown, dict) else ""
        return gr.Dropdown(choices=named, value=own, **look)
    if setting.kind == "choice":
        named = [(choice.replace("_", " "), choice) for choice in setting.choices]
        return gr.Dropdown(choices=named, value=shown, allow_custom_value=True, **look)
    if setting.kind in {"number", "integer"} and not setting.optional and _is_number(shown):
        return gr.Number(value=shown, **look)
    if setting.kind == "numbers" and isinstance(shown, list):
        shown = ", ".join(map(str, shown))
    text = "" if shown is None else str(shown)  # a number field would show "empty" as 0
    lines = 2 if setting.key in {"prompt_template", "system_prompt"} else 1
    hint = "empty" if setting.optional else None
    most = 1 if ".columns." in setting.path else 20  # an <input>, to which names can be offered
    return gr.Textbox(value=text, lines=lines, max_lines=most, placeholder=hint, **look)


def edited(field: Field) -> Callable[..., Any]:
    """Return the event that tells of an edit: a text box sends `input` only for typed keys."""
    return field.change if isinstance(field, gr.Textbox) else field.input


def parsed(setting: Setting, value: Any) -> Any:
    """Turn a component's value into what a recipe holds: whole numbers as int, "" as None.

    Text that is no number stays as it was typed, for the check to name.
    """
    if setting.kind in {"number", "integer"} and isinstance(value, str):
        value = _number(value)
    if setting.kind in {"number", "integer"} and _is_number(value) and float(value).is_integer():
        small = abs(value) < 2**53
        return int(value) if setting.kind == "integer" and small else float(value)
    if isinstance(value, str) and setting.optional and not value.strip():
        return None
    if isinstance(value, str) and setting.kind == "numbers":
        parts = value.replace(",", " ").split()
        return [int(part) for part in parts] if all(map(str.isdecimal, parts)) else value
    return value


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
