"""Launch requests: the maximum price of spot instances, and the names of the queues."""

from __future__ import annotations

import functools
import subprocess
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from controller_fakes import ranked
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_commands import MemoryCommands

from cloud_tasks.config import load_config
from cloud_tasks.controller.launch.launch_request import LaunchRequestBuilder
from cloud_tasks.model import LaunchRequest, Money, PriceBreakdown
from cloud_tasks.plugin import hookimpl
from cloud_tasks.selection import RankedOffer


@functools.cache
def builder(event_queue_name: str | None = None) -> LaunchRequestBuilder:
    registry = MemoryCommands().registry
    options: dict[str, Any] = {"provider": "memory"}
    config = load_config(registry, file=None, options=options, environ={})
    return LaunchRequestBuilder(
        config,
        "true",
        job_id="job",
        queue_name="job",
        event_queue_name=event_queue_name,
        run_id="run",
        earlier_attempts=0,
    )


def compose(*offers: RankedOffer) -> LaunchRequest:
    return builder().compose(offers[0], offers[1:], "token", None)


def test_compose_names_the_event_queue_where_a_worker_cannot_derive_its_name() -> None:
    for name, is_named in ((None, False), ("job-events", False), ("job-2-events", True)):
        script = builder(name).compose(ranked(), (), "token", None).startup_script
        assert "CLOUD_TASKS_QUEUE_NAME=job\n" in script
        assert ("CLOUD_TASKS_EVENT_LOG_QUEUE_NAME=job-2-events\n" in script) is is_named


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"provider": "memory"}, True),
        ({"queue": "memory", "compute": "memory"}, True),
        ({"queue": "memory", "compute": "cluster"}, False),
    ],
)
def test_compose_names_a_provider_only_where_there_is_one(options: dict[str, Any], named: bool) -> None:
    commands = MemoryCommands()
    cluster = attrs.evolve(commands.provider.compute, name="cluster")
    plugin = SimpleNamespace(cloud_tasks_register_compute=hookimpl(lambda: (cluster,)))
    commands.registry.register("cluster", plugin)
    config = load_config(commands.registry, file=None, options=options, environ={})
    names = {"job_id": "job", "queue_name": "job", "event_queue_name": None, "run_id": "run"}
    made = LaunchRequestBuilder(config, "true", earlier_attempts=0, **names)  # type: ignore[arg-type]
    script = made.compose(ranked(), (), "token", None).startup_script
    assert ("export CLOUD_TASKS_PROVIDER=MEMORY\n" in script, "_PROVIDER=" in script) == (named, named)


@given(
    st.dictionaries(
        st.from_regex("[A-Z]{3}_[a-z0-9]{1,5}", fullmatch=True),
        st.text(st.characters(exclude_characters="\0", codec="utf-8")),
    )
)
@settings(max_examples=20, deadline=None)
def test_compose_exports_the_environment_of_the_job_to_startup_script_and_worker(values: dict[str, str]) -> None:
    options: dict[str, Any] = {"provider": "memory", "run.environment": values}
    config = load_config(MemoryCommands().registry, file=None, options=options, environ={})
    names = {"job_id": "job", "queue_name": "job", "event_queue_name": None, "run_id": "run"}
    made = LaunchRequestBuilder(config, "env -0\n", earlier_attempts=0, **names)  # type: ignore[arg-type]
    script = made.compose(ranked(), (), "token", None).startup_script
    found = subprocess.run(["bash"], input=script.encode(), capture_output=True, check=True).stdout.decode().split("\0")
    assert {f"{name}={value}" for name, value in values.items()} <= set(found)


def test_compose_limits_the_price_of_a_spot_instance_with_a_margin() -> None:
    price = PriceBreakdown(cpu=Money("0.1"), memory=Money("0.05"), boot_disk=Money(7), address=Money("0.005"))
    spot = ranked(spot=True)
    request = compose(attrs.evolve(spot, offer=attrs.evolve(spot.offer, price=price)))
    assert request.max_price_per_hour == Money("0.18")


def test_compose_limits_the_price_to_that_of_the_most_expensive_alternative() -> None:
    assert compose(ranked(price="0.2", spot=True), ranked(zone="z-b", price="0.21", spot=True)).max_price_per_hour == (
        Money("0.252")
    )


@pytest.mark.parametrize("offer", [ranked(), ranked(price="0", spot=True)])
def test_compose_sets_no_maximum_price_on_demand_or_without_a_price(offer: RankedOffer) -> None:
    assert compose(offer).max_price_per_hour is None


@given(st.decimals("0.0001", 50, places=4))
def test_compose_never_sets_a_maximum_below_the_price(price) -> None:
    maximum = compose(ranked(price=str(price), spot=True)).max_price_per_hour
    assert maximum is not None
    assert maximum >= Money(price)
