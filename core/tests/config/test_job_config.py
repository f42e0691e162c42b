"""`JobConfig`: settings, constraints, limits, startup script, exported variables and dumps."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from configuration_fakes import GcpComputeSettings, GcpQueueSettings, load, make_registry_with_cluster

from cloud_tasks.config import JobConfig, RunSettings, load_config
from cloud_tasks.errors import InputError
from cloud_tasks.model import Architecture, Constraints, Limits, Money, ProvisioningModel
from cloud_tasks.plugin import Reach, hookimpl, setting_info
from cloud_tasks.retry_rule import RetryRule

Read = Callable[..., JobConfig]

RMS_USERS_FILE = r"""
# A file of the earlier program.
provider: GCP
run:
  min_instances: 1
  max_instances: 5
  min_total_cpus: 8
  max_total_cpus: 64
  cpus_per_task: 2
  min_tasks_per_instance: 1
  max_tasks_per_instance: 100
  min_simultaneous_tasks: 4
  max_simultaneous_tasks: 200
  min_total_price_per_hour: 0.5
  max_total_price_per_hour: 20
  architecture: X86_64
  cpu_family: Intel Cascade Lake
  min_cpu_rank: 5
  max_cpu_rank: 20
  min_cpu: 2
  max_cpu: 16
  min_total_memory: 2
  max_total_memory: 64
  min_memory_per_cpu: 1.5
  max_memory_per_cpu: 8
  min_memory_per_task: 1
  max_memory_per_task: 16
  min_local_ssd: 10
  max_local_ssd: 1000
  min_local_ssd_per_cpu: 1
  max_local_ssd_per_cpu: 100
  min_local_ssd_per_task: 1
  max_local_ssd_per_task: 100
  local_ssd_base_size: 5
  boot_disk_types: pd-standard
  boot_disk_iops: 3000
  boot_disk_throughput: 140
  total_boot_disk_size: 20
  boot_disk_base_size: 5
  boot_disk_per_cpu: 1
  boot_disk_per_task: 2.5
  instance_types: ["^n1-.*", "^n2-.*"]
  use_spot: true
  image: ubuntu-2404-lts
  scaling_check_interval: 30
  instance_termination_delay: 90
  max_runtime: 600
  retry_on_exit: true
  retry_on_exception: false
  retry_on_timeout: true
  max_memory_allowed_per_task: 4
  keepalive_interval: 20
  keepalive_startup_timeout: 1000
  keepalive_timeout: 100
  db_file: results/job.db
  startup_script: |
    apt-get update -y
    python3 worker.py
gcp:
  job_id: my-job
  queue_name: my-queue
  region: us-central1
  zone: us-central1-a
  exactly_once_queue: true
  project_id: my-project
  service_account: me@example.com
  max_cpu: 8
aws:
  access_key: AKIA
  job_id: another
azure:
  subscription_id: s
  client_secret: c
"""


def test_load_config_reads_a_full_file_of_the_earlier_program(read: Read) -> None:
    config = read(RMS_USERS_FILE)

    assert (config.provider, config.queue, config.compute, config.pricing) == ("gcp", "gcp", "gcp", "gcp")
    assert config.run == RunSettings(
        min_instances=1,
        max_instances=5,
        min_total_cpus=8,
        max_total_cpus=64,
        cpus_per_task=2.0,
        min_tasks_per_instance=1,
        max_tasks_per_instance=100,
        min_simultaneous_tasks=4,
        max_simultaneous_tasks=200,
        min_total_price_per_hour=Money("0.5"),
        max_total_price_per_hour=Money(20),
        architecture=Architecture.X86_64,
        cpu_family="Intel Cascade Lake",
        min_cpu_rank=5,
        max_cpu_rank=20,
        min_cpu=2,
        max_cpu=8,
        min_total_memory=2.0,
        max_total_memory=64.0,
        min_memory_per_cpu=1.5,
        max_memory_per_cpu=8.0,
        min_memory_per_task=1.0,
        max_memory_per_task=16.0,
        min_local_ssd=10.0,
        max_local_ssd=1000.0,
        min_local_ssd_per_cpu=1.0,
        max_local_ssd_per_cpu=100.0,
        min_local_ssd_per_task=1.0,
        max_local_ssd_per_task=100.0,
        local_ssd_base_size=5.0,
        boot_disk_types=("pd-standard",),
        boot_disk_iops=3000,
        boot_disk_throughput=140,
        total_boot_disk_size=20.0,
        boot_disk_base_size=5.0,
        boot_disk_per_cpu=1.0,
        boot_disk_per_task=2.5,
        instance_types=("^n1-.*", "^n2-.*"),
        use_spot=True,
        image="ubuntu-2404-lts",
        scaling_check_interval=30.0,
        instance_termination_delay=90.0,
        max_runtime=600.0,
        retry_on_exit=True,
        retry_on_timeout=True,
        max_memory_allowed_per_task=4.0,
        keepalive_interval=20.0,
        keepalive_startup_timeout=1000.0,
        keepalive_timeout=100.0,
        db_file="results/job.db",
        startup_script="apt-get update -y\npython3 worker.py\n",
        job_id="my-job",
        queue_name="my-queue",
        region="us-central1",
        zone="us-central1-a",
        exactly_once_queue=True,
    )
    assert config.settings_for("compute", "gcp") == GcpComputeSettings(
        project_id="my-project", service_account="me@example.com"
    )


def test_run_settings_have_the_documented_defaults(read: Read) -> None:
    run = read(None).run
    assert (run.max_instances, run.max_total_price_per_hour, run.cpus_per_task) == (10, Money(10), 1.0)
    assert (run.architecture, run.total_boot_disk_size, run.boot_disk_base_size) == (Architecture.X86_64, 10.0, 0.0)
    assert (run.scaling_check_interval, run.instance_termination_delay, run.max_runtime) == (60.0, 60.0, 3600.0)
    assert (run.keepalive_interval, run.keepalive_startup_timeout, run.keepalive_timeout) == (60.0, 600.0, 300.0)
    assert (run.max_parallel_instance_creations, run.max_concurrent_queue_operations) == (10, 100)
    assert (run.use_spot, run.exactly_once_queue, run.min_instances, run.max_total_cost) == (False, False, None, None)


def test_default_constraints_and_limits_equal_those_of_the_model(read: Read) -> None:
    config = read(None)
    assert config.constraints() == Constraints()
    assert config.limits() == Limits()


def test_constraints_limits_and_retries_come_from_run(read: Read) -> None:
    config = read(RMS_USERS_FILE)
    constraints = config.constraints()
    assert [pattern.pattern for pattern in constraints.instance_types] == ["^n1-.*", "^n2-.*"]
    assert all(isinstance(pattern, re.Pattern) for pattern in constraints.instance_types)
    assert (constraints.provisioning_model, constraints.zone, constraints.max_cpu) == (
        ProvisioningModel.SPOT,
        "us-central1-a",
        8,
    )
    assert (config.limits().max_instances, config.limits().max_total_price_per_hour) == (5, Money(20))
    assert (config.run.retry_on_exit, config.run.retry_on_exception, config.run.retry_on_timeout) == (True, False, True)


def test_run_settings_have_help_of_one_line() -> None:
    for field in attrs.fields(RunSettings):
        info = setting_info(field)
        assert info.help, field.name
        assert "\n" not in info.help
        assert not info.help.endswith(".")


def test_settings_for_splits_a_section_over_the_classes_of_its_backends(read: Read) -> None:
    config = read(
        "provider: gcp\ngcp:\n  project_id: p\n  retention_days: 3\n  surcharge: 0.25\n  launch_timeout: 90\n"
        "  folder: here\n  networks: a, b\n  min_cpu: 2\n"
    )
    assert config.settings_for("queue", "gcp") == GcpQueueSettings(
        project_id="p", retention_days=3.0, surcharge=Money("0.25")
    )
    assert config.settings_for("compute", "gcp") == GcpComputeSettings(
        project_id="p", launch_timeout=timedelta(seconds=90), folder=Path("here"), networks=("a", "b")
    )


def test_settings_for_reports_a_missing_required_setting(read: Read) -> None:
    config = read("provider: gcp\n")
    with pytest.raises(InputError) as caught:
        config.settings_for("compute", "gcp")
    assert str(caught.value) == (
        "config.yml: gcp.project_id: required; "
        "set it in the section gcp, or add --project-id, or set FAKE_CLOUD_PROJECT"
    )


def test_queue_without_a_provider_is_an_error(read: Read) -> None:
    config = read("run:\n  job_id: a\n")
    assert (config.provider, config.run.job_id) == (None, "a")
    with pytest.raises(InputError, match="no provider given; set provider in the configuration, or add --provider"):
        _ = config.queue


def test_provider_is_chosen_for_the_kinds_that_it_has() -> None:
    registry = make_registry_with_cluster()
    for given in ({"provider": "cluster", "queue": "gcp"}, {"compute": "cluster", "queue": "gcp"}):
        config = load_config(registry, file=None, options=given, environ={})
        assert config.backends == {"queue": "gcp", "compute": "cluster", "pricing": "cluster"}
    config = load_config(registry, file=None, options={"provider": "gcp", "compute": "cluster"}, environ={})
    assert (config.queue, config.pricing) == ("gcp", "cluster")
    config = load_config(registry, file=None, options={"provider": "cluster", "pricing": "gcp"}, environ={})
    assert config.pricing == "gcp"


@pytest.mark.parametrize("key", ["provider", "compute"])
def test_queue_that_the_provider_lacks_is_asked_for_by_name(key: str) -> None:
    registry = make_registry_with_cluster()
    # Not named: the instances cannot use it.
    traits = attrs.evolve(registry.queue("gcp").traits, reach=Reach.MACHINE)
    desk = attrs.evolve(registry.queue("gcp"), name="desk", traits=traits)
    registry.register("desk", SimpleNamespace(cloud_tasks_register_queue=hookimpl(lambda: (desk,))))
    config = load_config(registry, file=None, options={key: "cluster"}, environ={})
    with pytest.raises(InputError) as caught:
        _ = config.queue
    problem = '"cluster" has none' if key == "provider" else "no provider given"
    assert str(caught.value) == (
        f"no queue chosen: {problem}; set queue in the configuration, or add --set queue=NAME; installed: aws, gcp"
    )


def test_settings_for_a_provider_that_is_not_installed_is_an_error(read: Read) -> None:
    config = read("provider: azure\n")
    with pytest.raises(InputError, match='plugin "azure" is not installed'):
        config.settings_for("compute", config.compute)


def test_worker_environment_has_worker_settings_only(read: Read) -> None:
    config = read(
        "provider: gcp\ngcp:\n  project_id: p\n  secret_key: a-long-secret\n  networks: [a, b]\n  public: true\n"
    )
    assert config.worker_environment() == {
        "CLOUD_TASKS_GCP_PROJECT_ID": "p",
        "CLOUD_TASKS_GCP_LAUNCH_TIMEOUT": "30.0",
        "CLOUD_TASKS_GCP_FOLDER": "there",
        "CLOUD_TASKS_GCP_NETWORKS": '["a", "b"]',
        "CLOUD_TASKS_GCP_PUBLIC": "1",
    }


def test_worker_environment_reads_back_as_the_same_settings(read: Read) -> None:
    text = "provider: gcp\ngcp:\n  project_id: p\n  networks: [a, b]\n  public: true\n  launch_timeout: 1.5\n"
    config = read(text)
    again = load(None, options={"provider": "gcp"}, environ=config.worker_environment())
    assert again.settings_for("compute", "gcp") == config.settings_for("compute", "gcp")


def test_secret_variables_are_those_of_every_section(read: Read) -> None:
    for queue, other in (("gcp", "aws"), ("aws", "gcp")):
        names = read(f"compute: {other}\nqueue: {queue}\ngcp: {{project_id: p}}\n").secret_variables()
        assert set(names) == {"CLOUD_TASKS_GCP_SECRET_KEY", "CLOUD_TASKS_AWS_ACCESS_KEY"}


@pytest.mark.parametrize(
    ("zone", "region"),
    [
        ("us-central1-a", "us-central1"),
        ("europe-west12-b", "europe-west12"),
        ("us-east-1a", "us-east-1"),
        ("eastus-1", "eastus"),
        ("eastus2-3", "eastus2"),
        ("ap-southeast-2c", "ap-southeast-2"),
        ("1", None),
        ("us-west-2-lax-1a", None),
        ("local", None),
    ],
)
def test_region_is_derived_from_the_zone_if_its_name_has_one(read: Read, zone: str, region: str | None) -> None:
    config = read(None, options={"run.zone": zone})
    assert (config.run.zone, config.run.region) == (zone, region)


def test_region_that_was_given_is_kept(read: Read) -> None:
    assert read(None, options={"run.zone": "1", "run.region": "westus2"}).run.region == "westus2"


def test_startup_script_file_is_relative_to_the_file_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "start.sh").write_text("echo beside\n")
    (elsewhere / "start.sh").write_text("echo here\n")
    monkeypatch.chdir(elsewhere)

    named_in_file = load("run:\n  startup_script_file: start.sh\n", folder=tmp_path)
    named_as_option = load("", folder=tmp_path, options={"run.startup_script_file": "start.sh"})

    assert named_in_file.base_dir == tmp_path
    assert named_in_file.require_startup_script() == "echo beside\n"
    assert named_as_option.require_startup_script() == "echo here\n"


def test_require_startup_script_refuses_a_missing_or_empty_script(read: Read) -> None:
    with pytest.raises(InputError, match=r"^config\.yml: no startup script given"):
        read("run:\n  job_id: a\n").require_startup_script()
    with pytest.raises(InputError, match=r"^config\.yml:2: the startup script is empty"):
        read('run:\n  startup_script: " "\n').require_startup_script()


@pytest.mark.parametrize("line", ["", "#!/bin/sh -eu\n", "#! /usr/bin/env bash\n", "#!/usr/bin/env -S A=b zsh -e\n"])
def test_require_startup_script_accepts_every_shell(read: Read, line: str) -> None:
    script = f"{line}python3 worker.py\n"
    assert read(f"run:\n  startup_script: {json.dumps(script)}\n").require_startup_script() == script


@pytest.mark.parametrize("line", ["#!/usr/bin/python3", "#!/usr/bin/env python3", "#!/usr/bin/env -S python3 -u"])
def test_require_startup_script_refuses_another_language(read: Read, line: str) -> None:
    config = read(f"run:\n  startup_script: {json.dumps(line + chr(10))}\n")
    with pytest.raises(InputError, match=r'^config\.yml:2: the startup script is for "python3"') as refused:
        config.require_startup_script()
    assert "#!/bin/bash" in str(refused.value)


def test_retry_rules_are_read_from_a_file_and_from_text(read: Read) -> None:
    rules = (
        RetryRule(on="exit", codes=(137,), attempts=5),
        RetryRule(on="exception", types=("OSError",)),
    )
    text = "[{on: exit, codes: [137], attempts: 5}, {on: exception, types: [OSError]}]"
    assert read(f"run:\n  retry: {text}\n").run.retry == rules
    assert read(None, sets=[f"run.retry={text}"]).run.retry == rules


def test_as_dict_has_the_shape_of_the_file_and_reads_back(read: Read) -> None:
    import yaml

    config = read(RMS_USERS_FILE)
    dumped = config.as_dict()
    sections = {name: dumped[name] for name in ("provider", "run", "gcp")}
    sections["gcp"].pop("secret_key")
    again = read(yaml.safe_dump(sections))
    assert again.run == config.run
    assert again.settings_for("queue", "gcp") == config.settings_for("queue", "gcp")


def test_as_dict_shows_the_origin_of_each_value(read: Read) -> None:
    dumped: dict[str, Any] = read("provider: gcp\nrun:\n  min_cpu: 2\n").as_dict(with_origins=True)
    assert dumped["queue"] == {"value": "gcp", "origin": "config.yml:1"}
    assert dumped["run"]["min_cpu"] == {"value": 2, "origin": "config.yml:3"}
    assert dumped["run"]["max_cpu"] == {"value": None, "origin": "default"}


def test_load_config_writes_nothing(read: Read, tmp_path: Path) -> None:
    before = read(RMS_USERS_FILE)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yml"]
    assert before.file is not None
    assert before.file.read_text() == RMS_USERS_FILE
