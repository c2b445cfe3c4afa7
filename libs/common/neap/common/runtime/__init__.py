"""How a service lives: clock, machine and driver, routes, settings, start and stop."""
