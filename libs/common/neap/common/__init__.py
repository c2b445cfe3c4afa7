"""What every room of neap shares: units, model, wire, bus, host, runtime, telemetry.

Layers, lowest first; a layer imports only what stands before it:
errors < units < model < contract < telemetry < bus, host < runtime < testing.
"""
