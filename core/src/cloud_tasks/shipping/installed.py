"""Which of the installed distributions are shipped as wheels: those that are asked for, and of their requirements all
that no package index has.

Invariant, with a test: nothing that is to be fetched from an index is one of the distributions asked for, unless it is
compiled and was installed from an index itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from cloud_tasks.errors import InputError
from cloud_tasks.shipping.wheels import CompiledError, Wheel, canonical_name, is_from_an_index, repack

__all__ = ["installed_wheels"]


def installed_wheels(wanted: Sequence[str]) -> tuple[tuple[tuple[Wheel, str], ...], tuple[str, ...]]:
    """Return wheels, each with the extras to install, and requirements ``name==version`` for what is no wheel.

    Args:
        wanted: ``name`` or ``name[extra,…]`` of installed distributions.

    Raises:
        InputError: A distribution is not installed, or neither repacked nor available from an index.
    """
    wheels: dict[str, tuple[Wheel, str]] = {}
    pins: list[str] = []
    waiting = [*wanted, "cloud-tasks"]
    asked = {_parse(each)[0] for each in waiting}
    while waiting:
        name, extras = _parse(waiting.pop(0))
        if name in wheels:
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError as error:
            if name not in asked:
                continue
            raise InputError(f"{name} is not installed here", hint=f"install {name}") from error
        if name not in asked and is_from_an_index(found):
            continue
        try:
            wheels[name] = repack(found), f"[{','.join(extras)}]" if extras else ""
        except CompiledError:
            if not is_from_an_index(found):
                raise
            pins.append(f"{name}{f'[{chr(44).join(extras)}]' if extras else ''}=={found.version}")
            continue
        waiting += _requirements(found, extras)
    return tuple(wheels.values()), tuple(pins)


def _parse(requirement: str) -> tuple[str, tuple[str, ...]]:
    """Return the name and the extras of a requirement."""
    found = re.match(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[([^]]*)\])?", requirement)
    if found is None:
        raise InputError(f"invalid name of a distribution: {requirement!r}")
    extras = (canonical_name(extra.strip()) for extra in (found[2] or "").split(",") if extra.strip())
    return canonical_name(found[1]), tuple(sorted(set(extras)))


def _requirements(found: Distribution, extras: Sequence[str]) -> Iterator[str]:
    """Yield the requirements of a distribution with its extras; environment markers are not evaluated."""
    for requirement in found.requires or ():
        extra = re.search(r"""\bextra\s*==\s*['"]([^'"]+)['"]""", requirement)
        if extra is None or canonical_name(extra[1]) in extras:
            yield requirement
