"""Sample plugins build, install, pass the contracts and run a job outside this checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "examples" / "plugins"
pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_environment_has_nothing_of_the_checkout(installed: Run, tmp_path: Path) -> None:
    program = "import sys, cloud_tasks, cloud_tasks_redis; print('\\n'.join([*sys.path, cloud_tasks_redis.__file__]))"
    answer = installed("python", "-c", program, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert str(ROOT) not in answer.stdout


def test_plugins_command_lists_the_samples(installed: Run, tmp_path: Path) -> None:
    rows = json.loads(installed("cloud-tasks", "plugins", "--json", cwd=tmp_path).stdout)
    found = {row["name"]: (row["distribution"], row["version"], row["provides"], row["problem"]) for row in rows}
    assert found["redis"] == ("cloud-tasks-redis", "0.1.0", {"queue": ["redis"]}, None)
    assert found["nats"] == ("cloud-tasks-nats", "0.1.0", {"queue": ["nats"]}, None)
    sources = {"task_source": ["toml-grid", "directory"]}
    assert found["parameters"] == ("cloud-tasks-parameters", "0.1.0", sources, None)


def test_plugins_show_lists_the_settings_of_a_sample(installed: Run, tmp_path: Path) -> None:
    shown = installed("cloud-tasks", "plugins", "show", "redis", cwd=tmp_path)
    assert "redis.url  (text; default redis://127.0.0.1:6379/0)" in shown.stdout
    assert "also: --redis-url, CLOUD_TASKS_REDIS_URL, REDIS_URL" in shown.stdout
    assert "secret: never shown or stored; delivered to the workers by the compute backend" in shown.stdout


SERVERS = {"redis_queue": "redis_server", "nats_queue": "nats_server"}
"""Fixture of the server of each sample that has one."""


@pytest.mark.parametrize("sample", ["parameter_sources", *SERVERS])
def test_sample_passes_its_tests(installed: Run, tmp_path: Path, sample: str, request: pytest.FixtureRequest) -> None:
    if sample in SERVERS:
        request.getfixturevalue(SERVERS[sample])  # skips, or fails in CI, where there is no server
    shutil.copytree(SAMPLES / sample / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    answer = installed("python", "-m", "pytest", "-q", "--rootdir", str(tmp_path), "tests", cwd=tmp_path)
    assert answer.returncode == 0, answer.stdout
    assert " passed" in answer.stdout
    assert "skipped" not in answer.stdout


def test_job_runs_with_a_redis_queue_and_tasks_of_a_grid(installed: Run, redis_url: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "parallel_addition" / "worker_addition.py", tmp_path)
    (tmp_path / "sums.grid.toml").write_text(
        "[parameters]\nnum1 = { from = 1, to = 20 }\nnum2 = { from = 1, to = 10 }\n"
    )
    script = (
        'export ADDITION_OUTPUT_DIR="$CLOUD_TASKS_SUBMIT_DIR/results"\n'
        'exec python3 "$CLOUD_TASKS_SUBMIT_DIR/worker_addition.py"\n'
    )
    run = {
        "job_id": "sums",
        "max_cpu": 2,
        "max_instances": 1,
        "scaling_check_interval": 1,
        "instance_termination_delay": 0,
        "max_runtime": 30,
        "startup_script": script,
    }
    # JSON is YAML.
    config = {"queue": "redis", "compute": "local", "pricing": "local", "redis": {"url": redis_url}, "run": run}
    (tmp_path / "config.yml").write_text(json.dumps(config))
    arguments = ("--config", "config.yml", "--task-file", "sums.grid.toml", "--db-file", "sums.db")
    job = installed("cloud-tasks", "run", *arguments, cwd=tmp_path)
    assert job.returncode == 0, job.stderr
    sums = {file.stem: int(file.read_text()) for file in (tmp_path / "results").glob("*.txt")}
    numbers = [(first, second) for first in range(1, 21) for second in range(1, 11)]
    assert sums == {f"run-{place:06d}": first + second for place, (first, second) in enumerate(numbers)}
    status = installed("cloud-tasks", "status", "--db-file", "sums.db", "--json", cwd=tmp_path)
    counts = {name: count for name, count in json.loads(status.stdout)["counts"].items() if count}
    assert counts == {"completed": 200}


PASSWORD = "SEKRET-4711"
PROGRAM = """
import os, subprocess, sys
from pathlib import Path
from cloud_tasks.worker import Worker

def f(task_id, data, worker_data):
    seen = subprocess.run(["env"], capture_output=True, check=True).stdout + read("/proc/self/environ")
    arguments = b"".join(map(read, Path("/proc").glob("[0-9]*/cmdline")))
    return [b"PASSWORD=" in seen, b"SEKRET-" in seen + arguments]

def read(path):
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""

if __name__ == "__main__":
    Worker(f, args=sys.argv[1:], returns="value").run()
"""


def _write_job(folder: Path, url: str, script: str, password: str | None = PASSWORD) -> tuple[str, ...]:
    """Write program, tasks and configuration of a job with a queue on Redis; return its arguments."""
    redis = {"url": url, "prefix": folder.name, **({} if password is None else {"password": password})}
    (folder / "program.py").write_text(PROGRAM)
    return _write_job_of(folder, "redis", redis, script, tasks=6)


def _write_job_of(folder: Path, queue: str, settings: dict[str, str], script: str, *, tasks: int) -> tuple[str, ...]:
    """Write tasks and configuration of a job; return its arguments."""
    (folder / "tasks.json").write_text(json.dumps([{"task_id": f"t{n}", "data": {}} for n in range(tasks)]))
    run = {
        "job_id": "secured",
        "max_cpu": 2,
        "max_instances": 2,
        "scaling_check_interval": 1,
        "instance_termination_delay": 0,
        "max_runtime": 30,
        "startup_script": script,
    }
    config = {"queue": queue, "compute": "local", "pricing": "local", queue: settings, "run": run}
    (folder / "config.yml").touch(0o600)
    (folder / "config.yml").write_text(json.dumps(config))
    return ("--config", "config.yml", "--db-file", "secured.db")


def _holders(folder: Path) -> set[str]:
    """Return the names of the files that contain the password."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name for path in files if b"SEKRET" in path.read_bytes()}


ONE = 'exec python3 "$CLOUD_TASKS_SUBMIT_DIR/program.py"\n'
TWO = 'for _ in 1 2; do python3 "$CLOUD_TASKS_SUBMIT_DIR/program.py" & done\nwait\n'


@pytest.mark.parametrize("script", [ONE, TWO], ids=["one worker", "two workers"])
@pytest.mark.parametrize("variable", [None, "CLOUD_TASKS_REDIS_PASSWORD", "REDIS_PASSWORD"])
def test_job_runs_with_a_password_which_is_in_no_file_and_no_argument(
    installed: Run, secured_redis_url: str, tmp_path: Path, script: str, variable: str | None
) -> None:
    arguments = _write_job(tmp_path, secured_redis_url, script, None if variable else PASSWORD)
    environment = {variable: PASSWORD} if variable else {}
    job = installed("cloud-tasks", "run", *arguments, "--task-file", "tasks.json", cwd=tmp_path, **environment)
    assert job.returncode == 0, job.stderr
    assert 'Secret redis.password: delivered by compute "local", as CLOUD_TASKS_REDIS_PASSWORD' in job.stderr
    assert "SEKRET" not in job.stdout + job.stderr
    events = installed("cloud-tasks", "export", "tasks", "--db-file", "secured.db", "--format", "jsonl", cwd=tmp_path)
    assert [json.loads(line)["result"] for line in events.stdout.splitlines()] == [[False, False]] * 6, events.stderr
    assert _holders(tmp_path) == ({"program.py"} if variable else {"program.py", "config.yml"})


def test_run_with_a_wrong_password_launches_nothing(installed: Run, secured_redis_url: str, tmp_path: Path) -> None:
    arguments = _write_job(tmp_path, secured_redis_url, ONE, "SEKRET-wrong")
    job = installed("cloud-tasks", "run", *arguments, "--task-file", "tasks.json", cwd=tmp_path)
    assert job.returncode == 1
    assert job.stderr.splitlines()[-1].endswith("check redis.username and redis.password")
    assert "SEKRET" not in job.stdout + job.stderr
    assert not (tmp_path / ".cloud-tasks" / "instances").exists()


def test_resumed_run_delivers_the_changed_password(installed: Run, secured_redis_url: str, tmp_path: Path) -> None:
    arguments = _write_job(tmp_path, secured_redis_url, ONE)
    loaded = installed("cloud-tasks", "load-queue", *arguments, "--task-file", "tasks.json", cwd=tmp_path)
    assert loaded.returncode == 0, loaded.stderr
    server = (
        "import redis, sys\n"
        "redis.Redis.from_url(sys.argv[1], password=sys.argv[2]).config_set('requirepass', sys.argv[3])\n"
    )
    changed = f"{PASSWORD}-2"
    assert installed("python", "-c", server, secured_redis_url, PASSWORD, changed, cwd=tmp_path).returncode == 0
    try:
        _write_job(tmp_path, secured_redis_url, ONE, changed)
        job = installed("cloud-tasks", "run", *arguments, "--continue", cwd=tmp_path)
    finally:
        installed("python", "-c", server, secured_redis_url, changed, PASSWORD, cwd=tmp_path)
    assert job.returncode == 0, job.stderr
    assert "  Completed: 6\n" in job.stdout + job.stderr


SHORT_PROGRAM = """
import os, sys
from cloud_tasks.worker import Worker

def f(task_id, data, worker_data):
    return task_id, any("SEKRET" in value for value in os.environ.values())

if __name__ == "__main__":
    Worker(f, args=sys.argv[1:], returns="value").run()
"""


def _arguments() -> bytes:
    """Return the arguments of all processes of this machine."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(file.read_bytes())
    return b"".join(found)


def test_job_on_nats_is_completed_although_controller_and_server_are_killed(
    installed: Run, start: Callable[..., subprocess.Popen[bytes]], nats_server: Any, tmp_path: Path
) -> None:
    settings = {"url": nats_server.url, "username": nats_server.username, "password": nats_server.password}
    arguments = _write_job_of(tmp_path, "nats", settings, ONE, tasks=2000)
    (tmp_path / "program.py").write_text(SHORT_PROGRAM)
    controller = start("cloud-tasks", "run", *arguments, "--task-file", "tasks.json", cwd=tmp_path)
    try:
        while _completed(installed, tmp_path) < 300:
            assert controller.poll() is None, (tmp_path / "cloud-tasks.log").read_text()
        assert b"SEKRET" not in _arguments()
    finally:
        controller.kill()
        controller.wait()
        nats_server.kill()
        nats_server.start()
    job = installed("cloud-tasks", "run", *arguments, "--continue", cwd=tmp_path)
    assert job.returncode == 0, job.stderr
    assert _completed(installed, tmp_path) == 2000
    assert "SEKRET" not in job.stdout + job.stderr
    assert _holders(tmp_path) == {"program.py", "config.yml"}
    exported = installed("cloud-tasks", "export", "tasks", "--db-file", "secured.db", "--format", "jsonl", cwd=tmp_path)
    results = [json.loads(line)["result"] for line in exported.stdout.splitlines()]
    assert sorted(results) == sorted([f"t{number}", False] for number in range(2000))


def _completed(installed: Run, folder: Path) -> int:
    status = installed("cloud-tasks", "status", "--db-file", "secured.db", "--json", cwd=folder)
    return int(json.loads(status.stdout)["counts"].get("completed", 0)) if status.returncode == 0 else 0


def test_directory_source_yields_the_files_of_a_folder(installed: Run, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for name in ("a.fits", "b.fits", "notes.txt"):
        (tmp_path / "scans" / name).write_text(name)
    program = (
        "from cloud_tasks.builtin import open_task_source, validate\n"
        "from cloud_tasks.registry import Registry\n"
        "with open_task_source(Registry(), 'directory:scans') as source:\n"
        "    print(validate(source), [task.task_id for task in source])\n"
    )
    answer = installed("python", "-c", program, cwd=tmp_path)
    assert answer.stdout == "3 ['a.fits', 'b.fits', 'notes.txt']\n", answer.stderr


@pytest.mark.parametrize(("variables", "code", "word"), [({"CI": ""}, 0, "1 skipped"), ({"CI": "true"}, 1, "1 error")])
@pytest.mark.parametrize(("sample", "package"), [("redis_queue", "redis-server"), ("nats_queue", "nats-server")])
def test_sample_without_a_server_is_skipped_or_fails_in_ci(
    installed: Run, tmp_path: Path, sample: str, package: str, variables: dict[str, str], code: int, word: str
) -> None:
    shutil.copytree(SAMPLES / sample / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    command = ("python", "-m", "pytest", "-q", "-rsE", "--rootdir", str(tmp_path), "tests", "-k", "create_is")
    answer = installed(*command, cwd=tmp_path, PATH=str(tmp_path), **variables)
    assert (answer.returncode, f"apt-get install {package}" in answer.stdout) == (code, True), answer.stdout
    assert word in answer.stdout


def test_new_plugin_builds_and_installs(installed: Run, tmp_path: Path) -> None:
    made = installed("cloud-tasks", "plugins", "new", "depot", "--kind", "queue", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "cloud-tasks-depot"
    build = installed("python", "-m", "build", "--wheel", "--no-isolation", "--outdir", ".", str(folder), cwd=tmp_path)
    assert build.returncode == 0, build.stderr
    (wheel,) = tmp_path.glob("cloud_tasks_depot-*.whl")
    target = tmp_path / "site"
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel))
    answer = installed("python", *pip, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    shown = installed("cloud-tasks", "plugins", "show", "depot", cwd=tmp_path, PYTHONPATH=str(target))
    assert shown.stdout.startswith("depot  cloud-tasks-depot 0.1.0\n\nqueue depot: ")
