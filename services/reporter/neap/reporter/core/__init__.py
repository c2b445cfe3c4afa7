"""Decisions of the reporter, without I/O."""
