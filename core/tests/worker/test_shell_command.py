"""Workers whose tasks are shell commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from worker_harness import Finished, Harness

from cloud_tasks.worker.shell_command import _result

PROGRAM = (
    "import sys; from cloud_tasks.worker.shell_command import run_command_worker; run_command_worker(sys.argv[1:])"
)


def run(worker: Harness, *args: str, **environment: str) -> Finished:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *args],
        cwd=worker.folder,
        env=worker.environment | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    worker.processes.append(process)
    return worker.finish(process)


def test_command_worker_runs_a_parameter_grid(worker) -> None:
    command = "echo {seed} {mode} > out-{seed}-{mode}; printf {seed} > $CLOUD_TASKS_RESULT_FILE"
    finished = run(worker, "--command", command, "--param", "seed=1..3", "--param", "mode=fast,slow")
    assert finished.code == 0, finished.log
    assert (worker.folder / "out-2-slow").read_text() == "2 slow\n"
    assert sorted(event["result"] for event in worker.events("task_completed")) == [1, 1, 2, 2, 3, 3]
    assert worker.nothing_is_left()


def test_command_worker_reports_exit_codes_and_signals(worker) -> None:
    run(worker, "--command", "if [ {n} = 1 ]; then exit 7; else kill -SEGV $$; fi", "--param", "n=1,2")
    events = {event["task_id"]: event for event in worker.events("task_exited")}
    assert events["n=1"]["exit_code"] == 7
    assert events["n=2"]["signal"] == "SIGSEGV"


@pytest.mark.parametrize("mode", [(), ("--reuse-processes", "10")])
def test_command_worker_keeps_the_end_of_the_output_of_completed_tasks(worker: Harness, mode: tuple[str, ...]) -> None:
    run(worker, "--command", "seq {n}; echo done >&2", "--param", "n=3,100000", "--capture-output", *mode)
    tails = {event["task_id"]: event["log_tail"] for event in worker.events("task_completed")}
    assert tails["n=3"] == "1\n2\n3\ndone\n"
    assert len(tails["n=100000"]) == 8192
    assert tails["n=100000"].endswith("99999\n100000\ndone\n")


def test_command_worker_keeps_the_end_of_logged_output(worker: Harness) -> None:
    run(worker, "--command", "echo hello", "--param", "n=1", "--task-log-dir", "logs")
    assert worker.events("task_completed")[0]["log_tail"] == "hello\n"


def test_command_result_of_any_json_is_kept(worker: Harness) -> None:
    command = 'printf %s {text} > "$CLOUD_TASKS_RESULT_FILE"'
    texts = ["NaN", '{"a": [Infinity]}', '"\\\\udcff"', "[" * 5000, "[true, 17]", "1" * 5000]
    tasks = worker.folder / "tasks.json"
    tasks.write_text(json.dumps([{"id": f"t{n}", "data": {"text": text}} for n, text in enumerate(texts)]))
    run(worker, "--command", command, "--task-file", str(tasks))
    results = {event["task_id"]: event["result"] for event in worker.events("task_completed")}
    expected = ["NaN", {"a": ["Infinity"]}, "\\udcff", "[" * 5000, [True, 17], "1" * 5000]
    assert [results.get(f"t{n}") for n in range(len(texts))] == expected


def test_command_worker_requires_a_command(worker) -> None:
    finished = run(worker, "--param", "n=1")
    assert finished.code == 2
    assert "--command" in finished.log


def ended(worker: Harness) -> dict[str, dict[str, Any]]:
    """Return the event that ended each task."""
    kinds = ("task_completed", "task_exited", "task_exception", "task_timed_out")
    return {event["task_id"]: event for kind in kinds for event in worker.events(kind)}


def tasks(worker: Harness, **data: dict[str, Any]) -> str:
    path = worker.folder / "data.json"
    path.write_text(json.dumps([{"id": task_id, "data": values} for task_id, values in data.items()]))
    return str(path)


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ('printf %s "{g}"', "$(touch pwned)"),
        ("printf %s '{g}'", "$(touch pwned)"),
        ("printf %s {g}", "$(touch pwned)"),
        ("rm -f '{f}'; printf %s \"{f}\"", "my file"),
        ("bash -c 'printf %s \"$1\"' _ {g}", "$(touch pwned)"),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_value_in_any_quotes_is_data(worker, command: str, output: str, shell: str) -> None:
    for name in ("my", "file", "my file"):
        (worker.folder / name).touch()
    source = tasks(worker, a={"f": "my file", "g": "$(touch pwned)"})
    finished = run(
        worker, "--shell", shell, "--command", f"{{{{ {command}; }}}} > $CLOUD_TASKS_RESULT_FILE", "--task-file", source
    )
    assert finished.code == 0, finished.log
    assert ended(worker)["a"]["result"] == output
    assert not (worker.folder / "pwned").exists()
    assert (worker.folder / "my").exists()
    assert (worker.folder / "my file").exists() != command.startswith("rm")


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (
            "bash -c 'echo {g}'",
            "--command: {g} is not data there: bash executes it as code; use bash -c 'echo \"$1\"' _ {g}",
        ),
        ("cat {fastq1}", "--command: the task's data has no field for {fastq1}; did you mean {fastq_1}?"),
        ("awk '{print}' {g}", "no field for {print}"),
    ],
)
def test_command_is_refused_before_the_first_task(worker, command: str, problem: str) -> None:
    data = {"g": "$(touch pwned)", "fastq_1": "x"}
    finished = run(worker, "--command", command, "--task-file", tasks(worker, a=data, b=data))
    assert finished.code == 2
    assert problem in finished.log
    assert worker.events("task_started") == []


def test_command_is_refused_before_the_first_task_of_a_queue_and_no_task_is_lost(worker) -> None:
    worker.load({"name": "x"}, {"name": "y"})
    names = {"CLOUD_TASKS_PROVIDER": "FOLDER", "CLOUD_TASKS_QUEUE_NAME": "job", "CLOUD_TASKS_IDLE_LIMIT": "0.5"}
    finished = run(worker, CLOUD_TASKS_COMMAND="cat {nam}", **names)
    assert finished.code == 2
    assert "CLOUD_TASKS_COMMAND: the task's data has no field for {nam}; did you mean {name}?" in finished.log
    assert worker.queued_events("task_started") == []
    finished = run(worker, CLOUD_TASKS_COMMAND="echo {name}", **names)
    assert sorted(event["command"] for event in worker.queued_events("task_completed")) == ["echo x", "echo y"]


def test_pipeline_with_a_missing_program_fails_with_that_reason(worker) -> None:
    source = tasks(worker, a={})
    for shell, reason in (("bash", "nosuchtool: command not found"), ("sh", None)):
        (worker.folder / "events.log").unlink(missing_ok=True)
        run(
            worker,
            "--shell",
            shell,
            "--command",
            "echo hello; nosuchtool x | head -1",
            "--task-file",
            source,
            "--capture-output",
        )
        event = ended(worker)["a"]
        assert event.get("cause") == reason
        assert event["event_type"] == ("task_completed" if reason is None else "task_exited")
        if reason is not None:
            assert event["exit_code"] == 127


def test_failure_in_the_middle_and_unset_variables_fail_the_task(worker) -> None:
    source = tasks(worker, a={})
    for command in ("false; echo done", "nosuchtool; echo done", "echo $NOT_SET_ANYWHERE", "cat nosuchfile | sort"):
        (worker.folder / "events.log").unlink(missing_ok=True)
        run(worker, "--command", command, "--task-file", source)
        assert ended(worker)["a"]["event_type"] == "task_exited", command


def test_writer_ended_by_sigpipe_fails_the_task_and_names_the_way_to_accept_it(worker) -> None:
    run(worker, "--command", "yes | head -1", "--task-file", tasks(worker, a={}), "--capture-output")
    assert ended(worker)["a"]["exit_code"] == 141
    assert "{ program || [ $? -eq 141 ]; } | head" in ended(worker)["a"]["cause"]
    (worker.folder / "events.log").unlink()
    finished = run(worker, "--command", "{ yes || [ $? -eq 141 ]; } | head -1", "--task-file", tasks(worker, a={}))
    assert ended(worker)["a"]["event_type"] == "task_completed", finished.log


def test_data_of_the_task_is_a_json_file(worker) -> None:
    data = {"files": [f"file {number}" for number in range(20_000)], "text": "x" * 3_000_000}
    copy = "cp $CLOUD_TASKS_DATA_FILE copy; dirname $CLOUD_TASKS_DATA_FILE > $CLOUD_TASKS_RESULT_FILE"
    run(worker, "--command", copy, "--task-file", tasks(worker, a=data))
    assert json.loads((worker.folder / "copy").read_text()) == data
    assert not Path(ended(worker)["a"]["result"]).exists()


def test_long_list_is_passed_as_arguments_and_too_long_values_fail_with_the_file_to_read(worker) -> None:
    long = {"l": [f"file {number:05}" for number in range(20_000)], "t": ""}
    data = {
        "a": long,
        "b": long | {"l": ["x" * 1000] * 3000},
        "c": long | {"t": "x" * 131_072},
        "d": long | {"t": "a\0b"},
    }
    run(
        worker,
        "--command",
        "true '{t}'; printf '%s\n' {l} | wc -l > $CLOUD_TASKS_RESULT_FILE",
        "--task-file",
        tasks(worker, **data),
    )
    events = ended(worker)
    assert events["a"]["result"] == 20_000
    for name in ("b", "c", "d"):
        assert events[name]["exception_type"] == "InputError"
        assert "CLOUD_TASKS_DATA_FILE" in events[name]["exception"]


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("ln -s /dev/zero $F", "a symbolic link, not a regular file"),
        ("echo 1 > x; ln -s $PWD/x $F", "a symbolic link, not a regular file"),
        ("mkfifo $F", "not a regular file"),
        ("mkdir $F", "not a regular file"),
        ("truncate -s 1T $F", "1,099,511,627,776 bytes; the limit is 104,857,600"),
    ],
)
@pytest.mark.parametrize("mode", [(), ("--result-store", "results")])
def test_result_file_that_is_no_small_regular_file_fails_the_task(
    worker: Harness, mode: tuple[str, ...], command: str, problem: str
) -> None:
    command = command.replace("$F", "$CLOUD_TASKS_RESULT_FILE")
    run(worker, "--command", command, "--task-file", tasks(worker, a={}), *mode)
    event = ended(worker)["a"]
    assert event["event_type"] == "task_exception"
    assert problem in event["exception"]
    assert event["exception"].startswith("CLOUD_TASKS_RESULT_FILE: ")
    assert "stack_trace" not in event
    assert "Traceback" not in event.get("log_tail", "")
    assert worker.nothing_is_left()


@pytest.mark.parametrize("mode", [(), ("--reuse-processes", "10"), ("--start-method", "spawn")])
def test_problem_of_the_data_of_a_command_has_no_traceback(worker: Harness, mode: tuple[str, ...]) -> None:
    data = {"a": {"n": 1, "t": ""}, "b": {"n": "x", "t": ""}, "c": {"n": 1, "t": "x" * 131_072}, "d": {"n": 1}}
    finished = run(
        worker, "--command", "true $(( {n} )) {t}", "--task-file", tasks(worker, **data), "--capture-output", *mode
    )
    events = ended(worker)
    assert events.pop("a")["event_type"] == "task_completed"
    assert sorted(events) == ["b", "c", "d"]
    for event in events.values():
        assert event["exception_type"] == "InputError"
        assert "stack_trace" not in event
        assert event["exception"] in event["log_tail"]
    assert "Traceback" not in finished.log + json.dumps(worker.events("task_exception"))


def test_every_end_of_an_attempt_has_its_command(worker) -> None:
    data = {
        "a": {"s": "0", "u": "https://me:secret@host/x y"},
        "b": {"s": "exit 7", "u": "x"},
        "c": {"s": "9" * 2000, "u": "$(x)"},
    }
    command = "echo {u} >/dev/null; case {s} in 0) ;; exit*) exit 7 ;; *) sleep 60 ;; esac"
    run(worker, "--command", command, "--task-file", tasks(worker, **data), "--max-runtime", "0.5")
    events = ended(worker)
    assert events["a"]["command"] == command.replace("{u}", "'https://host/x y'").replace("{s}", "0")
    assert events["b"]["command"] == command.replace("{u}", "x").replace("{s}", "'exit 7'")
    assert events["c"]["event_type"] == "task_timed_out"
    assert events["c"]["command"].startswith("echo '$(x)' >/dev/null; case 999")
    assert len(events["c"]["command"]) == 1000


def test_command_starts_in_the_folder_of_the_configuration_if_it_is_on_this_machine(worker, tmp_path: Path) -> None:
    command, config_folder = "pwd | tee $CLOUD_TASKS_RESULT_FILE", tmp_path / "config"
    config_folder.mkdir()
    run(worker, "--command", command, "--task-file", tasks(worker, a={}))
    assert ended(worker)["a"]["result"] == str(worker.folder)
    (worker.folder / "events.log").unlink()
    source, folder = tasks(worker, a={}), str(config_folder)
    run(worker, "--command", command, "--task-file", source, "--log-store", "logs", CLOUD_TASKS_SUBMIT_DIR=folder)
    assert ended(worker)["a"]["result"] == folder
    assert [file.name for file in (config_folder / "logs").iterdir()] == ["a.1.log"]


def test_unknown_shell_in_the_environment_is_refused(worker) -> None:
    finished = run(worker, "--command", "true", "--param", "n=1", CLOUD_TASKS_SHELL="fish")
    assert finished.code == 2
    assert 'CLOUD_TASKS_SHELL: expected bash or sh, got "fish"' in finished.log


def test_command_worker_passes_the_text_of_a_parameter(worker) -> None:
    parameters = ("--param", "v=1.10,1e5,007,hello world,a;b,'x,y'", "--param", "n=01..02")
    finished = run(worker, "--command", "printf '%s|' {v} {n} >> out", *parameters, "--num-simultaneous-tasks", "1")
    assert finished.code == 0, finished.log
    expected = "".join(f"{v}|{n}|" for v in ("1.10", "1e5", "007", "hello world", "a;b", "x,y") for n in ("01", "02"))
    assert (worker.folder / "out").read_text() == expected


def test_command_worker_refuses_parameters_beside_a_task_file(worker) -> None:
    finished = run(worker, "--command", "true", "--param", "n=1", "--task-file", "tasks.json")
    assert finished.code == 2
    assert "--param and --task-file exclude each other" in finished.log


def test_command_worker_reports_a_malformed_parameter(worker) -> None:
    finished = run(worker, "--command", "true", "--param", "n=1,1")
    assert finished.code == 2
    assert 'grid:n=1,1: parameter "n": value "1" is given twice' in finished.log


def test_text_of_a_result_file_is_unchanged(tmp_path: Path) -> None:
    (tmp_path / "result").write_bytes(b"a\r\nb\r")
    assert _result(str(tmp_path / "result")) == "a\r\nb\r"


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', '[{"b":{"a":1,"\\u0061":2}}]', "1e400", "[-1e400]", "{", "1" * 5000])
def test_result_file_that_is_no_json_is_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "result").write_text(f"{text}\n")
    assert _result(str(tmp_path / "result")) == text


def test_result_file_of_json_is_its_value(tmp_path: Path) -> None:
    (tmp_path / "result").write_text('{"a": [1.5, {"b": 1e-400}], "c": 1e308}')
    assert _result(str(tmp_path / "result")) == {"a": [1.5, {"b": 0.0}], "c": 1e308}
