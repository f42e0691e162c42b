"""The default VPC, with whose subnets instances are launched unless subnets are configured."""

from __future__ import annotations

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.plugin import SetupItem, TerraformBlock
from cloud_tasks_aws.setup.account import Account, Call

__all__ = ["network_item"]


def network_item(account: Account) -> SetupItem:
    """Return the default VPC, which EC2 makes with a subnet in each zone. It is never removed."""
    created = Call("ec2", "CreateDefaultVpc")
    default = Call("ec2", "DescribeVpcs", Filters=[{"Name": "is-default", "Values": ["true"]}])

    def look() -> str:
        found = account.ask(default)["Vpcs"]
        if not found:
            return "missing"
        own = [
            {"Name": "vpc-id", "Values": [found[0]["VpcId"]]},
            {"Name": "default-for-az", "Values": ["true"]},
        ]
        return "" if account.ask(Call("ec2", "DescribeSubnets", Filters=own))["Subnets"] else "it has no subnet"

    def make() -> None:
        if look() == "it has no subnet":
            raise CloudTasksError(
                f"the default VPC of {account.region} has no subnet",
                hint=f"run: aws ec2 create-default-subnet --availability-zone {account.region}a, or set aws.subnets",
            )
        account.make(created, "DefaultVpcAlreadyExists")
        account.settle(look)

    return SetupItem(
        subject=f"default VPC in {account.region}",
        purpose="network of instances; nothing can connect to them",
        look=look,
        make=make,
        commands=(
            f"if ! {account.command(default)} --output text | grep -q vpc-; then",
            f"  {account.command(created)}",
            "fi",
        ),
        terraform=(TerraformBlock(kind="resource", labels=("aws_default_vpc", "default")),),
    )
