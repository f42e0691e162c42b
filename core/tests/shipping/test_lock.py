"""Locks: what uv resolves from a package index on this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest
from installed_distribution import install, write_wheel
from local_project import write_project
from package_index import PackageIndex, package_index

from cloud_tasks.errors import InputError
from cloud_tasks.shipping import lock_cache
from cloud_tasks.shipping.lock import Lock, make_lock
from cloud_tasks.shipping.lock_cache import cached_lock
from cloud_tasks.shipping.locked_packages import LockedPackage, index_options
from cloud_tasks.shipping.requirements import Requirements
from cloud_tasks.shipping.uv_call import call_uv
from cloud_tasks.shipping.wheels import Wheel, repack

LOGIN = "me:s3kret"


@pytest.fixture(scope="module")
def uv_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uv-cache")


@pytest.fixture(autouse=True)
def _uv_settings(tmp_path: Path, uv_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_CACHE_DIR", str(uv_cache))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Wheels: bar 2.0 needs foo, of which there are 1.0, 1.5 and one for new Pythons only."""
    folder = tmp_path / "packages"
    write_wheel(folder, "foo", version="1.0")
    write_wheel(folder, "foo", version="1.5")
    write_wheel(folder, "bar", version="2.0", requires=["foo"])
    write_wheel(folder, "uv", version="0.9")
    write_wheel(folder, "broken", requires=["gone>=3"])
    write_wheel(folder, "deep", requires=["broken"])
    return folder


@pytest.fixture
def index(packages: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    with package_index(packages) as found:
        monkeypatch.setenv("UV_DEFAULT_INDEX", found.url)
        yield found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    return folder


@pytest.fixture
def ours(tmp_path: Path) -> tuple[Wheel, str]:
    """The wheel of the worker, which needs uv on the controller."""
    requires = ["foo>=1", "uv", 'bar; extra == "files"']
    return repack(install(tmp_path / "site", "cloud-tasks", files={"cloud_tasks.py": ""}, requires=requires)), ""


def locked(requirements: Requirements, *wheels: tuple[Wheel, str], pins: Sequence[str] = ()) -> Lock:
    return make_lock(requirements, wheels=wheels, pins=pins)


def given(folder: Path, *lines: str) -> Requirements:
    return Requirements.from_lines(lines, folder=folder, where="config.yml: run.requirements")


def names(text: str) -> list[str]:
    """Return the entries of a lock; each must have a digest."""
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text)) >= len(re.findall(r"^\w", text, re.MULTILINE))
    return [line.split()[0] for line in text.splitlines() if re.match(r"\w", line)]


def test_lock_splits_one_resolution_between_worker_and_program(
    project: Path, index: PackageIndex, ours: tuple[Wheel, str]
) -> None:
    lock = locked(given(project, "foo<1.5", "bar"), ours)
    assert (names(lock.worker), names(lock.program)) == (["foo==1.0"], ["bar==2.0"])
    assert (lock.wheels, lock.python) == ((), ">=3.11")
    assert lock.worker.startswith(f"--index-url {index.url}\n")
    assert lock.program.startswith(f"--index-url {index.url}\n")
    assert "cloud-tasks" not in lock.worker + lock.program


def test_lock_without_requirements_is_that_of_the_worker(
    project: Path, index: PackageIndex, ours: tuple[Wheel, str]
) -> None:
    lock = locked(given(project), ours)
    assert (names(lock.worker), lock.program) == (["foo==1.5"], "")
    lock = locked(given(project), (ours[0], "[files]"), pins=["bar==2.0"])
    assert names(lock.worker) == ["bar==2.0", "foo==1.5"]


@pytest.mark.usefixtures("index")
def test_lock_has_uv_only_if_the_program_requires_it(project: Path, ours: tuple[Wheel, str]) -> None:
    assert "uv==" not in locked(given(project, "foo"), ours).worker
    assert "uv==0.9" in names(locked(given(project, "uv"), ours).worker)


@pytest.mark.usefixtures("index")
def test_lock_reads_every_form_of_requirements(project: Path) -> None:
    (project / "limits.txt").write_text("foo==1.0\n")
    (project / "more.txt").write_text("bar\n")
    (project / "requirements.txt").write_text("-r more.txt\n-c limits.txt\n")
    assert names(locked(Requirements.from_file(project / "requirements.txt")).program) == ["bar==2.0", "foo==1.0"]
    assert names(locked(given(project, "-r more.txt", "-c limits.txt")).program) == ["bar==2.0", "foo==1.0"]
    text = '[project]\nname = "job"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["bar", "foo<1.5"]\n'
    (project / "pyproject.toml").write_text(text + '[dependency-groups]\ndev = ["uv"]\n')
    assert names(locked(Requirements.from_file(project / "pyproject.toml")).program) == ["bar==2.0", "foo==1.0"]
    call_uv("lock", folder=project)
    assert names(locked(Requirements.from_file(project / "uv.lock")).program) == ["bar==2.0", "foo==1.0"]


@pytest.mark.usefixtures("index")
def test_lock_keeps_given_digests(project: Path) -> None:
    digest = re.findall(r"sha256:\w+", locked(given(project, "foo==1.0")).program)[0]
    other = "sha256:" + "0" * 64
    lock = locked(given(project, f"foo==1.0 --hash={digest} --hash={other}"))
    assert re.findall(r"sha256:\w+", lock.program) == [digest]
    (project / "requirements.txt").write_text(f"bar\nfoo==1.0 \\\n    --hash={other}\n")
    strong = "sha512:" + "0" * 128
    assert strong in locked(given(project, f"foo==1.0 --hash={strong}")).program
    with pytest.raises(InputError) as caught:
        locked(Requirements.from_file(project / "requirements.txt"))
    assert str(caught.value) == (
        f"{project}/requirements.txt:2: no file of foo==1.0 in the package index has a digest that is given"
    )


@pytest.mark.usefixtures("index")
def test_lock_is_for_a_newer_python_if_the_requirements_want_it(project: Path, packages: Path) -> None:
    requirements = Requirements.from_lines(["foo"], folder=project, where="", python=">=3.13,<4")
    assert locked(requirements).python == ">=3.13,>=3.13,<4"


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bar\nfoo==9\n", "{file}:2: no matching distribution for foo==9"),
        ("bar\nFoo_Bar>1\n", "{file}:2: no matching distribution for foo-bar>1"),
        ("bar\nfoo>5,<6\n", "{file}:2: no matching distribution for foo>5,<6; "),
        ("bar\nbroken\n", "{file}:2: no matching distribution for gone>=3, which broken requires"),
        ("foo\ndeep\n", "{file}: no matching distribution for gone>=3, which broken requires"),
        ("# ä ö ü ä ö ü\n\nfoo ==\n", "{file}:3: Unexpected end of version specifier, expected version"),
        ("bar\n-r gone.txt\n", "{file}:2: failed to read from file `{folder}/gone.txt`: No such file"),
        ("foo==1.0\nfoo==1.5\n", "{file}: Because you require foo==1.0 and foo==1.5, we can conclude"),
        ("./gone\n", "{file}: Distribution not found at: file://{folder}/gone"),
    ],
)
def test_lock_refuses_in_one_line_with_the_place(project: Path, text: str, message: str) -> None:
    file = project / "requirements.txt"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        locked(Requirements.from_file(file))
    assert str(caught.value).startswith(message.format(file=file, folder=project))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("index")
def test_lock_refuses_an_entry_of_the_configuration_with_its_key(project: Path) -> None:
    with pytest.raises(InputError) as caught:
        locked(given(project, "bar", "foo==9"))
    assert caught.value.message == "config.yml: run.requirements: no matching distribution for foo==9"
    assert "UV_INDEX" in caught.value.hint


@pytest.mark.usefixtures("index")
def test_lock_without_the_network_names_the_cause(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(InputError, match="no matching distribution for bar in the cache, and the network is disabled"):
        locked(given(project, "bar"))


def test_lock_names_the_index_that_does_not_answer(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://{LOGIN}@127.0.0.1:1/simple")
    with pytest.raises(InputError) as caught:
        locked(given(project, "foo"))
    assert "cannot fetch http://127.0.0.1:1/simple/foo/: " in str(caught.value)
    assert "refused" in str(caught.value)
    assert "s3kret" not in str(caught.value)


def test_lock_names_every_index(tmp_path: Path, project: Path, index: PackageIndex) -> None:
    write_wheel(tmp_path / "more", "other")
    with package_index(tmp_path / "more") as more:
        lock = locked(given(project, "foo", "other", f"--extra-index-url {more.url}"))
        pinned = lock.program
        assert pinned.startswith(f"--index-url {index.url}\n--extra-index-url {more.url}\n")
        (project / "worker.txt").write_text(pinned)
        (project / "requirements.txt").write_text(pinned)
        files = ["--requirements", "worker.txt", "--requirements", "requirements.txt", "--python", sys.executable]
        options = ["--require-hashes", "--no-deps", "--index-strategy", "unsafe-best-match", "--target", "site"]
        call_uv("pip", "install", *options, *files, folder=project)
    assert (project / "site" / "other.py").exists()
    public = LockedPackage(spec="a==1", hashes=(), parents=frozenset(), index="https://pypi.org/simple/")
    assert index_options([public]) == ()
    assert index_options([attrs.evolve(public, index="https://x"), public]) == ("--extra-index-url https://x",)


@pytest.mark.parametrize("how", ["variable", "option", "settings"])
def test_lock_ships_packages_of_an_index_with_credentials(
    tmp_path: Path, project: Path, packages: Path, index: PackageIndex, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    write_wheel(tmp_path / "private", "secret-tool", requires=["foo"])
    with package_index(tmp_path / "private", login=LOGIN) as private:
        lines = ["secret-tool"]
        if how == "variable":
            monkeypatch.setenv("UV_INDEX", private.url_with_login)
        elif how == "option":
            lines.append(f"--extra-index-url {private.url_with_login}")
        else:
            (project / "uv.toml").write_text(f'[[index]]\nname = "private"\nurl = "{private.url_with_login}"\n')
        lock = locked(given(project, *lines))
        cached_lock(given(project, *lines), wheels=[], pins=[], cache=tmp_path / "cache")
    assert [(wheel.name, wheel.version) for wheel in lock.wheels] == [("secret-tool", "1.0")]
    assert names(lock.program) == ["foo==1.5"]
    written = b"".join(file.read_bytes() for file in (tmp_path / "cache").iterdir())
    assert b"s3kret" not in written + lock.wheels[0].content
    assert private.host not in lock.program


def test_lock_without_the_credentials_of_an_index_names_it(project: Path, packages: Path) -> None:
    with package_index(packages, login=LOGIN) as private, pytest.raises(InputError) as caught:
        locked(given(project, "foo", f"--index-url {private.url}"))
    assert private.url in str(caught.value)
    assert "credentials (401 Unauthorized)" in str(caught.value)


@pytest.mark.usefixtures("index")
def test_lock_ships_local_projects_as_wheels(project: Path) -> None:
    one, two, three = (write_project(project / name, name, requires=["foo<1.5"]) for name in ("one", "two", "three"))
    requirements = given(project, "./one", "-e ./two", f"three @ {three.as_uri()}", "bar")
    lock = locked(requirements)
    assert [wheel.file_name for wheel in lock.wheels] == [
        "two-1.0-py3-none-any.whl", "one-1.0-py3-none-any.whl", "three-1.0-py3-none-any.whl",
    ]  # fmt: skip
    assert set(lock.local_projects) == {one, two, three}
    assert names(lock.program) == ["bar==2.0", "foo==1.0"]
    assert all(str(project).encode() not in wheel.content for wheel in lock.wheels)


@pytest.mark.usefixtures("index")
def test_lock_ships_a_project_that_says_how_it_is_built(project: Path) -> None:
    write_project(project, "job", requires=["foo<1.5"])
    call_uv("lock", folder=project)
    for name in ("uv.lock", "pyproject.toml"):
        lock = locked(Requirements.from_file(project / name))
        assert ([wheel.name for wheel in lock.wheels], names(lock.program)) == (["job"], ["foo==1.0"])
    with (project / "pyproject.toml").open("a") as file:
        file.write("[tool.uv]\npackage = false\n")
    lock = locked(Requirements.from_file(project / "pyproject.toml"))
    assert (lock.wheels, names(lock.program)) == ((), ["foo==1.0"])


@pytest.mark.usefixtures("index")
def test_lock_ships_git_repositories_as_wheels(tmp_path: Path, project: Path) -> None:
    repository = write_project(tmp_path / "repository", "library", requires=["foo<1.5"])
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "x"]):
        subprocess.run(["git", *identity, *command], cwd=repository, check=True)
    lock = locked(given(project, f"library @ git+{repository.as_uri()}"))
    assert ([wheel.name for wheel in lock.wheels], names(lock.program)) == (["library"], ["foo==1.0"])


@pytest.mark.usefixtures("index")
def test_lock_ships_packages_of_a_folder_and_of_addresses_with_credentials(tmp_path: Path, project: Path) -> None:
    write_wheel(project / "wheels", "vendored", version="3.0")
    write_wheel(tmp_path / "private", "hidden")
    with package_index(tmp_path / "private", login=LOGIN) as private:
        address = f"http://{LOGIN}@{private.host}/files/hidden-1.0-py3-none-any.whl"
        lock = locked(given(project, "--find-links ./wheels", "vendored", f"hidden @ {address}"))
    assert sorted(wheel.file_name for wheel in lock.wheels) == [
        "hidden-1.0-py3-none-any.whl", "vendored-3.0-py3-none-any.whl",
    ]  # fmt: skip
    assert lock.program == ""


@pytest.mark.usefixtures("index")
def test_lock_refuses_a_compiled_local_project(project: Path) -> None:
    write_project(project / "library", "library", suffix=".so")
    with pytest.raises(InputError) as caught:
        locked(given(project, "./library"))
    assert caught.value.message == (
        "config.yml: run.requirements: library 1.0 is compiled for this platform (library/fast.so), so "
        "it cannot be shipped, and the machines cannot fetch ./library"
    )


@pytest.mark.usefixtures("index")
def test_lock_names_the_error_of_a_build(project: Path) -> None:
    write_project(project / "library", "library")
    (project / "library" / "backend.py").write_text("raise ValueError('no compiler')\n")
    with pytest.raises(InputError, match=r"library.*: ValueError: no compiler$"):
        locked(given(project, "./library"))


# the cache


def test_cached_lock_is_used_without_the_index_until_an_input_changes(
    tmp_path: Path, project: Path, packages: Path, index: PackageIndex, ours: tuple[Wheel, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def lock(requirements: Requirements) -> Lock:
        return cached_lock(requirements, wheels=[ours], pins=[], cache=tmp_path / "cache")

    file = project / "requirements.txt"
    file.write_text("-r more.txt\n")
    (project / "more.txt").write_text("bar\n")
    requirements = Requirements.from_file(file)
    first = lock(requirements)
    write_wheel(packages, "foo", version="2.0")
    asked = len(index.requests)
    assert lock(requirements) == first
    assert len(index.requests) == asked
    (project / "more.txt").write_text("bar>=1\n")
    assert names(lock(requirements).worker) == ["foo==2.0"]
    (project / "more.txt").write_text("bar\n")
    assert lock(requirements) == first
    monkeypatch.setenv("UV_RESOLUTION", "lowest")
    assert names(lock(requirements).worker) == ["foo==1.0"]


@pytest.mark.usefixtures("index")
def test_cached_lock_follows_the_content_of_local_projects(tmp_path: Path, project: Path) -> None:
    library = write_project(project / "library", "library")
    requirements = given(project, "./library")
    first = cached_lock(requirements, wheels=[], pins=[], cache=tmp_path / "cache")
    assert cached_lock(requirements, wheels=[], pins=[], cache=tmp_path / "cache") == first
    (library / "module" / "__init__.py").write_text("x = 2\n")
    second = cached_lock(requirements, wheels=[], pins=[], cache=tmp_path / "cache")
    assert second.wheels != first.wheels
    assert b"x = 2" in second.wheels[0].content


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"local_projects": 1}', "\x00"])
def test_cached_lock_ignores_a_damaged_file(tmp_path: Path, project: Path, damage: str) -> None:
    requirements = given(project, "foo")
    first = cached_lock(requirements, wheels=[], pins=[], cache=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text(damage)
    assert cached_lock(requirements, wheels=[], pins=[], cache=tmp_path / "cache") == first


def test_cached_lock_keeps_every_field(tmp_path: Path, ours: tuple[Wheel, str]) -> None:
    fields = {"worker": "a", "program": "b", "python": "3.12", "wheels": (ours[0],), "local_projects": (tmp_path,)}
    assert set(fields) == {field.name for field in attrs.fields(Lock)}
    file = tmp_path.with_suffix(".json")
    lock = Lock(**fields)
    file.write_bytes(json.dumps(lock_cache._plain(lock)).encode())
    assert lock_cache._read(file) == lock
    file.unlink()
