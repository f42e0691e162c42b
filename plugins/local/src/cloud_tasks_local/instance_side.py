"""Instance side of local instances, from the environment and the instance folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.plugin import InstanceContext
from cloud_tasks_local.instance_folder import InstanceFolder
from cloud_tasks_local.processes import MARKER
from cloud_tasks_local.settings import LocalSettings

__all__ = ["LocalInstanceSide", "open_instance"]


class LocalInstanceSide:
    """The `InstanceSide` of an instance's processes.

    Args:
        environ: Environment of the process, as set by `LocalCompute.launch`.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._instance_id = environ.get("CLOUD_TASKS_INSTANCE_ID", "")
        mark = environ.get(MARKER)
        self._folder = InstanceFolder(Path(mark)) if mark else None

    def identity(self) -> InstanceIdentity:
        if not self._instance_id:
            raise ProviderError(
                "CLOUD_TASKS_INSTANCE_ID is not set", hint="run the worker from the startup script of a local instance"
            )
        record = self._read("instance")
        return InstanceIdentity(
            instance_id=self._instance_id,
            zone=record.get("zone", ""),
            instance_type=record.get("instance_type", ""),
        )

    def termination_notice(self) -> TerminationNotice | None:
        record = self._read("notice")
        if not record:
            return None
        return TerminationNotice(at=datetime.fromisoformat(record["at"]), reason=record["reason"])

    def _read(self, name: str) -> Mapping[str, str]:
        if self._folder is None:
            return {}
        file = self._folder.instance if name == "instance" else self._folder.notice
        try:
            return self._folder.read(file) or {}
        except (OSError, ValueError) as error:
            raise ProviderError(f"cannot read the instance record {file}: {error}") from error


def open_instance(settings: LocalSettings, context: InstanceContext) -> LocalInstanceSide:
    """Implement `ComputeBackend.open_instance`."""
    return LocalInstanceSide()
