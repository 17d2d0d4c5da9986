#!/usr/bin/env python3
"""Watching, over the wire: KV WATCH, KV READ, virtual streams, watch channels, pub/sub and
keyspace notifications. What a watch promises is checked against what was written: filter,
order, uniqueness, atomicity, no gap, resumption, progress, former values, creation.

    CORDIS_SERVER   the server's binary   (bin/cordis-server)
"""

import base64
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVER = os.environ.get("CORDIS_SERVER", str(ROOT / "bin" / "cordis-server"))
SECONDS_MAX = 30  # no single step takes longer, or it is broken


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ReplyError(Exception):
    pass


class Push(list):
    pass


class Client:
    """One connection: commands, and pushes set aside in order."""

    def __init__(self, port, proto=3, receive_bytes=None):
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(SECONDS_MAX)
        self.socket.connect(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")
        self.pushes = []
        if proto == 3:
            self("HELLO", 3)

    def close(self):
        self.file.close()
        self.socket.close()

    @staticmethod
    def encoded(*args):
        parts = [b"*%d\r\n" % len(args)]
        for arg in args:
            data = arg if isinstance(arg, bytes) else str(arg).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
        return b"".join(parts)

    def send(self, *args):
        self.socket.sendall(self.encoded(*args))

    def bytes(self, count):
        data = self.file.read(count + 2)
        if len(data) != count + 2:
            raise ConnectionError("closed in the middle")
        return data[:-2]

    def value(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            return ReplyError(rest.decode())
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind in b"$=":
            return None if rest == b"-1" else self.bytes(int(rest))
        if kind == b"_":
            return None
        if kind in b"*~>":
            if rest == b"-1":
                return None
            items = [self.value() for _ in range(int(rest))]
            return Push(items) if kind == b">" else items
        if kind == b"%":
            return {self.value(): self.value() for _ in range(int(rest))}
        raise AssertionError("what is this: %r" % line)

    def reply(self):
        while True:
            value = self.value()
            if not isinstance(value, Push):
                return value
            self.pushes.append(value)

    def __call__(self, *args):
        self.send(*args)
        value = self.reply()
        if isinstance(value, ReplyError):
            raise value
        return value

    def push(self):
        if self.pushes:
            return self.pushes.pop(0)
        value = self.value()
        assert isinstance(value, Push), value
        return value

    def quiet(self):
        """All pushes that were sent before this."""
        self("PING")
        taken, self.pushes = self.pushes, []
        return taken


class Server:
    def __init__(self, *options):
        self.dir = tempfile.mkdtemp(prefix="cordis-watch-")
        self.ports = [free_port() for _ in range(3)]
        self.options = options
        self.start()

    def start(self):
        port = self.ports[0]
        known = subprocess.run([SERVER, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               timeout=SECONDS_MAX, check=False).stdout.decode()
        more = []
        for option, number in (("peer-port", self.ports[1]), ("http-port", self.ports[2])):
            if option in known:
                more += ["--" + option, str(number)]
        self.log = open(os.path.join(self.dir, "log"), "ab")
        self.process = subprocess.Popen(
            [SERVER, "--port", str(port), "--dir", os.path.join(self.dir, "data"), *more, *self.options],
            stdout=self.log, stderr=self.log, cwd=self.dir)
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            probe = None
            try:
                probe = Client(port)
                if probe("PING") == b"PONG" and probe("KV", "REVISION") >= 0:
                    return
            except (OSError, ReplyError):
                pass
            finally:
                if probe is not None:
                    probe.close()
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.log.close()
                raise RuntimeError("no server: " + self.log_text())
            time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        try:
            code = self.process.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.log.close()
        return code

    def log_text(self):
        with open(os.path.join(self.dir, "log"), encoding="utf-8", errors="replace") as log:
            return log.read()[-3000:]

    def free(self):
        code = self.stop()
        text = self.log_text()
        shutil.rmtree(self.dir, ignore_errors=True)
        if code != 0:
            raise AssertionError("the server ended with %d: %s" % (code, text))


def event(push):
    """A push frame as a dictionary."""
    names = ["kind", "id", "rev", "op", "key", "value", "create", "version", "lease", "prev", "prevmod"]
    return dict(zip(names, push))


def fields(entry):
    """A stream entry as (id, dictionary)."""
    flat = entry[1]
    return entry[0].decode(), dict(zip(flat[::2], flat[1::2]))


# Rows leave memory soon after they were written: history is read from the store, too.
OFTEN = ("--checkpoint-bytes", "65536", "--checkpoint-interval", "20ms")


class Base(unittest.TestCase):
    options = OFTEN

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.options)

    @classmethod
    def tearDownClass(cls):
        cls.server.free()

    def setUp(self):
        self.clients = []
        self.c = self.client()
        self.c("FLUSHALL")

    def tearDown(self):
        for c in self.clients:
            c.close()

    def client(self, proto=3, **more):
        c = Client(self.server.ports[0], proto, **more)
        self.clients.append(c)
        return c

    def fails(self, prefix, c, *args):
        with self.assertRaises(ReplyError) as raised:
            c(*args)
        self.assertTrue(str(raised.exception).startswith(prefix), str(raised.exception))
        return str(raised.exception)

    def set_option(self, name, value):
        """Until the end of the test."""
        before = self.c("CONFIG", "GET", name)[name.encode()]
        self.c("CONFIG", "SET", name, value)
        self.addCleanup(self.reset_option, name, before)

    def reset_option(self, name, value):
        c = Client(self.server.ports[0])
        c("CONFIG", "SET", name, value)
        c.close()

    def push_history_out(self):
        """Writes more than stays in memory, and waits until the store has it."""
        w = self.client()
        for i in range(200):
            w.send("SET", "pad/%d" % (i % 10), "x" * 60000)
        for i in range(200):
            w.reply()
        target = self.info(w, "checkpoints") + 2
        deadline = time.monotonic() + SECONDS_MAX
        while self.info(w, "checkpoints") < target or self.info(w, "store_backlog_bytes") > 0:
            self.assertLess(time.monotonic(), deadline)
            w("SET", "pad/0", "more")
            time.sleep(0.01)

    def info(self, c, name):
        for line in c("INFO", "all").decode().splitlines():
            if line.startswith(name + ":"):
                return int(line.split(":")[1])
        self.fail("INFO has no " + name)
        return 0

    def wait_info(self, name, value):
        deadline = time.monotonic() + SECONDS_MAX
        while self.info(self.c, name) != value:
            self.assertLess(time.monotonic(), deadline)


class KvWatch(Base):
    def test_reply_and_frame(self):
        w = self.client()
        self.c("SET", "a", "0")
        rev = self.c("KV", "REVISION")
        self.assertEqual(w("KV", "WATCH", "a"), {b"id": 1, b"revision": rev})
        self.c("SET", "a", "1")
        self.assertEqual(w.push(), [b"kvwatch", 1, rev + 1, b"put", b"a", b"1", rev, 2, 0])
        self.c("DEL", "a")
        self.assertEqual(w.push(), [b"kvwatch", 1, rev + 2, b"del", b"a", None, 0, 0, 0])

    def test_prefix_range_and_key(self):
        w = self.client()
        w("KV", "WATCH", "a", "PREFIX", "ID", 10)
        w("KV", "WATCH", "b", "END", "d", "ID", 20)
        w("KV", "WATCH", "ab", "ID", 30)
        w("KV", "WATCH", "", "PREFIX", "ID", 40)
        w("KV", "WATCH", "c", "END", "", "ID", 50)
        for key in ["a", "ab", "b", "c", "cz", "d", "z"]:
            self.c("SET", key, "v")
        got = {}
        for p in w.quiet():
            got.setdefault(p[1], []).append(p[4])
        self.assertEqual(got[10], [b"a", b"ab"])
        self.assertEqual(got[20], [b"b", b"c", b"cz"])
        self.assertEqual(got[30], [b"ab"])
        self.assertEqual(len(got[40]), 7)
        self.assertEqual(got[50], [b"c", b"cz", b"d", b"z"])

    def test_databases_are_apart(self):
        w = self.client()
        w("KV", "WATCH", "", "PREFIX")
        other = self.client()
        other("SELECT", 3)
        other("SET", "k", "3")
        self.c("SET", "k", "0")
        self.assertEqual([p[5] for p in w.quiet()], [b"0"])

    def test_filters_and_keys_only(self):
        w = self.client()
        w("KV", "WATCH", "k", "NOPUT", "ID", 1)
        w("KV", "WATCH", "k", "NODEL", "ID", 2)
        w("KV", "WATCH", "k", "KEYSONLY", "ID", 3)
        self.c("SET", "k", "v")
        self.c("DEL", "k")
        got = {}
        for p in w.quiet():
            got.setdefault(p[1], []).append((p[3], p[5]))
        self.assertEqual(got, {1: [(b"del", None)], 2: [(b"put", b"v")], 3: [(b"put", None), (b"del", None)]})

    def test_prevkv_live(self):
        w = self.client()
        w("KV", "WATCH", "k", "PREVKV")
        r1 = self.c("KV", "PUT", "k", "1")[b"revision"]
        r2 = self.c("KV", "PUT", "k", "")[b"revision"]
        self.c("DEL", "k")
        self.c("SET", "k", "4")
        got = [(p[5], p[9], p[10]) for p in w.quiet()]
        self.assertEqual(got, [(b"1", None, 0), (b"", b"1", r1), (None, b"", r2), (b"4", None, 0)])

    def test_prevkv_from_history_is_the_same(self):
        live = self.client()
        live("KV", "WATCH", "k", "PREFIX", "PREVKV")
        start = self.c("KV", "REVISION") + 1
        for i in range(30):
            self.c("SET", "k%d" % (i % 3), i)
            if i % 7 == 6:
                self.c("DEL", "k%d" % (i % 3))
        want = live.quiet()
        self.push_history_out()
        again = self.client()
        again("KV", "WATCH", "k", "PREFIX", "PREVKV", "FROM", start)
        got = [again.push() for _ in want]
        self.assertEqual(got, want)

    def test_atomic_transactions_stay_together(self):
        w = self.client()
        w("KV", "WATCH", "t/", "PREFIX")
        start = self.c("KV", "REVISION")
        for i in range(20):
            self.c("MSET", *[x for k in range(5) for x in ("t/%d" % k, i)])
            self.c("MULTI")
            self.c("SET", "t/a", i)
            self.c("DEL", "t/0")
            self.c("SET", "other", i)
            self.c("EXEC")
        pushes = w.quiet()
        revs = [p[2] for p in pushes]
        self.assertEqual(revs, sorted(revs))
        by_rev = {}
        for p in pushes:
            by_rev.setdefault(p[2], []).append(p[4])
        self.assertEqual(len(by_rev), 40)
        self.assertEqual(min(by_rev), start + 1)
        for keys in by_rev.values():
            self.assertIn(sorted(keys), ([b"t/%d" % k for k in range(5)], [b"t/0", b"t/a"]))

    def test_resume_gives_the_same_events(self):
        live = self.client()
        live("KV", "WATCH", "r/", "PREFIX")
        start = self.c("KV", "REVISION") + 1
        rng = random.Random(5)
        for i in range(200):
            key = "r/%d" % rng.randrange(10)
            if rng.random() < 0.2:
                self.c("DEL", key)
            else:
                self.c("SET", key, i)
        want = live.quiet()
        self.push_history_out()
        for offset in (0, 1, 50, len(want) - 1):
            from_rev = want[offset][2]
            w = self.client()
            w("KV", "WATCH", "r/", "PREFIX", "FROM", from_rev)
            got = [w.push() for _ in want[offset:]]
            self.assertEqual(got, want[offset:])
            self.assertEqual(w.quiet(), [])
            w("KV", "UNWATCH", 1)
        w = self.client()
        w("KV", "WATCH", "r/", "PREFIX", "FROM", start)
        self.assertEqual([w.push() for _ in want], want)

    def test_resume_under_writes_has_no_gap_and_no_repeat(self):
        stop = threading.Event()
        start = self.c("KV", "REVISION") + 1
        writer = self.client()

        def write():
            i = 0
            while not stop.is_set():
                for _ in range(50):
                    writer.send("SET", "g/%d" % (i % 7), "v%d" % i)
                    i += 1
                for _ in range(50):
                    writer.reply()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            watchers = []
            for _ in range(6):
                w = self.client()
                w("KV", "WATCH", "g/", "PREFIX", "FROM", start)
                w("KV", "WATCH", "g/", "PREFIX", "FROM", start, "PREVKV")
                watchers.append(w)
                time.sleep(0.05)
        finally:
            stop.set()
            thread.join()
        end = self.c("KV", "REVISION")
        for w in watchers:
            while w("KV", "PROGRESS") < end:
                pass
            for watch_id in (1, 2):
                revs = [p[2] for p in w.pushes if p[1] == watch_id]
                self.assertEqual(revs, list(range(start, end + 1)))
            values = {}
            for p in w.pushes:
                if p[1] == 2:
                    self.assertEqual(p[9], values.get(p[4]))
                    values[p[4]] = p[5]

    def test_a_future_revision_starts_there(self):
        w = self.client()
        rev = self.c("KV", "REVISION")
        w("KV", "WATCH", "f", "FROM", rev + 3)
        for i in range(5):
            self.c("SET", "f", i)
        self.assertEqual([p[2] for p in w.quiet()], [rev + 3, rev + 4, rev + 5])

    def test_compacted_and_exactly_compacted(self):
        self.c("SET", "k", "1")
        self.c("SET", "k", "2")
        deleted = self.c("KV", "DEL", "k")[b"revision"]
        self.c("SET", "other", "1")
        self.c("KV", "COMPACT", deleted)
        w = self.client()
        text = self.fails("COMPACTED required revision %d has been compacted, oldest is %d" % (deleted - 1, deleted),
                          w, "KV", "WATCH", "k", "FROM", deleted - 1)
        self.assertNotIn("\n", text)
        w("KV", "WATCH", "k", "FROM", deleted)
        self.assertEqual(w.push()[2:5], [deleted, b"del", b"k"])

    def test_compaction_of_a_put_at_its_revision(self):
        rev = self.c("KV", "PUT", "k", "1")[b"revision"]
        self.c("SET", "other", "1")
        self.c("KV", "COMPACT", rev)
        self.push_history_out()
        w = self.client()
        w("KV", "WATCH", "k", "PREVKV", "FROM", rev)
        self.assertEqual(w.push()[2:6], [rev, b"put", b"k", b"1"])

    def test_prev_that_was_compacted(self):
        self.c("SET", "k", "1")
        second = self.c("KV", "PUT", "k", "2")[b"revision"]
        self.c("KV", "COMPACT", second)
        w = self.client()
        w("KV", "WATCH", "k", "PREVKV", "FROM", second)
        p = w.push()
        self.assertEqual(p[5], b"2")
        self.assertIn((p[9], p[10]), [(None, -1), (b"1", second - 1)])

    def test_expiry_and_lease(self):
        w = self.client()
        lease = self.c("LEASE", "GRANT", "PX", 2000)[b"id"]
        w("KV", "WATCH", "l/", "PREFIX")
        self.c("SET", "l/ttl", "v", "PX", 1500)
        self.c("SET", "l/a", "v", "LEASE", lease)
        self.c("SET", "l/b", "v", "LEASE", lease)
        puts = [w.push() for _ in range(3)]
        self.assertEqual([p[8] for p in puts], [0, lease, lease])
        gone = [w.push() for _ in range(3)]
        self.assertEqual([(p[3], p[4], p[8]) for p in gone if p[4] == b"l/ttl"], [(b"expire", b"l/ttl", 0)])
        both = [p for p in gone if p[4] != b"l/ttl"]
        self.assertEqual([(p[3], p[8]) for p in both], [(b"expire", lease)] * 2)
        self.assertEqual(len({p[2] for p in both}), 1)

    def test_unwatch_ids_and_limits(self):
        w = self.client()
        self.assertEqual(w("KV", "WATCH", "a")[b"id"], 1)
        self.assertEqual(w("KV", "WATCH", "a", "ID", 2)[b"id"], 2)
        self.assertEqual(w("KV", "WATCH", "a")[b"id"], 3)
        self.fails("ERR duplicate watch id", w, "KV", "WATCH", "a", "ID", 3)
        self.fails("ERR", w, "KV", "WATCH", "a", "ID", 0)
        self.fails("ERR syntax error", w, "KV", "WATCH", "a", "FROM", 1, "SNAPSHOT")
        self.assertEqual(w("KV", "UNWATCH", 1, 3, 99), 2)
        self.c("SET", "a", "1")
        self.assertEqual([p[1] for p in w.quiet()], [2])

    def test_unwatch_while_history_is_read(self):
        for i in range(50):
            self.c("SET", "k", i)
        self.push_history_out()
        w = self.client()
        for _ in range(20):
            w.send("KV", "WATCH", "k", "FROM", 1)
            w.send("KV", "UNWATCH", 1, 2, 3)
        for _ in range(40):
            w.reply()
        self.assertEqual(w("PING"), b"PONG")

    def test_resp2_is_told_what_to_do(self):
        old = self.client(proto=2)
        self.assertEqual(
            self.fails("ERR KV WATCH needs HELLO 3", old, "KV", "WATCH", "a"),
            "ERR KV WATCH needs HELLO 3; use XREAD ... STREAMS __watch__:prefix or SUBSCRIBE __watch@0__:prefix")

    def test_hello_2_in_between_leaves_no_gap(self):
        w = self.client()
        rev = self.c("KV", "REVISION")
        w("KV", "WATCH", "k")
        self.c("SET", "k", 1)
        w.quiet()
        w("HELLO", 2)
        self.c("SET", "k", 2)
        self.assertEqual(w("PING"), b"PONG")
        w("HELLO", 3)
        self.c("SET", "k", 3)
        self.assertEqual([w.push()[2] for _ in range(2)], [rev + 2, rev + 3])

    def test_progress_frames_and_command(self):
        w = self.client()
        w("KV", "WATCH", "k", "PROGRESS", 100)
        rev = self.c("KV", "REVISION")
        self.assertEqual(w.push(), [b"kvwatch", 1, rev, b"progress"])
        self.c("SET", "other", "1")
        self.assertEqual(w("KV", "PROGRESS"), rev + 1)
        self.assertEqual(w("KV", "PROGRESS", 1), rev + 1)
        self.fails("ERR no such watch", w, "KV", "PROGRESS", 7)

    def test_progress_at_the_end_of_time(self):
        w = self.client()
        w("KV", "WATCH", "k", "PROGRESS", 2**63 - 1)
        self.assertEqual(self.c("SET", "k", "1"), b"OK")
        self.assertEqual(w.push()[3:5], [b"put", b"k"])

    def test_progress_is_asked_before_history_was_sent(self):
        rev = self.c("KV", "REVISION")
        for i in range(20):
            self.c("SET", "k", i)
        w = self.client()
        w.socket.sendall(w.encoded("KV", "WATCH", "k", "FROM", rev + 1) + w.encoded("KV", "PROGRESS"))
        self.assertEqual(w.reply()[b"revision"], rev + 20)
        told = w.reply()
        sent = [rev] + [p[2] for p in w.pushes]
        self.assertLessEqual(told, sent[-1])
        while sent[-1] < rev + 20:
            sent.append(w.value()[2])

    def test_progress_never_runs_ahead_of_events(self):
        w = self.client()
        w("KV", "WATCH", "p/", "PREFIX", "PROGRESS", 100)
        newest = 0
        for i in range(1, 61):
            self.c("SET", "p/k", i)
            if i % 20 != 0:
                continue
            while True:
                p = w.push()
                if p[3] == b"progress":
                    self.assertGreaterEqual(p[2], newest)
                    newest = p[2]
                    if newest == self.c("KV", "REVISION"):
                        break
                else:
                    self.assertGreater(p[2], newest)
                    newest = p[2]

    def test_snapshot_then_events(self):
        for i in range(30):
            self.c("SET", "s/%02d" % i, i)
        self.c("DEL", "s/05")
        rev = self.c("KV", "REVISION")
        w = self.client()
        self.assertEqual(w("KV", "WATCH", "s/", "PREFIX", "SNAPSHOT")[b"revision"], rev)
        states = [w.push() for _ in range(29)]
        self.assertEqual({p[3] for p in states}, {b"state"})
        self.assertEqual([p[4] for p in states], [b"s/%02d" % i for i in range(30) if i != 5])
        self.assertEqual(w.push(), [b"kvwatch", 1, rev, b"synced"])
        self.c("SET", "s/05", "x")
        self.assertEqual(w.push()[2:6], [rev + 1, b"put", b"s/05", b"x"])

    def test_snapshot_is_of_one_revision_while_keys_change(self):
        count = 3000
        pad = "x" * 1000
        for i in range(count):
            self.c.send("SET", "s/%05d" % i, "0" + pad)
        for i in range(count):
            self.c.reply()
        w = self.client(receive_bytes=4096)
        writer = self.client()
        rev = w("KV", "WATCH", "s/", "PREFIX", "SNAPSHOT", "PREVKV")[b"revision"]
        for i in range(count - 1, -1, -3):
            writer.send("SET", "s/%05d" % i, "1" + pad)
            writer.send("DEL", "s/%05d" % (i - 1))
        for i in range(count - 1, -1, -3):
            writer.reply()
            writer.reply()
        end = self.c("KV", "REVISION")
        states = {}
        while True:
            p = w.push()
            if p[3] == b"synced":
                self.assertEqual(p[2], rev)
                break
            self.assertEqual(p[3], b"state")
            self.assertLessEqual(p[2], rev)
            self.assertNotIn(p[4], states)
            states[p[4]] = p[5][:1]
        self.assertEqual(len(states), count)
        self.assertEqual(set(states.values()), {b"0"})
        revs = []
        while not revs or revs[-1] < end:
            revs.append(w.push()[2])
        self.assertEqual(revs, list(range(rev + 1, end + 1)))

    def test_not_in_multi(self):
        self.c("MULTI")
        self.fails("ERR Command not allowed inside a transaction", self.c, "KV", "WATCH", "a")
        self.c("DISCARD")

    def test_own_write_behind_the_watch_and_before(self):
        w = self.client()
        w.send("SET", "o", "1")
        w.send("KV", "WATCH", "o")
        w.send("SET", "o", "2")
        for _ in range(3):
            w.reply()
        self.assertEqual([p[5] for p in w.quiet()], [b"2"])

    def test_reset_drops_watches(self):
        w = self.client()
        w("KV", "WATCH", "k")
        w("RESET")
        w("HELLO", 3)
        self.c("SET", "k", "1")
        self.assertEqual(w.quiet(), [])


class SlowReader(Base):
    options = ("--watch-buffer-bytes", "65536", *OFTEN)

    def test_a_slow_reader_misses_nothing(self):
        slow = self.client(receive_bytes=4096)
        slow("KV", "WATCH", "w/", "PREFIX", "PREVKV")
        slow("KV", "WATCH", "w/", "PREFIX")
        fast = self.client()
        fast("KV", "WATCH", "w/", "PREFIX")
        start = self.c("KV", "REVISION") + 1
        count = 3000
        pad = "y" * 3000
        for i in range(0, count, 100):
            for k in range(100):
                self.c.send("MSET", "w/%d" % (k % 5), "%d %s" % (i + k, pad), "w/z", i + k)
            for _ in range(100):
                self.c.reply()
        end = self.c("KV", "REVISION")
        self.assertEqual(end - start + 1, count)
        revs = {1: [], 2: []}
        last = {}
        while len(revs[1]) < 2 * count or len(revs[2]) < 2 * count:
            p = slow.push()
            revs[p[1]].append(p[2])
            if p[1] == 1:
                self.assertEqual(p[9], last.get(p[4]))
                last[p[4]] = p[5]
        want = [rev for rev in range(start, end + 1) for _ in range(2)]
        self.assertEqual(revs[1], want)
        self.assertEqual(revs[2], want)
        self.assertEqual([fast.push()[2] for _ in want], want)
        self.c("SET", "w/0", "end")
        self.assertEqual({slow.push()[2], slow.push()[2]}, {end + 1})

    def test_a_slow_reader_beyond_compaction_is_told(self):
        slow = self.client(receive_bytes=4096)
        slow("KV", "WATCH", "w/", "PREFIX")
        pad = "z" * 60000
        for i in range(400):
            self.c.send("SET", "w/%d" % i, pad)
        for i in range(400):
            self.c.reply()
        rev = self.c("KV", "REVISION")
        self.c("KV", "COMPACT", rev)
        revs = []
        while True:
            p = slow.push()
            if p[3] == b"canceled":
                break
            revs.append(p[2])
            if p[2] == rev:
                self.skipTest("it was not slow enough to fall behind")
        self.assertEqual(revs, list(range(revs[0], revs[0] + len(revs))))
        self.assertEqual(p[2], revs[-1] + 1)
        self.assertTrue(p[4].startswith(b"COMPACTED required revision %d has been compacted" % p[2]))
        slow("KV", "WATCH", "w/", "PREFIX", "FROM", rev)
        self.assertEqual(slow.push()[2], rev)

    def test_at_the_output_limit_it_is_closed_and_never_cut(self):
        """What does not fit is left out, so the connection must end there: also where it was written,
        and is below the limit again, before the turn's end looks."""
        self.c("CONFIG", "SET", "client-output-max-bytes", 98304)
        ended = threading.Event()
        pad = "v" * 12000

        def write(c, key):
            while not ended.is_set():
                for _ in range(4):
                    c.send("SET", key, pad)
                for _ in range(4):
                    c.reply()

        writers = [threading.Thread(target=write, args=(self.client(), "w/%d" % i)) for i in range(8)]
        for writer in writers:
            writer.start()
        try:
            closed, seen = self.subscribe_until_closed(time.monotonic() + 3)
        finally:
            ended.set()
            for writer in writers:
                writer.join()
            self.c("CONFIG", "SET", "client-output-max-bytes", "64mb")
        self.assertGreater(closed, 0)
        self.assertGreater(seen, 0)

    def subscribe_until_closed(self, deadline):
        """Again and again. How often it was closed, and the messages: without a hole."""
        closed = seen = 0
        while time.monotonic() < deadline:
            s = Client(self.server.ports[0], 2)
            last = None
            try:
                s("SUBSCRIBE", "__watch@0__:w/")
                while time.monotonic() < deadline:
                    rev = json.loads(s.reply()[2])["rev"]
                    self.assertIn(last, (None, rev - 1))
                    last = rev
                    seen += 1
            except ConnectionError:
                closed += 1
            finally:
                s.close()
        return closed, seen

    def test_others_are_not_held_up(self):
        slow = self.client(receive_bytes=4096)
        slow("KV", "WATCH", "", "PREFIX")
        fast = self.client()
        fast("KV", "WATCH", "", "PREFIX")
        for i in range(300):
            self.c("SET", "k", "q" * 3000)
            self.assertEqual(fast.push()[4], b"k")

    def test_a_client_that_goes_while_behind(self):
        slow = self.client(receive_bytes=4096)
        for _ in range(10):
            slow("KV", "WATCH", "", "PREFIX")
        for i in range(100):
            self.c("SET", "k", "q" * 3000)
        slow.close()
        self.clients.remove(slow)
        self.c("SET", "k", "1")
        self.assertEqual(self.c("PING"), b"PONG")


class CompactionRace(Base):
    def test_resume_while_compacting(self):
        """Each watch shows every revision from its start, or says where it was cut off."""
        stop = threading.Event()
        writer = self.client()

        def write():
            i = 0
            while not stop.is_set():
                for _ in range(20):
                    writer.send("SET", "c/%d" % (i % 5), "v%d" % i)
                    i += 1
                    if i % 11 == 0:
                        writer.send("DEL", "c/0")
                        writer.reply()
                    writer.reply()
                rev = writer("KV", "REVISION")
                if rev > 60:
                    writer.send("KV", "COMPACT", rev - 30)
                    writer.reply()

        thread = threading.Thread(target=write)
        thread.start()
        results = []
        try:
            rng = random.Random(9)
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                w = self.client()
                rev = self.c("KV", "REVISION")
                start = max(2, rev + rng.randrange(-60, 20))  # 1 is the empty store
                try:
                    w("KV", "WATCH", "", "PREFIX", "FROM", start)
                except ReplyError as e:
                    self.assertTrue(str(e).startswith("COMPACTED"), e)
                    continue
                want = start
                ended = False
                seen = []
                while want < rev + 40 and not ended:
                    p = w.push()
                    if p[3] == b"canceled":
                        self.assertEqual(p[2], want)
                        ended = True
                    else:
                        self.assertEqual(p[2], want, (start, seen[-5:]))
                        seen.append(p[2])
                        want += 1
                results.append(ended)
                w.close()
                self.clients.remove(w)
        finally:
            stop.set()
            thread.join()
        self.assertGreater(len(results), 5)
        self.assertIn(False, results)


class Streams(Base):
    def read(self, c, *args):
        reply = c("XREAD", *args)
        if reply is None:
            return None
        if isinstance(reply, dict):
            return {k: [fields(e) for e in v] for k, v in reply.items()}
        return {k: [fields(e) for e in v] for k, v in reply}

    def test_entries_in_both_protocols(self):
        rev = self.c("KV", "REVISION")
        self.c("SET", "a/1", "x")
        self.c("DEL", "a/1")
        want = [
            ("%d-1" % (rev + 1), {b"op": b"put", b"key": b"a/1", b"value": b"x", b"create": b"%d" % (rev + 1),
                                  b"version": b"1", b"lease": b"0"}),
            ("%d-1" % (rev + 2), {b"op": b"del", b"key": b"a/1", b"create": b"0", b"version": b"0", b"lease": b"0"}),
        ]
        for proto in (2, 3):
            c = self.client(proto)
            self.assertEqual(self.read(c, "STREAMS", "__watch__:a/", rev + 1), {b"__watch__:a/": want})
            self.assertEqual(self.read(c, "STREAMS", "__watchkey__:a/1", rev + 1), {b"__watchkey__:a/1": want})
            self.assertEqual(self.read(c, "STREAMS", "__watch@0__:", "%d-1" % (rev + 1)), {b"__watch@0__:": want[1:]})
            self.assertIsNone(self.read(c, "STREAMS", "__watch__:a/", "$"))
            self.assertIsNone(self.read(c, "STREAMS", "__watch__:zzz/", rev + 1))

    def test_errors(self):
        self.fails("ERR 'k' is not a watch stream", self.c, "XREAD", "STREAMS", "k", "0")
        self.fails("ERR 'k' is not a watch stream", self.c, "XRANGE", "k", "-", "+")
        self.fails("ERR '__watch@99__:' is not a watch stream", self.c, "XREAD", "STREAMS", "__watch@99__:", "0")
        self.fails("ERR Unbalanced 'xread'", self.c, "XREAD", "STREAMS", "__watch__:a", "__watch__:b", "0")
        self.fails("ERR Invalid stream ID", self.c, "XREAD", "STREAMS", "__watch__:", "x")
        self.fails("ERR timeout is negative", self.c, "XREAD", "BLOCK", "-1", "STREAMS", "__watch__:", "$")
        self.fails("ERR unknown command 'XLEN'", self.c, "XLEN", "__watch__:")

    def test_block_wakes_and_resumes_by_id(self):
        reader = self.client()
        last = "$"
        reader.send("XREAD", "BLOCK", "20000", "STREAMS", "__watch__:b/", last)
        got = []
        for i in range(50):
            self.c("MSET", "b/x", i, "b/y", i, "elsewhere", i)
        reply = reader.reply()
        while len(got) < 100:
            got += [fields(e) for e in reply[b"__watch__:b/"]]
            last = got[-1][0]
            if len(got) < 100:
                reply = reader("XREAD", "BLOCK", "20000", "COUNT", 3, "STREAMS", "__watch__:b/", last)
        self.assertEqual([v[b"value"] for _, v in got if v[b"key"] == b"b/x"], [b"%d" % i for i in range(50)])
        self.assertEqual(len({i for i, _ in got}), 100)

    def test_count_never_cuts_a_revision(self):
        rev = self.c("KV", "REVISION") + 1
        for i in range(3):
            self.c("MSET", *[x for k in range(5) for x in ("m/%d" % k, i)])
        got = self.read(self.c, "COUNT", 2, "STREAMS", "__watch__:m/", rev)[b"__watch__:m/"]
        self.assertEqual([i for i, _ in got], ["%d-%d" % (rev, n) for n in range(1, 6)])
        got = self.read(self.c, "COUNT", 6, "STREAMS", "__watch__:m/", rev)[b"__watch__:m/"]
        self.assertEqual(len(got), 10)

    def test_several_streams(self):
        rev = self.c("KV", "REVISION") + 1
        self.c("SET", "x/1", 1)
        self.c("SET", "y/1", 1)
        got = self.read(self.c, "STREAMS", "__watch__:x/", "__watch__:n/", "__watch__:y/", rev, rev, rev)
        self.assertEqual(sorted(got), [b"__watch__:x/", b"__watch__:y/"])
        reader = self.client()
        reader.send("XREAD", "BLOCK", 20000, "STREAMS", "__watch__:x/", "__watch__:y/", "$", "$")
        self.client()("SET", "nobody", 1)
        time.sleep(0.05)
        self.c("SET", "y/2", 1)
        self.assertEqual(list(reader.reply()), [b"__watch__:y/"])

    def test_all_streams_share_one_reply(self):
        """What a reply has no room for comes with a later one: the ids of those streams do not move."""
        reply_max, value = 262144, "v" * 20000
        bytes_max = 2 * reply_max + len(value)
        self.set_option("reply-max-bytes", reply_max)
        rev = self.c("KV", "REVISION") + 1
        names = [b"__watch__:s%d/" % i for i in range(20)]
        for i in range(10):
            for k in range(20):
                self.c("SET", "s%d/%d" % (k, i), value)
        two = self.client(2)
        for _ in range(2):
            streams = two("XREAD", "STREAMS", *([names[0]] * 100), *([rev] * 100))
            self.assertLess(sum(len(value) * len(entries) for _, entries in streams), bytes_max)
            ids = {name: rev for name in names}
            seen = {name: [] for name in names}
            while any(len(keys) < 10 for keys in seen.values()):
                got = self.read(self.c, "STREAMS", *names, *[ids[name] for name in names])
                self.assertLess(sum(len(value) * len(entries) for entries in got.values()), bytes_max)
                for name, entries in got.items():
                    ids[name] = entries[-1][0]
                    seen[name] += [v[b"key"] for _, v in entries]
            for k, name in enumerate(names):
                self.assertEqual(seen[name], [b"s%d/%d" % (k, i) for i in range(10)])
            self.push_history_out()

    def test_a_revision_too_large_for_a_reply_is_said(self):
        """Not a closed connection. XRANGE reads it in parts."""
        self.set_option("client-output-max-bytes", 1 << 20)
        reader = self.client()
        rev = self.c("KV", "REVISION") + 1
        error = "ERR the events of revision %d are too many for one reply; use XRANGE with COUNT"
        reader.send("XREAD", "BLOCK", 20000, "STREAMS", "__watch__:big/", "$")
        self.wait_info("blocked_clients", 1)
        for _ in range(2):
            self.c("MSET", *[x for i in range(13) for x in ("big/%02d" % i, "v" * 100000)])
        self.assertEqual(str(reader.reply()), error % rev)
        for _ in range(2):
            self.fails(error % (rev + 1), self.c, "XREAD", "STREAMS", "__watch__:", "__watch__:big/", rev + 1, rev + 1)
            self.fails(error % rev, self.c, "KV", "READ", "big/", "PREFIX", "FROM", rev)
            got, after = [], rev
            while len(got) < 26:
                part = [fields(e) for e in self.c("XRANGE", "__watch__:big/", after, "+", "COUNT", 4)]
                got += [(i, v[b"key"]) for i, v in part]
                after = "(" + got[-1][0]
            self.assertEqual(got, [("%d-%d" % (r, i + 1), b"big/%02d" % i) for r in (rev, rev + 1) for i in range(13)])
            self.push_history_out()

    def test_many_revisions_are_never_too_large_for_a_reply(self):
        self.set_option("client-output-max-bytes", 1 << 20)
        rev = self.c("KV", "REVISION") + 1
        for i in range(200):
            self.c("SET", "m/%d" % i, "v" * 20000)
        for _ in range(2):
            got, after = [], rev
            while len(got) < 200:
                got += self.read(self.c, "STREAMS", "__watch__:m/", after)[b"__watch__:m/"]
                after = got[-1][0]
            self.assertEqual([v[b"key"] for _, v in got], [b"m/%d" % i for i in range(200)])
            self.push_history_out()

    def test_compacted_and_zero(self):
        for i in range(10):
            self.c("SET", "k", i)
        rev = self.c("KV", "REVISION")
        self.c("KV", "COMPACT", rev - 2)
        self.fails("COMPACTED required revision %d has been compacted, oldest is %d" % (rev - 3, rev - 2), self.c,
                   "XREAD", "STREAMS", "__watch__:", rev - 3)
        got = self.read(self.c, "STREAMS", "__watch__:k", "0")[b"__watch__:k"]
        self.assertEqual([i for i, _ in got], ["%d-1" % r for r in range(rev - 2, rev + 1)])
        got = self.read(self.c, "STREAMS", "__watch__:k", "%d-1" % (rev - 3))[b"__watch__:k"]
        self.assertEqual([i for i, _ in got], ["%d-1" % r for r in range(rev - 2, rev + 1)])

    def test_timeouts_and_progress(self):
        begin = time.monotonic()
        self.assertIsNone(self.read(self.c, "BLOCK", 100, "STREAMS", "__watch__:t/", "$"))
        self.assertGreaterEqual(time.monotonic() - begin, 0.09)
        rev = self.c("KV", "REVISION")
        for i in range(1200):
            self.c.send("SET", "busy", i)
        for i in range(1200):
            self.c.reply()
        now = self.c("KV", "REVISION")
        got = self.read(self.c, "BLOCK", 50, "STREAMS", "__watch__:t/", rev)
        self.assertEqual(got, {b"__watch__:t/": [("%d-0" % (now + 1), {b"op": b"progress"})]})
        self.assertIsNone(self.read(self.c, "BLOCK", 50, "STREAMS", "__watch__:t/", "%d-0" % (now + 1)))
        self.c("SET", "t/1", "x")
        got = self.read(self.c, "STREAMS", "__watch__:t/", "%d-0" % (now + 1))
        self.assertEqual([i for i, _ in got[b"__watch__:t/"]], ["%d-1" % (now + 1)])

    def test_in_multi(self):
        self.c("MULTI")
        self.c("XREAD", "BLOCK", 0, "STREAMS", "__watch__:", "$")
        self.assertEqual(self.c("EXEC"), [None])

    def test_from_the_store(self):
        rev = self.c("KV", "REVISION") + 1
        for i in range(300):
            self.c("SET", "h/%d" % i, i)
        self.push_history_out()
        got = []
        next_id = rev
        while len(got) < 300:
            got += self.read(self.c, "COUNT", 37, "STREAMS", "__watch__:h/", next_id)[b"__watch__:h/"]
            next_id = got[-1][0]
        self.assertEqual([v[b"key"] for _, v in got], [b"h/%d" % i for i in range(300)])
        forward = [fields(e) for e in self.c("XRANGE", "__watch__:h/", rev, "+")]
        self.assertEqual(forward, got)
        self.assertEqual([fields(e) for e in self.c("XREVRANGE", "__watch__:h/", "+", rev)], got[::-1])
        self.assertEqual([fields(e) for e in self.c("XREVRANGE", "__watch__:h/", "+", rev, "COUNT", 7)], got[:-8:-1])
        self.assertEqual([fields(e) for e in self.c("XRANGE", "__watch__:h/", "(" + got[4][0], got[9][0])], got[5:10])
        self.assertEqual([fields(e) for e in self.c("XRANGE", "__watch__:h/", got[4][0], "(" + got[9][0], "COUNT", 2)],
                         got[4:6])
        ninth = got[9][0].split("-")[0]  # a bound without a place: Redis' own answers
        for begin, end in (("(" + ninth, ninth), (ninth, "(" + ninth)):
            self.assertEqual([fields(e) for e in self.c("XRANGE", "__watch__:h/", begin, end)], [got[9]])
        self.assertEqual(self.c("XRANGE", "__watch__:h/", "+", "-"), [])

    def test_xinfo(self):
        info = self.c("XINFO", "STREAM", "__watch__:a")
        rev = self.c("KV", "REVISION")
        self.assertEqual(info[b"last-generated-id"], b"%d-0" % (rev + 1))
        self.assertIsNone(self.c("XREAD", "STREAMS", "__watch__:", info[b"last-generated-id"]))

    def test_blocked_client_goes_or_is_unblocked(self):
        for _ in range(5):
            reader = self.client()
            reader.send("XREAD", "BLOCK", 0, "STREAMS", "__watch__:u/", "$")
            reader.close()
            self.clients.remove(reader)
        reader = self.client()
        reader_id = reader("CLIENT", "ID")
        reader.send("XREAD", "BLOCK", 0, "STREAMS", "__watch__:u/", "$")
        deadline = time.monotonic() + SECONDS_MAX
        while self.c("CLIENT", "UNBLOCK", reader_id) != 1:
            self.assertLess(time.monotonic(), deadline)
        reader.reply()
        self.c("SET", "u/1", 1)
        self.assertEqual(reader("PING"), b"PONG")

    def test_backwards_as_much_as_forwards(self):
        """A reply may be as large in either direction: what is read and not wanted does not count."""
        self.set_option("client-output-max-bytes", 1 << 20)
        rev = self.c("KV", "REVISION") + 1
        for i in range(80):
            self.c("SET", "w/%d" % i, "v" * 20000)
        for count in (1, 9, 13, 17, 24):
            newest = self.c("XRANGE", "__watch__:w/", rev + 80 - count, "+", "COUNT", count)
            self.assertEqual(len(newest), count)
            self.assertEqual(self.c("XREVRANGE", "__watch__:w/", "+", rev, "COUNT", count), newest[::-1])
        for command in (["XRANGE", "__watch__:w/", rev, "+"], ["XREVRANGE", "__watch__:w/", "+", rev]):
            for count in ([], ["COUNT", 30]):
                self.fails("ERR too many entries for one reply; use COUNT", self.c, *command, *count)

    def test_backwards_small_ones_behind_large_ones(self):
        """A window is read from its old end: what is large there is not wanted for it."""
        self.set_option("client-output-max-bytes", 1 << 20)
        rev = self.c("KV", "REVISION") + 1
        for size in [20000] * 60 + [1] * 40:
            self.c("SET", "v/", "v" * size)
        for count in (1, 39, 40, 41, 60):
            newest = self.c("XRANGE", "__watch__:v/", rev + 100 - count, "+", "COUNT", count)
            self.assertEqual(len(newest), count)
            self.assertEqual(self.c("XREVRANGE", "__watch__:v/", "+", rev, "COUNT", count), newest[::-1])
        self.fails("ERR too many entries for one reply; use COUNT", self.c, "XREVRANGE", "__watch__:v/", "+", rev, "COUNT", 80)

    def test_a_read_of_history_is_not_unblocked(self):
        """It ends by itself: there is no wait to end."""
        rev = self.c("KV", "REVISION") + 1
        for i in range(100):
            self.c("SET", "h/%d" % i, i)
        self.push_history_out()
        reader = self.client()
        reader_id = reader("CLIENT", "ID")
        for command in (["XRANGE", "__watch__:h/", rev, "+"], ["XREVRANGE", "__watch__:h/", "+", rev],
                        ["XREAD", "STREAMS", "__watch__:h/", rev]) * 20:
            reader.send(*command)
            unblocked = [self.c("CLIENT", "UNBLOCK", reader_id, "ERROR") for _ in range(5)]
            reply = reader.reply()
            self.assertNotIsInstance(reply, ReplyError)
            self.assertEqual(unblocked, [0] * 5)

    def test_kv_read(self):
        rev = self.c("KV", "REVISION") + 1
        self.c("SET", "r/1", "a")
        self.c("SET", "r/1", "b")
        got = self.c("KV", "READ", "r/", "PREFIX", "FROM", rev, "PREVKV")
        self.assertEqual(got[b"next"], rev + 2)
        self.assertEqual([(e[b"op"], e[b"key"], e[b"value"], e[b"rev"], e[b"version"], e[b"prev"], e[b"prevmod"])
                          for e in got[b"events"]],
                         [(b"put", b"r/1", b"a", rev, 1, None, 0), (b"put", b"r/1", b"b", rev + 1, 2, b"a", rev)])
        got = self.c("KV", "READ", "r/", "PREFIX", "FROM", rev, "COUNT", 1)
        self.assertEqual((len(got[b"events"]), got[b"next"]), (1, rev + 1))
        self.assertNotIn(b"prev", got[b"events"][0])
        got = self.c("KV", "READ", "none", "FROM", rev, "BLOCK", 50)
        self.assertEqual(got, {b"next": rev + 2, b"events": []})
        got = self.c("KV", "READ", "none", "FROM", rev + 100)
        self.assertEqual(got, {b"next": rev + 100, b"events": []})
        reader = self.client(2)
        reader.send("KV", "READ", "r/", "PREFIX", "FROM", rev + 2, "BLOCK", 20000)
        time.sleep(0.05)
        self.c("DEL", "r/1")
        got = reader.reply()
        self.assertEqual(got[:2], [b"next", rev + 3])
        self.assertEqual(got[3][0][:8], [b"op", b"del", b"key", b"r/1", b"value", None, b"rev", rev + 2])


class PubSub(Base):
    def test_frames_resp2(self):
        s = self.client(2)
        self.assertEqual(s("SUBSCRIBE", "a", "b"), [b"subscribe", b"a", 1])
        self.assertEqual(s.reply(), [b"subscribe", b"b", 2])
        self.assertEqual(s("PSUBSCRIBE", "a*"), [b"psubscribe", b"a*", 3])
        self.assertEqual(s("SUBSCRIBE", "a"), [b"subscribe", b"a", 3])
        self.assertEqual(self.c("PUBLISH", "a", "hi"), 2)
        self.assertEqual(s.reply(), [b"message", b"a", b"hi"])
        self.assertEqual(s.reply(), [b"pmessage", b"a*", b"a", b"hi"])
        self.fails("ERR Can't execute 'get'", s, "GET", "x")
        self.assertEqual(s("UNSUBSCRIBE", "a", "zz"), [b"unsubscribe", b"a", 2])
        self.assertEqual(s.reply(), [b"unsubscribe", b"zz", 2])
        self.assertEqual(s("UNSUBSCRIBE"), [b"unsubscribe", b"b", 1])
        self.assertEqual(s("UNSUBSCRIBE"), [b"unsubscribe", None, 1])
        self.assertEqual(s("PUNSUBSCRIBE"), [b"punsubscribe", b"a*", 0])
        self.assertEqual(s("PUNSUBSCRIBE"), [b"punsubscribe", None, 0])
        self.assertIsNone(s("GET", "x"))

    def test_frames_resp3(self):
        s = self.client(3)
        s.send("SUBSCRIBE", "a")
        self.assertEqual(s.push(), [b"subscribe", b"a", 1])
        s.send("SSUBSCRIBE", "a")
        self.assertEqual(s.push(), [b"ssubscribe", b"a", 1])
        self.assertEqual(s("PUBLISH", "a", "self"), 1)
        self.assertEqual(s.push(), [b"message", b"a", b"self"])
        self.assertEqual(self.c("SPUBLISH", "a", "shard"), 1)
        self.assertEqual(s.push(), [b"smessage", b"a", b"shard"])
        s.send("SUNSUBSCRIBE")
        self.assertEqual(s.push(), [b"sunsubscribe", b"a", 0])

    def test_pubsub_command(self):
        s = self.client(2)
        s("SUBSCRIBE", "news.a")
        s("SUBSCRIBE", "other")
        s("PSUBSCRIBE", "n*")
        s("SSUBSCRIBE", "shard")
        self.assertEqual(sorted(self.c("PUBSUB", "CHANNELS")), [b"news.a", b"other"])
        self.assertEqual(self.c("PUBSUB", "CHANNELS", "news.*"), [b"news.a"])
        self.assertEqual(self.c("PUBSUB", "NUMSUB", "news.a", "x"), [b"news.a", 1, b"x", 0])
        self.assertEqual(self.c("PUBSUB", "NUMPAT"), 1)
        self.assertEqual(self.c("PUBSUB", "SHARDCHANNELS"), [b"shard"])
        self.assertEqual(self.c("PUBSUB", "SHARDNUMSUB", "shard"), [b"shard", 1])
        s.close()
        self.clients.remove(s)
        deadline = time.monotonic() + SECONDS_MAX
        while self.c("PUBSUB", "NUMPAT") != 0:
            self.assertLess(time.monotonic(), deadline)
        self.assertEqual(self.c("PUBSUB", "CHANNELS"), [])

    def test_publish_comes_behind_own_writes(self):
        s = self.client(2)
        s("SUBSCRIBE", "ch")
        self.c.send("SET", "k", "new")
        self.c.send("PUBLISH", "ch", "look")
        self.assertEqual(s.reply()[2], b"look")
        self.assertEqual(self.client()("GET", "k"), b"new")
        self.c.reply()
        self.assertEqual(self.c.reply(), 1)

    def test_many_subscribers(self):
        subs = [self.client(2) for _ in range(20)]
        for i, s in enumerate(subs):
            s("SUBSCRIBE", "all")
            s("SUBSCRIBE", "one%d" % i)
        self.assertEqual(self.c("PUBLISH", "all", "x"), 20)
        for i, s in enumerate(subs):
            self.assertEqual(s.reply(), [b"message", b"all", b"x"])
            if i % 2:
                s("UNSUBSCRIBE", "all")
        self.assertEqual(self.c("PUBLISH", "all", "y"), 10)
        self.assertEqual(self.c("PUBLISH", "one7", "z"), 1)

    def test_names_are_bounded_together(self):
        """Those of one connection, by subscription-names-max-bytes (4 MiB)."""
        error = "ERR too many subscriptions on this connection (max-subscriptions-per-client"
        names = [c * 1000000 for c in "abcd"]
        self.wait_info("subscription_name_bytes", 0)
        s = self.client(2)
        for i, name in enumerate(names):
            self.assertEqual(s("SUBSCRIBE" if i % 2 else "SSUBSCRIBE", name)[2], i // 2 + 1)
        self.fails(error, s, "SUBSCRIBE", "e" * 1000000)
        self.assertEqual(s("SUBSCRIBE", names[1])[2], 2)
        self.assertEqual(s("PSUBSCRIBE", "e*")[2], 3)
        self.assertEqual(self.info(self.c, "subscription_name_bytes"), 4000002)
        s("UNSUBSCRIBE", names[1])
        self.assertEqual(s("SUBSCRIBE", "e" * 1000000)[2], 3)
        self.assertEqual(self.client(2)("SUBSCRIBE", names[1])[2], 1)

    def test_watch_channels(self):
        s = self.client(2)
        s("SUBSCRIBE", "__watch@0__:cfg/")
        s("SUBSCRIBE", "__watchkey@0__:cfg/a")
        rev = self.c("KV", "PUT", "cfg/a", 'v"\n')[b"revision"]
        self.c("SET", "cfg", "not this one")
        got = {}
        for _ in range(2):
            kind, channel, text = s.reply()
            self.assertEqual(kind, b"message")
            got[channel] = json.loads(text)
        want = {"rev": rev, "n": 1, "op": "put", "key": "cfg/a", "value": 'v"\n', "create": rev, "version": 1,
                "lease": 0}
        self.assertEqual(got, {b"__watch@0__:cfg/": want, b"__watchkey@0__:cfg/a": want})
        self.c("DEL", "cfg/a")
        text = json.loads(s.reply()[2])
        self.assertEqual((text["op"], text["value"], text["rev"]), ("del", None, rev + 2))

    def test_watch_channels_of_bytes(self):
        s = self.client(2)
        s("SUBSCRIBE", "__watch@0__:")
        self.c("SET", "k", b"\xff\x00")
        text = json.loads(s.reply()[2])
        self.assertEqual(text["enc"], "base64")
        self.assertEqual(base64.b64decode(text["value"]), b"\xff\x00")
        self.assertEqual(base64.b64decode(text["key"]), b"k")
        self.c("SET", "k", "\u00e4\U0001f600")
        text = json.loads(s.reply()[2])
        self.assertNotIn("enc", text)
        self.assertEqual(text["value"], "\u00e4\U0001f600")

    def test_watch_patterns(self):
        s = self.client(2)
        s("PSUBSCRIBE", "__watch@0__:cfg/*")
        s("PSUBSCRIBE", "__watch@*__:*.log")
        self.c("SET", "cfg/a", "1")
        self.c("SET", "x.log", "2")
        self.c("SET", "y", "3")
        got = [s.reply() for _ in range(2)]
        self.assertEqual([g[:3] for g in got], [[b"pmessage", b"__watch@0__:cfg/*", b"__watch@0__:cfg/a"],
                                                [b"pmessage", b"__watch@*__:*.log", b"__watch@0__:x.log"]])
        self.assertEqual([json.loads(g[3])["value"] for g in got], ["1", "2"])


class Notifications(Base):
    def setUp(self):
        super().setUp()
        self.c("CONFIG", "SET", "notify-keyspace-events", "KEA")

    def tearDown(self):
        self.c("CONFIG", "SET", "notify-keyspace-events", "")
        super().tearDown()

    def test_set_del_expired(self):
        s = self.client(2)
        s("PSUBSCRIBE", "__key*@0__:*")
        self.c("SET", "k", "1")
        self.assertEqual(s.reply(), [b"pmessage", b"__key*@0__:*", b"__keyspace@0__:k", b"set"])
        self.assertEqual(s.reply(), [b"pmessage", b"__key*@0__:*", b"__keyevent@0__:set", b"k"])
        self.c("DEL", "k")
        self.assertEqual(s.reply()[2:], [b"__keyspace@0__:k", b"del"])
        self.assertEqual(s.reply()[2:], [b"__keyevent@0__:del", b"k"])

    def test_expiry(self):
        s = self.client(2)
        s("SUBSCRIBE", "__keyevent@0__:expired")
        self.c("SET", "gone", "1", "PX", 30)
        self.assertEqual(s.reply(), [b"message", b"__keyevent@0__:expired", b"gone"])

    def test_classes(self):
        self.c("CONFIG", "SET", "notify-keyspace-events", "Kgn")
        s = self.client(2)
        s("SUBSCRIBE", "__keyspace@0__:k")
        self.c("SET", "k", "1")
        self.c("SET", "k", "2")
        self.c("PEXPIRE", "k", 100000)
        self.c("DEL", "k")
        self.assertEqual([s.reply()[2] for _ in range(3)], [b"new", b"expire", b"del"])


class Restart(Base):
    def test_resume_after_a_restart(self):
        start = self.c("KV", "REVISION") + 1
        for i in range(100):
            self.c("MSET", "a", i, "b", i)
        end = self.c("KV", "REVISION")
        self.server.stop()
        self.server.start()
        w = self.client()
        w("KV", "WATCH", "", "PREFIX", "FROM", start)
        revs = [w.push()[2] for _ in range(2 * (end - start + 1))]
        self.assertEqual(revs, [rev for rev in range(start, end + 1) for _ in range(2)])
        c = self.client()
        entries = c("XRANGE", "__watch__:a", start, "+")
        self.assertEqual(len(entries), 100)


if __name__ == "__main__":
    unittest.main()
