"""Virtual nodes: hosts whose files are a real machine's and whose kernel and load are a model.

kernel.VirtualHost is the host; pod.py says what can run on it. Who is who below it: snapshot (the machine), cgroup,
knobs, cgroupfs (the hierarchy: state, writes, reads), procfs, gpu, kubepods (what else is shown), sharing and flow
(who gets CPU, and where), running and demand (a container), reclaim (memory), stall (pressure), queueing (latency).
"""
