"""Scheduling policies: one file filters nodes, scores them, or divides a node's devices; see core/choice/framework.py."""
