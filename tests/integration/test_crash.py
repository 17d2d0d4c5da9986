#!/usr/bin/env python3
"""Servers that are killed, or stopped, under load: what was answered is there, what was not is there
whole or not at all.

Every writer sends a stream of operations that depends only on its number, over one connection. What
the server holds of it must be the result of the first n of them, with n between what was answered
and what was sent: nothing missing, nothing torn, nothing out of order.
"""

import random
import signal
import threading
import time
import unittest

from harness import SEED, STEP_S_MAX, Closed, Error, TestCase, as_map, encode, rounds, wait_until

WRITERS = 4
KEYS = 23
WINDOW = 40          # operations a writer sends before it reads the answers
LOAD_S = 0.7
LEASE_MS = 60000
SHORT_LEASE_MS = 1500


class Stream:
    """One writer's operations by number, what they do, and how far they went."""

    def __init__(self, name):
        self.name = name
        self.state = {}     # after `base` operations
        self.base = 0
        self.answered = 0
        self.sent = 0
        self.revision_max = 0

    def key(self, what):
        return f"{self.name}/{what}".encode()

    def commands(self, n):
        """The commands of operation n; the last one's answer says that it happened."""
        text = b"%d" % n
        kind = n % 11
        if kind == 3:
            return [("DEL", self.key(n * 7 % KEYS))]
        if kind == 5:
            return [("INCR", self.key("count"))]
        if kind == 7:
            return [("MULTI",), ("SET", self.key("pair1"), text), ("INCR", self.key("count")),
                    ("SET", self.key("pair2"), text), ("EXEC",)]
        if kind == 9:
            before = b"%d" % (n - 11)
            link = ("THEN", 2, 3, "SET", self.key("chain"), text, 3, "SET", self.key("link"), text)
            if n < 11:
                return [("TXN", "IF", 1, "MISSING", self.key("chain"), *link)]
            return [("TXN", "IF", 1, "VALUE", self.key("chain"), "=", before, *link)]
        if kind == 10:
            return [("KV", "PUT", self.key("put"), text)]
        return [("SET", self.key(n % KEYS), text + b"." * (n * 37 % 700))]

    def apply(self, state, n):
        text = b"%d" % n
        kind = n % 11
        count = int(state.get(self.key("count"), b"0"))
        if kind == 3:
            state.pop(self.key(n * 7 % KEYS), None)
        elif kind == 5:
            state[self.key("count")] = b"%d" % (count + 1)
        elif kind == 7:
            state[self.key("pair1")] = state[self.key("pair2")] = text
            state[self.key("count")] = b"%d" % (count + 1)
        elif kind == 9:
            state[self.key("chain")] = state[self.key("link")] = text
        elif kind == 10:
            state[self.key("put")] = text
        else:
            state[self.key(n % KEYS)] = text + b"." * (n * 37 % 700)

    def check_answer(self, n, answers):
        kind = n % 11
        last = answers[-1]
        assert not any(isinstance(answer, Error) for answer in answers), (n, answers)
        if kind == 7:
            assert last[0] == "OK" and last[2] == "OK", (n, last)
        elif kind == 9:
            done = as_map(last)
            assert done["succeeded"] == 1, (n, last)
            self.note_revision(done["revision"])
        elif kind == 10:
            self.note_revision(as_map(last)["revision"])

    def note_revision(self, revision):
        assert revision > self.revision_max, (revision, self.revision_max)
        self.revision_max = revision

    def run(self, server, stop):
        """Sends windows until told to stop or the server is gone."""
        try:
            with server.client() as client:
                while not stop.is_set():
                    window = [(n, self.commands(n)) for n in range(self.sent, self.sent + WINDOW)]
                    self.sent += WINDOW
                    client.raw(encode_all(window))
                    for n, commands in window:
                        self.check_answer(n, [client.read() for _ in commands])
                        self.answered = n + 1
        except (Closed, OSError):
            pass

    def settle(self, held):
        """What the server holds now must be some prefix; from here the stream goes on."""
        state = dict(self.state)
        for n in range(self.base, self.answered):
            self.apply(state, n)
        n = self.answered
        while state != held:
            if n == self.sent:
                expected = dict(self.state)
                for i in range(self.base, self.answered):
                    self.apply(expected, i)
                wrong = {key: (expected.get(key), held.get(key)) for key in {**expected, **held}
                         if expected.get(key) != held.get(key)}
                raise AssertionError(f"{self.name}: {self.answered} answered, {self.sent} sent, "
                                     f"and no prefix of them looks like this: {wrong}")
            self.apply(state, n)
            n += 1
        self.state, self.base, self.answered, self.sent = state, n, n, n


def encode_all(window):
    return b"".join(encode(*command) for _, commands in window for command in commands)


class Leases:
    """Keys on leases: never gone before their time."""

    def __init__(self):
        self.long = []      # keys
        self.short = []     # (key, sent at)
        self.count = 0

    def grant(self, client, ttl_ms):
        sent_s = time.monotonic()
        lease = as_map(client.cmd("LEASE", "GRANT", "PX", ttl_ms))["id"]
        self.count += 1
        key = b"leased/%d" % self.count
        assert client.cmd("SET", key, "x", "LEASE", lease) == "OK"
        return key, sent_s, lease

    def run(self, server, stop):
        try:
            with server.client() as client:
                while not stop.is_set():
                    key, _, lease = self.grant(client, LEASE_MS)
                    assert client.cmd("LEASE", "KEEPALIVE", "PX", lease)[0] > LEASE_MS // 2
                    self.long.append(key)
                    self.short.append(self.grant(client, SHORT_LEASE_MS)[:2])
                    time.sleep(0.02)
        except (Closed, OSError):
            pass

    def check(self, client):
        values = client.pipeline([("GET", key) for key in self.long])
        lost = [key for key, value in zip(self.long, values) if value is None]
        assert not lost, f"gone before their leases' end: {lost[:5]}"
        for key, sent_s in self.short:
            there = client.cmd("EXISTS", key) == 1
            took_s = time.monotonic() - sent_s
            assert there or took_s * 1000 >= SHORT_LEASE_MS, f"{key} gone after {took_s:.3f} s"
        self.short = [(key, sent_s) for key, sent_s in self.short
                      if (time.monotonic() - sent_s) * 1000 < SHORT_LEASE_MS]


class Counter:
    """One key that several clients count."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sent = self.answered = self.seen = 0

    def run(self, server, stop):
        try:
            with server.client() as client:
                while not stop.is_set():
                    with self.lock:
                        self.sent += 10
                    for value in client.pipeline([("INCR", "shared")] * 10):
                        with self.lock:
                            self.answered += 1
                            self.seen = max(self.seen, value)
        except (Closed, OSError):
            pass

    def check(self, client):
        value = int(client.cmd("GET", "shared") or 0)
        assert max(self.answered, self.seen) <= value <= self.sent, (self.answered, self.seen, value, self.sent)
        self.sent = self.answered = value


class Load:
    """All of them at once, against one server."""

    def __init__(self):
        self.streams = [Stream(f"w{i}") for i in range(WRITERS)]
        self.leases = Leases()
        self.counter = Counter()
        self.failed = []

    def guarded(self, run, server, stop):
        try:
            run(server, stop)
        except Exception as error:  # reported by the main thread  # pylint: disable=broad-except
            self.failed.append(error)

    def during(self, server, seconds, end):
        """Runs for so long, then calls end(), which ends the server."""
        stop = threading.Event()
        jobs = [s.run for s in self.streams] + [self.leases.run, self.counter.run, self.counter.run]
        threads = [threading.Thread(target=self.guarded, args=(job, server, stop)) for job in jobs]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        result = end()
        stop.set()
        for thread in threads:
            thread.join(timeout=STEP_S_MAX)
            assert not thread.is_alive()
        if self.failed:
            raise self.failed[0]
        return result

    def check(self, server):
        with server.client() as client:
            revision = client.cmd("KV", "REVISION")
            answered = max(s.revision_max for s in self.streams)
            assert revision >= answered, f"revision {revision}, but {answered} was answered"
            for stream in self.streams:
                held = {}
                keys = client.cmd("KEYS", f"{stream.name}/*")
                for key, value in zip(keys, client.pipeline([("GET", key) for key in keys])):
                    held[key] = value
                stream.settle(held)
            self.counter.check(client)
            self.leases.check(client)


def sizes(draw):
    """Small ones, so that segments are changed and checkpoints cut all the time."""
    return {
        "wal-segment-bytes": draw.choice(["64kb", "256kb", "1mb"]),
        "checkpoint-bytes": draw.choice([4096, 65536, 262144]),
        "snapshot-count": draw.choice([10, 100, 1000]),
        "checkpoint-interval": draw.choice(["20ms", "100ms", "1s"]),
        "store-write-buffer-bytes": 65536,
    }


class Crash(TestCase):
    def kill_loop(self, backend):
        draw = random.Random(SEED)
        load = Load()
        server = self.server(wal_backend=backend)
        for round_number in range(rounds(4, 100)):
            server.options.update(sizes(draw))
            with self.subTest(backend=backend, round=round_number):
                server.start()
                load.check(server)
                load.during(server, LOAD_S * draw.uniform(0.3, 1.7), server.kill)
        server.start()
        load.check(server)
        self.assertGreater(sum(s.answered for s in load.streams), 1000)
        server.stop()
        server.start()
        load.check(server)

    def test_kill_under_load_thread(self):
        self.kill_loop("thread")

    def test_kill_under_load_uring(self):
        probe = self.server("probe", wal_backend="uring").launch()
        if not probe.started():
            self.skipTest(f"no io_uring here: {probe.text()}")
        probe.kill()
        self.kill_loop("uring")

    def test_kill_during_start(self):
        """A start that is killed at any point leaves what it found."""
        draw = random.Random(SEED)
        server = self.server(wal_segment_bytes="64kb", checkpoint_bytes=4096, snapshot_count=50).start()
        expected = {}
        for round_number in range(rounds(10, 300)):
            with server.client() as client:
                for i in range(30):
                    key = b"k%d" % draw.randrange(200)
                    expected[key] = b"%d-%d" % (round_number, i) + b"." * 1000
                    self.assertEqual(client.cmd("SET", key, expected[key]), "OK")
            server.kill()
            for _ in range(2):
                server.launch()
                time.sleep(draw.uniform(0, 0.06))
                server.kill()
            server.start()
            with server.client() as client:
                held = dict(zip(expected, client.pipeline([("GET", key) for key in expected])))
            self.assertEqual(held, expected)

    def test_expired_over_a_kill(self):
        """Late is bounded: a lease that ran out while nobody was there goes soon after the start."""
        server = self.server().start()
        leases = Leases()
        with server.client() as client:
            keys = [leases.grant(client, 300)[0] for _ in range(20)]
            client.cmd("SET", "own", "x", "PX", 300)
        server.kill()
        time.sleep(0.4)
        server.start()
        with server.client() as client:
            wait_until(lambda: client.cmd("EXISTS", "own", *keys) == 0, "the leases to end", 5)


class Idle(TestCase):
    @staticmethod
    def info(client, name):
        for line in client.cmd("INFO", "all").decode().splitlines():
            if line.startswith(name + ":"):
                return int(line.split(":")[1])
        raise AssertionError("INFO has no " + name)

    def test_the_clock_alone_needs_no_checkpoint(self):
        """With a lease there is a clock entry a second; the log keeps it, also over a kill."""
        server = self.server(checkpoint_interval="100ms").start()
        with server.client() as client:
            lease = as_map(client.cmd("LEASE", "GRANT", 60))["id"]
            applied = self.info(client, "raft_applied")
            wait_until(lambda: self.info(client, "raft_applied") > applied, "a clock entry", 10)
            applied, count = self.info(client, "raft_applied"), self.info(client, "checkpoints")
            wait_until(lambda: self.info(client, "raft_applied") >= applied + 3, "more of them", 10)
            self.assertEqual(self.info(client, "checkpoints"), count)
            self.assertEqual(client.cmd("SET", "a", "b"), "OK")
            wait_until(lambda: self.info(client, "checkpoints") > count, "a checkpoint of a write", 10)
            left_ms = as_map(client.cmd("LEASE", "TTL", lease, "PX"))["ttl"]
        server.kill()
        server.start()
        with server.client() as client:  # at most the last second of the clock is lost
            self.assertLess(as_map(client.cmd("LEASE", "TTL", lease, "PX"))["ttl"], left_ms + 1500)
        server.stop()


class Stop(TestCase):
    def clean(self, end):
        """Nothing that was answered is lost by a stop under load, and the exit code is 0."""
        load = Load()
        server = self.server(wal_segment_bytes="64kb", checkpoint_bytes=65536, snapshot_count=100)
        for _ in range(rounds(2, 30)):
            server.start()
            load.check(server)
            self.assertEqual(load.during(server, 0.4, lambda: end(server)), 0, server.text())
        server.start()
        load.check(server)

    def test_sigterm(self):
        self.clean(lambda server: server.signal(signal.SIGTERM))

    def test_sigint(self):
        self.clean(lambda server: server.signal(signal.SIGINT))

    def test_shutdown(self):
        def shutdown(server):
            with server.client() as client:
                client.send("SHUTDOWN")
                self.assertEqual(client.read_all(), b"")
            return server.wait()
        self.clean(shutdown)

    def test_sigterm_twice_and_sighup(self):
        server = self.server().start()
        server.process.send_signal(signal.SIGHUP)
        with server.client() as client:
            self.assertEqual(client.cmd("PING"), "PONG")
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)

    def test_stop_with_blocked_and_silent_clients(self):
        server = self.server().start()
        silent = server.client()
        self.addCleanup(silent.close)
        half = server.client()
        self.addCleanup(half.close)
        half.raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\nabc")
        for words in (("XREAD", "BLOCK", 0, "STREAMS", "__watch__:", "$"), ("SUBSCRIBE", "c", "__watch@0__:"),
                      ("KV", "WATCH", "", "PREFIX", "FROM", 1), ("KV", "READ", "", "PREFIX", "FROM", 1000, "BLOCK", 0)):
            waiting = server.client()
            self.addCleanup(waiting.close)
            waiting.raw(encode("HELLO", 3) + encode(*words) + encode("GET", "a"))
        with server.client() as client:
            self.assertEqual(client.cmd("SET", "a", "1"), "OK")
        self.assertEqual(server.signal(signal.SIGTERM, 10), 0)
        self.assertEqual(silent.read_all(), b"")


if __name__ == "__main__":
    unittest.main()
