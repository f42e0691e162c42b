"""`typed`: the same value from a file, a variable and the command line."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_tasks.config.run_settings import RunSettings
from cloud_tasks.config.values import typed
from cloud_tasks.config.yaml_reader import Located, read_document
from cloud_tasks.model import Architecture, Money
from cloud_tasks.setting_values.kinds import field_types
from cloud_tasks.setting_values.plain import FLOAT, split_words

_KINDS = field_types(RunSettings)
_WORD = st.from_regex(r"[a-z][-_.*a-z0-9]{0,8}(?:\[[ab,]{1,3}\])?", fullmatch=True)

_VALUES: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(10**15), 10**15),
    float: st.floats(-1e15, 1e15).filter(lambda value: not 0 < abs(value) < 1e-12) | st.integers(-(10**15), 10**15),
    Money: st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**6), max_value=10**6).map(float),
    str: st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).filter(
        # YAML's own writer leaves `1e3` bare, which is a number here.
        lambda text: text != "null" and not FLOAT.match(text)
    ),
    tuple[str, ...]: st.lists(_WORD, min_size=1),
}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join(value) if isinstance(value, list) else str(value)


def _from_file(folder: Path, value: Any) -> Any:
    file = folder / "config.yml"
    file.write_text(yaml.safe_dump({"run": {"key": value}}, allow_unicode=True), encoding="utf-8")
    section: dict[str, Located] = read_document(file)["run"].value
    return section["key"].value


@pytest.mark.parametrize("kind", list(_VALUES), ids=str)
def test_typed_reads_the_same_value_from_text_and_yaml(kind: Any, tmp_path: Path) -> None:
    @settings(max_examples=60, deadline=None)
    @given(_VALUES[kind], st.booleans())
    def check(value: Any, optional: bool) -> None:
        asked = kind | None if optional else kind
        from_file = typed(asked, _from_file(tmp_path, value))
        from_text = typed(asked, _text(value), is_text=True)
        assert from_text == from_file
        assert type(from_text) is type(from_file)

    check()


@given(st.sampled_from(sorted(_KINDS)), st.text(max_size=12))
def test_typed_raises_nothing_but_value_error(key: str, text: str) -> None:
    with contextlib.suppress(ValueError):
        typed(_KINDS[key], text, is_text=True)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (float, "1e3", 1000.0),
        (bool, "1", True),
        (bool, "0", False),
        (bool, "No", False),
        (bool, "ON", True),
        (Money, "0.1", Money(Decimal("0.1"))),
        (Architecture, "ARM64", Architecture.ARM64),
        (int | None, "null", None),
        (tuple[str, ...], "n1-.* n2-.*, e2", ("n1-.*", "n2-.*", "e2")),
        (tuple[str, ...], "n[1,2]-.{1,3},e2", ("n[1,2]-.{1,3}", "e2")),
        (tuple[str, ...], "", ()),
        (tuple[int, ...], "1,2", (1, 2)),
        (dict[str, int], "{a: 1}", {"a": 1}),
    ],
)
def test_typed_reads_text_by_its_kind(kind: Any, text: str, value: Any) -> None:
    assert typed(kind, text, is_text=True) == value


@pytest.mark.parametrize("text", ["1e3", "-2.5E-3", "1.", ".5"])
def test_read_document_reads_exponents(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yml").write_text(f"run:\n  key: {text}\n")
    assert read_document(tmp_path / "config.yml")["run"].value["key"].value == float(text)


@pytest.mark.parametrize("text", ["2024-01-01", "10:30", "0x10", "1.2.3", "007", "00.5", "1_000", "=", "n"])
def test_read_document_keeps_text_that_resembles_another_type(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yml").write_text(f"run:\n  key: {text}\n")
    assert read_document(tmp_path / "config.yml")["run"].value["key"].value == text


@given(st.text())
def test_split_words_keeps_everything_but_separators(text: str) -> None:
    kept = "".join(letter for letter in text if not letter.isspace() and letter != ",")
    assert "".join(split_words(text)).replace(",", "") == kept
