"""Names that vulture reports as unused, each with its reader: input of vulture (`dev.py lint`), never imported.

A test compares the list with what vulture finds, so a name that is read or deleted leaves the list.
"""

from types import SimpleNamespace
from typing import Any

_: Any = SimpleNamespace()

# Called or read by Python or a library.
_.__init_subclass__  # Python: called for each subclass
_.is_retry  # azure-core: decides whether a request is repeated
_.__dir__  # Python: the names that `help()` shows (`cloud_tasks.testing`)
_.__getattr__  # Python: the former names of a module (`cloud_tasks.errors`)
_.__dir__  # Python: the exported names of a module whose names are imported when they are used
_.redirect_request  # urllib: a method of HTTPRedirectHandler
_.text_factory  # sqlite3: decodes text of the database
_.delimiter  # string.Template
_.linkname  # tarfile: a field of TarInfo
_.list_commands  # click: the commands of the group
_.format_commands  # click: the list of commands in its help
_.format_options  # click: the options of a command in its help
_.readinto  # io: called by BufferedReader
_.get_metavar  # click: the placeholder of a parameter type in the help
_.yaml_implicit_resolvers  # PyYAML: the resolvers of a loader
_.__init_subclass__  # Python: called for each subclass
_.is_retry  # azure-core: decides whether a request is repeated
_._quota_project_id  # google-auth: read by the base class, as is the next one
_._universe_domain
_.fmt  # botocore: the message of an exception
_.get_deferred_property  # botocore: a property of credentials, read when a request is made
_._quota_project_id  # google-auth: attributes of credentials
_._universe_domain
_.capture_signals  # uvicorn: overridden
_.should_exit  # uvicorn: read by its loop
_.on_start  # OpenTelemetry: a span processor, as is the next one
_.on_end
_.parent_context  # OpenTelemetry: an argument of on_start
_.generate_trace_id  # OpenTelemetry: an id generator, as is the next one
_.generate_span_id
_.shielded_instance_config  # Compute Engine: a field of a request, as are the next five
_.provisioned_iops
_.provisioned_throughput
_.on_host_maintenance
_.max_run_duration
_.instance_termination_action

# Read by task programs.
_.received_termination_notice  # `WorkerData`
_.received_shutdown_request

# Called by plugins.

# Read under a computed name.
_.result_type  # `TaskRecord`, by the name of the column of an export, as are the next three
_.result_bytes
_.result_address
_.result_pickle
_.sqs_endpoint  # `AwsSettings`, by the name of the service, as are the next two
_.s3_endpoint
_.pricing_endpoint
_.interrupted_instances  # `CostResult`, by `simulate`, which computes quantiles of a field
_.interrupted_attempts
_.completed_tasks  # `WorkerRecord`, written to the database field by field
_.min_cpu  # `InstanceConstraints`, by `selection` and the text report, as are the next 11
_.max_cpu
_.min_cpu_rank
_.max_cpu_rank
_.min_gpus
_.max_gpus
_.min_local_ssd
_.max_local_ssd
_.min_local_ssd_per_cpu
_.max_local_ssd_per_cpu
_.min_local_ssd_per_task
_.max_local_ssd_per_task
_.min_instances  # `Limits`, as are the next 7
_.max_instances
_.min_total_cpus
_.max_total_cpus
_.min_simultaneous_tasks
_.max_simultaneous_tasks
_.min_total_price_per_hour
_.max_total_price_per_hour
_.expires_at  # the contract of stagings
