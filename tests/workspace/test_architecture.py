"""The architecture and package pages describe the folders, layers and exports of the code."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "src" / "cloud_tasks"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = (ROOT / "docs" / "packages.md").read_text(encoding="utf-8")


def contracts() -> list[dict[str, Any]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = settings["tool"]["importlinter"]["contracts"]
    return found


def package_folders() -> set[str]:
    return {file.parent.relative_to(CORE).as_posix() for file in CORE.rglob("__init__.py")} - {"."}


def top_level() -> set[str]:
    modules = {file.stem for file in CORE.glob("*.py")} - {"__init__"}
    return modules | {name for name in package_folders() if "/" not in name}


def reading_list() -> list[tuple[list[str], list[str]]]:
    """Return the modules and the names of each line of the table of beginnings."""
    table = ARCHITECTURE.partition("| what | module | name |")[2].partition("\n\n")[0]
    cells = [line.split("|") for line in table.splitlines()[2:]]
    return [(re.findall(r"`([^`]+)`", row[2]), re.findall(r"`([^`]+)`", row[3])) for row in cells]


def test_names_of_the_reading_list_exist() -> None:
    assert len(reading_list()) > 10
    for files, names in reading_list():
        modules = [
            importlib.import_module(f"cloud_tasks.{file.removesuffix('.py').replace('/', '.')}") for file in files
        ]
        for name in names:
            first, *rest = name.split(".")
            owners = [getattr(module, first) for module in modules if hasattr(module, first)]
            assert owners, name
            assert all(hasattr(owners[0], part) for part in rest), name


def tree() -> dict[str, str]:
    """Return the folders that the page lists, each with its line of description."""
    text = ARCHITECTURE.partition("```text\ncore/src/cloud_tasks/\n")[2].partition("```")[0]
    found: dict[str, str] = {}
    parents: list[str] = []
    for line in text.splitlines():
        indent, name, description = re.fullmatch(r"( +)(\w+)/ +(\S.*)", line).groups()  # type: ignore[union-attr]
        parents[len(indent) // 2 - 1 :] = [name]
        found["/".join(parents)] = description
    return found


def test_folder_tree_lists_every_package_folder_of_core_and_no_other() -> None:
    assert set(tree()) == package_folders()


def test_folder_tree_describes_each_folder_differently() -> None:
    assert len(set(tree().values())) == len(tree())


def test_page_names_every_top_level_module() -> None:
    section = ARCHITECTURE.partition("Modules beside the folders:")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", section)) >= top_level() - package_folders()


def test_import_rules_quote_the_layers_and_the_number_of_contracts() -> None:
    section = ARCHITECTURE.partition("### Import rules\n")[2].partition("\n## ")[0]
    (core,) = [each for each in contracts() if each["type"] == "layers" and each["containers"] == ["cloud_tasks"]]
    assert section.partition("```text\n")[2].partition("```")[0].splitlines() == core["layers"]
    assert f"{len(contracts())} contracts" in section


def test_import_rules_name_every_package_with_layers_of_its_own() -> None:
    section = ARCHITECTURE.partition("### Import rules\n")[2].partition("\n## ")[0]
    layered = {each["containers"][0] for each in contracts() if each["type"] == "layers"} - {"cloud_tasks"}
    sentence = " ".join(section.partition("is in one of these layers; ")[2].partition(". ")[0].split())
    assert set(re.findall(r"`([\w.]+)`", sentence)) == {name.removeprefix("cloud_tasks.") for name in layered}


def test_distributions_table_lists_every_workspace_member() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    section = ARCHITECTURE.partition("## 2. Distributions\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([\w/]+)/` \|", section, re.M) == settings["tool"]["uv"]["workspace"]["members"]


def test_packages_page_has_a_section_for_every_package_and_module_of_core() -> None:
    headings = re.findall(r"^## (.*)$", PACKAGES, re.M)
    assert sorted(name for heading in headings for name in heading.split(", ")) == sorted(top_level())


def exported_names() -> list[tuple[str, str]]:
    """Return package and name of everything in the "Exports" lines of the page."""
    found: list[tuple[str, str]] = []
    for heading, body in re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", PACKAGES, re.M):
        exports = "".join(re.findall(r"^Exports: ((?:.+\n)+)", body, re.M))
        found += [(heading, name) for name in re.findall(r"`(\w+)", exports)]
    return found


@pytest.mark.parametrize(("package", "name"), exported_names())
def test_exports_line_names_only_public_names(package: str, name: str) -> None:
    modules = [importlib.import_module(f"cloud_tasks.{each}") for each in package.split(", ")]
    assert any(name in getattr(module, "__all__", vars(module)) for module in modules)
