"""neap.virtual."""
