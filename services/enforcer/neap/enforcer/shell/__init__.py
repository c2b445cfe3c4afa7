"""Hands: reads and writes kernel files, keeps the restore journal."""
