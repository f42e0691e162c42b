"""Partitions, refusals, checks, prices and notices, on answers of Slurm's programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloud_tasks.errors import LaunchFailedError, LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import BootDisk, Money, Offer, OfferRequest, ProvisioningModel, Unpriced
from cloud_tasks.plugin import CheckContext, InstanceContext, PricingContext
from cloud_tasks.registry import Registry
from cloud_tasks_slurm.cluster import SlurmInstanceSide, check, open_pricing, read_types
from cloud_tasks_slurm.commands import run_command
from cloud_tasks_slurm.settings import SlurmSettings

Fake = Callable[..., None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Return a function that puts a program with fixed output in front of all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(name: str, *, output: str = "", error: str = "", code: int = 0) -> None:
        (tmp_path / f"{name}.out").write_text(output)
        (tmp_path / f"{name}.err").write_text(error)
        program = folder / name
        program.write_text(f"#!/bin/sh\ncat {tmp_path}/{name}.out\ncat {tmp_path}/{name}.err >&2\nexit {code}\n")
        program.chmod(0o755)

    return write


def test_plugin_is_installed_without_problems() -> None:
    registry = Registry(only=["slurm"])
    assert registry.problems() == ()
    assert (registry.names("compute"), registry.names("pricing")) == (("slurm",), ("slurm",))


@pytest.mark.parametrize(
    ("message", "scope"),
    [
        ("Invalid partition name specified", RefusalScope.ZONE),
        ("Requested partition configuration not available now", RefusalScope.ZONE),
        ("User's group not permitted to use this partition", RefusalScope.ZONE),
        ("Requested time limit is invalid (missing or exceeds some limit)", RefusalScope.ZONE),
        ("Requested node configuration is not available", RefusalScope.INSTANCE_TYPE),
        ("Memory required by task is not available", RefusalScope.INSTANCE_TYPE),
        ("More processors requested than permitted", RefusalScope.INSTANCE_TYPE),
        (
            "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
            RefusalScope.ACCOUNT,
        ),
        ("Slurm temporarily unable to accept job, sleeping and retrying", RefusalScope.ACCOUNT),
        ("Invalid account or account/partition combination specified", RefusalScope.ACCOUNT),
        ("Invalid qos specification", RefusalScope.ACCOUNT),
        ("Access/permission denied", RefusalScope.ACCOUNT),
    ],
)
def test_run_command_refused_by_slurm_has_the_scope_of_the_refusal(
    fake: Fake, message: str, scope: RefusalScope
) -> None:
    fake("sbatch", error=f"sbatch: error: more\nsbatch: error: Batch job submission failed: {message}\n", code=1)
    with pytest.raises(LaunchRefusedError) as refused:
        run_command(SlurmSettings(), "sbatch", script="#!/bin/sh\n")
    assert (refused.value.scope, refused.value.reason) == (scope, message)
    assert refused.value.message == f"sbatch: {message}: more"


@pytest.mark.parametrize(
    "message",
    [
        "Unable to contact slurm controller (connect failure)",
        "Socket timed out on send/recv operation",
        "Zero Bytes were transmitted or received",
        "Protocol authentication error",
        "Communication connection failure",
    ],
)
def test_run_command_without_an_answer_of_the_controller_is_transient(fake: Fake, message: str) -> None:
    fake("sbatch", error=f"sbatch: error: Batch job submission failed: {message}\n", code=1)
    with pytest.raises(ProviderError) as failure:
        run_command(SlurmSettings(), "sbatch", script="#!/bin/sh\n")
    assert failure.value.transient
    assert not isinstance(failure.value, LaunchRefusedError)


@pytest.mark.parametrize("error", ["sbatch: unrecognized option '--colour'\n", "", "sbatch: fatal: strange\n"])
def test_run_command_refused_for_an_unknown_reason_started_nothing(fake: Fake, error: str) -> None:
    fake("sbatch", error=error, code=1)
    with pytest.raises(LaunchFailedError):
        run_command(SlurmSettings(), "sbatch", script="#!/bin/sh\n")


def test_read_types_has_slices_of_the_largest_node_and_the_time_limit(fake: Fake) -> None:
    fake(
        "sinfo",
        output="main*|up|1-02:03:04|4|16000\nmain*|up|1-02:03:04|12|64000\nmain*|up|1-02:03:04|8|99000\n"
        "short|up|30:00|2|1\nendless|up|infinite|2|1000\nold|down|infinite|2|1000\n",
    )
    kinds = read_types(SlurmSettings())
    assert [(each.name, each.vcpus, each.memory_gb) for each in kinds] == [
        (f"main-{cpus}", cpus, 64000 * cpus // 12 / 1024) for cpus in (1, 2, 4, 8, 12)
    ]
    limit = timedelta(days=1, hours=2, minutes=3, seconds=4)
    assert {each.max_lifetime for each in kinds} == {limit}
    chosen = read_types(SlurmSettings(partitions=("short",), spot_partitions=("endless",)))
    assert {each.zones: each.max_lifetime for each in chosen} == {("short",): timedelta(minutes=30), ("endless",): None}
    for name in ("fast", "old"):
        with pytest.raises(ProviderError, match=f"no partition {name} that accepts jobs"):
            read_types(SlurmSettings(partitions=(name,)))


def test_read_types_without_a_default_partition_needs_one_in_the_settings(fake: Fake) -> None:
    fake("sinfo", output="main|up|1-00:00:00|2|4000\n")
    with pytest.raises(ProviderError, match="no partition by default"):
        read_types(SlurmSettings())


def test_instance_types_of_spot_partitions_support_spot(fake: Fake) -> None:
    fake("sinfo", output="main*|up|1-00:00:00|2|4000\nspare|up|infinite|1|1000\n")
    settings = SlurmSettings(spot_partitions=("spare",))
    kinds = sorted(read_types(settings), key=lambda each: each.name)
    assert [(each.name, each.zones, each.supports_spot) for each in kinds] == [
        ("main-1", ("main",), False),
        ("main-2", ("main",), False),
        ("spare-1", ("spare",), True),
    ]
    disk = BootDisk(disk_type="", size_gb=10)
    requests = [
        OfferRequest(instance_type=each, zone=each.zones[0], provisioning_model=model, boot_disk=disk)
        for each in kinds
        for model in ProvisioningModel
    ]
    prices = SlurmSettings(spot_partitions=("spare",), price_per_cpu_hour=Money("0.1"))
    answers = open_pricing(prices, PricingContext()).price(requests)
    assert [each.price_per_hour if isinstance(each, Offer) else each.reason for each in answers] == [
        Money("0.1"),
        "no spot instances in partition main",
        Money("0.2"),
        "no spot instances in partition main",
        "no on-demand instances in partition spare",
        Money("0.1"),
    ]
    assert isinstance(answers[1], Unpriced)


def test_check_reports_programs_partitions_and_folder(fake: Fake, tmp_path: Path) -> None:
    fake("sinfo", output="main*|up|1-00:00:00|2|4000\n")
    settings = SlurmSettings(output_dir=tmp_path / "output")
    findings = {each.subject: each for each in check(settings, CheckContext())}
    assert [each.ok for each in findings.values()] == [True] * 3
    assert findings["partitions"].message == "main-1, main-2"
    assert not (tmp_path / "output").exists()
    unknown = {each.subject: each for each in check(SlurmSettings(partitions=("fast",)), CheckContext())}
    assert not unknown["partitions"].ok
    assert unknown["partitions"].prevents_run


def test_check_without_slurm_prevents_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    (tmp_path / "file").write_text("")
    findings = list(check(SlurmSettings(output_dir=tmp_path / "file"), CheckContext()))
    assert [(each.subject, each.ok, each.prevents_run) for each in findings] == [
        ("Slurm", False, True),
        ("partitions", False, True),
        ("folder of the output", False, True),
    ]


@pytest.mark.parametrize(
    ("length", "remaining", "preempted", "reason"),
    [
        (3600, 1800, False, None),
        (3600, 100, False, "time limit of the job"),
        (60, 50, False, None),
        (60, 10, False, "time limit of the job"),
        (3600, 1800, True, "preempted by Slurm"),
    ],
)
def test_notice_is_given_before_the_end(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, length: int, remaining: int, preempted: bool, reason: str | None
) -> None:
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_JOB_PARTITION": "main", "SLURM_CPUS_PER_TASK": "1"}.items():
        monkeypatch.setenv(name, value)
    end = int(datetime.now(UTC).timestamp()) + remaining
    preemption = f" PreemptTime={end - 30}" if preempted else " PreemptTime=None"
    times = f"StartTime={end - length} EndTime={end}{preemption}"
    fake("scontrol", output=f"JobId=7 JobName=x {times} Comment=EndTime=0\n")
    side = SlurmInstanceSide(SlurmSettings(), InstanceContext(job_id="job"))
    notice = side.termination_notice()
    if reason is None:
        assert notice is None
    else:
        assert notice is not None
        assert (notice.reason, notice.at) == (reason, datetime.fromtimestamp(end, UTC))
    side.close()


def test_settings_refuse_negative_prices() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        SlurmSettings(price_per_cpu_hour=Money("-1"))
