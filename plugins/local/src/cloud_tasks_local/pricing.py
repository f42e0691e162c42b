"""Flat price per CPU hour: zero, unless costs are simulated."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from cloud_tasks.model import Offer, OfferRequest, PriceBreakdown, ProvisioningModel, Unpriced
from cloud_tasks.plugin import PricingContext
from cloud_tasks_local.settings import LocalSettings

__all__ = ["FlatPricing", "open_pricing"]


def open_pricing(settings: LocalSettings, context: PricingContext) -> FlatPricing:
    """Implement `PricingBackend.open`."""
    return FlatPricing(settings)


class FlatPricing:
    """The `Pricing` of this machine; the CPU price includes memory and disks."""

    def __init__(self, settings: LocalSettings) -> None:
        self._settings = settings

    def price(self, requests: Sequence[OfferRequest]) -> Sequence[Offer | Unpriced]:
        return tuple(self._offer(request) for request in requests)

    def close(self) -> None:
        """Do nothing: no resource stays open."""

    def _offer(self, request: OfferRequest) -> Offer:
        factor = self._settings.spot_price_factor if request.provisioning_model is ProvisioningModel.SPOT else 1
        return Offer(
            instance_type=request.instance_type,
            zone=request.zone,
            provisioning_model=request.provisioning_model,
            boot_disk=request.boot_disk,
            price=PriceBreakdown(cpu=self._settings.price_per_cpu_hour * request.instance_type.vcpus * factor),
            priced_at=datetime.now(UTC),
        )
