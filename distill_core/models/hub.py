"""Models on the Hugging Face hub: what they are, and their files on this disk.

In: a hub id such as `org/name`. Out: the snapshot folder, safetensors only, or the facts that the
hub gives without a download. Answers within seconds when the hub cannot be reached. Knows nothing
of the built-in models.
"""

from __future__ import annotations

import contextlib
import fnmatch
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from distill_core.errors import HubUnreachable, ModelError

WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "vocab.txt", "merges.txt", "LICENSE*"]
UNWANTED = ["*/*", "consolidated*", "training_args*", "trainer_state.json", "pytorch_model*"]
_TOKENIZER_MORE = (
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt"),
    *("chat_template.jinja", "config.json"),
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_TIMEOUT_S = 5.0
_REMEMBER_S = {True: 30.0, False: 60.0}
"""For how long the hub is taken to be there, and not to be."""

_answer, _answer_until = False, 0.0
_ASKING = threading.Lock()


def complete(folder: Path) -> bool:
    """Whether a folder holds a configuration, a tokenizer and every weights file it names."""
    from distill_core.models.weights import weight_files

    return (
        (folder / "config.json").is_file()
        and any((folder / name).is_file() for name in TOKENIZER_FILES)
        and bool(weight_files(folder))
    )


def cached(hub_id: str) -> Path | None:
    """The snapshot already on this disk, if it is complete; asks no network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        folder = Path(snapshot_download(hub_id, local_files_only=True))
    except (OSError, ValueError, HFValidationError, HfHubHTTPError):
        return None
    return folder if complete(folder) else None


def download(hub_id: str, *, field: str, progress: Callable[[str], None]) -> Path:
    """Bring a model's safetensors, configuration and tokenizer to this disk.

    Raises:
        HubUnreachable: if the hub does not answer within seconds.
        ModelError: if the model does not exist, is gated or has no safetensors.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    info = look_up(hub_id, field=field)
    size = info["download_bytes"]
    progress(f"Downloading {hub_id} ({size / 1e6:.0f} MB) from the Hugging Face hub")
    quiet = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        return Path(
            snapshot_download(
                hub_id, revision=info["sha"], allow_patterns=WANTED, ignore_patterns=UNWANTED
            )
        )
    except Exception as error:
        _explain(error, hub_id, field)
    finally:
        if not quiet:
            enable_progress_bars()


def look_up(hub_id: str, *, field: str) -> dict[str, Any]:
    """Ask the hub: `{"sha", "license", "download_bytes", "files": [names]}`; downloads nothing.

    Raises:
        HubUnreachable: if the hub does not answer within seconds.
        ModelError: if the model does not exist, is gated or has no safetensors.
    """
    from huggingface_hub import HfApi

    if not reachable():
        raise _unreachable(hub_id, field)
    try:
        info = HfApi().model_info(hub_id, timeout=_TIMEOUT_S, files_metadata=True)
    except Exception as error:
        _explain(error, hub_id, field)
    sizes = {item.rfilename: item.size or 0 for item in info.siblings or []}
    wanted = [name for name in sizes if _is_wanted(name)]
    if not any(name.endswith(".safetensors") for name in wanted):
        raise no_safetensors(hub_id, list(sizes), field)
    card = info.card_data.to_dict() if info.card_data else {}
    return {
        "sha": info.sha,
        "license": str(card.get("license_name") or card.get("license") or "not stated"),
        "gated": bool(info.gated),
        "download_bytes": sum(sizes[name] for name in wanted),
        "files": wanted,
    }


def small_file(hub_id: str, name: str, *, sha: str, field: str) -> Path:
    """Download one small file, such as `config.json`."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub_id, name, revision=sha, etag_timeout=_TIMEOUT_S))
    except Exception as error:
        _explain(error, hub_id, field)


def tokenizer(hub_id: str, *, field: str) -> Path:
    """Bring a model's tokenizer to this disk, without its weights; raises as `look_up` does."""
    info = look_up(hub_id, field=field)
    wanted = {*TOKENIZER_FILES, *_TOKENIZER_MORE} & {*info["files"]}
    files = [small_file(hub_id, name, sha=info["sha"], field=field) for name in sorted(wanted)]
    return files[0].parent


def reachable() -> bool:
    """Whether the hub answers within five seconds; remembered for half a minute, a no for a whole.

    Those who ask while it is being asked wait for the same answer.
    """
    global _answer, _answer_until
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    with _ASKING:
        if time.monotonic() >= _answer_until:
            _answer = _answers()
            _answer_until = time.monotonic() + _REMEMBER_S[_answer]
        return _answer


def _answers() -> bool:
    """Ask the hub, in a thread: looking up a name may outlast the client's timeout."""
    from huggingface_hub import constants, get_session

    told: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(Exception):  # its own types differ between its versions
            get_session().head(constants.ENDPOINT, timeout=_TIMEOUT_S)
            told.append(True)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_TIMEOUT_S)
    return bool(told)


def no_safetensors(name: str, files: list[str], field: str) -> ModelError:
    """The error for a model whose weights are missing or pickled."""
    if any(file.endswith(_PICKLES) for file in files):
        return ModelError(
            f"{name} has only pickled weights, which can run code when they are read.\n"
            "Choose a model with .safetensors files, or convert it on a machine you can lose.",
            field=field,
        )
    return ModelError(
        f"{name} has no complete .safetensors weights, so there is nothing to load.\n"
        "Choose a model or folder with weights in that format.",
        field=field,
    )


def _is_wanted(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in WANTED) and not any(
        fnmatch.fnmatch(name, pattern) for pattern in UNWANTED
    )


def _unreachable(hub_id: str, field: str) -> HubUnreachable:
    return HubUnreachable(
        f"The Hugging Face hub cannot be reached, and {hub_id} is not on this disk yet.\n"
        "Connect and try again, or use pocket-teacher, smollm2-135m-instruct or a local folder.",
        field=field,
    )


def _explain(error: Exception, hub_id: str, field: str) -> NoReturn:
    """Turn what the hub client raised into words that help."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    if isinstance(error, ModelError):
        raise error
    if isinstance(error, GatedRepoError):
        raise ModelError(
            f"{hub_id} is gated: its owner asks you to accept terms first.\n"
            f"Accept them at https://huggingface.co/{hub_id}, then run `hf auth login` here.",
            field=field,
        ) from None
    if isinstance(error, RepositoryNotFoundError):
        raise ModelError(
            f"The hub has no model {hub_id!r} that you may see: a typo, or it is private.\n"
            "Check the name on huggingface.co; for a private model run `hf auth login` first.",
            field=field,
        ) from None
    if isinstance(error, HFValidationError):
        raise ModelError(
            f"{hub_id!r} is no model name: hub names look like organisation/name.\n"
            "Use a built-in name, a hub name or the path of a folder.",
            field=field,
        ) from None
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, HfHubHTTPError) and status in {401, 403}:
        raise ModelError(
            f"The hub refuses access to {hub_id} (HTTP {status}).\n"
            "Run `hf auth login` with an account that may read it.",
            field=field,
        ) from None
    if isinstance(error, OSError) and error.errno == 28:
        from distill_core.errors import DiskFullError

        raise DiskFullError(
            f"The disk is full: {hub_id} could not be downloaded.\nFree space, then try again."
        ) from None
    raise _unreachable(hub_id, field) from None
