"""Requirements of a program: given, or found beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_tasks.errors import InputError
from cloud_tasks.shipping.requirements import Requirements, find_requirements

SCRIPT = """#!/usr/bin/env python3
# /// script
# requires-python = ">=3.12"
# dependencies = [
#   "numpy<3",
#   "rich",
# ]
# ///
import numpy
"""


def write(folder: Path, **files: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def found(folder: Path, program: Path | None = None) -> str | None:
    requirements = find_requirements(folder, program)
    return None if requirements is None or requirements.file is None else str(requirements.file.relative_to(folder))


def test_find_requirements_takes_the_first_that_exists(tmp_path: Path) -> None:
    assert find_requirements(tmp_path) is None
    write(tmp_path, pyproject__toml="[tool.ruff]\nline-length = 100\n")
    assert found(tmp_path) is None
    write(tmp_path, pyproject__toml='[project]\nname = "x"\nrequires-python = ">=3.13"\n')
    assert found(tmp_path) == "pyproject.toml"
    write(tmp_path, uv__lock="")
    assert found(tmp_path) == "uv.lock"
    requirements = find_requirements(tmp_path)
    assert requirements is not None
    assert requirements.python == ">=3.13"
    write(tmp_path, requirements__txt="")
    assert found(tmp_path) == "requirements.txt"
    write(tmp_path / "sub", uv__lock="", run__py="")
    assert found(tmp_path, tmp_path / "sub" / "run.py") == "sub/uv.lock"
    assert found(tmp_path, tmp_path / "sub" / "absent.py") == "sub/uv.lock"


def test_find_requirements_reads_the_metadata_block_of_the_program_first(tmp_path: Path) -> None:
    write(tmp_path, requirements__txt="", run__py=SCRIPT)
    requirements = find_requirements(tmp_path, tmp_path / "run.py")
    assert requirements is not None
    assert (requirements.lines, requirements.file) == (("numpy<3", "rich"), None)
    assert (requirements.folder, requirements.python) == (tmp_path, ">=3.12")
    assert requirements.where == f"{tmp_path}/run.py:2"


@pytest.mark.parametrize(
    ("block", "message"),
    [("dependencies = [", "invalid metadata block: "), ("dependencies = 7", "dependencies must be a list of texts")],
)
def test_find_requirements_refuses_an_invalid_metadata_block(tmp_path: Path, block: str, message: str) -> None:
    (tmp_path / "run.py").write_text(f"\n\n# /// script\n# {block}\n# ///\n")
    with pytest.raises(InputError, match=message) as caught:
        find_requirements(tmp_path, tmp_path / "run.py")
    assert caught.value.where == f"{tmp_path}/run.py:3"


def test_find_requirements_refuses_an_invalid_pyproject(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project\n")
    with pytest.raises(InputError, match=r"pyproject\.toml: invalid TOML: .*line 1"):
        find_requirements(tmp_path)


def test_requirements_of_an_absent_file_name_the_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.yml: run\.requirements: no requirements file .*/gone\.txt"):
        Requirements.from_file(tmp_path / "gone.txt", where="config.yml: run.requirements")


def test_requirements_files_and_options_are_those_of_included_files_as_well(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "all.txt").write_text("-r deep/a.txt # why\n--constraint=limits.txt\n-r gone.txt\n-r https://x/y.txt\n")
    (tmp_path / "deep" / "a.txt").write_text("--requirement b.txt\n--extra-index-url https://one/simple  # second\n")
    (tmp_path / "deep" / "b.txt").write_text("-r ../all.txt\n-i https://two/simple\nfoo\n")
    (tmp_path / "limits.txt").write_text("foo<2\n")
    requirements = Requirements.from_file(tmp_path / "all.txt")
    names = [str(file.resolve().relative_to(tmp_path)) for file in requirements.files()]
    assert set(names) == {"all.txt", "deep/a.txt", "deep/b.txt", "limits.txt"}
    assert set(requirements.index_options()) == {"--extra-index-url https://one/simple", "-i https://two/simple"}
    listed = Requirements.from_lines(["-r all.txt", "--no-index"], folder=tmp_path, where="")
    assert {"all.txt", "limits.txt"} < {file.name for file in listed.files()} | {"all.txt"}
    assert "--no-index" in listed.index_options()
