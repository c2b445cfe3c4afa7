"""Collectors, one by one: what their files come to, and unknown where nothing can be known."""

from __future__ import annotations

import pytest

from neap.common.model.usage import DeviceUsage, Stall
from neap.reporter.core.collector import MACHINE, Fields, Surroundings, Values, growth
from neap.reporter.wiring import COLLECTORS

ONE_NODE = Surroundings(numa=(0,))


def parsed(name: str, *texts: str | None, around: Surroundings = ONE_NODE) -> Values:
    wants = COLLECTORS[name].wants(around)
    return [None if text is None else parse(text) for (_, parse), text in zip(wants, texts, strict=False)]


def fields(name: str, before: Values | None, now: Values, seconds: float = 1.0) -> Fields:
    return COLLECTORS[name].rate(before, now, seconds)


STAT = "usage_usec {usage}\nuser_usec 1\nsystem_usec 2\nnr_periods 30\nnr_throttled 3\nthrottled_usec {held}\n"


def cpu_stat(usage: int, held: int) -> Values:
    return parsed("container_cpu", STAT.format(usage=usage, held=held))


def test_a_containers_cores_are_its_microseconds_over_the_period() -> None:
    assert fields("container_cpu", cpu_stat(1_000_000, 0), cpu_stat(4_000_000, 500_000), 2.0) == {
        "cpu": 1.5,
        "throttled": 0.25,
    }


def test_being_held_back_on_many_cpus_is_no_more_than_all_the_time() -> None:
    assert fields("container_cpu", cpu_stat(0, 0), cpu_stat(0, 9_000_000), 1.0)["throttled"] == 1.0


def test_a_reset_counter_is_unknown_for_one_period() -> None:
    assert fields("container_cpu", cpu_stat(9, 9), cpu_stat(1, 9)) == {"cpu": None, "throttled": 0.0}
    before, now = parsed("node_cpu", "cpu0 9 0 0 9 0 0 0 0\n"), parsed("node_cpu", "cpu0 1 0 0 99 0 0 0 0\n")
    assert fields("node_cpu", before, now)["cpu"] is None


def test_without_the_cpu_controller_throttling_is_unknown() -> None:
    before, now = (parsed("container_cpu", f"usage_usec {usage}\n") for usage in (0, 500_000))
    assert fields("container_cpu", before, now) == {"cpu": 0.5, "throttled": None}


def test_the_first_report_has_no_rates() -> None:
    assert not fields("container_cpu", None, cpu_stat(1, 1))
    assert not fields("node_cpu", None, parsed("node_cpu", "cpu0 9 0 0 9 0 0 0 0\n"))


NUMA_STAT = "anon N0=8192 N1=0 N3=4096\nfile N0=7 N1=7 N3=7\n"


@pytest.mark.parametrize(
    ("nodes", "text", "held"),
    [
        pytest.param((0, 1, 3), NUMA_STAT, (8192, 0, 4096), id="in the order of the report's nodes"),
        pytest.param((0, 3), NUMA_STAT, (8192, 4096), id="a node nobody knows of is left out"),
    ],
)
def test_anonymous_memory_is_told_by_numa_node(nodes: tuple[int, ...], text: str, held: tuple[int, ...]) -> None:
    values = parsed("container_numa", text, around=Surroundings(numa=nodes))
    assert fields("container_numa", None, values) == {"memory_nodes": held}


@pytest.mark.parametrize("text", ["", "file N0=1 N1=1\n", "anon N0=1\n", "anon N0=1 N1\n", "anon N0=1 N1=-1\n", "anon"])
def test_a_file_that_does_not_name_every_numa_node_is_no_number_at_all(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        parsed("container_numa", text, around=Surroundings(numa=(0, 1)))
    assert fields("container_numa", None, [None]) == {"memory_nodes": None}


def test_on_one_numa_node_nothing_is_read() -> None:
    assert COLLECTORS["container_numa"].wants(ONE_NODE) == ()
    assert fields("container_numa", None, []) == {}


STAT_V2 = "anon 1\nfile 3000\ninactive_anon 7\ninactive_file 2000\n"


def test_the_working_set_leaves_inactive_file_pages_out() -> None:
    now = parsed("container_working_set", "5000\n", STAT_V2)
    assert fields("container_working_set", None, now) == {"working_set": 3000, "file_cache": 3000, "refaults": None}
    now = parsed("container_working_set", None, STAT_V2)
    assert fields("container_working_set", None, now)["working_set"] is None
    assert fields("container_working_set", None, parsed("container_working_set", "5000\n", None)) == {}


@pytest.mark.parametrize(
    ("before", "now", "pages"),
    [
        ("workingset_refault_anon 5\nworkingset_refault_file 7\n", "workingset_refault_anon 9\nworkingset_refault_file 9\n", 3.0),
        ("workingset_refault 5\n", "workingset_refault 9\n", 2.0),
        ("workingset_refault 9\n", "workingset_refault 5\n", None),
        ("", "", None),
    ],
    ids=["both kinds", "old kernel", "reset", "not counted"],
)  # fmt: skip
def test_pages_that_came_back_are_counted_per_second(before: str, now: str, pages: float | None) -> None:
    first, last = (parsed("container_working_set", "5000\n", STAT_V2 + text) for text in (before, now))
    assert fields("container_working_set", first, last, 2.0)["refaults"] == pages


# -- containers and block devices ------------------------------------------------------------------------------------

STACKED = Surroundings(names={"/sys/dev/block": ("253:0", "8:0"), "/sys/dev/block/253:0/slaves": ("sda",)})


def test_a_request_through_a_stacked_device_is_counted_once() -> None:
    text = "253:0 rbytes={0} wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n8:0 rbytes={0} wbytes=0 rios=1 wios=0\n"
    first, last = (parsed("container_io", text.format(size), None, around=STACKED) for size in (1000, 5000))
    assert (fields("container_io", first, last, 2.0)["io_read"], fields("container_io", first, last)["io_write"]) == (
        2000.0,
        0.0,
    )


def test_a_device_shows_up_with_its_first_request_and_no_file_is_no_rate() -> None:
    first, last = parsed("container_io", "", None), parsed("container_io", "8:0 rbytes=4096 wbytes=8192 rios=1\n", None)
    assert fields("container_io", first, last) == {"io_stall": None, "io_read": 4096.0, "io_write": 8192.0}
    assert fields("container_io", first, first)["io_read"] == 0.0
    assert "io_read" not in fields("container_io", parsed("container_io", None, None), last)


def test_a_device_whose_counter_fell_makes_the_sum_unknown() -> None:
    first, last = (parsed("container_io", f"8:0 rbytes={size} wbytes=1 rios=1\n", None) for size in (9000, 10))
    assert fields("container_io", first, last)["io_read"] is None


def test_kills_are_counted_since_the_cgroup_exists() -> None:
    now = parsed("container_oom", "low 0\nhigh 3\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n")
    assert fields("container_oom", None, now) == {"oom_kills": 1}


# -- the node's own --------------------------------------------------------------------------------------------------


def test_the_share_of_the_period_follows_the_total_where_the_averages_lag() -> None:
    text = "some avg10=1.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
    first, last = (parsed("node_pressure", text.format(total), None, None, None) for total in (1_000_000, 2_500_000))
    assert fields("node_pressure", first, last, 2.0)["cpu_stall"] == Stall(some10=0.01, some=0.75, full=0.0)
    assert fields("node_pressure", last, first, 2.0)["cpu_stall"] == Stall(some10=0.01, some=None, full=0.0)


def test_time_lost_to_interrupts_has_one_line_only() -> None:
    irq = "full avg10=2.00 avg60=1.00 avg300=0.00 total=5\n"
    found = fields("node_pressure", None, parsed("node_pressure", None, None, None, irq))
    assert found["irq_stall"] == Stall(some10=0.02, some60=0.01, full10=0.02, full60=0.01)
    assert found["cpu_stall"] is None


SCHEDSTAT = "version 15\ntimestamp 1\ncpu0 0 0 0 0 0 0 5 {0} 9\ndomain0 f 1 2 3\ncpu1 0 0 0 0 0 0 5 {1} 9\n"


def test_the_wait_of_all_cpus_is_added_up() -> None:
    first, last = (parsed("node_run_delay", SCHEDSTAT.format(*waits)) for waits in ((0, 0), (10**9, 5 * 10**9)))
    assert fields("node_run_delay", first, last, 2.0) == {"run_delay": 3.0}


def test_a_cpu_that_came_makes_the_wait_unknown_once_and_an_old_version_always() -> None:
    one = parsed("node_run_delay", SCHEDSTAT.format(0, 0).partition("cpu1")[0])
    both = parsed("node_run_delay", SCHEDSTAT.format(0, 0))
    assert fields("node_run_delay", one, both) == {"run_delay": None}
    assert fields("node_run_delay", both, one) == {"run_delay": 0.0}
    with pytest.raises(ValueError, match="version"):
        parsed("node_run_delay", SCHEDSTAT.format(0, 0).replace("15", "14"))


TWO_NODES = Surroundings(numa=(0, 1))


def test_steals_are_per_node_where_the_kernel_counts_them_there() -> None:
    def seen(*steals: int) -> Values:
        texts = [f"pgsteal_kswapd {steal}\npgsteal_direct 1\nworkingset_refault 5\n" for steal in steals]
        return parsed("node_reclaim", *texts, around=TWO_NODES)

    found = fields("node_reclaim", seen(0, 0, 0), seen(30, 10, 20), 2.0)
    assert (found["reclaimed"], found["numa.reclaimed"]) == (15.0, {MACHINE: 15.0, 0: 5.0, 1: 10.0})
    old = ["pgsteal_kswapd 1\npgsteal_direct 1\n", "nr_free_pages 1\n", "nr_free_pages 2\n"]
    found = fields("node_reclaim", *[parsed("node_reclaim", *old, around=TWO_NODES)] * 2)
    assert (found["reclaimed"], found["numa.reclaimed"]) == (0.0, {MACHINE: 0.0, 0: None, 1: None})


ZONE = "Node 0, zone   Normal\n  pages free     {free}\n        min      10\n        low      {low}\n        high     30\n        spanned  9\n        managed  1000\n        protection: (0, 0)\n"


@pytest.mark.parametrize(("page", "low"), [(4, 20 * 4096), (64, 20 * 65536), (5, None)])
def test_the_size_of_a_page_is_told_by_memory_over_pages(page: int, low: int | None) -> None:
    texts = (ZONE.format(free=5, low=20), f"Node 0 MemTotal: {page * 1000} kB\n")
    assert fields("node_watermarks", None, parsed("node_watermarks", *texts))["numa.watermark_low"][0] == low


DISKS = Surroundings(
    names={"/sys/block": ("dm-0", "sda", "sdb"), "/sys/block/sda": ("device",), "/sys/block/sdb": ("device",), "/sys/block/dm-0": ("dm",)}
)  # fmt: skip
DISK = "8 0 {name} 1 0 {read} 4 5 0 {write} 8 0 {busy} 11\n"


def disks(*lines: tuple[str, int, int, int]) -> Values:
    text = "".join(DISK.format(name=name, read=read, write=write, busy=busy) for name, read, write, busy in lines)
    return parsed("node_disks", text, around=DISKS)


def test_disks_are_told_in_bytes_and_partitions_and_stacked_ones_not_at_all() -> None:
    first = disks(("sda", 0, 0, 0), ("sda1", 0, 0, 0), ("dm-0", 0, 0, 0), ("sdb", 0, 0, 0))
    last = disks(("sda", 4, 8, 500), ("sda1", 4, 8, 500), ("dm-0", 4, 8, 500), ("sdb", 0, 0, 0))
    assert fields("node_disks", first, last, 2.0)["disks"] == (
        DeviceUsage(name="sda", read=1024.0, write=2048.0, busy=0.25),
        DeviceUsage(name="sdb", read=0.0, write=0.0, busy=0.0),
    )


def test_a_disk_that_was_pulled_out_is_unknown_and_not_idle() -> None:
    first, last = disks(("sda", 0, 0, 0), ("sdb", 0, 0, 0)), disks(("sda", 0, 0, 0))
    assert fields("node_disks", first, last)["disks"][1] == DeviceUsage(name="sdb")


def test_busy_milliseconds_start_again_after_49_days() -> None:
    first, last = disks(("sda", 0, 0, (1 << 32) - 100)), disks(("sda", 0, 0, 150))
    assert fields("node_disks", first, last)["disks"][0].busy == 0.25
    reset = disks(("sda", 0, 0, (1 << 32) // 2))
    assert fields("node_disks", reset, last)["disks"][0].busy is None


LINKS = Surroundings(
    names={"/sys/class/net": ("eth0", "lo"), "/sys/class/net/eth0": ("device",), "/sys/class/net/lo": ("mtu",)}
)


def links(received: int, sent: int, *, drops: int = 0, speed: str | None = "1000\n") -> Values:
    text = f"Inter-| Receive\n face |bytes\n  lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0:{received} 1 0 {drops} 0 0 0 0 {sent} 1 0 0 0 0 0 0\n"
    return parsed("node_links", text, speed, around=LINKS)


def test_links_that_hang_from_a_bus_are_told_with_their_speed() -> None:
    (eth0,) = fields("node_links", links(0, 0), links(2000, 4000, drops=6), 2.0)["links"]
    assert eth0 == DeviceUsage(name="eth0", read=1000.0, write=2000.0, errors=3.0, speed=125_000_000.0)
    assert fields("node_links", None, links(1, 1, speed="-1\n"))["links"] == (DeviceUsage(name="eth0"),)


def test_a_32_bit_counter_wraps_and_a_64_bit_one_is_reset() -> None:
    top = (1 << 32) - 1000
    (eth0,) = fields("node_links", links(top, 0), links(500, 0))["links"]
    assert eth0.read == 1500.0
    for before, speed in ((1 << 40, "1000\n"), (1 << 31, "1000\n"), (top, None)):
        (eth0,) = fields("node_links", links(before, 0), links(500, 0, speed=speed))["links"]
        assert eth0.read is None


RDMA = Surroundings(names={"/sys/class/infiniband": ("mlx5_0",), "/sys/class/infiniband/mlx5_0/ports": ("1",)})


def port(received: int | None, errors: int = 0) -> Values:
    texts = (None, None, None, None, None)
    if received is not None:
        texts = (f"{received}\n", "0\n", f"{errors}\n", "0\n", "100 Gb/sec (4X EDR)\n")  # type: ignore[assignment]
    return parsed("node_rdma", *texts, around=RDMA)


def test_rdma_counters_count_words_and_a_full_one_is_unknown() -> None:
    (found,) = fields("node_rdma", port(0), port(1000, errors=4), 2.0)["rdma"]
    assert found == DeviceUsage(name="mlx5_0/1", read=2000.0, write=0.0, errors=2.0, speed=12.5e9)
    (full,) = fields("node_rdma", port(5), port((1 << 32) - 1, errors=(1 << 16) - 1))["rdma"]
    assert (full.read, full.errors) == (None, None)


def test_a_port_that_went_away_is_unknown_once_and_then_gone() -> None:
    assert fields("node_rdma", port(5), port(None))["rdma"] == (DeviceUsage(name="mlx5_0/1"),)
    assert fields("node_rdma", port(None), port(None))["rdma"] == ()


RAPL = Surroundings(names={"/sys/class/powercap": ("intel-rapl", "intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1")})


def power(package: int | None, *, name: str = "package-0") -> Values:
    energy = None if package is None else f"{package}\n"
    return parsed("node_power", f"{name}\n", energy, "1000000000\n", "psys\n", "5\n", "1000000000\n", around=RAPL)


def test_power_is_that_of_packages_and_goes_on_when_the_counter_starts_again() -> None:
    assert fields("node_power", power(0), power(300_000_000), 2.0) == {"power": 150.0}
    assert fields("node_power", power(900_000_000), power(50_000_000)) == {"power": 150.0}
    assert fields("node_power", None, power(0)) == {}


def test_power_is_unknown_and_not_less_when_a_package_is() -> None:
    assert fields("node_power", power(0), power(None)) == {"power": None}
    assert fields("node_power", power(0, name="psys"), power(9, name="psys")) == {"power": None}


CARDS = Surroundings(
    names={"/sys/class/drm": ("card0", "card0-DP-1", "card1"), "/sys/class/drm/card0/device": ("gpu_busy_percent",)}
)


def test_a_card_says_how_busy_it_is() -> None:
    found = fields("node_cards", None, parsed("node_cards", "25\n", "4096\n", around=CARDS))
    assert found == {"cards": (DeviceUsage(name="card0", busy=0.25, memory=4096),)}
    with pytest.raises(ValueError, match="percentage"):
        parsed("node_cards", "101\n", around=CARDS)


MON = "/sys/fs/resctrl"
RESCTRL = Surroundings(
    numa=(0, 1),
    caches=((0, 0), (8, 1)),
    names={
        MON: ("batch", "info", "mon_data", "mon_groups"),
        f"{MON}/mon_data": ("mon_L3_00", "mon_L3_01"),
        f"{MON}/batch/mon_data": ("mon_L3_00", "mon_L3_01"),
        f"{MON}/mon_groups": ("pod1_2",),
        f"{MON}/mon_groups/pod1_2/mon_data": ("mon_L3_00", "mon_L3_01"),
    },
)


def traffic(root: tuple[object, object], batch: tuple[int, int]) -> Values:
    ids = ("0\n", "1\n")
    lines = [f"{number}\n" for pair in (root, batch) for bytes in pair for number in (bytes, 100)]
    return parsed("node_bandwidth", *ids, *lines, around=RESCTRL)


def test_traffic_of_all_control_groups_is_told_of_the_node_the_cache_lies_in() -> None:
    found = fields("node_bandwidth", traffic((0, 0), (0, 0)), traffic((1000, 10), (3000, 20)), 2.0)
    assert found == {"numa.bandwidth": {0: 2000.0, 1: 15.0}, "numa.cache": {0: 200, 1: 200}}
    with pytest.raises(ValueError, match="Unavailable"):
        traffic(("Unavailable", 0), (0, 0))


def test_a_cache_without_a_number_makes_its_node_unknown_and_no_other() -> None:
    first, last = list(traffic((0, 0), (0, 0))), list(traffic((1000, 10), (3000, 20)))
    last[2] = None
    assert fields("node_bandwidth", first, last)["numa.bandwidth"] == {0: None, 1: 30.0}


def test_a_monitoring_group_named_after_a_pod_is_the_pods() -> None:
    first, last = (parsed("pod_bandwidth", f"{n}\n", "7\n", f"{n}\n", "8\n", around=RESCTRL) for n in (0, 500))
    assert fields("pod_bandwidth", first, last) == {"pod.bandwidth": {"1-2": 1000.0}, "pod.cache": {"1-2": 15}}


@pytest.mark.parametrize(
    ("before", "now", "wrap", "most", "grown"),
    [
        (5, 9, 0, 0, 4),
        (9, 5, 0, 0, None),
        (9, 5, 10, 6, 6),
        (9, 5, 10, 5, None),
        (11, 5, 10, 99, None),
        (None, 5, 0, 0, None),
        (5, None, 0, 0, None),
    ],
)
def test_a_counter_grew_wrapped_or_was_reset(
    before: int | None, now: int | None, wrap: int, most: float, grown: int | None
) -> None:
    assert growth(before, now, wrap=wrap, most=most) == grown


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("node_cpu", "intr 5\n"),
        ("node_cpu", "cpu0 1 2\n"),
        ("node_cpu", "cpu0 -1 0 0 0 0 0 0 0\n"),
        ("node_run_delay", "version 15\ntimestamp 5\n"),
        ("node_reclaim", ""),
        ("node_watermarks", "Node 0, zone DMA\n  pages free 5\n"),
        ("node_watermarks", "Node 0, zone DMA\n  pages free -5\n min 1\n low 1\n high 1\n managed 1\n"),
        ("node_disks", "8 0 sda 1 2\n"),
        ("node_links", "no link at all\n"),
        ("container_io", "8:0 rbytes=5\n"),
        ("container_io", "8:0 rbytes=-5 wbytes=0\n"),
        ("container_oom", "oom 5\n"),
        ("node_memory", "MemTotal: 5 kB\n"),
        ("node_memory", "MemAvailable: many kB\n"),
        ("node_pressure", "some avg10=nan avg60=0 avg300=0 total=0\n"),
        ("node_pressure", "some avg10=100.5 avg60=0 avg300=0 total=0\n"),
        ("node_pressure", ""),
        ("container_cpu", "user_usec 5\n"),
        ("container_cpu", "usage_usec -5\n"),
        ("container_memory", "max\n"),
        ("container_memory", "9" * 30),
        ("container_cpuset", "3-1\n"),
        ("container_cpuset", "0-99999999\n"),
    ],
)
def test_text_no_kernel_writes_is_refused(name: str, text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        parsed(name, text)


def test_every_collector_says_its_source_and_its_units() -> None:
    for name in COLLECTORS:
        module = __import__(f"neap.reporter.plugins.{name}", fromlist=["PLUGIN"])
        assert "Source:" in module.__doc__
        assert any(unit in module.__doc__.lower() for unit in ("[cores]", "[bytes", "[watts", "0..1", "no unit"))
