"""What the planner wants, done to the cluster: sizes, replicas, sides of nodes."""
