"""``cloud-tasks doctor``: whether everything is there that a job needs, and what mends what is not.

Invariant, with a test: it changes nothing, and no check that fails keeps the others from being made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import click

from cloud_tasks.cli.commands.cloud._doctor_checks import check_core
from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.config import JobConfig
from cloud_tasks.controller.setup.open_backends import cache_dir
from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.registry import Registry

__all__ = ["doctor"]

_AXES = ("queue", "compute", "pricing")


@attrs.frozen(kw_only=True)
class _Told:
    """A finding and who made it."""

    by: str
    finding: Finding


def doctor(registry: Registry) -> click.Command:
    """Make the command; its options are those of core and of the installed plugins."""

    @click.command(
        "doctor",
        epilog=examples(
            "cloud-tasks doctor --provider gcp --project-id my-project",
            "cloud-tasks doctor --config config.yml --json",
            "cloud-tasks doctor --provider aws --policy",
        ),
    )
    @click.option("--policy", is_flag=True, help="Print the least permissions that controller and workers need.")
    @json_option
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> int:
        """Check what a job needs: this machine, the plugins, access to the provider. Changes nothing.

        Ends with 0 when all is well and with 1 when something is missing.
        """
        app.start_logging(verbosity=values["verbose"])
        config = load_from_options(app.registry, values)
        if values["policy"]:
            _print_policies(config, as_json=values["as_json"])
            return 0
        told = [*_core(config), *_backends(config)]
        all_is_well = all(each.finding.ok for each in told)
        if values["as_json"]:
            facts = [{"by": each.by, **attrs.asdict(each.finding)} for each in told]
            click.echo(json.dumps({"ok": all_is_well, "findings": facts}, indent=2))
        else:
            click.echo(_rendered(told))
        return 0 if all_is_well else 1

    return command


def _core(config: JobConfig) -> Iterator[_Told]:
    return (_Told(by="cloud-tasks", finding=finding) for finding in check_core(config))


def _context(config: JobConfig) -> CheckContext:
    return CheckContext(region=config.run.region, zone=config.run.zone, cache_dir=cache_dir())


def _backends(config: JobConfig) -> Iterator[_Told]:
    """What the checks of the chosen backends find; the same finding of two axes is told once."""
    if not config.backends:
        message = "none is configured, so that no access was checked"
        finding = Finding(ok=True, subject="provider", message=message, remedy="give --provider or --config")
        yield _Told(by="cloud-tasks", finding=finding)
    known: set[tuple[str, Finding]] = set()
    for axis in _AXES:
        if axis not in config.backends:
            continue
        name = config.backends[axis]
        for finding in _check(config, axis, name):
            if (name, finding) not in known:
                known.add((name, finding))
                yield _Told(by=f"{name} {axis}", finding=finding)


def _check(config: JobConfig, axis: str, name: str) -> Iterator[Finding]:
    try:
        backend = getattr(config.registry, axis)(name)
        settings = config.settings_for(axis, name)
    except CloudTasksError as error:
        yield Finding(ok=False, subject="settings", message=error.message, remedy=error.hint)
        return
    if backend.check is None:
        yield Finding(ok=True, subject=f"{axis} {name}", message="it needs no check")
        return
    try:
        yield from backend.check(settings, _context(config))
    except Exception as error:  # the check belongs to somebody else; what it cannot tell is a finding as well
        remedy = error.hint if isinstance(error, CloudTasksError) else "please report it to the plugin's author"
        message = error.message if isinstance(error, CloudTasksError) else f"{type(error).__name__}: {error}"
        yield Finding(ok=False, subject="check", message=f"the check itself failed: {message}", remedy=remedy)


def _rendered(told: list[_Told]) -> str:
    width = max(len(each.finding.subject) for each in told)
    lines: list[str] = []
    by = ""
    for each in told:
        if each.by != by:
            by = each.by
            lines += ["", by] if lines else [by]
        finding = each.finding
        lines.append(
            f"  {'ok     ' if finding.ok else 'MISSING'}  {finding.subject:<{width}}  {finding.message}".rstrip()
        )
        if finding.remedy:
            lines.append(f"           {'':<{width}}  -> {finding.remedy}")
    missing = sum(not each.finding.ok for each in told)
    end = "All is well" if not missing else f"{missing} of {len(told)} checks found something missing"
    return "\n".join([*lines, "", end])


def _print_policies(config: JobConfig, *, as_json: bool) -> None:
    backend = config.registry.compute(config.compute)
    if backend.policies is None:
        raise InputError(f"{config.compute} needs no permissions", where="--policy", hint="leave it out")
    documents: Mapping[str, str] = backend.policies(config.settings_for("compute", config.compute), _context(config))
    if as_json:
        click.echo(json.dumps(dict(documents), indent=2))
        return
    click.echo("\n\n".join(f"# {name}\n{text.rstrip()}" for name, text in documents.items()))
