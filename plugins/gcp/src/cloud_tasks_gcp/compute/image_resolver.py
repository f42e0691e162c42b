"""Boot images of the user's project and of the public image projects.

Accepted values of ``image:``: empty (the newest Ubuntu LTS of the architecture), a URL or path of the API,
``project/name``, or the name of an image or image family; the user's project is searched before the public ones.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing

import attrs
import structlog
from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import InputError, NotFoundError, ProviderError
from cloud_tasks.model import Architecture, Image
from cloud_tasks.plugin.kit import FanOut
from cloud_tasks_gcp.compute.clients import ANSWER_TIMEOUT, Clients, read_retry
from cloud_tasks_gcp.compute.compute_errors import translate_errors
from cloud_tasks_gcp.compute.to_model import GONE, to_image

__all__ = ["DEFAULT_IMAGES", "PUBLIC_PROJECTS", "ImageResolver"]

log = structlog.get_logger()

DEFAULT_IMAGES: Mapping[Architecture, str] = {
    Architecture.X86_64: "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64",
    Architecture.ARM64: "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-arm64",
}
"""Default image families, from Canonical's project ("Operating system details", Ubuntu LTS)."""

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
"""Projects of public Linux images ("Operating system details", image project); images of other projects need
``project/image``."""

_HINT = "run: cloud-tasks list-images"
_ARCHITECTURES: Mapping[str, Architecture] = {"X86_64": Architecture.X86_64, "ARM64": Architecture.ARM64}
_SPECIFIC = re.compile(r"^(https?://.*?/compute/[a-z0-9]+/)?(?P<path>projects/.+)$")
_PATH = re.compile(r"projects/(?P<project>[^/]+)/global/images/(?P<family>family/)?(?P<name>[^/]+)")
_TWO_PARTS = re.compile(r"^(?P<project>[a-z][-a-z0-9:.]*)/(?P<name>[-a-z0-9]+)$")


class ImageResolver:
    """Resolver of image names for one project. Thread-safe; each name is looked up once."""

    def __init__(self, clients: Clients, project: str) -> None:
        self._clients = clients
        self._project = project
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}
        self._described: dict[str, tuple[str, sdk.Image]] = {}
        """Project and image, by path."""

    def list_images(self) -> tuple[Image, ...]:
        """Return the usable images of all projects.

        An unreadable public project is skipped; an unreadable own project raises `ProviderError`.
        """
        projects = (self._project, *(project for project in PUBLIC_PROJECTS if project != self._project))
        with closing(FanOut(len(projects), "gcp-images")) as fan_out:
            return tuple(image for images in fan_out.map(self._of_project, projects) for image in images)

    def _of_project(self, project: str) -> Sequence[Image]:
        own = project == self._project
        try:
            with self._clients.acquire() as clients, translate_errors(f"list the images of {project}"):
                request = sdk.ListImagesRequest(project=project, max_results=500)
                pager = clients.images.list(request=request, retry=read_retry(), timeout=ANSWER_TIMEOUT)
                return [to_image(image, project, own=own) for image in pager if not image.deprecated.state]
        except NotFoundError:
            if own:
                raise
            return ()

    def resolve(self, requested: str | None, architecture: Architecture) -> str:
        """Return the image path for the API. Raise `InputError` when no such image exists.

        Args:
            requested: Value of ``image:``; None for the default image of the architecture.
        """
        if not requested:
            return self._default(architecture)
        specific = _SPECIFIC.match(requested)
        if specific is not None:
            return specific["path"]
        with self._lock:
            if requested not in self._known:
                self._known[requested] = self._look_up(requested)
            return self._known[requested]

    def describe(self, requested: str | None, architecture: Architecture) -> Image:
        """Return the image that `resolve` names, with its size. Raise `InputError` when no such image exists, or it is
        for another architecture.

        Args:
            requested: Value of ``image:``; None for the default image of the architecture.
        """
        path = self.resolve(requested, architecture) if requested else DEFAULT_IMAGES[architecture]
        with self._lock:
            if path not in self._described:
                self._described[path] = self._get(path, requested or path)
            project, found = self._described[path]
        if found.deprecated.state in GONE:
            successor = found.deprecated.replacement
            raise InputError(
                f'image "{requested}" is {found.deprecated.state.lower()}, so that no instance can use it',
                where="run.image",
                hint=f"set it to {successor.removeprefix(_ADDRESS)}" if successor else _HINT,
            )
        # An image of one's own may name no architecture.
        named = found.architecture if found.architecture in _ARCHITECTURES else ""
        if named and _ARCHITECTURES[named] is not architecture:
            raise InputError(
                f'image "{requested}" is for {_ARCHITECTURES[named].value}, the instance types are '
                f"{architecture.value}",
                where="run.image",
                hint="choose another image (run: cloud-tasks list-images), or set run.architecture",
            )
        return attrs.evolve(to_image(found, project, own=project == self._project), architecture=architecture)

    def _get(self, path: str, requested: str) -> tuple[str, sdk.Image]:
        """Return the project and the image of a path of the API, of an image or an image family."""
        parts = _PATH.fullmatch(path)
        found = None
        if parts is not None:
            with self._clients.acquire() as clients:
                is_family = parts["family"] is not None
                found = _find(clients.images, parts["project"], parts["name"], by_family=is_family)
        if parts is None or found is None:
            raise InputError(f'image "{requested}" not found', where="run.image", hint=_HINT)
        return parts["project"], found

    def _default(self, architecture: Architecture) -> str:
        """Return the newest image of the default family, resolved and logged once for all instances."""
        family = DEFAULT_IMAGES[architecture]
        with self._lock:
            if family not in self._known:
                self._known[family] = self._newest(family)
                log.info(f"Using current default image: {_ADDRESS}{self._known[family]}")
            return self._known[family]

    def _newest(self, path: str) -> str:
        _, project, *_, family = path.split("/")
        try:
            with self._clients.acquire() as clients, translate_errors(f'look up the image "{family}" in {project}'):
                image = clients.images.get_from_family(
                    project=project, family=family, retry=read_retry(), timeout=ANSWER_TIMEOUT
                )
        except ProviderError:
            return path  # Compute Engine resolves the family at launch, or reports the error there.
        return f"projects/{project}/global/images/{image.name}"

    def _look_up(self, requested: str) -> str:
        parts = _TWO_PARTS.match(requested)
        name = parts["name"] if parts is not None else requested.removeprefix("family/")
        projects = (parts["project"],) if parts is not None else (self._project, *_likely_projects_first(name))
        with self._clients.acquire() as clients:
            for project in projects:
                for by_family in (False, True):
                    found = _find(clients.images, project, name, by_family=by_family)
                    if found is not None:
                        last = f"family/{found.family}" if by_family else found.name
                        return f"projects/{project}/global/images/{last}"
        raise InputError(f'image "{requested}" not found', where="run.image", hint=_HINT)


def _find(images: sdk.ImagesClient, project: str, name: str, *, by_family: bool) -> sdk.Image | None:
    try:
        with translate_errors(f'look up the image "{name}" in {project}'):
            if by_family:
                return images.get_from_family(project=project, family=name, retry=read_retry(), timeout=ANSWER_TIMEOUT)
            return images.get(project=project, image=name, retry=read_retry(), timeout=ANSWER_TIMEOUT)
    except NotFoundError:
        return None


def _likely_projects_first(name: str) -> list[str]:
    """Return the public projects, the likely owner of the name first: ``debian-12`` is in ``debian-cloud``."""
    start = name.partition("-")[0]
    return sorted(PUBLIC_PROJECTS, key=lambda project: not project.startswith(start))
