"""The shape of the code base: who may import whom, how deep, how long, and what is never written.

In: the sources as text, and two fresh interpreters. Knows nothing of what the code does.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# --- who may import whom --------------------------------------------------------------------

GROUPS = {
    "facts": "recipe errors events files runs steps.schedule intervals scores tasks "
    "models.cache_folder probe",
    "names": "models device environment peak starter ranks",
    "parts": "losses teachers students data forward generate halving",
    "loop": "trainer steps dry_step dry_rows pipeline stages checkpoints scoring evaluate "
    "conclusions comparing softening self_test export harness starter.build starter.tokenizer "
    "probe.measuring probe.arm_scores",
    "advice": "checks advisor estimate pair_doctor progressive",
    "processes": "supervisor worker processes",
    "api": "api",
    "cli": "cli",
}
"""Modules and packages of `distill_core`, the lowest first; a new one gets its place here."""

ALWAYS, LAZILY = "always", "lazily"

TABLE: dict[str, dict[str, str]] = {
    "facts": {"facts": ALWAYS},
    "names": {"heavy": LAZILY, "facts": ALWAYS, "names": ALWAYS},
    "parts": {"heavy": ALWAYS, "facts": ALWAYS, "names": ALWAYS, "parts": ALWAYS},
    "loop": {
        "heavy": ALWAYS,
        "facts": ALWAYS,
        "names": ALWAYS,
        "parts": ALWAYS,
        "loop": ALWAYS,
    },
    "advice": {
        "heavy": LAZILY,
        "facts": ALWAYS,
        "names": ALWAYS,
        "parts": LAZILY,
        "advice": ALWAYS,
    },
    "processes": {
        "heavy": LAZILY,
        "facts": ALWAYS,
        "names": ALWAYS,
        "loop": LAZILY,
        "processes": ALWAYS,
    },
    "api": {
        "heavy": LAZILY,
        "facts": ALWAYS,
        "names": ALWAYS,
        "parts": LAZILY,
        "loop": LAZILY,
        "advice": ALWAYS,
        "processes": ALWAYS,
        "api": ALWAYS,
    },
    "cli": {"facts": ALWAYS, "api": ALWAYS, "cli": ALWAYS, "ui": LAZILY},
    "ui": {"api": ALWAYS, "gradio": ALWAYS, "ui": ALWAYS},
}
"""Row: the group that imports. What is not named is refused; `lazily`: only inside a function."""

HEAVY = {
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "datasets",
    "gguf",
    "safetensors",
    "lm_eval",
}
APP_ONLY = {"gradio", "gradio_client"}


def source_files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


PRODUCT = [ROOT / "app.py", *source_files("distill_core", "ui")]


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file) for file in PRODUCT}
OF_MODULE = {name: group for group, names in GROUPS.items() for name in names.split()}


def group_of(module: str) -> str | None:
    """Return the table's name for a module, None for what the table says nothing about."""
    top, _, rest = module.partition(".")
    if top in HEAVY:
        return "heavy"
    if top in APP_ONLY:
        return "gradio"
    if top in {"ui", "app"}:
        return "ui"
    if top != "distill_core" or not rest:
        return None
    while rest:
        if rest in OF_MODULE:
            return OF_MODULE[rest]
        rest = rest.rpartition(".")[0]
    return f"no group for {module}"


def imports(file: Path) -> Iterator[tuple[str, str, int]]:
    """Yield (module, always | lazily, line); imports for type checkers alone are left out."""

    def visit(node: ast.AST, when: str) -> Iterator[tuple[str, str, int]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from visit(child, when)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, when, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: write the import in full"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield (full if full in MODULES else base), when, node.lineno
        inside = LAZILY if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else when
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(ast.parse(file.read_text(encoding="utf-8")), ALWAYS)


@pytest.mark.parametrize("file", PRODUCT, ids=module_name)
def test_imports_follow_the_table(file: Path) -> None:
    own = group_of(module_name(file))
    if own is None:  # distill_core itself: may name anything that is light
        own = "api"
    assert own in TABLE, f"{own}: give it a place in GROUPS"
    wrong = []
    for module, when, line in imports(file):
        target = group_of(module)
        allowed = ALWAYS if target is None else TABLE[own].get(target)
        if allowed is None or (allowed == LAZILY and when == ALWAYS):
            where = f"{file.relative_to(ROOT)}:{line}"
            limit = "only inside a function" if allowed else "not at all"
            wrong.append(f"{where}: {own} may import {module} ({target}) {limit}")
    assert not wrong, "\n".join(wrong)


def test_the_supervisor_never_loads_what_its_workers_load() -> None:
    reached = {group_of(module) for module, *_ in imports(ROOT / "distill_core/supervisor.py")}
    assert not reached & {"heavy", "loop", "parts"}


def test_groups_name_only_what_exists() -> None:
    gone = [name for name in OF_MODULE if f"distill_core.{name}" not in MODULES]
    assert not gone


def test_importing_the_library_loads_neither_torch_nor_gradio() -> None:
    code = (
        (
            "import sys, distill_core, distill_core.api, distill_core.cli\n"
            f"print(*sorted({sorted(HEAVY | APP_ONLY)!r} & sys.modules.keys()))"
        )
        .replace("[", "{")
        .replace("]", "}")
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


# --- names, depth, length -------------------------------------------------------------------

LONG_FILES: dict[str, str] = {}
"""Files that may pass 300 lines, each with its reason."""


def test_no_drawer_for_odds_and_ends() -> None:
    drawers = {"utils", "util", "common", "helpers", "helper", "misc", "shared", "tools"}
    found = [name for name in MODULES if drawers & set(name.split("."))]
    assert not found


def test_depth_is_at_most_two() -> None:
    deep = [name for name in MODULES if name.count(".") > 2]
    assert not deep


def test_long_files_are_few_and_known() -> None:
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines())
        for file in PRODUCT
    }
    unknown = {name: length for name, length in lengths.items() if length > 300}
    for name in LONG_FILES:
        unknown.pop(name, None)
    assert not unknown, "over 300 lines: would a second noun help?"
    assert lengths["app.py"] < 30


@pytest.mark.parametrize("file", PRODUCT, ids=module_name)
def test_files_open_with_what_they_are(file: Path) -> None:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert docstring, "says nothing about itself"
    if file.name != "__init__.py" and file.name != "app.py":
        assert len(docstring.splitlines()) >= 2


# --- what is never written ------------------------------------------------------------------


def calls(file: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node


def keyword(call: ast.Call, name: str) -> object:
    for given in call.keywords:
        if given.arg == name and isinstance(given.value, ast.Constant):
            return given.value.value
    return None


@pytest.mark.parametrize("file", PRODUCT, ids=module_name)
def test_no_dangerous_calls(file: Path) -> None:
    wrong = []
    for call in calls(file):
        name = ast.unparse(call.func)
        if keyword(call, "trust_remote_code"):
            wrong.append(f"{call.lineno}: runs code that a model brings along")
        if name == "torch.load" and keyword(call, "weights_only") is not True:
            wrong.append(f"{call.lineno}: torch.load reads pickles")
        if keyword(call, "shell") is True or name in {"os.system", "os.popen"}:
            wrong.append(f"{call.lineno}: a shell reads the command")
        if name in {"eval", "exec", "pickle.load", "pickle.loads", "yaml.load"}:
            wrong.append(f"{call.lineno}: {name}")
        if name == "print" and module_name(file) != "distill_core.cli":
            wrong.append(f"{call.lineno}: print outside the command line")
    assert not wrong, "\n".join(wrong)


def tracked_text_files() -> Iterator[Path]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    binary = {".png", ".safetensors", ".ico", ".parquet", ".gguf"}
    for name in filter(None, listed):
        file = ROOT / name
        if file.is_file() and file.suffix not in binary:
            yield file


def test_tracked_files_name_no_machine() -> None:
    machine_path = re.compile(r"(?<![\w.])/(?:work|root|opt)/\w")
    found = []
    for file in tracked_text_files():
        text = file.read_text(encoding="utf-8", errors="replace")
        found += [
            f"{file.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
            for number, line in enumerate(text.splitlines(), 1)
            if machine_path.search(line)
        ]
    assert not found, "\n".join(found)


def test_large_files_are_the_teacher_and_pictures_alone() -> None:
    allowed = ("assets/starter/", "assets/screenshots/")
    large = [
        f"{file.relative_to(ROOT)}: {os.path.getsize(file):,} bytes"
        for file in tracked_text_files()
        if os.path.getsize(file) > 400_000 and not str(file.relative_to(ROOT)).startswith(allowed)
    ]
    assert not large
