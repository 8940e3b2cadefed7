"""Students of SmolLM2 by size: `python tests/benchmarks/student_sizes.py SST2.jsonl --steps 20`.

In: a file of film reviews with `text` and `label`, perhaps a number of steps. Out: a table of
parameters; with steps, each student is trained that long on this machine and scored on held-out
rows before and after. Shows that they train, not how well they end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from typing import Any

from distill_core import api

TEACHER = "smollm2-135m-instruct"
TRIM: dict[str, Any] = {"vocab_trim": {}}
STUDENTS: dict[str, dict[str, Any]] = {
    "all 30 layers": {"init": "pretrained"},
    "all 30 layers, trimmed": {"init": "pretrained", **TRIM},
    "lower 6 layers": {"init": "layer_drop", "layers": 6},
    "6 most important layers": {"init": "layer_drop", "layers": 6, "keep": "importance"},
    "6 most important layers, trimmed": {
        **{"init": "layer_drop", "layers": 6, "keep": "importance"},
        **TRIM,
    },
    "432 wide": {"init": "width_prune", "hidden_size": 432, "intermediate_size": 1152},
    "432 wide, trimmed": {
        **{"init": "width_prune", "hidden_size": 432, "intermediate_size": 1152},
        **TRIM,
    },
    "288 wide, 12 layers, trimmed": {
        **{"init": "width_prune", "hidden_size": 288, "layers": 12, "intermediate_size": 768},
        **TRIM,
    },
}


def recipe(file: str, student: dict[str, Any], steps: int) -> Any:
    """The recipe of one student; the teacher is taken as it is."""
    return api.load_recipe(
        {
            "name": "student-sizes",
            "data": {
                "sources": [{"kind": "file", "path": file}],
                "columns": {"prompt": "text", "response": "label"},
                "system_prompt": "You judge film reviews.",
                "prompt_template": "Review: {prompt}\nIs it positive or negative?",
                "max_seq_len": 128,
            },
            "stages": [
                {
                    "kind": "distill",
                    "teacher": TEACHER,
                    "student": student,
                    "optim": {
                        "max_steps": steps,
                        "learning_rate": 3e-4,
                        "global_batch_size": 8,
                        "micro_batch_size": 8,
                    },
                }
            ],
            "evaluation": {"rows": 32, "final_rows": 32, "samples": 0, "max_new_tokens": 4},
            "checkpoints": {"every_steps": 1000},
        }
    )


def trained(file: str, student: dict[str, Any], steps: int) -> list[str]:
    """Held-out KL to the teacher before and after, and the teacher's mass on dropped tokens."""
    held_out: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for event in api.run_here(recipe(file, student, steps), runs_dir=folder):
            if event["type"] == "evaluation":
                held_out.append(event["metrics"])
    first, last = held_out[0], held_out[-1]
    dropped = last.get("held_out_dropped_mass")
    return [
        f"{first['held_out_forward_kl']:.2f}",
        f"{last['held_out_forward_kl']:.2f}",
        "–" if dropped is None else f"{100 * dropped:.2f} %",
    ]


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--steps", type=int, default=0)
    options = parser.parse_args()
    heads = ["student", "parameters", "smaller", "tokens"]
    if options.steps:
        heads += ["KL before", f"KL after {options.steps} steps", "mass on dropped tokens"]
    lines = [heads, ["---"] * len(heads)]
    for line in lines:
        sys.stdout.write(f"| {' | '.join(line)} |\n")
    data = recipe(options.file, STUDENTS["lower 6 layers"], 1).data.model_dump()
    for name, student in STUDENTS.items():
        facts = api.student_facts(TEACHER, student, data)
        cells = [name, f"{facts['parameters']:,}", f"{facts['size_ratio']:.2f} ×"]
        cells.append(f"{facts['vocab_size']:,}")
        if options.steps:
            cells += trained(options.file, student, options.steps)
        sys.stdout.write(f"| {' | '.join(cells)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
