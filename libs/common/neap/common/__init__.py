"""What every room of neap shares: units, model, wire, bus, host, runtime, telemetry.

Layers, lowest first; a layer imports only what stands before it:
units, errors < model < contract < ports (bus, host, clock) < telemetry < runtime < testing.
"""
