"""Run settings on instances: a worker reads the value that the configuration has, through the startup script."""

from __future__ import annotations

import json
import math
import subprocess
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from configuration_fakes import load
from controller_fakes import ranked
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_tasks.config import JobConfig, RunSettings
from cloud_tasks.controller.launch.launch_request import LaunchRequestBuilder
from cloud_tasks.retry_rule import RetryRule, parse_rules
from cloud_tasks.worker.options import OPTIONS, PREFIXES, apply_options

_SHARED = sorted(
    ({field.name for field in attrs.fields(RunSettings)} & {option.name for option in OPTIONS})
    - {"accept_failures", "max_lifetime"}
)
"""Without `accept_failures`, which concerns the exit code of the job, not of an instance's worker, and `max_lifetime`,
which differs for each launch."""
_PRINT = "#!/bin/bash\nexec python3 -c 'import json, os; print(json.dumps(dict(os.environ)))'\n"
_SECONDS = st.floats(0.001, 1e9) | st.integers(1, 10**9).map(float)
_TEXT = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1).filter(str.strip)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int": st.integers(1, 10**12),
    "float": _SECONDS,
    "Seconds": _SECONDS,
    "str": _TEXT,
}
_SPECIAL = {"start_method": st.sampled_from(["fork", "spawn"]), "job_id": st.just("job"), "queue_name": st.just("job")}


def exported(run: dict[str, Any]) -> dict[str, str]:
    """Return the environment of the startup script of an instance."""
    config: JobConfig = load(options={"provider": "gcp", "gcp.project_id": "p"})
    config = attrs.evolve(config, run=attrs.evolve(config.run, **run))
    builder = LaunchRequestBuilder(config, _PRINT, job_id="job", queue_name="job", run_id="r", earlier_attempts=0)
    script = builder.compose(ranked(), (), "token", config.max_lifetime).startup_script
    environ = {"PATH": "/usr/bin:/bin", "PYTHONUTF8": "1"}
    ended = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(ended.stdout)
    return found


def test_attempts_of_earlier_runs_are_exported_to_the_worker() -> None:
    config: JobConfig = load(options={"provider": "gcp", "gcp.project_id": "p"})
    builder = LaunchRequestBuilder(config, _PRINT, job_id="job", queue_name="job", run_id="r", earlier_attempts=7)
    script = builder.compose(ranked(), (), "token", config.max_lifetime).startup_script
    environ = {"PATH": "/usr/bin:/bin", "PYTHONUTF8": "1"}
    ended = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=True)
    options = options_of(json.loads(ended.stdout))
    assert (options.earlier_attempts, options.max_attempts) == (7, config.run.max_attempts + 7)


def options_of(environ: dict[str, str]) -> SimpleNamespace:
    data = SimpleNamespace()
    apply_options(data, SimpleNamespace(), environ)
    return data


def test_run_settings_and_worker_options_share_their_names() -> None:
    exported_only = {"retry", "command", "shell", "region"}
    assert {"max_runtime", "max_attempts", "idle_limit", "retry_on_exit", "log_store", "event_spool_bytes"} <= set(
        _SHARED
    )
    assert exported_only.isdisjoint(_SHARED)


@settings(max_examples=10, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("prefix", PREFIXES)
def test_worker_reads_every_exported_run_setting(prefix: str, data: st.DataObject) -> None:
    kinds = {field.name: str(field.type).removesuffix(" | None") for field in attrs.fields(RunSettings)}
    run = {
        name: data.draw(_SPECIAL[name] if name in _SPECIAL else _VALUES[kinds[name]], label=name) for name in _SHARED
    }
    environ = {name: text for name, text in exported(run).items() if name.startswith(prefix)}
    read = options_of(environ)
    assert {name: getattr(read, name) for name in _SHARED} == run


def test_worker_reads_zero_limits_as_no_limit() -> None:
    read = options_of(exported({"idle_limit": 0.0, "max_lifetime": math.inf, "keepalive_interval": 0.0}))
    assert (read.idle_limit, read.max_lifetime, read.drain_after, read.keepalive_interval) == (None, None, None, 0.0)


def test_worker_drains_before_its_tasks_would_be_cut_and_ends_before_its_instance() -> None:
    read = options_of(exported({"max_lifetime": 7200.0, "shutdown_grace_period": 20.0}))
    assert (read.drain_after, read.max_lifetime) == (3600.0, 7170.0)


def test_worker_reads_retry_rules_and_command() -> None:
    rules = (RetryRule(on="exit", codes=(137,), attempts=5), RetryRule(on="exception", types=("OSError",)))
    command = "echo \"{name}\" 'it'\n$HOME `x`\n"
    environ = exported({"retry": rules, "command": command, "shell": "sh"})
    assert parse_rules(options_of(environ).retry_rules) == rules
    assert (environ["CLOUD_TASKS_COMMAND"], environ["CLOUD_TASKS_SHELL"]) == (command, "sh")


def test_workers_of_instances_leave_failed_tasks_to_the_job() -> None:
    assert options_of(exported({"accept_failures": "0"})).accept_failures == "100%"
