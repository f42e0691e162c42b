"""Instance and fleet calls that the overlay answers itself, partly with moto's help."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from xml.etree import ElementTree

import attrs
from account_calls import AccountCalls
from ec2_catalog import CatalogData
from ec2_fleets import LaunchTemplates, fleet_answer
from ec2_images import Images
from ec2_instances import Fleet, OverlayInstance, decoded_user_data
from ec2_xml import Ec2Error, Form, add, document, items, matches, parse, set_text

__all__ = ["REGION", "InstanceCalls", "StockOut"]

REGION = "us-east-1"
_REGIONS = (REGION, "eu-central-1", "us-west-2")
"""Available regions: moto creates networks for each region used, which is slow."""
_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
_OWN_FILTERS = ("client-token", "iam-instance-profile.arn", "instance-lifecycle", "instance-state-name")
_MAX_USER_DATA = 16 * 1024
_FOUND_BY_DRY_RUNS = ("UnauthorizedOperation", "InvalidKeyPair.NotFound", "InvalidParameterValue")
"""A dry run checks permissions and parameters, not capacity and quotas."""


@attrs.frozen(kw_only=True)
class StockOut:
    """Rule of refused launches; ``*`` is a wildcard."""

    zone: str = "*"
    instance_type: str = "*"
    provisioning_model: str = "*"
    code: str = "InsufficientInstanceCapacity"
    message: str = ""
    times: int = 0
    """Number of refusals; 0: until capacity is restored."""

    def covers(self, zone: str, instance_type: str, provisioning_model: str) -> bool:
        pairs = ((zone, self.zone), (instance_type, self.instance_type), (provisioning_model, self.provisioning_model))
        return all(matches(value, [pattern]) for value, pattern in pairs)


class InstanceCalls:
    """Handlers by action. Thread-safe.

    Args:
        ask: Executes a call in moto and returns the body of its response.
    """

    def __init__(self, ask: Callable[[Form], bytes], fleet: Fleet, account: AccountCalls) -> None:
        self._ask = ask
        self._account = account
        self.fleet = fleet
        self.images = Images(ask, fleet)
        self._guard = threading.RLock()
        self._tokens: dict[str, tuple[str, bytes]] = {}
        self._token_locks: dict[str, threading.Lock] = {}
        self._zone_of_subnet: dict[str, str] = {}
        self._catalog: CatalogData | None = None
        self.templates = LaunchTemplates()
        self._fleets: dict[str, tuple[str, bytes]] = {}
        self.stock_outs: list[StockOut] = []
        self.second_pages_break = False
        self.ids_are_unknown = False
        self.unknown_terminations = 0
        """Number of terminations that find no instance, like just launched ones."""
        self.has_default_vpc = True
        self.deprecated: set[str] = set()
        """Ids of deprecated images."""
        self.by_action: Mapping[str, Callable[[Form], ElementTree.Element]] = {
            "DescribeInstanceTypes": lambda form: self.catalog.describe_types(form),
            "DescribeInstanceTypeOfferings": lambda form: self.catalog.describe_offerings(form),
            "DescribeSpotPriceHistory": lambda form: self.catalog.spot_prices(form),
            "DescribeRegions": self._describe_regions,
            "DescribeImages": self._describe_images,
            "DescribeVpcs": self._describe_vpcs,
            "DescribeInstances": self._describe_instances,
            "RunInstances": self._run_instances,
            "CreateLaunchTemplate": self.templates.create,
            "DeleteLaunchTemplate": self.templates.delete,
            "DescribeLaunchTemplates": self.templates.describe,
            "CreateDefaultVpc": self._create_default_vpc,
            "CreateFleet": self._create_fleet,
            "CreateImage": self.images.create,
            "DeregisterImage": self.images.deregister,
            "StopInstances": self._end_instances,
            "TerminateInstances": self._end_instances,
            "GetConsoleOutput": self._console_output,
        }

    @property
    def catalog(self) -> CatalogData:
        with self._guard:
            if self._catalog is None:
                self._catalog = CatalogData(self._ask)
            return self._catalog

    def _run_instances(self, form: Form) -> ElementTree.Element:
        token = form.get("ClientToken")
        with self._guard:
            lock = self._token_locks.setdefault(token, threading.Lock())
        with lock:
            digest = hashlib.sha256(form.encoded()).hexdigest()
            if token and token in self._tokens:
                self._refuse_ended(token)
                return self._repeat(self._tokens[token], digest)
            root = self._start(form)
            if token:
                self._tokens[token] = (digest, ElementTree.tostring(root))
            return root

    def _refuse_ended(self, token: str) -> None:
        states = {each.state for each in self.fleet.all() if each.client_token == token}
        if states <= {"shutting-down", "terminated"}:
            raise Ec2Error(
                "IdempotentInstanceTerminated",
                "The client token was used by an earlier request, whose instance has been terminated.",
            )

    def _repeat(self, before: tuple[str, bytes], digest: str) -> ElementTree.Element:
        """Return the earlier response of a client token."""
        known, body = before
        if known != digest:
            raise Ec2Error(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with those of a previous request.",
            )
        return parse(body)

    def _start(self, form: Form) -> ElementTree.Element:
        spot = form.get("InstanceMarketOptions.MarketType") == "spot"
        subnet = form.get("SubnetId") or form.get("NetworkInterface.1.SubnetId")
        if not subnet and not self.has_default_vpc:
            raise Ec2Error("VPCIdNotSpecified", "No default VPC for this user")
        zone = self._zone(subnet) if subnet else form.get("Placement.AvailabilityZone", f"{REGION}a")
        wanted = form.get("Placement.AvailabilityZone")
        if wanted and wanted != zone:
            raise Ec2Error("InvalidParameterValue", f"Subnet '{subnet}' is in {zone}, not in {wanted}.")
        instance_type = form.get("InstanceType")
        self.catalog.check(instance_type, zone, form.get("ImageId"))
        self.images.check(form.get("ImageId"))
        user_data = decoded_user_data(form.get("UserData"))
        if len(user_data) > _MAX_USER_DATA:
            raise Ec2Error("InvalidParameterValue", f"User data is limited to {_MAX_USER_DATA} bytes")
        is_dry_run = form.get("DryRun") == "true"
        self.refuse_without_capacity(zone, instance_type, "spot" if spot else "on-demand", is_dry_run=is_dry_run)
        profile = form.get("IamInstanceProfile.Name") or form.get("IamInstanceProfile.Arn").rpartition("/")[2]
        invalid = f"Value ({profile}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile"
        if self._account.is_profile_unseen(profile):
            raise Ec2Error("InvalidParameterValue", f"{invalid} name")
        if is_dry_run:
            raise Ec2Error("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", status=412)
        forwarded = form.without("ClientToken", "InstanceMarketOptions", "UserData", "TagSpecification.3")
        try:
            root = parse(self._ask(forwarded))
        except Ec2Error as error:
            if error.code != "NoSuchEntity":
                raise
            raise Ec2Error("InvalidParameterValue", f"{invalid} name") from error
        for element in items(root, "instancesSet"):
            instance = OverlayInstance(
                instance_id=element.findtext("instanceId", ""),
                instance_type=instance_type,
                zone=zone,
                spot=spot,
                client_token=form.get("ClientToken"),
                user_data=user_data,
                terminates=form.get("InstanceInitiatedShutdownBehavior") == "terminate",
                needs_token=form.get("MetadataOptions.HttpTokens") == "required",
                role=profile,
                root_gb=form.get("BlockDeviceMapping.1.Ebs.VolumeSize", "8"),
                template=self.images.template(form.get("ImageId")),
            )
            self.fleet.add(instance)
            _add_details(element, instance)
        return root

    def _create_fleet(self, form: Form) -> ElementTree.Element:
        """Start one instance of the cheapest override with capacity, as ``instant`` fleets do."""
        token = form.get("ClientToken")
        with self._guard:
            lock = self._token_locks.setdefault(f"fleet/{token}", threading.Lock())
        with lock:
            digest = hashlib.sha256(form.encoded()).hexdigest()
            if token in self._fleets:
                return self._repeat(self._fleets[token], digest)
            root = fleet_answer(form, self.templates, self._price, self._start)
            # A fleet that started nothing is final too: its token returns the same response.
            self._fleets[token] = (digest, ElementTree.tostring(root))
            return root

    def _price(self, instance_type: str, subnet: str) -> float:
        return self.catalog.spot_price(instance_type, self._zone(subnet))

    def refuse_without_capacity(
        self, zone: str, instance_type: str, provisioning_model: str, *, is_dry_run: bool = False
    ) -> None:
        for each in self.stock_outs:
            if is_dry_run and each.code not in _FOUND_BY_DRY_RUNS:
                continue
            if each.covers(zone, instance_type, provisioning_model):
                if each.times:
                    self._count_down(each)
                # EC2 answers missing capacity with a 5xx status.
                status = 500 if each.code.startswith("Insufficient") else 400
                message = f"We currently do not have sufficient {instance_type} capacity in {zone}."
                raise Ec2Error(each.code, each.message or message, status=status)

    def _count_down(self, stock_out: StockOut) -> None:
        """Count one refusal down."""
        with self._guard:
            left = attrs.evolve(stock_out, times=stock_out.times - 1)
            self.stock_outs = [
                left if each is stock_out else each for each in self.stock_outs if each is not stock_out or left.times
            ]

    def _zone(self, subnet: str) -> str:
        if subnet not in self._zone_of_subnet:
            root = parse(self._ask(Form({"Action": "DescribeSubnets", "SubnetId.1": subnet, "Version": "2016-11-15"})))
            self._zone_of_subnet[subnet] = items(root, "subnetSet")[0].findtext("availabilityZone", "")
        return self._zone_of_subnet[subnet]

    def _describe_instances(self, form: Form) -> ElementTree.Element:
        if self.second_pages_break and form.get("NextToken"):
            raise Ec2Error("InvalidNextToken", "The token has expired.")
        if self.ids_are_unknown and form.numbered("InstanceId"):
            raise Ec2Error("InvalidInstanceID.NotFound", f"The instance ID '{form.get('InstanceId.1')}' does not exist")
        filters = form.filters()
        passed = {name: values for name, values in filters.items() if name not in _OWN_FILTERS}
        root = parse(self._ask(form.without("MaxResults", "NextToken").with_filters(passed)))
        reservations = root.find("reservationSet")
        for reservation in items(root, "reservationSet"):
            group = reservation.find("instancesSet")
            for element in items(reservation, "instancesSet"):
                instance = self.fleet.get(element.findtext("instanceId", ""))
                if instance is not None:
                    _add_details(element, instance)
                if group is not None and not _fits(element, filters):
                    group.remove(element)
            if reservations is not None and group is not None and not len(group):
                reservations.remove(reservation)
        return root

    def _describe_images(self, form: Form) -> ElementTree.Element:
        if form.numbered("ImageId") and form.get("MaxResults"):
            raise Ec2Error("InvalidParameterCombination", "The parameter imageId cannot be used with maxResults")
        for image in form.numbered("ImageId"):
            if not re.fullmatch("ami-[0-9a-f]{8,17}", image):
                raise Ec2Error("InvalidAMIID.Malformed", f'Invalid id: "{image}" (expecting "ami-...")')
        self.images.look_up(form)
        root = parse(self._ask(form.without("MaxResults", "NextToken", "IncludeDeprecated")))
        container = root.find("imagesSet")
        for each in items(root, "imagesSet"):
            if (
                container is not None
                and form.get("IncludeDeprecated") != "true"
                and each.findtext("imageId") in self.deprecated
            ):
                container.remove(each)
        self.images.complete(root, form)
        return root

    def _describe_vpcs(self, form: Form) -> ElementTree.Element:
        if not self.has_default_vpc and form.filters().get("is-default") == ["true"]:
            root = document("DescribeVpcs")
            add(root, "vpcSet")
            return root
        return parse(self._ask(form))

    def _create_default_vpc(self, form: Form) -> ElementTree.Element:
        if self.has_default_vpc:
            raise Ec2Error("DefaultVpcAlreadyExists", "A Default VPC already exists for this account in this region.")
        self.has_default_vpc = True
        return document("CreateDefaultVpc")

    def _describe_regions(self, form: Form) -> ElementTree.Element:
        root = parse(self._ask(form))
        container = root.find("regionInfo")
        for each in items(root, "regionInfo"):
            if container is not None and each.findtext("regionName") not in _REGIONS:
                container.remove(each)
        return root

    def _end_instances(self, form: Form) -> ElementTree.Element:
        """Terminate or stop."""
        ids, action = form.numbered("InstanceId"), form.get("Action")
        for each in ids:
            if not each.startswith("i-"):
                raise Ec2Error("InvalidInstanceID.Malformed", f'Invalid id: "{each}"')
        unknown = [each for each in ids if self.unknown_terminations > 0 or self.fleet.get(each) is None]
        self.unknown_terminations = max(0, self.unknown_terminations - 1)
        if unknown:
            plural = f"IDs '{', '.join(unknown)}' do" if len(unknown) > 1 else f"ID '{unknown[0]}' does"
            raise Ec2Error("InvalidInstanceID.NotFound", f"The instance {plural} not exist")
        root = document(action)
        container = add(root, "instancesSet")
        for each in ids:
            instance = self.fleet.get(each)
            before = instance.state if instance is not None else ""
            self.fleet.end(each, reason="Client.UserInitiatedShutdown", stop=action == "StopInstances")
            entry = add(container, "item")
            add(entry, "instanceId", each)
            for tag, state in (("previousState", before), ("currentState", instance.state if instance else "")):
                element = add(entry, tag)
                add(element, "code", str(_CODES[state]))
                add(element, "name", state)
        return root

    def _console_output(self, form: Form) -> ElementTree.Element:
        instance = self.fleet.get(form.get("InstanceId"))
        if instance is None:
            message = f"The instance ID '{form.get('InstanceId')}' does not exist"
            raise Ec2Error("InvalidInstanceID.NotFound", message)
        root = document("GetConsoleOutput")
        add(root, "instanceId", instance.instance_id)
        add(root, "output", _base64_text(self.fleet.console(instance)))
        return root


def _base64_text(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _add_details(element: ElementTree.Element, instance: OverlayInstance) -> None:
    """Add to an instance description what moto does not model."""
    state = element.find("instanceState")
    if state is None:
        state = add(element, "instanceState")
    set_text(state, "code", str(_CODES[instance.state]))
    set_text(state, "name", instance.state)
    if instance.client_token:
        set_text(element, "clientToken", instance.client_token)
    old = element.find("instanceLifecycle")
    if old is not None:
        element.remove(old)
    if instance.spot:
        set_text(element, "instanceLifecycle", "spot")


def _fits(element: ElementTree.Element, filters: Mapping[str, list[str]]) -> bool:
    values = {
        "client-token": element.findtext("clientToken", ""),
        "iam-instance-profile.arn": element.findtext("iamInstanceProfile/arn", ""),
        "instance-lifecycle": element.findtext("instanceLifecycle", ""),
        "instance-state-name": element.findtext("instanceState/name", ""),
    }
    return all(matches(value, filters[name]) for name, value in values.items() if name in filters)
