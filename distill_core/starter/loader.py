"""Where the starter's trained teacher lies.

In: nothing. Out: a folder that transformers loads with `from_pretrained`. Loads nothing itself.
"""

from pathlib import Path

__all__ = ["teacher_dir"]


def teacher_dir() -> Path:
    """Return the folder with the teacher's weights, configuration and tokenizer.

    Raises:
        FileNotFoundError: the weights are missing, for instance from an incomplete checkout.
    """
    folder = Path(__file__).resolve().parents[2] / "assets" / "starter"
    if not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"The starter teacher's weights are not in {folder}: the checkout is incomplete.\n"
            "Check the file out again, or train it: python -m distill_core.starter.build"
        )
    return folder
