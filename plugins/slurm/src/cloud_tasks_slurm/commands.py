"""Commands of Slurm: environment, time limit, errors.

Invariants, each with a test:
- No variable of the submitting environment changes what a command does, except the choice of the cluster.
- A command without an answer in time is a transient error; sbatch says by its exit code that it submitted nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from cloud_tasks.errors import ProviderError, RefusalScope
from cloud_tasks.plugin.kit import ErrorKind, ErrorRule, Problem, judge, refused
from cloud_tasks_slurm.settings import SlurmSettings

__all__ = ["run_command"]

# Variables that are options of Slurm's commands, or belong to a job or a worker in which the controller runs.
_PREFIXES = ("SLURM", "SBATCH_", "SQUEUE_", "SINFO_", "SCONTROL_", "SCANCEL_", "CLOUD_TASKS_", "RMS_CLOUD_TASKS_")
_NO_ANSWER = ".*(unable to contact|timed out|zero bytes|connection refused|communication|authentication|standby).*"
_NO_PROGRAM = "install Slurm's client programs (Debian: slurm-client), or use a login node of the cluster"
_ERRORS = (
    ErrorRule(kind=ErrorKind.TRANSIENT, code=_NO_ANSWER),
    ErrorRule(kind=ErrorKind.PERMANENT, code="missing program", hint=_NO_PROGRAM),
)
_PARTITION = ".*partition (name|configuration|not available).*|.*use this partition.*|.*time limit is invalid.*"
_SIZE = "(requested node|memory|cpu count|node count|more processors).*"
_OPTIONS = "check slurm.sbatch_options, such as --account and --qos"
# A code is the last sentence of what a program prints, a text of Slurm's library, and has to match as a whole.
_REFUSALS = (
    *_ERRORS,
    refused(_PARTITION, RefusalScope.ZONE, timedelta(minutes=10), hint="check slurm.partitions, and run: sinfo"),
    refused(_SIZE, RefusalScope.INSTANCE_TYPE, timedelta(hours=1)),
    refused("job violates accounting.*|.*temporarily un.*|.*limit.*", RefusalScope.ACCOUNT, timedelta(minutes=5)),
    refused(".*denied|invalid .*", RefusalScope.ACCOUNT, timedelta(minutes=15), hint=_OPTIONS, needs_action=True),
)
_REJECTED = ErrorRule(kind=ErrorKind.FAILED, hint=_OPTIONS)


def _environment(settings: SlurmSettings, without: Sequence[str]) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_PREFIXES) and key not in without}
    conf = {"SLURM_CONF": str(settings.conf_file.absolute())} if settings.conf_file else {}
    # In a job, `python3` is the Python of this command, as on this machine.
    return kept | conf | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])}


def run_command(settings: SlurmSettings, *command: str, script: str = "", without: Sequence[str] = ()) -> str:
    """Return the output of a command, with times as seconds since the epoch.

    Args:
        script: Script that sbatch submits; its job inherits the environment.
        without: Variables that it does not inherit, besides those of Slurm and of cloud-tasks.
    """
    program, limit, environment = command[0], settings.command_timeout, _environment(settings, without)
    rules, default, times = (_REFUSALS, _REJECTED, {}) if script else (_ERRORS, None, {"SLURM_TIME_FORMAT": "%s"})
    environment |= times
    try:
        done = subprocess.run(
            command, env=environment, input=script, capture_output=True, text=True, errors="replace", timeout=limit
        )
    except subprocess.TimeoutExpired as error:
        raise ProviderError(f"{program}: no answer in {limit:g} s", transient=True) from error
    except OSError as error:
        raise judge(program, Problem(code="missing program", message=str(error.strerror)), rules) from error
    if not done.returncode:
        return done.stdout
    printed = re.sub(r"(?m)^\w+: (error|fatal): ", "", done.stderr).strip() or f"exit code {done.returncode}"
    *details, last = printed.splitlines()
    problem = Problem(code=last.rpartition(": ")[2], message="; ".join(details))
    raise judge(program, problem, rules, default=default)
