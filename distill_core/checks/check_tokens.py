"""Rules about what models will see of the rows: how much is cut off, what a tokenizer cannot read.

In: a recipe, the networks of its stages, and a sample of its rows in tokens. Out: problems. Reads
tokenizers, no weights; says nothing where rows or tokenizer are not on this disk yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from distill_core.checks.check_models import readable_tokens
from distill_core.errors import DataError, ModelError, Problem
from distill_core.estimate.row_facts import row_sample
from distill_core.estimate.sampled_rows import Sample
from distill_core.estimate.shapes import StageShape, tokenizer_folder
from distill_core.recipe import Recipe
from distill_core.recipe.plan import named_models

MANY_CUT = 0.02
"""From this share of rows on, those that are too long are told."""

MANY_UNKNOWN = 0.01
MOST_UNKNOWN = 0.2
"""Shares of tokens that a tokenizer does not know; above the second hardly anything is learnt."""

MANY_WITH_UNKNOWN = 0.05
"""From this share of rows on, those with a few such tokens are told."""

_MOST_ROWS = 0.99
"""This share of rows is to fit into the length that is proposed."""


def problems(recipe: Recipe, shapes: Sequence[StageShape]) -> Iterator[Problem]:
    """All that these rules find; the rows are looked at once for all of them."""
    samples = _samples(recipe)
    yield from cut_rows(recipe, shapes, samples)
    yield from unknown_tokens(recipe, samples)


def cut_rows(
    recipe: Recipe, shapes: Sequence[StageShape], samples: Mapping[str, Sample]
) -> Iterator[Problem]:
    """What stands at one end of a long row is never seen."""
    limit = recipe.data.max_seq_len
    name = min(samples, key=lambda one: samples[one].share_within(limit), default="")
    share = 1 - samples[name].share_within(limit) if samples else 0.0
    if share < MANY_CUT:
        return
    sample = samples[name]
    gone = all(row.prompt_gone for row in sample.even)
    lost = "nothing of what they ask is left" if gone else f"they lose {_lost(recipe, sample)}"
    yield Problem(
        severity="error" if gone else "warning",
        field="data.max_seq_len",
        message=f"{_rows(share)} are longer than {limit:,} tokens"
        f"{f' of {name}' if len(samples) > 1 else ''}: {lost}.",
        fix=_longer(sample, limit, shapes),
    )


def unknown_tokens(recipe: Recipe, samples: Mapping[str, Sample]) -> Iterator[Problem]:
    """What a tokenizer does not know is one and the same token to its model."""
    fields = named_models(recipe)
    for name, sample in samples.items():
        share, rows = sample.unknown_share, sample.rows_with_unknown
        if share < MANY_UNKNOWN and rows < MANY_WITH_UNKNOWN:
            continue
        such = f", such as {' '.join(sample.unknown_texts)}" if sample.unknown_texts else ""
        if share < MANY_UNKNOWN:
            yield Problem(
                severity="info",
                field=fields[name],
                message=f"{_rows(rows)} hold something that {name}'s tokenizer does not "
                f"know{such}: the model reads it, and may learn to write it, as its unknown token.",
                fix="Write it in other characters, if it matters.",
            )
            continue
        so_much = "with so much of it unreadable, next to nothing can be learnt"
        yield Problem(
            severity="warning",
            field=fields[name],
            message=f"{name}'s tokenizer does not know about {_percent(share)} of what the rows "
            f"say{such}: "
            f"{so_much if share >= MOST_UNKNOWN else 'to the model it is all the same token'}.",
            fix="Choose a model whose tokenizer knows such text; smollm2-135m-instruct knows any.",
        )


def _samples(recipe: Recipe) -> dict[str, Sample]:
    """The rows in each model's tokens, by its name: once for models that cut them alike."""
    found: dict[str, Sample] = {}
    for name in named_models(recipe):
        try:
            sample = row_sample(recipe.data, tokenizer_folder(name), recipe.task)
        except (DataError, ModelError):
            continue  # told where the model is looked at, and when the rows are read
        if sample is not None and sample not in found.values():
            found[name] = sample
    return found


def _lost(recipe: Recipe, sample: Sample) -> str:
    """What is cut off the rows that are too long, in words."""
    cut = sample.cut
    prompt = sum(row.prompt_lost for row in cut) / len(cut)
    answer = sum(row.whole - row.kept - row.prompt_lost for row in cut) / len(cut)
    if recipe.task != "causal_lm" or not prompt:
        return f"the end of their text, about {_tokens(prompt + answer)} each"
    head = f"the head of their prompt, about {_tokens(prompt)} each"
    return f"{head}, and the end of their answer, about {_tokens(answer)}" if answer else head


def _longer(sample: Sample, limit: int, shapes: Sequence[StageShape]) -> str:
    """The length that nearly all rows fit into, as far as the models can read it."""
    lengths = sorted(row.whole for row in sample.even)
    wanted = _round(lengths[min(len(lengths) - 1, int(_MOST_ROWS * len(lengths)))])
    reach = {
        name: readable
        for shape in shapes
        for name, config in ((shape.source_name, shape.source), (shape.student_name, shape.student))
        if (readable := readable_tokens(config))
    }
    name = min(reach, key=lambda one: reach[one], default="")
    most = reach[name] if name else wanted
    if wanted <= most:
        return f"Set it to {wanted:,}, which holds nearly all of them, or leave the long ones out."
    if limit < most:
        return (
            f"Set it to {most:,}, the most that {name} reads, or shorten the rows: "
            f"{_percent(sample.share_within(most))} of them fit there, nearly all into {wanted:,}."
        )
    return (
        f"Shorten the rows, or choose models that read more: {name} reads {most:,} at most, and "
        f"nearly all rows would need {wanted:,}."
    )


def _round(tokens: int) -> int:
    """The next length that people write: a power of two, or half as much again."""
    power = 1 << max(3, (tokens - 1).bit_length() - 1)
    return next(one for one in (power, power * 3 // 2, power * 2) if one >= tokens)


def _rows(share: float) -> str:
    return "All rows" if share == 1 else f"About {_percent(share)} of the rows"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _tokens(count: float) -> str:
    return f"{count:,.0f} token{'' if round(count) == 1 else 's'}"
