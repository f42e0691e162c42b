"""Cloud model: rates, the lifecycle of an instance, and its cost."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from controller_fakes import ranked
from hypothesis import given
from hypothesis import strategies as st
from simulated_cloud import CALM, Faults
from simulated_cloud.cloud import CloudInstance

from cloud_tasks.estimate import CloudModel, SimulatedInstance
from cloud_tasks.model import InstanceState, Money

START = datetime(2026, 1, 1, tzinfo=UTC)
OFFER, SPOT = ranked().offer, ranked(spot=True).offer
ORDER = (InstanceState.STARTING, InstanceState.RUNNING, InstanceState.STOPPING, InstanceState.TERMINATED)


def new_instance() -> SimulatedInstance[float]:
    return SimulatedInstance(offer=OFFER, slots=8, created_at=0.0)


@given(st.lists(st.sampled_from(["boot", "stop", "end"]), max_size=6))
def test_simulated_instance_only_moves_forward_and_ends_once(events: list[str]) -> None:
    instance, states, ends = new_instance(), [InstanceState.STARTING], 0
    for when, event in enumerate(events, start=1):
        before = attrs.evolve(instance)
        if event == "end":
            changed = instance.end(float(when))
            ends += changed
        else:
            changed = getattr(instance, event)()
        assert changed is (attrs.asdict(instance, recurse=False) != attrs.asdict(before, recurse=False))
        states.append(instance.state)
    assert [ORDER.index(state) for state in states] == sorted(ORDER.index(state) for state in states)
    assert ends == ("end" in events)
    assert instance.ended_at == (float(events.index("end") + 1) if "end" in events else None)


@pytest.mark.parametrize("event", ["boot", "stop"])
def test_simulated_instance_ignores_events_after_its_end(event: str) -> None:
    instance = new_instance()
    instance.end(10.0)
    assert getattr(instance, event)() is False
    assert (instance.state, instance.ended_at) == (InstanceState.TERMINATED, 10.0)


def test_simulated_instance_costs_from_creation_to_end_in_seconds_and_in_datetimes() -> None:
    seconds = new_instance()
    dated = SimulatedInstance(offer=OFFER, slots=8, created_at=START)
    assert seconds.cost(1800.0) == dated.cost(START + timedelta(minutes=30)) == OFFER.price_per_hour * 0.5
    seconds.end(3600.0)
    dated.end(START + timedelta(hours=1))
    assert seconds.cost(9e9) == dated.cost(START + timedelta(days=9)) == OFFER.price_per_hour


def test_simulated_instance_costs_nothing_before_its_creation() -> None:
    assert SimulatedInstance(offer=OFFER, slots=8, created_at=60.0).cost(30.0) == Money.zero()


def test_cloud_model_draws_a_boot_time_within_its_spread() -> None:
    model, rng = CloudModel(boot_time=timedelta(seconds=100), boot_spread=0.2), random.Random(1)
    drawn = [model.draw_boot_time(rng) for _ in range(200)]
    assert min(drawn) >= 80
    assert max(drawn) <= 120
    assert max(drawn) - min(drawn) > 30


def test_cloud_model_interrupts_spot_instances_alone() -> None:
    rng, model = random.Random(1), CloudModel(spot_lifetime=timedelta(hours=1))
    spans = [model.draw_lifetime(rng, SPOT) for _ in range(2000)]
    assert sum(span or 0 for span in spans) / len(spans) == pytest.approx(3600, rel=0.1)
    assert model.draw_lifetime(rng, OFFER) is None
    assert CloudModel().draw_lifetime(rng, SPOT) is None


def test_cloud_model_refuses_a_share_of_the_launches() -> None:
    rng, model = random.Random(1), CloudModel(refused=0.25)
    assert sum(model.draw_refusal(rng) for _ in range(2000)) / 2000 == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("model", [CloudModel(), CloudModel(refused=0.9), CALM, Faults(slow_boot=0.5)])
def test_cloud_model_draws_the_same_number_of_times_whatever_is_drawn(model: CloudModel) -> None:
    """Invariant 3: later draws of a seed do not depend on the outcome of earlier ones."""
    positions = set()
    for seed in range(5):
        counted = CountedRandom(seed)
        model.draw_refusal(counted)
        model.draw_boot_time(counted)
        model.draw_stop_time(counted)
        positions.add(counted.draws)
    assert len(positions) == 1


class CountedRandom(random.Random):
    draws = 0

    def random(self) -> float:
        self.draws += 1
        return super().random()


def test_simulated_cloud_and_cost_simulation_share_the_model() -> None:
    assert issubclass(Faults, CloudModel)
    assert issubclass(CloudInstance, SimulatedInstance)
    for name in ("draw_refusal", "draw_stop_time", "draw_lifetime"):
        assert getattr(Faults, name) is getattr(CloudModel, name)
    for name in ("boot", "stop", "end", "cost"):
        assert getattr(CloudInstance, name) is getattr(SimulatedInstance, name)
