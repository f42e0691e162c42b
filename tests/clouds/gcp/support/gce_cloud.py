"""State of the Compute Engine fake: effects of inserts, deletions, preemptions and time on instances and disks.

Invariants, each with a test in `tests/clouds/gcp/test_compute_fake.py`:

1. An operation requested twice with one request id happens once.
2. A deleted instance runs no process; a disk disappears only by deletion, with its instance or separately.
3. Quotas are enforced, and a launch refused for a stock-out leaves neither instance nor disk.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from cloud_state import CloudState, most_at_once
from gce_catalog import MachineType, load_catalog
from gce_checks import check_insert, new_instance
from gce_guests import Guests
from gce_images import OwnImages
from gce_quota import exceeded, usage
from gce_records import ApiError, Disk, Instance, Operation, StockOut, Times

__all__ = ["Cloud", "InsertRecord"]


@attrs.define(kw_only=True)
class InsertRecord:
    """One insertion, with start and end of its operation."""

    name: str
    zone: str
    machine_type: str
    spot: bool
    labels: Mapping[str, str]
    accounts: tuple[str, ...]
    """Service accounts of the instance."""
    began: float
    ended: float | None = None
    outcome: str = ""
    """``running``, or the code of the refusal."""


class Cloud(CloudState[Times, StockOut]):
    """Fake Compute Engine of one project.

    Args:
        folder: Folder of the instances, created here.
        guest_environment: Variables of every instance, in addition to its metadata server's address.
    """

    def __init__(
        self,
        folder: Path,
        *,
        project: str = "fake-project",
        times: Times | None = None,
        guest_environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__("gce", times=times or Times(), guest_environment=guest_environment)
        self.project = project
        self.catalog = load_catalog()
        self.quotas: dict[str, dict[str, float]] = {name: dict(self.catalog.quotas) for name in self.catalog.regions}
        self.global_quotas = dict(self.catalog.global_quotas)
        self.instances: dict[tuple[str, str], Instance] = {}
        self.disks: dict[tuple[str, str], Disk] = {}
        self.operations: dict[str, Operation] = {}
        self.inserts: list[InsertRecord] = []
        self.preempted: list[str] = []
        self.networks = {"default"}
        self.denied_accounts: set[str] = set()
        """Service accounts that the caller may not use."""
        self.not_ready: Counter[str] = Counter()
        """Number of deletions of a resource, by name, that are refused because another operation is under way."""
        self.changed = threading.Condition(self.lock)
        self.own_images = OwnImages(self)
        self.guests = Guests(folder, project)
        self._requests: dict[tuple[str, str], Operation] = {}

    def close(self) -> None:
        super().close()
        with self.lock:
            self.changed.notify_all()

    def quotas_of(self, place: str) -> dict[str, float]:
        return self.global_quotas if place == "global" else self.quotas[place]

    def _hosted(self) -> Iterable[Instance]:
        return self.instances.values()

    # -- insert --

    def insert(self, zone: str, body: dict[str, Any], request_id: str) -> Operation:
        with self.lock:
            earlier = self._requests.get(("insert", request_id))
            if request_id and earlier is not None:
                return earlier
            machine_type = check_insert(self, zone, body)
            operation = self.begin("insert", zone, body["name"], request_id)
            record = InsertRecord(
                name=body["name"],
                zone=zone,
                machine_type=machine_type.name,
                spot=body.get("scheduling", {}).get("provisioningModel") == "SPOT",
                labels=dict(body.get("labels", {})),
                accounts=tuple(each["email"] for each in body.get("serviceAccounts", ())),
                began=operation.began,
            )
            self.inserts.append(record)
            instance = self._create(zone, body, machine_type)
        self.timeline.after(self.times.provision, lambda: self._provisioned(instance, operation, record))
        return operation

    def _create(self, zone: str, body: dict[str, Any], machine_type: MachineType) -> Instance:
        instance = new_instance(zone, body, machine_type, numbers=self._numbers, now=self.timeline.now())
        self.disks.update(((zone, disk.name), disk) for disk in instance.disks)
        self.instances[zone, instance.name] = instance
        return instance

    def _provisioned(self, instance: Instance, operation: Operation, record: InsertRecord) -> None:
        with self.lock:
            if instance.ending:
                self.finish(operation)
                return
            problem = self._refusal(instance)
            if problem is not None:
                record.ended, record.outcome = self.timeline.now(), problem["code"]
                self._forget(instance, all_disks=True)
                statuses = {"QUOTA_EXCEEDED": 403, "SERVICE_ACCOUNT_ACCESS_DENIED": 400}
                self.finish(operation, [problem], statuses.get(problem["code"], 503))
                return
            instance.started = self.timeline.now()
            self.guests.boot(
                instance,
                self.guest_environment,
                power_off=lambda: self._powered_off(instance),
                root=self.own_images.root_of(instance),
            )
            record.ended, record.outcome = self.timeline.now(), "running"
            self.finish(operation)
        seconds = instance.body.get("scheduling", {}).get("maxRunDuration", {}).get("seconds")
        if seconds is not None:
            self.timeline.after(float(seconds), lambda: self._begin_end(instance, self.times.guest_shutdown))

    def _refusal(self, instance: Instance) -> dict[str, Any] | None:
        denied = self.denied_accounts.intersection(each["email"] for each in instance.body.get("serviceAccounts", ()))
        if denied:
            message = f"The user does not have access to service account '{min(denied)}'.  User: 'sam@example.com'."
            return {"code": "SERVICE_ACCOUNT_ACCESS_DENIED", "message": message}
        provisioning_model = "spot" if instance.spot else "on-demand"
        for rule in self.stock_outs:
            if rule.matches(instance.zone, instance.machine_type, provisioning_model):
                zone = f"projects/{self.project}/zones/{instance.zone}"
                message = rule.message or f"The zone '{zone}' does not have enough resources available to fulfill it."
                return {"code": rule.code, "message": message}
        return exceeded(self, instance)

    # -- deletion and preemption --

    def delete_instance(self, zone: str, name: str, request_id: str) -> Operation:
        with self.lock:
            earlier = self._requests.get(("delete", request_id))
            if request_id and earlier is not None:
                return earlier
            instance = self.instance(zone, name)
            path = f"projects/{self.project}/zones/{zone}/instances/{name}"
            self._check_ready(name, "resourceNotReady", f"The resource '{path}' is not ready")
            operation = self.begin("delete", zone, name, request_id)
            if name in self.undeletable:
                self.finish(operation, [{"code": "INTERNAL_ERROR", "message": "Internal error."}], 500)
                return operation
            running = instance.guest is not None
            if not instance.ending:
                instance.ending = True
                instance.status = "STOPPING"
                self._enders.submit(self._delete, instance, self.times.guest_shutdown if running else 0.0)
        self._when_gone(instance, operation)
        return operation

    def stop_instance(self, zone: str, name: str, request_id: str) -> Operation:
        """Shut a guest down; its disks stay."""
        with self.lock:
            instance = self.instance(zone, name)
            operation = self.begin("stop", zone, name, request_id)
            if instance.status == "TERMINATED" or instance.ending:
                self.finish(operation)
                return operation
            instance.status = "STOPPING"
            self._enders.submit(self._stop, instance, operation)
        return operation

    def _stop(self, instance: Instance, operation: Operation) -> None:
        self._stop_guest(instance, self.times.guest_shutdown)
        with self.lock:
            if not instance.ending:
                instance.status = "TERMINATED"
        self.finish(operation)

    @property
    def images(self) -> Sequence[Mapping[str, Any]]:
        """All images, each with its project."""
        return (*self.catalog.images, *self.own_images.found.values())

    def _when_gone(self, instance: Instance, operation: Operation) -> None:
        """Finish the operation when the instance is deleted."""
        with self.lock:
            if self.instances.get((instance.zone, instance.name)) is not instance:
                self.finish(operation)
                return
        self.timeline.after(0.02, lambda: self._when_gone(instance, operation))

    def _delete(self, instance: Instance, grace: float) -> None:
        self._stop_guest(instance, grace)
        self.timeline.after(self.times.delete, lambda: self._forget(instance))

    def delete_disk(self, zone: str, name: str, request_id: str) -> Operation:
        with self.lock:
            disk = self.disks.get((zone, name))
            if disk is None:
                path = f"projects/{self.project}/zones/{zone}/disks/{name}"
                raise ApiError(404, "notFound", f"The resource '{path}' was not found")
            if disk.user:
                raise ApiError(400, "resourceInUseByAnotherResource", f"The disk '{name}' is already being used")
            used = f"The disk resource 'projects/{self.project}/zones/{zone}/disks/{name}' is already being used"
            self._check_ready(name, "resourceInUseByAnotherResource", used)
            operation = self.begin("delete", zone, name, request_id)
            del self.disks[zone, name]
        self.timeline.after(self.times.delete, lambda: self.finish(operation))
        return operation

    def _check_ready(self, name: str, reason: str, message: str) -> None:
        if self.not_ready[name]:
            self.not_ready[name] -= 1
            raise ApiError(400, reason, message)

    def preempt(self, name: str) -> None:
        """Preempt a spot instance: notice, SIGTERM, termination."""
        with self.lock:
            instance = next(each for each in self.instances.values() if each.name == name)
            if instance.ending or instance.metadata is None:
                return
            instance.ending = True
            instance.status = "STOPPING"
            self.preempted.append(name)
            instance.metadata.set("preempted", "TRUE")
            grace = max(0.0, self.times.preemption - self.times.signal)
        self.timeline.after(self.times.signal, lambda: self._submit_end(instance, grace))

    def _begin_end(self, instance: Instance, grace: float) -> None:
        with self.lock:
            if instance.ending:
                return
            instance.ending = True
            instance.status = "STOPPING"
        self._submit_end(instance, grace)

    def _submit_end(self, instance: Instance, grace: float) -> None:
        self._enders.submit(self._end_by_itself, instance, grace)

    def _end_by_itself(self, instance: Instance, grace: float) -> None:
        self._stop_guest(instance, grace)
        with self.lock:
            if instance.deleted_on_termination:
                self._forget(instance)
            else:
                instance.status, instance.ending = "TERMINATED", False

    def _powered_off(self, instance: Instance) -> None:
        with self.lock:
            if instance.ending:
                return
            instance.status = "STOPPING"
        self._stop_guest(instance, self.times.guest_shutdown)
        with self.lock:
            if not instance.ending:
                instance.status = "TERMINATED"

    def _forget(self, instance: Instance, *, all_disks: bool = False) -> None:
        with self.lock:
            if self.instances.get((instance.zone, instance.name)) is instance:
                del self.instances[instance.zone, instance.name]
            for disk in instance.disks:
                disk.user = ""
                if all_disks or instance.auto_deletes(disk):
                    self.disks.pop((disk.zone, disk.name), None)
            self.changed.notify_all()

    # -- operations --

    def begin(self, kind: str, zone: str, target: str, request_id: str) -> Operation:
        name = f"operation-{next(self._numbers):08x}"
        operation = Operation(name=name, zone=zone, kind=kind, target=target, began=self.timeline.now())
        self.operations[name] = operation
        if request_id:
            self._requests[kind, request_id] = operation
        return operation

    def finish(self, operation: Operation, errors: list[dict[str, Any]] | None = None, status: int = 0) -> None:
        with self.lock:
            operation.ended = self.timeline.now()
            operation.errors, operation.status_code = errors or [], status
            self.changed.notify_all()

    def wait(self, name: str, seconds: float) -> Operation:
        """Return an operation when it is done or the time has passed."""
        with self.lock:
            operation = self.operations.get(name)
            if operation is None:
                raise ApiError(404, "notFound", f"The resource 'operations/{name}' was not found")
            self.changed.wait_for(lambda: operation.ended is not None, seconds)
            return operation

    def forget_requests(self) -> None:
        """Forget all request ids, as the API does after an hour."""
        with self.lock:
            self._requests.clear()

    # -- queries --

    def instance(self, zone: str, name: str) -> Instance:
        found = self.instances.get((zone, name))
        if found is None:
            path = f"projects/{self.project}/zones/{zone}/instances/{name}"
            raise ApiError(404, "notFound", f"The resource '{path}' was not found")
        return found

    def console(self, zone: str, name: str) -> str:
        """Return the serial port output of an existing instance."""
        self.instance(zone, name)
        return self.guests.console(zone, name)

    def most_inserts_at_once(self) -> int:
        """Return the maximum number of concurrent insertions."""
        with self.lock:
            return most_at_once(self.inserts)

    def usage(self, region: str | None) -> Iterator[tuple[str, float]]:
        """Yield the usage of each quota of a region, or of the global quotas."""
        return usage(self, region)
