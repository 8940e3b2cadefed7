"""A probe on disk: a run's folder with what is compared, how far it is, and each seed's scores.

In: a run's folder. Out: `Probe`, what was found out of its pace, and `Trained` arms. A run whose
folder has a `probe.json` is a probe. Knows nothing of training and of what the scores mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from distill_core import files
from distill_core.errors import RunError
from distill_core.probe.looks import FIRST_LOOK, MOST_SEEDS
from distill_core.recipe import Recipe

PROBE, PACE, RESULT = "probe.json", "probe_pace.json", "probe_result.json"
ARMS = "arms"
SCORES = "trained.json"


class Arm(BaseModel):
    """One way to train that takes part."""

    model_config = ConfigDict(frozen=True)

    verdict: str
    title: str
    doing: str
    """As in "distilling is better"."""
    recipe: Recipe
    """As it would be run in full."""
    stage_steps: list[int]
    """Steps of each stage of the full run."""
    origin: int
    """The stage in which the student begins; those before make its teacher or assistant."""

    @property
    def full_steps(self) -> int:
        """Steps that the student takes in the full run."""
        return sum(self.stage_steps[self.origin :])


class Probe(BaseModel):
    """What is compared, on which rows, for how long."""

    model_config = ConfigDict(frozen=True)

    arms: list[Arm] = Field(min_length=1, max_length=2)
    """The better candidate first; one alone is compared with the student before training."""
    fingerprint: dict[str, Any]
    """What the answers have to say for this to be about them."""
    minutes: float = Field(gt=0)
    steps: int | None = Field(None, ge=1)
    """Of each student and seed; None: as many as the time allows, found out at the start."""
    seeds: int = Field(MOST_SEEDS, ge=FIRST_LOOK, le=MOST_SEEDS)


class Pace(BaseModel):
    """What one seed is given, found out as it goes, and the time that has been used."""

    used_s: float = 0.0
    steps: int | None = None
    most_rows: int | None = None
    """Rows of each kind, labelled and not, that are learnt from; None: all."""
    final_rows: int | None = None
    watched_rows: int | None = None
    dropped: list[int] = Field(default_factory=list)
    """Steps of each seed that came first and does not count: there was time for longer ones."""
    too_short: str = ""
    """Why the time allows no comparison; "" where it does."""


class Trained(BaseModel):
    """One arm with one seed, trained and scored."""

    verdict: str
    seed: int
    metric: str
    steps: int
    tokens: int
    supervised_tokens: int
    starts_from: str
    """Fingerprint of the student's weights before its first step."""
    parameters: int
    seconds: float
    step_s: float | None = None
    """Seconds of one step of the student; None where the arm was interrupted."""
    once_s: float = 0.0
    """Seconds that other seeds do not need: the teacher's answers, which are kept."""
    teacher_score: float | None = None
    """The task metric of its teacher, on the rows that were watched; None where nobody taught."""
    rows: dict[str, list[float]]
    """The task metric row by row, of the student and whoever was scored beside it."""


def is_probe(run_dir: Path) -> bool:
    """Whether a run's folder holds a probe."""
    return (run_dir / PROBE).is_file()


def read(run_dir: Path) -> Probe:
    """Read what is compared; raises `RunError` where it cannot be read."""
    try:
        return Probe.model_validate_json((run_dir / PROBE).read_bytes())
    except (OSError, ValueError):
        raise RunError(
            f"{run_dir.name} is no probe that can be read. Start a new one from the advisor."
        ) from None


def write(run_dir: Path, probe: Probe) -> None:
    """Store what is compared."""
    files.replace_text(run_dir / PROBE, probe.model_dump_json(indent=1))


def read_pace(run_dir: Path) -> Pace:
    """Read how far the probe is; a fresh one where nothing is known."""
    try:
        return Pace.model_validate(files.read_json(run_dir / PACE))
    except ValueError:
        return Pace()


def write_pace(run_dir: Path, pace: Pace) -> None:
    """Store how far the probe is."""
    files.replace_json(run_dir / PACE, pace.model_dump())


def folder_of(run_dir: Path, arm: Arm, seed: int) -> Path:
    """Where one arm is trained with one seed."""
    return run_dir / ARMS / f"{arm.verdict}-seed-{seed}"


def timing_folder(run_dir: Path, arm: Arm) -> Path:
    """Where one arm takes the few steps by which the pace is found."""
    return run_dir / ARMS / f"timing-{arm.verdict}"


def read_trained(run_dir: Path, arm: Arm, seed: int) -> Trained | None:
    """Read what an arm has scored; None where it has not finished."""
    try:
        return Trained.model_validate_json((folder_of(run_dir, arm, seed) / SCORES).read_bytes())
    except (OSError, ValueError):
        return None


def finished_seeds(run_dir: Path, probe: Probe) -> list[list[Trained]]:
    """Every seed that counts and that all arms have finished, in order: one `Trained` per arm."""
    found = []
    first = len(read_pace(run_dir).dropped)
    for seed in range(first, first + probe.seeds):
        arms = [read_trained(run_dir, arm, seed) for arm in probe.arms]
        done = [one for one in arms if one is not None]
        if len(done) < len(arms):
            break
        found.append(done)
    return found


def stored_result(run_dir: Path) -> dict[str, Any]:
    """What has been written down of the result; empty where nothing has."""
    return files.read_json(run_dir / RESULT)
