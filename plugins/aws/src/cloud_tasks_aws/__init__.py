"""Amazon Web Services for cloud-tasks."""
