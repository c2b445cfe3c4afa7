"""Service profiles: what services use of what they do not ask for, and at which hour, measured and told."""
