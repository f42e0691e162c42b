"""The program of a job that its instances download: its bundle, and their startup script.

Invariants, each with a test:

1. All instances of a job, also of one that is resumed, get the same pieces, whatever changed here in the meantime.
2. Addresses of downloads, which may be signed and expire, are made for each launch. They are in no record and no log;
   neither is the key of the secrets.
"""

from __future__ import annotations

from datetime import timedelta

import attrs

from cloud_tasks.config import JobConfig
from cloud_tasks.controller.launch.job_secrets import SealedSecrets, staging_options
from cloud_tasks.errors import InputError
from cloud_tasks.plugin import DownloadContext
from cloud_tasks.plugin.kit import DOWNLOAD_FUNCTION, download_command
from cloud_tasks.shipping import Bundle, DownloadedPiece, Piece, Progress, boot_program, upload

__all__ = ["ShippedProgram"]

_VALID_FOR = timedelta(hours=1)
"""Time from the launch call in which an instance has made its downloads."""
_MARK = ": download "
_KEY_MARK = ": key of the secrets"


@attrs.frozen(kw_only=True)
class ShippedProgram:
    """A bundle and the staging that has it."""

    config: JobConfig
    bundle: Bundle
    staging: str
    """URL of the prefix."""
    secrets: SealedSecrets | None = None
    prepares: str = ""
    """Name of the build of an image, whose instance installs everything and starts no program; empty for a job."""

    @property
    def script(self) -> str:
        """The startup script, with marks in the place of the downloads."""
        bundle, program = self.bundle, self.config.program()
        words = ("cloud-tasks", "worker") if program is None else ("python", *program.words)
        return boot_program(
            code=None if bundle.code is None else _marked(bundle.code),
            environment=_marked(bundle.environment),
            uv={architecture: _marked(piece) for architecture, piece in bundle.uv.items()},
            program=words,
            python=bundle.python,
            setup=self.config.run.setup or "",
            functions=DOWNLOAD_FUNCTION,
            secrets=None if self.secrets is None else (_marked(self.secrets), _KEY_MARK),
            prepares=self.prepares,
        )

    def with_downloads(self, script: str) -> str:
        """Return a script with the downloads, and the key of the secrets, in the place of the marks.

        Raises:
            CloudTasksError: The provider does not say how to download them, such as without credentials.
        """
        backend = self.config.registry.compute(self.config.compute)
        settings = self.config.settings_for("compute", self.config.compute)
        assert backend.download is not None
        names = [piece.name for piece in self.bundle.pieces]
        if self.secrets is not None:
            names.append(self.secrets.name)
            script = script.replace(_KEY_MARK, f"ct_key={self.secrets.key.hex()}")
        for name in names:
            context = DownloadContext(
                url=f"{self.staging.rstrip('/')}/{name}",
                region=self.config.run.region,
                zone=self.config.run.zone,
                valid_for=_VALID_FOR,
            )
            command = download_command(backend.download(settings, context), to='"$1"')
            script = script.replace(f"{_MARK}{name}\n", f"{command}\n")
        return script

    def upload(self, progress: Progress | None = None) -> tuple[str, ...]:
        """Upload the pieces that the staging does not have; return their names. Raises `CloudTasksError`."""
        return upload(
            self.bundle.pieces, self.staging, options=staging_options(self.config, self.staging), progress=progress
        )

    def upload_secrets(self, job_id: str) -> bool:
        """Upload the sealed secrets; return whether there are any. Raises `CloudTasksError`."""
        if self.secrets is not None:
            self.secrets.upload(self.config, job_id, self.staging)
        return self.secrets is not None


def staging_of(config: JobConfig) -> str:
    """Return the staging of a job that is shipped.

    Raises:
        InputError: It is not set, or the instances cannot download from it.
    """
    staging, where = config.run.staging, config.place("run.staging")
    backend = config.registry.compute(config.compute)
    schemes = backend.staging_schemes
    forms = " or ".join(f"{scheme}://bucket/prefix" for scheme in schemes)
    if staging is None:
        raise InputError(
            f'run.staging: required to ship a program to instances of "{config.compute}"',
            where=where,
            hint=f"set it to {forms}"
            + (f", or let this make a bucket: cloud-tasks setup {config.compute}" if backend.setup is not None else ""),
        )
    if staging.partition("://")[0] not in schemes or "://" not in staging:
        raise InputError(
            f'run.staging: instances of "{config.compute}" cannot download from {staging}',
            where=where,
            hint=f"set it to {forms}",
        )
    return staging


def _marked(piece: Piece | SealedSecrets) -> DownloadedPiece:
    return DownloadedPiece(name=piece.name, sha256=piece.sha256, lines=(f"{_MARK}{piece.name}",))
