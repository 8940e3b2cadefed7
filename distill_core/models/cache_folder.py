"""Where converted weights and measurements are kept between runs.

In: the environment. Out: a folder. Knows nothing of what is kept there.
"""

import os
from pathlib import Path

from platformdirs import user_cache_dir


def cache_folder() -> Path:
    """`$DISTILL_CACHE_DIR`, else the system's cache folder for the studio (may not exist yet)."""
    chosen = os.environ.get("DISTILL_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    return Path(user_cache_dir("distill-studio", appauthor=False))
