"""Which of the installed distributions are shipped as wheels: those that are asked for, and of their requirements all
that no package index has.

Invariant, with a test: nothing that is to be fetched from an index is one of the distributions asked for, unless it is
compiled and was installed from an index itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from cloud_tasks.errors import InputError
from cloud_tasks.shipping.editable_files import source_folder
from cloud_tasks.shipping.fetched_wheel import build_wheel
from cloud_tasks.shipping.uv_call import UvError
from cloud_tasks.shipping.wheels import CompiledError, NoModulesError, Wheel, canonical_name, is_from_an_index, repack

__all__ = ["installed_wheels"]


def installed_wheels(wanted: Sequence[str]) -> tuple[tuple[tuple[Wheel, str], ...], tuple[str, ...]]:
    """Return wheels, each with the extras to install, and requirements ``name==version`` for what is no wheel.

    Args:
        wanted: ``name`` or ``name[extra,…]`` of installed distributions.

    Raises:
        InputError: A distribution is not installed, or neither repacked nor available from an index.
    """
    asked: dict[str, set[str]] = {"cloud-tasks": set()}
    for each in wanted:
        name, extras = _parse(each)
        asked.setdefault(name, set()).update(extras)
    wheels: list[tuple[Wheel, str]] = []
    pins: list[str] = []
    waiting = list(asked)
    # The list grows while it is read.
    for name in waiting:
        found = _find(name)
        if found is None and name in asked:
            raise InputError(f"{name} is not installed here", hint=f"pip install {name}")
        if found is None or (name not in asked and is_from_an_index(found)):
            continue
        extras = asked.get(name, set())
        suffix = f"[{','.join(sorted(extras))}]" if extras else ""
        try:
            wheels.append((_wheel(found), suffix))
        except CompiledError:
            if not is_from_an_index(found):
                raise
            pins.append(f"{name}{suffix}=={found.version}")
            continue
        waiting += sorted(_required_names(found, extras).difference(waiting))
    return tuple(wheels), tuple(pins)


def _wheel(found: Distribution) -> Wheel:
    """Return the wheel of a distribution; built from its folder if it is not clear which modules are its own."""
    try:
        return repack(found)
    except NoModulesError as error:
        try:
            return build_wheel(source_folder(found))
        except UvError as reason:
            raise InputError(f"{error.message}: {reason.reason()}", hint=error.hint) from error


def _find(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _parse(requirement: str) -> tuple[str, set[str]]:
    """Return the name and the extras of a requirement."""
    found = re.match(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[([^]]*)\])?", requirement)
    if found is None:
        raise InputError(f"invalid name of a distribution: {requirement!r}")
    return canonical_name(found[1]), {canonical_name(extra) for extra in re.findall(r"[\w.-]+", found[2] or "")}


def _required_names(found: Distribution, extras: Collection[str]) -> set[str]:
    """Return what a distribution with extras requires; other environment markers are not evaluated."""
    names = set()
    for requirement in found.requires or ():
        extra = re.search(r"""\bextra\s*==\s*['"]([^'"]+)['"]""", requirement)
        if extra is None or canonical_name(extra[1]) in extras:
            names.add(_parse(requirement)[0])
    return names
