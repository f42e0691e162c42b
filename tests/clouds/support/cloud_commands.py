"""Every command that looks, asks or tidies up, end to end on one provider: a class of tests to be made one's own.

A provider's file has a class that is derived from `CommandsOfAProvider`, with a fixture ``site``. Commands run in this
process, over the provider's real SDK, against whatever the site's surroundings point them at.
"""

from __future__ import annotations

import json
import os
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
from cloud_tasks.model import LaunchRequest

__all__ = ["Answer", "Call", "CommandsOfAProvider", "Site"]

_SCRIPT = "#!/bin/bash\nexec sleep 600\n"


@attrs.frozen(kw_only=True)
class Site:
    """Where the commands work, and what there is to be seen."""

    folder: Path
    sections: Mapping[str, Any]
    """The configuration beside ``run``."""
    run: Mapping[str, Any]
    """Of that section: the region, and what leaves at least two instance types."""
    environment: Mapping[str, str]
    region: str
    zone: str
    """One of that region's."""
    image: str
    """A word that some images have, not all, where there are several."""
    instance_type: str
    """One that satisfies the constraints."""
    counts_messages: bool = True
    """Whether the queue knows how many messages it holds."""


@attrs.frozen(kw_only=True)
class Answer:
    """What a command said."""

    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """The words of each line of a table, below its head."""
        return [line.split() for line in self.out.splitlines()[2:]]


Call = Callable[..., Answer]


class CommandsOfAProvider:
    """The tests; a derived class has the fixture ``site``."""

    @pytest.fixture
    def call(self, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
        """Runs a command with the site's configuration; ``code`` is the exit code that it has to end with."""
        monkeypatch.chdir(site.folder)
        for name, value in site.environment.items():
            monkeypatch.setenv(name, value)
        run = {"job_id": f"job-{secrets.token_hex(4)}", "startup_script": _SCRIPT, **site.run}
        # JSON is YAML.
        (site.folder / "config.yml").write_text(json.dumps({**site.sections, "run": run}))
        tasks = [{"id": f"task-{n}", "data": {"number": n}} for n in range(1, 4)]
        (site.folder / "tasks.json").write_text(json.dumps(tasks))

        def call(*words: str, code: int = 0) -> Answer:
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                main([words[0], "--config", "config.yml", *words[1:]])
            told = capsys.readouterr()
            assert ended.value.code == code, told.out + told.err
            return Answer(out=told.out, err=told.err)

        return call

    @pytest.fixture
    def launch(self, call: Call, site: Site) -> Callable[[timedelta], str]:
        """Starts an instance of the configured job that is meant to live so long; returns its id."""

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

    def test_regions(self, call: Call, site: Site) -> None:
        names = [row["name"] for row in call("list-regions", "--json").data]
        assert site.region in names
        assert names == sorted(names)
        assert [row[0] for row in call("list-regions", "--prefix", site.region).rows] == [site.region]
        for option in ("--zones", "--detail"):
            assert site.zone in call("list-regions", option).out
        assert call("list-regions", "--prefix", "nowhere").out == "No regions found\n"

    def test_images(self, call: Call, site: Site) -> None:
        every = call("list-images", "--json").data
        names = [row["name"] for row in every]
        chosen = [row["name"] for row in call("list-images", "--filter", site.image, "--json").data]
        assert set(chosen) < set(names) or len(names) == 1
        assert chosen
        backwards = call("list-images", "--sort-by", "-nam", "--json").data
        assert [row["name"] for row in backwards] == sorted(names, reverse=True)
        first = call("list-images", "--limit", "1")
        assert len(first.rows) == 1
        assert f"... and {len(names) - 1} more" in first.err or len(names) == 1
        assert "URI:" in call("list-images", "--limit", "1", "--detail").out

    def test_instance_types(self, call: Call, site: Site) -> None:
        every = call("list-instance-types", "--json").data
        assert site.instance_type in {row["name"] for row in every}
        assert all(float(row["total_price"]) >= 0 for row in every if row["name"] == site.instance_type)
        ordered = call("list-instance-types", "--sort-by", "-vcpu,name", "--json").data
        order = [(-row["vcpu"], row["name"]) for row in ordered]
        assert order == sorted(order)
        assert len({vcpus for vcpus, _ in order}) > 1
        exactly = f"^{site.instance_type}$"
        found = call("list-instance-types", "--instance-types", exactly, "--detail").out
        assert found.splitlines()[0] == site.instance_type
        assert len(call("list-instance-types", "--limit", "1").rows) == 1
        filtered = call("list-instance-types", "--filter", site.instance_type, "--json").data
        assert {row["name"] for row in filtered} == {site.instance_type}
        assert "is ambiguous" in call("list-instance-types", "--sort-by", "p", code=2).err

    def test_what_is_planned_changes_nothing(self, call: Call, site: Site) -> None:
        words = ("plan", "--task-file", "tasks.json", "--task-time", "60")
        text = call(*words).out
        assert "Tasks: 3\n" in text
        assert "Expected cost: about $" in text
        facts = call(*words, "--json").data
        assert site.instance_type in json.dumps(facts)
        assert call("list-running-instances", "--json").data == []
        assert {row["exists"] for row in call("show-queue", "--json").data} == {False}

    def test_the_doctor(self, call: Call, site: Site) -> None:
        assert "  ok       Python" in call("doctor").out
        told = call("doctor", "--json").data
        assert told["ok"] is True
        assert f"{site.sections['provider']} compute" in {finding["by"] for finding in told["findings"]}

    def test_the_life_of_queues(self, call: Call, site: Site) -> None:
        assert call("load-queue", "--task-file", "tasks.json", "--start-task", "2").out.startswith("Loaded 2 tasks")
        assert call("status", "--json").data["total"] == 2
        assert self._held(call) == ([2, 0] if site.counts_messages else [None, None])
        detail = call("show-queue", "--task-queue-only", "--detail").out
        assert '"task_id": "task-' in detail
        assert "--force" in call("purge-queue", code=2).err
        call("purge-queue", "--task-queue-only", "--force")
        assert self._held(call) == ([0, 0] if site.counts_messages else [None, None])
        assert "--force" in call("delete-queue", code=2).err
        call("delete-queue", "--event-queue-only", "--force")
        assert [row["exists"] for row in call("show-queue", "--json").data] == [True, False]
        call("delete-queue", "--force")
        assert [row["exists"] for row in call("show-queue", "--json").data] == [False, False]

    @staticmethod
    def _held(call: Call) -> list[int | None]:
        """How many messages wait in each queue, as far as is known."""
        rows = call("show-queue", "--json").data
        assert [row["kind"] for row in rows] == ["tasks", "events"]
        return [row["visible"] for row in rows]

    def test_the_life_of_an_instance(self, call: Call, site: Site, launch: Callable[[timedelta], str]) -> None:
        name = launch(timedelta(hours=1))
        (row,) = call("list-running-instances", "--json").data
        assert (row["id"], row["state"] in ("starting", "running")) == (name, True)
        for options in ((), ("--all-instances",), ("--sort-by", "-state,zone"), ("--detail",)):
            assert name in call("list-running-instances", *options).out
        # Its time has not passed.
        assert "Nothing to terminate" in call("cleanup", "--list").out
        assert [each["instance_id"] for each in call("cleanup", "--all", "--list", "--json").data] == [name]
        assert "--force" in call("cleanup", "--all", code=2).err
        assert f"Terminated {name}" in call("stop").out
        assert call("list-running-instances").out.startswith("No running instances of job job-")
        assert "there was none" in call("stop").out

    def test_what_has_expired_is_swept(self, call: Call, launch: Callable[[timedelta], str]) -> None:
        name = launch(timedelta(hours=-1))
        assert name in call("cleanup", "--list").out
        assert "Terminated 1 instance" in call("cleanup", "--force").out
        assert call("list-running-instances", "--json").data == []
