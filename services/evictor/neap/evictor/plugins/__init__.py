"""One rule per file: when a node is under pressure, and whom it would help to let go."""
