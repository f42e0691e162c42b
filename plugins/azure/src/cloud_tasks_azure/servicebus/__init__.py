"""The queue ``azure-servicebus``; nothing else of this distribution imports it, and its SDK is optional."""
