#!/usr/bin/env python3
"""Clients that people have: redis-cli, redis-benchmark, redis-py, ioredis, node-redis. What is not
installed, or cannot be fetched, is skipped with a word.
"""
# seconds: 300

import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import tempfile
import threading
import time
import unittest

from harness import ROOT, STEP_S_MAX, TestCase, wait_until

try:
    import redis
except ImportError:
    redis = None

CLI = shutil.which("redis-cli")
BENCHMARK = shutil.which("redis-benchmark")
CLIENTS = pathlib.Path(__file__).with_name("clients")
NPM_S_MAX = 120
PROMPT = re.compile(r"127\.0\.0\.1:\d+(\[\d+\])?(\(TX\))?(\(subscribed mode\))?> ")
TOOK = re.compile(r"^\(\d+\.\d\ds\)$")  # redis-cli says so after half a second


class Terminal:
    """A program on a pseudo terminal."""

    def __init__(self, command, directory):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="dumb", HOME=str(directory), REDISCLI_HISTFILE="/dev/null")
            os.execv(command[0], command)
        self.text = ""

    def until(self, wanted, seconds_max=STEP_S_MAX):
        """What came up to the wanted pattern."""
        end = time.monotonic() + seconds_max
        while True:
            hit = re.search(wanted, self.text)
            if hit:
                before, self.text = self.text[:hit.start()], self.text[hit.end():]
                return before
            ready, _, _ = select.select([self.fd], [], [], max(end - time.monotonic(), 0))
            if not ready:
                raise AssertionError(f"no {wanted!r} in {self.text!r}")
            try:
                self.text += os.read(self.fd, 65536).decode(errors="replace").replace("\r", "")
            except OSError:
                raise AssertionError(f"ended with {self.text!r}") from None

    def type(self, line):
        os.write(self.fd, line.encode() + b"\r")

    def close(self):
        os.close(self.fd)
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


@unittest.skipIf(CLI is None, "no redis-cli")
class RedisCli(TestCase):
    def setUp(self):
        super().setUp()
        self.one = self.server().start()

    def cli(self, *args, text=None):
        done = subprocess.run([CLI, "-p", str(self.one.port), *map(str, args)], input=text, capture_output=True,
                              timeout=STEP_S_MAX, check=False, text=True)
        self.assertEqual(done.stderr, "")
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def terminal(self):
        shell = Terminal([CLI, "-p", str(self.one.port)], self.scratch)
        self.addCleanup(shell.close)
        shell.until(PROMPT.pattern)
        return shell

    def ask(self, shell, line):
        """What the shell shows for a line that was typed."""
        shell.type(line)
        shown = shell.until(r"\n" + PROMPT.pattern)
        # The line editor draws the line anew for each letter; what follows the last is the answer.
        return shown.split("\n", 1)[1].strip("\n") if "\n" in shown else ""

    def test_first_five_minutes(self):
        """The lines of the README as they are typed, and what it says they answer."""
        text = (ROOT / "README.md").read_text()
        part = text.split("## The first five minutes")[1].split("\n## ")[0]
        blocks = re.findall(r"(?:^    .*\n)+", part, re.M)
        shell, other = self.terminal(), self.terminal()
        asked = 0
        for block in blocks:
            lines = [line[4:] for line in block.splitlines()]
            starts = [i for i, line in enumerate(lines) if PROMPT.match(line)]
            for i, begin in enumerate(starts):
                command = PROMPT.sub("", lines[begin], count=1)
                want = lines[begin + 1:starts[i + 1] if i + 1 < len(starts) else None]
                asked += 1
                if "BLOCK 0" in command or command.startswith("SUBSCRIBE"):
                    self.waits(command, other)
                    continue
                got = [line for line in self.ask(shell, command).splitlines() if not TOOK.match(line)]
                self.assertNotIn("(error)", got[0] if got else "", command)
                if "..." in want:
                    cut = want.index("...")
                    self.assertEqual(got[:cut], want[:cut], command)
                    for line in want[cut + 1:]:
                        self.assertIn(line, got, command)
                elif want:
                    self.assertEqual([line.strip() for line in got], [line.strip() for line in want], command)
        self.assertGreaterEqual(asked, 12)

    def waits(self, command, other):
        """A command that waits for what another terminal does."""
        shell = self.terminal()
        shell.type(command)
        if command.startswith("SUBSCRIBE"):
            shell.until("subscribe")
            shell.until(r"\(integer\) 1")
        else:
            wait_until(lambda: "blocked_clients:1" in self.cli("INFO", "clients"), "the client to block")
        self.assertEqual(self.ask(other, "SET cfg/color green"), "OK")
        shell.until("cfg/color")
        shell.until("green")

    def test_interactive(self):
        shell = self.terminal()
        self.assertEqual(self.ask(shell, "SET k 'a b'"), "OK")
        self.assertEqual(self.ask(shell, "GET k"), '"a b"')
        self.assertEqual(self.ask(shell, "nope"), "(error) ERR unknown command 'nope', with args beginning with: ")
        self.assertIn("# \"proto\" => (integer) 3", self.ask(shell, "HELLO 3").replace("2# ", "# ").replace("3# ", "# "))
        self.assertIn('"version" => (integer) 1', self.ask(shell, "KV GET k"))
        self.assertEqual(self.ask(shell, "SELECT 1"), "OK")
        self.assertEqual(self.ask(shell, "GET k"), "(nil)")
        self.assertEqual(self.ask(shell, "SELECT 0"), "OK")
        self.assertEqual(self.ask(shell, "MULTI"), "OK")
        self.assertEqual(self.ask(shell, "GET k"), "QUEUED")
        self.assertEqual(self.ask(shell, "EXEC"), '1) "a b"')
        self.assertIn("KV <subcommand>", self.ask(shell, "KV HELP"))
        self.assertEqual(self.ask(shell, "RESET"), "RESET")
        self.assertIn("Sets the string value of a key", self.ask(shell, "help set"))
        self.assertIn("127.0.0.1", self.ask(shell, "CLIENT LIST"))

    def test_modes(self):
        lines = "".join(f"SET key:{i} value{i}\r\n" for i in range(2000))
        answer = self.cli("--pipe", text=lines)
        self.assertIn("errors: 0, replies: 2000", answer)
        self.assertEqual(self.cli(text="SET a 1\nGET a\nMULTI\nINCR a\nEXEC\n").split(), ["OK", "1", "OK", "QUEUED", "2"])
        self.assertEqual(len(self.cli("--scan", "--pattern", "key:*").split()), 2000)
        self.assertEqual(self.cli("--scan", "--pattern", "key:1999").split(), ["key:1999"])
        self.assertIn("Biggest string", self.cli("--bigkeys"))
        self.assertIn("2001 strings", self.cli("--bigkeys"))
        self.assertIn("Biggest string", self.cli("--memkeys"))
        self.assertEqual(self.cli("-3", "GET", "a"), "2\n")
        self.assertEqual(self.cli("-n", "3", "GET", "a"), "\n")
        self.assertEqual(self.cli("-x", "SET", "b", text="from stdin"), "OK\n")
        self.assertEqual(self.cli("--json", "KV", "GET", "b").count("from stdin"), 1)

    def test_stat(self):
        stat = subprocess.Popen([CLI, "-p", str(self.one.port), "--stat", "-i", "0.05"], stdout=subprocess.PIPE, text=True)
        try:
            heads = [stat.stdout.readline() for _ in range(2)]
            line = stat.stdout.readline()
        finally:
            stat.kill()
            stat.wait()
            stat.stdout.close()
        self.assertIn("keys", heads[1])
        self.assertRegex(line.strip(), r"^0 +[\d.]+[KMG] +\d+ +\d+ +\d+ ")


@unittest.skipIf(BENCHMARK is None, "no redis-benchmark")
class RedisBenchmark(TestCase):
    def test_runs(self):
        one = self.server(request_timeout="60s").start()  # it ends at the first TIMEOUT
        for more in ([], ["-3"]):
            done = subprocess.run([BENCHMARK, "-p", str(one.port), "-t", "set,get,incr,mset,ping_inline,ping_mbulk", "-n",
                                   "20000", "-P", "16", "-q", *more], capture_output=True, timeout=STEP_S_MAX * 3, check=False, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            results = re.findall(r"^.*: ([\d.]+) requests per second", done.stdout.replace("\r", "\n"), re.M)
            self.assertEqual(len(results), 6, done.stdout)
            self.assertNotIn("rror", done.stdout)


@unittest.skipIf(redis is None, "no redis-py")
class RedisPy(TestCase):
    def setUp(self):
        super().setUp()
        self.one = self.server().start()
        self.r = redis.Redis(port=self.one.port, client_name="tests", db=0, socket_timeout=STEP_S_MAX)
        self.addCleanup(self.r.close)

    def test_strings(self):
        r = self.r
        self.assertTrue(r.set("k", "v"))
        self.assertEqual(r.get("k"), b"v")
        self.assertIsNone(r.set("k", "w", nx=True))
        self.assertEqual(r.set("k", "w", get=True, px=100000), b"v")
        self.assertGreater(r.pttl("k"), 90000)
        self.assertEqual(r.getex("k", persist=True), b"w")
        self.assertEqual(r.ttl("k"), -1)
        self.assertTrue(r.mset({"a": 1, "b": 2}))
        self.assertEqual(r.mget("a", "b", "c"), [b"1", b"2", None])
        self.assertEqual(r.incrbyfloat("a", 0.5), 1.5)
        self.assertEqual(sorted(r.scan_iter("?", count=1)), [b"a", b"b", b"k"])
        self.assertEqual(r.dbsize(), 3)
        self.assertEqual(r.info()["redis_mode"], "standalone")
        self.assertEqual(r.info("keyspace")["db0"]["keys"], 3)
        self.assertEqual(r.client_getname(), "tests")
        self.assertIn("tests", [client["name"] for client in r.client_list()])
        self.assertIn("maxclients", r.config_get("max*"))
        self.assertEqual(r.command_count(), len(r.command()))
        self.assertTrue(r.object("encoding", "b"), b"int")
        with self.assertRaises(redis.ResponseError):
            r.incr("k")
        self.assertEqual(r.role()[0], b"master")

    def test_pipeline_and_transaction(self):
        r = self.r
        with r.pipeline(transaction=False) as pipe:
            for i in range(500):
                pipe.set(f"p{i}", i)
            pipe.get("p7")
            self.assertEqual(pipe.execute()[-1], b"7")
        with r.pipeline() as pipe:
            self.assertEqual(pipe.set("a", 1).incr("a").get("a").execute(), [True, 2, b"2"])
        with r.pipeline() as pipe:
            pipe.watch("a")
            r.set("a", 5)
            pipe.multi()
            pipe.set("a", 6)
            with self.assertRaises(redis.WatchError):
                pipe.execute()
        self.assertEqual(r.transaction(lambda pipe: (pipe.multi(), pipe.incr("a")), "a"), [6])

    def test_lock(self):
        """Everything of its Lock that is no script."""
        lock = self.r.lock("lock", timeout=100, blocking=False)
        self.assertTrue(lock.acquire())
        self.assertTrue(lock.locked() and lock.owned())
        self.assertFalse(self.r.lock("lock", timeout=100).acquire(blocking=False))
        self.assertFalse(self.r.lock("lock", timeout=100).acquire(blocking_timeout=0.2))
        token = self.r.get("lock")
        self.assertEqual(token, lock.local.token)
        self.assertEqual(self.r.execute_command("DELIFEQ", "lock", token), 1)
        self.assertTrue(self.r.lock("lock", timeout=100).acquire(blocking=False))

    def test_pubsub(self):
        with self.r.pubsub() as sub:
            sub.subscribe("c")
            sub.psubscribe("p*")
            kinds = [self.message(sub)["type"] for _ in range(2)]
            self.assertEqual(kinds, ["subscribe", "psubscribe"])
            self.assertEqual(self.r.publish("c", "x"), 1)
            self.assertEqual(self.r.publish("p1", "y"), 1)
            self.assertEqual([self.message(sub)["data"] for _ in range(2)], [b"x", b"y"])
            sub.subscribe("__watch@0__:cfg/")
            self.assertEqual(self.message(sub)["type"], "subscribe")
            self.r.set("cfg/a", 1)
            self.assertIn(b'"key":"cfg/a"', self.message(sub)["data"])

    @staticmethod
    def message(sub):
        return wait_until(lambda: sub.get_message(timeout=1), "a message")

    def test_watch_stream(self):
        r = self.r
        begin = r.execute_command("KV", "REVISION")
        r.mset({"cfg/a": 1, "cfg/b": 2})
        r.delete("cfg/a")
        (name, entries), = r.xread({"__watch__:cfg/": begin + 1})
        self.assertEqual(name, b"__watch__:cfg/")
        self.assertEqual([(id, fields[b"op"], fields[b"key"]) for id, fields in entries],
                         [(b"%d-1" % (begin + 1), b"put", b"cfg/a"), (b"%d-2" % (begin + 1), b"put", b"cfg/b"),
                          (b"%d-1" % (begin + 2), b"del", b"cfg/a")])
        self.assertEqual(r.xread({"__watch__:cfg/": "$"}, block=10), [])
        self.assertEqual(r.xread({"__watch__:cfg/": entries[-1][0]}), [])

    def test_reconnects(self):
        self.r.set("k", 1)
        self.one.options["port"] = self.one.port
        self.one.stop()
        with self.assertRaises(redis.ConnectionError):
            self.r.get("k")
        self.one.start()
        self.assertEqual(self.r.get("k"), b"1")


@unittest.skipIf(shutil.which("node") is None or shutil.which("npm") is None, "no node or no npm")
class Npm(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.modules = tempfile.mkdtemp(prefix="cordis-npm-")
        cls.addClassCleanup(shutil.rmtree, cls.modules, ignore_errors=True)
        shutil.copytree(CLIENTS, cls.modules, dirs_exist_ok=True)
        try:
            done = subprocess.run(["npm", "install", "--no-audit", "--no-fund"], cwd=cls.modules, stdin=subprocess.DEVNULL,
                                  capture_output=True, timeout=NPM_S_MAX, check=False, text=True)
        except subprocess.TimeoutExpired:
            raise unittest.SkipTest("npm install took too long") from None
        if done.returncode != 0:
            raise unittest.SkipTest(f"npm install failed: {done.stderr[-300:]}")

    def script(self, name, **env):
        one = self.server().start()
        one.options["port"] = one.port  # the same after the restart
        said = []
        node = subprocess.Popen(["node", name], cwd=self.modules, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, env={**os.environ, "PORT": str(one.port), **env})
        stuck = threading.Timer(2 * STEP_S_MAX, node.kill)
        stuck.start()
        try:
            for line in node.stdout:
                said.append(line.strip())
                if line == "restart\n":
                    one.stop()
                    one.start()
                    node.stdin.write("back\n")
                    node.stdin.flush()
        finally:
            stuck.cancel()
            node.kill()
            node.wait()
            node.stdin.close()
            node.stdout.close()
        self.assertEqual([line for line in said if line != "restart"],
                         [f"ok {what}" for what in ("ready", "set and get", "multi", "pipeline", "scan", "pub/sub", "watch",
                                                    "reconnect", "end")])

    def test_ioredis(self):
        self.script("ioredis.js")

    def test_node_redis(self):
        self.script("node-redis.js", PROTO="2")

    def test_node_redis_resp3(self):
        self.script("node-redis.js", PROTO="3")


if __name__ == "__main__":
    unittest.main()
