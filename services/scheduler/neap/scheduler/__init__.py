"""The scheduler: columns of nodes, decisions with reasons, placements appended to ledgers."""
