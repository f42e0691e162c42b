"""Invalid options and arguments of every command: one line on stderr, no output, exit code 2, nothing changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from store_facts import new_store

from cloud_tasks.cli.context import AppContext, make_registry
from cloud_tasks.cli.main import ALIASES, COMMANDS, RENAMED, cli, main
from cloud_tasks.cli.options.durations import Duration
from cloud_tasks.config.sections import run_section
from cloud_tasks.setting_values.kinds import element_type, strip_optional

CONFIG = "provider: local\nrun: {job_id: job}\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Warnings about incompletely installed cloud plugins are not under test.
    monkeypatch.setenv("CLOUD_TASKS_DISABLE_PLUGINS", "gcp,aws,azure")
    (tmp_path / "config.yml").write_text(CONFIG)
    (tmp_path / "tasks.json").write_text('[{"id": "a", "data": {}}]')
    new_store(tmp_path, ["a"]).close()


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that fails with exit code 2; return its one line."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (2, ""), (arguments, shown)
    (line,) = (line for line in shown.err.splitlines() if " INFO - " not in line)
    assert line.startswith("Error: "), arguments
    return line


def every_command() -> Iterator[tuple[str, ...]]:
    """Yield the names of all commands, including those of groups."""
    context = click.Context(cli, obj=AppContext(registry=make_registry()))
    for name in COMMANDS:
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            yield from ((name, each) for each in command.commands)
        elif name != "worker":
            yield (name,)


def command_of(names: tuple[str, ...]) -> click.Command:
    context = click.Context(cli, obj=AppContext(registry=make_registry()))
    command = cli.get_command(context, names[0])
    assert command is not None
    return command.commands[names[1]] if isinstance(command, click.Group) else command


def own_options(command: click.Command) -> list[click.Option]:
    """Return the options of a command without the configuration options."""
    return [
        parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and not (parameter.name or "").startswith("configuration__")
    ]


def wrong_values(option: click.Option) -> Iterator[list[str]]:
    """Yield invalid arguments of an option, by its type."""
    name = max(option.opts, key=len)
    if option.is_flag or option.count:
        yield [f"{name}=nonsense"]
        return
    yield [name]
    if isinstance(option.type, click.Choice | click.types.IntParamType | click.types.FloatParamType):
        yield [name, "nonsense"]
    if isinstance(option.type, click.IntRange | click.FloatRange) and option.type.min is not None:
        yield [name, str(option.type.min - 1)]
    if isinstance(option.type, Duration):
        yield from ([name, text] for text in ("nonsense", "-1", "10 minits"))
    if isinstance(option.type, click.Path) and not option.type.dir_okay:
        yield [name, "/"]
    if isinstance(option.type, click.Path) and not option.type.file_okay:
        yield [name, "config.yml"]


NAMES = [pytest.param(names, id=" ".join(names)) for names in every_command()]


@pytest.mark.parametrize("names", NAMES)
def test_option_with_an_invalid_value_is_named_in_one_line(
    names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for option in own_options(command_of(names)):
        for words in wrong_values(option):
            assert max(option.opts, key=len) in refusal(capsys, *names, *words)


@pytest.mark.parametrize("names", NAMES)
def test_unknown_options_and_extra_arguments_are_rejected(
    names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--nonsense" in refusal(capsys, *names, "--nonsense")
    arguments = [parameter for parameter in command_of(names).params if isinstance(parameter, click.Argument)]
    needed = ["--kind", "queue"] if names == ("plugins", "new") else []
    choice = next((a.type.choices[0] for a in arguments if isinstance(a.type, click.Choice)), "word")
    assert "unexpected extra argument" in refusal(capsys, *names, *needed, *[choice for _ in arguments], "toomuch")


@pytest.mark.parametrize("names", NAMES)
def test_help_of_every_command_names_the_command(names: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*names, "--help"])
    assert ended.value.code == 0
    assert f"Usage: cloud-tasks {' '.join(names)}" in capsys.readouterr().out


@pytest.mark.parametrize("names", NAMES)
def test_help_examples_name_existing_options(names: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*names, "--help"])
    text = capsys.readouterr().out
    examples = [line for line in text.partition("Examples:")[2].splitlines() if "cloud-tasks" in line]
    assert examples
    assert all(f"cloud-tasks {' '.join(names)}" in line for line in examples)
    known = {each for option in command_of(names).params for each in (*option.opts, *option.secondary_opts)}
    # An option of a provider's plugin.
    known |= {"--project-id"}
    assert {word for line in examples for word in line.split() if word.startswith("--")} <= known


CONFIGURATION = [
    (["--config", "absent.yml"], "absent.yml"),
    (["--config", "."], ".: cannot read the file"),
    (["--provider", "nimbus"], "nimbus"),
    (["--set", "nonsense"], "--set: expected section.key=value"),
    (["--set", "run.max_cpus=3"], "max_cpu"),
    (["--max-cpu", "many"], "run.max_cpu"),
    (["--min-cpu", "-1"], "run.min_cpu"),
    (["--job-id", "Big Job"], "run.job_id"),
    (["--use-spot=maybe"], "--use-spot"),
    (["--instance-types", "["], "run.instance_types"),
    (["--architecture", "z80"], "run.architecture"),
    (["--max-total-price-per-hour", "cheap"], "run.max_total_price_per_hour"),
    (["--min-cpu", "8", "--max-cpu", "4"], "min_cpu"),
]


def wrong_setting(option: click.Option) -> list[str] | None:
    """Return invalid arguments of a configuration option; None where any text is valid."""
    flag = option.opts[0]
    key = run_section().keys.get(flag.removeprefix("--").replace("-", "_"))
    if option.is_flag:
        return [f"{flag}=maybe"]
    if key is None or strip_optional(key.kind) is str or (option.multiple and element_type(key.kind) is str):
        return None
    return [flag, "nonsense"]


SETTINGS = [
    pytest.param(words, id=words[0].partition("=")[0])
    for option in command_of(("list-regions",)).params
    if isinstance(option, click.Option) and (option.name or "").startswith("configuration__run__")
    if (words := wrong_setting(option)) is not None
]


def test_settings_with_invalid_values_are_found() -> None:
    assert len(SETTINGS) > 60


@pytest.mark.parametrize("words", SETTINGS)
def test_setting_with_an_invalid_value_is_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    name = words[0].partition("=")[0]
    line = refusal(capsys, "list-regions", "--provider", "local", *words)
    assert name in line or f"run.{name.removeprefix('--').replace('-', '_')}" in line


def test_setting_without_a_value_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    for option in command_of(("list-regions",)).params:
        if isinstance(option, click.Option) and (option.name or "").startswith("configuration__"):
            for flag in (each for each in option.opts if not option.is_flag):
                assert f"Option '{flag}' requires an argument" in refusal(capsys, "list-regions", flag)


def test_settings_are_the_same_for_all_commands() -> None:
    def settings(names: tuple[str, ...]) -> set[str]:
        return {name for each in command_of(names).params if (name := each.name or "").startswith("configuration__")}

    expected = settings(("list-regions",))
    others = [found for names in every_command() if names != ("setup",) and (found := settings(names))]
    assert {frozenset(found) for found in others} == {frozenset(expected)}
    # It belongs to no job.
    assert settings(("setup",)) < expected


@pytest.mark.parametrize(("arguments", "reason"), CONFIGURATION)
def test_configuration_option_with_an_invalid_value_is_named(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reason in refusal(capsys, "list-regions", *arguments)


MEANING = [
    ("run -c config.yml", "startup_script"),
    ("run -c config.yml --command true", "no task source given"),
    ("run -c config.yml --command true --task-file absent.json", "absent.json"),
    (
        "run -c config.yml --command true --task-file tasks.json",
        "add --force to confirm, or --continue to resume the job",
    ),
    ("run -c config.yml --command true --where failed", "add --retry-failed"),
    ("run -c config.yml --command true --retry-failed --where nowhere", 'invalid status "nowhere"'),
    ("run -c config.yml --command true --retry-failed --where ,", "no status given"),
    ("run -c config.yml --command true --retry-failed --task-file tasks.json", "omit --task-file"),
    ("run -c config.yml --command true --task-file tasks.json --min-cpu 4096", "no instance type"),
    ("run --provider local --command true --task-file tasks.json", "no job given"),
    ("plan -c config.yml --task-file absent.json", "absent.json"),
    ("plan -c config.yml --task-file tasks.json --num-tasks 3", "exclude each other"),
    ("plan -c config.yml --task-time 3 --sample-db job.db", "exclude each other"),
    ("plan -c config.yml --num-tasks 3 --sample-db config.yml", "config.yml"),
    ("plan -c config.yml --num-tasks 3 --min-cpu 4096", "no instance type"),
    ("simulate -c config.yml --task-time 3", "unknown number of tasks"),
    ("simulate -c config.yml --num-tasks 3", "unknown task duration"),
    ("simulate -c config.yml --num-tasks 3 --task-time 3 --sample-db job.db", "exclude each other"),
    ("cleanup", "no provider given"),
    ("status", "no job given"),
    ("status --db-file absent.db", "job database absent.db not found"),
    ("stop --provider local", "no job given"),
    ("show-queue --provider local", "no queue given"),
    ("show-queue --job-id job", "no provider given"),
    ("show-queue -c config.yml --task-queue-only --event-queue-only", "exclude each other"),
    ("purge-queue -c config.yml --task-queue-only --event-queue-only", "exclude each other"),
    ("delete-queue --provider local", "no queue given"),
    ("load-queue --provider local --task-file tasks.json", "no job given"),
    ("load-queue -c config.yml", "no task source given"),
    ("load-queue -c config.yml --task-file tasks.json", "--force"),
    ("load-queue -c config.yml --task-file tasks.json --continue", "omit --task-file"),
    ("monitor --provider local", "no job given"),
    ("monitor -c config.yml", 'event queue "job-events" not found'),
    ("monitor -c config.yml --db-file absent.db", "job database absent.db not found"),
    ("report", "no job given"),
    ("report --db-file config.yml", "not a job database"),
    ("report -c config.yml --output report.doc", 'unknown file extension ".doc"'),
    ("report -c config.yml --json --format text", "exclude each other"),
    ("export tasks --db-file job.db --where nowhere", 'invalid status "nowhere"'),
    ("export tasks --db-file job.db --where ,", "no status given"),
    ("export events --db-file job.db --where failed", "only tasks can be selected by status"),
    ("export tasks --db-file job.db --output tasks.xls", 'unknown file extension ".xls"'),
    ("export tasks --db-file job.db --output no/where.csv", "no/where.csv: cannot write"),
    ("report --db-file job.db --output no/where.html", "no/where.html: cannot write"),
    ("export things --db-file job.db", "is not one of"),
    ("export", "Missing argument"),
    ("logs --db-file job.db", "Missing argument"),
    ("logs b --db-file job.db", "has no task"),
    ("list-regions", "no provider given"),
    ("list-images --provider local --sort-by size", 'unknown field "size"'),
    ("image build", "no provider given"),
    ("image build --provider local", 'instances of "local" install nothing'),
    ("image bild", "No such command 'bild'"),
    ("list-instance-types --provider local --sort-by vc", "is ambiguous"),
    ("list-running-instances --provider local --all-instances --job-id job", "exclude each other"),
    ("list-running-instances --provider local --sort-by ,", "no field given"),
    ("doctor --policy", "no provider given"),
    ("doctor --policy --provider local", "local needs no permissions"),
    ("setup", "Missing argument 'PROVIDER'"),
    ("setup local", "local needs no setup"),
    ("setup local --undo --print shell", "no program that undoes the setup"),
    ("setup local --print yaml", "'yaml' is not one of 'shell', 'terraform'"),
    ("init new --provider nimbus", 'unknown queue backend "nimbus"'),
    ("init new --ship git", "--repository"),
    ("init config.yml", "config.yml"),
    ("ship", "run.startup_script_file is not set"),
    ("completion tcsh", "is not one of"),
    ("plugins show nonsense", 'unknown plugin "nonsense"'),
    ("plugins new local --kind queue", "is taken"),
    ("config show --provider nimbus", "nimbus"),
    ("lisst-regions", 'did you mean "list-regions"?'),
]


@pytest.mark.parametrize(("line", "reason"), MEANING)
def test_command_with_invalid_input_fails_in_one_line_and_changes_nothing(
    line: str, reason: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert reason in refusal(capsys, *line.split())
    assert [path for path in sorted(tmp_path.rglob("*")) if ".cloud-tasks" not in path.parts] == before


def test_invalid_arguments_are_tested_for_every_command() -> None:
    misused = {line.split()[0] for line, _ in MEANING}
    assert misused | {"worker"} >= set(COMMANDS)


WORKER = [
    (["--nonsense"], "--nonsense"),
    (["--memory", "much"], "--memory"),
    (["--memory"], "--memory"),
    (["--max-runtime", "-1"], "--max-runtime: expected 0 or more, got -1"),
    (["--max-runtime", "nan"], "--max-runtime: expected 0 or more, got nan"),
    (["--is-spot=maybe"], "--is-spot"),
    (["toomuch"], "toomuch"),
    ([], "no command; add --command"),
]


@pytest.mark.parametrize(("arguments", "reason"), WORKER)
def test_worker_with_invalid_options_fails_in_one_line(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reason in refusal(capsys, "worker", *arguments)


@pytest.mark.parametrize("name", [*COMMANDS, *ALIASES, *RENAMED])
def test_snake_case_is_accepted(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name.replace("-", "_"), "--help"])
    assert ended.value.code == 0


def test_command_of_a_missing_plugin_suggests_its_installation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLOUD_TASKS_DISABLE_PLUGINS", "gcp,aws,azure,dashboard")
    hint = "install it with: pip install 'cloud-tasks[dashboard]'"
    assert refusal(capsys, "dashboard") == f'Error: command "dashboard" is not installed; {hint}'
