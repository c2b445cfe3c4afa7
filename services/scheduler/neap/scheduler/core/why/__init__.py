"""What the scheduler says to people: why here, why not there, what would have to change."""
