"""Before a run: whether the program of a job can be imported, in a process of its own.

Invariants, each with a test:

1. A program that cannot be imported prevents the run, before anything is created; its worker does not start here.
2. A module that only the instances have, by the requirements of the program, is no problem.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from cloud_tasks.config import JobConfig, Program
from cloud_tasks.controller.launch.job_secrets import SECRETS_DIR, temporary_secrets
from cloud_tasks.controller.setup.shipping import requirements_of
from cloud_tasks.errors import InputError

__all__ = ["check_program"]

_TIMEOUT = 60.0
"""Seconds after which an import is not waited for."""
_MISSING_MODULE = 4
"""Exit code of `cloud_tasks.worker.import_check`."""
_PREFIX = "import_check: "
_OWN = ("CLOUD_TASKS_", "RMS_CLOUD_TASKS_")


def check_program(config: JobConfig, secrets: Mapping[str, bytes] = {}) -> str:
    """Import the program of a job here; return a warning if it could not be checked, else an empty text.

    Args:
        secrets: Values of ``run.secrets``, for a program that reads them when it is imported.

    Raises:
        InputError: It cannot be imported.
    """
    program = config.program()
    if program is None:
        return ""
    try:
        with temporary_secrets(secrets) as folder:
            done = _import(config, program, {SECRETS_DIR: folder} if config.run.secrets else {})
    except subprocess.TimeoutExpired:
        return f"the program could not be checked: its import takes more than {_TIMEOUT:.0f} seconds"
    if done.returncode == 0:
        if config.run.requirements and not config.is_shipped:
            return f"run.requirements is not installed: the instances use {sys.executable}"
        return ""
    lines = done.stderr.decode("utf-8", "replace").splitlines() or [f"exit code {done.returncode}"]
    reason = lines[-1].removeprefix(_PREFIX)
    where = config.place("run.program")
    if done.returncode != _MISSING_MODULE:
        raise InputError(f"run.program: it cannot be imported: {reason}", where=where)
    if not config.is_shipped:
        raise InputError(f"run.program: {reason}", where=where, hint=f"install it for {sys.executable}")
    if requirements_of(config) is None:
        hint = "name its package in run.requirements, or in requirements.txt beside the program"
        raise InputError(f"run.program: {reason}", where=where, hint=hint)
    return f"the program could not be checked here: {reason}; the instances must have it by its requirements"


def _import(config: JobConfig, program: Program, more: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Import a program as an instance would, without the variables of this process for workers or with secrets."""
    secret = set(config.secret_variables())
    variables = {name: value for name, value in os.environ.items() if name not in secret and not name.startswith(_OWN)}
    return subprocess.run(
        [sys.executable, "-P", "-m", "cloud_tasks.worker.import_check", *program.words],
        cwd=config.base_dir,
        env={**variables, **config.run.environment, **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=_TIMEOUT,
        check=False,
    )
