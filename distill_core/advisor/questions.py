"""The questions: as few as decide, in plain words, with defaults that describe the starter.

In: facts of this machine. Out: plain dictionaries in the order in which they are asked. Knows no
rule. A question that nobody answers counts as unknown.
"""

from __future__ import annotations

from typing import Any

UNKNOWN = {"value": "unknown", "label": "I don't know"}
GIB = 2**30

STEPS = ["Goal", "Teacher", "Data", "Where it will run"]


def _choice(
    field: str, step: str, title: str, help: str, choices: dict[str, str], default: str, **more: Any
) -> dict[str, Any]:
    listed = [{"value": value, "label": label} for value, label in choices.items()]
    return {
        "field": field,
        "step": step,
        "title": title,
        "help": help,
        "kind": "choice",
        "choices": [*listed, UNKNOWN],
        "default": default,
        "unit": "",
        "scale": 1,
        "custom": more.get("custom", False),
    }


def _yes_no(field: str, step: str, title: str, help: str, default: str) -> dict[str, Any]:
    question = _choice(field, step, title, help, {"yes": "Yes", "no": "No"}, default)
    return {**question, "kind": "yes_no"}


def _number(
    field: str,
    step: str,
    title: str,
    help: str,
    default: float | None,
    *,
    unit: str,
    scale: float = 1,
) -> dict[str, Any]:
    return {
        "field": field,
        "step": step,
        "title": title,
        "help": help,
        "kind": "number",
        "choices": [],
        "default": "unknown" if default is None else default,
        "unit": unit,
        "scale": scale,
        "custom": False,
    }


def questions(machine: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """List the questions; `machine` (as `api.machine` tells it) fills in what it knows.

    Each: `{"field", "step", "title", "help", "kind": "choice|number|yes_no", "choices": [{"value",
    "label"}], "default": value or "unknown", "unit", "scale": what a form divides the number by,
    "custom": whether other text is welcome}`.
    """
    return [*_goal(), *_teacher(), *_data(), *_where(), *_machine(machine or {})]


def _goal() -> list[dict[str, Any]]:
    step = STEPS[0]
    return [
        _choice(
            "goal",
            step,
            "What do you want to gain?",
            "New knowledge means facts that the model has never seen.",
            {
                "smaller_faster": "A smaller, faster model",
                "better_at_task": "Better answers, size does not matter",
                "both": "Smaller and better",
                "style": "A tone or format",
                "new_knowledge": "New knowledge",
            },
            "smaller_faster",
        ),
        _choice(
            "task",
            step,
            "What does it do?",
            "Extraction turns text into fields, such as commands into JSON.",
            {
                "classification": "Sort into classes",
                "extraction": "Extract or convert",
                "open_generation": "Write freely",
                "chat": "Chat",
                "reasoning": "Reason in steps",
            },
            "extraction",
        ),
        _choice(
            "constraints.task_changes",
            step,
            "How often does the task change?",
            "New labels, new formats, new rules.",
            {"rarely": "Rarely", "monthly": "Monthly", "weekly": "Weekly"},
            "rarely",
        ),
        _yes_no(
            "constraints.keep_general_skills",
            step,
            "Must it stay good at everything else?",
            "Training on one task makes a model forget others.",
            "no",
        ),
    ]


def _teacher() -> list[dict[str, Any]]:
    step = STEPS[1]
    return [
        _yes_no(
            "teacher.exists",
            step,
            "Is there a teacher?",
            "A larger model that can already do the task, or nearly.",
            "yes",
        ),
        _choice(
            "teacher.name",
            step,
            "Which one?",
            "A built-in name, a hub id or a folder.",
            {"pocket-teacher": "pocket-teacher", "smollm2-135m-instruct": "smollm2-135m-instruct"},
            "pocket-teacher",
            custom=True,
        ),
        _yes_no(
            "teacher.good_at_task",
            step,
            "Is it good at this task?",
            "Clearly better than the small model is today, on rows that neither has seen.",
            "yes",
        ),
        _choice(
            "teacher.access",
            step,
            "What do you get from it?",
            "Weights say most, text says least.",
            {
                "weights": "Its weights",
                "top_k": "Likeliest tokens with probabilities",
                "text": "Text only, through an API",
            },
            "weights",
        ),
        _number(
            "teacher.held_out_score",
            step,
            "Its score on your held-out rows",
            "In percent, if you have measured it.",
            None,
            unit="%",
            scale=0.01,
        ),
        _number(
            "teacher.parameters",
            step,
            "Its size",
            "Millions of parameters; a 7B model has 7,000.",
            1_642_720,
            unit="million parameters",
            scale=1e6,
        ),
        _choice(
            "teacher.license",
            step,
            "Its licence",
            "Some licences follow the student, or forbid it.",
            {
                "apache-2.0": "Apache-2.0 (SmolLM2, many Qwen and Mistral sizes)",
                "mit": "MIT (DeepSeek)",
                "llama": "Llama community licence",
                "gemma": "Gemma terms",
                "hosted": "Terms of a hosted model (OpenAI, Anthropic, …)",
            },
            "apache-2.0",
            custom=True,
        ),
        _yes_no(
            "teacher.same_tokenizer",
            step,
            "Does the student use its tokenizer?",
            "Yes for a smaller model of the same family, or one cut from the teacher.",
            "yes",
        ),
        _yes_no(
            "teacher.serves_several_students",
            step,
            "Will it teach several students?",
            "Then work put into the teacher pays several times.",
            "no",
        ),
    ]


def _data() -> list[dict[str, Any]]:
    step = STEPS[2]
    return [
        _choice(
            "data.source",
            step,
            "Where are your rows?",
            "A file, or a data set on the hub; used in the recipe.",
            {"starter": "The built-in pocket assistant"},
            "starter",
            custom=True,
        ),
        _number(
            "data.labelled_rows",
            step,
            "Labelled rows",
            "Prompts with an answer that somebody wrote or checked.",
            500,
            unit="rows",
        ),
        _choice(
            "data.label_quality",
            step,
            "How good are the labels?",
            "Take 50 at random and count the wrong ones.",
            {
                "clean": "Clean, hardly any wrong",
                "mixed": "Some wrong",
                "poor": "Many wrong",
            },
            "mixed",
        ),
        _number(
            "data.unlabelled_rows",
            step,
            "Unlabelled rows",
            "Prompts of the same kind without an answer; the teacher can answer them.",
            20_000,
            unit="rows",
        ),
        _number(
            "data.held_out_rows",
            step,
            "Held-out rows",
            "Labelled rows kept aside to score on, never trained on.",
            1_000,
            unit="rows",
        ),
    ]


def _where() -> list[dict[str, Any]]:
    step = STEPS[3]
    return [
        _number(
            "student.max_parameters",
            step,
            "Largest student",
            "Millions of parameters that still fit where it will run.",
            210_000,
            unit="million parameters",
            scale=1e6,
        ),
        _number(
            "student.device_memory_gib",
            step,
            "Memory it may use",
            "In GiB, where it will run. A phone app usually gets 0.5 to 2.",
            0.5,
            unit="GiB",
        ),
        _yes_no(
            "student.published_checkpoint",
            step,
            "Is there a published small model to start from?",
            "One of the teacher's family is best.",
            "no",
        ),
        _number(
            "constraints.calls_per_month",
            step,
            "Calls per month",
            "How often it will answer.",
            100_000,
            unit="calls",
        ),
        _yes_no(
            "constraints.will_share",
            step,
            "Will you publish or sell it?",
            "Licences ask more of what is passed on.",
            "no",
        ),
        _number(
            "student.latency_ms",
            step,
            "Slowest answer that is still fine",
            "In milliseconds.",
            None,
            unit="ms",
        ),
    ]


def _machine(machine: dict[str, Any]) -> list[dict[str, Any]]:
    """Facts of the machine that trains; filled in where the studio can see it."""
    step = STEPS[3]
    device = machine.get("device")
    memory = machine.get("device_memory_total_bytes") or machine.get("memory_total_bytes")
    fast = "unknown" if not machine else "yes" if machine.get("dtype") == "bf16" else "no"
    return [
        _choice(
            "machine.device",
            step,
            "What trains it?",
            f"This machine: {machine['name']}." if machine.get("name") else "Where training runs.",
            {"cpu": "Processor", "cuda": "NVIDIA or AMD GPU", "mps": "Apple GPU"},
            device or "unknown",
        ),
        _number(
            "machine.memory_gib",
            step,
            "Memory for training",
            "In GiB; read from this machine." if memory else "In GiB.",
            round(memory / GIB, 1) if memory else None,
            unit="GiB",
        ),
        _yes_no(
            "machine.fast_bf16",
            step,
            "Does it compute bf16 fast?",
            "GPUs do; processors only with AVX-512-bf16 or AMX.",
            fast,
        ),
    ]


def default_answers(machine: dict[str, Any] | None = None) -> dict[str, Any]:
    """The document that the defaults make: the starter, on this machine."""
    return nest({item["field"]: item["default"] for item in questions(machine)})


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    """Turn dotted names into the document of answers."""
    document: dict[str, Any] = {}
    for field, value in flat.items():
        group, _, last = field.rpartition(".")
        target = document.setdefault(group, {}) if group else document
        target[last] = value
    return document
