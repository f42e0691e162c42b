"""Names that only others use, each with its caller: input of vulture (`dev.py lint`), never imported.

A name that this project uses as well, or has no more, does not belong here; a test sees to it.
"""

from types import SimpleNamespace

_ = SimpleNamespace()

# Called or read by a library.
_.redirect_request  # urllib: a method of HTTPRedirectHandler
_.list_commands  # click: the commands of the group
_.format_commands  # click: the list of commands in its help
_.delimiter  # string.Template
_.yaml_implicit_resolvers  # PyYAML: the resolvers of a loader
_.mtime  # tarfile: a field of TarInfo, as are the next three
_.uid
_.gid
_.gname
_.get_token  # azure-identity: a credential
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

# Read under a name that is computed.
_.sqs_endpoint  # `AwsSettings`, by the name of the service
_.s3_endpoint
_.pricing_endpoint

# Without a reader yet.
_.max_script_bytes  # a trait that plugins declare
_.record_seen  # listed states are to be recorded
