"""What stands on top of a network: a language model's head, or one that tells classes apart.

In: a configuration, names of classes. Out: which tasks its architecture can do, the classes that a
checkpoint already knows and in which order, a configuration with other classes. Loads no weights.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from distill_core.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Labels = tuple[str, ...]
"""Names of the classes in the order of the logits."""

_UNNAMED = re.compile(r"LABEL_\d+")
_HEAD = "ForSequenceClassification"


def is_classifier(config: PretrainedConfig) -> bool:
    """Whether the checkpoint that `config` describes has a head that tells classes apart."""
    return (getattr(config, "architectures", None) or [""])[0].endswith(_HEAD)


def tasks_of(config: PretrainedConfig) -> tuple[str, ...]:
    """Which of our tasks an architecture can do; encoders write no text, whatever head they had."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL,
    )
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED,
    )
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSES,
    )

    kind = config.model_type
    is_encoder = kind in MASKED and not getattr(config, "is_decoder", False)
    able = {
        "causal_lm": kind in CAUSAL and not is_encoder,
        "text_classification": kind in CLASSES,
    }
    return tuple(task for task, can in able.items() if can)


def auto_class(config: PretrainedConfig) -> Any:
    """The transformers class that builds the network which `config` describes, head included."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

    if is_classifier(config):
        return AutoModelForSequenceClassification
    return AutoModelForCausalLM if "causal_lm" in tasks_of(config) else AutoModel


def head_labels(config: PretrainedConfig) -> Labels:
    """The classes that the checkpoint's head knows, in its order; () where it has no such head."""
    if not is_classifier(config):
        return ()
    names: dict[Any, str] = dict(config.id2label or {})
    return tuple(str(names.get(place, f"LABEL_{place}")) for place in range(len(names)))


def with_labels(config: PretrainedConfig, labels: Sequence[str]) -> PretrainedConfig:
    """A copy of `config` whose head tells `labels` apart."""
    made: Any = copy.deepcopy(config)
    name = type(made).__name__.removesuffix("Config")
    body = re.sub(r"(Model|ForCausalLM|LMHeadModel|For\w+)$", "", (made.architectures or [name])[0])
    made.architectures = [f"{body}{_HEAD}"]
    made.id2label = dict(enumerate(labels))
    made.label2id = {label: place for place, label in enumerate(labels)}
    made.problem_type = "single_label_classification"
    return made


def in_head_order(labels: Sequence[str], config: PretrainedConfig) -> Labels | None:
    """Put the data's `labels` into the order of the checkpoint's head; None if they are others.

    Case and spaces do not matter. A head whose classes have no names (`LABEL_0`, `LABEL_1`, …)
    takes labels that are the numbers 0 to n − 1.
    """
    known = head_labels(config)
    if len(known) != len(labels) or not known:
        return None
    if all(_UNNAMED.fullmatch(name) for name in known):
        numbers = tuple(str(place) for place in range(len(known)))
        return numbers if set(labels) == set(numbers) else None
    spelled = {_plain(label): label for label in labels}
    found = [spelled.get(_plain(name)) for name in known]
    return tuple(label for label in found if label is not None) if all(found) else None


def head_spelled_as(labels: Iterable[str], config: PretrainedConfig) -> Labels:
    """The classes of the checkpoint's head, written as in `labels` where they are there."""
    known = head_labels(config)
    numbers = {f"label_{label}": label for label in labels if label.isdecimal()}
    spelled = {_plain(label): label for label in labels} | (numbers if is_unnamed(known) else {})
    return tuple(spelled.get(_plain(name), name) for name in known)


def is_unnamed(labels: Sequence[str]) -> bool:
    """Whether a head's classes are numbered only, as transformers does where nobody names them."""
    return bool(labels) and all(_UNNAMED.fullmatch(name) for name in labels)


def fits(labels: Sequence[str], config: PretrainedConfig) -> bool:
    """Whether the head's logits may be read as `labels`, in that order.

    A head without names says nothing against it; `check_teacher` asks whether somebody vouches.
    """
    known = head_labels(config)
    unnamed = is_unnamed(known) and len(known) == len(labels)
    return unnamed or in_head_order(labels, config) == tuple(labels)


def check_teacher(
    labels: Sequence[str], config: PretrainedConfig, *, named: bool, name: str, field: str
) -> None:
    """Make sure that a teacher's logits mean the run's classes; `named`: the recipe orders them.

    Raises:
        ModelError: the model has no head, or one for other classes or in an unknown order.
    """
    known = head_labels(config)
    if not known:
        raise ModelError(
            f"{name} has no head that tells classes apart, so it cannot teach that.\n"
            "Put a fine_tune stage before this one, and name its outcome `previous`.",
            field=field,
        )
    if is_unnamed(known) and in_head_order(labels, config) is None and not named:
        raise ModelError(
            f"{name} only numbers its classes (LABEL_0, …), so which of them is {labels[0]!r} is "
            "not known.\nWrite the classes in its order in data.classes.",
            field=field,
        )
    if not fits(labels, config):
        raise ModelError(
            f"{name} tells {', '.join(known[:6])} apart, the rows {', '.join(labels[:6])}.\n"
            "Fine-tune it on these rows first, or write data.classes in its order.",
            field=field,
        )


def _plain(label: str) -> str:
    return " ".join(label.casefold().split())
