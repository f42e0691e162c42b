"""The shell and Terraform forms of the AWS setup: they make the same as the calls."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
from botocore import xform_name
from botocore.exceptions import ClientError
from fake_server import Answer, FakeServer, Request
from setup_site import NAME, SetupSite
from terraform_facts import terraform_resources

from cloud_tasks.plugin import terraform_text


class AwsProgram:
    """The program ``aws``, whose calls are made by this process: options have the names of the service's model."""

    def __init__(self, site: SetupSite, folder: Path) -> None:
        self.site = site
        self.server = FakeServer()
        self.server.route("POST", "/", self._call)
        self._folder = folder
        program = folder / "aws"
        program.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" | curl -sf --data-binary @- {self.server.url}/\n")
        program.chmod(0o755)

    def run(self, lines: Iterable[str]) -> None:
        """Run lines of shell."""
        script = "\n".join(["set -eu", *lines])
        path = f"{self._folder}:{os.environ['PATH']}"
        with self.server.serving():
            done = subprocess.run(
                ["sh", "-c", script], env={"PATH": path}, capture_output=True, text=True, timeout=120, check=False
            )
        assert (done.returncode, done.stderr) == (0, ""), script

    def _call(self, request: Request) -> Answer:
        service, operation, *words = request.body.decode().split("\0")[:-1]
        name = {"s3api": "s3"}.get(service, service)
        client = self.site.client(name)
        model = client.meta.service_model
        if operation == "wait":
            assert words[0].replace("-", "_") in client.waiter_names
            return Answer()
        (found,) = [each for each in model.operation_names if xform_name(each, "-") == operation]
        shape = model.operation_model(found).input_shape
        assert shape is not None
        members = {f"--{xform_name(each, '-')}": (each, kind) for each, kind in shape.members.items()}
        arguments: dict[str, Any] = {}
        for option, value in zip(words[::2], words[1::2], strict=True):
            if option == "--region":
                assert value == self.site.subject.region
            elif option != "--output":
                argument, kind = members[option]
                arguments[argument] = value if kind.type_name in ("string", "blob") else json.loads(value)
        try:
            answer = getattr(client, xform_name(found))(**arguments)
        except ClientError as error:
            return Answer(status=400, body=str(error))
        return Answer(body=str(answer))


def test_shell_lines_make_what_the_calls_make(site: SetupSite, tmp_path: Path) -> None:
    tags = {"Cost Center": "it's 42, or $x"}
    site.make(tags=tags)
    made = site.facts()
    assert site.undo() == {}
    # Without the roles of EC2, and the default VPC, which are never removed.
    site.enter()
    site.overlay.control("default-vpc", exists=False)
    assert {item.look() for item in site.plan(tags=tags).items} == {"missing"}
    lines = [line for item in site.plan(tags=tags).items for line in item.commands]
    AwsProgram(site, tmp_path).run(lines)
    assert site.facts() == made
    assert {each.subject: each.look() for each in site.plan(tags=tags).items if each.look()} == {}


def test_shell_lines_can_be_run_again_and_keep_tags(site: SetupSite, tmp_path: Path) -> None:
    site.client("s3").create_bucket(Bucket=site.bucket)
    lines = [line for item in site.plan().items for line in item.commands]
    for _ in range(2):
        AwsProgram(site, tmp_path).run(lines)
    assert {each.subject: each.look() for each in site.plan().items if each.look()} == {}
    assert site.item("bucket").remove() == "it was not made by setup"


def test_shell_lines_make_the_bucket_in_another_region(site: SetupSite, tmp_path: Path) -> None:
    west = SetupSite(site.overlay, site.number, attrs.evolve(site.subject, region="us-west-2"))
    AwsProgram(west, tmp_path).run(west.item("bucket").commands)
    head = west.client("s3").head_bucket(Bucket=west.bucket)["ResponseMetadata"]["HTTPHeaders"]
    assert head["x-amz-bucket-region"] == "us-west-2"
    assert west.item("bucket").look() == ""


def test_shell_lines_name_region_and_profile(site: SetupSite) -> None:
    lines = [line for item in site.plan(profile="my team").items for line in item.commands if "aws " in line]
    assert [each for each in lines if "--region us-east-1 --profile 'my team'" not in each] == []
    assert len(lines) > 12


def test_terraform_makes_what_the_calls_make(site: SetupSite) -> None:
    site.make()
    made = site.facts()
    plan = site.plan()
    found = terraform_resources(terraform_text([block for item in plan.items for block in item.terraform]))
    kinds = {name.partition(".")[0]: arguments for name, arguments in found.items()}
    role, bucket = kinds["aws_iam_role"], kinds["aws_s3_bucket"]
    granted, profile = kinds["aws_iam_role_policy"], kinds["aws_iam_instance_profile"]
    (rule,) = kinds["aws_s3_bucket_lifecycle_configuration"]["rule"]
    (owner,) = kinds["aws_s3_bucket_ownership_controls"]["rule"]
    block = kinds["aws_s3_bucket_public_access_block"]
    settings = [arguments for kind, arguments in kinds.items() if kind.startswith("aws_s3_bucket_")]
    assert {each["bucket"] for each in settings} == {"${aws_s3_bucket.staging.id}"}
    assert granted["role"] == profile["role"] == "${aws_iam_role.worker.name}"
    assert {
        "role": (role["name"], role["description"], role["tags"]),
        "trust": json.loads(role["assume_role_policy"]),
        "policies": {granted["name"]: json.loads(granted["policy"])},
        "profile": (profile["name"], [role["name"]], profile["tags"]),
        "service roles": sorted(
            each["aws_service_name"] for name, each in found.items() if name.startswith("aws_iam_service_linked_role.")
        ),
        "bucket": (bucket["bucket"], bucket["tags"]),
        "region": "us-east-1",
        "rule": (rule["id"], rule["status"], {"Prefix": rule["filter"][0]["prefix"]}, rule["expiration"][0]["days"]),
        "uploads": rule["abort_incomplete_multipart_upload"][0]["days_after_initiation"],
        "owner": owner["object_ownership"],
        "block": {xform_camel(name): value for name, value in block.items() if name != "bucket"},
        "policy": json.loads(kinds["aws_s3_bucket_policy"]["policy"]),
    } == made
    assert "aws_default_vpc" in kinds
    assert NAME in made["policies"]


def test_terraform_names_provider_region_and_profile(site: SetupSite) -> None:
    text = terraform_text(site.plan(profile="my-team").terraform)
    assert 'source = "hashicorp/aws"' in text.replace('"source"', "source")
    assert 'region  = "us-east-1"' in text
    assert 'profile = "my-team"' in text


def xform_camel(name: str) -> str:
    """Return a name of Terraform as that of the API: ``block_public_acls`` as ``BlockPublicAcls``."""
    return "".join(word.title() for word in name.split("_"))
