"""Unit tests of messages, leases and batch calls of a queue."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from cloud_tasks_aws.queue.bodies import BATCH_BYTES, BATCH_ENTRIES, Encoded, batches, decode, encode
from cloud_tasks_aws.queue.leases import LeaseTable
from cloud_tasks_aws.queue.parallel import Threads, call_batch

HOUR = timedelta(hours=1).total_seconds()
URL = "http://sqs/0/queue"


# Messages


@given(st.binary(max_size=300))
def test_encode_decode_round_trip(body: bytes) -> None:
    message = encode(0, body)
    assert message.text
    assert decode(message.text, message.encoding) == body


@given(st.text(max_size=100))
def test_encode_produces_valid_sqs_text(text: str) -> None:
    message = encode(0, text.encode(errors="replace"))
    for character in message.text:
        code = ord(character)
        assert (
            code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or 0x10000 <= code <= 0x10FFFF
        )


def test_decode_returns_invalid_base64_unchanged() -> None:
    assert decode("no base64!", "base64") == b"no base64!"
    assert decode("text", "unknown") == b"text"


def test_encode_sends_json_as_text() -> None:
    assert encode(3, b'{"task_id": "t"}') == Encoded(3, '{"task_id": "t"}')


@given(st.lists(st.integers(1, BATCH_BYTES), max_size=60))
def test_batches_respect_limits_and_keep_every_message(sizes: list[int]) -> None:
    messages = [Encoded(index, "x" * size) for index, size in enumerate(sizes)]
    result = list(batches(messages))
    assert [message for batch in result for message in batch] == messages
    for batch in result:
        assert 1 <= len(batch) <= BATCH_ENTRIES
        assert sum(message.size for message in batch) <= BATCH_BYTES


def test_encoded_size_includes_attributes() -> None:
    plain, marked = Encoded(0, "x" * 100), Encoded(0, "x" * 100, "base64")
    assert plain.size == 100
    assert marked.size == 100 + len("cloud-tasks-form") + len("String") + len("base64")


# Leases


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(clock: Clock) -> LeaseTable:
    return LeaseTable(clock)


def split(table: LeaseTable, *handles: str) -> tuple[list[str], list[str]]:
    held, lost = table.split(handles)
    return [each.handle for each in held], lost


def test_lease_is_held_until_it_expires(table: LeaseTable, clock: Clock) -> None:
    table.add(URL, "a", 60.0)
    clock.now += 59.9
    assert split(table, "a") == (["a"], [])
    clock.now += 0.2
    assert split(table, "a") == ([], ["a"])


def test_unknown_lease_is_lost(table: LeaseTable) -> None:
    assert split(table, "elsewhere") == ([], ["elsewhere"])


def test_settled_lease_is_lost(table: LeaseTable) -> None:
    table.add(URL, "a", 60.0)
    table.forget(["a"])
    assert split(table, "a") == ([], ["a"])


def test_split_removes_duplicates(table: LeaseTable) -> None:
    table.add(URL, "a", 60.0)
    assert split(table, "a", "gone", "a", "gone") == (["a"], ["gone"])


def test_extended_sets_the_end_of_the_lease(table: LeaseTable, clock: Clock) -> None:
    table.add(URL, "a", 60.0)
    clock.now += 50
    table.extended("a", clock.now + 60.0)
    clock.now += 50
    assert split(table, "a") == (["a"], [])


def test_extensions_end_before_twelve_hours_with_one_warning(table: LeaseTable, clock: Clock) -> None:
    table.add(URL, "a", 60.0)
    started, granted, warned_at = clock.now, [], 0.0
    with capture_logs() as lines:
        while held := table.split(["a"])[0]:
            granted.append(table.allowed(held[0], 60.0))
            if lines and not warned_at:
                warned_at = clock.now - started
            table.extended("a", clock.now + granted[-1])
            clock.now += 20.0
    assert set(granted[:2000]) == {60}
    assert 11.9 * HOUR < clock.now - started <= 12 * HOUR
    assert 11 * HOUR < warned_at < 11.6 * HOUR
    assert [line["log_level"] for line in lines] == ["warning"]
    assert "12 hours" in lines[0]["event"]


def test_allowed_never_exceeds_twelve_hours(table: LeaseTable, clock: Clock) -> None:
    table.add(URL, "a", 60.0)
    (held, *_), _ = table.split(["a"])
    assert table.allowed(held, 12 * HOUR) < 12 * HOUR
    clock.now += 12 * HOUR
    assert table.allowed(held, 60.0) == 0


def test_lease_table_prunes_expired_leases(table: LeaseTable, clock: Clock) -> None:
    for number in range(20_000):
        table.add(URL, str(number), 60.0)
        clock.now += 1.0
    assert len(table) < 2000


# Batch calls


def entries(count: int) -> list[dict[str, str]]:
    return [{"Id": str(number)} for number in range(count)]


class Service:
    """Batch call fake; entries to fail per call: (id, code, sender's fault)."""

    def __init__(self, *plan: Sequence[tuple[str, str, bool]]) -> None:
        self.plan = list(plan)
        self.batches: list[list[str]] = []

    def __call__(self, some: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        self.batches.append([entry["Id"] for entry in some])
        failing = {entry: (code, sender) for entry, code, sender in (self.plan.pop(0) if self.plan else ())}
        return {
            "Successful": [{"Id": entry["Id"]} for entry in some if entry["Id"] not in failing],
            "Failed": [{"Id": entry, "Code": code, "SenderFault": sender} for entry, (code, sender) in failing.items()],
        }


def quickly(seconds: float) -> None:
    assert 0 < seconds < 5


def test_call_batch_retries_only_transient_entries() -> None:
    service = Service([("2", "InternalError", False)])
    assert call_batch(service, entries(4), sleep=quickly) == {}
    assert service.batches == [["0", "1", "2", "3"], ["2"]]


def test_call_batch_returns_permanent_failure_without_retry() -> None:
    service = Service([("1", "AWS.SimpleQueueService.ReceiptHandleIsInvalid", True)])
    failures = call_batch(service, entries(2), sleep=quickly)
    assert {key: (failure.code, failure.transient) for key, failure in failures.items()} == {
        "1": ("ReceiptHandleIsInvalid", False)
    }
    assert len(service.batches) == 1


def test_call_batch_retries_throttled_entry_despite_sender_fault() -> None:
    service = Service([("0", "RequestThrottled", True)])
    assert call_batch(service, entries(1), sleep=quickly) == {}


def test_call_batch_returns_persistent_failure_as_transient() -> None:
    service = Service(*[[("0", "InternalError", False)]] * 50)
    failures = call_batch(service, entries(2), sleep=quickly)
    assert failures["0"].transient
    assert failures.keys() == {"0"}
    assert len(service.batches) < 10


def test_threads_map_runs_single_item_in_caller_thread() -> None:
    threads = Threads(4, "test")
    assert threads.map(lambda _: threading.current_thread(), [1]) == [threading.current_thread()]
    assert threading.current_thread() not in threads.map(lambda _: threading.current_thread(), [1, 2, 3])
    assert threads.map(lambda number: number * 2, range(100)) == [number * 2 for number in range(100)]
    threads.close()
