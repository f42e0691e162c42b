"""The workspace: distributions, versions, licence, module cycles."""

from __future__ import annotations

import hashlib
import re
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import grimp
import pytest

from cloud_tasks.registry import EXTRAS

ROOT = Path(__file__).parents[2]
WORKSHOP: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
MEMBERS = [ROOT / member for member in WORKSHOP["tool"]["uv"]["workspace"]["members"]]
PLUGINS = [folder for folder in MEMBERS if folder.parent.name == "plugins"]


def project(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return found


def test_plugin_folders_are_distributions_of_the_same_name() -> None:
    folders = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml"))
    assert folders == ["aws", "azure", "dashboard", "gcp", "local", "notify", "otel", "slurm"]
    names = {project(folder)["name"] for folder in MEMBERS}
    assert names == {"cloud-tasks"} | {f"cloud-tasks-{folder}" for folder in folders}


def test_versions_are_in_lock_step() -> None:
    (version,) = {project(folder)["version"] for folder in MEMBERS}
    extras = project(ROOT / "core")["optional-dependencies"]
    for folder in PLUGINS:
        assert f"cloud-tasks=={version}" in project(folder)["dependencies"]
        # An extra of core includes the requirements of the controller.
        distribution, _, wanted = extras[folder.name][0].partition("==")
        assert (distribution.partition("[")[0], wanted) == (f"cloud-tasks-{folder.name}", version)


def test_extras_of_plugins_with_backends_are_named_by_the_error_of_a_missing_one() -> None:
    # The dashboard has a command only; Service Bus is a second plugin of a distribution.
    assert set(EXTRAS.values()) == {folder.name for folder in PLUGINS} - {"dashboard"} | {"azure-servicebus"}
    assert set(EXTRAS.values()) <= set(project(ROOT / "core")["optional-dependencies"])


@pytest.mark.parametrize("folder", MEMBERS, ids=lambda folder: folder.name)
def test_distribution_is_complete(folder: Path) -> None:
    (package,) = [path for path in (folder / "src").iterdir() if path.name.startswith("cloud_tasks")]
    assert (package / "py.typed").exists()
    assert len((folder / "README.md").read_text()) > 200
    assert any((folder / "tests").rglob("test_*.py"))


def test_licence_is_the_same_standard_text_everywhere() -> None:
    texts = {(folder / "LICENSE").read_bytes() for folder in [ROOT, *MEMBERS]}
    assert [hashlib.sha256(text).hexdigest() for text in texts] == [
        "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    ]


def test_dependencies_have_a_pinned_version() -> None:
    listed = {canonical(re.split("==", line)[0]) for line in WORKSHOP["tool"]["uv"]["constraint-dependencies"]}
    wanted = set(WORKSHOP["dependency-groups"]["dev"])
    for folder in MEMBERS:
        wanted |= set(project(folder)["dependencies"])
        for extra in project(folder).get("optional-dependencies", {}).values():
            wanted |= set(extra)
    names = {canonical(requirement) for requirement in wanted}
    assert {name for name in names if not name.startswith("cloud-tasks")} <= listed


def canonical(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def test_version_list_has_exact_versions_without_addresses() -> None:
    for line in WORKSHOP["tool"]["uv"]["constraint-dependencies"]:
        assert re.fullmatch(r"[a-z0-9._-]+==[0-9a-z.+]+", line)


def test_core_depends_on_no_cloud_library() -> None:
    needed = {canonical(requirement) for requirement in project(ROOT / "core")["dependencies"]}
    assert not {name for name in needed if re.match("google|boto|azure|aws|gcp", name)}


LEAVING_CORE = {("cloud_tasks.builtin.sinks.settings", "cloud_tasks.builtin.webhook_address")}
"""An import of the webhook notifier, which is to be a plugin."""


def test_modules_have_no_import_cycle() -> None:
    """Late imports and imports for type checking count as well."""
    packages = [path.name for folder in MEMBERS for path in (folder / "src").iterdir() if path.is_dir()]
    graph = grimp.build_graph(*(name for name in packages if name.isidentifier()), cache_dir=None)
    imports = {
        module: {
            imported
            for imported in graph.find_modules_directly_imported_by(module)
            if (module, imported) not in LEAVING_CORE
        }
        for module in graph.modules
    }
    assert len(imports) > 400
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the modules
