"""Objects of neap's own kinds and of Katalyst's: what they mean on the bus."""
