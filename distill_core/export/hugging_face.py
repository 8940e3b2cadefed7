"""The student as a Hugging Face folder: weights, configuration, tokenizer, model card.

In: a run's folder. Out: a folder for `from_pretrained`, written beside its
place and renamed, so that it is whole or not there. Nothing in it names a folder of this machine.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill_core import files
from distill_core.errors import DiskFullError, DistillError, RunError
from distill_core.export.card import write_card
from distill_core.export.paths import is_local_path
from distill_core.models import model_facts, weights
from distill_core.models.classifiers import is_classifier

MARKER = "distill_studio.json"
"""Says that a folder is an earlier export, and which files belong to it."""

_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")
_LOCAL_KEYS = ("_name_or_path", "name_or_path", "is_local", "local_files_only")


def export_hugging_face(run_dir: Path, out: Path) -> Path:
    """Write the run's student into `out`; an earlier export there is replaced.

    Raises:
        RunError: if the run has no finished student.
        DistillError: if `out` holds files that no export has written.
        DiskFullError: if there is no room; nothing is left behind.
    """
    student = run_dir / "student"
    if not weights.weight_files(student):
        raise RunError(
            f"The run {run_dir.name} has no finished student yet.\n"
            "Wait until it has finished, or resume it."
        )
    _check_target(out)
    sources = [
        path
        for path in sorted(student.iterdir())
        if path.is_file() and path.suffix in _SUFFIXES and not path.name.startswith(".")
    ]
    _check_room(out, sum(path.stat().st_size for path in sources))
    with _beside(out) as partial:
        for source in sources:
            if source.suffix == ".json":
                _copy_json(source, partial / source.name)
            else:
                shutil.copyfile(source, partial / source.name)
        _add_template(student, partial)
        write_card(run_dir, partial / "README.md")
        written = sorted([*(path.name for path in partial.iterdir()), MARKER])
        facts = {"made_by": "Distill Studio", "run": run_dir.name, "files": written}
        (partial / MARKER).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return out


def _add_template(student: Path, partial: Path) -> None:
    """Write down how prompts were framed in training where the tokenizer has no chat template."""
    from distill_core.data.tokenize import PLAIN_TEMPLATE

    if is_classifier(model_facts.config(str(student))):
        return  # it reads texts as they are
    tokenizer: Any = weights.load_tokenizer(student)
    if tokenizer.chat_template:
        return
    bos = tokenizer.bos_token_id
    opens_with_bos = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
    opening = "{{ bos_token }}" if opens_with_bos else ""
    (partial / "chat_template.jinja").write_text(opening + PLAIN_TEMPLATE, encoding="utf-8")


@contextlib.contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A new folder beside `out` that takes its place at the end, or disappears."""
    partial = None
    try:
        with files.disk_full_told(_existing(out)):
            out.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
            yield partial
            partial.chmod(0o755)
            _put_in_place(partial, out)
    except PermissionError:
        raise DistillError(
            f"The folder {out} cannot be written: no permission.\nChoose another with --out."
        ) from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(partial: Path, out: Path) -> None:
    if not out.exists():
        partial.rename(out)
        return
    old = partial.with_name(f"{partial.name}-old")
    out.rename(old)
    try:
        partial.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _check_target(out: Path) -> None:
    """Refuse a target with anything in it that would be lost."""
    if out.is_file():
        raise DistillError(f"{out} is a file.\nName a folder that is new or empty.")
    if not out.is_dir():
        return
    present = {path.name for path in out.iterdir()}
    known = set(files.read_json(out / MARKER).get("files", []))
    foreign = sorted(present - known)
    if foreign:
        raise DistillError(
            f"{out} holds files that no export has written, such as {foreign[0]}.\n"
            "Name a folder that is new or empty, so that nothing is lost."
        )


def _check_room(out: Path, needed: int) -> None:
    folder = _existing(out)
    free = shutil.disk_usage(folder).free
    if free < needed * 1.02 + 1_000_000:
        raise DiskFullError(
            f"The export needs {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free in "
            f"{folder}.\nFree space, or choose a folder on another disk."
        )


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _copy_json(source: Path, target: Path) -> None:
    """Copy a configuration without what names this machine; others are copied as they are."""
    if source.name not in {"config.json", "tokenizer_config.json", "generation_config.json"}:
        shutil.copyfile(source, target)
        return
    content: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    kept = {
        key: value
        for key, value in content.items()
        if key not in _LOCAL_KEYS and not (isinstance(value, str) and is_local_path(value))
    }
    target.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
