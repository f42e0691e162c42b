"""``cloud-tasks ship``: update the code that the startup script fetches.

Invariants, each with a test:

1. The startup script names an archive only after its upload is complete.
2. Only the script's line that names the code changes.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.cli.scaffold.source_archive import Archive, pack, upload
from cloud_tasks.config import JobConfig, script_path, variable_name
from cloud_tasks.errors import InputError
from cloud_tasks.escape import terminal_line
from cloud_tasks.quantities import counted
from cloud_tasks.registry import Registry
from cloud_tasks.report import output_file
from cloud_tasks.shipping import find_checkout

__all__ = ["ship"]


def ship(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "ship",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks ship --config config.yml",
            "cloud-tasks ship --config config.yml --dry-run",
            "cloud-tasks ship --config config.yml --json",
        ),
    )
    @click.option("--dry-run", is_flag=True, help="Show what would be shipped, file by file; change nothing.")
    @click.option(
        "--with-secret",
        "secrets",
        multiple=True,
        metavar="FILE",
        help="Ship this file although it looks like a secret; relative to the configuration's folder; repeatable.",
    )
    @json_option
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Update the code that the startup script written by `init` fetches.

        Archive: pack the configuration's folder, without files ignored by .gitignore, upload it if it is new, and
        name it in the script. Git: name the checked-out commit in the script.
        """
        app.start_logging(verbosity=values["verbose"])
        config = load_from_options(app.registry, values)
        script = _script(config)
        text = script.read_text(encoding="utf-8")
        bucket = _value(text, "BUCKET")
        # With --json, standard output is JSON only.
        how: dict[str, bool] = {"dry_run": values["dry_run"], "as_json": values["as_json"]}
        if bucket is not None:
            secrets = (*values["secrets"],)
            shipped = _ship_archive(config, script, text, bucket, secrets, verbose=bool(values["verbose"]), **how)
        elif _value(text, "COMMIT") is not None:
            shipped = _ship_commit(config.base_dir, script, text, **how)
        else:
            raise InputError(
                "no line starts with BUCKET= or COMMIT=",
                where=str(script),
                hint="create the script with `cloud-tasks init --ship archive` or `--ship git`",
            )
        if values["as_json"]:
            echo(json.dumps({"script": str(script), **shipped}, indent=2))

    return command


def _script(config: JobConfig) -> Path:
    name = config.run.startup_script_file
    if name is None:
        raise InputError(
            "run.startup_script_file is not set", where=str(config.file or ""), hint="set it, or use `cloud-tasks init`"
        )
    return script_path(name, config.origins.get("run.startup_script_file"), config.base_dir)


def _value(text: str, name: str) -> str | None:
    """Return the value that a script assigns to a variable; None without an assignment."""
    found = re.search(rf"^{name}=(.*)$", text, re.MULTILINE)
    return None if found is None else " ".join(shlex.split(found.group(1)))


def _ship_archive(
    config: JobConfig,
    script: Path,
    text: str,
    bucket: str,
    secrets: Sequence[str],
    *,
    dry_run: bool,
    as_json: bool,
    verbose: bool,
) -> dict[str, Any]:
    folder = config.base_dir
    # Without the script, which names the archive that it would be in.
    archive = pack(folder, without=(os.path.relpath(script, folder),), secrets=secrets)
    _refuse_secret_settings(config, archive, secrets)
    size = len(archive.content) / 1024
    label = f"{archive.name} ({counted(len(archive.files), 'file')}, {size:,.0f} KiB)"
    new = False
    if dry_run:
        echo(f"Would upload {label} to {bucket}", err=as_json)
    else:
        new = upload(archive, bucket)
        echo(f"{'Uploaded' if new else 'Found'} {label} {'to' if new else 'in'} {bucket}", err=as_json)
    if dry_run or verbose:
        echo("\n".join(f"  {terminal_line(name)}" for name in archive.files), err=as_json)
    return {
        "archive": archive.name,
        "files": len(archive.files),
        "names": list(archive.files),
        "bytes": len(archive.content),
        "bucket": bucket,
        "uploaded": new,
        "script_changed": _set_variable(script, text, "ARCHIVE", archive.name, dry_run=dry_run, as_json=as_json),
    }


def _refuse_secret_settings(config: JobConfig, archive: Archive, secrets: Sequence[str]) -> None:
    """Refuse to ship a configuration file in which a setting that is a secret has a value."""
    shipped = {(config.base_dir / name).resolve() for name in archive.files if name not in secrets}
    if config.file is None or config.file.resolve() not in shipped:
        return
    for key, origin in config.secrets_in_file.items():
        hint = f"set {variable_name(*key.split('.', 1))} instead, or add {config.file.name} to .gitignore"
        raise InputError(f"{key}: a secret in a file that would be shipped", where=origin.place, hint=hint)


def _ship_commit(folder: Path, script: Path, text: str, *, dry_run: bool, as_json: bool) -> dict[str, Any]:
    found = find_checkout(folder, besides=os.path.relpath(script, folder))
    if found is None:
        raise InputError("not a git repository with a commit", where=str(folder), hint="commit the code first")
    is_missing = bool(found.repository and not found.is_pushed)
    if found.changed:
        echo(f"Warning: {counted(found.changed, 'changed file')} not in commit {found.commit[:12]}", err=True)
    if is_missing:
        echo(f"Warning: commit {found.commit[:12]} is on no remote branch; push it before the job runs", err=True)
    if dry_run:
        echo(f"Would set commit {found.commit}", err=as_json)
    return {
        "commit": found.commit,
        "changed_files": found.changed,
        "to_be_pushed": is_missing,
        "script_changed": _set_variable(script, text, "COMMIT", found.commit, dry_run=dry_run, as_json=as_json),
    }


def _set_variable(script: Path, text: str, name: str, value: str, *, dry_run: bool, as_json: bool) -> bool:
    """Set a variable in the script; return whether its value changes."""
    updated, count = re.subn(rf"^{name}=.*$", lambda _: f"{name}={value}", text, flags=re.MULTILINE)
    if not count:
        raise InputError(f"no line starts with {name}=", where=str(script))
    if dry_run:
        return updated != text
    if updated == text:
        echo(f"{script} is up to date", err=as_json)
        return False
    with output_file(script) as out:
        out.write(updated.encode())
    echo(f"Updated {script}", err=as_json)
    return True
