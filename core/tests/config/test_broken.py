"""Errors of the configuration: one exact line each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from configuration_fakes import SECRET

from cloud_tasks.config import ConfigurationError, JobConfig, RunSettings
from cloud_tasks.config.yaml_reader import read_document
from cloud_tasks.errors import InputError
from cloud_tasks.model import Money
from cloud_tasks.setting_values import Seconds, field_types, strip_optional

Read = Callable[..., JobConfig]

FILES = [
    ("gcp:\n  min_cpus: 3", 'config.yml:2: gcp.min_cpus: unknown key; did you mean "min_cpu"?'),
    ("run:\n  min-cpu: 3", 'config.yml:2: run.min-cpu: unknown key; did you mean "min_cpu"?'),
    ("run:\n  qqqqq: 3", "config.yml:2: run.qqqqq: unknown key"),
    ("gpc:\n  project_id: x", 'config.yml:1: gpc: unknown section or key; did you mean "gcp"?'),
    ("min_cpu: 3", "config.yml:1: min_cpu: unknown section or key"),
    ("provider: gpc", 'config.yml:1: provider: unknown provider "gpc"; did you mean "gcp"?'),
    ("provider: 7", "config.yml:1: provider: expected text, got 7; put it in quotes"),
    ("provider: [gcp]", "config.yml:1: provider: expected text, got a list"),
    (
        "provider: gcp\nqueue: sqss",
        'config.yml:2: queue: unknown queue plugin "sqss"; installed: aws, gcp',
    ),
    (
        "event_sinks: [jsonl, consol]",
        'config.yml:1: event_sinks: unknown event sink "consol"; did you mean "console"?',
    ),
    (
        "event_sinks: [foo, bar]",
        'config.yml:1: event_sinks: unknown event sinks "foo" and "bar"; installed: console, jsonl, sqlite',
    ),
    (
        "event_sinks: [consol, jsonl, foo]",
        'config.yml:1: event_sinks: unknown event sink "consol" (did you mean "console"?), '
        'and unknown event sink "foo"; installed: console, jsonl, sqlite',
    ),
    ("run: 3", "config.yml:1: run: expected settings (key: value)"),
    ("- run", "config.yml:1: expected settings (key: value)"),
    ("run:\n  min_cpu: 2\n  min_cpu: 4", "config.yml:3: min_cpu: given twice (first in line 2); remove one"),
    ("run:\n  a: 1\nrun:\n  b: 2", "config.yml:3: run: given twice (first in line 1); remove one"),
    ("run:\n  min_cpu: [", "config.yml:2: invalid YAML: expected the node content, but found '<stream end>'"),
    ("run:\n\tmin_cpu: 2", r"config.yml:2: invalid YAML: found character '\t' that cannot start any token"),
    (
        "run:\n  image: !!python/name:os.system",
        "config.yml:2: this tag is not supported in a configuration; "
        'put a value that begins with "!", "&" or "*" in quotes',
    ),
    ("run:\n  1: 2", "config.yml:2: a key must be plain text"),
    ("run: {}\n---\nrun: {}", "config.yml:2: invalid YAML: but found another document"),
    ('run:\n  min_cpu: "8"', 'config.yml:2: run.min_cpu: expected a whole number, got "8"'),
    ("run:\n  min_cpu: 010", 'config.yml:2: run.min_cpu: expected a whole number, got "010"; write 10'),
    ("run:\n  min_cpu: -007", 'config.yml:2: run.min_cpu: expected a whole number, got "-007"; write -7'),
    ("run:\n  min_cpu: 0x10", 'config.yml:2: run.min_cpu: expected a whole number, got "0x10"; write 16'),
    ("run:\n  min_cpu: 0o17", 'config.yml:2: run.min_cpu: expected a whole number, got "0o17"; write 15'),
    ("run:\n  min_cpu: 1_000", 'config.yml:2: run.min_cpu: expected a whole number, got "1_000"; write 1000'),
    (
        "run:\n  min_cpu: 1:30",
        'config.yml:2: run.min_cpu: expected a whole number, got "1:30"; write it in decimal digits',
    ),
    (
        "run:\n  min_cpu: .inf",
        'config.yml:2: run.min_cpu: expected a whole number, got ".inf"; write it in decimal digits',
    ),
    ("run:\n  min_total_memory: 01.5", 'config.yml:2: run.min_total_memory: expected a number, got "01.5"; write 1.5'),
    (
        "run:\n  max_runtime: 010",
        'config.yml:2: run.max_runtime: expected a duration such as 90s, 10m or 2h, got "010"; write 10',
    ),
    (
        "run:\n  max_total_cost: 025",
        'config.yml:2: run.max_total_cost: expected an amount in US dollars such as 25 or 0.5, got "025"; write 25',
    ),
    ("run:\n  min_cpu: true", "config.yml:2: run.min_cpu: expected a whole number, got true"),
    ("run:\n  min_cpu: 8.0", "config.yml:2: run.min_cpu: expected a whole number, got 8.0"),
    ("run:\n  min_cpu: yes", "config.yml:2: run.min_cpu: expected a whole number, got true"),
    ("run:\n  use_spot: 1", "config.yml:2: run.use_spot: expected true or false, got 1"),
    ('run:\n  use_spot: "yes"', 'config.yml:2: run.use_spot: expected true or false, got "yes"'),
    (
        "run:\n  max_runtime: 10 minits",
        'config.yml:2: run.max_runtime: expected a duration such as 90s, 10m or 2h, got "10 minits"',
    ),
    ("run:\n  max_runtime: 0m", "config.yml:2: run.max_runtime: 0 is not above 0"),
    ("run:\n  max_lifetime: 0", "config.yml:2: run.max_lifetime: 0 is not above 0; use unlimited for no limit"),
    ("run:\n  idle_limit: '90'", 'config.yml:2: run.idle_limit: expected a duration such as 90s, 10m or 2h, got "90"'),
    ("run:\n  cpus_per_task: two", 'config.yml:2: run.cpus_per_task: expected a number, got "two"'),
    (
        "run:\n  max_total_cost: $5",
        'config.yml:2: run.max_total_cost: expected an amount in US dollars such as 25 or 0.5, got "$5"',
    ),
    ("run:\n  image: 2404", "config.yml:2: run.image: expected text, got 2404; put it in quotes"),
    ("run:\n  image: {a: 1}", "config.yml:2: run.image: expected text, got a mapping"),
    ("run:\n  boot_disk_types: [1]", "config.yml:2: run.boot_disk_types: expected text, got 1; put it in quotes"),
    ("run:\n  boot_disk_types: 3", "config.yml:2: run.boot_disk_types: expected a list, got 3"),
    ("run:\n  architecture: sparc", 'config.yml:2: run.architecture: "sparc" is not one of x86_64, arm64'),
    ("run:\n  prefer: beauty", 'config.yml:2: run.prefer: "beauty" is not one of price, speed, availability'),
    (
        "run:\n  job_id: My_Job",
        'config.yml:2: run.job_id: "My_Job" is not a valid name; '
        'use a lower-case letter, then at most 23 of a-z, 0-9 and "-"',
    ),
    (
        "run:\n  instance_types: 'n1-('",
        'config.yml:2: run.instance_types: "n1-(" is not a valid regular expression: '
        "missing ), unterminated subpattern at position 3",
    ),
    ("run:\n  cpus_per_task: 0", "config.yml:2: run.cpus_per_task: 0 is not above 0"),
    ("run:\n  max_instances: 0", "config.yml:2: run.max_instances: 0 is below 1"),
    ("run:\n  max_runtime: -1", "config.yml:2: run.max_runtime: -1 is not above 0"),
    ("run:\n  min_cpu: 8\n  max_cpu: 4", "config.yml:3: run.max_cpu: 4 is less than min_cpu, 8 (config.yml:2)"),
    ("run:\n  min_instances: 11", "config.yml:2: run.min_instances: 11 is more than max_instances, 10 (default)"),
    (
        "run:\n  min_total_price_per_hour: 12.5",
        "config.yml:2: run.min_total_price_per_hour: 12.5 is more than max_total_price_per_hour, 10 (default)",
    ),
    (
        "run:\n  min_instances: 4\n  min_cpu: 2\n  max_total_cpus: 6",
        "config.yml:4: run.max_total_cpus: min_instances 4 × min_cpu 2 = 8 is more than max_total_cpus 6; "
        "change it, or one of min_instances (config.yml:2), min_cpu (config.yml:3)",
    ),
    (
        "run:\n  min_total_cpus: 200\n  max_cpu: 8",
        "config.yml:3: run.max_cpu: max_instances 10 × max_cpu 8 = 80 is less than min_total_cpus 200; "
        "change it, or one of min_total_cpus (config.yml:2), max_instances (default)",
    ),
    (
        "run:\n  min_cpu: 8\n  max_total_cpus: 4",
        "config.yml:3: run.max_total_cpus: min_cpu 8 is more than max_total_cpus 4; "
        "change it, or one of min_cpu (config.yml:2)",
    ),
    (
        "run:\n  startup_script: x\n  startup_script_file: config.yml",
        "config.yml:3: run.startup_script_file: run.startup_script is also set (config.yml:2); set one of them",
    ),
    (
        "run:\n  region: us-central1\n  zone: us-east1-b",
        'config.yml:3: run.zone: "us-east1-b" is not in the region "us-central1" (config.yml:2)',
    ),
    ("run:\n  retry: [{on: fire}]", 'config.yml:2: run.retry: "fire" is not one of exit, exception, timeout'),
    ("run:\n  retry: [{on: exit, code: [1]}]", "config.yml:2: run.retry: unknown key: code"),
    ("run:\n  retry: [{codes: [1]}]", "config.yml:2: run.retry: on is missing"),
    ("run:\n  retry: [exit]", 'config.yml:2: run.retry: expected a mapping, got "exit"'),
    ("run:\n  retry: [{on: timeout, codes: [1]}]", 'config.yml:2: run.retry: "codes" is valid with "on: exit" only'),
    ("gcp:\n  retention_days: -1", "config.yml:2: gcp.retention_days: -1 is below 0"),
    ("gcp:\n  public: 3", "config.yml:2: gcp.public: expected true or false, got 3"),
    (
        "gcp:\n  secret_key: 12345678",
        "config.yml:2: gcp.secret_key: expected text; the given value is a secret and not shown",
    ),
    (
        "gcp:\n  secret_key: short",
        "config.yml:2: gcp.secret_key: invalid value (a secret, not shown)",
    ),
]


@pytest.mark.parametrize(("text", "message"), FILES, ids=[text for text, _ in FILES])
def test_load_config_reports_an_error_of_the_file_in_one_exact_line(read: Read, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(text)
    assert str(caught.value) == message


OUTSIDE: list[tuple[dict[str, Any], str]] = [
    ({"options": {"run.min_cpu": "x"}}, '--min-cpu: run.min_cpu: expected a whole number, got "x"'),
    ({"options": {"run.min_cpu": "3.5"}}, "--min-cpu: run.min_cpu: expected a whole number, got 3.5"),
    ({"options": {"run.min_cpu": "010"}}, '--min-cpu: run.min_cpu: expected a whole number, got "010"; write 10'),
    ({"options": {"run.min_cpu": "-3"}}, "--min-cpu: run.min_cpu: -3 is below 0"),
    ({"options": {"provider": "gpc"}}, '--provider: provider: unknown provider "gpc"; did you mean "gcp"?'),
    (
        {"options": {"run.max_instances": "nan"}},
        '--max-instances: run.max_instances: expected a whole number, got "nan"',
    ),
    (
        {"options": {"run.cpus_per_task": "1e999"}},
        "--cpus-per-task: run.cpus_per_task: expected a number, got one that is too large",
    ),
    (
        {"options": {"provider": "gcp", "--profile": "me"}},
        "--profile: an option of aws, not of gcp; remove it, or choose another provider",
    ),
    ({"sets": ["run.min_cpus=3"]}, '--set: run.min_cpus: unknown key; did you mean "min_cpu"?'),
    ({"sets": ["min_cpu=3"]}, '--set: min_cpu: unknown key; did you mean "run.min_cpu"?'),
    ({"sets": ["gpc.min_cpu=3"]}, '--set: gpc: unknown section or key; did you mean "gcp"?'),
    ({"sets": ["run.min_cpu"]}, "--set: expected section.key=value"),
    ({"sets": ["=3"]}, "--set: expected section.key=value"),
    ({"sets": ["run.use_spot=perhaps"]}, '--set: run.use_spot: expected true or false, got "perhaps"'),
    ({"sets": ["run.retry=[{on: exit"]}, None),
    (
        {"environ": {"CLOUD_TASKS_RUN_MIN_CPUS": "3"}},
        'CLOUD_TASKS_RUN_MIN_CPUS: run.min_cpus: unknown key; did you mean "min_cpu"?',
    ),
    (
        {"environ": {"CLOUD_TASKS_RUN_MIN_CPU": "many"}},
        'CLOUD_TASKS_RUN_MIN_CPU: run.min_cpu: expected a whole number, got "many"',
    ),
    (
        {"options": {"run.startup_script_file": "/nowhere/start.sh"}},
        "--startup-script-file: run.startup_script_file: file not found: /nowhere/start.sh",
    ),
]


@pytest.mark.parametrize(("given", "message"), OUTSIDE, ids=[str(given) for given, _ in OUTSIDE])
def test_load_config_reports_an_error_of_an_option_or_variable_in_one_exact_line(
    read: Read, given: dict[str, Any], message: str | None
) -> None:
    with pytest.raises(InputError) as caught:
        read(None, **given)
    assert str(caught.value) == (
        message or "--set: run.retry: invalid YAML: expected ',' or '}', but got '<stream end>'"
    )


def test_load_config_reports_all_problems_in_the_order_of_the_file(read: Read) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read("run:\n  min_cpu: x\n  nonsense: 1\ngcp:\n  max_cpu: y\n", sets=["run.use_spot=maybe"])
    assert str(caught.value).splitlines() == [
        'config.yml:2: run.min_cpu: expected a whole number, got "x"',
        "config.yml:3: run.nonsense: unknown key",
        'config.yml:5: gcp.max_cpu: expected a whole number, got "y"',
        '--set: run.use_spot: expected true or false, got "maybe"',
    ]


def test_load_config_refuses_a_missing_file_a_folder_and_binary_content(read: Read, tmp_path: Path) -> None:
    from configuration_fakes import make_registry

    from cloud_tasks.config import load_config

    (tmp_path / "binary.yml").write_bytes(b"\xff\xfe\x00run")

    def message(name: str) -> str:
        with pytest.raises(InputError) as caught:
            load_config(make_registry(), file=Path(name), options={}, environ={})
        return str(caught.value)

    assert message("none.yml") == "none.yml: file not found; check the path given with --config"
    assert message(".") == ".: cannot read the file: Is a directory"
    assert message("binary.yml") == "binary.yml: not UTF-8 text; save it as UTF-8"


def test_limits_of_options_and_file_are_checked_together(read: Read) -> None:
    text = "run:\n  min_cpu: 8\n  max_cpu: 16\n"
    with pytest.raises(InputError) as caught:
        read(text, options={"run.max_cpu": "4"})
    assert str(caught.value) == "--max-cpu: run.max_cpu: 4 is less than min_cpu, 8 (config.yml:2)"

    together = read(text, options={"run.max_cpu": "4", "run.min_cpu": "2"}).run

    assert (together.min_cpu, together.max_cpu) == (2, 4)


def test_validators_ignore_a_replaced_value(read: Read) -> None:
    assert read("run:\n  max_instances: 0\n", options={"run.max_instances": "5"}).run.max_instances == 5


def test_missing_startup_script_file_is_reported_with_its_full_path(read: Read, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read("run:\n  startup_script_file: start.sh\n")
    expected = f"config.yml:2: run.startup_script_file: file not found: {tmp_path / 'start.sh'}"
    assert str(caught.value) == expected


def test_malformed_set_is_not_repeated_in_its_error(read: Read) -> None:
    with pytest.raises(InputError) as caught:
        read(None, sets=[f"gcp.secret_key:{SECRET}"])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ["run: &a\n  retry: [*a]", "run:\n  retry: &a [*a]", "run: &a\n  <<: *a"])
def test_read_document_refuses_an_alias_to_itself(read: Read, text: str) -> None:
    with pytest.raises(InputError, match=r"config\.yml"):
        read(text)


def test_read_document_bounds_the_expansion_of_aliases(read: Read) -> None:
    levels = [f"- &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(InputError, match="expands to too many values"):
        read("run:\n  retry:\n  - &l0 [x]\n  " + "\n  ".join(levels))


def test_read_document_executes_nothing(read: Read, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    with pytest.raises(InputError):
        read(f'run:\n  image: !!python/object/apply:os.mkdir ["{trap}"]\n')
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"run: {{max_cpu: {'9' * 5000}}}\n", "c.yml:1: an integer of more than 1,000 digits"),
        ("a" * (17 << 20), "c.yml: larger than 16 MB"),
        (
            "x0: &x0 {a: 1}\n"
            + "".join(f"x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 9)}]}}\n" for n in range(1, 30)),
            "c.yml: expands to too many values; remove nested aliases",
        ),
    ],
    ids=["digits", "size", "merged mappings"],
)
def test_read_document_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yml").write_text(content)
    with pytest.raises(InputError) as caught:
        read_document(Path("c.yml"))
    assert str(caught.value).startswith(message)


NUMBERS = [
    name for name, kind in field_types(RunSettings).items() if strip_optional(kind) in (int, float, Money, Seconds)
]


@pytest.mark.parametrize("value", ["9" * 400, "1e308", "1e30", "1e-320", "-1e30"])
@pytest.mark.parametrize("is_option", [False, True], ids=["file", "option"])
def test_extreme_number_is_refused_for_every_key(read: Read, value: str, is_option: bool) -> None:
    assert len(NUMBERS) > 50
    for name in NUMBERS:
        number = value if value.isdigit() else repr(float(value))
        file, options = ("", {f"run.{name}": value}) if is_option else (f"run:\n  {name}: {number}\n", {})
        with pytest.raises(ConfigurationError) as caught:
            read(file, options=options)
        (problem,) = caught.value.problems
        assert f"run.{name}: " in problem


@pytest.mark.parametrize("command", ["''", "'  '", '"\\n"'])
def test_empty_command_is_refused(read: Read, command: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^config\.yml:2: run\.command: expected text, got none; "):
        read(f"run:\n  command: {command}\n")


def test_text_with_a_nul_character_is_refused(read: Read) -> None:
    for text in ('run:\n  log_store: "a\\0b"\n', 'task_source: "a\\0b"\n', 'run:\n  startup_script: "a\\0b"\n'):
        with pytest.raises(ConfigurationError, match="the text contains a NUL character; remove it"):
            read(text)
