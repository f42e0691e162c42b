"""OpenTelemetry: metrics and traces of a job, sent by OTLP."""
