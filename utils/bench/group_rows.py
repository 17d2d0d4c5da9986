"""The rows of `group`: each starts its groups, measures, and yields lines of the table."""
import math
import statistics
import subprocess
import time

from group_servers import CordisGroup, EtcdGroup
from measure import Line, parse_report
from rows import KEYS, redis, running
from servers import REDIS_MEMORY, Resp

LOAD_CLIENTS = 50
ELECTION_MS = 1000  # the default of election-timeout
FAILOVERS = 20
MISSED_WRITES = 100_000
LEASES = 10_000
LEASE_MS = 8000  # long enough to grant all and to renew all at its end
LEASE_IDS_A_COMMAND = 1000
LEASE_SECONDS_MAX = 20
RETURN_SECONDS = 5  # so long a follower may take to catch up
# On the machine where the goals were set; used, and said, only where etcd is not installed.
ETCD_REFERENCE = {"put": {1: 1060, 50: 5900, 500: 12_000}, "get": {1: 2100, 50: 11_000, 500: 17_000},
                  "txn100": 31_000, "keepalive": 10_000, "p99_us": 14_000, "cpu_us": 229}
REFERENCE_NOTE = "etcd is not here: reference figure"


def groups(bench):
    """Ours, and etcd's where it is installed."""
    return [CordisGroup(bench)] + ([EtcdGroup(bench)] if bench.etcdload_program else [])


def fill(bench, both):
    bench.fill(both[0], KEYS)
    for group in both[1:]:
        group.fill(KEYS)


def etcd_sampler(bench, group, operation, clients, before=None, spread=False):
    """A report. As many connections as clients, as with ours, but at most 100: beyond that etcd
    is slower."""
    def sample():
        if before:
            before(group)
        return bench.etcd_load(group, group.endpoints() if spread else group.endpoint,
                               op=operation, conns=min(clients, 100), clients=clients,
                               seconds=bench.seconds)
    return sample


def settled(both, sampler):
    """Nobody is to suffer from what the other one still does behind its answers."""
    def sample():
        for group in both:
            group.settle()
        return sampler()
    return sample


def beside(bench, both, ours, operation, clients, before=None, spread=False):
    """Medians of our report and etcd's; the latter is None where there is no etcd."""
    samplers = [settled(both, ours)]
    samplers += [settled(both, etcd_sampler(bench, group, operation, clients, before, spread))
                 for group in both[1:]]
    medians = bench.interleave(*samplers)
    return medians[0], medians[1] if len(medians) > 1 else None


def note(theirs, text=""):
    return text if theirs else REFERENCE_NOTE


def row_set(bench):
    with running(*groups(bench)) as both:
        fill(bench, both)
        for clients, must, goal in ((1, 2.0, 2.8), (50, 5, 7.5), (500, 4.5, 7)):
            ours, theirs = beside(bench, both,
                                  bench.report_sampler("set", both[0], clients=clients), "put",
                                  clients)
            peer = theirs["rate"] if theirs else ETCD_REFERENCE["put"][clients]
            yield Line(f"SET, {clients} clients (etcd put)", ours["rate"], must, goal, peer,
                       note=note(theirs))
            if clients == 50:
                yield from set_details(ours, theirs)


def set_details(ours, theirs):
    """Of the same samples: tail and CPU."""
    peer = theirs["p99_us"] if theirs else ETCD_REFERENCE["p99_us"]
    yield Line("SET, 50 clients, p99 (etcd put)", ours["p99_us"] / 1e3, 0.25, 0.1, peer / 1e3,
               unit="ms", most=True, note=note(theirs))
    peer = theirs["nodes_us"] if theirs else ETCD_REFERENCE["cpu_us"]
    yield Line("CPU of all nodes a SET, 50 clients", ours["nodes_us"], 60, 35, peer, unit="us",
               most=True, absolute=True, note=note(theirs))


def row_setpipe(bench):
    with running(*groups(bench)) as both:
        fill(bench, both)
        ours, theirs = beside(bench, both,
                              bench.report_sampler("set", both[0], clients=50, pipeline=16),
                              "txn100", 50)
        peer = theirs["rate"] if theirs else ETCD_REFERENCE["txn100"]
        yield Line("SET, 50 x 16 (etcd puts, 100 a txn)", ours["rate"], 5, 7.5, peer,
                   note=note(theirs))


def row_get(bench):
    with running(*groups(bench)) as both:
        fill(bench, both)
        for clients, must, goal in ((1, 3.5, 4.5), (50, 7, 9.5), (500, 4.5, 6)):
            ours, theirs = beside(bench, both,
                                  bench.report_sampler("get", both[0], clients=clients), "get",
                                  clients, before=EtcdGroup.cure)
            peer = theirs["rate"] if theirs else ETCD_REFERENCE["get"][clients]
            yield Line(f"GET, {clients} clients (etcd get)", ours["rate"], must, goal, peer,
                       note=note(theirs, "etcd at its best: after a commit that wrote no key"))
        if len(both) > 1:
            ours, theirs = beside(bench, both, bench.report_sampler("get", both[0], clients=50),
                                  "get", 50, before=write_burst)
            yield Line("GET, 50 clients (etcd get, see below)", ours["rate"], None, None,
                       theirs["rate"], note="etcd as a burst of writes of keys leaves it")


def write_burst(group):
    group.tool("put", group.endpoint, "-conns", "50", "-clients", "50", "-seconds", "0.5")


def row_getpipe(bench):
    """Linearizable reads of a group beside one server that promises nothing."""
    with running(CordisGroup(bench), redis(bench, REDIS_MEMORY)) as servers:
        for server in servers:
            bench.fill(server, KEYS)
        ours, peer = bench.interleave(
            *(bench.rate_sampler("get", server, clients=50, pipeline=16) for server in servers))
        yield Line("GET, 50 x 16 (one redis without AOF)", ours, 1.0, 1.5, peer)


def row_keepalive(bench):
    """Of clients with a list of the members, a third is at each, and so it is with etcd: there the
    10,000 a second of the must are found. Those who all find the leader are a row of their own."""
    with running(*groups(bench)) as both:
        for where, spread, must, goal in (("over three nodes", True, 3.5, 5),
                                          ("at the leader", False, None, None)):
            sampler = bench.report_sampler("keepalive", both[0], clients=LOAD_CLIENTS, spread=spread)
            ours, theirs = beside(bench, both, sampler, "keepalive", LOAD_CLIENTS, spread=spread)
            peer = theirs["rate"] if theirs else ETCD_REFERENCE["keepalive"] if spread else None
            yield Line(f"keepalive, {LOAD_CLIENTS} clients {where} (etcd)", ours["rate"], must, goal,
                       peer, note=note(theirs) if peer else "")
        commands, = bench.interleave(
            bench.rate_sampler("keepalive", both[0], clients=50, ids=64))
        yield Line("keepalive ids, 64 a command", commands * 64, 300_000, 600_000)


def row_follower(bench):
    clients = 3 * LOAD_CLIENTS
    with running(CordisGroup(bench)) as (group,):
        bench.fill(group, KEYS)
        for pipeline in (1, 16):
            spread, led = bench.interleave(
                bench.rate_sampler("get", group, clients=clients, pipeline=pipeline, spread=True),
                bench.rate_sampler("get", group, clients=clients, pipeline=pipeline))
            yield Line(f"GET, {clients} x {pipeline} over three nodes (leader)", spread, None, None,
                       led)


def percentile(samples, share):
    return sorted(samples)[math.ceil(share * len(samples)) - 1]


def row_failover(bench):
    """The longest time without any successful write, over all clients, when the leader is killed."""
    runs = 5 if bench.quick else FAILOVERS
    gaps = []
    with running(CordisGroup(bench)) as (group,):
        for _ in range(runs):
            gaps.append(failover_ms(bench, group))
    yield Line(f"writes again after kill -9, p95 of {runs}", percentile(gaps, 0.95),
               1.5 * ELECTION_MS, None, unit="ms", most=True,
               note=f"median {statistics.median(gaps):.0f} ms, worst {max(gaps):.0f} ms; "
                    f"{LOAD_CLIENTS} clients over three nodes, election-timeout {ELECTION_MS} ms")


def failover_ms(bench, group):
    leader = group.leader()
    with bench.held("writers", group, spread=True, clients=LOAD_CLIENTS) as outcome:
        time.sleep(1)
        leader.kill()
        group.leader()
        time.sleep(1)
    bench.noisy = False  # the killed node's CPU is in nobody's account
    group.start_node(leader)
    group.catch_up(leader)
    return outcome[0]["gap_us"] / 1e3


def row_transfer(bench):
    waits = []
    with running(CordisGroup(bench)) as (group,):
        for _ in range(2 * bench.rounds):
            before = group.leader()
            target = group.followers()[0]
            with bench.held("writers", group, spread=True, clients=LOAD_CLIENTS) as outcome:
                time.sleep(1)
                before.call("MEMBER", "TRANSFER", group.status(target)["id"])
                time.sleep(1)
            if group.leader() is not target:
                raise RuntimeError(f"MEMBER TRANSFER to {target.name}: another one leads")
            waits.append(outcome[0]["max_us"] / 1e3)
    yield Line(f"longest wait of a write, {len(waits)} transfers", max(waits), 100, None, unit="ms",
               most=True, note=f"median {statistics.median(waits):.1f} ms; {LOAD_CLIENTS} clients")


def leases_prepare(connection):
    """Grants leases with a key each, so that all end at once; returns when that will be."""
    grants = connection.pipeline(("LEASE", "GRANT", "PX", LEASE_MS) for _ in range(LEASES))
    ids = [reply[reply.index("id") + 1] for reply in grants]
    connection.pipeline(("SET", f"lease:{i}", "x", "LEASE", i) for i in ids)
    connection.pipeline(("LEASE", "KEEPALIVE", *ids[at:at + LEASE_IDS_A_COMMAND])
                        for at in range(0, LEASES, LEASE_IDS_A_COMMAND))
    return time.monotonic() + LEASE_MS / 1e3


def keys_left(connection):
    reply = connection.call("KV", "RANGE", "lease:", "PREFIX", "COUNTONLY")
    return reply[reply.index("count") + 1]


def row_leases(bench):
    gone, tails = [], []
    with running(CordisGroup(bench)) as (group,):
        bench.fill(group, KEYS)
        for _ in range(bench.rounds):
            seconds, p99_us = leases_expire(bench, group)
            gone.append(seconds)
            tails.append(p99_us / 1e3)
    yield Line(f"{LEASES} leases end at once: all gone", statistics.median(gone), 1.2, None,
               unit="s", most=True, note=f"worst of {len(gone)} rounds {max(gone):.2f} s")
    yield Line("SET p99 meanwhile, 50 clients", statistics.median(tails), 20, None, unit="ms",
               most=True, note=f"worst of {len(tails)} rounds {max(tails):.1f} ms")


def leases_expire(bench, group):
    """Returns the seconds from their end until the last key is gone, and the p99 around it."""
    with Resp(group.leader().port) as connection:
        end = leases_prepare(connection)
        if keys_left(connection) != LEASES:
            raise RuntimeError("leases ended before their time")
        time.sleep(max(0, end - 0.2 - time.monotonic()))
        process = load_begin(bench, group, 1.5)
        try:
            while keys_left(connection) > 0:
                if time.monotonic() > end + LEASE_SECONDS_MAX:
                    raise RuntimeError(f"{keys_left(connection)} keys of ended leases are left")
                time.sleep(0.02)
            seconds = time.monotonic() - end
            return seconds, load_end(process)["p99_us"]
        finally:
            process.kill()


def load_begin(bench, group, seconds):
    return subprocess.Popen(
        bench.load_arguments("set", group, clients=LOAD_CLIENTS, seconds=seconds),
        stdout=subprocess.PIPE, text=True)


def load_end(process):
    text = process.communicate(timeout=60)[0]
    if process.returncode != 0:
        raise RuntimeError("the load failed")
    return parse_report(text)


def row_return(bench):
    seconds, ratios, ratios_without, tails = [], [], [], []
    with running(CordisGroup(bench)) as (group,):
        bench.fill(group, KEYS)
        for _ in range(bench.rounds):
            took, usual, without, during = follower_returns(bench, group)
            seconds.append(took)
            ratios.append(during / usual)
            ratios_without.append(during / without)
            tails.append(during / 1e3)
    yield Line(f"return after {MISSED_WRITES} writes: caught up", statistics.median(seconds),
               RETURN_SECONDS, None, unit="s", most=True,
               note=f"worst of {len(seconds)} rounds {max(seconds):.2f} s; with its start")
    yield Line("SET p99 meanwhile, times the usual", statistics.median(ratios), 2, None, unit="x",
               most=True,
               note=f"p99 {statistics.median(tails):.1f} ms in the {RETURN_SECONDS} s from its start "
                    f"on, {statistics.median(ratios_without):.2f} times that without it")


def follower_returns(bench, group):
    """Returns the seconds until it has caught up, and the p99 of SETs: usually, without it, and in
    the time that it may take to catch up, from the start of its process on."""
    group.settle()
    usual = bench.load("set", group, clients=LOAD_CLIENTS, seconds=RETURN_SECONDS)["p99_us"]
    node = group.followers()[0]
    node.stop(keep=True)
    without = bench.load("set", group, clients=LOAD_CLIENTS, total=MISSED_WRITES)["p99_us"]
    group.settle()
    process = load_begin(bench, group, RETURN_SECONDS)
    try:
        began = group.start_node(node)
        group.catch_up(node)
        took = time.monotonic() - began
        return took, usual, without, load_end(process)["p99_us"]
    finally:
        process.kill()


ROWS = {
    "set": row_set,
    "setpipe": row_setpipe,
    "get": row_get,
    "getpipe": row_getpipe,
    "keepalive": row_keepalive,
    "follower": row_follower,
    "failover": row_failover,
    "transfer": row_transfer,
    "leases": row_leases,
    "return": row_return,
}
