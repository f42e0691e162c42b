"""Before a run: the bundle of a job whose program is shipped, made once and recorded beside the job.

Invariants, each with a test:

1. A job that is resumed has the bundle that it was started with. Where its record is lost, a new one is made, with a
   warning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from cloud_tasks.config import JobConfig, secret_files
from cloud_tasks.controller.launch.job_secrets import seal_secrets
from cloud_tasks.controller.launch.shipped_program import ShippedProgram, staging_of
from cloud_tasks.controller.setup.open_backends import cache_dir
from cloud_tasks.errors import InputError
from cloud_tasks.model import Architecture
from cloud_tasks.selection import RankedOffer
from cloud_tasks.shipping import Bundle, Piece, Requirements, build_bundle, find_requirements

__all__ = ["prepare_environment", "prepare_program", "record_bundle"]

log = structlog.get_logger()

_MACHINES = {Architecture.X86_64: "x86_64", Architecture.ARM64: "aarch64"}
_FILES = (".txt", ".toml", ".lock", ".in")


def prepare_program(
    config: JobConfig, offers: Sequence[RankedOffer], *, resumed: str = "", secrets: Mapping[str, bytes] = {}
) -> ShippedProgram | None:
    """Return the program that the instances of a job download; None where they have it.

    Args:
        offers: Offers whose architectures are needed.
        resumed: Id of the job whose recorded bundle is used; empty for a new job.
        secrets: Values of ``run.secrets``; empty for a plan.

    Raises:
        InputError: The files or the requirements cannot be shipped, or there is no staging.
        CloudTasksError: A package index is not available.
    """
    if not config.is_shipped:
        return None
    staging = staging_of(config)
    bundle = _recorded(config, resumed) if resumed else None
    if bundle is None:
        if resumed:
            log.warning("The record of what was shipped is lost; the files of now are shipped to new instances")
        bundle = build_bundle(
            folder=config.base_dir,
            ship=config.run.ship,
            requirements=requirements_of(config),
            distributions=distributions_of(config),
            architectures={_MACHINES[ranked.offer.instance_type.architecture] for ranked in offers},
            cache=_cache(),
            private=secret_files(config).values(),
        )
    return ShippedProgram(config=config, bundle=bundle, staging=staging, secrets=seal_secrets(config, secrets))


def prepare_environment(config: JobConfig, offers: Sequence[RankedOffer]) -> ShippedProgram:
    """Return what the instances of a job install, without its code, for an image that is built under the name of the
    job. Raises as `prepare_program`."""
    bundle = build_bundle(
        folder=None,
        requirements=requirements_of(config),
        distributions=distributions_of(config),
        architectures={_MACHINES[ranked.offer.instance_type.architecture] for ranked in offers},
        cache=_cache(),
    )
    return ShippedProgram(config=config, bundle=bundle, staging=staging_of(config), prepares=config.run.job_id or "")


def requirements_of(config: JobConfig) -> Requirements | None:
    """Return the requirements of the program: those of the configuration, or found beside it; None for none.

    Raises:
        InputError: The file does not exist.
    """
    given, where = config.run.requirements, config.place("run.requirements")
    if not given:
        program = config.program()
        return None if program is None else find_requirements(config.base_dir, program.file)
    folder = config.folder_of("run.requirements")
    if len(given) == 1 and given[0].endswith(_FILES):
        return Requirements.from_file(folder / Path(given[0]).expanduser(), where=where)
    return Requirements.from_lines(_joined(given), folder=folder, where=where)


def _joined(words: Sequence[str]) -> list[str]:
    """Return requirements whose versions the form of lists, on the command line, has split at a comma."""
    found: list[str] = []
    for word in words:
        if found and word[0] in "<>=!~":
            found[-1] += f",{word}"
        else:
            found.append(word)
    return found


def distributions_of(config: JobConfig) -> tuple[str, ...]:
    """Return the distributions of a worker, with extras: core, and those of queue and compute.

    An extra with the name of a plugin is what it needs everywhere; the extra ``files`` is for stores of results and
    logs.
    """
    found: dict[str, set[str]] = {"cloud-tasks": set()}
    schemes = config.registry.compute(config.compute).staging_schemes
    stores = [store.partition("://")[0] for store in (config.run.result_store, config.run.log_store) if store]
    for kind, name in (("queue", config.queue), ("compute", config.compute)):
        for plugin, backend in config.registry.all(kind):
            if backend.name == name and plugin.distribution:
                wanted = {name, *(["files"] if set(stores) & set(schemes) else [])}
                found.setdefault(plugin.distribution, set()).update(wanted & plugin.extras())
    return tuple(f"{name}[{','.join(sorted(extras))}]" if extras else name for name, extras in found.items())


def _cache() -> Path:
    folder = cache_dir()
    if folder is None:
        raise InputError("no folder for what is shipped", hint="set CLOUD_TASKS_CACHE_DIR to a folder of your own")
    return folder / "shipping"


def _record_file(config: JobConfig, job_id: str) -> Path:
    return config.base_dir / ".cloud-tasks" / job_id / "bundle.json"


def record_bundle(program: ShippedProgram, job_id: str) -> None:
    """Record what a new job ships, for its later runs."""
    bundle, file = program.bundle, _record_file(program.config, job_id)
    record = {
        "code": bundle.code and _piece_record(bundle.code),
        "environment": _piece_record(bundle.environment),
        "uv": {architecture: _piece_record(piece) for architecture, piece in bundle.uv.items()},
        "python": bundle.python,
        "files": list(bundle.files),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".part")
    draft.write_text(json.dumps(record, indent=2))
    draft.replace(file)


def _piece_record(piece: Piece) -> dict[str, Any]:
    return {"name": piece.name, "sha256": piece.sha256, "size": piece.size}


def _recorded(config: JobConfig, job_id: str) -> Bundle | None:
    """Return the recorded bundle; None where there is none. Its pieces need not be in the cache any more."""
    try:
        record = json.loads(_record_file(config, job_id).read_text())
        cache = _cache()

        def piece(each: Any) -> Piece:
            return Piece(**each, path=cache / each["name"])

        return Bundle(
            code=piece(record["code"]) if record["code"] else None,
            environment=piece(record["environment"]),
            uv={architecture: piece(each) for architecture, each in record["uv"].items()},
            python=record["python"],
            files=tuple(record["files"]),
            left_out=(),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
