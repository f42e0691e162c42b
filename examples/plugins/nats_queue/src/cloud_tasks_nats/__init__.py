"""Queue backend for cloud-tasks on a NATS server with JetStream."""
