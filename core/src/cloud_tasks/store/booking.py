"""Booking: the time for which an instance counts as billed.

An instance is booked from its request; one that the provider did not start at once (`InstanceState.PENDING`), or whose
start it names, from its start (`InstanceRecord.pending_until`)

- to its end, if a controller saw it: a listing that no longer had it, or that names an earlier end;
- until now, as long as it may still run;
- but only until its own end (`InstanceRecord.ends_by`), since it may have ended long before the next listing. A listing
  that shows it after that time, or a later event of its worker, disproves it: then it is booked until a listing no
  longer has it.

Invariants, each with a test:

1. At least the time that can have been billed is booked. An instance whose end was not seen is booked until its own
   end, not only until it was last listed; one without an own end (``max_lifetime: unlimited``, a provider that does
   not enforce lifetimes) until a listing no longer has it.
2. No time after an own end is booked unless later evidence disproves it, however late the end is noticed.
3. Setting the clock back between two runs lowers no cost (`JobClock`).
4. All figures (limits, status, report, timeline) use this time.
5. No time is booked while an instance is pending. From the last listing that shows it pending on, it can have started:
   that time is booked once a later listing, or an event, shows that it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from cloud_tasks.model import Money
from cloud_tasks.store.db.times import UNKNOWN_TIME
from cloud_tasks.store.records import InstanceRecord

__all__ = ["booked_since", "booked_until", "mean_price", "present_price", "running_cost"]

_HOUR_IN_MICROSECONDS = Decimal(3_600_000_000)
_ANSWER_TIME = timedelta(minutes=1)
_MICROSECOND = timedelta(microseconds=1)


def booked_since(record: InstanceRecord, now: datetime) -> datetime:
    """Return the time from which an instance is booked; ``now`` if it is pending, or the time cannot be read."""
    if record.is_pending:
        return now
    since = record.pending_until or record.launched_at or record.intended_at
    return now if since == UNKNOWN_TIME else since


def booked_until(record: InstanceRecord, now: datetime) -> datetime:
    """Return the time until which an instance is booked: its recorded end, else ``now`` or its own end."""
    if record.ended_at is not None:
        return record.ended_at
    own_end, heartbeat = record.ends_by, record.last_heartbeat
    # The clock of a worker may be ahead.
    if own_end is None or own_end >= now or (heartbeat is not None and min(heartbeat, now) > own_end):
        return now
    return own_end


def present_price(records: Iterable[InstanceRecord], now: datetime | None = None) -> Money:
    """Return what the living instances cost per hour; pending ones cost nothing yet.

    A launch without an answer counts when the answer is overdue: until then, its instance may turn out to be pending.
    Without the present time, it counts at once.
    """
    running = (
        record
        for record in records
        if record.ended_at is None
        and not record.is_pending
        and (record.launched_at is not None or now is None or now - record.intended_at > _ANSWER_TIME)
    )
    return sum((record.price_per_hour for record in running), Money.zero())


def running_cost(record: InstanceRecord, now: datetime) -> Decimal:
    """Return the cost of an instance until ``now``, in US dollars."""
    until = booked_until(record, now)
    uptime = max((until - booked_since(record, until)) // _MICROSECOND, 0)
    cost = record.price_per_hour.usd * Decimal(uptime) / _HOUR_IN_MICROSECONDS
    return max(cost - record.rebate.usd, Decimal(0)) if record.rebate else cost


def mean_price(record: InstanceRecord, now: datetime) -> float:
    """Return the mean price of an instance per hour of its booked time, in US dollars."""
    until = booked_until(record, now)
    hours = (until - booked_since(record, until)).total_seconds() / 3600
    return float(running_cost(record, now)) / hours if record.rebate and hours > 0 else float(record.price_per_hour.usd)
