"""Reading the bus, starting the laptop stack, drawing on a terminal."""
