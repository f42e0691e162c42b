"""The start of an instance: a real shell, real archives and a real uv, below a folder that stands for the root."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cloud_tasks.shipping import PREPARED, START_FAILED, DownloadedPiece, boot_program, pack_secrets

uv = pytest.importorskip("uv", reason="pip install uv")

MACHINE = platform.machine()


class Depot:
    """A staging folder, a root folder, and the program that an instance runs.

    The environment holds no worker: a wheel stands for it, so that a start takes a second.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.staging = folder / "staging"
        self.staging.mkdir()
        self.root.mkdir()

    def put(self, name: str, content: bytes) -> DownloadedPiece:
        (self.staging / name).write_bytes(content)
        lines = (f'cp {self.staging / name} "$1"',)
        return DownloadedPiece(name=name, sha256=hashlib.sha256(content).hexdigest(), lines=lines)

    def script(self, code: Mapping[str, str], program: Sequence[str], **options: Any) -> str:
        files = {"worker.txt": "", "requirements.txt": options.pop("requirements", "")}
        environment = self.put("environment-e1.tar.gz", archive(files, wheels=[worker_wheel()]))
        # The installed program, without a copy of its 40 MB.
        runner = f'#!/bin/sh\nexec {uv.find_uv_bin()} "$@"\n'
        return boot_program(
            code=self.put("code-c1.tar.gz", archive(code)),
            environment=environment,
            uv={MACHINE: self.put("uv-u1.gz", gzip.compress(options.pop("uv", runner).encode()))},
            program=program,
            **options,
        )

    def seal(self, files: Mapping[str, bytes], worker: Mapping[str, str]) -> tuple[DownloadedPiece, str]:
        """Put sealed secrets into the staging; return the argument of `boot_program`."""
        sealed, key = pack_secrets(files, worker)
        return self.put("secrets-s1", sealed), f"ct_key={key.hex()}"

    def run(self, script: str, **environment: str) -> tuple[int, str]:
        # As a cloud runs it: from a file, so that no argument has the script.
        (self.folder / "start").write_text(script)
        done = subprocess.run(
            ["sh", str(self.folder / "start")],
            env={
                "PATH": os.environ["PATH"],
                "CLOUD_TASKS_BOOT_ROOT": str(self.root),
                "CLOUD_TASKS_POWER_OFF_COMMAND": f"echo off >>{self.root}/power",
                "UV_PYTHON_DOWNLOADS": "never",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def is_off(self) -> bool:
        return (self.root / "power").exists()


def archive(files: Mapping[str, str], wheels: Sequence[tuple[str, bytes]] = ()) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as out:
        contents = {name: text.encode() for name, text in files.items()}
        contents |= {f"wheels/{name}": content for name, content in wheels}
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def worker_wheel() -> tuple[str, bytes]:
    """Return a wheel with the modules of the worker that the start uses; the event goes to a file."""
    import zipfile

    import cloud_tasks.sealing

    worker = Path(cloud_tasks.sealing.__file__).parent / "worker"
    failed = "import os, sys\nopen(os.environ['EVENTS'], 'a').write(': '.join(sys.argv[1:]) + '\\n')\n"
    files = {
        "cloud_tasks/__init__.py": "",
        "cloud_tasks/worker/__init__.py": "",
        "cloud_tasks/worker/worker.py": "class Worker: pass\n",
        "cloud_tasks/sealing.py": Path(cloud_tasks.sealing.__file__).read_text(),
        "cloud_tasks/worker/import_check.py": (worker / "import_check.py").read_text(),
        "cloud_tasks/worker/unseal.py": (worker / "unseal.py").read_text(),
        "cloud_tasks/worker/failed_start.py": failed,
        "cloud_tasks-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: cloud-tasks\nVersion: 1\n",
        "cloud_tasks-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files["cloud_tasks-1.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files)
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as out:
        for name, text in files.items():
            out.writestr(name, text)
    return "cloud_tasks-1-py3-none-any.whl", raw.getvalue()


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    return Depot(tmp_path)


STARTED = "import os\nopen(os.environ['CLOUD_TASKS_STARTED_FILE'], 'w')\n"
HELLO = f"{STARTED}import sys\nprint('ran', sys.argv[1:], os.path.basename(os.getcwd()), sys.prefix)\n"


def test_boot_program_runs_the_program_in_its_environment_and_folder(depot: Depot) -> None:
    script = depot.script({"hello.py": HELLO}, ["python", "hello.py", "a b", "$x'"], setup="echo prepared >note")
    code, output = depot.run(script)
    assert code == 0, output
    assert f"""ran ['a b', "$x'"] code-c1 {depot.root}/opt/cloud-tasks/env-e1""" in output
    assert (depot.root / "opt/cloud-tasks/code-c1/note").read_text() == "prepared\n"
    assert not depot.is_off


def test_second_run_downloads_and_installs_nothing(depot: Depot) -> None:
    script = depot.script({"hello.py": HELLO}, ["python", "hello.py"])
    assert depot.run(script)[0] == 0
    for file in depot.staging.iterdir():
        file.unlink()
    code, output = depot.run(script, UV_OFFLINE="1")
    assert code == 0, output


@pytest.mark.parametrize(
    "kept", ["pieces/code-c1.tar.gz.part", "code-c1.tar.gz.part", "env-e1", "code-c1.part", "uv-u1.part"]
)
def test_start_that_was_interrupted_is_completed(depot: Depot, kept: str) -> None:
    left = depot.root / "opt/cloud-tasks" / kept
    left.parent.mkdir(parents=True)
    if kept.startswith(("env", "code-c1.part")):
        (left / "bin").mkdir(parents=True)
        (left / "bin" / "python").write_text("#!/bin/false\n")
    else:
        left.write_text("half of it")
    code, output = depot.run(depot.script({"hello.py": HELLO}, ["python", "hello.py"]))
    assert code == 0, output


class Failure:
    """How a start fails: changes of a start that succeeds, and the reason that is reported."""

    def __init__(self, reason: str, *, is_event: bool = True, **changes: Any) -> None:
        self.reason = reason
        self.is_event = is_event
        self.changes = changes


FAILURES = {
    "store": Failure("download: code-c1.tar.gz: 403 AccessDenied", is_event=False, without="code-c1.tar.gz"),
    "hash": Failure(
        "download: environment-e1.tar.gz: the SHA-256 is ", is_event=False, altered="environment-e1.tar.gz"
    ),
    "python": Failure(
        "environment: no Python 3.11 or later: ", is_event=False, env={"UV_PYTHON_PREFERENCE": "only-managed"}
    ),
    "uv": Failure("environment: uv does not run here: ", is_event=False, uv="#!/no/such/loader\n"),
    "requirement": Failure("requirements: ", requirements="foo==9 --hash=sha256:" + "0" * 64),
    "setup": Failure(
        r"setup: no data in C:\new\craters", setup="printf '%s' 'no data in C:\\new\\craters' >&2\nfalse\necho never\n"
    ),
    "module": Failure("program: hello.py:1: No module named 'missing_one'", code="import missing_one\n"),
    "syntax": Failure("program: hello.py:2: SyntaxError: ", code="x = 1\nx = = 2\n"),
    "error": Failure("program: hello.py:1: ZeroDivisionError: division by zero", code="1 / 0\n"),
    "file": Failure("program: absent.py: FileNotFoundError", program=["python", "absent.py"]),
    "exit": Failure(
        "program: hello.py:3: it ends with exit code 2 before its worker starts: hello.py: error: unrecognized",
        code="import argparse\nif __name__ == '__main__':\n argparse.ArgumentParser().parse_args()\n",
        program=["python", "hello.py", "--depth"],
    ),
    "message": Failure(
        "program: hello.py:3: it ends before its worker starts: no telescope",
        code="import sys\nif __name__ == '__main__':\n sys.exit('no telescope')\n",
    ),
    "return": Failure("program: it ended with exit code 0 before its worker started", code="print('done')\n"),
    "command": Failure("program: it ended with exit code 3 before its worker started", program=["sh", "-c", "exit 3"]),
    "space": Failure(
        "download: the disk is full: code-c1.tar.gz: No space left",
        is_event=False,
        without="code-c1.tar.gz",
        message="No space left on device",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failed_start_is_named_and_ends_the_instance(depot: Depot, name: str) -> None:
    failure = FAILURES[name]
    changes = dict(failure.changes)
    environment = {"EVENTS": str(depot.root / "events"), **changes.pop("env", {})}
    message = changes.pop("message", "403 AccessDenied")
    missing, altered = changes.pop("without", None), changes.pop("altered", None)
    files = {"hello.py": changes.pop("code", HELLO)}
    script = depot.script(files, changes.pop("program", ["python", "hello.py"]), **changes)
    if missing:
        script = script.replace(f'cp {depot.staging / missing} "$1"', f"echo {message}; false")
    if altered:
        (depot.staging / altered).write_bytes(b"other")
    code, output = depot.run(script, **environment)
    last = output.splitlines()[-1]
    assert last.startswith(f"{START_FAILED}{failure.reason}"), output
    assert code == 1
    assert depot.is_off
    events = depot.root / "events"
    assert events.exists() == failure.is_event
    if failure.is_event:
        assert START_FAILED + events.read_text().strip() == last


def test_exit_code_of_a_program_whose_worker_started_is_the_scripts(depot: Depot) -> None:
    started = f"{STARTED}print(os.environ['CLOUD_TASKS_START_STEPS'])\n"
    code, output = depot.run(depot.script({"hello.py": f"{started}raise SystemExit(3)\n"}, ["python", "hello.py"]))
    assert code == 3
    assert START_FAILED not in output
    names = [word.partition("=")[0] for word in output.split()]
    assert names == ["download", "environment", "requirements"]
    assert not depot.is_off


SECRETS = f"""{STARTED}import glob, json
folder, worker = os.environ['CLOUD_TASKS_SECRETS_DIR'], os.environ['CLOUD_TASKS_WORKER_SECRETS']
def read(path):
    with open(path, 'rb') as file:
        return file.read()
def seen(pid):
    try:
        return read(f'/proc/{{pid}}/environ') + read(f'/proc/{{pid}}/cmdline')
    except OSError:
        return b''
files = {{name: read(f'{{folder}}/{{name}}').hex() for name in os.listdir(folder)}}
print(json.dumps([os.path.dirname(folder), files, json.loads(read(worker))]))
modes = [os.stat(each).st_mode & 0o777 for each in (os.path.dirname(folder), folder, f'{{folder}}/token', worker)]
assert modes == [0o700, 0o700, 0o600, 0o600], modes
assert os.path.isfile('setup-token')
# The marks are split, so that this program does not have them.
marks = [b'SEKRET' + b'-4711', b'SEKRET' + b'-4712', read(f'{{os.environ["DEPOT"]}}/key')]
found = [pid for pid in os.listdir('/proc') if pid.isdigit() and any(mark in seen(pid) for mark in marks)]
assert not found, found
"""
SETUP = """cmp "$CLOUD_TASKS_SECRETS_DIR/token" - <<END && touch setup-token
$EXPECTED
END
! env | grep CLOUD_TASKS_WORKER_SECRETS
"""


def test_secrets_are_private_files_while_the_program_runs(depot: Depot) -> None:
    files = {"token": b"SEKRET-4711\n", "key.bin": bytes(range(256)) * 200}
    secrets = depot.seal(files, {"CLOUD_TASKS_REDIS_PASSWORD": "SEKRET-4712"})
    (depot.folder / "key").write_text(secrets[1].removeprefix("ct_key="))
    setup = SETUP.replace("$EXPECTED", "$(printf 'SEKRET-47%s' 11)")
    script = depot.script({"show.py": SECRETS}, ["python", "show.py"], secrets=secrets, setup=setup)
    left = depot.folder / "left"
    left.mkdir()
    (depot.root / "opt/cloud-tasks").mkdir(parents=True)
    (depot.root / "opt/cloud-tasks/secrets").symlink_to(left)
    code, output = depot.run(script, DEPOT=str(depot.folder))
    assert code == 0, output
    folder, found, worker = json.loads(output.splitlines()[-1])
    assert found == {name: content.hex() for name, content in files.items()}
    assert worker == {"CLOUD_TASKS_REDIS_PASSWORD": "SEKRET-4712"}
    assert not left.exists()
    assert not Path(folder).exists()
    assert not any(b"SEKRET-471" in each.read_bytes() for each in depot.root.rglob("*") if each.is_file())
    # In memory, where the system has it; the root folder of this machine is another one.
    in_memory = any(
        line.split()[1:3] == ["/dev/shm", "tmpfs"] for line in Path("/proc/mounts").read_text().splitlines()
    )
    assert Path(folder).is_relative_to(depot.root) != in_memory
    # Of another key, the reason is named, and not the text.
    wrong = script.replace("ct_key=", "ct_key=00")
    code, output = depot.run(wrong, EVENTS=str(depot.root / "events"))
    assert f"{START_FAILED}environment: secrets: sealed with another key" in output


def test_instance_of_an_image_installs_everything_and_keeps_no_startup_script(depot: Depot) -> None:
    (depot.root / "etc").mkdir()
    (depot.root / "etc" / "machine-id").write_text("0123\n")
    kept = ("cloud/instances/i-1/user-data.txt", "waagent/CustomData", "systemd/random-seed", "cloud/data/instance-id")
    for name in kept:
        file = depot.root / "var" / "lib" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("secret")
    script = depot.script({"main.py": "open('started', 'w')"}, ("python", "main.py"), prepares="image-1")
    (depot.folder / "sleep").write_text("#!/bin/sh\n")
    (depot.folder / "sleep").chmod(0o755)
    code, out = depot.run(script, PATH=f"{depot.folder}:{os.environ['PATH']}")
    assert (code, out.splitlines()[-1]) == (0, f"{PREPARED}image-1")
    assert f"{PREPARED}image-1" not in script
    assert [name for name in kept if (depot.root / "var" / "lib" / name).exists()] == ["cloud/data/instance-id"]
    assert (depot.root / "etc" / "machine-id").read_text() == ""
    assert list(depot.root.glob("opt/cloud-tasks/env-*/requirements-installed"))
    assert not list(depot.root.rglob("started"))
