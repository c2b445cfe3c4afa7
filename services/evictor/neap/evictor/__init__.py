"""neap.evictor."""
