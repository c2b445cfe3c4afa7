"""What of the advisor's settings may change while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neap.advisor.core.pod import Pod, Track
from neap.advisor.core.policy import Chosen, Policy, choose
from neap.advisor.settings import FIXED, PER_SERVICE, Settings
from neap.common.runtime.tuning import Tunable, Tuning


def chosen(policies: Mapping[str, Policy], settings: Settings) -> Chosen:
    """The policies these settings name.

    Raises:
        SettingsError: see choose.
    """
    names = (settings.provision, settings.headroom, settings.memory)
    return choose(policies, *names, settings.tune, alone=settings.alone)


def tune_tracks(tracks: Mapping[str, Track], pods: Sequence[Pod], tuning: Tuning[Settings]) -> None:
    """Tell the tracks what may differ from service to service."""
    for pod in pods:
        track, own = tracks[pod.uid], tuning.of(pod.workload)
        track.margin, track.lends = own.pod_margin, own.lend_alone


def tunable(policies: Mapping[str, Policy]) -> Tunable[Settings]:
    """All but `FIXED`, and the settings of these plugins; for one service `PER_SERVICE`."""

    def check(settings: Settings) -> None:
        chosen(policies, settings)

    return Tunable("advisor", Settings, FIXED, PER_SERVICE, check)
