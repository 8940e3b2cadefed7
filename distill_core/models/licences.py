"""What a teacher's licence asks of its students: a sentence to show, with its source.

In: a model's name and stated licence. Out: a note and a link, or nothing. Not legal advice; the
user confirms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class LicenceNote:
    """A consequence for students: `text`, where it is written (`source`), and who must act."""

    text: str
    source: str
    binding: bool
    """Whether the student inherits duties, so that it deserves a problem of its own."""


_NOTES: tuple[tuple[str, LicenceNote], ...] = (
    (
        r"(^|[/\-_])llama-?[23]",
        LicenceNote(
            "Llama 3.1 and later: its outputs may train other models, but a shared student's name "
            'must begin with "Llama", with "Built with Llama", the agreement and its notice.',
            "https://www.llama.com/llama3_1/license/",
            binding=True,
        ),
    ),
    (
        r"(^|[/\-_])gemma",
        LicenceNote(
            'Gemma: a student distilled from its outputs is a "Model Derivative"; the Gemma terms '
            "and use policy follow it.",
            "https://ai.google.dev/gemma/terms",
            binding=True,
        ),
    ),
    (
        r"(^|[/\-_])deepseek",
        LicenceNote(
            "DeepSeek (MIT): distillation is explicitly allowed.",
            "https://github.com/deepseek-ai/DeepSeek-R1#7-license",
            binding=False,
        ),
    ),
    (
        r"(^|[/\-_])qwen",
        LicenceNote(
            "Qwen: most sizes are Apache-2.0, not every one; look at this model's page.",
            "https://huggingface.co/Qwen",
            binding=False,
        ),
    ),
)


def licence_note(name: str, licence: str = "") -> LicenceNote | None:
    """The note for a model, by its name first and its licence's name second."""
    for text in (name.lower(), licence.lower()):
        for pattern, note in _NOTES:
            if re.search(pattern, text):
                return note
    return None
