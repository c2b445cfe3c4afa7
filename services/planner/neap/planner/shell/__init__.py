"""Where the planner touches the world beyond its table."""
