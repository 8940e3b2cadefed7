"""A run's progress bar: the same wherever a run is shown.

In: a run's name and status. Out: HTML. Knows nothing of tabs.
"""

from __future__ import annotations

from typing import Any

from ui import text, theme


def run_bar(name: str, status: dict[str, Any]) -> str:
    """Training steps, or done of total in another phase; moving when that is unknown."""
    asks = status.get("phase") == "caching teacher"
    return theme.bar(
        text.share_of(status),
        label=f"Progress of {name}",
        colour=theme.TEACHER if asks else theme.STUDENT,
    )
