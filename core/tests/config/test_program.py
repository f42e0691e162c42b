"""The key `run.program`: files and modules, what excludes it, and the job that is named after it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from memory_commands import MemoryCommands

from cloud_tasks.config import ConfigurationError, JobConfig, load_config
from cloud_tasks.config.program import job_name, parse_program
from cloud_tasks.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("find.py", "a b.py", "sub/deep.py", "-odd.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


def load(folder: Path, text: str, **options: Any) -> JobConfig:
    (folder / "config.yml").write_text(f"provider: memory\nrun:\n{text}")
    return load_config(MemoryCommands().registry, file=folder / "config.yml", options=options, environ={})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("find.py", ("find.py",)),
        ("./find.py --depth 3 'a b'", ("find.py", "--depth", "3", "a b")),
        ("'a b.py'", ("a b.py",)),
        ("sub/deep.py", ("sub/deep.py",)),
        ("sub/../find.py", ("find.py",)),
        ("./-odd.py", ("./-odd.py",)),
        ("package.module -x", ("-m", "package.module", "-x")),
    ],
)
def test_program_is_started_in_the_folder_of_the_configuration(folder: Path, text: str, words: tuple[str, ...]) -> None:
    found = parse_program(text, folder=folder, base_dir=folder, where="here")
    assert found.words == words
    assert (found.file is None) == (words[0] == "-m")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("absent.py", "run.program: file not found: "),
        ("sub", None),
        ("sub/", "run.program: file not found: "),
        ("'find.py", "run.program: no closing quotation; quote as in a shell"),
        ("find-craters", 'run.program: "find-craters" is neither a file nor a module'),
        ("../outside.py", " is not below "),
    ],
)
def test_program_that_cannot_run_is_refused(folder: Path, text: str, message: str | None) -> None:
    (folder.parent / "outside.py").write_text("")
    if message is None:
        assert parse_program(text, folder=folder, base_dir=folder, where="here").words == ("-m", "sub")
        return
    with pytest.raises(InputError, match=re.escape(message)):
        parse_program(text, folder=folder, base_dir=folder, where="here")


@pytest.mark.parametrize("other", ["command: echo hi", "startup_script: 'true'", "startup_script_file: find.py"])
def test_program_excludes_other_ways_to_start(folder: Path, other: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, f"  program: find.py\n  {other}\n")
    assert f"run.{other.split(':')[0]}: run.program is also set" in str(caught.value)
    assert "config.yml:3" in str(caught.value)
    assert "config.yml:4" in str(caught.value)


@pytest.mark.parametrize("key", ["requirements: [numpy]", "ship: ['*.py']", "setup: make"])
def test_keys_of_a_program_need_one(folder: Path, key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"only for run\.program and run\.command"):
        load(folder, f"  startup_script: 'true'\n  {key}\n")


def test_job_is_named_after_its_program(folder: Path) -> None:
    assert load(folder, "  program: sub/deep.py\n").run.job_id == "deep"
    assert load(folder, "  program: sub/deep.py\n  job_id: mine\n").run.job_id == "mine"


@given(st.text(min_size=1))
@example("find_craters.py --depth 3")
@example("1st.py")
@example("package.module")
def test_job_name_is_valid_or_absent(text: str) -> None:
    name = job_name(text)
    assert name is None or re.fullmatch("[a-z][-a-z0-9]{0,23}", name)
    assert job_name("a/find_craters.py -x") == "find-craters"
    assert job_name(shlex.quote("package.module")) == "module"
