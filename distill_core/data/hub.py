"""Reads the records of a data set on the Hugging Face hub, or of its copy on this machine.

In: the name, configuration and split. Out: records, each with where it stood. Asks first, for a few
seconds, whether the hub answers at all, so that nobody waits on a dead network. Knows no prompts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from distill_core.data.files import Records, label_name
from distill_core.errors import DataError, DistillError, HubUnreachable
from distill_core.recipe import HubSource

__all__ = ["hub_answers", "read_hub"]

_PATIENCE_S: Final = 4.0


def hub_answers(*, timeout_s: float = _PATIENCE_S) -> bool:
    """Whether the hub answers within `timeout_s` seconds; False at once in offline mode."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    answered = threading.Event()

    def ask() -> None:
        import httpx

        with suppress(httpx.HTTPError, OSError):
            httpx.head(constants.ENDPOINT, timeout=timeout_s)
            answered.set()

    # a thread, because looking up a name may block for longer than any timeout of the client
    asking = threading.Thread(target=ask, daemon=True, name="hub-answers")
    asking.start()
    asking.join(timeout_s)
    return answered.is_set()


def read_hub(source: HubSource, *, field: str = "data.sources.0") -> Records:
    """Read the rows of a split; integer class labels become their names.

    Raises:
        HubUnreachable: the hub does not answer and there is no copy on this machine.
        DataError: no such data set, configuration or split, or no access to it.
    """
    online = hub_answers()
    try:
        with _quiet(offline=not online):
            table = _load(source)
    except Exception as error:
        raise _explained(error, source, field, online=online) from error
    title = title_of(source)
    labels = {
        name: feature.names
        for name, feature in table.features.items()
        if type(feature).__name__ == "ClassLabel"
    }
    records: list[tuple[str, dict[str, Any]]] = []
    for place, record in enumerate(table, 1):
        for name, known in labels.items():
            record[name] = label_name(record[name], known)
        records.append((f"{title}:{place}", record))
    if not records:
        raise DataError(f"{title} holds no rows. Choose another split.", field=f"{field}.split")
    return Records(list(table.column_names), records)


def title_of(source: HubSource) -> str:
    """Return `org/name/split`, with the configuration where one is named."""
    return "/".join(part for part in (source.id, source.config, source.split) if part)


def _load(source: HubSource) -> Any:
    import datasets

    table = datasets.load_dataset(source.id, name=source.config, split=source.split)
    return table.select(range(min(len(table), source.limit))) if source.limit else table


@contextmanager
def _quiet(*, offline: bool) -> Iterator[None]:
    """Hide progress bars, and keep both libraries off the network where it does not answer."""
    import datasets
    import huggingface_hub.constants as hub

    before = (datasets.config.HF_HUB_OFFLINE, hub.HF_HUB_OFFLINE)
    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    if offline:
        datasets.config.HF_HUB_OFFLINE = hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, hub.HF_HUB_OFFLINE = before
        if bars:
            datasets.enable_progress_bars()


def _explained(error: Exception, source: HubSource, field: str, *, online: bool) -> DistillError:
    """Turn whatever `datasets` raised into one of ours."""
    reason = " ".join(str(error).split())[:200]
    if not online:
        return HubUnreachable(
            f"The Hugging Face hub does not answer, and {source.id} is not on this machine yet. "
            "Offline, use a file or the starter's rows as the source.",
            field=f"{field}.id",
        )
    wrong = next((part for part in ("split", "config") if part in reason.lower()), "id")
    return DataError(
        f"{title_of(source)} cannot be read from the hub: {reason}\n"
        "Check its name, configuration and split on huggingface.co/datasets.",
        field=f"{field}.{wrong}",
    )
