"""Instance sides with one fault each, run against their contract by test_broken_fakes.py."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

import attrs
import process_plugin
from contract_subjects import hold_to
from file_side import FileSide, side_subject

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.testing import InstanceSideContract, InstanceSideSubject


class NamesItselfOtherwise(FileSide):
    def identity(self) -> InstanceIdentity:
        return attrs.evolve(super().identity(), instance_id="host.example")


class NamesAnotherType(FileSide):
    def identity(self) -> InstanceIdentity:
        return attrs.evolve(super().identity(), instance_type="large")


class NamesItselfAnew(FileSide):
    numbers = itertools.count()

    def identity(self) -> InstanceIdentity:
        return attrs.evolve(super().identity(), zone="" if next(self.numbers) % 2 else "zone-a")


class InventsAnIdentity(FileSide):
    def identity(self) -> InstanceIdentity:
        try:
            return super().identity()
        except ProviderError:
            return InstanceIdentity(instance_id="unknown")


class RaisesWithoutANotice(FileSide):
    def termination_notice(self) -> TerminationNotice | None:
        notice = super().termination_notice()
        if notice is None:
            raise FileNotFoundError("notice")
        return notice


class NeedsAnIdentityForNotices(FileSide):
    def termination_notice(self) -> TerminationNotice | None:
        (self.folder / "identity").read_text()
        return super().termination_notice()


class AlwaysGivesNotice(FileSide):
    def termination_notice(self) -> TerminationNotice | None:
        return TerminationNotice(at=None, reason="perhaps")


class MissesItsNotice(FileSide):
    def termination_notice(self) -> TerminationNotice | None:
        return None


class GivesNoticeOnce(FileSide):
    def termination_notice(self) -> TerminationNotice | None:
        notice = super().termination_notice()
        (self.folder / "notice").unlink(missing_ok=True)
        return notice


class GivesNoticeWithoutAReason(FileSide):
    def termination_notice(self) -> TerminationNotice | None:
        notice = super().termination_notice()
        return notice and attrs.evolve(notice, reason="")


class GivesNoticeWithoutAZone(FileSide):
    def termination_notice(self) -> TerminationNotice | None:
        notice = super().termination_notice()
        return notice and attrs.evolve(notice, at=datetime(2030, 1, 1))


class AsksAllTheTime(FileSide):
    @property
    def notice_interval(self) -> float | timedelta | None:
        return timedelta(0)


class ImportsTheSdk(FileSide):
    """An installed instance side that imports the SDK of the controller."""


def subject_of(kind: type[FileSide]) -> InstanceSideSubject:
    if kind is not ImportsTheSdk:
        return side_subject(kind)
    (backend,) = process_plugin.cloud_tasks_register_compute()
    return InstanceSideSubject(backend=backend, identity=process_plugin.IDENTITY, forbidden=(process_plugin.SDK,))


process_plugin.install()
FAULTY = [kind for kind in FileSide.__subclasses__() if kind.__module__ == __name__]
hold_to(globals(), InstanceSideContract, subject_of, FAULTY)
