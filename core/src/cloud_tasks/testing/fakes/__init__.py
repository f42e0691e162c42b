"""Backends in memory, and fault injection."""
