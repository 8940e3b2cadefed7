"""What a run was made with: `environment.json` in its folder, enough to repeat it.

In: the recipe. Out: versions, this machine, and the device and number format that the recipe's
`auto` meant on it. Knows nothing of what a run does.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from distill_core import device, files
from distill_core.errors import RecipeError
from distill_core.recipe import Recipe

FILE = "environment.json"

_PACKAGES = (
    *("distill-studio", "torch", "transformers", "accelerate", "peft"),
    *("datasets", "tokenizers", "safetensors", "numpy"),
)


def computed_on(recipe: Recipe) -> dict[str, str]:
    """`device` and `precision` as they are meant here; nothing where that device is not here."""
    try:
        target = device.pick_device(recipe.device)
    except RecipeError:
        return {}  # the run will say so
    dtype = device.pick_dtype(recipe.precision, target)
    return {"device": target.type, "precision": device.dtype_name(dtype)}


def write(run_dir: Path, computed: Mapping[str, str]) -> None:
    """Write it down, with what `computed_on` gives."""
    versions: dict[str, Any] = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    files.replace_json(
        run_dir / FILE,
        {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "machine": platform.machine(),
            "host": platform.node(),
            **computed,
            "cpu_count": os.cpu_count(),
            "memory_total_bytes": psutil.virtual_memory().total,
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "versions": versions,
            "command": [sys.executable, *sys.argv],
            "started_time_s": time.time(),
        },
    )


def read(run_dir: Path) -> dict[str, Any]:
    """What was written; an empty dictionary where nothing was."""
    return files.read_json(run_dir / FILE)
