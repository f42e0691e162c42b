"""The import of a job's program before a run: real processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from shipped_jobs import shipped_job

from cloud_tasks.controller.setup.program_check import check_program
from cloud_tasks.errors import InputError

WORKER = "from cloud_tasks.worker import Worker\nworker = Worker(lambda *_: 1, args=[])\n"


@pytest.mark.parametrize(
    "program",
    [
        f"{WORKER}if __name__ == '__main__':\n    worker.run()\n",
        f"{WORKER}worker.run()\n",
        f"import asyncio\n{WORKER}asyncio.run(worker.start())\n",
        "import sys\nsys.exit(0)\n",
    ],
)
def test_check_program_accepts_a_worker_without_starting_it(
    tmp_path: Path, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_program(shipped_job(tmp_path, program)) == ""


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("x = 1\n1 / 0\n", "work.py:2: ZeroDivisionError: division by zero"),
        ("x = = 1\n", "work.py:1: SyntaxError: invalid syntax"),
        ("import sys\nsys.exit('no data')\n", "work.py:2: it ends when it is imported: no data"),
        ("import missing_one\n", "work.py:1: No module named 'missing_one'; name its package in run.requirements"),
    ],
)
def test_check_program_names_what_is_wrong(
    tmp_path: Path, program: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        check_program(shipped_job(tmp_path, program))
    assert reason in str(caught.value)


def test_check_program_leaves_a_module_to_the_requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requirements.txt").write_text("missing-one\n")
    note = check_program(shipped_job(tmp_path, "import missing_one\n"))
    assert "No module named 'missing_one'; the instances must have it" in note
    # Instances that share this Python need it here.
    commands = shipped_job(tmp_path, "import missing_one\n", compute="memory")
    with pytest.raises(InputError, match=f"install it for {sys.executable}"):
        check_program(commands)


def test_check_program_gives_secrets_to_the_program_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", "SEKRET")
    code = "import os\nassert 'TOKEN' not in os.environ\nassert worker.data.secrets['key'] == 'SEKRET'\n"
    config = shipped_job(tmp_path, WORKER + code, **{"run.secrets": "{key: 'env:TOKEN'}"})
    assert check_program(config, {"key": b"SEKRET"}) == ""
    with pytest.raises(InputError, match="key: no such secret; there are: none"):
        check_program(config)


def test_check_program_has_the_import_path_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "argparse.py").write_text("raise RuntimeError('not that of Python')\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "helper.py").write_text("")
    (tmp_path / "sub" / "find.py").write_text(f"import helper\n{WORKER}")
    (tmp_path / "__main__.py").write_text("")
    assert check_program(shipped_job(tmp_path, **{"run.program": "sub/find.py"})) == ""
    (tmp_path / "argparse.py").unlink()
    assert check_program(shipped_job(tmp_path, WORKER, **{"run.program": "work"})) == ""
