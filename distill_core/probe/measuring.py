"""A probe as a run: arms in turn, seed after seed, until one is surely better or time is over.

In: the folder of a run that holds a `probe.json`. Out: events, like any pipeline's; what each arm
has scored on disk. What is finished is not done again, so a probe that was cut off goes on where it
ended. Knows nothing of processes and queues, nor how candidates were chosen.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from distill_core import files, pipeline, ranks
from distill_core.comparing import lineup
from distill_core.events import Event, event, progress
from distill_core.probe import pace, probe_file, report
from distill_core.probe.arm_recipes import arm_recipe, first_rows, stage_steps
from distill_core.probe.arm_scores import trained
from distill_core.probe.arm_stages import first_stage, moved, run_started
from distill_core.probe.looks import FIRST_LOOK
from distill_core.probe.pace import Share
from distill_core.probe.probe_file import Arm, Pace, Probe, Trained
from distill_core.probe.stopwatch import Stopwatch
from distill_core.recipe import Recipe

TIMED = Share(steps=6, final_rows=16, watched_rows=32, most_rows=48)
"""What each arm does first, to see how long it takes; nothing of it is scored."""

CLOCK: Callable[[], float] = time.monotonic
"""What minutes are counted by."""

Stop = Callable[[], str | None]


def run(recipe: Recipe, run_dir: Path, *, should_stop: Stop = lambda: None) -> Iterator[Event]:
    """Measure; yields events (see `events.py`), the last one `run_finished` or `run_stopped`.

    Raises:
        DistillError: what the user can mend: rows, models, disk, numbers that are not finite.
    """
    ranks.join(recipe.device)
    this = _Measuring(run_dir, probe_file.read(run_dir), should_stop)
    if this.pace.steps is None:
        yield progress("preparing", "seeing how long each way takes")
        yield from this.find_pace()
        if this.stopped:
            yield this.last_words()
            return
    yield run_started(recipe, this.probe, this.given, dropped=this.pace.dropped)
    while not ranks.agree(this.is_over):
        yield from this.next_arm()
        if this.stopped:
            yield this.last_words()
            return
        if this.begins_again():
            yield run_started(recipe, this.probe, this.given, dropped=this.pace.dropped)
    ranks.agree(this.conclude)
    yield event("run_finished", seconds=this.used_s, evaluation={})


class _Measuring:
    """One probe at work: its clock, its arms, and whether it was asked to stop."""

    def __init__(self, run_dir: Path, probe: Probe, should_stop: Stop) -> None:
        self.run_dir = run_dir
        self.probe = probe
        self.pace = ranks.agree(lambda: probe_file.read_pace(run_dir))
        self.stopped: Event | None = None
        self._should_stop = should_stop
        self._began = CLOCK() - self.pace.used_s
        self._stored_s = self.pace.used_s
        self._cut_short = False

    # --- time ---

    @property
    def used_s(self) -> float:
        """Seconds of work so far, pauses not counted."""
        return CLOCK() - self._began

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return 60 * self.probe.minutes - self.used_s

    def _store_time(self, *, now: bool = False) -> None:
        if ranks.is_first() and (now or self.used_s - self._stored_s > 2):
            self._stored_s = self.used_s
            self.pace = self.pace.model_copy(update={"used_s": self.used_s})
            probe_file.write_pace(self.run_dir, self.pace)

    def _asked(self) -> str | None:
        """What the pipeline of an arm is to do: leave when asked, or when time is over."""
        return self._should_stop() or ("pause" if self.left_s <= 0 else None)

    # --- how much each may do ---

    @property
    def given(self) -> Share:
        """What each arm is given with each seed."""
        known = self.pace
        rows = (known.final_rows, known.watched_rows, known.most_rows)
        return Share(known.steps or 0, *(count or 0 for count in rows))

    def find_pace(self) -> Iterator[Event]:
        """Train each arm for a few steps, and divide the time by what they took."""
        watches = []
        for arm in self.probe.arms:
            folder = probe_file.timing_folder(self.run_dir, arm)
            watch = Stopwatch(stage_steps(arm, TIMED.steps), own=TIMED.steps, clock=CLOCK)
            small = arm_recipe(arm, seed=0, given=TIMED)
            for happening in self._followed(arm, small, folder, given=TIMED):
                watch.take(happening)
                if happening["type"] == "progress":
                    yield happening
            if self.stopped or self._cut_short:
                break
            watches.append(watch)
        if self.stopped:
            return
        found = ranks.agree(lambda: self._divided(watches))
        self.pace = found.model_copy(update={"used_s": self.used_s})
        ranks.agree(lambda: self._store_time(now=True))
        for arm in self.probe.arms:
            shutil.rmtree(probe_file.timing_folder(self.run_dir, arm), ignore_errors=True)

    def _divided(self, watches: list[Stopwatch]) -> Pace:
        """What each arm is given; where a number of steps is set, all rows are taken."""
        if len(watches) < len(self.probe.arms):
            why = f"{self.probe.minutes:g} minutes were over before a few steps were done."
            return self.pace.model_copy(update={"steps": 0, "too_short": why})
        timings = [watch.timing() for watch in watches]
        full = min(arm.full_steps for arm in self.probe.arms)
        batch = max(stage.optim.global_batch_size for stage in self.probe.arms[0].recipe.stages)
        share = pace.share(
            timings,
            left_s=self.left_s,
            full_steps=full,
            rows_per_step=batch,
            held_out=watches[0].held_out,
            unanswered=watches[0].unlabelled,
        )
        why = pace.too_short(share, timings, minutes=self.probe.minutes, full_steps=full)
        if self.probe.steps is not None:
            wanted = self.probe.steps
            share, why = replace(share, steps=wanted, most_rows=wanted * batch), ""
        return self.pace.model_copy(
            update={**asdict(share), "steps": max(0, share.steps), "too_short": why}
        )

    def begins_again(self) -> bool:
        """Plan longer arms from what a seed really takes, if that is worth the seeds so far."""
        found = ranks.agree(self._longer)
        if found is None:
            return False
        self.pace = found.model_copy(update={"used_s": self.used_s})
        ranks.agree(lambda: self.conclude(final=False))
        return True

    def _longer(self) -> Pace | None:
        """The pace of longer arms; None where those that are planned go on.

        Only before the first look, so that no verdict could have come of the seeds that are
        dropped; the intervals rest on new ones alone.
        """
        done = probe_file.finished_seeds(self.run_dir, self.probe)
        can_wait = self.probe.steps is None and not self._cut_short and not self._is_begun(done)
        if not can_wait or not 0 < len(done) < FIRST_LOOK:
            return None
        full = min(arm.full_steps for arm in self.probe.arms)
        early = bool(report.too_early(done, self.probe))
        return pace.longer(self.pace, done, left_s=self.left_s, full_steps=full, too_early=early)

    # --- arms ---

    def is_over(self) -> bool:
        """Whether there is nothing more to do: decided, all seeds done, or no time for another."""
        done = probe_file.finished_seeds(self.run_dir, self.probe)
        if self.pace.too_short or self._cut_short or len(done) == self.probe.seeds:
            return True
        if done and (report.decided(done, self.probe) or self._next_seed_is_late(done)):
            return True
        return self.left_s <= 0

    def _next_seed_is_late(self, done: list[list[Trained]]) -> bool:
        """Whether another seed would not fit; one that was begun is finished if it can be."""
        needed = min(sum(one.seconds - one.once_s for one in arms) for arms in done)
        return not self._is_begun(done) and self.left_s < needed

    def _is_begun(self, done: list[list[Trained]]) -> bool:
        """Whether the seed after those that are finished has been begun."""
        seed = len(self.pace.dropped) + len(done)
        folders = [probe_file.folder_of(self.run_dir, arm, seed) for arm in self.probe.arms]
        return any(folder.exists() for folder in folders)

    def next_arm(self) -> Generator[Event, None, None]:
        """Train and score the first arm that is not finished yet."""
        done = ranks.agree(lambda: len(probe_file.finished_seeds(self.run_dir, self.probe)))
        seed = len(self.pace.dropped) + done
        place = ranks.agree(lambda: self._next_place(seed))
        arm, started = self.probe.arms[place], CLOCK()
        folder = probe_file.folder_of(self.run_dir, arm, seed)
        first = first_stage(self.probe, seed, place)
        small = arm_recipe(arm, seed=seed, given=self.given)
        watch = Stopwatch(stage_steps(arm, self.given.steps), own=self.given.steps, clock=CLOCK)
        whole = ranks.agree(lambda: not folder.exists())
        alone = {lineup.STUDENT} if place else {lineup.STUDENT, lineup.UNTRAINED}
        evaluation: dict = {}
        watched: dict[str, float] = {}
        for happening in self._followed(arm, small, folder, given=self.given, only=alone):
            watch.take(happening)
            evaluation = happening.get("evaluation", evaluation)
            if happening["type"] == "evaluation":
                watched |= happening["metrics"]
            if happening["type"] not in ("run_started", "run_finished"):
                yield moved(happening, first, f"{arm.title}, seed {seed + 1}")
            self._store_time()
        if self.stopped:
            self.stopped = moved(self.stopped, first, "")
        if not evaluation:
            return
        took = {"seconds": CLOCK() - started}
        if whole:
            took |= {"step_s": watch.timing().step_s, "once_s": watch.answering_s}
        ranks.agree(lambda: self._keep(arm, seed, folder, evaluation, watched, took))

    def _next_place(self, seed: int) -> int:
        known = [probe_file.read_trained(self.run_dir, arm, seed) for arm in self.probe.arms]
        return known.index(None)

    def _followed(
        self,
        arm: Arm,
        recipe: Recipe,
        folder: Path,
        *,
        given: Share,
        only: set[str] | None = None,
    ) -> Iterator[Event]:
        """The events of one arm's own pipeline, until it ends, is stopped, or time is over."""
        ranks.agree(lambda: folder.mkdir(parents=True, exist_ok=True))
        events = pipeline.run(
            recipe,
            folder,
            should_stop=self._asked,
            beside=self.run_dir.parent,
            narrow=lambda data: first_rows(data, given.most_rows),
            only=only or {lineup.STUDENT},
        )
        for happening in events:
            if happening["type"] != "run_stopped":
                yield happening
                continue
            asked = ranks.agree(self._should_stop)
            self._cut_short = not asked
            if asked:
                reason = "paused" if asked == "pause" else "stopped"
                self.stopped = happening | {"reason": reason}

    def last_words(self) -> Event:
        """The event that ends a probe which was asked to stop; its time is stored before."""
        self._store_time(now=True)
        assert self.stopped is not None, "somebody asked"
        return self.stopped

    def _keep(
        self,
        arm: Arm,
        seed: int,
        folder: Path,
        evaluation: dict,
        watched: dict[str, float],
        took: dict[str, float],
    ) -> None:
        """Store what an arm has scored; its weights have served."""
        kept = trained(arm, seed, folder, evaluation, watched, took)
        files.replace_text(folder / probe_file.SCORES, kept.model_dump_json())
        for used in (lineup.STUDENT, "models", "checkpoints"):
            shutil.rmtree(folder / used, ignore_errors=True)
        self._store_time(now=True)
        self.conclude(final=False)

    def conclude(self, *, final: bool = True) -> None:
        """Write down what has been found so far."""
        self._store_time(now=True)
        found = report.conclusion(self.run_dir, self.probe, self.pace, final=final)
        files.replace_json(self.run_dir / probe_file.RESULT, found)
