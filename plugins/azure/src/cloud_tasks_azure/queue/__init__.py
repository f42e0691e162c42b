"""Azure queue backends: Storage Queue and Service Bus."""
