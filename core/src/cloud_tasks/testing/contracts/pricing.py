"""Contract of pricing backends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from cloud_tasks.model import Money, Offer, OfferRequest, Unpriced
from cloud_tasks.plugin import NoSettings, Pricing, PricingBackend, PricingContext
from cloud_tasks.testing.contracts.contract import Contract

__all__ = ["PricingContract", "PricingSubject"]


@attrs.frozen(kw_only=True)
class PricingSubject:
    """A pricing backend under test."""

    backend: PricingBackend
    """Descriptor of the backend, found like an installed plugin: ``Registry(only=[\'name\'])``."""
    requests: Sequence[OfferRequest]
    """At least two different requests with prices."""
    unpriced: OfferRequest | None = None
    """A request without a price, if the provider has any."""
    settings: Any = attrs.field(factory=NoSettings)
    """Settings of the backend."""
    context: PricingContext = attrs.field(factory=PricingContext)
    """Context in which the backend is opened."""

    def open(self) -> AbstractContextManager[Pricing]:
        """Open the backend."""
        return self.backend.open(self.settings, self.context)


def request_in(answer: Offer | Unpriced) -> OfferRequest:
    """Return the request of an answer."""
    if isinstance(answer, Unpriced):
        return answer.request
    return OfferRequest(
        instance_type=answer.instance_type,
        zone=answer.zone,
        provisioning_model=answer.provisioning_model,
        boot_disk=answer.boot_disk,
    )


class PricingContract(Contract):
    """One answer per request, in order; see `cloud_tasks.plugin.Pricing`."""

    @pytest.fixture
    def pricing(self, subject: PricingSubject) -> Iterator[Pricing]:
        with subject.open() as pricing:
            yield pricing

    def test_price_answers_each_request_in_order(self, pricing: Pricing, subject: PricingSubject) -> None:
        wanted = [*subject.requests, *reversed(subject.requests)]
        assert len(wanted) >= 4
        assert [request_in(answer) for answer in pricing.price(wanted)] == wanted

    def test_price_has_amount_and_time(self, pricing: Pricing, subject: PricingSubject) -> None:
        for answer in pricing.price(subject.requests):
            assert isinstance(answer, Offer), answer
            assert answer.price_per_hour >= Money(0)
            assert answer.priced_at.tzinfo is not None
            assert answer.priced_at <= datetime.now(UTC) + timedelta(minutes=5)

    def test_price_of_no_requests_is_empty(self, pricing: Pricing) -> None:
        assert list(pricing.price([])) == []

    def test_price_reports_unpriced_requests_with_a_reason(self, pricing: Pricing, subject: PricingSubject) -> None:
        missing = [subject.unpriced] if subject.unpriced is not None else []
        answers = pricing.price([subject.requests[0], *missing, subject.requests[1]])
        assert len(answers) == 2 + len(missing)
        assert isinstance(answers[0], Offer)
        assert isinstance(answers[-1], Offer)
        for answer in answers[1:-1]:
            assert isinstance(answer, Unpriced)
            assert answer.reason

    def test_price_is_the_same_for_the_same_request(self, pricing: Pricing, subject: PricingSubject) -> None:
        with ThreadPoolExecutor(4) as threads:
            rounds = list(threads.map(pricing.price, [subject.requests] * 4))
        prices = [[answer.price for answer in answers if isinstance(answer, Offer)] for answers in rounds]
        assert all(each == prices[0] for each in prices)
        assert len(prices[0]) == len(subject.requests)

    def test_price_has_no_negative_part(self, pricing: Pricing, subject: PricingSubject) -> None:
        for answer in pricing.price(subject.requests):
            assert isinstance(answer, Offer)
            assert all(part >= Money(0) for part in attrs.astuple(answer.price, recurse=False))
