"""``cloud-tasks init``: create a project from prompts or options."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples
from cloud_tasks.cli.output import echo
from cloud_tasks.cli.scaffold.project_files import (
    SHIPPING,
    Asked,
    Project,
    asked_settings,
    known_settings,
    worker_packages,
    write_project,
)
from cloud_tasks.config import PROVIDER_KINDS, advice, choose_backends, reachable_queues, read_record, unreachable_queue
from cloud_tasks.errors import InputError
from cloud_tasks.escape import without_credentials
from cloud_tasks.plugin import ComputeBackend, Reach
from cloud_tasks.quantities import counted
from cloud_tasks.registry import Registry
from cloud_tasks.shipping import Checkout, find_checkout

__all__ = ["init"]

_JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,23}")


@click.command(
    "init",
    epilog=examples(
        "cloud-tasks init",
        "cloud-tasks init sums --provider local",
        "cloud-tasks init sums --provider gcp --set project_id=my-project --staging gs://my-bucket/staging --spot",
        "cloud-tasks init . --provider aws --gpus 1",
    ),
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--provider", metavar="NAME", help="Provider of queue, instances and prices (default: local).")
@click.option("--queue", metavar="NAME", help="Plugin of the queue (default: the provider).")
@click.option("--compute", metavar="NAME", help="Plugin of the instances (default: the provider).")
@click.option("--pricing", metavar="NAME", help="Plugin of the prices (default: that of the instances).")
@click.option("--job-id", metavar="NAME", help="Name of the job (default: name of the folder).")
@click.option("--staging", metavar="URL", help="Prefix from which the instances download the program.")
@click.option("--spot/--no-spot", default=None, help="Use spot instances (default: --no-spot).")
@click.option("--gpus", type=click.IntRange(0), help="GPUs per instance (default: 0).")
@click.option(
    "--ship",
    type=click.Choice(SHIPPING),
    help="Deprecated: write a startup script that gets the code from this folder (if the instances share it), a git "
    "commit, or an archive in a bucket, instead of shipping the program.",
)
@click.option("--repository", metavar="URL", help="URL to clone, for git (default: origin).")
@click.option("--commit", metavar="COMMIT", help="Commit to check out, for git (default: the checked-out commit).")
@click.option("--bucket", metavar="URL", help="URL or folder of the archive.")
@click.option("--region", metavar="NAME", help="Region of the provider.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Setting of a plugin (KEY or PLUGIN.KEY); repeatable."
)
@click.option("--yes", "-y", is_flag=True, help="Skip the prompts; use options and defaults.")
@pass_app
def init(app: AppContext, /, folder: Path, **values: Any) -> None:
    """Create a project in FOLDER: worker, tasks and configuration.

    On a terminal, missing options are prompted for. Existing files are never overwritten.
    """
    app.start_logging()
    prompts = sys.stdin.isatty() and not values["yes"]
    project = _project(app.registry, folder, values, prompts=prompts)
    for name in write_project(project):
        echo(f"Wrote {folder / name}")
    if old := _old_options(values):
        echo(f"Warning: --{old[0]} is deprecated: without it, the program is shipped, and needs no script", err=True)
    echo(_next_steps(project))


def _project(registry: Registry, folder: Path, values: Mapping[str, Any], *, prompts: bool) -> Project:
    backends = _backends(registry, values, prompts=prompts)
    compute = registry.compute(backends["compute"])
    location = compute.traits.located
    shares_files = location is not Reach.NETWORK
    settings = _settings(values["settings"], known_settings(registry, backends))
    record = read_record(compute.name, os.environ)
    recorded = (
        record.values({**settings, **({"run.staging": values["staging"]} if values["staging"] else {})})
        if record
        else {}
    )
    asked = {name: each for name, each in asked_settings(registry, backends).items() if name not in recorded}
    job_id = _answer(values["job_id"], "Name of the job", _name_of(folder), prompts=prompts)
    if not _JOB_ID.fullmatch(job_id):
        hint = 'a lower-case letter, then at most 23 of a-z, 0-9 and "-"'
        raise InputError(f'"{job_id}" is not a valid job name', where="--job-id", hint=hint)
    found = find_checkout(folder) if folder.is_dir() else None
    ship = _shipping(compute, values, found, prompts=prompts)
    is_set_up = "run.staging" in recorded
    staging = _staging(compute, values, ship, prompts=prompts and not is_set_up)
    region = values["region"]
    if prompts:
        if region is None and not shares_files:
            region = click.prompt("Region", default="", show_default=False)
        settings |= _ask_settings({name: each for name, each in asked.items() if name not in settings})
    return Project(
        folder=folder,
        backends=backends,
        job_id=job_id,
        ship=ship,
        checkout=_checkout(values, found, shares_files, folder) if ship == "git" else None,
        bucket=_bucket(values["bucket"], prompts=prompts) if ship == "archive" else "",
        region=region or None,
        staging=staging,
        is_staged=not ship and not shares_files,
        is_set_up=is_set_up,
        has_setup=compute.setup is not None,
        spot=_chosen(values["spot"], "Use spot instances", shares_files, prompts=prompts),
        gpus=int(_answer(_text(values["gpus"]), "GPUs per instance", "0", prompts=prompts and not shares_files)),
        location=location,
        settings=settings,
        asked=asked,
        packages=worker_packages(registry, backends),
    )


def _backends(registry: Registry, values: Mapping[str, Any], *, prompts: bool) -> dict[str, str]:
    """Return the plugin of each kind; one that neither a name nor the provider gives is prompted for.

    Raises:
        InputError: A plugin is unknown, or a kind has none.
    """
    given = {key: values[key] for key in ("provider", *PROVIDER_KINDS)}
    if given["provider"] is None and not (given["queue"] and given["compute"]):
        default = "local" if not given["compute"] else given["compute"]
        given["provider"] = _answer(None, "Provider", default, prompts=prompts)
    found = choose_backends(given, registry)
    for kind in PROVIDER_KINDS:
        names = ", ".join(_usable(registry, kind, found))
        if kind not in found and prompts:
            found[kind] = str(click.prompt(f"Name of the {kind} plugin ({names})")).lower()
        if kind not in found:
            problem = f'no {kind} chosen: "{str(given["provider"]).lower()}" has none'
            raise InputError(problem, hint=f"add --{kind} NAME; installed: {names}")
        getattr(registry, kind)(found[kind])
    if (unreachable := unreachable_queue(found, registry, where="")) is not None:
        raise unreachable
    return {kind: found[kind] for kind in PROVIDER_KINDS}


def _usable(registry: Registry, kind: str, chosen: Mapping[str, str]) -> Sequence[str]:
    """Return the names of plugins to choose from: of queues, those that the chosen instances can reach."""
    if kind == "queue" and chosen.get("compute") in registry.names("compute"):
        return reachable_queues(registry, registry.compute(chosen["compute"]).traits.located)
    return registry.names(kind)


def _ask_settings(asked: Mapping[str, Asked]) -> dict[str, str]:
    """Prompt for each setting; return those with an answer."""
    answers = {
        name: str(click.prompt(f"{each.help} ({name})", default=None if each.required else "", show_default=False))
        for name, each in asked.items()
    }
    return {name: answer for name, answer in answers.items() if answer}


def _answer(given: str | None, question: str, default: str, *, prompts: bool) -> str:
    if given is not None:
        return given
    return str(click.prompt(question, default=default)) if prompts else default


def _name_of(folder: Path) -> str:
    """Return a job name derived from the folder's name."""
    found = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).lstrip("-0123456789")[:24].rstrip("-")
    return found or "job"


def _shipping(compute: ComputeBackend, values: Mapping[str, Any], found: Checkout | None, *, prompts: bool) -> str:
    shares_files = compute.traits.located is not Reach.NETWORK
    if not _old_options(values) and (shares_files or compute.download is not None):
        return ""
    default = "folder" if shares_files else "git" if found is not None and found.repository else "archive"
    if values["bucket"]:
        default = "archive"
    elif values["repository"] or values["commit"]:
        default = "git"
    given: str | None = values["ship"]
    if given is None and prompts:
        given = click.prompt("Source of the code", type=click.Choice(SHIPPING), default=default)
    ship = given or default
    if ship == "folder" and not shares_files:
        problem = f'instances of "{compute.name}" do not share your folder'
        raise InputError(problem, where="--ship", hint="choose git or archive")
    for option, goes_with in (("bucket", "archive"), ("repository", "git"), ("commit", "git")):
        if values[option] and ship != goes_with:
            raise InputError(f"requires --ship {goes_with}", where=f"--{option}", hint="omit it")
    return ship


def _staging(compute: ComputeBackend, values: Mapping[str, Any], ship: str, *, prompts: bool) -> str:
    given: str | None = values["staging"]
    if ship or compute.traits.located is not Reach.NETWORK:
        if given:
            raise InputError("nothing is downloaded", where="--staging", hint="omit it")
        return ""
    forms = " or ".join(f"{scheme}://bucket/prefix" for scheme in compute.staging_schemes)
    staging = _answer(given, f"Prefix for downloads of the instances ({forms}; empty: later)", "", prompts=prompts)
    if staging and staging.partition("://")[0] not in compute.staging_schemes:
        raise InputError(f"instances of {compute.name} cannot download from it", where="--staging", hint=f"use {forms}")
    return staging


def _chosen(given: bool | None, question: str, shares_files: bool, *, prompts: bool) -> bool:
    if given is not None or shares_files or not prompts:
        return bool(given)
    return click.confirm(question)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _old_options(values: Mapping[str, Any]) -> Sequence[str]:
    """Return the given options of a project with a startup script."""
    return [option for option in ("ship", "bucket", "repository", "commit") if values[option]]


def _bucket(given: str | None, *, prompts: bool) -> str:
    bucket = given or (str(click.prompt("Bucket or folder for the archive (a URL)")) if prompts else "")
    if not bucket:
        raise InputError("no location for the archive", hint="add --bucket, e.g. gs://my-bucket/code")
    if without_credentials(bucket) != bucket:
        hint = "remove them; the instances need an identity with access to the bucket"
        raise InputError("a URL with credentials would be written to the startup script", where="--bucket", hint=hint)
    return bucket if "://" in bucket else str(Path(bucket).absolute())


def _checkout(values: Mapping[str, Any], found: Checkout | None, shares_files: bool, folder: Path) -> Checkout:
    repository = values["repository"] or (found.repository if found is not None else "")
    if not repository and shares_files and found is not None:
        repository = str(folder.resolve())
    commit = values["commit"] or (found.commit if found is not None else "")
    if without_credentials(repository) != repository or (found is not None and found.had_credentials):
        echo(
            "Warning: the credentials in the repository's URL are not written to the startup script; "
            "a private repository needs an image with its own access, or --ship archive",
            err=True,
        )
    if not repository or not commit:
        missing = "--repository" if not repository else "--commit"
        raise InputError(f"required: not found in a git repository at {folder}", where=missing, hint=f"add {missing}")
    if found is not None and not values["commit"]:
        if found.changed:
            echo(f"Warning: {counted(found.changed, 'changed file')} not in commit {commit[:12]}", err=True)
        if not found.is_pushed and not shares_files:
            echo(f"Warning: commit {commit[:12]} is on no remote branch; push it before the job runs", err=True)
    return Checkout(
        repository=without_credentials(repository),
        commit=commit,
        folder=found.folder if found is not None else ".",
        changed=0,
        is_pushed=True,
    )


def _settings(words: tuple[str, ...], known: Mapping[str, bool]) -> dict[str, str]:
    """Return the given settings by dotted key.

    Args:
        known: For each setting of the plugins, by dotted key, whether it is a secret.
    """
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        name = key.strip()
        owners = [each for each in known if name in (each, each.partition(".")[2])]
        if not equals or not name.replace(".", "", 1).isidentifier():
            raise InputError(f'expected KEY=VALUE such as project_id=my-project, got "{word}"', where="--set")
        if not owners:
            hint = advice(name, known) or f"known settings: {', '.join(known) or 'none'}"
            raise InputError(f"{name}: unknown setting", where="--set", hint=hint)
        if any(known[each] for each in owners):
            raise InputError(f"{name} is a secret", where="--set", hint="set it in the environment instead")
        found |= dict.fromkeys(owners, value.strip())
    return found


def _next_steps(project: Project) -> str:
    is_here = project.folder.resolve() == Path.cwd()
    missing = [name for name, asked in project.asked.items() if asked.required and name not in project.settings]
    lines = ["", *([] if is_here else [f"Open the folder:     cd {project.folder}"])]
    lines.append("Run the tasks here:  python worker.py --task-file tasks.json")
    if missing:
        lines.append(f"Set in config.yml:   {', '.join(missing)}")
    if project.is_staged and not project.staging and not project.is_set_up:
        if project.has_setup:
            lines.append(f"Set up the account:  cloud-tasks setup {project.backends['compute']}")
        else:
            lines.append("Set in config.yml:   run.staging")
    if project.location is not Reach.MACHINE:
        lines.append("Check the access:    cloud-tasks doctor --config config.yml")
    if project.ship == "git":
        lines.append("Commit and push the files, then set that commit in the startup script:")
        lines.append("                     cloud-tasks ship --config config.yml")
    elif project.ship == "archive":
        lines.append("Upload the code:     cloud-tasks ship --config config.yml")
    lines.append("Run the job:         cloud-tasks run --config config.yml --task-file tasks.json")
    return "\n".join(lines)
