"""How much more than it has each node may sell: the desk of over-commitment."""
