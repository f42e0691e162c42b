"""What ``cloud-tasks doctor`` asks Google Cloud: who am I, which project, is the service on, may I, is there room.

Invariants, each with a test:

1. Nothing is changed: only ``get`` and ``list`` are called, and ``testIamPermissions``.
2. What is wrong is a `Finding` with the command that mends it; nothing is raised.
3. What cannot be asked (a service that only the doctor would need is off) is told, and is not called wrong.

Sources: the API references of Pub/Sub, Compute Engine, Cloud Billing, Cloud Resource Manager
(projects.testIamPermissions) and IAM (projects.serviceAccounts.testIamPermissions).
"""

from __future__ import annotations

from cloud_tasks_gcp.doctor.compute import check_compute
from cloud_tasks_gcp.doctor.services import check_pricing, check_queue

__all__ = ["check_compute", "check_pricing", "check_queue"]
