"""Chooses which guest leaves, as few as possible and never an owner, and says with which numbers."""
