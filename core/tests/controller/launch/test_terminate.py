"""Termination outside of a run: only a complete listing proves it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta

import pytest
from controller_fakes import FakeCompute, ranked
from virtual_loop import VirtualLoop

from cloud_tasks.controller.launch.terminate import note_zones, remaining_instances, terminate_instances
from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.model import LaunchRequest
from cloud_tasks.store import Store


def launch(compute: FakeCompute, count: int) -> None:
    for number in range(count):
        compute.launch(
            LaunchRequest(client_token=f"t{number}", job_id="job", offer=ranked().offer, startup_script="", labels={})
        )


class Clock:
    """Clock that only sleeping advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def remove(compute: FakeCompute, *, recorded: Sequence[str] = (), shown: list[str] | None = None) -> list[str]:
    """Terminate the instances of a job; return the ids of those that were listed."""
    clock = Clock()
    found = terminate_instances(
        compute,
        lambda: remaining_instances(compute, "job"),
        timeout=timedelta(minutes=5),
        recorded=recorded,
        on_wait=[].append if shown is None else shown.append,
        clock=lambda: clock.now,
        sleep=clock.sleep,
    )
    return [instance.instance_id for instance in found]


class Reluctant(FakeCompute):
    """Compute that terminates one instance at each call."""

    def terminate(self, instance_ids) -> None:
        super().terminate(list(instance_ids)[:1])


class Immortal(FakeCompute):
    def terminate(self, instance_ids) -> None:
        """Accept the call and do nothing."""


def test_terminate_instances_ends_and_returns_all_listed(loop: VirtualLoop) -> None:
    compute = FakeCompute(loop)
    launch(compute, 3)
    assert remove(compute) == ["i-1", "i-2", "i-3"]
    assert compute.existing == {}


def test_terminate_instances_repeats_a_partial_termination(loop: VirtualLoop) -> None:
    compute = Reluctant(loop)
    launch(compute, 3)
    assert len(remove(compute)) == 3
    assert compute.existing == {}


def test_terminate_instances_fails_while_instances_are_listed(loop: VirtualLoop) -> None:
    compute = Immortal(loop)
    launch(compute, 1)
    with pytest.raises(ProviderError, match=r"instances may still exist \(i-1\)"):
        remove(compute)


def test_terminate_instances_takes_a_failed_listing_as_unknown(loop: VirtualLoop) -> None:
    compute = FakeCompute(loop)
    compute.listing_fails = True
    with pytest.raises(ProviderError, match="listing is out of order"):
        remove(compute)


PERMANENT = (
    ProviderError("resource not ready"),
    ProviderError("credentials expired"),
    KeyError("a defect of a plugin"),
)


class Stubborn(FakeCompute):
    """Compute that cannot terminate some instances for a while, and then terminates none of the same call."""

    error: Exception = PERMANENT[0]
    stuck = ("i-2",)
    refusals = 10_000

    def terminate(self, instance_ids: Sequence[str]) -> None:
        if self.refusals and set(self.stuck) & set(instance_ids):
            self.refusals -= 1
            raise self.error
        super().terminate(instance_ids)


@pytest.mark.parametrize("error", PERMANENT, ids=repr)
def test_terminate_instances_continues_after_any_error_of_a_termination(loop: VirtualLoop, error: Exception) -> None:
    compute = Stubborn(loop)
    compute.error, compute.refusals = error, 4
    launch(compute, 3)
    assert remove(compute) == ["i-1", "i-2", "i-3"]
    assert compute.existing == {}


@pytest.mark.parametrize("error", PERMANENT, ids=repr)
def test_terminate_instances_ends_the_others_and_names_what_is_left(loop: VirtualLoop, error: Exception) -> None:
    compute = Stubborn(loop)
    compute.error = error
    launch(compute, 9)
    with pytest.raises(ProviderError, match=r"instances may still exist \(i-2\)"):
        remove(compute)
    assert set(compute.existing) == {"i-2"}


@pytest.mark.parametrize("error", PERMANENT, ids=repr)
def test_terminate_instances_continues_after_any_error_of_a_listing(loop: VirtualLoop, error: Exception) -> None:
    compute = FakeCompute(loop)
    launch(compute, 2)
    errors = [error] * 5

    def fail() -> None:
        if errors:
            raise errors.pop()

    compute.before_listing = fail
    assert remove(compute) == ["i-1", "i-2"]
    assert (compute.existing, errors) == ({}, [])


def test_terminate_instances_stops_at_once_where_the_input_is_wrong(loop: VirtualLoop) -> None:
    compute = FakeCompute(loop)

    def fail() -> None:
        raise InputError("no region set")

    compute.before_listing = fail
    with pytest.raises(InputError):
        remove(compute)
    assert compute.listings == 0


def test_terminate_instances_ends_recorded_instances_without_a_listing(loop: VirtualLoop) -> None:
    compute = FakeCompute(loop)
    launch(compute, 2)
    compute.listing_fails = True
    with pytest.raises(ProviderError, match=r"instances may still exist \(i-1, i-2\): listing is out of order"):
        remove(compute, recorded=["i-1", "i-2"])
    assert compute.existing == {}


def test_terminate_instances_shows_an_unknown_number_as_unknown(loop: VirtualLoop) -> None:
    compute = FakeCompute(loop)
    compute.listing_fails = True
    shown: list[str] = []
    with pytest.raises(ProviderError, match=r"\(unknown\)"):
        remove(compute, shown=shown)
    assert set(shown) == {"Waiting for a listing; the number of instances left is unknown: listing is out of order"}


def test_terminate_instances_shows_how_many_are_left_and_why(loop: VirtualLoop) -> None:
    compute = Stubborn(loop)
    launch(compute, 2)
    shown: list[str] = []
    with pytest.raises(ProviderError):
        remove(compute, shown=shown)
    assert shown[-1] == "Waiting for 1 instance to terminate: resource not ready"


class Located(FakeCompute):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__(loop)
        self.zones: dict[str, str] = {}

    def note_zones(self, zones) -> None:
        self.zones.update(zones)


def test_note_zones_passes_the_zones_of_launches_that_have_not_ended(loop: VirtualLoop, store: Store) -> None:
    compute = Located(loop)
    for number, zone in enumerate(("z-a", "z-b", "z-b")):
        request = LaunchRequest(
            client_token=f"t{number}", job_id="job", offer=ranked(zone=zone).offer, startup_script="", labels={}
        )
        store.record_intents([request], loop.now())
        if number:
            store.record_launched(request.client_token, compute.launch(request))
    store.record_ended("i-2", loop.now(), "over")
    assert note_zones(compute, store.instances()) == ("i-1",)
    assert compute.zones == {"t0": "z-a", "i-1": "z-b"}, "the launch without an answer may have an instance"
    assert note_zones(FakeCompute(loop), store.instances()) == ("i-1",)


@pytest.mark.parametrize("hanging", ["list", "terminate"])
def test_terminate_instances_gives_up_calls_without_an_answer(loop: VirtualLoop, monkeypatch, hanging: str) -> None:
    monkeypatch.setattr("cloud_tasks.controller.launch.terminate._CALL_TIMEOUT", timedelta(milliseconds=200))
    compute, never = Stubborn(loop), threading.Event()
    compute.refusals = 0
    launch(compute, 3)
    terminate = compute.terminate

    def hang(instance_ids: Sequence[str]) -> None:
        if "i-2" in instance_ids:
            never.wait()
        terminate(instance_ids)

    if hanging == "list":
        monkeypatch.setattr(compute, "before_listing", never.wait)
    else:
        monkeypatch.setattr(compute, "terminate", hang)
    with pytest.raises(ProviderError, match=r"i-2.*: no answer within"):
        remove(compute, recorded=["i-1", "i-2", "i-3"])
    assert set(compute.existing) == (set() if hanging == "list" else {"i-2"})
    never.set()
