"""Every documented error that a launch or a queue can meet: one meaning, one scope, one time and one remedy.

Codes: "Error codes for the Amazon EC2 API", and the errors that botocore models for SQS.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from ec2_launches import offer

from cloud_tasks.errors import CredentialsError, LaunchRefusedError, NotFoundError, ProviderError, RefusalScope
from cloud_tasks_aws.compute.compute_errors import is_transient, launch_error
from cloud_tasks_aws.errors import provider_error

OFFER, ZONE, REGION = RefusalScope.OFFER, RefusalScope.ZONE, RefusalScope.REGION
TYPE, ACCOUNT = RefusalScope.INSTANCE_TYPE, RefusalScope.ACCOUNT
DAY = 24 * 60
PERSON = True
"""Only a person can remove the cause."""

# Codes, message, scope, minutes, whether a person is needed, part of the remedy.
REFUSALS: list[tuple[str, str, RefusalScope, int, bool, str]] = [
    ("InsufficientInstanceCapacity InsufficientCapacity InsufficientHostCapacity", "", OFFER, 5, False, ""),
    ("InsufficientReservedInstanceCapacity InsufficientVolumeCapacity", "", OFFER, 5, False, ""),
    ("InsufficientCapacityOnSomethingNew UnfulfillableCapacity", "", OFFER, 5, False, ""),
    ("ReservationCapacityExceeded IdempotentInstanceTerminated", "", OFFER, 5, False, ""),
    ("SpotMaxPriceTooLow", "", OFFER, 15, False, ""),
    ("Unsupported UnsupportedOperation InvalidFleetConfiguration", "", OFFER, DAY, False, ""),
    ("InsufficientFreeAddressesInSubnet", "", ZONE, 15, False, "aws.subnets"),
    ("InvalidAvailabilityZone InvalidZone.NotFound VolumeTypeNotAvailableInZone", "", ZONE, DAY, False, ""),
    ("InsufficientAddressCapacity", "", REGION, 15, False, ""),
    ("InvalidInstanceType EncryptedVolumesNotSupported UnsupportedTenancy", "", TYPE, DAY, False, ""),
    # Each terminated instance frees quota.
    ("VcpuLimitExceeded InstanceLimitExceeded MaxSpotInstanceCountExceeded", "", REGION, 5, False, "higher quota"),
    ("VolumeLimitExceeded MaxIOPSLimitExceeded SnapshotLimitExceeded", "", REGION, 5, False, "higher quota"),
    ("NetworkInterfaceLimitExceeded PrivateIpAddressLimitExceeded", "", REGION, 5, False, "higher quota"),
    ("AddressLimitExceeded AttachmentLimitExceeded MaxConfigLimitExceeded", "", REGION, 5, False, "higher quota"),
    ("ResourceCountExceeded ResourceLimitExceeded ResourceCountLimitExceeded", "", REGION, 5, False, "higher quota"),
    ("RequestResourceCountExceeded TargetCapacityLimitExceededException", "", REGION, 5, False, "higher quota"),
    ("MaxFleetCountExceeded MaxTemplateLimitExceeded", "", REGION, 5, False, "quota of EC2 fleets"),
    ("SecurityGroupLimitExceeded SecurityGroupsPerInstanceLimitExceeded", "", ACCOUNT, 5, PERSON, "security_groups"),
    ("RulesPerSecurityGroupLimitExceeded TagLimitExceeded", "", ACCOUNT, 5, PERSON, "aws.security_groups"),
    # A person has to fix these; the job should resume soon after.
    ("UnauthorizedOperation AccessDenied AccessDeniedException", "not authorized", ACCOUNT, 5, PERSON, "--policy"),
    ("UnauthorizedOperation", "with an explicit deny in a policy", TYPE, 60, PERSON, "denied by a policy"),
    ("TagPolicyViolation", "", ACCOUNT, 5, PERSON, "tag policy"),
    ("InvalidParameterValue", "Value (x) for parameter iamInstanceProfile.name", ACCOUNT, 5, PERSON, "profile"),
    ("InvalidIamInstanceProfileArn.Malformed", "Invalid IAM Instance Profile ARN", ACCOUNT, 5, PERSON, "profile"),
    ("InvalidParameterCombination", "not eligible for Free Tier", TYPE, 60, PERSON, "free plan"),
    ("InvalidAMIID.NotFound InvalidAMIID.Unavailable InvalidSnapshot.NotFound", "", ACCOUNT, 5, PERSON, "run.image"),
    ("AuthFailure", "Not authorized for images: [ami-1]", ACCOUNT, 5, PERSON, "not shared"),
    ("VPCIdNotSpecified VPCResourceNotSpecified DefaultVpcDoesNotExist", "", ACCOUNT, 5, PERSON, "default VPC"),
    ("MissingInput InvalidVpcID.NotFound", "No subnets found for the default VPC", ACCOUNT, 5, PERSON, "aws.subnets"),
    ("InvalidSubnetID.NotFound InvalidSubnetId.Malformed InvalidSubnet", "", ACCOUNT, 5, PERSON, "aws.subnets"),
    ("InvalidGroup.NotFound InvalidGroupId.Malformed InvalidGroup.Reserved", "", ACCOUNT, 5, PERSON, "security_groups"),
    ("InvalidSecurityGroupID.NotFound InvalidSecurityGroupId.Malformed", "", ACCOUNT, 5, PERSON, "security_groups"),
    ("InvalidParameterValue", "Value () for parameter groupId is invalid", ACCOUNT, 5, PERSON, "security_groups"),
    ("InvalidParameterValue", "User data is limited to 16384 bytes", ACCOUNT, 5, PERSON, "script_location"),
    ("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.", ACCOUNT, 5, PERSON, "startup_script"),
    ("InvalidParameterValue", "Invalid availability zone: [us-east-1x]", ZONE, DAY, False, ""),
    ("InvalidKeyPair.NotFound InvalidKeyPair.Format InvalidKey.Format", "", ACCOUNT, 5, PERSON, "aws.key_name"),
    ("InvalidKmsKey.InvalidState KmsKeyDisabled", "", ACCOUNT, 5, PERSON, "encrypt_boot_disk"),
    ("UnknownVolumeType", "", ACCOUNT, 5, PERSON, "boot_disk_types"),
    ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", "", REGION, 15, PERSON, "spot.amazonaws.com"),
    ("OptInRequired", "", ACCOUNT, 15, PERSON, "Marketplace"),
    ("OptInRequired", "You are not subscribed to this service.", ACCOUNT, 15, PERSON, "payment method"),
    ("Blocked AccountDisabled", "", ACCOUNT, 60, PERSON, "AWS Support"),
    ("PendingVerification", "", ACCOUNT, 15, False, "verifying"),
    # Image or disk may not fit this type.
    ("InvalidParameterCombination InvalidParameterValue InvalidParameter", "", TYPE, 60, False, ""),
    ("InvalidBlockDeviceMapping NonEBSInstance InvalidInput", "", TYPE, 60, False, ""),
    # The cause may be the type; refusing every launch could stop the job.
    ("SomethingNew MissingParameter UnknownParameter InvalidTagKey.Malformed", "", TYPE, 15, False, ""),
]


def client_error(code: str, message: str = "", *, status: int = 400) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "RunInstances")


@pytest.mark.parametrize(
    ("codes", "message", "scope", "minutes", "person", "remedy"), REFUSALS, ids=lambda each: str(each)[:40]
)
def test_launch_error_of_each_code(
    codes: str, message: str, scope: RefusalScope, minutes: int, person: bool, remedy: str
) -> None:
    for code in codes.split():
        # EC2 answers missing capacity with a 5xx status.
        error = client_error(code, message, status=500 if code.startswith("Insufficient") else 400)
        found = launch_error(offer(), error)
        assert isinstance(found, LaunchRefusedError), code
        assert (found.scope, found.reason, found.needs_action) == (scope, code, person), code
        assert found.retry_after == timedelta(minutes=minutes), code
        assert remedy in found.hint, code
        assert found.hint or not person, code
        assert not is_transient(error), f"{code}: a refusal must not be retried"


@pytest.mark.parametrize(
    "code",
    [
        "InternalError", "InternalFailure", "RequestLimitExceeded", "ServiceUnavailable", "Unavailable",
        "EC2ThrottledException", "ThrottlingException", "ConcurrentTagAccess", "SomethingNew",
    ],
)  # fmt: skip
def test_launch_error_of_a_failure_of_the_service_leaves_the_outcome_open(code: str) -> None:
    found = launch_error(offer(), client_error(code, status=500))
    assert found.transient
    assert not isinstance(found, LaunchRefusedError)


@pytest.mark.parametrize(
    "code",
    [
        "ExpiredToken", "IncompleteSignature", "InvalidClientTokenId", "InvalidSecurity.RequestHasExpired",
        "MissingAuthenticationToken", "RequestExpired", "SignatureDoesNotMatch", "UnrecognizedClientException",
    ],
)  # fmt: skip
def test_launch_error_of_credentials_blames_no_instance_type(code: str) -> None:
    assert isinstance(launch_error(offer(), client_error(code)), CredentialsError)


TRANSIENT, ABSENT, PERMANENT = "transient", "absent", "permanent"
SQS = {
    TRANSIENT: "KmsThrottled OverLimit PurgeQueueInProgress QueueDeletedRecently RequestThrottled",
    ABSENT: "QueueDoesNotExist",
    PERMANENT: "BatchEntryIdsNotDistinct BatchRequestTooLong EmptyBatchRequest InvalidAddress InvalidAttributeName "
    "InvalidAttributeValue InvalidBatchEntryId InvalidIdFormat InvalidMessageContents InvalidSecurity KmsAccessDenied "
    "KmsDisabled KmsInvalidKeyUsage KmsInvalidState KmsNotFound KmsOptInRequired MessageNotInflight "
    "QueueNameExists ReceiptHandleIsInvalid ResourceNotFoundException TooManyEntriesInBatchRequest "
    "UnsupportedOperation",
}


def test_provider_error_of_each_code_that_botocore_models_for_sqs() -> None:
    model = botocore.session.get_session().get_service_model("sqs")
    modeled = {shape.name for name in model.operation_names for shape in model.operation_model(name).error_shapes}
    expected = {code: kind for kind, codes in SQS.items() for code in codes.split()}
    assert modeled <= expected.keys()
    assert {code: kind_of(provider_error("sending", client_error(code))) for code in expected} == expected


def kind_of(error: ProviderError) -> str:
    if isinstance(error, NotFoundError):
        return ABSENT
    return TRANSIENT if error.transient else PERMANENT


def test_provider_error_names_the_remedy_of_a_key() -> None:
    assert "KMS key" in provider_error("sending", client_error("KmsAccessDenied")).hint
    assert "https" in provider_error("sending", client_error("InvalidSecurity")).hint


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("PutObject", "RequestTimeTooSkewed"),
        ("AssumeRoleWithWebIdentity", "InvalidIdentityToken"),
        ("AssumeRole", "AccessDenied"),
        ("GetRoleCredentials", "ForbiddenException"),
    ],
)
def test_errors_of_a_sign_in_are_errors_of_the_credentials(operation: str, code: str) -> None:
    response: Any = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    error = ClientError(response, operation)
    for found in (provider_error("sending", error), launch_error(offer(), error)):
        assert isinstance(found, CredentialsError)
        assert "aws sso login" in found.hint
