#!/usr/bin/env python3
"""The development command: `python3 dev.py <job> [arguments]`. Requires only Python 3.11 or later with venv and pip.

Every job first sets up the environment if needed: `.venv`, created by the Python that runs this file, with all
distributions of the workspace in editable form and the development tools, at the versions in `pyproject.toml`.

Invariants, each with a test:

1. Packages and versions come from the workspace list, the dev group and the constraints in `pyproject.toml` only.
2. Nothing is installed unless those files or the Python have changed: a warm start only reads files.
3. Jobs are independent of the current directory.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
STAMP = ENVIRONMENT / "cloud-tasks-setup"
DEMO = ROOT / ".demo"
EXAMPLE = ROOT / "examples" / "parallel_addition"
OLDEST_PYTHON = (3, 11)


class DevError(Exception):
    """Failure of a job; the message has cause and remedy."""


# --- the environment ---------------------------------------------------------------------------------------------


def project_settings() -> dict[str, Any]:
    """Return the content of the root `pyproject.toml`."""
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def members(settings: dict[str, Any]) -> list[Path]:
    """Return the folders of the distributions, in workspace order."""
    return [ROOT / member for member in settings["tool"]["uv"]["workspace"]["members"]]


def sources(settings: dict[str, Any]) -> list[str]:
    """Return the source folders of the distributions, relative to the root."""
    return [str((folder / "src").relative_to(ROOT)) for folder in members(settings)]


def program(name: str) -> str:
    """Return the path of a program in the environment."""
    return str(ENVIRONMENT / "bin" / name)


def fingerprint(settings: dict[str, Any]) -> str:
    """Return a digest of the environment's inputs: this Python and every pyproject.toml."""
    digest = hashlib.sha256(f"{sys.version_info[:3]} {ROOT}\n".encode())
    for folder in [ROOT, *members(settings)]:
        digest.update((folder / "pyproject.toml").read_bytes())
    return digest.hexdigest()


def set_up(*, force: bool = False) -> None:
    """Create or update the environment; return at once if it is up to date."""
    settings = project_settings()
    wanted = fingerprint(settings)
    if not force and STAMP.is_file() and STAMP.read_text() == wanted and Path(program("python")).exists():
        return
    started = time.monotonic()
    STAMP.unlink(missing_ok=True)
    make_environment()
    install(settings)
    STAMP.write_text(wanted)
    print(f"Environment {ENVIRONMENT} is ready ({time.monotonic() - started:.0f} s).", flush=True)


def make_environment() -> None:
    """Create `.venv` if it is missing or belongs to another version of Python."""
    found = re.search(r"^version = (\S+)", _text(ENVIRONMENT / "pyvenv.cfg"), re.MULTILINE)
    mine = ".".join(map(str, sys.version_info[:3]))
    if found and found.group(1) == mine and Path(program("python")).exists():
        return
    try:
        import ensurepip  # noqa: F401 - required by venv; a separate package on some systems
        import venv
    except ImportError as error:
        raise DevError(
            f"this Python ({sys.executable}) has no {error.name}; install it (on Debian and Ubuntu: the package "
            f"python3-venv), or run dev.py with another Python"
        ) from error
    print(f"Creating {ENVIRONMENT} with Python {mine} ...", flush=True)
    venv.create(ENVIRONMENT, with_pip=True, clear=ENVIRONMENT.exists())


def install(settings: dict[str, Any]) -> None:
    """Install the workspace in editable form and the dev group, in one call, at the constrained versions."""
    # The root project's dependency on core names its extras.
    core_extras = settings["project"]["dependencies"][0].removeprefix("cloud-tasks")
    command = [program("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for folder in members(settings):
        command += ["-e", str(folder) + (core_extras if folder.name == "core" else "")]
    command += settings["dependency-groups"]["dev"]
    with tempfile.TemporaryDirectory() as folder_name:
        constraints = Path(folder_name) / "constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in settings["tool"]["uv"]["constraint-dependencies"]))
        # As variables rather than -c, so that they apply to isolated build environments too.
        environ = {**os.environ, "PIP_CONSTRAINT": str(constraints), "PIP_BUILD_CONSTRAINT": str(constraints)}
        print("Installing the distributions and the development tools ...", flush=True)
        if subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode:
            raise DevError("pip failed; see its message above")


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


# --- jobs --------------------------------------------------------------------------------------------------------


def run(*command: str, cwd: Path = ROOT, **variables: str) -> int:
    """Run a program of the environment with inherited output; return its exit code. ``variables`` are added."""
    sys.stdout.flush()
    environ = {**os.environ, **variables}
    return subprocess.run([program(command[0]), *command[1:]], cwd=cwd, env=environ, check=False).returncode


def setup(arguments: list[str]) -> int:
    """Create or update the environment."""
    set_up(force=True)
    return 0


def test(arguments: list[str]) -> int:
    """Run the tests; arguments are passed to pytest (`dev.py test -k worker`)."""
    # Tests start thousands of programs; where Python writes no bytecode, each would compile all that it imports.
    settings = project_settings()
    imported = [*sources(settings), *settings["tool"]["pytest"]["ini_options"]["pythonpath"]]
    run("python", "-m", "compileall", "-q", "-j", "0", *imported)
    # More processes than cores: most tests wait for programs that they started.
    parallel = [] if any(argument in ("-n", "-x", "--pdb", "-s") for argument in arguments) else ["-n", "4"]
    # Whole files, in the order of conftest.py.
    return run("python", "-m", "pytest", *parallel, "--dist", "loadfile", "--no-loadscope-reorder", *arguments)


def lint(arguments: list[str]) -> int:
    """Run the static checks: format, lint, types, imports, dead code."""
    failed = []
    for name, command in static_checks(project_settings()).items():
        print(f"--- {name}", flush=True)
        if run(*command):
            failed.append(name)
    if failed:
        raise DevError(f"failed: {', '.join(failed)}")
    return 0


def static_checks(settings: dict[str, Any]) -> dict[str, list[str]]:
    """Return the commands of `lint` by name."""
    typed = ["dev.py", "conftest.py", "examples/parallel_addition", "tests"]
    for folder in members(settings):
        typed += [str((folder / part).relative_to(ROOT)) for part in ("src", "tests")]
    return {
        "format": ["ruff", "format", "--check", "."],
        "lint": ["ruff", "check", "."],
        "types": ["mypy", *typed],
        "imports": ["lint-imports"],
        "dead code": ["vulture", *sources(settings), "dev.py", "tests/workspace/vulture_whitelist.py"],
    }


def check(arguments: list[str]) -> int:
    """Run all checks: lint, then test."""
    lint([])
    return test(arguments)


def bench(arguments: list[str]) -> int:
    """Run all benchmarks, or those named: programs of tests/benchmarks."""
    return run_programs("benchmarks", "bench", arguments)


def soak(arguments: list[str]) -> int:
    """Run all soak tests, or those named: programs of tests/soak, minutes to hours long."""
    return run_programs("soak", "soak", arguments)


def run_programs(folder_name: str, kind: str, names: list[str]) -> int:
    """Run the programs ``<name>_<kind>.py`` of a folder of `tests`, or those named; return the highest exit code."""
    folder = ROOT / "tests" / folder_name
    programs = {file.stem.removesuffix(f"_{kind}"): file for file in sorted(folder.glob(f"*_{kind}.py"))}
    unknown = [name for name in names if name not in programs]
    if unknown:
        raise DevError(f'unknown {kind} "{unknown[0]}"; use one of {", ".join(programs)}')
    codes = [0]
    for name in names or programs:
        print(f"--- {name}", flush=True)
        codes.append(run("python", str(programs[name])))
    return max(codes)


def docs(arguments: list[str]) -> int:
    """Build the documentation into `site/`; broken links are errors."""
    code = run("mkdocs", "build", "--strict", "--quiet", *arguments)
    if not code:
        print(f"Built {ROOT / 'site'}.")
    return code


def build(arguments: list[str]) -> int:
    """Build all wheels into `dist/`, or into the given folder."""
    target = Path(arguments[0]).resolve() if arguments else ROOT / "dist"
    target.mkdir(parents=True, exist_ok=True)
    for folder in members(project_settings()):
        code = run("python", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(folder))
        if code:
            return code
    return 0


def lock(arguments: list[str]) -> int:
    """Write the versions of the environment into `pyproject.toml`."""
    listing = subprocess.run(
        [program("python"), "-m", "pip", "--disable-pip-version-check", "list", "--format=json", "--exclude-editable"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = sorted((row["name"].lower(), row["version"]) for row in json.loads(listing))
    lines = "".join(f'    "{name}=={version}",\n' for name, version in found if name not in ("pip", "setuptools"))
    file = ROOT / "pyproject.toml"
    pattern = re.compile(r"^constraint-dependencies = \[[^\]]*\]$", re.MULTILINE)
    text, count = pattern.subn(lambda _: f"constraint-dependencies = [\n{lines}]", file.read_text(), count=1)
    if count != 1:
        raise DevError("pyproject.toml: `constraint-dependencies = [...]` not found")
    file.write_text(text)
    STAMP.write_text(fingerprint(project_settings()))
    print(f"Locked {len(found)} versions.")
    return 0


# --- the demo ----------------------------------------------------------------------------------------------------


def demo(arguments: list[str]) -> int:
    """Run the demo job, 10,000 additions, in the folder `.demo`, and verify the results."""
    # Removed only afterwards: ext4 avoids recently freed inodes and skips over them for every new file; with ten
    # thousand of them the demo would take a third longer.
    previous = DEMO.with_name(f"{DEMO.name}-previous")
    shutil.rmtree(previous, ignore_errors=True)
    if DEMO.exists():
        DEMO.rename(previous)
    DEMO.mkdir()
    started = time.monotonic()
    config, tasks = EXAMPLE / "config_local.yml", EXAMPLE / "addition_tasks.json"
    files = ["--db-file", "parallel-addition-job.db", "--local-state-dir", ".cloud-tasks"]
    command = ["cloud-tasks", "run", "--config", str(config), "--task-file", str(tasks), "--force", *files, *arguments]
    code = run(*command, cwd=DEMO, ADDITION_OUTPUT_DIR=str(DEMO / "results"))
    if code:
        raise DevError(f"`cloud-tasks run` exited with code {code}; see {DEMO}")
    count = verify_demo(len(json.loads(tasks.read_text())))
    print(f"Demo: {count:,} tasks completed and verified in {time.monotonic() - started:.1f} s; results in {DEMO}.")
    shutil.rmtree(previous, ignore_errors=True)
    return 0


def verify_demo(expected: int) -> int:
    """Verify the demo's database, results and processes; return the number of tasks."""
    listing = subprocess.run(
        [program("cloud-tasks"), "status", "--db-file", "parallel-addition-job.db", "--json"],
        cwd=DEMO,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        raise DevError(f"`cloud-tasks status` failed: {listing.stderr.strip()}")
    status = json.loads(listing.stdout)
    completed = status["counts"]["completed"]
    results = sum(1 for file in (DEMO / "results").iterdir() if file.suffix == ".txt")
    if not status["finished"] or completed != expected or results != expected:
        raise DevError(f"{completed} of {expected} tasks completed, {results} results found; see {DEMO}")
    running = processes_in(DEMO)
    if running:
        raise DevError(f"processes still running: {running}")
    return int(completed)


def processes_in(folder: Path) -> list[int]:
    """Return the processes whose working directory is in the folder (on systems with /proc)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            directory = os.readlink(entry / "cwd").removesuffix(" (deleted)")
        except OSError:
            continue
        if int(entry.name) != os.getpid() and Path(directory).is_relative_to(folder):
            found.append(int(entry.name))
    return found


JOBS = {job.__name__: job for job in (setup, demo, test, check, lint, bench, docs, soak, build, lock)}


def main(arguments: list[str]) -> int:
    if sys.version_info < OLDEST_PYTHON:
        print("dev.py requires Python 3.11 or later; this is " + sys.version.split()[0], file=sys.stderr)
        return 2
    if not arguments or arguments[0] in ("-h", "--help"):
        print("python3 dev.py <job> [arguments]\n")
        for name, job in JOBS.items():
            print(f"  {name:<6} {job.__doc__}")
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name not in JOBS:
        print(f'dev.py: unknown job "{name}"; use one of {", ".join(JOBS)}', file=sys.stderr)
        return 2
    try:
        if name not in ("setup", "lock"):
            set_up()
        return JOBS[name](rest)
    except DevError as failure:
        print(f"dev.py {name}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
