"""Task files of lm-eval on rows that a test writes: a choice, and an answer to write.

In: a folder and rows. Out: files in it. Knows nothing of models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

CHOICES = [" light", " fan", " tv", " hall kitchen"]
ROWS = [
    {"question": f"turn {way} the {letter}", "choices": CHOICES, "gold": number % 4}
    for number, (way, letter) in enumerate(
        (way, letter) for way in ("on", "off") for letter in "abcdefghij"
    )
]


def write_tasks(folder: Path, rows: list[dict[str, Any]] | None = None, **more: Any) -> Path:
    """Write `rows.jsonl`, `pick` (multiple choice) and `write` (free text), both tagged `mine`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "\n".join(json.dumps(row) for row in rows or ROWS)
    (folder / "rows.jsonl").write_text(lines + "\n", encoding="utf-8")
    shared = {
        "tag": "mine",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
        "test_split": "test",
        "fewshot_split": "test",
        "doc_to_text": "{{question}}",
        "target_delimiter": "",
        "metadata": {"version": 2.0},
    }
    pick = {
        "task": "pick",
        "output_type": "multiple_choice",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
        "metric_list": [metric("acc"), metric("acc_norm")],
    }
    write = {
        "task": "write",
        "output_type": "generate_until",
        "doc_to_target": "{{choices[gold]}}",
        "generation_kwargs": {"until": [" fan"], "max_gen_toks": 6},
        "metric_list": [metric("exact_match")],
    }
    for task in (pick, write):
        path = folder / f"{task['task']}.yaml"
        path.write_text(yaml.safe_dump(shared | task | more), encoding="utf-8")
    return folder


def metric(name: str) -> dict[str, Any]:
    """A mean of which more is better."""
    return {"metric": name, "aggregation": "mean", "higher_is_better": True}
