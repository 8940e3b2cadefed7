"""Fixtures of the end-to-end tests: a command line and an app, each with a runs folder of its own.

In: nothing. Out: `cli`, `studio`; every process they started is ended with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.drive import Cli, Studio


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """The app, started once for a module, on an empty runs folder."""
    running = Studio(tmp_path_factory.mktemp("studio"))
    running.start()
    yield running
    running.kill()
    for worker in running.workers():
        worker.kill()
