"""The first job on Google Cloud on a bare machine, in the three commands of its guide: pip, `setup` and `run`."""

from __future__ import annotations

from pathlib import Path

from bare_job_folder import bare_job_folder
from bare_machine import debian_root
from cloud_storage import cloud_storage
from fake_server import FakeServer
from gcp_job_folder import PROJECT
from installed_program import installed_program
from project_admin import ProjectAdmin
from shipped_project import write_project

ROBOT = f"cloud-tasks-worker@{PROJECT}.iam.gserviceaccount.com"
STAGING = f"gs://cloud-tasks-{PROJECT}/staging"


def test_first_job_needs_installation_setup_and_run(tmp_path: Path, emulator: str, bare_cache: Path) -> None:
    project = ProjectAdmin(FakeServer(), PROJECT)
    with (
        cloud_storage(project=project) as store,
        bare_job_folder(
            tmp_path, emulator=emulator, store=store, cache=bare_cache, root=debian_root("bookworm")
        ) as job,
    ):
        store.sign_in(ROBOT)
        environment = job.commands.environment
        for name in ("IAM", "RESOURCE_MANAGER", "SERVICE_USAGE"):
            environment[f"CLOUD_TASKS_GCP_{name}_ENDPOINT"] = project.server.url
        environment |= {
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "CLOUD_TASKS_CONFIG_DIR": str(tmp_path / "settings"),
            # A loaded machine of tests is no fleet.
            "CLOUD_TASKS_RUN_INSTANCE_TYPES": "^e2-standard-2$",
            "CLOUD_TASKS_RUN_MAX_INSTANCES": "1",
            "CLOUD_TASKS_RUN_SCALING_CHECK_INTERVAL": "1",
            "CLOUD_TASKS_RUN_INSTANCE_TERMINATION_DELAY": "0",
        }
        write_project(job.folder, tasks=20)

        job.commands.program = installed_program(
            tmp_path / "installed", "cloud-tasks[gcp]", projects=("core", "plugins/gcp")
        )

        made = job.commands.run("setup", "gcp", "--region", "us-central1", "--yes")
        assert made.returncode == 0, made.stderr
        assert f"    staging: {STAGING}\n" in made.stdout

        ran = job.commands.run("run", "--program", "find_craters.py", "--task-file", "tasks.json", "--provider", "gcp")
        assert ran.returncode == 0, ran.stderr
        assert "Completed: 20" in ran.stdout
        inserts = job.commands.gce.state()["inserts"]
        assert {tuple(each["accounts"]) for each in inserts} == {(ROBOT,)}

        undone = job.commands.run("setup", "gcp", "--undo", "--yes")
        assert undone.returncode == 0, undone.stderr
        assert f"kept     bucket cloud-tasks-{PROJECT}: has" in undone.stdout
        assert ROBOT not in project.iam.accounts
