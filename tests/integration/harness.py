"""What the integration tests share: a small RESP client, a server as a process, its directory.

    CORDIS_SERVER   the server's binary             (bin/cordis-server)
    CORDIS_SOAK=1   the long form of every loop

Nothing here waits without a bound, and every process is ended by its own id.
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVER = str(pathlib.Path(os.environ.get("CORDIS_SERVER", ROOT / "bin" / "cordis-server")).resolve())
SOAK = os.environ.get("CORDIS_SOAK", "") not in ("", "0")
SEED = int(os.environ.get("CORDIS_TEST_SEED", "1"))
STEP_S_MAX = 30   # no single step takes longer, or it is broken
LINE = re.compile(rb"ready port=(\d+)")


def rounds(short, long):
    return long if SOAK else short


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what, seconds_max=STEP_S_MAX):
    """Asks again and again until the answer is not false, and returns it."""
    end = time.monotonic() + seconds_max
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds_max} s for {what}")
        time.sleep(0.005)


# --- RESP ----------------------------------------------------------------------------------


class Error(str):
    """An error reply, without its '-'."""


class Status(str):
    """A simple string."""


class Push(list):
    """A push frame of RESP3."""


class Closed(Exception):
    """The server has closed the connection."""


def encode(*args):
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        if isinstance(arg, int):
            arg = b"%d" % arg
        elif isinstance(arg, str):
            arg = arg.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(arg), arg))
    return b"".join(parts)


def as_map(value):
    """A map of RESP2 or RESP3, its keys as text."""
    if isinstance(value, dict):
        return {key.decode(): value[key] for key in value}
    assert isinstance(value, list) and len(value) % 2 == 0, value
    return {value[i].decode(): value[i + 1] for i in range(0, len(value), 2)}


class Client:
    """One connection. Error replies are returned, not raised."""

    def __init__(self, to, timeout=STEP_S_MAX, local=None, receive_bytes=None):
        self.sock = socket.socket(socket.AF_UNIX if isinstance(to, str) else socket.AF_INET)
        if receive_bytes is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.settimeout(timeout)
        if local is not None:
            self.sock.bind((local, 0))
        self.sock.connect(to if isinstance(to, (str, tuple)) else ("127.0.0.1", to))
        if self.sock.family == socket.AF_INET:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.held = bytearray()
        self.at = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def raw(self, data):
        self.sock.sendall(data)

    def send(self, *args):
        self.raw(encode(*args))

    def cmd(self, *args):
        self.send(*args)
        return self.read()

    def pipeline(self, commands):
        """Sends all, then reads all: replies in order."""
        self.raw(b"".join(encode(*command) for command in commands))
        return [self.read() for _ in commands]

    def _more(self):
        if self.at > 65536:
            del self.held[:self.at]
            self.at = 0
        try:
            got = self.sock.recv(262144)
        except (ConnectionResetError, BrokenPipeError):
            got = b""
        if not got:
            raise Closed
        self.held += got

    def _line(self):
        while True:
            end = self.held.find(b"\r\n", self.at)
            if end >= 0:
                line = bytes(self.held[self.at:end])
                self.at = end + 2
                return line
            self._more()

    def _bytes(self, count):
        while len(self.held) - self.at < count + 2:
            self._more()
        body = bytes(self.held[self.at:self.at + count])
        assert self.held[self.at + count:self.at + count + 2] == b"\r\n"
        self.at += count + 2
        return body

    def read(self):
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return Status(rest.decode())
        if kind == b"-":
            return Error(rest.decode(errors="backslashreplace"))
        if kind == b":":
            return int(rest)
        if kind == b"_":
            return None
        if kind in b"$=":
            if rest == b"-1":
                return None
            body = self._bytes(int(rest))
            return body[4:] if kind == b"=" else body
        if kind in b"*~>":
            if rest == b"-1":
                return None
            items = [self.read() for _ in range(int(rest))]
            return Push(items) if kind == b">" else items
        if kind == b"%":
            return {self.read(): self.read() for _ in range(int(rest))}
        raise AssertionError(f"not RESP: {line!r}")

    def read_all(self):
        """Everything until the server closes, as bytes."""
        while True:
            try:
                self._more()
            except Closed:
                rest = bytes(self.held[self.at:])
                self.at = len(self.held)
                return rest


def no_events(text):
    """The lines of a server's output that are no log events."""
    return [line for line in text.splitlines() if not re.match(r"\d{4}-\d\d-\d\dT", line)]


# --- the server --------------------------------------------------------------------------------


class Server:
    """A cordis-server with a directory that outlives its process."""

    def __init__(self, directory, options, log=None, env=None):
        self.dir = pathlib.Path(directory)
        self.log = pathlib.Path(log or f"{self.dir}.log")  # not in the directory
        self.options = options
        self.env = env or {}
        self.process = None
        self.port = None
        self.log_begin = 0

    def command(self):
        words = [SERVER, "--dir", str(self.dir)]
        for name, value in self.options.items():
            words += [f"--{name}", str(value)]
        return words

    def launch(self, **env):
        """Starts the process and does not wait for it."""
        assert self.process is None, "still running"
        self.log_begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=out, env={**os.environ, **self.env, **env})
        return self

    def said(self):
        """What this process wrote."""
        with self.log.open("rb") as text:
            text.seek(self.log_begin)
            return text.read()

    def text(self):
        return self.said().decode(errors="backslashreplace")

    def lines(self):
        """Its lines that are no log events: what it ended with."""
        return no_events(self.text())

    def started(self, seconds_max=STEP_S_MAX):
        """Waits: True when it serves, False when it has ended instead."""
        def look():
            ended = self.process.poll() is not None
            ready = LINE.search(self.said())
            if ready:
                self.port = int(ready.group(1))
                return "ready"
            return "ended" if ended else None
        return wait_until(look, "the server to start", seconds_max) == "ready"

    def start(self, **env):
        self.launch(**env)
        if not self.started():
            raise AssertionError(f"exit code {self.process.wait()}:\n{self.text()}")
        return self

    def client(self, **more):
        return Client(self.port, **more)

    def wait(self, seconds_max=STEP_S_MAX):
        """Until it has ended by itself: its exit code."""
        code = self.process.wait(timeout=seconds_max)
        self.process = None
        return code

    def signal(self, number, seconds_max=STEP_S_MAX):
        self.process.send_signal(number)
        return self.wait(seconds_max)

    def kill(self):
        """kill -9, also of one that is gone already."""
        if self.process is None:
            return None
        self.process.kill()
        return self.wait()

    def stop(self):
        code = self.signal(signal.SIGTERM)
        assert code == 0, f"exit code {code} after SIGTERM:\n{self.text()}"


class TestCase(unittest.TestCase):
    """A temporary directory and servers in it, all gone afterwards."""

    def setUp(self):
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="cordis-"))
        self.addCleanup(shutil.rmtree, self.scratch, ignore_errors=True)

    def server(self, name="data", env=None, **options):
        """Underscores in option names stand for dashes."""
        options = {"port": 0, "peer-port": 0, "bind": "127.0.0.1",
                   **{key.replace("_", "-"): value for key, value in options.items()}}
        server = Server(self.scratch / name, options, self.scratch / f"{name.replace('/', '-')}.log", env)
        self.addCleanup(server.kill)
        return server

    def run_server(self, *args, seconds_max=STEP_S_MAX, cwd=None):
        """For a server that ends by itself: exit code, standard output, standard error."""
        done = subprocess.run([SERVER, *map(str, args)], stdin=subprocess.DEVNULL, cwd=cwd,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds_max,
                              check=False)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def assert_closed(self, client):
        self.assertEqual(client.read_all(), b"")


# --- the shim ----------------------------------------------------------------------------------


def build_shim(directory):
    """The preloaded library of shim.c; None where there is no compiler."""
    if shutil.which("cc") is None:
        return None
    path = pathlib.Path(directory) / "shim.so"
    source = pathlib.Path(__file__).with_name("shim.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(path), str(source)], check=True,
                   timeout=STEP_S_MAX * 2)
    return path


def shim_env(shim, under, kind, calls, at=0, note="", delay_us=0):
    asan = os.environ.get("ASAN_OPTIONS", "")
    return {"LD_PRELOAD": str(shim), "SHIM_UNDER": str(under), "SHIM_KIND": kind, "SHIM_AT": str(at),
            "SHIM_CALLS": f" {calls} ", "SHIM_NOTE": str(note), "SHIM_US": str(delay_us),
            "ASAN_OPTIONS": f"{asan}:verify_asan_link_order=0".lstrip(":")}
