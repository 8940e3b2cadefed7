"""When each clause of the evidence holds.

In: `Facts` and the rule's numbers. Out: true, false or unknown. One line a clause; the words, the
weights and the thresholds stand in `evidence.yaml`. Knows no votes.
"""

from __future__ import annotations

from collections.abc import Callable

from distill_core.advisor.evidence import Evidence
from distill_core.advisor.facts import Facts, Truth, all_of, any_of, at_least, below, negate, one_of
from distill_core.advisor.past_runs import EVEN, LABELS, TEACHER
from distill_core.advisor.situations import (
    OPEN_TASKS,
    access,
    encoder,
    fits_8bit,
    gap,
    good_teacher,
    labelled,
    must_be_trained,
    new_weights,
    no_smaller_size_wanted,
    open_task,
    other_tokenizer,
    outputs,
    own_layers_wanted,
    plain_cpu,
    readable,
    shrinkable,
    smaller_wanted,
    teacher,
    unlabelled,
    weak_teacher,
)

Numbers = dict[str, float]
Condition = Callable[[Facts, Numbers], Truth]


def _no_held_out(f: Facts, n: Numbers) -> Truth:
    held_out, labelled, enough = (
        f.answers.data.held_out_rows,
        f.answers.data.labelled_rows,
        n["enough_rows"],
    )
    gap = None if held_out is None else 2 * (enough - held_out)
    return all_of(below(held_out, enough), below(labelled, 2 * enough), below(labelled, gap))


def _many_unlabelled(f: Facts, n: Numbers) -> Truth:
    labels = labelled(f)
    times = None if labels is None else n["times_labelled"] * labels
    return all_of(at_least(unlabelled(f), n["least_rows"]), at_least(unlabelled(f), times))


def _unproven(f: Facts, n: Numbers) -> Truth:
    return all_of(teacher(f), f.two_errors is not None and negate(f.teacher_is_good))


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


def _fits_4bit(f: Facts, n: Numbers) -> Truth:
    return all_of(
        at_least(f.answers.teacher.parameters, n["risky_below"]),
        at_least(f.target_bytes, f.teacher_4bit),
    )


def _small_budget(f: Facts, n: Numbers) -> Truth:
    return at_least(n["small_budget"], f.answers.constraints.budget_gpu_hours)


def _repeats(f: Facts, n: Numbers) -> Truth:
    data = f.answers.data
    rows = (data.labelled_rows or 0) + (data.unlabelled_rows or 0)
    return data.duplicate_rows is not None and data.duplicate_rows > n["duplicate_share"] * rows


CONDITIONS: dict[str, Condition] = {
    "G.smaller": lambda f, n: smaller_wanted(f),
    "G.better": lambda f, n: one_of(f.answers.goal, "better_at_task", "style"),
    "G.both": lambda f, n: one_of(f.answers.goal, "both"),
    "G.latency": lambda f, n: f.answers.student.latency_ms is not None,
    "G.over_budget": lambda f, n: below(f.answers.constraints.budget_gpu_hours, f.least_hours),
    "G.budget": _small_budget,
    "D.leak": lambda f, n: at_least(f.answers.data.leaked_rows, 1),
    "D.duplicates": _repeats,
    "D.long": lambda f, n: below(f.answers.teacher.context_tokens, f.answers.data.longest_tokens),
    "D.classes_only": lambda f, n: all_of(
        teacher(f), encoder(f), negate(one_of(f.answers.task, "classification"))
    ),
    "P.teacher_won": lambda f, n: _past(f, TEACHER, n),
    "P.labels_won": lambda f, n: _past(f, LABELS, n),
    "P.even": lambda f, n: _past(f, EVEN, n),
    "R0.missing": _no_held_out,
    "R0.enough": lambda f, n: negate(_no_held_out(f, n)),
    "R0.thin": lambda f, n: all_of(
        negate(_no_held_out(f, n)), below(f.answers.data.held_out_rows, n["good_rows"])
    ),
    "R0.split": lambda f, n: all_of(
        negate(_no_held_out(f, n)), below(f.answers.data.held_out_rows, n["enough_rows"])
    ),
    "R1.new_facts": lambda f, n: one_of(f.answers.goal, "new_knowledge"),
    "R1.not_facts": lambda f, n: all_of(
        negate(one_of(f.answers.goal, "new_knowledge")), negate(weak_teacher(f))
    ),
    "R1.good": lambda f, n: good_teacher(f),
    "R1.weak": lambda f, n: weak_teacher(f),
    "R1.unproven": _unproven,
    "R2.restricted": lambda f, n: outputs(f, "restricted"),
    "R2.restricted_shared": lambda f, n: all_of(
        outputs(f, "restricted"), f.answers.constraints.will_share
    ),
    "R2.conditions": lambda f, n: outputs(f, "conditions"),
    "R2.unread": lambda f, n: all_of(teacher(f), f.license is None),
    "R3.no_teacher": lambda f, n: negate(teacher(f)),
    "R3.train_for_one": lambda f, n: all_of(
        must_be_trained(f),
        any_of(negate(teacher(f)), negate(f.answers.teacher.serves_several_students)),
    ),
    "R3.exists": lambda f, n: good_teacher(f),
    "R3.several": lambda f, n: all_of(teacher(f), f.answers.teacher.serves_several_students),
    "R3.shared_correction": lambda f, n: all_of(
        good_teacher(f), f.answers.teacher.serves_several_students, access(f, "weights")
    ),
    "R4.few": lambda f, n: below(labelled(f), n["prompt_rows"]),
    "R4.tiny": lambda f, n: all_of(
        at_least(labelled(f), n["prompt_rows"]), below(labelled(f), n["gain_rows"])
    ),
    "R4.first_gains": lambda f, n: at_least(labelled(f), n["gain_rows"]),
    "R4.thousand": lambda f, n: at_least(labelled(f), n["style_rows"]),
    "R4.ten_thousand": lambda f, n: at_least(labelled(f), n["proven_rows"]),
    "R4.style": lambda f, n: all_of(
        one_of(f.answers.goal, "style"), at_least(labelled(f), n["style_rows"])
    ),
    "R4.teacher_rows": lambda f, n: all_of(
        good_teacher(f), at_least(unlabelled(f), n["proven_rows"])
    ),
    "R5.few_labels": lambda f, n: all_of(good_teacher(f), _many_unlabelled(f, n)),
    "R5.tuned_teacher": lambda f, n: all_of(
        teacher(f), f.answers.teacher.serves_several_students, _many_unlabelled(f, n)
    ),
    "R5.no_rows": lambda f, n: all_of(teacher(f), below(unlabelled(f), n["least_rows"])),
    "R6.good_labels": lambda f, n: all_of(
        one_of(f.answers.data.label_quality, "clean"), at_least(labelled(f), n["good_rows"])
    ),
    "R6.plenty": lambda f, n: all_of(
        one_of(f.answers.data.label_quality, "clean"), at_least(labelled(f), n["plenty_rows"])
    ),
    "R6.averaged": lambda f, n: all_of(
        negate(one_of(f.answers.data.label_quality, "clean")), good_teacher(f)
    ),
    "R6.noisy": lambda f, n: negate(one_of(f.answers.data.label_quality, "clean")),
    "R6.finish_needs": lambda f, n: below(labelled(f), n["finish_rows"]),
    "R6.keep": lambda f, n: all_of(teacher(f), at_least(labelled(f), 1)),
    "R6.none": lambda f, n: all_of(teacher(f), below(labelled(f), 1)),
    "R7.text": lambda f, n: access(f, "text"),
    "R7.top_k": lambda f, n: access(f, "top_k"),
    "R7.weights": lambda f, n: access(f, "weights"),
    "R8.match": lambda f, n: negate(one_of(f.answers.task, *OPEN_TASKS)),
    "R8.open": lambda f, n: open_task(f),
    "R9.later": lambda f, n: all_of(readable(f), _small_budget(f, n) is not True),
    "R9.dear": lambda f, n: all_of(readable(f), _small_budget(f, n)),
    "R9.not_yet": lambda f, n: negate(readable(f)),
    "R10.language": lambda f, n: negate(one_of(f.answers.task, "classification")),
    "R10.head": lambda f, n: all_of(one_of(f.answers.task, "classification"), encoder(f)),
    "R10.classes": lambda f, n: one_of(f.answers.task, "classification"),
    "R11.sparse": lambda f, n: access(f, "top_k"),
    "R12.no_gap": lambda f, n: negate(gap(f, n["gap"])),
    "R12.gap": lambda f, n: gap(f, n["gap"]),
    "R12.wide": lambda f, n: gap(f, n["wide_gap"]),
    "R13.own_layers": lambda f, n: own_layers_wanted(f),
    "R13.narrower": lambda f, n: all_of(
        own_layers_wanted(f), open_task(f), f.answers.student.latency_ms is None
    ),
    "R14.published": lambda f, n: f.answers.student.published_checkpoint,
    "R14.nothing": lambda f, n: new_weights(f),
    "R14.too_new": lambda f, n: all_of(new_weights(f), one_of(f.answers.task, *OPEN_TASKS)),
    "R15.keep": lambda f, n: f.answers.constraints.keep_general_skills,
    "R15.free": lambda f, n: negate(f.answers.constraints.keep_general_skills),
    "R16.no_fit": lambda f, n: below(f.machine_bytes, f.full_bytes),
    "R16.fits": lambda f, n: at_least(f.machine_bytes, f.full_bytes),
    "R16.nothing_fits": lambda f, n: below(f.machine_bytes, f.lora_bytes),
    "R17.small": lambda f, n: all_of(
        one_of(f.answers.task, "reasoning"),
        at_least(n["parameters"], f.answers.student.max_parameters),
    ),
    "R18.other": lambda f, n: other_tokenizer(f),
    "R18.across": lambda f, n: all_of(other_tokenizer(f), access(f, "weights")),
    "R18.text": lambda f, n: all_of(other_tokenizer(f), negate(access(f, "weights"))),
    "R19.both": lambda f, n: all_of(access(f, "weights"), below(f.machine_bytes, f.both_bytes)),
    "R19.fits": lambda f, n: all_of(access(f, "weights"), at_least(f.machine_bytes, f.both_bytes)),
    "R20.plain_cpu": lambda f, n: plain_cpu(f),
    "R20.vocabulary": lambda f, n: all_of(
        plain_cpu(f),
        negate(open_task(f)),
        own_layers_wanted(f),
        negate(f.answers.constraints.keep_general_skills),
        not encoder(f),
    ),
    "R21.changes": lambda f, n: one_of(f.answers.constraints.task_changes, "weekly"),
    "R21.low_volume": lambda f, n: below(f.answers.constraints.calls_per_month, n["low_calls"]),
    "R22.enough": lambda f, n: all_of(shrinkable(f), fits_8bit(f), no_smaller_size_wanted(f)),
    "R22.four_bits": lambda f, n: all_of(
        shrinkable(f), negate(fits_8bit(f)), _fits_4bit(f, n), no_smaller_size_wanted(f)
    ),
    "R22.not_enough": lambda f, n: any_of(
        negate(no_smaller_size_wanted(f)), negate(any_of(fits_8bit(f), _fits_4bit(f, n)))
    ),
    "R22.other_goal": lambda f, n: negate(smaller_wanted(f)),
    "R23.correct": lambda f, n: all_of(access(f, "weights"), at_least(labelled(f), n["rows"])),
    "R24.features": lambda f, n: all_of(
        one_of(f.answers.task, "classification"), own_layers_wanted(f)
    ),
}
"""Clause id → condition; `evidence.yaml` has exactly these clauses."""


def judge(facts: Facts, evidence: Evidence) -> dict[str, Truth]:
    """Decide every clause: true, false or unknown."""
    return {
        clause_id: CONDITIONS[clause_id](facts, rule.numbers)
        for clause_id, rule, _ in evidence.clauses()
    }
