"""After training: scores, answers side by side, and the student as a folder of its own.

In: a run. Out: plain data, a stream of it, or a folder. Trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distill_core import runs as run_folders
from distill_core.api.running import folder_of


def evaluate(
    run: str,
    *,
    data: str | None = None,
    rows: int | None = None,
    runs_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Score teacher, student and baselines on held-out rows or a file (shape: README)."""
    from distill_core import evaluate

    folder = folder_of(run, runs_dir)
    return evaluate.evaluate_run(folder, run_folders.load_recipe(folder), data=data, rows=rows)


def harness(
    run: str,
    tasks: list[str],
    *,
    tasks_dir: str | Path | None = None,
    models: list[str] | None = None,
    limit: int | None = None,
    shots: int | None = None,
    chat_template: bool = False,
    batch_size: int = 8,
    bars: bool = False,
    runs_dir: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Score a run's models, or one model by name or folder, on tasks of lm-eval.

    `{"run", "harness": "lm-eval 0.4.13", "scored_time_s", "scores": [{"model": "teacher|student|…",
    "title", "fingerprint", "task", "version", "metric": "acc", "filter", "value", "stderr" | None,
    "higher_is_better" | None, "n_shot", "n_samples" | None: a group, "chat_template"}]}`. A run
    keeps all its scores in `harness.json`, for `show`. `models`: keys as in `compare`; all with
    weights if none. `tasks_dir`: task files of your own, whose names hide lm-eval's.
    Raises `DistillError` where lm-eval is missing, `DataError`, `HubUnreachable`, `RunError`.
    """
    from distill_core import harness

    request = harness.Request(
        tasks,
        tasks_dir=Path(tasks_dir) if tasks_dir else None,
        limit=limit,
        shots=shots,
        chat_template=chat_template,
        batch_size=batch_size,
        bars=bars,
        **({"tell": progress} if progress else {}),
    )
    if harness.names_a_model(run):
        return harness.score_model(run, request)
    return harness.score_run(folder_of(run, runs_dir), request, members=models)


def comparable(run: str, *, runs_dir: str | Path | None = None) -> list[dict[str, Any]]:
    """List whose weights can answer beside a run, students of other runs included.

    Each: `{"key": "teacher|student|untrained_student|fine_tuned_on_labels|run:<id>", "title",
    "role": "teacher|student|untrained|baseline|other", "parameters", "bytes"}`.
    """
    from distill_core.comparing import compare

    return compare.comparable(folder_of(run, runs_dir))


def held_out_prompts(
    run: str, *, limit: int = 50, runs_dir: str | Path | None = None
) -> list[dict[str, Any]]:
    """Held-out prompts to try: `{"prompt", "response"}` each."""
    from distill_core.comparing import compare

    return compare.held_out_prompts(folder_of(run, runs_dir), limit=limit)


def compare(
    run: str,
    prompt: str,
    *,
    models: list[str] | None = None,
    max_new_tokens: int = 64,
    sampling_temperature: float = 0.0,
    runs_dir: str | Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Let several models answer the same prompt, streaming.

    Yields `{"type": "loading", "model"}`, `{"type": "loaded", "model", "parameters", "bytes",
    "fingerprint"}`, then per token `{"type": "token", "model", "text", "index"}`, then per model
    `{"type": "answer", "model", "text", "tokens", "tokens_per_s", "latency_ms"}`, then per model
    other than the teacher `{"type": "tokens", "model", "mean_kl", "top1_agreement", "tokens":
    [{"text", "kl": nats, "agree": bool, "student_top": [{"text", "probability"}×5],
    "teacher_top": […]}]}`: both distributions after the same prefix, the student's own answer; no
    tokens and a `"note"` that says why where the two have different tokenizers. A trimmed student
    has `"dropped_mass"` too: the teacher's probability of tokens that it lacks.
    Models that tell classes apart give no `token`s: their `answer` is the class, with
    `"probability", "classes": [{"text", "probability"}], "rows_per_s"`, and their `tokens` are one,
    for the whole text.
    """
    from distill_core.comparing import compare

    return compare.compare(
        folder_of(run, runs_dir),
        prompt,
        models=models,
        max_new_tokens=max_new_tokens,
        sampling_temperature=sampling_temperature,
    )


def export(
    run: str,
    *,
    format: str = "hf",
    out: str | Path | None = None,
    runs_dir: str | Path | None = None,
) -> Path:
    """Write the student as a Hugging Face folder with a model card; returns the folder.

    Without `out` it goes into the run: `export/hf`. Raises `RunError`, `DistillError`,
    `DiskFullError`.
    """
    from distill_core.export import export_run

    run_dir = run_folders.resolve(run, run_folders.default_runs_dir(runs_dir))
    return export_run(run_dir, format, out)
