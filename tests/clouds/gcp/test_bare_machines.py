"""Programs that are shipped to bare machines of Google Cloud: nothing is installed on them but Debian's own Python."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bare_job_folder import BareJobFolder, bare_job_folder
from cloud_storage import CloudStorage
from shipped_project import PROGRAM, write_project, write_tasks
from uv import find_uv_bin

from cloud_tasks.testing import eventually


def check_complete(job: BareJobFolder, tasks: int) -> None:
    counts = job.commands.status("craters")["counts"]
    assert counts["completed"] == tasks, counts


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


def test_command_runs_on_an_image_that_has_everything_without_downloads(
    bare_job: BareJobFolder, tmp_path: Path, emulator: str, bare_store: CloudStorage, bare_cache: Path
) -> None:
    run: dict[str, Any] = {"program": None, "command": "grep -q Tycho craters.txt", "ship": ["craters.txt"]}
    (bare_job.folder / "craters.txt").write_text("Tycho\n")
    write_tasks(bare_job.folder, 3)
    ran = bare_job.run(**run)
    assert ran.returncode == 0, ran.stderr
    check_complete(bare_job, 3)
    (image,) = bare_job.machines()
    reads = len(bare_store.server.calls)
    with bare_job_folder(
        tmp_path / "second", emulator=emulator, store=bare_store, cache=bare_cache, root=image
    ) as second:
        (second.folder / "craters.txt").write_text("Tycho\n")
        write_tasks(second.folder, 3)
        ran = second.run(environment={"UV_OFFLINE": "1"}, **run)
        assert ran.returncode == 0, ran.stderr
        check_complete(second, 3)
    assert not [path for method, path in bare_store.server.calls[reads:] if path.startswith("/bucket/")]
