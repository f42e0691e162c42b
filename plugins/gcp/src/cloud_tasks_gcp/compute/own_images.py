"""Images of instances, for ``cloud-tasks image build``.

The instance is stopped first, so that its file system is complete ("Create custom images"). An image is global: its
instances can be in any zone.

Invariants, each with a test:

1. Only an image with the label of cloud-tasks is found, returned or deleted.
2. An image that failed is deleted, and its reason is raised; one that another call makes is waited for.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import timedelta

from google.api_core.exceptions import Conflict
from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_gcp.compute.clients import ANSWER_TIMEOUT, Clients, ClientSet, read_retry
from cloud_tasks_gcp.compute.compute_errors import translate_errors
from cloud_tasks_gcp.compute.operations import operation_problem, wait_for_operation
from cloud_tasks_gcp.compute.to_model import last_part

__all__ = ["find_own_image", "make_image"]

_LABEL = "cloud-tasks-image"
_TIMEOUT = timedelta(minutes=30)
"""Time limit of a step; an image of some GB takes a few minutes."""
_PAUSE = 5.0


def find_own_image(clients: Clients, project: str, name: str) -> str | None:
    """Implement `ImageMaker.find_own_image`."""
    with clients.acquire() as acquired:
        image = _get(acquired, project, name)
    return None if image is None or image.status != "READY" or _LABEL not in image.labels else _path(project, name)


def make_image(
    clients: Clients,
    project: str,
    zone: str,
    instance_id: str,
    name: str,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Implement `ImageMaker.make_image`."""
    what = f"make the image {name}"
    with clients.acquire() as acquired:
        with translate_errors(f"stop {instance_id}"):
            found = acquired.instances.get(
                project=project, zone=zone, instance=instance_id, retry=read_retry(), timeout=ANSWER_TIMEOUT
            )
            operation = acquired.instances.stop_unary(
                project=project, zone=zone, instance=instance_id, timeout=ANSWER_TIMEOUT
            )
        _finish(acquired, operation, project, zone, f"stop {instance_id}")
        disk = next(last_part(each.source) for each in found.disks if each.boot)
        request = sdk.InsertImageRequest(
            project=project,
            image_resource=sdk.Image(
                name=name,
                source_disk=f"projects/{project}/zones/{zone}/disks/{disk}",
                labels={_LABEL: "1"},
                description="Made by cloud-tasks image build",
            ),
            request_id=str(uuid.uuid4()),
        )
        try:
            with translate_errors(what):
                insertion = _insert(acquired, request)
            if insertion is not None:
                _finish(acquired, insertion, project, "", what)
            _wait_until_ready(acquired, project, name, clock, sleep)
        except ProviderError:
            _delete_failed(acquired, project, name)
            raise
    return _path(project, name)


def _insert(clients: ClientSet, request: sdk.InsertImageRequest) -> sdk.Operation | None:
    """Start the insertion; return None if an image of this name exists or is being made."""
    try:
        return clients.images.insert_unary(request=request, timeout=ANSWER_TIMEOUT)
    except Conflict:
        return None


def _finish(clients: ClientSet, operation: sdk.Operation, project: str, zone: str, what: str) -> None:
    done = wait_for_operation(clients, operation, project=project, zone=zone, what=what, timeout=_TIMEOUT)
    if (problem := operation_problem(done)) is not None:
        raise ProviderError(f"cannot {what}: {problem.code}: {problem.message}")


def _wait_until_ready(
    clients: ClientSet, project: str, name: str, clock: Callable[[], float], sleep: Callable[[float], None]
) -> None:
    deadline = clock() + _TIMEOUT.total_seconds()
    while True:
        image = _get(clients, project, name)
        if image is None or _LABEL not in image.labels:
            raise ProviderError(
                f"cannot make the image {name}: the project has another one of this name, or it is gone"
            )
        if image.status == "READY":
            return
        if image.status == "FAILED" or clock() >= deadline:
            raise ProviderError(f"cannot make the image {name}: its status is {image.status}")
        sleep(_PAUSE)


def _delete_failed(clients: ClientSet, project: str, name: str) -> None:
    """Delete what is left of an image that this call began; not one that is complete, or being made elsewhere."""
    image = _get(clients, project, name)
    if image is not None and _LABEL in image.labels and image.status == "FAILED":
        with translate_errors(f"delete the image {name}"):
            clients.images.delete_unary(project=project, image=name, timeout=ANSWER_TIMEOUT)


def _get(clients: ClientSet, project: str, name: str) -> sdk.Image | None:
    try:
        with translate_errors(f"read the image {name}"):
            return clients.images.get(project=project, image=name, retry=read_retry(), timeout=ANSWER_TIMEOUT)
    except NotFoundError:
        return None


def _path(project: str, name: str) -> str:
    return f"projects/{project}/global/images/{name}"
