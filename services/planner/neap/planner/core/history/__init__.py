"""What was used: reports folded into columns of fixed size, and kept on the bus for the next life."""
