"""Output files of commands: replaced whole, or written to where they cannot be replaced."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.report import output_file


def write(path: Path, content: bytes = b"new") -> None:
    with output_file(path) as out:
        out.write(content)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_output_file_that_exists_is_replaced_with_its_permissions(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "out.csv"
    file.write_bytes(b"old")
    file.chmod(mode)
    inode = file.stat().st_ino
    with output_file(file) as out:
        out.write(b"new")
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert file.stat().st_ino != inode
    assert list(tmp_path.iterdir()) == [file]


def test_output_file_stays_as_it_was_after_an_error(tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    file.write_bytes(b"old")
    with contextlib.suppress(ValueError), output_file(file) as out:
        out.write(b"half")
        raise ValueError
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("exists", [True, False])
def test_output_file_behind_symbolic_links_is_replaced_and_the_links_stay(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "data").mkdir()
    target = tmp_path / "data" / "out.csv"
    if exists:
        target.write_bytes(b"old")
    (tmp_path / "first").symlink_to(target)
    (tmp_path / "second").symlink_to("first")
    write(tmp_path / "second")
    assert target.read_bytes() == b"new"
    assert (tmp_path / "first").is_symlink()
    assert (tmp_path / "second").is_symlink()


def test_output_file_with_a_name_of_maximum_length_is_written(tmp_path: Path) -> None:
    file = tmp_path / ("x" * 255)
    write(file)
    assert file.read_bytes() == b"new"


def test_output_file_that_is_a_full_device_stays() -> None:
    ours, theirs = os.openpty()
    try:
        device = Path(os.ttyname(theirs))
        before = device.stat()
        message = f"{device}: cannot write: No space left on device; free some space"
        with pytest.raises(CloudTasksError, match=message), output_file(device) as out:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), out.name)
        assert (device.stat().st_mode, device.stat().st_ino) == (before.st_mode, before.st_ino)
    finally:
        os.close(ours)
        os.close(theirs)


def test_output_file_that_is_a_named_pipe_is_read_at_its_other_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write(pipe)
    reader.join(timeout=30)
    assert found == [b"new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_output_file_that_is_a_terminal_is_written_to(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    try:
        write(Path(os.ttyname(theirs)))
        assert os.read(ours, 10) == b"new"
    finally:
        os.close(ours)
        os.close(theirs)


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("create", [bind, os.mkdir, lambda path: path.symlink_to(path)])
def test_output_file_that_cannot_be_opened_is_refused_and_stays(
    tmp_path: Path, create: Callable[[Path], object]
) -> None:
    path = tmp_path / "there"
    create(path)
    before = path.lstat()
    with pytest.raises(InputError, match="there: cannot write: "):
        write(path)
    assert path.lstat().st_ino == before.st_ino
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stream", ["/dev/stdout", "/dev/stderr", "/proc/self/fd/1", "same.txt"])
def test_output_file_that_is_a_standard_stream_continues_that_stream(tmp_path: Path, stream: str) -> None:
    file = tmp_path / "same.txt"
    file.write_bytes(b"before\n")
    program = (
        "import sys\nfrom pathlib import Path\nfrom cloud_tasks.report import output_file\n"
        "with output_file(Path(sys.argv[1])) as out:\n    out.write(b'new\\n')\nprint('after')"
    )
    with file.open("ab") as out:
        subprocess.run([sys.executable, "-c", program, stream], check=True, cwd=tmp_path, stdout=out, stderr=out)
    assert file.read_bytes() == b"before\nnew\nafter\n"
