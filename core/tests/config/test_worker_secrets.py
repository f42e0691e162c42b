"""Secrets that workers need: each reaches them, by the compute backend or by the startup script, or is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cloud_tasks.builtin
from cloud_tasks.command_template import exports_variable
from cloud_tasks.config import ConfigurationError, JobConfig, delivered_secrets, load_config, secret_deliveries
from cloud_tasks.errors import InputError
from cloud_tasks.plugin import EventSinkBackend, QueueBackend, hookimpl, setting
from cloud_tasks.registry import Registry
from cloud_tasks.testing import MemoryProvider
from cloud_tasks.worker.supervisor.environment import settings_from_environment

VARIABLE = "CLOUD_TASKS_DEPOT_TOKEN"
SECRET = "SEKRET-4711"
FETCH = f'export {VARIABLE}="$(vault read token)"'


@attrs.frozen(kw_only=True)
class DepotSettings:
    token: str | None = setting(help="Token", default=None, env="DEPOT_TOKEN", secret=True, worker=True)
    admin_token: str | None = setting(help="For the controller", default=None, env="DEPOT_ADMIN", secret=True)
    keys: tuple[str, ...] = setting(help="Keys", default=(), secret=True, worker=True)
    rate: float = setting(help="Rate", default=1.0, secret=True, worker=True)
    url: str = setting(help="Address", default="here", worker=True)


Make = Callable[..., JobConfig]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that loads a configuration with the queue ``depot``."""

    def load(
        script: str | None = "#!/bin/bash\nwork\n",
        *,
        delivers: bool = False,
        depot: dict[str, Any] | None = None,
        environ: dict[str, str] | None = None,
        **top: Any,
    ) -> JobConfig:
        provider = MemoryProvider()
        compute = attrs.evolve(
            provider.compute, traits=attrs.evolve(provider.compute.traits, delivers_secrets=delivers)
        )
        queue: QueueBackend = attrs.evolve(provider.queue, name="depot", settings=DepotSettings)
        sink = EventSinkBackend(name="pager", summary="pager", settings=DepotSettings, open=lambda *_: None)  # type: ignore[arg-type,return-value]
        registry = Registry(builtins=[("builtin", cloud_tasks.builtin)], only=())
        registry.register(
            "memory",
            SimpleNamespace(
                cloud_tasks_register_queue=hookimpl(lambda: (queue,)),
                cloud_tasks_register_compute=hookimpl(lambda: (compute,)),
                cloud_tasks_register_event_sink=hookimpl(lambda: (sink,)),
            ),
        )
        content: dict[str, Any] = {"queue": "depot", "compute": "memory", **top}
        content["depot"] = {"token": SECRET} if depot is None else depot
        content["run"] = {} if script is None else {"startup_script": script}
        file = tmp_path / "config.yml"
        file.write_text(json.dumps(content))
        file.chmod(0o600)
        return load_config(registry, file=file, options={}, environ=environ or {})

    return load


def test_setting_may_be_a_secret_that_workers_need() -> None:
    assert SECRET not in repr(DepotSettings(token=SECRET))


def test_secret_without_delivery_is_refused_with_the_line_that_is_missing(make: Make) -> None:
    config = make()
    with pytest.raises(ConfigurationError) as refused:
        secret_deliveries(config)
    assert str(refused.value) == (
        f'{config.file}:1: depot.token: the workers need it, compute "memory" cannot deliver secrets, and the startup '
        f"script does not export {VARIABLE}; add a line to the startup script that reads it from a secret store, such "
        f'as: export {VARIABLE}="$(COMMAND)"'
    )


def test_each_secret_without_delivery_is_a_line(make: Make) -> None:
    config = make(depot={"token": SECRET, "keys": ["a"]}, event_sinks=["pager"], pager={"token": "x"})
    with pytest.raises(ConfigurationError) as refused:
        secret_deliveries(config)
    keys = [line.split(": ")[1] for line in str(refused.value).splitlines()]
    assert keys == ["depot.token", "depot.keys", "pager.token"]


def test_secret_of_the_environment_is_refused_likewise(make: Make) -> None:
    with pytest.raises(ConfigurationError, match=r"DEPOT_TOKEN: depot\.token: the workers need it") as refused:
        secret_deliveries(make(depot={}, environ={"DEPOT_TOKEN": SECRET}))
    assert SECRET not in str(refused.value)


def test_secret_is_delivered_by_a_backend_that_can(make: Make) -> None:
    config = make(delivers=True, depot={"token": SECRET, "admin_token": "mine", "keys": ["a b", ""]})
    secrets = delivered_secrets(config)
    assert set(secrets) == {VARIABLE, "CLOUD_TASKS_DEPOT_KEYS"}
    read = settings_from_environment(DepotSettings, "depot", secrets)
    assert (read.token, read.keys, read.admin_token) == (SECRET, ("a b", ""), None)
    assert SECRET not in repr(secret_deliveries(config)) + "".join(
        each.describe("memory") for each in secret_deliveries(config)
    )
    assert VARIABLE not in config.worker_environment()


@pytest.mark.parametrize("text", ["it's", 'a "b" $HOME `x`', "a\\nb", "line\nline", "ä", " ", "null", '"', "[1]"])
def test_secret_reads_back_as_the_same_text(make: Make, text: str) -> None:
    secrets = delivered_secrets(make(delivers=True, depot={"token": text}))
    assert settings_from_environment(DepotSettings, "depot", secrets).token == text


def test_secret_that_no_variable_can_hold_is_refused(make: Make) -> None:
    config = attrs.evolve(make(delivers=True), values={"depot": {"rate": float("inf"), "keys": (SECRET,)}})
    with pytest.raises(InputError, match=r"depot\.rate: .*not shown") as refused:
        secret_deliveries(config)
    assert "inf" not in str(refused.value)


@pytest.mark.parametrize("delivers", [False, True])
def test_secret_without_a_value_needs_no_delivery(make: Make, delivers: bool) -> None:
    assert secret_deliveries(make(depot={"admin_token": SECRET}, delivers=delivers)) == ()


def test_secret_of_a_configuration_without_a_script_is_not_checked(make: Make) -> None:
    assert secret_deliveries(make(None)) == ()


def test_secret_set_by_the_script_is_not_delivered_as_well(make: Make) -> None:
    config = make(f"#!/bin/bash\n{FETCH}\nwork\n")
    (found,) = secret_deliveries(config)
    assert (found.key, found.variable, found.by_script, found.value) == ("depot.token", VARIABLE, True, None)
    assert delivered_secrets(config) == {}


@pytest.mark.parametrize("name", [VARIABLE, f"RMS_{VARIABLE}", "DEPOT_TOKEN"])
def test_secret_may_be_set_by_the_script_under_each_of_its_names(make: Make, name: str) -> None:
    (found,) = secret_deliveries(make(f"#!/bin/bash\n{name}=x worker\n"))
    assert found.by_script


@pytest.mark.parametrize(
    "line",
    [
        FETCH,
        f"  {FETCH}",
        f"if true; then {FETCH}; fi",
        f"{VARIABLE}=$(vault read) exec worker",
        f"TOKEN=x {VARIABLE}=$TOKEN worker",
        f"{VARIABLE}=`vault read`\nexport {VARIABLE}",
        f"export {VARIABLE}\n{VARIABLE}=x",
        f"set -a; {VARIABLE}=x",
        f"set -euo pipefail -o allexport; {VARIABLE}=x",
        f"export {VARIABLE}=; {VARIABLE}=x",
        f'. /etc/secrets.env; export {VARIABLE}="${VARIABLE}"',
        f'export {VARIABLE}="${{{VARIABLE}:-$(vault read)}}"',
        f'export "{VARIABLE}=x"',
        f"export -- {VARIABLE}=x",
        f"export {VARIABLE}=x; python3 worker.py; unset {VARIABLE}",
        f"(export {VARIABLE}=x; exec worker) > log",
        f"{{ export {VARIABLE}=x; python worker.py; }} | tee log",
        f"fetch() {{ {FETCH}; }}\nfetch",
        f"function fetch {{ {FETCH}; }}\nfetch",
        f"function fetch() {{ {FETCH}; }}\nfetch",
        f"export {VARIABLE}=x; {'env ' * 2000}./start.sh",
        f"case $HOSTNAME in a) {FETCH};; *) {FETCH} ;; esac",
        f"[ -r /run/secret ] && export {VARIABLE}=$(cat /run/secret)",
        f"cat <<EOF\n'it is'\nEOF\n{FETCH}",
        f"{FETCH}\necho 'no end",
        f"{VARIABLE}=x /opt/env/bin/python3 -m my.worker &",
        f"{VARIABLE}=x nice -n 5 cloud-tasks worker",
        f". /etc/secrets.env; export {VARIABLE}",
        f"export OTHER {VARIABLE}",
        f"declare -x {VARIABLE}=y",
        f"read -r {VARIABLE} < /run/secret\nexport {VARIABLE}",
        f"printf -v {VARIABLE} %s x; export {VARIABLE}",
        f'docker run -e{VARIABLE}="$(vault read)" image',
        f'docker run -e {VARIABLE}="$(vault read)" image',
        f'docker run --env={VARIABLE}="$(vault read)" image',
        f"env {VARIABLE}=x worker # a comment",
        f"export {VARIABLE}='x # y'",
        f": ${{{VARIABLE}:=$(vault read)}}; export {VARIABLE}",
        f"for {VARIABLE} in x; do export {VARIABLE}; done",
        f"export \\\n  {VARIABLE}=x",
        f'exec env {VARIABLE}="$(vault read)" cloud-tasks worker',
        f"exec env -i PATH=$PATH {VARIABLE}=x cloud-tasks worker",
        f"sudo -u me env {VARIABLE}=x cloud-tasks worker",
        f"export {VARIABLE}=x; exec sudo -E cloud-tasks worker",
        f"export {VARIABLE}=x; sudo --preserve-env={VARIABLE},HOME ./start.sh",
        f"{VARIABLE}=x ./start.sh",
        f"{VARIABLE}=x bash run.sh --fast",
        f"{VARIABLE}=x exec node main.js",
        f"{VARIABLE}=x timeout 60 Rscript main.R",
        f"{VARIABLE}=x uv run main.py",
        f"fetch() {{ {VARIABLE}=x; }}; fetch; {VARIABLE}=${VARIABLE} ./start.sh",
        f"start() {{ cloud-tasks worker; }}; {VARIABLE}=x start",
        f"systemd-run --setenv={VARIABLE}=x cloud-tasks worker",
        f"export {VARIABLE}=x; systemd-run -E {VARIABLE} ./start.sh",
        "systemd-run -p EnvironmentFile=/etc/worker.env cloud-tasks worker",
        f"bash <<'EOF'\nexport {VARIABLE}=x\ncloud-tasks worker\nEOF",
        f"sudo bash -s <<EOF\n  {FETCH}\n  ./start.sh\nEOF",
        f"bash -c 'export {VARIABLE}=x; exec cloud-tasks worker'",
        f"su - me -c 'export {VARIABLE}=x; ./start.sh'",
        f"export {VARIABLE}=x; nohup bash -c 'apt-get update; cloud-tasks worker' &",
        f'eval "export {VARIABLE}=x"',
        f'eval "$(vault env)"; export {VARIABLE}="${VARIABLE}"',
        f'load() {{ export "$1=$(vault read $1)"; }}; load {VARIABLE}',
        f'load() {{ local name=$1; declare -gx $name="$2"; }}; load {VARIABLE} x',
        f'for name in {VARIABLE}; do printf -v "$name" %s x; export "$name"; done',
        'export "CLOUD_TASKS_${KIND}_TOKEN=x"',
        "export $(grep -v '^#' /etc/worker.env | xargs)",
        "env $(cat /etc/worker.env) ./start.sh",
        "set -a; . /etc/worker.env; set +a",
        f"export {VARIABLE}=x; docker run -e {VARIABLE} image",
        f"docker run --env-file /etc/worker.env image # {VARIABLE}",
        f"export {VARIABLE}=x; docker run $OPTIONS image",
        f"export {VARIABLE}=x; docker compose up",
        f"docker run image env {VARIABLE}=x cloud-tasks worker",
        f"export {VARIABLE}=x; apptainer run image.sif",
        f"if false; then exit; else {FETCH}; fi",
        f"until false; do {FETCH}; ./start.sh; done",
        f'while [ -z "${VARIABLE}" ]; do {VARIABLE}=$(vault read); done; export {VARIABLE}',
        f"case $HOSTNAME in a) {FETCH};; *) exit 1;; esac",
        f"{FETCH} || exit 1",
        f"[ -r /run/secret ] || exit 1; {FETCH}",
        f"die() {{ exit 1; }}; [ -r /run/secret ] || die; {FETCH}",
        f"exec > /var/log/start.log 2>&1; {FETCH}",
        f"(exit 1); {FETCH}",
        f"load() {{ {FETCH}; }}; (load); load",
        f"{FETCH}\ncloud-tasks worker | tee log\nunset {VARIABLE}",
    ],
)
def test_script_sets_a_variable(line: str) -> None:
    assert exports_variable(f"#!/bin/bash\n{line}\nwork\n", VARIABLE)


@pytest.mark.parametrize(
    "line",
    [
        "work",
        f"# {FETCH}",
        f"work  # {FETCH}",
        f"export MY_{VARIABLE}=x",
        f"export {VARIABLE}_FILE=x",
        f"echo ${VARIABLE}",
        f'export OTHER="${VARIABLE}"',
        f"export OTHER=${{{VARIABLE}}}",
        f"unset {VARIABLE}",
        f"export {VARIABLE}=",
        f'export {VARIABLE}=""',
        f"{VARIABLE}='' worker",
        f'echo "{VARIABLE}=not set"',
        f'echo "see export {VARIABLE}"',
        f"echo export {VARIABLE}=x",
        f"export -n {VARIABLE}",
        f"export -n {VARIABLE}=x",
        f"export -f {VARIABLE}",
        f"export {VARIABLE}=x; unset {VARIABLE}",
        f"declare {VARIABLE}=x",
        f"{VARIABLE}=x",
        f"read -r {VARIABLE} < /run/secret",
        f"cat > env <<EOF\nexport {VARIABLE}=x\nEOF",
        f"bash <<'EOF'\nexport {VARIABLE}=x\nEOF",
        f"[ -n x ] && {VARIABLE}=1 true",
        f"{VARIABLE}=1 pip install cloud-tasks",
        f"{VARIABLE}=1 python3 -m pip install x",
        f"{VARIABLE}=1 echo python worker",
        f"echo 'export {VARIABLE}=x' >> /etc/profile",
        f"printf 'export {VARIABLE}=x' > env",
        f'export {VARIABLE}="${{X:-}}"',
        f"export {VARIABLE}=${{X-}}",
        f"vault read | read {VARIABLE}",
        f"vault read | {{ read {VARIABLE}; export {VARIABLE}; }}",
        f"export {VARIABLE}=x &",
        f"(export {VARIABLE}=x)",
        f"x=$(export {VARIABLE}=x)",
        f'sh -c "export {VARIABLE}=x"',
        f"fetch() {{ {FETCH}; }}",
        f"alias fetch='{FETCH}'",
        f"trap '{FETCH}' EXIT",
        f"set -a; set +a; {VARIABLE}=x",
        f"export {VARIABLE}=(a b)",
        f'test -n "${VARIABLE}"',
        f'[ "${VARIABLE}" == x ]',
        f"export {VARIABLE}=x; exec env -i cloud-tasks worker",
        f"export {VARIABLE}=x; exec env -u {VARIABLE} cloud-tasks worker",
        f"export {VARIABLE}=x; env --unset={VARIABLE} ./start.sh; unset {VARIABLE}",
        f"export {VARIABLE}=x; exec sudo -u me cloud-tasks worker",
        f"export {VARIABLE}=x; exec systemd-run cloud-tasks worker",
        f"export {VARIABLE}=x; exec docker run --rm -v /data:/data image",
        f"export {VARIABLE}=x; apt-get update; nvidia-smi; exec docker run -e OTHER=y image",
        f"export {VARIABLE}=x; exec sudo -E docker run -it image",
        f"docker run -e {VARIABLE} image",
        f"docker run -e OTHER={VARIABLE}=x image",
        f"export {VARIABLE}=x; exec apptainer exec --cleanenv image.sif cloud-tasks worker",
        f'export {VARIABLE}="${VARIABLE}"',
        f"export {VARIABLE}=${{{VARIABLE}}}",
        f"cat /run/secret | read {VARIABLE}; export {VARIABLE}",
        f"cat /run/secret | while read {VARIABLE}; do :; done; export {VARIABLE}",
        f"({VARIABLE}=x); export {VARIABLE}",
        f"cloud-tasks worker; export {VARIABLE}=x",
        f"exec cloud-tasks worker\nexport {VARIABLE}=x",
        f"exit 0\nexport {VARIABLE}=x",
        f"stop() {{ exit; }}; stop; export {VARIABLE}=x",
        f"export {VARIABLE}=x; {VARIABLE}= cloud-tasks worker",
        f"export {VARIABLE}=x; env {VARIABLE}= cloud-tasks worker",
        f"export {VARIABLE}=x; ./install.sh; unset {VARIABLE}; exec cloud-tasks worker",
        f"if false; then export {VARIABLE}=x; fi",
        f"if ! true; then :; elif false; then export {VARIABLE}=x; fi",
        f"while false; do export {VARIABLE}=x; done",
        f"for name in; do export {VARIABLE}=x; done",
        f"false && export {VARIABLE}=x",
        f"true || export {VARIABLE}=x",
        f"bash -c 'export {VARIABLE}=x; apt-get update'",
        f'eval "echo {VARIABLE}=x"',
        f"{VARIABLE}=1 sudo apt-get install x",
        f"{VARIABLE}=1 curl https://example.org",
        f"{VARIABLE}=1 uv sync",
        'load() { export "$1_FILE=x"; }; load DEPOT',
    ],
)
def test_script_does_not_set_a_variable(line: str) -> None:
    assert not exports_variable(f"#!/bin/bash\n{line}\nwork\n", VARIABLE)


@given(
    st.lists(
        st.sampled_from(
            ["export", " ", "\n", "#", VARIABLE, "=", "$", "{", "}", '"', "'", ";", "x", "read", "(", ")", "<<"]
        )
    )
)
def test_script_of_any_text_is_searched(parts: Sequence[str]) -> None:
    script = "".join(parts)
    before = exports_variable(f"{FETCH}\n:\n{script}", VARIABLE)
    if VARIABLE not in script:
        # Whatever follows, readable or not; a computed name may be any.
        assert (exports_variable(script, VARIABLE) and "$" not in script, before) == (False, True)


def test_secret_variables_are_all_but_general_ones_of_the_queue_whose_secrets_core_does_not_deliver(make: Make) -> None:
    names = set(make().secret_variables())
    assert names == {
        VARIABLE,
        "DEPOT_TOKEN",
        "CLOUD_TASKS_DEPOT_KEYS",
        "CLOUD_TASKS_DEPOT_ADMIN_TOKEN",
        "CLOUD_TASKS_DEPOT_RATE",
    } | {
        name.replace("DEPOT", "PAGER", 1) if name.startswith("CLOUD") else name
        for name in (
            VARIABLE,
            "DEPOT_TOKEN",
            "CLOUD_TASKS_DEPOT_KEYS",
            "CLOUD_TASKS_DEPOT_ADMIN_TOKEN",
            "CLOUD_TASKS_DEPOT_RATE",
            "DEPOT_ADMIN",
        )
    }
