"""For every setting of a recipe: a recipe, and a change of that setting alone.

In: nothing. Out: `CHANGES`, by the setting's name in the README: base recipe, overrides of both,
overrides of the second. `$T` is a teacher of four layers, `$O` another model of two narrower ones,
`$E` an encoder, `$P`, `$C` and `$X` files with prompts, chats and classes.
"""

from __future__ import annotations

from typing import Any

Change = tuple[str, list[str], list[str]]

_SHORT = {"max_steps": 2, "global_batch_size": 4, "micro_batch_size": 2, "learning_rate": 0.01}
_LOOKS = {"rows": 1, "samples": 1, "final_rows": 2, "max_new_tokens": 2, "every_steps": 2}


def _recipe(file: str, stage: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "device": "cpu",
        "data": {"sources": [{"kind": "file", "path": file}], "held_out": 0.4, "max_seq_len": 24},
        "stages": [stage | {"optim": dict(_SHORT)}],
        "evaluation": dict(_LOOKS),
        "checkpoints": {"every_steps": 1},
    } | more


BASES: dict[str, dict[str, Any]] = {
    "distill": _recipe(
        "$P",
        {
            "kind": "distill",
            "teacher": "$T",
            "student": {"init": "layer_drop", "layers": 2},
            "teacher_answers": {"max_new_tokens": 3},
        },
    ),
    "fine_tune": _recipe("$P", {"kind": "fine_tune", "model": "$T"}),
    "classes": _recipe("$X", {"kind": "fine_tune", "model": "$E"}, task="text_classification"),
}

_STARTER = [
    "data.sources=[{kind: starter, limit: 6}]",
    "data.held_out={kind: starter, split: held_out, limit: 2}",
]

_DATA = {
    "data.sources": ("distill", [], ["data.sources=[{kind: file, path: $C}]"]),
    "data.sources each (starter).split": (
        "distill",
        _STARTER,
        ["data.sources.0.split=development"],
    ),
    "data.sources each (starter).limit": (
        "distill",
        _STARTER,
        ["data.sources.0.limit=9"],
    ),
    "data.sources each (file).path": ("distill", [], ["data.sources.0.path=$C"]),
    "data.sources each (file).limit": ("distill", [], ["data.sources.0.limit=12"]),
    "data.held_out": ("distill", [], ["data.held_out=0.6"]),
    "data.columns.prompt": ("distill", [], ["data.columns.prompt=other"]),
    "data.columns.response": ("distill", [], ["data.columns.response=other"]),
    "data.columns.text": ("distill", [], ["data.columns.text=other"]),
    "data.columns.text_pair": ("classes", [], ["data.columns.text_pair=other"]),
    "data.columns.label": ("classes", [], ["data.columns.label=other"]),
    "data.columns.messages": (
        "distill",
        ["data.sources=[{kind: file, path: $C}]", "data.columns.messages=messages"],
        ["data.columns.messages=other"],
    ),
    "data.prompt_template": ("distill", [], ["data.prompt_template=please {prompt} :"]),
    "data.system_prompt": ("distill", [], ["data.system_prompt=the kitchen"]),
    "data.classes": ("classes", [], ["data.classes='two, on, off'"]),
    "data.max_seq_len": ("distill", [], ["data.max_seq_len=8"]),
}

_TUNE = "stages each (fine_tune)"
_WHOLE = ["stages.0.student={init: pretrained}"]
_SCRATCH = ["stages.0.student={init: scratch, layers: 1, hidden_size: 32, attention_heads: 4}"]
_DROP = ["stages.0.student={init: layer_drop, layers: 2}"]
_NARROW = ["stages.0.student={init: width_prune, calibration_rows: 1, hidden_size: 16, layers: 2}"]
_IMPORTANT = ["stages.0.student={init: layer_drop, layers: 2, keep: importance}"]
_LORA = ["stages.0.adapter={kind: lora, rank: 2}"]
_LONG = ["stages.0.optim.max_steps=4"]

_STUDENTS = {
    f"{_TUNE}.model": ("fine_tune", [], ["stages.0.model=$O"]),
    f"{_TUNE}.student": ("fine_tune", [], _DROP),
    f"{_TUNE}.student(pretrained).model": ("fine_tune", _WHOLE, ["stages.0.student.model=$O"]),
    f"{_TUNE}.student(pretrained).vocab_trim": (
        "fine_tune",
        _WHOLE,
        ["stages.0.student.vocab_trim={}"],
    ),
    f"{_TUNE}.student(pretrained).vocab_trim.extra_tokens": (
        "fine_tune",
        [*_WHOLE, "stages.0.student.vocab_trim={}"],
        ["stages.0.student.vocab_trim.extra_tokens=3"],
    ),
    f"{_TUNE}.student(scratch).layers": ("fine_tune", _SCRATCH, ["stages.0.student.layers=2"]),
    f"{_TUNE}.student(scratch).hidden_size": (
        "fine_tune",
        _SCRATCH,
        ["stages.0.student.hidden_size=16"],
    ),
    f"{_TUNE}.student(scratch).intermediate_size": (
        "fine_tune",
        _SCRATCH,
        ["stages.0.student.intermediate_size=24"],
    ),
    f"{_TUNE}.student(scratch).attention_heads": (
        "fine_tune",
        _SCRATCH,
        ["stages.0.student.attention_heads=2"],
    ),
    f"{_TUNE}.student(scratch).vocab_trim": (
        "fine_tune",
        _SCRATCH,
        ["stages.0.student.vocab_trim={}"],
    ),
    f"{_TUNE}.student(layer_drop).layers": ("fine_tune", _DROP, ["stages.0.student.layers=3"]),
    f"{_TUNE}.student(layer_drop).keep": ("fine_tune", _DROP, ["stages.0.student.keep=even"]),
    f"{_TUNE}.student(layer_drop).keep_layers": (
        "fine_tune",
        _DROP,
        ["stages.0.student.keep_layers=[2, 4]"],
    ),
    f"{_TUNE}.student(layer_drop).calibration_rows": (
        "fine_tune",
        [*_IMPORTANT, "stages.0.student.calibration_rows=1"],
        ["stages.0.student.calibration_rows=11"],
    ),
    f"{_TUNE}.student(layer_drop).vocab_trim": (
        "fine_tune",
        _DROP,
        ["stages.0.student.vocab_trim={}"],
    ),
    f"{_TUNE}.student(width_prune).layers": ("fine_tune", _NARROW, ["stages.0.student.layers=3"]),
    f"{_TUNE}.student(width_prune).hidden_size": (
        "fine_tune",
        _NARROW,
        ["stages.0.student.hidden_size=24"],
    ),
    f"{_TUNE}.student(width_prune).intermediate_size": (
        "fine_tune",
        _NARROW,
        ["stages.0.student.intermediate_size=24"],
    ),
    f"{_TUNE}.student(width_prune).attention_heads": (
        "fine_tune",
        _NARROW,
        ["stages.0.student.attention_heads=2"],
    ),
    f"{_TUNE}.student(width_prune).calibration_rows": (
        "fine_tune",
        _NARROW,
        ["stages.0.student.calibration_rows=9"],
    ),
    f"{_TUNE}.student(width_prune).vocab_trim": (
        "fine_tune",
        _NARROW,
        ["stages.0.student.vocab_trim={}"],
    ),
    f"{_TUNE}.adapter": ("fine_tune", [], _LORA),
    f"{_TUNE}.adapter(lora).rank": ("fine_tune", _LORA, ["stages.0.adapter.rank=3"]),
    f"{_TUNE}.adapter(lora).alpha": ("fine_tune", _LORA, ["stages.0.adapter.alpha=64"]),
    f"{_TUNE}.adapter(lora).dropout": ("fine_tune", _LORA, ["stages.0.adapter.dropout=0.5"]),
}

_OPTIM = {
    f"{_TUNE}.optim.{name}": ("fine_tune", before, [f"stages.0.optim.{name}={value}"])
    for name, value, before in (
        ("learning_rate", 0.02, []),
        ("epochs", 0.5, ["stages.0.optim.max_steps=null"]),
        ("max_steps", 3, []),
        ("global_batch_size", 3, []),
        ("micro_batch_size", 1, []),  # the batches change, and no number
        ("schedule", "linear", _LONG),
        ("warmup_fraction", 0.7, _LONG),
        ("weight_decay", 1.0, []),
        ("grad_clip_norm", 1e-3, []),
    )
}

_DISTILL = "stages each (distill)"
_TWO = ["stages.0.teacher=[{model: $T}, {model: $O}]", *_SCRATCH]
_SAMPLED = ["stages.0.teacher_answers.sampling_temperature=1.0"]
_OWN = ["stages.0.on_policy_fraction=1.0", "stages.0.student_answers.max_new_tokens=3"]

_TEACHING = {
    f"{_DISTILL}.teacher": ("distill", _SCRATCH, ["stages.0.teacher=$O"]),
    f"{_DISTILL}.teacher each .model": ("distill", _TWO, ["stages.0.teacher.1.model=$T"]),
    f"{_DISTILL}.teacher each .weight": ("distill", _TWO, ["stages.0.teacher.1.weight=3"]),
    f"{_DISTILL}.teacher_precision": ("distill", [], ["stages.0.teacher_precision=int8"]),
    f"{_DISTILL}.teacher_cache": ("distill", [], ["stages.0.teacher_cache={kind: hidden}"]),
    f"{_DISTILL}.teacher_cache(hidden).precision": (
        "distill",
        ["stages.0.teacher_cache={kind: hidden}"],
        ["stages.0.teacher_cache.precision=bf16"],
    ),
    f"{_DISTILL}.teacher_cache(top_k).k": (
        "distill",
        ["stages.0.teacher_cache={kind: top_k, k: 8}"],
        ["stages.0.teacher_cache.k=9"],
    ),
    f"{_DISTILL}.teacher_cache(sampled).samples": (
        "distill",
        ["stages.0.teacher_cache={kind: sampled, samples: 8}"],
        ["stages.0.teacher_cache.samples=9"],
    ),
    f"{_DISTILL}.student": ("distill", [], _SCRATCH),
    f"{_DISTILL}.losses": ("distill", [], ["stages.0.losses=[{name: jsd}]"]),
    f"{_DISTILL}.teacher_answers.rows": ("distill", [], ["stages.0.teacher_answers.rows=all"]),
    f"{_DISTILL}.teacher_answers.sampling_temperature": ("distill", [], _SAMPLED),
    f"{_DISTILL}.teacher_answers.best_of": (
        "distill",
        _SAMPLED,
        ["stages.0.teacher_answers.best_of=4"],
    ),
    f"{_DISTILL}.teacher_answers.max_new_tokens": (
        "distill",
        [],
        ["stages.0.teacher_answers.max_new_tokens=5"],
    ),
    f"{_DISTILL}.on_policy_fraction": ("distill", [], _OWN),
    f"{_DISTILL}.student_answers.sampling_temperature": (
        "distill",
        _OWN,
        ["stages.0.student_answers.sampling_temperature=0.0"],
    ),
    f"{_DISTILL}.student_answers.max_new_tokens": (
        "distill",
        _OWN,
        ["stages.0.student_answers.max_new_tokens=5"],
    ),
    f"{_DISTILL}.adapter": ("distill", [], _LORA),
}

_RUN = {
    "task": (
        "fine_tune",
        ["data.sources=[{kind: file, path: $X}]"],
        ["task=text_classification"],
    ),
    "seed": ("distill", [], ["seed=1"]),
    "precision": ("distill", [], ["precision=bf16"]),
    "evaluation.every_steps": ("distill", [], ["evaluation.every_steps=1"]),
    "evaluation.rows": ("distill", [], ["evaluation.rows=3"]),
    "evaluation.final_rows": ("distill", [], ["evaluation.final_rows=3"]),
    "evaluation.samples": ("distill", [], ["evaluation.samples=2"]),
    "evaluation.max_new_tokens": ("distill", [], ["evaluation.max_new_tokens=4"]),
    "evaluation.metric": ("distill", [], ["evaluation.metric=rouge_l"]),
    "evaluation.baselines": ("distill", [], ["evaluation.baselines=[fine_tuned_on_labels]"]),
    "checkpoints.every_steps": ("distill", [], ["checkpoints.every_steps=2"]),
    "checkpoints.keep": ("distill", _LONG, ["checkpoints.keep=1"]),
}

CHANGES: dict[str, Change] = _DATA | _STUDENTS | _OPTIM | _TEACHING | _RUN

GROUPS = {
    *("data", "data.columns", "stages", "evaluation", "checkpoints"),
    *(f"{_TUNE}.optim", f"{_DISTILL}.optim"),
    *(f"{_DISTILL}.teacher_answers", f"{_DISTILL}.student_answers"),
}
"""They hold settings, and have no value of their own."""

ELSEWHERE = {
    "name": "tests/core/test_runs.py::test_a_taken_name_gets_a_number",
    "device": "tests/core/test_device.py::test_a_device_that_is_not_here_is_refused",
    "data.sources each (hub).id": "tests/core/data/test_hub.py::"
    "test_rows_with_names_for_class_labels",
    "data.sources each (hub).split": "tests/core/data/test_hub.py::"
    "test_rows_with_names_for_class_labels",
    "data.sources each (hub).config": "tests/core/data/test_hub.py::test_limit_and_configuration",
    "data.sources each (hub).limit": "tests/core/data/test_hub.py::test_limit_and_configuration",
    f"{_TUNE}.optim.loss_chunk_rows": "tests/core/steps/test_both_sides.py::"
    "test_c20_the_logits_in_memory_are_those_of_a_chunk",
    f"{_TUNE}.optim.compile_loss": "tests/core/steps/test_both_sides.py::"
    "test_c20_a_compiled_loss_is_the_same_loss",
    f"{_TUNE}.optim.liger_loss": "tests/core/steps/test_loss_kernels.py::"
    "test_c20_where_there_is_nothing_to_try_nothing_is_tried",
    f"{_TUNE}.adapter(lora).base_precision": "tests/core/students/test_int4_base.py::"
    "test_only_the_adapter_is_trained_and_its_base_is_rounded",
}
"""What needs a network or a GPU, or is seen in a folder's name or in memory: who shows it."""
