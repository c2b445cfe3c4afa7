"""neap.console."""
