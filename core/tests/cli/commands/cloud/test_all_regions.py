"""Instances of all regions: found on request, and never left out silently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
from memory_commands import MemoryCommands

from cloud_tasks.model import Instance, Region
from cloud_tasks.plugin import ComputeContext

REGIONS = ("memory-a", "memory-b")


class Regional(MemoryCommands):
    """Provider with two regions, whose listings show one region."""

    def __init__(self) -> None:
        super().__init__(compute={"open": self._open})
        self.ids = {region: self.launch(region, zone=region).instance_id for region in REGIONS}

    @contextmanager
    def _open(self, settings: Any, context: ComputeContext) -> Iterator[Any]:
        with self.provider.compute.open(settings, context) as compute:
            yield OneRegion(compute, context.region or "memory-a")


class OneRegion:
    """Compute backend that lists one region."""

    def __init__(self, compute: Any, region: str) -> None:
        self._compute, self._region = compute, region

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compute, name)

    def regions(self) -> Sequence[Region]:
        return [Region(name=name, zones=(name,)) for name in REGIONS]

    def instances(self, *arguments: Any, **options: Any) -> Sequence[Instance]:
        return [i for i in self._compute.instances(*arguments, **options) if i.zone == self._region]


@pytest.fixture
def commands(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Regional:
    monkeypatch.chdir(tmp_path)
    return Regional()


def test_listing_of_one_region_says_so(commands: Regional) -> None:
    answer = commands.call("list-running-instances", "--region", "memory-b", "--json")
    assert [row["id"] for row in answer.data] == [commands.ids["memory-b"]]
    assert answer.err == "Only region memory-b is listed; add --all-regions for all\n"


def test_all_regions_are_listed_on_request(commands: Regional) -> None:
    answer = commands.call("list-running-instances", "--all-regions", "--json")
    assert {row["id"] for row in answer.data} == set(commands.ids.values())
    assert answer.err == ""


def test_instances_of_all_regions_are_cleaned_up(commands: Regional) -> None:
    listed = commands.call("cleanup", "--all", "--any-owner", "--list", "--json", "--all-regions")
    assert {row["instance_id"] for row in listed.data} == set(commands.ids.values())
    one = commands.call("cleanup", "--all", "--any-owner", "--force", "--region", "memory-b")
    assert "Only region memory-b is listed" in one.err
    assert "Terminated 1 instance; no listing shows them any more" in one.out
    rest = commands.call("cleanup", "--all", "--any-owner", "--force", "--all-regions")
    assert "Terminated 1 instance; no listing shows them any more" in rest.out
    assert commands.call("list-running-instances", "--all-regions", "--json").data == []


def test_provider_whose_listings_show_all_regions_is_opened_once(commands: Regional) -> None:
    opened = commands.registry.compute("memory")
    traits = attrs.evolve(opened.traits, lists_all_regions=True)
    whole = MemoryCommands(compute={"traits": traits})
    whole.launch("token")
    for options in ((), ("--all-regions",)):
        answer = whole.call("list-running-instances", "--json", *options)
        assert (len(answer.data), answer.err) == (1, "")
