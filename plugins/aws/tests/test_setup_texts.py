"""The shell and Terraform forms of the AWS setup: they make the same as the calls."""

from __future__ import annotations

import json
import shlex
from typing import Any

import attrs
import botocore.session
from botocore import xform_name
from setup_site import NAME, SetupSite
from terraform_facts import terraform_resources

from cloud_tasks.plugin import terraform_text


def run_aws_cli(site: SetupSite, line: str) -> None:
    """Make the call of a line, as the AWS CLI does: options by the names of the service's model."""
    program, service, operation, *words = shlex.split(line)
    assert program == "aws"
    name = {"s3api": "s3"}.get(service, service)
    model = botocore.session.get_session().get_service_model(name)
    (found,) = [each for each in model.operation_names if xform_name(each, "-") == operation]
    shape = model.operation_model(found).input_shape
    members = {f"--{xform_name(each, '-')}": (each, kind) for each, kind in shape.members.items()}
    arguments: dict[str, Any] = {}
    for option, value in zip(words[::2], words[1::2], strict=True):
        if option == "--region":
            assert value == site.subject.region
        else:
            argument, kind = members[option]
            is_text = kind.type_name in ("string", "blob")
            arguments[argument] = value if is_text else json.loads(value)
    getattr(site.client(name), xform_name(found))(**arguments)


def test_shell_lines_make_what_the_calls_make(site: SetupSite) -> None:
    tags = {"Cost Center": "it's 42, or $x"}
    site.make(tags=tags)
    made = site.facts()
    assert site.undo() == {}
    # Without the roles of EC2, and the default VPC, which are never removed.
    site.enter()
    site.overlay.control("default-vpc", exists=False)
    for item in site.plan(tags=tags).items:
        assert item.look() == "missing"
        for line in item.commands:
            run_aws_cli(site, line)
    assert site.facts() == made
    assert {each.subject: each.look() for each in site.plan(tags=tags).items if each.look()} == {}


def test_shell_lines_make_the_bucket_in_another_region(site: SetupSite) -> None:
    west = SetupSite(site.overlay, site.number, attrs.evolve(site.subject, region="us-west-2"))
    for line in west.item("bucket").commands:
        run_aws_cli(west, line)
    head = west.client("s3").head_bucket(Bucket=west.bucket)["ResponseMetadata"]["HTTPHeaders"]
    assert head["x-amz-bucket-region"] == "us-west-2"
    assert west.item("bucket").look() == ""


def test_shell_lines_name_region_and_profile(site: SetupSite) -> None:
    for item in site.plan(profile="my team").items:
        for line in item.commands:
            assert "--region us-east-1 --profile 'my team'" in line


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
