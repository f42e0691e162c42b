"""The ``toml-grid:`` and ``directory:`` sections of the configuration."""

from __future__ import annotations

import attrs

from cloud_tasks.plugin import setting

__all__ = ["DirectorySettings", "GridSettings"]


def _positive(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 1:
        raise ValueError(f"must be 1 or more, got {value}")


def _not_empty(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not value:
        raise ValueError("must not be empty")


@attrs.frozen(kw_only=True)
class GridSettings:
    id_prefix: str = setting(help="Prefix of the task ids", default="run", validator=_not_empty)
    max_tasks: int = setting(help="Maximum number of tasks of a grid", default=10_000_000, validator=_positive)


@attrs.frozen(kw_only=True)
class DirectorySettings:
    pattern: str = setting(
        help="Shell pattern of the file names", default="*", flag="--directory-pattern", validator=_not_empty
    )
    recursive: bool = setting(help="Include subfolders", default=True)
