"""Nodes of the API: what is read of them, and what is written to them, and when."""
