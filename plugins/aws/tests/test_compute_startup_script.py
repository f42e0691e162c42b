"""User data in real shells, with and without the lines added before the script."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from boot_shell import kill_guards, run_script
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


@pytest.fixture(autouse=True)
def no_guard_left(tmp_path: Path) -> Iterator[None]:
    yield
    kill_guards(tmp_path)


@pytest.mark.parametrize("lifetime", [None, timedelta(minutes=1)])
@pytest.mark.parametrize("is_chosen", [False, True])
def test_composed_script_behaves_like_the_plain_script(
    lifetime: timedelta | None, is_chosen: bool, tmp_path: Path
) -> None:
    plain = run_script(INQUISITIVE, tmp_path)
    script = compose_script(INQUISITIVE, region="us-east-1", max_lifetime=lifetime, is_chosen=is_chosen)
    composed = run_script(script, tmp_path, AWS_EC2_METADATA_SERVICE_ENDPOINT="http://127.0.0.1:1")
    assert plain[0] == 7
    assert composed == plain


def test_composed_script_exports_the_selected_type_and_zone(tmp_path: Path) -> None:
    answers = {"instance-type": "m7i.large", "placement/availability-zone": "us-east-1c"}

    def respond(request: Request) -> str | Answer:
        known = request.headers.get("x-aws-ec2-metadata-token") == "token"
        return answers[request.groups["path"]] if known else Answer(status=401, body="no token")

    with FakeServer().serving() as server:
        server.route("PUT", "/latest/api/token", lambda request: "token")
        server.route("GET", "/latest/meta-data/(?P<path>.*)", respond)
        script = '#!/bin/bash\necho "started as $CLOUD_TASKS_STARTED"\n'
        _, output, _ = run_script(
            compose_script(script, region="us-east-1", max_lifetime=None, is_chosen=True),
            tmp_path,
            AWS_EC2_METADATA_SERVICE_ENDPOINT=server.url,
        )
    assert output == "started as m7i.large us-east-1c\n"


def test_max_lifetime_shuts_down_a_running_script(tmp_path: Path) -> None:
    marker = tmp_path / "shut-down"
    script = f"#!/bin/bash\nuntil [ -e {marker} ]; do sleep 0.05; done\necho ended: $(cat {marker})\n"
    _, output, _ = run_script(
        compose_script(script, region="us-east-1", max_lifetime=timedelta(seconds=0.2)),
        tmp_path,
        programs={"shutdown": f'echo "$@" > {marker}.new; mv {marker}.new {marker}'},
    )
    assert output == "ended: -h now\n"


def test_composed_script_exports_the_power_off_command(tmp_path: Path) -> None:
    _, output, _ = run_script(
        compose_script('#!/bin/bash\necho "$CLOUD_TASKS_POWER_OFF_COMMAND"\n', region="us-east-1", max_lifetime=None),
        tmp_path,
    )
    assert output == "shutdown -h +1\n"


def test_composed_script_exports_the_region_and_patience_with_the_metadata_service(tmp_path: Path) -> None:
    script = "#!/bin/bash\necho $AWS_DEFAULT_REGION $AWS_METADATA_SERVICE_NUM_ATTEMPTS $AWS_METADATA_SERVICE_TIMEOUT\n"
    _, output, _ = run_script(compose_script(script, region="us-east-1", max_lifetime=None), tmp_path)
    assert output == "us-east-1 5 5\n"


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
