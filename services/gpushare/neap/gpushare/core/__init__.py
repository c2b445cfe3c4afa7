"""Decisions of gpushare: which share is accepted, and what limits it."""
