"""``run.secrets``: secrets that tasks need, read by the controller from the places that the configuration names.

Invariants, each with a test:

1. A value is in no message, and no attribute of the configuration.
2. All secrets are read, or none: each that cannot be read is a line of the error.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from cloud_tasks.config.job_config import JobConfig
from cloud_tasks.config.load import ConfigurationError
from cloud_tasks.errors import InputError
from cloud_tasks.plugin import Reach

__all__ = ["read_secrets", "secret_files", "undelivered_secrets"]

_MAX_BYTES = 64 * 1024
"""Of all secrets together: keys and certificates, not data."""


def undelivered_secrets(config: JobConfig) -> InputError | None:
    """Return the problem of secrets that nothing brings to the instances."""
    if not config.run.secrets or not config.has_startup_script or config.is_shipped:
        return None
    if config.registry.compute(config.compute).traits.located is not Reach.NETWORK:
        return None
    return InputError(
        f'run.secrets: nothing brings them to instances of "{config.compute}" with a startup script of your own',
        where=config.place("run.secrets"),
        hint="use run.program or run.command instead, or remove it and let the script fetch them from a secret store "
        "into a folder that it exports as CLOUD_TASKS_SECRETS_DIR",
    )


def secret_files(config: JobConfig) -> Mapping[str, Path]:
    """Return the files that have a secret of the job, by its name."""
    folder = config.folder_of("run.secrets")
    return {
        name: folder / Path(source.removeprefix("file:")).expanduser()
        for name, source in config.run.secrets.items()
        if source.startswith("file:")
    }


def read_secrets(config: JobConfig, environ: Mapping[bytes, bytes]) -> dict[str, bytes]:
    """Return the secrets by name.

    Raises:
        ConfigurationError: One cannot be read, or they are too large together.
    """
    files, found, problems = secret_files(config), dict[str, bytes](), list[InputError]()
    for name, source in config.run.secrets.items():
        try:
            found[name] = _read_file(files[name]) if name in files else _read_variable(source, environ)
        except ValueError as error:
            problem = InputError(f"run.secrets.{name}: {error}", where=config.place("run.secrets"))
            problems.append(problem)
    if not problems and sum(map(len, found.values())) > _MAX_BYTES:
        largest = max(found, key=lambda name: len(found[name]))
        text = f"run.secrets: more than {_MAX_BYTES // 1024} KiB together; the largest is {largest}"
        problems.append(InputError(text, where=config.place("run.secrets"), hint="keep data in a store"))
    if problems:
        raise ConfigurationError(problems)
    return found


def _read_variable(source: str, environ: Mapping[bytes, bytes]) -> bytes:
    name = source.removeprefix("env:")
    if not (value := environ.get(name.encode())):
        raise ValueError(f"the variable {name} is not set; set it before the run, and before each --continue")
    return value


def _read_file(path: Path) -> bytes:
    """Return the content of a file, a part of it if it is too large."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"{path} is not a regular file")
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if not content:
        raise ValueError(f"{path} is empty")
    return content
