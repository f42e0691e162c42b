"""Alternatives to the best offer that the provider may select."""

from __future__ import annotations

import attrs
import pytest
from controller_fakes import ranked

from cloud_tasks.model import BootDisk
from cloud_tasks.selection import RankedOffer, alternatives, most_expensive

BEST = ranked("m-8", zone="a", price="0.20", spot=True)


def test_alternatives_include_other_types_and_zones() -> None:
    others = (ranked("n-8", zone="a", price="0.21", spot=True), ranked("m-8", zone="b", price="0.22", spot=True))
    assert alternatives((BEST, *others)) == others


def _on_another_disk(offer: RankedOffer) -> RankedOffer:
    return attrs.evolve(offer, offer=attrs.evolve(offer.offer, boot_disk=BootDisk(disk_type="other", size_gb=10)))


@pytest.mark.parametrize(
    "other",
    [
        ranked("n-8", price="0.2201", spot=True),
        ranked("n-8", price="0.20", spot=False),
        ranked("n-16", price="0.20", vcpus=16, spot=True),
        _on_another_disk(ranked("n-8", price="0.20", spot=True)),
        attrs.evolve(ranked("n-8", price="0.20", spot=True), slots=4),
        attrs.evolve(ranked("n-8", price="0.20", spot=True), speed=0.5),
    ],
    ids=["too expensive", "on demand", "larger", "another disk", "fewer slots", "too slow for its price"],
)
def test_alternatives_exclude_inferior_offers(other: RankedOffer) -> None:
    assert alternatives((BEST, other)) == ()


def test_alternatives_on_demand_cost_no_more() -> None:
    best, same, more = (ranked(name, price=price) for name, price in (("m", "0.20"), ("n", "0.20"), ("o", "0.201")))
    assert alternatives((best, same, more)) == (same,)


def test_alternatives_of_no_offers_are_empty() -> None:
    assert alternatives(()) == ()


def test_most_expensive_has_the_highest_price_per_hour() -> None:
    other = ranked("n-8", price="0.21", spot=True)
    assert most_expensive(BEST, (other, BEST)) == other
