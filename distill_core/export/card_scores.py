"""The scores in a model card: a table of all models, and metadata that the hub reads.

In: a run's evaluation. Out: Markdown, and `EvalResult`s. Every figure comes from the evaluation.
"""

from __future__ import annotations

from typing import Any

from distill_core.scores import SCORES
from distill_core.tasks import Task, task_of

_ROWS = (
    ("teacher", "Teacher"),
    ("student", "**This student**"),
    ("fine_tuned_on_labels", "Same student, labels only"),
    ("untrained_student", "Same student, untrained"),
)


def scores_table(evaluation: dict[str, Any]) -> str:
    """Lay out the scores of all models; "" where there are none."""
    found = evaluation.get("models", {})
    if not found:
        return ""
    metric = _metric(evaluation)
    title, task = SCORES[metric].title, task_of(evaluation.get("task"))
    lines = [
        f"| | parameters | {title} [95 % interval] | cross-entropy | KL to teacher | "
        f"{SCORES[task.speed].unit} |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for key, name in _ROWS:
        if key in found:
            lines.append(_score_row(name, found[key], metric, task))
    rows = evaluation.get("data", {})
    facts = [f"{rows.get('rows', 0):,} held-out rows"]
    if evaluation.get("retention") is not None:
        facts.append(f"keeps {evaluation['retention']:.1%} of the teacher's {title}")
        interval = evaluation.get("retention_ci95")
        if interval:
            facts[-1] += f" [{interval[0]:.1%}, {interval[1]:.1%}]"
    lines += ["", "; ".join(facts) + "."]
    lines.append(
        f"Cross-entropy and KL in nats per {task.unit}; KL(teacher ‖ student) at temperature 1; "
        "speed of single answers on the machine that trained it."
    )
    if evaluation.get("verdict_reason"):
        lines.append(f"\nVerdict: {evaluation['verdict']}. {evaluation['verdict_reason']}")
    return "\n".join(lines)


def harness_table(harness: dict[str, Any]) -> str:
    """Lay out what lm-eval found of the student, beside its teacher; "" where there is nothing."""
    rows = [row for row in harness.get("scores", []) if row["model"] in {"student", "teacher"}]
    if not any(row["model"] == "student" for row in rows):
        return ""
    lines = [
        f"Tasks of {harness['harness']}:",
        "",
        "| task | rows | shots | metric | model | value ± stderr |",
        "|---|---:|---:|---|---|---:|",
    ]
    for row in sorted(rows, key=lambda row: (row["task"], row["metric"], row["model"])):
        stderr = "" if row["stderr"] is None else f" ± {row['stderr']:.4f}"
        filtered = "" if row["filter"] == "none" else f" ({row['filter']})"
        template = ", chat template" if row["chat_template"] else ""
        lines.append(
            f"| {row['task']}{template} | {row['n_samples'] or '–'} | {_shots(row)} | "
            f"{row['metric']}{filtered} | {row['model']} | {row['value']:.4f}{stderr} |"
        )
    return "\n".join(lines)


def _shots(row: dict[str, Any]) -> str:
    return "–" if row["n_shot"] is None else str(row["n_shot"])


def _metric(evaluation: dict[str, Any]) -> str:
    """The score that the task is judged by."""
    return str((evaluation.get("metric") or {}).get("name") or "exact_match")


def _score_row(title: str, score: dict[str, Any], metric: str, task: Task) -> str:
    is_share = SCORES[metric].unit == "0–1"
    told = "–"
    if score.get(metric) is not None:
        values = [score[metric], *(score.get(f"{metric}_ci95") or [])]
        told, *interval = [f"{value:.1%}" if is_share else f"{value:.3f}" for value in values]
        told += f" [{', '.join(interval)}]" if interval else ""
    cells = [
        title,
        f"{score['parameters']:,}",
        told,
        _number(score.get("cross_entropy"), 3),
        _number(score.get("kl_to_teacher"), 3),
        _number(score.get(task.speed), 0),
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: Any, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def eval_results(evaluation: dict[str, Any], task: Task) -> list[Any] | None:
    """The student's score as the hub's leaderboards read it; None where there is none."""
    from huggingface_hub import EvalResult

    metric = _metric(evaluation)
    score = evaluation.get("models", {}).get("student", {}).get(metric)
    if score is None:
        return None
    return [
        EvalResult(
            task_type=task.pipeline_tag,
            dataset_type="held-out",
            dataset_name=f"{evaluation.get('data', {}).get('rows', 0)} held-out rows",
            metric_type=metric,
            metric_value=round(score, 4),
        )
    ]
