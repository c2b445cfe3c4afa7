"""Decisions: what a plugin is, the cycle over all nodes, and the searches that plugins share."""
