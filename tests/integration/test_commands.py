#!/usr/bin/env python3
"""Commands, reply by reply: what commands.md promises, what Redis answers (compared with a
redis-server where one is installed), and what the command table says about itself.

    CORDIS_TEST_SEED    the first seed of the random streams (default 1)
"""
# seconds: 300

import pathlib
import random
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from harness import SEED, Client, Closed, Error, Server, Status, TestCase, as_map, free_port, rounds, wait_until

OK = Status("OK")
QUEUED = Status("QUEUED")
NOT_INT = Error("ERR value is not an integer or out of range")
SYNTAX = Error("ERR syntax error")


def arity(name):
    return Error(f"ERR wrong number of arguments for '{name}' command")


def start_server(**options):
    scratch = tempfile.mkdtemp(prefix="cordis-")
    return scratch, Server(pathlib.Path(scratch) / "data", {"port": 0, "peer-port": 0, **options}).start()


class Commands(TestCase):
    """One server for all tests of a class; every test begins with empty databases."""

    @classmethod
    def setUpClass(cls):
        cls.server_scratch, cls.one = start_server()

    @classmethod
    def tearDownClass(cls):
        cls.one.stop()
        shutil.rmtree(cls.server_scratch, ignore_errors=True)

    def setUp(self):
        super().setUp()
        self.c = self.client()
        self.assertEqual(self.c.cmd("FLUSHALL"), OK)

    def client(self, proto=2):
        client = self.one.client()
        self.addCleanup(client.close)
        if proto == 3:
            client.cmd("HELLO", 3)
        return client

    def ask(self, *args):
        return self.c.cmd(*args)

    def expect(self, want, *args):
        self.assertEqual(typed(self.c.cmd(*args)), typed(want), args)

    def revision(self):
        return self.c.cmd("KV", "REVISION")

    def rows(self):
        """Of the command table, as COMMAND shows it."""
        for row in self.ask("COMMAND"):
            yield row
            yield from row[9]


def typed(value):
    """With the kind of reply, which str and list hide when compared."""
    if isinstance(value, list):
        return [typed(item) for item in value]
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, Error):
        return ("error", str(value))
    if isinstance(value, Status):
        return ("status", str(value))
    return value


def kv(key, value, create, mod, version, lease=0, kind=b"string"):
    return [b"key", key, b"value", value, b"type", kind, b"create", create, b"mod", mod, b"version", version,
            b"lease", lease]


class Strings(Commands):
    """The forms that are newer than the redis-server we compare with."""

    def test_set_if(self):
        self.expect(None, "SET", "k", "v", "IFEQ", "x")
        self.expect(None, "GET", "k")
        self.expect(OK, "SET", "k", "v", "IFNE", "x")            # a missing key: created
        self.expect(None, "SET", "k", "w", "IFNE", "v")
        self.expect(OK, "SET", "k", "w", "IFEQ", "v")
        self.expect(b"w", "SET", "k", "y", "IFEQ", "nope", "GET")  # the former one, set or not
        self.expect(b"w", "SET", "k", "y", "GET", "IFEQ", "w")
        self.expect(b"y", "GET", "k")
        self.expect(SYNTAX, "SET", "k", "v", "IFEQ", "a", "NX")
        self.expect(SYNTAX, "SET", "k", "v", "IFEQ", "a", "IFNE", "b")
        self.expect(SYNTAX, "SET", "k", "v", "IFEQ")

    def test_condition_not_met_makes_no_revision(self):
        self.ask("SET", "k", "v")
        before = self.revision()
        for words in (("SET", "k", "x", "NX"), ("SET", "no", "x", "XX"), ("SET", "k", "x", "IFEQ", "q"),
                      ("SETNX", "k", "x"), ("MSETNX", "k", "x", "new", "y"), ("DEL", "no"), ("GETDEL", "no"),
                      ("DELEX", "k", "IFEQ", "q"), ("DELIFEQ", "k", "q"), ("RENAMENX", "k", "k"),
                      ("COPY", "no", "k2"), ("EXPIRE", "k", 100), ("PERSIST", "k"), ("GETEX", "k", "EX", 9),
                      ("EXPIRE", "no", -1), ("MSETEX", 1, "k", "x", "NX"), ("KV", "DEL", "no"),
                      ("KV", "PUT", "k", "x", "IFMOD", 1)):
            self.ask(*words)
            self.assertEqual(self.revision(), before, words)

    def test_same_value_is_a_put(self):
        self.ask("SET", "k", "v")
        before = self.revision()
        self.ask("SET", "k", "v")
        self.assertEqual(self.revision(), before + 1)

    def test_delete_if(self):
        self.expect(0, "DELEX", "k")
        self.ask("SET", "k", "v")
        self.expect(0, "DELEX", "k", "IFEQ", "x")
        self.expect(0, "DELEX", "k", "IFNE", "v")
        self.expect(1, "DELEX", "k", "IFEQ", "v")
        self.expect(0, "DELEX", "k", "IFNE", "v")
        self.ask("SET", "k", "v")
        self.expect(1, "DELEX", "k", "IFNE", "x")
        self.ask("SET", "k", "v")
        self.expect(1, "DELEX", "k")
        self.ask("SET", "k", "v")
        self.expect(0, "DELIFEQ", "k", "x")
        self.expect(1, "DELIFEQ", "k", "v")
        self.expect(0, "DELIFEQ", "k", "v")
        self.expect(arity("delifeq"), "DELIFEQ", "k")
        self.expect(SYNTAX, "DELEX", "k", "IFXX", "v")

    def test_msetex(self):
        self.expect(1, "MSETEX", 2, "a", 1, "b", 2, "EX", 100)
        self.assertEqual(self.ask("MGET", "a", "b"), [b"1", b"2"])
        self.assertIn(self.ask("TTL", "b"), (99, 100))
        self.expect(0, "MSETEX", 2, "b", 3, "c", 4, "NX")
        self.expect(0, "EXISTS", "c")
        self.expect(0, "MSETEX", 2, "b", 3, "c", 4, "XX")
        self.expect(1, "MSETEX", 2, "a", 5, "b", 6, "XX", "KEEPTTL")
        self.assertIn(self.ask("TTL", "b"), (99, 100))
        self.expect(1, "MSETEX", 1, "a", 5)
        self.expect(-1, "TTL", "a")
        self.assertIn("ERR", self.ask("MSETEX", 0, "a", 5))
        self.assertIn("ERR", self.ask("MSETEX", 3, "a", 5, "b", 6))
        self.assertIn("ERR", self.ask("MSETEX", "x", "a", 5))
        self.assertEqual(self.ask("COMMAND", "GETKEYS", "MSETEX", 2, "a", 1, "b", 2, "NX"), [b"a", b"b"])

    def test_mset_is_one_revision(self):
        before = self.revision()
        self.expect(OK, "MSET", "a", 1, "b", 2, "c", 3)
        self.assertEqual(self.revision(), before + 1)
        self.assertEqual({self.ask("KV", "GET", key)[9] for key in "abc"}, {before + 1})
        self.expect(3, "DEL", "a", "b", "c", "d")
        self.assertEqual(self.revision(), before + 2)

    def test_limits(self):
        self.expect(Error("ERR key is too large"), "SET", "k" * 4097, "v")
        self.expect(OK, "SET", "k" * 4096, "v")
        self.expect(OK, "SET", "", "empty")
        self.expect(b"empty", "GET", "")
        self.expect(Error("ERR value is too large"), "SET", "k", b"v" * ((1 << 20) + 1))
        self.expect(OK, "SET", "k", b"v" * (1 << 20))
        self.expect(1 << 20, "STRLEN", "k")
        self.assertIn("ERR", self.ask("APPEND", "k", "x"))
        self.assertIn("ERR", self.ask("SETRANGE", "k", 1 << 20, "x"))
        self.expect(1 << 20, "STRLEN", "k")


class Errors(Commands):
    def test_unknown(self):
        self.expect(Error("ERR unknown command 'NOPE', with args beginning with: 'a' 'b' "), "NOPE", "a", "b")
        self.expect(Error("ERR unknown command 'NOPE', with args beginning with: "), "NOPE")
        for name in ("ZADD", "SADD", "MOVE", "SWAPDB", "XLEN", "XADD", "EVALX", "RESTORE"):
            self.assertTrue(self.ask(name, "a", "b").startswith(f"ERR unknown command '{name}', with"), name)
        self.expect(Error("ERR unknown subcommand 'X'. Try KV HELP."), "KV", "X")
        self.expect(Error("ERR unknown subcommand 'Nope'. Try LEASE HELP."), "lease", "Nope")
        self.expect(Error("ERR unknown subcommand 'Nope'. Try CLIENT HELP."), "client", "Nope")
        self.assertTrue(self.ask("CLIENT", "MAINT_NOTIFICATIONS", "ON").startswith("ERR "))

    def test_arity(self):
        self.expect(arity("kv|get"), "KV", "GET")
        self.expect(arity("kv"), "KV")
        self.expect(arity("get"), "GET")
        self.expect(arity("get"), "get", "a", "b")
        self.expect(arity("lease|revoke"), "LEASE", "REVOKE")
        self.expect(arity("client|id"), "CLIENT", "ID", "x")

    def test_texts_are_one_line(self):
        for words in (("A\r\nB", "c\r\nd"), ("KV", "x\r\ny"), ("XREAD", "STREAMS", "a\r\nb", "0"),
                      ("CONFIG", "SET", "a\r\nb", "c"), ("CLIENT", "LIST", "TYPE", "a\r\nb"),
                      ("SET\x00", "\x00\xff"), ("HELLO", 3, "a\nb")):
            answer = self.ask(*words)
            self.assertIsInstance(answer, Error)
            self.expect(Status("PONG"), "PING")

    def test_quoted_arguments_are_cut(self):
        answer = self.ask("N" * 3000, "a" * 3000)
        self.assertLess(len(answer), 400)
        self.assertIn("N" * 128, answer)
        self.assertNotIn("N" * 129, answer)

    def test_xread_of_another_key(self):
        self.expect(Error("ERR 'k' is not a watch stream"), "XREAD", "STREAMS", "k", 0)

    def test_watch_needs_resp3(self):
        self.expect(Error("ERR KV WATCH needs HELLO 3; use XREAD ... STREAMS __watch__:prefix or SUBSCRIBE "
                          "__watch@0__:prefix"), "KV", "WATCH", "a")


class Versions(Commands):
    def test_get(self):
        rev = self.revision()
        self.ask("SET", "k", "a")
        self.ask("SET", "k", "b")
        self.expect(kv(b"k", b"b", rev + 1, rev + 2, 2), "KV", "GET", "k")
        self.expect(kv(b"k", b"a", rev + 1, rev + 1, 1), "KV", "GET", "k", "REV", rev + 1)
        self.expect(kv(b"k", b"b", rev + 1, rev + 2, 2), "kv", "get", "k", "local", "rev", rev + 2)
        self.expect(None, "KV", "GET", "k", "REV", rev)
        self.expect(None, "KV", "GET", "none")
        self.expect(Error(f"FUTURE required revision {rev + 3} is a future revision, current is {rev + 2}"),
                    "KV", "GET", "k", "REV", rev + 3)
        self.expect(SYNTAX, "KV", "GET", "k", "REV")
        self.expect(SYNTAX, "KV", "GET", "k", "NOPE")
        self.assertIsInstance(self.ask("KV", "GET", "k", "REV", -1), Error)
        self.assertIsInstance(self.ask("KV", "GET", "k", "REV", "x"), Error)
        three = self.client(3)
        self.assertEqual(three.cmd("KV", "GET", "k"),
                         {b"key": b"k", b"value": b"b", b"type": b"string", b"create": rev + 1, b"mod": rev + 2,
                          b"version": 2, b"lease": 0})
        three.send("KV", "GET", "none")
        self.assertEqual(three._line(), b"_")

    def test_put(self):
        rev = self.revision()
        self.expect([b"revision", rev + 1, b"applied", 1], "KV", "PUT", "k", "a")
        self.expect([b"revision", rev + 1, b"applied", 0, b"prev", kv(b"k", b"a", rev + 1, rev + 1, 1)],
                    "KV", "PUT", "k", "b", "NX")
        self.expect([b"revision", rev + 1, b"applied", 0, b"prev", None], "KV", "PUT", "no", "b", "XX")
        self.expect([b"revision", rev + 2, b"applied", 1, b"prev", kv(b"k", b"a", rev + 1, rev + 1, 1)],
                    "KV", "PUT", "k", "b", "PREVKV", "IFEQ", "a")
        self.assertEqual(as_map(self.ask("KV", "PUT", "k", "c", "IFEQ", "a"))["applied"], 0)
        self.assertEqual(as_map(self.ask("KV", "PUT", "k", "c", "IFMOD", rev + 1))["applied"], 0)
        self.assertEqual(as_map(self.ask("KV", "PUT", "k", "c", "IFMOD", rev + 2))["applied"], 1)
        self.assertEqual(as_map(self.ask("KV", "PUT", "k", "c", "IFMOD", 0))["applied"], 0)
        self.expect([b"revision", rev + 4, b"applied", 1, b"prev", None], "KV", "PUT", "new", "c", "IFMOD", 0, "PREVKV")
        self.expect(Error("ERR value is provided"), "KV", "PUT", "k", "x", "IGNOREVALUE")
        self.expect(Error("ERR key not found"), "KV", "PUT", "none", "", "IGNOREVALUE")
        self.expect(Error("ERR key not found"), "KV", "PUT", "none", "x", "IGNORELEASE")
        self.assertEqual(as_map(self.ask("KV", "PUT", "k", "", "IGNOREVALUE"))["applied"], 1)
        self.expect(b"c", "GET", "k")
        self.expect(Error("NOLEASE requested lease not found"), "KV", "PUT", "k", "x", "LEASE", 999)
        self.expect(SYNTAX, "KV", "PUT", "k", "x", "NX", "XX")
        self.expect(SYNTAX, "KV", "PUT", "k", "x", "NOPE")

    def test_lease_of_a_put(self):
        lease = as_map(self.ask("LEASE", "GRANT", 100))["id"]
        self.ask("KV", "PUT", "k", "a", "LEASE", lease)
        self.assertEqual(as_map(self.ask("KV", "GET", "k"))["lease"], lease)
        self.ask("KV", "PUT", "k", "b", "IGNORELEASE")
        self.assertEqual(as_map(self.ask("KV", "GET", "k"))["lease"], lease)
        self.expect(Error("ERR lease is provided"), "KV", "PUT", "k", "b", "IGNORELEASE", "LEASE", lease)
        self.ask("SET", "k", "b", "KEEPTTL")
        self.assertEqual(as_map(self.ask("KV", "GET", "k"))["lease"], lease)
        self.ask("SET", "k", "b")
        self.assertEqual(as_map(self.ask("KV", "GET", "k"))["lease"], 0)
        self.expect(-1, "TTL", "k")
        self.expect(SYNTAX, "SET", "k", "v", "LEASE", lease, "EX", 10)
        self.expect(Error("NOLEASE requested lease not found"), "SET", "k", "v", "LEASE", 999)
        self.ask("SET", "p", "v", "EX", 100)
        self.assertEqual(as_map(self.ask("KV", "GET", "p"))["lease"], 0)  # a private TTL

    def test_delete(self):
        rev = self.revision()
        self.ask("MSET", "a1", 1, "a2", 2, "b", 3)
        self.expect([b"revision", rev + 1, b"deleted", 0], "KV", "DEL", "none")
        self.expect([b"revision", rev + 2, b"deleted", 2, b"prevs",
                     [kv(b"a1", b"1", rev + 1, rev + 1, 1), kv(b"a2", b"2", rev + 1, rev + 1, 1)]],
                    "KV", "DEL", "a", "PREFIX", "PREVKV")
        self.expect([b"revision", rev + 2, b"deleted", 0], "KV", "DEL", "b", "IFEQ", "x")
        self.expect([b"revision", rev + 2, b"deleted", 0], "KV", "DEL", "b", "IFMOD", rev)
        self.expect([b"revision", rev + 3, b"deleted", 1], "KV", "DEL", "b", "IFMOD", rev + 1)
        self.ask("MSET", "a", 1, "b", 2, "c", 3, "d", 4)
        self.expect([b"revision", rev + 5, b"deleted", 2], "KV", "DEL", "b", "END", "d")
        self.expect([b"revision", rev + 6, b"deleted", 1], "KV", "DEL", "b", "END", "")
        self.expect([b"revision", rev + 7, b"deleted", 1], "KV", "DEL", "", "PREFIX")
        self.expect(0, "DBSIZE")

    def range(self, *words):
        return as_map(self.ask("KV", "RANGE", *words))

    def keys(self, *words):
        return [as_map(item)["key"] for item in self.range(*words)["kvs"]]

    def test_range(self):
        rev = self.revision()
        for key in ("b", "a", "c", "a/1", "a/2/x", "a/2/y", "a/3"):
            self.ask("SET", key, "v" + key)
        whole = self.range("", "PREFIX")
        self.assertEqual([whole[name] for name in ("revision", "count", "more")], [rev + 7, 7, 0])
        self.assertEqual(self.keys("", "PREFIX"), [b"a", b"a/1", b"a/2/x", b"a/2/y", b"a/3", b"b", b"c"])
        self.assertEqual(self.keys("a"), [b"a"])
        self.assertEqual(self.keys("a", "END", "b"), [b"a", b"a/1", b"a/2/x", b"a/2/y", b"a/3"])
        self.assertEqual(self.keys("a/3", "END", ""), [b"a/3", b"b", b"c"])
        self.assertEqual(self.keys("b", "END", "a"), [])
        self.assertEqual(self.keys("a/", "PREFIX", "REV", rev + 4), [b"a/1"])
        limited = self.range("", "PREFIX", "LIMIT", 2)
        self.assertEqual((limited["count"], limited["more"], len(limited["kvs"])), (7, 1, 2))
        exact = self.range("", "PREFIX", "LIMIT", 7)
        self.assertEqual((exact["more"], len(exact["kvs"])), (0, 7))
        self.assertEqual(self.keys("a/1\0", "END", "c", "REV", rev + 7), [b"a/2/x", b"a/2/y", b"a/3", b"b"])
        count = self.range("", "PREFIX", "COUNTONLY")
        self.assertEqual((count["count"], count["kvs"]), (7, []))
        only = as_map(self.range("b", "KEYSONLY")["kvs"][0])
        self.assertIn(only["value"], (b"", None))
        self.assertEqual(only["mod"], rev + 1)
        self.assertEqual(self.keys("", "PREFIX", "SORT", "MOD", "DESC")[:2], [b"a/3", b"a/2/y"])
        self.assertEqual(self.keys("", "PREFIX", "SORT", "KEY", "DESC")[:2], [b"c", b"b"])
        self.assertEqual(self.keys("", "PREFIX", "SORT", "CREATE", "LIMIT", 2), [b"b", b"a"])
        self.assertEqual(self.keys("", "PREFIX", "SORT", "VALUE", "ASC")[0], b"a")
        self.assertEqual(self.keys("", "PREFIX", "MINMOD", rev + 6), [b"a/2/y", b"a/3"])
        self.assertEqual(self.keys("", "PREFIX", "MAXMOD", rev + 2), [b"a", b"b"])
        self.assertEqual(self.keys("", "PREFIX", "MINCREATE", rev + 2, "MAXCREATE", rev + 3), [b"a", b"c"])
        level = self.range("a/", "PREFIX", "DELIM", "/")
        self.assertEqual([as_map(item)["key"] for item in level["kvs"]], [b"a/1", b"a/3"])
        self.assertEqual(level["dirs"], [b"a/2/"])
        self.expect(SYNTAX, "KV", "RANGE", "a", "LIMIT", 2, "PREFIX")
        self.expect(SYNTAX, "KV", "RANGE", "a", "SORT", "NOPE")
        three = self.client(3).cmd("KV", "RANGE", "b")
        self.assertEqual(set(three), {b"revision", b"count", b"more", b"kvs"})
        self.assertIsInstance(three[b"kvs"][0], dict)

    def test_range_old_revision_with_deletes(self):
        revs = []
        for i in range(10):
            self.ask("SET", f"k{i % 3}", i)
            revs.append(self.revision())
        self.ask("KV", "DEL", "k", "PREFIX")
        self.assertEqual(self.keys("k", "PREFIX"), [])
        values = [as_map(item)["value"] for item in self.range("k", "PREFIX", "REV", revs[7])["kvs"]]
        self.assertEqual(values, [b"6", b"7", b"5"])

    def test_history(self):
        rev = self.revision()
        for value in "abc":
            self.ask("SET", "k", value)
        self.ask("DEL", "k")
        self.ask("SET", "k", "d")
        events = [as_map(item) for item in self.ask("KV", "HISTORY", "k", "FROM", rev + 1)]
        self.assertEqual([(e["op"], e["value"], e["rev"], e["create"], e["version"]) for e in events],
                         [(b"put", b"a", rev + 1, rev + 1, 1), (b"put", b"b", rev + 2, rev + 1, 2),
                          (b"put", b"c", rev + 3, rev + 1, 3), (b"del", None, rev + 4, 0, 0),
                          (b"put", b"d", rev + 5, rev + 5, 1)])
        self.assertEqual([as_map(e)["rev"] for e in self.ask("KV", "HISTORY", "k", "FROM", rev + 2, "TO", rev + 3)],
                         [rev + 2, rev + 3])
        self.assertEqual([as_map(e)["rev"] for e in self.ask("KV", "HISTORY", "k", "COUNT", 2, "FROM", rev + 1)],
                         [rev + 1, rev + 2])
        self.expect([], "KV", "HISTORY", "none")

    def test_seq(self):
        keys = []
        for _ in range(3):
            answer = as_map(self.ask("KV", "SEQ", "q/", "x"))
            self.assertEqual(answer["key"], b"q/%016d%04d" % (answer["revision"], 0))
            keys.append(answer["key"])
        self.assertEqual(keys, sorted(keys))
        answer = as_map(self.ask("TXN", "IF", 0, "THEN", 2, 4, "KV", "SEQ", "q/", "1", 4, "KV", "SEQ", "q/", "2"))
        made = [as_map(item)["key"] for item in answer["responses"]]
        self.assertLess(keys[-1], made[0])
        self.assertLess(made[0], made[1])

    def test_compact(self):
        rev = self.revision()
        for value in range(5):
            self.ask("SET", "k", value)
        self.expect(Error(f"FUTURE required revision {rev + 9} is a future revision, current is {rev + 5}"),
                    "KV", "COMPACT", rev + 9)
        self.expect(OK, "KV", "COMPACT", rev + 3)
        self.expect(Error(f"COMPACTED required revision {rev + 3} has been compacted, oldest is {rev + 3}"),
                    "KV", "COMPACT", rev + 3)
        self.expect(Error(f"COMPACTED required revision {rev + 2} has been compacted, oldest is {rev + 3}"),
                    "KV", "GET", "k", "REV", rev + 2)
        self.expect(kv(b"k", b"2", rev + 1, rev + 3, 3), "KV", "GET", "k", "REV", rev + 3)
        self.expect(OK, "KV", "COMPACT", rev + 4, "PHYSICAL")
        self.expect(kv(b"k", b"3", rev + 1, rev + 4, 4), "KV", "GET", "k", "REV", rev + 4)
        self.expect(Error(f"COMPACTED required revision 1 has been compacted, oldest is {rev + 4}"),
                    "XREAD", "STREAMS", "__watch__:", 1)
        self.expect(Error(f"COMPACTED required revision {rev + 3} has been compacted, oldest is {rev + 4}"),
                    "KV", "RANGE", "", "PREFIX", "REV", rev + 3)
        self.expect(Error(f"COMPACTED required revision {rev + 3} has been compacted, oldest is {rev + 4}"),
                    "KV", "HISTORY", "k", "FROM", rev + 3)
        self.expect(Error(f"COMPACTED required revision {rev + 3} has been compacted, oldest is {rev + 4}"),
                    "KV", "READ", "k", "FROM", rev + 3)

    def test_answers_behind_a_physical_compaction(self):
        rev = self.revision()
        for value in range(5):
            self.ask("SET", "k", value)
        asked = [["KV", "COMPACT", rev + 3, "PHYSICAL"], ["GET", "k"], ["SET", "k", "x"], ["GET", "k"]]
        self.assertEqual(self.c.pipeline(asked), [OK, b"4", OK, b"x"])

    def test_compare_with_a_value_that_cannot_be(self):
        self.expect(OK, "CONFIG", "SET", "proto-max-bulk-len", "16mb")
        self.ask("SET", "k", "v")
        for words in (("GET", "k"), ("SET", "k", "w")):
            self.assertIsInstance(self.ask("TXN", "IF", 1, "VALUE", "k", "=", "x" * (9 << 20), "THEN", 1, len(words), *words),
                                  Error)
        for words in (("SET", "k", "w", "IFEQ"), ("KV", "DEL", "k", "IFEQ"), ("TXN", "THEN", 1, 5, "SET", "k", "w", "IFEQ")):
            self.assertIsInstance(self.ask(*words, "x" * (9 << 20)), Error)
        self.assertIsInstance(self.ask("MSET", *(word for i in range(16) for word in ("k%d" % i, "x" * (1 << 20)))), Error)
        self.assertIn("between", str(self.ask("CONFIG", "SET", "proto-max-bulk-len", "512mb")))
        self.expect(b"v", "GET", "k")
        self.expect(OK, "CONFIG", "SET", "proto-max-bulk-len", "1536kb")

    def test_flush_with_a_small_limit_of_keys(self):
        self.expect(OK, "CONFIG", "SET", "op-max-keys", 5)
        for i in range(12):
            self.ask("SET", f"k{i}", i)
        self.expect(OK, "FLUSHALL")
        self.expect(0, "DBSIZE")
        self.expect(OK, "CONFIG", "SET", "op-max-keys", 10000)

    def test_databases(self):
        rev = self.revision()
        other = self.client()
        other.cmd("SELECT", 3)
        other.cmd("SET", "k", "three")
        self.expect(None, "GET", "k")
        self.ask("SET", "k", "zero")
        self.assertEqual(other.cmd("KV", "GET", "k"), kv(b"k", b"three", rev + 1, rev + 1, 1))
        self.expect(kv(b"k", b"zero", rev + 2, rev + 2, 1), "KV", "GET", "k")
        self.expect(OK, "FLUSHDB")
        self.assertEqual(other.cmd("GET", "k"), b"three")
        self.assertEqual(other.cmd("KV", "DEL", "", "PREFIX")[3], 1)
        self.expect(Error("ERR DB index is out of range"), "SELECT", 16)
        self.expect(Error("ERR DB index is out of range"), "SELECT", -1)
        self.expect(NOT_INT, "SELECT", "x")


class Changes(Commands):
    """What makes which events: the table in commands.md."""

    def events_of(self, *commands):
        begin = self.revision()
        for words in commands:
            answer = self.ask(*words)
            self.assertNotIsInstance(answer, Error, (words, answer))
        three = self.client(3)
        read = three.cmd("KV", "READ", "", "PREFIX", "FROM", begin + 1) if self.revision() > begin else {b"events": []}
        return [(e[b"op"].decode(), e[b"key"].decode(), e[b"rev"] - begin, e[b"version"]) for e in read[b"events"]]

    def test_events(self):
        self.ask("MSET", "a", 1, "b", 2, "c", 3)
        cases = [
            ([("RENAME", "a", "x")], [("del", "a", 1, 0), ("put", "x", 1, 1)]),
            ([("SET", "a", 1), ("RENAME", "a", "x")], [("put", "a", 1, 1), ("del", "a", 2, 0), ("put", "x", 2, 2)]),
            ([("COPY", "x", "b", "REPLACE")], [("put", "b", 1, 2)]),
            ([("DEL", "x", "b", "none")], [("del", "x", 1, 0), ("del", "b", 1, 0)]),
            ([("APPEND", "n", "1"), ("INCR", "n"), ("SETRANGE", "n", 0, "9")],
             [("put", "n", 1, 1), ("put", "n", 2, 2), ("put", "n", 3, 3)]),
            ([("GETDEL", "n")], [("del", "n", 1, 0)]),
            ([("SET", "t", 1), ("EXPIRE", "t", 100), ("PERSIST", "t"), ("GETEX", "t", "EX", 5)], [("put", "t", 1, 1)]),
            ([("EXPIRE", "t", -1)], [("del", "t", 1, 0)]),
            ([("SET", "t", 1), ("GETEX", "t", "PXAT", 1)], [("put", "t", 1, 1), ("del", "t", 2, 0)]),
            ([("MULTI",), ("SET", "m", 1), ("DEL", "m"), ("EXEC",)], []),
            ([("SET", "m", 1), ("SET", "m", 2), ("MULTI",), ("DEL", "m"), ("SET", "m", 3), ("EXEC",)],
             [("put", "m", 1, 1), ("put", "m", 2, 2), ("put", "m", 3, 1)]),
            ([("MULTI",), ("SET", "p", 1), ("SET", "q", 1), ("SET", "p", 2), ("EXEC",)],
             [("put", "q", 1, 1), ("put", "p", 1, 1)]),
        ]
        for commands, want in cases:
            with self.subTest(commands=commands):
                self.assertEqual(self.events_of(*commands), want)

    def test_lifetimes(self):
        lease = as_map(self.ask("LEASE", "GRANT", 100))["id"]
        self.ask("SET", "k", 5, "LEASE", lease)
        self.assertIn(self.ask("TTL", "k"), (99, 100))
        for words in (("INCR", "k"), ("APPEND", "k", 1), ("SETRANGE", "k", 0, 7)):
            self.ask(*words)
            self.assertEqual(as_map(self.ask("KV", "GET", "k"))["lease"], lease, words)
        self.ask("RENAME", "k", "k2")
        self.assertEqual(as_map(self.ask("KV", "GET", "k2"))["lease"], lease)
        self.ask("COPY", "k2", "k3")
        self.assertEqual(as_map(self.ask("KV", "GET", "k3"))["lease"], lease)
        self.expect(1, "EXPIRE", "k2", 50)
        self.assertEqual(as_map(self.ask("KV", "GET", "k2"))["lease"], 0)
        self.assertIn(self.ask("TTL", "k2"), (49, 50))
        self.expect(1, "PERSIST", "k3")
        self.assertEqual(as_map(self.ask("KV", "GET", "k3"))["lease"], 0)
        self.expect(-1, "TTL", "k3")
        self.expect(0, "LEASE", "REVOKE", lease)
        self.expect(2, "EXISTS", "k2", "k3")


class Leases(Commands):
    def test_grant(self):
        answer = as_map(self.ask("LEASE", "GRANT", 10))
        self.assertEqual(answer["ttl"], 10)
        other = as_map(self.ask("LEASE", "GRANT", "PX", 2500))
        self.assertGreater(other["id"], answer["id"])
        self.assertEqual(other["ttl"], 2500)
        self.assertEqual(as_map(self.ask("LEASE", "GRANT", "PX", 1))["ttl"], 100)
        self.assertEqual(as_map(self.ask("LEASE", "GRANT", 10, "ID", 777777))["id"], 777777)
        self.expect(Error("ERR lease already exists"), "LEASE", "GRANT", 10, "ID", 777777)
        self.expect(Error("ERR too large lease TTL"), "LEASE", "GRANT", 9000000001)
        self.assertIsInstance(self.ask("LEASE", "GRANT", 0), Error)
        self.assertIsInstance(self.ask("LEASE", "GRANT", -5), Error)
        self.assertIsInstance(self.ask("LEASE", "GRANT", "x"), Error)
        self.assertIsInstance(self.ask("LEASE", "GRANT", 10, "ID", 1 << 53), Error)
        self.assertIsInstance(self.ask("LEASE", "GRANT", 10, "ID", 0), Error)
        self.expect(0, "LEASE", "REVOKE", 777777)

    def test_life(self):
        a = as_map(self.ask("LEASE", "GRANT", 100))["id"]
        self.expect(OK, "SET", "x", 1, "LEASE", a)
        self.expect(OK, "SET", "y", 1, "LEASE", a)
        self.ask("SET", "z", 1)
        self.expect(1, "LEASE", "ATTACH", a, "z", "none")
        ttl = as_map(self.ask("LEASE", "TTL", a, "KEYS"))
        self.assertEqual((ttl["id"], ttl["granted"], sorted(ttl["keys"]), ttl["total"]), (a, 100, [b"x", b"y", b"z"], 3))
        self.assertIn(ttl["ttl"], (99, 100))
        self.assertGreater(as_map(self.ask("LEASE", "TTL", a, "PX"))["ttl"], 90000)
        self.assertEqual(self.ask("LEASE", "KEEPALIVE", a, 424242), [100, -2])
        self.assertEqual(self.ask("LEASE", "KEEPALIVE", "PX", a), [100000])
        self.assertIn(a, self.ask("LEASE", "LIST"))
        self.assertNotIn(a, self.ask("LEASE", "LIST", "AFTER", a))
        self.assertEqual(self.ask("LEASE", "LIST", "AFTER", a - 1, "COUNT", 1), [a])
        rev = self.revision()
        self.expect(3, "LEASE", "REVOKE", a)
        self.assertEqual(self.revision(), rev + 1)
        no = Error("NOLEASE requested lease not found")
        self.expect(no, "LEASE", "REVOKE", a)
        self.expect(no, "LEASE", "TTL", a)
        self.expect(no, "LEASE", "ATTACH", a, "k")

    def test_ends(self):
        a = as_map(self.ask("LEASE", "GRANT", "PX", 2000))["id"]
        self.ask("MSET", "x", 1, "y", 2)
        self.expect(2, "LEASE", "ATTACH", a, "x", "y")
        rev = self.revision()
        wait_until(lambda: self.ask("EXISTS", "x", "y") == 0, "the lease to end")
        self.assertEqual(self.revision(), rev + 1)
        last = as_map(self.ask("KV", "HISTORY", "x")[-1])
        self.assertEqual((last["op"], last["rev"], last["lease"], last["value"]), (b"expire", rev + 1, a, None))

    def test_ttl_ends(self):
        rev = self.revision()
        self.ask("SET", "k", "v", "PX", 30)
        wait_until(lambda: self.ask("EXISTS", "k") == 0, "the key to expire")
        self.assertEqual(self.revision(), rev + 2)
        self.assertEqual(as_map(self.ask("KV", "HISTORY", "k")[-1])["op"], b"expire")


class Transactions(Commands):
    def txn(self, *words):
        answer = self.ask("TXN", *words)
        self.assertNotIsInstance(answer, Error, words)
        return as_map(answer)

    def test_one_shot(self):
        rev = self.revision()
        self.ask("MSET", "a", 1, "b", "x")
        t = self.txn("IF", 2, "MOD", "a", "=", rev + 1, "VALUE", "b", "!=", "x", "THEN", 2, 3, "SET", "a", 2, 2, "GET",
                     "a", "ELSE", 1, 2, "GET", "a")
        self.assertEqual((t["succeeded"], t["revision"], t["responses"]), (0, rev + 1, [b"1"]))
        self.assertEqual(t["failed"], [1, kv(b"b", b"x", rev + 1, rev + 1, 1)])
        t = self.txn("IF", 2, "MOD", "a", "=", rev + 1, "VALUE", "b", "=", "x", "THEN", 2, 3, "SET", "a", 2, 2, "GET", "a")
        self.assertEqual((t["succeeded"], t["revision"], t["failed"], t["responses"]), (1, rev + 2, None, [OK, b"2"]))
        t = self.txn("IF", 0)
        self.assertEqual((t["succeeded"], t["revision"], t["responses"]), (1, rev + 2, []))
        t = self.txn("IF", 1, "MISSING", "a", "THEN", 1, 2, "GET", "b", "ELSE", 1, 2, "GET", "a")
        self.assertEqual((t["succeeded"], t["responses"]), (0, [b"2"]))
        t = self.txn("IF", 1, "MISSING", "a")
        self.assertEqual((t["succeeded"], t["responses"], t["failed"][0]), (0, [], 0))

    def test_select_counts_only_if_it_ran(self):
        other = self.client()
        for changes in (False, True):
            self.ask("WATCH", "w")
            if changes:
                other.cmd("SET", "w", 1)
            want = None if changes else [OK, OK, b"v"]
            got = self.c.pipeline([("MULTI",), ("SELECT", 3), ("SET", "k", "v"), ("GET", "k"), ("EXEC",), ("SET", "after", 1),
                                   ("SELECT", 0), ("EXISTS", "after"), ("DEL", "after")])
            self.assertEqual(got, [OK, QUEUED, QUEUED, QUEUED, want, OK, OK, changes, changes])
        self.assertEqual(self.c.pipeline([("MULTI",), ("SELECT", 3), ("GET", "k"), ("EXEC",), ("GET", "k"), ("SELECT", 0)]),
                         [OK, QUEUED, QUEUED, [OK, b"v"], b"v", OK])
        self.assertEqual(self.c.pipeline([("MULTI",), ("SELECT", 99), ("SELECT", 4), ("DISCARD",), ("GET", "w")]),
                         [OK, QUEUED, QUEUED, OK, b"1"])

    def test_select_in_branches(self):
        for exists in (0, 1):
            if exists:
                self.ask("SET", "there", 1)
            got = self.c.pipeline([("MULTI",), ("TXN", "IF", 1, "EXISTS", "there"), ("SELECT", 1), ("SET", "k", "one"),
                                   ("TXN", "ELSE"), ("SET", "k", "none"), ("SELECT", 2), ("EXEC",), ("SET", "here", 1)])
            self.assertEqual(got[-2], [1, OK, OK, 0, None, None] if exists else [0, None, None, 1, OK, OK])
            self.ask("SELECT", 1 if exists else 2)
            self.expect(b"1", "GET", "here")
            self.ask("SELECT", 0)
            self.expect(b"none", "GET", "k")

    def test_floats_in_transactions(self):
        got = self.c.pipeline([("MULTI",), ("SET", "f", "1"), ("INCRBYFLOAT", "f", "0.1"), ("INCRBYFLOAT", "f", "x"),
                               ("INCRBYFLOAT", "f", "1e2"), ("APPEND", "f", "z"), ("INCRBYFLOAT", "f", "1"), ("EXEC",)])
        bad = Error("ERR value is not a valid float")
        self.assertEqual(got[-1], [OK, b"1.1", bad, b"101.1", 6, bad])
        t = self.txn("IF", 0, "THEN", 1, 3, "INCRBYFLOAT", "g", "2.5")
        self.assertEqual(t["responses"], [b"2.5"])

    def holds(self, *compare):
        return self.txn("IF", 1, *compare)["succeeded"]

    def test_compares(self):
        rev = self.revision()
        self.ask("SET", "a", "m")
        self.ask("SET", "a", "n")
        for compare, want in (
                (("VERSION", "a", "=", 2), 1), (("VERSION", "a", ">", 2), 0), (("VERSION", "a", "<", 3), 1),
                (("VERSION", "a", "!=", 2), 0), (("CREATE", "a", "=", rev + 1), 1), (("MOD", "a", ">", rev + 1), 1),
                (("MOD", "none", "=", 0), 1), (("VERSION", "none", "!=", 0), 0), (("CREATE", "none", "<", 1), 1),
                (("VALUE", "a", "=", "n"), 1), (("VALUE", "a", ">", "m"), 1), (("VALUE", "a", "<", "m"), 0),
                (("VALUE", "none", "=", ""), 0), (("VALUE", "none", "!=", "x"), 0), (("LEASE", "a", "=", 0), 1),
                (("EXISTS", "a"), 1), (("EXISTS", "none"), 0), (("MISSING", "a"), 0), (("MISSING", "none"), 1),
                (("version", "a", "=", 2), 1)):
            self.assertEqual(self.holds(*compare), want, compare)

    def test_range_compares(self):
        rev = self.revision()
        self.ask("MSET", "p/1", "a", "p/2", "a")
        self.ask("SET", "p/2", "a")
        for compare, want in (
                (("VALUE", "p/", "PREFIX", "=", "a"), 1), (("VERSION", "p/", "PREFIX", "=", 1), 0),
                (("VERSION", "p/", "PREFIX", "<", 3), 1), (("MOD", "p/", "PREFIX", ">", rev), 1),
                (("VERSION", "p/1", "END", "p/2", "=", 1), 1), (("VERSION", "p/1", "END", "", "=", 1), 0),
                (("VERSION", "q/", "PREFIX", "=", 0), 1), (("VALUE", "q/", "PREFIX", "=", "x"), 0)):
            self.assertEqual(self.holds(*compare), want, compare)
        t = self.txn("IF", 1, "VERSION", "p/", "PREFIX", "=", 1)
        self.assertEqual(as_map(t["failed"][1])["key"], b"p/2")

    def test_all_or_nothing(self):
        self.ask("SET", "s", "text")
        rev = self.revision()
        self.expect(NOT_INT, "TXN", "IF", 0, "THEN", 2, 3, "SET", "a", 1, 2, "INCR", "s")
        self.expect(0, "EXISTS", "a")
        self.assertEqual(self.revision(), rev)
        inside = Error("ERR Command not allowed inside a transaction")
        for op in (("SUBSCRIBE", "x"), ("MULTI",), ("KV", "WATCH", "a"), ("FLUSHALL",), ("NOPE",)):
            self.expect(inside, "TXN", "IF", 0, "THEN", 1, len(op), *op)
        self.expect(arity("get"), "TXN", "IF", 0, "THEN", 1, 1, "GET")
        self.expect(SYNTAX, "TXN", "IF", 1, "MOD", "a", "~", 1)
        self.expect(SYNTAX, "TXN", "IF", 1, "NOPE", "a", "=", 1)
        self.expect(SYNTAX, "TXN", "IF", 0, "THEN", 1, 2, "GET")
        self.expect(SYNTAX, "TXN", "IF", 0, "THEN", 0, "ELSE", 0, "MORE")
        twice = Error("ERR duplicate key given in txn request")
        self.expect(twice, "TXN", "IF", 0, "THEN", 2, 3, "SET", "a", 1, 2, "DEL", "a")
        self.expect(twice, "TXN", "IF", 0, "ELSE", 2, 3, "SET", "a", 1, 4, "KV", "DEL", "", "PREFIX")
        many = [word for i in range(129) for word in (3, "SET", f"k{i}", i)]
        self.expect(Error("ERR too many operations in txn request"), "TXN", "IF", 0, "THEN", 129, *many)
        self.assertEqual(self.txn("IF", 0, "THEN", 128, *many[:512])["succeeded"], 1)

    def test_reads_of_keys_that_cannot_be(self):
        for size in (65534, 65535, 70000):
            key = "k" * size
            for read, want in ((("GET", key), None), (("STRLEN", key), 0), (("GETRANGE", key, 0, 1), b""),
                               (("SUBSTR", key, 0, 1), b"")):
                self.assertEqual(self.txn("THEN", 1, len(read), *read)["responses"], [want])
                t = self.txn("THEN", 2, 3, "SET", "a", 1, len(read), *read)
                self.assertEqual(t["responses"], [OK, want])
                for write in ((), (("SET", "a", 1),)):
                    got = self.c.pipeline([("MULTI",), *write, read, ("EXEC",)])
                    self.assertEqual(got[-1], [OK] * len(write) + [want], (size, read[0]))

    def test_an_error_of_a_read_is_that_of_the_whole(self):
        large = "k" * 5000
        bad = {
            "get": ["k", "more"], "strlen": ["k", "more"], "getrange": ["k", "x", "y"], "substr": ["k", 0, "y"], "mget": [],
            "exists": [], "touch": [], "type": ["k", "more"], "ttl": [], "pttl": [], "expiretime": [], "pexpiretime": [],
            "object|encoding": [], "object|refcount": [], "object|idletime": [], "object|freq": ["k"], "object|help": ["more"],
            "memory|usage": ["k", "SAMPLES"], "memory|help": ["more"], "keys": ["*" * 5000], "dbsize": ["more"],
            "kv|get": ["k", "NONSENSE"], "kv|range": ["k", "LIMIT", "zz"], "kv|revision": ["more"],
        }
        for name, flags in ((row[0].decode(), row[2]) for row in self.rows()):
            if "readonly" not in flags or name in bad:
                continue
            probe = self.ask("TXN", "THEN", 1, name.count("|") + 1, *name.split("|"))
            self.assertEqual(probe, Error("ERR Command not allowed inside a transaction"), f"{name} needs a line here")
        more = [(name.split("|"), words) for name, words in bad.items()]
        more += [(["kv", "get"], [large]), (["kv", "range"], [large]), (["kv", "range"], ["k", "SORT", "x"])]
        for name, words in more:
            read = (*name, *words)
            for ops in ((2, 3, "SET", "a", 1, len(read), *read), (2, len(read), *read, 3, "SET", "a", 1), (1, len(read), *read)):
                self.assertIsInstance(self.ask("TXN", "THEN", *ops), Error, read)
                self.assertIsInstance(self.ask("TXN", "IF", 1, "EXISTS", "a", "ELSE", *ops), Error, read)
            self.expect(0, "EXISTS", "a")
        self.expect(NOT_INT, "TXN", "THEN", 2, 3, "SET", "a", 1, 4, "GETRANGE", "a", "x", "y")
        got = self.c.pipeline([("MULTI",), ("GETRANGE", "a", "x", "y"), ("TXN", "THEN", 2, 3, "SET", "a", 1, 4, "GETRANGE", "a", 0, "y"),
                               ("SET", "b", 1), ("EXEC",)])
        self.assertEqual(typed(got[-1]), typed([NOT_INT, NOT_INT, OK]))
        self.expect(0, "EXISTS", "a")
        hits = lambda: re.findall(r"keyspace_(?:hits|misses):(\d+)", self.ask("INFO", "stats").decode())
        before = [int(n) for n in hits()]
        self.assertEqual(self.txn("THEN", 2, 2, "GET", "b", 2, "GET", "a")["responses"], [b"1", None])
        self.assertEqual([int(n) for n in hits()], [n + 1 for n in before])

    def test_what_fails_publishes_nothing(self):
        listener = self.client()
        listener.cmd("SUBSCRIBE", "ch")
        heard = lambda: listener.read()[2]
        self.ask("SET", "text", "x")
        fails = ("TXN", "THEN", 2, 3, "PUBLISH", "ch", "never", 2, "INCR", "text")
        self.expect(NOT_INT, *fails)
        self.assertEqual(self.txn("THEN", 2, 3, "PUBLISH", "ch", "one", 3, "SET", "a", 1)["responses"], [1, OK])
        self.assertEqual(heard(), b"one")
        inner = ("TXN", "IF", 1, "EXISTS", "none", "THEN", 1, 3, "PUBLISH", "ch", "never", "ELSE", 1, 3, "PUBLISH", "ch", "two")
        self.expect(NOT_INT, "TXN", "THEN", 2, len(inner), *inner, 2, "INCR", "text")
        got = self.c.pipeline([("MULTI",), fails, ("PUBLISH", "ch", "three"), inner, ("INCR", "text"), ("SET", "a", 2), ("EXEC",)])
        answer = got[-1]
        self.assertEqual(typed([answer[0], answer[1], answer[3], answer[4]]), typed([NOT_INT, 1, NOT_INT, OK]))
        self.assertEqual(as_map(answer[2])["responses"], [1])
        self.assertEqual([heard(), heard()], [b"three", b"two"])
        self.ask("WATCH", "a")
        self.ask("SET", "a", 3)
        got = self.c.pipeline([("MULTI",), ("PUBLISH", "ch", "never"), ("SET", "a", 4), ("EXEC",), ("PUBLISH", "ch", "last")])
        self.assertEqual(got[-2:], [None, 1])
        self.assertEqual(heard(), b"last")

    def test_nested(self):
        inner = ("TXN", "IF", 1, "EXISTS", "a", "THEN", 1, 3, "SET", "b", 2, "ELSE", 1, 3, "SET", "c", 3)
        self.ask("SET", "a", 1)
        t = self.txn("IF", 0, "THEN", 2, 2, "INCR", "a", len(inner), *inner)
        self.assertEqual(t["responses"][0], 2)
        nested = as_map(t["responses"][1])
        self.assertEqual((nested["succeeded"], nested["responses"]), (1, [OK]))
        self.assertEqual(self.ask("MGET", "a", "b", "c"), [b"2", b"2", None])

    def test_interactive(self):
        self.ask("SET", "k", 1)
        self.expect(OK, "MULTI")
        for words in (("TXN", "IF", 1, "VALUE", "k", "=", 1), ("SET", "k", 2), ("TXN", "ELSE"), ("GET", "k")):
            self.expect(QUEUED, *words)
        self.expect([1, OK, 0, None], "EXEC")
        self.expect(OK, "TXN", "MULTI")
        for words in (("TXN", "IF", 1, "VALUE", "k", "=", 1), ("SET", "k", 2), ("TXN", "ELSE"), ("GET", "k")):
            self.expect(QUEUED, *words)
        self.expect([0, None, 1, b"2"], "EXEC")

    def test_multi(self):
        rev = self.revision()
        self.expect(OK, "MULTI")
        for words in (("SET", "s", "a"), ("INCR", "s"), ("SET", "t", "b"), ("GET", "t"), ("SET", "t", "c"), ("KV", "GET", "t")):
            self.expect(QUEUED, *words)
        answer = self.ask("EXEC")
        self.assertEqual(typed(answer[:5]), typed([OK, NOT_INT, OK, b"b", OK]))
        self.assertEqual(self.revision(), rev + 1)
        self.assertEqual(as_map(answer[5])["mod"], rev + 1)
        for words in (("NOPE",), ("GET",)):
            self.expect(OK, "MULTI")
            self.assertIsInstance(self.ask(*words), Error)
            self.expect(Error("EXECABORT Transaction discarded because of previous errors."), "EXEC")

    def test_watch(self):
        other = self.client()
        self.ask("SET", "k", 1)
        for change, aborts in ((("SET", "k", 1), True), (("EXPIRE", "k", 100), True), (("PERSIST", "k"), True),
                               (("SET", "j", 1), False), (("GET", "k"), False), (("DEL", "k"), True),
                               (("SET", "k", 1, "XX"), False), (("SET", "k", 5), True), (("EXPIRE", "none", 9), False)):
            self.expect(OK, "WATCH", "k")
            other.cmd(*change)
            self.expect(OK, "MULTI")
            self.expect(QUEUED, "PING")
            got = self.ask("EXEC")
            self.assertEqual(got, None if aborts else [Status("PONG")], change)
        self.expect(OK, "WATCH", "k")
        self.ask("SET", "k", 9)           # an own write, too
        self.ask("MULTI")
        self.ask("GET", "k")
        self.c.send("EXEC")
        self.assertEqual(self.c._line(), b"*-1")

    def test_a_failed_watch_runs_no_branch(self):
        listener, other = self.client(), self.client()
        listener.cmd("SUBSCRIBE", "ch")
        nested = ["GET", "k"]
        for _ in range(6):
            nested = ["TXN", "THEN", 1, len(nested), *nested]
        for i, condition in enumerate(([], [("TXN", "IF", 1, "EXISTS", "k")], [("TXN", "IF", 1, "MISSING", "k")])):
            for inside in ([("SET", "y", 1), ("PUBLISH", "ch", "never"), ("SELECT", 3), nested], [("PUBLISH", "ch", "never")]):
                self.expect(OK, "WATCH", "k", "j")
                other.cmd("SET", "k", i)
                got = self.c.pipeline([("MULTI",), *condition, ("GET", "k"), ("TXN", "ELSE"), *inside, ("EXEC",),
                                       ("EXISTS", "y"), ("CLIENT", "INFO")])
                self.assertEqual(got[-3:-1], [None, 0])
                self.assertIn(b" db=0 ", got[-1])
        self.expect(OK, "WATCH", "k", "j")
        got = self.c.pipeline([("MULTI",), ("TXN", "IF", 1, "EXISTS", "none"), ("SET", "x", 1), ("TXN", "ELSE"), ("SET", "y", 1),
                               ("GET", "y"), nested, ("PUBLISH", "ch", "ran"), ("EXEC",), ("MGET", "x", "y")])
        self.assertEqual((got[-2][:5], got[-2][6], got[-1]), ([0, None, 1, OK, b"1"], 1, [None, b"1"]))
        self.assertEqual(as_map(got[-2][5])["succeeded"], 1)
        self.assertEqual(listener.read()[2], b"ran")
        self.expect(OK, "WATCH", "k")
        got = self.c.pipeline([("MULTI",), ("TXN", "IF", 1, "EXISTS", "k"), ("SET", "x", 2), ("TXN", "ELSE"), ("SET", "y", 2),
                               ("EXEC",), ("MGET", "x", "y")])
        self.assertEqual(got[-2:], [[1, OK, 0, None], [b"2", b"1"]])
        for depth, want in ((6, b"succeeded"), (7, "ERR too many operations in txn request")):
            nested = ["SET", "z", 1]
            for _ in range(depth):
                nested = ["TXN", "THEN", 1, len(nested), *nested]
            self.expect(OK, "WATCH", "k")
            got = self.c.pipeline([("MULTI",), ("TXN", "IF", 1, "EXISTS", "none"), ("TXN", "ELSE"), nested, ("EXEC",)])[-1][-1]
            self.assertEqual(got[0] if depth == 6 else got, want)

    def test_watch_of_a_missing_key(self):
        for begin in (("MULTI",), ("TXN", "MULTI")):
            for own, want in (([("SET", "k", 1), ("DEL", "k")], None), ([("SET", "k", 1), ("PEXPIRE", "k", -1)], None),
                              ([("SET", "j", 1), ("GET", "k")], [None]), ([], [None])):
                got = self.c.pipeline([("WATCH", "k"), *own, begin, ("GET", "k"), ("EXEC",), ("PING",)])
                self.assertEqual(got[-2:], [want, Status("PONG")], own)
                got = self.c.pipeline([("WATCH", "k"), *own, begin, ("SET", "x", 1), ("EXEC",), ("PING",)])
                self.assertEqual(got[-2:], [want and [OK], Status("PONG")], own)

    def test_watch_takes_what_exec_takes(self):
        too_many, too_large = Error("ERR too many operations in txn request"), Error("ERR request is too large")
        keys = [f"k{i}" for i in range(5001)]
        large = [f"{i:04096}" for i in range(200)]
        for watch, last in (([keys[:2500], keys[2500:5000]], OK), ([keys[:2500], keys[2500:]], too_many),
                            ([large[:190]], OK), ([large], too_large), ([large[:100], large[100:]], too_large)):
            got = [self.ask("WATCH", *part) for part in watch]
            self.assertEqual(typed(got), typed([OK] * (len(watch) - 1) + [last]))
            self.assertEqual(self.c.pipeline([("MULTI",), ("SET", "x", 1), ("EXEC",)])[-1], [OK])
        self.ask("CONFIG", "SET", "multi-max-ops", 20)
        try:
            self.expect(too_many, "WATCH", *keys[:11])
            self.expect(OK, "WATCH", *keys[:10])
            self.assertEqual(self.c.pipeline([("MULTI",), ("SET", "x", 1), ("EXEC",)])[-1], [OK])
        finally:
            self.ask("CONFIG", "SET", "multi-max-ops", 10000)

    def test_queued_bytes_are_bounded(self):
        self.expect(OK, "MULTI")
        answers = self.c.pipeline([["SET", "a", "x" * 1000000]] * 20)
        self.assertEqual((answers[0], answers[-1]), (QUEUED, Error("ERR request is too large")))
        self.assertIn("EXECABORT", self.ask("EXEC"))

    def test_select_inside(self):
        for words in [["MULTI"], ["SELECT", 1], ["SET", "a", 1], ["SELECT", 0]]:
            self.ask(*words)
        self.expect([OK, OK, OK], "EXEC")
        self.expect(None, "GET", "a")
        self.ask("SELECT", 1)
        self.expect(b"1", "GET", "a")

    def test_what_cannot_be_inside(self):
        refused = Error("ERR Command not allowed inside a transaction")
        for words in [["LEASE", "GRANT", 10], ["LEASE", "KEEPALIVE", 1], ["LEASE", "REVOKE", 1],
                      ["KV", "COMPACT", 1], ["CONFIG", "SET", "op-max-keys", 10000]]:
            self.expect(OK, "MULTI")
            self.expect(refused, *words)
            self.assertIn("EXECABORT", self.ask("EXEC"))
        self.expect(SYNTAX, "TXN", "IF", 0, "THEN", 1, 2, "TXN", "MULTI")
        self.expect(OK, "SET", "not", "queued")
        self.assertIsInstance(self.ask("TXN", "IF", 0, "THEN", 2, 3, "SET", "half", 1, 10, "TXN", "IF", 0, "THEN", 1,
                                       4, "SETEX", "k", 0, "v"), Error)
        self.expect(None, "GET", "half")
        self.expect(OK, "MULTI")
        self.expect(SYNTAX, "TXN", "other")
        self.assertIn("EXECABORT", self.ask("EXEC"))

    def test_the_source_of_a_copy_is_not_put(self):
        self.ask("SET", "a", 1)
        self.assertEqual(self.txn("THEN", 2, 3, "COPY", "a", "b", 3, "COPY", "a", "c")["responses"], [1, 1])
        self.assertEqual(self.txn("THEN", 2, 4, "COPY", "a", "b", "REPLACE", 3, "SET", "a", 2)["responses"], [1, OK])
        self.assertEqual(self.ask("MGET", "a", "b", "c"), [b"2", b"1", b"1"])
        twice = Error("ERR duplicate key given in txn request")
        for ops in ((3, "COPY", "a", "d", 3, "SET", "d", 1), (3, "COPY", "a", "d", 2, "DEL", "d"),
                    (3, "COPY", "a", "d", 3, "COPY", "b", "d"), (3, "RENAME", "a", "d", 3, "SET", "a", 1)):
            self.expect(twice, "TXN", "THEN", 2, *ops)

    def test_a_random_key_is_one_that_is_there(self):
        self.ask("MSET", "a", 1, "b", 1)
        got = self.c.pipeline([("MULTI",), ("DEL", "a", "b"), ("RANDOMKEY",), ("SET", "c", 1), ("RANDOMKEY",), ("DBSIZE",), ("EXEC",)])
        self.assertEqual(got[-1], [2, None, OK, b"c", 1])
        got = self.c.pipeline([("MULTI",), ("MSET", "a", 1, "e", 1), ("DEL", "c"), *[("RANDOMKEY",)] * 100, ("EXEC",)])
        self.assertEqual(set(got[-1][2:]), {b"a", b"e"})

    def scan_on(self, page):
        """The keys of this page and all behind it."""
        cursor, keys = page
        while cursor != b"0":
            answer = self.ask("SCAN", cursor, "COUNT", 1)
            self.assertNotIsInstance(answer, Error, cursor)
            cursor, more = answer
            keys = keys + more
        return keys

    def test_a_cursor_from_inside_goes_on(self):
        for key in "bdfh":
            self.ask("SET", key, 1)
        for inside, want in ((("EXPIRE", "b", 100), b"bdfh"), (("SET", "c", 1), b"bcdfh"), (("SET", "h", 2), b"bcdfh"),
                             (("DEL", "b"), b"cdfh"), (("MSET", "a", 1, "g", 1), b"acdfgh")):
            got = self.c.pipeline([("MULTI",), inside, ("SCAN", 0, "COUNT", 1), ("SCAN", 0, "COUNT", 3), ("EXEC",)])[-1]
            for page in got[1:]:
                self.assertEqual(b"".join(self.scan_on(page)), want, inside)
        self.assertNotEqual(self.c.pipeline([("MULTI",), ("EXPIRE", "a", 100), ("SCAN", 0, "COUNT", 1), ("EXEC",)])[-1][1][0], b"0")

    def test_a_key_named_like_an_option(self):
        self.ask("MSET", "rev", 1, "end", 2, "local", 3)
        for read, count in ((("KV", "RANGE", "rev", "PREFIX"), 1), (("KV", "RANGE", "a", "END", "rev", "LIMIT", 5), 2),
                            (("KV", "RANGE", "", "PREFIX", "DELIM", "rev", "LIMIT", 5), 3)):
            self.assertEqual(as_map(self.txn("THEN", 1, len(read), *read)["responses"][0])["count"], count)
            self.assertEqual(as_map(self.c.pipeline([("MULTI",), read, ("EXEC",)])[-1][0])["count"], count)
        self.assertEqual(as_map(self.c.pipeline([("MULTI",), ("KV", "GET", "rev", "LOCAL"), ("EXEC",)])[-1][0])["value"], b"1")
        refused = Error("ERR Command not allowed inside a transaction")
        for read in (("KV", "GET", "a", "REV", 1), ("KV", "RANGE", "a", "END", "rev", "rev", 1), ("KV", "RANGE", "rev", "REV", 1)):
            self.expect(refused, "TXN", "THEN", 1, len(read), *read)

    def test_no_blocking_inside(self):
        self.expect(OK, "MULTI")
        self.expect(QUEUED, "XREAD", "BLOCK", 0, "STREAMS", "__watch__:", "$")
        self.expect([None], "EXEC")


class Streams(Commands):
    def test_xread(self):
        rev = self.revision()
        self.ask("MSET", "cfg/a", 1, "cfg/b", 2, "x", 3)
        self.ask("DEL", "cfg/a")
        want = [[b"__watch__:cfg/", [
            [b"%d-1" % (rev + 1), [b"op", b"put", b"key", b"cfg/a", b"create", b"%d" % (rev + 1), b"version", b"1",
                                   b"lease", b"0", b"value", b"1"]],
            [b"%d-2" % (rev + 1), [b"op", b"put", b"key", b"cfg/b", b"create", b"%d" % (rev + 1), b"version", b"1",
                                   b"lease", b"0", b"value", b"2"]],
            [b"%d-1" % (rev + 2), [b"op", b"del", b"key", b"cfg/a", b"create", b"0", b"version", b"0", b"lease", b"0"]]]]]
        got = self.ask("XREAD", "STREAMS", "__watch__:cfg/", rev + 1)
        def as_sets(streams):
            return [[name, [[id, sorted(zip(f[::2], f[1::2]))] for id, f in entries]] for name, entries in streams]
        for entries in (got, want):
            for _, fields in entries[0][1]:  # `create` of a del is its own affair
                if b"del" in fields:
                    fields[fields.index(b"create") + 1] = b"-"
        self.assertEqual(as_sets(got), as_sets(want))
        self.expect(None, "XREAD", "STREAMS", "__watch__:cfg/", "$")
        self.expect(None, "XREAD", "BLOCK", 10, "STREAMS", "__watch__:cfg/", "$")
        self.assertEqual(len(self.ask("XREAD", "STREAMS", "__watchkey__:cfg/b", rev + 1)[0][1]), 1)
        self.assertEqual([e[0] for e in self.ask("XREAD", "COUNT", 1, "STREAMS", "__watch__:", rev + 1)[0][1]],
                         [b"%d-%d" % (rev + 1, n) for n in (1, 2, 3)])
        # after an id inside a revision: what is behind it
        self.assertEqual([e[0] for e in self.ask("XREAD", "STREAMS", "__watch__:", f"{rev + 1}-2")[0][1]],
                         [b"%d-3" % (rev + 1), b"%d-1" % (rev + 2)])
        three = self.client(3)
        self.assertEqual(list(three.cmd("XREAD", "STREAMS", "__watch__:cfg/", rev + 1)), [b"__watch__:cfg/"])
        three.send("XREAD", "STREAMS", "__watch__:cfg/", "$")
        self.assertEqual(three._line(), b"_")
        self.assertEqual(self.ask("XRANGE", "__watch__:cfg/", rev + 1, "+"), got_raw(self.ask("XREAD", "STREAMS", "__watch__:cfg/", rev + 1)))
        self.assertEqual(self.ask("XREVRANGE", "__watch__:cfg/", "+", rev + 1),
                         got_raw(self.ask("XREAD", "STREAMS", "__watch__:cfg/", rev + 1))[::-1])
        self.assertIsInstance(self.ask("XINFO", "STREAM", "__watch__:cfg/"), list)
        self.expect(2, "DBSIZE")
        self.expect([], "KEYS", "__watch*")
        self.expect(Status("none"), "TYPE", "__watch__:cfg/")


def got_raw(streams):
    return streams[0][1]


class Table(Commands):
    """The command table, as COMMAND shows it."""

    def test_shapes(self):
        rows = list(self.ask("COMMAND"))
        self.assertEqual(len(rows), self.ask("COMMAND", "COUNT"))
        names = [row[0].decode() for row in self.rows()]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual(sorted(names), sorted(name.decode() for name in self.ask("COMMAND", "LIST")))
        for row in self.rows():
            self.assertEqual(len(row), 10)
            name = row[0].decode()
            self.assertEqual(name, name.lower())
            self.assertEqual(self.ask("COMMAND", "INFO", name), [row])
        self.expect([None], "COMMAND", "INFO", "nope")
        three = self.client(3)
        docs = three.cmd("COMMAND", "DOCS")
        self.assertEqual({name.decode() for name in docs}, {row[0].decode() for row in rows})
        for name, doc in docs.items():
            self.assertLessEqual({b"summary", b"since", b"group"}, set(doc), name)
            subs = {row[0] for row in next(row for row in rows if row[0] == name)[9]}
            self.assertEqual(set(doc.get(b"subcommands", {})), subs, name)
        flat = self.ask("COMMAND", "DOCS")
        self.assertEqual(len(flat), 2 * len(rows))

    def test_group_and_key_positions(self):
        three = self.client(3)
        docs = three.cmd("COMMAND", "DOCS", "KV", "lease", "TXN")
        self.assertEqual({doc[b"group"] for doc in docs.values()}, {b"coordination", b"transactions"} &
                         {doc[b"group"] for doc in docs.values()})
        self.assertEqual(docs[b"kv"][b"group"], b"coordination")
        self.assertEqual(self.ask("COMMAND", "INFO", "kv|get")[0][3:6], [2, 2, 1])
        for name in ("txn", "xread"):
            self.assertIn("movablekeys", self.ask("COMMAND", "INFO", name)[0][2], name)
        for words, keys in ((("GET", "k"), "k"), (("MSET", "a", 1, "b", 2), "ab"), (("KV", "GET", "k"), "k"),
                            (("KV", "PUT", "k", "v"), "k"), (("COPY", "a", "b"), "ab"), (("DEL", "a", "b"), "ab"),
                            (("OBJECT", "ENCODING", "k"), "k"), (("LEASE", "ATTACH", 1, "a", "b"), "ab"),
                            (("TXN", "IF", 1, "EXISTS", "a", "THEN", 1, 3, "SET", "b", 1, "ELSE", 1, 2, "GET", "c"), "abc"),
                            (("TXN", "THEN", 2, 4, "KV", "PUT", "a", "v", 5, "MSET", "b", 1, "c", 2), "abc"),
                            (("TXN", "IF", 1, "MOD", "a", "PREFIX", "=", 1, "THEN", 2, 2, "KV", "REVISION", 3, "COPY", "b", "c"),
                             "abc"),
                            (("TXN", "ELSE", 2, 11, "TXN", "IF", 1, "EXISTS", "a", "THEN", 1, 3, "DEL", "b", "c", 2, "GET", "d"),
                             "abcd")):
            self.assertEqual(self.ask("COMMAND", "GETKEYS", *words), [key.encode() for key in keys], words)
        self.expect(Error("ERR The command has no key arguments"), "COMMAND", "GETKEYS", "PING")
        self.expect(Error("ERR The command has no key arguments"), "COMMAND", "GETKEYS", "TXN", "THEN", 1, 1, "DBSIZE")
        deep = []
        for _ in range(9):
            deep = ["TXN", "THEN", 1, len(deep), *deep] if deep else ["GET", "k"]
        for words in (("THEN", 1, 2, "NOPE", "k"), ("THEN", 1, 3, "KV", "PUT"), ("THEN", 1, 2, "KV", "PUT"), ("MULTI",),
                      ("THEN", 1, len(deep), *deep)):
            self.expect(Error("ERR Invalid arguments specified for command"), "COMMAND", "GETKEYS", "TXN", *words)
        self.assertEqual(self.ask("COMMAND", "GETKEYS", *deep), [b"k"])
        self.expect(Error("ERR Invalid command specified"), "COMMAND", "GETKEYS", "NOPE", "k")
        self.expect(Error("ERR Invalid number of arguments specified for command"), "COMMAND", "GETKEYS", "GET")

    def argument_text(self, arg):
        """An argument as redis-cli would hint at it; every field is checked on the way."""
        kind = arg[b"type"]
        token = arg.get(b"token", b"").decode()
        self.assertIn(kind, (b"string", b"integer", b"double", b"key", b"pattern", b"unix-time", b"pure-token", b"oneof",
                             b"block"))
        self.assertRegex(arg[b"name"].decode(), r"^[a-z0-9-]+$")
        self.assertEqual(kind in (b"oneof", b"block"), b"arguments" in arg)
        self.assertEqual(kind == b"key", b"key_spec_index" in arg)
        flags = [str(flag) for flag in arg.get(b"flags", [])]
        self.assertLessEqual(set(flags), {"optional", "multiple"})
        inner = [self.argument_text(each) for each in arg.get(b"arguments", [])]
        text = {b"oneof": "|".join(inner), b"block": " ".join(inner), b"pure-token": token}.get(kind, arg[b"name"].decode())
        if "multiple" in flags:
            text = f"{text} [{text} ...]"
        if token and kind != b"pure-token":
            text = f"{token} {text}"
        return f"[{text}]" if "optional" in flags else text

    def test_arguments_of_every_row(self):
        three = self.client(3)
        texts = {}

        def walk(name, doc):
            texts[name] = " ".join(self.argument_text(arg) for arg in doc.get(b"arguments", []))
            for sub, inner in doc.get(b"subcommands", {}).items():
                walk(sub.decode(), inner)
        for name, doc in three.cmd("COMMAND", "DOCS").items():
            walk(name.decode(), doc)
        for name, want in (
                ("set", "key value [NX|XX|IFEQ value|IFNE value] [GET] [EX seconds|PX milliseconds|EXAT unix-time-seconds|"
                        "PXAT unix-time-milliseconds|KEEPTTL|LEASE id]"),
                ("mset", "key value [key value ...]"), ("get", "key"), ("ping", "[message]"), ("multi", ""),
                ("xread", "[COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]"),
                ("client|list", "[TYPE NORMAL|PUBSUB] [ID id [id ...]]"), ("command|list", "[FILTERBY ACLCAT category|PATTERN pattern]"),
                ("kv|put", "key value [NX|XX|IFEQ value|IFMOD revision|IFFENCE lock token] [LEASE id] [PREVKV] [IGNOREVALUE] "
                           "[IGNORELEASE]"), ("lease|grant", "seconds|PX milliseconds [ID id]"),
                ("hello", "[protover [AUTH username password] [SETNAME clientname]]")):
            self.assertEqual(texts[name], want, name)

    def test_arity_of_every_row(self):
        for row in list(self.rows()):
            name, count = row[0].decode(), row[1]
            words = name.split("|")
            subs = row[9]
            if len(words) < abs(count) and not (subs and abs(count) <= 2):
                few = words + ["1"] * (abs(count) - 1 - len(words))
                self.expect(arity(name), *few)
            elif subs and count == -2:
                self.expect(arity(name), *words)
            if count > 0:
                more = words + ["1"] * (count + 1 - len(words))
                self.expect(arity(name), *more)

    def test_help(self):
        for row in self.ask("COMMAND"):
            if not row[9]:
                continue
            name = row[0].decode()
            answer = self.ask(name, "HELP")
            self.assertNotIsInstance(answer, Error, name)
            text = "\n".join(line if isinstance(line, str) else line.decode() for line in answer).lower()
            for sub in row[9]:
                self.assertIn(sub[0].decode().split("|")[1], text, name)

    def test_filters(self):
        self.assertEqual(sorted(self.ask("COMMAND", "LIST", "FILTERBY", "PATTERN", "kv|re*")),
                         [b"kv|read", b"kv|revision"])
        self.assertIn(b"get", self.ask("COMMAND", "LIST", "FILTERBY", "ACLCAT", "string"))
        self.assertNotIn(b"get", self.ask("COMMAND", "LIST", "FILTERBY", "ACLCAT", "coordination"))


WORDS = """NX XX IFEQ IFNE IFMOD IFFENCE GET EX PX EXAT PXAT KEEPTTL LEASE PREVKV IGNOREVALUE IGNORELEASE PREFIX END REV
    LIMIT KEYSONLY COUNTONLY SORT KEY VALUE CREATE MOD VERSION ASC DESC MINMOD MAXMOD MINCREATE MAXCREATE DELIM LOCAL FROM
    TO COUNT PHYSICAL SNAPSHOT NOPUT NODEL PROGRESS ID BLOCK STREAMS IF THEN ELSE EXISTS MISSING FENCE AFTER KEYS GT LT
    PERSIST REPLACE DB MATCH TYPE = != < > HELP SAMPLES FILTERBY PATTERN ACLCAT""".split()
# Not one answer each, or the end of the connection.
ENDING = {"shutdown", "quit", "client|reply", "client|kill", "config|set", "config|rewrite", "hello", "auth", "monitor",
          "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe", "client|pause"}


class RandomWords(TestCase):
    """Whatever the words: one answer for each command, and a log that can be replayed."""

    def command(self, r, rows, depth=0):
        row = r.choice(rows)
        words = row[0].decode().split("|")
        for _ in range(max(abs(row[1]) - len(words), 0) + (r.randrange(9) if row[1] < 0 else 0)):
            kind = r.random()
            if kind < 0.45:
                words.append(r.choice(WORDS))
            elif kind < 0.7:
                words.append(str(r.choice([0, 1, 1, 2, 3, 100, 1000, -1, 2**53, 2**63 - 1, -2**63, 2**64])))
            elif kind < 0.9 or depth > 3:
                words.append(r.choice(["a", "b", "c", "", "__watch__:", "q" * r.choice([100, 100, 100, 5000])]))
            else:
                inner = self.command(r, rows, depth + 1)
                words += [str(len(inner)), *inner]
        return words

    def txn(self, r, rows):
        words = ["TXN", "IF", str(r.choice([0, 0, 1]))]
        if words[-1] == "1":
            words += r.choice([["EXISTS", "a"], ["FENCE", "a", "3"], ["VALUE", "", "PREFIX", "=", "x"], ["LEASE", "a", "END",
                               "", "<", "1"], ["MOD", "", "END", "", "=", "0"], ["MISSING", ""]])
        for branch in ("THEN", "ELSE"):
            words += [branch, "1"]
            inner = self.txn(r, rows) if r.random() < 0.3 else self.command(r, rows)
            words += [str(len(inner)), *inner]
        return words

    def test_random_words(self):
        server = self.server(env={}, checkpoint_bytes=4096).start()
        client = server.client()
        rows = [row for top in client.cmd("COMMAND") for row in ([top] + top[9]) if row[0].decode() not in ENDING]
        changing = [row for row in rows if "write" in row[2]]
        for seed in range(SEED, SEED + rounds(6, 200)):
            r = random.Random(seed)
            for _ in range(60):
                batch = []
                for _ in range(20):
                    batch.append(self.txn(r, changing) if r.random() < 0.3 else
                                 self.command(r, changing if r.random() < 0.7 else rows))
                batch = [words for words in batch if not blocks(words)]
                try:
                    client.pipeline(batch + [["RESET"]])
                except Closed:
                    self.fail(f"again with CORDIS_TEST_SEED={seed}: one of\n" + "\n".join(str(words)[:500] for words in batch) + "\n" +
                              server.said().decode(errors="replace")[-2000:])
        before = client.cmd("KV", "HASH")
        self.assertIsInstance(before, list, before)
        server.kill()
        server.start()
        self.assertEqual(server.client().cmd("KV", "HASH")[1::4], before[1::4])


def blocks(words):
    """It might wait for ever."""
    return "BLOCK" in [word.upper() for word in words]


class Connections(Commands):
    def test_hello(self):
        two = as_map(self.ask("HELLO"))
        self.assertEqual((two["server"], two["proto"], two["mode"], two["role"], two["modules"]),
                         (b"redis", 2, b"standalone", b"master", []))
        self.assertTrue(two["version"].startswith(b"7.2"))
        three = self.client()
        answer = three.cmd("HELLO", 3, "SETNAME", "me")
        self.assertIsInstance(answer, dict)
        self.assertEqual(answer[b"proto"], 3)
        self.assertEqual(three.cmd("CLIENT", "GETNAME"), b"me")
        self.assertEqual(three.cmd("HELLO", 4), Error("NOPROTO unsupported protocol version"))
        self.assertEqual(three.cmd("HELLO", 2)[5], 2)
        self.assertEqual(three.cmd("HELLO", "x"), Error("ERR Protocol version is not an integer or out of range"))

    def test_verbatim_in_resp3(self):
        three = self.client(3)
        for words in (("INFO",), ("CLIENT", "LIST"), ("CLIENT", "INFO")):
            three.send(*words)
            self.assertTrue(three._line().startswith(b"="), words)
            three.close()
            three = self.client(3)
        self.assertIsInstance(three.cmd("CONFIG", "GET", "maxclients"), dict)

    def test_select_and_reset(self):
        self.ask("SELECT", 2)
        self.ask("MULTI")
        self.expect(Status("RESET"), "RESET")
        self.expect(Error("ERR EXEC without MULTI"), "EXEC")
        self.ask("SET", "k", 1)
        other = self.client()
        self.assertEqual(other.cmd("GET", "k"), b"1")

    def test_inline(self):
        self.c.raw(b"SET k 'a b'\r\n\r\nGET k\r\n")
        self.assertEqual([self.c.read(), self.c.read()], [OK, b"a b"])

    def test_info_fields(self):
        text = self.ask("INFO").decode()
        for field in ("redis_version:7.2", "redis_mode:standalone", "run_id:", "tcp_port:", "loading:0", "role:master",
                      "connected_slaves:0", "cluster_enabled:0", "used_memory:", "connected_clients:",
                      "blocked_clients:", "total_commands_processed:", "total_connections_received:", "maxmemory_policy:",
                      "aof_enabled:", "bgsave_in_progress", "aof_rewrite_in_progress"):
            self.assertIn(field, text)
        self.ask("SET", "k", 1, "EX", 100)
        self.assertIn("db0:keys=1,expires=1,avg_ttl=", self.ask("INFO", "keyspace").decode())
        lease = as_map(self.ask("LEASE", "GRANT", 100))["id"]
        for command in (("SELECT", 5), ("SET", "a", 1, "EX", 100), ("SET", "b", 1, "LEASE", lease), ("SET", "c", 1),
                        ("SET", "d", 1, "PX", 90000), ("PERSIST", "d"), ("SET", "e", 1, "EX", 100), ("SET", "e", 2),
                        ("COPY", "a", "f", "DB", 6), ("SELECT", 0)):
            self.ask(*command)
        text = self.ask("INFO", "keyspace").decode()
        self.assertIn("db5:keys=5,expires=2,avg_ttl=", text)
        self.assertIn("db6:keys=1,expires=1,avg_ttl=", text)
        self.ask("LEASE", "REVOKE", lease)
        self.assertIn("db5:keys=4,expires=1,avg_ttl=", self.ask("INFO", "keyspace").decode())


# --- beside a redis-server --------------------------------------------------------------------


REDIS = shutil.which("redis-server")


class Stream:
    """A seeded stream of commands on few keys."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.times = self.r.sample(range(200, 200000, 50), 3000)  # far apart, none twice
        self.keys = ["a", "b", "c", "d", "e:1", "e:2", "", "k\0\r\n\xff"]
        self.now = int(time.time())

    def key(self):
        return self.r.choice(self.keys)

    def value(self):
        r = self.r
        return r.choice([str(r.randrange(-50, 50)), str(r.randrange(-2**63, 2**63)), "3.25", "-1.5e3", "text", "", " 1",
                         "01", "9223372036854775807", "-9223372036854775808", "x" * r.randrange(100), "\0\xff\r\n", "inf",
                         "1e400", "0x10", "+5", "-0"])

    def number(self):
        r = self.r
        return r.choice([r.randrange(-5, 10), r.randrange(-300, 300), "x", "", "9223372036854775807",
                         "-9223372036854775808", "9223372036854775808", "1.5", " 1", "-0", 0])

    def seconds(self):
        return self.r.choice([self.times.pop(), self.times.pop(), self.times.pop(), 0, -1, -1000, "x", "",
                              -9223372036854775808, "9223372036854775808"])

    def life(self):
        r = self.r
        unit = r.choice(["EX", "PX", "EXAT", "PXAT", "ex", "KEEPTTL"])
        if unit == "KEEPTTL":
            return [unit]
        amount = self.seconds()
        if isinstance(amount, int) and 0 < amount < 10**9:
            amount = {"EX": amount, "PX": amount * 1000, "EXAT": self.now + amount,
                      "PXAT": (self.now + amount) * 1000}[unit.upper()]
        return [unit, amount] if r.random() < 0.97 else [unit]

    def set(self):
        r = self.r
        words = ["SET", self.key(), self.value()]
        for _ in range(r.choice([0, 0, 1, 1, 2, 3])):
            words += r.choice([["NX"], ["XX"], ["GET"], ["get"], self.life(), self.life(), ["NOPE"]])
        return words

    def expire(self):
        r = self.r
        name = r.choice(["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"])
        amount = self.seconds()
        if isinstance(amount, int) and 0 < amount < 10**9:
            amount = {"EXPIRE": amount, "PEXPIRE": amount * 1000, "EXPIREAT": self.now + amount,
                      "PEXPIREAT": (self.now + amount) * 1000}[name]
        flags = r.choice([[], [], ["NX"], ["XX"], ["GT"], ["LT"], ["gt", "xx"], ["XX", "LT"], ["NX", "XX"], ["GT", "LT"], ["NX", "GT"],
                          ["NOPE"]])
        return [name, self.key(), amount, *flags]

    def pairs(self):
        words = []
        for _ in range(self.r.randrange(1, 4)):
            words += [self.key(), self.value()]
        return words

    def command(self):
        r, key, value, number = self.r, self.key, self.value, self.number
        kind = r.randrange(48)
        simple = [
            lambda: ["GET", key()], lambda: ["GETDEL", key()], lambda: ["STRLEN", key()],
            lambda: ["APPEND", key(), value()], lambda: ["SETRANGE", key(), number(), value()],
            lambda: ["GETRANGE", key(), number(), number()], lambda: ["SUBSTR", key(), number(), number()],
            lambda: ["INCR", key()], lambda: ["DECR", key()], lambda: ["INCRBY", key(), number()],
            lambda: ["DECRBY", key(), number()], lambda: ["INCRBYFLOAT", key(), r.choice([value(), "0.1", "-2.5e2", number()])],
            lambda: ["SETNX", key(), value()], lambda: ["SETEX", key(), self.seconds(), value()],
            lambda: ["PSETEX", key(), self.times.pop() * 1000, value()], lambda: ["GETSET", key(), value()],
            lambda: ["GETEX", key(), *r.choice([[], ["PERSIST"], ["EX", self.times.pop()], ["PX", self.times.pop() * 1000],
                                                ["PXAT", (self.now + self.times.pop()) * 1000], ["NOPE"], ["EX"],
                                                ["PERSIST", "EX", 5], ["KEEPTTL"]])],
            lambda: ["MGET", key(), key(), "none"], lambda: ["MSET", *self.pairs()], lambda: ["MSETNX", *self.pairs()],
            lambda: ["MSET", *self.pairs()[:-1]], lambda: ["DEL", key(), key()], lambda: ["UNLINK", key()],
            lambda: ["EXISTS", key(), key(), key()], lambda: ["TOUCH", key(), key()], lambda: ["TYPE", key()],
            lambda: ["RENAME", key(), key()], lambda: ["RENAMENX", key(), key()],
            lambda: ["COPY", key(), key(), *r.choice([[], ["REPLACE"], ["NOPE"], ["DB", "x"], ["DB", r.choice([0, 1])], ["DB", 1, "REPLACE"], ["DB", 16]])],
            lambda: ["TTL", key()], lambda: ["PTTL", key()], lambda: ["EXPIRETIME", key()],
            lambda: ["PEXPIRETIME", key()], lambda: ["PERSIST", key()], lambda: ["DBSIZE"],
            lambda: ["KEYS", r.choice(["*", "e:*", "?", "[a-c]", "[^a]", "e\\:1", "", "\\", "[", "*\xff", "[a", "e:[12]*"])],
            lambda: ["ECHO", value()], lambda: ["RANDOMKEY", "x"],
            lambda: ["GET"], lambda: ["get", key(), "x"], lambda: ["SELECT", r.choice([0, 1, 0, 16, "x", -1])],
        ]
        if kind < 3:
            return self.set()
        if kind < 5:
            return self.expire()
        if kind == 5 and r.random() < 0.05:
            return [r.choice(["FLUSHDB", "FLUSHALL"])]
        return simple[r.randrange(len(simple))]()

    def transaction(self):
        r = self.r
        words = [["WATCH", self.key()]] if r.random() < 0.5 else []
        words += [self.command()] if r.random() < 0.3 else []
        words += [["UNWATCH"]] if r.random() < 0.1 else []
        words += [["MULTI"]]
        for _ in range(r.randrange(6)):
            command = self.command()
            while command[0] in ("FLUSHDB", "FLUSHALL"):
                command = self.command()
            words += [command]
        words += [r.choice([["EXEC"], ["EXEC"], ["EXEC"], ["DISCARD"]])]
        words += r.choice([[], [], [["EXEC"]], [["DISCARD"]]])
        return words


def alike(command, ours, theirs):
    """Equal, or as near as two clocks allow."""
    name = command[0].upper()
    if isinstance(ours, int) and isinstance(theirs, int):
        near = {"TTL": 1, "PTTL": 2000, "EXPIRETIME": 1, "PEXPIRETIME": 2000}.get(name)
        if near is not None and ours > 0 and theirs > 0:
            return abs(ours - theirs) <= near
    if name == "KEYS" and isinstance(ours, list) and isinstance(theirs, list):
        return sorted(ours) == sorted(theirs)
    return typed(ours) == typed(theirs)


@unittest.skipIf(REDIS is None, "no redis-server to compare with")
class BesideRedis(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server_scratch, cls.one = start_server()
        port = free_port()
        log = pathlib.Path(cls.server_scratch) / "redis.log"
        with log.open("wb") as out:
            cls.redis = subprocess.Popen([REDIS, "--port", str(port), "--save", "", "--appendonly", "no", "--dir",
                                          cls.server_scratch, "--bind", "127.0.0.1"], stdout=out, stderr=out)
        cls.redis_port = port

        def answers():
            if b"Ready to accept" not in log.read_bytes():
                return False
            with Client(port) as probe:
                return probe.cmd("PING") == "PONG"
        wait_until(answers, "redis-server to start")

    @classmethod
    def tearDownClass(cls):
        cls.redis.kill()
        cls.redis.wait()
        cls.one.stop()
        shutil.rmtree(cls.server_scratch, ignore_errors=True)

    def setUp(self):
        super().setUp()
        self.ours = self.one.client()
        self.theirs = Client(self.redis_port)
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)
        for client in (self.ours, self.theirs):
            self.assertEqual(client.cmd("FLUSHALL"), OK)

    def compare(self, commands, seed):
        commands = [[word.encode("latin-1") if isinstance(word, str) else word for word in words] for words in commands]
        ours = self.ours.pipeline(commands)
        theirs = self.theirs.pipeline(commands)
        queue = []
        for i, (words, a, b) in enumerate(zip(commands, ours, theirs)):
            name = words[0].decode().upper()
            if name == "MULTI":
                queue = []
            elif a == QUEUED:
                queue.append([words[0].decode(), *words[1:]])
            text = [words[0].decode(), *words[1:]]
            if name == "EXEC" and isinstance(a, list) and isinstance(b, list) and len(a) == len(b) == len(queue):
                for inner, x, y in zip(queue, a, b):
                    if not alike(inner, x, y):
                        self.fail(self.report(commands, i, seed, (inner, x), (inner, y)))
            elif not alike(text, a, b):
                self.fail(self.report(commands, i, seed, a, b))

    def report(self, commands, i, seed, ours, theirs):
        tail = "\n".join(f"    {words}" for words in commands[max(0, i - 12):i + 1])
        return (f"again with CORDIS_TEST_SEED={seed}; the last commands:\n{tail}\n"
                f"  ours   {ours!r}\n  theirs {theirs!r}")

    def test_streams(self):
        for seed in range(SEED, SEED + rounds(12, 400)):
            for client in (self.ours, self.theirs):
                client.pipeline([["DISCARD"], ["UNWATCH"], ["SELECT", 0], ["FLUSHALL"]])
            stream = Stream(seed)
            for _ in range(15):
                commands = []
                for _ in range(40):
                    commands += stream.transaction() if stream.r.random() < 0.05 else [stream.command()]
                commands += [["MGET", *stream.keys]] + [["PTTL", key] for key in stream.keys]
                self.compare(commands, seed)

    def test_encoding(self):
        for value in ("1", "-5", "9223372036854775807", "9223372036854775808", "01", "1.0", "", "x" * 44, "x" * 45, " 1"):
            self.compare([["SET", "k", value], ["OBJECT", "ENCODING", "k"], ["TYPE", "k"]], "-")
        self.compare([["OBJECT", "ENCODING", "none"], ["OBJECT", "NOPE"], ["OBJECT"], ["OBJECT", "ENCODING"],
                      ["OBJECT", "FREQ", "k"]], "-")

    def test_connection_errors(self):
        self.compare([["NOPE", "a"], ["EXEC"], ["DISCARD"], ["MULTI"], ["MULTI"], ["WATCH", "a"], ["EXEC"], ["MULTI"],
                      ["NOPE"], ["EXEC"], ["MULTI"], ["GET"], ["EXEC"], ["EXEC"], ["HELLO", "9"], ["HELLO", "x"],
                      ["AUTH", "x"], ["AUTH", "x", "y"], ["AUTH"], ["CLIENT", "SETNAME", "a b"], ["CLIENT", "NOPE"],
                      ["CLIENT"], ["CLIENT", "ID", "x"], ["PING", "a", "b"], ["PING", "a"], ["ECHO"],
                      ["CONFIG", "GET"], ["CONFIG", "NOPE"], ["CLIENT", "KILL", "ID", "x"], ["CLIENT", "REPLY", "NOPE"],
                      ["CLIENT", "KILL", "1.2.3.4:5"], ["CLIENT", "GETNAME"], ["CLIENT", "SETNAME", "me"],
                      ["CLIENT", "GETNAME"], ["CLIENT", "UNBLOCK", "x"], ["CLIENT", "UNBLOCK", 999999],
                      ["WAIT", "x", 0], ["WAIT", 0, -1], ["WAIT", 0, 0], ["PUBLISH", "c", "m"], ["PUBSUB", "NUMSUB", "c"],
                      ["PUBSUB", "CHANNELS"], ["PUBSUB", "NUMPAT"], ["UNSUBSCRIBE"], ["PUNSUBSCRIBE"],
                      ["DBSIZE", "x"], ["TIME", "x"], ["FLUSHDB", "NOPE"], ["FLUSHALL", "ASYNC"], ["FLUSHALL", "SYNC"],
                      ["SCAN", "x"], ["SCAN", 0, "COUNT", 0], ["SCAN", 0, "COUNT", "x"], ["SCAN", 0, "NOPE"],
                      ["SCAN", 0, "MATCH"], ["RANDOMKEY"], ["COMMAND", "NOPE"], ["COMMAND", "GETKEYS", "GET", "x"],
                      ["SLOWLOG", "NOPE"], ["SLOWLOG", "LEN", "x"], ["RESET"],
                      ["SUBSCRIBE", "c"], ["GET", "k"], ["PING"], ["PING", "x"], ["UNSUBSCRIBE"], ["PING"]], "-")

    def test_scan(self):
        r = random.Random(SEED)
        pairs = [f"{r.choice('abc')}:{r.randrange(10**6)}" for _ in range(500)]
        self.compare([["MSET", *[word for key in pairs for word in (key, "v")]], ["DBSIZE"]], SEED)
        for words in ([], ["MATCH", "a:*"], ["COUNT", 7], ["MATCH", "*1*", "COUNT", 3], ["MATCH", "[ab]:?*"],
                      ["TYPE", "string"], ["TYPE", "hash"], ["COUNT", 100000], ["MATCH", "none*"]):
            walks = []
            for client in (self.ours, self.theirs):
                cursor, keys = b"0", []
                while True:
                    cursor, page = client.cmd("SCAN", cursor, *words)
                    keys += page
                    self.assertLess(int(cursor), 1 << 53 if client is self.ours else 1 << 64)
                    if cursor == b"0":
                        break
                walks.append(keys)
            self.assertEqual(walks[0], sorted(set(walks[1])), words)

    def test_differences(self):
        """Each on purpose."""
        # A wrong time is an error also where there is no key; Redis looks at the key first.
        self.assertEqual(self.ours.cmd("GETEX", "none", "EX", 0), Error("ERR invalid expire time in 'getex' command"))
        self.compare([["SET", "k", 1], ["GETEX", "k", "EX", 0], ["GETEX", "k", "EX", "x"], ["GETEX", "k", "PX", -1]], "-")
        # Times end some 73 million years from now, so that no sum can overflow.
        self.assertEqual(self.ours.cmd("PEXPIREAT", "k", 2**63 - 1), Error("ERR invalid expire time in 'pexpireat' command"))
        self.compare([["EXPIRE", "k", 2**63 - 1], ["PEXPIRE", "k", 2**63 - 1], ["EXPIRE", "k", -2**63],
                      ["SET", "k", 1, "EX", 2**63 - 1], ["SET", "k", 1, "PX", 2**63 - 1]], "-")
        self.ours.cmd("DEL", "k")
        # Compact encodings are computed from the value, so what APPEND made is not `raw`.
        self.ours.cmd("APPEND", "k", "abc")
        self.assertEqual(self.ours.cmd("OBJECT", "ENCODING", "k"), b"embstr")
        # SCAN is sorted and does not repeat; a cursor of nobody's is an error.
        self.assertEqual(self.ours.cmd("SCAN", 12345), Error("ERR invalid cursor"))


if __name__ == "__main__":
    unittest.main()
