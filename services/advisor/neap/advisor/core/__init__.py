"""What the advisor decides: pure, synchronous, deterministic."""
