"""Invariants of the lease table."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from structlog.testing import capture_logs

from cloud_tasks.plugin.kit import Held, LeaseTable, since_boot

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(clock: Clock) -> LeaseTable[str]:
    return LeaseTable(clock=clock)


def split(table: LeaseTable[str], *lease_ids: str) -> tuple[list[str], list[str]]:
    held, lost = table.split(lease_ids)
    return [each.lease_id for each in held], lost


def test_lease_is_held_until_it_expires(table: LeaseTable[str], clock: Clock) -> None:
    lease = table.add("receipt", MINUTE)
    clock.now += 59.9
    assert [each.payload for each in table.split([lease])[0]] == ["receipt"]
    clock.now += 0.1
    assert split(table, lease) == ([], [lease])


def test_lease_that_expired_stays_lost_when_the_clock_is_set_back(table: LeaseTable[str], clock: Clock) -> None:
    lease = table.add("receipt", MINUTE)
    clock.now += 61
    split(table, lease)
    clock.now -= 30
    assert split(table, lease) == ([], [lease])


def test_margin_ends_a_lease_earlier(clock: Clock) -> None:
    table: LeaseTable[str] = LeaseTable(margin=timedelta(seconds=5), clock=clock)
    lease = table.add("receipt", MINUTE)
    clock.now += 55
    assert split(table, lease) == ([], [lease])


def test_unknown_and_settled_leases_are_lost(table: LeaseTable[str]) -> None:
    lease = table.add("receipt", MINUTE)
    table.forget([lease, "elsewhere"])
    assert split(table, lease, "elsewhere", lease) == ([], [lease, "elsewhere"])


def test_split_counts_duplicates_once(table: LeaseTable[str]) -> None:
    lease = table.add("receipt", MINUTE)
    assert split(table, lease, "gone", lease, "gone") == ([lease], ["gone"])


def test_lease_ids_differ_for_one_receipt_and_between_tables(table: LeaseTable[str], clock: Clock) -> None:
    other: LeaseTable[str] = LeaseTable(clock=clock)
    ids = [each.add("receipt", MINUTE) for each in (table, table, other)]
    assert len(set(ids)) == 3
    assert split(other, *ids) == ([ids[2]], ids[:2])


def test_new_lease_of_a_key_ends_the_former_one(table: LeaseTable[str]) -> None:
    former = table.add("old", MINUTE, key="message")
    latest = table.add("new", MINUTE, key="message")
    assert split(table, former, latest) == ([latest], [former])
    table.forget([former])
    assert split(table, latest) == ([latest], [])


def test_extended_counts_from_before_the_call(table: LeaseTable[str], clock: Clock) -> None:
    lease = table.add("receipt", MINUTE)
    since = table.now()
    clock.now += 50
    table.extended(table.split([lease])[0][0], MINUTE + MINUTE, since=since)
    clock.now += 69.9
    assert split(table, lease) == ([lease], [])
    clock.now += 0.1
    assert split(table, lease) == ([], [lease])


def test_extended_does_not_revive_a_settled_lease(table: LeaseTable[str]) -> None:
    lease = table.add("receipt", MINUTE)
    (held,), _ = table.split([lease])
    table.forget([lease])
    table.extended(held, HOUR, since=table.now())
    assert split(table, lease) == ([], [lease])


def test_clear_loses_all_leases(table: LeaseTable[str]) -> None:
    leases = [table.add("receipt", MINUTE, key=str(number)) for number in range(3)]
    table.clear()
    assert split(table, *leases) == ([], leases)


def test_total_ends_extensions_with_one_warning(clock: Clock) -> None:
    table: LeaseTable[str] = LeaseTable(total=12 * HOUR, total_margin=timedelta(seconds=30), clock=clock)
    lease = table.add("receipt", MINUTE)
    started, granted, warned_at = clock.now, [], 0.0
    with capture_logs() as lines:
        while held := table.split([lease])[0]:
            granted.append(table.allowed(held[0], MINUTE))
            warned_at = warned_at or (clock.now - started if lines else 0.0)
            table.extended(held[0], granted[-1], since=clock.now)
            clock.now += 20.0
    assert set(granted[:2000]) == {MINUTE}
    assert 11.9 * 3600 < clock.now - started <= 12 * 3600
    assert 11 * 3600 < warned_at < 11.6 * 3600
    assert [line["log_level"] for line in lines] == ["warning"]
    assert "12 hours" in lines[0]["event"]


def test_allowed_without_a_total_is_the_lease(table: LeaseTable[str], clock: Clock) -> None:
    (held,), _ = table.split([table.add("receipt", MINUTE)])
    clock.now += 1e7
    with capture_logs() as lines:
        assert table.allowed(held, HOUR) == HOUR
    assert lines == []


def test_table_holds_no_expired_leases_of_the_past(table: LeaseTable[str], clock: Clock) -> None:
    for number in range(20_000):
        table.add("receipt", MINUTE, key=str(number))
        clock.now += 1.0
    assert len(table) < 2000
    assert len(table._latest) == len(table)


def test_since_boot_does_not_go_backwards() -> None:
    assert 0 < since_boot() <= since_boot()


class Messages(RuleBasedStateMachine):
    """A service with its own state of leases, and two consumers with a table each."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.tables = [LeaseTable[int](clock=self.clock) for _ in range(2)]
        self.holder: dict[int, tuple[int, str]] = {}
        """Consumer and lease id that the service considers current, by message."""
        self.ends_at: dict[int, float] = {}
        self.acked: set[int] = set()

    @rule(target=leases, consumer=st.integers(0, 1), message=st.integers(0, 3), seconds=st.integers(1, 60))
    def receive(self, consumer: int, message: int, seconds: int) -> object:
        if message in self.acked or self.ends_at.get(message, 0.0) > self.clock.now:
            return multiple()
        lease = self.tables[consumer].add(message, timedelta(seconds=seconds), key=str(message))
        self.holder[message] = (consumer, lease)
        self.ends_at[message] = self.clock.now + seconds
        return (consumer, lease)

    @rule(seconds=st.floats(0.1, 40))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(lease=leases, seconds=st.integers(1, 60))
    def extend(self, lease: tuple[int, str], seconds: int) -> None:
        for held in self.held(lease):
            self.tables[lease[0]].extended(held, timedelta(seconds=seconds), since=self.clock.now)
            self.ends_at[held.payload] = self.clock.now + seconds

    @rule(lease=leases)
    def ack(self, lease: tuple[int, str]) -> None:
        for held in self.held(lease):
            self.acked.add(held.payload)
            self.tables[lease[0]].forget([held.lease_id])

    @rule(lease=leases)
    def release(self, lease: tuple[int, str]) -> None:
        for held in self.held(lease):
            self.ends_at[held.payload] = self.clock.now
            self.tables[lease[0]].forget([held.lease_id])

    def held(self, lease: tuple[int, str]) -> list[Held[int]]:
        """Return the lease if its table holds it: the service must then consider it current."""
        consumer, lease_id = lease
        held, lost = self.tables[consumer].split([lease_id])
        assert len(held) + len(lost) == 1
        for each in held:
            assert self.holder[each.payload] == lease
            assert self.ends_at[each.payload] > self.clock.now
            assert each.payload not in self.acked
        return list(held)

    @invariant()
    def one_pair_of_hands(self) -> None:
        held = [
            each.payload
            for consumer, table in enumerate(self.tables)
            for each in table.split([lease for _, (of, lease) in self.holder.items() if of == consumer])[0]
        ]
        assert len(held) == len(set(held))


TestMessages = Messages.TestCase
TestMessages.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
