"""When each clause of the evidence holds.

In: `Facts` and the rule's numbers. Out: true, false or unknown. One line a clause; the words, the
weights and the thresholds stand in `evidence.yaml`. Knows no votes.
"""

from __future__ import annotations

from collections.abc import Callable

from distill_core.advisor.evidence import Evidence
from distill_core.advisor.facts import Facts, Truth, all_of, any_of, at_least, below, negate, one_of
from distill_core.advisor.past_runs import EVEN, LABELS, TEACHER

Numbers = dict[str, float]
Condition = Callable[[Facts, Numbers], Truth]

OPEN_TASKS = ("open_generation", "chat", "reasoning")


def _teacher(f: Facts) -> Truth:
    return f.answers.teacher.exists


def _good_teacher(f: Facts) -> Truth:
    return all_of(_teacher(f), f.teacher_is_good)


def _weak_teacher(f: Facts) -> Truth:
    return all_of(_teacher(f), negate(f.teacher_is_good))


def _gap(f: Facts, limit: float) -> Truth:
    return None if f.size_ratio is None else f.size_ratio > limit


def _must_be_trained(f: Facts) -> Truth:
    """No teacher, or none that can do the task yet."""
    return any_of(negate(_teacher(f)), negate(f.teacher_is_good))


def _access(f: Facts, kind: str) -> Truth:
    return all_of(_teacher(f), one_of(f.answers.teacher.access, kind))


def _no_held_out(f: Facts, n: Numbers) -> Truth:
    held_out, labelled, enough = _held_out(f), f.answers.data.labelled_rows, n["enough_rows"]
    gap = None if held_out is None else 2 * (enough - held_out)
    return all_of(below(held_out, enough), below(labelled, 2 * enough), below(labelled, gap))


def _held_out(f: Facts) -> int | None:
    return f.answers.data.held_out_rows


def _labelled(f: Facts) -> int | None:
    return f.answers.data.labelled_rows


def _unlabelled(f: Facts) -> int | None:
    return f.answers.data.unlabelled_rows


def _clean(f: Facts) -> Truth:
    return one_of(f.answers.data.label_quality, "clean")


def _many_unlabelled(f: Facts, n: Numbers) -> Truth:
    labelled = _labelled(f)
    times = None if labelled is None else n["times_labelled"] * labelled
    return all_of(at_least(_unlabelled(f), n["least_rows"]), at_least(_unlabelled(f), times))


def _unproven(f: Facts, n: Numbers) -> Truth:
    return all_of(_teacher(f), f.two_errors is not None and negate(f.teacher_is_good))


def _past(f: Facts, winner: str, n: Numbers) -> Truth:
    """Whether a past run on these rows had this winner, with labels that compare with today's.

    More labels than then make distilling's lead doubtful, fewer labels that of fine-tuning.
    """
    if f.past.winner != winner:
        return False
    now, then = f.answers.data.labelled_rows, f.past.labelled_rows
    if now is None or then is None or winner == EVEN:
        return True
    similar = n["similar_rows"]
    return now <= similar * then if winner == TEACHER else now * similar >= then


def _outputs(f: Facts, kind: str) -> Truth:
    if f.license is None:
        return all_of(_teacher(f), None)
    return all_of(_teacher(f), f.license.outputs == kind)


def _smaller_wanted(f: Facts) -> Truth:
    return one_of(f.answers.goal, "smaller_faster", "both")


def _no_smaller_size_wanted(f: Facts) -> Truth:
    return at_least(f.answers.student.max_parameters, f.answers.teacher.parameters)


def _fits_8bit(f: Facts) -> Truth:
    return at_least(f.target_bytes, f.teacher_8bit)


def _fits_4bit(f: Facts, n: Numbers) -> Truth:
    return all_of(
        at_least(f.answers.teacher.parameters, n["risky_below"]),
        at_least(f.target_bytes, f.teacher_4bit),
    )


def _shrinkable(f: Facts) -> Truth:
    return all_of(_good_teacher(f), _access(f, "weights"), _smaller_wanted(f))


def _own_layers(f: Facts) -> Truth:
    return all_of(_access(f, "weights"), f.answers.teacher.same_tokenizer, negate(_too_wide(f)))


def _too_wide(f: Facts) -> Truth:
    """Dropping layers alone would not make it small enough."""
    return _gap(f, f.most_times_smaller)


def _open_task(f: Facts) -> Truth:
    return one_of(f.answers.task, *OPEN_TASKS)


def _readable(f: Facts) -> Truth:
    """Whether the student can write answers worth judging."""
    return all_of(_open_task(f), f.answers.student.published_checkpoint)


def _small_budget(f: Facts, n: Numbers) -> Truth:
    return at_least(n["small_budget"], f.answers.constraints.budget_gpu_hours)


def _own_layers_wanted(f: Facts) -> Truth:
    return all_of(_own_layers(f), negate(f.answers.student.published_checkpoint))


def _encoder(f: Facts) -> bool:
    """Only where that is known: it is read from the model itself."""
    return f.answers.teacher.writes_text is False


def _other_tokenizer(f: Facts) -> Truth:
    return all_of(_teacher(f), negate(f.answers.teacher.same_tokenizer))


def _repeats(f: Facts, n: Numbers) -> Truth:
    data = f.answers.data
    rows = (data.labelled_rows or 0) + (data.unlabelled_rows or 0)
    return data.duplicate_rows is not None and data.duplicate_rows > n["duplicate_share"] * rows


def _new_weights(f: Facts) -> Truth:
    return all_of(negate(f.answers.student.published_checkpoint), negate(_own_layers(f)))


CONDITIONS: dict[str, Condition] = {
    "G.smaller": lambda f, n: _smaller_wanted(f),
    "G.better": lambda f, n: one_of(f.answers.goal, "better_at_task", "style"),
    "G.both": lambda f, n: one_of(f.answers.goal, "both"),
    "G.latency": lambda f, n: f.answers.student.latency_ms is not None,
    "G.over_budget": lambda f, n: below(f.answers.constraints.budget_gpu_hours, f.least_hours),
    "G.budget": _small_budget,
    "D.leak": lambda f, n: at_least(f.answers.data.leaked_rows, 1),
    "D.duplicates": _repeats,
    "D.long": lambda f, n: below(f.answers.teacher.context_tokens, f.answers.data.longest_tokens),
    "D.classes_only": lambda f, n: all_of(
        _teacher(f), _encoder(f), negate(one_of(f.answers.task, "classification"))
    ),
    "P.teacher_won": lambda f, n: _past(f, TEACHER, n),
    "P.labels_won": lambda f, n: _past(f, LABELS, n),
    "P.even": lambda f, n: _past(f, EVEN, n),
    "R0.missing": _no_held_out,
    "R0.enough": lambda f, n: negate(_no_held_out(f, n)),
    "R0.thin": lambda f, n: all_of(negate(_no_held_out(f, n)), below(_held_out(f), n["good_rows"])),
    "R0.split": lambda f, n: all_of(
        negate(_no_held_out(f, n)), below(_held_out(f), n["enough_rows"])
    ),
    "R1.new_facts": lambda f, n: one_of(f.answers.goal, "new_knowledge"),
    "R1.not_facts": lambda f, n: all_of(
        negate(one_of(f.answers.goal, "new_knowledge")), negate(_weak_teacher(f))
    ),
    "R1.good": lambda f, n: _good_teacher(f),
    "R1.weak": lambda f, n: _weak_teacher(f),
    "R1.unproven": _unproven,
    "R2.restricted": lambda f, n: _outputs(f, "restricted"),
    "R2.restricted_shared": lambda f, n: all_of(
        _outputs(f, "restricted"), f.answers.constraints.will_share
    ),
    "R2.conditions": lambda f, n: _outputs(f, "conditions"),
    "R2.unread": lambda f, n: all_of(_teacher(f), f.license is None),
    "R3.no_teacher": lambda f, n: negate(_teacher(f)),
    "R3.train_for_one": lambda f, n: all_of(
        _must_be_trained(f), negate(f.answers.teacher.serves_several_students)
    ),
    "R3.exists": lambda f, n: _good_teacher(f),
    "R3.several": lambda f, n: all_of(_teacher(f), f.answers.teacher.serves_several_students),
    "R3.shared_correction": lambda f, n: all_of(
        _good_teacher(f), f.answers.teacher.serves_several_students, _access(f, "weights")
    ),
    "R4.few": lambda f, n: below(_labelled(f), n["prompt_rows"]),
    "R4.tiny": lambda f, n: all_of(
        at_least(_labelled(f), n["prompt_rows"]), below(_labelled(f), n["gain_rows"])
    ),
    "R4.first_gains": lambda f, n: at_least(_labelled(f), n["gain_rows"]),
    "R4.thousand": lambda f, n: at_least(_labelled(f), n["style_rows"]),
    "R4.ten_thousand": lambda f, n: at_least(_labelled(f), n["proven_rows"]),
    "R4.style": lambda f, n: all_of(
        one_of(f.answers.goal, "style"), at_least(_labelled(f), n["style_rows"])
    ),
    "R4.teacher_rows": lambda f, n: all_of(
        _good_teacher(f), at_least(_unlabelled(f), n["proven_rows"])
    ),
    "R5.few_labels": lambda f, n: all_of(_good_teacher(f), _many_unlabelled(f, n)),
    "R5.tuned_teacher": lambda f, n: all_of(
        _teacher(f), f.answers.teacher.serves_several_students, _many_unlabelled(f, n)
    ),
    "R5.no_rows": lambda f, n: all_of(_teacher(f), below(_unlabelled(f), n["least_rows"])),
    "R6.good_labels": lambda f, n: all_of(_clean(f), at_least(_labelled(f), n["good_rows"])),
    "R6.plenty": lambda f, n: all_of(_clean(f), at_least(_labelled(f), n["plenty_rows"])),
    "R6.averaged": lambda f, n: all_of(negate(_clean(f)), _good_teacher(f)),
    "R6.noisy": lambda f, n: negate(_clean(f)),
    "R6.finish_needs": lambda f, n: below(_labelled(f), n["finish_rows"]),
    "R6.keep": lambda f, n: all_of(_teacher(f), at_least(_labelled(f), 1)),
    "R6.none": lambda f, n: all_of(_teacher(f), below(_labelled(f), 1)),
    "R7.text": lambda f, n: _access(f, "text"),
    "R7.top_k": lambda f, n: _access(f, "top_k"),
    "R7.weights": lambda f, n: _access(f, "weights"),
    "R8.match": lambda f, n: negate(one_of(f.answers.task, *OPEN_TASKS)),
    "R8.open": lambda f, n: _open_task(f),
    "R9.later": lambda f, n: all_of(_readable(f), _small_budget(f, n) is not True),
    "R9.dear": lambda f, n: all_of(_readable(f), _small_budget(f, n)),
    "R9.not_yet": lambda f, n: negate(_readable(f)),
    "R10.language": lambda f, n: negate(one_of(f.answers.task, "classification")),
    "R10.head": lambda f, n: all_of(one_of(f.answers.task, "classification"), _encoder(f)),
    "R10.classes": lambda f, n: one_of(f.answers.task, "classification"),
    "R11.sparse": lambda f, n: _access(f, "top_k"),
    "R12.no_gap": lambda f, n: negate(_gap(f, n["gap"])),
    "R12.gap": lambda f, n: _gap(f, n["gap"]),
    "R12.wide": lambda f, n: _gap(f, n["wide_gap"]),
    "R13.own_layers": lambda f, n: _own_layers_wanted(f),
    "R13.narrower": lambda f, n: all_of(
        _own_layers_wanted(f), _open_task(f), f.answers.student.latency_ms is None
    ),
    "R14.published": lambda f, n: f.answers.student.published_checkpoint,
    "R14.nothing": lambda f, n: _new_weights(f),
    "R14.too_new": lambda f, n: all_of(_new_weights(f), one_of(f.answers.task, *OPEN_TASKS)),
    "R15.keep": lambda f, n: f.answers.constraints.keep_general_skills,
    "R15.free": lambda f, n: negate(f.answers.constraints.keep_general_skills),
    "R16.no_fit": lambda f, n: below(f.machine_bytes, f.full_bytes),
    "R16.fits": lambda f, n: at_least(f.machine_bytes, f.full_bytes),
    "R16.nothing_fits": lambda f, n: below(f.machine_bytes, f.lora_bytes),
    "R17.small": lambda f, n: all_of(
        one_of(f.answers.task, "reasoning"),
        at_least(n["parameters"], f.answers.student.max_parameters),
    ),
    "R18.other": lambda f, n: _other_tokenizer(f),
    "R18.across": lambda f, n: all_of(_other_tokenizer(f), _access(f, "weights")),
    "R18.text": lambda f, n: all_of(_other_tokenizer(f), negate(_access(f, "weights"))),
    "R19.both": lambda f, n: all_of(_access(f, "weights"), below(f.machine_bytes, f.both_bytes)),
    "R19.fits": lambda f, n: all_of(_access(f, "weights"), at_least(f.machine_bytes, f.both_bytes)),
    "R20.plain_cpu": lambda f, n: all_of(
        one_of(f.answers.machine.device, "cpu"), negate(f.answers.machine.fast_bf16)
    ),
    "R21.changes": lambda f, n: one_of(f.answers.constraints.task_changes, "weekly"),
    "R21.low_volume": lambda f, n: below(f.answers.constraints.calls_per_month, n["low_calls"]),
    "R22.enough": lambda f, n: all_of(_shrinkable(f), _fits_8bit(f), _no_smaller_size_wanted(f)),
    "R22.four_bits": lambda f, n: all_of(
        _shrinkable(f), negate(_fits_8bit(f)), _fits_4bit(f, n), _no_smaller_size_wanted(f)
    ),
    "R22.not_enough": lambda f, n: any_of(
        negate(_no_smaller_size_wanted(f)), negate(any_of(_fits_8bit(f), _fits_4bit(f, n)))
    ),
    "R22.other_goal": lambda f, n: negate(_smaller_wanted(f)),
    "R23.correct": lambda f, n: all_of(_access(f, "weights"), at_least(_labelled(f), n["rows"])),
    "R24.features": lambda f, n: all_of(
        one_of(f.answers.task, "classification"), _own_layers_wanted(f)
    ),
}
"""Clause id → condition; `evidence.yaml` has exactly these clauses."""


def judge(facts: Facts, evidence: Evidence) -> dict[str, Truth]:
    """Decide every clause: true, false or unknown."""
    return {
        clause_id: CONDITIONS[clause_id](facts, rule.numbers)
        for clause_id, rule, _ in evidence.clauses()
    }
