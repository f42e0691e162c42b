"""What ``cloud-tasks setup`` makes, as a shell script and as a Terraform file."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from cloud_tasks.plugin import AccountSetup, terraform_text

__all__ = ["configuration_lines", "shell_script", "terraform_file"]


def shell_script(provider: str, found: AccountSetup) -> str:
    """Return a POSIX shell script that makes the items with the provider's command-line program."""
    lines = ["#!/bin/sh", *_comments(provider, found), "set -eu", ""]
    for item in found.items:
        lines += [f"# {item.subject}: {item.purpose}", *item.commands, ""]
    return "\n".join([*lines, *_configuration(found)]) + "\n"


def terraform_file(provider: str, found: AccountSetup) -> str:
    """Return a Terraform file that makes the items."""
    parts = ["\n".join(_comments(provider, found)) + "\n", terraform_text(found.terraform)]
    for item in found.items:
        title = f"# {item.subject}: {item.purpose}"
        parts.append(f"{title}\n{terraform_text(item.terraform)}" if item.terraform else f"{title}; not by Terraform\n")
    parts.append("\n".join(_configuration(found)) + "\n")
    return "\n".join(part for part in parts if part)


def _comments(provider: str, found: AccountSetup) -> Iterator[str]:
    text = f"What a first job needs in {found.account}, as `cloud-tasks setup {provider}` makes it."
    yield from textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ")


def _configuration(found: AccountSetup) -> Iterator[str]:
    """Yield the settings of jobs, as comments."""
    yield "# Then add to the configuration of jobs:"
    yield from (f"# {line}" for line in configuration_lines(found))


def configuration_lines(found: AccountSetup) -> Iterator[str]:
    """Yield the settings of jobs, as lines of a configuration file."""
    section = ""
    values = {**found.identity, **found.settings}
    for key, value in sorted((key, value) for key, value in values.items() if value is not None):
        if key.partition(".")[0] != section:
            section = key.partition(".")[0]
            yield f"{section}:"
        yield f"  {key.partition('.')[2]}: {value}"
