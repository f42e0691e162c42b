"""Take the screenshots of `docs/dashboard.md` from a real job on this machine, with failing tasks.

    python plugins/dashboard/tests/support/screenshots.py [FOLDER]

FOLDER: output folder (default: ``docs/images``). Duration: about two minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import chromium
from served import serve

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[4]
TASKS = 700

WORKER = '''
"""Measure the stars of one exposure; some exposures are bad."""

import asyncio
import os
import random
import sys
import time

from cloud_tasks.worker import Worker


def measure(task_id, task_data, worker_data):
    chance = random.Random(f"{task_id} {os.getpid()}")
    print(f"reading {task_data['image']}")
    time.sleep(0.05 + chance.expovariate(3.5))
    draw = random.Random(task_id).random()
    if draw < 0.035:
        stars = chance.randrange(3)
        raise ValueError(f"{task_data['image']}: only {stars} stars, 4 are needed to find the position")
    if draw < 0.045:
        raise FileNotFoundError(f"no flat field for filter {task_data['filter']}")
    if draw < 0.053:
        os._exit(3)
    if draw < 0.057:
        time.sleep(1000)
    print(f"{chance.randrange(200, 4000)} stars found")
    return False, {"stars": chance.randrange(200, 4000), "seeing": round(chance.uniform(0.8, 2.2), 2)}


asyncio.run(Worker(measure, args=sys.argv[1:]).start())
'''

CONFIGURATION = """
provider: local
run:
  job_id: {job_id}
  max_cpu: 2
  max_instances: 3
  scaling_check_interval: 2
  instance_termination_delay: 1
  max_runtime: 4
  retry_on_exit: true
  startup_script: |
    exec python3 "$CLOUD_TASKS_SUBMIT_DIR/measure.py"
local:
  vcpus: 2
  price_per_cpu_hour: 0.04
"""


def start(folder: Path, job_id: str, tasks: int) -> subprocess.Popen[bytes]:
    """Start a job with this number of exposures."""
    (folder / "measure.py").write_text(WORKER)
    (folder / f"{job_id}.yml").write_text(CONFIGURATION.format(job_id=job_id))
    entries = [
        {
            "task_id": f"exposure-{number:04d}",
            "data": {"image": f"{job_id}/{number:04d}.fits", "filter": "UBVRI"[number % 5]},
        }
        for number in range(tasks)
    ]
    (folder / f"{job_id}.json").write_text(json.dumps(entries))
    program = [sys.executable, "-c", "from cloud_tasks.cli.main import main; main()"]
    line = [*program, "run", "--config", f"{job_id}.yml", "--task-file", f"{job_id}.json"]
    with (folder / f"{job_id}.log").open("wb") as log:
        return subprocess.Popen(line, cwd=folder, stdout=log, stderr=log)


def picture(page: Page, folder: Path, name: str) -> None:
    """Save a screenshot of the window."""
    page.mouse.move(1, 1)
    file = folder / f"{name}.png"
    page.screenshot(path=file, animations="disabled")
    print(f"{file}  {file.stat().st_size / 1000:.0f} kB")


def take(pictures: Path, work: Path) -> None:
    """Run the jobs and take the screenshots."""
    start(work, "night-11", 120).wait()
    job = start(work, "night-12", TASKS)
    try:
        with serve(work) as served, chromium.browser() as browser:
            page = browser.new_page(viewport={"width": 1340, "height": 1010}, color_scheme="light")
            page.goto(f"{served.address}#night-12.db")
            until = time.monotonic() + 300
            while not served.ask("api/job/night-12.db").body.count(b'"finished"'):
                assert time.monotonic() < until
                time.sleep(0.5)
            while served.get("api/job/night-12.db")["finished"] < 0.6 * TASKS:
                assert time.monotonic() < until, "the job is too slow"
                time.sleep(0.5)
            page.reload()
            page.wait_for_selector("#line canvas[aria-label]")
            page.locator("#jobs button").first.wait_for()
            picture(page, pictures, "dashboard")
            job.wait(300)
            page.emulate_media(color_scheme="dark")
            page.set_viewport_size({"width": 1120, "height": 700})
            page.reload()
            page.wait_for_selector("#line canvas[aria-label]")
            page.locator("#failures summary").first.click()
            page.locator("#failures pre").first.wait_for()
            page.evaluate("document.querySelector('#h-line').scrollIntoView(); scrollBy(0, -70)")
            picture(page, pictures, "dashboard-dark")
            page.emulate_media(color_scheme="light")
            page.set_viewport_size({"width": 1240, "height": 620})
            page.locator("#failures details").first.get_by_role("button", name="show tasks").click()
            page.locator("#tasks tbody tr:first-child .status.failed").wait_for()
            page.evaluate("document.querySelector('#h-tasks').scrollIntoView(); scrollBy(0, -70)")
            picture(page, pictures, "dashboard-tasks")
    finally:
        if job.poll() is None:
            job.terminate()
            job.wait(60)


def main() -> None:
    pictures = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    missing = chromium.missing()
    if missing:
        sys.exit(missing)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "observing-run"
        work.mkdir()
        take(pictures, work)


if __name__ == "__main__":
    main()
