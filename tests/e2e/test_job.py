"""Complete jobs with real processes, from task file to report."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any


def expected_sums(count: int) -> dict[str, int]:
    return {f"task-{number:05d}": number + 1 for number in range(1, count + 1)}


def counts(status: dict[str, Any]) -> dict[str, int]:
    return {name: count for name, count in status["counts"].items() if count}


def shift_times(instance: Path) -> list[str]:
    """Set the times in the local provider's records of an instance back by twelve hours; return their keys."""
    shifted = []
    for file, key in (("instance.json", "created_at"), ("process.json", "at"), ("ended.json", "at")):
        if (instance / file).exists():
            record = json.loads((instance / file).read_text())
            record[key] = (datetime.fromisoformat(record[key]) - timedelta(hours=12)).isoformat()
            (instance / file).write_text(json.dumps(record))
            shifted.append(key)
    return shifted


def test_job_completes_every_task_once_and_leaves_no_process(desk: Any) -> None:
    job = desk.run("run", "--config", str(desk.configure()), "--task-file", str(desk.tasks(200)))
    assert job.returncode == 0, job.stderr
    assert desk.sums() == expected_sums(200)
    assert desk.processes() == []
    status = desk.status()
    assert status["finished"] is True
    assert (status["total"], counts(status), status["attempts"], status["failures"]) == (
        200,
        {"completed": 200},
        200,
        0,
    )
    assert "Total tasks: 200" in job.stdout
    assert "Completed: 200" in job.stdout


def test_job_runs_on_two_instances(desk: Any) -> None:
    config = desk.configure(max_cpu=1, min_instances=2, max_instances=2, environment="export ADDITION_TASK_DELAY=0.05")
    job = desk.run("run", "--config", str(config), "--task-file", str(desk.tasks(100)))
    assert job.returncode == 0, job.stderr
    assert desk.sums() == expected_sums(100)
    assert counts(desk.status()) == {"completed": 100}


def test_job_with_an_instance_that_fails_every_task_at_once_completes_all_of_them(desk: Any) -> None:
    (desk.folder / "worker_broken.py").write_text("""
import os, pathlib, sys, time
from cloud_tasks.worker import Worker
done = pathlib.Path(os.environ["CLOUD_TASKS_SUBMIT_DIR"], "done")
def run(task_id, data, worker):
    if os.environ["BROKEN"]:
        while len(list(done.iterdir())) < 10:  # An instance is judged by what others have completed.
            time.sleep(0.01)
        os._exit(1)
    time.sleep(0.1)
    (done / task_id).touch()
    return False, 1
Worker(run, args=sys.argv[1:]).run()
""")
    (desk.folder / "done").mkdir()
    environment = 'export BROKEN=""; mkdir "$CLOUD_TASKS_SUBMIT_DIR/first" 2>/dev/null && BROKEN=yes'
    config = desk.configure(
        worker="worker_broken.py", environment=environment, max_cpu=1, min_instances=2, max_instances=2
    )
    job = desk.run("run", "--config", str(config), "--task-file", str(desk.tasks(150)))
    assert counts(desk.status()) == {"completed": 150}, job.stderr
    assert job.returncode == 0
    assert "fails what others complete" in job.stderr
    assert "Broken instances:" in job.stdout
    assert "most frequent reason: exit code 1" in job.stdout


def test_program_that_cannot_be_imported_ends_the_job_with_its_error(desk: Any) -> None:
    (desk.folder / "worker_typo.py").write_text("import numpy_missing\n")
    config = desk.configure(worker="worker_typo.py", scaling_check_interval=3600)
    job = desk.run("run", "--config", str(config), "--task-file", str(desk.tasks(20)))
    assert job.returncode == 1
    error = "ModuleNotFoundError: No module named 'numpy_missing'"
    assert "2 instances exited before the worker started; last output of local-" in job.stderr
    assert f": {error}; instance terminated: startup script exited (exit code 1); resume it with" in job.stderr
    assert job.stderr.index("sent no heartbeat; its last output:") < job.stderr.index("Error: job stopped")
    assert "startup script is" not in job.stderr
    assert desk.processes() == []


def test_output_file_receives_the_events(desk: Any) -> None:
    arguments = ("--config", str(desk.configure()), "--task-file", str(desk.tasks(5)), "--output-file", "events.jsonl")
    job = desk.run("run", *arguments)
    assert job.returncode == 0, job.stderr
    lines = (desk.folder / "events.jsonl").read_text().splitlines()
    assert sum('"task_completed"' in line for line in lines) == 5


def test_report_counts_exceptions(desk: Any) -> None:
    environment = "export ADDITION_EXCEPTION_PROBABILITY=1"
    config = desk.configure(worker="worker_addition_exceptions.py", environment=environment)
    job = desk.run("run", "--config", str(config), "--task-file", str(desk.tasks(10)))
    assert job.returncode == 3, job.stderr
    status = desk.status()
    assert (counts(status), status["finished"]) == ({"failed": 10}, True)
    assert "10: ZeroDivisionError: division by zero" in job.stdout


def test_status_distinguishes_exited_and_timed_out_tasks(desk: Any) -> None:
    for kind, outcome in (("EXIT", "exited"), ("TIMEOUT", "timed_out")):
        environment = f"export ADDITION_{kind}_PROBABILITY=1"
        config = desk.configure(worker="worker_addition_exceptions.py", environment=environment, max_runtime=1)
        job = desk.run("run", "--config", str(config), "--task-file", str(desk.tasks(4)), "--force")
        assert job.returncode == 3, job.stderr
        assert counts(desk.status()) == {outcome: 4}
        assert desk.processes() == []


def test_failed_tasks_are_retried_up_to_the_limit(desk: Any) -> None:
    environment = "export ADDITION_EXIT_PROBABILITY=1"
    config = desk.configure(worker="worker_addition_exceptions.py", environment=environment, retry_on_exit=True)
    job = desk.run("run", "--config", str(config), "--task-file", str(desk.tasks(2)))
    assert job.returncode == 3, job.stderr
    status = desk.status()
    assert status["finished"] is True
    assert (counts(status), status["attempts"]) == ({"dead": 2}, 6)


def test_job_resumes_to_the_same_terminal_states_after_the_controller_was_killed(desk: Any, eventually: Any) -> None:
    config = desk.configure(environment="export ADDITION_TASK_DELAY=0.02")
    controller = desk.start("run", "--config", str(config), "--task-file", str(desk.tasks(300)))
    eventually(lambda: controller.poll() is not None or len(list(desk.results.glob("*.txt"))) >= 30)
    assert controller.poll() is None, controller.stderr.read()
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    resumed = desk.run("run", "--config", str(config), "--continue")
    assert resumed.returncode == 0, resumed.stderr
    assert desk.sums() == expected_sums(300)
    assert desk.processes() == []
    status = desk.status()
    assert (status["total"], counts(status), status["finished"]) == (300, {"completed": 300}, True)


def test_job_is_not_charged_for_instances_that_ended_while_no_controller_ran(desk: Any, eventually: Any) -> None:
    waiting = '[ -e "$CLOUD_TASKS_SUBMIT_DIR/ready.json" ] || exec sleep 600'
    desk.configure(environment=waiting, max_lifetime=3600, max_total_cost=4, keepalive_startup_timeout=60)
    priced = json.loads((desk.folder / "config.yml").read_text()) | {"local": {"price_per_cpu_hour": 1}}
    config = desk.write_config(priced)
    controller = desk.start("run", "--config", str(config), "--task-file", str(desk.tasks(30)))
    eventually(lambda: controller.poll() is not None or (desk.folder / "addition.db").exists())
    eventually(lambda: controller.poll() is not None or desk.status()["instances"])
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    (desk.folder / "ready.json").touch()
    # Twelve hours pass, in which the instances end.
    processes = desk.processes()
    for number in (signal.SIGSTOP, signal.SIGKILL):  # no process sees the end of another
        for pid in processes:
            os.kill(pid, number)
    records = desk.folder.glob(".cloud-tasks/instances/*/*")
    assert [shift_times(path) for path in records] == [["created_at", "at"]]
    with closing(sqlite3.connect(desk.folder / "addition.db")) as connection, connection:
        names = ("intended_at", "launched_at", "pending_until", "started_at", "deadline", "ends_by")
        connection.execute(f"UPDATE instances SET {', '.join(f'{name} = {name} - 43200' for name in names)}")
        connection.execute("UPDATE counters SET value = value - 43200 WHERE name LIKE 'run:%'")
    # Two CPUs for an hour, and the time in which an instance boots and ends itself.
    assert 2 < float(desk.status()["cost_usd"]) < 2.5
    resumed = desk.run("run", "--config", str(config), "--continue")
    assert resumed.returncode == 0, resumed.stderr
    assert 2 < float(desk.status()["cost_usd"]) < 2.5


def test_interrupted_job_terminates_its_instances_and_can_be_resumed(desk: Any, eventually: Any) -> None:
    config = desk.configure(environment="export ADDITION_TASK_DELAY=0.05")
    controller = desk.start("run", "--config", str(config), "--task-file", str(desk.tasks(150)))
    eventually(lambda: controller.poll() is not None or len(list(desk.results.glob("*.txt"))) >= 10)
    controller.send_signal(signal.SIGINT)
    _, errors = controller.communicate(timeout=120)
    assert controller.returncode == 130, errors
    assert desk.processes() == []
    resumed = desk.run("run", "--config", str(config), "--continue")
    assert resumed.returncode == 0, resumed.stderr
    assert counts(desk.status()) == {"completed": 150}


def test_dry_run_changes_nothing(desk: Any) -> None:
    arguments = ("--config", str(desk.configure()), "--task-file", str(desk.tasks(5)))
    job = desk.run("run", *arguments, "--dry-run")
    assert job.returncode == 0, job.stderr
    assert desk.left_behind() == []


def test_existing_job_is_not_overwritten_without_confirmation(desk: Any) -> None:
    arguments = ("--config", str(desk.configure()), "--task-file", str(desk.tasks(5)))
    assert desk.run("run", *arguments).returncode == 0
    before = (desk.folder / "addition.db").read_bytes()
    again = desk.run("run", *arguments)
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert (desk.folder / "addition.db").read_bytes() == before
    assert desk.run("run", *arguments, "--force").returncode == 0


def test_startup_script_without_a_worker_fails_the_job_and_shows_its_log(desk: Any) -> None:
    config = desk.configure(
        startup_script="echo the disk is missing; exit 3", keepalive_startup_timeout=3, keepalive_interval=1
    )
    job = desk.run("run", "--config", str(config), "--task-file", str(desk.tasks(5)))
    assert job.returncode == 1, job.stderr
    assert "the disk is missing" in job.stderr
    assert "Traceback" not in job.stderr
    assert desk.processes() == []


def test_shell_command_job_applies_retry_rules(desk: Any) -> None:
    config = desk.configure(
        startup_script=None,
        command="test {num1} != 3 && echo done {num2}",
        retry=[{"on": "exit", "codes": [1], "attempts": 2}],
    )
    job = desk.run("run", "--config", str(config), "--task-file", str(desk.tasks(10)))
    assert job.returncode == 3, job.stderr
    status = desk.status()
    assert counts(status) == {"completed": 9, "dead": 1}
    assert (status["attempts"], status["retries"]) == (11, 1)


def test_shell_command_job_runs_in_the_folder_of_the_configuration_and_logs_show_its_lines(desk: Any) -> None:
    names = ("my file", "$(touch pwned)", "x")
    data = [{"id": f"s{n}", "data": {"name": name, "n": n}} for n, name in enumerate(names)]
    (desk.folder / "tasks.json").write_text(json.dumps(data))
    (desk.folder / "input").write_text("some text\n")
    (desk.folder / "out").mkdir()
    config = desk.configure(
        startup_script=None,
        command="cat input 'input' > out/{n}; echo \"{name}\" >> out/{n}; [ {n} != 2 ] || nosuchtool {name} | head -1",
        log_store="logs",
    )
    plan = desk.run("plan", "--config", str(config), "--task-file", "tasks.json")
    assert f"Folder:  {desk.folder}" in plan.stdout
    desk.run("run", "--config", str(config), "--task-file", "tasks.json")
    assert counts(desk.status()) == {"completed": 2, "exited": 1}
    for number, name in enumerate(names):
        assert (desk.folder / "out" / str(number)).read_text() == f"some text\nsome text\n{name}\n"
    assert not list(desk.folder.rglob("pwned"))
    assert (desk.folder / "logs" / "s2.1.log").read_text() == "bash: line 1: nosuchtool: command not found\n"
    shown = desk.run("logs", "s2", "--config", str(config)).stdout
    assert "Reason: exit code 127: nosuchtool: command not found" in shown
    line = "cat input 'input' > out/2; echo \"x\" >> out/2; [ 2 != 2 ] || nosuchtool x | head -1"
    assert f"  Command:\n    {line}\n" in shown
    attempt = json.loads(desk.run("logs", "s2", "--config", str(config), "--json").stdout)["attempts"][0]
    assert attempt["details"]["command"] == line
    before = desk.left_behind()
    misspelled = desk.run("run", "--config", str(config), "--continue", "--command", "cat {nam}")
    assert misspelled.returncode == 2
    assert misspelled.stderr.splitlines()[-1].endswith("did you mean {name}? (braces of the shell: {{nam}})")
    assert desk.left_behind() == before
