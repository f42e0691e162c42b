"""End-to-end tests of all listing, checking and cleanup commands on one provider, as a base class.

A provider's test file derives a class from `CommandsOfAProvider` with a fixture ``site``. Commands run in this process,
with the provider's real SDK, against the fakes that the site's environment points to.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from cloud_tasks.cli.context import make_registry
from cloud_tasks.cli.main import main
from cloud_tasks.config import load_config
from cloud_tasks.controller.launch.labels import ownership_labels
from cloud_tasks.controller.setup.offers import rank_offers
from cloud_tasks.controller.setup.open_backends import open_compute
from cloud_tasks.model import LaunchRequest, Money

__all__ = ["Answer", "Call", "CommandsOfAProvider", "Site"]

_SCRIPT = "#!/bin/bash\nexec sleep 600\n"


@attrs.frozen(kw_only=True)
class Site:
    """Configuration of a provider, and what its fake contains."""

    folder: Path
    sections: Mapping[str, Any]
    """Sections of the configuration other than ``run``."""
    run: Mapping[str, Any]
    """Keys of ``run``: the region, and constraints that leave at least two instance types."""
    environment: Mapping[str, str]
    region: str
    zone: str
    """A zone of that region."""
    image: str
    """A word in the names of some images, not of all if there are several."""
    instance_type: str
    """An instance type that satisfies the constraints."""
    counts_messages: bool = True
    """Whether the queue reports its depth."""
    burstable: str = "$^"
    """Pattern of the burstable and shared-core types of the fake; by default of none."""
    address: str = "0"
    """Price per hour of an instance's public address in US dollars."""
    is_rented: bool = True
    """Whether instances are rented, not shares of this machine."""


@attrs.frozen(kw_only=True)
class Answer:
    """Output of a command."""

    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """Return the words of each table row, without the header."""
        return [line.split() for line in self.out.splitlines()[2:]]


Call = Callable[..., Answer]


class CommandsOfAProvider:
    """Tests of the commands; a derived class provides the fixture ``site``."""

    @pytest.fixture
    def call(self, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
        """Return a function that runs a command with the site's configuration and checks its exit code ``code``."""
        monkeypatch.chdir(site.folder)
        for name, value in site.environment.items():
            monkeypatch.setenv(name, value)
        run = {"job_id": f"job-{secrets.token_hex(4)}", "startup_script": _SCRIPT, **site.run}
        # JSON is YAML.
        (site.folder / "config.yml").write_text(json.dumps({**site.sections, "run": run}))
        tasks = [{"id": f"task-{n}", "data": {"number": n}} for n in range(1, 4)]
        (site.folder / "tasks.json").write_text(json.dumps(tasks))

        def call(*arguments: str, code: int = 0) -> Answer:
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                main([arguments[0], "--config", "config.yml", *arguments[1:]])
            captured = capsys.readouterr()
            assert ended.value.code == code, captured.out + captured.err
            return Answer(out=captured.out, err=captured.err)

        return call

    @pytest.fixture
    def launch(self, call: Call, site: Site) -> Callable[[timedelta], str]:
        """Return a function that launches an instance of the configured job with a lifetime and returns its id."""

        def launch(lifetime: timedelta) -> str:
            config = load_config(make_registry(), file=Path("config.yml"), options={}, environ=os.environ)
            job_id = config.run.job_id or ""
            offer = rank_offers(config, job_id).offers[0].offer
            request = LaunchRequest(
                client_token=secrets.token_hex(12),
                job_id=job_id,
                offer=offer,
                startup_script=_SCRIPT,
                labels=ownership_labels(run_id=secrets.token_hex(4), expires=datetime.now(UTC) + lifetime),
            )
            with open_compute(config, job_id) as compute:
                return compute.launch(request).instance_id

        return launch

    def test_list_regions(self, call: Call, site: Site) -> None:
        names = [row["name"] for row in call("list-regions", "--json").data]
        assert site.region in names
        assert names == sorted(names)
        assert [row[0] for row in call("list-regions", "--prefix", site.region).rows] == [site.region]
        for option in ("--zones", "--detail"):
            assert site.zone in call("list-regions", option).out
        assert call("list-regions", "--prefix", "nowhere").out == "No regions found\n"

    def test_selection_without_constraints_is_an_instance_that_runs_two_tasks_at_the_price_shown(
        self, call: Call, site: Site
    ) -> None:
        run = {key: site.run[key] for key in ("region",) if key in site.run}
        content = {**site.sections, "run": {"job_id": "unasked", "startup_script": _SCRIPT, **run}}
        (site.folder / "config.yml").write_text(json.dumps(content))
        plan = call("plan", "--json", "--num-tasks", "2").data
        config = load_config(make_registry(), file=Path("config.yml"), options={}, environ=os.environ)
        ranking = rank_offers(config, "unasked")
        assert plan["offers"][0]["instance_type"] == ranking.offers[0].offer.instance_type.name
        for each in ranking.offers:
            offer, price = each.offer, each.offer.price
            # What runs on every slot all the time, and what all of it costs.
            assert not re.search(site.burstable, offer.instance_type.name)
            assert offer.instance_type.sustained_cpu == 1
            assert each.slots <= offer.instance_type.vcpus
            assert offer.instance_type.memory_gb >= 1.8 * each.slots or not site.is_rented
            assert price.address == Money(site.address)
            assert price.surplus_credits == Money(0)
            assert sum(price.parts().values(), Money(0)) == offer.price_per_hour
        for offer in plan["offers"]:
            parts = sum((Money(amount) for amount in offer["price_parts"].values()), Money(0))
            assert Money(offer["price_per_hour"]) == parts
        assert ranking.offers[0].slots >= 2
        left_out = {r["instance_type"] for r in plan["rejected"] if r["reason"].startswith("burstable")}
        assert all(re.search(site.burstable, name) for name in left_out)
        assert bool(left_out) is (site.burstable != "$^")
        if left_out:
            text = call("plan", "--num-tasks", "2").out
            assert "Left out, burstable or shared cores: " in text
            assert f"Price per hour of {plan['offers'][0]['instance_type']}: " in text

    def test_named_burstable_type_is_priced_with_what_it_can_be_charged(self, call: Call, site: Site) -> None:
        if site.burstable == "$^":
            assert call("plan", "--json", "--num-tasks", "2").data["notes"] == []
            return
        run = {**site.run, "min_cpu": 0, "instance_types": [site.burstable]}
        content = {**site.sections, "run": {"job_id": "named", "startup_script": _SCRIPT, **run}}
        (site.folder / "config.yml").write_text(json.dumps(content))
        plan = call("plan", "--json", "--num-tasks", "2").data
        config = load_config(make_registry(), file=Path("config.yml"), options={}, environ=os.environ)
        types = {each.offer.instance_type.name: each for each in rank_offers(config, "named").offers}
        assert plan["offers"]
        for offer in plan["offers"]:
            ranked = types[offer["instance_type"]]
            sustained = ranked.offer.instance_type.sustained_cpu * offer["vcpus"]
            assert sustained < offer["vcpus"]
            assert offer["slots"] == max(1, int(sustained))
            assert offer["speed"] == 1 or sustained < offer["slots"]

    def test_list_images(self, call: Call, site: Site) -> None:
        rows_of_all = call("list-images", "--json").data
        names = [row["name"] for row in rows_of_all]
        chosen = [row["name"] for row in call("list-images", "--filter", site.image, "--json").data]
        assert set(chosen) < set(names) or len(names) == 1
        assert chosen
        descending = call("list-images", "--sort-by", "-nam", "--json").data
        assert [row["name"] for row in descending] == sorted(names, reverse=True)
        first = call("list-images", "--limit", "1")
        assert len(first.rows) == 1
        assert f"... and {len(names) - 1} more" in first.err or len(names) == 1
        assert "URI:" in call("list-images", "--limit", "1", "--detail").out

    def test_list_instance_types(self, call: Call, site: Site) -> None:
        rows_of_all = call("list-instance-types", "--json").data
        assert site.instance_type in {row["name"] for row in rows_of_all}
        assert all(float(row["total_price"]) >= 0 for row in rows_of_all if row["name"] == site.instance_type)
        ordered = call("list-instance-types", "--sort-by", "-vcpu,name", "--json").data
        order = [(-row["vcpu"], row["name"]) for row in ordered]
        assert order == sorted(order)
        assert len({vcpus for vcpus, _ in order}) > 1
        exact_pattern = f"^{site.instance_type}$"
        found = call("list-instance-types", "--instance-types", exact_pattern, "--detail").out
        assert found.splitlines()[0] == site.instance_type
        assert len(call("list-instance-types", "--limit", "1").rows) == 1
        filtered = call("list-instance-types", "--filter", site.instance_type, "--json").data
        assert {row["name"] for row in filtered} == {site.instance_type}
        assert "is ambiguous" in call("list-instance-types", "--sort-by", "p", code=2).err

    def test_plan_changes_nothing(self, call: Call, site: Site) -> None:
        arguments = ("plan", "--task-file", "tasks.json", "--task-time", "60")
        text = call(*arguments).out
        assert "Tasks: 3\n" in text
        assert "Expected cost: about $" in text
        plan = call(*arguments, "--json").data
        assert site.instance_type in json.dumps(plan)
        assert call("list-running-instances", "--json").data == []
        assert "job database" in call("show-queue", code=2).err

    def test_doctor(self, call: Call, site: Site) -> None:
        assert re.search("^  ok +Python", call("doctor").out, re.MULTILINE)
        findings = call("doctor", "--json").data
        assert findings["ok"] is True
        # A finding that queue and compute have in common is shown once.
        backends = {f"{site.sections['provider']} {kind}" for kind in ("compute", "queue")}
        assert backends & {finding["by"] for finding in findings["findings"]}

    def test_queue_commands_from_load_to_delete(self, call: Call, site: Site) -> None:
        assert call("load-queue", "--task-file", "tasks.json", "--start-task", "2").out.startswith("Loaded 2 tasks")
        assert call("status", "--json").data["total"] == 2
        assert self._depths(call) == ([2, 0] if site.counts_messages else [None, None])
        detail = call("show-queue", "--task-queue-only", "--detail").out
        assert '"task_id": "task-' in detail
        assert "--force" in call("purge-queue", code=2).err
        call("purge-queue", "--task-queue-only", "--force")
        assert self._depths(call) == ([0, 0] if site.counts_messages else [None, None])
        assert "--force" in call("delete-queue", code=2).err
        call("delete-queue", "--event-queue-only", "--force")
        assert [row["exists"] for row in call("show-queue", "--json").data] == [True, False]
        call("delete-queue", "--force")
        assert [row["exists"] for row in call("show-queue", "--json").data] == [False, False]

    @staticmethod
    def _depths(call: Call) -> list[int | None]:
        """Return the number of waiting messages per queue; None when unknown."""
        rows = call("show-queue", "--json").data
        assert [row["kind"] for row in rows] == ["tasks", "events"]
        return [row["visible"] for row in rows]

    def test_instance_commands_from_launch_to_stop(
        self, call: Call, site: Site, launch: Callable[[timedelta], str]
    ) -> None:
        name = launch(timedelta(hours=1))
        (row,) = call("list-running-instances", "--json").data
        assert (row["id"], row["state"] in ("starting", "running")) == (name, True)
        for options in ((), ("--all-instances",), ("--sort-by", "-state,zone"), ("--detail",)):
            assert name in call("list-running-instances", *options).out
        # Its lifetime has not expired.
        assert "Nothing to terminate" in call("cleanup", "--list").out
        assert [each["instance_id"] for each in call("cleanup", "--all", "--list", "--json").data] == [name]
        assert "--force" in call("cleanup", "--all", code=2).err
        assert f"Terminated {name}" in call("stop").out
        assert call("list-running-instances").out.startswith("No running instances of job job-")
        assert call("stop").out.startswith("No instances of job job-")

    def test_sweep_terminates_expired_instances(self, call: Call, launch: Callable[[timedelta], str]) -> None:
        name = launch(timedelta(hours=-1))
        assert name in call("cleanup", "--list").out
        assert "Terminated 1 instance" in call("cleanup", "--force").out
        assert call("list-running-instances", "--json").data == []
