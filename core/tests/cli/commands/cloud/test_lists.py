"""The `list-…` commands, with the provider in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
from memory_commands import Answer, MemoryCommands

from cloud_tasks.cli.commands.cloud.list_images import OWN_IMAGES
from cloud_tasks.controller import owner_label
from cloud_tasks.errors import InputError
from cloud_tasks.model import Architecture, Image
from cloud_tasks.testing import MemoryProvider
from cloud_tasks.testing.fakes.memory_compute import MemoryCompute


@pytest.fixture
def commands() -> MemoryCommands:
    return MemoryCommands()


def column(answer: Answer, name: str) -> list[Any]:
    return [row[name] for row in answer.data]


# regions


def test_list_regions_shows_the_number_of_zones(commands: MemoryCommands) -> None:
    rows = [line.split() for line in commands.call("list-regions").out.splitlines()]
    assert rows[2] == ["memory", "-", "2"]


def test_list_regions_shows_zone_names(commands: MemoryCommands) -> None:
    assert "memory-a, memory-b" in commands.call("list-regions", "--zones").out
    assert "memory-a, memory-b" in commands.call("list-regions", "--detail").out
    assert "memory-a" not in commands.call("list-regions").out


def test_list_regions_filters_by_prefix(commands: MemoryCommands) -> None:
    assert column(commands.call("list-regions", "--prefix", "mem", "--json"), "name") == ["memory"]
    assert commands.call("list-regions", "--prefix", "eu-").out == "No regions found\n"


# images


@pytest.fixture
def with_images() -> MemoryCommands:
    public = Image(name="ubuntu", uri="images/1", architecture=Architecture.X86_64, family="lts", owner="canonical")
    own = attrs.evolve(public, name="mine", owner=OWN_IMAGES, description="with my libraries")

    class Compute(MemoryCompute):
        def images(self) -> tuple[Image, ...]:
            return (public, own)

    world = MemoryCommands().provider.instances

    @contextmanager
    def open_compute(settings: Any, context: Any) -> Iterator[Compute]:
        yield Compute(world)

    return MemoryCommands(compute={"open": open_compute})


def test_list_images_includes_own_images_on_request(with_images: MemoryCommands) -> None:
    assert column(with_images.call("list-images", "--json"), "name") == ["ubuntu"]
    assert column(with_images.call("list-images", "--json", "--user"), "name") == ["mine", "ubuntu"]


def test_list_images_filters_sorts_and_limits(with_images: MemoryCommands) -> None:
    assert column(with_images.call("list-images", "--user", "--json", "--filter", "LIBRARIES"), "name") == ["mine"]
    assert column(with_images.call("list-images", "--user", "--json", "--sort-by=-name"), "name") == ["ubuntu", "mine"]
    cut = with_images.call("list-images", "--user", "--limit", "1")
    assert "mine" in cut.out
    assert "ubuntu" not in cut.out
    assert "... and 1 more" in cut.err


def test_list_images_detail_shows_all_fields(with_images: MemoryCommands) -> None:
    assert "URI:          images/1" in with_images.call("list-images", "--detail").out
    assert "images/1" not in with_images.call("list-images").out


# instance types


def test_list_instance_types_has_prices_and_one_row_for_all_zones(commands: MemoryCommands) -> None:
    rows = commands.call("list-instance-types", "--json").data
    assert [row["name"] for row in rows] == ["memory-1", "memory-2", "memory-4", "memory-8"]
    four = rows[2]
    assert (four["vcpu"], four["mem"], four["storage"]) == (4, 16.0, 10.0)
    assert (float(four["total_price"]), float(four["total_price_per_cpu"])) == (0.2, 0.05)
    assert (four["zone"], four["zones"]) == ("memory-*", ["memory-a", "memory-b"])


def test_list_instance_types_counts_types_rejected_by_constraints(commands: MemoryCommands) -> None:
    answer = commands.call("list-instance-types", "--min-cpu", "4", "--max-total-memory", "20")
    assert [line.split()[0] for line in answer.out.splitlines()[2:]] == ["memory-4"]
    assert "3 other types rejected by the constraints" in answer.err


def test_list_instance_types_restricted_to_a_zone(commands: MemoryCommands) -> None:
    assert column(commands.call("list-instance-types", "--json", "--zone", "memory-b"), "zone") == ["memory-b"] * 4


def test_list_instance_types_shows_spot_prices(commands: MemoryCommands) -> None:
    (row,) = commands.call("list-instance-types", "--json", "--use-spot", "--max-cpu", "1").data
    assert (row["purchase"], float(row["total_price"])) == ("spot", 0.015)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--sort-by", "-vcpu"], ["8", "4", "2", "1"]),
        (["--sort-by", "total_price_per_cpu,-name"], ["8", "4", "2", "1"]),
        (["--sort-by", "-tot", "--limit", "2"], []),
        (["--limit", "2"], ["1", "2"]),
        (["--filter", "MEMORY-4"], ["4"]),
        (["--instance-types", "y-1$", "y-8$"], ["1", "8"]),
    ],
)
def test_list_instance_types_sorts_filters_and_limits(
    commands: MemoryCommands, arguments: list[str], expected: list[str]
) -> None:
    answer = commands.call("list-instance-types", "--json", *arguments)
    if expected:
        assert column(answer, "name") == [f"memory-{size}" for size in expected]
    else:
        assert isinstance(answer.error, InputError)
        assert "is ambiguous; choose from total_price, total_price_per_cpu" in str(answer.error)


def test_list_instance_types_detail_shows_the_price_breakdown(commands: MemoryCommands) -> None:
    text = commands.call("list-instance-types", "--detail", "--max-cpu", "2", "--min-cpu", "2").out
    assert text.startswith("memory-2\n  Arch: ")
    assert "vCPU $/h:                 $0.100000\n" in text


# running instances


def test_list_running_instances_of_a_job_of_all_jobs_and_of_the_account(commands: MemoryCommands) -> None:
    ours, other = commands.launch("a"), commands.launch("b", job_id="other", vcpus=4)
    foreign = commands.provider.instances.start_unmanaged()

    def found(*arguments: str) -> list[Any]:
        return sorted(column(commands.call("list-running-instances", "--json", *arguments), "id"))

    assert found("--job-id", "job") == [ours.instance_id]
    assert found() == sorted([ours.instance_id, other.instance_id])
    assert found("--all-instances") == sorted([foreign, ours.instance_id, other.instance_id])


def test_list_running_instances_includes_terminated_on_request(commands: MemoryCommands) -> None:
    instance = commands.launch("a")
    commands.provider.instances.end(instance.instance_id)
    assert commands.call("list-running-instances").out == "No running instances of any job found\n"
    assert commands.call("list-running-instances", "--job-id", "x").out == "No running instances of job x found\n"
    assert column(commands.call("list-running-instances", "--include-terminated", "--json"), "state") == ["terminated"]


def test_list_running_instances_sorts_and_shows_detail(commands: MemoryCommands) -> None:
    for token, vcpus in (("a", 2), ("b", 8), ("c", 1)):
        commands.launch(token, vcpus=vcpus)
    types = column(commands.call("list-running-instances", "--json", "--sort-by=-type"), "type")
    assert types == ["memory-8", "memory-2", "memory-1"]
    assert f"Owner:        {owner_label()}\n" in commands.call("list-running-instances", "--detail").out


def test_list_running_instances_rejects_job_with_all_instances(commands: MemoryCommands) -> None:
    error = commands.call("list-running-instances", "--all-instances", "--job-id", "job").error
    assert str(error) == "--all-instances and --job-id exclude each other; give one of them"


def test_list_running_instances_shows_reasons_if_there_are_any(commands: MemoryCommands) -> None:
    commands.launch("a")
    assert "Reason" not in commands.call("list-running-instances").out
    assert column(commands.call("list-running-instances", "--json"), "reason") == [""]
    commands = MemoryCommands(provider=MemoryProvider(pending_listings=100))
    commands.launch("a")
    assert column(commands.call("list-running-instances", "--json"), "state") == ["pending"]
    assert "Resources" in commands.call("list-running-instances").out
