"""What tests of the app share.

In: nothing. Out: a Gradio that leaves no event loop open. Knows nothing of the tabs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from gradio import queueing, utils


@pytest.fixture(scope="session", autouse=True)
def _no_loop_left_open() -> Iterator[None]:
    """Laying out an app makes an event loop for every lock, and closes none; locks need none."""
    patch = pytest.MonkeyPatch()
    for module in (utils, queueing):
        patch.setattr(module, "safe_get_lock", asyncio.Lock)
    patch.setattr(utils, "safe_get_stop_event", asyncio.Event)
    yield
    patch.undo()
