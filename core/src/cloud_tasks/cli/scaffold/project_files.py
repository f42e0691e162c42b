"""Files of a new project, for ``init``: worker, tasks and configuration; on request a script that fetches the code.

Invariant, with a test: existing files are never overwritten.
"""

from __future__ import annotations

import importlib.resources
import json
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.errors import InputError
from cloud_tasks.escape import shell_word
from cloud_tasks.plugin import Reach, setting_info
from cloud_tasks.registry import Registry
from cloud_tasks.shipping import Checkout

__all__ = ["SHIPPING", "Asked", "Project", "asked_settings", "known_settings", "worker_packages", "write_project"]

SHIPPING = ("folder", "git", "archive")
"""Sources of the code for the instances: the shared folder, a git commit, an archive."""

_TASKS = 20
_SHARED_CACHE = "${CLOUD_TASKS_LOCAL_STATE_DIR:-$CLOUD_TASKS_SUBMIT_DIR/.cloud-tasks}"
_FETCHERS = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}
"""Package that fsspec needs, by URL scheme."""


class _Template(string.Template):
    """Template with ``@`` as the delimiter, since scripts use ``$``."""

    delimiter = "@"


@attrs.frozen(kw_only=True)
class Asked:
    """Setting of a provider that ``init`` prompts for."""

    help: str
    required: bool
    """Whether the provider requires it."""


@attrs.frozen(kw_only=True)
class Project:
    """Choices for a new project."""

    folder: Path
    backends: Mapping[str, str]
    """Names of the plugins for queue, compute and pricing, by kind."""
    job_id: str
    ship: str
    """One of `SHIPPING`; empty for a program without a startup script."""
    checkout: Checkout | None = None
    """Checkout, for ``git``."""
    bucket: str = ""
    """URL or folder, for ``archive``."""
    region: str | None = None
    staging: str = ""
    """Prefix from which the instances download the program; empty if it is not known."""
    is_staged: bool = False
    """Whether they download it."""
    is_set_up: bool = False
    """Whether `cloud-tasks setup` has made a staging, which is the default of jobs."""
    has_setup: bool = False
    """Whether `cloud-tasks setup` can make one."""
    spot: bool = False
    gpus: int = 0
    """Per instance."""
    settings: Mapping[str, str] = attrs.field(factory=dict)
    """Known settings, by dotted key."""
    asked: Mapping[str, Asked] = attrs.field(factory=dict)
    """Settings to prompt for, by dotted key."""
    location: Reach = Reach.NETWORK
    """Where the instances are."""
    packages: Sequence[str] = ()
    """Requirements of a worker on an instance, besides the user's code, for pip."""

    @property
    def shares_files(self) -> bool:
        """Whether the instances share this folder, and the installed Python."""
        return self.location is not Reach.NETWORK


def asked_settings(registry: Registry, backends: Mapping[str, str]) -> dict[str, Asked]:
    """Return the settings to prompt for, by dotted key: required or commonly set, without secrets."""
    found: dict[str, Asked] = {}
    for name, field in _fields(registry, backends):
        info = setting_info(field)
        required = field.default is attrs.NOTHING
        if (required or info.asked) and not info.secret:
            found[f"{name}.{field.name}"] = Asked(help=info.help, required=required)
    return found


def known_settings(registry: Registry, backends: Mapping[str, str]) -> dict[str, bool]:
    """Return for each setting of the backends, by dotted key, whether it is a secret."""
    return {f"{name}.{field.name}": setting_info(field).secret for name, field in _fields(registry, backends)}


def _fields(registry: Registry, backends: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for kind, name in backends.items():
        for field in attrs.fields(getattr(registry, kind)(name).settings):
            yield name, field


def worker_packages(registry: Registry, backends: Mapping[str, str]) -> tuple[str, ...]:
    """Return the distributions of queue and compute without the controller's extras, for a script of the user's own.

    Without versions: what is released under them later may be something else than what is installed here.
    """
    found = {"cloud-tasks": ""}
    for kind in ("compute", "queue"):
        for plugin, backend in registry.all(kind):
            if backend.name == backends[kind] and plugin.version:
                found[plugin.distribution] = f"[{plugin.name}]" if plugin.name in plugin.extras() else ""
    return tuple(f"{name}{extra}" for name, extra in found.items())


def write_project(project: Project) -> Sequence[str]:
    """Write the files; return their names.

    Raises:
        InputError: A file exists, or the folder is not writable.
    """
    files = {
        "worker.py": _filled("worker.py", {"job_id": project.job_id}),
        "tasks.json": _tasks(),
        "config.yml": _configuration(project),
    }
    if project.ship:
        files["startup.sh"] = _startup_script(project)
    elif project.is_staged:
        files["requirements.txt"] = "# Packages that worker.py imports, one on a line.\n"
    existing = [name for name in files if (project.folder / name).exists()]
    if existing:
        hint = "choose another folder, or move the existing files"
        raise InputError(f"would overwrite {', '.join(existing)}", where=str(project.folder), hint=hint)
    if not (project.folder / ".gitignore").exists():
        files[".gitignore"] = _filled("gitignore", {})
    try:
        project.folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            with (project.folder / name).open("x", encoding="utf-8") as out:
                out.write(text)
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", where=str(project.folder)) from error
    return tuple(files)


def _filled(name: str, words: Mapping[str, str]) -> str:
    source = importlib.resources.files("cloud_tasks.cli.scaffold") / "project" / f"{name}.txt"
    return _Template(source.read_text(encoding="utf-8")).substitute(words)


def _tasks() -> str:
    tasks = [{"id": f"task-{n:03d}", "data": {"num1": n, "num2": n * n}} for n in range(1, _TASKS + 1)]
    return "[\n" + ",\n".join(f"  {json.dumps(task)}" for task in tasks) + "\n]\n"


def _configuration(project: Project) -> str:
    names = list(dict.fromkeys(project.backends.values()))
    words: dict[str, Any] = {
        "provider": f"provider: {names[0]}" if len(names) == 1 else _chosen(project.backends),
        "job_id": project.job_id,
        "region": _region(project),
        "max_instances": 1 if project.location is Reach.MACHINE else 2,
        "choices": "" if project.shares_files else _choices(project),
        "program": "startup_script_file: startup.sh" if project.ship else _program(project),
        "sections": "\n".join(filter(None, (_section(project, name) for name in names))),
    }
    return _filled("config.yml", words).rstrip() + "\n"


def _program(project: Project) -> str:
    missing = (
        "# default: that of cloud-tasks setup"
        if project.is_set_up
        else "# required: a prefix such as scheme://bucket/staging"
    )
    staging = _yaml(project.staging) if project.staging else missing
    key = "staging:" if project.staging else "# staging:"
    return "\n  ".join(["program: worker.py", *([f"{key} {staging}"] if project.is_staged else [])])


def _choices(project: Project) -> str:
    """Return the lines of ``run`` about spot instances and GPUs."""
    return (
        f"  {'' if project.spot else '# '}use_spot: true"
        " # cheaper instances that the provider may reclaim; their tasks run again elsewhere\n"
        f"  {'' if project.gpus else '# '}min_gpus: {project.gpus or 1} # GPUs per instance\n"
        "  # gpu_types: [] # names of GPU types, e.g. of `cloud-tasks list-instance-types`\n"
    )


def _chosen(backends: Mapping[str, str]) -> str:
    return "\n".join(f"{kind}: {name}" for kind, name in backends.items())


def _section(project: Project, name: str) -> str:
    """Return a plugin's section; empty without settings."""
    known = {
        key.removeprefix(f"{name}."): value for key, value in project.settings.items() if key.startswith(f"{name}.")
    }
    asked = {key.removeprefix(f"{name}."): each for key, each in project.asked.items() if key.startswith(f"{name}.")}
    lines = [f"  {key}: {_yaml(value)}\n" for key, value in known.items()]
    lines += [
        f"  # {key}: # {'required: ' if each.required else ''}{each.help}\n"
        for key, each in asked.items()
        if key not in known
    ]
    return f"{name}:\n{''.join(lines)}" if lines else ""


def _region(project: Project) -> str:
    if project.region:
        return f"  region: {_yaml(project.region)}\n"
    if project.shares_files:
        return ""
    listing = f"cloud-tasks list-regions --provider {project.backends['compute']}"
    return f"  # region: # region of the instances; see `{listing}`\n"


def _yaml(text: str | None) -> str:
    # JSON is YAML.
    return json.dumps(text, ensure_ascii=False)


def _startup_script(project: Project) -> str:
    software = "software_shared" if project.shares_files else "software_cloud"
    words = {
        "software": _filled(software, {"packages": _packages(project)}).rstrip(),
        "cache": _SHARED_CACHE if project.shares_files else "/var/cache/cloud-tasks",
        "requirements": "" if project.shares_files else _filled("requirements", {}).rstrip(),
        "bucket": shell_word(project.bucket.rstrip("/")),
    }
    if project.checkout is not None:
        words |= {
            "repository": shell_word(project.checkout.repository),
            "commit": project.checkout.commit,
            "folder": project.checkout.folder,
        }
    text = _filled(f"{project.ship}.sh", words)
    return "\n".join(line for line, before in _pairs(text) if line or before) + "\n"


def _pairs(text: str) -> Sequence[tuple[str, str]]:
    """Return each line with its predecessor, to drop repeated empty lines."""
    lines = text.rstrip().splitlines()
    return list(zip(lines, ["", *lines], strict=False))


def _packages(project: Project) -> str:
    wanted = list(project.packages)
    scheme = project.bucket.partition("://")[0] if "://" in project.bucket else ""
    if project.ship == "archive" and scheme in _FETCHERS:
        wanted.append(_FETCHERS[scheme])
    return " ".join(shell_word(package) for package in wanted)
