#!/usr/bin/env python3
"""The `cordis` tool, as a process: against a scripted server (what no real one does on
demand: dying in mid-answer, silence) and against cordis-server.

    CORDIS_SERVER   the server's binary   (bin/cordis-server)
    CORDIS_CLI      the tool's binary     (bin/cordis)
"""

import base64
import json
import os
import pathlib
import pty
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVER = os.environ.get("CORDIS_SERVER", str(ROOT / "bin" / "cordis-server"))
CLI = os.environ.get("CORDIS_CLI", str(ROOT / "bin" / "cordis"))
SECONDS_MAX = 20  # no single step takes longer, or it is broken


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clean_environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("CORDIS_")}
    env.update(more)
    return env


def run_cli(*args, stdin=b"", env=None):
    return subprocess.run([CLI, *args], input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=SECONDS_MAX,
                          env=env or clean_environment(), check=False)


class Background:
    """A tool that goes on: watch, keep-alive. Ended by its id."""

    def __init__(self, *args, env=None, closed_fd=None):
        close = None if closed_fd is None else lambda: os.close(closed_fd)
        self.process = subprocess.Popen([CLI, *args], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=env or clean_environment(), preexec_fn=close)
        self.timer = threading.Timer(SECONDS_MAX, self.process.kill)
        self.timer.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.timer.cancel()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def lines(self, count):
        return [self.process.stdout.readline().decode().rstrip("\n") for _ in range(count)]

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=SECONDS_MAX)


# --- a scripted server ---------------------------------------------------------------


def encode(value):
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"$%d\r\n%s\r\n" % (len(value), value)
    if isinstance(value, dict):
        value = [x for pair in value.items() for x in pair]
    return b"*%d\r\n" % len(value) + b"".join(encode(x) for x in value)


class Error(str):
    """An error reply."""


class Status(str):
    """A status reply."""


CLOSE = object()  # instead of an answer: the connection ends
SILENCE = object()  # instead of an answer: nothing


class ScriptedServer:
    """Answers the n-th request with the n-th answer; behind the last one: silence."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.arrived = threading.Semaphore(0)
        self.connections = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Woken and joined before anything is closed: else the thread could go on with the
        # number of a descriptor that is somebody else's by then.
        for sock in [self.listener, *self.connections]:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was faster
        self.thread.join(SECONDS_MAX)
        for sock in [self.listener, *self.connections]:
            sock.close()

    def wait_request(self):
        if not self.arrived.acquire(timeout=SECONDS_MAX):
            raise AssertionError("no request came")

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            try:
                self.talk(connection)
            except (OSError, ValueError):
                pass

    def talk(self, connection):
        reader = connection.makefile("rb")
        while True:
            head = reader.readline()
            if not head:
                return
            words = []
            for _ in range(int(head[1:])):
                length = int(reader.readline()[1:])
                words.append(reader.read(length + 2)[:-2].decode())
            self.requests.append(" ".join(words))
            answer = self.answers.pop(0) if self.answers else SILENCE
            self.arrived.release()
            if answer is CLOSE:
                connection.shutdown(socket.SHUT_RDWR)
                return
            if answer is SILENCE:
                continue
            if isinstance(answer, Error):
                connection.sendall(b"-%s\r\n" % answer.encode())
            elif isinstance(answer, Status):
                connection.sendall(b"+%s\r\n" % answer.encode())
            else:
                connection.sendall(encode(answer))


def kv(key, value, mod=5, **more):
    return {"key": key, "value": value, "type": "string", "create": 2, "mod": mod, "version": 3,
            "lease": 0, **more}


def put_event(key, value, rev):
    return {"op": "put", "key": key, "value": value, "rev": rev, "create": 2, "version": 3,
            "lease": 0}


FULL = "ERR max number of clients reached"
RANGE = {"revision": 9, "count": 1, "more": 0, "kvs": [kv("k", "v")]}


class ScriptedTests(unittest.TestCase):
    def test_nobody_listens(self):
        endpoint = "127.0.0.1:%d" % free_port()
        result = run_cli("get", "k", "--endpoints", endpoint)
        self.assertEqual(result.returncode, 3)
        self.assertIn(endpoint, result.stderr.decode())
        self.assertIn("CORDIS_ENDPOINTS", result.stderr.decode())

    def test_next_endpoint_when_one_is_down(self):
        with ScriptedServer(RANGE) as server:
            down = "127.0.0.1:%d" % free_port()
            env = clean_environment(CORDIS_ENDPOINTS=f"{down},{server.endpoint}")
            result = run_cli("get", "k", env=env)
        self.assertEqual((result.returncode, result.stdout), (0, b"k\nv\n"))

    def test_read_goes_to_the_next_server_after_a_lost_connection(self):
        with ScriptedServer(CLOSE) as first, ScriptedServer(RANGE) as second:
            result = run_cli("get", "k", "--endpoints", f"{first.endpoint},{second.endpoint}")
            self.assertEqual(first.requests, ["KV RANGE k"])
        self.assertEqual((result.returncode, result.stdout), (0, b"k\nv\n"))

    def test_write_is_not_sent_twice(self):
        with ScriptedServer(CLOSE) as first, ScriptedServer() as second:
            result = run_cli("put", "k", "v", "--endpoints", f"{first.endpoint},{second.endpoint}")
            self.assertEqual(first.requests, ["KV PUT k v"])
            self.assertEqual(second.requests, [])
        self.assertEqual(result.returncode, 4)
        self.assertIn("outcome unknown", result.stderr.decode())

    def test_write_that_was_refused_undone_goes_to_the_next_server(self):
        with ScriptedServer(Error("CLUSTERDOWN no leader")) as first, \
                ScriptedServer({"revision": 9, "applied": 1}) as second:
            result = run_cli("put", "k", "v", "--endpoints", f"{first.endpoint},{second.endpoint}")
            self.assertEqual(second.requests, ["KV PUT k v"])
        self.assertEqual((result.returncode, result.stdout), (0, b"OK\n"))

    def test_silence_ends_after_the_timeout(self):
        with ScriptedServer() as server:
            result = run_cli("get", "k", "--endpoints", server.endpoint, "--command-timeout",
                             "100ms")
        self.assertEqual(result.returncode, 4)
        self.assertIn("no answer in time", result.stderr.decode())

    def test_login_and_database_come_first(self):
        with ScriptedServer(Status("OK"), Status("OK"), RANGE) as server:
            env = clean_environment(CORDIS_PASSWORD="pw")
            result = run_cli("get", "k", "--endpoints", server.endpoint, "--user", "me", "--db",
                             "3", env=env)
            self.assertEqual(server.requests, ["AUTH me pw", "SELECT 3", "KV RANGE k"])
        self.assertEqual(result.returncode, 0)

    def test_login_refused(self):
        with ScriptedServer(Error("WRONGPASS invalid username-password pair")) as server:
            result = run_cli("get", "k", "--endpoints", server.endpoint, "--password", "pw")
            self.assertEqual(server.requests, ["AUTH pw"])
        self.assertEqual(result.returncode, 1)
        self.assertIn("WRONGPASS", result.stderr.decode())

    def test_next_server_when_one_does_not_let_in_yet(self):
        for why in ("LOADING Cordis is waiting for the group: b", FULL):
            for form, setup in ((["--password", "pw"], "AUTH pw"), (["--db", "1"], "SELECT 1")):
                with ScriptedServer(Error(why)) as first, \
                        ScriptedServer(Status("OK"), RANGE) as second:
                    result = run_cli("get", "k", "--endpoints",
                                     f"{first.endpoint},{second.endpoint}", *form)
                    self.assertEqual(first.requests, [setup])
                    self.assertEqual(second.requests, [setup, "KV RANGE k"])
                self.assertEqual((result.returncode, result.stdout), (0, b"k\nv\n"))

    def test_watch_and_keep_alive_pass_by_a_full_server(self):
        with ScriptedServer(9, CLOSE) as first, ScriptedServer(Error(FULL)) as full, \
                ScriptedServer({"events": [put_event("k", "v", 10)], "next": 11}) as third, \
                Background("watch", "k", "--endpoints",
                           f"{first.endpoint},{full.endpoint},{third.endpoint}") as tool:
            self.assertEqual(tool.lines(3), ["PUT", "k", "v"])
            self.assertEqual(len(full.requests), 1)
        with ScriptedServer(Status("PONG"), CLOSE) as first, ScriptedServer(Error(FULL)) as full, \
                ScriptedServer([9_000_000]) as third, \
                Background("lease", "keep-alive", "17", "--endpoints",
                           f"{first.endpoint},{full.endpoint},{third.endpoint}") as tool:
            self.assertEqual(tool.lines(1), ["lease 17 keepalived with TTL(9000)"])
            self.assertEqual(len(full.requests), 1)

    def test_status_of_a_member_that_knows_no_leader(self):
        row = {"id": 8, "cluster": 3, "leader": 8, "term": 2, "revision": 7, "errors": []}
        with ScriptedServer(row) as first, \
                ScriptedServer({**row, "id": 9, "leader": 0, "learner": 1}) as second:
            result = run_cli("status", "--local", "-e", first.endpoint, "-e", second.endpoint)
        self.assertIn("| no leader |", result.stdout.decode())
        self.assertEqual((result.returncode, result.stderr), (1, b""))

    def test_password_is_not_in_the_process_title(self):
        for form in (["--password", "tell-nobody"], ["--password=tell-nobody"],
                     ["--user", "me:tell-nobody"], ["--user=me:tell-nobody"]):
            with ScriptedServer() as server, \
                    Background("watch", "k", "--endpoints", server.endpoint, *form) as tool:
                server.wait_request()
                self.assertIn("tell-nobody", server.requests[0])
                title = pathlib.Path(f"/proc/{tool.process.pid}/cmdline").read_bytes()
                self.assertIn(b"watch", title)
                self.assertNotIn(b"tell-nobody", title)

    def test_password_does_not_reach_the_command_of_watch(self):
        events = {"events": [put_event("k", "v", 5)], "next": 6}
        for form, login in (({"CORDIS_PASSWORD": "tell-nobody"}, "AUTH tell-nobody"),
                            ({"CORDIS_USER": "me:tell-nobody"}, "AUTH me tell-nobody")):
            with ScriptedServer(Status("OK"), 9, events, Error("ERR enough")) as server, \
                    Background("watch", "k", "--rev", "5", "--endpoints", server.endpoint, "--",
                               "sh", "-c", 'echo "<$CORDIS_PASSWORD$CORDIS_USER> $CORDIS_WATCH_KEY"',
                               env=clean_environment(**form)) as tool:
                self.assertEqual(tool.lines(1), ["<> k"])
                self.assertEqual(server.requests[0], login)

    def test_watch_resumes_on_the_next_server(self):
        with ScriptedServer(9, {"events": [put_event("k", "v", 5)], "next": 6}, CLOSE) as first, \
                ScriptedServer({"events": [put_event("k", "w", 7)], "next": 8},
                               Error("ERR enough")) as second, \
                Background("watch", "k", "--rev", "5", "--endpoints",
                           f"{first.endpoint},{second.endpoint}") as tool:
            self.assertEqual(tool.lines(6), ["PUT", "k", "v", "PUT", "k", "w"])
            self.assertEqual(tool.process.wait(timeout=SECONDS_MAX), 1)
            self.assertEqual(second.requests[0], "KV READ k FROM 6 COUNT 1000 BLOCK 5000")
            said = tool.process.stderr.read().decode()
        self.assertIn("connecting again", said)
        self.assertIn(f"connected to {second.endpoint}", said)

    def test_watch_outlives_an_election(self):
        with ScriptedServer(9, Error("CLUSTERDOWN no leader"),
                            {"events": [put_event("k", "v", 10)], "next": 11},
                            Error("ERR enough")) as server, \
                Background("watch", "k", "--endpoints", server.endpoint) as tool:
            self.assertEqual(tool.lines(3), ["PUT", "k", "v"])
            self.assertEqual(server.requests[1:3], ["KV READ k FROM 10 COUNT 1000 BLOCK 5000"] * 2)

    def test_interrupt_ends_a_blocked_watch(self):
        with ScriptedServer(9) as server, \
                Background("watch", "k", "--endpoints", server.endpoint) as tool:
            server.wait_request()
            server.wait_request()
            self.assertEqual(tool.interrupt(), 130)

    def test_interrupt_ends_keep_alive_between_renewals(self):
        with ScriptedServer(Status("PONG"), [9_000_000]) as server, \
                Background("lease", "keep-alive", "17", "--endpoints", server.endpoint) as tool:
            self.assertEqual(tool.lines(1), ["lease 17 keepalived with TTL(9000)"])
            self.assertEqual(tool.interrupt(), 130)

    def test_a_connection_never_takes_the_number_of_a_closed_stream(self):
        for fd in (0, 1, 2):
            with ScriptedServer(9) as server, \
                    Background("watch", "k", "--endpoints", server.endpoint, closed_fd=fd) as tool:
                server.wait_request()
                self.assertEqual(os.readlink(f"/proc/{tool.process.pid}/fd/{fd}"), "/dev/null")

    def test_watch_ends_when_its_reader_is_gone(self):
        with ScriptedServer(9, SILENCE) as server, \
                Background("watch", "k", "--rev", "5", "--endpoints", server.endpoint) as tool:
            server.wait_request()
            server.wait_request()
            tool.process.stdout.close()
            server.connections[0].sendall(encode({"events": [put_event("k", "v", 5)], "next": 6}))
            self.assertEqual(tool.process.wait(timeout=SECONDS_MAX), 5)
            self.assertEqual(tool.process.stderr.read(), b"")

    def test_on_a_terminal(self):
        """Prompts; one ctrl-D ends a value; ctrl-C ends the tool."""
        with ScriptedServer({"revision": 9, "applied": 1}) as server:
            code, shown = self.typed(["put", "k", "--endpoints", server.endpoint],
                                     [b"val\n", b"\x04"])
            self.assertEqual(code, 0, shown)
            self.assertEqual(server.requests, ["KV PUT k val\n"])
            self.assertIn("ctrl-D", shown)
            self.assertIn("OK", shown)
        with ScriptedServer({"succeeded": 1, "revision": 9, "failed": None,
                             "responses": [{"revision": 9, "applied": 1}]}) as server:
            code, shown = self.typed(["txn", "--endpoints", server.endpoint],
                                     [b"mod(k) = 1\n", b"\n", b"ptu k v\n", b"put k v\n", b"\n",
                                      b"\n"])
            self.assertEqual(code, 0, shown)
            self.assertEqual(server.requests, ["TXN IF 1 MOD k = 1 THEN 1 4 KV PUT k v"])
            self.assertIn("did you mean 'put'?", shown)
        self.assertEqual(self.typed(["put", "k"], [b"\x03"])[0], 130)

    def test_password_on_a_terminal(self):
        """Is asked for and not shown; ctrl-C ends the tool and shows again what is typed."""
        with ScriptedServer(Status("OK"), RANGE) as server:
            args = ["get", "k", "--user", "me", "--endpoints", server.endpoint]
            code, shown = self.typed(args, [b"tell-nobody\n"])
            self.assertEqual(code, 0, shown)
            self.assertEqual(server.requests[0], "AUTH me tell-nobody")
            self.assertNotIn("tell-nobody", shown)
            script = 'trap : INT; "$0" "$@"; echo "code $?"; stty -a'
            code, shown = self.typed(["-c", script, CLI, *args], [b"\x03"], executable="/bin/sh")
            self.assertIn("code 130", shown)
            self.assertRegex(shown, r"[ \n]echo ")

    @staticmethod
    def typed(args, keys, executable=CLI):
        child, terminal = pty.fork()
        if child == 0:
            os.execve(executable, [executable, *args], clean_environment())
        killer = threading.Timer(SECONDS_MAX, os.kill, (child, signal.SIGKILL))
        killer.start()
        shown = b""
        while True:
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # the other side is gone
                break
            shown += piece
            # Type when asked: behind a prompt, or the hint of put.
            if keys and (shown.endswith((b"> ", b": ")) or b"ctrl-D" in shown):
                os.write(terminal, keys.pop(0))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        killer.cancel()
        os.close(terminal)
        return code, shown.decode()

    def test_help_and_usage(self):
        for args in (["--help"], ["help"], ["get", "--help"], ["lease", "--help"],
                     ["help", "txn"], ["--version"]):
            result = run_cli(*args)
            self.assertEqual(result.returncode, 0, args)
            self.assertIn("cordis", result.stdout.decode(), args)
        for args in ([], ["gte"], ["get"], ["get", "k", "--limit", "x"], ["lease"]):
            result = run_cli(*args)
            self.assertEqual((result.returncode, result.stdout), (2, b""), args)
            self.assertNotEqual(result.stderr, b"", args)


# --- the real server -------------------------------------------------------------------


class Server:
    """One cordis-server with a directory of its own; killed by its id."""

    def __init__(self):
        if not os.access(SERVER, os.X_OK):
            raise AssertionError(f"{SERVER} is not there: build it, or set CORDIS_SERVER")
        self.port = free_port()
        self.endpoint = f"127.0.0.1:{self.port}"
        self.directory = tempfile.mkdtemp(prefix="cordis-cli-")
        self.log = open(os.path.join(self.directory, "log"), "wb")
        self.process = subprocess.Popen(
            [SERVER, "--port", str(self.port), "--peer-port", str(free_port()), "--bind", "127.0.0.1", "--dir",
             os.path.join(self.directory, "data")],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def wait_ready(self):
        deadline = time.monotonic() + SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                    probe.sendall(b"PING\r\n")
                    if probe.recv(64).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError("cordis-server does not answer: " + self.read_log())

    def read_log(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")[-2000:]

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory)


def text(encoded):
    return base64.b64decode(encoded).decode()


class ServerTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)
        cls.server.wait_ready()
        cls.env = clean_environment(CORDIS_ENDPOINTS=cls.server.endpoint)

    def setUp(self):
        # Tests share the server: each has a prefix of its own.
        self.p = self.id().rsplit(".", 1)[-1] + "/"

    def cli(self, *args, stdin=b"", code=0):
        result = run_cli(*args, stdin=stdin, env=self.env)
        self.assertEqual(result.returncode, code, (args, result.stdout, result.stderr))
        return result.stdout.decode("latin-1")

    def refused(self, *args, code=1, stdin=b""):
        result = run_cli(*args, stdin=stdin, env=self.env)
        self.assertEqual(result.returncode, code, (args, result.stdout, result.stderr))
        return result.stderr.decode()

    def json(self, *args, **more):
        return json.loads(self.cli(*args, "-w", "json", **more))

    def put(self, name, value):
        """Returns the revision."""
        return self.json("put", self.p + name, value)["header"]["revision"]

    def watch(self, *args):
        return Background("watch", *args, env=self.env)

    def test_put_get_del(self):
        key = self.p + "k"
        self.assertEqual(self.cli("put", key, "one"), "OK\n")
        self.assertEqual(self.cli("get", key), f"{key}\none\n")
        self.assertEqual(self.cli("put", key, "two", "--prev-kv"), f"OK\n{key}\none\n")
        self.assertEqual(self.cli("get", key, "--print-value-only"), "two\n")
        self.assertEqual(self.cli("del", key, "--prev-kv"), f"1\n{key}\ntwo\n")
        self.assertEqual(self.cli("del", key), "0\n")
        self.assertEqual(self.cli("get", key, code=1), "")

    def test_value_from_stdin_is_binary_safe(self):
        value = bytes(range(256)) * 64
        self.cli("put", self.p + "k", stdin=value)
        result = run_cli("get", self.p + "k", "--print-value-only", env=self.env)
        self.assertEqual(result.stdout, value + b"\n")
        kvs = self.json("get", self.p + "k")["kvs"]
        self.assertEqual(base64.b64decode(kvs[0]["value"]), value)
        self.cli("put", self.p + "dash", "--", "-5")
        self.assertEqual(self.cli("get", self.p + "dash", "--print-value-only"), "-5\n")
        self.cli("put", self.p + "empty")
        self.assertEqual(self.cli("get", self.p + "empty"), self.p + "empty\n\n")

    def test_ranges(self):
        for name in "abcd":
            self.put(name, "v" + name)
        keys = [self.p + n for n in "abcd"]

        def names(*args):
            return self.cli("get", *args, "--keys-only").split()

        self.assertEqual(names(self.p, "--prefix"), keys)
        self.assertEqual(names(keys[1], keys[3]), keys[1:3])
        self.assertEqual(names(self.p, "--prefix", "--limit", "2"), keys[:2])
        self.assertEqual(names(self.p, "--prefix", "--order", "desc"), keys[::-1])
        self.assertEqual(names(self.p, "--prefix", "--sort-by", "mod", "--order", "desc",
                               "--limit", "1"), keys[3:])
        self.assertEqual(names(keys[2], "--from-key")[:2], keys[2:])
        self.assertEqual(self.cli("get", self.p, "--prefix", "--count-only"), "4\n")
        limited = self.json("get", self.p, "--prefix", "--limit", "1")
        self.assertEqual((limited["count"], limited["more"]), (4, True))
        self.assertIn(f"| {keys[0]} ", self.cli("get", self.p, "--prefix", "-w", "table"))
        self.assertEqual(self.cli("del", self.p, "--prefix"), "4\n")
        self.assertEqual(self.cli("get", self.p, "--prefix"), "")

    def test_large_range_comes_whole(self):
        value = b"x" * 900_000
        for i in range(12):
            self.cli("put", f"{self.p}{i:02}", stdin=value)
        listed = self.json("get", self.p, "--prefix")
        self.assertEqual([text(e["key"]) for e in listed["kvs"]],
                         [f"{self.p}{i:02}" for i in range(12)])
        self.assertTrue(all(base64.b64decode(e["value"]) == value for e in listed["kvs"]))
        self.assertNotIn("more", listed)
        self.cli("del", self.p, "--prefix")

    def test_json_header_and_kv(self):
        first = self.json("put", self.p + "k", "one")["header"]
        self.assertGreater(first["cluster_id"], 0)
        self.assertGreater(first["member_id"], 0)
        self.assertGreater(first["raft_term"], 0)
        rev = self.put("k", "two")
        got = self.json("get", self.p + "k")
        self.assertEqual(got["count"], 1)
        entry = got["kvs"][0]
        self.assertEqual(text(entry["key"]), self.p + "k")
        self.assertEqual(text(entry["value"]), "two")
        self.assertEqual((entry["mod_revision"], entry["version"]), (rev, 2))
        self.assertEqual(entry["create_revision"], first["revision"])
        self.assertEqual(self.json("del", self.p + "k")["deleted"], 1)

    def test_old_revisions(self):
        rev = self.put("k", "one")
        self.put("k", "two")
        self.assertEqual(self.cli("get", self.p + "k", "--rev", str(rev), "--print-value-only"),
                         "one\n")
        self.assertIn("FUTURE", self.refused("get", self.p + "k", "--rev", str(rev + 10**6)))

    def test_conditional_put(self):
        key = self.p + "k"
        self.refused("put", key, "x", "--xx")
        self.cli("put", key, "one", "--nx")
        rev = self.json("get", key)["kvs"][0]["mod_revision"]
        self.assertIn(f"mod revision {rev}", self.refused("put", key, "two", "--nx"))
        self.cli("put", key, "two", "--if-mod", str(rev))
        self.refused("put", key, "three", "--if-mod", str(rev))
        self.assertEqual(self.cli("get", key, "--print-value-only"), "two\n")

    def test_output_that_cannot_be_written_is_no_refusal(self):
        json = ("-w", "json")
        with open("/dev/full", "wb") as full:
            for args, code in ((("put", self.p + "lock", "me", "--nx"), 5),
                               (("put", self.p + "lock", "you", "--nx", *json), 1),
                               (("get", self.p + "lock"), 5), (("get", self.p + "no", *json), 1),
                               (("--help",), 5)):
                result = subprocess.run([CLI, *args], stdin=subprocess.DEVNULL, stdout=full,
                                        stderr=subprocess.PIPE, timeout=SECONDS_MAX, env=self.env,
                                        check=False)
                self.assertEqual(result.returncode, code, args)
        self.assertEqual(self.cli("get", self.p + "lock", "--print-value-only"), "me\n")

    def test_databases_are_apart(self):
        self.cli("put", self.p + "k", "zero")
        self.cli("put", self.p + "k", "three", "--db", "3")
        self.assertEqual(self.cli("get", self.p + "k", "--print-value-only"), "zero\n")
        self.assertEqual(self.cli("get", self.p + "k", "--print-value-only", "--db", "3"),
                         "three\n")

    def test_txn(self):
        key = self.p + "k"
        script = f'create("{key}") = "0"\n\nput {key} "a b"\nget {key}\n\nget {key}\n'
        self.assertEqual(self.cli("txn", stdin=script.encode()), f"SUCCESS\n\nOK\n\n{key}\na b\n")
        again = run_cli("txn", stdin=script.encode(), env=self.env)
        self.assertEqual((again.returncode, again.stdout.decode()),
                         (1, f"FAILURE\n\n{key}\na b\n"))
        self.assertIn("compare 1 did not hold", again.stderr.decode())
        self.assertIn('value "a b"', again.stderr.decode())
        document = self.json("txn", stdin=f"\ndel {key}\n".encode())
        self.assertTrue(document["succeeded"])
        deleted = document["responses"][0]["Response"]["response_delete_range"]
        self.assertEqual(deleted["deleted"], 1)
        checks = (f'missing("{key}")\nvalue("{key}") != "x"\n\nput {key} v\n')
        self.assertEqual(self.cli("txn", stdin=checks.encode(), code=1), "FAILURE\n")
        self.refused("txn", stdin=b"mod(k) = x\n", code=2)

    def test_txn_whose_rest_cannot_be_read_writes_nothing(self):
        script = f'missing("{self.p}x")\n\nput {self.p}a 1\n'.encode()
        reader, writer = os.pipe()
        self.addCleanup(os.close, writer)
        os.set_blocking(reader, False)  # no more for now: EAGAIN, not the end
        os.write(writer, script)
        with open(reader, "rb") as pipe:
            result = subprocess.run([CLI, "txn"], stdin=pipe, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, timeout=SECONDS_MAX, env=self.env,
                                    check=False)
        self.assertEqual((result.returncode, result.stdout), (2, b""))
        self.assertIn("cannot read the transaction from stdin", result.stderr.decode())
        self.assertEqual(self.cli("get", self.p, "--prefix"), "")

    def test_leases(self):
        lease = str(self.json("lease", "grant", "600")["ID"])
        key = self.p + "k"
        self.cli("put", key, "v", "--lease", lease)
        self.assertEqual(self.json("get", key)["kvs"][0]["lease"], int(lease))
        self.assertRegex(self.cli("lease", "timetolive", lease, "--keys"),
                         rf"^lease {lease} granted with TTL\(600s\), remaining\(\d+s\), "
                         rf"attached keys\(\[{key}\]\)\n$")
        self.assertIn(f"\n{lease}\n", self.cli("lease", "list"))
        self.assertRegex(self.cli("lease", "keep-alive", lease, "--once"),
                         rf"^lease {lease} keepalived with TTL\(\d+\)\n$")
        self.assertEqual(self.cli("lease", "revoke", lease), f"lease {lease} revoked\n")
        self.cli("get", key, code=1)
        self.assertIn("NOLEASE", self.refused("lease", "timetolive", lease))
        self.refused("lease", "keep-alive", lease, "--once")
        self.refused("put", key, "v", "--lease", lease)

    def test_keep_alive_leaves_a_member_that_hangs_in_time(self):
        lease = str(self.json("lease", "grant", "6")["ID"])
        with ScriptedServer(Status("PONG"), [6_000], SILENCE) as hanging, \
                Background("lease", "keep-alive", lease, "--endpoints",
                           f"{hanging.endpoint},{self.server.endpoint}") as tool:
            self.assertEqual(tool.lines(2), [f"lease {lease} keepalived with TTL(6)"] * 2)
            self.assertEqual(len(hanging.requests), 3)

    def test_closed_stdout_does_not_send_values_to_the_server(self):
        self.put("k", f"SET a b\nSET {self.p}injected yes")
        with Background("get", self.p + "k", env=self.env, closed_fd=1) as tool:
            self.assertNotEqual(tool.process.wait(timeout=SECONDS_MAX), 0)
            self.assertIn(b"cannot write the output", tool.process.stderr.read())
        self.assertEqual(self.cli("get", self.p + "injected", code=1), "")

    def test_watch_history_then_live(self):
        rev = self.put("a", "one")
        self.put("b", "two")
        with self.watch(self.p, "--rev", str(rev), "--prev-kv") as tool:
            self.assertEqual(tool.lines(6),
                             ["PUT", self.p + "a", "one", "PUT", self.p + "b", "two"])
            self.put("a", "three")
            self.assertEqual(tool.lines(5), ["PUT", self.p + "a", "one", self.p + "a", "three"])
            self.cli("del", self.p + "a")
            self.assertEqual(tool.lines(5), ["DELETE", self.p + "a", "three", self.p + "a", ""])
            self.assertEqual(tool.interrupt(), 130)

    def test_watch_shows_expiry(self):
        rev = self.put("x", "start")
        lease = str(self.json("lease", "grant", "1")["ID"])
        self.cli("put", self.p + "k", "v", "--lease", lease)
        with self.watch(self.p + "k", "--rev", str(rev), "-w", "json") as tool:
            self.assertEqual(text(json.loads(tool.lines(1)[0])["Events"][0]["kv"]["value"]), "v")
            event = json.loads(tool.lines(1)[0])["Events"][0]
            self.assertEqual((event["type"], event["expired"]), (1, True))
            self.assertEqual(text(event["kv"]["key"]), self.p + "k")

    def test_watch_runs_a_command(self):
        rev = self.put("k", "one two")
        script = 'echo "$CORDIS_WATCH_REVISION $CORDIS_WATCH_EVENT_TYPE $CORDIS_WATCH_KEY ' \
                 '<$CORDIS_WATCH_VALUE>"'
        with self.watch(self.p, "--rev", str(rev), "--", "sh", "-c", script) as tool:
            self.assertEqual(tool.lines(1), [f"{rev} PUT {self.p}k <one two>"])
            rev = self.json("del", self.p + "k")["header"]["revision"]
            self.assertEqual(tool.lines(1), [f"{rev} DELETE {self.p}k <>"])

    def test_status_and_members(self):
        table = self.cli("status")
        self.assertIn(self.server.endpoint, table)
        self.assertIn("| leader |", table)
        status = self.json("status")[0]
        self.assertEqual(status["Endpoint"], self.server.endpoint)
        self.assertEqual(status["Status"]["leader"], status["Status"]["header"]["member_id"])
        members = self.json("member", "list")["members"]
        self.assertEqual(len(members), 1)
        self.assertEqual(members[0]["ID"], status["Status"]["header"]["member_id"])
        self.assertIn("leader", self.cli("member", "list"))
        self.assertIn(self.server.endpoint, self.cli("status", "--local", "-w", "simple"))
        self.refused("member", "remove", "1")


class CompactTests(unittest.TestCase):
    """Compaction is of the whole store: a server of its own."""

    def test_compact_then_read_and_watch(self):
        server = Server()
        self.addCleanup(server.stop)
        server.wait_ready()
        env = clean_environment(CORDIS_ENDPOINTS=server.endpoint)
        revs = []
        for i in range(5):
            result = run_cli("put", "k", str(i), "-w", "json", env=env)
            revs.append(json.loads(result.stdout)["header"]["revision"])
        result = run_cli("compact", str(revs[3]), "--physical", env=env)
        self.assertEqual(result.stdout.decode(), f"compacted revision {revs[3]}\n")
        result = run_cli("get", "k", "--rev", str(revs[0]), env=env)
        self.assertEqual(result.returncode, 1)
        self.assertIn("COMPACTED", result.stderr.decode())
        result = run_cli("watch", "k", "--rev", str(revs[0]), env=env)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr.decode(), r"the history begins at revision \d+")
        result = run_cli("get", "k", "--print-value-only", env=env)
        self.assertEqual(result.stdout, b"4\n")
        result = run_cli("compact", str(revs[0]), env=env)
        self.assertEqual(result.returncode, 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
