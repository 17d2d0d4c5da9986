"""Rounds and samples: what is measured beside what, how often, and what a verdict means."""
import contextlib
import os
import resource
import statistics
import subprocess
import time
from dataclasses import dataclass

OTHER_CPU_MAX = 0.20  # of one core, by processes that do not belong to the round, or the host's
CLIENT_CPU_MAX = 95  # per cent of a core: beyond it the load client may be what was measured
LOAD_SECONDS_MAX = 900


@dataclass
class Line:
    """One line of the table. With a peer, must and goal are ratios; without, they are figures in
    `unit`. `most` turns them from "at least" into "at most"."""
    measure: str
    cordis: float
    must: float  # None: only shown
    goal: float  # None: there is none beyond the must
    peer: float = None
    unit: str = "/s"
    most: bool = False
    absolute: bool = False  # judged by its own figure although a peer is shown
    note: str = ""

    @property
    def ratio(self):
        return self.cordis / self.peer if self.peer else None

    @property
    def verdict(self):
        value = self.cordis if self.absolute or self.peer is None else self.ratio
        meets = (lambda limit: value <= limit) if self.most else (lambda limit: value >= limit)
        if self.must is None:
            return "-"
        if self.goal is not None and meets(self.goal):
            return "meets goal"
        return "meets must" if meets(self.must) else "MISSED"


def machine_busy_seconds():
    """CPU seconds of all processes (user, nice, system, irq, softirq), and those that the host gave to
    other machines while this one wanted them (steal)."""
    with open("/proc/stat") as stat:
        fields = [int(field) for field in stat.readline().split()[1:9]]
    return sum(fields[i] for i in (0, 1, 2, 5, 6, 7)) / os.sysconf("SC_CLK_TCK")


def kernel_threads_seconds():
    """CPU seconds of the kernel's own threads: they write what the round wrote."""
    ticks = 0
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        if fields[1] == "2":  # its parent
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def busy_seconds_without(server):
    """Of neither us, the server nor the kernel."""
    return (machine_busy_seconds() - own_seconds() - server.cpu_seconds() -
            kernel_threads_seconds())


def own_seconds():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def parse_report(text):
    return {name: float(value) for name, value in (pair.split("=") for pair in text.split())}


def median(samples):
    if not isinstance(samples[0], dict):
        return statistics.median(samples)
    return {field: statistics.median(sample[field] for sample in samples) for field in samples[0]}


class Bench:
    """The programs, the options and the log of one run."""

    def __init__(self, options, root, folder):
        self.rounds = 3 if options.quick else 5
        if options.rounds is not None:
            self.rounds = options.rounds
        self.seconds = 1.5 if options.quick else 3.0
        self.quick = options.quick
        self.root = root
        self.folder = folder
        self.cordis_program = options.server
        self.load_program = os.path.join(folder, "load")
        self.etcdload_program = None
        self.noisy = False  # the samples of the present round
        self.line_noisy = False  # the present line rests on noisy rounds
        self.client_bound = False  # the present line
        self.other_cpu = 0.0  # in the last sample, of one core
        self.noisy_rounds = 0
        self.all_rounds = 0
        self.log = open(os.path.join(folder, "rounds.txt"), "w")

    def take_mark(self):
        """What a reader should know about the line that was just measured; begins the next one."""
        mark = (" ~" if self.line_noisy else "") + (" client-bound" if self.client_bound else "")
        self.line_noisy = self.client_bound = False
        return mark

    def path(self, name):
        return os.path.join(self.folder, name)

    def load_arguments(self, command, server, spread=False, **options):
        """With `spread` the clients are spread over the nodes of a group."""
        arguments = [self.load_program, command, *server.address_arguments(spread)]
        for name, value in options.items():
            arguments.append("--" + name.replace("_", "-"))
            if value is not True:
                arguments.append(str(value))
        return arguments

    @contextlib.contextmanager
    def watch_machine(self, server):
        """Sets `noisy` if processes that are neither ours nor the server's were busy meanwhile, or
        other machines of the host."""
        began = time.monotonic()
        before = busy_seconds_without(server)
        yield
        others = busy_seconds_without(server) - before
        self.other_cpu = others / (time.monotonic() - began)
        self.noisy = self.noisy or self.other_cpu > OTHER_CPU_MAX

    def timed(self, server, arguments):
        """Runs a load to its end. nodes_us: CPU of all of the server's processes, an operation."""
        before = server.cpu_seconds()
        with self.watch_machine(server):
            done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True, timeout=LOAD_SECONDS_MAX)
        nodes_seconds = server.cpu_seconds() - before
        if done.returncode != 0:
            raise RuntimeError(f"{server.name}: {' '.join(arguments[1:])}: {done.stderr.strip()}")
        result = parse_report(done.stdout)
        result["nodes_us"] = nodes_seconds / result["ops"] * 1e6
        self.write_log(server, arguments[1:], f"{done.stdout.strip()} nodes_us={result['nodes_us']:.2f}")
        if server.name == "cordis" and result["client_cpu"] > CLIENT_CPU_MAX:
            self.client_bound = True
        return result

    def write_log(self, server, arguments, report):
        self.log.write(f"{server.name:8} {' '.join(arguments)}\n"
                       f"{'':8} {report.strip()} other_cpu={self.other_cpu * 100:.0f}\n")
        self.log.flush()

    def load(self, command, server, **options):
        return self.timed(server, self.load_arguments(command, server, **options))

    def etcd_load(self, server, endpoint, **options):
        arguments = [self.etcdload_program, "-endpoint", endpoint]
        for name, value in options.items():
            arguments += ["-" + name.replace("_", "-"), str(value)]
        return self.timed(server, arguments)

    @contextlib.contextmanager
    def held(self, command, server, **options):
        """A load that is there during the block; yields a list that afterwards has its report."""
        arguments = self.load_arguments(command, server, **options)
        with self.watch_machine(server):
            process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       text=True)
            outcome = []
            try:
                if process.stdout.readline() != "ready\n":
                    raise RuntimeError(f"{server.name}: {command} did not start")
                yield outcome
                rest = process.communicate("", timeout=60)[0]
                if process.returncode != 0:
                    raise RuntimeError(f"{server.name}: {command} failed")
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if rest.strip():
            outcome.append(parse_report(rest))
            self.write_log(server, arguments[1:], rest)

    def interleave(self, *samplers):
        """Takes a sample of each in turn, round by round; returns the median of each, field by
        field where a sample is a report.
        A round with much foreign work is repeated, as long as that does not double the time."""
        quiet, noisy = [], []
        limit = self.rounds if self.quick else 2 * self.rounds
        while len(quiet) < self.rounds and len(quiet) + len(noisy) < limit:
            self.noisy = False
            samples = [sampler() for sampler in samplers]
            (noisy if self.noisy else quiet).append(samples)
        kept = quiet if len(quiet) >= self.rounds else quiet + noisy
        self.line_noisy = self.line_noisy or len(quiet) < self.rounds
        self.all_rounds += len(quiet) + len(noisy)
        self.noisy_rounds += len(noisy)
        return [median(column) for column in zip(*kept)]

    def fill(self, server, keys, prefix="key:"):
        self.load("set", server, clients=4, pipeline=64, sequential=True, keys=keys, total=keys,
                  prefix=prefix)
        server.settle()

    def report_sampler(self, command, server, seconds=None, **options):
        def sample():
            server.settle()
            return self.load(command, server, seconds=seconds or self.seconds, **options)
        return sample

    def rate_sampler(self, command, server, seconds=None, **options):
        sample = self.report_sampler(command, server, seconds, **options)
        return lambda: sample()["rate"]
