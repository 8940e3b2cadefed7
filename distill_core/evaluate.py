"""Scores of teacher, student and baselines on the same held-out rows.

In: a run's members and held-out rows. Out: `evaluation.json`'s content (README, "Evaluation").
What the scores add up to, and how sure that is, is in `conclusions.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill_core import conclusions, files, intervals
from distill_core.comparing import lineup
from distill_core.data.formats import Row
from distill_core.data.sources import load_rows, prepare
from distill_core.data.tokenize import stop_token_ids
from distill_core.device import pick_device
from distill_core.errors import DataError, RunError
from distill_core.events import Event, progress, result_of
from distill_core.recipe import FileSource, Recipe
from distill_core.scores import TASK_METRICS
from distill_core.scoring import (
    HeldOut,
    answer_prompts,
    choose_metric,
    row_scores,
    score_tokens,
)
from distill_core.scoring.answers import Answers, Validity
from distill_core.scoring.classes import HeldOutTexts, RowClock, score_whole
from distill_core.scoring.in_turn import InTurn
from distill_core.scoring.seeds import ROWS_FILE, other_seeds, row_results
from distill_core.scoring.speed import MEMORY_MEASURES, AnswerClock, peak_memory
from distill_core.scoring.tokens import score_own_samples
from distill_core.teachers.local import LocalTeacher
from distill_core.teachers.trimmed import for_student, tokenizer_for


@dataclass
class _Scored:
    """What has been found out of all members so far."""

    metric: str
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: dict[str, list[float]] = field(default_factory=dict)
    """The task metric row by row."""
    clocks: InTurn = field(default_factory=InTurn)
    timed: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)
    teacher: LocalTeacher | None = None
    teacher_tokenizer: Any = None


def evaluate_members(
    run_dir: Path,
    rows: Sequence[Row],
    *,
    data_facts: dict[str, Any],
    recipe: Recipe,
    device: torch.device,
    store: bool = True,
    only: Collection[str] | None = None,
) -> Generator[Event, None, dict[str, Any]]:
    """Score every member of a run that has weights; yields `progress`, returns the evaluation.

    Members are loaded one after the other. The teacher stays, for the student's KL, and one of each
    shape: in the end they are timed in turn. `store`: keep the row results beside the run, for
    verdicts over several seeds. `only`: these members.
    """
    members = [one for one in lineup.saved(run_dir) if only is None or one.key in only]
    members.sort(key=lambda found: found.key != lineup.TEACHER)
    metric, reason = choose_metric(recipe.evaluation.metric, rows)
    scored = _Scored(metric)
    validity = None
    if recipe.task != "text_classification":
        validity = Validity.of(
            [row.response.strip() for row in rows if row.response is not None],
            max_new_tokens=recipe.evaluation.max_new_tokens,
        )
    for number, found in enumerate(members):
        words = partial(progress, "evaluating", done=number, total=len(members))
        yield words(found.title)
        loaded = lineup.load(run_dir, found, device=device)
        if validity is None:
            _score_classifier(scored, loaded, rows, recipe)
            continue
        held_out = HeldOut.make(
            rows,
            loaded.tokenizer,
            max_seq_len=recipe.data.max_seq_len,
            max_new_tokens=recipe.evaluation.max_new_tokens,
            metric=metric,
            teacher_tokenizer=tokenizer_for(scored.teacher_tokenizer, loaded.tokenizer),
        )
        for doing in _score_member(scored, loaded, held_out, validity):
            yield words(f"{found.title}: {doing}")
    yield progress(
        "evaluating", "speed of all models, in turn", done=len(members), total=len(members)
    )
    for key, timings in scored.clocks.timings().items():
        scored.scores[key] |= timings.as_scores()
        scored.timed[key] = (timings.tokens, timings.seconds)
    if store:
        files.replace_json(run_dir / ROWS_FILE, {"metric": metric, "rows": scored.rows})
    titles = {found.key: found.title for found in members}
    return {
        "run": run_dir.name,
        "task": recipe.task,
        "data": data_facts,
        "metric": {"name": metric, "reason": reason, "setting": recipe.evaluation.metric},
        "invalid_rule": validity.rule if validity else None,
        "peak_memory_is": MEMORY_MEASURES[device.type],
        "models": scored.scores,
        **conclusions.ratios(scored.scores, scored.rows, scored.timed, metric=metric),
        "comparisons": conclusions.comparisons(scored.rows, metric=metric),
        **conclusions.verdict(scored.rows, metric=metric, titles=titles),
    }


def _score_member(
    scored: _Scored, loaded: lineup.Loaded, held_out: HeldOut, validity: Validity
) -> Iterator[str]:
    """Score one member, and say what comes next; the teacher stays for those that come after it."""
    found = loaded.member
    known = scored.teacher if held_out.comparable else None
    teacher = for_student(known, scored.teacher_tokenizer, loaded.tokenizer)
    yield "probabilities"
    tokens = score_tokens(loaded.model, held_out, teacher=teacher)
    yield "answers"
    answers = answer_prompts(loaded.model, held_out)
    scored.clocks.add(found.key, AnswerClock(loaded.model, held_out))
    score: dict[str, Any] = {
        **_facts(loaded),
        **tokens.as_scores(),
        "peak_memory_bytes": peak_memory(loaded.model, held_out),
        **_answer_scores(answers, held_out, validity),
    }
    if teacher is not None:
        yield "what it writes itself"
        score |= score_own_samples(loaded.model, held_out, teacher=teacher)
    elif scored.teacher is not None:
        score["note"] = "other tokens than the teacher's: no KL, no agreement"
    if scored.metric == "bits_per_byte":
        scored.rows[found.key] = [float(value) for value in tokens.bits_of_rows]
    else:
        values = row_scores(scored.metric, answers.texts, held_out.references)
        scored.rows[found.key] = values
        score |= metric_scores(scored.metric, values)
    scored.scores[found.key] = score
    if found.key == lineup.TEACHER:
        stops = stop_token_ids(loaded.tokenizer)
        scored.teacher_tokenizer = loaded.tokenizer
        scored.teacher = LocalTeacher(
            loaded.model, vocab_size=len(loaded.tokenizer), stop_ids=stops
        )


def _score_classifier(
    scored: _Scored, loaded: lineup.Loaded, rows: Sequence[Row], recipe: Recipe
) -> None:
    """As `_score_member`, of a model that tells classes apart."""
    key, labels = loaded.member.key, loaded.member.labels
    assert labels is not None, "the line-up knows the classes"
    longest = recipe.data.max_seq_len
    texts = HeldOutTexts.make(rows, loaded.tokenizer, max_seq_len=longest, classes=labels)
    teacher = for_student(scored.teacher, scored.teacher_tokenizer, loaded.tokenizer, classes=True)
    found, scored.rows[key] = score_whole(loaded.model, texts, teacher)
    scored.clocks.add(key, RowClock(loaded.model, texts))
    scored.scores[key] = _facts(loaded) | found
    if key == lineup.TEACHER:
        scored.teacher_tokenizer = loaded.tokenizer
        scored.teacher = LocalTeacher(loaded.model, vocab_size=0, stop_ids=set())


def _facts(loaded: lineup.Loaded) -> dict[str, Any]:
    """What a model is, whatever it is scored on."""
    found = loaded.member
    facts: dict[str, Any] = {
        "title": found.title,
        "parameters": found.parameters,
        "bytes": found.bytes,
        "fingerprint": loaded.fingerprint,
    }
    if found.seen:
        seen = found.seen.values()
        facts |= {
            "trained_steps": sum(stage.steps for stage in seen),
            "trained_tokens": sum(stage.tokens for stage in seen),
            "supervised_tokens": sum(stage.supervised_tokens for stage in seen),
        }
    return facts


def metric_scores(metric: str, values: list[float]) -> dict[str, Any]:
    """Mean of a task metric over rows and its interval; None for rows that ask nothing."""
    if not values:
        return {metric: None, f"{metric}_ci95": None}
    sure = intervals.wilson if TASK_METRICS[metric].right_or_wrong else intervals.mean
    return {metric: float(np.mean(values)), f"{metric}_ci95": sure(values)}


def _answer_scores(answers: Answers, held_out: HeldOut, validity: Validity) -> dict[str, Any]:
    """Exact match whatever the metric, and the share of answers that are of no use."""
    exact = row_scores("exact_match", answers.texts, held_out.references)
    found = metric_scores("exact_match", exact)
    if not exact:
        return found
    faults = [validity.fault(*pair) for pair in zip(answers.texts, answers.ended, strict=True)]
    bad = [bool(fault) for fault in faults]
    return found | {
        "invalid_rate": float(np.mean(bad)),
        "invalid_rate_ci95": intervals.wilson(bad),
        "invalid": {name: faults.count(name) for name in sorted(set(faults)) if name},
    }


def evaluate_run(
    run_dir: Path, recipe: Recipe, *, data: str | None, rows: int | None
) -> dict[str, Any]:
    """Score a run's members again, on its held-out rows or on a file, and store nothing of it.

    Without `data` and `rows` the stored evaluation is returned, its verdict renewed with the runs
    of the same recipe and other seeds that lie beside it.

    Raises:
        DataError: if the file cannot be used.
        RunError: if the run has no student yet.
    """
    stored = files.read_json(run_dir / "evaluation.json")
    if stored and data is None and rows is None:
        return stored | _renewed_verdict(stored, run_dir, recipe)
    if lineup.STUDENT not in [found.key for found in lineup.saved(run_dir)]:
        raise RunError(
            f"{run_dir.name} has no trained student yet. Wait until it has finished, or resume it."
        )
    prepared = prepare(recipe.data, seed=recipe.seed, task=recipe.task)
    chosen, name = prepared.held_out, str(prepared.facts.get("held_out_title", "held-out rows"))
    if data is not None:
        there = load_rows(recipe.data, source=FileSource(path=data), field="data", task=recipe.task)
        chosen = [row for row in there if row.labelled]
        name = Path(data).name
        if not chosen:
            raise DataError(
                f"{data} has no labelled rows to score on. Give rows with answers.", field="data"
            )
    chosen = chosen[: rows or recipe.evaluation.final_rows]
    asked = [row.content_hash for row in chosen]
    trained_on = set(asked).intersection(row.content_hash for row in prepared.train)
    scored = evaluate_members(
        run_dir,
        chosen,
        data_facts={
            "name": name,
            "rows": len(chosen),
            "overlap_with_training": sum(key in trained_on for key in asked),
        },
        recipe=recipe,
        device=pick_device(recipe.device),
        store=False,
    )
    return result_of(scored)


def _renewed_verdict(stored: dict[str, Any], run_dir: Path, recipe: Recipe) -> dict[str, Any]:
    """The verdict over this run and those beside it that differ in name and seed only."""
    metric, rows = row_results(run_dir)
    titles = {key: str(model.get("title", key)) for key, model in stored["models"].items()}
    others = other_seeds(run_dir, recipe, metric)
    return conclusions.verdict(rows, others, metric=metric, titles=titles)
