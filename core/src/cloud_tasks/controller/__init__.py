"""Controller of a run: enqueues tasks, collects events, reconciles instances, and ends the run.

`cloud_tasks.controller.job.Job` is the entry point.
"""

from __future__ import annotations

from cloud_tasks.controller.autoscaler.actions import Abort, Action, Drain, Finish, Launch, MarkEnded, Terminate
from cloud_tasks.controller.autoscaler.decide import decide
from cloud_tasks.controller.autoscaler.failed_instances import FailedInstances
from cloud_tasks.controller.autoscaler.policy import policy_of
from cloud_tasks.controller.autoscaler.state import Block, FleetInstance, Observation, Policy
from cloud_tasks.controller.controller import Controller, StopMode
from cloud_tasks.controller.event_loop import ThreadedLoop
from cloud_tasks.controller.failed_run import NextCommands, read_launches
from cloud_tasks.controller.image_build import build_image
from cloud_tasks.controller.job import Job, JobResult, RunRequest
from cloud_tasks.controller.launch.job_secrets import forget_secrets
from cloud_tasks.controller.launch.labels import expiry, owner_label
from cloud_tasks.controller.launch.launch_request import check_launch
from cloud_tasks.controller.launch.shipped_program import ShippedProgram
from cloud_tasks.controller.launch.terminate import note_zones, remaining_instances, terminate_instances
from cloud_tasks.controller.messaging.enqueuer import MAX_PARALLEL_SENDS, TaskEnqueuer
from cloud_tasks.controller.messaging.event_collector import EventCollector
from cloud_tasks.controller.messaging.progress import Progress
from cloud_tasks.controller.messaging.sink_dispatcher import SinkDispatcher
from cloud_tasks.controller.setup.job_setup import JobInput, JobResources, JobSetup, recorded_job
from cloud_tasks.controller.setup.lifetime_check import check_max_runtime
from cloud_tasks.controller.setup.offers import ask_headroom, rank_offers, require_offer
from cloud_tasks.controller.setup.open_backends import (
    cache_dir,
    open_compute,
    open_named_queue,
    open_pricing,
    open_queue,
    open_regions,
)
from cloud_tasks.controller.setup.place import check_place, check_recorded_place, place_of
from cloud_tasks.controller.setup.program_check import check_program
from cloud_tasks.controller.setup.provider_checks import (
    AccountError,
    check_account,
    check_backend,
    check_context,
    explained_by_checks,
)
from cloud_tasks.controller.setup.queue_names import (
    base_name,
    delete_former_queues,
    first_queue_name,
    may_rename_queues,
    with_new_names,
)
from cloud_tasks.controller.setup.shipping import prepare_program

__all__ = [
    "MAX_PARALLEL_SENDS",
    "Abort",
    "AccountError",
    "Action",
    "Block",
    "Controller",
    "Drain",
    "EventCollector",
    "FailedInstances",
    "Finish",
    "FleetInstance",
    "Job",
    "JobInput",
    "JobResources",
    "JobResult",
    "JobSetup",
    "Launch",
    "MarkEnded",
    "NextCommands",
    "Observation",
    "Policy",
    "Progress",
    "RunRequest",
    "ShippedProgram",
    "SinkDispatcher",
    "StopMode",
    "TaskEnqueuer",
    "Terminate",
    "ThreadedLoop",
    "ask_headroom",
    "base_name",
    "build_image",
    "cache_dir",
    "check_account",
    "check_backend",
    "check_context",
    "check_launch",
    "check_max_runtime",
    "check_place",
    "check_program",
    "check_recorded_place",
    "decide",
    "delete_former_queues",
    "expiry",
    "explained_by_checks",
    "first_queue_name",
    "forget_secrets",
    "may_rename_queues",
    "note_zones",
    "open_compute",
    "open_named_queue",
    "open_pricing",
    "open_queue",
    "open_regions",
    "owner_label",
    "place_of",
    "policy_of",
    "prepare_program",
    "rank_offers",
    "read_launches",
    "recorded_job",
    "remaining_instances",
    "require_offer",
    "terminate_instances",
    "with_new_names",
]
