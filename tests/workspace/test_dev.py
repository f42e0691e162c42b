"""`dev.py`: jobs, environment, versions."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A copy of dev.py with copies of the workspace's project files."""
    for file in [ROOT / "pyproject.toml", *ROOT.glob("core/pyproject.toml"), *ROOT.glob("plugins/*/pyproject.toml")]:
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    shutil.copy(ROOT / "dev.py", tmp_path)
    return load(tmp_path / "dev.py")


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("dev_under_test", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "dev.py"), *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_help_lists_every_job_from_any_directory(tmp_path: Path) -> None:
    answer = call("--help", cwd=tmp_path)
    assert answer.returncode == 0
    for job in ("demo", "test", "check", "lint", "bench", "docs", "soak", "build", "setup", "lock"):
        assert f"  {job} " in answer.stdout


def test_unknown_job_is_refused(tmp_path: Path) -> None:
    answer = call("tset", cwd=tmp_path)
    assert answer.returncode == 2
    assert answer.stderr.startswith('dev.py: unknown job "tset"; use one of ')


def test_dev_requires_only_the_standard_library() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import dev, tomllib;"
        "print(*sorted({name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names - {'dev', '__main__'}))"
    )
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(ROOT)], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == ""


class Installed:
    """Stub for the creation of the environment that counts installations."""

    def __init__(self, dev: ModuleType) -> None:
        self.times = 0
        self._dev = dev

    def make_environment(self) -> None:
        program = Path(self._dev.program("python"))
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch()

    def install(self, settings: object) -> None:
        self.times += 1


@pytest.fixture
def installed(dev: ModuleType) -> Installed:
    counter = Installed(dev)
    dev.__dict__["make_environment"] = counter.make_environment
    dev.__dict__["install"] = counter.install
    return counter


def test_second_start_installs_nothing(dev: ModuleType, installed: Installed) -> None:
    dev.set_up()
    dev.set_up()
    assert installed.times == 1


@pytest.mark.parametrize("changed", ["pyproject.toml", "core/pyproject.toml", "plugins/aws/pyproject.toml"])
def test_changed_project_file_installs_again(dev: ModuleType, installed: Installed, changed: str) -> None:
    dev.set_up()
    with (dev.ROOT / changed).open("a") as file:
        file.write("# changed\n")
    dev.set_up()
    assert installed.times == 2


def test_failed_installation_is_retried(dev: ModuleType, installed: Installed) -> None:
    def fails(settings: object) -> None:
        raise dev.DevError("no")

    dev.__dict__["install"] = fails
    with pytest.raises(dev.DevError):
        dev.set_up()
    dev.__dict__["install"] = installed.install
    dev.set_up()
    assert installed.times == 1


def test_unsupported_python_is_refused(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dev.__dict__["OLDEST_PYTHON"] = (99, 0)
    assert dev.main(["test"]) == 2
    assert "requires Python 3.11 or later" in capsys.readouterr().err


def test_python_without_venv_is_refused_with_the_package_to_install(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    assert dev.main(["setup"]) == 1
    assert "python3-venv" in capsys.readouterr().err


def test_test_job_compiles_the_sources_before_the_tests(dev: ModuleType) -> None:
    called: list[tuple[str, ...]] = []

    def run(*command: str) -> int:
        called.append(command)
        return len(called)

    dev.__dict__["run"] = run
    assert dev.test(["-k", "worker"]) == 2
    compiled, tests = called
    assert compiled[2] == "compileall"
    assert {"core/src", "plugins/gcp/src", "core/tests/support"} <= set(compiled)
    assert tests[2] == "pytest"
    assert tests[-2:] == ("-k", "worker")


def test_processes_in_returns_processes_by_working_directory(dev: ModuleType, tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    assert dev.processes_in(below) == []
    process = subprocess.Popen([sys.executable, "-c", "input()"], cwd=below, stdin=subprocess.PIPE)
    try:
        assert dev.processes_in(below) == [process.pid]
    finally:
        process.communicate(b"\n")


def test_whitelist_of_unused_names_is_exactly_what_vulture_finds() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    command = load(ROOT / "dev.py").static_checks(settings)["dead code"]
    paths = [argument for argument in command[1:] if not argument.endswith("whitelist.py")]
    answer = subprocess.run(
        [sys.executable, "-m", "vulture", *paths], cwd=ROOT, capture_output=True, text=True, check=False
    )
    whitelist = (ROOT / "tests" / "workspace" / "vulture_whitelist.py").read_text()
    found = set(re.findall(r": unused \w+ '(\w+)' ", answer.stdout))
    assert found == set(re.findall(r"^_\.(\w+)", whitelist, re.MULTILINE))
