"""Weights on disk: reading a model folder, writing one, and telling its contents apart.

In: a local folder with config.json, safetensors and a tokenizer. Out: the model, its tokenizer, or
a fingerprint of the weights. Reads no pickles, runs no code from the folder, asks no network.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distill_core import files
from distill_core.errors import ModelError
from distill_core.models.cache_folder import cache_folder
from distill_core.models.classifiers import (
    Labels,
    auto_class,
    fits,
    head_labels,
    with_labels,
)

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_INDEX = "model.safetensors.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, every shard of it, sorted; empty if any is missing."""
    index = folder / _INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError):
            return []
        files = [folder / name for name in names]
        return files if all(file.is_file() for file in files) else []
    whole = folder / "model.safetensors"
    return [whole] if whole.is_file() else []


def load_model(
    folder: str | Path,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    labels: Labels | None = None,
    new_head_seed: int | None = None,
    bits: Literal[4, 8] | None = None,
) -> PreTrainedModel:
    """Load a causal language model in eval mode; every weight comes from the folder.

    With `bits` its linear layers are quantised by bitsandbytes as they are read, and computed in
    `dtype`; that needs CUDA and the package.

    With `labels` it is a classifier that tells those apart, its logits in their order. Where the
    folder's head knows other classes, or there is none, it gets a new one, drawn with
    `new_head_seed`; without a seed that is refused.

    Raises:
        ModelError: if the folder's files are damaged, incomplete or of an unknown kind.
    """
    from transformers import AutoModelForCausalLM

    folder = Path(folder)
    quantised = _quantised(bits, dtype, device) if bits else {}
    if labels is not None:
        model = _load_classifier(folder, labels, new_head_seed, dtype=dtype, **quantised)
    else:
        model, absent = _from_folder(AutoModelForCausalLM, folder, dtype=dtype, **quantised)
        _refuse_absent(absent, folder)
    return (model if quantised else model.to(device)).eval()


def _quantised(bits: int, dtype: torch.dtype, device: torch.device | str) -> dict[str, Any]:
    """What `from_pretrained` is told: LLM.int8() (arXiv 2208.07339) or NF4 (arXiv 2305.14314)."""
    import logging

    from transformers import BitsAndBytesConfig

    # it logs a line at every product of a layer that is not computed in fp16
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    config = BitsAndBytesConfig(
        load_in_8bit=bits == 8,
        load_in_4bit=bits == 4,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_use_double_quant=True,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def new_model(config: PretrainedConfig) -> PreTrainedModel:
    """Build the network that `config` describes, head included, with random weights in fp32."""
    import torch

    config.dtype = torch.float32
    return auto_class(config).from_config(config)


def _load_classifier(
    folder: Path, labels: Labels, new_head_seed: int | None, *, dtype: torch.dtype, **more: Any
) -> Any:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    with quiet():
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    knows = fits(labels, config)
    if not knows and new_head_seed is None:
        known = ", ".join(head_labels(config)[:6]) or "no classes"
        raise ModelError(
            f"The model in {folder} tells {known} apart, not {', '.join(labels[:6])}.\n"
            "Fine-tune it on labelled rows first, or name the classes as it does."
        )
    model, absent = _from_folder(
        AutoModelForSequenceClassification,
        folder,
        dtype=dtype,
        config=with_labels(config, labels),
        ignore_mismatched_sizes=not knows,
        **more,
    )
    if knows:
        _refuse_absent(absent, folder)
        return model
    body = f"{model.base_model_prefix}."
    _refuse_absent(
        [name for name in absent if name.startswith(body) and ".pooler." not in name], folder
    )
    head = [name for name, _ in model.named_parameters() if not name.startswith(body)]
    assert new_head_seed is not None
    _draw_anew(model, {*head, *absent}, seed=new_head_seed)
    return model


def _draw_anew(model: Any, names: set[str], *, seed: int) -> None:
    """Give the named weights first values: matrices drawn, scales 1, biases 0."""
    import torch

    random = torch.Generator().manual_seed(seed)
    spread = getattr(model.config, "initializer_range", None) or 0.02
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name not in names:
                continue
            if weight.dim() > 1:
                drawn = torch.empty(weight.shape).normal_(0.0, spread, generator=random)
                weight.copy_(drawn)
            else:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)


def _from_folder(
    kind: Any, folder: Path, *, dtype: torch.dtype, **more: Any
) -> tuple[Any, list[str]]:
    """A model, and the names of its weights that the folder does not have or not in that shape."""
    with quiet():
        try:
            model, report = kind.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **more,
            )
        except Exception as error:  # transformers and safetensors raise a dozen types here
            raise ModelError(
                f"The model in {folder} cannot be loaded: {first_line(error)}\n"
                "Check that its files are complete; download or copy it again."
            ) from error
    mismatched = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
    return model, sorted(report["missing_keys"]) + sorted(mismatched)


def _refuse_absent(absent: list[str], folder: Path) -> None:
    if absent:
        raise ModelError(
            f"The weights in {folder} lack {len(absent)} tensors, such as {absent[0]}: they would "
            "stay random.\nThe files do not fit config.json; download or copy the model again."
        )


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer.

    Raises:
        ModelError: if the folder has none that can be read.
    """
    from transformers import AutoTokenizer

    with quiet():
        try:
            return AutoTokenizer.from_pretrained(
                Path(folder), local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # as above
            raise ModelError(
                f"The tokenizer in {folder} cannot be loaded: {first_line(error)}\n"
                "A model folder needs tokenizer.json and tokenizer_config.json beside its weights."
            ) from error


def save(model: Any, tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """Write the model beside its place, then rename: a folder there is a whole model."""
    partial = target.with_name(f".partial_{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with files.disk_full_told(target.parent):
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            partial.rename(target)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        if files.is_disk_full(error):
            raise files.disk_full(target.parent) from error
        raise


def fingerprint(folder: str | Path) -> str:
    """Six hex digits for people that change when any byte of the weights does.

    Raises:
        ModelError: if the folder has no safetensors weights.
    """
    return digest(folder)[:6]


def digest(folder: str | Path) -> str:
    """The 64 hex digits that `fingerprint` begins: no two models share them.

    Large files are read once; the result is remembered by path, size and modification time.

    Raises:
        ModelError: if the folder has no safetensors weights.
    """
    files = weight_files(Path(folder).resolve())
    if not files:
        raise ModelError(
            f"{folder} has no complete .safetensors weights.\nChoose a folder with a trained model."
        )
    stamp = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    key = hashlib.sha256(str(files[0].parent).encode()).hexdigest()[:16]
    note = cache_folder() / "fingerprints" / f"{key}.json"
    try:
        known = json.loads(note.read_text())
        if known["files"] == stamp:
            return str(known["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").digest())
    value = whole.hexdigest()
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"files": stamp, "digest": value}))
    except OSError:
        pass  # only slower next time
    return value


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and warnings off the terminal for a while."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """An exception in one short line."""
    lines: list[Any] = str(error).strip().splitlines() or [type(error).__name__]
    text = str(lines[0]).strip()
    return text if len(text) <= 160 else text[:157] + "…"
