"""The servers that are measured: started on free loopback ports, in directories of their own,
and ended by the process id they were started with."""
import os
import shutil
import signal
import socket
import subprocess
import time

READY_SECONDS_MAX = 120
STOP_SECONDS_MAX = 30
SETTLE_SECONDS_MAX = 10
SETTLE_SLICE_SECONDS = 0.2
SETTLE_CPU_SHARE = 0.03
RETRIED_ERRORS = ("LOADING", "CLUSTERDOWN", "TRYAGAIN")


class ReplyError(RuntimeError):
    """An error reply: the server is there and says no."""


class Resp:
    """One connection, one command at a time: for preparing, never for measuring."""

    def __init__(self, port, timeout=60):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def call(self, *words):
        self.socket.sendall(encode(words))
        return self.reply()

    def pipeline(self, commands):
        """All at once; the replies in order."""
        requests = [encode(command) for command in commands]
        self.socket.sendall(b"".join(requests))
        return [self.reply() for _ in requests]

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, text = line[:1], line[1:-2]
        if kind == b"-":
            raise ReplyError(text.decode())
        if kind == b":":
            return int(text)
        if kind == b"$":
            return None if text == b"-1" else self.file.read(int(text) + 2)[:-2].decode()
        if kind == b"*":
            return None if text == b"-1" else [self.reply() for _ in range(int(text))]
        return text.decode()


def encode(words):
    request = b"*%d\r\n" % len(words)
    for word in words:
        word = str(word).encode()
        request += b"$%d\r\n%s\r\n" % (len(word), word)
    return request


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tree_bytes(path):
    """What the tree takes on disk, as `du` counts it."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names + ["."]:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                pass  # servers delete files while we look
    return total


class Server:
    """One server process. `command(port, directory)` gives its arguments."""

    def __init__(self, name, directory, command):
        self.name = name
        self.directory = directory
        self.command = command
        self.process = None
        self.port = 0
        self.log_path = directory + ".log"
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory, mode=0o700)
        open(self.log_path, "w").close()

    def start(self, first_call=("PING",)):
        """Returns the seconds from the start to the first answer to `first_call`."""
        began = self.launch(free_port())
        return self.wait(began, first_call)

    def launch(self, port):
        self.port = port
        with open(self.log_path, "ab") as log:
            began = time.monotonic()
            self.process = subprocess.Popen(self.command(port, self.directory),
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return began

    def wait(self, began, first_call=("PING",)):
        while True:
            try:
                if self.answers(first_call):
                    return time.monotonic() - began
            except (ConnectionError, socket.timeout):
                pass
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended, see {self.log_path}")
            if time.monotonic() - began > READY_SECONDS_MAX:
                raise RuntimeError(f"{self.name} does not answer, see {self.log_path}")
            time.sleep(0.001)

    def answers(self, first_call):
        try:
            with Resp(self.port, timeout=10) as connection:
                return connection.call(*first_call) is not None
        except ReplyError as error:
            if str(error).startswith(RETRIED_ERRORS):
                return False
            raise

    def stop(self, keep=False):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                print(f"# {self.name} had to be killed: no clean stop in {STOP_SECONDS_MAX} s",
                      flush=True)
        self.process = None
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self):
        """As a power cut would."""
        self.process.kill()
        self.process.wait()
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.port}"

    def address_arguments(self, spread):
        """Of the load client."""
        return ["--port", str(self.port), "--pid", str(self.pid)]

    def call(self, *words):
        with Resp(self.port) as connection:
            return connection.call(*words)

    def memory_kb(self, field="VmRSS"):
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        raise RuntimeError(f"no {field} in /proc/{self.pid}/status")

    def cpu_seconds(self):
        """All threads, to the nanosecond; threads that ended are forgotten."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            try:
                with open(f"/proc/{self.pid}/task/{task}/schedstat") as file:
                    total += int(file.read().split()[0])
            except FileNotFoundError:
                pass
        return total / 1e9

    def settle(self, share=SETTLE_CPU_SHARE):
        """Waits until the server has finished what it does behind the answers, so that it is not
        measured as part of whatever comes next."""
        give_up = time.monotonic() + SETTLE_SECONDS_MAX
        while time.monotonic() < give_up:
            before = self.cpu_seconds()
            time.sleep(SETTLE_SLICE_SECONDS)
            if self.cpu_seconds() - before < share * SETTLE_SLICE_SECONDS:
                return


class Etcd(Server):
    def answers(self, first_call):
        """etcd speaks gRPC; its health page is enough to know that it is there."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            reply = b""
            while chunk := connection.recv(4096):
                reply += chunk
            return b'"true"' in reply


def cordis_command(program):
    def command(port, directory):
        return [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory,
                "--peer-port", str(free_port())]
    return command


def redis_command(*options):
    """Without rewriting of the log: it would only slow Redis down while it is measured."""
    def command(port, directory):
        return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", directory,
                "--save", "", "--auto-aof-rewrite-percentage", "0", *options]
    return command


REDIS_ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
REDIS_LOGGED = ("--appendonly", "yes", "--appendfsync", "everysec")
REDIS_MEMORY = ("--appendonly", "no")


def etcd_command(port, directory):
    peer = f"http://127.0.0.1:{free_port()}"
    client = f"http://127.0.0.1:{port}"
    return ["etcd", "--data-dir", directory, "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
            "--log-level", "error", "--logger", "zap"]
