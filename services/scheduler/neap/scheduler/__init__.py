"""neap.scheduler."""
