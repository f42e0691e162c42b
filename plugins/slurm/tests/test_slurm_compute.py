"""Jobs on a real cluster: waiting, ended, canceled, submitted twice, and their environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import attrs
import pytest
from slurm_cluster import Cluster
from slurm_requests import launch_request

from cloud_tasks.errors import InputError, LaunchFailedError, ProviderError
from cloud_tasks.model import Instance, InstanceState
from cloud_tasks.plugin import ComputeContext
from cloud_tasks.testing import eventually
from cloud_tasks_slurm.compute import SlurmCompute, check_launch
from cloud_tasks_slurm.settings import SlurmSettings

CONTEXT = ComputeContext(job_id="job")


@pytest.fixture
def compute(settings: SlurmSettings) -> SlurmCompute:
    return SlurmCompute(settings, CONTEXT)


def only(compute: SlurmCompute, token: str, state: InstanceState) -> Instance:
    """Wait until the only instance of a job is in a state, and return it."""
    (instance,) = eventually(
        lambda: list(compute.instances(f"job-{token}", include_terminated=True)),
        lambda found: [each.state for each in found] == [state],
    )
    return instance


def fake(folder: Path, name: str, script: str) -> Path:
    """Write a program that stands in for one of Slurm, and return its folder."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/bash\n" + textwrap.dedent(script))
    (folder / name).chmod(0o755)
    return folder


def test_job_in_the_queue_is_pending_with_its_reason_and_starts(compute: SlurmCompute, cluster: Cluster) -> None:
    blocker = cluster.submit("sleep 600", "--cpus-per-task=2")
    eventually(lambda: cluster.call("squeue", "-h", "-j", blocker, "-o", "%T"), lambda state: state == "RUNNING")
    compute.launch(launch_request("waiting"))
    (waiting,) = eventually(
        lambda: list(compute.instances("job-waiting")), lambda found: [each.reason for each in found] == ["Resources"]
    )
    assert (waiting.state, waiting.started_at, waiting.ended_at) == (InstanceState.PENDING, None, None)
    cluster.call("scancel", blocker)
    running = only(compute, "waiting", InstanceState.RUNNING)
    assert running.instance_id == waiting.instance_id
    assert running.created_at == waiting.created_at
    assert running.started_at is not None
    assert running.started_at >= running.created_at
    assert running.reason == ""


def test_job_beyond_the_time_limit_of_its_partition_is_pending_with_the_reason(compute: SlurmCompute) -> None:
    compute.launch(launch_request("long", max_lifetime=timedelta(days=3)))
    (waiting,) = eventually(
        lambda: list(compute.instances("job-long")),
        lambda found: [each.reason for each in found] == ["PartitionTimeLimit"],
    )
    assert waiting.state is InstanceState.PENDING


@pytest.mark.parametrize("canceled_by", ["us", "another"])
def test_secrets_of_a_waiting_job_are_in_a_private_file_alone_and_end_with_it(
    compute: SlurmCompute, cluster: Cluster, settings: SlurmSettings, canceled_by: str
) -> None:
    request = attrs.evolve(launch_request(canceled_by, zone="closed"), secrets={"DEPOT_TOKEN": "SEKRET-4711"})
    waiting = compute.launch(request)
    assert compute.launch(request).instance_id == waiting.instance_id
    (file,) = settings.output_dir.glob("*.secrets")
    assert (file.stat().st_mode & 0o777, file.read_text()) == (0o600, "export DEPOT_TOKEN=SEKRET-4711\n")
    shown = cluster.call("scontrol", "show", "job", waiting.instance_id)
    assert "SEKRET" not in shown + cluster.call("scontrol", "write", "batch_script", waiting.instance_id, "-")
    if canceled_by == "us":
        compute.terminate([waiting.instance_id])
    else:
        cluster.call("scancel", waiting.instance_id)
        only(compute, canceled_by, InstanceState.TERMINATED)
    assert list(settings.output_dir.glob("*.secrets")) == []


def test_job_canceled_while_it_waited_never_started(compute: SlurmCompute, cluster: Cluster) -> None:
    waiting = compute.launch(launch_request("closed", zone="closed"))
    cluster.call("scancel", waiting.instance_id)
    ended = only(compute, "closed", InstanceState.TERMINATED)
    assert ended.started_at is None
    assert ended.ended_at is not None
    assert ended.reason.startswith("CANCELLED")


def test_job_canceled_by_its_user_has_the_times_of_its_run(compute: SlurmCompute, cluster: Cluster) -> None:
    launched = compute.launch(launch_request("run"))
    only(compute, "run", InstanceState.RUNNING)
    cluster.call("scancel", launched.instance_id)
    ended = only(compute, "run", InstanceState.TERMINATED)
    assert ended.started_at is not None
    assert ended.ended_at is not None
    assert ended.created_at <= ended.started_at <= ended.ended_at
    assert ended.reason == "CANCELLED"


def test_terminate_cancels_no_job_that_only_looks_managed(compute: SlurmCompute, cluster: Cluster) -> None:
    mark = '{"cloud-tasks": {"job": "job", "token": "a"}}'
    others = [
        cluster.submit("sleep 600", "--job-name=cloud-tasks-a"),
        cluster.submit("sleep 600", f"--comment={mark}"),
        cluster.submit("sleep 600", "--job-name=cloud-tasks-b", f"--comment={mark}"),
        cluster.submit("sleep 600", "--job-name=a|b", "--comment=x|y"),
        cluster.submit("sleep 600", "--job-name=cloud-tasks-a", '--comment={"cloud-tasks": []}'),
    ]
    compute.terminate(others)
    assert sorted(cluster.call("squeue", "-h", "-o", "%i", "-t", "PENDING,RUNNING").split()) == sorted(others)
    assert compute.instances(None) == []
    assert {each.instance_id: each.job_id for each in compute.instances(None, foreign=True)} == dict.fromkeys(
        others, ""
    )


def test_instance_types_are_slices_of_the_node(compute: SlurmCompute) -> None:
    kinds = {each.name: (each.vcpus, each.memory_gb, each.supports_spot) for each in compute.instance_types()}
    assert kinds == {
        "main-1": (1, 2.0, False),
        "main-2": (2, 4.0, False),
        "scavenge-1": (1, 2.0, True),
        "scavenge-2": (2, 4.0, True),
    }


def test_console_log_is_found_in_a_folder_with_any_name(
    settings: SlurmSettings, cluster: Cluster, tmp_path: Path
) -> None:
    folder = tmp_path / "50%u of 'all' files"
    compute = SlurmCompute(attrs.evolve(settings, output_dir=folder), CONTEXT)
    launched = compute.launch(launch_request("folder", script="echo here"))
    only(compute, "folder", InstanceState.TERMINATED)
    assert compute.console_log(launched.instance_id) == "here\n"


def test_launch_by_processes_with_one_token_submits_one_job(cluster: Cluster, settings: SlurmSettings) -> None:
    program = f"""
        from pathlib import Path
        from slurm_requests import launch_request
        from cloud_tasks.plugin import ComputeContext
        from cloud_tasks_slurm.compute import SlurmCompute
        from cloud_tasks_slurm.settings import SlurmSettings
        conf_file, output_dir = Path({str(settings.conf_file)!r}), Path({str(settings.output_dir)!r})
        settings = SlurmSettings(conf_file=conf_file, output_dir=output_dir)
        print(SlurmCompute(settings, ComputeContext(job_id="job")).launch(launch_request("same")).instance_id)
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent / "support")}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    ids = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert ids == set(cluster.call("squeue", "-h", "-o", "%i", "-t", "all", "--name=cloud-tasks-same").split())
    assert len(ids) == 1


def test_launch_whose_answer_is_lost_is_found(
    settings: SlurmSettings, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("sbatch")
    answer = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    programs = fake(tmp_path / "bin", "sbatch", f'{real} "$@" >/dev/null\necho "{answer}" >&2\nexit 1\n')
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    compute = SlurmCompute(settings, CONTEXT)
    launched = compute.launch(launch_request("lost"))
    assert [each.instance_id for each in compute.instances("job-lost")] == [launched.instance_id]


def test_launch_that_cannot_be_submitted_in_time_is_transient(
    settings: SlurmSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{fake(tmp_path / 'bin', 'sbatch', 'exec sleep 60')}:{os.environ['PATH']}")
    with pytest.raises(ProviderError) as failure:
        SlurmCompute(attrs.evolve(settings, command_timeout=1.0), CONTEXT).launch(launch_request("never"))
    assert failure.value.transient
    assert not isinstance(failure.value, LaunchFailedError)


def test_launch_cancels_a_later_job_with_the_same_token(compute: SlurmCompute, cluster: Cluster) -> None:
    first = compute.launch(launch_request("twice"))
    comment = cluster.call("squeue", "-h", "-j", first.instance_id, "-o", "%k")
    again = ("--job-name=cloud-tasks-twice", f"--comment={comment}", "--dependency=singleton")
    second = cluster.submit("sleep 600", *again)
    assert compute.launch(launch_request("twice")).instance_id == first.instance_id
    eventually(lambda: cluster.call("squeue", "-h", "-j", second, "-t", "all", "-o", "%T"), lambda s: s == "CANCELLED")


def test_environment_of_the_submission_reaches_neither_commands_nor_jobs(
    settings: SlurmSettings, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaks = {
        "SBATCH_PARTITION": "closed",
        "SLURM_MEM_PER_NODE": "17",
        "SLURM_LEAK": "1",
        "SQUEUE_STATES": "COMPLETED",
        "SLURM_TIME_FORMAT": "relative",
        "CLOUD_TASKS_JOB_ID": "another",
        "DEPOT_KEY": "secret",
    }
    for name, value in {**leaks, "KEPT": "yes"}.items():
        monkeypatch.setenv(name, value)
    context = attrs.evolve(CONTEXT, submit_dir=tmp_path / "with 'quote", secret_variables=("DEPOT_KEY",))
    compute = SlurmCompute(settings, context)
    request = launch_request("environment", script="env; pwd; command -v python3; sleep 600")
    launched = compute.launch(attrs.evolve(request, secrets={"CLOUD_TASKS_DEPOT_TOKEN": "it's `id` $HOME"}))
    only(compute, "environment", InstanceState.RUNNING)
    output = eventually(lambda: compute.console_log(launched.instance_id), lambda text: "/python3" in text)
    lines = output.splitlines()
    names = {line.partition("=")[0] for line in lines}
    assert not names & (set(leaks) - {"SLURM_MEM_PER_NODE"})
    assert "SLURM_MEM_PER_NODE=2048" in lines
    assert "KEPT=yes" in lines
    assert "CLOUD_TASKS_DEPOT_TOKEN=it's `id` $HOME" in lines
    assert list(settings.output_dir.glob("*.secrets")) == []
    assert f"CLOUD_TASKS_SUBMIT_DIR={context.submit_dir}" in lines
    assert f"{settings.output_dir}/{launched.instance_id}.work" in lines
    assert str(Path(sys.executable).parent / "python3") in lines


def test_missing_programs_are_an_error_with_a_hint(settings: SlurmSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    compute = SlurmCompute(settings, CONTEXT)
    with pytest.raises(ProviderError, match="squeue: missing program: No such file or directory") as listing:
        compute.instances("job")
    assert "slurm-client" in listing.value.hint
    assert not listing.value.transient
    with pytest.raises(ProviderError) as launch:
        compute.launch(launch_request("none"))
    assert "slurm-client" in launch.value.hint


def test_terminate_raises_if_a_job_remains(
    compute: SlurmCompute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = compute.launch(launch_request("remains"))
    programs = fake(tmp_path / "bin", "scancel", 'echo "scancel: error: Kill job error: Access denied" >&2; exit 1')
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(ProviderError, match="scancel: Access denied"):
        compute.terminate([launched.instance_id])


def test_terminate_ignores_a_job_that_ends_meanwhile(
    compute: SlurmCompute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = compute.launch(launch_request("ends"))
    real = shutil.which("scancel")
    programs = fake(tmp_path / "bin", "scancel", f'{real} "$@"; echo "scancel: error: Invalid job id" >&2; exit 1')
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    compute.terminate([launched.instance_id])
    assert not any(each.is_alive for each in compute.instances("job-ends"))


def test_launch_without_an_output_folder_has_failed(settings: SlurmSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    compute = SlurmCompute(attrs.evolve(settings, output_dir=tmp_path / "file" / "output"), CONTEXT)
    with pytest.raises(LaunchFailedError, match=r"slurm\.output_dir: .*Not a directory"):
        compute.launch(launch_request("nowhere"))


def test_check_launch_refuses_images() -> None:
    with pytest.raises(InputError, match=r"run\.image"):
        check_launch(SlurmSettings(), attrs.evolve(launch_request("checked"), image="ubuntu"))
