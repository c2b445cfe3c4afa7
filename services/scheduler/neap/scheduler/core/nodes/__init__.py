"""What is known of nodes: the table, its columns, and the keepers that keep them."""
