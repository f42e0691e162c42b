"""`Secrets`: the secrets of a job on its instance, files of a private folder. Every task process has this module."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

__all__ = ["SECRETS_DIR", "Secrets"]

SECRETS_DIR = "CLOUD_TASKS_SECRETS_DIR"
"""Variable with the folder of the files. A user who starts a program by hand may set it."""


class Secrets(Mapping[str, str]):
    """Secrets by name, read-only. A value is read from its file when it is used: a copy or a pickle has none."""

    __slots__ = ("_folder",)

    def __init__(self, folder: str) -> None:
        self._folder = folder
        """Full path; empty for no secrets."""

    def __getitem__(self, name: str) -> str:
        """Return the text of a secret.

        Raises:
            KeyError: There is none of this name.
            ValueError: It is not UTF-8 text.
        """
        if name not in self:
            raise KeyError(f"{name}: no such secret; there are: {', '.join(self) or 'none'}")
        path = os.path.join(self._folder, name)
        with open(path, "rb") as file:
            content = file.read()
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise ValueError(f"the secret {name} is not UTF-8 text; read the bytes of {path}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> list[str]:
        # Other tools put hidden files into such a folder.
        names = os.listdir(self._folder) if self._folder else []
        return sorted(name for name in names if not name.startswith("."))

    def __repr__(self) -> str:
        return f"<secrets: {', '.join(self) or 'none'}>"
