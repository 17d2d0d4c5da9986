"""What `run` and `group` share: options, building the loads, facts about the machine, the table."""
import argparse
import os
import platform
import resource
import shutil
import subprocess
import sys
import time

from measure import Bench

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FORMAT = "{:<46} {:>11} {:>11} {:>7} {:>7} {:>7}  {}"
LOAD_FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra", "-Wshadow",
              "-Wconversion", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wcast-qual",
              "-Wswitch-enum", "-Wvla", "-Wformat=2", "-Werror"]


def parse_options(rows, description):
    parser = argparse.ArgumentParser(
        description=description, epilog="rows: " + " ".join(rows))
    parser.add_argument("-q", dest="quick", action="store_true", help="3 rounds of 1.5 s")
    parser.add_argument("-n", dest="rounds", type=int, metavar="ROUNDS", help="rounds, 5")
    parser.add_argument("--server", metavar="PROGRAM", help="instead of the release build's")
    parser.add_argument("rows", nargs="*", metavar="row", help="default: all")
    options = parser.parse_args()
    unknown = [row for row in options.rows if row not in rows]
    if unknown:
        parser.error(f"unknown row {unknown[0]}; rows: {' '.join(rows)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("at least one round")
    return options


def build(bench):
    bench_folder = os.path.join(ROOT, "utils", "bench")
    sources = [os.path.join(bench_folder, name) for name in sorted(os.listdir(bench_folder))
               if name.endswith(".c")]
    subprocess.run([os.environ.get("CC", "cc"), *LOAD_FLAGS, *sources, "-o", bench.load_program],
                   check=True)
    if bench.cordis_program is None:
        subprocess.run(["make", "--no-print-directory", "-C", ROOT, "BUILD=release", "bins"],
                       check=True, stdout=sys.stderr)
        bench.cordis_program = os.path.join(ROOT, "build", "release", "bin", "cordis-server")
    if shutil.which("etcd") and shutil.which("go"):
        build_etcdload(bench, os.path.join(bench_folder, "etcdload", "main.go"))


def build_etcdload(bench, source):
    """With the distribution's packages: nothing is fetched."""
    program = bench.path("etcdload")
    if not os.path.exists(program) or os.path.getmtime(program) < os.path.getmtime(source):
        environment = dict(os.environ, GOPATH="/usr/share/gocode", GO111MODULE="off")
        if subprocess.run(["go", "build", "-o", program, source], env=environment).returncode != 0:
            print("# etcdload does not build: etcd's figures are references")
            return
    bench.etcdload_program = program


def first_line(*command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=10)
        return done.stdout.strip().split("\n")[0]
    except OSError:
        return f"no {command[0]}"


def field_of(path, name):
    with open(path) as file:
        for line in file:
            if line.startswith(name):
                return line.split(":", 1)[1].strip()
    return "unknown"


def print_facts(bench):
    file_system = first_line("stat", "-f", "-c", "%T", bench.folder)
    print(f"# {os.cpu_count()} cores, {field_of('/proc/cpuinfo', 'model name')}, "
          f"{field_of('/proc/meminfo', 'MemTotal')}")
    print(f"# {platform.system()} {platform.release()}, {file_system}, "
          f"load average {os.getloadavg()[0]:.1f}")
    redis_version = " ".join(first_line("redis-server", "--version").split()[:3])
    print(f"# {redis_version}; {first_line('etcd', '--version')}")
    print(f"# {bench.rounds} rounds of {bench.seconds} s, 256 B values, "
          f"medians; ratio = cordis / peer")


def show(value, unit):
    if value is None:
        return "-"
    if unit == "/s" and value >= 10e6:
        return f"{value / 1e6:.1f}M/s"
    if unit == "/s" and value >= 1000:
        return f"{value / 1e3:.1f}k/s"
    digits = 0 if unit in ("B", "/s") else 2
    return f"{value:.{digits}f} {unit}" if unit != "/s" else f"{value:.0f}/s"


def limit_text(limit):
    if limit is None:
        return "-"
    return f"{limit / 1e3:g}k" if limit >= 10_000 else f"{limit:g}"


def print_line(line, mark):
    ratio = "-" if line.ratio is None else f"{line.ratio:.2f}"
    print(FORMAT.format(line.measure, show(line.cordis, line.unit), show(line.peer, line.unit),
                        ratio, limit_text(line.must), limit_text(line.goal),
                        line.verdict + mark))
    if line.note:
        print(f"    {line.note}")
    sys.stdout.flush()


def run_rows(bench, rows, names):
    """Returns how many lines missed their must; a row that fails is one of them."""
    missed = 0
    for name in names:
        try:
            for line in rows[name](bench):
                print_line(line, bench.take_mark())
                missed += line.verdict == "MISSED"
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            print(f"{name}: FAILED: {error}", flush=True)
            missed += 1
    return missed


def run(rows, description, clean):
    """All of a benchmark; its exit code."""
    options = parse_options(rows, description)
    folder = os.path.join(ROOT, "build", "bench")
    os.makedirs(folder, exist_ok=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    bench = Bench(options, ROOT, folder)
    build(bench)
    began = time.monotonic()
    print_facts(bench)
    print(FORMAT.format("measure", "cordis", "peer", "ratio", "must", "goal", "verdict"),
          flush=True)
    try:
        missed = run_rows(bench, rows, options.rows or list(rows))
    finally:
        clean(bench)
    print(f"# {time.monotonic() - began:.0f} s; {bench.noisy_rounds} of {bench.all_rounds} rounds "
          f"had other work on the machine (lines marked ~); {missed} missed")
    return 1 if missed else 0
