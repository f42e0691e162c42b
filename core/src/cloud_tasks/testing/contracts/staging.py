"""Contract of the downloads of instances from a staging."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from cloud_tasks.errors import InputError
from cloud_tasks.plugin import ComputeBackend, Download, DownloadContext, NoSettings, StagingContext, setting_info
from cloud_tasks.plugin.kit import DOWNLOAD_FUNCTION, download_command
from cloud_tasks.testing.contracts.contract import Contract

__all__ = ["StagingContract", "StagingSubject"]

_NAMES = (
    "code-0a1b.tar.gz",
    "a/b.gz",
    "a b",
    "a#b",
    "a?b=c&d",
    "a%41",
    "aA",
    "a+b",
    "a~b",
    "a=b;c",
    "größe-ñ-名",
    "[a]{b,c}",
    "$HOME'`\"",
)
"""``a%41`` and ``aA`` are two objects."""
_HEADERS_OF_SECRETS = ("authorization", "cookie", "proxy-authorization")
_FILE = '"$1"'
_TOLERANCE = timedelta(minutes=5)


@attrs.frozen(kw_only=True)
class StagingSubject:
    """A compute backend whose instances download from a staging."""

    backend: ComputeBackend
    """Descriptor of the backend, found like an installed plugin: ``Registry(only=[\'name\'])``."""
    url: str
    """URL of a private prefix, in which the tests store files: ``depot://bucket/contract``."""
    put: Callable[[str, bytes], None]
    """Store a file under a URL below ``url``, of which every character after the bucket belongs to the name."""
    settings: Any = attrs.field(factory=NoSettings)
    """Settings of the backend, with every secret that it may have."""
    region: str | None = None
    """The region, if there are several."""
    advance: Callable[[timedelta], None] | None = None
    """Advance the clock of the store; None: the end of a signed address is not tested."""
    signed_with: tuple[str, ...] = ()
    """Settings, marked as secrets, that a signed address contains: the id of a key, the token of a session."""
    names: tuple[str, ...] = _NAMES
    """Names of files to download. Leave out those that the store does not have, such as with a backslash."""

    def download(self, name: str, *, valid_for: timedelta = timedelta(hours=1)) -> Download:
        """Return the download of a file below ``url``, as for an instance."""
        return self.download_url(f"{self.url.rstrip('/')}/{name}", valid_for=valid_for)

    def download_url(self, url: str, *, valid_for: timedelta = timedelta(hours=1)) -> Download:
        """Return the download of any URL."""
        assert self.backend.download is not None, "the backend has no download"
        return self.backend.download(self.settings, DownloadContext(url=url, region=self.region, valid_for=valid_for))


class StagingContract(Contract):
    """Downloads by curl, as instances make them; see `cloud_tasks.plugin.Download`."""

    @pytest.fixture
    def stored(self, subject: StagingSubject) -> str:
        """Name of a stored file."""
        subject.put(f"{subject.url.rstrip('/')}/{subject.names[0]}", b"stored")
        return subject.names[0]

    def test_staging_schemes_name_that_of_the_url(self, subject: StagingSubject) -> None:
        assert subject.url.partition("://")[0] in subject.backend.staging_schemes

    def test_download_brings_the_file_of_the_name(self, subject: StagingSubject, tmp_path: Path) -> None:
        for name in subject.names:
            subject.put(f"{subject.url.rstrip('/')}/{name}", f"content of {name}".encode())
        wrong = {}
        for number, name in enumerate(subject.names):
            said = fetch(subject.download(name), tmp_path / f"{number}")
            found = said or (tmp_path / f"{number}").read_bytes().decode()
            if found != f"content of {name}":
                wrong[name] = found
        assert wrong == {}

    def test_download_of_a_missing_file_names_the_status(self, subject: StagingSubject, tmp_path: Path) -> None:
        said = fetch(subject.download("missing.gz"), tmp_path / "file")
        assert ": HTTP 404" in said or ": HTTP 403" in said, said

    def test_download_refuses_urls_that_it_does_not_know(self, subject: StagingSubject) -> None:
        scheme = subject.url.partition("://")[0]
        for url in (
            "unknown://bucket/f",
            "https://bucket.example/f",
            "/folder/f",
            f"{scheme}://",
            f"{scheme}://bucket",
        ):
            with pytest.raises(InputError):
                subject.download_url(url)

    def test_download_needs_the_signature_or_the_token(
        self, subject: StagingSubject, stored: str, tmp_path: Path
    ) -> None:
        download = subject.download(stored)
        bare = Download(url=download.url.partition("?")[0], headers=download.headers)
        assert fetch(bare, tmp_path / "file") != "", "the staging can be read by everybody"

    def test_download_shows_no_secret_but_a_signed_address(self, subject: StagingSubject, stored: str) -> None:
        download = subject.download(stored)
        headers = {**download.headers, **download.token_headers}
        assert not [name for name in headers if name.lower() in _HEADERS_OF_SECRETS]
        shown = "\n".join((download.url, download.token_url, *headers.values()))
        values = {
            field.name: str(getattr(subject.settings, field.name) or "")
            for field in attrs.fields(type(subject.settings))
            if setting_info(field).secret and field.name not in subject.signed_with
        }
        assert [name for name, value in values.items() if value and value in shown] == []

    def test_download_ends_no_later_than_requested(self, subject: StagingSubject, stored: str) -> None:
        valid_for = timedelta(minutes=10)
        download = subject.download(stored, valid_for=valid_for)
        signed = download.url.partition("?")[2] != ""
        assert not signed or download.expires_at is not None or download.token_url, "a signed address without an end"
        if download.expires_at is not None:
            assert download.expires_at.tzinfo is not None
            assert download.expires_at <= datetime.now(UTC) + valid_for + _TOLERANCE

    def test_download_works_until_its_end(self, subject: StagingSubject, stored: str, tmp_path: Path) -> None:
        valid_for = timedelta(minutes=10)
        download = subject.download(stored, valid_for=valid_for)
        if subject.advance is None or download.expires_at is None:
            return
        left = download.expires_at - datetime.now(UTC)
        subject.advance(left * 0.8)
        assert fetch(download, tmp_path / "before") == ""
        subject.advance(left * 0.2 + _TOLERANCE)
        assert fetch(download, tmp_path / "after") != "", "valid after its end"

    def test_download_is_thread_safe(self, subject: StagingSubject, stored: str) -> None:
        with ThreadPoolExecutor(4) as threads:
            found = {each.url.partition("?")[0] for each in threads.map(lambda _: subject.download(stored), range(8))}
        assert len(found) == 1

    def test_staging_options_let_the_controller_upload_and_delete(
        self, subject: StagingSubject, tmp_path: Path
    ) -> None:
        import fsspec

        options = subject.backend.staging_options
        context = StagingContext(url=subject.url, region=subject.region)
        system, prefix = fsspec.core.url_to_fs(
            subject.url, **({} if options is None else options(subject.settings, context))
        )
        name = f"uploaded-{uuid.uuid4().hex}.gz"
        with pytest.raises(FileNotFoundError):
            system.info(f"{prefix.rstrip('/')}/{name}")
        (tmp_path / "sent").write_bytes(b"uploaded")
        system.put_file(str(tmp_path / "sent"), f"{prefix.rstrip('/')}/{name}")
        system.invalidate_cache()
        assert system.info(f"{prefix.rstrip('/')}/{name}")["size"] == len(b"uploaded")
        assert fetch(subject.download(name), tmp_path / "file") == ""
        assert (tmp_path / "file").read_bytes() == b"uploaded"
        # Secrets of a job do not wait for the store to expire them, if its file system can delete.
        try:
            system.rm_file(f"{prefix.rstrip('/')}/{name}")
        except NotImplementedError:
            return
        system.invalidate_cache()
        with pytest.raises(FileNotFoundError):
            system.info(f"{prefix.rstrip('/')}/{name}")


def fetch(download: Download, file: Path) -> str:
    """Download a file as an instance does; return the error line, empty after a success."""
    script = f"{DOWNLOAD_FUNCTION}\n{download_command(download, to=_FILE)}\n"
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(file)],
        env={"PATH": os.environ.get("PATH", os.defpath)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert (done.returncode == 0) == (done.stderr == ""), done.stderr
    return done.stderr.strip()
