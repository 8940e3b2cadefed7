"""What the Runs tab says of runs that are ticked, deleted or exported.

In: how many. Out: words. Knows nothing of runs.
"""

from __future__ import annotations

PICK_TWO = "Tick two or more runs above: only what differs is listed here."
SAME_SETTINGS = "These runs have the same settings."
PICK_FOR_CURVES = "Tick runs above that have this measure; the two newest finished ones are ticked."
DELETE_WARNING = "Checkpoints, student, curves and exports go. This cannot be undone."
EXPORTED = "The student as a Hugging Face folder, with tokenizer and model card:"
TOO_LARGE_TO_ZIP = "It is over 1 GiB: copy the folder itself, a download would take as much again."


def selected(count: int) -> str:
    """How many runs are ticked, and what that allows."""
    if count == 0:
        return "Tick a run to open, resume, copy, export or delete it; several to compare them."
    if count == 1:
        return "1 run selected. Tick more to compare curves and settings."
    return f"{count} runs selected. Open, resume, copy and export want exactly one."


def delete_question(count: int) -> str:
    """Head of the question before deleting."""
    return "Delete this run?" if count == 1 else f"Delete these {count} runs?"
