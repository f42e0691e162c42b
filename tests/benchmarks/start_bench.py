"""From boot to the first task on a bare Debian: a shipped program relative to apt, venv and pip, in the same root.

python tests/benchmarks/start_bench.py [--rounds 3] [--suite bookworm]

Needs root, debootstrap, and the mirrors of Debian and of the package index, whose speed is part of both.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cloud_tasks.plugin import Download
from cloud_tasks.plugin.kit import DOWNLOAD_FUNCTION, download_command
from cloud_tasks.shipping import Bundle, DownloadedPiece, Piece, Requirements, boot_program, build_bundle

sys.path.insert(0, str(Path(__file__).parents[1] / "clouds" / "support"))

from bare_machine import debian_root, missing_for_roots

PROGRAM = """
import sys, time
import humanize, more_itertools
from cloud_tasks.worker import Worker

def process_task(task_id, data, worker_data):
    open("/first-task", "a").write(f"{time.time()}\\n")
    return False, humanize.intcomma(data["radius"])

if __name__ == "__main__":
    Worker(process_task, args=["--task-file", "tasks.json"]).run()
"""
REQUIREMENTS = ["humanize>=4", "more-itertools>=10"]
BY_APT = """#!/bin/sh
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq python3-pip python3-venv >/dev/null
python3 -m venv /opt/venv
/opt/venv/bin/pip install --quiet --disable-pip-version-check --find-links /wheels cloud-tasks REQUIREMENTS
cd /project
/opt/venv/bin/python find_craters.py
"""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def shipped_script(bundle: Bundle, staging: str) -> str:
    def downloaded(piece: Piece) -> DownloadedPiece:
        command = download_command(Download(url=f"{staging}/{piece.name}"), to='"$1"')
        return DownloadedPiece(name=piece.name, sha256=piece.sha256, lines=(command,))

    assert bundle.code is not None
    return boot_program(
        code=downloaded(bundle.code),
        environment=downloaded(bundle.environment),
        uv={architecture: downloaded(piece) for architecture, piece in bundle.uv.items()},
        program=("python", "find_craters.py"),
        python=bundle.python,
        functions=DOWNLOAD_FUNCTION,
    )


def boot(template: Path, folder: Path, script: str, *, project: Path, wheels: Path) -> float:
    """Return the seconds from the first line of a script on a new machine to its first task."""
    root = folder / "root"
    # A copy, not links: apt changes files in place.
    subprocess.run(["cp", "-a", f"{template}/.", str(root)], check=True)
    shutil.copytree(project, root / "project")
    shutil.copytree(wheels, root / "wheels")
    (root / "start").write_text(script)
    variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    enter = 'mount -t proc proc "$1/proc" && exec chroot "$1" /bin/sh /start'
    started = time.time()
    with (folder / "console").open("wb") as console:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", enter, "sh", str(root)],
            env=variables,
            stdout=console,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise SystemExit((folder / "console").read_text(errors="replace")[-2000:])
    seconds = float((root / "first-task").read_text().split()[0]) - started
    shutil.rmtree(root)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--suite", default="bookworm")
    args = parser.parse_args()
    if missing := missing_for_roots():
        print(f"skipped: {missing}")
        return 0
    template = debian_root(args.suite)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project, cache, wheels = folder / "project", folder / "cache", folder / "unpacked"
        project.mkdir()
        (project / "find_craters.py").write_text(PROGRAM)
        (project / "tasks.json").write_text(json.dumps([{"id": "t1", "data": {"radius": 1000}}]))
        bundle = build_bundle(
            folder=project,
            ship=("*",),
            requirements=Requirements.from_lines(REQUIREMENTS, folder=project, where="bench"),
            distributions=("cloud-tasks",),
            architectures={platform.machine()},
            cache=cache,
        )
        with tarfile.open(bundle.environment.path) as archive:
            archive.extractall(wheels, filter="data")
        by_apt = BY_APT.replace("REQUIREMENTS", " ".join(f"'{each}'" for each in REQUIREMENTS))
        found: dict[str, list[float]] = {"apt, venv and pip": [], "shipped": []}
        with serving(cache) as staging:
            scripts = dict(zip(found, (by_apt, shipped_script(bundle, staging)), strict=True))
            for number in range(args.rounds):
                for kind, script in scripts.items():
                    machine = folder / f"machine-{number}-{len(found[kind])}-{kind[0]}"
                    machine.mkdir()
                    seconds = boot(template, machine, script, project=project, wheels=wheels / "wheels")
                    print(f"round {number + 1}: {kind} {seconds:.1f} s", flush=True)
                    found[kind].append(seconds)
    old, new = (statistics.median(each) for each in found.values())
    for kind, spans in found.items():
        print(f"{kind:20} {statistics.median(spans):6.1f} s to the first task ({', '.join(f'{s:.1f}' for s in spans)})")
    print(f"{'ratio':20} {old / new:6.1f}     (goal: 6, and at most 5 s)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
