"""`cloud_tasks.convert`: any message is decoded to sound values or malformed, and affects no other."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cloud_tasks.convert import (
    MalformedMessageError,
    clean_event,
    decode_events,
    decode_task_message,
    encode_events,
    encode_task_message,
    event_to_json,
)
from cloud_tasks.model import MAX_ATTEMPT, Event, EventType
from cloud_tasks.sanitize import MAX_DEPTH

RECEIVED = datetime(2026, 1, 1, 12, tzinfo=UTC)
GOOD = {
    "timestamp": "2026-01-01T11:59:58+00:00",
    "hostname": "host",
    "event_type": "task_completed",
    "event_id": "e1",
    "instance_id": "i-1",
    "task_id": "task",
    "attempt": 1,
    "retry": False,
    "elapsed_time": 1.5,
    "result": 3,
}
TEXT = st.text(st.characters(), max_size=8)
VALUES = st.recursive(
    st.integers() | st.floats() | st.booleans() | st.none() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
ODD = [
    math.inf,
    -math.inf,
    math.nan,
    10**400,
    -5,
    0,
    2**63,
    True,
    None,
    {},
    {"a": 1},
    [],
    [["\ud800"]],
    "",
    "\ud800",
    "a\0b",
    "caf\udce9.fits",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    "4" * 4000,
    json.loads("[" * 300 + "]" * 300),
]


def decode(*entries: Any, **arguments: Any) -> tuple[list[Event], list[str]]:
    events, broken = decode_events(json.dumps(entries).encode(), received=RECEIVED, **arguments)
    return list(events), list(broken)


def assert_sound(event: Event) -> None:
    """Check that an event can be stored, encoded strictly, and decoded to itself."""
    assert type(event.event_id) is str
    assert event.event_id
    assert event.event_type in EventType
    assert datetime(2000, 1, 1, tzinfo=UTC) <= event.timestamp <= RECEIVED + timedelta(days=1)
    assert event.attempt is None or 1 <= event.attempt <= MAX_ATTEMPT
    assert event.retry in (None, True, False)
    assert event.elapsed_time is None or (type(event.elapsed_time) is float and 0 <= event.elapsed_time < math.inf)
    assert len(event.hostname) <= 500
    encoded = json.dumps(event_to_json(event), allow_nan=False, ensure_ascii=False).encode()
    assert decode_events(encoded, received=RECEIVED)[0] == [event]


@given(st.sampled_from([*GOOD, "other"]), VALUES)
def test_any_value_in_any_field_is_decoded_to_a_sound_event_or_malformed(field: str, value: Any) -> None:
    events, broken = decode(GOOD, {**GOOD, "event_id": "odd", field: value}, {**GOOD, "event_id": "last"})
    assert [event.event_id for event in events if event.event_id in ("e1", "last")][:1] == ["e1"]
    assert events[-1].event_id == "last" or events[-1].event_id == "e1"
    assert len(events) + len(broken) == 3
    for event in events:
        assert_sound(event)


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("field", [*GOOD, "other"])
def test_odd_value_in_any_field_affects_no_other_event(field: str, value: Any) -> None:
    events, broken = decode(GOOD, {**GOOD, "event_id": "odd", field: value}, {**GOOD, "event_id": "last"})
    assert (events[0].event_id, events[-1].event_id) == ("e1", "last")
    assert len(events) + len(broken) == 3
    assert len(events) == 3 or field in ("event_type", "task_id", "attempt")
    for event in events:
        assert_sound(event)


def assert_decoded_or_malformed(body: bytes) -> None:
    """Check that a message, as events and as a task, is decoded to sound values or malformed."""
    try:
        events, _ = decode_events(body, received=RECEIVED)
    except MalformedMessageError as error:
        str(error).encode()
    else:
        for event in events:
            assert_sound(event)
    try:
        message = decode_task_message(body)
    except MalformedMessageError as error:
        str(error).encode()
    else:
        again = encode_task_message(message)
        assert encode_task_message(decode_task_message(again)) == again


@given(VALUES)
@example(float("nan"))
def test_any_message_is_decoded_or_malformed(value: Any) -> None:
    assert_decoded_or_malformed(json.dumps(value).encode())


@settings(deadline=None)
@given(st.binary())
@example(b"[" * 200_000)
@example(b"[" * 200_000 + b"]" * 200_000)
@example(b'{"a":' * 100_000)
@example(b"\xff\xfe[]")
@example(b"\xed\xa0\x80")
@example(b'[{"event_id":"\xed\xa0\x80","event_type":"keep_alive"}]')
@example(b"9" * 6000)
@example(b'{"event_type": "keep_alive", "x": ' + b"9" * 6000 + b"}")
@example(b'[{"event_type": 1' + b"0" * 5000 + b"}]")
@example(b"")
@example(b'"')
@example(b"[,]")
@example(b"[]]")
def test_any_bytes_are_decoded_or_malformed(body: bytes) -> None:
    assert_decoded_or_malformed(body)


@pytest.mark.parametrize(
    "odd",
    [
        '{"event_type":"keep_alive","x":' + "[" * 5000 + "]" * 5000 + "}",
        '{"event_type":"keep_alive","x":' + "9" * 6000 + "}",
        '{"event_type":"keep_alive","x":tru}',
        '{"a, \\"]}": [1, {"b": 2}], x}',
        "nonsense",
        "",
    ],
    ids=["deep", "long number", "no JSON", "brackets in text", "word", "empty"],
)
def test_entry_that_is_no_json_affects_no_other_event_of_its_message(odd: str) -> None:
    good, last = (json.dumps({**GOOD, "event_id": name}) for name in ("e1", "last"))
    events, broken = decode_events(f" [{good}, {odd} ,\n{last}]".encode(), received=RECEIVED)
    assert [event.event_id for event in events] == ["e1", "last"]
    assert len(broken) == 1


def test_result_that_is_too_deep_keeps_the_outcome_of_its_attempt() -> None:
    deep = json.loads("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))
    (event,), broken = decode({**GOOD, "result": deep})
    assert broken == []
    assert (event.event_type, event.task_id) == (EventType.TASK_COMPLETED, "task")
    assert event.details == {"result": None, "note": "no usable result: nested deeper than 200 levels"}


@pytest.mark.parametrize(
    "value", ["9999-12-31T23:59:59-23:59", "2026-01-03T00:00:00+00:00", "1970-01-01T00:00:00", "soon", 5, None]
)
def test_implausible_time_becomes_that_of_receipt_and_is_noted(value: Any) -> None:
    (event,), _ = decode({**GOOD, "timestamp": value})
    assert event.timestamp == RECEIVED
    assert event.details["note"] == "no plausible timestamp, the time of receipt is used"
    assert event.event_type is EventType.TASK_COMPLETED


@pytest.mark.parametrize("value", [-5, math.nan, math.inf, "long", True, 1e12])
def test_unusable_duration_is_unknown_and_noted(value: Any) -> None:
    (event,), _ = decode({**GOOD, "elapsed_time": value})
    assert event.elapsed_time is None
    assert event.details == {"result": 3, "note": "no usable elapsed_time"}


@pytest.mark.parametrize("attempt", [0, -5, 2**63 - 1, math.inf, 1.5, "x", True, {"a": 1}])
def test_event_of_an_impossible_attempt_is_malformed(attempt: Any) -> None:
    events, (reason,) = decode({**GOOD, "attempt": attempt})
    assert events == []
    assert "no whole number from 1 to 1,000,000" in reason


def test_task_id_is_never_changed_to_that_of_another_task() -> None:
    events, broken = decode({**GOOD, "task_id": "\ud800"}, {**GOOD, "task_id": "x" * 100_001})
    assert (events, len(broken)) == ([], 2)


def test_event_without_id_has_the_same_id_at_each_delivery() -> None:
    without = {name: value for name, value in GOOD.items() if name not in ("event_id", "timestamp")}
    entries = [
        without,
        {**without, "result": 4},
        {**without, "event_id": "x" * 5000},
        {**without, "event_id": {"a": 1}},
    ]
    first, _ = decode(*entries)
    again, _ = decode_events(json.dumps(entries).encode(), received=RECEIVED + timedelta(minutes=1))
    assert [event.event_id for event in first] == [event.event_id for event in again]
    assert len({event.event_id for event in first}) == 4


def test_event_of_another_run_is_malformed() -> None:
    events, broken = decode(
        GOOD, {**GOOD, "run_id": "mine"}, {**GOOD, "run_id": "other"}, {**GOOD, "run_id": 5}, run_id="mine"
    )
    assert [event.details for event in events] == [{"result": 3}, {"result": 3}]
    assert broken == ["an event of another run"] * 2


@given(st.sampled_from([field.name for field in attrs.fields(Event)]), VALUES | st.dates() | st.binary())
def test_clean_event_returns_a_sound_event_or_refuses_it(field: str, value: Any) -> None:
    (event,), _ = decode(GOOD)
    odd = attrs.evolve(event, **{field: value})
    try:
        found = clean_event(odd, RECEIVED)
    except ValueError:
        assert field in ("event_type", "task_id", "attempt")
    else:
        assert_sound(found)
    assert clean_event(event, RECEIVED) == event


def test_non_ascii_text_and_pairs_of_surrogates_pass_unchanged() -> None:
    entry = {**GOOD, "hostname": "höst", "task_id": "Aufgabe 😀", "result": {"näme": ["日本"]}}
    for body in (json.dumps([entry]), json.dumps([entry], ensure_ascii=False), "\ufeff" + json.dumps([entry])):
        (event,), broken = decode_events(body.encode(), received=RECEIVED)
        assert broken == []
        assert (event.hostname, event.task_id, event.details) == ("höst", "Aufgabe 😀", {"result": {"näme": ["日本"]}})
    assert decode_events(encode_events([event]), received=RECEIVED)[0] == [event]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempt", math.inf),
        ("attempt", 0),
        ("attempt", [1]),
        ("losses", -1),
        ("losses", 2**70),
        ("not_before", math.nan),
        ("not_before", math.inf),
        ("not_before", "tomorrow"),
        ("not_before", 10**400),
        ("task_id", "\udcff"),
        ("task_id", 5),
        ("data", [1]),
        ("data", {"x": json.loads("[" * 250 + "]" * 250)}),
    ],
)
def test_unusable_field_makes_a_task_message_malformed(field: str, value: Any) -> None:
    with pytest.raises(MalformedMessageError, match="not a task message"):
        decode_task_message(json.dumps({"task_id": "t", "data": {}, field: value}).encode())


def test_data_of_a_task_message_stays_as_it_is() -> None:
    message = decode_task_message(b'{"id": "t", "data": {"x": NaN, "name": "\\udcff"}, "attempt": "2", "losses": 1.0}')
    assert (message.attempt, message.losses) == (2, 1)
    assert math.isnan(message.data["x"])
    assert message.data["name"] == "\udcff"
