"""Google Cloud for cloud-tasks."""
