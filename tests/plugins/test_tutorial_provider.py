"""The provider of ``docs/plugins/tutorial_provider.md`` is built from the page: it passes the conformance kit and runs
a job whose controller is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest
from markdown_blocks import blocks_of

from cloud_tasks.errors import StoreError
from cloud_tasks.store import connect_reader

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "plugins" / "tutorial_provider.md"
SERVER = ROOT / "examples" / "plugins" / "toy_cloud" / "toy_cloud.py"
CLI = "from cloud_tasks.cli.main import main; main()"
TOKEN = "secret"
TASKS = 200
OPTIONAL = "src/cloud_tasks_toycloud/staging.py"
ADDED = (OPTIONAL, "tests/test_staging_conformance.py")
"""Files that the skeleton does not have."""


@attrs.frozen
class Tutorial:
    """The folder in which a reader has followed the page."""

    folder: Path
    environment: dict[str, str]

    def call(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd or self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    @property
    def distribution(self) -> Path:
        return self.folder / "cloud-tasks-toycloud"


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Tutorial:
    """The skeleton of step 1 with the files of the page, as if it was installed in editable form."""
    folder = tmp_path_factory.mktemp("tutorial")
    paths = [str(folder / "cloud-tasks-toycloud" / "src"), str(folder / "site"), os.environ.get("PYTHONPATH", "")]
    tutorial = Tutorial(folder, {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))})
    (words,) = [line.split()[1:] for line in PAGE.read_text("utf-8").splitlines() if " plugins new " in line]
    made = tutorial.call("-c", CLI, *words)
    assert made.returncode == 0, made.stderr
    for block in blocks_of(ROOT, PAGE):
        if block.file:
            name = block.file if "/" not in block.file else f"cloud-tasks-toycloud/{block.file}"
            assert "/" not in block.file or block.file in ADDED or (folder / name).exists(), block.file
            (folder / name).write_text(block.text + "\n", encoding="utf-8")
    shutil.copy(SERVER, tutorial.distribution / "tests")
    metadata = folder / "site" / "cloud_tasks_toycloud-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: cloud-tasks-toycloud\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[cloud_tasks]\ntoycloud = cloud_tasks_toycloud.plugin\n")
    return tutorial


@pytest.fixture
def url(tutorial: Tutorial) -> Iterator[str]:
    """Address of a toy cloud, ended with its machines."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # In a session of its own, as a server elsewhere: signals to the controller do not reach it.
    server = subprocess.Popen(
        [sys.executable, str(SERVER), "--port", str(port), "--token", TOKEN],
        env=tutorial.environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert server.stderr is not None
    assert "toy cloud at" in server.stderr.readline()
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(timeout=30)
    server.stderr.close()


def test_provider_has_at_most_300_lines_of_code() -> None:
    files = [block for block in blocks_of(ROOT, PAGE) if (block.file or "").startswith("src/")]
    texts = [block.text for block in files if block.file != OPTIONAL]
    code = [line for text in texts for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    imports = re.findall(r"^(?:from|import) .*?(?:\)$|[^(]$)", "\n".join(texts), re.S | re.M)
    assert len(code) - sum(text.count("\n") + 1 for text in imports) <= 300


def test_provider_satisfies_type_checker_and_linter(tutorial: Tutorial) -> None:
    folder = tutorial.distribution
    own = {**tutorial.environment, "MYPYPATH": f"{folder / 'src'}{os.pathsep}{folder / 'tests'}"}
    for command in (["ruff", "check", "--no-cache", "src", "tests"], ["mypy", "--cache-dir", str(folder / "cache")]):
        answer = attrs.evolve(tutorial, environment=own).call("-m", *command, cwd=folder)
        assert answer.returncode == 0, answer.stdout + answer.stderr


def test_provider_passes_the_conformance_kit(tutorial: Tutorial) -> None:
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tutorial.distribution), "tests")
    answer = tutorial.call(*command, cwd=tutorial.distribution)
    assert answer.returncode == 0, answer.stdout[-4000:]
    assert "skipped" not in answer.stdout


def test_doctor_shows_the_checks_of_the_provider(tutorial: Tutorial, url: str) -> None:
    arguments = ("doctor", "--provider", "toycloud", "--set", f"toycloud.url={url}")
    answer = with_token(tutorial, TOKEN).call("-c", CLI, *arguments)
    assert "account of alice" in answer.stdout
    assert "0 of 12 machines are used" in answer.stdout
    answer = with_token(tutorial, "wrong").call("-c", CLI, *arguments)
    assert answer.returncode == 1
    assert "the token is unknown" in answer.stdout
    assert "machines are used" not in answer.stdout


def test_job_on_the_provider_survives_a_killed_controller(tutorial: Tutorial, url: str) -> None:
    reader = with_token(tutorial, TOKEN)
    tasks = [{"id": f"task-{number:03d}", "data": {"number": number}} for number in range(TASKS)]
    (tutorial.folder / "tasks.json").write_text(json.dumps(tasks))
    config = tutorial.folder / "config.yml"
    # The page's machines find `python3` in the reader's environment; these have another one, without installation.
    script = (
        f'export PATH="{Path(sys.executable).parent}:$PATH" PYTHONPATH="{tutorial.environment["PYTHONPATH"]}"\n'
        f'    exec python3 "{tutorial.folder}/program.py"\n'
    )
    text = re.sub(r"(?<=startup_script: \|\n    ).*", lambda _: script, config.read_text(), flags=re.S)
    config.write_text(text.replace("http://127.0.0.1:8080", url))
    run = ("-c", CLI, "run", "--config", "config.yml", "--db-file", "squares.db")
    controller = subprocess.Popen(
        [sys.executable, *run, "--task-file", "tasks.json"],
        cwd=tutorial.folder,
        env=reader.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: (controller.poll() is not None) or 5 <= completed(reader) < TASKS)
    finally:
        controller.send_signal(signal.SIGKILL)
        _, errors = controller.communicate()
    assert 5 <= completed(reader) < TASKS, errors
    resumed = reader.call(*run, "--continue")
    assert resumed.returncode == 0, resumed.stderr
    exported = reader.call("-c", CLI, "export", "tasks", "--db-file", "squares.db", "--format", "jsonl").stdout
    rows = [json.loads(line) for line in exported.splitlines()]
    assert {row["task_id"]: row["result"] for row in rows} == {
        task["id"]: int(str(task["id"])[5:]) ** 2 for task in tasks
    }
    listed = reader.call("-c", CLI, "list-running-instances", "--config", "config.yml", "--json")
    assert json.loads(listed.stdout) == [], "instances are left"
    assert TOKEN not in config.read_text()


def with_token(tutorial: Tutorial, token: str) -> Tutorial:
    return attrs.evolve(tutorial, environment={**tutorial.environment, "TOYCLOUD_TOKEN": token})


def completed(tutorial: Tutorial) -> int:
    """Return the number of completed tasks in the database; 0 before it exists."""
    try:
        with closing(connect_reader(tutorial.folder / "squares.db")) as reader:
            return int(reader.execute("SELECT count(*) FROM attempts WHERE outcome IS NOT NULL").fetchone()[0])
    except (StoreError, sqlite3.Error):
        return 0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "not within 120 s"
        time.sleep(0.05)
