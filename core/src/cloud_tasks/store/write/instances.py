"""The instances of a job and their cost.

Invariants, each with a test:

1. Money is exact: prices are stored as decimal text and added as decimals.
2. A launch for which the provider selects the offer costs as much as the most expensive one, until the offer is known.
3. A launch is charged from its request (without an answer yet, from its intent), by the clock of the controller alone,
   for the time that `booking` defines; a failed launch costs nothing.
4. The cost of a terminated instance is added to the spending once, and removed if the instance is found running again.
5. The price of a running instance only rises, and the higher price holds from then on: what it has cost stays the same.
6. A listed state is written for known instances that have not terminated: it ends, revives and adopts none.
7. An instance that certainly never started costs nothing: the provider says so, or this job canceled it within minutes
   of a listing in which it was pending. Another one that ends unseen is booked from that listing.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import attrs

from cloud_tasks.model import Instance, InstanceState, LaunchRequest, Money, ProvisioningModel
from cloud_tasks.store.booking import booked_since, booked_until, running_cost
from cloud_tasks.store.db.batch_insert import chunks
from cloud_tasks.store.db.times import from_unix, from_unix_or_none, to_unix
from cloud_tasks.store.listed import observed
from cloud_tasks.store.records import InstanceRecord, TypeCost

__all__ = [
    "console_of",
    "costs",
    "count_live",
    "ended_cost",
    "mark_ended",
    "mark_launch_failed",
    "mark_launched",
    "mark_listed",
    "raise_prices",
    "read_instances",
    "read_worker_totals",
    "with_worker",
    "write_console",
    "write_intent",
]

_LONG_UNSEEN = timedelta(minutes=10)
"""Time after a launch without an answer from which an instance may have ended before the first listing."""
_RECENT = timedelta(minutes=10)
"""Time after a listing with a pending instance within which its cancelation means that it never started."""


def write_intent(
    connection: sqlite3.Connection, request: LaunchRequest, now: datetime, slots: int, own_end: timedelta | None
) -> None:
    """Insert a launch before it is requested; a known token changes nothing."""
    deadline = None if request.max_lifetime is None else now + request.max_lifetime
    ends_by = None if deadline is None or own_end is None else deadline + own_end
    offer = request.offer
    offers = (offer, *request.alternatives)
    choices = [[each.instance_type.name, each.zone, str(each.price_per_hour.usd)] for each in offers]
    connection.execute(
        "INSERT INTO instances (client_token, instance_type, zone, purchase, boot_disk_type, boot_disk_gb, vcpus, "
        "slots, price_per_hour, intended_at, deadline, ends_by, choices) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (client_token) DO NOTHING",
        (
            request.client_token,
            offer.instance_type.name,
            offer.zone,
            offer.provisioning_model.value,
            offer.boot_disk.disk_type,
            offer.boot_disk.size_gb,
            offer.instance_type.vcpus,
            slots,
            str(max(each.price_per_hour for each in offers).usd),
            to_unix(now),
            None if deadline is None else to_unix(deadline),
            None if ends_by is None else to_unix(ends_by),
            json.dumps(choices) if request.alternatives else "[]",
        ),
    )


def renew_intents(connection: sqlite3.Connection, tokens: Iterable[str], now: datetime) -> None:
    """Count launches that have not been called from now on; those with an answer keep their times."""
    connection.executemany(
        "UPDATE instances SET intended_at = :now, deadline = deadline + :now - intended_at, "
        "ends_by = ends_by + :now - intended_at WHERE client_token = :token AND instance_id IS NULL "
        "AND ended_at IS NULL",
        [{"token": token, "now": to_unix(now)} for token in tokens],
    )


def mark_launched(
    connection: sqlite3.Connection,
    token: str,
    instance: Instance,
    requested_at: datetime | None = None,
    answered_at: datetime | None = None,
) -> None:
    """Record that a launch succeeded: it was answered, or its instance was found in a listing.

    It is charged from its request, by the clock that also records its end; None: from its intent. Its lifetime may have
    begun as late as the answer.

    A launch that was recorded as failed or terminated runs again. A launch without an intent is ignored.
    """
    _revive(connection, token)
    changed = connection.execute(
        "UPDATE instances SET instance_id = ?, launched_at = coalesce(?, launched_at, intended_at), "
        "ends_by = ends_by + max(coalesce(? - intended_at, 0), 0), zone = ? WHERE client_token = ?",
        (
            instance.instance_id,
            None if requested_at is None else to_unix(requested_at),
            None if answered_at is None else to_unix(answered_at),
            instance.zone,
            token,
        ),
    ).rowcount
    if changed:
        _set_selected_offer(connection, token, instance)
        (record,) = _read(connection, "client_token = ?", token)
        # An answer that took long shows no later state than that at the call.
        is_pending = instance.state is InstanceState.PENDING
        seen_at = (requested_at or answered_at) if is_pending else (answered_at or requested_at)
        mark_listed(connection, [observed(record, instance, seen_at)])


def _set_selected_offer(connection: sqlite3.Connection, token: str, instance: Instance) -> None:
    """Record which of the alternatives the provider selected, with its price."""
    (choices,) = connection.execute("SELECT choices FROM instances WHERE client_token = ?", (token,)).fetchone()
    for instance_type, zone, price in json.loads(choices):
        if (instance_type, zone) == (instance.instance_type, instance.zone):
            connection.execute(
                "UPDATE instances SET instance_type = ?, price_per_hour = ? WHERE client_token = ?",
                (instance_type, price, token),
            )


def mark_launch_failed(
    connection: sqlite3.Connection, token: str, reason: str, *, unlisted_at: datetime | None = None
) -> None:
    """Record that a launch failed: it ends at its intent and costs nothing.

    Args:
        unlisted_at: Time of the first listing that refutes a launch of unknown outcome. If that is late, its instance
            may have existed and ended before: it is booked.
    """
    record = _read_one(connection, "client_token = ? AND ended_at IS NULL AND instance_id IS NULL", token)
    if record is None:
        return
    is_late = unlisted_at is not None and unlisted_at - record.intended_at > _LONG_UNSEEN
    ended = _end_of(record, unlisted_at, None) if unlisted_at is not None and is_late else record.intended_at
    connection.execute(
        "UPDATE instances SET ended_at = ?, end_reason = ? WHERE client_token = ?", (to_unix(ended), reason, token)
    )
    if is_late:
        _add_spending(connection, attrs.evolve(record, ended_at=ended), ended, sign=1)


def mark_listed(connection: sqlite3.Connection, records: Iterable[InstanceRecord]) -> None:
    """Write what a listing shows about living instances (`observed`); terminated ones keep theirs."""
    connection.executemany(
        "UPDATE instances SET state = ?, pending_until = ?, started_at = ?, state_reason = ?, deadline = ?, "
        "ends_by = ? WHERE client_token = ? AND ended_at IS NULL",
        [
            (
                None if record.state is None else record.state.value,
                *map(_unix_or_none, (record.pending_until, record.started_at)),
                record.reason,
                *map(_unix_or_none, (record.deadline, record.ends_by)),
                record.client_token,
            )
            for record in records
        ],
    )


def _unix_or_none(moment: datetime | None) -> float | None:
    return None if moment is None else to_unix(moment)


def mark_ended(
    connection: sqlite3.Connection,
    instance_id: str,
    when: datetime,
    reason: str,
    *,
    ended_at: datetime | None = None,
    is_canceled: bool = False,
) -> None:
    """Record that an instance was found to have ended, at its own end if that is earlier; the first record counts.

    Args:
        ended_at: Its end as the provider names it, by the clock of the job.
        is_canceled: Whether this job terminated it.
    """
    record = _read_one(connection, "instance_id = ? AND ended_at IS NULL", instance_id)
    if record is None:
        return
    ended = _end_of(record, when, ended_at)
    last = record.pending_until
    if record.is_pending and last is not None and (ended_at or (is_canceled and when - last <= _RECENT)):
        record = attrs.evolve(record, pending_until=ended)
    record = attrs.evolve(record, ended_at=ended)
    connection.execute(
        "UPDATE instances SET ended_at = ?, end_reason = ?, state = ?, pending_until = ? WHERE instance_id = ?",
        (to_unix(ended), reason, InstanceState.TERMINATED.value, _unix_or_none(record.pending_until), instance_id),
    )
    _add_spending(connection, record, ended, sign=1)


def _end_of(record: InstanceRecord, when: datetime, named: datetime | None) -> datetime:
    """Return the end of an instance that was found to have ended: its own end or the named one, if earlier."""
    launch = record.launched_at or record.intended_at
    since = max(record.pending_until or launch, launch)
    if record.is_pending:
        lifetime = None if record.ends_by is None else record.ends_by - record.intended_at
        latest = when if lifetime is None else min(when, since + lifetime)
    else:
        latest = booked_until(record, when)
    if named is not None:
        # The clock of a worker may differ: its events count as far as they are not after the listing.
        heartbeat = since if record.last_heartbeat is None else min(record.last_heartbeat, when)
        latest = min(latest, max(named, heartbeat))
    return max(latest, since)


def write_console(connection: sqlite3.Connection, instance_id: str, log: str) -> None:
    """Write the last output of an instance; the first one counts."""
    connection.execute("INSERT OR IGNORE INTO consoles (instance_id, log) VALUES (?, ?)", (instance_id, log))


def console_of(connection: sqlite3.Connection, instance_id: str) -> str | None:
    """Return the last output of an instance; None if it was not saved."""
    row = connection.execute("SELECT log FROM consoles WHERE instance_id = ?", (instance_id,)).fetchone()
    return None if row is None else str(row[0])


def raise_prices(connection: sqlite3.Connection, prices: Mapping[str, Money], now: datetime) -> None:
    """Book running instances at a higher price from now on; a lower price changes nothing.

    Args:
        prices: Current price per hour by client token; launches without an answer keep theirs.
    """
    for record in read_instances(connection, prices):
        more = prices[record.client_token].usd - record.price_per_hour.usd
        if more > 0 and record.ended_at is None and record.launched_at is not None:
            # What it has cost stays the same: the rise is taken off the time until now.
            until = booked_until(record, now)
            raised = attrs.evolve(record, price_per_hour=Money(more), rebate=Money.zero())
            rebate = record.rebate.usd + running_cost(raised, until)
            connection.execute(
                "UPDATE instances SET price_per_hour = ?, rebate = ? WHERE client_token = ?",
                (str(prices[record.client_token].usd), str(rebate), record.client_token),
            )


def _revive(connection: sqlite3.Connection, token: str) -> None:
    record = _read_one(connection, "client_token = ? AND ended_at IS NOT NULL", token)
    if record is None:
        return
    if record.ended_at is not None and (record.launched_at is not None or record.ended_at > record.intended_at):
        _add_spending(connection, record, record.ended_at, sign=-1)
    connection.execute("UPDATE instances SET ended_at = NULL, end_reason = '' WHERE client_token = ?", (token,))


def _add_spending(connection: sqlite3.Connection, record: InstanceRecord, ended_at: datetime, *, sign: int) -> None:
    key = (record.instance_type, record.provisioning_model.value)
    count, total, cost = connection.execute(
        "SELECT instances, seconds, cost FROM spending WHERE instance_type = ? AND purchase = ?", key
    ).fetchone() or (0, 0.0, "0")
    seconds = (ended_at - booked_since(record, ended_at)).total_seconds()
    spent = Decimal(cost) + sign * running_cost(record, ended_at)
    connection.execute(
        "INSERT OR REPLACE INTO spending (instance_type, purchase, instances, seconds, cost) VALUES (?, ?, ?, ?, ?)",
        (*key, count + sign, total + sign * seconds, str(spent)),
    )


def costs(connection: sqlite3.Connection, now: datetime) -> tuple[TypeCost, ...]:
    """Return the cost by instance type and provisioning model until ``now``, the most expensive first."""
    sums: dict[tuple[str, ProvisioningModel], tuple[int, float, Decimal]] = {
        (row[0], _model(row[1])): (row[2], row[3], Decimal(row[4]))
        for row in connection.execute("SELECT instance_type, purchase, instances, seconds, cost FROM spending")
    }
    for record in _read(connection, "ended_at IS NULL"):
        key = (record.instance_type, record.provisioning_model)
        until = booked_until(record, now)
        seconds = max((until - booked_since(record, until)).total_seconds(), 0.0)
        count, total, cost = sums.get(key, (0, 0.0, Decimal(0)))
        sums[key] = (count + 1, total + seconds, cost + running_cost(record, now))
    lines = [
        TypeCost(instance_type=name, provisioning_model=model, instances=count, hours=seconds / 3600, cost=Money(cost))
        for (name, model), (count, seconds, cost) in sums.items()
    ]
    return tuple(sorted(lines, key=lambda line: (-line.cost.usd, line.instance_type, line.provisioning_model.value)))


def count_live(connection: sqlite3.Connection) -> int | None:
    """Return how many instances run or were requested; None if no launch was ever recorded."""
    (live,) = connection.execute("SELECT count(*) FROM instances WHERE ended_at IS NULL").fetchone()
    return live if live or connection.execute("SELECT 1 FROM instances LIMIT 1").fetchone() else None


def ended_cost(connection: sqlite3.Connection) -> Decimal:
    """Return the cost of the terminated instances, in US dollars."""
    return sum((Decimal(cost) for (cost,) in connection.execute("SELECT cost FROM spending")), Decimal(0))


_WORKER_TOTALS = """
SELECT instance_id, max(hostname) AS hostname, max(last_heard) AS last_heard, max(last_busy) AS last_busy,
    sum(running) AS running, sum(finished) AS finished, sum(completed) AS completed,
    min(spot_terminated_at) AS spot_terminated_at
FROM hosts WHERE instance_id {condition} GROUP BY instance_id
"""
_READ = "SELECT * FROM instances AS i {condition} ORDER BY i.intended_at, i.rowid"


def read_instances(
    connection: sqlite3.Connection, client_tokens: Collection[str] | None = None
) -> tuple[InstanceRecord, ...]:
    """Return the launches of the job, including failed and terminated ones, the oldest first.

    Args:
        client_tokens: Restrict to these launches; None for all.
    """
    if client_tokens is None:
        return _read(connection)
    found = (_read(connection, f"client_token IN ({places})", *values) for places, values in chunks(client_tokens))
    return tuple(itertools.chain.from_iterable(found))


def _read(connection: sqlite3.Connection, condition: str = "", *values: str) -> tuple[InstanceRecord, ...]:
    where = f"WHERE {condition}" if condition else ""
    cursor = connection.execute(_READ.format(condition=where), values)
    names = [column[0] for column in cursor.description]
    records = [_record(dict(zip(names, row, strict=True))) for row in cursor]
    if condition:
        workers = read_worker_totals(connection, [r.instance_id for r in records if r.instance_id is not None])
    else:
        workers = {row[0]: row[1:] for row in connection.execute(_WORKER_TOTALS.format(condition="!= ''"))}
    return tuple(
        record if (worker := workers.get(record.instance_id or "")) is None else with_worker(record, worker)
        for record in records
    )


def _read_one(connection: sqlite3.Connection, condition: str, value: str) -> InstanceRecord | None:
    return next(iter(_read(connection, condition, value)), None)


def read_worker_totals(connection: sqlite3.Connection, instance_ids: Collection[str]) -> dict[str, tuple[Any, ...]]:
    """Return, for each of these instances with events, the argument of `with_worker`."""
    found: dict[str, tuple[Any, ...]] = {}
    for places, ids in chunks(instance_ids):
        rows = connection.execute(_WORKER_TOTALS.format(condition=f"IN ({places})"), ids)
        found.update((row[0], row[1:]) for row in rows)
    return found


def with_worker(record: InstanceRecord, worker: tuple[Any, ...]) -> InstanceRecord:
    """Return the record with the current values of its worker."""
    hostname, last_heartbeat, last_busy, running, finished, completed, spot_terminated_at = worker
    # Explicit arguments: this runs for every instance in each scaling check; `attrs.evolve` takes five times as long.
    return InstanceRecord(
        client_token=record.client_token,
        instance_id=record.instance_id,
        instance_type=record.instance_type,
        zone=record.zone,
        provisioning_model=record.provisioning_model,
        boot_disk_type=record.boot_disk_type,
        boot_disk_gb=record.boot_disk_gb,
        vcpus=record.vcpus,
        slots=record.slots,
        price_per_hour=record.price_per_hour,
        rebate=record.rebate,
        intended_at=record.intended_at,
        launched_at=record.launched_at,
        ended_at=record.ended_at,
        end_reason=record.end_reason,
        deadline=record.deadline,
        ends_by=record.ends_by,
        state=record.state,
        pending_until=record.pending_until,
        started_at=record.started_at,
        reason=record.reason,
        hostname=hostname or "",
        last_heartbeat=from_unix_or_none(last_heartbeat),
        last_busy=from_unix_or_none(last_busy),
        running_tasks=running or 0,
        tasks_finished=finished or 0,
        tasks_completed=completed or 0,
        spot_terminated_at=from_unix_or_none(spot_terminated_at),
    )


def _model(text: object) -> ProvisioningModel:
    """Return a provisioning model; on-demand for one that this version does not know."""
    return next((model for model in ProvisioningModel if model.value == text), ProvisioningModel.ON_DEMAND)


def _record(row: Mapping[str, Any]) -> InstanceRecord:
    return InstanceRecord(
        client_token=row["client_token"],
        instance_id=row["instance_id"],
        instance_type=row["instance_type"],
        zone=row["zone"],
        provisioning_model=_model(row["purchase"]),
        boot_disk_type=row["boot_disk_type"],
        boot_disk_gb=row["boot_disk_gb"],
        vcpus=row["vcpus"],
        slots=row["slots"],
        price_per_hour=Money(row["price_per_hour"]),
        rebate=Money(row.get("rebate", "0")),
        intended_at=from_unix(row["intended_at"]),
        launched_at=from_unix_or_none(row["launched_at"]),
        ended_at=from_unix_or_none(row["ended_at"]),
        end_reason=row["end_reason"],
        # Databases of earlier versions, opened for reading, have none.
        deadline=from_unix_or_none(row.get("deadline")),
        ends_by=from_unix_or_none(row.get("ends_by")),
        state=next((state for state in InstanceState if state.value == row["state"]), None),
        pending_until=from_unix_or_none(row.get("pending_until")),
        started_at=from_unix_or_none(row.get("started_at")),
        reason=row.get("state_reason") or "",
    )
