"""Invariants of batches: nothing lost, nothing sent twice, no limit exceeded."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import QueueTraits, SendFailure
from cloud_tasks.plugin.kit import FanOut, Refused, batched, retry_refused, send_bodies

TRAITS = QueueTraits(max_lease=timedelta(hours=1), max_message_bytes=20, receive_batch=10, send_batch=3)


@given(st.lists(st.binary(max_size=12)), st.integers(1, 5), st.none() | st.integers(1, 20))
def test_batched_keeps_every_item_within_the_limits(items: list[bytes], most: int, most_bytes: int | None) -> None:
    found = list(batched(items, most=most, most_bytes=most_bytes))
    assert [item for batch in found for item in batch] == items
    assert all(1 <= len(batch) <= most for batch in found)
    if most_bytes is not None:
        assert all(sum(map(len, batch)) <= most_bytes or len(batch) == 1 for batch in found)
        # No two neighbours fit into one request.
        for batch, following in itertools.pairwise(found):
            assert len(batch) == most or sum(map(len, batch)) + len(following[0]) > most_bytes


def test_batched_measures_items_by_the_given_size() -> None:
    assert list(batched([5, 5, 1, 9], most=9, most_bytes=10, size=lambda number: number)) == [[5, 5], [1, 9]]


def test_batched_is_lazy() -> None:
    numbers = iter(range(100))
    assert next(batched(numbers, most=3)) == [0, 1, 2]
    assert next(numbers) == 4


class Service:
    """Accepts each message after a number of refusals, and refuses some permanently."""

    def __init__(self, refusals: Mapping[bytes, int | None]) -> None:
        self.refusals = dict(refusals)
        self.accepted: list[bytes] = []
        self.requests: list[list[bytes]] = []

    def __call__(self, batch: Sequence[bytes]) -> dict[int, Refused]:
        self.requests.append(list(batch))
        refused = {}
        for index, body in enumerate(batch):
            left = self.refusals.get(body, 0)
            if left is None:
                refused[index] = Refused("never", transient=False)
            elif left:
                self.refusals[body] = left - 1
                refused[index] = Refused("later")
            else:
                self.accepted.append(body)
        return refused


def quickly(seconds: float) -> None:
    assert 0 < seconds < 5


@given(st.lists(st.none() | st.integers(0, 5), max_size=8))
def test_retry_refused_sends_each_entry_once_or_reports_it(refusals: list[int | None]) -> None:
    items = [bytes([index]) for index in range(len(refusals))]
    service = Service(dict(zip(items, refusals, strict=True)))
    failures = retry_refused(service, items, sleep=quickly)
    assert sorted(service.accepted) == [item for index, item in enumerate(items) if index not in failures]
    assert failures.keys() == {index for index, left in enumerate(refusals) if left is None or left > 3}
    assert all(why.transient == (refusals[index] is not None) for index, why in failures.items())
    assert len(service.requests) <= 4


def test_retry_refused_repeats_only_transient_entries() -> None:
    service = Service({b"a": 1, b"b": None})
    assert retry_refused(service, [b"a", b"b", b"c"], sleep=quickly) == {1: Refused("never", transient=False)}
    assert service.requests == [[b"a", b"b", b"c"], [b"a"]]


class Broken:
    """Fails the requests of the given numbers."""

    def __init__(self, *numbers: int, transient: bool = True) -> None:
        self.numbers = numbers
        self.transient = transient
        self.calls = 0
        self.accepted: list[bytes] = []

    def __call__(self, batch: Sequence[bytes]) -> None:
        self.calls += 1
        if self.calls - 1 in self.numbers:
            raise ProviderError(f"request {self.calls - 1} failed", transient=self.transient)
        self.accepted += batch


def bodies(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


@given(st.lists(st.integers(0, 30)), st.integers(5, 40))
def test_send_bodies_sends_each_body_once_or_reports_it(sizes: list[int], most_bytes: int) -> None:
    sent: list[list[bytes]] = []
    wanted = [b"x" * size for size in sizes]
    failures = send_bodies(wanted, sent.append, traits=TRAITS, most_bytes=most_bytes)  # type: ignore[arg-type]
    assert [(each.index, each.transient) for each in failures] == [
        (index, False) for index, size in enumerate(sizes) if size > 20
    ]
    assert [body for batch in sent for body in batch] == [body for body in wanted if len(body) <= 20]
    assert all(len(batch) <= 3 for batch in sent)
    assert all(sum(map(len, batch)) <= most_bytes or len(batch) == 1 for batch in sent)


def test_send_bodies_reports_the_rest_after_a_failed_request() -> None:
    send = Broken(1)
    failures = send_bodies(bodies(9), send, traits=TRAITS)
    assert send.accepted == bodies(3)
    assert failures == [SendFailure(index=index, reason="request 1 failed") for index in range(3, 9)]
    assert send.calls == 2


def test_send_bodies_raises_if_nothing_was_sent() -> None:
    with pytest.raises(ProviderError, match="request 0 failed"):
        send_bodies([*bodies(9), b"x" * 21], Broken(0), traits=TRAITS)


def test_send_bodies_of_only_large_bodies_reports_them() -> None:
    (failure,) = send_bodies([b"x" * 21], Broken(), traits=TRAITS)
    assert failure == SendFailure(index=0, reason="21 bytes, more than the limit of 20", transient=False)


def test_send_bodies_of_nothing_makes_no_request() -> None:
    send = Broken(0)
    assert send_bodies([], send, traits=TRAITS) == []
    assert send.calls == 0


def test_send_bodies_in_parallel_tries_every_batch() -> None:
    lock = threading.Lock()
    accepted: list[bytes] = []

    def send(batch: Sequence[bytes]) -> dict[int, Refused]:
        if b"3" in batch:
            raise ProviderError("refused", transient=False)
        with lock:
            accepted.extend(batch[1:])
        return {0: Refused("first of its batch", transient=False)}

    fan_out = FanOut(3, "test")
    failures = send_bodies(bodies(12), send, traits=TRAITS, fan_out=fan_out)
    fan_out.close()
    assert sorted(accepted) == sorted(body for body in bodies(12) if int(body) in (1, 2, 7, 8, 10, 11))
    assert [each.index for each in failures] == [0, 3, 4, 5, 6, 9]


def test_send_bodies_raises_the_permanent_error() -> None:
    def send(batch: Sequence[bytes]) -> None:
        raise ProviderError(batch[0].decode(), transient=batch[0] != b"3")

    fan_out = FanOut(3, "test")
    with pytest.raises(ProviderError, match="3"):
        send_bodies(bodies(9), send, traits=TRAITS, fan_out=fan_out)
    fan_out.close()


def test_send_bodies_accepts_a_batch_of_the_whole_limit() -> None:
    sent: list[list[bytes]] = []
    traits = attrs.evolve(TRAITS, send_batch=1)
    assert send_bodies([b"x" * 20], sent.append, traits=traits, most_bytes=20) == []  # type: ignore[arg-type]
    assert sent == [[b"x" * 20]]
