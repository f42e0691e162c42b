"""Queues of Azure: Storage Queue, and Service Bus."""
