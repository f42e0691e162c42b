"""Parts of the simulated world: queue, instances, loop, failing calls."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta

import attrs
import pytest
from simulated_cloud.catalogue import catalogue, prices
from simulated_cloud.cloud import CloudInstance, EndCause, SimulatedCloud
from simulated_cloud.dials.calls import CallFaults, Obstacles
from simulated_cloud.dials.launches import LaunchFaults
from simulated_cloud.faults import CALM, Faults
from simulated_cloud.loop import CrashableLoop, CrashPoints, SimulatedCrash
from simulated_cloud.queue import SimulatedQueue
from simulated_cloud.unreliable import Unreliable
from virtual_loop import START, VirtualLoop

from cloud_tasks.errors import LaunchRefusedError, NotFoundError, ProviderError
from cloud_tasks.model import Architecture, Constraints, InstanceState, LaunchRequest, Limits, Money, ProvisioningModel
from cloud_tasks.plugin import Delivery
from cloud_tasks.selection import rank

LEASE = timedelta(seconds=60)
NO_WAIT = timedelta(0)


@pytest.fixture
def world() -> VirtualLoop:
    return VirtualLoop()


def a_queue(world: VirtualLoop, faults: Faults = CALM, *, exact: bool = True) -> SimulatedQueue:
    queue = SimulatedQueue(world, random.Random(1), faults, lease=LEASE, exact_depth=exact)
    queue.create()
    return queue


def bodies(deliveries: Sequence[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]


def test_simulated_queue_redelivers_an_unacked_message_after_its_lease(world):
    queue = a_queue(world)
    queue.send([b"a"])
    (first,) = queue.receive(10, wait=NO_WAIT)
    assert queue.receive(10, wait=NO_WAIT) == []
    world.run_for(LEASE)
    (second,) = queue.receive(10, wait=NO_WAIT)
    assert (first.delivery_count, second.delivery_count) == (1, 2)
    assert queue.ack([first.lease_id]) == [first.lease_id]
    assert queue.ack([second.lease_id]) == []
    world.run_for(LEASE * 2)
    assert queue.receive(10, wait=NO_WAIT) == []


def test_simulated_queue_names_since_when_a_message_can_be_received(world):
    queue = a_queue(world)
    queue.send([b"a"])
    sent_at = world.now()
    world.run_for(LEASE / 2)
    assert (queue.readable_since(b"a"), queue.readable_since(b"b")) == (sent_at, None)
    queue.receive(1, wait=NO_WAIT)
    received_at = world.now()
    assert queue.readable_since(b"a") is None
    world.run_for(LEASE * 2)
    assert queue.readable_since(b"a") == received_at + LEASE


def test_simulated_queue_extends_leases_and_redelivers_released_messages(world):
    queue = a_queue(world)
    queue.send([b"a"])
    (delivery,) = queue.receive(1, wait=NO_WAIT)
    queue.extend([delivery.lease_id], lease=LEASE * 10)
    world.run_for(LEASE * 9)
    assert queue.receive(1, wait=NO_WAIT) == []
    assert queue.release([delivery.lease_id]) == []
    assert bodies(queue.receive(1, wait=NO_WAIT)) == [b"a"]


def test_simulated_queue_loses_no_message_under_faults(world):
    queue = a_queue(world, Faults(duplicated=0.3, ack_lost=0.3, delayed=0.5, partial=0.5))
    waiting = [b"%d" % number for number in range(200)]
    while waiting:
        failures = queue.send(waiting)
        waiting = [waiting[failure.index] for failure in failures]
    seen: set[bytes] = set()
    while queue.depth().visible or queue.depth().in_flight:
        deliveries = queue.receive(7, wait=NO_WAIT)
        seen.update(bodies(deliveries))
        queue.ack([delivery.lease_id for delivery in deliveries])
        world.run_for(timedelta(seconds=5))
    assert seen == {b"%d" % number for number in range(200)}


def test_simulated_queue_raises_if_it_does_not_exist(world):
    queue = a_queue(world)
    queue.delete()
    with pytest.raises(NotFoundError):
        queue.receive(1, wait=NO_WAIT)


class Nothing:
    """A program that does nothing."""

    def __init__(self) -> None:
        self.history: list[str] = []

    def start(self) -> None:
        self.history.append("start")

    def notice(self, left: timedelta) -> None:
        self.history.append(f"notice {left.total_seconds():.0f}")

    def kill(self) -> None:
        self.history.append("kill")


class Yard:
    """A cloud whose instances run no program, and its callbacks."""

    def __init__(self, world: VirtualLoop, faults: Faults = CALM) -> None:
        self.programs: list[Nothing] = []
        self.cloud = SimulatedCloud(
            world,
            random.Random(1),
            faults,
            job_id="job",
            make_program=self._make,
            on_launch=lambda request: None,
            on_change=lambda instance: None,
        )
        self.offer = rank(catalogue(), Constraints(), Limits(), prices).offers[0]

    def _make(self, instance: CloudInstance) -> Nothing:
        self.programs.append(Nothing())
        return self.programs[-1]

    def request(self, token: str = "t1") -> LaunchRequest:
        return LaunchRequest(
            client_token=token, job_id="job", offer=self.offer.offer, startup_script="", labels={"slots": "2"}
        )


def test_simulated_cloud_launches_one_instance_for_each_token(world):
    yard = Yard(world)
    first = yard.cloud.launch(yard.request())
    again = yard.cloud.launch(yard.request())
    assert first.instance_id == again.instance_id
    assert len(yard.cloud.instances("job")) == 1


def test_simulated_instance_boots_runs_and_is_billed_until_it_terminates(world):
    yard = Yard(world)
    instance = yard.cloud.launch(yard.request())
    world.run_for(timedelta(hours=1))
    assert yard.programs[0].history == ["start"]
    assert yard.cloud.instances("job")[0].state is InstanceState.RUNNING
    yard.cloud.terminate([instance.instance_id])
    world.run_for(timedelta(hours=5))
    assert yard.programs[0].history == ["start", "kill"]
    assert yard.cloud.instances("job") == []
    price = yard.offer.offer.price_per_hour
    assert price <= yard.cloud.cost() <= price * 1.01


def test_simulated_spot_instance_gets_a_notice_before_its_interruption(world):
    yard = Yard(world, Faults(spot_lifetime=timedelta(minutes=10), remains=1.0))
    spot = rank(catalogue(), Constraints(provisioning_model=ProvisioningModel.SPOT), Limits(), prices).offers[0]
    yard.offer = spot
    instance = yard.cloud.launch(yard.request())
    world.run_for(timedelta(hours=5))
    assert [word.split()[0] for word in yard.programs[0].history] == ["start", "notice", "kill"]
    assert yard.cloud.instances("job")[0].state is InstanceState.STOPPED
    yard.cloud.terminate([instance.instance_id])
    world.run_for(timedelta(minutes=1))
    assert list(yard.cloud.existing()) == []


def test_simulated_cloud_refuses_launches_with_a_scope(world):
    full = Yard(world, Faults(quota_vcpus=1))
    with pytest.raises(LaunchRefusedError, match="quota"):
        full.cloud.launch(full.request())
    empty = Yard(world, Faults(refused=1.0))
    with pytest.raises(LaunchRefusedError) as refusal:
        empty.cloud.launch(empty.request())
    assert refusal.value.retry_after > timedelta(0)
    assert list(empty.cloud.existing()) == []


def test_simulated_broken_script_is_in_the_console_log(world):
    yard = Yard(world, Faults(broken_start=1.0))
    instance = yard.cloud.launch(yard.request())
    world.run_for(timedelta(minutes=5))
    assert yard.programs[0].history in ([], ["kill"])
    assert "no such command" in yard.cloud.console_log(instance.instance_id)


def test_simulated_queue_that_appears_late_does_not_exist_before(world):
    queue = a_queue(world, Faults(calls=CallFaults(queue_delay=LEASE)))
    assert not queue.exists()
    with pytest.raises(NotFoundError):
        queue.send([b"a"])
    world.run_for(LEASE)
    assert queue.exists()
    assert queue.send([b"a"]) == []


def test_simulated_instance_ends_at_its_maximum_lifetime_whatever_runs_on_it(world):
    yard = Yard(world, Faults(launches=LaunchFaults(hanging_script=1.0)))
    yard.cloud.launch(attrs.evolve(yard.request(), max_lifetime=timedelta(hours=2)))
    world.run_for(timedelta(minutes=119))
    assert [word for program in yard.programs for word in program.history] == []
    assert len(list(yard.cloud.existing())) == 1
    world.run_for(timedelta(minutes=2))
    assert [each.end_cause for each in yard.cloud.all_instances.values()] == [EndCause.LIFETIME]


def test_simulated_instance_that_restarts_stays_without_its_worker(world):
    yard = Yard(world, Faults(launches=LaunchFaults(restart=timedelta(minutes=1))))
    yard.cloud.launch(yard.request())
    world.run_for(timedelta(hours=1))
    assert yard.programs[0].history == ["start", "kill"]
    assert yard.cloud.instances("job")[0].state is InstanceState.RUNNING


def test_simulated_spot_instance_is_preempted_while_it_boots(world):
    yard = Yard(world, Faults(launches=LaunchFaults(preempted_at_boot=1.0)))
    yard.offer = rank(catalogue(), Constraints(provisioning_model=ProvisioningModel.SPOT), Limits(), prices).offers[0]
    yard.cloud.launch(yard.request())
    world.run_for(timedelta(minutes=5))
    assert yard.programs[0].history == ["kill"]
    assert [each.end_cause for each in yard.cloud.all_instances.values()] == [EndCause.PREEMPTED]


def test_simulated_cloud_lists_an_instance_for_a_time_after_its_end(world):
    yard = Yard(world, Faults(calls=CallFaults(hidden_end=timedelta(hours=9))))
    instance = yard.cloud.launch(yard.request())
    yard.cloud.terminate([instance.instance_id])
    world.run_for(timedelta(minutes=2))
    assert list(yard.cloud.existing()) == []
    assert [each.state for each in yard.cloud.instances("job")] == [InstanceState.RUNNING]
    with pytest.raises(ProviderError, match="not ready"):
        yard.cloud.terminate([instance.instance_id])
    world.run_for(timedelta(hours=9))
    assert yard.cloud.instances("job") == []


def test_obstacles_charge_an_hour_for_a_slow_call():
    charged: list[timedelta] = []
    faults = CallFaults(slow_listing=1.0)
    obstacles = Obstacles(random.Random(1), lambda: timedelta(0), lambda: faults, charged.append)
    assert obstacles.of_controller("terminate") is None
    assert charged == []
    assert obstacles.of_controller("instances") is None
    assert charged == [timedelta(hours=1)]


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


@pytest.mark.parametrize(("faults", "expected"), [(Faults(call_fails=1.0), 0), (Faults(call_times_out=1.0), 1)])
def test_unreliable_calls_fail_before_or_after_their_effect(faults, expected):
    counter = Counter()
    with pytest.raises(ProviderError) as failure:
        Unreliable(counter, random.Random(1), faults).add()
    assert failure.value.transient
    assert counter.count == expected


def unavailable(name: str) -> Exception:
    return ProviderError(f"{name}: unavailable", transient=True)


def test_unreliable_calls_fail_during_an_outage_unless_excluded():
    counter = Counter()
    with pytest.raises(ProviderError, match="unavailable"):
        Unreliable(counter, random.Random(1), CALM, obstacle=unavailable).add()
    assert Unreliable(counter, random.Random(1), CALM, obstacle=unavailable, never=("add",)).add() == 1


def a_loop(world: VirtualLoop, *, crashes: int = 0, asleep: timedelta = timedelta(0)) -> CrashableLoop:
    return CrashableLoop(
        world,
        point=CrashPoints(random.Random(1), crashes),
        deadline=lambda: START + timedelta(days=1),
        asleep_until=lambda: START + asleep,
    )


def test_crashable_loop_runs_no_callback_after_a_crash(world):
    loop = a_loop(world, crashes=1)
    heard: list[int] = []

    def again() -> None:
        heard.append(len(heard))
        loop.later(timedelta(seconds=1), again)

    again()
    with pytest.raises(SimulatedCrash):
        loop.run(lambda: False)
    before = len(heard)
    loop.alive = False
    world.run_for(timedelta(minutes=1))
    assert len(heard) == before


def test_crashable_loop_runs_callbacks_in_order_after_a_sleep(world):
    loop = a_loop(world, asleep=timedelta(hours=1))
    heard: list[tuple[str, timedelta]] = []

    def hear(name: str) -> None:
        heard.append((name, world.now() - START))

    loop.later(timedelta(minutes=2), lambda: hear("late"))
    loop.later(timedelta(minutes=1), lambda: hear("early"))
    world.run_for(timedelta(hours=2))
    assert heard == [("early", timedelta(hours=1)), ("late", timedelta(hours=1))]


def test_catalogue_has_a_price_for_every_type_in_each_zone():
    ranking = rank(catalogue(), Constraints(architecture=Architecture.X86_64), Limits(), prices)
    assert ranking.rejected == ()
    assert {ranked.offer.instance_type.name for ranked in ranking.offers} == {kind.name for kind in catalogue()}
    assert min(ranked.price_per_slot for ranked in ranking.offers) > Money.zero()
