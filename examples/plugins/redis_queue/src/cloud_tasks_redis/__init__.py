"""Queue backend for cloud-tasks on a Redis server."""
