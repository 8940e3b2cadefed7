"""What there is: this machine, models and their facts, whether two of them fit.

In: names of models, settings of a student. Out: plain data. No weights are loaded,
but for the self-test and the starter's logits.
"""

from __future__ import annotations

from typing import Any

from distill_core.recipe import Recipe


def machine() -> dict[str, Any]:
    """Describe this machine.

    `{"device": "cpu|cuda|mps", "name": "CPU · 2 cores · AVX2", "dtype": "fp32|bf16",
    "fast_bf16": bool, "note": "fp32 student …", "cores": 2, "memory_total_bytes",
    "memory_free_bytes", "device_memory_total_bytes" | None, "device_memory_free_bytes" | None}`
    """
    from distill_core import device

    return device.facts()


def self_test(device: str = "auto") -> dict[str, Any]:
    """Measure on a device whether losses and gradients are right; takes seconds.

    `{"device", "name", "passed": bool, "seconds", "properties": [{"name", "words", "measures",
    "figure" | None, "limit", "passed": bool, "error"}]}`. Raises `RecipeError` where this machine
    has no such device.
    """
    from distill_core import self_test

    return self_test.self_test(device)


def models() -> list[dict[str, Any]]:
    """List the built-in models, then models found in this machine's cache.

    Each: `{"name": "pocket-teacher", "title", "parameters", "bytes", "layers", "hidden_size",
    "vocab_size", "license", "license_note", "max_seq_len", "offline": bool, "download_bytes",
    "tasks": what its architecture can do, "labels": the classes that its head knows, or []}`.
    """
    from distill_core.models import model_facts

    return model_facts.listed()


def model_facts(name: str) -> dict[str, Any]:
    """Read a model's facts from its configuration alone, no weights loaded.

    The keys of `models()`, and `"architecture"`, `"tied_embeddings"`, `"attention_heads"`,
    `"intermediate_size"`, `"has_chat_template"`. Raises `ModelError`, `HubUnreachable`.
    """
    from distill_core.models import model_facts

    return model_facts.facts(name)


def student_facts(
    teacher: str,
    student: dict[str, Any],
    data: dict[str, Any] | None = None,
    *,
    task: str = "causal_lm",
) -> dict[str, Any]:
    """Size a student before anything is built (`student` and `data` as in a recipe).

    `{"parameters", "bytes", "layers", "hidden_size", "vocab_size", "size_ratio":
    teacher/student, "layer_map": "layers 1–6 of 30; vocabulary 9,812 of 49,152" | ""}`. A trimmed
    vocabulary is counted on the data's rows. Raises `RecipeError`, `ModelError`.
    """
    from distill_core.estimate import student_size
    from distill_core.recipe import ready_recipes

    parsed = ready_recipes.parse_student(student)
    rows = ready_recipes.parse_data(data, task)
    return student_size.student_facts(teacher, parsed, rows, task=task)


def pair_report(
    teacher: str, student: dict[str, Any], *, task: str = "causal_lm"
) -> dict[str, Any]:
    """Tell whether two models can be compared, and how, no weights loaded (`student` as above).

    `{"verdict": "Same tokenizer, 128 padded rows: cut.", "comparable": bool | None: not known yet,
    "loss": "forward_kl | cross_tokenizer", "findings": [{"topic", "state": "good | note | warning |
    error", "text", "fix"}], "teacher": {"name", "architecture", "layers", "hidden_size", "context",
    "rows", "tokens", "bos", "eos", "pad", "turn_end", "template", "licence"}, "student": {…}}`.
    Raises `RecipeError`.
    """
    from distill_core import pair_doctor
    from distill_core.recipe import ready_recipes

    return pair_doctor.pair_report(teacher, ready_recipes.parse_student(student), task=task)


def pair_reports(recipe: Recipe) -> list[dict[str, Any]]:
    """Do so for every distil stage of a recipe: `pair_report`'s keys and `"stage"`, its index."""
    from distill_core import pair_doctor

    return pair_doctor.pair_reports(recipe)


def fitting_losses(comparable: bool | None, losses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Exchange the terms of a stage that cannot serve its pair (`comparable` of its report)."""
    from distill_core.pair_doctor import fitting

    return fitting.fitting_losses(comparable, losses)


def temperature_example() -> dict[str, Any]:
    """Real logits of the starter teacher for one prompt, position by position.

    `{"prompt", "answer", "positions": [{"token": "…", "candidates": [{"text", "logit"}×12],
    "rest_logits": […]}]}`: `rest_logits` are all other logits, so that softmax is exact.
    """
    from distill_core import softening

    return softening.temperature_example()
