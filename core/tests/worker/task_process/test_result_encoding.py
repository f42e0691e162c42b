"""Results of tasks as the task process reports them: converted to JSON, pickled, stored, or kept on disk."""

from __future__ import annotations

import array
import asyncio
import base64
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import pickle
import threading
import types
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import numpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cloud_tasks import sanitize
from cloud_tasks.worker import WorkerData
from cloud_tasks.worker.task_process import function_call
from cloud_tasks.worker.task_process.assignment import Assignment

SURROGATE = "caf\udce9.fits"


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Mode(enum.StrEnum):
    FAST = "fast"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: float
    y: Any


@attrs.frozen
class Fit:
    _chi: float
    steps: Any


class Pair(NamedTuple):
    ok: bool
    value: int


@dataclasses.dataclass
class Broken:
    """A dataclass that neither converts nor pickles nor prints."""

    field: int = dataclasses.field(init=False)

    def __reduce__(self) -> Any:
        raise SystemExit("no pickle")

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Model:
    """A class without a JSON form."""

    def __init__(self, weights: Any) -> None:
        self.weights = weights

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and self.weights == other.weights

    __hash__ = None  # type: ignore[assignment]


def report(
    value: Any,
    *,
    limit: int | None = None,
    store: Path | None = None,
    scratch: str = "/dev/null/root/1",
    task_id: str = "task",
) -> tuple[dict[str, Any], bytes]:
    """Return head and result of a task whose function returns the value."""
    assignment = Assignment(1, 0, task_id, 1, {}, scratch, {})
    limits = (limit, None if store is None else str(store))
    return function_call.call_function(lambda *_: value, WorkerData(), assignment, limits)


def strict(text: bytes) -> Any:
    """Decode JSON that has no extension of Python's, and no key twice."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    value = json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    assert sanitize.clean_value(value) == value
    return value


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def levels(value: Any) -> int:
    count = 0
    while isinstance(value, list) and value:
        value, count = value[0], count + 1
    return count


class Key(str):
    """Text that equals no other text."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 5

    def __eq__(self, other: object) -> bool:
        return self is other


@dataclasses.dataclass
class Mapping(dict[str, Any]):
    size: int = 1


@dataclasses.dataclass
class Sequence(list[Any]):
    size: int = 1


@dataclasses.dataclass
class Name(str):
    size: int = 1


def filled() -> Mapping:
    mapping = Mapping()
    mapping["key"] = 2
    return mapping


CONVERTED: list[tuple[Any, Any]] = [
    (["\ud83d\ude00", "\U0001f600"], ["\\ud83d\\ude00", "\U0001f600"]),
    ({"\ud83d\ude00": 1, "\U0001f600": 2}, {"\\ud83d\\ude00": 1, "\U0001f600": 2}),
    ({Key("key"): 1, "other": 2}, {"key": 1, "other": 2}),
    (Mapping(3), {"size": 3}),
    ([Sequence()], [{"size": 1}]),
    ({"entry": (Mapping(),)}, {"entry": [{"size": 1}]}),
    (numpy.longdouble("1e400"), "1e+400"),
    (numpy.longdouble("-1e-400"), "-1e-400"),
    (numpy.array([0, float("inf"), float("nan")], dtype=numpy.longdouble), [0.0, "Infinity", "NaN"]),
    (numpy.clongdouble(numpy.longdouble("1e400")), "(1e+400+0j)"),
    (numpy.timedelta64("NaT", "s"), "NaT"),
    (numpy.array([["NaT", 5]], dtype="m8[s]"), [["NaT", 5.0]]),
    (numpy.datetime64("-0044-03-15"), "-0044-03-15"),
    (numpy.array(["0044-03-15", "NaT"], dtype="M8[D]"), ["0044-03-15", "NaT"]),
    (numpy.float32(1.5), 1.5),
    ({"n": numpy.int64(3)}, {"n": 3}),
    (numpy.sum([1, 2]), 3),
    (numpy.bool_(True), True),
    (numpy.arange(3), [0, 1, 2]),
    (numpy.array([[1.0, float("nan")]]), [[1.0, "NaN"]]),
    (numpy.array(None, dtype=object), None),
    (numpy.array([Point(1, 2), {3}], dtype=object), [{"x": 1, "y": 2}, [3]]),
    (numpy.longdouble(0.5), 0.5),
    (numpy.array([0.5], dtype=numpy.longdouble), [0.5]),
    (numpy.clongdouble(1 + 2j), "(1+2j)"),
    (numpy.complex128(1 + 2j), "(1+2j)"),
    (numpy.str_("a"), "a"),
    (numpy.bytes_(b"a"), "YQ=="),
    (numpy.datetime64("2024-05-06T07:08:09.123456789"), "2024-05-06T07:08:09.123456789"),
    (numpy.array(["2024-05-06", "NaT"], dtype="datetime64[D]"), ["2024-05-06", "NaT"]),
    (numpy.timedelta64(1500, "ms"), 1.5),
    (numpy.array([1, "NaT"], dtype="timedelta64[m]"), [60.0, "NaT"]),
    (numpy.ma.masked_array([1, 2], mask=[0, 1]), [1, None]),
    (numpy.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]), [[1, 2.5]]),
    (array.array("d", [1.5]), [1.5]),
    (float("nan"), "NaN"),
    ({"loss": [float("inf"), (-float("inf"),)]}, {"loss": ["Infinity", ["-Infinity"]]}),
    (datetime.datetime(2024, 5, 6, 7, 8, tzinfo=datetime.UTC), "2024-05-06T07:08:00+00:00"),
    (datetime.date(2024, 5, 6), "2024-05-06"),
    (datetime.time(7, 8), "07:08:00"),
    (datetime.timedelta(minutes=1.5), 90.0),
    (Path("/tmp/x"), "/tmp/x"),
    (Path(SURROGATE), "caf\\udce9.fits"),
    (decimal.Decimal("1.10"), "1.10"),
    (decimal.Decimal("NaN"), "NaN"),
    (fractions.Fraction(1, 3), "1/3"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    (Mode.FAST, "fast"),
    (Rights.READ | Rights.WRITE, 3),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"b", "a"}), ["a", "b"]),
    ({1, "a", None}, ["a", 1, None]),
    (b"\x00\xff", "AP8="),
    (bytearray(b"a"), "YQ=="),
    (memoryview(b"a"), "YQ=="),
    (memoryview(b"abc")[::2], "YWM="),
    (Point(1.0, Path("a")), {"x": 1.0, "y": "a"}),
    (Fit(0.5, {1}), {"_chi": 0.5, "steps": [1]}),
    (Pair(True, 3), [True, 3]),
    (1 + 2j, "(1+2j)"),
    (range(3), [0, 1, 2]),
    (collections.deque([1, {2}]), [1, [2]]),
    (collections.Counter("aab"), {"a": 2, "b": 1}),
    (collections.ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    (collections.UserDict({"a": 1}), {"a": 1}),
    (collections.UserList([1]), [1]),
    (collections.UserString("a"), "a"),
    ({"a": 1}.keys(), ["a"]),
    ({"a": 1}.values(), [1]),
    ({"a": 1}.items(), [["a", 1]]),
    (10**5000, hex(10**5000)),
    (10**3000, hex(10**3000)),
    (-(10**5000), hex(-(10**5000))),
    (10**900, 10**900),
    (SURROGATE, "caf\\udce9.fits"),
    ({"file": SURROGATE}, {"file": "caf\\udce9.fits"}),
    ({SURROGATE: 1}, {"caf\\udce9.fits": 1}),
    ("\ude00\ud83d", "\\ude00\\ud83d"),
    ("\\ud83d\ude00", "\\ud83d\\ude00"),
    ("한 😀 \\ud83d", "한 😀 \\ud83d"),
    ({1: "a", 2.5: "b"}, {"1": "a", "2.5": "b"}),
    ({None: 1, False: 2}, {"null": 1, "false": 2}),
    ({(1, "x"): 1}, {'[1,"x"]': 1}),
    ({numpy.int64(1): 1, numpy.float64(0.5): 2}, {"1": 1, "0.5": 2}),
    ({Colour.RED: 1, datetime.date(2024, 5, 6): 2, Path("p"): 3}, {"red": 1, "2024-05-06": 2, "p": 3}),
    ({float("nan"): 1}, {"NaN": 1}),
    ({"1": 1, "true": 2}, {"1": 1, "true": 2}),
    (nested(200), nested(200)),
    ([{"a": [1]}] * 300, [{"a": [1]}] * 300),
    ("[" * 1000, "[" * 1000),
    ("1" * 2000, "1" * 2000),
    (["a" * 300, 10**999], ["a" * 300, 10**999]),
    (["a" * 777, 10**1000], ["a" * 777, hex(10**1000)]),
    (None, None),
]


@pytest.mark.parametrize(("value", "expected"), CONVERTED, ids=[type(value).__name__ for value, _ in CONVERTED])
def test_result_is_converted_by_the_documented_rules(value: Any, expected: Any) -> None:
    for returned in (value, (False, value)):
        head, content = report(returned)
        assert head == {}
        assert strict(content) == expected


@pytest.mark.parametrize(
    "value",
    [
        Model([1]),
        filled(),
        Name("text"),
        [Sequence(), Name("text")],
        {"model": Model({2: 3})},
        nested(201),
        nested(974),
        nested(1200),
        numpy.zeros(1_000_001),
        range(10**12),
        ValueError("as a value"),
        Model,
    ],
    ids=[
        "object",
        "entries and fields",
        "text with fields",
        "nested text with fields",
        "nested object",
        "201 levels",
        "974 levels",
        "1200 levels",
        "array",
        "range",
        "exception",
        "class",
    ],
)
def test_result_without_a_json_form_is_pickled(value: Any) -> None:
    head, content = report(value)
    assert strict(content) is None
    assert head["result_type"] == f"{type(value).__module__}.{type(value).__qualname__}"
    pickled = base64.b64decode(head["result_pickle"])
    assert len(pickled) == head["result_bytes"]
    again = pickle.loads(pickled)
    assert type(again) is type(value)
    assert levels(again) == levels(value)
    if isinstance(value, (Model, range, type)):
        assert again == value


def test_result_that_contains_itself_is_pickled() -> None:
    value: list[Any] = [1]
    value.append(value)
    head, _ = report(value)
    (again, itself) = pickle.loads(base64.b64decode(head["result_pickle"]))
    assert again == 1
    assert itself[1] is itself


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (threading.Lock(), "<unlocked _thread.lock"),
        ({"loss": 0.1, "rows": (x for x in "ab")}, "{'loss': 0.1, 'rows': <generator"),
        (lambda: 1, "<function <lambda>"),
        (Broken(), "<"),
        (nested(100_000), "<builtins.list>"),
        ([threading.Lock()] * 1000, "[<unlocked"),
    ],
    ids=["lock", "generator inside", "lambda", "hostile", "100000 levels", "long"],
)
def test_result_that_cannot_be_pickled_completes_with_its_text_and_a_warning(value: Any, text: str) -> None:
    head, content = report(value)
    assert strict(content) is None
    assert head["result_repr"].startswith(text)
    assert len(head["result_repr"]) <= 2000
    assert "cannot be pickled" in head["warning"]
    assert head["result_type"]
    assert "error" not in head


@pytest.mark.parametrize("value", [{"key": 1, Key("key"): 2}, [({Key("key"): 1, Key("key"): 2},)]])
def test_result_with_two_keys_of_the_same_text_fails(value: Any, tmp_path: Path) -> None:
    head, _ = report(value, scratch=str(tmp_path / "root" / "1"))
    assert head["message"].startswith("the keys 'key' and 'key' of the result are one key in JSON")


@pytest.mark.parametrize(
    ("value", "first", "second"),
    [
        ({1: "a", "1": "b"}, "1", "'1'"),
        ({"x": [{None: 1, "null": 2}]}, "None", "'null'"),
        ({True: 1, "true": 2}, "True", "'true'"),
        ({"\ud83d\ude00": 1, "\\ud83d\\ude00": 2}, "'\\ud83d\\ude00'", "'\\\\ud83d\\\\ude00'"),
        ({Colour.RED: 1, "red": 2}, "<Colour.RED: 'red'>", "'red'"),
        ({SURROGATE: 1, "caf\\udce9.fits": 2}, "'caf\\udce9.fits'", "'caf\\\\udce9.fits'"),
    ],
)  # fmt: skip
def test_result_with_two_keys_that_become_one_fails_with_both(
    value: Any, first: str, second: str, tmp_path: Path
) -> None:
    head, _ = report(value, scratch=str(tmp_path / "root" / "1"))
    assert head["error"] == "UnserializableResult"
    assert f"the keys {first} and {second} of the result are one key in JSON" in head["message"]
    (kept,) = (tmp_path / "root-results").iterdir()
    assert str(kept) in head["message"]
    assert pickle.loads(kept.read_bytes()) == value


async def _coroutine() -> None:
    return None


async def _async_generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: (x for x in "ab"), "generator"),
        (_async_generator, "async_generator"),
        (lambda: map(str, [1]), "map"),
        (lambda: zip([1], [2], strict=True), "zip"),
        (lambda: iter([1]), "list_iterator"),
    ],
)
def test_result_that_is_lazy_fails_with_its_kind(make: Any, kind: str) -> None:
    head, _ = report(make())
    assert head["error"] == "UnserializableResult"
    assert head["message"].startswith(f"the function returned a {kind}, whose values are not computed; return a list")


def test_result_that_is_a_coroutine_fails() -> None:
    coroutine = _coroutine()
    head, _ = report(coroutine)
    asyncio.run(coroutine)
    assert head["error"] == "UnserializableResult"
    assert "a coroutine, which has not run" in head["message"]


# -- size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "suffix"), [("x" * 1000, "json"), (numpy.arange(1000), "json"), (Model(list(range(1000))), "pickle")]
)
def test_result_over_the_limit_is_stored(value: Any, suffix: str, tmp_path: Path) -> None:
    head, content = report(value, limit=500, store=tmp_path / "store", task_id="数" * 120)
    assert strict(content) is None
    (stored,) = (tmp_path / "store").iterdir()
    assert head["result_address"] == str(stored)
    assert head["result_bytes"] == stored.stat().st_size
    assert stored.name.endswith(f".1.{suffix}")
    assert ("result_type" in head) == (suffix == "pickle")
    content = stored.read_bytes()
    assert (pickle.loads(content) if suffix == "pickle" else numpy.array(json.loads(content))) is not None


@pytest.mark.parametrize("value", ["x" * 1000, Model(list(range(1000)))])
def test_result_over_the_limit_without_a_store_fails_and_is_kept(value: Any, tmp_path: Path) -> None:
    head, _ = report(value, limit=500, scratch=str(tmp_path / "root" / "1"))
    assert head["error"] == "ResultTooLong"
    assert "set result_store for longer results" in head["message"]
    (kept,) = (tmp_path / "root-results").iterdir()
    assert f"the value is kept in {kept} on " in head["message"]
    content = kept.read_bytes()
    assert (json.loads(content) if kept.suffix == ".json" else pickle.loads(content)) == value
    assert kept.parent.stat().st_mode & 0o77 == 0


def test_result_that_cannot_be_stored_is_kept(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    head, _ = report("x" * 1000, limit=500, store=tmp_path / "store", scratch=str(tmp_path / "root" / "1"))
    assert head["error"] == "ResultNotStored"
    (kept,) = (tmp_path / "root-results").iterdir()
    assert str(kept) in head["message"]
    assert json.loads(kept.read_bytes()) == "x" * 1000


def test_result_that_can_be_stored_nowhere_fails_with_both_reasons(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    (tmp_path / "root-results").write_text("another")
    head, _ = report("x" * 1000, limit=500, store=tmp_path / "store", scratch=str(tmp_path / "root" / "1"))
    assert head["error"] == "ResultNotStored"
    assert "the value could not be kept" in head["message"]


# -- pairs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, numpy.bool_(True)])
@pytest.mark.parametrize(
    "value", ["not now", 17, Model(1), {1: 2, "1": 3}, "x" * 1000, threading.Lock(), (1 for _ in "")]
)
def test_pair_that_requests_a_retry_has_a_reason_whatever_its_value(first: Any, value: Any) -> None:
    head, content = report((first, value), limit=500)
    assert head["retry"] is True
    assert head["reason"] == "returned (True, …), which requests a retry"
    strict(content)


@pytest.mark.parametrize("returned", [(1, 17), (None, 17), (True, 1, 2), [True, 17], (numpy.int64(1), 17), ("True", 1)])
def test_other_tuples_are_results(returned: Any) -> None:
    head, content = report(returned)
    assert head == {}
    assert strict(content) == json.loads(json.dumps(returned, default=int))


# -- properties ----------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(), max_size=8)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([700, 999, 1000, 1001, 5000]).map(lambda digits: 10**digits),
    st.sampled_from([2**3321, 1 - 2**3321]),
    st.floats(),
    TEXT,
    st.binary(max_size=4),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals().filter(lambda number: not number.is_snan()),
    st.fractions(),
    st.uuids(),
    st.complex_numbers(),
    st.sampled_from([Colour.RED, Level.HIGH, Mode.FAST, Rights.READ, Pair(True, 1), 1.0, True, "1", "true", b"1"]),
    st.floats(width=32).map(numpy.float32),
    st.integers(0, 100).map(numpy.int16),
    TEXT.map(lambda text: Path(text.replace("\0", ""))),
)
OBJECTS = st.sampled_from(
    [
        lambda: Model(1),
        threading.Lock,
        Broken,
        lambda: Model,
        lambda: len,
        lambda: ValueError("x"),
        lambda: numpy.array([Model(2)]),
        lambda: (x for x in "ab"),
    ]
).map(lambda make: make())


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    hashable = SCALARS | st.tuples(SCALARS, SCALARS)
    return st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(hashable, inner, max_size=4),
        st.frozensets(hashable, max_size=4),
        st.builds(Point, inner, inner),
        st.builds(Fit, inner, inner),
        st.lists(inner, max_size=3).map(collections.deque),
        st.lists(st.floats(), max_size=3).map(numpy.array),
    )


VALUES = st.recursive(SCALARS | OBJECTS, containers, max_leaves=12)


@given(VALUES, st.sampled_from([None, 20, 2000]))
@settings(max_examples=400, deadline=None)
@example({1: 1, "1": 1}, None)
def test_any_result_is_strict_json_or_pickled_or_one_clear_failure(value: Any, limit: int | None) -> None:
    head, content = report((False, value), limit=limit)
    if "error" in head:
        assert head["error"] in ("UnserializableResult", "ResultTooLong")
        assert head["message"]
        return
    decoded = strict(content)
    assert limit is None or len(content) <= limit
    if "result_repr" in head:
        assert head["warning"]
    elif head:
        pickle.loads(base64.b64decode(head["result_pickle"]))
        assert decoded is None
    assert strict(json.dumps(head).encode()) is not None


def test_shortcut_of_the_runner_agrees_with_the_gate_on_depth() -> None:
    assert function_call._MAX_BRACKETS == sanitize.MAX_DEPTH
    assert 2 * sanitize.MAX_DEPTH >= function_call._SHORT
    assert sanitize.MAX_DIGITS > function_call._SHORT
