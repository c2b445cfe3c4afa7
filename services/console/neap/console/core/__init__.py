"""What the console says, as pure functions of what it read."""
