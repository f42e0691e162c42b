"""Pricing by a formula, for providers without a price list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from cloud_tasks.model import Offer, OfferRequest, PriceBreakdown, Unpriced

__all__ = ["FlatPricing"]


class FlatPricing:
    """A `Pricing` whose prices come from the settings.

    Args:
        price: Return the price of an offer, or the reason why it is not available: ``no spot instances in main``.
    """

    def __init__(self, price: Callable[[OfferRequest], PriceBreakdown | str]) -> None:
        self._price = price

    def price(self, requests: Sequence[OfferRequest]) -> Sequence[Offer | Unpriced]:
        """Implement `Pricing.price`."""
        return tuple(self._answer(request) for request in requests)

    def close(self) -> None:
        """Do nothing: no resource stays open."""

    def _answer(self, request: OfferRequest) -> Offer | Unpriced:
        price = self._price(request)
        if isinstance(price, str):
            return Unpriced(request=request, reason=price)
        return Offer(
            instance_type=request.instance_type,
            zone=request.zone,
            provisioning_model=request.provisioning_model,
            boot_disk=request.boot_disk,
            price=price,
            priced_at=datetime.now(UTC),
        )
