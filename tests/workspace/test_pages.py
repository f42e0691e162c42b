"""What pages of the documentation say of tests, options and figures is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloud_tasks.worker import WorkerData
from cloud_tasks.worker.options import OPTIONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows(name: str, first: str) -> list[tuple[str, str]]:
    """The first two cells of each row below the header row that begins with ``first``."""
    table = read(name).partition(f"\n{first}")[2].partition("\n\n")[0].splitlines()[2:]
    return [(cells[1].strip(), cells[2].strip()) for cells in (row.split("|") for row in table)]


def named_tests() -> list[tuple[str, str]]:
    """File and function of each test that the page on reliability names; ``::name`` is in the file named before it."""
    found, file = [], ""
    for path, test in re.findall(r"`([\w/.]*\.py)?::(test_\w+)`", read("reliability.md")):
        file = path or file
        found.append((file, test))
    return found


@pytest.mark.parametrize(("file", "test"), named_tests())
def test_a_test_that_is_named_exists(file: str, test: str) -> None:
    assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")


def test_every_promise_names_a_test() -> None:
    for section in ("Tasks", "Isolation", "Machines and money", "Input and secrets"):
        text = read("reliability.md").partition(f"## {section}\n")[2].partition("\n## ")[0]
        promises = [row for row in text.splitlines() if row.startswith("| ")][2:]
        assert promises, section
        assert [row for row in promises if "::test_" not in row] == []


def test_every_soak_has_its_row_and_every_row_its_soak() -> None:
    soaks = {path.name for path in (ROOT / "tests/soak").glob("*_soak.py")}
    assert set(re.findall(r"^\| `tests/soak/(\w+\.py)` \|", read("reliability.md"), re.M)) == soaks


def test_the_figures_are_those_of_the_readme() -> None:
    section = read("why.md").partition("## Measured\n")[2].partition("\n## ")[0]
    figures = [line for line in section.splitlines() if line.startswith("| ")][2:]
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert figures
    assert [line for line in figures if line not in readme] == []


def test_the_options_that_keep_working_have_their_variables() -> None:
    table = rows("from_rms_cloud_tasks.md", "| option | variable")
    named = [pair for left, right in table for pair in zip(words(left), words(right), strict=True)]
    known = {(option.flag, option.env) for option in OPTIONS}
    assert len(named) == 28
    assert [pair for pair in named if pair not in known] == []


def test_every_attribute_of_worker_data_that_is_listed_exists() -> None:
    listed = [name for left, _ in rows("writing_a_worker.md", "| attribute |") for name in words(left)]
    there = {*WorkerData.__annotations__, *vars(WorkerData()), *vars(WorkerData)}
    assert [name for name in listed if name not in there] == []
    # Those that only rehearse a notice are explained where they are used.
    rest = {name for name in WorkerData.__annotations__ if name not in listed}
    assert rest == {"simulate_spot_termination_after", "simulate_spot_termination_delay"}


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_every_page_is_in_the_navigation(page: Path) -> None:
    assert page.relative_to(DOCS).as_posix() in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
