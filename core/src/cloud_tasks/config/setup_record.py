"""The record of what ``cloud-tasks setup`` made: values that jobs have where nothing else sets them.

One file for each provider, in the user's folder for settings: ``setup-gcp.json`` in ``CLOUD_TASKS_CONFIG_DIR``, else in
``$XDG_CONFIG_HOME/cloud-tasks``, else in ``~/.config/cloud-tasks``.

Invariants, each with a test:

1. A recorded value replaces no written one.
2. No recorded value is used where what is written chooses another account than the record's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.errors import InputError

__all__ = ["SetupRecord", "delete_record", "read_record", "record_file", "write_record"]


@attrs.frozen(kw_only=True)
class SetupRecord:
    """Settings by dotted key, as in `cloud_tasks.plugin.AccountSetup`."""

    file: Path
    identity: Mapping[str, Any]
    settings: Mapping[str, Any]

    def values(self, written: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the values for keys that are not written; none if what is written chooses another account."""
        if any(name in written and written[name] != value for name, value in self.identity.items()):
            return {}
        return {name: value for name, value in {**self.identity, **self.settings}.items() if name not in written}


def record_file(provider: str, environ: Mapping[str, str]) -> Path | None:
    """Return the file for a provider; None for a user without a home folder."""
    own, general, home = (environ.get(name) for name in ("CLOUD_TASKS_CONFIG_DIR", "XDG_CONFIG_HOME", "HOME"))
    folder = own or (general and f"{general}/cloud-tasks") or (home and f"{home}/.config/cloud-tasks")
    return Path(folder) / f"setup-{provider}.json" if folder else None


def read_record(provider: str, environ: Mapping[str, str]) -> SetupRecord | None:
    """Return the record for a provider; None without one. Raises `InputError` for a file that is not readable."""
    file = record_file(provider, environ)
    if file is None:
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return SetupRecord(file=file, identity=dict(content["identity"]), settings=dict(content["settings"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is damaged"
        hint = f"delete it, and run: cloud-tasks setup {provider}"
        raise InputError(f"cannot read what setup has recorded: {reason}", where=str(file), hint=hint) from error


def write_record(
    provider: str, environ: Mapping[str, str], *, identity: Mapping[str, Any], settings: Mapping[str, Any]
) -> Path | None:
    """Replace the record for a provider; return its file, or None where there is no place for it."""
    file = record_file(provider, environ)
    if file is None:
        return None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f"{file.name}.{os.getpid()}.part")
        draft.write_text(json.dumps({"identity": dict(identity), "settings": dict(settings)}, indent=2) + "\n")
        draft.replace(file)
    except OSError:
        return None
    return file


def delete_record(provider: str, environ: Mapping[str, str], *, identity: Mapping[str, Any]) -> None:
    """Delete the record for a provider. Do nothing without one, or if it is of another account."""
    record = read_record(provider, environ)
    if record is not None and record.identity == identity:
        record.file.unlink(missing_ok=True)
