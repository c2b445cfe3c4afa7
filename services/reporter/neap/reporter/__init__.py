"""neap.reporter."""
