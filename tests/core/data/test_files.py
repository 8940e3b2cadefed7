"""Every format gives the same rows; every broken file is named by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_core.data.files import read_file
from distill_core.errors import DataError

ROWS = [{"prompt": "2+2?", "response": "4"}, {"prompt": "Größe, bitte", "response": '"1"'}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
CSV = 'prompt,response\n2+2?,4\n"Größe, bitte","""1"""\n'


def write(folder: Path, name: str, content: str | bytes) -> str:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)


@pytest.mark.parametrize(
    ("name", "content", "first_line"),
    [
        ("rows.jsonl", LINES, 1),
        ("rows.JSONL", LINES, 1),
        ("rows.jsonl", "\n" + LINES.replace("\n", "\r\n\r\n"), 2),
        ("rows.jsonl", "\ufeff" + LINES, 1),
        ("rows.json", LINES, 1),
        ("rows.json", json.dumps(ROWS, indent=1), 1),
        ("rows.jsonl", json.dumps(ROWS), 1),
        ("rows.csv", CSV, 2),
        ("rows.csv", "\ufeff" + CSV.replace("\n", "\r\n"), 2),
        ("rows.csv", 'prompt;response\n2+2?;4\n"Größe, bitte";"""1"""\n', 2),
        ("rows.tsv", 'prompt\tresponse\n2+2?\t4\nGröße, bitte\t"""1"""\n', 2),
    ],
)
def test_formats_give_the_same_rows(
    tmp_path: Path, name: str, content: str, first_line: int
) -> None:
    found = read_file(write(tmp_path, name, content))
    assert found.names == ["prompt", "response"]
    assert [record for _, record in found.records] == ROWS
    assert found.records[0][0] == f"{name}:{first_line}"


def test_parquet_with_names_for_its_class_labels(tmp_path: Path) -> None:
    feature = {"names": ["negative", "positive"], "_type": "ClassLabel"}
    told = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    table = pa.table({"sentence": ["good", "bad", "so so"], "label": [1, 0, -1]})
    pq.write_table(table.replace_schema_metadata(told), tmp_path / "rows.parquet")
    found = read_file(str(tmp_path / "rows.parquet"))
    assert found.records == [
        ("rows.parquet:1", {"sentence": "good", "label": "positive"}),
        ("rows.parquet:2", {"sentence": "bad", "label": "negative"}),
        ("rows.parquet:3", {"sentence": "so so", "label": None}),
    ]


def test_text_gives_one_text_per_line(tmp_path: Path) -> None:
    found = read_file(write(tmp_path, "rows.txt", "one\r\n\n  two\n"))
    assert found.records == [("rows.txt:1", {"text": "one"}), ("rows.txt:3", {"text": "  two"})]


def test_lines_are_counted_through_cells_that_span_several(tmp_path: Path) -> None:
    found = read_file(write(tmp_path, "rows.csv", 'prompt,response\n"a\nb",1\nc,2\n\nd,3\n'))
    assert [origin for origin, _ in found.records] == [f"rows.csv:{line}" for line in (2, 4, 6)]
    assert found.records[0][1]["prompt"] == "a\nb"


def test_limit_reads_no_further(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", LINES + "not JSON\n")
    assert len(read_file(path, limit=2).records) == 2


def test_columns_that_begin_late_are_seen(tmp_path: Path) -> None:
    late = '{"prompt": "a"}\n' * 300 + '{"prompt": "b", "response": "c"}\n'
    assert read_file(write(tmp_path, "rows.jsonl", late)).names == ["prompt", "response"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", "", r"empty.jsonl is empty: 0 bytes"),
        ("blank.jsonl", "\n\n", r"blank.jsonl holds no rows"),
        ("array.json", "[]", r"array.json holds no rows"),
        ("head.csv", "prompt,response\n", r"head.csv holds no rows"),
        ("rows.jsonl", LINES + "\nnot JSON\n", r"rows.jsonl:4: not JSON .*character 1"),
        ("rows.jsonl", LINES + '{"prompt": "x",\n', r"rows.jsonl:3: not JSON"),
        ("rows.jsonl", LINES + "[1, 2]\n", r"rows.jsonl:3: \[1, 2\] is not an object"),
        ("rows.jsonl", '"hello"\n', r"rows.jsonl:1: \"hello\" is not an object"),
        ("rows.jsonl", '{"a":' * 100_000, r"rows.jsonl:1: nested too deeply"),
        ("rows.json", '[\n{"prompt": 1},\n{"prompt"}]', r"rows.json:3: not JSON"),
        ("rows.json", '[{"prompt": "x"}, 7]', r"rows.json:2: 7 is not an object"),
        ("rows.json", "[" * 100_000, r"rows.json: nested too deeply"),
        ("rows.csv", "prompt,response\na,b\nc,d,e\n", r"rows.csv:3: 3 cells under 2 columns"),
        ("rows.csv", 'prompt,response\na,b\n"c,d\n', r"rows.csv:3: not a valid row"),
        ("rows.csv", 'prompt,response\na,b\n"c" d,e\n', r"rows.csv:3: not a valid row"),
        ("rows.csv", "prompt,prompt\na,b\n", r"rows.csv:1: the header names 'prompt' twice"),
        ("rows.csv", "\n\n", r"rows.csv:1: the header names no column"),
        ("rows.jsonl", LINES.encode() + b'{"prompt": "\xff"}\n', r"rows.jsonl:3: byte 0xff"),
        ("rows.csv", "größe,b\n1,2\n".encode("latin-1"), r"rows.csv:1: byte 0xf6 is not UTF-8"),
        ("rows.txt", "hello".encode("utf-16"), r"rows.txt:1: byte 0xff is not UTF-8"),
        ("rows.parquet", b"PAR1 nothing else", r"rows.parquet is not a Parquet file, or broken"),
        ("rows.xlsx", b"PK", r"rows.xlsx ends in '.xlsx'.*\.jsonl, \.json, \.csv"),
        ("rows", "x", r"rows ends in 'nothing'"),
    ],
)
def test_a_broken_file_is_named_with_its_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message) as raised:
        read_file(write(tmp_path, name, content), field="data.sources.2")
    assert raised.value.field == "data.sources.2.path"
    assert str(raised.value).count("\n") <= 1


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, "near.jsonl", LINES)
    with pytest.raises(DataError, match=r"no file .*mine\.csv\. In .*: near\.jsonl"):
        read_file(str(tmp_path / "mine.csv"))
    with pytest.raises(DataError, match=r"Did you mean near\.jsonl\?"):
        read_file(str(tmp_path / "nears.jsonl"))
    with pytest.raises(DataError, match="No file is named yet"):
        read_file(" ")
    with pytest.raises(DataError, match=r"folder .*nowhere does not exist either"):
        read_file(str(tmp_path / "nowhere" / "rows.jsonl"))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder, not a file of rows"):
        read_file(str(tmp_path))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.text(min_size=1), st.text() | st.none() | st.integers() | st.booleans(), min_size=1
        ),
        min_size=1,
    )
)
def test_json_lines_and_array_read_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    for name, content in (("rows.jsonl", lines), ("rows.json", json.dumps(rows))):
        found = read_file(write(folder, name, content.encode("utf-8")))
        assert [record for _, record in found.records] == rows
