"""Setups with one fault each, run against their contract by test_broken_fakes.py."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import attrs
from contract_subjects import hold_to
from setup_account import AccountItems, setup_subject

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import AccountSetup, SetupContext, SetupItem, TerraformBlock
from cloud_tasks.testing import SetupContract


class MakesNothing(AccountItems):
    def make(self, name: str) -> None:
        """Forgets to do so."""


class RefusesWhatExists(AccountItems):
    def make(self, name: str) -> None:
        if name in self.has:
            raise ProviderError("already exists")
        super().make(name)


class RacesWithOthers(AccountItems):
    """Fails if somebody else makes an item at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.meeting = threading.Barrier(2)

    def look(self, name: str) -> str:
        found = super().look(name)
        if found and name == "bucket" and threading.current_thread() is not threading.main_thread():
            self.meeting.wait(timeout=20)
        return found

    def make(self, name: str) -> None:
        with self.lock:
            if name in self.has and threading.current_thread() is not threading.main_thread():
                raise ProviderError("already exists")
            self.has.add(name)


class RemovesNothing(AccountItems):
    def remove(self, name: str) -> str:
        return ""


class RemovesOnceOnly(AccountItems):
    def remove(self, name: str) -> str:
        if name not in self.has:
            raise ProviderError("not found")
        return super().remove(name)


class CannotMakeAgain(AccountItems):
    """As a service that keeps the name of what was deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted: set[str] = set()

    def make(self, name: str) -> None:
        if name in self.deleted:
            raise ProviderError("was deleted a moment ago")
        super().make(name)

    def remove(self, name: str) -> str:
        self.deleted.update({name} & self.has)
        return super().remove(name)


class MakesByLooking(AccountItems):
    def look(self, name: str) -> str:
        found = super().look(name)
        self.has.add(name)
        return found


class ChangesItsNames(AccountItems):
    numbers = itertools.count()

    def setup(self, settings: Any, context: SetupContext) -> AccountSetup:
        staging = f"mem://bucket-{next(self.numbers)}/staging"
        return attrs.evolve(super().setup(settings, context), settings={"run.staging": staging})


class NamesOneItemTwice(AccountItems):
    names = ("service", "role", "role")


class SetsOtherPlugins(AccountItems):
    def setup(self, settings: Any, context: SetupContext) -> AccountSetup:
        return attrs.evolve(super().setup(settings, context), settings={"elsewhere.key": "x"})


class QuotesBadly(AccountItems):
    def item(self, name: str, **fields: Any) -> SetupItem:
        return super().item(name, commands=(f"cloud make '{name}",), **fields)


class HasNoTerraform(AccountItems):
    def item(self, name: str, **fields: Any) -> SetupItem:
        block = TerraformBlock(kind="resource", labels=("cloud", name), arguments={"a b": 1})
        return super().item(name, terraform=(block,), **fields)


hold_to(globals(), SetupContract, setup_subject, AccountItems.__subclasses__())
