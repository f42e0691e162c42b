"""Prices of a running job: requested again when they are old, in another thread.

Invariants, each with a test:

1. The decisions use the offers of the last successful request; a failed one is a warning, once until the next success.
2. The booked price of an instance is the highest since its launch, each from the time of its request on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TypeAlias

import attrs
import structlog

from cloud_tasks.controller.deferred_writes import DeferredWrites
from cloud_tasks.controller.event_loop import Loop, call, sleep
from cloud_tasks.model import Money
from cloud_tasks.quantities import format_span
from cloud_tasks.selection import RankedOffer
from cloud_tasks.store import InstanceRecord, Store

__all__ = ["CurrentPrices", "PriceRefresh", "RequestPrices"]

log = structlog.get_logger()


@attrs.frozen(kw_only=True)
class CurrentPrices:
    """Answer to a request for current prices."""

    offers: tuple[RankedOffer, ...]
    """Ranked, best first."""
    instances: Mapping[str, Money] = attrs.field(factory=dict)
    """Price per hour of running instances, by client token; those without a price are left out."""
    reason: str = ""
    """Why there is no offer; empty if there is one."""


RequestPrices: TypeAlias = Callable[[Sequence[InstanceRecord]], CurrentPrices]
"""Signature of the request, given the running instances; called in another thread."""


class PriceRefresh:
    """Requests the current prices at an interval.

    Args:
        offers: Those of the start of the run, best first.
        request: Returns the current prices; raises if they cannot be read.
        on_offers: Called with the offers of each successful request.
    """

    def __init__(
        self,
        loop: Loop,
        store: Store,
        *,
        offers: Sequence[RankedOffer],
        request: RequestPrices,
        interval: timedelta,
        writes: DeferredWrites,
        on_offers: Callable[[tuple[RankedOffer, ...]], None],
    ) -> None:
        self._loop = loop
        self._store = store
        self._request = request
        self._interval = interval
        self._writes = writes
        self._on_offers = on_offers
        self._offers = offers
        self._warned = ""
        self._is_resumed = bool(self._running())

    async def run(self, is_running: Callable[[], bool]) -> None:
        """Request prices until the end of the run begins; at once for the instances of an earlier run."""
        if self._is_resumed:
            await self._refresh(is_running)
        while True:
            await sleep(self._loop, self._interval)
            if not is_running():
                return
            await self._refresh(is_running)

    def _running(self) -> list[InstanceRecord]:
        return [r for r in self._store.instances() if r.ended_at is None and r.launched_at is not None]

    async def _refresh(self, is_running: Callable[[], bool]) -> None:
        try:
            running = self._running()
            found = await call(self._loop, lambda: self._request(running))
        except Exception as error:
            self._warn("failed", f"Prices could not be read again; the earlier ones are used: {error}")
            return
        if not is_running():
            return
        if found.offers:
            self._warned = ""
        else:
            pause = format_span(self._interval)
            self._warn("none", f"No offer satisfies the constraints any more; next check in {pause}: {found.reason}")
        _log_change(self._offers, found.offers)
        self._offers = found.offers
        self._on_offers(found.offers)
        if found.instances:
            now = self._loop.now()
            self._writes.attempt(lambda: self._store.raise_prices(found.instances, now))

    def _warn(self, kind: str, message: str) -> None:
        if self._warned != kind:
            self._warned = kind
            log.warning(message)


def _log_change(before: Sequence[RankedOffer], now: Sequence[RankedOffer]) -> None:
    """Log a change of the lowest price."""
    if before and now and before[0].offer.price_per_hour != now[0].offer.price_per_hour:
        offer = now[0].offer
        name, price = offer.instance_type.name, offer.price_per_hour.format(6)
        log.info(f"Prices have changed: the best offer is {name} in {offer.zone} at {price}/hour")
