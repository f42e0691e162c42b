"""``cloud-tasks init``: the files of a new project, from questions or from options."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples
from cloud_tasks.cli.scaffold.project_files import (
    SHIPPING,
    Asked,
    Project,
    asked_settings,
    provider_packages,
    write_project,
)
from cloud_tasks.cli.scaffold.source_archive import Checkout, find_checkout
from cloud_tasks.errors import InputError
from cloud_tasks.registry import Registry

__all__ = ["init"]

_JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,23}")


@click.command(
    "init",
    epilog=examples(
        "cloud-tasks init",
        "cloud-tasks init sums --provider local",
        "cloud-tasks init sums --provider gcp --set project_id=my-project --ship archive --bucket gs://my-bucket/code",
        "cloud-tasks init . --provider aws --ship git",
    ),
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--provider", metavar="NAME", help="Plugin that provides queue and machines.  [local]")
@click.option("--job-id", metavar="NAME", help="Name of the job.  [the folder's name]")
@click.option(
    "--ship",
    type=click.Choice(SHIPPING),
    help="How your code gets to the instances: they see the folder (this machine only), they clone a commit, or they "
    "fetch an archive from a bucket.  [folder on this machine, else git where there is a remote, else archive]",
)
@click.option("--repository", metavar="URL", help="For git: where to clone from.  [origin]")
@click.option("--commit", metavar="COMMIT", help="For git: what to check out.  [what is checked out now]")
@click.option("--bucket", metavar="URL", help="For archive: where to put it, a URL or a folder.")
@click.option("--region", metavar="NAME", help="The provider's region.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the provider's section.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing; take what the options say, and defaults.")
@pass_app
def init(app: AppContext, /, folder: Path, **values: Any) -> None:
    """Write a worker, tasks, a configuration and a startup script that ships your code, into FOLDER.

    What the options do not say is asked on a terminal. Nothing that exists is overwritten.
    """
    app.start_logging()
    asks = sys.stdin.isatty() and not values["yes"]
    project = _project(app.registry, folder, values, asks=asks)
    for name in write_project(project):
        click.echo(f"Wrote {folder / name}")
    click.echo(_next_steps(project))


def _project(registry: Registry, folder: Path, values: Mapping[str, Any], *, asks: bool) -> Project:
    provider = _answer(values["provider"], "Provider", "local", asks=asks).lower()
    asked = asked_settings(registry, provider)
    job_id = _answer(values["job_id"], "Name of the job", _name_of(folder), asks=asks)
    if not _JOB_ID.fullmatch(job_id):
        hint = "a lower-case letter, then at most 23 lower-case letters, digits or dashes"
        raise InputError(f'"{job_id}" is no name for a job', where="--job-id", hint=hint)
    found = find_checkout(folder) if folder.is_dir() else None
    ship = _shipping(provider, values, found, asks=asks)
    settings = _settings(values["settings"])
    region = values["region"]
    if asks:
        if region is None and provider != "local":
            region = click.prompt("Region", default="", show_default=False)
        settings |= _ask_settings({name: each for name, each in asked.items() if name not in settings})
    return Project(
        folder=folder,
        provider=provider,
        job_id=job_id,
        ship=ship,
        checkout=_checkout(values, found, provider, folder) if ship == "git" else None,
        bucket=_bucket(values["bucket"], asks=asks) if ship == "archive" else "",
        region=region or None,
        settings=settings,
        asked=asked,
        packages=provider_packages(registry, provider),
    )


def _ask_settings(asked: Mapping[str, Asked]) -> dict[str, str]:
    """What the user says to each; what may be left out, and is, stays out."""
    answers = {
        name: str(click.prompt(f"{each.help} ({name})", default=None if each.required else "", show_default=False))
        for name, each in asked.items()
    }
    return {name: answer for name, answer in answers.items() if answer}


def _answer(given: str | None, question: str, default: str, *, asks: bool) -> str:
    if given is not None:
        return given
    return str(click.prompt(question, default=default)) if asks else default


def _name_of(folder: Path) -> str:
    """A job's name made of the folder's."""
    found = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).lstrip("-0123456789")[:24].rstrip("-")
    return found or "job"


def _shipping(provider: str, values: Mapping[str, Any], found: Checkout | None, *, asks: bool) -> str:
    default = "folder" if provider == "local" else "git" if found is not None and found.repository else "archive"
    if values["bucket"]:
        default = "archive"
    elif values["repository"] or values["commit"]:
        default = "git"
    given: str | None = values["ship"]
    if given is None and asks:
        given = click.prompt("How does your code get there", type=click.Choice(SHIPPING), default=default)
    ship = given or default
    if ship == "folder" and provider != "local":
        raise InputError("only instances of `local` see your folder", where="--ship", hint="choose git or archive")
    for option, goes_with in (("bucket", "archive"), ("repository", "git"), ("commit", "git")):
        if values[option] and ship != goes_with:
            raise InputError(f"it goes with --ship {goes_with}", where=f"--{option}", hint="leave it out")
    return ship


def _bucket(given: str | None, *, asks: bool) -> str:
    bucket = given or (str(click.prompt("Bucket or folder for the archive (a URL)")) if asks else "")
    if not bucket:
        raise InputError("an archive needs a place", hint="give --bucket, e.g. gs://my-bucket/code")
    return bucket if "://" in bucket else str(Path(bucket).absolute())


def _checkout(values: Mapping[str, Any], found: Checkout | None, provider: str, folder: Path) -> Checkout:
    repository = values["repository"] or (found.repository if found is not None else "")
    if not repository and provider == "local" and found is not None:
        repository = str(folder.resolve())
    commit = values["commit"] or (found.commit if found is not None else "")
    if not repository or not commit:
        missing = "--repository" if not repository else "--commit"
        raise InputError(f"{folder} is no git repository that tells it", where=missing, hint=f"give {missing}")
    if found is not None and not values["commit"]:
        if found.changed:
            click.echo(f"Warning: {found.changed} changed files are not part of commit {commit[:12]}", err=True)
        if not found.is_pushed and provider != "local":
            click.echo(f"Warning: no remote branch has commit {commit[:12]}; push it before the job runs", err=True)
    return Checkout(
        repository=repository,
        commit=commit,
        folder=found.folder if found is not None else ".",
        changed=0,
        is_pushed=True,
    )


def _settings(words: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip().isidentifier():
            raise InputError(f'"{word}" is not KEY=VALUE', where="--set", hint="e.g. --set project_id=my-project")
        found[key.strip()] = value.strip()
    return found


def _next_steps(project: Project) -> str:
    is_here = project.folder.resolve() == Path.cwd()
    missing = [name for name, asked in project.asked.items() if asked.required and name not in project.settings]
    lines = ["", *([] if is_here else [f"Go there:            cd {project.folder}"])]
    lines.append("Try the tasks here:  python worker.py --task-file tasks.json")
    if missing:
        lines.append(f"Then fill in {', '.join(missing)} in config.yml")
    if project.provider != "local":
        lines.append("Then check access:   cloud-tasks doctor --config config.yml")
    if project.ship == "git":
        lines.append("Then commit and push these files, and name that commit in the startup script:")
        lines.append("                     cloud-tasks ship --config config.yml")
    elif project.ship == "archive":
        lines.append("Then upload them:    cloud-tasks ship --config config.yml")
    lines.append("Then run the job:    cloud-tasks run --config config.yml --task-file tasks.json")
    return "\n".join(lines)
