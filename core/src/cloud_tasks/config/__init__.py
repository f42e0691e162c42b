"""Configuration: defaults < run < provider section < environment < command line, each value with its origin."""

from __future__ import annotations

from cloud_tasks.config.job_config import Entry, JobConfig
from cloud_tasks.config.load import ConfigurationError, choose_backends, load_config
from cloud_tasks.config.program import Program
from cloud_tasks.config.provenance import Layer, Override, Provenance
from cloud_tasks.config.run_settings import RunSettings
from cloud_tasks.config.schema import json_schema
from cloud_tasks.config.secret_sources import read_secrets, secret_files
from cloud_tasks.config.sections import (
    PROVIDER_KINDS,
    Key,
    advice,
    default_of,
    find_sections,
    run_section,
    variable_name,
)
from cloud_tasks.config.setup_record import delete_record, read_record, write_record
from cloud_tasks.config.startup_script import script_path
from cloud_tasks.config.trait_checks import parallel_launches, reachable_queues, unreachable_queue
from cloud_tasks.config.values import plain
from cloud_tasks.config.worker_secrets import SecretDelivery, delivered_secrets, secret_deliveries

__all__ = [
    "PROVIDER_KINDS",
    "ConfigurationError",
    "Entry",
    "JobConfig",
    "Key",
    "Layer",
    "Override",
    "Program",
    "Provenance",
    "RunSettings",
    "SecretDelivery",
    "advice",
    "choose_backends",
    "default_of",
    "delete_record",
    "delivered_secrets",
    "find_sections",
    "json_schema",
    "load_config",
    "parallel_launches",
    "plain",
    "reachable_queues",
    "read_record",
    "read_secrets",
    "run_section",
    "script_path",
    "secret_deliveries",
    "secret_files",
    "unreachable_queue",
    "variable_name",
    "write_record",
]
