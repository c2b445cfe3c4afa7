"""A ServiceProfileDescriptor as text, to the byte: what is read and written again is the same text.

Leaves stand in one line, and texts that look like something else in double quotes, as on Katalyst's slides.
Source: requirements 1.5.5 (004-14).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import yaml

from neap.common.errors import InputError
from neap.common.kube.katalyst import KATALYST, PROFILE_DESCRIPTORS, VERSION, ServiceProfileDescriptor
from neap.common.kube.spd import status_of
from neap.common.model.profile import MachineType, ServiceProfile

API_VERSIONS: Final = {"Deployment": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "Job": "batch/v1"}


def descriptor(profile: ServiceProfile, machines: Iterable[MachineType]) -> str:
    """The object that Katalyst would have of this service, as YAML."""
    namespace, kind, name = profile.key.split("/", 2)
    target = {"kind": kind, "name": name, "apiVersion": API_VERSIONS.get(kind, "v1")}
    percent = {} if profile.baseline.percent is None else {"baselinePercent": profile.baseline.percent}
    return text_of(
        {
            "apiVersion": f"workload.{KATALYST}/{VERSION}",
            "kind": PROFILE_DESCRIPTORS.name,
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"targetRef": target, **percent},
            "status": msgspec.to_builtins(status_of(profile, machines)),
        }
    )


def text_of(part: Any) -> str:
    """YAML of plain values; see module docstring."""
    text: str = yaml.dump(
        part, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=math.inf, allow_unicode=True
    )
    return text


def read(text: str) -> ServiceProfileDescriptor:
    """A descriptor from YAML.

    Raises:
        InputError: it is none.
    """
    try:
        return msgspec.convert(yaml.safe_load(text), ServiceProfileDescriptor)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise InputError(f"no ServiceProfileDescriptor: {error}") from None


class _Dumper(yaml.SafeDumper):
    """Double quotes where quotes are needed."""

    def choose_scalar_style(self) -> str:
        style: str = super().choose_scalar_style()
        return '"' if style == "'" else style
