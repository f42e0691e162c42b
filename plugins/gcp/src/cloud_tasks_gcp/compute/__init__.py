"""Machines of Compute Engine, over google-cloud-compute's REST transport."""
