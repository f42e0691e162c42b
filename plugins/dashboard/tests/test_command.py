"""``cloud-tasks dashboard`` started as a process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
from made_jobs import make_job

from cloud_tasks.errors import InputError
from cloud_tasks.registry import Registry
from cloud_tasks_dashboard import command, plugin
from cloud_tasks_dashboard.jobs import Jobs

START = "from cloud_tasks.cli.main import main; main()"


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    line: Sequence[str] = (sys.executable, "-c", START, "dashboard", *arguments)
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_command_is_registered_by_its_hook() -> None:
    registry = Registry()
    registry.register("dashboard", plugin)
    found = [descriptor for _, descriptor in registry.all("command") if descriptor.name == "dashboard"]
    assert {descriptor.target for descriptor in found} == {"cloud_tasks_dashboard.command:dashboard"}
    assert command.dashboard.name == "dashboard"


def test_plugin_module_imports_no_server() -> None:
    code = (
        "import sys, cloud_tasks_dashboard.plugin as p; p.cloud_tasks_register_command(); "
        "print([name for name in ('starlette', 'uvicorn', 'cloud_tasks_dashboard.command') if name in sys.modules])"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_command_prints_the_url_serves_the_page_and_exits_on_a_signal(tmp_path: Path, ending: signal.Signals) -> None:
    make_job(tmp_path, ["a"])
    line = (sys.executable, "-c", START, "dashboard", "--no-open")
    with subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        killer = threading.Timer(60, process.kill)
        killer.start()
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("Dashboard: ").strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{43}/", address)
        with urllib.request.urlopen(address, timeout=30) as page:
            assert b"<title>cloud-tasks</title>" in page.read()
        process.send_signal(ending)
        out, err = process.communicate(timeout=30)
        killer.cancel()
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert address not in err


PROGRAM = """
import sys, threading
from cloud_tasks_dashboard.jobs import Jobs
def listing(self):
    print("reading", flush=True)
    threading.Event().wait()
Jobs.listing = listing if "stalled" in sys.argv else Jobs.listing
from cloud_tasks.cli.main import main
main(["dashboard", "--no-open"])
"""


def ask(address: str) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException), urllib.request.urlopen(address, timeout=30):
        pass


@pytest.mark.parametrize("way", ["pipe", "stalled"])
def test_command_ends_at_once_although_a_file_of_the_folder_cannot_be_read(tmp_path: Path, way: str) -> None:
    make_job(tmp_path, ["a"])
    os.mkfifo(tmp_path / "x.db")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket.db"))
    line = (sys.executable, "-c", PROGRAM, way)
    with subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        killer = threading.Timer(60, process.kill)
        killer.start()
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("Dashboard: ").strip()
        if way == "pipe":
            with urllib.request.urlopen(f"{address}api/jobs", timeout=30) as listing:
                assert [job["name"] for job in json.load(listing)["jobs"]] == ["job.db"]
        else:
            threading.Thread(target=ask, args=(f"{address}api/jobs",), daemon=True).start()
            assert process.stdout.readline() == "reading\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        killer.cancel()
    assert process.returncode == 0, err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["x.db", "socket.db"])
def test_database_that_is_no_regular_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "x.db")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket.db"))
    done = run("--db-file", name, folder=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        f"Error: {name}: not a job database of cloud-tasks; check --db-file\n",
    )


def test_port_in_use_is_reported_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("--port", str(taken.getsockname()[1]), folder=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(
        r"Error: --port: port \d+ is not available: [^;\n]+; use --port 0 for any free port\n", done.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--port", "70000"), "70000 is not in the range"),
        (("--port", "x"), "not a valid integer"),
        (("--folder", "nowhere"), "does not exist"),
        (("--folder", "file.txt"), "is a file"),
        (("--db-file", "nowhere.db"), "job database nowhere.db not found in "),
        (("--db-file", "file.txt"), "not a job database of cloud-tasks; check --db-file"),
        (("--db-file", "damaged.db"), "damaged.db: the job database is damaged: the table tasks is missing; restore"),
        (("--db-file", "job.db", "--folder", "."), "--folder and --db-file exclude each other; use one of them"),
        (("--config", "file.txt", "--folder", "."), "--folder and --config exclude each other; use one of them"),
        (("--config", "nowhere.yml"), "does not exist"),
        (("--host", "0.0.0.0"), "No such option"),
        (("--allow-changes",), "No such option"),
        (("extra",), "unexpected extra argument"),
    ],
)
def test_invalid_options_are_reported_in_one_line_with_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    make_job(tmp_path, ["a"])
    (tmp_path / "file.txt").write_text("text")
    damaged = make_job(tmp_path, ["a"], name="damaged.db")
    with contextlib.closing(sqlite3.connect(damaged, isolation_level=None)) as connection:
        connection.execute("DROP TABLE tasks")
    done = run(*arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said.lower() in done.stderr.lower()
    assert done.stderr.count("\n") == 1


def test_browser_opens_a_private_file_instead_of_the_secret_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_browser(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr(command, "_open", open_browser)
    with command._browser("http://127.0.0.1:1/secret/"):
        (place,) = opened
        file = Path(place.removeprefix("file://"))
        assert "secret" not in place
        assert "http://127.0.0.1:1/secret/" in file.read_text()
        assert os.stat(file).st_mode & 0o077 == 0
        assert os.stat(file.parent).st_mode & 0o077 == 0
    assert not file.exists()


def test_help_shows_examples(tmp_path: Path) -> None:
    done = run("--help", folder=tmp_path)
    assert done.returncode == 0
    assert "cloud-tasks dashboard --db-file sums.db" in done.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run:\n  db_file: dbs/ee.db\n", "dbs/ee.db"),
        ("run:\n  db_file: ./job.db\n", "job.db"),
        ("run:\n  db_file: 3\n", None),
        ("run:\n  job_id: ee\n", None),
        ("run: [1]\n", None),
        ("text", None),
        ("", None),
    ],
)
def test_database_of_a_configuration_is_relative_to_its_folder(tmp_path: Path, text: str, expected: str | None) -> None:
    (tmp_path / "e.yml").write_text(text)
    assert command.configured_database(tmp_path / "e.yml") == (None if expected is None else tmp_path / expected)


@pytest.mark.parametrize("content", [b"run: {db_file: [", b"\xff\xfe\x00secret", b"run: !!python/name:os.system x"])
def test_configuration_that_is_not_yaml_is_one_line_without_its_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "e.yml").write_bytes(content)
    with pytest.raises(InputError, match=r"^[^\n]*e\.yml: cannot read the configuration: it is not valid YAML$"):
        command.configured_database(tmp_path / "e.yml")


def test_database_of_a_configuration_is_listed_with_those_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "dbs").mkdir()
    make_job(tmp_path, ["a"], job_id="beside")
    other = make_job(tmp_path / "dbs", ["a"], job_id="named")
    for also, names in (
        (None, {"job.db": "beside"}),
        (tmp_path / "dbs" / ".." / "job.db", {"job.db": "beside"}),
        (tmp_path / "later.db", {"job.db": "beside"}),
        (other, {"job.db": "beside", "job.db in dbs": "named"}),
    ):
        jobs = Jobs(tmp_path, also=also)
        assert {each["name"]: each["job_id"] for each in jobs.listing()} == names
    assert Jobs(tmp_path, also=other).watch("job.db in dbs") is not None
