"""`cloud_tasks.sanitize`: whatever comes in, what passes can be stored, encoded and decoded."""

from __future__ import annotations

import json
import math
import sys
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloud_tasks.sanitize import (
    MAX_DEPTH,
    MAX_DIGITS,
    UnusableValueError,
    check_value,
    clean_text,
    clean_value,
    finite_seconds,
    plausible_time,
    whole_number,
)

TEXT = st.text(st.characters())
"""Text with lone surrogates and control characters."""
NUMBERS = st.integers() | st.floats() | st.booleans() | st.none()
VALUES = st.recursive(
    NUMBERS | TEXT, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=20
)
CLEAN_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
CLEAN_VALUES = st.recursive(
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none() | CLEAN_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(CLEAN_TEXT, inner, max_size=4),
    max_leaves=20,
)


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@given(TEXT)
@example("caf\udce9.fits")
def test_text_that_passed_can_be_encoded(text: str) -> None:
    cleaned = clean_text(text)
    assert cleaned.encode().decode() == cleaned
    assert clean_text(cleaned) == cleaned


@given(CLEAN_TEXT)
def test_text_in_order_passes_unchanged(text: str) -> None:
    assert clean_text(text) == text


def test_text_shows_the_bytes_of_a_file_name_that_is_not_utf8() -> None:
    assert clean_text("caf\udce9.fits") == "caf\\udce9.fits"


@given(TEXT, st.integers(1, 20))
def test_text_is_cut_to_the_limit(text: str, limit: int) -> None:
    assert len(clean_text(text[:limit].encode("utf-8", "ignore").decode(), limit)) <= limit
    assert clean_text("abcdef", 3) == "ab…"


@given(VALUES)
@example({"\udcff": 1, "\\udcff": 2})
def test_value_that_passed_is_strict_json(value: object) -> None:
    try:
        cleaned = clean_value(value)
    except UnusableValueError:
        return
    encoded = json.dumps(cleaned, allow_nan=False, ensure_ascii=False).encode()
    assert clean_value(json.loads(encoded)) == cleaned


@given(CLEAN_VALUES)
def test_value_in_order_passes_unchanged(value: object) -> None:
    assert clean_value(value) == value
    assert clean_value(json.loads(json.dumps(value))) == value


def test_nesting_is_bounded_with_a_margin_for_every_interpreter() -> None:
    assert clean_value(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 974, 5000, 200_000):
        with pytest.raises(UnusableValueError, match="nested deeper than 200 levels"):
            clean_value(nested(depth))
    assert sys.getrecursionlimit() >= 2 * MAX_DEPTH


def test_integers_are_bounded_by_digits() -> None:
    assert clean_value(10 ** (MAX_DIGITS - 1)) == 10 ** (MAX_DIGITS - 1)
    for number in (10**MAX_DIGITS, 10**5000, -(10**5000)):
        with pytest.raises(UnusableValueError, match="1,000 digits"):
            clean_value(number)


def test_nonfinite_numbers_become_text_that_float_reads() -> None:
    assert clean_value(json.loads('[NaN, Infinity, -Infinity, 1e400, -1e400]')) == [
        "NaN", "Infinity", "-Infinity", "Infinity", "-Infinity",
    ]  # fmt: skip
    assert math.isnan(float(clean_value(math.nan)))
    assert float(clean_value(-math.inf)) == -math.inf
    assert clean_value([math.inf], keep_nonfinite=True) == [math.inf]


def test_subclasses_of_json_types_become_these_types() -> None:
    class Colour(IntEnum):
        RED = 1

    class Name(str):
        __slots__ = ()

    cleaned = clean_value([Colour.RED, Name("a"), (1, 2)])
    assert cleaned == [1, "a", [1, 2]]
    assert [type(entry) for entry in cleaned] == [int, str, list]
    for other in (object(), {1, 2}, b"bytes", {1: 2}):
        with pytest.raises(UnusableValueError, match="type"):
            clean_value(other)


@given(VALUES)
@example(math.inf)
@example(10**5000)
@example("9" * 5000)
@example("²")
def test_whole_numbers_are_within_their_bounds_or_refused(value: object) -> None:
    try:
        number = whole_number(value, low=1, high=100)
    except UnusableValueError as error:
        message, number = str(error), 1
    else:
        message = ""
    assert type(number) is int
    assert 1 <= number <= 100
    assert len(message) < 200


@pytest.mark.parametrize("value", [7, 7.0, "7"])
def test_whole_numbers_of_other_senders_are_read(value: object) -> None:
    assert whole_number(value, low=1, high=100) == 7


@given(VALUES)
@example(10**400)
@example(-5)
def test_seconds_are_finite_and_not_negative_or_unknown(value: object) -> None:
    seconds = finite_seconds(value)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
    assert finite_seconds(1.5) == 1.5


@given(VALUES | st.datetimes(timezones=st.timezones()).map(datetime.isoformat))
@example("9999-12-31T23:59:59-23:59")
@example("0001-01-01T00:00:00+23:59")
def test_times_survive_any_arithmetic_or_are_unknown(value: object) -> None:
    when = plausible_time(value)
    if when is not None:
        assert datetime.fromtimestamp(when.timestamp(), tz=UTC) == when
        assert (when + timedelta(days=36_500)).tzinfo is UTC


def test_times_in_order_are_kept() -> None:
    when = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
    assert plausible_time(when.isoformat()) == when == plausible_time("2026-11-29T12:00:00")


@given(st.one_of(VALUES, st.dictionaries(TEXT | st.integers(), VALUES | st.sets(st.integers()))))
@example({"a": ({"b": [Path("x")]},)})
@example({1: "a", "1": "b"})
@example(nested(MAX_DEPTH + 1))
@example(10**MAX_DIGITS)
def test_checked_value_is_decoded_from_its_json_as_it_was(value: object) -> None:
    try:
        check_value(value)
    except UnusableValueError:
        return
    decoded = json.loads(json.dumps(value, ensure_ascii=False).encode())
    assert repr(decoded) == repr(value)


@pytest.mark.parametrize("value", [nested(MAX_DEPTH), 10**MAX_DIGITS - 1, {"a": (1, 2.5, None)}, math.inf])
def test_value_at_the_limit_is_accepted(value: object) -> None:
    check_value(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {"b": Path("x")}]}, ".a[1].b: a value of the type pathlib.PosixPath, which JSON does not have"),
        ({"a": {1: 2}}, ".a: a key of the type int (1); the keys of JSON are text"),
        ({"a": "\ud800"}, ".a: text that is not valid Unicode ('\\ud800')"),
        ([10**MAX_DIGITS], "[0]: an integer of more than 1,000 digits"),
    ],
)
def test_refused_value_is_shown_with_its_place(value: object, message: str) -> None:
    with pytest.raises(UnusableValueError) as caught:
        check_value(value)
    assert str(caught.value) == message
