"""`open_text` and `open_binary` of task sources of plugins."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_tasks.errors import InputError
from cloud_tasks.plugin import TaskSourceContext, open_binary, open_text

TEXT = "x,y\r\n1,é\r\n"


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("is_url", [False, True])
def test_open_text_reads_paths_and_urls_compressed_or_not(
    tmp_path: Path, compress: Callable[[bytes], bytes], is_url: bool
) -> None:
    (tmp_path / "few.csv").write_bytes(compress(TEXT.encode()))
    location = f"file://{tmp_path}/few.csv" if is_url else "few.csv"
    context = TaskSourceContext(location=location, base_dir=tmp_path)
    with open_text(context) as file:
        assert file.read() == TEXT.replace("\r\n", "\n")
    with open_text(context, newline="") as file:
        assert list(csv.reader(file)) == [["x", "y"], ["1", "é"]]
    with open_binary(context) as stream:
        assert stream.read() == TEXT.encode()


def test_open_text_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_bytes(TEXT.encode("utf-16"))
    context = TaskSourceContext(location="few.csv", base_dir=tmp_path)
    with open_text(context, encoding="utf-16", newline="") as file:
        assert file.read() == TEXT


@pytest.mark.parametrize(
    ("encoding", "problem"),
    [
        ("utf-8", r"few\.csv: not UTF-8 text \(invalid start byte\); convert it with iconv"),
        ("ascii", r"few\.csv: not ascii text \(ordinal not in range\(128\)\)"),
    ],
)
def test_open_text_names_the_place_of_other_text(tmp_path: Path, encoding: str, problem: str) -> None:
    (tmp_path / "few.csv").write_bytes(b"x\n" * 100_000 + b"\xff\n")
    context = TaskSourceContext(location="few.csv", base_dir=tmp_path)
    with pytest.raises(InputError, match=problem), open_text(context, encoding=encoding) as file:
        for _ in file:
            pass


@pytest.mark.parametrize("location", ["none.csv", "file:///nowhere/none.csv", "nothing://host/none.csv", "."])
def test_open_text_raises_input_error_without_a_file(tmp_path: Path, location: str) -> None:
    context = TaskSourceContext(location=location, base_dir=tmp_path)
    with pytest.raises(InputError) as refused, open_text(context) as file:
        file.read()
    assert refused.value.where


def test_open_text_raises_input_error_for_truncated_content(tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_bytes(gzip.compress(b"x\n" * 1000)[:-10])
    context = TaskSourceContext(location="few.csv", base_dir=tmp_path)
    with pytest.raises(InputError, match=r"few\.csv: cannot read the file"), open_text(context) as file:
        file.read()


def test_open_text_raises_the_errors_of_its_caller(tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("x")
    context = TaskSourceContext(location="few.csv", base_dir=tmp_path)
    with pytest.raises(KeyError), open_text(context):
        raise KeyError("a defect")
