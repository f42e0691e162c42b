"""An account in memory, and a compute backend whose setup makes three items in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs

from cloud_tasks.plugin import AccountSetup, SetupContext, SetupItem, TerraformBlock
from cloud_tasks.testing import MemoryProvider, SetupSubject

__all__ = ["AccountItems", "setup_subject"]


class AccountItems:
    """Items by name: a service, which stays, a role, and a bucket that needs the role."""

    names = ("service", "role", "bucket")

    def __init__(self) -> None:
        self.has: set[str] = set()
        self.lock = threading.Lock()

    def setup(self, settings: Any, context: SetupContext) -> AccountSetup:
        return AccountSetup(
            account="account 7",
            identity={"run.zone": "memory-a"},
            settings={"run.staging": "mem://bucket/staging"},
            items=tuple(self.item(name) for name in self.names),
        )

    def item(self, name: str, **fields: Any) -> SetupItem:
        given: dict[str, Any] = {
            "subject": f"{name} own",
            "purpose": f"what a {name} is for",
            "look": partial(self.look, name),
            "make": partial(self.make, name),
            "commands": (f"cloud make '{name}'",),
            "terraform": (TerraformBlock(kind="resource", labels=(f"cloud_{name}", "own")),),
            **fields,
        }
        if name != "service":
            given.setdefault("remove", partial(self.remove, name))
        return SetupItem(**given)

    def look(self, name: str) -> str:
        return "" if name in self.has else "missing"

    def make(self, name: str) -> None:
        with self.lock:
            self.has.add(name)

    def remove(self, name: str) -> str:
        with self.lock:
            self.has.discard(name)
        return ""


def setup_subject(kind: Callable[[], AccountItems]) -> SetupSubject:
    """Return a subject with a new account."""
    return SetupSubject(backend=attrs.evolve(MemoryProvider().compute, setup=kind().setup))
