"""The pages for plugin authors agree with the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import attrs
import pytest
from plugin_surface import hook_names, methods_of, signature_of

import cloud_tasks.plugin
import cloud_tasks.plugin.kit
from cloud_tasks.deprecation import Renamed, fields_deprecated_by
from cloud_tasks.model import JobProgress
from cloud_tasks.plugin import hooks
from cloud_tasks.registry import BACKEND_KINDS, DISABLE_VARIABLE, STRICT_VARIABLE

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "plugins"
# Each hook has a page, which also names the Protocols of its descriptor.
PROTOCOLS = {
    "queue": ("Queue", "OwnedQueue"),
    "compute": ("Compute", "ImageLookup", "ImageMaker", "LocatedCompute", "InstanceSide"),
    "pricing": ("Pricing",),
    "event_sink": ("EventSink", "ProgressSink"),
    "task_source": ("TaskSource",),
    "command": (),
}


def kind_of(hook: str) -> str:
    return hook.removeprefix("cloud_tasks_register_")


def page_of(hook: str) -> str:
    return (DOCS / "hooks" / f"{kind_of(hook).replace('_', '-')}.md").read_text(encoding="utf-8")


def classes_of(kind: str) -> list[type]:
    """Return the descriptor of a kind of backend, with its traits and contexts."""
    stem = BACKEND_KINDS[kind].__name__.removesuffix("Backend")
    related = [getattr(cloud_tasks.plugin, stem + suffix, None) for suffix in ("Traits", "Context")]
    return [BACKEND_KINDS[kind], *(each for each in related if each is not None)]


def unindented(text: str) -> str:
    """Return a text without indentation, as the pages quote methods."""
    return "\n".join(line.strip() for line in text.splitlines())


def test_hooks_are_those_of_the_kinds_of_backends() -> None:
    assert {kind_of(hook) for hook in hook_names()} == set(BACKEND_KINDS) == set(PROTOCOLS)


@pytest.mark.parametrize("hook", hook_names())
def test_hook_page_has_its_signature(hook: str) -> None:
    assert f"```python\ndef {signature_of(getattr(hooks, hook))}\n```" in page_of(hook)


@pytest.mark.parametrize("hook", hook_names())
def test_hook_page_has_every_method_of_its_protocols(hook: str) -> None:
    blocks = re.findall(r"```python\nclass (\w+)\(Protocol\):\n(.*?)```", page_of(hook), re.S)
    documented = {name: [line.strip().removeprefix("def ") for line in body.splitlines()] for name, body in blocks}
    assert documented == {name: methods_of(getattr(cloud_tasks.plugin, name)) for name in PROTOCOLS[kind_of(hook)]}


@pytest.mark.parametrize("hook", hook_names())
def test_hook_page_has_every_field_with_its_type(hook: str) -> None:
    page = page_of(hook).replace("\\|", "|")
    for kind in classes_of(kind_of(hook)):
        assert f"`{kind.__name__}`" in page
        for field in attrs.fields(kind):
            assert f"| `{field.name}` | `{field.type}` |" in page, f"{kind.__name__}.{field.name}"


def test_compatibility_page_lists_every_deprecated_field() -> None:
    page = (DOCS / "compatibility.md").read_text(encoding="utf-8")
    for kind in vars(cloud_tasks.plugin).values():
        for name, change in fields_deprecated_by(kind).items() if isinstance(kind, type) else ():
            instead = f"`{change.to}`" if isinstance(change, Renamed) else change.instead
            assert f"| `{kind.__name__}` | `{name}` | {instead} |" in page


def test_compute_page_has_boot_script_with_every_argument() -> None:
    page = page_of("cloud_tasks_register_compute")
    assert f"```python\ndef {signature_of(cloud_tasks.plugin.boot_script)}\n```" in page
    arguments = inspect.signature(cloud_tasks.plugin.boot_script).parameters
    section = page.split("## Boot script\n")[1].split("\n## ")[0]
    assert [name for name in arguments if f"| `{name}` |" not in section] == []


def test_event_sink_page_has_every_field_of_job_progress() -> None:
    rows = [line for line in page_of("cloud_tasks_register_event_sink").splitlines() if line.startswith("|")]
    named = {name for line in rows for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert {field.name for field in attrs.fields(JobProgress)} <= named


def test_kit_page_names_everything_in_the_kit() -> None:
    page = (DOCS / "kit.md").read_text(encoding="utf-8")
    assert [name for name in cloud_tasks.plugin.kit.__all__ if not re.search(rf"\b{name}\b", page)] == []


@pytest.mark.parametrize("name", cloud_tasks.plugin.kit.__all__)
def test_kit_name_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(getattr(cloud_tasks.plugin.kit, name))


@pytest.mark.parametrize("hook", hook_names())
def test_hook_has_a_docstring(hook: str) -> None:
    assert inspect.getdoc(getattr(hooks, hook))


@pytest.mark.parametrize("hook", hook_names())
def test_index_links_every_hook_page(hook: str) -> None:
    assert f"(hooks/{kind_of(hook).replace('_', '-')}.md)" in (DOCS / "index.md").read_text()


def test_index_explains_every_argument_of_setting_and_both_variables() -> None:
    index = (DOCS / "index.md").read_text()
    arguments = inspect.signature(cloud_tasks.plugin.setting).parameters
    assert [name for name in arguments if f"`{name}`" not in index] == []
    assert DISABLE_VARIABLE in index
    assert STRICT_VARIABLE in index


def test_tutorial_quotes_the_samples_unchanged() -> None:
    tutorial = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    quoted = re.findall(r"<!-- from: (\S+) -->\n```\w+\n(.*?)\n```", tutorial, re.S)
    assert {Path(path).parts[2] for path, _ in quoted} == {"parameter_sources", "redis_queue"}
    assert [path for path, text in quoted if unindented(text) not in unindented((ROOT / path).read_text())] == []


def test_tutorial_shows_the_message_of_the_skeleton() -> None:
    tutorial = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    skeleton = (ROOT / "core/src/cloud_tasks/cli/scaffold/skeleton/task_source.py.txt").read_text(encoding="utf-8")
    (method, what) = re.findall(r"CloudTasksError: TomlGrid(\S+) is not implemented; (.*)", tutorial)[0]
    written = " ".join(skeleton.split())
    assert re.search(re.escape(f'"${{cls}}{method}", "{what}"'), written.replace("( ", "(").replace(", )", ")"))
