"""``cloud-tasks completion``: print the shell script that completes commands and options."""

from __future__ import annotations

import click

from cloud_tasks.cli.options.common import examples
from cloud_tasks.cli.output import echo

__all__ = ["completion"]

_ALIAS = {
    "bash": "complete -o nosort -F _cloud_tasks_completion cloud_tasks",
    "zsh": "compdef _cloud_tasks_completion cloud_tasks",
    "fish": 'complete --no-files --command cloud_tasks --arguments "(_cloud_tasks_completion)"',
}
"""Statement that completes the second name of the program, by shell."""


@click.command(
    "completion",
    epilog=examples(
        'eval "$(cloud-tasks completion bash)"   # in ~/.bashrc',
        'eval "$(cloud-tasks completion zsh)"    # in ~/.zshrc',
        "cloud-tasks completion fish > ~/.config/fish/completions/cloud-tasks.fish",
    ),
)
@click.argument("shell", type=click.Choice(list(_ALIAS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script with which SHELL completes commands and options."""
    from click.shell_completion import get_completion_class

    completion_class = get_completion_class(shell)
    assert completion_class is not None
    script = completion_class(ctx.find_root().command, {}, "cloud-tasks", "_CLOUD_TASKS_COMPLETE")
    # `source` would run the shell, which need not be installed here, to check its version.
    text = completion_class.source_template % script.source_vars()
    echo(f"{text.rstrip()}\n{_ALIAS[shell]}")
