"""The item that lets the person of the setup launch instances with the worker's service account."""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import Any

from cloud_tasks.errors import InputError, NotFoundError, ProviderError
from cloud_tasks.plugin import SetupItem, TerraformBlock, TerraformExpression
from cloud_tasks_gcp.api_errors import DeniedError
from cloud_tasks_gcp.credentials import credentials
from cloud_tasks_gcp.settings import GcpSettings
from cloud_tasks_gcp.setup.account import Account, if_enabled, patiently
from cloud_tasks_gcp.setup.policies import Grant, member_terraform
from cloud_tasks_gcp.setup.service_account import ServiceAccount

__all__ = ["controller_item"]

_ACT_AS = "iam.serviceAccounts.actAs"
_USER = "roles/iam.serviceAccountUser"
_UNKNOWN = '"${CLOUD_TASKS_CONTROLLER:-user:$(gcloud config get account)}"'
"""The person who runs the printed lines, unless it is another one than the person who will run jobs."""


def controller_item(account: Account, robot: ServiceAccount) -> SetupItem:
    """Return the item; it adds a role only if the person has the permission from nowhere else."""
    member = _caller(account.settings)
    who = TerraformBlock(
        kind="variable",
        labels=("controller",),
        arguments={"description": "Who runs jobs: user:ADDRESS", "type": TerraformExpression("string")},
    )
    add = f"gcloud iam service-accounts add-iam-policy-binding {shlex.quote(robot.address)}"

    def command(shown: str) -> str:
        return f"{add} --project {shlex.quote(account.project)} --member {shown} --role {_USER}"

    item = _Use(account, robot, member, command(shlex.quote(member or "user:YOU")))
    return SetupItem(
        subject=f"use of {robot.address}",
        purpose="lets you launch instances with this account",
        look=if_enabled(item.look),
        make=item.make,
        remove=if_enabled(item.remove),
        commands=(command(shlex.quote(member) if member else _UNKNOWN),),
        terraform=(
            *(() if member else (who,)),
            member_terraform(
                "google_service_account_iam_member",
                "controller",
                role=_USER,
                member=member or TerraformExpression("var.controller"),
                service_account_id=TerraformExpression("google_service_account.worker.name")
                if isinstance(robot.terraform, TerraformExpression)
                else f"projects/-/serviceAccounts/{robot.address}",
            ),
        ),
    )


class _Use:
    def __init__(self, account: Account, robot: ServiceAccount, member: str, command: str) -> None:
        self._account = account
        self._robot = robot
        self._member = member
        self._command = command
        path, query = robot.path, {"options.requestedPolicyVersion": "3"}
        self._grant = Grant(
            role=_USER,
            member=member,
            read=lambda: account.iam(lambda rest: rest.post(f"{path}:getIamPolicy", {}, **query)),
            write=lambda policy: account.iam(lambda rest: rest.post(f"{path}:setIamPolicy", {"policy": policy})),
            is_ours=robot.is_ours,
        )

    def look(self) -> str:
        body = {"permissions": [_ACT_AS]}
        try:
            answer = self._account.iam(lambda rest: rest.post(f"{self._robot.path}:testIamPermissions", body))
        except NotFoundError:
            return "not granted"
        return "" if _ACT_AS in (answer.get("permissions") or ()) else "not granted"

    def make(self) -> None:
        if not patiently(self.look):
            return
        ask = f"ask an owner of project {self._account.project} to run: {self._command}"
        if not self._member:
            raise InputError(f"you may not use {self._robot.address}: {_ACT_AS} is missing", hint=ask)
        try:
            self._grant.make()
        except DeniedError as error:
            raise DeniedError(error.message, hint=ask) from error
        with suppress(NotFoundError):  # it was granted, and may take some minutes more to be effective
            patiently(self._check, NotFoundError)

    def remove(self) -> str:
        return self._grant.remove() if self._member else ""

    def _check(self) -> None:
        if self.look():
            raise NotFoundError("not effective yet")


def _caller(settings: GcpSettings) -> str:
    """Return the name in policies of the account of the credentials; empty without credentials that have it."""
    if settings.impersonate_service_account:
        return f"serviceAccount:{settings.impersonate_service_account}"
    try:
        own: Any = credentials(settings, endpoint=settings.iam_endpoint or None)
    except ProviderError:
        return ""  # the first request of the setup reports it; nothing else needs it
    address = getattr(own, "service_account_email", "")
    if address and address != "default":
        return f"serviceAccount:{address}"
    person = getattr(own, "account", "")
    return f"user:{person}" if person else ""
