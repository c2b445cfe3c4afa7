"""Settings of the gateway: which pods are ours, how patient it is, how much it may ask."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from neap.common.units import MIB, MINUTE, Seconds
from neap.gateway.core.asking.flow import FlowSettings
from neap.gateway.core.asking.lease import LeaseSettings
from neap.gateway.core.asking.share import ShareSettings
from neap.gateway.core.asking.staleness import StalenessSettings
from neap.gateway.core.door.admission import AdmissionSettings
from neap.gateway.core.door.metrics_store import MetricSettings
from neap.gateway.core.events import EventSettings
from neap.gateway.core.hearing.reflector import ReflectorSettings
from neap.gateway.core.nodes.mirror import MirrorSettings
from neap.gateway.core.nodes.taints import Taints
from neap.gateway.core.plans.resizes import ResizeSettings
from neap.gateway.core.plans.scaling import ScalingSettings
from neap.gateway.core.plans.tides import TideShowSettings
from neap.gateway.core.pods.evictions import EvictionSettings

Positive = Annotated[Seconds, Meta(gt=0)]


class DoorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the web server listens, and how much it takes."""

    bind: str = "0.0.0.0"  # noqa: S104  the API server comes from another machine
    port: int = 8443  # 0: any free one
    certificate: str = ""  # PEM file, as cert-manager mounts it (tls.crt); empty: no TLS, for tests on loopback
    key: str = ""  # PEM file (tls.key)
    client_ca: str = ""  # PEM file; metrics only for clients of this authority; empty: for everybody who reaches us
    largest: int = 8 * MIB  # bytes of a request: an AdmissionReview has an object of 3 MiB at most, perhaps twice
    deadline: Seconds = 5.0  # for an answer that needs another room


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway; several of them elect one that speaks."""

    schedulers: tuple[str, ...] = ("neap", "katalyst-scheduler")  # names of schedulerName whose pods neap places
    by_resources: bool = True  # also pods of the default scheduler that ask for neap's resources
    adopt: bool = True  # also pods that others placed are told to the scheduler, so that they are charged
    keep_annotations: tuple[str, ...] = ()  # prefixes of further annotations that travel with a workload
    owner_patience: Annotated[Seconds, Meta(ge=0)] = 2.0  # a pod waits so long for its ReplicaSet or Job to be known
    unknown_patience: Positive = 30.0  # a pod on a ledger that the API does not show counts as gone after so long
    bind_first: Positive = 1.0  # a binding the API could not be asked for is asked again; twice as long each time
    bind_last: Positive = 30.0  # at most
    why_after: Positive = 10.0  # the scheduler is asked why a pod waits, for its Event
    why_every: Positive = 5 * MINUTE  # and again
    why_most: Annotated[int, Meta(ge=1, le=100)] = 4  # such questions per beat
    beat: Positive = 1.0  # between two looks at what waits, and two rounds of writing to nodes
    remember: Annotated[int, Meta(ge=1)] = 20_000  # pods that are over
    resize: bool = True  # annotation neap.io/resize is followed
    taints: Taints = "none"  # told to other schedulers where an evictor makes room
    evictions: EvictionSettings = EvictionSettings()
    resizes: ResizeSettings = ResizeSettings()
    scaling: ScalingSettings = ScalingSettings()
    tides: TideShowSettings = TideShowSettings()
    mirror: MirrorSettings = MirrorSettings()
    events: EventSettings = EventSettings()
    elect: bool = True  # several gateways elect one; off: this one is alone and always leads
    kubeconfig: str = ""  # file; empty: the pod's own account, or else the user's file
    context: str = ""  # of that file; empty: its current one
    servers: tuple[str, ...] = ()  # URLs of several API servers of the cluster; empty: the one that is configured
    replica: str = ""  # name of this life of this gateway; empty: the host's, and something that no other life has
    api: FlowSettings = FlowSettings()
    share: ShareSettings = ShareSettings()
    lease: LeaseSettings = LeaseSettings()
    reflector: ReflectorSettings = ReflectorSettings()
    staleness: StalenessSettings = StalenessSettings()
    serve: bool = True  # webhooks and metrics APIs over HTTP
    door: DoorSettings = DoorSettings()
    admission: AdmissionSettings = AdmissionSettings()
    metrics: MetricSettings = MetricSettings()
