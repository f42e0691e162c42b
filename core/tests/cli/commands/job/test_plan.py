"""``plan``: ranking, rejected types, forecast and quotas; changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from store_facts import completed, new_store

from cloud_tasks.cli.main import cli, main
from cloud_tasks.model import Headroom, Offer

CONFIG = """
provider: local
run: {job_id: job, max_instances: 3}
local: {vcpus: 4, memory_gb: 8, price_per_cpu_hour: 0.5}
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yml").write_text(CONFIG, encoding="utf-8")


def plan(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["plan", "--config", "config.yml", *arguments])


def plan_json(*arguments: str) -> dict[str, Any]:
    return dict(json.loads(plan("--json", *arguments).stdout))


def bad_input(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a plan that fails with exit code 2; return its one line."""
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--config", "config.yml", *arguments])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_plan_shows_the_offers_best_first() -> None:
    rows = [line.split() for line in plan().output.splitlines()]
    assert rows[0][:4] == ["Rank", "Instance", "Type", "Zone"]
    assert rows[2][:8] == ["1", "local-4", "local-a", "on-demand", "4", "4", "$2.000000", "$0.500000"]


def test_plan_shows_the_reason_for_every_rejected_type() -> None:
    assert "  local-4: 4 vCPUs > max_cpu 2\n" in plan("--rejected", "--max-cpu", "2").output
    rejected = plan_json("--max-cpu", "2")["rejected"]
    assert {"instance_type": "local-4", "reason": "4 vCPUs > max_cpu 2"}.items() <= rejected[-1].items()


def test_plan_forecasts_instances_that_the_tasks_fill_within_the_limits() -> None:
    assert [plan_json("--num-tasks", n)["forecast"]["instances"] for n in ("0", "1", "5", "9999")] == [0, 1, 2, 3]
    assert plan_json()["forecast"]["instances"] == 3


def test_plan_forecasts_duration_and_cost_from_the_task_time() -> None:
    found = plan_json("--num-tasks", "120", "--task-time", "360")["forecast"]
    assert (found["duration_seconds"], float(found["price_per_hour"]), float(found["cost"])) == (3600.0, 6.0, 6.0)
    text = plan("--num-tasks", "120", "--task-time", "360").output
    assert "Expected duration: about 1h 0m 0s\nExpected cost: about $6.00\n" in text


def test_plan_includes_the_boot_time_in_duration_and_cost() -> None:
    found = plan_json("--num-tasks", "120", "--task-time", "360", "--boot-time", "1800")["forecast"]
    assert (found["duration_seconds"], float(found["cost"])) == (5400.0, 9.0)


def test_plan_warns_of_a_cost_above_the_limit() -> None:
    text = plan("--num-tasks", "120", "--task-time", "360", "--max-total-cost", "5").output
    assert "Warning: this is more than max_total_cost ($5.00)" in text


def test_plan_takes_the_task_time_from_a_sample(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b"], name="sample.db") as store:
        store.apply_events([completed("a", elapsed=10.0), completed("b", elapsed=20.0)])
    assert plan_json("--sample-db", "sample.db")["task_time_seconds"] == 15.0


def test_plan_counts_the_tasks_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "tasks.json").write_text('[{"task_id": "a", "data": {}}, {"task_id": "b", "data": {}}]')
    assert plan_json("--task-file", "tasks.json")["tasks"] == 2


def test_plan_changes_nothing(tmp_path: Path) -> None:
    assert plan("--num-tasks", "10", "--task-time", "1", "--detail").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["config.yml"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--min-cpu", "999"], "no instance type satisfies the constraints: local-1: 1 vCPUs < min_cpu 999"),
        (["--num-tasks", "1", "--task-file", "t.json"], "--num-tasks and --task-file exclude each other"),
        (["--task-time", "1", "--sample-db", "s.db"], "--task-time and --sample-db exclude each other"),
        (["--sample-db", "missing.db"], "job database missing.db not found"),
        (["--task-file", "missing.json"], "missing.json"),
        (["--task-time", "0"], "--task-time"),
        (["--num-tasks", "-1"], "--num-tasks"),
        (["--prefer", "beauty"], "prefer"),
    ],
)
def test_plan_reports_bad_input_in_one_line(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reason in bad_input(capsys, *arguments)


def two_more(compute: object, offer: Offer) -> Headroom:
    return Headroom(instances=2, limited_by="CPUS-per-region")


def test_plan_compares_the_quotas_with_the_planned_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Quotas" not in plan("--num-tasks", "100").stdout
    monkeypatch.setattr("cloud_tasks_local.compute.LocalCompute.headroom", two_more)
    told = plan("--num-tasks", "100")
    assert "2 more instances, limited by CPUS-per-region" in told.stdout
    assert "Warning: 3 instances are planned, CPUS-per-region allows 2" in told.stdout
    facts = plan_json("--num-tasks", "100")
    assert facts["exceeds_quota"] is True
    assert facts["offers"][0]["headroom"] == {"instances": 2, "limited_by": "CPUS-per-region"}
    assert plan_json("--num-tasks", "1")["exceeds_quota"] is False


def test_plan_ranks_by_the_speed_of_cpu_families() -> None:
    family = plan_json("--num-tasks", "1")["offers"][0]["cpu_family"]
    weighted = plan_json("--num-tasks", "1", "--set", f"run.cpu_family_speed={{{json.dumps(family)}: 2.5}}")
    assert weighted["offers"][0]["speed"] == 2.5


def test_plan_without_a_queue_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yml").write_text(CONFIG.replace("provider: local", "compute: local"))
    assert bad_input(capsys).startswith("Error: config.yml: no queue chosen: no provider given; set queue in")
