"""Bundles of jobs: made once, recorded, uploaded, and downloaded by addresses of each launch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from controller_fakes import ranked
from shipped_jobs import shipped_job

from cloud_tasks.cli.context import make_registry
from cloud_tasks.config import load_config
from cloud_tasks.controller.launch.launch_request import LaunchRequestBuilder, check_launch
from cloud_tasks.controller.setup import shipping
from cloud_tasks.controller.setup.shipping import distributions_of, prepare_program, record_bundle, requirements_of
from cloud_tasks.errors import InputError
from cloud_tasks.shipping import Bundle, LeftOut, Piece


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """Build bundles whose content is the number of the call; return the arguments of the calls."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setenv("CLOUD_TASKS_CACHE_DIR", str(tmp_path / "cache"))

    def build(**arguments: Any) -> Bundle:
        calls.append(arguments)
        return bundle_of(arguments["cache"], str(len(calls)))

    monkeypatch.setattr(shipping, "build_bundle", build)
    monkeypatch.chdir(tmp_path)
    return calls


def bundle_of(cache: Path, text: str) -> Bundle:
    def piece(kind: str) -> Piece:
        content = f"{kind} {text}".encode()
        name, digest = f"{kind}-{text}.tar.gz", hashlib.sha256(content).hexdigest()
        cache.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(content)
        return Piece(name=name, sha256=digest, size=len(content), path=cache / name)

    left = LeftOut(path=".env", reason="may hold secrets")
    return Bundle(
        code=piece("code"),
        environment=piece("environment"),
        uv={"x86_64": piece("uv")},
        python=">=3.11",
        files=("work.py",),
        left_out=(left,),
    )


STAGING = {"run.staging": "mem://bucket/jobs"}


def test_prepare_program_builds_from_the_configuration(made: list[dict[str, Any]], tmp_path: Path) -> None:
    config = shipped_job(tmp_path, **STAGING, **{"run.ship": ["*.py"], "run.requirements": ["numpy==2"]})
    program = prepare_program(config, [ranked()])
    (call,) = made
    assert program is not None
    assert call["folder"] == tmp_path
    assert call["ship"] == ("*.py",)
    assert call["requirements"].lines == ("numpy==2",)
    assert call["architectures"] == {"x86_64"}
    assert call["distributions"][0] == "cloud-tasks"


def test_resumed_job_has_the_bundle_that_it_was_started_with(made: list[dict[str, Any]], tmp_path: Path) -> None:
    config = shipped_job(tmp_path, **STAGING)
    first = prepare_program(config, [ranked()])
    assert first is not None
    record_bundle(first, "work")
    resumed = prepare_program(config, [ranked()], resumed="work")
    assert resumed is not None
    assert len(made) == 1
    assert resumed.script == first.script
    # Without the record, new instances get what is here now.
    (tmp_path / ".cloud-tasks" / "work" / "bundle.json").write_text("{")
    again = prepare_program(config, [ranked()], resumed="work")
    assert again is not None
    assert again.script != first.script


@pytest.mark.parametrize(
    ("staging", "message"),
    [
        (None, 'run.staging: required to ship a program to instances of "remote"'),
        ("gs://bucket/x", 'run.staging: instances of "remote" cannot download from gs://bucket/x'),
        ("folder", 'run.staging: instances of "remote" cannot download from folder'),
    ],
)
def test_prepare_program_needs_a_staging_that_instances_can_use(
    made: list[dict[str, Any]], tmp_path: Path, staging: str | None, message: str
) -> None:
    options = {} if staging is None else {"run.staging": staging}
    with pytest.raises(InputError, match="set it to mem://bucket/prefix") as caught:
        prepare_program(shipped_job(tmp_path, **options), [ranked()])
    assert message in str(caught.value)
    assert not made


@pytest.mark.parametrize(
    "options", [{"compute": "memory", "run.startup_script": "true"}, {"run.startup_script": "true"}]
)
def test_job_with_a_script_of_its_own_ships_nothing(
    made: list[dict[str, Any]], tmp_path: Path, options: dict[str, str]
) -> None:
    config = shipped_job(tmp_path, **{"run.program": None, **options})
    assert prepare_program(config, [ranked()]) is None
    assert not made


def test_downloads_are_signed_for_each_launch_and_in_no_record(made: list[dict[str, Any]], tmp_path: Path) -> None:
    config = shipped_job(tmp_path, **STAGING)
    program = prepare_program(config, [ranked()])
    assert program is not None
    builder = LaunchRequestBuilder(config, program, job_id="work", queue_name="work", run_id="r", earlier_attempts=0)
    request = builder.compose(ranked(), (), "token", None)
    assert "signature" not in request.startup_script
    sent = [builder.finish(request).startup_script for _ in range(2)]
    assert sent[0] != sent[1]
    for script in sent:
        assert script.count("?signature=") == 3
        assert ": download " not in script
        assert "https://store.example/bucket/jobs/code-1.tar.gz?signature=" in script
        assert "export CLOUD_TASKS_JOB_ID=work" in script


def test_check_launch_sees_the_script_as_it_is_sent(made: list[dict[str, Any]], tmp_path: Path) -> None:
    config = shipped_job(tmp_path, **STAGING)
    program = prepare_program(config, [ranked()])
    launch = check_launch(config, [ranked()], job_id="work", queue_name="work", program=program)
    assert launch is not None
    assert "signature" in launch.startup_script


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["numpy", "scipy"], "lines"),
        (["numpy"], "lines"),
        (["needs.txt"], "needs.txt"),
        ([], "requirements.txt"),
    ],
)
def test_requirements_are_given_or_found_beside_the_program(tmp_path: Path, given: list[str], found: str) -> None:
    for name in ("needs.txt", "requirements.txt"):
        (tmp_path / name).write_text("x\n")
    config = shipped_job(
        tmp_path,
        **{
            "run.requirements": [str(tmp_path / each) if each.endswith("txt") else each for each in given],
            "run.program": str(tmp_path / "work.py"),
        },
    )
    requirements = requirements_of(config)
    assert requirements is not None
    assert (requirements.file.name if requirements.file else "lines") == found
    with pytest.raises(InputError, match="absent"):
        requirements_of(
            shipped_job(tmp_path, **{"run.requirements": ["absent.txt"], "run.program": str(tmp_path / "work.py")})
        )


def test_distributions_of_a_worker_have_the_extras_that_it_needs(tmp_path: Path) -> None:
    def of(**options: Any) -> set[str]:
        config = load_config(make_registry(), file=None, options={"run.program": "json", **options}, environ={})
        return set(distributions_of(config))

    gcp = {"provider": "gcp", "gcp.project_id": "p"}
    assert of(**gcp) == {"cloud-tasks", "cloud-tasks-gcp"}
    assert of(**gcp, **{"run.result_store": "gs://bucket/results"}) == {"cloud-tasks", "cloud-tasks-gcp[files]"}
    assert of(**gcp, **{"run.log_store": "s3://bucket/logs"}) == {"cloud-tasks", "cloud-tasks-gcp"}
    azure = of(provider="azure", queue="azure-servicebus")
    assert azure == {"cloud-tasks", "cloud-tasks-azure[azure-servicebus]"}
