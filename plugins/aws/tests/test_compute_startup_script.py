"""User data in real shells, with and without the lines added before the script."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from fake_server import Answer, FakeServer, Request

from cloud_tasks.errors import InputError
from cloud_tasks_aws.compute.startup_script import MAX_BYTES, compose_script, encode_script

INQUISITIVE = """#!/bin/bash
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
    """Run a script with a fake `shutdown` program."""
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
def test_composed_script_behaves_like_the_plain_script(
    lifetime: timedelta | None, is_chosen: bool, tmp_path: Path
) -> None:
    plain = run(INQUISITIVE, tmp_path)
    script = compose_script(INQUISITIVE, region="us-east-1", max_lifetime=lifetime, is_chosen=is_chosen)
    composed = run(script, tmp_path, AWS_EC2_METADATA_SERVICE_ENDPOINT="http://127.0.0.1:1")
    assert plain.returncode == 7
    assert (composed.returncode, composed.stdout, composed.stderr) == (plain.returncode, plain.stdout, plain.stderr)


def test_composed_script_exports_the_selected_type_and_zone(tmp_path: Path) -> None:
    answers = {"instance-type": "m7i.large", "placement/availability-zone": "us-east-1c"}

    def respond(request: Request) -> str | Answer:
        known = request.headers.get("x-aws-ec2-metadata-token") == "token"
        return answers[request.groups["path"]] if known else Answer(status=401, body="no token")

    with FakeServer().serving() as server:
        server.route("PUT", "/latest/api/token", lambda request: "token")
        server.route("GET", "/latest/meta-data/(?P<path>.*)", respond)
        script = '#!/bin/bash\necho "started as $CLOUD_TASKS_STARTED"\n'
        result = run(
            compose_script(script, region="us-east-1", max_lifetime=None, is_chosen=True),
            tmp_path,
            AWS_EC2_METADATA_SERVICE_ENDPOINT=server.url,
        )
    assert result.stdout == "started as m7i.large us-east-1c\n"


def test_max_lifetime_shuts_down_a_running_script(tmp_path: Path) -> None:
    marker = tmp_path / "shut-down"
    script = f"#!/bin/bash\nuntil [ -e {marker} ]; do sleep 0.05; done\necho ended: $(cat {marker})\n"
    ended = run(
        compose_script(script, region="us-east-1", max_lifetime=timedelta(seconds=0.2)),
        tmp_path,
        shutdown=f'echo "$@" > {marker}',
    )
    assert ended.stdout == "ended: -h now\n"


def test_no_max_lifetime_schedules_no_shutdown(tmp_path: Path) -> None:
    assert "sleep" not in compose_script("#!/bin/sh\nexit 0\n", region="us-east-1", max_lifetime=None)


def test_composed_script_exports_the_power_off_command(tmp_path: Path) -> None:
    result = run(
        compose_script('#!/bin/bash\necho "$CLOUD_TASKS_POWER_OFF_COMMAND"\n', region="us-east-1", max_lifetime=None),
        tmp_path,
    )
    assert result.stdout == "shutdown -h +1\n"


def test_composed_script_exports_the_region(tmp_path: Path) -> None:
    result = run(
        compose_script('#!/bin/bash\necho "$AWS_DEFAULT_REGION"\n', region="us-east-1", max_lifetime=None), tmp_path
    )
    assert result.stdout == "us-east-1\n"


def test_encode_script_sends_short_script_unchanged() -> None:
    script = "#!/bin/bash\n" + "#" * (MAX_BYTES - 12)
    assert encode_script(script) == script.encode()


def test_encode_script_compression_is_lossless_and_reproducible() -> None:
    script = "#!/bin/bash\n" + "echo a line that is repeated\n" * 5_000
    sent = encode_script(script)
    assert len(sent) <= MAX_BYTES
    assert gzip.decompress(sent).decode() == script
    assert encode_script(script) == sent, "a client token requires equal user data"


def test_encode_script_refuses_script_too_long_even_compressed() -> None:
    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=40_000))
    with pytest.raises(InputError, match=r"40,012 bytes, [\d,]+ compressed; limit 16,384"):
        encode_script("#!/bin/bash\n" + noise)
