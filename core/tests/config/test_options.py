"""Options made from settings, and the ``config`` command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
from click.testing import CliRunner, Result
from configuration_fakes import SECRET, make_registry

from cloud_tasks.cli.commands.project.config import config as config_command
from cloud_tasks.cli.context import AppContext
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.config import JobConfig, RunSettings
from cloud_tasks.errors import InputError


def run(*words: str, environ: dict[str, str] | None = None) -> JobConfig:
    """Return the configuration of a command with these arguments."""
    registry = make_registry()
    found: list[JobConfig] = []

    @click.command()
    @click.option("--limit", type=int)
    @click.option("--verbose", "-v", count=True)
    @configuration_options(registry)
    def command(**values: Any) -> None:
        found.append(load_from_options(registry, values, environ=environ or {}))

    command.main(list(words), standalone_mode=False)
    return found[0]


def config(*words: str) -> Result:
    app = AppContext(registry=make_registry())
    return CliRunner().invoke(config_command(app.registry), list(words), obj=app, catch_exceptions=True)


def _words(field: attrs.Attribute[Any]) -> tuple[list[str], Any]:
    flag = f"--{field.name.replace('_', '-')}"
    samples: dict[str, tuple[list[str], Any]] = {
        "bool": ([flag], True),
        "int": ([flag, "3"], 3),
        "float": ([flag, "2.5"], 2.5),
        "Seconds": ([flag, "1m 30s"], 90.0),
        "SecondsOrUnlimited": ([flag, "unlimited"], "unlimited"),
        "str": ([flag, "abc"], "abc"),
        "CountOrShare": ([flag, "2.5%"], "2.5%"),
        "Money": ([flag, "4.5"], 4.5),
        "tuple[str, ...]": ([flag, "a", "b,c"], ["a", "b", "c"]),
        "Mapping[str, float]": ([flag, "{Intel Ice Lake: 1.5}"], {"Intel Ice Lake": 1.5}),
        "Mapping[str, str]": ([flag, "{ALPHA: 'env:BETA'}"], {"ALPHA": "env:BETA"}),
        "Architecture": ([flag, "ARM64"], "arm64"),
        "tuple[RetryRule, ...]": (
            [flag, "[{on: exit}]"],
            [{"on": "exit", "codes": [], "types": [], "attempts": None}],
        ),
    }
    return samples[str(field.type).removesuffix(" | None")]


# Values of an enumeration, or with a file.
_SPECIAL = {
    "prefer": (["--prefer", "speed"], "speed"),
    "on_error": (["--on-error", "leave"], "leave"),
    "shell": (["--shell", "sh"], "sh"),
    "start_method": (["--start-method", "spawn"], "spawn"),
    "startup_script_file": (["--startup-script-file", __file__], __file__),
    # Only with a program: here a module.
    "requirements": (["--requirements", "numpy", "--program", "json"], ["numpy"]),
    "ship": (["--ship", "*.py", "--program", "json"], ["*.py"]),
    "setup": (["--setup", "make all", "--program", "json"], "make all"),
    "min_total_price_per_hour": (["--min-total-price-per-hour", "4.5"], 4.5),
}


@pytest.mark.parametrize("field", attrs.fields(RunSettings), ids=lambda field: field.name)
def test_option_exists_for_every_key_of_run(field: attrs.Attribute[Any]) -> None:
    words, value = _SPECIAL.get(field.name) or _words(field)
    loaded = run(*words)
    assert loaded.as_dict()["run"][field.name] == value
    assert str(loaded.origins[f"run.{field.name}"]) == f"command line ({words[0]})"


def test_switch_has_an_opposite() -> None:
    loaded = run("--no-use-spot", environ={"CLOUD_TASKS_RUN_USE_SPOT": "1"})
    assert loaded.run.use_spot is False
    assert str(loaded.origins["run.use_spot"]) == "command line (--no-use-spot)"


@pytest.mark.parametrize(
    ("words", "types"),
    [
        (["--instance-types", "n1-.*", "n2-.*"], ("n1-.*", "n2-.*")),
        (["--instance-types", "n1-.*,n2-.*"], ("n1-.*", "n2-.*")),
        (["--instance-types", "n1-.* n2-.*"], ("n1-.*", "n2-.*")),
        (["--instance-types=n1-.*", "n2-.*", "--min-cpu", "2"], ("n1-.*", "n2-.*")),
        (["--instance-types", "n1-.*", "-v", "--instance-types", "n2-.*"], ("n1-.*", "n2-.*")),
        (["--min-cpu", "2", "--instance-types", "n[1,2]-.{1,3}"], ("n[1,2]-.{1,3}",)),
        ([], ()),
    ],
)
def test_list_option_takes_words_up_to_the_next_option(words: list[str], types: tuple[str, ...]) -> None:
    assert run(*words).run.instance_types == types


def test_list_option_without_a_word_is_refused() -> None:
    with pytest.raises(click.UsageError, match="requires an argument"):
        run("--instance-types")


def test_flags_of_plugins_set_the_section_of_the_chosen_plugin() -> None:
    loaded = run("--provider", "gcp", "--project-id", "p", "--service-account", "me")
    settings = loaded.settings_for("compute", "gcp")
    assert (settings.project_id, settings.service_account) == ("p", "me")
    assert run("--provider", "aws", "--project-id", "q").settings_for("queue", "aws").project_id == "q"


def test_flag_of_another_plugin_is_refused() -> None:
    with pytest.raises(InputError, match="--service-account: an option of gcp, not of aws"):
        run("--provider", "aws", "--service-account", "me")


def test_unknown_option_is_a_usage_error_with_a_suggestion() -> None:
    with pytest.raises(click.NoSuchOption, match="--min-cpu"):
        run("--min-cpus", "3")


def test_set_option_reaches_every_key() -> None:
    loaded = run("--set", "provider=gcp", "--set", "gcp.project_id=p", "--set", "run.min_cpu=2", "--min-cpu", "1")
    assert (loaded.run.min_cpu, loaded.settings_for("queue", "gcp").project_id) == (2, "p")


def test_option_and_key_give_the_same_error(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("run:\n  min_cpu: two\n")
    messages = []
    for words in (["--min-cpu", "two"], ["--config", str(file)]):
        with pytest.raises(InputError) as caught:
            run(*words)
        messages.append(str(caught.value).removeprefix(f"{caught.value.where}: "))
    assert messages[0] == messages[1] == 'run.min_cpu: expected a whole number, got "two"'


def test_config_show_lists_values_with_origins_and_masks_secrets(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(f"provider: gcp\nrun:\n  min_cpu: 2\ngcp:\n  project_id: p\n  secret_key: {SECRET}\n")
    file.chmod(0o600)

    result = config("show", "-c", str(file), "--min-cpu", "4")

    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in result.stdout.splitlines()}
    assert lines["provider"] == f'"gcp" {file}:1'
    assert lines["run.min_cpu"] == "4 command line (--min-cpu)"
    assert lines["run.max_cpu"] == "- default"
    assert lines["gcp.secret_key"] == f'"********" {file}:6'
    assert result.stderr == (f"Warning: run.min_cpu: 4 from command line (--min-cpu) replaces 2 from {file}:3\n")
    assert SECRET not in result.output


def test_config_show_prints_json() -> None:
    result = config("show", "--json", "--provider", "gcp", "--secret-key", SECRET)
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["gcp"]["secret_key"] == {"value": "********", "origin": "command line (--secret-key)"}
    assert "visible to other users" in result.stderr
    assert SECRET not in result.output


def test_config_schema_includes_the_installed_plugins() -> None:
    result = config("schema")
    assert result.exit_code == 0, result.output
    assert "project_id" in json.loads(result.stdout)["properties"]["gcp"]["properties"]


def test_config_options_import_no_plugin_and_no_sdk() -> None:
    program = (
        "import sys, cloud_tasks.cli.options.config_options\n"
        "bad = ('cloud_tasks_', 'google', 'boto', 'azure', 'cloud_tasks.controller', 'cloud_tasks.worker')\n"
        "print([name for name in sys.modules if name.startswith(bad)])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_invalid_configuration_exits_with_2_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("run:\n  min_cpus: 2\n")
    words = [
        sys.executable,
        "-c",
        "from cloud_tasks.cli.main import main; main()",
        "config",
        "show",
        "-c",
        "config.yml",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'Error: config.yml:2: run.min_cpus: unknown key; did you mean "min_cpu"?\n'
