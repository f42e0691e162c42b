"""Flat price per CPU hour: zero, unless costs are simulated."""

from __future__ import annotations

from cloud_tasks.model import OfferRequest, PriceBreakdown, ProvisioningModel
from cloud_tasks.plugin import PricingContext
from cloud_tasks.plugin.kit import FlatPricing
from cloud_tasks_local.settings import LocalSettings

__all__ = ["open_pricing"]


def open_pricing(settings: LocalSettings, context: PricingContext) -> FlatPricing:
    """Implement `PricingBackend.open`. The CPU price includes memory and disks."""

    def price(request: OfferRequest) -> PriceBreakdown:
        factor = settings.spot_price_factor if request.provisioning_model is ProvisioningModel.SPOT else 1
        return PriceBreakdown(cpu=settings.price_per_cpu_hour * request.instance_type.vcpus * factor)

    return FlatPricing(price)
