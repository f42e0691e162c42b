"""Backends in memory, and the proxy that injects faults."""
