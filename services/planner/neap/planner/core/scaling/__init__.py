"""How many replicas services should have: by what they use now and by what is coming."""
