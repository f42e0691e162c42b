"""Which files of a folder are shipped, and their archive."""

from __future__ import annotations

import io
import os
import socket
import sqlite3
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_tasks.errors import InputError
from cloud_tasks.shipping.code_archive import CodeFiles, select_files, write_archive

APPLICATION_ID = 0x636C7473


def write(folder: Path, *names: str, content: str = "x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def reasons(files: CodeFiles) -> dict[str, str]:
    return {each.path: each.reason for each in files.left_out}


def packed(files: CodeFiles) -> bytes:
    out = io.BytesIO()
    write_archive(files, out)
    return out.getvalue()


def extracted(files: CodeFiles, folder: Path) -> dict[bytes, bytes]:
    """Return the files that tar makes of the archive, links as `-> target`."""
    folder.mkdir()
    subprocess.run(["tar", "-xz"], input=packed(files), cwd=folder, check=True)
    found = {}
    for path, _, names in os.walk(os.fsencode(folder)):
        for name in names:
            file = os.path.join(path, name)
            content = b"-> " + os.readlink(file) if os.path.islink(file) else Path(os.fsdecode(file)).read_bytes()
            found[os.path.relpath(file, os.fsencode(folder))] = content
    return found


def job_database(path: Path) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("CREATE TABLE tasks (id)")
    connection.close()


# which files


@pytest.mark.parametrize("is_repository", [False, True])
def test_select_files_follows_the_rules_of_git(tmp_path: Path, is_repository: bool) -> None:
    write(tmp_path, "run.py", "a/code.py", "a/x.tmp", "data/big.bin", "data/keep.txt")
    (tmp_path / ".gitignore").write_text("data/*\n!data/keep.txt\n")
    (tmp_path / "a" / ".gitignore").write_text("*.tmp\n")
    if is_repository:
        git(tmp_path, "init", "--quiet")
    files = select_files(tmp_path)
    assert files.names == (".gitignore", "a/.gitignore", "a/code.py", "data/keep.txt", "run.py")
    assert files.left_out == ()
    assert (tmp_path / ".git").exists() == is_repository


def test_select_files_ignores_the_repository_of_a_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, f"{name}.py")
        git(tmp_path / name, "init", "--quiet")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "two" / ".git"))
    assert select_files(tmp_path / "one").names == ("one.py",)


def test_select_files_includes_submodules_and_nested_repositories(tmp_path: Path) -> None:
    write(tmp_path / "library", "library.py", "x.tmp")
    (tmp_path / "library" / ".gitignore").write_text("*.tmp\n")
    git(tmp_path / "library", "init", "--quiet")
    git(tmp_path / "library", "add", ".")
    git(tmp_path / "library", "commit", "--quiet", "-m", "x")
    write(tmp_path / "job", "run.py")
    git(tmp_path / "job", "init", "--quiet")
    git(tmp_path / "job", "submodule", "add", "--quiet", str(tmp_path / "library"), "module")
    git(tmp_path / "job", "clone", "--quiet", str(tmp_path / "library"), "nested")
    names = {"module/library.py", "module/.gitignore", "nested/library.py", "nested/.gitignore", "run.py"}
    assert set(select_files(tmp_path / "job").names) == {*names, ".gitmodules"}
    git(tmp_path / "job", "submodule", "deinit", "--quiet", "--force", "module")
    assert set(select_files(tmp_path / "job").names) == {*(n for n in names if "module/" not in n), ".gitmodules"}


def test_select_files_without_git_names_the_alternative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "run.py")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="git is not installed; install git, or list the files to ship under `ship`"):
        select_files(tmp_path)
    assert select_files(tmp_path, ship=["run.py"]).names == ("run.py",)


@pytest.mark.parametrize("ship", [(), (".",), ("*",), ("**/*",)])
def test_select_files_never_ships_what_belongs_to_this_machine(tmp_path: Path, ship: tuple[str, ...]) -> None:
    write(tmp_path, "run.py", "sub/code.py", ".git/config", "sub/.git", ".env", ".env.production", "sub/id_rsa")
    write(tmp_path, "key.pem", "credentials.json", "__pycache__/run.pyc", "stray.pyc", ".cloud-tasks/state")
    write(tmp_path, "venv/pyvenv.cfg", "venv/lib/x.py", "conda/conda-meta/history", "conda/bin/python")
    for name in ("job.db", "sub/renamed.data"):
        job_database(tmp_path / name)
        write(tmp_path, f"{name}-wal", f"{name}-shm", f"{name}-journal", f"{name}.lock")
    write(tmp_path, "other.db", "results-wal")
    if not ship:
        (tmp_path / ".git" / "config").unlink()
        (tmp_path / "sub" / ".git").unlink()
        git(tmp_path, "init", "--quiet")
        git(tmp_path, "add", "--force", ".")
    files = select_files(tmp_path, ship=ship)
    assert files.names == ("other.db", "results-wal", "run.py", "sub/code.py")
    databases = [f"{name}{suffix}" for name in ("job.db", "sub/renamed.data") for suffix in SUFFIXES]
    secrets = [".env", ".env.production", "credentials.json", "key.pem", "sub/id_rsa"]
    environments = dict.fromkeys(["conda", "venv"], "virtual environment; list its packages in the requirements")
    assert reasons(files) == {
        **environments,
        **dict.fromkeys(databases, "job database"),
        **dict.fromkeys(secrets, "looks like a secret"),
    }
    assert [each.path for each in files.left_out if each.is_secret] == secrets


SUFFIXES = ("", "-wal", "-shm", "-journal", ".lock")


def test_select_files_ships_what_is_listed_also_if_git_ignores_it(tmp_path: Path) -> None:
    write(
        tmp_path, "run.py", "notes.md", "data/a.csv", "data/b.txt", "data/deep/c.csv", "lib/m.py", "lib/m.tmp", "[x].py"
    )
    (tmp_path / ".gitignore").write_text("data\n*.tmp\n")
    assert select_files(tmp_path, ship=["data/*.csv", "run.py"]).names == ("data/a.csv", "run.py")
    private = [tmp_path / "data" / ".." / "run.py", tmp_path / "missing"]
    assert select_files(tmp_path, ship=["data/*.csv", "run.py"], private=private).names == ("data/a.csv",)
    assert reasons(select_files(tmp_path, private=private))["run.py"] == "a secret of the job"
    assert select_files(tmp_path, ship=["data/**/*.csv"]).names == ("data/a.csv", "data/deep/c.csv")
    assert select_files(tmp_path, ship=["lib/", "[x].py"]).names == ("[x].py", "lib/m.py", "lib/m.tmp")


@pytest.mark.parametrize("pattern", ["../other", "/etc/passwd", "a/../../b"])
def test_select_files_refuses_a_pattern_out_of_the_folder(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(InputError, match=r"ship: .* is not in .*; give paths relative to this folder"):
        select_files(tmp_path, ship=[pattern])


def test_select_files_refuses_a_pattern_without_a_match(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ship: no file matches runn\.py in"):
        select_files(tmp_path, ship=["runn.py"])


@pytest.mark.parametrize("ship", [(), (".",)])
def test_select_files_leaves_out_links_to_the_outside_and_special_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ship: tuple[str, ...]
) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "job"
    write(outside, "secret.txt")
    write(folder, "run.py", "data/a.csv")
    links = {"file": "../outside/secret.txt", "folder": "../outside", "absolute": str(outside), "chain": "file"}
    inside = {"near": "run.py", "data/up": "../run.py", "whole": "data", "dangling": "data/later"}
    for name, target in {**links, **inside}.items():
        (folder / name).symlink_to(target)
    (folder / "full").symlink_to(folder / "data" / "a.csv")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(folder)  # The path of a socket is short.
        listener.bind("socket")
    files = select_files(folder, ship=ship)
    assert files.names == ("dangling", "data/a.csv", "data/up", "full", "near", "run.py", "whole")
    special = {"pipe", "socket"} & set(reasons(files))  # git does not list these.
    assert reasons(files) == {
        **dict.fromkeys(links, "link to a place outside of the folder"),
        **dict.fromkeys(special, "not a regular file"),
    }
    assert bool(special) == bool(ship)
    content = extracted(files, tmp_path / "machine")
    assert content[b"full"] == b"-> data/a.csv"
    assert content[b"data/up"] == b"-> ../run.py"


def test_select_files_ships_no_file_through_a_link(tmp_path: Path) -> None:
    write(tmp_path, "data/a.csv")
    (tmp_path / "link").symlink_to("data")
    files = select_files(tmp_path, ship=["link/a.csv"])
    assert (files.names, reasons(files)) == ((), {"link": "link to a folder; list the folder itself"})


def test_select_files_refuses_too_much_and_names_the_largest(tmp_path: Path) -> None:
    for number in range(8):
        write(tmp_path, f"data/{number}.bin", content="x" * 100_000 * number)
    with pytest.raises(InputError) as caught:
        select_files(tmp_path, limit=2_500_000)
    assert caught.value.message == (
        f"{tmp_path}: 2.8 MB of files to ship, more than 2.5 MB; the largest: data/7.bin (0.7 MB), "
        "data/6.bin (0.6 MB), data/5.bin (0.5 MB), data/4.bin (0.4 MB), data/3.bin (0.3 MB)"
    )
    assert ".gitignore" in caught.value.hint
    assert "ship" in caught.value.hint
    files = select_files(tmp_path, limit=2_800_000)
    assert (len(files.names), files.size) == (8, 2_800_000)


# the archive


def test_archive_of_the_same_files_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, "run.py", "a/b.txt", "program")
        (tmp_path / name / "link").symlink_to("run.py")
        (tmp_path / name / "program").chmod(0o755 if name == "one" else 0o700)
        os.utime(tmp_path / name / "run.py", (1, 1) if name == "one" else None)
    one, two = (packed(select_files(tmp_path / name)) for name in ("one", "two"))
    assert one == two
    with tarfile.open(fileobj=io.BytesIO(one)) as archive:
        assert {member.name: member.mode for member in archive} == {
            "a/b.txt": 0o644, "link": 0o755, "program": 0o755, "run.py": 0o644,
        }  # fmt: skip
        assert {(member.uid, member.gid, member.mtime, member.uname) for member in archive} == {(0, 0, 0, "")}


def test_archive_has_no_file_that_vanished_or_was_replaced(tmp_path: Path) -> None:
    write(tmp_path, "gone", "folder/gone", "pipe", "linked", "shorter", "stays", content="long content")
    files = select_files(tmp_path)
    for name in ("gone", "pipe", "linked", "folder/gone"):
        (tmp_path / name).unlink()
    (tmp_path / "folder").rmdir()
    write(tmp_path, "folder", "shorter", content="now")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "linked").symlink_to("/etc/hostname")
    assert extracted(files, tmp_path / "machine") == {b"shorter": b"now", b"stays": b"long content"}


FILE_NAMES = st.lists(
    st.binary(min_size=1, max_size=60).filter(lambda name: not set(name) & set(b"/\0") and name not in (b".", b"..")),
    min_size=1,
    max_size=4,
).map(lambda parts: b"/".join(parts))


@settings(max_examples=15, deadline=None)
@given(names=st.lists(FILE_NAMES, min_size=1, max_size=5), by_git=st.booleans())
def test_archive_keeps_every_name_of_a_file(names: list[bytes], by_git: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "job"
        folder.mkdir()
        written = set()
        for name in names:
            path = folder / os.fsdecode(name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(name)
            except OSError:  # A part is a file already.
                continue
            written.add(name)
        files = select_files(folder, ship=() if by_git else ["."])
        left_out = {os.fsencode(each.path) for each in files.left_out}
        assert {os.fsencode(name) for name in files.names} | left_out >= written - {b".gitignore"}
        assert extracted(files, Path(scratch) / "machine") == {
            os.fsencode(name): os.fsencode(name) for name in files.names
        }
