"""Reads the records of one file: JSON lines, JSON, CSV, TSV, Parquet or plain text.

In: a path. Out: the names of its columns and its records, each with where it stood.
Knows nothing of prompts and answers; every fault is a `DataError` that names the file and the line.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from distill_core.data.spooled import Reread
from distill_core.errors import DataError

__all__ = ["SUFFIXES", "Records", "read_file"]

Record = tuple[str, dict[str, Any]]
"""Where it stood (`rows.jsonl:12`), and its columns."""

_LONGEST_CELL: Final = 64 * 1024 * 1024


@dataclass(slots=True)
class Records:
    """Records with the names of all their columns, in the order of first sight."""

    names: list[str]
    records: Sequence[Record]

    @classmethod
    def of(cls, read: Callable[[], Iterator[Record]], names: Iterable[str] = ()) -> Records:
        """Look at records once, for what may be wrong and for names that `names` lacks.

        They do not stay: `read` is asked again whenever they are wanted.
        """
        seen, count = dict.fromkeys(names), 0
        for _, record in read():
            count += 1
            if not record.keys() <= seen.keys():
                seen |= dict.fromkeys(record)
        return cls(list(seen), Reread(count, read))


def read_file(path: str, *, limit: int | None = None, field: str = "data.sources.0") -> Records:
    """Read all records of a file, or the first `limit` ones.

    Raises:
        DataError: no such file, a folder, an unknown kind, an empty or a broken file.
    """
    field = f"{field}.path"
    file = Path(path).expanduser()
    try:
        if not path.strip():
            raise DataError("No file is named yet. Upload one, or write its path.", field=field)
        if file.is_dir():
            raise DataError(
                f"{path} is a folder, not a file of rows. Name one file inside it.", field=field
            )
        if not file.is_file():
            raise DataError(f"There is no file {path}. {_where(file)}", field=field)
        read = SUFFIXES.get(file.suffix.lower())
        if read is None:
            raise DataError(
                f"{file.name} ends in {file.suffix or 'nothing'!r}, so its format is not known. "
                f"Rename or convert it to one of {', '.join(SUFFIXES)}.",
                field=field,
            )
        if file.stat().st_size == 0:
            raise DataError(f"{file.name} is empty: 0 bytes. Choose a file with rows.", field=field)
        found = Records.of(lambda: islice(read(file, field), limit))
    except UnicodeDecodeError as error:  # raised with the line's number as its reason
        raise DataError(
            f"{file.name}:{error.reason}: byte {error.object[error.start]:#04x} is not UTF-8. "
            "Save the file with the encoding UTF-8.",
            field=field,
        ) from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}. Check the path and its rights.",
            field=field,
        ) from None
    if not found.records:
        raise DataError(f"{file.name} holds no rows. Choose a file with rows.", field=field)
    return found


def _where(file: Path) -> str:
    parent = file.absolute().parent
    if not parent.is_dir():
        return f"The folder {parent} does not exist either."
    twins = sorted(near.name for near in parent.iterdir() if near.suffix.lower() in SUFFIXES)
    if not twins:
        return f"{parent} holds no file of rows."
    if near := difflib.get_close_matches(file.name, twins, n=2):
        return f"Did you mean {' or '.join(near)}?"
    return f"In {parent}: {', '.join(twins[:5])}{', …' if len(twins) > 5 else ''}."


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield (number, line with its ending), without the byte order mark."""
    with file.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                error.reason = str(number)
                raise


# --- JSON -----------------------------------------------------------------------------------


def _read_json(file: Path, field: str) -> Iterator[Record]:
    """JSON lines, or one array of objects; the first character decides."""
    with file.open("rb") as stream:
        start = stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    return _read_array(file, field) if start.startswith(b"[") else _read_lines(file, field)


def _read_lines(file: Path, field: str) -> Iterator[Record]:
    for number, line in _lines(file):
        if line.isspace():
            continue
        origin = f"{file.name}:{number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{origin}: not JSON ({error.msg} at character {error.pos + 1}). "
                "Each line must be one JSON object, such as "
                '{"prompt": "…", "response": "…"}.',
                field=field,
            ) from None
        except RecursionError:
            raise DataError(f"{origin}: nested too deeply to be a row.", field=field) from None
        yield origin, _object(record, origin, field)


def _read_array(file: Path, field: str) -> Iterator[Record]:
    text = "".join(line for _, line in _lines(file))
    try:
        array = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file.name}:{error.lineno}: not JSON ({error.msg} at column {error.colno}). "
            "The file must hold one array of objects, or one object per line.",
            field=field,
        ) from None
    except RecursionError:
        raise DataError(f"{file.name}: nested too deeply to be rows.", field=field) from None
    for place, record in enumerate(array, 1):
        origin = f"{file.name}:{place}"
        yield origin, _object(record, origin, field)


def _object(record: Any, origin: str, field: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        seen = json.dumps(record, ensure_ascii=False)
        raise DataError(
            f"{origin}: {seen if len(seen) <= 40 else seen[:39] + '…'} is not an object with "
            'named columns. Write {"prompt": "…", "response": "…"}.',
            field=field,
        )
    return record


# --- tables ---------------------------------------------------------------------------------


def _read_csv(file: Path, field: str) -> Iterator[Record]:
    return _read_delimited(file, field, delimiter=",")


def _read_tsv(file: Path, field: str) -> Iterator[Record]:
    return _read_delimited(file, field, delimiter="\t")


def _read_delimited(file: Path, field: str, *, delimiter: str) -> Iterator[Record]:
    """Rows under a header; a CSV whose header has semicolons or tabs alone is read by those."""
    first = next((line for _, line in _lines(file)), "")
    if delimiter not in first:
        delimiter = next((other for other in (",", ";", "\t") if other in first), delimiter)
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader((line for _, line in _lines(file)), delimiter=delimiter, strict=True)
    names: list[str] = []
    line = 1
    try:
        names = [name.strip() for name in next(reader)]
        _check_header(names, file, field)
        line = reader.line_num + 1
        for cells in reader:
            if len(cells) > len(names):
                raise DataError(
                    f"{file.name}:{line}: {len(cells)} cells under {len(names)} columns "
                    f"({', '.join(names)}). Put quotes around cells that contain "
                    f"{'a tab' if delimiter == chr(9) else repr(delimiter)}.",
                    field=field,
                )
            if cells:
                yield f"{file.name}:{line}", dict(zip(names, cells, strict=False))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{file.name}:{line}: not a valid row ({error}). "
            "Check its quotes: a quote inside a quoted cell is written twice.",
            field=field,
        ) from None


def _check_header(names: list[str], file: Path, field: str) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice or not any(names):
        what = f"names {sorted(twice)[0]!r} twice" if twice else "names no column"
        raise DataError(
            f"{file.name}:1: the header {what}. Give each column a name of its own.", field=field
        )


def _read_parquet(file: Path, field: str) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            labels = _label_names(table.schema_arrow.metadata)
            place = 0
            for batch in table.iter_batches(batch_size=1000):
                for record in batch.to_pylist():
                    place += 1
                    for name, known in labels.items():
                        record[name] = label_name(record[name], known)
                    yield f"{file.name}:{place}", record
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{file.name} is not a Parquet file, or broken ({str(error).splitlines()[0]:.80}). "
            "Write it again.",
            field=field,
        ) from None


def _label_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """Read the names of class labels that `datasets` writes into its Parquet files."""
    raw = (metadata or {}).get(b"huggingface")
    features = (json.loads(raw).get("info") or {}).get("features") or {} if raw else {}
    return {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    }


def label_name(value: int | None, names: list[str]) -> str | None:
    """Return a class label's name; None where the row has none (-1 in many test splits)."""
    return names[value] if value is not None and 0 <= value < len(names) else None


def _read_text(file: Path, _field: str) -> Iterator[Record]:
    for number, line in _lines(file):
        if not line.isspace():
            yield f"{file.name}:{number}", {"text": line.rstrip("\r\n")}


SUFFIXES: Final[dict[str, Callable[[Path, str], Iterator[Record]]]] = {
    ".jsonl": _read_json,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
    ".txt": _read_text,
}
