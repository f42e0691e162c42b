"""Boot images: those of the user's project, and the public ones by their projects.

What ``image:`` may name: nothing (the newest Ubuntu LTS of the architecture), a URL or a path of the API,
``project/name``, or the name of an image or of a family: the user's project comes first, the public ones follow.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog
from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import InputError, NotFoundError, ProviderError
from cloud_tasks.model import Architecture, Image
from cloud_tasks_gcp.compute.clients import ANSWER_TIMEOUT, Clients, again
from cloud_tasks_gcp.compute.describe import described_image
from cloud_tasks_gcp.compute.failures import mapped

__all__ = ["DEFAULT_IMAGES", "PUBLIC_PROJECTS", "ImageShelf"]

log = structlog.get_logger()

DEFAULT_IMAGES: Mapping[Architecture, str] = {
    Architecture.X86_64: "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64",
    Architecture.ARM64: "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-arm64",
}
"""Families of Canonical's project ("Operating system details", Ubuntu LTS): always the newest image."""

_ADDRESS = "https://www.googleapis.com/compute/v1/"

PUBLIC_PROJECTS = (
    "ubuntu-os-cloud",
    "debian-cloud",
    "rocky-linux-cloud",
    "centos-cloud",
    "rhel-cloud",
    "suse-cloud",
    "cos-cloud",
)
"""Projects of public Linux images ("Operating system details", image project); others are named ``project/image``."""

_SPECIFIC = re.compile(r"^(https?://.*?/compute/[a-z0-9]+/)?(?P<path>projects/.+)$")
_TWO_PARTS = re.compile(r"^(?P<project>[a-z][-a-z0-9:.]*)/(?P<name>[-a-z0-9]+)$")


class ImageShelf:
    """The images that one project may use. Thread-safe; a name is looked up once."""

    def __init__(self, clients: Clients, project: str) -> None:
        self._clients = clients
        self._project = project
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}

    def all(self) -> tuple[Image, ...]:
        """The usable images of all projects; a public project that cannot be read is left out, one's own raises."""
        projects = (self._project, *(project for project in PUBLIC_PROJECTS if project != self._project))
        with ThreadPoolExecutor(len(projects), thread_name_prefix="gcp-images") as threads:
            found = threads.map(self._of_project, projects)
            return tuple(image for images in found for image in images)

    def _of_project(self, project: str) -> Sequence[Image]:
        own = project == self._project
        try:
            with self._clients.one() as clients, mapped(f"list the images of {project}"):
                request = sdk.ListImagesRequest(project=project, max_results=500)
                pager = clients.images.list(request=request, retry=again(), timeout=ANSWER_TIMEOUT)
                return [described_image(image, project, own=own) for image in pager if not image.deprecated.state]
        except NotFoundError:
            if own:
                raise
            return ()

    def uri(self, wanted: str | None, architecture: Architecture) -> str:
        """Return what the API takes for what the user wrote. Raises `InputError` where there is no such image."""
        if not wanted:
            return self._default(architecture)
        specific = _SPECIFIC.match(wanted)
        if specific is not None:
            return specific["path"]
        with self._lock:
            if wanted not in self._known:
                self._known[wanted] = self._look_up(wanted)
            return self._known[wanted]

    def _default(self, architecture: Architecture) -> str:
        """The image that is the newest of its family now: one for all machines of this object, and told once."""
        family = DEFAULT_IMAGES[architecture]
        with self._lock:
            if family not in self._known:
                self._known[family] = self._newest(family)
                log.info(f"Using current default image: {_ADDRESS}{self._known[family]}")
            return self._known[family]

    def _newest(self, path: str) -> str:
        _, project, *_, family = path.split("/")
        try:
            with self._clients.one() as clients, mapped(f'look up the image "{family}" in {project}'):
                image = clients.images.get_from_family(
                    project=project, family=family, retry=again(), timeout=ANSWER_TIMEOUT
                )
        except ProviderError:
            return path  # Compute Engine finds it by itself, or says at the launch why not.
        return f"projects/{project}/global/images/{image.name}"

    def _look_up(self, wanted: str) -> str:
        parts = _TWO_PARTS.match(wanted)
        name = parts["name"] if parts is not None else wanted.removeprefix("family/")
        projects = (parts["project"],) if parts is not None else (self._project, *_likely_first(name))
        with self._clients.one() as clients:
            for project in projects:
                for by_family in (False, True):
                    found = _found(clients.images, project, name, by_family=by_family)
                    if found is not None:
                        return found
        hint = "cloud-tasks list-images shows what there is"
        raise InputError(f'there is no image "{wanted}"', where="run.image", hint=hint)


def _found(images: sdk.ImagesClient, project: str, name: str, *, by_family: bool) -> str | None:
    try:
        with mapped(f'look up the image "{name}" in {project}'):
            if by_family:
                image = images.get_from_family(project=project, family=name, retry=again(), timeout=ANSWER_TIMEOUT)
                return f"projects/{project}/global/images/family/{image.family}"
            image = images.get(project=project, image=name, retry=again(), timeout=ANSWER_TIMEOUT)
            return f"projects/{project}/global/images/{image.name}"
    except NotFoundError:
        return None


def _likely_first(name: str) -> list[str]:
    """The public projects, the one that the name begins like in front: ``debian-12`` is in ``debian-cloud``."""
    start = name.partition("-")[0]
    return sorted(PUBLIC_PROJECTS, key=lambda project: not project.startswith(start))
