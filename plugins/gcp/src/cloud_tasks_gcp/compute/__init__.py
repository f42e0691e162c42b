"""Compute Engine instances, over google-cloud-compute's REST transport."""
