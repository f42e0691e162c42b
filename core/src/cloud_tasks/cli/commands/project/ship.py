"""``cloud-tasks ship``: make the startup script fetch the code as it is now.

Invariants, each with a test:

1. The startup script names an archive only after that was uploaded, whole.
2. Nothing of the script changes but the line that names the code.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.scaffold.source_archive import find_checkout, pack, upload
from cloud_tasks.config import JobConfig
from cloud_tasks.config.startup_script import script_path
from cloud_tasks.errors import InputError
from cloud_tasks.registry import Registry

__all__ = ["ship"]


def ship(registry: Registry) -> click.Command:
    """Make the command; its options are those of core and of the installed plugins."""

    @click.command(
        "ship",
        epilog=examples(
            "cloud-tasks ship --config config.yml",
            "cloud-tasks ship --config config.yml --dry-run",
            "cloud-tasks ship --config config.yml --json",
        ),
    )
    @click.option("--dry-run", is_flag=True, help="Say what would be shipped; change nothing.")
    @json_option
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Make the startup script that `init` wrote fetch your code as it is now.

        With an archive: pack the configuration's folder without what .gitignore names, upload it unless it is there,
        and name it in the script. With git: name the commit that is checked out.
        """
        app.start_logging(verbosity=values["verbose"])
        config = load_from_options(app.registry, values)
        script = _script(config)
        text = script.read_text(encoding="utf-8")
        bucket = _value(text, "BUCKET")
        # With --json, standard output is for the program that reads it.
        how: dict[str, bool] = {"dry_run": values["dry_run"], "as_json": values["as_json"]}
        if bucket is not None:
            shipped = _ship_archive(config.base_dir, script, text, bucket, **how)
        elif _value(text, "COMMIT") is not None:
            shipped = _ship_commit(config.base_dir, script, text, **how)
        else:
            raise InputError(
                "it has no line that begins with BUCKET= or COMMIT=",
                where=str(script),
                hint="`cloud-tasks init --ship archive` or `--ship git` writes one that has",
            )
        if values["as_json"]:
            click.echo(json.dumps({"script": str(script), **shipped}, indent=2))

    return command


def _script(config: JobConfig) -> Path:
    name = config.run.startup_script_file
    if name is None:
        raise InputError(
            "there is no run.startup_script_file", where=str(config.file or ""), hint="set it, or use init"
        )
    return script_path(name, config.origins.get("run.startup_script_file"), config.base_dir)


def _value(text: str, name: str) -> str | None:
    """What a script assigns to a variable; None where it does not."""
    found = re.search(rf"^{name}=(.*)$", text, re.MULTILINE)
    return None if found is None else " ".join(shlex.split(found.group(1)))


def _ship_archive(
    folder: Path, script: Path, text: str, bucket: str, *, dry_run: bool, as_json: bool
) -> dict[str, Any]:
    # The script does not count as code: it names the archive that it would be in.
    archive = pack(folder, without=(os.path.relpath(script, folder),))
    size = len(archive.content) / 1024
    told = f"{archive.name} with {archive.files} files, {size:,.0f} KiB"
    new = False
    if dry_run:
        click.echo(f"Would put {told} into {bucket}", err=as_json)
    else:
        new = upload(archive, bucket)
        click.echo(f"{'Put' if new else 'Found'} {told} {'into' if new else 'in'} {bucket}", err=as_json)
    return {
        "archive": archive.name,
        "files": archive.files,
        "bytes": len(archive.content),
        "bucket": bucket,
        "uploaded": new,
        "script_changed": _name(script, text, "ARCHIVE", archive.name, dry_run=dry_run, as_json=as_json),
    }


def _ship_commit(folder: Path, script: Path, text: str, *, dry_run: bool, as_json: bool) -> dict[str, Any]:
    found = find_checkout(folder, besides=os.path.relpath(script, folder))
    if found is None:
        raise InputError("is no git repository with a commit", where=str(folder), hint="commit the code first")
    is_missing = bool(found.repository and not found.is_pushed)
    if found.changed:
        click.echo(f"Warning: {found.changed} changed files are not part of commit {found.commit[:12]}", err=True)
    if is_missing:
        click.echo(f"Warning: no remote branch has commit {found.commit[:12]}; push it before the job runs", err=True)
    if dry_run:
        click.echo(f"Would name commit {found.commit}", err=as_json)
    return {
        "commit": found.commit,
        "changed_files": found.changed,
        "to_be_pushed": is_missing,
        "script_changed": _name(script, text, "COMMIT", found.commit, dry_run=dry_run, as_json=as_json),
    }


def _name(script: Path, text: str, name: str, value: str, *, dry_run: bool, as_json: bool) -> bool:
    """Put a value into the script's line for it; returns whether that was another, or would have been."""
    fresh, count = re.subn(rf"^{name}=.*$", lambda _: f"{name}={value}", text, flags=re.MULTILINE)
    if not count:
        raise InputError(f"it has no line that begins with {name}=", where=str(script))
    if dry_run:
        return fresh != text
    if fresh == text:
        click.echo(f"{script} names it already", err=as_json)
        return False
    draft = script.with_name(f".{script.name}.tmp")
    draft.write_text(fresh, encoding="utf-8")
    os.replace(draft, script)
    click.echo(f"{script} fetches it now", err=as_json)
    return True
