"""Queries: summary, throughput, timeline, cost breakdown, history, recent failures and the instance cache."""
