"""Microsoft Azure for cloud-tasks."""
