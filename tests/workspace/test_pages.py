"""Tests, options, defaults and benchmark results named in the documentation exist in the code."""

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
    """Return the first two cells of each row below the header row that starts with ``first``."""
    table = read(name).partition(f"\n{first}")[2].partition("\n\n")[0].splitlines()[2:]
    return [(cells[1].strip(), cells[2].strip()) for cells in (row.split("|") for row in table)]


def guarantees(section: str) -> list[str]:
    """Return the items of a section of the page on reliability, each with its tests."""
    text = read("reliability.md").partition(f"## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^- \*\*.*\n(?:  .*\n)*", text, re.M)


def named_tests() -> list[tuple[str, str]]:
    """Return file and function of each test named there; functions follow their file."""
    found, file = [], ""
    for word in re.findall(
        r"`([\w/]+\.py|test_\w+)`", "".join(text for section in SECTIONS for text in guarantees(section))
    ):
        if word.endswith(".py"):
            file = word
        else:
            found.append((file, word))
    return found


@pytest.mark.parametrize(("file", "test"), named_tests())
def test_named_test_exists(file: str, test: str) -> None:
    assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("section", SECTIONS)
def test_guarantees_name_a_test(section: str) -> None:
    assert guarantees(section)
    assert [text for text in guarantees(section) if "`test_" not in text] == []


def test_soak_table_lists_the_soak_programs() -> None:
    soaks = {path.name for path in (ROOT / "tests/soak").glob("*_soak.py")}
    assert set(re.findall(r"^\| `tests/soak/(\w+\.py)` \|", read("reliability.md"), re.M)) == soaks


def test_measurements_agree_with_the_readme() -> None:
    section = read("why.md").partition("## Measured\n")[2].partition("\n## ")[0]
    figures = [line for line in section.splitlines() if line.startswith("| ")][2:]
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert figures
    assert [line for line in figures if line not in readme] == []


def test_compatible_options_have_their_variables() -> None:
    table = rows("from_rms_cloud_tasks.md", "| option | variable")
    named = [pair for left, right in table for pair in zip(words(left), words(right), strict=True)]
    known = {(option.flag, option.env) for option in OPTIONS}
    assert len(named) == 28
    assert [pair for pair in named if pair not in known] == []


def test_listed_attributes_of_worker_data_exist() -> None:
    listed = [name for left, _ in rows("writing_a_worker.md", "| attribute |") for name in words(left)]
    there = {*WorkerData.__annotations__, *vars(WorkerData()), *vars(WorkerData)}
    assert [name for name in listed if name not in there] == []
    # The two for simulated notices are described elsewhere.
    rest = {name for name in WorkerData.__annotations__ if name not in listed}
    assert rest == {"simulate_spot_termination_after", "simulate_spot_termination_delay"}


def test_limits_have_the_defaults_of_the_code() -> None:
    table = read("costs_and_safety.md").partition("| key |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    listed = [pair for names, _, defaults in cells for pair in zip(words(names), spread(defaults), strict=False)]
    defaults = {field.name: field.default for field in attrs.fields(RunSettings)}
    assert {name for name, _ in listed} >= {"max_instances", "max_total_cost", "max_losses", "max_lifetime"}
    assert [(name, text) for name, text in listed if text != shown(defaults[name])] == []


def spread(cell: str) -> list[str]:
    """Return the defaults of a cell: one per key, or one for all."""
    return cell.split(", ") if ", " in cell else [cell] * 9


def shown(default: object) -> str:
    if default is None:
        return "none"
    return f"{default.usd:g}" if isinstance(default, Money) else f"{default:g}"


def test_migration_page_names_every_event_type() -> None:
    assert [kind.value for kind in EventType if f"`{kind.value}`" not in read("from_rms_cloud_tasks.md")] == []


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_page_is_in_the_navigation_once(page: Path) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    assert len(re.findall(rf"[-:] {re.escape(page.relative_to(DOCS).as_posix())}$", navigation, re.M)) == 1


def test_decision_index_lists_every_record_with_its_title() -> None:
    records = sorted(file for file in (DOCS / "decisions").glob("*.md") if file.name != "README.md")
    titles = [file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for file in records]
    index = re.findall(r"^- \[(.*)\]\((\S*?)\)", read("decisions/README.md"), re.M)
    assert index == [(title, file.name) for title, file in zip(titles, records, strict=True)]
    assert [file.name for file in records if len(file.read_text(encoding="utf-8").splitlines()) > 40] == []
