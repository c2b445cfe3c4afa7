"""What each way of neap would have given on somebody's own history: one file a strategy, one page for all."""
