"""What ``cloud-tasks setup aws`` makes in an account, corrects, keeps and removes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import fsspec
import pytest
from botocore.exceptions import ClientError
from setup_site import NAME, SetupSite

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.model import Architecture
from cloud_tasks.plugin import CheckContext, Finding, SetupContext, StagingContext
from cloud_tasks.plugin.kit import run_probes
from cloud_tasks.testing import SetupContract, SetupSubject
from cloud_tasks_aws.compute.image_resolver import AwsImages
from cloud_tasks_aws.doctor_staging import staging_probe
from cloud_tasks_aws.policies import policies
from cloud_tasks_aws.setup import account

GUIDE = Path(__file__).parents[3] / "docs" / "providers" / "aws.md"
SOME = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
OTHERS = {"ec2:DescribeImages", "ec2:RunInstances", "s3:DeleteObject", "s3:PutObject", "sts:GetCallerIdentity"}
"""Permissions of the test itself, of jobs, and for everybody."""
ALLOW_ALL = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::1:root"}, "Action": "sts:AssumeRole"}


class TestSetupOfAws(SetupContract):
    @pytest.fixture
    def subject(self, site: SetupSite) -> SetupSubject:
        return site.subject


def test_setup_makes_role_profile_and_private_bucket_with_the_tag(site: SetupSite) -> None:
    site.make(tags={"CostCenter": "42"})
    found = site.facts()
    tags = {"CostCenter": "42", "cloud-tasks-setup": "1"}
    assert found["role"][2] == found["profile"][2] == found["bucket"][1] == tags
    documents = policies(site.subject.settings, CheckContext(region="us-east-1"))
    assert found["policies"] == {NAME: json.loads(documents["worker"])}
    assert found["trust"] == json.loads(documents["worker trust"])
    assert found["profile"][1] == [NAME]
    assert found["service roles"] == ["ec2fleet.amazonaws.com", "spot.amazonaws.com"]
    assert set(found["block"].values()) == {True}
    assert (found["rule"][3], found["owner"]) == (14, "BucketOwnerEnforced")
    assert found["region"] == "us-east-1"


def test_setup_makes_the_bucket_in_the_region_of_the_job(site: SetupSite) -> None:
    west = SetupSite(site.overlay, site.number, attrs.evolve(site.subject, region="us-west-2"))
    west.item("bucket").make()
    head = west.client("s3").head_bucket(Bucket=west.bucket)
    assert west.bucket.endswith("-us-west-2")
    assert head["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"] == "us-west-2"


def test_setup_waits_until_what_was_made_is_seen(site: SetupSite) -> None:
    site.enter(lag=3)
    site.make()
    ec2 = site.client("ec2")
    image = AwsImages(ec2, lambda: site.client("ssm")).resolve(None, Architecture.X86_64).image_id
    profile = {"IamInstanceProfile": {"Name": NAME}}
    with pytest.raises(ClientError, match="DryRunOperation"):
        ec2.run_instances(DryRun=True, ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1, **profile)
    assert site.undo() == {}
    site.make()


def test_setup_ends_if_what_was_made_is_never_seen(site: SetupSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "_PAUSES", 3)
    site.enter(lag=1000)
    with pytest.raises(CloudTasksError, match="iam PutRolePolicy: NoSuchEntity"):
        site.item("role").make()
    with pytest.raises(CloudTasksError, match="missing, although it was made; repeat: cloud-tasks setup aws"):
        site.item("service-linked role AWSServiceRoleForEC2Spot").make()


def test_setup_names_settings_of_the_account(site: SetupSite) -> None:
    plan = site.plan()
    assert plan.account == f"account {site.number}"
    assert plan.identity == {"aws.profile": None}
    assert plan.settings == {"run.staging": f"s3://{site.bucket}/staging", "aws.instance_profile": NAME}


def test_setup_leaves_out_what_the_settings_replace(site: SetupSite) -> None:
    own = site.plan(instance_profile="mine", subnets=("subnet-1",))
    assert [each.subject.split()[0] for each in own.items] == ["service-linked", "service-linked", "bucket"]
    assert "aws.instance_profile" not in own.settings
    assert site.subject.backend.setup is not None
    other = site.subject.backend.setup(site.subject.settings, SetupContext(region="us-east-1", queue="redis"))
    assert [each.subject for each in other.items if NAME in each.subject] == []


def test_setup_makes_a_missing_default_vpc(site: SetupSite) -> None:
    site.overlay.control("default-vpc", exists=False)
    item = site.item("default VPC")
    assert item.look() == "missing"
    item.make()
    assert item.look() == ""
    item.make()
    assert "other programs" in item.remove()


@pytest.mark.parametrize(
    ("operation", "arguments", "problem"),
    [
        ("delete_public_access_block", {}, "public access is possible"),
        ("delete_bucket_ownership_controls", {}, "objects may belong to others"),
        ("delete_bucket_lifecycle", {}, "objects are kept"),
        ("delete_bucket_policy", {}, "plain HTTP is accepted"),
        (
            "put_bucket_lifecycle_configuration",
            {
                "LifecycleConfiguration": {
                    "Rules": [
                        {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 14}}
                    ]
                }
            },
            "objects are kept",
        ),
    ],
)
def test_look_at_the_bucket_says_what_is_wrong_and_make_corrects_it(
    site: SetupSite, operation: str, arguments: dict[str, Any], problem: str
) -> None:
    item = site.item("bucket")
    item.make()
    getattr(site.client("s3"), operation)(Bucket=site.bucket, **arguments)
    assert item.look() == problem
    item.make()
    assert item.look() == ""


def test_make_keeps_other_settings_of_the_bucket(site: SetupSite) -> None:
    s3, item = site.client("s3"), site.item("bucket")
    s3.create_bucket(Bucket=site.bucket)
    rule = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 400}}
    s3.put_bucket_lifecycle_configuration(Bucket=site.bucket, LifecycleConfiguration={"Rules": [rule]})
    statement = {
        "Sid": "Other",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:DeleteBucket",
        "Resource": f"arn:aws:s3:::{site.bucket}",
    }
    s3.put_bucket_policy(Bucket=site.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    item.make()
    rules = s3.get_bucket_lifecycle_configuration(Bucket=site.bucket)["Rules"]
    assert [each["ID"] for each in rules] == ["logs", "cloud-tasks"]
    policy = json.loads(s3.get_bucket_policy(Bucket=site.bucket)["Policy"])
    assert [each["Sid"] for each in policy["Statement"]] == ["Other", "DenyPlainHttp"]
    assert item.remove() == "it was not made by setup"


def test_look_at_the_role_compares_what_it_grants(site: SetupSite) -> None:
    iam, item = site.client("iam"), site.item("role")
    item.make()
    iam.update_assume_role_policy(
        RoleName=NAME, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [ALLOW_ALL]})
    )
    iam.delete_role_policy(RoleName=NAME, PolicyName=NAME)
    grant = {"Effect": "Allow", "Action": "sqs:*", "Resource": "arn:aws:sqs:*:*:*"}
    narrow = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}
    for statement, is_enough in ((narrow, False), (grant, True)):
        document = json.dumps({"Version": "2012-10-17", "Statement": statement})
        iam.put_role_policy(RoleName=NAME, PolicyName="queue", PolicyDocument=document)
        assert ("permissions of workers are not granted" in item.look()) is not is_enough
    assert item.look() == "instances cannot assume it"
    item.make()
    assert item.look() == ""
    trust = iam.get_role(RoleName=NAME)["Role"]["AssumeRolePolicyDocument"]
    assert trust["Statement"][0] == ALLOW_ALL
    assert iam.list_role_policies(RoleName=NAME)["PolicyNames"] == ["queue"]
    assert item.remove() == "it has other policies, too: queue"


def test_make_refuses_an_instance_profile_with_another_role(site: SetupSite) -> None:
    iam, item = site.client("iam"), site.item("instance profile")
    iam.create_instance_profile(InstanceProfileName=NAME)
    assert item.look() == "it has no role"
    iam.create_role(RoleName="other", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": []}))
    iam.add_role_to_instance_profile(InstanceProfileName=NAME, RoleName="other")
    assert item.look() == "it has the role other"
    with pytest.raises(CloudTasksError, match=r"it has the role other; .*aws\.instance_profile"):
        item.make()
    assert item.remove() == "it was not made by setup"


def test_bucket_of_another_account_is_refused_with_a_remedy(site: SetupSite) -> None:
    site.overlay.control("foreign", bucket=site.bucket)
    for call in (site.item("bucket").look, site.item("bucket").make, site.item("bucket").remove):
        with pytest.raises(CloudTasksError) as caught:
            call()
        assert caught.value.message == f"bucket {site.bucket} belongs to another account"
        assert caught.value.hint == f"set run.staging to a bucket of account {site.number}: s3://BUCKET/staging"


def test_every_call_about_a_bucket_names_the_account_that_must_own_it(site: SetupSite) -> None:
    site.make()
    site.client("s3").put_object(Bucket=site.bucket, Key="a", Body=b"", ExpectedBucketOwner=site.number)
    site.undo()
    assert site.overlay.state()["unowned"] == []


@pytest.mark.parametrize(
    "permission", ["iam:CreateRole", "iam:GetRole", "s3:GetBucketTagging", "s3:PutBucketPolicy", "ec2:DescribeVpcs"]
)
def test_missing_permission_is_named(site: SetupSite, permission: str) -> None:
    site.overlay.control("deny", permissions=[permission])
    with pytest.raises(CloudTasksError) as caught:
        site.make()
    assert caught.value.message == f"missing permission {permission}"
    hint = f"ask an administrator of account {site.number} for it, or to run: cloud-tasks setup aws"
    assert caught.value.hint == hint


def test_guide_names_every_permission_that_setup_needs(site: SetupSite) -> None:
    site.overlay.control("default-vpc", exists=False)
    site.make()
    site.client("s3").put_object(Bucket=site.bucket, Key="a", Body=b"", ExpectedBucketOwner=site.number)
    site.undo()
    site.client("s3").delete_object(Bucket=site.bucket, Key="a", ExpectedBucketOwner=site.number)
    site.undo()
    needed = set(site.overlay.state()["permissions"]) - OTHERS
    section = GUIDE.read_text().partition("who runs `setup`")[2].partition("\n#")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    named = {f"{row[1].split('`')[1]}:{name}" for row in rows for name in row[2].split("`")[1::2]}
    assert needed <= named
    # Needed by calls with tags and roles, and to correct a role.
    assert named - needed == {
        "iam:PassRole",
        "iam:TagInstanceProfile",
        "iam:TagRole",
        "iam:UpdateAssumeRolePolicy",
    }


def test_removal_keeps_a_bucket_with_objects(site: SetupSite) -> None:
    site.make()
    s3 = site.client("s3")
    s3.put_object(Bucket=site.bucket, Key="staging/code", Body=b"x")
    assert site.undo() == {"bucket": "it has 1 object"}
    s3.delete_object(Bucket=site.bucket, Key="staging/code")
    assert site.undo() == {}


def test_removal_keeps_what_others_use(site: SetupSite) -> None:
    site.make()
    iam = site.client("iam")
    iam.put_role_policy(
        RoleName=NAME,
        PolicyName="results",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": SOME}),
    )
    iam.create_instance_profile(InstanceProfileName="second")
    assert site.undo() == {"role": "it has other policies, too: results"}
    iam.delete_role_policy(RoleName=NAME, PolicyName="results")
    iam.add_role_to_instance_profile(InstanceProfileName="second", RoleName=NAME)
    assert site.undo() == {"role": "it is in the instance profile second"}


def test_removal_keeps_an_instance_profile_of_running_instances(site: SetupSite) -> None:
    site.overlay.control("account")
    site = SetupSite(site.overlay, "123456789012", site.subject)
    site.make()
    ec2 = site.client("ec2")
    image = AwsImages(ec2, lambda: site.client("ssm")).resolve(None, Architecture.X86_64).image_id
    started = ec2.run_instances(
        ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1, IamInstanceProfile={"Name": NAME}
    )["Instances"][0]["InstanceId"]
    kept = {"instance": f"instances use it: {started}", "role": f"it is in the instance profile {NAME}"}
    assert site.undo() == kept
    ec2.terminate_instances(InstanceIds=[started])


def test_staging_of_setup_is_not_used_after_another_account_took_its_name(site: SetupSite, tmp_path: Path) -> None:
    url = str(site.plan().settings["run.staging"])
    options, context = site.subject.backend.staging_options, StagingContext(url=url, region="us-east-1")
    assert options is not None
    (tmp_path / "code").write_bytes(b"code")

    def upload() -> None:
        system, prefix = fsspec.core.url_to_fs(url, **options(site.subject.settings, context), skip_instance_cache=True)
        system.put_file(str(tmp_path / "code"), f"{prefix}/code")

    def finding() -> Finding:
        (found,) = run_probes([staging_probe(site.subject.settings, CheckContext(region="us-east-1", staging=url))])
        return found

    assert finding().remedy == "run: cloud-tasks setup aws"
    site.make()
    upload()
    assert finding().ok
    # Now all buckets are another account's, which lets everybody write to them.
    site.overlay.control("account", number="999999999999")
    with pytest.raises(PermissionError):
        upload()
    found = finding()
    assert (found.ok, found.prevents_run) == (False, True)
    assert found.remedy == f"use credentials of account {site.number}, or run for yours: cloud-tasks setup aws"
