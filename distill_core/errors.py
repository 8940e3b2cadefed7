"""What can go wrong, as types.

In: nothing. Out: the exception tree and `Problem`. Knows nothing of torch, files or the app.

DistillError (ValueError)
├── RecipeError        the recipe is wrong; carries its problems
├── DataError          a file or row is wrong; names file and line
├── ModelError         a model cannot be found, read or paired
│   └── HubUnreachable the hub did not answer; says what works offline
├── RunError           a run does not exist or is in the wrong state
├── CacheError         what is kept of a teacher is another's, damaged or not there
├── OutOfMemory        what has to be in memory at once does not fit
├── NonFiniteError     a loss or gradient is NaN or infinite
└── DiskFullError      no room for what has to be written
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

Severity = Literal["error", "warning", "info"]


class Problem(BaseModel):
    """Something wrong with a recipe, found before anything is loaded."""

    model_config = ConfigDict(frozen=True)

    severity: Severity
    field: str
    """Dotted path into the recipe, such as `stages.0.optim.learning_rate`; "" for the whole."""
    message: str
    """What is wrong with the value seen, and why."""
    fix: str = ""
    """What to do about it."""

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        cure = f" {self.fix}" if self.fix else ""
        return f"{where}{self.message}{cure}"


class DistillError(ValueError):
    """Base of every error that a user can mend; its message says what, why and how."""


class RecipeError(DistillError):
    """A recipe with at least one problem of severity `error`."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class DataError(DistillError):
    """A data file, column or row that cannot be used; `field` is the recipe field it came from.

    `columns` are those that there are, where one could be named instead.
    """

    def __init__(
        self, message: str, *, field: str = "data.sources", columns: Sequence[str] = ()
    ) -> None:
        self.field = field
        self.columns = tuple(columns)
        super().__init__(message)


class ModelError(DistillError):
    """A model that cannot be found, read or paired; `field` is the recipe field it came from."""

    def __init__(self, message: str, *, field: str = "") -> None:
        self.field = field
        super().__init__(message)


class HubUnreachable(ModelError):
    """The Hugging Face hub did not answer in time."""


class RunError(DistillError):
    """A run that does not exist, or is not in a state that allows the call."""


class CacheError(DistillError):
    """Kept answers of a teacher that are damaged, another's, or lack a row; they are never used."""


class NonFiniteError(DistillError):
    """A loss or gradient that is not a finite number; names the term and the rows."""


class DiskFullError(DistillError):
    """The disk has no room for what has to be written; nothing half-written is left."""


class OutOfMemory(DistillError):
    """What has to be in memory at once does not fit, however few rows that is; `field` helps."""

    def __init__(self, message: str, *, field: str = "") -> None:
        self.field = field
        super().__init__(message)


_RAN_OUT = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "cublas_status_alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a library's error says that memory ran out: Python, torch on CPU, CUDA or MPS."""
    names = {kind.__name__ for kind in type(error).__mro__}
    text = str(error).lower()
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or any(w in text for w in _RAN_OUT)
