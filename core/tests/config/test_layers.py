"""Order of the layers, origins of values, and replaced values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloud_tasks.config import JobConfig, Layer
from cloud_tasks.errors import InputError

Read = Callable[..., JobConfig]

LAYERS: list[tuple[str, dict[str, Any], int | None, str]] = [
    ("default", {}, None, "default"),
    ("run", {"run": "  min_cpu: 1"}, 1, "config.yml:2"),
    ("section", {"gcp": "  min_cpu: 2"}, 2, "config.yml:4"),
    ("run variable", {"environ": {"CLOUD_TASKS_RUN_MIN_CPU": "3"}}, 3, "environment (CLOUD_TASKS_RUN_MIN_CPU)"),
    ("section variable", {"environ": {"CLOUD_TASKS_GCP_MIN_CPU": "4"}}, 4, "environment (CLOUD_TASKS_GCP_MIN_CPU)"),
    ("option", {"options": {"run.min_cpu": "5"}}, 5, "command line (--min-cpu)"),
    ("set", {"sets": ["run.min_cpu=6"]}, 6, "command line (--set)"),
    ("later set", {"sets": ["gcp.min_cpu=7"]}, 7, "command line (--set)"),
]


@pytest.mark.parametrize("highest", range(len(LAYERS)), ids=[name for name, *_ in LAYERS])
@pytest.mark.parametrize("lowest", range(len(LAYERS)), ids=[name for name, *_ in LAYERS])
def test_value_and_origin_are_those_of_the_highest_layer(read: Read, lowest: int, highest: int) -> None:
    lines, options = {"run": "", "gcp": ""}, {"provider": "gcp"}
    environ: dict[str, str] = {}
    sets: list[str] = []
    for _, given, _, _ in LAYERS[lowest : highest + 1]:
        lines |= {name: line for name, line in given.items() if name in lines}
        environ |= given.get("environ", {})
        options |= given.get("options", {})
        sets += given.get("sets", [])

    text = f"run:\n{lines['run']}\ngcp:\n{lines['gcp']}\n"
    config = read(text, options=options, environ=environ, sets=sets)

    _, _, expected, origin = LAYERS[highest] if highest >= lowest else LAYERS[0]
    written = str(config.origins["run.min_cpu"]) if "run.min_cpu" in config.origins else "default"
    assert (config.run.min_cpu, written) == (expected, origin)


def test_set_ranks_above_options(read: Read) -> None:
    config = read(None, options={"run.min_cpu": "5"}, sets=["run.min_cpu=6", "run.min_cpu=7"])
    assert config.run.min_cpu == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ("a",)),
        ("a,b c", ("a", "b", "c")),
        ("[]", ()),
        ('["--gres=gpu:9"]', ("--gres=gpu:9",)),
        ('["--gres=gpu:1,tmp:2", "a b", ""]', ("--gres=gpu:1,tmp:2", "a b", "")),
    ],
)
def test_set_takes_a_list_as_words_or_as_json(read: Read, text: str, expected: tuple[str, ...]) -> None:
    settings = read("provider: gcp\ngcp:\n  project_id: p\n", sets=[f"gcp.networks={text}"]).settings_for(
        "compute", "gcp"
    )
    assert settings.networks == expected


def test_set_refuses_a_list_in_brackets_that_is_not_closed(read: Read) -> None:
    with pytest.raises(InputError, match=r"--set: gcp\.networks: "):
        read("provider: gcp\ngcp:\n  project_id: p\n", sets=['gcp.networks=["a", "b"'])


def test_override_lines_show_each_replaced_value_with_both_places(read: Read) -> None:
    config = read(
        "provider: gcp\nrun:\n  min_cpu: 2\n  image: a\ngcp:\n  min_cpu: 4\n",
        options={"run.min_cpu": "8", "run.image": "a"},
    )
    assert config.override_lines() == (
        "run.min_cpu: 4 from config.yml:6 replaces 2 from config.yml:3",
        "run.min_cpu: 8 from command line (--min-cpu) replaces 4 from config.yml:6",
    )


def test_override_lines_omit_replaced_defaults(read: Read) -> None:
    assert read(None, options={"run.max_instances": "3"}).override_lines() == ()


def test_section_of_another_provider_is_checked_but_not_used(read: Read) -> None:
    text = "provider: aws\nrun:\n  min_cpu: 2\ngcp:\n  min_cpu: 4\n"
    config = read(text)
    assert (config.run.min_cpu, config.override_lines()) == (2, ())

    with pytest.raises(InputError, match=r"gcp\.min_cpus: unknown key"):
        read(text.replace("4", "4\n  min_cpus: 3"))


def test_run_keys_are_used_from_the_section_of_the_compute_plugin(read: Read) -> None:
    text = "provider: aws\ncompute: gcp\naws:\n  min_cpu: 2\ngcp:\n  min_cpu: 4\n"
    config = read(text)
    assert (config.queue, config.compute, config.pricing, config.run.min_cpu) == ("aws", "gcp", "gcp", 4)


def test_null_removes_a_limit_and_keeps_other_defaults(read: Read) -> None:
    config = read("run:\n  max_instances:\n  use_spot:\n")
    assert (config.run.max_instances, config.run.use_spot) == (None, False)
    assert read(None, sets=["run.max_instances="]).run.max_instances is None


NUMBER_KEYS = ("max_lifetime", "idle_limit", "max_runtime", "scaling_check_interval", "max_attempts", "accept_failures")


@pytest.mark.parametrize("key", [*NUMBER_KEYS, "max_total_cost", "give_up_after", "min_cpu", "max_instances"])
@pytest.mark.parametrize("blank", ["", "  "])
def test_blank_number_is_read_as_null(read: Read, key: str, blank: str) -> None:
    default = getattr(read(None).run, key)
    null = getattr(read(f"run:\n  {key}:\n").run, key)
    ways = [
        read(f'run:\n  {key}: "{blank}"\n'),
        read(None, sets=[f"run.{key}={blank}"]),
        read(None, options={f"run.{key}": blank}),
    ]
    assert [getattr(config.run, key) for config in ways] == [null] * 3
    assert null == default or key not in NUMBER_KEYS


def test_empty_variable_counts_as_not_set(read: Read) -> None:
    assert read("run:\n  image: a\n", environ={"CLOUD_TASKS_RUN_IMAGE": ""}).run.image == "a"


def test_unrelated_variables_are_ignored(read: Read) -> None:
    assert read(None, environ={"CLOUD_TASKS_RUN_ID": "x", "CLOUD_TASKS_DISABLE_PLUGINS": ""}).run.job_id is None


def test_own_variable_of_a_plugin_ranks_below_the_general_one(read: Read) -> None:
    own = {"FAKE_CLOUD_PROJECT": "own"}
    config = read("provider: gcp", environ=own)
    assert config.settings_for("compute", "gcp").project_id == "own"
    assert str(config.origins["gcp.project_id"]) == "environment (FAKE_CLOUD_PROJECT)"

    both = read("provider: gcp", environ={**own, "CLOUD_TASKS_GCP_PROJECT_ID": "general"})
    assert both.settings_for("queue", "gcp").project_id == "general"


def test_flag_shared_by_two_plugins_sets_the_chosen_one(read: Read) -> None:
    config = read(None, options={"provider": "AWS", "--project-id": "mine"})
    assert config.settings_for("queue", "aws").project_id == "mine"
    assert "gcp.project_id" not in config.origins


def test_set_ranks_above_flags_of_plugins(read: Read) -> None:
    config = read(None, options={"provider": "gcp", "--project-id": "a"}, sets=["gcp.project_id=b"])
    assert config.settings_for("queue", "gcp").project_id == "b"


def test_layers_are_ordered() -> None:
    names = ["DEFAULT", "SETUP", "FILE", "SECTION", "ENVIRONMENT", "COMMAND_LINE"]
    assert [layer.name for layer in sorted(Layer)] == names


def test_anchors_and_merged_mappings_are_supported(read: Read) -> None:
    config = read("provider: gcp\nrun: &common\n  min_cpu: 2\n  max_cpu: 8\ngcp:\n  <<: *common\n  min_cpu: 4\n")
    assert (config.run.min_cpu, config.run.max_cpu) == (4, 8)


def test_section_of_a_plugin_that_is_not_installed_is_accepted(read: Read) -> None:
    config = read("azure:\n  tenant_id: t\n  whatever: 3\n")
    assert config.backends == {}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "run:\n", "~\n"])
def test_empty_file_gives_the_defaults(read: Read, text: str) -> None:
    assert read(text).run == read(None).run


def test_override_lines_show_durations_with_units(read: Read) -> None:
    config = read("run:\n  max_runtime: 600\n", options={"run.max_runtime": "1h 30m"})
    assert config.run.max_runtime == 5400.0
    assert config.override_lines() == (
        "run.max_runtime: 1h 30m from command line (--max-runtime) replaces 10m from config.yml:2",
    )
