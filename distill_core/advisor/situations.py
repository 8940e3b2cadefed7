"""Situations that several clauses share, in three values.

In: `Facts`. Out: true, false or unknown. Knows no rule and none of its numbers.
"""

from __future__ import annotations

from distill_core.advisor.facts import Facts, Truth, all_of, any_of, at_least, negate, one_of

OPEN_TASKS = ("open_generation", "chat", "reasoning")


def teacher(f: Facts) -> Truth:
    """Somebody could teach."""
    return f.answers.teacher.exists


def good_teacher(f: Facts) -> Truth:
    """Somebody could, and can do the task."""
    return all_of(teacher(f), f.teacher_is_good)


def weak_teacher(f: Facts) -> Truth:
    """Somebody could, but cannot do the task."""
    return all_of(teacher(f), negate(f.teacher_is_good))


def gap(f: Facts, limit: float) -> Truth:
    """The student is more than `limit` times smaller."""
    return None if f.size_ratio is None else f.size_ratio > limit


def must_be_trained(f: Facts) -> Truth:
    """No teacher, or none that can do the task yet."""
    return any_of(negate(teacher(f)), negate(f.teacher_is_good))


def access(f: Facts, kind: str) -> Truth:
    """What the teacher gives."""
    return all_of(teacher(f), one_of(f.answers.teacher.access, kind))


def labelled(f: Facts) -> int | None:
    """Rows with an answer."""
    return f.answers.data.labelled_rows


def unlabelled(f: Facts) -> int | None:
    """Rows without one."""
    return f.answers.data.unlabelled_rows


def outputs(f: Facts, kind: str) -> Truth:
    """What the teacher's licence says of its outputs; unknown where nobody has read it."""
    if f.license is None:
        return all_of(teacher(f), None)
    return all_of(teacher(f), f.license.outputs == kind)


def smaller_wanted(f: Facts) -> Truth:
    """Size or speed is the goal."""
    return one_of(f.answers.goal, "smaller_faster", "both")


def no_smaller_size_wanted(f: Facts) -> Truth:
    """The student may be as large as its teacher."""
    return at_least(f.answers.student.max_parameters, f.answers.teacher.parameters)


def fits_8bit(f: Facts) -> Truth:
    """The teacher in 8 bits fits where it will run."""
    return at_least(f.target_bytes, f.teacher_8bit)


def shrinkable(f: Facts) -> Truth:
    """A good teacher is at hand, and less memory would do."""
    return all_of(good_teacher(f), access(f, "weights"), smaller_wanted(f))


def own_layers(f: Facts) -> Truth:
    """The student can be made of its teacher's layers."""
    return all_of(access(f, "weights"), f.answers.teacher.same_tokenizer, negate(too_wide(f)))


def too_wide(f: Facts) -> Truth:
    """Dropping layers alone would not make it small enough."""
    return gap(f, f.most_times_smaller)


def open_task(f: Facts) -> Truth:
    """Many answers are right."""
    return one_of(f.answers.task, *OPEN_TASKS)


def readable(f: Facts) -> Truth:
    """Whether the student can write answers worth judging."""
    return all_of(open_task(f), f.answers.student.published_checkpoint)


def own_layers_wanted(f: Facts) -> Truth:
    """It can, and there is nothing better to start from."""
    return all_of(own_layers(f), negate(f.answers.student.published_checkpoint))


def plain_cpu(f: Facts) -> Truth:
    """Training runs on a processor that is slow with bf16."""
    return all_of(one_of(f.answers.machine.device, "cpu"), negate(f.answers.machine.fast_bf16))


def encoder(f: Facts) -> bool:
    """Only where that is known: it is read from the model itself."""
    return f.answers.teacher.writes_text is False


def other_tokenizer(f: Facts) -> Truth:
    """Teacher and student cut text differently."""
    return all_of(teacher(f), negate(f.answers.teacher.same_tokenizer))


def new_weights(f: Facts) -> Truth:
    """There is nothing to start from."""
    return all_of(negate(f.answers.student.published_checkpoint), negate(own_layers(f)))
