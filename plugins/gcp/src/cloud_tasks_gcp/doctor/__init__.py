"""Checks for ``doctor`` and before a run: credentials, project, enabled services, permissions, quotas, network.

Invariants, each with a test:

1. No check changes anything: only ``get``, ``list``, ``testIamPermissions`` and ``getIamPolicy`` are called.
2. A problem is a `Finding` with the command that fixes it; no check raises.
3. A check that cannot run (a service that only the doctor needs is disabled) is reported as skipped, not as failed.
4. What may pass by itself, or cannot be read with these permissions, prevents no run.

Sources: the API references of Pub/Sub, Compute Engine, Cloud Billing, Cloud Resource Manager
(projects.testIamPermissions, projects.getIamPolicy) and IAM (projects.serviceAccounts.testIamPermissions).
"""

from __future__ import annotations

from cloud_tasks_gcp.doctor.compute_checks import check_compute
from cloud_tasks_gcp.doctor.service_checks import check_pricing, check_queue

__all__ = ["check_compute", "check_pricing", "check_queue"]
