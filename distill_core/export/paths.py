"""Which texts name a place on this machine, so that an export can leave it out.

In: a text. Out: whether it is a path, and what is left of it.
"""

from pathlib import PurePosixPath, PureWindowsPath

_RELATIVE = ("~", "./", "../", ".\\", "..\\")


def is_local_path(text: str) -> bool:
    """Whether a text is the path of a file or folder on some machine."""
    if "\n" in text or len(text) > 1000:
        return False
    return (
        text.startswith(_RELATIVE)
        or (PurePosixPath(text).is_absolute() and len(text) > 1)
        or (PureWindowsPath(text).is_absolute() and len(text) > 3)
    )


def last_part(path: str) -> str:
    """The name at a path's end; works for both kinds of slash."""
    return PureWindowsPath(path).name or path
