"""`LocalCompute` with real processes; the general contract is in test_conformance.py."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
from local_requests import FOREVER, folder_of, request

from cloud_tasks.errors import LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import (
    InstanceState,
    ProvisioningModel,
)
from cloud_tasks.plugin import ComputeContext
from cloud_tasks_local.compute import LocalCompute
from cloud_tasks_local.instance_folder import InstanceFolder
from cloud_tasks_local.processes import instance_processes, signal_process, start_time
from cloud_tasks_local.settings import LocalSettings

Eventually = Callable[[Callable[[], object]], None]


def state_of(compute: LocalCompute, instance_id: str) -> InstanceState:
    (state,) = [i.state for i in compute.instances(None, include_terminated=True) if i.instance_id == instance_id]
    return state


def is_running(pid: int) -> bool:
    return start_time(pid) is not None


def numbers_in(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def test_launch_runs_script_with_this_python_in_own_folder(
    compute: LocalCompute, settings: LocalSettings, eventually: Eventually
) -> None:
    instance = compute.launch(
        request(
            'command -v python3; pwd; echo "$CLOUD_TASKS_INSTANCE_ID"; echo "$CLOUD_TASKS_SUBMIT_DIR"; echo done >&2\n'
        )
    )
    eventually(lambda: state_of(compute, instance.instance_id) is InstanceState.TERMINATED)
    lines = compute.console_log(instance.instance_id).splitlines()
    work = folder_of(settings, instance).work
    assert lines[:5] == [
        str(Path(sys.executable).parent / "python3"),
        str(work),
        instance.instance_id,
        str(Path.cwd()),
        "done",
    ]


def test_instance_terminates_with_script_and_logs_exit_code(compute: LocalCompute, eventually: Eventually) -> None:
    instance = compute.launch(request("exit 3\n"))
    eventually(lambda: state_of(compute, instance.instance_id) is InstanceState.TERMINATED)
    assert list(compute.instances("job")) == []
    assert "exit code 3" in compute.console_log(instance.instance_id)


def test_instance_has_its_start_end_and_reason(
    compute: LocalCompute, settings: LocalSettings, eventually: Eventually
) -> None:
    before = datetime.now(UTC)
    launched = compute.launch(request("exit 3\n"))
    eventually(lambda: state_of(compute, launched.instance_id) is InstanceState.TERMINATED)
    (ended,) = compute.instances("job", include_terminated=True)
    assert ended.started_at is not None
    assert ended.ended_at is not None
    assert before <= ended.created_at <= ended.started_at <= ended.ended_at <= datetime.now(UTC)
    assert ended.reason == "startup script exited"
    # A record of an earlier version, and a clock that was set back.
    folder = folder_of(settings, ended)
    folder.write(folder.process, {"pid": 1, "started": 1})
    folder.write(folder.ended, {"at": "2020-01-01T00:00:00+00:00", "reason": "terminated", "exit_code": None})
    (old,) = compute.instances("job", include_terminated=True)
    assert old.started_at == old.ended_at == old.created_at


def test_instance_kills_background_processes_after_script(
    compute: LocalCompute, tmp_path: Path, eventually: Eventually
) -> None:
    pids = tmp_path / "pids"
    compute.launch(request(f"setsid sleep 1000 & echo $! >> {pids}\nsleep 1000 & echo $! >> {pids}\n"))
    eventually(lambda: not compute.instances("job"))
    assert len(numbers_in(pids)) == 2
    assert [pid for pid in numbers_in(pids) if is_running(pid)] == []


def test_terminate_kills_hidden_descendants(compute: LocalCompute, tmp_path: Path, eventually: Eventually) -> None:
    pids = tmp_path / "pids"
    hide = (
        f"setsid sh -c 'echo $$ >> {pids}; exec sleep 1000' &\n"
        f"env -i setsid sh -c 'echo $$ >> {pids}; exec sleep 1000' &\n"
        f"env -i sh -c 'setsid sh -c \"echo \\$\\$ >> {pids}; trap : TERM; while true; do sleep 0.1; done\" & exit' &\n"
    )
    instance = compute.launch(request(hide + "trap : TERM\n" + FOREVER))
    eventually(lambda: len(numbers_in(pids)) == 3)
    compute.terminate([instance.instance_id])
    assert [pid for pid in numbers_in(pids) if is_running(pid)] == []
    assert state_of(compute, instance.instance_id) is InstanceState.TERMINATED


def test_terminate_gives_script_grace_period(compute: LocalCompute, eventually: Eventually) -> None:
    instance = compute.launch(request("trap 'echo goodbye; exit' TERM\necho ready\nwhile true; do sleep 0.01; done\n"))
    eventually(lambda: "ready" in compute.console_log(instance.instance_id))
    compute.terminate([instance.instance_id])
    assert "goodbye" in compute.console_log(instance.instance_id)


def test_terminate_leaves_other_instances_running(compute: LocalCompute) -> None:
    first = compute.launch(request(FOREVER, token="a"))
    second = compute.launch(request(FOREVER, token="b"))
    compute.terminate([first.instance_id, "local-unknown", "../.."])
    assert [instance.instance_id for instance in compute.instances("job")] == [second.instance_id]


def test_instances_and_terminate_work_from_other_process(compute: LocalCompute, settings: LocalSettings) -> None:
    launched = compute.launch(request(FOREVER))
    program = (
        "import sys\n"
        "from cloud_tasks.plugin import ComputeContext\n"
        "from cloud_tasks_local.compute import LocalCompute\n"
        "from cloud_tasks_local.settings import LocalSettings\n"
        "compute = LocalCompute(LocalSettings(state_dir=sys.argv[1]), ComputeContext(job_id='job'))\n"
        "(instance,) = compute.instances('job')\n"
        "print(instance.instance_id, instance.client_token, instance.labels['run'])\n"
        "compute.terminate([instance.instance_id])\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(settings.state_dir)], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [launched.instance_id, "token", "r1"]
    assert state_of(compute, launched.instance_id) is InstanceState.TERMINATED


def test_launch_killed_at_any_time_starts_script_at_most_once(
    compute: LocalCompute, settings: LocalSettings, tmp_path: Path, eventually: Eventually
) -> None:
    program = (
        "import pickle, sys\n"
        "from cloud_tasks.plugin import ComputeContext\n"
        "from cloud_tasks_local.compute import LocalCompute\n"
        "settings, request = pickle.load(sys.stdin.buffer)\n"
        "compute = LocalCompute(settings, ComputeContext(job_id='job'))\n"
        "print('ready', flush=True)\n"
        "compute.launch(request)\n"
    )
    moments = random.Random(5)
    for number in range(8):
        started = tmp_path / f"started-{number}"
        wanted = request(f"echo $$ >> {started}\n{FOREVER}", token=f"t{number}")
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as launcher:
            assert launcher.stdin is not None
            assert launcher.stdout is not None
            launcher.stdin.write(pickle.dumps((settings, wanted)))
            launcher.stdin.close()
            launcher.stdout.readline()
            with suppress(subprocess.TimeoutExpired):
                launcher.wait(timeout=moments.uniform(0.0, 0.06))
            launcher.kill()
        instance = compute.launch(wanted)
        eventually(lambda started=started: numbers_in(started))  # type: ignore[misc]
        assert compute.launch(wanted).instance_id == instance.instance_id
        assert len(numbers_in(started)) == 1
    assert len(compute.instances("job")) == 8


def test_launch_concurrently_with_one_token_starts_one_instance(
    compute: LocalCompute, tmp_path: Path, eventually: Eventually
) -> None:
    started = tmp_path / "started"
    wanted = request(f"echo $$ >> {started}\n{FOREVER}")
    with ThreadPoolExecutor(6) as threads:
        launched = {instance.instance_id for instance in threads.map(compute.launch, [wanted] * 6)}
    eventually(lambda: numbers_in(started))
    assert launched == {instance.instance_id for instance in compute.instances("job")}
    assert len(launched) == len(numbers_in(started)) == 1


def test_instance_record_without_runner_is_starting_and_terminable(
    compute: LocalCompute, settings: LocalSettings, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    wanted = request(f"echo $$ >> {started}\n")

    class KilledLauncher(LocalCompute):
        def _start_runner(self, folder: InstanceFolder, secrets: Mapping[str, str]) -> None:
            """Simulate a launcher killed here."""

    intent = KilledLauncher(settings, ComputeContext(job_id="job")).launch(wanted)
    assert intent.state is InstanceState.STARTING
    compute.terminate([intent.instance_id])
    assert compute.launch(wanted).state is InstanceState.TERMINATED
    assert not started.exists()


def test_instance_record_without_runner_is_terminated_after_timeout(
    compute: LocalCompute, settings: LocalSettings
) -> None:
    class KilledLauncher(LocalCompute):
        def _start_runner(self, folder: InstanceFolder, secrets: Mapping[str, str]) -> None:
            """Simulate a launcher killed here a minute ago."""
            record = folder.read(folder.instance)
            assert record is not None
            earlier = datetime.fromisoformat(record["created_at"]) - timedelta(minutes=1)
            folder.write(folder.instance, record | {"created_at": earlier.isoformat()})

    intent = KilledLauncher(settings, ComputeContext(job_id="job")).launch(request(FOREVER))
    assert intent.state is InstanceState.TERMINATED
    assert compute.launch(request(FOREVER)).state is InstanceState.TERMINATED


def test_instance_with_killed_runner_is_stopped_until_terminated(
    compute: LocalCompute, settings: LocalSettings, tmp_path: Path, eventually: Eventually
) -> None:
    pids = tmp_path / "pids"
    instance = compute.launch(request(f"echo $$ >> {pids}\n{FOREVER}"))
    eventually(lambda: numbers_in(pids))
    folder = folder_of(settings, instance)
    runner = folder.read(folder.process)
    assert runner is not None
    os.kill(runner["pid"], signal.SIGKILL)
    eventually(lambda: state_of(compute, instance.instance_id) is InstanceState.STOPPED)
    compute.terminate([instance.instance_id])
    assert not is_running(numbers_in(pids)[0])
    assert state_of(compute, instance.instance_id) is InstanceState.TERMINATED


def test_instance_terminates_after_maximum_lifetime(
    compute: LocalCompute, tmp_path: Path, eventually: Eventually
) -> None:
    pids = tmp_path / "pids"
    script = f"echo $$ >> {pids}\nsetsid sleep 1000 & echo $! >> {pids}\n{FOREVER}"
    instance = compute.launch(request(script, max_lifetime=timedelta(seconds=0.3)))
    eventually(lambda: state_of(compute, instance.instance_id) is InstanceState.TERMINATED)
    assert [pid for pid in numbers_in(pids) if is_running(pid)] == []
    assert "max_lifetime" in compute.console_log(instance.instance_id)


def test_instance_without_a_worker_terminates_itself(compute: LocalCompute, eventually: Eventually) -> None:
    instance = compute.launch(request(FOREVER, startup_timeout=timedelta(seconds=0.3)))
    eventually(lambda: state_of(compute, instance.instance_id) is InstanceState.TERMINATED)
    assert "instance terminated: no worker started" in compute.console_log(instance.instance_id)


NAMED = (
    "import os, time; open('/proc/self/comm', 'w').write(os.environ['CLOUD_TASKS_PROCESS_NAME']); "
    "assert os.environ['CLOUD_TASKS_BOOT_UPTIME']; time.sleep(4)"
)
"""A program that names its process as a worker does."""


def test_worker_cancels_the_time_limit_of_its_start(
    compute: LocalCompute, tmp_path: Path, eventually: Eventually
) -> None:
    script = f'python3 -c "{NAMED}"\ntouch {tmp_path}/worker-ended\nsleep 1000\n'
    instance = compute.launch(request(script, startup_timeout=timedelta(seconds=5)))
    eventually(lambda: (tmp_path / "worker-ended").exists())
    time.sleep(3)
    assert state_of(compute, instance.instance_id) is InstanceState.RUNNING


def test_spot_instance_gets_notice_before_simulated_interruption(
    settings: LocalSettings, tmp_path: Path, eventually: Eventually
) -> None:
    # With this mean the lifetime drawn for the token is 2.5 s, and the notice comes after 0.5 s.
    mean = 2.5 / random.Random("spot").expovariate(1.0)
    compute = LocalCompute(
        attrs.evolve(settings, spot_mean_lifetime=mean, spot_notice=2.0), ComputeContext(job_id="job")
    )
    answers = tmp_path / "answers"
    program = (
        "import time\n"
        "from cloud_tasks_local.instance_side import LocalInstanceSide\n"
        "side = LocalInstanceSide()\n"
        "print(side.identity().instance_id, side.identity().zone, side.identity().instance_type, flush=True)\n"
        "while not (notice := side.termination_notice()): time.sleep(0.005)\n"
        "print(notice.reason, notice.at is not None, flush=True)\n"
        "time.sleep(1000)\n"
    )
    script = f"cat > program.py <<'END'\n{program}END\npython3 program.py > {answers}\n"
    instance = compute.launch(request(script, token="spot", provisioning_model=ProvisioningModel.SPOT))
    eventually(lambda: state_of(compute, instance.instance_id) is InstanceState.TERMINATED)
    assert "preempted" in compute.console_log(instance.instance_id)
    assert answers.read_text().splitlines() == [
        f"{instance.instance_id} local-a local-1",
        "simulated spot interruption True",
    ]


def test_on_demand_instance_is_never_interrupted(settings: LocalSettings) -> None:
    compute = LocalCompute(attrs.evolve(settings, spot_mean_lifetime=0.001), ComputeContext(job_id="job"))
    instance = compute.launch(request(FOREVER))
    folder = folder_of(settings, instance)
    record = folder.read(folder.instance)
    assert record is not None
    assert record["spot_lifetime"] is None
    compute.terminate([instance.instance_id])


def test_instances_with_damaged_record_raises(compute: LocalCompute, settings: LocalSettings) -> None:
    # Running instances: the record of one that has ended is not read.
    compute.launch(request(FOREVER, token="a"))
    damaged = folder_of(settings, compute.launch(request(FOREVER, token="b")))
    content = damaged.instance.read_bytes()
    damaged.instance.write_bytes(content[: len(content) // 2])
    with pytest.raises(ProviderError, match="cannot read the instance record"):
        compute.instances("job")
    damaged.instance.write_bytes(content)


def test_launch_refuses_unknown_zone_or_type_with_scope(compute: LocalCompute) -> None:
    good = request("exit\n")
    unknown_zone = attrs.evolve(good, offer=attrs.evolve(good.offer, zone="moon-a"))
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(unknown_zone)
    assert refused.value.scope is RefusalScope.ZONE
    larger = attrs.evolve(good.offer.instance_type, name="local-4096")
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(attrs.evolve(good, offer=attrs.evolve(good.offer, instance_type=larger)))
    assert refused.value.scope is RefusalScope.INSTANCE_TYPE
    assert list(compute.instances(None, include_terminated=True)) == []


def test_launch_refused_for_unwritable_state_folder(settings: LocalSettings, tmp_path: Path) -> None:
    obstacle = tmp_path / "file"
    compute = LocalCompute(attrs.evolve(settings, state_dir=obstacle), ComputeContext(job_id="job"))
    obstacle.touch()
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(request("exit\n"))
    assert refused.value.scope is RefusalScope.ACCOUNT


def test_signal_process_ignores_reused_pid() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        started = start_time(process.pid)
        assert started is not None
        assert not signal_process(process.pid, started - 1, signal.SIGKILL)
        assert is_running(process.pid)
        assert signal_process(process.pid, started, signal.SIGKILL)
    assert not signal_process(process.pid, started, signal.SIGKILL)


def test_instance_processes_excludes_unrelated_processes(compute: LocalCompute, settings: LocalSettings) -> None:
    instance = compute.launch(request(FOREVER))
    with subprocess.Popen(["sleep", "1000"]) as unrelated:
        members = instance_processes(folder_of(settings, instance).path)
        unrelated.kill()
    assert members
    assert unrelated.pid not in members


def test_console_log_returns_end_of_output(compute: LocalCompute, eventually: Eventually) -> None:
    instance = compute.launch(request("head -c 200000 /dev/zero | tr '\\0' x; echo; echo last\n"))
    eventually(lambda: state_of(compute, instance.instance_id) is InstanceState.TERMINATED)
    log = compute.console_log(instance.instance_id)
    assert len(log) == 64 * 1024
    assert "last" in log
    assert compute.console_log("local-unknown") == ""


def test_job_named_dot_dot_stays_in_state_folder(compute: LocalCompute, settings: LocalSettings) -> None:
    instance = compute.launch(request("exit\n", job=".."))
    assert list(settings.state_dir.iterdir()) == [settings.state_dir / "instances"]
    assert [found.instance_id for found in compute.instances("..", include_terminated=True)] == [instance.instance_id]


def test_instance_receives_signals_ignored_by_launcher(
    compute: LocalCompute, settings: LocalSettings, eventually: Eventually
) -> None:
    program = (
        "import pickle, signal, sys\n"
        "for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "from cloud_tasks.plugin import ComputeContext\n"
        "from cloud_tasks_local.compute import LocalCompute\n"
        "settings, request = pickle.load(sys.stdin.buffer)\n"
        "LocalCompute(settings, ComputeContext(job_id='job')).launch(request)\n"
    )
    wanted = request("trap 'echo goodbye; exit' TERM\necho ready\nwhile true; do sleep 0.01; done\n")
    subprocess.run([sys.executable, "-c", program], input=pickle.dumps((settings, wanted)), check=True)
    (instance,) = compute.instances("job")
    eventually(lambda: "ready" in compute.console_log(instance.instance_id))
    compute.terminate([instance.instance_id])
    assert "goodbye" in compute.console_log(instance.instance_id)


def test_launch_with_concurrent_terminate_never_starts_script(
    settings: LocalSettings, compute: LocalCompute, tmp_path: Path
) -> None:
    started = tmp_path / "started"

    class ConcurrentlyTerminated(LocalCompute):
        def _start_runner(self, folder: InstanceFolder, secrets: Mapping[str, str]) -> None:
            """Simulate a concurrent `terminate`."""
            folder.terminating.touch()
            super()._start_runner(folder, secrets)

    instance = ConcurrentlyTerminated(settings, ComputeContext(job_id="job")).launch(request(f"echo $$ >> {started}\n"))
    assert instance.state is InstanceState.STOPPING
    compute.terminate([instance.instance_id])
    assert state_of(compute, instance.instance_id) is InstanceState.TERMINATED
    assert not started.exists()
