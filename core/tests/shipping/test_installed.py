"""Which installed distributions are shipped as wheels."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from installed_distribution import install
from local_project import write_project

from cloud_tasks.errors import InputError
from cloud_tasks.shipping.installed import installed_wheels
from cloud_tasks.shipping.wheels import CompiledError


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed distributions; cloud-tasks itself is that of the workspace."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def wheels(*wanted: str) -> dict[str, str]:
    return {wheel.name: extras for wheel, extras in installed_wheels(wanted)[0]}


def test_installed_wheels_are_those_asked_for_and_cloud_tasks(site: Path) -> None:
    install(site, "my-plugin", files={"my_plugin.py": ""}, requires=["cloud-tasks==0.1.0", "attrs", "not-installed"])
    assert wheels("my-plugin") == {"cloud-tasks": "", "my-plugin": ""}
    assert wheels("My_Plugin[one]", "my.plugin[two, One]") == {"cloud-tasks": "", "my-plugin": "[one,two]"}
    assert installed_wheels(["my-plugin"])[1] == ()


def test_installed_wheels_include_requirements_that_no_index_has(site: Path) -> None:
    origin = {"url": "https://example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    install(site, "from-git", files={"from_git.py": ""}, origin=origin, requires=["deeper"])
    install(site, "deeper", files={"deeper.py": ""}, origin={"url": site.as_uri(), "dir_info": {}})
    install(site, "built-by-conda", files={"conda.py": ""}, origin={"url": "file:///feedstock/work", "dir_info": {}})
    install(site, "of-an-extra", files={"extra.py": ""}, origin=origin)
    requires = ["from-git>=1 ; python_version > '3'", "built-by-conda", 'of-an-extra ; extra == "More"']
    install(site, "my-plugin", files={"my_plugin.py": ""}, requires=requires)
    assert set(wheels("my-plugin")) == {"cloud-tasks", "my-plugin", "from-git", "deeper"}
    assert set(wheels("my-plugin[more]")) == {"cloud-tasks", "my-plugin", "from-git", "deeper", "of-an-extra"}


def test_installed_wheels_refuse_what_is_not_installed(site: Path) -> None:
    with pytest.raises(InputError, match="no-such-plugin is not installed here; pip install no-such-plugin"):
        installed_wheels(["no-such-plugin"])


def test_installed_wheels_pin_what_is_compiled_and_has_an_index(site: Path) -> None:
    tag = "cp311-cp311-manylinux_2_17_x86_64"
    install(site, "fast-plugin", version="2.1", files={"fast.so": ""}, tag=tag)
    found, pins = installed_wheels(["fast-plugin[gpu]"])
    assert ([wheel.name for wheel, _ in found], pins) == (["cloud-tasks"], ("fast-plugin[gpu]==2.1",))


def test_installed_wheels_refuse_what_is_compiled_and_has_no_index(site: Path) -> None:
    install(site, "fast-plugin", files={"fast.so": ""}, origin={"url": site.as_uri(), "dir_info": {}})
    with pytest.raises(CompiledError, match="install it from a package index here, or into the image of the machines"):
        installed_wheels(["fast-plugin"])


def test_installed_wheels_build_a_project_whose_modules_are_not_known(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write_project(tmp_path / "project", "odd-plugin")
    install(site, "odd-plugin", files={"odd.pth": f"{project}\n"}, origin={
        "url": project.as_uri(), "dir_info": {"editable": True},
    })  # fmt: skip
    monkeypatch.setenv("UV_OFFLINE", "1")
    (wheel,) = [wheel for wheel, _ in installed_wheels(["odd-plugin"])[0] if wheel.name == "odd-plugin"]
    assert b"odd_plugin/__init__.py" in wheel.content
    (project / "backend.py").write_text("raise ValueError('no backend')")
    with pytest.raises(InputError, match=r"the modules of odd-plugin 1\.0 are not found: .*ValueError: no backend"):
        installed_wheels(["odd-plugin"])
    assert "odd_plugin" not in sys.modules
