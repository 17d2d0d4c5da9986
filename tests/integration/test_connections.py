"""What one connection does to itself, to others, and to the server: replies that nobody wants, series
that outlive their client, CONFIG, and junk."""

import time
import unittest

from harness import Error, Status, TestCase, as_map, rounds, wait_until

OK = Status("OK")


class Connection(TestCase):
    def setUp(self):
        super().setUp()
        self.one = self.server().start()
        self.c = self.client()

    def client(self, proto=2):
        client = self.one.client()
        self.addCleanup(client.close)
        if proto == 3:
            client.cmd("HELLO", 3)
        return client


class Quiet(Connection):
    def deferred(self, rev):
        """Commands that are answered in a later turn."""
        cursor = self.c.cmd("SCAN", 0, "COUNT", 1)[0]
        return [("KV", "GET", "k", "REV", rev), ("KV", "RANGE", "", "PREFIX", "REV", rev),
                ("KV", "HISTORY", "k"), ("SCAN", cursor), ("XREAD", "STREAMS", "__watch__:", rev),
                ("XREAD", "BLOCK", 1, "STREAMS", "__watch__:", "$"), ("XRANGE", "__watch__:", "-", "+"),
                ("KV", "READ", "", "PREFIX", "FROM", rev), ("FLUSHDB",)]

    def test_deferred_replies(self):
        for value in range(30):
            self.c.cmd("MSET", "k", value, f"other{value}", value)
        rev = self.c.cmd("KV", "REVISION") - 3
        for command in self.deferred(rev):
            self.c.send("CLIENT", "REPLY", "SKIP")
            self.c.send(*command)
            self.assertEqual(self.c.cmd("ECHO", "next"), b"next", command)
        self.c.send("CLIENT", "REPLY", "OFF")
        for command in (("KV", "GET", "k", "REV", rev), ("KV", "HISTORY", "k"), ("FLUSHDB",), ("MULTI",), ("SELECT", 0),
                        ("SET", "k", 3), ("EXEC",)):
            self.c.send(*command)
        self.assertEqual(self.c.cmd("CLIENT", "REPLY", "ON"), OK)
        self.assertEqual(self.c.cmd("GET", "k"), b"3")

    def test_physical_compaction(self):
        for value in range(20):
            self.c.cmd("SET", "k", value)
        rev = self.c.cmd("KV", "REVISION")
        self.c.send("CLIENT", "REPLY", "SKIP")
        self.c.send("KV", "COMPACT", rev, "PHYSICAL")
        self.assertEqual(self.c.cmd("ECHO", "next"), b"next")
        self.assertEqual(self.c.cmd("KV", "COMPACT", rev, "PHYSICAL")[:9], "COMPACTED")

    def test_history_is_silent_and_in_order(self):
        """A read that is answered in a later turn does not answer into the next command's place."""
        self.c.cmd("SET", "k", 1)
        rev = self.c.cmd("KV", "REVISION")
        self.c.cmd("SET", "k", 2)
        got = []
        for n in range(rounds(50, 1000)):
            self.c.send("CLIENT", "REPLY", "SKIP")
            self.c.send("KV", "GET", "k", "REV", rev)
            self.c.send("ECHO", n)
        for n in range(rounds(50, 1000)):
            got.append(int(self.c.read()))
        self.assertEqual(got, list(range(rounds(50, 1000))))


class Series(Connection):
    def fill(self, count):
        for first in range(0, count, 1000):
            words = []
            for n in range(first, first + 1000):
                words += [f"key{n}", n]
            self.assertEqual(self.c.cmd("MSET", *words), OK)

    def test_flush_outlives_its_client(self):
        self.fill(20000)
        self.c.cmd("SELECT", 3)
        self.fill(5000)
        gone = self.client()
        gone.send("FLUSHALL")
        gone.close()
        watcher = self.client()
        wait_until(lambda: watcher.cmd("DBSIZE") == 0, "database 0 to be empty")
        watcher.cmd("SELECT", 3)
        wait_until(lambda: watcher.cmd("DBSIZE") == 0, "database 3 to be empty")

    def test_flush_answers_when_it_is_done(self):
        self.fill(9000)
        self.assertEqual(self.c.pipeline([("FLUSHALL",), ("DBSIZE",), ("SET", "a", 1), ("DBSIZE",)]), [OK, 0, OK, 1])


class Config(Connection):
    def value(self, name):
        return as_map(self.c.cmd("CONFIG", "GET", name))[name]

    def test_several_options_are_all_set_or_none(self):
        before = self.value("timeout")
        for bad in (("slowlog-max-len", "x"), ("port", 1), ("nope", 1), ("timeout", 9), ("TIMEOUT", 9), ("txn-max-ops", 5)):
            answer = self.c.cmd("CONFIG", "SET", "timeout", 77, *bad)
            self.assertIsInstance(answer, Error, bad)
            self.assertEqual(self.value("timeout"), before, bad)
        self.assertEqual(self.c.cmd("CONFIG", "SET", "timeout", 77, "slowlog-max-len", 5, "save", ""), OK)
        self.assertEqual((self.value("timeout"), self.value("slowlog-max-len")), (b"77", b"5"))

    def test_longer_arguments_at_run_time(self):
        size = 6 << 20
        for name, value in (("value-max-bytes", "8mb"), ("request-max-bytes", "9mb"), ("proto-max-bulk-len", "8mb")):
            self.assertEqual(self.c.cmd("CONFIG", "SET", name, value), OK)
        self.assertEqual(self.c.cmd("SET", "k", b"x" * size), OK)
        self.assertEqual(self.c.cmd("STRLEN", "k"), size)
        other = self.client()
        self.assertEqual(other.cmd("ECHO", b"y" * size), b"y" * size)
        self.assertEqual(self.c.cmd("CONFIG", "SET", "proto-max-bulk-len", "1mb"), OK)
        other.raw(b"*2\r\n$4\r\nECHO\r\n$%d\r\n" % size)
        self.assertEqual(other.read(), Error("ERR Protocol error: invalid bulk length"))


if __name__ == "__main__":
    unittest.main()
