"""Images made of instances, for ``cloud-tasks image build``.

The instance is stopped first. A snapshot of a running one has only what was written by then ("CreateImage", EC2 API
reference), and AWS advises to stop it before a snapshot of its root volume ("CreateSnapshot"). A reboot by CreateImage
would be its second boot, at which the boot guard ends it. A stop by the API terminates no instance, whatever power-off
does ("Change the instance initiated shutdown behavior", EC2 user guide).

Invariants, each with a test:

1. Only own images with the cloud-tasks tag are found, awaited or deleted.
2. A name has one image: one that is there is not made again, and awaited if it is not complete.
3. What is left of an image that was not made is deleted, with its snapshots.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from cloud_tasks.errors import ProviderError
from cloud_tasks_aws.compute.compute_errors import is_transient, translate_errors
from cloud_tasks_aws.compute.retries import retry_call
from cloud_tasks_aws.compute.tags import JOB_TAG
from cloud_tasks_aws.errors import code_of

__all__ = ["OwnImages"]

log = structlog.get_logger()

_FAILED = ("deregistered", "error", "failed", "invalid")
_STOP_LIMIT = 600.0
_LIMIT = 1800.0
"""Seconds until an image is complete: some minutes for each 10 GB."""
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 15.0

_Found = TypeVar("_Found")


class OwnImages:
    """The images that cloud-tasks made in one region of the account.

    Args:
        tags: Further tags of new images and their snapshots.
        job_id: Value of the cloud-tasks tag of new images, which no other process uses.
    """

    def __init__(self, ec2: Any, tags: Mapping[str, str], job_id: str) -> None:
        self._ec2 = ec2
        self._job_id = job_id
        self._tags = [{"Key": key, "Value": value} for key, value in {**tags, JOB_TAG: job_id}.items()]

    def find(self, name: str) -> str | None:
        """Return the id of a complete image; None without one."""
        with translate_errors("listing own images"):
            return next((each["ImageId"] for each in self._named(name) if each["State"] == "available"), None)

    def make(self, instance_id: str, name: str) -> str:
        """Stop an instance and make an image of its root volume; return the id, of which there is one for a name.

        Raises:
            ProviderError: The image was not made.
        """
        with translate_errors(f"making the image {name}"):
            self._delete(name, lambda image: image["State"] in _FAILED)
            found = [each["ImageId"] for each in self._named(name)]
            with self._undone(name):
                image_id = str(found[0]) if found else self._create(instance_id, name)
                _wait(lambda: self._is_complete(image_id, name), _LIMIT, f"the image {name} is not complete")
            return image_id

    def _create(self, instance_id: str, name: str) -> str:
        others = self._stop(instance_id)
        try:
            made = self._ec2.create_image(
                InstanceId=instance_id,
                Name=name,
                NoReboot=True,
                BlockDeviceMappings=[{"DeviceName": each, "NoDevice": ""} for each in others],
                TagSpecifications=[{"ResourceType": kind, "Tags": self._tags} for kind in ("image", "snapshot")],
            )
            return str(made["ImageId"])
        except ClientError as error:
            if code_of(error) != "InvalidAMIName.Duplicate":
                raise
        # Of another process, or of this call, whose first answer was lost.
        try:
            return str(retry_call(lambda: self._named(name)[0]["ImageId"]))
        except LookupError:
            raise ProviderError(f'an image "{name}" without the tag {JOB_TAG} is there: delete or rename it') from None

    def _stop(self, instance_id: str) -> Sequence[str]:
        """Stop an instance; return the names of its volumes besides the root volume."""
        _ = retry_call(lambda: self._ec2.stop_instances(InstanceIds=[instance_id]))["StoppingInstances"]

        def stopped() -> Mapping[str, Any] | None:
            found = retry_call(lambda: self._ec2.describe_instances(InstanceIds=[instance_id])["Reservations"])
            instance: Mapping[str, Any] = found[0]["Instances"][0]
            if instance["State"]["Name"] in ("shutting-down", "terminated"):
                raise ProviderError(f"{instance_id} ended before its image was made")
            return instance if instance["State"]["Name"] == "stopped" else None

        instance = _wait(stopped, _STOP_LIMIT, f"{instance_id} is not stopped")
        names = [str(each["DeviceName"]) for each in instance.get("BlockDeviceMappings", ())]
        return [each for each in names if each != instance["RootDeviceName"]]

    def _is_complete(self, image_id: str, name: str) -> bool:
        image = retry_call(
            lambda: self._ec2.describe_images(ImageIds=[image_id])["Images"][0],
            # A new one is not visible at once.
            retryable=lambda error: is_transient(error) or code_of(error) == "InvalidAMIID.NotFound",
        )
        if image["State"] in _FAILED:
            reason = image.get("StateReason") or {}
            text = reason.get("Message") or reason.get("Code") or image["State"]
            raise ProviderError(f"the image {name} failed: {' '.join(text.split())}")
        return bool(image["State"] == "available")

    def _named(self, name: str) -> Sequence[Mapping[str, Any]]:
        conditions = [{"Name": "name", "Values": [name]}, {"Name": "tag-key", "Values": [JOB_TAG]}]
        found: Sequence[Mapping[str, Any]] = self._ec2.describe_images(Owners=["self"], Filters=conditions)["Images"]
        return found

    # -- deletion ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _undone(self, name: str) -> Iterator[None]:
        """Delete what is left of an image if it is not made; that of another process only if it failed."""
        try:
            yield
        except BaseException:
            try:
                self._delete(name, lambda image: image["State"] in _FAILED or _job_of(image) == self._job_id)
            except (ClientError, BotoCoreError, LookupError) as error:
                log.warning(f"The image {name} may be left, and its snapshots with the tag {JOB_TAG}: {error}")
            raise

    def _delete(self, name: str, condition: Callable[[Mapping[str, Any]], bool]) -> None:
        """Delete the images of a name that meet a condition, with their snapshots."""
        for image in filter(condition, self._named(name)):
            deregister = partial(self._ec2.deregister_image, ImageId=image["ImageId"])
            _unless_gone(deregister, "InvalidAMIID.")
            conditions = [{"Name": f"tag:{JOB_TAG}", "Values": [_job_of(image)]}]
            for snapshot in self._ec2.describe_snapshots(OwnerIds=["self"], Filters=conditions)["Snapshots"]:
                delete = partial(self._ec2.delete_snapshot, SnapshotId=snapshot["SnapshotId"])
                _unless_gone(delete, "InvalidSnapshot.NotFound")


def _job_of(image: Mapping[str, Any]) -> str:
    return next(str(each["Value"]) for each in image["Tags"] if each["Key"] == JOB_TAG)


def _unless_gone(delete: Callable[[], object], gone: str) -> None:
    """Delete something; do nothing if it is gone, and repeat if it is in use by an image deregistered a moment ago."""
    try:
        retry_call(delete, retryable=lambda error: is_transient(error) or code_of(error) == "InvalidSnapshot.InUse")
    except ClientError as error:
        if not code_of(error).startswith(gone):
            raise


def _wait(answer: Callable[[], _Found | None], limit: float, late: str) -> _Found:
    """Return the first answer that is true; raise if there is none within ``limit`` seconds."""
    deadline, pause = time.monotonic() + limit, _FIRST_PAUSE
    while True:
        found = answer()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise ProviderError(f"{late} after {limit / 60:g} min", transient=True)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
