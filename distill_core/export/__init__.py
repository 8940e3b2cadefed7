"""A finished student leaves the studio: formats by name.

In: a run's folder, a format, a target. Out: a folder that other programs load.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from distill_core.errors import DistillError
from distill_core.export.hugging_face import export_hugging_face

FORMATS: dict[str, Callable[[Path, Path], Path]] = {"hf": export_hugging_face}
"""Each writes the student of a run into a folder, whole or not at all, and returns the folder."""


def export_run(run_dir: Path, format: str, out: str | Path | None = None) -> Path:
    """Write a run's student; the target is `export/<format>` inside the run unless `out` is given.

    Raises:
        DistillError: if the format is not known, or the target holds other files.
        RunError: if the run has no finished student.
        DiskFullError: if there is no room; nothing is left behind.
    """
    write = FORMATS.get(format)
    if write is None:
        known = ", ".join(FORMATS)
        reason = "is not available yet" if format == "gguf" else "is no format that is known here"
        raise DistillError(f"The format {format!r} {reason}.\nUse one of: {known}.")
    target = Path(out).expanduser() if out else run_dir / "export" / format
    return write(run_dir, target.absolute())
