"""Spread of launches over zones, by refusals and balance."""

from __future__ import annotations

from collections import Counter

from controller_fakes import ranked
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.selection import same_offer_other_zones, spread_over_zones

ZONES = ("a", "b", "c")
OFFERS = tuple(ranked(zone=zone) for zone in ZONES)


def zones(launches: object) -> dict[str, int]:
    return {offer.offer.zone: count for offer, count in launches}  # type: ignore[attr-defined]


def test_same_offer_other_zones_differs_in_the_zone_only() -> None:
    others = (ranked("n-8", zone="a"), ranked(zone="a", price="0.30"), ranked(zone="a", spot=True))
    assert same_offer_other_zones((*OFFERS, *others)) == OFFERS
    assert same_offer_other_zones(()) == ()


def test_spread_over_zones_divides_instances_equally() -> None:
    assert zones(spread_over_zones(OFFERS, 4, held={}, refusals=lambda _: 0)) == {"a": 2, "b": 1, "c": 1}


def test_spread_over_zones_balances_existing_instances() -> None:
    assert zones(spread_over_zones(OFFERS, 3, held={"a": 3, "b": 1}, refusals=lambda _: 0)) == {"b": 1, "c": 2}


def test_spread_over_zones_takes_the_zone_with_fewest_refusals() -> None:
    refused = {"a": 2, "b": 1, "c": 1}
    assert zones(spread_over_zones(OFFERS, 2, held={"b": 5}, refusals=lambda offer: refused[offer.zone])) == {"c": 2}


@given(st.integers(0, 50), st.dictionaries(st.sampled_from(ZONES), st.integers(0, 20)))
def test_spread_over_zones_launches_the_requested_count_in_balance(count: int, held: dict[str, int]) -> None:
    launches = zones(spread_over_zones(OFFERS, count, held=held, refusals=lambda _: 0))
    assert sum(launches.values()) == count
    after = Counter(held)
    after.update(launches)
    assert all(after[grown] <= after[other] + 1 for grown in launches for other in ZONES)
