"""Wheels that are repacked from installed distributions."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from installed_distribution import install

from cloud_tasks.shipping.uv_call import uv_program
from cloud_tasks.shipping.wheels import CompiledError, NoModulesError, Wheel, repack

ENTRY_POINTS = "[console_scripts]\nmy-command = my_plugin.main:run\n\n[cloud_tasks]\nmine = my_plugin\n"
MODULES = {"my_plugin/__init__.py": "x = 1\n", "my_plugin/data/a.txt": "data\n", "my_plugin/py.typed": ""}


def contents(wheel: Wheel) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(wheel.content)) as archive:
        assert archive.testzip() is None
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def check_record(wheel: Wheel) -> None:
    """Check that RECORD lists every file with digest and size, as the specification of wheels wants it."""
    files = contents(wheel)
    (record,) = (path for path in files if path.endswith(".dist-info/RECORD"))
    rows = {path: (digest, size) for path, digest, size in csv.reader(io.StringIO(files[record].decode()))}
    assert rows.pop(record) == ("", "")
    expected = {
        path: (
            f"sha256={base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b'=').decode()}",
            str(len(text)),
        )
        for path, text in files.items()
        if path != record
    }
    assert rows == expected


def test_repack_has_modules_metadata_and_licences_and_nothing_of_the_installation(tmp_path: Path) -> None:
    more = {
        "../../../bin/my-command": "#!/usr/bin/python\n",
        "my_plugin/__pycache__/__init__.cpython-311.pyc": "x",
        "my_plugin/nested/__pycache__/x.pyc": "x",
    }
    wheel = repack(
        install(
            tmp_path / "env/lib/python/site",
            "my-plugin",
            files={**MODULES, **more},
            entry_points=ENTRY_POINTS,
            requires=["attrs>=24"],
            info={
                "licenses/LICENSE": "Apache\n",
                "REQUESTED": "",
                "uv_cache.json": "{}",
                "top_level.txt": "my_plugin\n",
            },
        )
    )
    assert wheel.file_name == "my_plugin-1.0-py3-none-any.whl"
    files = contents(wheel)
    information = ["METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"]
    assert sorted(files) == sorted([*(f"my_plugin-1.0.dist-info/{name}" for name in information), *MODULES])
    assert files["my_plugin/data/a.txt"] == b"data\n"
    assert files["my_plugin-1.0.dist-info/entry_points.txt"].decode() == ENTRY_POINTS
    assert b"Requires-Dist: attrs>=24\n" in files["my_plugin-1.0.dist-info/METADATA"]
    check_record(wheel)


def editable(tmp_path: Path, *, how: str, name: str = "my-plugin", flat: bool = False) -> tuple[Path, list[str]]:
    """Install a project in editable form; return the folder of the installation and more folders for `sys.path`."""
    root, site = tmp_path / "project", tmp_path / f"site-{how}"
    source = root if flat else root / "src"
    for path, text in MODULES.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text)
    (root / "tests").mkdir(exist_ok=True)
    (root / "tests" / "test_it.py").write_text("")
    pth = f"_{how}.pth"
    install(
        site,
        name,
        files={pth: f"{source}\n" if how == "path" else "import _finder\n"},
        entry_points=ENTRY_POINTS,
        origin={"url": root.as_uri(), "dir_info": {"editable": True}},
        info={"licenses/LICENSE": "Apache\n"},
    )
    return site, [str(source)] if how == "path" else []


@pytest.fixture
def clean_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))


@pytest.mark.usefixtures("clean_imports")
@pytest.mark.parametrize(("how", "flat"), [("path", False), ("path", True), ("hook", False)])
def test_repack_of_an_editable_installation_gives_the_same_wheel(tmp_path: Path, how: str, flat: bool) -> None:
    info = {"licenses/LICENSE": "Apache\n"}
    usual = install(tmp_path / "site", "my-plugin", files=MODULES, entry_points=ENTRY_POINTS, info=info)
    git_origin = {"url": "https://user:SECRET@example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    from_git = install(
        tmp_path / "git", "my-plugin", files=MODULES, entry_points=ENTRY_POINTS, info=info, origin=git_origin
    )
    site, folders = editable(tmp_path, how=how, flat=flat)
    sys.path[:0] = folders
    if how == "hook":
        sys.meta_path.insert(0, Finder(tmp_path / "project" / "src"))
    (found,) = distributions(path=[str(site)])
    wheel = repack(found)
    assert contents(wheel) == contents(repack(usual)) == contents(repack(from_git))
    assert wheel == repack(usual) == repack(from_git)
    assert b"SECRET" not in wheel.content


class Finder:
    """An import hook, as build backends install for projects that no single folder describes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [str(self.folder)]) if name == "my_plugin" else None


@pytest.mark.usefixtures("clean_imports")
def test_repack_of_an_editable_installation_has_no_secret_bytecode_or_other_project(tmp_path: Path) -> None:
    site, folders = editable(tmp_path, how="path")
    sys.path[:0] = folders
    package = tmp_path / "project" / "src" / "my_plugin"
    for name in (".env", "key.pem", "x.pyc", "__pycache__/y.pyc", ".cache/z"):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text("x")
    (package / "linked.txt").symlink_to("data/a.txt")
    os.mkfifo(package / "pipe")
    Path(os.fsdecode(os.fsencode(package) + b"/\xff")).write_text("x")
    (found,) = distributions(path=[str(site)])
    modules = {path for path in contents(repack(found)) if not path.startswith("my_plugin-1.0.dist-info/")}
    assert modules == {*MODULES, "my_plugin/linked.txt"}


@pytest.mark.usefixtures("clean_imports")
def test_repack_refuses_an_editable_installation_whose_modules_are_elsewhere(tmp_path: Path) -> None:
    site, _ = editable(tmp_path, how="path")
    (found,) = distributions(path=[str(site)])
    with pytest.raises(NoModulesError, match=r"the modules of my-plugin 1\.0 are not found; reinstall my-plugin"):
        repack(found)


@pytest.mark.parametrize(
    ("files", "tag"),
    [
        ({"my_plugin/fast.cpython-311-x86_64-linux-gnu.so": "x"}, "py3-none-any"),
        ({"my_plugin/libx.so.1": "x"}, "py3-none-any"),
        ({}, "cp311-cp311-manylinux_2_17_x86_64"),
    ],
)
def test_repack_refuses_compiled_modules(tmp_path: Path, files: dict[str, str], tag: str) -> None:
    found = install(tmp_path, "my-plugin", files={**MODULES, **files}, tag=tag)
    with pytest.raises(
        CompiledError, match=r"my-plugin 1\.0 is compiled for this platform .*, so it cannot be shipped"
    ):
        repack(found)


@pytest.mark.parametrize("name", ["cloud-tasks", "cloud-tasks-gcp", "cloud-tasks-local"])
def test_repack_of_our_own_distributions_is_complete(name: str) -> None:
    wheel = repack(distribution(name))
    files = contents(wheel)
    package = name.replace("-", "_")
    assert {f"{package}/__init__.py", f"{package}/py.typed"} <= set(files)
    assert {path.partition("/")[0] for path in files} == {package, f"{package}-{wheel.version}.dist-info"}
    assert f"{package}-{wheel.version}.dist-info/licenses/LICENSE" in files
    check_record(wheel)


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_repacked_wheels_are_installed_by_pip_and_uv(tmp_path: Path, installer: str) -> None:
    found = install(
        tmp_path / "site", "My.Plugin", version="1.0+local.1", files=MODULES, entry_points=ENTRY_POINTS,
        requires=["not-available"],
    )  # fmt: skip
    wheel = repack(found)
    file = tmp_path / wheel.file_name
    file.write_bytes(wheel.content)
    command = {
        "uv": [uv_program(), "pip", "install", "--quiet", "--offline", "--python", sys.executable],
        "pip": [sys.executable, "-m", "pip", "install", "--quiet", "--no-index"],
    }[installer]
    target = tmp_path / "target"
    subprocess.run([*command, "--no-deps", "--target", str(target), str(file)], check=True, cwd=tmp_path)
    (installed,) = distributions(path=[str(target)])
    assert (installed.version, [entry.name for entry in installed.entry_points]) == (
        "1.0+local.1",
        ["my-command", "mine"],
    )
    assert (target / "my_plugin" / "data" / "a.txt").read_text() == "data\n"
    assert os.access(target / "bin" / "my-command", os.X_OK)
    assert repack(installed).content == wheel.content


def test_repack_keeps_data_files_and_scripts_of_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "lib" / "python" / "site-packages"
    files = {**MODULES, "../../../bin/tool": "#!/bin/sh\n", "../../../share/my/a.cfg": "x"}
    found = install(site, "my-plugin", files=files, entry_points=ENTRY_POINTS)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path / "bin"))
    data = {path for path in contents(repack(found)) if ".data/" in path}
    assert data == {"my_plugin-1.0.data/scripts/tool", "my_plugin-1.0.data/data/share/my/a.cfg"}


NAMES = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?\Z")
VERSIONS = st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{1,3}){0,2}(rc[0-9])?(\+[a-z0-9]{1,5})?\Z")
FILES = st.dictionaries(
    st.from_regex(r"\A[a-z_]{1,8}/[^/\x00-\x1f\x7f\\]{1,12}\Z").filter(
        lambda path: not path.endswith((".pyc", "..", "/.")) and ".so" not in path and path.isprintable()
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\r")),
    min_size=1,
    max_size=4,
)


@settings(max_examples=12, deadline=None)
@given(name=NAMES, version=VERSIONS, files=FILES)
def test_repack_gives_a_valid_wheel_for_any_metadata(name: str, version: str, files: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        wheel = repack(install(Path(scratch), name, version=version, files=files))
    check_record(wheel)
    stem = wheel.file_name.removesuffix("-py3-none-any.whl")
    assert stem.count("-") == 1
    found = contents(wheel)
    assert {path for path in found if not path.startswith(f"{stem}.dist-info/")} == set(files)
    assert {path: found[path].decode() for path in files} == files


def test_repack_of_a_missing_distribution_file_is_left_out(tmp_path: Path) -> None:
    found = install(tmp_path, "my-plugin", files=MODULES)
    (tmp_path / "my_plugin" / "py.typed").unlink()
    assert "my_plugin/py.typed" not in contents(repack(found))
