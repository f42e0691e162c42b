"""Instance side of local instances, from the environment and the instance folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.plugin import InstanceContext
from cloud_tasks.plugin.kit import PolledInstanceSide, notice_time, read_json_file
from cloud_tasks_local.instance_folder import InstanceFolder
from cloud_tasks_local.processes import MARKER
from cloud_tasks_local.settings import LocalSettings

__all__ = ["LocalInstanceSide", "open_instance"]


class LocalInstanceSide(PolledInstanceSide):
    """The `InstanceSide` of an instance's processes.

    Args:
        environ: Environment of the process, as set by `LocalCompute.launch`.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        super().__init__()
        self._instance_id = environ.get("CLOUD_TASKS_INSTANCE_ID", "")
        mark = environ.get(MARKER)
        self._folder = InstanceFolder(Path(mark)) if mark else None

    def _read_identity(self) -> InstanceIdentity:
        if not self._instance_id:
            raise ProviderError(
                "CLOUD_TASKS_INSTANCE_ID is not set", hint="run the worker from the startup script of a local instance"
            )
        record: Mapping[str, Any] = (read_json_file(self._folder.instance) if self._folder else None) or {}
        return InstanceIdentity(
            instance_id=self._instance_id,
            zone=record.get("zone", ""),
            instance_type=record.get("instance_type", ""),
        )

    def _read_notice(self) -> TerminationNotice | None:
        record = read_json_file(self._folder.notice) if self._folder else None
        if not record:
            return None
        return TerminationNotice(at=notice_time(record.get("at")), reason=str(record.get("reason", "")))


def open_instance(settings: LocalSettings, context: InstanceContext) -> LocalInstanceSide:
    """Implement `ComputeBackend.open_instance`."""
    return LocalInstanceSide()
