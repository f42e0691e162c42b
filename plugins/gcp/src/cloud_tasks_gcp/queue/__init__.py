"""Queue backend for Pub/Sub."""
