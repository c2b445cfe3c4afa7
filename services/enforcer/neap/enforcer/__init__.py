"""neap.enforcer."""
