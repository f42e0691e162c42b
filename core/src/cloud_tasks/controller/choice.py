"""Which machines a configuration would buy: asks the provider what there is and what it costs, changes nothing."""

from __future__ import annotations

from cloud_tasks.config import JobConfig
from cloud_tasks.controller.opening import open_compute, open_pricing
from cloud_tasks.errors import InputError
from cloud_tasks.selection import Prefer, Ranking, rank

__all__ = ["rank_offers", "require_offer"]


def rank_offers(config: JobConfig, job_id: str = "") -> Ranking:
    """Rank what the provider offers by the constraints, limits and preference of a configuration."""
    with open_compute(config, job_id) as compute, open_pricing(config) as pricing:
        return rank(
            compute.instance_types(),
            config.constraints(),
            config.limits(),
            pricing.price,
            prefer=Prefer(config.run.prefer),
            spot_fallback=config.run.spot_fallback,
        )


def require_offer(ranking: Ranking) -> Ranking:
    """The same ranking. Raises `InputError`, with the first reasons, when it has no offer."""
    if not ranking.offers:
        reasons = "; ".join(f"{r.instance_type}: {r.reason}" for r in ranking.rejected[:3])
        more = f" (and {len(ranking.rejected) - 3} more)" if len(ranking.rejected) > 3 else ""
        raise InputError(
            f"no instance type satisfies the constraints: {reasons or 'the provider has none'}{more}",
            hint="relax the constraints of `run`",
        )
    return ranking
