"""The queue on Pub/Sub."""
