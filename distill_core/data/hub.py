"""Reads the records of a data set on the Hugging Face hub, or of its copy on this machine.

In: the name, configuration and split. Out: records, each with where it stood. Asks first, for a few
seconds, whether the hub answers at all, so that nobody waits on a dead network. Knows no prompts.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from distill_core.data.files import Records, label_name
from distill_core.errors import DataError, DiskFullError, DistillError, HubUnreachable
from distill_core.models import hub
from distill_core.recipe import HubSource

__all__ = ["hub_answers", "read_hub", "title_of"]

_PATIENCE_S: Final = 6.0


def read_hub(source: HubSource, *, field: str = "data.sources.0") -> Records:
    """Read the rows of a split; integer class labels become their names.

    Raises:
        HubUnreachable: the hub does not answer and there is no copy on this machine.
        DataError: no such data set, configuration or split, or no access to it.
        DiskFullError: no room for the copy.
    """
    online = hub_answers()
    try:
        with quiet(offline=not online):
            table = _load(source)
    except Exception as error:
        raise _explained(error, source, field, online=online) from error
    title = title_of(source)
    labels = {
        name: feature.names
        for name, feature in table.features.items()
        if type(feature).__name__ == "ClassLabel"
    }
    found = Records.of(lambda: _records(table, labels, title), table.column_names)
    if not found.records:
        raise DataError(f"{title} holds no rows. Choose another split.", field=f"{field}.split")
    return found


def _records(
    table: Any, labels: dict[str, list[str]], title: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    place = 0
    for batch in table.iter(batch_size=1000):
        for name, known in labels.items():
            batch[name] = [label_name(value, known) for value in batch[name]]
        for values in zip(*batch.values(), strict=True):
            place += 1
            yield f"{title}:{place}", dict(zip(batch, values, strict=True))


def title_of(source: HubSource) -> str:
    """Return `org/name/split`, with the configuration where one is named."""
    return "/".join(part for part in (source.id, source.config, source.split) if part)


def hub_answers(*, patience_s: float = _PATIENCE_S) -> bool:
    """Whether the hub answers within `patience_s` seconds; False at once in offline mode."""
    answers: list[bool] = []
    # a thread, because looking up a name may block for longer than any timeout of the client
    asking = threading.Thread(target=lambda: answers.append(hub.reachable()), daemon=True)
    asking.start()
    asking.join(patience_s)
    return answers == [True]


def _load(source: HubSource) -> Any:
    import datasets

    table = datasets.load_dataset(source.id, name=source.config, split=source.split)
    return table.select(range(min(len(table), source.limit))) if source.limit else table


@contextmanager
def quiet(*, offline: bool) -> Iterator[None]:
    """Hide progress bars, and keep both libraries off the network where it does not answer."""
    import datasets
    from huggingface_hub import constants

    before = (datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE)
    bars = not datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    if offline:
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
        if bars:
            datasets.enable_progress_bars()


def _explained(error: Exception, source: HubSource, field: str, *, online: bool) -> DistillError:
    """Turn whatever `datasets` raised into one of ours."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return DiskFullError(
            f"The disk is full: {source.id} could not be downloaded.\nFree space, then try again."
        )
    if not online or isinstance(error, ConnectionError):
        return HubUnreachable(
            f"The Hugging Face hub cannot be reached, and {source.id} is not on this disk yet.\n"
            "Connect and try again, or use a file or the starter's rows as the source.",
            field=f"{field}.id",
        )
    reason = " ".join(str(error).split())
    wrong = next((part for part in ("split", "config") if part in reason.lower()), "id")
    return DataError(
        f"{title_of(source)} cannot be read from the hub: "
        f"{reason if len(reason) <= 160 else reason[:159] + '…'}\n"
        "Check its name, configuration and split at https://huggingface.co/datasets.",
        field=f"{field}.{wrong}",
    )
