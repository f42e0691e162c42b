"""Offers for a configuration: instance types and prices of the provider, filtered and ranked. Read-only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import attrs
import structlog

from cloud_tasks.config import JobConfig
from cloud_tasks.controller.autoscaler.price_refresh import CurrentPrices
from cloud_tasks.controller.setup.open_backends import open_compute, open_pricing
from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.model import BootDisk, Constraints, Headroom, Image, InstanceType, Offer, OfferRequest
from cloud_tasks.plugin import Compute, ImageLookup, Pricing
from cloud_tasks.selection import Prefer, RankedOffer, Ranking, boot_disk_gb, rank
from cloud_tasks.store import InstanceRecord

__all__ = ["ask_headroom", "current_prices", "fit_disk", "price_interval", "rank_offers", "require_offer"]

log = structlog.get_logger()

_REQUESTS_PER_AGE = 4
"""Requests for prices within their maximum age, so that a cache that is refreshed at this age is not much older."""


def rank_offers(config: JobConfig, job_id: str = "") -> Ranking:
    """Rank the provider's offers by the constraints, limits and preference of a configuration."""
    with open_compute(config, job_id) as compute, open_pricing(config) as pricing:
        try:
            image = _find_image(config, compute)
        except ProviderError as error:
            log.warning(f"The size of the boot image could not be read, so the boot disk may be too small: {error}")
            image = None
        return _rank(config, compute.instance_types(), pricing, image)


def _rank(config: JobConfig, types: Sequence[InstanceType], pricing: Pricing, image: Image | None) -> Ranking:
    wanted = config.constraints()
    ranking = rank(
        types,
        wanted if image is None else fit_disk(wanted, image),
        config.limits(),
        pricing.price,
        prefer=Prefer(config.run.prefer),
        speed=config.run.cpu_family_speed,
        spot_fallback=config.run.spot_fallback,
        # The user's own machine is what it is; instances to be rented are chosen.
        leave_out=not config.registry.compute(config.compute).traits.shares_files,
    )
    note = None if image is None else _disk_note(ranking, wanted, image)
    return attrs.evolve(ranking, notes=(*ranking.notes, note)) if note else ranking


def fit_disk(wanted: Constraints, image: Image) -> Constraints:
    """Return the constraints with boot disks that are at least as large as their image."""
    return attrs.evolve(wanted, total_boot_disk_size=max(wanted.total_boot_disk_size or 0.0, image.min_disk_gb or 0.0))


def _find_image(config: JobConfig, compute: Compute) -> Image | None:
    """Return the boot image; None where the provider does not describe it. Raises `InputError` if there is none."""
    if not isinstance(compute, ImageLookup):
        return None
    return compute.find_image(config.run.image, config.constraints().architecture)


def _disk_note(ranking: Ranking, wanted: Constraints, image: Image) -> str | None:
    """Return that the boot disk of the best offer is as large as its image, and not smaller as configured."""
    if not ranking.offers:
        return None
    best = ranking.offers[0]
    size, configured = best.offer.boot_disk.size_gb, boot_disk_gb(best.offer.instance_type.vcpus, best.slots, wanted)
    if size <= configured:
        return None
    return f"Boot disk of {size:g} GB instead of {configured:g} GB (total_boot_disk_size): image {image.name} needs it"


def current_prices(config: JobConfig, compute: Compute, running: Sequence[InstanceRecord]) -> CurrentPrices:
    """Rank the offers again, and return the current prices of running instances."""
    types = compute.instance_types()
    requests = _requests(config.constraints(), types, running)
    try:
        image = _find_image(config, compute)
    except ProviderError as error:
        # An outage must not make the disks smaller; what was unknown at the start is unknown now.
        if error.transient:
            raise
        image = None
    with open_pricing(config) as pricing:
        ranking = _rank(config, types, pricing, image)
        answers = pricing.price(tuple(requests.values())) if requests else ()
    return CurrentPrices(
        offers=ranking.offers,
        instances={
            token: answer.price_per_hour
            for token, answer in zip(requests, answers, strict=True)
            if isinstance(answer, Offer)
        },
        reason="" if ranking.offers else _first_reasons(ranking),
    )


def _requests(
    constraints: Constraints, types: Sequence[InstanceType], running: Sequence[InstanceRecord]
) -> dict[str, OfferRequest]:
    """Return the requests for the prices of instances, by client token."""
    known = {each.name: each for each in types}
    return {
        record.client_token: OfferRequest(
            instance_type=known[record.instance_type],
            zone=record.zone,
            provisioning_model=record.provisioning_model,
            boot_disk=BootDisk(
                disk_type=record.boot_disk_type,
                size_gb=record.boot_disk_gb,
                iops=constraints.boot_disk_iops,
                throughput_mb_s=constraints.boot_disk_throughput,
            ),
        )
        for record in running
        if record.instance_type in known
    }


def price_interval(config: JobConfig) -> timedelta | None:
    """Return the time between two requests for prices while a job runs; None if they do not change."""
    max_age = config.registry.pricing(config.pricing).max_age
    if max_age is None:
        return None
    age = max_age(config.settings_for("pricing", config.pricing), config.constraints().provisioning_model)
    return max(age / _REQUESTS_PER_AGE, timedelta(seconds=config.run.scaling_check_interval))


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


def require_offer(ranking: Ranking, config: JobConfig) -> Ranking:
    """Return the same ranking.

    Raises:
        InputError: It has no offer, with the first reasons; or the best one has GPUs, for which the provider's default
            image has no driver.
    """
    if not ranking.offers:
        raise InputError(
            f"no instance type satisfies the constraints: {_first_reasons(ranking)}",
            hint="relax the constraints of `run`",
        )
    best = ranking.offers[0].offer.instance_type
    if best.gpu_count and config.run.image is None and not config.registry.compute(config.compute).traits.shares_files:
        raise InputError(
            f"run.image: {best.name} has a GPU, and the provider's default image has no driver for it",
            where=str(config.file or ""),
            hint="set run.image to an image with a GPU driver, or to one on which the startup script installs it "
            "(`cloud-tasks list-images`)",
        )
    return ranking


def _first_reasons(ranking: Ranking) -> str:
    """Return why the first types are rejected, of a ranking without offers."""
    reasons = "; ".join(f"{r.instance_type}: {r.reason}" for r in ranking.rejected[:3])
    more = f" (and {len(ranking.rejected) - 3} more)" if len(ranking.rejected) > 3 else ""
    return f"{reasons or 'the provider has none'}{more}"
