"""`format_setting`, `parse_setting` and `structure_setting`: round trips, accepted forms, errors."""

from __future__ import annotations

import contextlib
import enum
import math
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_tasks.booleans import BOOLEANS, parse_boolean
from cloud_tasks.duration_text import format_seconds, parse_duration
from cloud_tasks.model import Architecture, Money
from cloud_tasks.plugin import setting
from cloud_tasks.setting_values.kinds import Seconds, check_settings_class, field_types
from cloud_tasks.setting_values.plain import structure_setting
from cloud_tasks.setting_values.text import format_setting, is_unset, parse_setting


class Size(enum.Enum):
    SMALL = 1
    LARGE = "large"
    EMPTY = ""
    NULL = "null"
    BLANKS = " a, b "
    CAPITAL = "LARGE"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


_TEXT = st.text(st.characters(exclude_characters="\0"), max_size=12) | st.sampled_from(
    [
        "",
        " ",
        "null",
        " null",
        '""',
        '"null"',
        '"',
        "[]",
        "{}",
        "a, b",
        "[1, 2]",
        "'",
        "a\nb",
        '"\\"\\""',
        "\x01",
        "\udcff",
    ]
)
_SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(10**15), 10**15),
    float: st.floats(-1e15, 1e15).filter(lambda value: not 0 < abs(value) < 1e-12),
    Decimal: st.decimals(-(10**15), 10**15).filter(lambda value: not 0 < abs(value) < Decimal("1e-12")),
    Money: st.decimals(-(10**9), 10**9, allow_nan=False, places=9).map(Money),
    str: _TEXT,
    Path: _TEXT.map(Path),
    timedelta: st.timedeltas(-timedelta(days=3650), timedelta(days=3650)),
    Seconds: st.floats(-3e8, 3e8).filter(lambda value: not 0 < abs(value) < 1e-6),
    Size: st.sampled_from(Size),
    Level: st.sampled_from(Level),
    Architecture: st.sampled_from(Architecture),
    Literal["a", "b c", "", "null"]: st.sampled_from(["a", "b c", "", "null"]),
    Literal[1, 2]: st.sampled_from([1, 2]),
    Literal["x", True, Level.HIGH]: st.sampled_from(["x", True, Level.HIGH]),
    Literal["x", None]: st.sampled_from(["x", None]),
}


def _of(generic: Any, *arguments: Any) -> Any:
    return generic[arguments if len(arguments) > 1 else arguments[0]]


def _containers(child: st.SearchStrategy[tuple[Any, Any]]) -> st.SearchStrategy[tuple[Any, Any]]:
    def around(pair: tuple[Any, st.SearchStrategy[Any]]) -> st.SearchStrategy[tuple[Any, Any]]:
        kind, values = pair
        return st.sampled_from(
            [
                (kind | None, values | st.none()),
                (_of(tuple, kind, ...), st.lists(values, max_size=4).map(tuple)),
                (_of(list, kind), st.lists(values, max_size=4)),
                (_of(tuple, kind, int), st.tuples(values, st.integers(-9, 9))),
                (_of(dict, str, kind), st.dictionaries(_TEXT, values, max_size=3)),
                (_of(Mapping, str, kind), st.dictionaries(_TEXT, values, max_size=3)),
            ]
        )

    return child.flatmap(around)


_KINDS = st.recursive(st.sampled_from(list(_SCALARS.items())), _containers, max_leaves=4)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_parse_setting_inverts_format_setting_for_every_supported_kind(data: st.DataObject) -> None:
    kind, values = data.draw(_KINDS)
    check_settings_class(attrs.make_class("Sample", {"field": attrs.field(type=kind)}))
    value = data.draw(values)
    text = format_setting(value, kind)
    parsed = parse_setting(text, kind)
    assert parsed == value
    assert type(parsed) is type(value)
    assert not is_unset(text), "a variable of blanks counts as not set"
    assert "\0" not in text
    text.encode()


@given(st.sampled_from([*_SCALARS, tuple[str, ...], list[int], dict[str, float], tuple[tuple[int, ...], ...]]), _TEXT)
def test_parse_setting_raises_nothing_but_value_error(kind: Any, text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_setting(text, kind)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (tuple[str, ...], "a b", ("a", "b")),
        (tuple[str, ...], "a,b, c", ("a", "b", "c")),
        (tuple[str, ...], "n[1,2]-x, other", ("n[1,2]-x", "other")),
        (tuple[str, ...], "[12]", ("[12]",)),
        (tuple[str, ...], '["a b", "c"]', ("a b", "c")),
        (tuple[str, ...], "[]", ()),
        (list[int], "1 2,3", [1, 2, 3]),
        (list[int], "[1, 2]", [1, 2]),
        (tuple[bool, ...], "yes no", (True, False)),
        (tuple[Architecture, ...], "ARM64 x86_64", (Architecture.ARM64, Architecture.X86_64)),
        (tuple[int | None, ...], "1 null", (1, None)),
        (timedelta, " 7.5 ", timedelta(seconds=7.5)),
        (timedelta, "10m", timedelta(minutes=10)),
        (timedelta | None, "1h 30m", timedelta(minutes=90)),
        (Seconds, "90", 90.0),
        (Seconds, "-1", -1.0),
        (Seconds | None, " 2h ", 7200.0),
        (Seconds, "1.1 minutes", 66.0),
        (Seconds, "1d2h3m4.5s", 93_784.5),
        (Seconds, "250ms", 0.25),
        (tuple[Seconds, ...], "90s,10m", (90.0, 600.0)),
        (timedelta | None, "", None),
        (Literal["a", "b"], " b ", "b"),
        (Literal[1, 2], "2", 2),
        (Level, "2", Level.HIGH),
        (Size, "Large", None),
        (Decimal, "0.10", Decimal("0.10")),
        (Money, "1e2", Money(100)),
        (bool, " True ", True),
        (str, '"quoted"', '"quoted"'),
        (str, '""', ""),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (int | None, "null", None),
    ],
)
def test_parse_setting_reads_typed_text(kind: Any, text: str, value: Any) -> None:
    if value is None and kind is Size:
        with pytest.raises(ValueError, match="is not one of"):
            parse_setting(text, kind)
    else:
        assert parse_setting(text, kind) == value


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (int, "many", 'expected a whole number, got "many"'),
        (bool, "maybe", 'expected true or false, got "maybe"'),
        (bool, "", 'expected true or false, got ""'),
        (float, "1e999", "expected a number, got one that is too large"),
        (timedelta, "1e30", "expected a duration such as 90s, 10m or 2h, got one that is too large"),
        (timedelta, "9999999999d", "expected a duration such as 90s, 10m or 2h, got one that is too large"),
        (Seconds | None, "10 minits", 'expected a duration such as 90s, 10m or 2h, got "10 minits"'),
        (Seconds, "1m1h", 'expected a duration such as 90s, 10m or 2h, got "1m1h"'),
        (Seconds, "-5m", 'expected a duration such as 90s, 10m or 2h, got "-5m"'),
        (Money, "$5", 'expected an amount in US dollars such as 25 or 0.5, got "$5"'),
        (
            list[int],
            "[1, true]",
            '"[1, true]" is not a valid JSON list: expected a whole number, got true',
        ),
        (
            tuple[str, ...],
            '["a", 1]',
            '"["a", 1]" is not a valid JSON list: expected text, got 1; put it in quotes',
        ),
        (tuple[int, str], "1", "expected 2 values, got 1"),
        (dict[str, int], '{"a": "x"}', 'a: expected a whole number, got "x"'),
        (Literal["a", "b"], "c", '"c" is not one of a, b'),
    ],
)
def test_parse_setting_error_shows_the_expected_form(kind: Any, text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is compared whole
        parse_setting(text, kind)
    assert str(caught.value) == message


def test_parse_setting_of_a_mapping_accepts_json_only_without_another_reader() -> None:
    with pytest.raises(ValueError, match="expected a mapping as JSON"):
        parse_setting("{a: 1}", dict[str, int])
    assert parse_setting("{a: 1}", dict[str, int], read=lambda _: {"a": 1}) == {"a": 1}
    with pytest.raises(ValueError, match="a key is given twice"):
        parse_setting('{"a": 1, "a": 2}', dict[str, int])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (math.inf, float),
        (math.nan, float),
        (None, int),
        (30, timedelta),
        ("x", int),
        (True, int),
        (Decimal("NaN"), Decimal),
    ],
)
def test_format_setting_refuses_a_value_of_another_kind(value: Any, kind: Any) -> None:
    with pytest.raises(ValueError, match=r"expected|cannot be written"):
        format_setting(value, kind)


@pytest.mark.parametrize(
    ("value", "kind"), [
        ("8", int), (True, int), (True, float), (1, bool), ("yes", bool), (1, str), (1, Literal["1"]),
        ("8", Seconds), (True, Seconds), ("8", timedelta), (None, Seconds),
    ],
)  # fmt: skip
def test_structure_setting_requires_the_right_type_in_a_file(value: Any, kind: Any) -> None:
    with pytest.raises(ValueError, match=r"expected|is not one of"):
        structure_setting(value, kind)


def test_structure_setting_reads_a_duration_with_its_unit_in_a_file() -> None:
    assert structure_setting("10m", Seconds) == 600.0
    assert structure_setting("10m", timedelta | None) == timedelta(minutes=10)
    assert structure_setting(90, Seconds) == 90.0


_TOO_LARGE = ("9" * 400, "1e308", "-1e308", "1e30", "1e16")


@pytest.mark.parametrize("kind", [int, float, Decimal, Money, Seconds, timedelta])
def test_structure_setting_refuses_numbers_that_no_use_can_take(kind: Any) -> None:
    for text in (*_TOO_LARGE, "1e-320", "1e-200"):
        with pytest.raises(ValueError, match=r"too large|too close to 0|expected a whole number"):
            parse_setting(text, kind)
    plain: tuple[Any, ...] = (10**399, 10**16, -(10**16), 1e308, 1e-320, Decimal("1e400"), float("nan"), float("inf"))
    for value in plain:
        with pytest.raises(ValueError, match="expected"):
            structure_setting(value, kind)


@pytest.mark.parametrize("kind", [str, str | None, Path, tuple[str, ...], Mapping[str, str]])
def test_structure_setting_refuses_nul_characters(kind: Any) -> None:
    for value in ("a\0b", ["a", "\0"], {"a": "\0"}, {"\0": "a"}, {"a": ["\0"]}):
        with pytest.raises(ValueError, match="NUL"):
            structure_setting(value, kind)


@given(st.integers(0, 10**15).map(lambda number: number / 1000))
def test_parse_duration_inverts_format_seconds(seconds: float) -> None:
    assert parse_duration(format_seconds(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "0.25s"), (90, "1m 30s"), (600, "10m"), (5400, "1h 30m"), (86400, "1d"), (-1, "-1")],
)
def test_format_seconds_uses_the_largest_units(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_field_types_keeps_seconds_and_drops_other_annotations() -> None:
    cls = attrs.make_class("Sample", {"a": setting(help="x"), "b": setting(help="x"), "c": setting(help="x")})
    cls.__annotations__ = {"a": Seconds | None, "b": Annotated[str, "note"], "c": tuple[Annotated[int, "note"], ...]}
    assert field_types(cls) == {"a": Seconds | None, "b": str, "c": tuple[int, ...]}
    check_settings_class(cls)


@pytest.mark.parametrize("word", [*BOOLEANS, *(word.upper() for word in BOOLEANS), " true ", "\tOff\n"])
def test_parse_boolean_reads_every_word_of_the_table(word: str) -> None:
    assert parse_boolean(word) is BOOLEANS[word.strip().lower()]
    assert parse_setting(word, bool) is BOOLEANS[word.strip().lower()]


class _Flag(enum.Flag):
    A = 1


class _Ambiguous(enum.Enum):
    NUMBER = 1
    TEXT = "1"


@pytest.mark.parametrize(
    "kind",
    [
        complex, bytes, object, Any, dict, tuple, list, set[str], frozenset[str], int | str, dict[int, str],
        tuple[complex, ...], dict[str, bytes], _Flag, _Ambiguous, Literal[b"x"], type[int], Mapping, "Nowhere",
    ],
    ids=str,
)  # fmt: skip
def test_check_settings_class_refuses_other_kinds_by_class_and_field(kind: Any) -> None:
    cls = attrs.make_class("Sample", {"price": setting(help="x", default=None)})
    cls.__annotations__ = {"price": kind}
    with pytest.raises(
        TypeError, match=r"^Sample(\.price: the type .* is not supported .*; supported: bool, int|: .*'Nowhere')"
    ):
        check_settings_class(cls)
