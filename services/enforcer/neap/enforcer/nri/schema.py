"""Field numbers of the messages we speak: ttRPC's envelope, and `nri.pkg.api.v1alpha1`.

Numbers are never reused upstream; what is not listed here is skipped. Versions seen: NRI 0.4 (containerd 1.7,
CRI-O 1.26) to 0.12.

Source: containerd/nri, pkg/api/api.proto; containerd/ttrpc, request.proto; google.rpc.Status.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from neap.enforcer.nri.model import Adjustment, Container, Device, Pod, Resources, Update
from neap.enforcer.nri.wire import FLAG, NATURAL, RAW, TABLE, TEXT, WHOLE, Field, Shape, many, one, optional

RUNTIME_SERVICE: Final = "nri.pkg.api.v1alpha1.Runtime"
PLUGIN_SERVICE: Final = "nri.pkg.api.v1alpha1.Plugin"

# -- ttRPC -----------------------------------------------------------------------------------------------------------


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """ttrpc.Request."""

    service: str = ""
    method: str = ""
    payload: bytes = b""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """google.rpc.Status; code 0 is success."""

    code: int = 0
    message: str = ""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """ttrpc.Response. Old peers want the status said even if it is success."""

    status: Status = Status()
    payload: bytes = b""


REQUEST: Final = Shape(Request, service=Field((1,), TEXT), method=Field((2,), TEXT), payload=Field((3,), RAW))
STATUS: Final = Shape(Status, code=Field((1,), WHOLE), message=Field((2,), TEXT))
RESPONSE: Final = Shape(Response, status=Field((1,), one(STATUS, always=True)), payload=Field((2,), RAW))

# -- what is talked about --------------------------------------------------------------------------------------------

RESOURCES: Final = Shape(
    Resources,
    memory_limit=Field((1, 1), optional(WHOLE)),
    shares=Field((2, 1), optional(NATURAL)),
    quota=Field((2, 2), optional(WHOLE)),
    period=Field((2, 3), optional(NATURAL)),
    cpus=Field((2, 6), TEXT),
    mems=Field((2, 7), TEXT),
    unified=Field((6,), TABLE),
)
POD: Final = Shape(
    Pod,
    id=Field((1,), TEXT),
    name=Field((2,), TEXT),
    uid=Field((3,), TEXT),
    namespace=Field((4,), TEXT),
    labels=Field((5,), TABLE),
    annotations=Field((6,), TABLE),
    cgroup_parent=Field((8, 3), TEXT),
)
CONTAINER: Final = Shape(
    Container,
    id=Field((1,), TEXT),
    pod_id=Field((2,), TEXT),
    name=Field((3,), TEXT),
    state=Field((4,), WHOLE),
    labels=Field((5,), TABLE),
    annotations=Field((6,), TABLE),
    resources=Field((11, 3), one(RESOURCES)),
    oom_score_adj=Field((11, 4), optional(WHOLE)),
    cgroup=Field((11, 5), TEXT),
    pid=Field((12,), NATURAL),
)
DEVICE: Final = Shape(
    Device,
    path=Field((1,), TEXT),
    type=Field((2,), TEXT),
    major=Field((3,), WHOLE),
    minor=Field((4,), WHOLE),
    file_mode=Field((5,), optional(NATURAL)),
)
ADJUSTMENT: Final = Shape(
    Adjustment,
    env=Field((4,), TABLE),  # a list of key and value there, which is written like a map
    devices=Field((6, 1), many(DEVICE)),
    resources=Field((6, 2), one(RESOURCES)),
    oom_score_adj=Field((6, 4), optional(WHOLE)),
)
UPDATE: Final = Shape(
    Update,
    container_id=Field((1,), TEXT),
    resources=Field((2, 1), one(RESOURCES)),
    ignore_failure=Field((3,), FLAG),
)

# -- requests to the plugin, and its answers -------------------------------------------------------------------------


class Event(IntEnum):
    """Life-cycle events; bit n−1 of a subscription is event n. A runtime drops a plugin that asks for one it lacks."""

    CREATE_CONTAINER = 4
    POST_CREATE_CONTAINER = 5
    UPDATE_CONTAINER = 8
    STOP_CONTAINER = 10
    REMOVE_CONTAINER = 11  # the last one that every version knows


SUBSCRIPTION: Final = sum(1 << event - 1 for event in Event)


class Configure(msgspec.Struct, frozen=True, kw_only=True):
    """ConfigureRequest."""

    runtime_name: str = ""
    runtime_version: str = ""


class Configured(msgspec.Struct, frozen=True, kw_only=True):
    """ConfigureResponse."""

    events: int = 0


class Synchronize(msgspec.Struct, frozen=True, kw_only=True):
    """SynchronizeRequest; with `more`, further ones follow."""

    pods: tuple[Pod, ...] = ()
    containers: tuple[Container, ...] = ()
    more: bool = False


class Synchronized(msgspec.Struct, frozen=True, kw_only=True):
    """SynchronizeResponse; `more` agrees to further ones."""

    updates: tuple[Update, ...] = ()
    more: bool = False


class About(msgspec.Struct, frozen=True, kw_only=True):
    """Create, PostCreate, Update, Stop and RemoveContainerRequest begin alike."""

    pod: Pod = Pod()
    container: Container = Container()


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """StateChangeEvent: how older runtimes tell what has no method of its own there."""

    event: int = 0
    pod: Pod = Pod()
    container: Container = Container()


class Created(msgspec.Struct, frozen=True, kw_only=True):
    """CreateContainerResponse."""

    adjustment: Adjustment = Adjustment()


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """UpdateContainerResponse, UpdateContainersRequest, and `failed` of UpdateContainersResponse: all field 1."""

    updates: tuple[Update, ...] = ()


class Register(msgspec.Struct, frozen=True, kw_only=True):
    """RegisterPluginRequest; the index is two digits, and plugins are asked in its order."""

    name: str = ""
    index: str = ""


CONFIGURE: Final = Shape(Configure, runtime_name=Field((2,), TEXT), runtime_version=Field((3,), TEXT))
CONFIGURED: Final = Shape(Configured, events=Field((2,), WHOLE))
SYNCHRONIZE: Final = Shape(
    Synchronize, pods=Field((1,), many(POD)), containers=Field((2,), many(CONTAINER)), more=Field((3,), FLAG)
)
SYNCHRONIZED: Final = Shape(Synchronized, updates=Field((1,), many(UPDATE)), more=Field((2,), FLAG))
ABOUT: Final = Shape(About, pod=Field((1,), one(POD)), container=Field((2,), one(CONTAINER)))
CHANGE: Final = Shape(
    Change, event=Field((1,), WHOLE), pod=Field((2,), one(POD)), container=Field((3,), one(CONTAINER))
)
CREATED: Final = Shape(Created, adjustment=Field((1,), one(ADJUSTMENT)))
CHANGES: Final = Shape(Changes, updates=Field((1,), many(UPDATE)))
REGISTER: Final = Shape(Register, name=Field((1,), TEXT), index=Field((2,), TEXT))
