"""``cloud-tasks completion``: what a shell has to be told so that the Tab key completes commands and options."""

from __future__ import annotations

import click

from cloud_tasks.cli.options.common import examples

__all__ = ["completion"]

_ALIAS = {
    "bash": "complete -o nosort -F _cloud_tasks_completion cloud_tasks",
    "zsh": "compdef _cloud_tasks_completion cloud_tasks",
    "fish": 'complete --no-files --command cloud_tasks --arguments "(_cloud_tasks_completion)"',
}
"""The program has a second name."""


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
    """Print the script that teaches SHELL to complete commands and options."""
    from click.shell_completion import get_completion_class

    maker = get_completion_class(shell)
    assert maker is not None
    script = maker(ctx.find_root().command, {}, "cloud-tasks", "_CLOUD_TASKS_COMPLETE")
    # `source` would first ask the shell for its version, which need not be installed where this is printed.
    text = maker.source_template % script.source_vars()
    click.echo(f"{text.rstrip()}\n{_ALIAS[shell]}")
