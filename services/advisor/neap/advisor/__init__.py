"""neap.advisor."""
