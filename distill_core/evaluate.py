"""Scores of teacher, student and baselines on the same held-out rows, and what they add up to.

In: a run's members and held-out rows. Out: `evaluation.json`'s content (README, "evaluate"). Every
score has a 95 % interval; a verdict needs a paired test and more than one seed.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill_core import files, intervals, lineup, runs
from distill_core.data.formats import Row
from distill_core.data.sources import load_rows, prepare
from distill_core.data.tokenize import stop_token_ids
from distill_core.device import memory_bytes, pick_device
from distill_core.errors import DataError, DistillError, RunError
from distill_core.events import Event, progress
from distill_core.recipe import FileSource, Recipe
from distill_core.scoring import HeldOut, measure_speed, score_answers, score_tokens
from distill_core.teachers.local import LocalTeacher

ROWS_FILE = "evaluation_rows.json"
"""Right or wrong per row and model, so that other runs can be compared on the same rows."""

SIGNIFICANT = 0.05


def evaluate_members(
    run_dir: Path,
    rows: list[Row],
    *,
    data_facts: dict[str, Any],
    max_seq_len: int,
    max_new_tokens: int,
    device: torch.device,
    store: bool = True,
) -> Generator[Event, None, dict[str, Any]]:
    """Score every member of a run that has weights; yields `progress`, returns the evaluation.

    Members are loaded one after the other; only the teacher stays, for the student's KL.
    """
    members = [found for found in lineup.read(run_dir) if lineup.exists(run_dir, found)]
    members.sort(key=lambda found: found.key != lineup.TEACHER)
    teacher: LocalTeacher | None = None
    scores: dict[str, dict[str, Any]] = {}
    exact: dict[str, list[bool]] = {}
    for number, found in enumerate(members):
        yield progress("evaluating", found.title, done=number, total=len(members))
        before = memory_bytes(device)
        loaded = lineup.load(run_dir, found, device=device)
        held_out = HeldOut.make(
            rows, loaded.tokenizer, max_seq_len=max_seq_len, max_new_tokens=max_new_tokens
        )
        is_teacher = found.key == lineup.TEACHER
        compared = None if is_teacher or teacher is None else teacher
        tokens = score_tokens(loaded.model, held_out, teacher=compared)
        exact[found.key], _ = score_answers(loaded.model, held_out)
        speed = measure_speed(loaded.model, held_out)
        if "peak_memory_bytes" in speed:
            speed["peak_memory_bytes"] = max(found.bytes, int(speed["peak_memory_bytes"]) - before)
        score = {
            "title": found.title,
            "parameters": found.parameters,
            "bytes": found.bytes,
            "fingerprint": loaded.fingerprint,
            "cross_entropy": tokens.cross_entropy,
            "perplexity": math.exp(min(tokens.cross_entropy, 700.0)),
            "tokens": tokens.tokens,
            **exact_match(exact[found.key]),
            **speed,
        }
        if not is_teacher:
            score |= {
                "kl_to_teacher": tokens.kl_to_teacher,
                "top1_agreement": tokens.top1_agreement,
            }
        score["calibration_error"] = intervals.calibration_error(tokens.confidence, tokens.correct)
        scores[found.key] = score
        if is_teacher:
            teacher = LocalTeacher(
                loaded.model,
                vocab_size=len(loaded.tokenizer),
                stop_ids=stop_token_ids(loaded.tokenizer),
            )
    yield progress("evaluating", "all models", done=len(members), total=len(members))
    files.replace_json(
        run_dir / ROWS_FILE,
        {key: [int(right) for right in rights] for key, rights in exact.items()},
    )
    return {
        "run": run_dir.name,
        "data": data_facts,
        "models": scores,
        **conclusions(scores, exact),
    }


def exact_match(exact: list[bool]) -> dict[str, Any]:
    """Share of right answers and its interval; None for rows that ask nothing."""
    if not exact:
        return {"exact_match": None, "exact_match_ci95": None}
    return {"exact_match": float(np.mean(exact)), "exact_match_ci95": intervals.wilson(exact)}


def conclusions(
    scores: dict[str, dict[str, Any]],
    exact: dict[str, list[bool]],
    others: list[dict[str, list[bool]]] | None = None,
) -> dict[str, Any]:
    """Retention, size, speed, share of the gap closed, and a verdict against the best baseline.

    `others` are the row results of runs of the same recipe with other seeds.
    """
    student, teacher = scores.get(lineup.STUDENT), scores.get(lineup.TEACHER)
    result: dict[str, Any] = dict.fromkeys(
        ("retention", "retention_ci95", "size_ratio", "speedup", "gap_closed")
    )
    if student and teacher:
        result["size_ratio"] = teacher["parameters"] / max(1, student["parameters"])
        if student.get("tokens_per_s") and teacher.get("tokens_per_s"):
            result["speedup"] = student["tokens_per_s"] / teacher["tokens_per_s"]
        if teacher["exact_match"]:
            result["retention"] = student["exact_match"] / teacher["exact_match"]
            result["retention_ci95"] = intervals.paired_ratio(
                exact[lineup.STUDENT], exact[lineup.TEACHER]
            )
        untrained = scores.get(lineup.UNTRAINED)
        if untrained and teacher["exact_match"] is not None:
            gap = teacher["exact_match"] - untrained["exact_match"]
            gained = student["exact_match"] - untrained["exact_match"]
            result["gap_closed"] = gained / gap if gap > 0 else None
    return result | _verdict(exact, others or [])


def _verdict(exact: dict[str, list[bool]], others: list[dict[str, list[bool]]]) -> dict[str, Any]:
    """Compare student and baseline row by row, over all seeds that there are."""
    against = lineup.BASELINE if lineup.BASELINE in exact else lineup.UNTRAINED
    runs = [exact, *others]
    runs = [
        one
        for one in runs
        if one.get(lineup.STUDENT)
        and len(one[lineup.STUDENT]) == len(one.get(against, [])) == len(exact[lineup.STUDENT])
    ]
    nothing = {"verdict_against": against, "paired_test_p": None, "seeds": len(runs)}
    if not runs:
        return {
            "verdict": "inconclusive",
            "verdict_reason": "Nothing to compare the student with on these rows.",
            **nothing,
        }
    p = max(intervals.mcnemar(one[lineup.STUDENT], one[against]) for one in runs)
    first = np.mean([one[lineup.STUDENT] for one in runs], axis=0)
    second = np.mean([one[against] for one in runs], axis=0)
    low, high = intervals.paired_difference(first, second)
    words = (
        f"{100 * float(np.mean(first - second)):+.1f} points [{100 * low:.1f}, {100 * high:.1f}] "
        f"against {lineup.TITLES[against]}"
    )
    verdict, reason = "inconclusive", f"{words}; p = {p:.2g}."
    if len(runs) < 2:
        reason = f"{words}, p = {p:.2g}, but from one seed: start it again with another seed."
    elif low > 0 and p < SIGNIFICANT:
        verdict, reason = "beats", f"{words}, {len(runs)} seeds, p ≤ {p:.2g} in each."
    elif high < 0 and p < SIGNIFICANT:
        verdict, reason = "worse", f"{words}, {len(runs)} seeds, p ≤ {p:.2g} in each."
    elif low > -0.02 and high < 0.02:
        verdict, reason = "no difference", f"{words}, {len(runs)} seeds."
    return {
        "verdict": verdict,
        "verdict_reason": reason,
        "difference_ci95": [low, high],
        **(nothing | {"paired_test_p": p}),
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
        exact = files.read_json(run_dir / ROWS_FILE)
        return stored | conclusions(stored["models"], exact, _other_seeds(run_dir, recipe))
    if lineup.STUDENT not in [
        found.key for found in lineup.read(run_dir) if lineup.exists(run_dir, found)
    ]:
        raise RunError(
            f"{run_dir.name} has no trained student yet. Wait until it has finished, or resume it."
        )
    prepared = prepare(recipe.data, seed=recipe.seed)
    chosen, name = prepared.held_out, str(prepared.facts.get("held_out_title", "held-out rows"))
    if data is not None:
        source = FileSource(path=data)
        chosen = [r for r in load_rows(recipe.data, source=source, field="data") if r.labelled]
        name = Path(data).name
        if not chosen:
            raise DataError(
                f"{data} has no labelled rows to score on. Give rows with answers.", field="data"
            )
    chosen = chosen[: rows or recipe.evaluation.final_rows]
    trained_on = {row.content_hash for row in prepared.train}
    steps = evaluate_members(
        run_dir,
        chosen,
        data_facts={
            "name": name,
            "rows": len(chosen),
            "overlap_with_training": sum(row.content_hash in trained_on for row in chosen),
        },
        max_seq_len=recipe.data.max_seq_len,
        max_new_tokens=recipe.evaluation.max_new_tokens,
        device=pick_device(recipe.device),
        store=False,
    )
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: dict[str, Any] = end.value
            return result


def _other_seeds(run_dir: Path, recipe: Recipe) -> list[dict[str, list[bool]]]:
    """Row results of finished runs beside this one that differ in name and seed only."""
    found, seeds = [], {recipe.seed}
    for folder in sorted(run_dir.parent.iterdir()):
        if folder == run_dir or not (folder / ROWS_FILE).is_file():
            continue
        try:
            other = runs.load_recipe(folder)
        except DistillError:
            continue
        same = other.model_copy(update={"seed": recipe.seed, "name": recipe.name}) == recipe
        if same and other.seed not in seeds:
            seeds.add(other.seed)
            found.append(files.read_json(folder / ROWS_FILE))
    return found
