"""Instances that are batch jobs.

Invariants, each with a test:
- A client token has one job: the job is named by its token, and looked up under a lock before and after a submission. A
  second job of that name waits for the first (singleton) until it is canceled.
- Only jobs of this user that are marked by their name and their comment are managed; no other job is canceled.
- A submission that was refused started nothing; after any other error the look-up decides.
"""

from __future__ import annotations

import fcntl
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any

from cloud_tasks.errors import InputError, LaunchFailedError, LaunchRefusedError, ProviderError
from cloud_tasks.model import Headroom, Image, Instance, InstanceType, LaunchRequest, Offer, ProvisioningModel, Region
from cloud_tasks.model import InstanceState as State
from cloud_tasks.plugin import ComputeContext, kit
from cloud_tasks_slurm.cluster import read_types, type_name
from cloud_tasks_slurm.commands import run_command
from cloud_tasks_slurm.secret_file import reading_lines, remove_secrets, write_secrets
from cloud_tasks_slurm.settings import SlurmSettings

__all__ = ["SlurmCompute", "check_launch"]

_MARK = "cloud-tasks"
_OPTIONS = "--parsable --no-requeue --dependency=singleton --nodes=1 --ntasks=1 --export=ALL --open-mode=truncate"
# Id, partition, state, times of submission, start and end, CPUs, host, reason, name, comment.
_FORMAT = "--format=%i|%P|%T|%V|%S|%e|%C|%B|%r|%j|%k"
# Any other state is that of a job that runs, so that no job is forgotten.
_ENDED = "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED LAUNCH_FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT"
_STATES = {"PENDING": State.PENDING, "CONFIGURING": State.STARTING, "COMPLETING": State.STOPPING}
_FOLDER_ERRORS = [kit.ErrorRule(kind=kit.ErrorKind.FAILED)]
_STATES |= dict.fromkeys(_ENDED.split(), State.TERMINATED)


def check_launch(settings: SlurmSettings, request: LaunchRequest) -> None:
    """Refuse what no job can have."""
    if request.image is not None:
        raise InputError("a job of Slurm has no boot image", where="run.image", hint="remove it")


class SlurmCompute:
    """Batch jobs of this user on one cluster; thread-safe."""

    def __init__(self, settings: SlurmSettings, context: ComputeContext) -> None:
        self._settings, self._context = settings, context
        self._output = settings.output_dir.absolute()

    def regions(self) -> Sequence[Region]:
        return [Region(name="slurm", zones=tuple(dict.fromkeys(each.zones[0] for each in self.instance_types())))]

    def images(self) -> Sequence[Image]:
        return []

    def instance_types(self) -> Sequence[InstanceType]:
        return read_types(self._settings)

    def headroom(self, offer: Offer) -> Headroom | None:
        return None

    def launch(self, request: LaunchRequest) -> Instance:
        check_launch(self._settings, request)
        name = _job_name(request.client_token)
        with self._locked(name):
            if found := self._with_name(name):
                return found
            with kit.translate_errors("slurm.output_dir", kit.Problem.of_exception, _FOLDER_ERRORS):
                write_secrets(self._output, name, request.secrets)
            return self._submit(request, name)

    def _locked(self, name: str) -> IO[str]:
        """Return a file that excludes launches with the same name, on all machines that share it, while it is open."""
        with kit.translate_errors("slurm.output_dir", kit.Problem.of_exception, _FOLDER_ERRORS):
            self._output.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self._output / f"launch-{name[-1]}.lock").open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    def _submit(self, request: LaunchRequest, name: str) -> Instance:
        offer, kind = request.offer, request.offer.instance_type
        mark = {"job": request.job_id, "token": request.client_token, "labels": dict(request.labels), "type": kind.name}
        mark["spot"] = str(offer.provisioning_model is ProvisioningModel.SPOT or "")
        options = [*self._settings.sbatch_options, *_OPTIONS.split(), f"--job-name={name}", f"--partition={offer.zone}"]
        options += [f"--comment={json.dumps({_MARK: mark})}", f"--cpus-per-task={kind.vcpus}"]
        options += [f"--chdir={self._output}", "--output={}/%j.log".format(str(self._output).replace("%", "%%"))]
        if (memory := int(kind.memory_gb * 1024)) > 1:  # 1: Slurm does not know the memory of its nodes
            options.append(f"--mem={memory}")
        if request.max_lifetime is not None:
            options.append(f"--time={math.ceil(request.max_lifetime.total_seconds() / 60)}")
        folder = shlex.quote(str(self._context.submit_dir.absolute()))
        work = 'mkdir -p "$SLURM_JOB_ID.work" && cd "$SLURM_JOB_ID.work" || exit 1'
        lines = [*reading_lines(self._output, name, request.secrets), f"export CLOUD_TASKS_SUBMIT_DIR={folder}", work]
        script = kit.insert_lines(request.startup_script, lines)
        failure = ProviderError("sbatch: the job is not listed", transient=True)
        try:
            run_command(self._settings, "sbatch", *options, script=script, without=self._context.secret_variables)
        except (LaunchRefusedError, LaunchFailedError):
            remove_secrets(self._output, name)
            raise
        except ProviderError as error:
            failure = error
        if found := self._with_name(name):
            return found
        raise failure

    def _with_name(self, name: str) -> Instance | None:
        """Return the instance of a name; cancel later ones, which wait for it."""
        jobs = [each for each in self._jobs(f"--name={name}", "--states=all") if each.job_id]
        jobs = sorted(jobs, key=lambda each: int(each.instance_id))
        self.terminate([each.instance_id for each in jobs[1:]])
        return next(iter(jobs), None)

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> list[Instance]:
        jobs = self._jobs(*(["--states=all"] if include_terminated else []))
        self._forget(jobs, [each.instance_id for each in jobs if each.state is State.TERMINATED])
        return [each for each in jobs if (each.job_id == job_id if job_id else each.job_id or foreign)]

    def _jobs(self, *options: str) -> Sequence[Instance]:
        output = run_command(self._settings, "squeue", "--me", "--all", "--noheader", _FORMAT, *options)
        fields = (line.split("|", 10) for line in output.splitlines())
        return [_instance(each) for each in fields if len(each) == 11]

    def terminate(self, instance_ids: Sequence[str]) -> None:
        jobs = self._jobs()
        ids = [each.instance_id for each in jobs if each.job_id and each.instance_id in set(instance_ids)]
        try:
            if ids:
                run_command(self._settings, "scancel", "--quiet", *ids)
        except ProviderError:
            # Jobs that ended meanwhile are an error of scancel, too.
            if any(each.is_alive and each.instance_id in ids for each in self._jobs()):
                raise
        self._forget(jobs, ids)

    def _forget(self, jobs: Sequence[Instance], ended: Sequence[str]) -> None:
        """Delete the secrets of ended jobs, which may not have started, unless another job of their name needs them."""
        needed = {each.client_token for each in jobs if each.instance_id not in ended}
        for token in {each.client_token for each in jobs if each.job_id and each.instance_id in ended} - needed:
            remove_secrets(self._output, _job_name(token))

    def console_log(self, instance_id: str) -> str:
        return kit.tail_of_file(self._output / f"{instance_id}.log") if instance_id.isdecimal() else ""

    def close(self) -> None:
        """Do nothing: each command ends by itself."""


def _job_name(client_token: str) -> str:
    return kit.safe_name(f"{_MARK}-{client_token}", allowed="a-zA-Z0-9._-", longest=100)


def _mark(name: str, comment: str) -> Mapping[str, Any]:
    """Return what a job was marked with; empty for a job of another program."""
    try:
        mark: Mapping[str, Any] = json.loads(comment)[_MARK]
        return mark if name == _job_name(mark["token"]) and mark["job"] else {}
    except (ValueError, LookupError, TypeError):
        return {}


def _instance(fields: Sequence[str]) -> Instance:
    number, partition, state, submitted, start, end, cpus, host, reason, name, comment = fields
    mark, current = _mark(name, comment), _STATES.get(state, State.RUNNING)
    ended, why = current is State.TERMINATED, "" if reason == "None" else reason
    times = [datetime.fromtimestamp(int(each), UTC) if each.isdecimal() else None for each in (submitted, start, end)]
    # The start of a job that waits is an estimate; a job that ended while it waited has no host.
    ran = current is not State.PENDING and host not in ("n/a", "(null)", "")
    return Instance(
        instance_id=number,
        job_id=mark.get("job", ""),
        state=current,
        instance_type=mark.get("type") or type_name(partition, cpus),
        zone=partition,
        provisioning_model=ProvisioningModel.SPOT if mark.get("spot") else ProvisioningModel.ON_DEMAND,
        created_at=times[0] or datetime.now(UTC),
        client_token=mark.get("token", ""),
        labels=mark.get("labels", {}),
        address=host if ran else "",
        started_at=times[1] if ran else None,
        ended_at=times[2] if ended else None,
        reason=f"{state}: {why}".removesuffix(": ") if ended else why,
    )
