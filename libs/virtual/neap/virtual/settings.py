"""Settings of the virtual nodes and of the day they live through."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.common.units import DAY, HOUR, MINUTE, Cores, Ratio, Seconds

NOMINAL_START: Final[Seconds] = 1_688_947_200.0  # 2023-07-10T00:00:00Z, the day openb was presented; it names no date


class DaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a generated day looks like; see day.py for what is real in it."""

    examples: str = ""  # folder with curves/, trace/, machines/; empty: the one of the source checkout
    machine: str = ""  # every node is this machine of examples/machines (name without its ending); empty: all of them
    file: str = ""  # a day written by hand (TOML or JSON, format in examples/README.md); empty: generate one
    past: Annotated[int, Meta(ge=0, le=7)] = 0  # days before it that the services tell a record of: past.py
    start: Seconds = NOMINAL_START  # clock second at which the day begins; 0: the minute in which the process starts
    length: Annotated[Seconds, Meta(gt=0)] = (
        DAY  # clock seconds that are replayed; the time of day stays that of the curves
    )
    online: Annotated[Ratio, Meta(ge=0, le=1)] = 0.25  # wanted day average of CPU use by everything but guests
    fill_low: Annotated[Ratio, Meta(ge=0, le=1)] = (
        0.55  # owners' CPU requests are at least this share of all usable cores
    )
    fill_high: Annotated[Ratio, Meta(ge=0, le=1)] = 0.65  # and at most this
    peak_low: Annotated[Ratio, Meta(ge=0, le=1)] = 0.60  # a service's highest use over its request, at least
    peak_high: Annotated[Ratio, Meta(ge=0, le=1)] = 0.70  # and at most
    shift: Annotated[Seconds, Meta(ge=0)] = HOUR  # a service's curve is moved by up to this, either way
    settle: Annotated[Seconds, Meta(ge=0)] = 2 * MINUTE  # owners are submitted within this time from the start
    guests_from: Annotated[Seconds, Meta(ge=0)] = 10 * MINUTE  # first guest
    guest_load: Annotated[Ratio, Meta(ge=0, le=4)] = 1.1  # guests' work over what owners leave
    guest_backlog: Annotated[Seconds, Meta(ge=0)] = 3 * HOUR  # guests of this long are there at once when guests begin
    guest_cores: Annotated[Cores, Meta(gt=0)] = 6.0  # widest guest; wider trace rows become several guests
    guest_shortest: Annotated[Seconds, Meta(gt=0)] = 90 * MINUTE  # shorter trace rows are stretched to this
    guest_longest: Annotated[Seconds, Meta(gt=0)] = 6 * HOUR  # longer trace rows are cut to this
    bursting: Annotated[Ratio, Meta(ge=0, le=1)] = 0.0  # share of services that burst; this and the next three: mix.py
    leaking: Annotated[Ratio, Meta(ge=0, le=1)] = 0.0  # share of services and jobs that leak memory
    pressing: Annotated[Ratio, Meta(ge=0, le=1)] = 0.0  # share of jobs that slow their neighbours
    saving: Annotated[Ratio, Meta(ge=0, le=1)] = 0.0  # share of jobs that save checkpoints
    gpu_load: Annotated[Ratio, Meta(ge=0, le=1)] = 0.7  # wanted day average of given card compute


class Settings(DaySettings, frozen=True, kw_only=True):
    """The virtual cluster: its nodes, its clockwork and its sockets."""

    nodes: Annotated[int, Meta(ge=1, le=1000)] = 24  # virtual nodes
    seed: int = 1  # of the day, the machines' order and the noise
    cluster: str = "local"  # key of the day's report
    socket: str = ""  # unix path where the hosts are served to node services; empty: not served
    step: Annotated[Seconds, Meta(gt=0)] = MINUTE  # clock seconds between two steps of the model
    report_every: Annotated[int, Meta(ge=1)] = 1  # steps between two reports
    guests: bool = True  # whether reclaimed_cores workloads of the day are submitted; false: the online-only baseline
    ahead: Annotated[Seconds, Meta(ge=0)] = 0.0  # so long before the day the owners of its first minutes are submitted
    pending_guests: Annotated[int, Meta(ge=1, le=10_000)] = 150  # guests waiting for a node, at most
    submit_burst: Annotated[int, Meta(ge=1, le=10_000)] = 500  # submissions per step, at most
    remember: Annotated[int, Meta(ge=100)] = 100_000  # ended workloads remembered, at most
