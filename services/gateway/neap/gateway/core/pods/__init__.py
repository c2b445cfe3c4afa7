"""Pods of the API and workloads of the bus: what is told, bound, evicted and resized."""
