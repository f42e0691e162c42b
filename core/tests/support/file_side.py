"""A correct instance side, which reads a folder: the base of faulty ones."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.plugin import InstanceContext, InstanceSide
from cloud_tasks.testing import InstanceSideSubject, MemoryProvider

__all__ = ["FileSide", "side_subject"]

IDENTITY = InstanceIdentity(instance_id="file-1", zone="zone-a", instance_type="small")


class FileSide:
    """Instance side of a folder with the files ``identity`` and ``notice``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def notice_interval(self) -> float | timedelta | None:
        return timedelta(seconds=60)

    def identity(self) -> InstanceIdentity:
        try:
            return InstanceIdentity(**json.loads((self.folder / "identity").read_text()))
        except OSError as error:
            raise ProviderError("not an instance") from error

    def termination_notice(self) -> TerminationNotice | None:
        is_given = (self.folder / "notice").exists()
        return TerminationNotice(at=None, reason="preempted") if is_given else None


def side_subject(kind: type[FileSide]) -> InstanceSideSubject:
    """Return an instance side as a subject, in a new folder."""
    folder = Path(tempfile.mkdtemp())
    (folder / "identity").write_text(json.dumps(attrs.asdict(IDENTITY)))

    @contextmanager
    def open_side(settings: Any, context: InstanceContext) -> Iterator[InstanceSide]:
        yield kind(folder)

    return InstanceSideSubject(
        backend=attrs.evolve(MemoryProvider().compute, open_instance=open_side),
        identity=IDENTITY,
        give_notice=(folder / "notice").touch,
        leave=(folder / "identity").unlink,
        patience=timedelta(seconds=0.1),
    )
