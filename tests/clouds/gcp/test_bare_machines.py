"""Programs that are shipped to bare machines of Google Cloud: nothing is installed on them but Debian's own Python."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from bare_job_folder import BareJobFolder
from bare_machine import debian_root
from cloud_storage import CloudStorage
from gcp_job_folder import REFERENCE_OPTIONS
from python_mirror import BUILD, METADATA, python_mirror
from shipped_project import PROGRAM, write_project, write_tasks
from uv import find_uv_bin

from cloud_tasks.testing import eventually


def check_complete(job: BareJobFolder, tasks: int) -> None:
    counts = job.commands.status("craters")["counts"]
    assert counts["completed"] == tasks, counts


READ_SECRETS = """
    assert worker_data.secrets["token"] == "SEKRET-" + "4711"
    folder = os.environ["CLOUD_TASKS_SECRETS_DIR"]
    assert folder.startswith("/run/cloud-tasks-secrets-")
    assert worker_data.secrets["key"] == open(folder + "/key").read() == "SEKRET-" + "4712"
    assert b"SEKRET" not in open("/proc/self/environ", "rb").read()
    return False,"""


def test_program_runs_on_a_bare_machine_with_its_secrets(bare_job: BareJobFolder, bare_store: CloudStorage) -> None:
    write_project(bare_job.folder, tasks=200)
    program = "import os\n" + PROGRAM.replace("\n    return False,", READ_SECRETS)
    (bare_job.folder / "find_craters.py").write_text(program)
    (bare_job.folder / "key").write_text("SEKRET-4712")
    bare_job.commands.environment["OWN_TOKEN"] = "SEKRET-4711"
    ran = bare_job.run(secrets={"token": "env:OWN_TOKEN", "key": "file:key"}, setup='ls "$CLOUD_TASKS_SECRETS_DIR"\n')
    assert ran.returncode == 0, ran.stderr
    assert "Completed: 200" in ran.stdout
    assert "started: download" in ran.stderr
    check_complete(bare_job, 200)
    (machine,) = bare_job.machines()
    (code,) = machine.glob("opt/cloud-tasks/code-*")
    assert not {".env", "key"} & {each.name for each in code.iterdir()}
    # They were in memory only; of a machine that the controller deletes, the link is left.
    assert not list(machine.glob("opt/cloud-tasks/secrets-*")) + list(machine.glob("opt/cloud-tasks/pieces/secrets-*"))
    # The object was read by the instance, and is deleted.
    (name,) = {path for _, path in bare_store.server.calls if path.startswith("/bucket/staging/secrets-")}
    assert [method for method, path in bare_store.server.calls if name.rpartition("/")[2] in path][-1] == "DELETE"
    places = (bare_job.folder, machine, code, machine / "opt/cloud-tasks", bare_job.folder / ".cloud-tasks/craters")
    files = {each for folder in places for each in folder.iterdir() if each.is_file()}
    assert machine / "startup-script" in files
    assert [each.name for each in files if b"SEKRET-471" in each.read_bytes()] == ["key"]


ODD = "a b/find 'craters' $HOME é.py"


@pytest.mark.parametrize("bare_job", ["trixie"], indirect=True)
def test_locked_project_with_odd_names_runs_on_debian_13(bare_job: BareJobFolder) -> None:
    """The program is beside its own package and a uv.lock; a setup line and its options have odd characters."""
    program = bare_job.folder / ODD
    program.parent.mkdir()
    write_project(program.parent, tasks=20)
    (program.parent / "find_craters.py").unlink()
    checked = "assert sys.argv[1:] == ['--depth', '$x y'], sys.argv\n    "
    started = PROGRAM.replace("(process_task)", "(process_task, args=[])")
    program.write_text(started.replace("asyncio.run", f"{checked}asyncio.run"))
    (program.parent / "requirements.txt").unlink()
    (program.parent / "pyproject.toml").write_text(
        '[project]\nname = "craters"\nversion = "1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["humanize>=4", "more-itertools>=10"]\n'
    )
    subprocess.run([find_uv_bin(), "lock", "--quiet"], cwd=program.parent, check=True)
    write_tasks(bare_job.folder, 20)
    ran = bare_job.run(program=f"{shlex.quote(ODD)} --depth '$x y'", setup="echo \"it's $HOME\" >'note é'\numask\n")
    assert ran.returncode == 0, ran.stderr
    check_complete(bare_job, 20)
    (machine,) = bare_job.machines()
    (code,) = machine.glob("opt/cloud-tasks/code-*/")
    assert (code / "note é").read_text() == "it's /root\n"


@pytest.mark.parametrize("bare_job", ["bullseye"], indirect=True)
def test_program_runs_on_debian_11_with_a_python_that_a_mirror_has(bare_job: BareJobFolder, tmp_path: Path) -> None:
    write_project(bare_job.folder, tasks=20)
    mirror = python_mirror(debian_root("bookworm"), tmp_path / "mirror")
    with mirror.serving():
        ran = bare_job.run(environment={METADATA: f"{mirror.url}/list.json"})
    assert ran.returncode == 0, ran.stderr
    check_complete(bare_job, 20)
    assert [path for _, path in mirror.calls if path.endswith(".tar.gz")] == [f"/{BUILD}"]
    exported = bare_job.commands.run("export", "tasks", "--config", "config.yml", "--format", "jsonl")
    results = [json.loads(line)["result"] for line in exported.stdout.splitlines()]
    assert {tuple(each["python"]) for each in results} == {(3, 11)}


def test_module_runs_after_a_controller_was_killed_from_the_same_bundle(
    bare_job: BareJobFolder, tmp_path: Path
) -> None:
    write_project(bare_job.folder, tasks=20)
    shutil.copy(bare_job.folder / "find_craters.py", bare_job.folder / "craters" / "find.py")
    arguments = bare_job.configure(program="craters.find")
    process = bare_job.commands.start("run", *arguments)
    eventually(
        bare_job.commands.log, lambda log: "Started on-demand instance" in log, patience=timedelta(seconds=90), show=str
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    gce = bare_job.commands.gce
    gce.preempt(gce.state()["instances"][0]["name"])
    (bare_job.folder / "craters" / "find.py").write_text("raise SystemExit('changed')\n")
    ran = bare_job.commands.run("run", "--continue", *arguments)
    assert ran.returncode == 0, ran.stderr
    check_complete(bare_job, 20)
    assert len(bare_job.machines()) == 2


def test_job_on_an_image_that_was_built_downloads_only_its_code(bare_job: BareJobFolder) -> None:
    write_project(bare_job.folder, tasks=3)
    config = bare_job.configure(keepalive_startup_timeout=120)[1]
    built = bare_job.commands.run("image", "build", "--config", config, *REFERENCE_OPTIONS)
    assert built.returncode == 0, built.stderr
    image = built.stdout.partition("image: ")[2].strip()
    assert not bare_job.commands.gce.state()["instances"]
    assert bare_job.commands.run("image", "build", "--config", config, *REFERENCE_OPTIONS).stdout == built.stdout
    assert len(bare_job.machines()) == 1
    before = bare_job.downloads()
    ran = bare_job.run(image=image, environment={"UV_OFFLINE": "1"})
    assert ran.returncode == 0, ran.stderr
    check_complete(bare_job, 3)
    (name,) = bare_job.downloads()[len(before) :]
    assert name.startswith("code-")
