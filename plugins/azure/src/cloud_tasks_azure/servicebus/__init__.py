"""Service Bus as the queue service, with ``azure.queue: servicebus``; its SDK is optional."""
