"""Programs and built-in commands that read an argument, or their standard input, as code: the tables.

They hold widely used programs; any other program is assumed to take its arguments as data.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = [
    "BUILT_INS", "CODE_LIKE", "CODE_OPTION", "CODE_VARIABLES", "COMPUTED_VARIABLES", "DECLARING", "DECODER",
    "EVALUATING", "FILE_READERS", "FIND_OPTIONS", "FIRST_ARGUMENT", "GIT_SETTING", "INTEGER_VARIABLES",
    "INTERPRETERS", "JOINING", "LANGUAGES", "LOADS_CODE", "MAKE_OPTIONS", "NAMES_CODE", "NEEDS_OPERAND",
    "NUMBER_OUTPUT", "PARALLEL_NUMBERS", "PATH", "PRINTERS", "READS_INPUT", "REMOTE_SHELLS", "SED_EXECUTES",
    "SETUP_OUTPUT", "SHELL", "SHELL_OPTIONS", "SSH_OPTIONS", "SSH_REMEDY", "STANDARD_INPUT", "TAKES_SCRIPT_NAME",
    "TEXT_PROGRAMS", "VALUE_REMEDY", "WRAPPED", "WRAPPERS", "WRITERS", "XARGS_REPLACES", "FirstArgument", "Interpreter",
]  # fmt: skip

_SCRIPT = "a script that takes the value as its argument"
_FILE = "a file with the code, which takes the value as its argument"
_STATEMENT = "a program with a prepared statement"


class Interpreter(NamedTuple):
    """A program that has an option for code."""

    name: re.Pattern[str]
    option: re.Pattern[str]
    """Options whose argument is code; it may be attached."""
    remedy: str
    takes: tuple[str, ...] = ()
    """Other options with an argument."""
    has_script: bool = True
    """Whether the first plain argument is a file with code, after which all arguments are data."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _interpreter(name: str, option: str, remedy: str, takes: str = "", *, has_script: bool = True) -> Interpreter:
    return Interpreter(re.compile(name), re.compile(option), remedy, tuple(takes.split()), has_script)


_SHELL_NAME = r"(?:ba|da|k|mk|z|a|fi|c|tc|ya|rba|o)?sh"
SHELL = _interpreter(
    _SHELL_NAME,
    r"[-+][A-Za-z]*c[A-Za-z]*|--command",
    "{program} -c '… \"$1\" …' _ {field}",
    "-o -O +o +O -eo -euo -ueo -uo -xo --rcfile --init-file",
)
_PYTHON_NAME = r"(?:i?python|pypy)[\d.]*t?"
_LANGUAGE_NAMES = (
    r"lua(?:jit)?[\d.]*|octave(?:-cli)?|gnuplot|ghc|tclsh|expect|osascript|guile|racket|groovy|scala|elixir|erl"
    r"|sage|gp|wolframscript|pwsh|powershell|nu|xonsh"
)
_DATABASE_NAMES = r"psql|mysql|mariadb|duckdb|clickhouse(?:-client)?|mongosh|mongo|sqlplus|cqlsh|bq|snowsql"
INTERPRETERS = (
    SHELL,
    _interpreter(_PYTHON_NAME, r"-[A-Za-z]*c", "{program} -c 'import sys; … sys.argv[1] …' {field}", "-W -X"),
    _interpreter(r"perl[\d.]*", r"-[A-Za-z0-9.]*[eEmM]", "{program} -e '… $ARGV[0] …' {field}", "-I"),
    _interpreter(r"ruby[\d.]*", r"-[A-Za-z0-9]*e", "{program} -e '… ARGV[0] …' {field}", "-I -r -C -E"),
    _interpreter(
        r"node|nodejs|bun|deno",
        r"-[A-Za-z]*[ep]|--eval|--print|eval",
        "{program} -e '… process.argv[1] …' {field}",
        "-r --require --import",
    ),
    _interpreter(r"php[\d.]*", r"-[rBRE]|--run|--process-\w+", "{program} -r '… $argv[1] …' -- {field}", "-d -c -z -t"),
    _interpreter(r"R|Rscript", r"-e", "{program} -e '… commandArgs(TRUE)[1] …' --args {field}"),
    _interpreter(r"julia", r"-[A-Za-z]*[eE]|--eval|--print", "{program} -e '… ARGS[1] …' {field}", "-L -J -p -t"),
    _interpreter(r"matlab", r"-r|-batch|-eval", _FILE),
    _interpreter(
        _LANGUAGE_NAMES,
        r"-[A-Za-z]*[ecrx]|-batch|-run|-code|-eval|--eval|--batch|--code|-[Cc]ommand",
        _FILE,
    ),
    _interpreter(
        _DATABASE_NAMES,
        r"-[A-Za-z]*[ceq]|--command|--execute|--eval|--query|query",
        _STATEMENT,
        has_script=False,
    ),
    _interpreter(r"su|runuser|script|flock|sg|vim?|nvim|ex", r"-[A-Za-z]*c|--command|--cmd", _SCRIPT, has_script=False),
    _interpreter(r"git", r"--upload-pack|--receive-pack|--exec", _SCRIPT, has_script=False),
    _interpreter(r"zip", r"-TT|--unzip-command", _SCRIPT, has_script=False),
    _interpreter(r"sort", r"--compress-program", _SCRIPT, has_script=False),
    _interpreter(r"wget", r"--use-askpass", _SCRIPT, has_script=False),
    _interpreter(r"tcpdump", r"-[A-Za-z]*z", _SCRIPT, has_script=False),
    _interpreter(r"split", r"--filter", _SCRIPT, has_script=False),
    _interpreter(r"scp|sftp", r"-[oSD]", _SCRIPT, has_script=False),
    _interpreter(r"emacs", r"-+eval|-+execute|-f", _SCRIPT, has_script=False),
    _interpreter(r"sbatch|srun|qsub|gcloud", r"--wrap|--command", _SCRIPT, has_script=False),
    _interpreter(
        r"tar", r"--to-command|--checkpoint-action|-I|--use-compress-program|--info-script", _SCRIPT, has_script=False
    ),
    _interpreter(r"rsync", r"-[A-Za-z]*e|--rsh|--rsync-path", _SCRIPT, has_script=False),
    _interpreter(r"env", r"-[A-Za-z]*S|--split-string", "env with separate arguments", has_script=False),
)
LOADS_CODE = re.compile(r"--(?:import|require|loader|experimental-loader|rcfile|init-file)(?:=.*)?", re.DOTALL)
"""Options of interpreters for code, or a file with it, that is executed before the script."""
READS_INPUT = re.compile(
    rf"{_SHELL_NAME}|{_PYTHON_NAME}|perl[\d.]*|ruby[\d.]*|node|nodejs|bun|deno|php[\d.]*|lua(?:jit)?[\d.]*|R|Rscript|julia"
    r"|octave(?:-cli)?|matlab|gnuplot|tclsh|expect|guile|sqlite3|psql|mysql|mariadb|duckdb|mongosh|mongo|redis-cli"
    r"|sqlplus|sftp|lftp|ftp|ed|ex|dc|bc|m4|at|batch|parallel|pwsh|gdb|su|runuser|newgrp|sg"
    r"|sbatch|qsub|msub|crontab"
)
"""Programs that read code from standard input, unless their arguments name it or a file with it."""
NAMES_CODE = {
    name: re.compile(option)
    for name, option in (
        ("psql", r"-[A-Za-z]*[cf]|--(?:command|file)"),
        ("mysql", r"-[A-Za-z]*e|--execute"),
        ("mariadb", r"-[A-Za-z]*e|--execute"),
        ("duckdb", r"-c|-f"),
        ("mongosh", r"-f|--file|--eval"),
        ("matlab", r"-batch|-r"),
        ("R", r"-f|-e|--file|CMD"),
        ("gdb", r"-+batch"),
    )
}
"""Options with which those of them that take no script read no code from standard input."""
TAKES_SCRIPT_NAME = re.compile(
    rf"{_SHELL_NAME}|{_PYTHON_NAME}|perl[\d.]*|ruby[\d.]*|node|nodejs|bun|deno|php[\d.]*|lua(?:jit)?[\d.]*|Rscript|julia"
    r"|octave(?:-cli)?|gnuplot|tclsh|expect|guile|pwsh|parallel|sbatch|qsub|msub|crontab"
)
"""Those of them that a plain argument keeps from it."""
STANDARD_INPUT = re.compile(
    r"-|/[/.]*(?:dev[/.]+)+(?:stdin|fd[/.]+[0-9]+)|/[/.]*proc[/.]+(?:self|[0-9]+|\$+)[/.]+fd[/.]+[0-9]+"
)
"""Names of standard input, and of descriptors, which a redirection may open."""
FILE_READERS = _names(
    "cat zcat gzcat bzcat xzcat zstdcat lz4cat gunzip gzip bunzip2 bzip2 xz unxz zstd unzstd pigz pv tac"
)
"""Programs that print the content of the files that their arguments name, and no argument."""

PRINTERS = _names("echo printf")
"""Programs that print their arguments."""
WRITERS = _names("tee cp mv ln mkfifo mknod install dd rsync curl wget")
"""Programs that create the files which their arguments name."""
_FIXED = r"""(?:[\w./-]+|'[^'\0]*')"""
_QUOTED = r"""(?:[\w./-]+|"[^"`\\()@*]*"|'[^']*')"""
"""A word that is one even if it has a list."""
NUMBER_OUTPUT = re.compile(
    rf"""\s*(?:nproc|id\ -[ug]|date(?:\ -u)?\ ['"]?\+%[sNYmdHMSj]+['"]?|seq\ [0-9]+(?:\ (?:\0|{_QUOTED}))*
    |stat\ (?:-c\ ?['"]?%[sYXZ]|-f\ ?['"]?%[zma])['"]?\ {_QUOTED}|grep\ -[A-Za-z]*c[A-Za-z]*\ {_FIXED}\ {_QUOTED}
    |wc(?:\ -[clmwL]+)*\ *<\ *(?:\0|{_QUOTED})
    |(?:[^"'`\\;&(){{}}<>\n]|"[^"`\\()]*"|'[^']*'|2>\s?/dev/null)*\|\ *wc(?:\ -[clmwL]+)*)\s*""",
    re.VERBOSE | re.ASCII,
)
"""Commands that print numbers, whatever their arguments and the files are."""
SETUP_OUTPUT = re.compile(
    r"\s*(?:(?:which|command\s+-v|type\s+-[pP])\s+[\w./+-]+|ssh-agent(?:\s+-s)?"
    r"|(?:conda|mamba|micromamba|pixi|pyenv|rbenv|nodenv|brew|spack|opam)\s+(?:info|init|hook|env|shell[\w.-]*|--prefix)"
    r"(?:\s+[\w./:=@+-]+)*)\s*",
    re.ASCII,
)
"""Commands that print a path or settings of the machine, none of which is from a value."""


class FirstArgument(NamedTuple):
    """A program whose first plain argument is code."""

    remedy: str
    code: tuple[str, ...] = ()
    """Options whose argument is code instead; it may be attached."""
    files: tuple[str, ...] = ()
    """Options for a file with the code."""
    takes: tuple[str, ...] = ()
    """Other options with an argument, once for each."""
    places: range = range(1)
    """Plain arguments that are code, counted from 0."""


_AWK_REMEDY = "value={field} awk '… ENVIRON[\"value\"] …'"
_AWK = FirstArgument(_AWK_REMEDY, ("-e", "--source"), ("-f", "--file", "-E"), ("-F", "-v", "-i", "-l"))
_SED = FirstArgument(_AWK_REMEDY, ("-e", "--expression"), ("-f", "--file"), ("-l", "--line-length"))
_JQ_TAKES = "--arg --arg --argjson --argjson --slurpfile --slurpfile --rawfile --rawfile --indent -L"
_JQ = FirstArgument(
    "jq --arg value {field} '… $value …'", ("--expression",), ("-f", "--from-file"), tuple(_JQ_TAKES.split())
)
FIRST_ARGUMENT = {
    **dict.fromkeys(("awk", "gawk", "mawk", "nawk", "original-awk"), _AWK),
    **dict.fromkeys(("sed", "gsed"), _SED),
    **dict.fromkeys(("jq", "gojq", "jaq", "yq"), _JQ),
    "sqlite3": FirstArgument(_STATEMENT, ("-cmd",), places=range(1, 100)),
    "dc": FirstArgument(_AWK_REMEDY, ("-e", "--expression"), ("-f", "--file"), places=range(0)),
}
LANGUAGES = re.compile(
    rf"{_PYTHON_NAME}|matlab|{_LANGUAGE_NAMES}|{_DATABASE_NAMES}|perl[\d.]*|ruby[\d.]*|node|nodejs|bun|deno|php[\d.]*|R|Rscript"
    r"|julia|sqlite3|redis-cli|[gmn]?awk|original-awk|g?sed|jq|gojq|jaq|yq|bc|dc"
)
"""Programs in whose code a number is accepted, which no code can be hidden in."""
FIND_OPTIONS = ("-exec", "-execdir", "-ok", "-okdir")
"""Options of find for a program that it starts."""
NEEDS_OPERAND = ("timeout", "flock", "taskset", "chroot", "chrt")
"""Wrappers whose first operand is not the program."""
PARALLEL_NUMBERS = ("-j", "--jobs", "-P", "-n", "-N", "--max-procs", "--timeout", "--retries", "--delay", "--load")
"""Options of parallel whose argument is a number."""
PATH = re.compile(r"\$?\$?[\w./~%+-]*[./][\w./~%+$-]*", re.ASCII)
"""The name of a file that may begin with a variable; it is no option."""
JOINING = {
    **dict.fromkeys(("watch", "screen", "tmux", "bsub", "xterm", "redis-cli"), _SCRIPT),
    "parallel": "parallel … ::: {field}",
    "pdsh": _SCRIPT,
    "sg": _SCRIPT,
}
"""Programs that pass all their arguments to a shell."""
SED_EXECUTES = re.compile(
    r"(?:^|[;{}\n0-9$/\s])e\s*(?:[;}\n]|$)|s([^\w\s])(?:(?!\1).)*\1(?:(?!\1).)*\1[gpIiMm0-9]*e", re.DOTALL
)
"""Code of sed that executes its input."""
GIT_SETTING = re.compile(r"(?:user|color|init|log|http|commit|push|advice)\.")
"""Settings of git that are no commands."""
MAKE_OPTIONS = tuple(f"-{letter}" for letter in "jCfloWI")
"""Options with an argument; other arguments with ``=`` are variables, whose values make expands."""
XARGS_REPLACES = re.compile(r"-[A-Za-z0-9]*?(?:I|J)(.*)|-i(.*)|--replace(?:=(.*))?", re.DOTALL)
"""Options of xargs for the text that it replaces."""
REMOTE_SHELLS = ("ssh", "rsh", "autossh", "mosh")
SSH_OPTIONS = tuple(f"-{letter}" for letter in "BbcDEeFIiJLlmOopQRSWw")
SSH_REMEDY = "the value by standard input, as in: printf '%s\\0' {field} | ssh host xargs -0 -n1 program"
WRAPPERS = _names(
    "sudo doas env nohup nice ionice chrt taskset numactl stdbuf setsid time timeout exec command builtin xargs "
    "parallel find chroot unshare nsenter strace ltrace perf valgrind gdb srun mpirun mpiexec salloc docker podman "
    "nerdctl kubectl oc singularity apptainer ch-run conda mamba micromamba pixi uv poetry pipenv hatch nix nix-shell "
    "guix busybox toybox flock script sshpass runuser su systemd-run cgexec prlimit catchsegv xvfb-run caffeinate "
    "jobs chronic unbuffer retry eatmydata chpst envdir firejail bwrap "
    "fakeroot proot hyperfine entr multipass lxc vagrant module"
)
"""Programs that start the program which their arguments name."""
WRAPPED = re.compile(r"[-+].*|[0-9.]+[a-z]?|\w+=.*|!|\{\}", re.DOTALL)
"""Words between a wrapper and the program that it starts: options, numbers, assignments."""
VALUE_REMEDY = "a variable with a fixed name, as in: value={field}"
_LOOP = "a loop, as in: while IFS= read -r line; do …; done"
EVALUATING = {
    **dict.fromkeys(_names("unset compgen complete bind read getopts enable fc history"), VALUE_REMEDY),
    **dict.fromkeys(("mapfile", "readarray"), f"a fixed name; for -C {_LOOP}"),
    "let": "arithmetic: n=$(( {field} ))",
    "trap": 'a function: value={field}; f() { … "$value"; }; trap f EXIT',
    "alias": 'a function: value={field}; f() { program "$value"; }',
    "wait": "the process that was started: program & wait $!",
}
"""Built-in commands that evaluate their arguments, with what to write instead."""
DECLARING = frozenset({"export", "declare", "typeset", "local", "readonly"})
CODE_OPTION = re.compile(r"-[A-Za-z]{0,3}c|-[A-Za-z]{0,2}e|--?(?:[\w-]*-)?(?:command|cmd|exec|execute|eval|rsh)")
"""Options that usually have code as their argument, of any program."""
CODE_LIKE = re.compile(r"[\s;|&$()`<>!]")
"""Characters of code: a value among them is probably part of it."""
TEXT_PROGRAMS = _names(
    "bcftools samtools vcftools "
    "echo printf test [ grep egrep fgrep zgrep rg ag curl wget convert magick mogrify identify "
    "montage compose ffmpeg ffprobe "
    "sox date logger stat tesseract exiftool zip unzip mail mailx notify-send aws gsutil az"
)
"""Programs whose arguments are text, whatever the options are called."""
COMPUTED_VARIABLES = _names(
    "_ BASH_ARGV BASH_ARGV0 BASH_ALIASES BASH_CMDS BASH_COMMAND BASH_REMATCH COMP_LINE COMP_WORDS DIRSTACK MAPFILE "
    "OPTARG REPLY READLINE_LINE CLOUD_TASKS_TASK_ID"
)
"""Variables that may have a value, or the task's id, without an assignment."""
DECODER = re.compile(
    r"\b(?:base(?:32|64|nc)\b[^|;&\n]*\s(?:-\w*[dD]|--decode)|xxd\b[^|;&\n]*\s-\w*r|openssl\b[^|;&\n]*\s-d\b|uudecode"
    r"|b64decode|unhexlify|fromhex|decode_base64)|@base(?:32|64)d"
)
"""Programs and functions that turn plain text into any other."""
SHELL_OPTIONS = ("expand_aliases", "extdebug")
INTEGER_VARIABLES = _names("RANDOM SRANDOM OPTIND HISTCMD SECONDS LINENO BASHPID EPOCHSECONDS")
"""Variables of shells whose values are evaluated as arithmetic when they are assigned."""
BUILT_INS = frozenset({"eval", "source", ".", "builtin", "command", "exec", "printf", "test", "[", "set", "shopt"}) | (
    frozenset(EVALUATING) | DECLARING
)
"""Built-in commands of shells that read arguments as code, commands or names of variables."""
CODE_VARIABLES = _names(
    "BASH_ALIASES BASH_CMDS "
    "BASH_ENV ENV PROMPT_COMMAND PS0 PS1 PS4 PERL5OPT PERL5DB PYTHONSTARTUP RUBYOPT NODE_OPTIONS LUA_INIT R_PROFILE "
    "R_PROFILE_USER LD_PRELOAD LD_AUDIT DYLD_INSERT_LIBRARIES GIT_SSH GIT_SSH_COMMAND GIT_EDITOR "
    "GIT_SEQUENCE_EDITOR GIT_PAGER GIT_EXTERNAL_DIFF GIT_ASKPASS SSH_ASKPASS "
    "GIT_PROXY_COMMAND GIT_CONFIG_PARAMETERS EDITOR BROWSER "
    "VISUAL PAGER MANPAGER LESSOPEN LESSCLOSE RSYNC_RSH MAKEFLAGS TAR_OPTIONS"
)
"""Environment variables that programs read as code, options, or a file with code."""
