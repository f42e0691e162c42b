"""Parameter grids: a value is the text that was written, in ids and commands; numbers are made by a documented rule."""

from __future__ import annotations

import itertools
import json
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cloud_tasks.builtin.sources.grid import MAX_ID_LENGTH, GridSource
from cloud_tasks.builtin.sources.grid_values import GridValues
from cloud_tasks.errors import InputError


def values(written: str, name: str = "v") -> list[Any]:
    return [task.data["v"] for task in GridSource([f"{name}={written}"])]


def command_words(written: str) -> list[str]:
    """Return what a command gets: text as it is, anything else as JSON."""
    return [value if isinstance(value, str) else json.dumps(value) for value in values(written)]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("1.9,1.10", ["1.9", "1.10"]),
        ("3.10", ["3.10"]),
        ("1e5", ["1e5"]),
        ("001..003", ["001", "002", "003"]),
        ("8..010", ["008", "009", "010"]),
        ("-1..01", ["-1", "00", "01"]),
        ("03..01", ["03", "02", "01"]),
        ("007,08", ["007", "08"]),
        ("-0,+1,.5,5.,1_000,1E5,0x10", ["-0", "+1", ".5", "5.", "1_000", "1E5", "0x10"]),
        ("NaN,Infinity,-Infinity", ["NaN", "Infinity", "-Infinity"]),
        ("1.0,2.50", ["1.0", "2.50"]),
        ("9" * 5000, ["9" * 5000]),
        ("0.1000000000000000055511151231257827", ["0.1000000000000000055511151231257827"]),
        ("1..3,7,20..30..5", ["1", "2", "3", "7", "20", "25", "30"]),
        ("true,null,False", ["true", "null", "False"]),
        ("hello world,b", ["hello world", "b"]),
        ("a;b", ["a;b"]),
        ('"a,b","say ""hi""","c\\"d"', ["a,b", 'say "hi"', 'c"d']),
        ("'a,b','it''s','c\\d'", ["a,b", "it's", "c\\d"]),
        ("a\\,b, c\\ ,O'Brien,C:\\dir", ["a,b", "c ", "O'Brien", "C:\\dir"]),
        ('"",x', ["", "x"]),
        ('"1..3"', ["1..3"]),
        ("../data,a..z", ["../data", "a..z"]),
        ("{a},$(b)", ["{a}", "$(b)"]),
        ("é,\U0001f600", ["é", "\U0001f600"]),
    ],
)
def test_command_gets_the_text_that_was_written(written: str, words: list[str]) -> None:
    assert command_words(written) == words
    for task, word in zip(GridSource([f"v={written}"]), words, strict=True):
        text = word if "," not in word and word[:1] != '"' else json.dumps(word)
        assert task.task_id == f"v={text}" or (len(text) > MAX_ID_LENGTH and "~" in task.task_id)


@pytest.mark.parametrize(
    ("written", "data"),
    [
        ("1,2", [1, 2]),
        ("0.5,1000,true,null,word", [0.5, 1000, True, None, "word"]),
        ("1..3", [1, 2, 3]),
        ("1.9,1.10,true", ["1.9", "1.10", True]),
        ("1,007", ["1", "007"]),
        ("1..3,01..02", ["1", "2", "3", "01", "02"]),
        ('1,"2"', [1, "2"]),
        ("1e+16", [1e16]),
    ],
)
def test_function_gets_a_number_where_json_writes_the_same(written: str, data: list[Any]) -> None:
    assert [(type(value), value) for value in values(written)] == [(type(value), value) for value in data]


@pytest.mark.parametrize(
    ("name", "written", "data", "texts"),
    [
        ("v:float", "1e-3,1e-4,1", [1e-3, 1e-4, 1.0], ["1e-3", "1e-4", "1"]),
        ("v:int", "007,+1,1_000", [7, 1, 1000], ["007", "+1", "1_000"]),
        ("v:int", "01..03", [1, 2, 3], ["01", "02", "03"]),
        ("v:text", "1,true,2..3", ["1", "true", "2", "3"], ["1", "true", "2", "3"]),
    ],
)
def test_type_of_a_parameter_decides(name: str, written: str, data: list[Any], texts: list[str]) -> None:
    tasks = list(GridSource([f"{name}={written}"]))
    assert [(type(task.data["v"]), task.data["v"]) for task in tasks] == [(type(value), value) for value in data]
    assert [task.task_id for task in tasks] == [f"v={text}" for text in texts]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("v=a,,b", 'parameter "v": a value is empty; write "" for empty text'),
        ("v=", 'parameter "v": a value is empty'),
        ("v=a,", 'parameter "v": a value is empty'),
        ('v="a', 'parameter "v": a closing quote (") is missing'),
        ("v='a'b", 'parameter "v": a closing quote (\') is missing, or not followed by a comma'),
        ("v=1,2..3,2", 'parameter "v": value "2" is given twice'),
        ('v=1,"1"', 'parameter "v": value "1" is given twice'),
        ("v=1..2,1..2", 'parameter "v": value "1..2" is given twice'),
        ("v=0.1..0.9", 'parameter "v": "0.1..0.9" is not a range of whole numbers'),
        ("v=3..1..1", 'parameter "v": the range 3..1..1 is empty'),
        ("v=1..9" + "9" * 5000, 'parameter "v": the range 1..9999'),
        ("v:int=1.5", 'parameter "v": expected a whole number, got "1.5"'),
        ("v:float=x", 'parameter "v": expected a number, got "x"'),
        ("v:float=1e400", 'parameter "v": "1e400" is beyond the range of a double'),
        ("v:date=1", "expected name=values or name:type=values"),
        ("v=caf\udce9", 'parameter "v": not valid Unicode'),
        ("", "no parameters"),
        (" ; ", "no parameters"),
    ],
)
def test_malformed_grid_is_refused_in_one_line(grid: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        GridSource(grid)
    assert message in str(caught.value)
    str(caught.value).encode()


def test_blanks_and_semicolons_separate_parameters_outside_quotes() -> None:
    source = GridSource("a=\"x y;z\",w  b=1,2;c='p q',r\\ s;")
    assert source.expected_length() == 8
    assert [task.data for task in itertools.islice(source, 3)] == [
        {"a": "x y;z", "b": 1, "c": "p q"},
        {"a": "x y;z", "b": 1, "c": "r s"},
        {"a": "x y;z", "b": 2, "c": "p q"},
    ]


def test_range_of_a_million_million_is_streamed() -> None:
    source = GridSource("seed=1..1000000000000")
    assert source.expected_length() == 10**12
    tracemalloc.start()
    assert [task.data["seed"] for task in itertools.islice(source, 3)] == [1, 2, 3]
    assert tracemalloc.get_traced_memory()[1] < 1 << 18
    tracemalloc.stop()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=0, max_size=6)


@given(st.lists(TEXT, min_size=1, max_size=4, unique=True), st.sampled_from("\"'"))
@example(["a,b", "c\\"], '"')
@example(["\\", '"', "\n"], '"')
def test_any_text_can_be_written_in_quotes(texts: list[str], quote: str) -> None:
    def quoted(text: str) -> str:
        backslashed = text.replace("\\", "\\\\") if quote == '"' else text
        return quote + backslashed.replace(quote, quote * 2) + quote

    written = ",".join(map(quoted, texts))
    assert values(written) == texts
    assert [task.data["v"] for task in GridSource(f"v={written};n=1")] == texts


@given(st.text(st.sampled_from("01259.-+eE_x"), min_size=1, max_size=6))
@example("1.10")
def test_number_that_is_made_has_exactly_the_text_that_was_written(written: str) -> None:
    assume(".." not in written)
    assert command_words(written) == [written]


LETTERS = st.text(st.sampled_from('a1,="\\ ;b'), max_size=4)


@given(st.lists(LETTERS, min_size=1, max_size=4, unique=True), st.lists(LETTERS, min_size=1, max_size=4, unique=True))
@example(["1,b=2", "1"], ["3", "2,b=3"])
def test_id_is_unique_and_bounded(first: list[str], second: list[str]) -> None:
    def quoted(texts: list[str]) -> str:
        return ",".join("'" + text.replace("'", "''") + "'" for text in texts)

    ids = [task.task_id for task in GridSource([f"a={quoted(first)}", f"b={quoted(second)}"])]
    assert len(set(ids)) == len(ids) == len(first) * len(second)
    assert ids == [task.task_id for task in GridSource([f"a={quoted(first)}", f"b={quoted(second)}"])]


def test_id_of_a_long_combination_ends_in_a_digest() -> None:
    long = "x" * 300
    ids = [task.task_id for task in GridSource([f"a={long}1,{long}2", "b=1,2"])]
    assert len(set(ids)) == 4
    assert {len(task_id) for task_id in ids} == {MAX_ID_LENGTH}
    assert all(task_id.startswith("a=xxx") and "~" in task_id for task_id in ids)


def test_ids_have_no_control_characters() -> None:
    assert [task.task_id for task in GridSource(["v='a\nb\x1b[31m','é'"])] == ['v="a\\nb\\u001b[31m"', "v=é"]


def test_values_know_their_number() -> None:
    assert GridValues("1..10..3,x").number == 5
    assert math.prod([GridValues("1..1000000").number] * 2) == 10**12
