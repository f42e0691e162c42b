"""What every pricing backend has to do."""

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
    """A pricing backend to be tested."""

    backend: PricingBackend
    requests: Sequence[OfferRequest]
    """Two at least, all different, for which there are prices."""
    unpriced: OfferRequest | None = None
    """One for which there is none, where the provider does not price everything."""
    settings: Any = attrs.field(factory=NoSettings)
    context: PricingContext = attrs.field(factory=PricingContext)

    def open(self) -> AbstractContextManager[Pricing]:
        return self.backend.open(self.settings, self.context)


def request_in(answer: Offer | Unpriced) -> OfferRequest:
    """What an answer answers."""
    if isinstance(answer, Unpriced):
        return answer.request
    return OfferRequest(
        instance_type=answer.instance_type, zone=answer.zone, purchase=answer.purchase, boot_disk=answer.boot_disk
    )


class PricingContract(Contract):
    """One answer per request, in order; see `cloud_tasks.plugin.Pricing`."""

    @pytest.fixture
    def pricing(self, subject: PricingSubject) -> Iterator[Pricing]:
        with subject.open() as pricing:
            yield pricing

    def test_each_request_gets_its_own_answer_in_order(self, pricing: Pricing, subject: PricingSubject) -> None:
        wanted = [*subject.requests, *reversed(subject.requests)]
        assert len(wanted) >= 4
        assert [request_in(answer) for answer in pricing.price(wanted)] == wanted

    def test_prices_are_amounts_with_the_time_they_were_given(self, pricing: Pricing, subject: PricingSubject) -> None:
        for answer in pricing.price(subject.requests):
            assert isinstance(answer, Offer), answer
            assert answer.price_per_hour >= Money(0)
            assert answer.priced_at.tzinfo is not None
            assert answer.priced_at <= datetime.now(UTC) + timedelta(minutes=5)

    def test_nothing_asked_is_nothing_answered(self, pricing: Pricing) -> None:
        assert list(pricing.price([])) == []

    def test_one_without_a_price_says_why_and_stops_no_other(self, pricing: Pricing, subject: PricingSubject) -> None:
        missing = [subject.unpriced] if subject.unpriced is not None else []
        answers = pricing.price([subject.requests[0], *missing, subject.requests[1]])
        assert len(answers) == 2 + len(missing)
        assert isinstance(answers[0], Offer)
        assert isinstance(answers[-1], Offer)
        for answer in answers[1:-1]:
            assert isinstance(answer, Unpriced)
            assert answer.reason

    def test_the_same_question_gets_the_same_price(self, pricing: Pricing, subject: PricingSubject) -> None:
        with ThreadPoolExecutor(4) as threads:
            rounds = list(threads.map(pricing.price, [subject.requests] * 4))
        prices = [[answer.price for answer in answers if isinstance(answer, Offer)] for answers in rounds]
        assert all(each == prices[0] for each in prices)
        assert len(prices[0]) == len(subject.requests)

    def test_the_parts_of_the_price_are_not_negative(self, pricing: Pricing, subject: PricingSubject) -> None:
        for answer in pricing.price(subject.requests):
            assert isinstance(answer, Offer)
            assert all(part >= Money(0) for part in attrs.astuple(answer.price, recurse=False))
