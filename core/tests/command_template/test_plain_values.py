"""Ways on which a shell may evaluate text again, which are not followed: values there must be plain text.

Real shells run the accepted commands: no value is executed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cloud_tasks.command_template import CommandTemplate
from cloud_tasks.errors import InputError

PROGRAMS = (
    "bash sh cat env timeout nice xargs find tr sed grep touch tee seq sleep git zip head sort wc mkfifo ln chmod dd "
    "mkdir rm"
)
_TASK_ID = "CLOUD_TASKS_TASK_ID"
HOSTILE = (
    "touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    "a[$(touch pwned)]",
    "PATH[$(touch pwned)]",
    "; touch pwned;",
    "x; touch pwned #",
    "\ntouch pwned\n",
    "{touch,pwned}",
    "touch${IFS}pwned",
    "touch\tpwned",
    "'; touch pwned; '",
    '"; touch pwned; "',
    "x=$(touch pwned)",
    "\\$(touch pwned)",
    "-c touch",
    "*",
    "~",
)
PLAIN = (
    "",
    "0",
    "-3",
    "+1.5",
    "1+1",
    "y",
    "x",
    "a_b-c.txt",
    "../data/in.fq.gz",
    "seed=1,mode=fast",
    "50%",
    "u@h:p",
    "-.5",
)
OTHER = (
    *HOSTILE,
    "a b",
    "-n",
    "+x",
    "--",
    "-",
    "é",
    "a\n",
    "\n",
    "a$b",
    "$",
    "a[0]",
    "(",
    "a{b",
    "x!",
    "^",
    "a#",
    "a?",
    "a'b",
    "٣",
)

EXECUTING = (
    "bash <(echo 'eval \"$1\"') {x}",
    "export y={x}; echo 'eval \"$y\"' | bash",
    "export y={x}; bash <(echo 'eval \"$y\"')",
    "y={x}; timeout 5 $y",
    "y={x}; env $y",
    "y={x}; command $y",
    "y={x}; exec $y",
    "y={x}; nice $y",
    "y={x}; echo | xargs -r $y",
    "y={x}; echo a | xargs $y",
    "y={x}; find . -maxdepth 0 -exec $y ';'",
    "y={x}; p=; $p $y",
    'y={x}; z="timeout 4"; $z $y',
    "timeout 5 $(echo {x})",
    'y={x}; set -- $y; "$@"',
    "for c in {x}; do timeout 5 $c; done",
    'read -r a b <<<{x}; "$a" "$b"',
    'y={x}; z=PS4; printf -v "$z" %s "$y"; set -x; true',
    'set -- {x}; echo "${1@P}"',
    'f() { echo "${1@P}"; }; f {x}',
    'set -- {x}; echo "${@@P}"',
    'f() { printf -v "$1" %s "$2"; }; f y {x}; eval "$y"',
    'f() { read "$1" <<< "$2"; }; f y {x}; eval "$y"',
    'printf -v a[0] %s {x}; eval "${a[0]}"',
    'set -- a b c d e f g h i j {x}; eval "${11}"',
    'i=1; set -- {x}; eval "${!i}"',
    'set -- {x}; eval "${!#}"',
    'shopt -s extdebug; f() { eval "${BASH_ARGV[0]}"; }; f {x}',
    "echo {x} | ${s-}sh",
    "s=s; echo {x} | ba${s}h",
    "echo {x} | /bin/b?sh",
    "echo {x} | {bash,-s}",
    "echo {x} | $'ba\\x73h'",
    "exec 3<<<{x}; exec /proc/self/exe /dev/fd/3",
    "echo {x} | /proc/self/exe",
    "y={x}; declare -a 'a=([y]=1)'",
    "bash -c 'while read -r i; do echo $((i)); done' <<< {x}",
    "bash -c 'n=$(cat); echo $((n))' <<< {x}",
    "f() { local z; z=$(cat); echo $((z)); }; echo {x} | f",
    "f() { printf '%s' {x}; }; echo $(( $(f) ))",
    "echo {x} > s; n=$(<s); (( n > 0 ))",
    "y={x}; q=$(echo y); echo $((q))",
    "y={x}; eval 'z=$y'; echo $((z))",
    'y={x}; z=let; "$z" q=y',
    "z=read; \"$z\" 'a[y]' <<< 1; y={x}",
    "y={x}; read 'a[y]' <<< 1",
    "y={x}; printf -v 'a[y]' 1",
    "y={x}; a=(1); unset 'a[y]'",
    "y={x}; test -v 'a[y]'",
    "y={x}; declare 'a[y]=1'",
    'set -- -c \'eval "$1"\' _ {x}; bash "$@"',
    "bash ${D:--c} 'eval \"$1\"' _ {x}",
    "bash -c 'timeout 4 $1' bash {x}",
    'f() { eval "$1"; }; export -f f; bash -c \'f "$1"\' _ {x}',
    "f() { eval \"$1\"; }; export -f f; echo {x} | xargs -d '\\n' -n1 bash -c 'f \"$1\"' _",
    "git -c core.sshCommand={x} ls-remote ssh://h/x",
    "GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=alias.z GIT_CONFIG_VALUE_0='!'{x} git z",
    "echo > q.in; zip -q -T -TT {x} q.zip q.in",
    "echo > q.in; zip -q -T --unzip-command {x} q.zip q.in",
    "echo {x} | sed e",
    "n={x}; : $(( ${m:-n} ))",
    "n={x}; printf -v m n; : $(( m ))",
    "n={x}; m=${o:-n}; : $(( m ))",
    "n={x}; o=xn; m=${o#x}; : $(( m ))",
    "n={x}; o=N; m=${o,,}; : $(( m ))",
    "n={x}; m=$'\\x6e'; : $(( m ))",
    "n={x}; p=n q=; m=$p$q; : $(( m ))",
    "n={x}; touch n; a=(*); : $(( a[0] ))",
    "n={x}; touch n; set -- *; : $(( $1 ))",
    "n={x}; m=${!n*}; : $(( m ))",
    'n={x}; declare -A k=([n]=1); for m in "${!k[@]}"; do : $(( m )); done',
    "n2={x}; m=n$((1+1)); : $((m))",
    "n2={x}; for i in n{1..3}; do : $((i)); done",
    'n={x}; a=(x n); i="${a[1]}"; : $(( i ))',
    "n={x}; set -- a n; shift; : $(( $1 ))",
    "export n={x}; bash --rcfile <(echo 'eval $n') -i -c true",
    'export n={x}; e=([0]=eval [1]="$n"); "${e[@]}"',
    'export n={x}; e=(x); e[0]=eval; e[1]=$n; "${e[@]}"',
    'export n={x}; declare -A e=([k]=eval); "${e[k]}" "$n"',
    'export n={x}; e=(x eval "$n"); "${e[@]:1}"',
    'export n={x}; set -- x eval "$n"; shift; "$@"',
    'export n={x}; set -- x eval "$n"; "$2" "$3"',
    'export n={x}; f() { g "$@"; }; g() { "$@"; }; f eval "$n"',
    "export n={x}; echo 'eval \"$n\"' > s; PATH=.:$PATH; chmod +x s; s",
    "export n={x}; echo 'eval \"$n\"' > s; BASH_ENV=s bash -c true",
    "export n={x}; BASH_ENV=<(echo 'eval \"$n\"') bash -c true",
    "export n={x}; BASH_ENV='$(eval \"$n\")' bash -c true",
    "export n={x}; PS4='$(eval \"$n\")'; set -x; true",
    "export n={x}; PS4='${n@P}'; set -x; true",
    'n={x}; v=\'$(eval "$n")\'; echo "${v@P}"',
    "echo {x} | xargs env",
    "echo {x} > f; xargs -a f timeout 5",
    'n={x}; a=(timeout 5 $n); "${a[@]}"',
    'n={x}; a=(env); a+=($n); "${a[@]}"',
    'n={x}; read -ra a <<< "$n"; "${a[@]}"',
    'y={x}; ""$y',
    'y={x}; : `eval "$y"`',
    'y={x}; : `echo \\`eval "$y"\\``',
    'mkdir {x}; for i in *; do eval "$i"; done',
    'mkdir -p {x}; cd {x}; eval "${PWD##*/}"',
    'mkfifo p; (read l < p; eval "$l") & echo {x} > p; wait',
    "{ echo {x} >&3; } 3>&1 | bash",
    "echo {x} | dd of=s; sh s",
    'echo {x} > f; trap "$(cat f)" EXIT',
    "IFS=x; y={x}; $y",
    "a=({x}); timeout 5 ${a[@]}",
    "x={x}; command let y=x",
    "x={x}; builtin printf -v 'a[x]' 1",
    "x={x}; command read 'a[x]' <<< 1",
    "x={x}; builtin declare -i y; y=x",
    'x={x}; f() { command "$@"; }; f let y=x',
    'x={x}; c=(builtin let y=x); "${c[@]}"',
    "declare -A m; k={x}; unset 'm[$k]'",
    "declare -A m; k={x}; (( m[$k]++ ))",
)

PLAIN_ONLY = (
    "n=$(identify -format %w {f}); echo $((n / 2))",
    "n=$(prog {x}); echo $((n+1))",
    "read -r w h < <(identify {f}); echo $((w*h))",
    "prog {f} | { read -r n; echo $((n+1)); }",
    'n=$(ffprobe {f}); prog $(echo "$n / 2" | bc)',
    "mem=$(free -m | awk '/Mem/ {{print $2}}'); prog --mem $((mem / 2)) {x}",
    "n=$(grep -c a {f}); echo $((n * 2))",
    "size=$(stat -c %s {f}); (( size > 1000 ))",
    "cd {x}; n=${PWD##*/}; echo $((n))",
    "cd {x}; n=$(pwd); echo $((n))",
    'echo {g} | while read y; do echo >& "$y"; done',
    'echo {g} | while read y; do >& "$y"; done',
    "f() {{ echo {g}; }}; f | sh",
    'f() {{ printf %s {g}; }}; eval "$(f)"',
    'f() {{ printf %s {g}; }}; sh -c "$(f)"',
    "f() {{ printf %s {g}; }}; bash <(f)",
    "f() {{ printf %s {g}; }}; f | xargs -I% sh -c %",
    "f() {{ printf %s {g}; }}; f | while read l; do eval $l; done",
    "f() {{ printf %s {g}; }}; y=$(f); eval $y",
    "f() {{ printf %s {g}; }}; g() {{ f; }}; g | bash",
    "g() {{ f | sh; }}; f() {{ printf %s {g}; }}; g",
    "f() ( echo {g} ); cat <(f) | sh",
    "f() {{ printf %s {g}; }}; bash <<E\n$(f)\nE",
    'f() {{ printf %s {g}; }}; bash <<<"$(f)"',
    "f() {{ printf %s {g}; }}; f | tee log | parallel",
    "f() {{ printf %s {g}; }}; f > >(sh)",
    'echo {g}; eval "$_"',
    "shopt -s expand_aliases\nalias e='eval show'\ny={g}\ne $y",
    "mapfile -C eval -c 1 a <<< {g}",
    "echo {g} | readarray -C eval a",
    "echo {g} | $(echo sh)",
    "exec 3<<< {g}; bash /dev/fd/3",
    "bash -s {g} <<'E'\neval \"$1\"\nE",
    "export y={g}; bash <<'E'\neval $y\nE",
    "y={g} sh <<E\neval \\$y\nE",
    'c=\'eval "$1"\'; bash -c "$c" _ {g}',
    'bash -c "$(cat <<\'E\'\neval "$1"\nE\n)" _ {g}',
    "bash -s -- {g} <<< 'sh -c \"$1\"'",
    "bash /dev/stdin {g} <<< 'eval $1'",
    "sudo -u a bash -s {g} <<< 'eval $1'",
    "export y={g}; bash <<< 'eval $y'",
    "export y={g}; c='eval $y'; bash -c \"$c\"",
    'set -- {g}; eval "$_"',
    "while read l; do $l; done <<< {g}",
    "bash -c '$0' {g}",
    "f() {{ cat <<E\n{g}\nE\n}}\nf | sh",
    "coproc C {{ sh; }}; echo {g} >&${C[1]}",
    "coproc C ( sh ); echo {g} >&${C[1]}",
    "coproc {{ sh; }}; echo {g} >&${COPROC[1]}",
    "echo {g} | tee >(sh)",
    "echo {g} > >(sh)",
    "exec 3> >(sh); echo {g} >&3",
    "coproc sh; echo {g} >&${COPROC[1]}",
    "declare -n r; r={g}; echo $r",
    "declare -n r; read r <<<{g}",
    "for r in {g}; do declare -n r; done",
    "while read x; do y; done <<<{g} | bash",
    "if true; then bash; fi <<EOF\n{g}\nEOF",
    "{{ read x; bash; }} <<<{g}",
    "( cd /tmp; sh ) <<<{g}",
    "while true; do bash -s; done < <(echo {g})",
    "case a in a) bash ;; esac <<<{g}",
    "echo {g} | if true; then sh; fi",
    "f() {{ bash; }}; echo {g} | f",
    "echo {g} | xargs -n1 sh -c 'eval \"$0\"'",
    "echo {g} | xargs -n2 sh -c 'eval \"$1\"' _",
    "bash -c 'bash' <<< {g}",
    "echo {g} | while read -r y; do bash -c \"eval '$y'\"; done",
    "f() {{ cat | bash; }}; f <<< {g}",
    "{ tr a b | sh; } <<< {g}",
    "bash -c 'cat - | bash' <<< {g}",
    "declare -Ai m=([a]={g})",
    'read -r x <<EOF\n{g}\nEOF\neval "$x"',
    'while read x; do eval "$x"; done <<<{g}',
    'echo {g} | while read -r x; do bash -c "$x"; done',
    "exec <<<{g}; bash",
    "declare -ai n; n=({x})",
    "declare -i n; read n <<<{x}",
    "declare -i n; echo {x} | while read n; do :; done",
    "declare -i n; n=$(echo {x})",
    "declare -ai n; mapfile n <<<{x}",
    "o=-i; declare $o n; n={x}",
    "f() {{ declare -i m; m=$1; }}; f {x}",
    "f() {{ declare -i m=$1; }}; f {x}",
    "g=f; f() {{ declare -i m=$1; }}; $g {x}",
    "read SRANDOM <<<{x}",
    "select n in a; do echo $((REPLY)); done <<<{x}",
    "read n <<<{x}; echo $((n))",
    "while read n; do echo $((n)); done <<<{x}",
    "echo {x} | while read n; do (( n > 1 )) || true; done",
    "[[ 3 -lt $(echo {x}) || a == b ]]",
    "bash -c 'echo $(($1))' _ {x}",
    "f() {{ echo $(($1)); }}; f {x}",
    "set -- a {x}; (( $2 )) || true",
    "echo $(( $(echo {x}) ))",
    "f() {{ wc -l < {f}; }}; n=$(f); prog $((n / 2))",
    "bash -s {g} <<'E'\nprog \"$1\"\nE",
    'c=\'prog "$1"\'; bash -c "$c" _ {g}',
    "curl -s http://h/x.sh | bash -s -- {g}",
    'y=1; eval "$y"; prog {g}',
    "cat {f} | bash",
    "cat {f} | xargs -I% sh -c 'echo %'",
    "find . -name {g} -exec sh -c 'echo {}' \\;",
    "{ cat x.sh | bash; } <<< {g}",
    "{ echo a | bash; prog; } <<< {g}",
)

DATA = {"f": "in.txt", "n": 3, "l": ["a", "b"]}


def check(template: str, data: dict[str, object], *, is_bash: bool = True) -> None:
    CommandTemplate(template, is_bash=is_bash, where="run.command").check(data)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    for name in PROGRAMS.split():
        if (found := shutil.which(name)) is not None:
            (folder / name).symlink_to(found)
    return folder


def is_executed(template: str, value: object, programs: Path, folder: Path, *, task_id: str = "t") -> bool:
    """Return whether a value is executed in a command that is accepted."""
    command = CommandTemplate(template, is_bash=True)
    data = {**DATA, "x": value, "g": value, "task_id": task_id}
    try:
        command.check(data)
        script, arguments = command.invocation(data)
    except InputError:
        return False
    for file in folder.iterdir():
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    environment = {"PATH": str(programs), "CLOUD_TASKS_TASK_ID": task_id, "HOME": str(folder)}
    process = subprocess.Popen(
        [os.fsencode(part) for part in ("bash", "-euo", "pipefail", "-c", script, "bash", *arguments)],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        process.wait(20)
    finally:
        process.kill()
        process.wait()
    return (folder / "pwned").exists()


@pytest.mark.parametrize("template", EXECUTING)
def test_command_that_is_accepted_executes_no_value(template: str, programs: Path, tmp_path: Path) -> None:
    executed = [value for value in HOSTILE if is_executed(template, value, programs, tmp_path)]
    assert executed == []


@pytest.mark.parametrize("template", PLAIN_ONLY)
def test_value_on_a_way_that_is_not_followed_must_be_plain_text(template: str) -> None:
    for value in PLAIN:
        check(template, {**DATA, "x": value, "g": value})
    name = next(name for name in ("x", "g", "f") if f"{{{name}}}" in template)
    for other in OTHER:
        with pytest.raises(InputError) as caught:
            check(template, {**DATA, name: other, **({"x": "x"} if name != "x" else {})})
        assert str(caught.value).startswith(f'run.command: {{{name}}} has the value "')
        assert ", which is not plain text, and " in str(caught.value)
        assert str(caught.value).isprintable()
        assert "; use letters, digits and " in str(caught.value)


def test_refusal_names_field_value_construct_and_remedy() -> None:
    for template, message in (
        (
            "n=$(prog {f}); echo $((n + 1))",
            'run.command: {f} has the value "my file", which is not plain text, and the shell evaluates the output '
            "of prog as arithmetic; use letters, digits and _./:,%@=+- only, or a script that takes the value as its "
            "argument",
        ),
        ("prog {f} | bash", "bash executes its standard input"),
        ('eval "$(prog {f})"', "eval executes the output of prog"),
        ('bash -c "$(prog {f})"', "bash executes the output of prog"),
        ("declare -n r=y; prog {f}", "a variable is a reference to another one"),
        ("echo {f} > s; bash s", "the command writes the file s, which it executes"),
    ):
        with pytest.raises(InputError) as caught:
            check(template, {"f": "my file"})
        assert message in str(caught.value)


def test_task_id_must_be_plain_text_where_values_must_be() -> None:
    template = "n=$(prog {f}); echo $((n + 1))"
    check(template, {"f": "x", "task_id": "a-1,b=2"})
    with pytest.raises(InputError, match=r"{task_id} has the value"):
        check(template, {"f": "CLOUD_TASKS_TASK_ID", "task_id": "a[$(touch pwned)]"})
    check("prog {f}", {"f": "x", "task_id": "a[$(touch pwned)]"})
    check("prog $CLOUD_TASKS_TASK_ID", {"task_id": "a[$(touch pwned)]"})
    for template in ("echo $((CLOUD_TASKS_TASK_ID))", 'eval "$CLOUD_TASKS_TASK_ID"', "y=$CLOUD_TASKS_TASK_ID; $y"):
        with pytest.raises(InputError, match=r"{task_id} has the value"):
            check(template, {"task_id": "a[$(touch pwned)]"})


def test_plain_text_has_no_separator_of_the_command() -> None:
    template = 'IFS=,; read -r a b <<< {x}; "$a" "$b"'
    check(template, {"x": "a.b"})
    with pytest.raises(InputError, match="not plain text"):
        check(template, {"x": "touch,pwned"})


def test_list_must_have_plain_entries() -> None:
    template = "n=$(prog {l}); echo $((n + 1))"
    check(template, {"l": ["a", "b"]})
    with pytest.raises(InputError, match="not plain text"):
        check(template, {"l": ["a", "b c"]})
    with pytest.raises(InputError, match="not plain text"):
        check("n=$(prog '{l}'); echo $((n + 1))", {"l": ["a", "b"]})


def test_program_that_decodes_values_is_refused_where_they_may_be_evaluated() -> None:
    for decoder in (
        "base64 -d",
        "base64 --decode",
        "xxd -r -p",
        "base32 -d",
        "openssl enc -base64 -d",
        "jq -r @base64d",
    ):
        with pytest.raises(InputError, match="makes any text from a value; decode it in a script"):
            check(f"n=$(echo {{x}} | {decoder}); echo $((n))", {"x": 1})
        check(f"echo {{x}} | {decoder} > out", {"x": "$(touch pwned)"})


# Values get into a variable, and that into something that a shell evaluates; each in several surroundings.
SOURCES = (
    "y={x}",
    "export y={x}",
    "declare y={x}",
    "y=a{x}",
    "y=$(echo {x})",
    "y=`cat <<< z`; y+={x}",
    "read -r y <<< {x}",
    "read -r y z <<< {x}",
    "set -- {x}; y=$1",
    "set -- a {x}; shift; y=$1",
    "set -- {x} {x}; y=$*",
    "f() { y=$1; }; f {x}",
    "f() { echo {x}; }; y=$(f)",
    "printf -v y %s {x}",
    "for y in {x}; do :; done",
    "for y in '{x}' {x}; do break; done",
    "echo {x} > s; y=$(<s)",
    "echo {x} > s; read -r y < s",
    "mapfile -t a <<< {x}; y=${a[0]}",
    "a=({x}); y=${a[0]}",
    "declare -A m=([k]={x}); y=${m[k]}",
    "declare -A m; m[{x}]=1; y=${!m[*]}",
    "z={x}; y=$z",
    "z={x}; y=${z}",
    "z={x}; n=z; y=${!n}",
    "z={x}; : ${y:=$z}",
    "y=$(cat <<E\n{x}\nE\n)",
    "[[ {x} =~ .* ]]; y=${BASH_REMATCH[0]}",
    "echo {x} > /dev/null; y=$_",
    "y=$CLOUD_TASKS_TASK_ID; : {x}",
    "y=CLOUD_TASKS_TASK_ID; : {x}",
    "x={x}; y=x",
    'coproc C { echo {x}; }; read -r y <&"${C[0]}"',
    "select y in {x}; do break; done <<< 1",
    "OPTIND=1; getopts a: o -a {x}; y=$OPTARG",
    "y=$(bash -c 'echo \"$1\"' _ {x})",
    "y=$(echo {x} | tr a-c a-c)",
    "y=$(env z={x} bash -c 'echo \"$z\"')",
    "IFS=,; y={x}",
    "z={x}; y=${q-z}",
    "z={x}; y=$'\\x7a'",
    "z={x}; touch z; y=(*)",
    "z={x}; set -- q z; shift; y=$1",
    "mkdir -p {x}; cd {x}; y=${PWD##*/}",
)
SINKS = (
    'prog "$y"',
    "echo $((y))",
    "echo $(($y + 1))",
    "(( y > 0 ))",
    "[[ $y -gt 0 ]]",
    "[[ y -gt 0 ]]",
    "let z=y",
    'let "z = $y"',
    'a=(1 2); echo "${a[y]}"',
    'a=(1 2); echo "${a[$y]}"',
    "a[y]=1",
    "a=([y]=1)",
    's=abc; echo "${s:y:1}"',
    's=abc; echo "${s: $y}"',
    "declare -i z; z=$y",
    'declare -i "z=$y"',
    "RANDOM=$y",
    "echo $[y]",
    "for ((i = y; i < 1; i++)); do break; done",
    "z=y; echo $((z))",
    "q=$(echo y); echo $((q))",
    'eval "echo $y"',
    "eval 'echo $((y))'",
    'bash -c "echo $y"',
    'echo "echo $y" | bash',
    'echo "$y" | cat | sh',
    'bash <<< "echo $y"',
    "bash <<E\necho $y\nE\n",
    "timeout 4 $y",
    "$y",
    '"$y"',
    "env $y",
    "nice -n 1 $y",
    "p=; $p $y",
    'set -- $y; "$@"',
    'set -- $y; timeout 4 "$@"',
    'a=($y); "${a[@]}"',
    "for i in $y; do timeout 4 $i; done",
    "find . -maxdepth 0 -exec $y ';'",
    "echo | xargs -r $y",
    'trap "echo $y" EXIT',
    'source <(echo "$y")',
    'echo "$y" > s1; . ./s1',
    'echo "$y" > s1; bash s1',
    'echo "${y@P}"',
    'set -- "$y"; echo "${1@P}"',
    'printf -v "$y" x',
    'read -r "$y" <<< 1',
    'unset "$y"',
    'test -v "$y"',
    "[[ -v $y ]]",
    'declare "$y=1"',
    "declare -a 'b=([y]=1)'",
    "declare -n r=$y; r=1",
    "PS4=$y; set -x; true",
    'v=PS4; printf -v "$v" %s "$y"; set -x; true',
    "export y; bash -c 'eval \"$y\"'",
    "bash -c 'echo $(($1))' _ \"$y\"",
    "bash -c 'read -r n; echo $((n))' <<< \"$y\"",
    "bash -c '$1' _ \"$y\"",
    "echo \"$y\" | xargs -I% bash -c 'echo %'",
    'g() { echo $(($1)); }; g "$y"',
    'g() { local n; n=$(cat); echo $((n)); }; echo "$y" | g',
    'g() { "$@"; }; g $y',
    'bash <(echo \'eval "$1"\') "$y"',
    "export y; echo 'eval \"$y\"' | bash",
    'e=; echo "$y" | ba${e}sh',
    'echo "$y" | {bash,-s}',
    'echo "$y" | /proc/self/exe',
    'echo "$y" | sed e',
    'set -- -c \'eval "$1"\' _ "$y"; bash "$@"',
    'git -c core.sshCommand="$y" ls-remote ssh://h/x',
    'w=let; "$w" q=y',
    'a=(env $y); "${a[@]}"',
    'e=(x eval "$y"); "${e[@]:1}"',
    'e=(x); e[0]=eval; e[1]=$y; "${e[@]}"',
    'set -- x eval "$y"; shift; "$@"',
    "export y; BASH_ENV=<(echo 'eval \"$y\"') bash -c true",
    "PS4='$(eval \"$y\")'; set -x; true",
    'echo "$y" | xargs env',
    ': `eval "$y"`',
    'coproc bash; echo "$y" >&"${COPROC[1]}"; sleep 0.1',
    'exec 3<<< "$y"; bash /dev/fd/3',
    'exec <<< "$y"; bash',
    'mkfifo p; echo "$y" > p & bash p',
    'exec 1>&2; echo "$y" > >(bash); sleep 0.1',
    'shopt -s expand_aliases; alias e="echo $y"',
)
AROUND = (
    "{S}",
    "( {S}\n)",
    "h() {\n{S}\n}; h",
    "if true; then {S}\nfi",
    "while true; do {S}\nbreak; done",
    "{S}\n{S}",
    'echo "$({S}\n)"',
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    source=st.sampled_from(SOURCES),
    sink=st.sampled_from(SINKS),
    around=st.sampled_from(AROUND),
    value=st.sampled_from((*HOSTILE, *PLAIN)),
    task_id=st.sampled_from(("t", "a[$(touch pwned)]")),
)
@example(source="y={x}", sink="timeout 4 $y", around="{S}", value="touch pwned", task_id="t")
@example(source="y={x}", sink="echo $((y))", around="{S}", value="a[$(touch pwned)]", task_id="t")
@example(source="y={x}", sink='y=$(echo "$y"); echo $((y))', around="{S}", value=_TASK_ID, task_id="a[$(touch pwned)]")
def test_composed_command_that_is_accepted_executes_no_value(
    source: str, sink: str, around: str, value: str, task_id: str, programs: Path, tmp_path: Path
) -> None:
    template = f"{source}\n{around.replace('{S}', sink)}"
    assert not is_executed(template, value, programs, tmp_path, task_id=task_id), template
