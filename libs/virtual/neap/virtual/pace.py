"""The pace of an accelerated day: what every room is told when a node reports once per virtual minute.

In production a node reports every second. A day that passes in 90 s would need 960 reports per second and node, so
the period of everything that beats with the report is one virtual minute there, and the output says so.
"""

from __future__ import annotations

from typing import Final

from neap.common.units import DAY, MINUTE, Ratio, Seconds

PAST_DAYS: Final = 3  # that a planner is told a record of


def day_settings(
    *, nodes: int, seed: int, length: Seconds = DAY, step: Seconds = MINUTE, spread: Ratio = 0.0
) -> list[str]:
    """`section.key=value` for all rooms of a virtual cluster that reports every `step` clock seconds.

    `spread`: the share of a step over which nodes report; where nothing takes time they may report all at once.
    """
    return [
        f"process.seed={seed}",
        f"virtual.nodes={nodes}",
        f"virtual.seed={seed}",
        f"virtual.length={length}",
        f"virtual.step={step}",
        f"reporter.period={step}",
        f"reporter.phase={step / 60}",
        f"reporter.spread={spread}",
        f"advisor.period={step}",
        "advisor.stale_after=60",
        f"enforcer.period={step}",
        f"enforcer.grace={30 * step}",
        f"gpushare.retell={10 * step}",
        f"scheduler.cycle={step / 4}",
        f"scheduler.confirm={3600 * step}",
        f"scheduler.gang.patience={30 * step}",
        f"scheduler.preemption.patience={120 * step}",
        f"scheduler.preemption.cool_down={60 * step}",
    ]


UNMODELLED: Final = (  # collectors of what virtual hosts do not have, or that nothing here decides on
    *(
        "container_io",
        "container_numa",
        "container_oom",
        "node_bandwidth",
        "node_disks",
        "node_filesystems",
        "node_links",
    ),
    *("node_power", "node_rdma", "node_run_delay", "pod_bandwidth"),
)


def lean_settings() -> list[str]:
    """For large simulated clusters: no reading of what cannot change here.

    Virtual hosts have no disks, links or resctrl, and nobody but the enforcer writes their knobs, so these are read
    back every ten periods instead of every one. The day comes out the same; it takes a tenth less.
    """
    return [f"reporter.off={','.join(UNMODELLED)}", "enforcer.reconcile_every=10", "enforcer.tasks_every=60"]


def planner_settings(step: Seconds = MINUTE) -> list[str]:
    """The same cluster with a planner, which is told a record of the days before, and an advisor that goes by it.

    Its desks look once per step instead of every few seconds; it forecasts and writes its history down less often,
    since a day here is a few minutes.
    """
    return [
        f"virtual.past={PAST_DAYS}",
        "advisor.provision=provision_profile",
        f"planner.profiling.period={step}",
        f"planner.profiling.again={10 * step}",
        f"planner.history.tick={step}",
        f"planner.history.write_every={360 * step}",
        f"planner.forecasting.tick={step}",
        f"planner.forecasting.every={120 * step}",
        f"planner.overcommit.tick={step}",
        f"planner.scaling.period={5 * step}",
        f"planner.sizing.period={5 * step}",
        f"planner.tide.period={5 * step}",
    ]


PLAIN_ROOMS: Final = ("virtual", "reporter", "scheduler")


def plain_settings() -> list[str]:
    """The same cluster as Kubernetes alone would run it: placed, started, nothing lent, nobody confined.

    The reporter is there to say what the machines are and how loaded, every ten minutes; owners have all CPUs.
    """
    return ["virtual.guests=false", f"reporter.period={10 * MINUTE}"]
