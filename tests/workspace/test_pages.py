"""What pages of the documentation say of tests, options and figures is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from cloud_tasks.config.run_settings import RunSettings
from cloud_tasks.model import EventType, Money
from cloud_tasks.worker import WorkerData
from cloud_tasks.worker.options import OPTIONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SECTIONS = ("Tasks", "Isolation", "Instances and costs", "Input and secrets")


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows(name: str, first: str) -> list[tuple[str, str]]:
    """The first two cells of each row below the header row that begins with ``first``."""
    table = read(name).partition(f"\n{first}")[2].partition("\n\n")[0].splitlines()[2:]
    return [(cells[1].strip(), cells[2].strip()) for cells in (row.split("|") for row in table)]


def promises(section: str) -> list[str]:
    """The items of a section of the page on reliability, each with what shows it."""
    text = read("reliability.md").partition(f"## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^- \*\*.*\n(?:  .*\n)*", text, re.M)


def named_tests() -> list[tuple[str, str]]:
    """File and function of each test that is named there; the functions stand behind their file."""
    found, file = [], ""
    for word in re.findall(
        r"`([\w/]+\.py|test_\w+)`", "".join(text for section in SECTIONS for text in promises(section))
    ):
        if word.endswith(".py"):
            file = word
        else:
            found.append((file, word))
    return found


@pytest.mark.parametrize(("file", "test"), named_tests())
def test_a_test_that_is_named_exists(file: str, test: str) -> None:
    assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("section", SECTIONS)
def test_every_promise_names_a_test(section: str) -> None:
    assert promises(section)
    assert [promise for promise in promises(section) if "`test_" not in promise] == []


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


def test_the_limits_have_the_defaults_of_the_code() -> None:
    table = read("costs_and_safety.md").partition("| key |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    told = [pair for names, _, defaults in cells for pair in zip(words(names), spread(defaults), strict=False)]
    defaults = {field.name: field.default for field in attrs.fields(RunSettings)}
    assert {name for name, _ in told} >= {"max_instances", "max_total_cost", "max_losses", "max_lifetime"}
    assert [(name, text) for name, text in told if text != shown(defaults[name])] == []


def spread(cell: str) -> list[str]:
    """The defaults of one cell: one for each key, or one for all."""
    return cell.split(", ") if ", " in cell else [cell] * 9


def shown(default: object) -> str:
    if default is None:
        return "none"
    return f"{default.usd:g}" if isinstance(default, Money) else f"{default:g}"


def test_every_kind_of_event_is_told_to_those_who_move() -> None:
    assert [kind.value for kind in EventType if f"`{kind.value}`" not in read("from_rms_cloud_tasks.md")] == []


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_every_page_is_in_the_navigation(page: Path) -> None:
    assert page.relative_to(DOCS).as_posix() in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
