"""Templates in which a value would not be data are refused, with what to write instead; common ones are not."""

from __future__ import annotations

import pytest

from cloud_tasks.command_template import CommandTemplate
from cloud_tasks.errors import InputError

DATA = {"g": "$(touch pwned)", "f": "my file", "n": 3, "l": ["a", "b"]}

READ_AS_CODE = (
    "bash -c 'echo {g}'",
    'bash -c "echo {g}"',
    "bash -c {g}",
    "sh -c 'echo \"{g}\"'",
    "bash -lc 'echo {g}'",
    "bash -euo pipefail -c 'echo {g}'",
    "bash -o pipefail -c 'x {g}'",
    "/bin/bash -c 'x {g}'",
    "sudo bash -c 'x {g}'",
    "timeout 5 env A=b bash -c 'x {g}'",
    "docker run image bash -c 'x {g}'",
    "xargs sh -c 'x {g}' < list",
    "find . -exec sh -c 'x {g}' \\;",
    "bash -c -e 'x {g}'",
    "x=1 bash -c 'x {g}'",
    "true && bash -c 'x {g}'",
    "echo $(bash -c 'x {g}')",
    "foo bash -c 'x {g}'",
    'bash -c "$(echo {g})"',
    "bash <(echo {g})",
    "nohup sh -c 'x {g}' &",
    "eval echo {g}",
    'eval "{g}"',
    "command eval {g}",
    "trap {g} EXIT",
    "let n={g}",
    "let {g}",
    "unset {g}",
    "read {g}",
    "declare {g}",
    "declare -i n={g}",
    "declare -a n={g}",
    "printf -v {g} x",
    "test -v {g}",
    "[ -v {g} ]",
    "[[ -v {g} ]]",
    "export {g}",
    "mapfile {g}",
    "source <(echo {g})",
    "alias x={g}",
    "python -c 'print({g})'",
    "python3 -uc '{g}'",
    'python3.11 -c"print({g})"',
    "perl -e '{g}'",
    "perl -lane 'print {g}'",
    "ruby -e '{g}'",
    "node -e '{g}'",
    "node --eval={g}",
    "Rscript -e '{g}'",
    "php -r '{g}'",
    "awk '{g}'",
    "awk -F: '{{print {g}}}'",
    'gawk -v x=1 "/{g}/" file',
    "sed s/a/{g}/ file",
    "sed -i 's/a/{g}/' file",
    "sed -n -e 's/a/{g}/p'",
    "jq '.{g}' file",
    "jq --arg a b '.{g}' file",
    "sqlite3 x.db 'select {g}'",
    "psql -c 'select {g}'",
    "psql db -c 'select {g}'",
    "mysql -e 'select {g}'",
    "ssh host echo {g}",
    "ssh host 'echo {g}'",
    "ssh -p 22 user@host \"echo '{g}'\"",
    "ssh -o ProxyCommand={g} host",
    "su user -c 'echo {g}'",
    "flock /tmp/lock -c 'x {g}'",
    "parallel echo {g} ::: a",
    "watch 'ls {g}'",
    "tmux new-session 'x {g}'",
    "sbatch --wrap='x {g}'",
    "sbatch --wrap 'x {g}'",
    "make CC={g}",
    "make {g}",
    "tar xf a --to-command='x {g}'",
    "rsync -e 'ssh -p {g}' a b",
    "env -S 'x {g}'",
    "vim -c ':!{g}'",
    "echo {g} | bash",
    "echo {g} | sudo sh -s",
    "printf 'x %s' {g} | ssh host",
    "echo {g} | ssh host bash",
    "{{ echo {g}; }} | sh",
    "for x in {l}; do echo $x; done | bash",
    "( echo {g} ) | python3 -",
    "echo {g} | tee log | sh",
    "echo {g} | bc",
    "echo {g} | xargs -I{} sh -c 'echo {}'",
    "bash <<<{g}",
    "bash < <(echo {g})",
    "bash <<EOF\nx {g}\nEOF",
    "ssh host bash <<EOF\nx {g}\nEOF",
    "python - <<EOF\nprint({g})\nEOF",
    "cat <<EOF | sh\nx {g}\nEOF",
    "bash -s a <<EOF\n{g}\nEOF",
    "sqlite3 x.db <<EOF\n{g}\nEOF",
    "while read x; do y; done <<<{g} | bash",
    "cat <(echo {g}) | bash",
    "cat <<<{g} | bash",
    "source /dev/stdin <<<{g}",
    "at now <<<{g}",
    "sh 2>/dev/null <<EOF\n{g}\nEOF",
    "if true; then bash; fi <<EOF\n{g}\nEOF",
    "{{ read x; bash; }} <<<{g}",
    "( cd /tmp; sh ) <<<{g}",
    "while true; do bash -s; done < <(echo {g})",
    "case a in a) bash ;; esac <<<{g}",
    "echo {g} | if true; then sh; fi",
    "f() {{ bash; }}; echo {g} | f",
    'x={g}; eval "$x"',
    'x={g}; bash -c "echo $x"',
    'x={g}; y="a $x"; sh -c "$y"',
    'x={g}; echo "$x" | bash',
    'x={g}; bash <<<"$x"',
    "x={g}; bash <<EOF\n$x\nEOF",
    'x={g}; unset "$x"',
    'x={g}; ssh host "$x"',
    "for x in {l}; do eval $x; done",
    'read x <<<{g}; eval "$x"',
    'read -r x <<EOF\n{g}\nEOF\neval "$x"',
    'while read x; do eval "$x"; done <<<{g}',
    'echo {g} | while read -r x; do bash -c "$x"; done',
    "exec <<<{g}; bash",
    "echo `echo {g}`",
    "echo ${{x:-{g}}}".replace("{{", "{").replace("}}", "}"),
    "echo ${x#{g}}",
    'echo "${x:-{g}}"',
    "echo ${a[{g}]}",
    "echo ${x:{n}}",
    "cat <<'EOF'\n{g}\nEOF",
    "cat <<\\EOF\n{g}\nEOF",
    'cat <<-"EOF"\n\t{g}\n\tEOF',
    "cat <<{f}\nx\n",
    "echo '{g}",
    'echo "{g}',
    "echo $({g}",
    "case {f} in a) x",
    "if {f}; then y",
)

INTEGER_ONLY = (
    "n={x}; m=$n; echo $((m))",
    "read n <<<{x}; echo $((n))",
    "while read n; do echo $((n)); done <<<{x}",
    "echo {x} | while read n; do (( n > 1 )) || true; done",
    "echo $(({x}))",
    "echo $((1 + {x} * 2))",
    "(( {x} ))",
    "for ((i=0; i<{x}; i++)); do :; done",
    "a[{x}]=1",
    "echo $[{x}]",
    "[[ {x} -eq 3 ]] || true",
    "[[ 1 -lt {x} ]]",
    "n={x}; echo $((n + 1))",
    "n={x}; (( n++ ))",
    "export n={x}; echo $((n))",
    "for n in {x}; do echo $((n)); done",
    "n={x}; [[ $n -gt 1 ]]",
    "n={x}; [[ ${n} -gt 1 ]]",
    "while [[ -f a && ${n} -gt 1 ]]; do n={x}; done",
    "[[ -f a && {x} -lt 5 ]]",
    "[[ 3 -lt $(echo {x}) || a == b ]]",
    "echo $(( $(echo {x}) ))",
    'echo "$(( "{x}" ))"',
    "a=([{x}]=1)",
    "n={x}; let m=n+1",
    "n={x}; a=(1 2 3 4); echo ${a[n]}",
    "n={x}; s=abcdef; echo ${s:n:1}",
    "local_n={x}; echo $((local_n))",
)

ACCEPTED = (
    'x={g}; bash script.sh "$x"',
    "X={g} bash -c 'echo \"$X\"'",
    "x={g}; awk -v v=\"$x\" '{{print v}}' file",
    'while read x; do prog "$x" {g}; done < {f}',
    'for x in {l}; do prog "$x"; done',
    'y=1; eval "$y"; prog {g}',
    "{{ bash setup.sh; prog; }} <<<{g}",
    'echo {n} | {{ read x; prog "$x"; }}',
    "bash -c 'echo \"$1\"' _ {g}",
    "bash script.sh {g}",
    "bash {f} {g}",
    "bash script.sh -c {g}",
    "python train.py -c {g}",
    "python -m tool -c {g}",
    "python3 -u train.py --eval={g}",
    "perl script.pl -e {g}",
    "python -c 'import sys' {g}",
    "perl -e 'print 1' {g}",
    "awk -v x={g} '{{print x}}' {f}",
    "awk '{{print $1}}' {f}",
    "awk -f prog.awk {f}",
    "sed -n 1p {f}",
    "sed -e 1d -e 2d {f}",
    "sed -i.bak 's/a/b/' {f}",
    "jq --arg x {g} '.[$x]' {f}",
    "jq -r .a {f}",
    "sqlite3 {f} 'select 1'",
    "ssh {f} uptime",
    "ssh -i {f} -p {n} user@{f} uptime",
    "printf '%s' {g} | ssh host xargs -0 -n1 prog",
    "cat {f} | bash",
    "zcat {f} | mysql db",
    "find . -name {g}",
    "find {f} -exec grep -c x {} \\;",
    "xargs -I{} cp {} {f}",
    "grep -e {g} -c {f}",
    "tar -czf out/{f}.tgz {f}",
    "gcc -c {f} -o {f}.o",
    "head -c {n} {f}",
    "docker run -e X={g} image python run.py {g}",
    "curl -d '{\"a\":{\"b\":1}}' -H 'X: {g}' {f}",
    "sort -k1,1 {f} | uniq -c",
    "parallel gzip ::: {l}",
    "make -j {n} out/{f}.txt",
    "seq {n} | parallel prog {}",
    "echo {g} | python3 prog.py",
    "python prog.py <<EOF\n{g}\nEOF",
    "cat <<EOF\n{g}\nEOF",
    "bash script.sh <<EOF\n{g}\nEOF",
    "export X={g} Y='{f}'",
    "local x={g}",
    "{f} --help",
    "source {f}",
    "[ {n} -eq 3 ]",
    "test {g} = {f}",
    "printf '%s\\n' {g}",
    "nice -n {n} python run.py {g}",
    "srun -n {n} prog {g}",
    "rsync -a {f} host:{f}",
    "echo don\\'t {g}",
    "echo # it's {nothing}",
    "x() { echo {g}; }; x",
    "time prog {g}",
    "exec prog {g}",
    "git commit -m {g}",
    "env X={g} prog",
    "cat {f} | while read x; do echo $x; done",
    "convert {f} -resize {n} out.png",
    "ffmpeg -i {f} -c copy {f}.mp4",
    "echo {g} 2>&1 >/dev/null",
    "(( 1 )) && echo {g}",
    "n=1; echo $((n)) {g}",
    'set -- a; echo "$1" {g}',
    "cp {f}{{,.bak}}",
    "[[ -f {g} && 3 -lt 5 ]] || ./show no",
    "[[ {g} == f && 1 -eq 1 ]]",
    "if [[ -d {g} || $# -gt 3 ]]; then true; fi",
    "f={g}; [[ -f $f && 3 -lt 5 ]]",
    "[[ ( -n {g} ) && ! {g} != a && {n} -ge 1 ]]",
)


def check(template: str, data: dict[str, object] = DATA, *, is_bash: bool = True) -> None:
    CommandTemplate(template, is_bash=is_bash, where="run.command").check(data)


@pytest.mark.parametrize("template", READ_AS_CODE)
def test_placeholder_that_is_read_as_code_is_refused_with_a_remedy(template: str) -> None:
    with pytest.raises(InputError, match=r"^run\.command: .*; .+") as caught:
        check(template)
    assert "\n" not in str(caught.value)
    assert "no field" not in str(caught.value)


@pytest.mark.parametrize("template", INTEGER_ONLY)
def test_value_that_the_shell_evaluates_must_be_an_integer(template: str) -> None:
    for value in (3, "3", "-3", "007", 2**40):
        check(template, {"x": value})
    others: list[object] = ["a[$(touch pwned)]", "x", "1+1", "", 1.5, True, None, "٣", ["1", "a"], "9" * 30]
    for other in others:
        with pytest.raises(InputError, match="arithmetic"):
            check(template, {"x": other})


@pytest.mark.parametrize("template", ACCEPTED)
def test_common_commands_are_accepted(template: str) -> None:
    check(template)
    check(template, is_bash=False)


def test_refusal_names_the_line_to_write_instead() -> None:
    for template, instead in (
        ("bash -c 'echo {g}'", "bash -c 'echo \"$1\"' _ {g}"),
        ('sh -c "cp {f} out/{f}.{n}"', 'sh -c \'cp "$1" out/"$1"."$2"\' _ {f} {n}'),
        ("python -c 'print({g})'", "python -c 'import sys; … sys.argv[1] …' {g}"),
        ("awk '{{print {g}}}'", "value={g} awk '… ENVIRON[\"value\"] …'"),
        ("sed s/a/{g}/", "value={g} awk '… ENVIRON[\"value\"] …'"),
        ("cat <<'EOF'\n{g}\nEOF", "remove the quotes"),
        ("echo `echo {g}`", "use $(…) instead"),
    ):
        with pytest.raises(InputError) as caught:
            check(template)
        assert instead in str(caught.value), template


@pytest.mark.parametrize("name", ["eval", "source", ".", "declare", "trap"])
def test_name_of_the_program_cannot_be_a_built_in_that_evaluates_its_arguments(name: str) -> None:
    with pytest.raises(InputError, match="built-in command"):
        check("{p} {g}", {**DATA, "p": name})
    with pytest.raises(InputError, match="built-in command"):
        check("command {p} {g}", {**DATA, "p": name})
