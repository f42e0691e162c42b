"""The bundle of a job, made from real installed distributions and a package index on this machine."""

from __future__ import annotations

import gzip
import hashlib
import os
import platform
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
from installed_distribution import write_wheel
from package_index import PackageIndex, package_index
from small_disk import small_disk

from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.shipping import Bundle, Piece, Requirements, build_bundle, uv_binary
from cloud_tasks.shipping.piece import write_piece
from cloud_tasks.shipping.uv_binary import uv_piece
from cloud_tasks.shipping.uv_call import uv_program

HERE = platform.machine()
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the uv program of this machine is not for Linux")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PackageIndex, Path]]:
    """An index with empty packages for all that cloud-tasks requires, and ``needed``; and its folder."""
    folder = tmp_path_factory.mktemp("packages")
    for requirement in [*(distribution("cloud-tasks").requires or ()), "needed"]:
        if "extra ==" not in requirement:
            write_wheel(folder, re.split(r"[^\w.-]", requirement)[0], version="9999.0")
    with package_index(folder) as found:
        yield found, folder


@pytest.fixture
def index(served: tuple[PackageIndex, Path], monkeypatch: pytest.MonkeyPatch) -> PackageIndex:
    found, folder = served
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_CACHE_DIR", str(folder.with_suffix(".cache")))
    monkeypatch.setenv("UV_DEFAULT_INDEX", found.url)
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "run.py").write_text("print(1)\n")
    (folder / "key.pem").write_text("x")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache. The uv program to pack is a small file, since packing the real one takes seconds."""
    (tmp_path / "uv-program").write_bytes(b"the program of this machine")
    monkeypatch.setattr(uv_binary, "uv_program", lambda: str(tmp_path / "uv-program"))
    return tmp_path / "cache"


def build(folder: Path | None, cache: Path, *lines: str, distributions: tuple[str, ...] = ("cloud-tasks",)) -> Bundle:
    requirements = Requirements.from_lines(lines, folder=folder, where="here") if folder and lines else None
    return build_bundle(
        folder=folder,
        ship=["."] if folder else [],
        requirements=requirements,
        distributions=distributions,
        architectures=[HERE],
        cache=cache,
    )


def members(piece: Piece) -> dict[str, bytes]:
    with tarfile.open(piece.path) as archive:
        files = {member.name: archive.extractfile(member) for member in archive}
        return {name: file.read() for name, file in files.items() if file is not None}


def check(piece: Piece, kind: str, suffix: str) -> None:
    content = piece.path.read_bytes()
    assert (piece.sha256, piece.size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert piece.name == piece.path.name == f"{kind}-{piece.sha256[:32]}{suffix}"


def test_bundle_has_code_environment_and_uv(project: Path, cache: Path, index: PackageIndex) -> None:
    bundle = build(project, cache, "needed", distributions=("cloud-tasks-local",))
    assert bundle.code is not None
    check(bundle.code, "code", ".tar.gz")
    check(bundle.environment, "environment", ".tar.gz")
    check(bundle.uv[HERE], f"uv-{HERE}", ".gz")
    assert bundle.pieces == (bundle.code, bundle.environment, bundle.uv[HERE])
    assert (members(bundle.code), bundle.files) == ({"run.py": b"print(1)\n"}, ("run.py",))
    assert [each.path for each in bundle.left_out] == ["key.pem"]
    assert bundle.python == ">=3.11"
    environment = members(bundle.environment)
    version = distribution("cloud-tasks").version
    assert set(environment) == {
        f"wheels/cloud_tasks-{version}-py3-none-any.whl", f"wheels/cloud_tasks_local-{version}-py3-none-any.whl",
        "requirements.txt", "worker.txt",
    }  # fmt: skip
    assert environment["requirements.txt"].decode().splitlines()[1] == "needed==9999.0 \\"
    worker = environment["worker.txt"].decode()
    assert "attrs==9999.0 \\\n    --hash=sha256:" in worker
    assert "needed" not in worker
    assert not re.search(r"^(uv|cloud-tasks)\b", worker, re.MULTILINE)


def test_bundle_of_the_same_inputs_is_the_same_and_needs_no_index(
    project: Path, cache: Path, index: PackageIndex
) -> None:
    first = build(project, cache, "needed")
    asked = len(index.requests)
    os.utime(project / "run.py", (1, 1))
    assert build(project, cache, "needed") == first
    assert len(index.requests) == asked
    (project / "run.py").write_text("print(2)\n")
    second = build(project, cache, "needed")
    assert (second.environment, second.uv) == (first.environment, first.uv)
    assert second.code != first.code


@pytest.mark.usefixtures("index")
def test_bundle_without_a_folder_or_files_has_no_code(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (None, tmp_path / "empty"):
        bundle = build(folder, cache)
        assert (bundle.code, bundle.files, len(bundle.pieces)) == (None, (), 2)


@pytest.mark.usefixtures("index")
def test_bundle_environment_is_installed_by_uv_without_resolution(tmp_path: Path, project: Path, cache: Path) -> None:
    bundle = build(project, cache, "needed")
    with tarfile.open(bundle.environment.path) as archive:
        archive.extractall(tmp_path / "machine", filter="data")
    command = [uv_program(), "pip", "install", "--quiet", "--no-deps", "--target", "site", "--python", sys.executable]
    wheels = [str(path) for path in (tmp_path / "machine" / "wheels").iterdir()]
    folder = tmp_path / "machine"
    subprocess.run([*command, *wheels], cwd=folder, check=True)
    locks = ["-r", "worker.txt", "-r", "requirements.txt"]
    subprocess.run([*command, "--require-hashes", *locks], cwd=folder, check=True)
    assert (folder / "site" / "cloud_tasks" / "worker" / "__init__.py").exists()
    assert (folder / "site" / "needed.py").exists()


@pytest.mark.usefixtures("index")
def test_bundle_deletes_what_was_not_used_for_two_weeks(project: Path, cache: Path) -> None:
    cache.mkdir()
    for name, days in (("code-old.tar.gz", 15), ("code-new.tar.gz", 13)):
        (cache / name).write_text("x")
        os.utime(cache / name, (time.time() - days * 86400,) * 2)
    (cache / "folder").mkdir()
    build_bundle(folder=project, ship=["."], requirements=None, distributions=(), architectures=(), cache=cache)
    assert not (cache / "code-old.tar.gz").exists()
    assert (cache / "code-new.tar.gz").exists()


# the uv program


def test_uv_of_this_machine_is_the_program_of_this_environment(cache: Path) -> None:
    piece = uv_piece(HERE, cache)
    assert gzip.decompress(piece.path.read_bytes()) == b"the program of this machine"


def test_uv_is_packed_once_unless_the_cache_lost_it(cache: Path) -> None:
    piece = uv_piece(HERE, cache)
    before = piece.path.stat().st_ino
    assert uv_piece(HERE, cache) == piece
    assert piece.path.stat().st_ino == before
    (note,) = cache.glob("uv-*.json")
    note.write_text("{")
    assert uv_piece(HERE, cache) == piece


def test_uv_of_another_architecture_is_fetched_from_the_index(
    tmp_path: Path, served: tuple[PackageIndex, Path], index: PackageIndex
) -> None:
    other = "aarch64" if HERE == "x86_64" else "x86_64"
    tag = f"py3-none-manylinux_2_17_{other}.manylinux2014_{other}"
    own = version("uv")
    scripts = {f"uv-{own}.data/scripts/uv": "the other program"}
    write_wheel(served[1], "uv", version=own, files=scripts, tag=tag)
    piece = uv_piece(other, tmp_path / "cache")
    check(piece, f"uv-{other}", ".gz")
    assert gzip.decompress(piece.path.read_bytes()) == b"the other program"
    asked = len(index.requests)
    assert uv_piece(other, tmp_path / "cache") == piece
    assert len(index.requests) == asked
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {piece.name, f"uv-{own}-{other}.json"}


@pytest.mark.usefixtures("index")
def test_uv_that_no_index_has_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", (tmp_path / "empty").as_uri())
    other = "aarch64" if HERE == "x86_64" else "x86_64"
    with pytest.raises(CloudTasksError, match=rf"cannot fetch uv==[\d.]+ for {other}: no matching distribution"):
        uv_piece(other, tmp_path)


def test_uv_of_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no uv program for the architecture 'riscv64'; use x86_64 or aarch64"):
        uv_piece("riscv64", tmp_path)


def test_pieces_are_complete_or_absent(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(CloudTasksError) as caught:
            write_piece(disk / "cache", "code", ".tar.gz", lambda out: out.write(bytes(100_000)) and None)
        assert str(caught.value) == f"{disk}/cache: cannot write: no space left on the disk; free disk space"
        assert list((disk / "cache").iterdir()) == []


def test_pieces_in_a_folder_that_is_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CloudTasksError, match=r"/file/cache: cannot write: .*Not a directory"):
        write_piece(tmp_path / "file" / "cache", "code", ".tar.gz", lambda out: None)
