"""One optimiser step by its definition: row by row, without padding, batches or our own code.

In: a student, a teacher, rows, settings of terms. Out: the step's loss, differentiable. Written
from the formulas with plain operations; the product lends the types of rows and settings alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from distill_core.data.tokenize import IGNORE_INDEX, Encoded, Span, TeacherSide
from tests.core.terms import reference, span_reference


def encoded(count: int, *, seed: int = 0) -> list[Encoded]:
    """Rows of unequal length, prompt and answer, every third one unlabelled."""
    random = torch.Generator().manual_seed(seed)
    made = []
    for row in range(count):
        prompt = torch.randint(3, 64, (int(2 + row % 4),), generator=random).tolist()
        answer = torch.randint(3, 64, (int(1 + (3 * row) % 7),), generator=random).tolist()
        labels = [IGNORE_INDEX] * len(prompt) + answer
        made.append(Encoded(prompt + answer, labels, labelled=row % 3 != 2, truncated=False))
    return made


STUDENT_IDS = np.array([(5 * number + 2) % 64 for number in range(64)])
STUDENT_IDS[[7, 20]] = -1
"""For each teacher's token the student's of the same text; two have none."""


def rows_for(losses: list[Any], rows: list[Encoded]) -> list[Encoded]:
    """The rows as the terms need them: with a teacher's side where one compares spans."""
    across = any(term.name == "cross_tokenizer" for term in losses)
    return [two_sided(row) for row in rows] if across else rows


def two_sided(row: Encoded) -> Encoded:
    """The same row for a teacher with other tokens: one for one, one for two, or two for one."""
    own = [label for label in row.labels if label != IGNORE_INDEX]
    ids, labels, spans = [9, 8, 7, 6][: 2 + len(own) % 3], [], []
    labels = [IGNORE_INDEX] * len(ids)
    place = turn = 0
    while place < len(own):
        matches = np.flatnonzero(own[place] == STUDENT_IDS)
        kind = turn % 3
        if kind == 0 and len(matches):
            taken, theirs, same = 1, [int(matches[0])], True
        elif kind == 1 and place + 1 < len(own):
            taken, theirs, same = 2, [(own[place] + 11) % 64], False
        else:
            taken, theirs, same = 1, [(own[place] + 5) % 64, (own[place] + 9) % 64], False
        first = sum(label != IGNORE_INDEX for label in labels)
        spans.append(Span(place, taken, first, len(theirs), same))
        ids, labels = [*ids, *theirs], [*labels, *theirs]
        place, turn = place + taken, turn + 1
    side = TeacherSide(ids, labels, spans, STUDENT_IDS)
    return replace(row, teacher=side)


def naive_loss(student: Any, teacher: Any, rows: list[Encoded], losses: list[Any]) -> torch.Tensor:
    """The step's loss, row by row without padding or batches, straight from its definition."""
    means = naive_means(student, teacher, rows, losses)
    parts = [term.weight * means[term.name] for term in losses if term.name in means]
    return sum(parts, torch.zeros(()))


def naive_means(
    student: Any, teacher: Any, rows: list[Encoded], losses: list[Any]
) -> dict[str, torch.Tensor]:
    """Each term's mean over what it applies to; those that apply to nothing are left out."""
    values: dict[str, list[torch.Tensor]] = {term.name: [] for term in losses}
    for row in rows_for(losses, rows):
        ids = torch.tensor([row.input_ids])
        mine = inside(student, ids)
        side = row.teacher if row.teacher and row.teacher.spans is None else row
        with torch.no_grad():
            theirs = inside(teacher, torch.tensor([side.input_ids]))
        their_places = [n for n, label in enumerate(side.labels) if label != IGNORE_INDEX]
        for term in losses:
            if term.name == "cross_tokenizer":
                values[term.name] += naive_spans(term, student, teacher, row)
        places = [n for n, label in enumerate(row.labels) if label != IGNORE_INDEX]
        if side is row.teacher:
            assert len(places) == len(their_places)
        for count, place in enumerate(places):
            label = row.labels[place]
            # the positions whose next token is this one
            before = place - 1, (their_places[count] if side is not row else place) - 1
            for term in losses:
                if term.name == "cross_tokenizer":
                    continue
                if term.name != "cross_entropy" or row.labelled:
                    value = naive_value(term, mine, theirs, before, label)
                    values[term.name].append(value)
    return {name: torch.stack(found).mean() for name, found in values.items() if found}


def naive_spans(term: Any, student: Any, teacher: Any, row: Encoded) -> list[torch.Tensor]:
    """The values of one row's spans, each side read by itself in its own ids."""
    assert row.teacher is not None
    mine = student(input_ids=torch.tensor([row.input_ids])).logits[0]
    with torch.no_grad():
        theirs = logits_of(teacher, torch.tensor([row.teacher.input_ids]))
    own = [n for n, label in enumerate(row.labels) if label != IGNORE_INDEX]
    their = [n for n, label in enumerate(row.teacher.labels) if label != IGNORE_INDEX]
    found = []
    for span in row.teacher.spans or ():
        a = own[span.student_first :][: span.student_tokens]
        b = their[span.teacher_first :][: span.teacher_tokens]
        found.append(
            span_reference(
                term,
                torch.stack([mine[place - 1] for place in a]),
                torch.stack([theirs[place - 1] for place in b]),
                [row.labels[place] for place in a],
                [row.teacher.labels[place] for place in b],
                STUDENT_IDS.tolist() if span.coincides else None,
            )
        )
    return found


def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Logits of one row; of a mixture, the logarithm of the weighted mean of probabilities."""
    if not hasattr(model, "members"):
        return model(input_ids=ids).logits[0]
    pairs = zip(model.weights, model.members, strict=True)
    mean = sum(w * one(input_ids=ids).logits[0].double().softmax(-1) for w, one in pairs)
    return mean.log()  # type: ignore[union-attr]


@dataclass
class Translated:
    """A teacher with more tokens than its student: its id of each of the student's tokens."""

    model: Any
    ids: torch.Tensor


def inside(model: Any, ids: torch.Tensor) -> dict[str, Any]:
    """Everything of one row: logits, hidden states, attention and values by layer from 1."""
    if isinstance(model, Translated):
        found = inside(model.model, model.ids[ids])
        return found | {"logits": found["logits"][:, model.ids]}
    if hasattr(model, "members"):
        return {"logits": logits_of(model, ids)}
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.set_attn_implementation("eager")
    values: dict[int, torch.Tensor] = {}
    hooks = [
        layer.self_attn.v_proj.register_forward_hook(
            lambda module, given, output, number=number: values.update({number: output[0]})
        )
        for number, layer in enumerate(base.model.layers, 1)
    ]
    out = model(input_ids=ids, output_hidden_states=True, output_attentions=True)
    for hook in hooks:
        hook.remove()
    return {
        "logits": out.logits[0],
        "hidden": [states[0] for states in out.hidden_states],
        "maps": [None, *(maps[0] for maps in out.attentions)],
        "values": values,
    }


def naive_value(
    term: Any, mine: dict[str, Any], theirs: dict[str, Any], places: tuple[int, int], label: int
) -> torch.Tensor:
    """One term at one position of each side, two layers against three: 1 from 2, 2 from 3."""
    place, their_place = places
    if term.name not in ("hidden_states", "attention"):
        return reference(term, mine["logits"][place], theirs["logits"][their_place], label)
    found = []
    for a, b in [(1, 2), (2, 3)] if term.layers == "all" else [(2, 3)]:
        if term.name == "hidden_states":
            s, t = mine["hidden"][a][place], theirs["hidden"][b][place].float()
            if term.distance == "cosine":
                found.append(1 - (s @ t) / (s.norm() * t.norm()))
            else:
                s, t = (x / (x**2).mean().sqrt() for x in (s, t))
                found.append(((s - t) ** 2).mean())
            continue
        if term.compares == "maps":  # (H, keys that can be seen)
            s, t = mine["maps"][a][:, place, : place + 1], theirs["maps"][b][:, place, : place + 1]
        else:
            s, t = (naive_relation(x["values"][n], place) for x, n in ((mine, a), (theirs, b)))
        if term.distance == "mse":
            found.append(((s - t) ** 2).sum(-1).mean())
        else:
            found.append((t * (t / s).log()).sum(-1).mean())
    return torch.stack(found).mean()


def naive_relation(values: torch.Tensor, place: int, heads: int = 4) -> torch.Tensor:
    """(R, keys): how one position's values relate to those before, part by part."""
    width = values.shape[-1] // heads
    parts = [values[: place + 1, h * width : (h + 1) * width] for h in range(heads)]
    return torch.stack([(p @ p[-1] / width**0.5).softmax(-1) for p in parts])
