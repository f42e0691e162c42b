"""How the secrets of a job reach its instances: `run.secrets`, and shipped ones of the workers' backends.

Where instances share files with this machine, they are files of a private folder beside the job's other records. A
shipped program has them in an object of the staging that is encrypted with a key of its own; the key is in the startup
script. Others may read the staging or the script, and neither alone has the secrets.

Invariants, each with a test:

1. No value is in a record, a log or a request; the key of an object is in the requests of one run only.
2. After a run that leaves no instances, and after ``stop``, none of its files and objects is left.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import structlog

from cloud_tasks.config import JobConfig, delivered_secrets
from cloud_tasks.errors import CloudTasksError
from cloud_tasks.plugin import Reach, StagingContext
from cloud_tasks.shipping import Piece, delete, pack_secrets, upload
from cloud_tasks.shortage import describe_shortage

__all__ = [
    "SECRETS_DIR",
    "SealedSecrets",
    "forget_secrets",
    "seal_secrets",
    "secrets_variables",
    "staging_options",
    "temporary_secrets",
    "write_files",
    "write_secrets",
]

log = structlog.get_logger()

SECRETS_DIR = "CLOUD_TASKS_SECRETS_DIR"
"""Variable with the folder of the files."""
_TEMPORARY = "cloud-tasks-secrets-"


@attrs.frozen(kw_only=True)
class SealedSecrets:
    """The object with the secrets of one run."""

    name: str
    sha256: str
    content: bytes = attrs.field(repr=False)
    key: bytes = attrs.field(repr=False)

    def upload(self, config: JobConfig, job_id: str, staging: str) -> None:
        """Upload it; its address is noted before, so that a later command can delete it. Raises `CloudTasksError`."""
        notes = _notes(config, job_id)
        notes.parent.mkdir(parents=True, exist_ok=True)
        with notes.open("a") as file:
            file.write(f"{staging.rstrip('/')}/{self.name}\n")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / self.name
            path.write_bytes(self.content)
            piece = Piece(name=self.name, sha256=self.sha256, size=len(self.content), path=path)
            upload((piece,), staging, options=staging_options(config, staging))


def seal_secrets(config: JobConfig, secrets: Mapping[str, bytes]) -> SealedSecrets | None:
    """Return the sealed secrets of a shipped job; None without any.

    Args:
        secrets: Values of ``run.secrets``; empty for a plan.
    """
    worker = delivered_secrets(config, shipped=True)
    if not config.run.secrets and not worker:
        return None
    content, key = pack_secrets(secrets, worker)
    name = f"secrets-{os.urandom(16).hex()}"
    return SealedSecrets(name=name, sha256=hashlib.sha256(content).hexdigest(), content=content, key=key)


def secrets_variables(config: JobConfig, job_id: str) -> dict[str, str]:
    """Return the variable with the folder of the secrets, where instances share files with this machine."""
    if not config.run.secrets or config.registry.compute(config.compute).traits.located is Reach.NETWORK:
        return {}
    return {SECRETS_DIR: str(_folder(config, job_id))}


def write_secrets(config: JobConfig, job_id: str, secrets: Mapping[str, bytes]) -> None:
    """Write the files for instances that share them, in the place of those of an earlier run.

    Instances that an earlier run left may read them meanwhile, so each is replaced as a whole.

    Raises:
        CloudTasksError: The folder is not writable.
    """
    if not secrets_variables(config, job_id):
        return
    folder = _folder(config, job_id)
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink():
            # Made by a task: what it leads to is not ours.
            folder.unlink()
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        for other in folder.iterdir():
            if other.is_dir() and not other.is_symlink():
                shutil.rmtree(other)
        write_files(folder, secrets)
        for name in {each.name for each in folder.iterdir()} - secrets.keys():
            (folder / name).unlink()
    except OSError as error:
        raise CloudTasksError(f"{folder}: cannot write the secrets: {describe_shortage(error) or error}") from error


def write_files(folder: Path, secrets: Mapping[str, bytes]) -> None:
    """Write each secret to a file that only this user can read. Raises `OSError`."""
    for name, content in secrets.items():
        # Hidden names are not those of secrets.
        draft = folder / f".{name}.part"
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
        draft.replace(folder / name)


@contextlib.contextmanager
def temporary_secrets(secrets: Mapping[str, bytes]) -> Iterator[str]:
    """Yield a folder with the files, for a program that is checked here. Raises `OSError`."""
    _delete_abandoned()
    with tempfile.TemporaryDirectory(prefix=f"{_TEMPORARY}{os.getpid()}-") as folder:
        write_files(Path(folder), secrets)
        yield folder


def _delete_abandoned() -> None:
    """Delete the folders of checks whose process was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*"):
        pid = folder.name.removeprefix(_TEMPORARY).partition("-")[0]
        with contextlib.suppress(OSError):
            if pid.isdigit() and not Path(f"/proc/{pid}").exists() and folder.lstat().st_uid == os.getuid():
                shutil.rmtree(folder)


def forget_secrets(config: JobConfig, job_id: str) -> None:
    """Delete the files and objects with the secrets of a job, those of all its runs. Raises nothing."""
    _delete_abandoned()
    shutil.rmtree(_folder(config, job_id), ignore_errors=True)
    notes = _notes(config, job_id)
    urls = []
    with contextlib.suppress(OSError):
        urls = notes.read_text().split("\n")[:-1]
    for url in urls:
        try:
            delete(url, options=staging_options(config, url))
        except CloudTasksError as error:
            log.warning(f"{error}; it is encrypted, and its key was in the startup scripts of the instances")
    with contextlib.suppress(OSError):
        notes.unlink(missing_ok=True)
        notes.parent.rmdir()


def staging_options(config: JobConfig, url: str) -> Mapping[str, object]:
    """Return the options of fsspec for a URL of the staging."""
    backend = config.registry.compute(config.compute)
    if backend.staging_options is None:
        return {}
    settings = config.settings_for("compute", config.compute)
    return backend.staging_options(settings, StagingContext(url=url, region=config.run.region, zone=config.run.zone))


def _folder(config: JobConfig, job_id: str) -> Path:
    return config.base_dir / ".cloud-tasks" / job_id / "secrets"


def _notes(config: JobConfig, job_id: str) -> Path:
    """Return the file with the addresses of the objects of all runs."""
    return config.base_dir / ".cloud-tasks" / job_id / "sealed-secrets"
