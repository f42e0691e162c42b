"""Offers for a configuration: instance types and prices of the provider, filtered and ranked. Read-only."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from cloud_tasks.config import JobConfig
from cloud_tasks.controller.setup.open_backends import open_compute, open_pricing
from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.model import Headroom
from cloud_tasks.plugin import Compute
from cloud_tasks.selection import Prefer, RankedOffer, Ranking, rank

__all__ = ["ask_headroom", "rank_offers", "require_offer"]

log = structlog.get_logger()


def rank_offers(config: JobConfig, job_id: str = "") -> Ranking:
    """Rank the provider's offers by the constraints, limits and preference of a configuration."""
    # A machine of the user is what it is; types to be rented are chosen.
    is_rented = not config.registry.compute(config.compute).traits.shares_files
    with open_compute(config, job_id) as compute, open_pricing(config) as pricing:
        return rank(
            compute.instance_types(),
            config.constraints(),
            config.limits(),
            pricing.price,
            prefer=Prefer(config.run.prefer),
            speed=config.run.cpu_family_speed,
            spot_fallback=config.run.spot_fallback,
            leave_out=is_rented,
        )


def ask_headroom(config: JobConfig, offers: Sequence[RankedOffer], job_id: str = "") -> tuple[Headroom | None, ...]:
    """Return how many more instances of each offer the account's quotas allow; None where not reported."""
    if not offers:
        return ()
    with open_compute(config, job_id) as compute:
        return tuple(_headroom(compute, ranked) for ranked in offers)


def _headroom(compute: Compute, ranked: RankedOffer) -> Headroom | None:
    try:
        return compute.headroom(ranked.offer)
    except ProviderError as error:
        # A plan without quotas is better than none.
        log.warning(f"Quotas for {ranked.offer.instance_type.name} could not be read: {error}")
        return None


def require_offer(ranking: Ranking) -> Ranking:
    """Return the same ranking, or raise `InputError` with the first reasons if it has no offer."""
    if not ranking.offers:
        reasons = "; ".join(f"{r.instance_type}: {r.reason}" for r in ranking.rejected[:3])
        more = f" (and {len(ranking.rejected) - 3} more)" if len(ranking.rejected) > 3 else ""
        raise InputError(
            f"no instance type satisfies the constraints: {reasons or 'the provider has none'}{more}",
            hint="relax the constraints of `run`",
        )
    return ranking
