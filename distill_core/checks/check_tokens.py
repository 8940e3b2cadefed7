"""Rules about what models will see of the rows: how much of them is cut off.

In: a recipe, the networks of its stages, and a sample of its rows in tokens. Out: problems. Reads
tokenizers, no weights; says nothing where rows or tokenizer are not on this disk yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from distill_core.checks.check_models import readable_tokens
from distill_core.errors import DataError, ModelError, Problem
from distill_core.estimate.row_facts import row_sample
from distill_core.estimate.sampled_rows import Sample
from distill_core.estimate.shapes import StageShape, tokenizer_folder
from distill_core.recipe import Recipe
from distill_core.recipe.plan import named_models

MANY_CUT = 0.02
"""From this share of rows on, those that are too long are told."""

_MOST_ROWS = 0.99
"""This share of rows is to fit into the length that is proposed."""


def cut_rows(recipe: Recipe, shapes: Sequence[StageShape]) -> Iterator[Problem]:
    """What stands at one end of a long row is never seen."""
    samples, limit = _samples(recipe), recipe.data.max_seq_len
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


RULES: tuple[Callable[[Recipe, Sequence[StageShape]], Iterator[Problem]], ...] = (cut_rows,)


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
