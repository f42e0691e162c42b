"""Uploads of pieces to folders and object stores."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from small_disk import small_disk

from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.shipping import Piece, upload


def piece(folder: Path, kind: str, content: bytes) -> Piece:
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{kind}-{digest[:32]}.gz"
    folder.mkdir(exist_ok=True)
    path.write_bytes(content)
    return Piece(name=path.name, sha256=digest, size=len(content), path=path)


@pytest.fixture
def pieces(tmp_path: Path) -> list[Piece]:
    return [piece(tmp_path / "cache", kind, kind.encode() * 1000) for kind in ("code", "environment")]


@pytest.fixture(params=["folder", "file", "memory"])
def staging(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "staging" / "deep"
    yield {
        "folder": str(folder),
        "file": f"{folder.as_uri()}/",
        "memory": f"memory://{uuid.uuid4().hex}/prefix",
    }[request.param]
    MemoryFileSystem.store.clear()


def content(staging: str) -> dict[str, bytes]:
    system, prefix = fsspec.core.url_to_fs(staging)
    return {path.rpartition("/")[2]: system.cat(path) for path in system.find(prefix)}


def test_upload_skips_pieces_that_exist(staging: str, pieces: list[Piece]) -> None:
    names = tuple(each.name for each in pieces)
    shown: list[tuple[str, int]] = []
    assert upload(pieces[:1], staging, progress=lambda each, size: shown.append((each.name, size))) == names[:1]
    assert upload(pieces, staging) == names[1:]
    assert upload(pieces, staging) == ()
    assert content(staging) == {each.name: each.path.read_bytes() for each in pieces}
    if staging.startswith("memory"):
        assert shown[-1] == (names[0], pieces[0].size)


def test_upload_replaces_a_piece_that_is_incomplete(staging: str, pieces: list[Piece]) -> None:
    upload(pieces, staging)
    system, prefix = fsspec.core.url_to_fs(staging)
    system.pipe(f"{prefix.rstrip('/')}/{pieces[0].name}", b"x")
    assert upload(pieces, staging) == (pieces[0].name,)
    assert content(staging)[pieces[0].name] == pieces[0].path.read_bytes()


def age(staging: str, piece: Piece) -> None:
    """Let a piece be three days old."""
    _, prefix = fsspec.core.url_to_fs(staging)
    place, then = f"{prefix.rstrip('/')}/{piece.name}", datetime.now(UTC) - timedelta(days=3)
    if staging.startswith("memory"):
        MemoryFileSystem.store[place].modified = then
    else:
        os.utime(place, (then.timestamp(), then.timestamp()))


def test_upload_replaces_an_old_piece_before_the_staging_deletes_it(staging: str, pieces: list[Piece]) -> None:
    upload(pieces, staging)
    age(staging, pieces[0])
    assert upload(pieces, staging) == (pieces[0].name,)
    assert upload(pieces, staging) == ()


@pytest.mark.parametrize("modified", ["", None, KeyError("mtime"), NotImplementedError()])
def test_upload_takes_a_piece_of_unknown_age_for_a_new_one(
    tmp_path: Path, pieces: list[Piece], monkeypatch: pytest.MonkeyPatch, modified: object
) -> None:
    def answer(self: object, path: str) -> object:
        if isinstance(modified, Exception):
            raise modified
        return modified

    upload(pieces, f"memory://{tmp_path.name}")
    monkeypatch.setattr(MemoryFileSystem, "modified", answer)
    assert upload(pieces, f"memory://{tmp_path.name}") == ()


def test_upload_without_permission_to_replace_uses_the_old_piece(pieces: list[Piece], staging: str) -> None:
    upload(pieces, staging)
    age(staging, pieces[0])
    pieces[0].path.unlink()  # it cannot be uploaded for any reason
    assert upload(pieces, staging) == ()


def test_upload_to_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    large = piece(tmp_path / "cache", "code", bytes(100_000))
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(CloudTasksError) as caught:
            upload([large], str(disk))
        assert list(disk.iterdir()) == []
    assert str(caught.value) == f"{disk}: cannot upload {large.name}: no space left on the disk; free disk space"


def test_upload_to_a_place_that_is_no_folder_is_one_line(tmp_path: Path, pieces: list[Piece]) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CloudTasksError, match=r"/file: cannot upload code-\w+\.gz: NotADirectoryError: ") as caught:
        upload(pieces, str(tmp_path / "file"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("staging", "message"),
    [
        ("dropbox://box/x", "a package for this URL is missing"),
        ("nonsense://box/x", "invalid URL: Protocol not known: nonsense"),
    ],
)
def test_upload_refuses_a_url_that_nothing_can_write(pieces: list[Piece], staging: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        upload(pieces, staging)
    assert caught.value.where == staging


def test_upload_shows_no_credentials(pieces: list[Piece]) -> None:
    with pytest.raises(CloudTasksError) as caught:
        upload(pieces, "https://me:s3kret@127.0.0.1:1/x")
    assert "s3kret" not in str(caught.value)
