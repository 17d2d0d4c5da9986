"""The rows: each prepares its servers, measures, and yields lines of the table."""
import contextlib
import os
import shutil
import statistics
import time

from measure import Line
from servers import (Etcd, REDIS_ALWAYS, REDIS_LOGGED, REDIS_MEMORY, Server, cordis_command,
                     etcd_command, redis_command, tree_bytes)

KEYS = 100_000
MILLION = 1_000_000
HOT_KEYS = 10_000
MB = 1e6
ALLOCATOR_DECAY_SECONDS = 12  # freed pages go back to the system within ten
COMPACT_SECONDS_MAX = 60
DISK_GOAL_MB = 20
# On the machine where the goals were set; used, and said, only where etcd is not installed.
ETCD_WATCH_REFERENCE = {10: 307_000, 100: 136_000}
ETCD_KEEPALIVE_REFERENCE = 20_000


@contextlib.contextmanager
def running(*servers):
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.stop()


def cordis(bench):
    return Server("cordis", bench.path("cordis"), cordis_command(bench.cordis_program))


def redis(bench, options):
    return Server("redis", bench.path("redis"), redis_command(*options))


def row_set(bench):
    with running(cordis(bench), redis(bench, REDIS_ALWAYS)) as servers:
        for server in servers:
            bench.fill(server, KEYS)
        for clients, must, goal in ((1, 1.0, 1.25), (50, 1.1, 1.35), (500, 1.15, 1.5)):
            ours, peer = bench.interleave(
                *(bench.rate_sampler("set", server, clients=clients) for server in servers))
            yield Line(f"SET, {clients} clients (redis always)", ours, must, goal, peer)


def row_setpipe(bench):
    seconds = 3 if bench.quick else 10
    with running(cordis(bench), redis(bench, REDIS_ALWAYS)) as servers:
        for server in servers:
            bench.fill(server, KEYS)
        ours, peer = bench.interleave(
            *(bench.rate_sampler("set", server, seconds=seconds, clients=50, pipeline=16)
              for server in servers))
        yield Line(f"SET, 50 x 16, {seconds} s (redis always)", ours, 1.2, 1.6, peer)


def row_get(bench):
    with running(cordis(bench), redis(bench, REDIS_MEMORY)) as servers:
        for server in servers:
            bench.fill(server, KEYS)
        for clients, must, goal in ((1, 1.0, 2.5), (50, 0.95, 1.05), (500, 1.1, 1.35)):
            ours, peer = bench.interleave(
                *(bench.rate_sampler("get", server, clients=clients) for server in servers))
            yield Line(f"GET, {clients} clients", ours, must, goal, peer)
        yield get_pipelined(bench, servers, KEYS, "100k keys", 1.3, 1.8)


def get_pipelined(bench, servers, keys, label, must, goal):
    ours, peer = bench.interleave(
        *(bench.rate_sampler("get", server, clients=50, pipeline=16, keys=keys)
          for server in servers))
    return Line(f"GET, 50 x 16, {label}", ours, must, goal, peer)


def row_cas(bench):
    with running(cordis(bench)) as (server,):
        bench.fill(server, KEYS)
        swaps, sets = bench.interleave(bench.rate_sampler("cas", server, clients=50),
                                       bench.rate_sampler("set", server, clients=50))
        yield Line("compare-and-set, 50 clients (own SET)", swaps, 0.6, 0.8, sets)


def etcd(bench):
    return Etcd("etcd", bench.path("etcd"), etcd_command) if bench.etcdload_program else None


def row_watch(bench):
    servers = [server for server in (cordis(bench), etcd(bench)) if server]
    with running(*servers):
        for conns in (10, 100):
            for writers in (1, 4):
                yield watch_line(bench, servers, conns, writers)


def watch_line(bench, servers, conns, writers):
    def etcd_sample():
        servers[1].settle()
        return bench.etcd_load(servers[1], servers[1].endpoint, op="watch", conns=conns,
                               watchers=1000, putters=writers, seconds=bench.seconds)["rate"]

    samplers = [bench.rate_sampler("watch", servers[0], clients=conns, watchers=1000,
                                   writers=writers)]
    if len(servers) > 1:
        samplers.append(etcd_sample)
    medians = bench.interleave(*samplers)
    peer = medians[1] if len(servers) > 1 else ETCD_WATCH_REFERENCE[conns]
    note = "" if len(servers) > 1 else "etcd is not here: reference figure"
    return Line(f"watch events, 1000 on {conns}, {writers} writing (etcd)", medians[0], 6, 10, peer,
                note=note)


def row_others(bench):
    """The same SET load with and without watchers that it does not concern."""
    with running(cordis(bench)) as (server,):
        bench.fill(server, KEYS)
        alone = bench.rate_sampler("set", server, clients=50)

        def watched():
            with bench.held("hold", server, clients=10, watchers=10_000):
                return alone()
        beside, without = bench.interleave(watched, alone)
        yield Line("SET slowed by 10k other watchers", (1 - beside / without) * 100, 10, 2,
                   unit="%", most=True)


def row_keepalive(bench):
    servers = [server for server in (cordis(bench), etcd(bench)) if server]
    with running(*servers):
        samplers = [bench.rate_sampler("keepalive", servers[0], clients=50)]
        if len(servers) > 1:
            samplers.append(lambda: bench.etcd_load(servers[1], servers[1].endpoint, op="keepalive",
                                                    conns=50, clients=50,
                                                    seconds=bench.seconds)["rate"])
        medians = bench.interleave(*samplers)
        peer = medians[1] if len(servers) > 1 else ETCD_KEEPALIVE_REFERENCE
        note = "" if len(servers) > 1 else "etcd is not here: reference figure"
        yield Line("keepalive, 50 clients (etcd)", medians[0], 2.5, 3.8, peer, note=note)
        commands, = bench.interleave(
            bench.rate_sampler("keepalive", servers[0], clients=50, ids=64))
        yield Line("keepalive ids, 64 a command", commands * 64, 700_000, 1_500_000)


def memory_note(server):
    return f"{server.name} " + " ".join(
        f"{field} {server.memory_kb(field) * 1024 / MB:.0f}"
        for field in ("VmRSS", "VmHWM", "RssAnon", "RssFile")) + " MB"


def row_million(bench):
    """Memory, cold reads and start-up, all of the same million keys."""
    with running(cordis(bench), redis(bench, REDIS_LOGGED)) as servers:
        for server in servers:
            bench.load("set", server, clients=4, pipeline=64, sequential=True, keys=MILLION,
                       total=MILLION)
        time.sleep(10)
        ours, peer = (server.memory_kb() * 1024 / MB for server in servers)
        yield Line("resident, 1M keys x 256 B", ours, 460, 395, peer, unit="MB", most=True,
                   absolute=True, note="; ".join(memory_note(server) for server in servers))
        yield get_pipelined(bench, servers, MILLION, "1M keys", 1.5, 2.3)
        yield start_line(servers, bench.rounds)


def start_line(servers, rounds):
    """Warm: what was written a moment ago is in the page cache."""
    seconds = [[], []]
    for _ in range(rounds):
        for server, samples in zip(servers, seconds):
            server.settle()
            server.stop(keep=True)
            samples.append(server.start(("GET", f"key:{MILLION // 2:012}")))
    ours, peer = (statistics.median(samples) for samples in seconds)
    return Line("start to first GET, 1M keys", ours, 1.2, 0.7, peer, unit="s", most=True,
                absolute=True)


def directory_note(server):
    parts = [f"{entry} {tree_bytes(os.path.join(server.directory, entry)) / MB:.1f}"
             for entry in sorted(os.listdir(server.directory))
             if os.path.isdir(os.path.join(server.directory, entry))]
    return " ".join(parts) + " MB"


def overwrite_million(bench, server):
    """Returns the resident memory afterwards, when the allocator has given back what it will."""
    bench.load("set", server, clients=50, pipeline=16, keys=HOT_KEYS, total=MILLION)
    server.settle()
    time.sleep(ALLOCATOR_DECAY_SECONDS)
    return server.memory_kb()


def compact_and_wait(server):
    """Returns the seconds until the directory is as small as the goal, or the limit."""
    server.call("KV", "COMPACT", server.call("KV", "REVISION"))
    began = time.monotonic()
    while (tree_bytes(server.directory) > DISK_GOAL_MB * MB and
           time.monotonic() - began < COMPACT_SECONDS_MAX):
        time.sleep(1)
    return time.monotonic() - began


def row_overwrites(bench):
    with running(cordis(bench)) as (server,):
        bench.fill(server, HOT_KEYS)
        time.sleep(ALLOCATOR_DECAY_SECONDS)
        before_kb, before_note = server.memory_kb(), memory_note(server)
        after_kb = overwrite_million(bench, server)
        after_note, disk_note = memory_note(server), directory_note(server)
        seconds = compact_and_wait(server)
        yield Line("disk, 1M overwrites and KV COMPACT", tree_bytes(server.directory) / MB, 60,
                   DISK_GOAL_MB, unit="MB", most=True,
                   note=f"before: {disk_note}; after {seconds:.0f} s: {directory_note(server)}")
        again_kb = overwrite_million(bench, server)
        yield Line("memory growth, 1M overwrites", (after_kb / before_kb - 1) * 100, 15, 5,
                   unit="%", most=True,
                   note=f"before: {before_note}; after: {after_note}; "
                        f"a second million: {(again_kb / after_kb - 1) * 100:+.1f} %")


def stall_quiet(bench, server):
    time.sleep(2)


def stall_compact(bench, server):
    server.call("KV", "COMPACT", server.call("KV", "REVISION"))
    time.sleep(5)


def stall_growth(bench, server):
    bench.load("set", server, clients=1, pipeline=64, sequential=True, keys=MILLION, total=MILLION,
               prefix="grow:")


def stall_delete(bench, server):
    deleted = server.call("KV", "DEL", "gone:", "PREFIX")
    if deleted[deleted.index("deleted") + 1] != HOT_KEYS:
        raise RuntimeError(f"KV DEL of {HOT_KEYS} keys answered {deleted}")
    time.sleep(1)


def stall_accept(bench, server):
    with bench.held("connect", server, clients=500):
        time.sleep(0.2)
    time.sleep(0.5)


STALLS = (("a quiet server", stall_quiet), ("KV COMPACT of 500k", stall_compact),
          ("growth to 1M keys", stall_growth), ("KV DEL of 10k keys", stall_delete),
          ("500 accepts at once", stall_accept))


def row_stall(bench):
    longest = {label: [] for label, _ in STALLS}
    disturbed = {label: False for label, _ in STALLS}
    for _ in range(bench.rounds):
        with running(cordis(bench)) as (server,):
            bench.fill(server, HOT_KEYS)
            bench.load("set", server, clients=50, pipeline=16, keys=HOT_KEYS, total=500_000)
            bench.fill(server, HOT_KEYS, prefix="gone:")
            for label, disturb in STALLS:
                server.settle()
                bench.noisy = False
                with bench.held("stall", server) as outcome:
                    disturb(bench, server)
                disturbed[label] |= bench.noisy
                longest[label].append(outcome[0]["max_us"] / 1000)
    for label, samples in longest.items():
        bench.line_noisy = disturbed[label]
        yield Line(f"longest stall, {label}", statistics.median(samples), 20, 5, unit="ms",
                   most=True, note=f"worst of {len(samples)} rounds {max(samples):.1f} ms")


def idle_percent(server, seconds):
    before = server.cpu_seconds()
    time.sleep(seconds)
    return (server.cpu_seconds() - before) / seconds * 100


def row_idle(bench):
    seconds = 5 if bench.quick else 20
    with running(cordis(bench)) as (server,):
        server.settle()
        time.sleep(2)
        yield Line(f"idle, no clients, {seconds} s", idle_percent(server, seconds), 0.5, 0.1,
                   unit="%", most=True)
        before_kb = server.memory_kb()
        with bench.held("connect", server, clients=5000):
            time.sleep(1)
            each = (server.memory_kb() - before_kb) * 1024 / 5000
        yield Line("an idle connection, of 5,000", each, 1024, 400, unit="B", most=True)
        with bench.held("connect", server, clients=1000):
            server.settle()
            yield Line(f"idle, 1,000 connections, {seconds} s", idle_percent(server, seconds), 0.5,
                       0.1, unit="%", most=True)


ROWS = {
    "set": row_set,
    "setpipe": row_setpipe,
    "get": row_get,
    "cas": row_cas,
    "watch": row_watch,
    "others": row_others,
    "keepalive": row_keepalive,
    "million": row_million,
    "overwrites": row_overwrites,
    "stall": row_stall,
    "idle": row_idle,
}


def clean(bench):
    for name in ("cordis", "redis", "etcd"):
        shutil.rmtree(bench.path(name), ignore_errors=True)
