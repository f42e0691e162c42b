"""Help with the options of the configuration by topic, hints for misspelt options, `config show --explain`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloud_tasks.cli.main import main
from cloud_tasks.cli.options.topics import TOPICS
from cloud_tasks.config import run_section


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOUD_TASKS_DISABLE_PLUGINS", "gcp,aws,azure")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    with pytest.raises(SystemExit):
        main(arguments)
    shown = capsys.readouterr()
    return shown.out, shown.err


def test_topics_have_every_key_of_run_once() -> None:
    listed = [key for topic, keys in TOPICS.items() if topic != "Configuration" for key in keys]
    assert sorted(listed) == sorted(run_section().keys)


def test_run_help_lists_its_own_options_first_and_the_others_by_topic(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = call(capsys, "run", "--help")
    headings = re.findall(r"^([A-Z][\w ]+):$", out, re.MULTILINE)
    assert headings == ["Options", *TOPICS, "Plugins"]
    own = out.partition("\nOptions:")[2].partition("\nConfiguration:")[0]
    assert "--task-file" in own
    assert "--help" in own
    assert "--max-instances" not in own


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("run", "--confg", "x"), 'Error: no such option: --confg; did you mean "--config"?\n'),
        (("status", "--jsn"), 'Error: no such option: --jsn; did you mean "--json"?\n'),
        (("status", "--qqqq"), 'Error: no such option: --qqqq; see "cloud-tasks status --help"\n'),
        (("--dbug",), 'Error: no such option: --dbug; did you mean "--debug"?\n'),
    ],
)
def test_hint_names_the_option_that_was_meant(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], hint: str
) -> None:
    assert call(capsys, *arguments) == ("", hint)


def test_provider_without_its_plugin_is_reported_as_that(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, err = call(capsys, "list-regions", "--provider", "gcp")
    assert err == 'Error: plugin "gcp" is disabled; remove it from CLOUD_TASKS_DISABLE_PLUGINS\n'
    monkeypatch.delenv("CLOUD_TASKS_DISABLE_PLUGINS")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    _, err = call(capsys, "list-regions", "--provider", "gcp")
    assert err == "Error: plugin \"gcp\" is not installed; install it with: pip install 'cloud-tasks[gcp]'\n"


def test_config_show_explains_every_value(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = call(capsys, "config", "show", "--provider", "local", "--explain")
    head, _, *rows = out.splitlines()
    column = head.index("Explanation")
    assert len(rows) > 90
    assert all(re.match(r"[A-Z]", row[column:]) for row in rows if not row.startswith(("-", "+")))
    assert "Explanation" not in call(capsys, "config", "show", "--provider", "local")[0]
