"""What an instance runs first: real shells, with and without the lines that we put before the script."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cloud_wire import Answer, Request, Wire

from cloud_tasks.errors import InputError
from cloud_tasks_aws.compute.user_data import MAX_BYTES, compose, packed

NOSY = """#!/bin/bash
set -euo pipefail
echo "jobs: $(jobs)"
echo "last: ${!:-none}"
echo "options: $-"
sleep 0 &
wait
echo "waited"
exit 7
"""


def run(script: str, folder: Path, *, shutdown: str = "exit 0", **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script where `shutdown` is a program of the test's own."""
    shims = folder / "bin"
    shims.mkdir(exist_ok=True)
    (shims / "shutdown").write_text(f"#!/bin/sh\n{shutdown}\n")
    (shims / "shutdown").chmod(0o755)
    file = folder / "script"
    file.write_text(script)
    file.chmod(0o755)
    return subprocess.run(
        [str(file)],
        cwd=folder,
        env={"PATH": f"{shims}:{os.environ['PATH']}", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("lifetime", [None, timedelta(seconds=1)])
@pytest.mark.parametrize("is_chosen", [False, True])
def test_a_script_notices_nothing_of_the_lines_before_it(
    lifetime: timedelta | None, is_chosen: bool, tmp_path: Path
) -> None:
    plain = run(NOSY, tmp_path)
    script = compose(NOSY, region="us-east-1", max_lifetime=lifetime, is_chosen=is_chosen)
    composed = run(script, tmp_path, AWS_EC2_METADATA_SERVICE_ENDPOINT="http://127.0.0.1:1")
    assert plain.returncode == 7
    assert (composed.returncode, composed.stdout, composed.stderr) == (plain.returncode, plain.stdout, plain.stderr)


def test_a_script_is_told_which_instance_ec2_chose(tmp_path: Path) -> None:
    answers = {"instance-type": "m7i.large", "placement/availability-zone": "us-east-1c"}

    def say(request: Request) -> str | Answer:
        known = request.headers.get("x-aws-ec2-metadata-token") == "token"
        return answers[request.groups["path"]] if known else Answer(status=401, body="no token")

    with Wire().serving() as wire:
        wire.route("PUT", "/latest/api/token", lambda request: "token")
        wire.route("GET", "/latest/meta-data/(?P<path>.*)", say)
        script = '#!/bin/bash\necho "it is $CLOUD_TASKS_STARTED"\n'
        told = run(
            compose(script, region="us-east-1", max_lifetime=None, is_chosen=True),
            tmp_path,
            AWS_EC2_METADATA_SERVICE_ENDPOINT=wire.url,
        )
    assert told.stdout == "it is m7i.large us-east-1c\n"


def test_a_lifetime_ends_in_a_shutdown_while_the_script_still_runs(tmp_path: Path) -> None:
    marker = tmp_path / "shut-down"
    script = f"#!/bin/bash\nuntil [ -e {marker} ]; do sleep 0.05; done\necho ended: $(cat {marker})\n"
    ended = run(
        compose(script, region="us-east-1", max_lifetime=timedelta(seconds=0.2)),
        tmp_path,
        shutdown=f'echo "$@" > {marker}',
    )
    assert ended.stdout == "ended: -h now\n"


def test_no_shutdown_is_planned_where_no_lifetime_is_asked_for(tmp_path: Path) -> None:
    assert "sleep" not in compose("#!/bin/sh\nexit 0\n", region="us-east-1", max_lifetime=None)


def test_the_worker_is_told_to_switch_the_machine_off_when_it_ends(tmp_path: Path) -> None:
    told = run(
        compose('#!/bin/bash\necho "$CLOUD_TASKS_POWER_OFF_COMMAND"\n', region="us-east-1", max_lifetime=None), tmp_path
    )
    assert told.stdout == "shutdown -h +1\n"


def test_an_sdk_is_told_the_region_where_nobody_else_does(tmp_path: Path) -> None:
    told = run(compose('#!/bin/bash\necho "$AWS_DEFAULT_REGION"\n', region="us-east-1", max_lifetime=None), tmp_path)
    assert told.stdout == "us-east-1\n"


def test_a_script_that_fits_is_sent_as_it_is() -> None:
    script = "#!/bin/bash\n" + "#" * (MAX_BYTES - 12)
    assert packed(script) == script.encode()


def test_a_longer_script_is_compressed_and_is_the_same_afterwards() -> None:
    script = "#!/bin/bash\n" + "echo something to be said again and again\n" * 5_000
    sent = packed(script)
    assert len(sent) <= MAX_BYTES
    assert gzip.decompress(sent).decode() == script
    assert packed(script) == sent, "one client token must always come with one user data"


def test_a_script_that_does_not_fit_compressed_is_refused_with_the_sizes() -> None:
    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=40_000))
    with pytest.raises(InputError, match=r"40012 bytes, \d+ compressed; EC2 takes 16384"):
        packed("#!/bin/bash\n" + noise)
