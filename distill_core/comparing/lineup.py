"""Whose weights can answer in a run, and how to load them.

In: a run's folder. Out: its members (teacher, student, untrained student, baseline) and each
one's model and tokenizer. Written by the pipeline, read by evaluation, comparison and export.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, TypeAdapter

from distill_core import files, models
from distill_core.errors import RunError
from distill_core.recipe import Student

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from distill_core.teachers.loading import LoadOne

FILE = "lineup.json"

TEACHER, STUDENT = "teacher", "student"
UNTRAINED = "untrained_student"
ORIGINAL = "original"
"""Where nobody teaches: the larger model that the student was cut from."""
ASSISTANT = "assistant"
"""A student on the way, that taught the next one; the second one is `assistant_2`."""
BASELINE, TEXT_BASELINE = "fine_tuned_on_labels", "fine_tuned_on_teacher_text"
BASELINES = (BASELINE, TEXT_BASELINE)

TITLES = {
    TEACHER: "teacher",
    ORIGINAL: "original model",
    ASSISTANT: "assistant",
    STUDENT: "student",
    UNTRAINED: "untrained student",
    BASELINE: "fine-tuned on labels only",
    TEXT_BASELINE: "fine-tuned on the teacher's text",
}

Role = Literal["teacher", "student", "untrained", "baseline", "other"]
_ROLES: dict[str, Role] = {
    TEACHER: "teacher",
    STUDENT: "student",
    UNTRAINED: "untrained",
    BASELINE: "baseline",
    TEXT_BASELINE: "baseline",
}


def role(key: str) -> Role:
    """What part a member plays, for its colour and mark."""
    return _ROLES.get(key, "other")


def assistant_key(number: int) -> str:
    """Name the students on the way, counted from 1."""
    return ASSISTANT if number == 1 else f"{ASSISTANT}_{number}"


class Seen(BaseModel):
    """How much a stage shows to the network that it trains, to the end of its last step."""

    steps: int
    tokens: int
    """Read, padding excluded."""
    supervised_tokens: int
    """Of these, the ones that are learnt from."""


class Share(BaseModel):
    """One teacher of a mixture."""

    source: str
    weight: float


class Member(BaseModel):
    """One model of a run: a saved one (`source` alone), or one built anew from `source`."""

    key: str
    title: str
    source: str
    """A model's name, or a folder inside the run."""
    build: Student | None = None
    seed: int = 0
    parts: str = ""
    """File inside the run that says which of its source's parts it has; "": plain from `build`."""
    labels: tuple[str, ...] | None = None
    """The classes that it tells apart, in the order of its logits; None: it writes text."""
    mixture: list[Share] = []
    """Several teachers that answer as one, `source` the first of them; empty: `source` alone."""
    precision: str = "fp32"
    """Number format of a teacher's weights, as it taught."""
    parameters: int = 0
    bytes: int = 0
    seen: dict[int, Seen] = {}
    """What each stage that trained this very network has shown it; empty: not trained here."""


_MEMBERS = TypeAdapter(list[Member])


def write(run_dir: Path, members: list[Member]) -> None:
    """Store a run's members."""
    files.replace_json(run_dir / FILE, _MEMBERS.dump_python(members, mode="json"))


def read(run_dir: Path) -> list[Member]:
    """Read a run's members; an empty list before the first stage has begun."""
    path = run_dir / FILE
    return _MEMBERS.validate_json(path.read_bytes()) if path.is_file() else []


def member(run_dir: Path, key: str) -> Member:
    """Find one member; raises `RunError` if the run has none of that name (yet)."""
    members = read(run_dir)
    for found in members:
        if found.key == key:
            return found
    known = ", ".join(found.key for found in members) or "none yet"
    raise RunError(
        f"{run_dir.name} has no {key}; it has: {known}. Wait for the run, or choose one of those."
    )


def folder(run_dir: Path, source: str) -> Path:
    """The folder of a member's source: inside the run if it is there, else a model's name."""
    inside = run_dir / source
    return inside if (inside / "config.json").is_file() else models.resolve(source)


def exists(run_dir: Path, found: Member) -> bool:
    """Whether the member's weights are there already (the student is saved at the end)."""
    inside = {"models", STUDENT, "baseline", "baseline_teacher_text"}
    sources = [found.source, *(one.source for one in found.mixture)]
    return all(
        (run_dir / one / "config.json").is_file() for one in sources if one.split("/")[0] in inside
    )


def saved(run_dir: Path) -> list[Member]:
    """The members whose weights are there."""
    return [found for found in read(run_dir) if exists(run_dir, found)]


@dataclass
class Loaded:
    """A member in memory; `fingerprint` is made from the very weights that will answer."""

    member: Member
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str


def load(
    run_dir: Path, found: Member, *, device: torch.device, each: LoadOne | None = None
) -> Loaded:
    """Load a member in eval mode; raises `RunError`, `ModelError`.

    `each` loads a single network of saved weights; `teachers.loading.load_one` when left out.
    """
    from distill_core.students import parts
    from distill_core.students.build import build_student, own_folder
    from distill_core.students.trimmed_tokenizer import trimmed_tokenizer

    if not exists(run_dir, found):
        raise RunError(
            f"The {found.title} of {run_dir.name} is not saved yet. Wait for the run to finish."
        )
    if found.build is None:
        return _load_saved(run_dir, found, device=device, each=each)
    source = folder(run_dir, found.source)
    chosen = parts.read(run_dir / found.parts) if found.parts else None
    model = build_student(
        found.build, source=source, seed=found.seed, chosen=chosen, labels=found.labels
    ).eval()
    model.to(device)  # type: ignore[arg-type]
    mark = _fingerprint(model)
    tokenizer = models.load_tokenizer(own_folder(found.build, source))
    if chosen is not None and chosen.tokens is not None:
        tokenizer = trimmed_tokenizer(tokenizer, chosen.tokens)
    return Loaded(found, model.requires_grad_(False), tokenizer, mark)


def _load_saved(
    run_dir: Path, found: Member, *, device: torch.device, each: LoadOne | None
) -> Loaded:
    """Load weights as they are on disk, in the number format that they taught in."""
    from distill_core.teachers import precision
    from distill_core.teachers.loading import Part, fingerprint, load_network

    shares = found.mixture or [Share(source=found.source, weight=1.0)]
    parts = [Part(folder(run_dir, one.source), one.weight) for one in shares]
    tokenizer = models.load_tokenizer(parts[0].folder)
    # a run may be looked at on another machine than it was trained on
    works = precision.refusal(found.precision, device) is None
    chosen = found.precision if works else "fp32"
    model = load_network(
        parts,
        precision=chosen,
        device=device,
        vocab_size=len(tokenizer),
        labels=found.labels,
        each=each,
    )
    mark = fingerprint(parts, precision=chosen)
    return Loaded(found, model.requires_grad_(False), tokenizer, mark)


def _fingerprint(model: PreTrainedModel) -> str:
    digest = hashlib.sha256()
    for _, value in sorted(model.state_dict().items()):
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:6]
