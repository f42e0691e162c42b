"""The setup of a fake project, for tests of its items."""

from __future__ import annotations

from typing import Any

import attrs
from project_admin import ProjectAdmin

from cloud_tasks.plugin import AccountSetup, SetupContext, SetupItem
from cloud_tasks.registry import Registry

__all__ = [
    "ANYWHERE",
    "BUCKET",
    "MEMBER",
    "READER",
    "ROBOT",
    "ROLE",
    "WRITES",
    "item",
    "make",
    "missing",
    "setup_of",
    "undo",
]

ROBOT = "cloud-tasks-worker@p.iam.gserviceaccount.com"
MEMBER = f"serviceAccount:{ROBOT}"
ROLE = "projects/p/roles/cloudTasksWorker"
BUCKET = "cloud-tasks-p"
READER = "roles/storage.objectViewer"
ANYWHERE = SetupContext()
WRITES = 6
"""Number of writes of a setup in an empty project, without repetitions."""


def setup_of(project: ProjectAdmin, context: SetupContext = ANYWHERE, **settings: Any) -> AccountSetup:
    backend = Registry(only=["gcp"]).compute("gcp")
    assert backend.setup is not None
    return backend.setup(attrs.evolve(project.settings, **settings), context)


def item(project: ProjectAdmin, start: str, **settings: Any) -> SetupItem:
    (found,) = (each for each in setup_of(project, **settings).items if each.subject.startswith(start))
    return found


def missing(setup: AccountSetup) -> dict[str, str]:
    """Return what is missing, by the first word of the item."""
    return {each.subject: text for each in setup.items if (text := each.look())}


def make(setup: AccountSetup) -> None:
    for each in setup.items:
        each.make()


def undo(setup: AccountSetup) -> dict[str, str]:
    return {each.subject: text for each in reversed(setup.items) if (text := each.remove())}
