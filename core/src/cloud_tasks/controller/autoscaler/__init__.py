"""Scaling: reconciliation passes, the pure decision (`decide`) with its rules, and the fleet of instances."""
