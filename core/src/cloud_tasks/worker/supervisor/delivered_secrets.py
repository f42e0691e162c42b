"""Secrets of the backends that a shipped program's startup script has left in a file for the supervisor alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from cloud_tasks.errors import InputError
from cloud_tasks.worker.common.os_errors import os_error_text

__all__ = ["delivered_variables"]

_VARIABLE = "CLOUD_TASKS_WORKER_SECRETS"
_delivered: dict[str, str] = {}
"""Kept for a later worker of this program."""


def delivered_variables() -> Mapping[str, str]:
    """Return the secrets by variable. The file is deleted, so no task can read it.

    Raises:
        InputError: The file cannot be read.
    """
    if path := os.environ.pop(_VARIABLE, ""):
        try:
            with open(path, encoding="utf-8") as file:
                _delivered.update(json.load(file))
            os.unlink(path)
        except (OSError, ValueError) as error:
            reason = os_error_text(error) if isinstance(error, OSError) else "it is incomplete"
            raise InputError(f"cannot read the secrets of the worker in {path}: {reason}", where=_VARIABLE) from None
    return _delivered
