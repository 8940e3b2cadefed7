"""Settings of the data.

In: sources, columns, framing. Out: `DataSettings`, what is held out included. Reads no file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distill_core.recipe.base import Settings


class StarterSource(Settings):
    """Rows of the built-in pocket-assistant task; nothing to download."""

    kind: Literal["starter"] = "starter"
    split: Literal["labelled", "unlabelled", "development", "held_out"] = Field(
        "labelled", description="Which of the starter's splits to read."
    )
    limit: int | None = Field(None, ge=1, description="Use only the first rows; all when empty.")


class FileSource(Settings):
    """Rows of a file on this machine."""

    kind: Literal["file"] = "file"
    path: str = Field(description="A .jsonl, .json, .csv, .tsv, .parquet or .txt file.")
    limit: int | None = Field(None, ge=1, description="Use only the first rows; all when empty.")


class HubSource(Settings):
    """Rows of a data set on the Hugging Face hub."""

    kind: Literal["hub"] = "hub"
    id: str = Field(description="Name of the data set on the hub, such as stanfordnlp/sst2.")
    config: str | None = Field(None, description="Its configuration, where it has several.")
    split: str = Field("train", description="Its split.")
    limit: int | None = Field(None, ge=1, description="Use only the first rows; all when empty.")


Source = Annotated[StarterSource | FileSource | HubSource, Field(discriminator="kind")]


class ColumnSettings(Settings):
    """Which column holds what; guessed and shown where left empty."""

    prompt: str | None = Field(None, description="Column with the question or instruction.")
    response: str | None = Field(None, description="Column with the answer; may be missing.")
    text: str | None = Field(
        None, description="Column with plain text: learnt from whole, or told apart by its label."
    )
    text_pair: str | None = Field(
        None, description="text_classification: column with a second text, read after the first."
    )
    label: str | None = Field(
        None, description="text_classification: column with the class; may be missing."
    )
    messages: str | None = Field(None, description="Column with a chat as role and content.")


class DataSettings(Settings):
    """What is learnt from, and what is kept aside to score on."""

    sources: list[Source] = Field(
        min_length=1, description="Any mix of sources; a row without an answer is unlabelled."
    )
    held_out: Source | Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1,
        description="A source to score on, or the share of rows to keep aside, chosen by a hash "
        "of each row's content.",
    )
    columns: ColumnSettings = Field(
        default_factory=ColumnSettings, description="Which column holds what; guessed if empty."
    )
    prompt_template: str | None = Field(
        None,
        description="Text put around each prompt; {prompt} stands for the prompt itself.",
    )
    system_prompt: str | None = Field(
        None, description="A system message put before every conversation that has none."
    )
    classes: str | None = Field(
        None,
        description="text_classification: names of the classes in the order of the model's head, "
        "separated by commas; empty: all labels of the training rows.",
    )
    max_seq_len: int = Field(
        256, ge=8, le=131072, description="Longest row in tokens; longer rows are cut and counted."
    )
