"""Option that takes several words. The only module of the command line that uses private parts of click.

click has no options of variable length. Its parser keeps the handlers of the options in ``_long_opt``, and passes the
remaining words to each. Should a release of click drop that, the option takes one word each time it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

__all__ = ["WordsOption"]


class WordsOption(click.Option):
    """Option that takes all words up to the next option, ``--instance-types n1-.* n2-.*``; repeatable."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        handlers = getattr(parser, "_long_opt", {})
        for name in handlers.keys() & {*self.opts}:
            handlers[name].process = _greedy(handlers[name].process)


def _greedy(process: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def take(value: Any, state: Any) -> None:
        process(value, state)
        while state.rargs and not (len(state.rargs[0]) > 1 and state.rargs[0].startswith("-")):
            process(state.rargs.pop(0), state)

    return take
