"""Programs that start others: which pass on their environment, which run code, and which start no worker.

They hold widely used programs; any other program is assumed to pass on its environment.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

from cloud_tasks.command_template import program_tables as tables
from cloud_tasks.command_template.words import Word

__all__ = ["COMPUTED", "LAUNCHERS", "code_of", "file_of", "is_tool"]

COMPUTED = re.compile(r"\$(?:\(\)|#)?|<\(\)")
"""What stands for an expansion in the text of a `Word`."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOOLS = (tables.FILE_READERS | tables.PRINTERS | tables.WRITERS) | _names(
    ": [ [[ alias bg bind break builtin caller cd compgen complete continue declare dirs disown enable export "
    "false fg getopts hash help history jobs kill let local logout mapfile popd pushd pwd read readarray readonly "
    "return set shift shopt suspend test times trap true type typeset ulimit umask unalias unset wait "
    "add-apt-repository apk apt apt-get apt-key awk aws az base64 basename blkid chgrp chmod chown cloud-init "
    "cryptsetup cut date debconf-set-selections df dhclient diff dirname dmesg dnf dpkg du ethtool expr fallocate "
    "fdisk file find free fsck gcloud getent git gpg grep groupadd gsutil head host hostname hostnamectl id ip "
    "iptables jq ldconfig locale-gen logger ls lsb_release lsblk lsof md5sum mkdir mkfs mkfs.ext4 mkfs.xfs mkswap "
    "mktemp modprobe mount nproc nslookup nvidia-smi openssl parted ping pip pip3 pkg pkill poweroff printenv ps "
    "readlink realpath reboot rm rmdir rpm sed seq service sha256sum shutdown sleep snap sort ss ssh-keygen "
    "ssh-keyscan stat swapoff swapon sync sysctl systemctl tail tar timedatectl touch tr ufw umount uname uniq "
    "unzip update-alternatives update-ca-certificates useradd usermod vault wc wget2 which who whoami yq yum zip "
    "zypper"
)
"""Built-in commands of shells, and programs that start no worker."""
_MANAGERS = _names("brew cargo conda docker gem go mamba micromamba nerdctl npm pipenv pixi pnpm podman poetry uv yarn")
_SETUP = _names("activate add build ci clean init install lock login pull sync update upgrade venv")
"""Commands of package managers and the like that start no worker."""


class Launcher(NamedTuple):
    """How a program passes variables to the one that it starts: expressions for its arguments, a blank around each."""

    drops: str
    """It does not pass on its environment."""
    keeps: str
    """It does nevertheless, or passes on this variable."""
    sets: str


_NOTHING = r"(?!)"
_CONTAINER = Launcher(
    r" (?:run|exec|create) ", r" (?:-e ?|--env[= ])NAME ", r" (?:-e[= ]?|--env[= ])NAME=[^ ]| --env-file"
)
_APPTAINER = Launcher(r" (?:-e|-C|--cleanenv|--containall) ", _NOTHING, r" --env[= ](?:[^ ]*,)?NAME=[^ ]| --env-file")
LAUNCHERS = {
    "env": Launcher(
        r" (?:-|-[a-z0]*i[a-z0]*|--ignore-environment|-u ?NAME|--unset[= ]NAME|NAME=) ", _NOTHING, r" NAME=[^ ]"
    ),
    "sudo": Launcher("", r" (?:-[A-Za-z]*E|--preserve-env(?:=(?:[^ ]*,)?NAME(?:,[^ ]*)?)?) ", r" NAME=[^ ]"),
    "systemd-run": Launcher(
        "", r" (?:--scope|(?:-E ?|--setenv[= ])NAME) ", r" (?:-E ?|--setenv[= ])NAME=[^ ]|Environment(?:File)?="
    ),
    "docker": _CONTAINER,
    "podman": _CONTAINER,
    "nerdctl": _CONTAINER,
    "apptainer": _APPTAINER,
    "singularity": _APPTAINER,
}
_SHELL = re.compile(rf"{tables.SHELL.name.pattern}|ssh|su")
"""Programs that read commands from an argument or their input."""
_OWN_MODULES = ("pip", "venv", "ensurepip")
"""Modules of Python that start no worker."""


def file_of(word: Word) -> str:
    """Return the last part of a path."""
    return word.text.rpartition("/")[2]


def is_tool(words: Sequence[Word]) -> bool:
    """Return whether a command starts no worker, as far as its program shows."""
    names = [file_of(word) for word in words]
    is_alone = len(words) == 1 and names[0] in tables.WRAPPERS
    if is_alone or (names[0] in _MANAGERS and not _SETUP.isdisjoint(names[1:2])):
        return True
    if names[0] not in tables.WRAPPERS:
        has_own_module = any(a == "-m" and b in _OWN_MODULES for a, b in itertools.pairwise(names))
        return names[0] in _TOOLS or names[1:2] == ["--version"] or has_own_module
    for at, word in enumerate(words[1:], 1):
        is_argument = re.fullmatch(r"-[A-Za-z]", words[at - 1].text) and names[at] not in _TOOLS
        if not (is_argument or tables.WRAPPED.fullmatch(word.text)):
            return is_tool(words[at:])
    return False


def code_of(words: Sequence[Word], given: str) -> str:
    """Return the code that a command passes to another shell, as far as it is known.

    Args:
        given: Its here-document.
    """
    names = [file_of(word) for word in words]
    at = next((at for at, name in enumerate(names) if _SHELL.fullmatch(name)), -1)
    if at < 0 or (at and names[0] not in tables.WRAPPERS):
        return ""
    arguments = [word.text for word in words[at:]]
    for option, text in itertools.pairwise(arguments[1:]):
        if tables.SHELL.option.fullmatch(option):
            return "" if COMPUTED.fullmatch(text) else text
    reads_input = names[at] in ("ssh", "su") or "-s" in arguments
    options = (text[:1] == "-" or before in tables.SHELL.takes for before, text in itertools.pairwise(arguments))
    return given if reads_input or all(options) else ""
