"""Queues of cloud-tasks on a Redis server."""
