"""The contract of queues on a service of requests, and the invariants of the base."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import timedelta

import attrs
import pytest
from request_service import TRAITS, RequestQueue, RequestService

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import QueueBackend, QueueContext, SendFailure
from cloud_tasks.plugin.kit import Refused
from cloud_tasks.plugin.kit import batches as batches_module
from cloud_tasks.testing import QueueContract, QueueSubject

NOW = timedelta(0)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "_INITIAL_BACKOFF", 0.0)


@pytest.fixture
def service() -> RequestService:
    return RequestService()


@pytest.fixture
def open_queue(service: RequestService) -> Callable[[], RequestQueue]:
    return lambda: RequestQueue(service, QueueContext(job_id="job", name="queue", lease=MINUTE))


@pytest.fixture
def queue(open_queue: Callable[[], RequestQueue]) -> RequestQueue:
    queue = open_queue()
    queue.create()
    return queue


class TestRequestQueue(QueueContract):
    @pytest.fixture
    def subject(self, service: RequestService) -> QueueSubject:
        def advance(duration: timedelta) -> None:
            service.now += duration.total_seconds()

        backend = QueueBackend(
            name="requests",
            summary="requests",
            traits=TRAITS,
            open=lambda settings, context: closing(RequestQueue(service, context)),
        )
        return QueueSubject(backend=backend, lease=timedelta(seconds=60), advance=advance)


def bodies(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def received(queue: RequestQueue, count: int) -> list[str]:
    deliveries = queue.receive(count, wait=timedelta(seconds=1))
    assert len(deliveries) == count
    return [each.lease_id for each in deliveries]


def test_send_refuses_bodies_above_the_maximum_of_the_traits(queue: RequestQueue) -> None:
    most = TRAITS.max_message_bytes
    (failure,) = queue.send([b"a" * most, b"a" * (most + 1)])
    assert (failure.index, failure.transient) == (1, False)
    assert failure.reason == f"{most + 1:,} bytes are more than the {most:,} of a message"
    assert len(queue.receive(2, wait=NOW)) == 1


@pytest.mark.parametrize(("resolution", "delay", "rounded"), [(1.0, 0.2, 1.0), (1.0, 1.0, 1.0), (0.1, 0.25, 0.3)])
def test_times_are_rounded_up_to_the_resolution(
    service: RequestService, resolution: float, delay: float, rounded: float
) -> None:
    context = QueueContext(job_id="job", name="queue", lease=MINUTE)
    queue = RequestQueue(service, context, resolution=timedelta(seconds=resolution))
    queue.create()
    queue.send([b"a"], delay=timedelta(seconds=delay))
    service.now += rounded - 0.01
    assert queue.receive(1, wait=NOW) == []
    service.now += 0.02
    assert len(queue.receive(1, wait=NOW)) == 1


class CrowdedQueue(RequestQueue):
    """Has methods and attributes with names that a base could have, too."""

    _settle = _requests = _changed = _forget = _receive_more = _deliveries = _rounded = None

    def __init__(self, service: RequestService, context: QueueContext) -> None:
        super().__init__(service, context)
        self._traits = self._limits = self._resolution = self._leases = self._fan_out = None


def test_names_of_a_subclass_replace_none_of_the_base(service: RequestService) -> None:
    queue = CrowdedQueue(service, QueueContext(job_id="job", name="queue", lease=MINUTE))
    queue.create()
    assert queue.send([*bodies(9), b"x" * (TRAITS.max_message_bytes + 1)])[0].index == 9
    leases = received(queue, 9)
    assert queue.extend(leases, lease=MINUTE) == queue.release(leases[:3]) == queue.ack(leases[3:]) == []
    assert len(received(queue, 3)) == 3
    queue.close()


@pytest.mark.parametrize("name", ["_lease", "_closed"])
def test_names_for_a_subclass_are_read_only(queue: RequestQueue, name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        setattr(queue, name, None)


def failing(wanted: str, *numbers: int, transient: bool = True) -> Callable[[str, int], Mapping[int, Refused]]:
    """Return faults that fail the requests of an action with these numbers as a whole."""
    seen: Counter[str] = Counter()

    def fail(action: str, count: int) -> Mapping[int, Refused]:
        seen[action] += 1
        if action == wanted and seen[action] - 1 in numbers:
            raise ProviderError(f"{action} failed", transient=transient)
        return {}

    return fail


def test_send_divides_bodies_by_number_and_size(queue: RequestQueue, service: RequestService) -> None:
    assert queue.send([*bodies(6), b"x" * 900, b"y" * 101, b"z"]) == []
    assert sorted(count for action, count in service.requests if action == "send") == [2, 3, 4]


def test_send_retries_refused_entries_only(queue: RequestQueue, service: RequestService) -> None:
    refusals = iter([{1: Refused("busy")}, {0: Refused("busy")}])
    service.faults = lambda action, count: next(refusals, {})
    assert queue.send(bodies(3)) == []
    assert [count for _, count in service.requests] == [3, 1, 1]
    assert sorted(each.body for each in queue.receive(9, wait=NOW)) == bodies(3)


def test_send_reports_refused_and_invalid_bodies(queue: RequestQueue, service: RequestService) -> None:
    service.faults = lambda action, count: {0: Refused("malformed", transient=False)}
    assert queue.send([b"x" * 1001, b"a", b"b"]) == [
        SendFailure(index=0, reason="1,001 bytes are more than the 1,000 of a message", transient=False),
        SendFailure(index=1, reason="malformed", transient=False),
    ]


def test_send_raises_only_if_nothing_was_sent(queue: RequestQueue, service: RequestService) -> None:
    service.faults = failing("send", 0)
    assert len(queue.send(bodies(12))) == 4
    service.faults = failing("send", *range(100), transient=False)
    with pytest.raises(ProviderError, match="send failed"):
        queue.send(bodies(12))


def test_receive_gathers_many_messages_by_several_requests(queue: RequestQueue, service: RequestService) -> None:
    queue.send(bodies(40))
    found = queue.receive(33, wait=NOW)
    assert len({each.body for each in found}) == len(found) == 33
    assert len(queue.receive(50, wait=NOW)) == 7
    assert queue.receive(0, wait=NOW) == []


def test_receive_returns_the_messages_of_other_requests(queue: RequestQueue, service: RequestService) -> None:
    queue.send(bodies(20))
    service.faults = failing("receive", 2, 4)
    assert len(queue.receive(20, wait=NOW)) == 15
    service.faults = failing("receive", 0)
    with pytest.raises(ProviderError, match="receive failed"):
        queue.receive(20, wait=NOW)


def test_expired_lease_never_reaches_the_service(
    queue: RequestQueue, open_queue: Callable[[], RequestQueue], service: RequestService
) -> None:
    queue.send([b"task"])
    old = received(queue, 1)
    service.now += 61
    other = open_queue()
    new = received(other, 1)
    before = len(service.requests)
    assert queue.ack(old) == queue.release(old) == queue.extend(old, lease=MINUTE) == old
    assert queue.ack(new) == new
    assert len(service.requests) == before
    assert other.ack(new) == []


def test_ack_of_a_redelivered_message_by_the_former_lease_is_lost(queue: RequestQueue, service: RequestService) -> None:
    queue.send([b"task"])
    (old,) = received(queue, 1)
    # The service delivers it again early, as services do.
    next(iter(service.queues["queue"].values())).visible_at = 0.0
    (new,) = received(queue, 1)
    assert queue.ack([old]) == [old]
    assert queue.ack([new]) == []


def test_failed_request_leaves_other_leases_settled(queue: RequestQueue, service: RequestService) -> None:
    queue.send(bodies(9))
    leases = received(queue, 9)
    service.faults = failing("ack", 1)
    with pytest.raises(ProviderError, match="ack failed"):
        queue.ack(leases)
    # Six were acked, and are lost for a second ack; the other three are still held.
    assert len(queue.ack(leases)) == 6
    assert queue.depth().in_flight == 0


def test_settle_reports_refused_leases_as_lost_and_busy_ones_as_error(
    queue: RequestQueue, service: RequestService
) -> None:
    queue.send(bodies(3))
    leases = received(queue, 3)
    service.faults = lambda action, count: {0: Refused("unknown receipt", transient=False)} if count == 3 else {}
    assert queue.ack(leases) == leases[:1]
    requests = len(service.requests)
    assert queue.ack(leases) == leases
    assert len(service.requests) == requests
    queue.send(bodies(2))
    leases = received(queue, 2)
    service.faults = lambda action, count: {count - 1: Refused("busy")}
    with pytest.raises(ProviderError, match="busy") as caught:
        queue.ack(leases)
    assert caught.value.transient
    service.faults = lambda action, count: {}
    assert queue.ack(leases) == leases[:1]


def test_settle_on_a_deleted_queue_loses_every_lease(queue: RequestQueue) -> None:
    queue.send(bodies(7))
    leases = received(queue, 7)
    queue.delete()
    assert sorted(queue.extend(leases, lease=MINUTE)) == sorted(leases)


def test_extend_rounds_up_to_whole_seconds_within_the_limit(queue: RequestQueue, service: RequestService) -> None:
    queue.send([b"task"])
    leases = received(queue, 1)
    (message,) = service.queues["queue"].values()
    for lease, seconds in ((timedelta(seconds=2.1), 3), (timedelta(milliseconds=1), 1), (timedelta(days=1), 3600)):
        assert queue.extend(leases, lease=lease) == []
        assert message.visible_at == service.now + seconds


def test_extend_stops_before_the_total_lease(service: RequestService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("request_service.TRAITS", attrs.evolve(TRAITS, total_lease=timedelta(minutes=10)))
    queue = RequestQueue(service, QueueContext(job_id="job", name="queue", lease=MINUTE))
    queue.create()
    queue.send([b"task"])
    leases = received(queue, 1)
    started = service.now
    (message,) = service.queues["queue"].values()
    while not queue.extend(leases, lease=MINUTE):
        service.now += 20
    assert 540 < service.now - started <= 600
    requests = len(service.requests)
    assert queue.ack(leases) == leases
    assert len(service.requests) == requests
    assert message.visible_at <= started + 600


def test_release_with_a_delay_hides_the_message(queue: RequestQueue, service: RequestService) -> None:
    queue.send([b"task"])
    assert queue.release(received(queue, 1), delay=timedelta(seconds=9.5)) == []
    service.now += 9.9
    assert queue.receive(1, wait=NOW) == []
    service.now += 0.1
    assert [each.delivery_count for each in queue.receive(1, wait=NOW)] == [2]
