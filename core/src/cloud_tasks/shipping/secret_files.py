"""Files that most likely hold a secret, by name or content: they are packed only if the user names them.

The names are those under which ssh, git, pip, npm, Docker, Kubernetes, Terraform and the cloud providers' tools store
keys and credentials, and those of ``.env`` files.
"""

from __future__ import annotations

import fnmatch
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

__all__ = ["secret_files"]

SECRET_FOLDERS = (".aws", ".azure", ".gnupg", ".kube", ".oci", ".ssh", "gcloud")
SECRET_NAMES = (
    ".env",
    ".env.*",
    "*.env",
    ".envrc",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".my.cnf",
    ".npmrc",
    ".yarnrc.yml",
    ".pypirc",
    ".git-credentials",
    ".htpasswd",
    ".dockercfg",
    ".dockerconfigjson",
    ".vault-token",
    ".boto",
    ".s3cfg",
    "rclone.conf",
    "kubeconfig",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "*.pem",
    "*.key",
    "*.ppk",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.secret",
    "*.secrets",
    "*secret*.json",
    "*secret*.y*ml",
    "*secret*.toml",
    "*secret*.txt",
    "*credential*.json",
    "*credential*.y*ml",
    "*credential*.txt",
    "credentials",
    "credentials.*",
    "*service?account*.json",
    "*serviceaccount*.json",
    "*token*.txt",
    "*password*.txt",
    "terraform.tfvars",
    "*.tfstate",
    "*.tfstate.*",
)
"""Patterns of file names, in lower case."""

_SECRET_NAME = re.compile("|".join(map(fnmatch.translate, SECRET_NAMES)))
_HARMLESS = re.compile(r"(\.pub|[._-](example|sample|template|dist))(\.\w+)?\Z")
_CODE = (".py", ".pyi", ".ipynb", ".c", ".h", ".cpp", ".rs", ".go", ".r", ".jl", ".md", ".rst")
_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\s+[A-Za-z0-9+/=:]")
_CONTENT_LIMIT = 64 * 1024
"""Bytes of a file that are searched for a private key."""


def secret_files(folder: Path, names: Iterable[str]) -> Sequence[str]:
    """Return those of the files that most likely hold a secret.

    Args:
        names: Paths relative to the folder.
    """
    return tuple(name for name in names if _has_secret_name(name) or _has_private_key(folder / name))


def _has_secret_name(name: str) -> bool:
    path = PurePosixPath(name.lower())
    if any(part in SECRET_FOLDERS for part in path.parts[:-1]) or name.lower().endswith(".docker/config.json"):
        return not path.name.endswith(".pub")
    if path.suffix in _CODE or _HARMLESS.search(path.name):
        return False
    return _SECRET_NAME.match(path.name) is not None


def _has_private_key(path: Path) -> bool:
    """Return whether a regular file begins with a private key, or a service account's key file."""
    if path.suffix.lower() in _CODE:
        return False
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as file:
            head = file.read(_CONTENT_LIMIT)
    except OSError:
        return False
    return bool(_KEY.search(head.replace(b"\\n", b"\n")))
