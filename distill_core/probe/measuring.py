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

from distill_core import evaluate, files, lineup, pipeline, ranks
from distill_core.data.sources import Prepared
from distill_core.device import pick_device
from distill_core.events import Event, event, progress
from distill_core.probe import pace, probe_file, report
from distill_core.probe.arm_recipes import arm_recipe, stage_steps
from distill_core.probe.arm_stages import first_stage, moved, run_stages
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
    yield event(
        "run_started",
        recipe=recipe.model_dump(mode="json"),
        stages=run_stages(this.probe, this.given),
        data={},
    )
    while not ranks.agree(this.is_over):
        yield from this.next_arm()
        if this.stopped:
            yield this.last_words()
            return
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
            folder = _timing_folder(self.run_dir, arm)
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
            shutil.rmtree(_timing_folder(self.run_dir, arm), ignore_errors=True)

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
        seed = len(done)
        begun = [probe_file.folder_of(self.run_dir, arm, seed).exists() for arm in self.probe.arms]
        # the first seed waits for the teacher's answers, the others do not
        needed = min(sum(one.seconds for one in arms) for arms in done)
        return not any(begun) and self.left_s < needed

    def next_arm(self) -> Generator[Event, None, None]:
        """Train and score the first arm that is not finished yet."""
        seed = ranks.agree(lambda: len(probe_file.finished_seeds(self.run_dir, self.probe)))
        place = ranks.agree(lambda: self._next_place(seed))
        arm, started = self.probe.arms[place], CLOCK()
        folder = probe_file.folder_of(self.run_dir, arm, seed)
        first = first_stage(self.probe, seed, place)
        small = arm_recipe(arm, seed=seed, given=self.given)
        alone = {lineup.STUDENT} if place else {lineup.STUDENT, lineup.UNTRAINED}
        evaluation: dict = {}
        watched: dict[str, float] = {}
        for happening in self._followed(arm, small, folder, given=self.given, only=alone):
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
        seconds = CLOCK() - started
        ranks.agree(lambda: self._keep(arm, seed, folder, evaluation, watched, seconds))

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
            narrow=lambda data: _first_rows(data, given.most_rows),
            only=only or {lineup.STUDENT},
        )
        for happening in events:
            leaves = happening["type"] == "run_stopped"
            if not leaves:
                yield happening
            # no step asks while a teacher answers; what it has said is kept
            if leaves or (happening["type"] == "progress" and ranks.agree(self._is_late)):
                asked = ranks.agree(self._should_stop)
                self._cut_short = not asked
                if asked:
                    reason = "paused" if asked == "pause" else "stopped"
                    here = happening if leaves else event("run_stopped", stage=0, step=0)
                    self.stopped = here | {"reason": reason}
                return

    def _is_late(self) -> bool:
        return bool(self._should_stop()) or self.left_s <= 0

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
        seconds: float,
    ) -> None:
        """Store what an arm has scored; its weights have served."""
        student = evaluation["models"][lineup.STUDENT]
        start = lineup.load(
            folder, lineup.member(folder, lineup.UNTRAINED), device=pick_device(arm.recipe.device)
        )
        metric = evaluation["metric"]["name"]
        kept = Trained(
            verdict=arm.verdict,
            seed=seed,
            metric=metric,
            steps=student["trained_steps"],
            tokens=student["trained_tokens"],
            supervised_tokens=student["supervised_tokens"],
            starts_from=start.fingerprint,
            parameters=student["parameters"],
            seconds=seconds,
            teacher_score=watched.get(f"held_out_teacher_{metric}"),
            rows=files.read_json(folder / evaluate.ROWS_FILE)["rows"],
        )
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


def _first_rows(data: Prepared, most: int) -> Prepared:
    """At most so many labelled rows, and as many unlabelled ones, in the data's order."""
    left = {True: most, False: most}
    kept = []
    for row in data.train:
        if left[row.labelled] > 0:
            left[row.labelled] -= 1
            kept.append(row)
    return Prepared(kept, data.held_out, data.facts)


def _timing_folder(run_dir: Path, arm: Arm) -> Path:
    return run_dir / probe_file.ARMS / f"timing-{arm.verdict}"
