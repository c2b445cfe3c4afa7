"""The planner: what services use and will use, and what follows from it within minutes to days."""
