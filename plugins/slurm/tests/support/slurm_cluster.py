"""A Slurm cluster of one node for tests: munged, slurmctld and slurmd, each with a free port and own folders."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import pytest
from missing import missing

__all__ = ["Cluster", "running_cluster"]

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
SlurmctldDebug=info
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=300
KillWait=2
CompleteWait=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4096 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=24:00:00 State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=scavenge Nodes={host} MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL GraceTime=30
PartitionName=closed Nodes={host} MaxTime=INFINITE State=DOWN
"""


@attrs.frozen(kw_only=True)
class Cluster:
    """A running cluster with two CPUs, and the partitions main, scavenge (preemptible) and closed (down)."""

    configuration: Path
    environment: Mapping[str, str]

    def call(self, *command: str) -> str:
        """Return the output of a command of Slurm."""
        return subprocess.run(
            command, env=self.environment, check=True, capture_output=True, text=True, timeout=60
        ).stdout.strip()

    def submit(self, command: str, *options: str) -> str:
        """Submit a job of another program, and return its id."""
        return self.call("sbatch", "--parsable", "--output=/dev/null", *options, f"--wrap={command}")

    def unreachable(self) -> Path:
        """Return a configuration file with a port at which no controller answers."""
        changed = self.configuration.with_name("unreachable.conf")
        changed.write_text(re.sub(r"(?m)^SlurmctldPort=.*$", "SlurmctldPort=1", self.configuration.read_text()))
        return changed

    def cancel_all(self) -> None:
        """Cancel all jobs, and wait until none is left on the node."""
        self.call("scancel", "--full", f"--user={getpass.getuser()}")
        self.call("scancel", f"--user={getpass.getuser()}", "--signal=KILL", "--full")
        _wait(lambda: self.call("squeue", "-h", "-o", "%i") == "", "jobs do not end")


def _wait(condition: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(problem)
        time.sleep(0.1)


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


@contextmanager
def _server(name: str, arguments: list[str], log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Run a server in the foreground; stop it, by its process id, at the end."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [name, *arguments], env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL
        ) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Run a cluster with its files in a folder, until the end of the block."""
    for program in _PROGRAMS:
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            missing(f"{program} is not installed", how="apt-get install slurmctld slurmd slurm-client munge")
    host = socket.gethostname().split(".")[0]
    # By a program, as Slurm's do: Python's own look-up would count as network access of the test.
    if subprocess.run(["getent", "hosts", host], stdout=subprocess.DEVNULL, timeout=60).returncode:
        missing(f"the host name {host} does not resolve", how=f"add 127.0.0.1 {host} to /etc/hosts")
    for name in ("run", "state", "spool", "log"):
        (folder / name).mkdir(parents=True, mode=0o755)
    # munged refuses a socket in a folder that others cannot enter, and any file in a folder that others can write to.
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    controller_port, node_port = _free_ports()
    configuration = folder / "slurm.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            host=host,
            user=getpass.getuser(),
            folder=folder,
            controller_port=controller_port,
            node_port=node_port,
        )
    )
    environment = {**os.environ, "SLURM_CONF": str(configuration), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    munge = ["--foreground", "--force", f"--key-file={key}", f"--socket={folder}/run/munge.socket"]
    munge += [f"--pid-file={folder}/run/munged.pid", f"--log-file={folder}/log/munged.log"]
    munge += [f"--seed-file={folder}/munge.seed"]
    cluster = Cluster(configuration=configuration, environment=environment)
    with ExitStack() as servers:
        servers.enter_context(_server("munged", munge, folder / "log/munged.out", environment))
        _wait((folder / "run/munge.socket").exists, "munged does not answer")
        servers.enter_context(_server("slurmctld", ["-D"], folder / "log/slurmctld.out", environment))
        servers.enter_context(_server("slurmd", ["-D", "-N", host], folder / "log/slurmd.out", environment))
        _wait(lambda: _is_idle(cluster), f"the node is not idle; see {folder}/log")
        yield cluster
        cluster.cancel_all()


def _is_idle(cluster: Cluster) -> bool:
    try:
        return cluster.call("sinfo", "-h", "-p", "main", "-o", "%t") == "idle"
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return False
