"""Who teaches a stage: one model or several, in which number format.

In: a planned stage and where its models are. Out: the teacher in memory, what identifies it, and
how the line-up calls it. Knows nothing of rows, losses or students.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distill_core import models
from distill_core.comparing import lineup
from distill_core.data.tokenize import stop_token_ids
from distill_core.errors import ModelError
from distill_core.losses.objective import Objective, lacking, sparse_temperature
from distill_core.recipe import DistillStage, TeacherCache
from distill_core.recipe.plan import PlannedStage, teacher_field
from distill_core.teachers import loading, precision
from distill_core.teachers.cached import PROVIDES, CachedTeacher
from distill_core.teachers.loading import Part
from distill_core.teachers.local import LocalTeacher
from distill_core.teachers.on_demand import OnDemandTeacher
from distill_core.teachers.rounding import Rounding

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Teaching:
    """The teachers of one distil stage."""

    names: list[str]
    """As the line-up calls them: a model's name, or a folder inside the run."""
    parts: list[Part]
    fields: list[str]
    """The settings that name them."""
    precision: str
    precision_field: str
    labels: models.Labels | None = None
    """The classes that they tell apart; None: they write text."""

    @classmethod
    def of(
        cls,
        stage: PlannedStage,
        *,
        path_of: Callable[[str], tuple[Path, str]],
        run_precision: str,
        device: torch.device,
        labels: models.Labels | None = None,
    ) -> Teaching:
        """Find a stage's teachers; `path_of` turns a recipe's name into a folder and its name."""
        settings = stage.settings
        assert isinstance(settings, DistillStage), "only a distil stage has teachers"
        found = [(path_of(one.model), one.weight) for one in settings.teachers]
        return cls(
            names=[name for (_, name), _ in found],
            parts=[Part(folder, weight) for (folder, _), weight in found],
            fields=[
                teacher_field(stage.index, settings, place)
                for place in range(len(settings.teachers))
            ],
            precision=precision.chosen(
                settings.teacher_precision, precision=run_precision, device=device
            ),
            precision_field=f"stages.{stage.index}.teacher_precision",
            labels=labels,
        )

    @property
    def fingerprint(self) -> str:
        """Identifies weights, shares and number format."""
        return loading.fingerprint(self.parts, precision=self.precision)

    @property
    def parameters(self) -> int:
        """Weights of all teachers together."""
        return sum(_parameters(part) for part in self.parts)

    def load(self, tokenizer: PreTrainedTokenizerBase, *, device: torch.device) -> LocalTeacher:
        """Load the teacher, the mixture where there are several.

        Raises:
            ModelError: if weights cannot be loaded so, or vocabularies differ.
        """
        self._require_one_vocabulary(tokenizer)
        network = loading.load_network(
            self.parts,
            precision=self.precision,
            device=device,
            vocab_size=len(tokenizer),
            labels=self.labels,
            field=self.precision_field,
        )
        stops = stop_token_ids(tokenizer) if self.labels is None else set()
        return LocalTeacher(network, vocab_size=len(tokenizer), stop_ids=stops)

    def on_demand(
        self, tokenizer: PreTrainedTokenizerBase, *, cached: CachedTeacher
    ) -> OnDemandTeacher:
        """The teacher, loaded when somebody asks what is not `cached`."""
        return OnDemandTeacher(
            lambda: self.load(tokenizer, device=cached.device),
            device=cached.device,
            note=cached.scoring.store.folder / "teacher.json",
        )

    def cached(
        self,
        stage: PlannedStage,
        tokenizer: PreTrainedTokenizerBase,
        *,
        root: Path,
        device: torch.device,
    ) -> CachedTeacher | None:
        """What is kept of the teacher beside the runs; None where a stage keeps nothing.

        Raises:
            CacheError: if the folder is of another teacher.
            ModelError: if a term cannot be served by what is kept.
        """
        settings = stage.settings
        assert isinstance(settings, DistillStage), "only a distil stage has teachers"
        if settings.teacher_cache is None or not Objective(stage.losses).compares:
            return None
        self._require_served(stage, settings.teacher_cache)
        return CachedTeacher(
            settings.teacher_cache,
            root=root,
            teacher=loading.identity(self.parts, precision=self.precision, device=device),
            tokenizer=tokenizer,
            temperature=sparse_temperature(stage.losses),
            classes=self.labels,
            device=device,
        )

    def _require_served(self, stage: PlannedStage, cache: TeacherCache) -> None:
        assert isinstance(stage.settings, DistillStage), "only a distil stage has teachers"
        provided = PROVIDES[cache.kind]
        active = [term for term in stage.losses if term.is_active]
        unserved: list[str] = [term.name for term in active if lacking(term, provided)]
        if "sparse" in provided and sparse_temperature(stage.losses) is None:
            unserved.append("A temperature that moves, or is not the same in all terms,")
        if stage.settings.on_policy_fraction:
            unserved.append("What the student writes itself")
        if unserved:
            raise ModelError(
                f"{unserved[0]} cannot be served by a teacher cache of kind {cache.kind}.\n"
                "Leave teacher_cache empty, or see which kind distill-studio check names.",
                field=f"stages.{stage.index}.teacher_cache",
            )

    def members(self, teacher: LocalTeacher | OnDemandTeacher | None) -> list[lineup.Member]:
        """The teacher for the line-up, and each of several as a member of its own."""
        size = teacher.bytes if teacher else None
        format_words = "" if self.precision == "fp32" else f" ({self.precision})"
        if len(self.parts) == 1:
            return [self._member(lineup.TEACHER, f"teacher{format_words}", [0], size)]
        every = list(range(len(self.parts)))
        mixture = f"teacher, a mixture of {len(every)}{format_words}"
        return [
            self._member(lineup.TEACHER, mixture, every, size),
            *(
                self._member(f"{lineup.TEACHER}_{place + 1}", f"teacher {place + 1}", [place], None)
                for place in every
            ),
        ]

    def facts(self, rounding: Rounding | None) -> dict[str, Any]:
        """For the `stage_started` event."""
        return {
            "name": " + ".join(self.names),
            "parameters": self.parameters,
            "precision": self.precision,
            "rounding": rounding.facts if rounding else None,
        }

    def _member(self, key: str, title: str, places: list[int], size: int | None) -> lineup.Member:
        parameters = sum(_parameters(self.parts[place]) for place in places)
        return lineup.Member(
            key=key,
            title=title,
            source=self.names[places[0]],
            mixture=[
                lineup.Share(source=self.names[place], weight=self.parts[place].weight)
                for place in places
                if len(places) > 1
            ],
            precision=self.precision,
            labels=self.labels,
            parameters=parameters,
            bytes=parameters * 4 if size is None else size,
        )

    def _require_one_vocabulary(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Several teachers are mixed id by id: the same id must be the same token."""
        for part, name, field in zip(self.parts[1:], self.names[1:], self.fields[1:], strict=True):
            if models.load_tokenizer(part.folder).get_vocab() != tokenizer.get_vocab():
                raise ModelError(
                    f"{name} and {self.names[0]} have different tokenizers, so their probabilities "
                    "cannot be mixed.\nChoose teachers of one family.",
                    field=field,
                )


def _parameters(part: Part) -> int:
    return int(models.facts(str(part.folder))["parameters"])
