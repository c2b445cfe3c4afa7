"""The container runtime's door (NRI): neap is asked before a container starts, and may change it while it runs.

    wire.py     protobuf: bytes <-> Structs            model.py    what NRI talks about, in our words
    frame.py    the two layers of frames, no I/O       schema.py   field numbers of the messages we use
    session.py  one connection: requests and answers   drift.py    what a container lacks of what it should have
    plugin.py   the plugin's side of the protocol      client.py   connect, live, reconnect; probe
    settings.py where, and how long                    story.py    what happened, as a source a service can hear

Nothing here knows the enforcer: `adjust` is handed in, `tell` is told. Source: containerd/nri (pkg/api/api.proto,
pkg/net/multiplex, pkg/adaptation) and containerd/ttrpc (PROTOCOL.md): facts, no code.
"""
