"""Decisions of the scheduler, in five folders: nodes, pods, choice, flow, why."""
