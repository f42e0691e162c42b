"""Files of a new project, for ``init``: worker, tasks, configuration, and a startup script that fetches the code.

Invariant, with a test: existing files are never overwritten.
"""

from __future__ import annotations

import importlib.resources
import json
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

import cloud_tasks
from cloud_tasks.cli.scaffold.source_archive import Checkout
from cloud_tasks.errors import InputError
from cloud_tasks.escape import shell_word
from cloud_tasks.plugin import setting_info
from cloud_tasks.registry import Registry

__all__ = ["SHIPPING", "Asked", "Project", "asked_settings", "provider_packages", "secret_settings", "write_project"]

SHIPPING = ("folder", "git", "archive")
"""Sources of the code for the instances: the shared folder, a git commit, an archive."""

_TASKS = 20
_CLOUD_CHOICES = """\
  # use_spot: true # cheaper instances that the provider may reclaim; their tasks run again elsewhere
  # min_gpus: 1 # GPUs per instance
  # gpu_types: [] # names of GPU types, e.g. of `cloud-tasks list-instance-types`
"""
"""Lines of ``run`` for a cloud."""
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
    provider: str
    job_id: str
    ship: str
    """One of `SHIPPING`."""
    checkout: Checkout | None = None
    """Checkout, for ``git``."""
    bucket: str = ""
    """URL or folder, for ``archive``."""
    region: str | None = None
    settings: Mapping[str, str] = attrs.field(factory=dict)
    """Known settings of the provider's section."""
    asked: Mapping[str, Asked] = attrs.field(factory=dict)
    packages: Sequence[str] = ()
    """Requirements of a worker on an instance, besides the user's code, for pip."""


def asked_settings(registry: Registry, provider: str) -> dict[str, Asked]:
    """Return the settings of a provider to prompt for: required or commonly set, without secrets."""
    found: dict[str, Asked] = {}
    for kind in ("queue", "compute", "pricing"):
        settings = getattr(registry, kind)(provider).settings
        for field in attrs.fields(settings):
            info = setting_info(field)
            required = field.default is attrs.NOTHING
            if (required or info.asked) and not info.secret:
                found[field.name] = Asked(help=info.help, required=required)
    return found


def secret_settings(registry: Registry, provider: str) -> frozenset[str]:
    """Return the settings of a provider that are secrets."""
    classes = (getattr(registry, kind)(provider).settings for kind in ("queue", "compute", "pricing"))
    return frozenset(field.name for each in classes for field in attrs.fields(each) if setting_info(field).secret)


def provider_packages(registry: Registry, provider: str) -> tuple[str, ...]:
    """Return the provider's distributions at the installed versions, without the controller's extras."""
    found = [f"cloud-tasks=={cloud_tasks.__version__}"]
    for kind in ("queue", "compute"):
        for plugin, backend in registry.all(kind):
            if backend.name == provider and plugin.version:
                found.append(f"{plugin.distribution}=={plugin.version}")
    return tuple(dict.fromkeys(found))


def write_project(project: Project) -> Sequence[str]:
    """Write the files; return their names.

    Raises:
        InputError: A file exists, or the folder is not writable.
    """
    files = {
        "worker.py": _filled("worker.py", {"job_id": project.job_id}),
        "tasks.json": _tasks(),
        "config.yml": _configuration(project),
        "startup.sh": _startup_script(project),
    }
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
    lines = [f"{project.provider}:"]
    lines += [f"  {name}: {_yaml(value)}" for name, value in project.settings.items()]
    lines += [
        f"  # {name}: # {'required: ' if asked.required else ''}{asked.help}"
        for name, asked in project.asked.items()
        if name not in project.settings
    ]
    words: dict[str, Any] = {
        "provider": project.provider,
        "job_id": project.job_id,
        "region": _region(project),
        "max_instances": 1 if project.provider == "local" else 2,
        "choices": "" if project.provider == "local" else _CLOUD_CHOICES,
        "section": "\n".join(lines) + "\n" if len(lines) > 1 else "",
    }
    return _filled("config.yml", words).rstrip() + "\n"


def _region(project: Project) -> str:
    if project.region:
        return f"  region: {_yaml(project.region)}\n"
    if project.provider == "local":
        return ""
    return f"  # region: # region of the instances; see `cloud-tasks list-regions --provider {project.provider}`\n"


def _yaml(text: str | None) -> str:
    # JSON is YAML.
    return json.dumps(text, ensure_ascii=False)


def _startup_script(project: Project) -> str:
    is_local = project.provider == "local"
    words = {
        "software": _filled(
            "software_local" if is_local else "software_cloud", {"packages": _packages(project)}
        ).rstrip(),
        "requirements": "" if is_local else _filled("requirements", {}).rstrip(),
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
