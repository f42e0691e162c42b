"""The sections ``grid:`` and ``directory:`` of the configuration."""

from __future__ import annotations

import attrs

from cloud_tasks.plugin import setting

__all__ = ["DirectorySettings", "GridSettings"]


def _positive(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 1:
        raise ValueError(f"{value} is below 1")


def _not_empty(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not value:
        raise ValueError("it is empty")


@attrs.frozen(kw_only=True)
class GridSettings:
    id_prefix: str = setting(help="Prefix of the task ids", default="run", validator=_not_empty)
    max_tasks: int = setting(
        help="Maximum number of tasks; a larger grid is refused", default=10_000_000, validator=_positive
    )


@attrs.frozen(kw_only=True)
class DirectorySettings:
    pattern: str = setting(
        help="Pattern of file names, as in a shell", default="*", flag="--directory-pattern", validator=_not_empty
    )
    recursive: bool = setting(help="Include files in sub-folders", default=True)
