"""Which zone: by refusals and by spread, the same for the same facts."""

from __future__ import annotations

from collections import Counter

from controller_fakes import ranked
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.selection import same_offer_other_zones, spread_over_zones

ZONES = ("a", "b", "c")
OFFERS = tuple(ranked(zone=zone) for zone in ZONES)


def zones(bought: object) -> dict[str, int]:
    return {offer.offer.zone: count for offer, count in bought}  # type: ignore[attr-defined]


def test_offers_are_alike_that_differ_in_nothing_but_their_zone() -> None:
    others = (ranked("n-8", zone="a"), ranked(zone="a", price="0.30"), ranked(zone="a", spot=True))
    assert same_offer_other_zones((*OFFERS, *others)) == OFFERS
    assert same_offer_other_zones(()) == ()


def test_without_anything_held_the_zones_share() -> None:
    assert zones(spread_over_zones(OFFERS, 4, held={}, refusals=lambda _: 0)) == {"a": 2, "b": 1, "c": 1}


def test_what_is_held_already_is_made_up_for() -> None:
    assert zones(spread_over_zones(OFFERS, 3, held={"a": 3, "b": 1}, refusals=lambda _: 0)) == {"b": 1, "c": 2}


def test_the_zone_that_refused_least_is_taken() -> None:
    refused = {"a": 2, "b": 1, "c": 1}
    assert zones(spread_over_zones(OFFERS, 2, held={"b": 5}, refusals=lambda offer: refused[offer.zone])) == {"c": 2}


@given(st.integers(0, 50), st.dictionaries(st.sampled_from(ZONES), st.integers(0, 20)))
def test_as_many_are_bought_as_were_asked_for_and_no_zone_is_two_ahead(count: int, held: dict[str, int]) -> None:
    bought = zones(spread_over_zones(OFFERS, count, held=held, refusals=lambda _: 0))
    assert sum(bought.values()) == count
    after = Counter(held)
    after.update(bought)
    assert all(after[grown] <= after[other] + 1 for grown in bought for other in ZONES)
