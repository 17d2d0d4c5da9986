"""What one connection does to itself, to others, and to the server: replies that nobody wants, series
that outlive their client, CONFIG, and junk."""

import socket
import time
import unittest

from harness import Error, Status, TestCase, as_map, encode, rounds, wait_until

OK = Status("OK")


class Connection(TestCase):
    def setUp(self):
        super().setUp()
        self.one = self.server().start()
        self.c = self.client()

    def tearDown(self):
        self.one.stop()  # an exit code of 0, also under a sanitizer that looks for leaks
        super().tearDown()

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


class Pause(Connection):
    def answered(self, client, seconds=0.2):
        client.sock.settimeout(seconds)
        try:
            return client.read()
        except TimeoutError:
            return None
        finally:
            client.sock.settimeout(30)

    def test_writes_wait_and_reads_do_not(self):
        other = self.client()
        self.c.cmd("SET", "k", 1)
        self.assertEqual(self.c.cmd("CLIENT", "PAUSE", 60000, "WRITE"), OK)
        self.assertEqual(self.c.cmd("CLIENT", "PAUSE", 1), OK)  # stricter, and not shorter
        other.send("GET", "k")
        self.assertIsNone(self.answered(other))
        self.assertEqual(self.c.cmd("CLIENT", "UNPAUSE"), OK)
        self.assertEqual(other.read(), b"1")
        self.assertEqual(self.c.cmd("CLIENT", "PAUSE", 60000, "WRITE"), OK)
        self.assertEqual(other.pipeline([("GET", "k"), ("MULTI",), ("GET", "k"), ("EXEC",), ("PING",)]),
                         [b"1", OK, Status("QUEUED"), [b"1"], Status("PONG")])
        for command in (("SET", "k", 2), ("PUBLISH", "c", "m"), ("KV", "PUT", "k", 2), ("FLUSHALL",)):
            waiting = self.client()
            waiting.send(*command)
            waiting.send("ECHO", "behind")
            self.assertIsNone(self.answered(waiting, 0.05), command)
            waiting.close()
        other.send("INCR", "k")
        other.send("GET", "k")
        self.assertIsNone(self.answered(other))
        self.assertEqual(self.c.cmd("CLIENT", "UNPAUSE"), OK)
        self.assertEqual([other.read(), other.read()], [2, b"2"])

    def test_it_ends_by_itself(self):
        other = self.client()
        began = time.monotonic()
        self.assertEqual(self.c.cmd("CLIENT", "PAUSE", 300), OK)
        self.assertEqual(other.cmd("PING"), Status("PONG"))
        self.assertGreaterEqual(time.monotonic() - began, 0.29)

    def test_errors(self):
        for command, want in ((("x",), "timeout is not an integer or out of range"), ((-1,), "timeout is negative"),
                              ((1, "NOPE"), "CLIENT PAUSE mode must be WRITE or ALL"), ((1, "ALL", 1), "syntax error")):
            self.assertEqual(self.c.cmd("CLIENT", "PAUSE", *command), Error(f"ERR {want}"))


class Monitor(Connection):
    def lines(self, monitor, count):
        return [str(monitor.read()).split("] ", 1)[1] for _ in range(count)]

    def test_shows_commands_and_no_passwords(self):
        monitor = self.client()
        self.assertEqual(monitor.cmd("MONITOR"), OK)
        self.assertEqual(monitor.cmd("MONITOR"), OK)
        self.c.cmd("SELECT", 2)
        self.c.cmd("SET", "k", b'a"\\\x01\n')
        self.c.cmd("AUTH", "default", "secret")
        self.c.cmd("HELLO", 2, "AUTH", "default", "secret", "SETNAME", "me")
        self.c.cmd("CONFIG", "SET", "requirepass", "")
        self.c.cmd("GET")
        self.c.pipeline([("MULTI",), ("GET", "k"), ("EXEC",)])
        first = str(monitor.read())
        self.assertRegex(first, r'^\d+\.\d{6} \[0 127\.0\.0\.1:\d+\] "SELECT" "2"$')
        self.assertRegex(str(monitor.read()), r'\[2 [^]]*\] "SET" "k" "a\\"\\\\\\x01\\n"$')
        self.assertEqual(self.lines(monitor, 2), [
            '"AUTH" "(redacted)" "(redacted)"', '"HELLO" "2" "AUTH" "(redacted)" "(redacted)" "SETNAME" "me"'])
        self.assertEqual(self.lines(monitor, 3), ['"MULTI"', '"GET" "k"', '"EXEC"'])
        self.assertIn("flags=O", self.c.cmd("CLIENT", "LIST").decode())
        self.assertEqual(monitor.cmd("RESET").split()[-1], '"RESET"')
        self.assertEqual(monitor.read(), Status("RESET"))
        self.c.cmd("GET", "k")
        self.assertEqual(monitor.cmd("PING"), Status("PONG"))

    def test_lines_are_bounded(self):
        monitor = self.client()
        monitor.cmd("MONITOR")
        self.c.cmd("SET", "k", b"x" * 500000)
        self.c.cmd("DEL", *["k" * 100] * 1000)
        self.assertLess(len(monitor.read()), 9000)
        line = monitor.read()
        self.assertLess(len(line), 9000)
        self.assertRegex(line, r"\.\.\. \(\d+ more arguments\)$")

    def test_one_that_does_not_read_is_closed(self):
        self.c.cmd("CONFIG", "SET", "client-output-max-bytes", 1 << 20)
        monitor = self.one.client(receive_bytes=4096)
        self.addCleanup(monitor.close)
        monitor.cmd("MONITOR")
        for _ in range(60):
            self.c.pipeline([("ECHO", b"x" * 4000)] * 20)
        wait_until(lambda: b"flags=O" not in self.c.cmd("CLIENT", "LIST"), "the monitor to be closed")

    def test_gone(self):
        for _ in range(5):
            monitor = self.client()
            monitor.cmd("MONITOR")
            monitor.close()
            self.c.cmd("PING")
        wait_until(lambda: b"flags=O" not in self.c.cmd("CLIENT", "LIST"), "the monitors to be gone")


class Kill(Connection):
    def test_by_type(self):
        listener, other = self.client(), self.client()
        listener.cmd("SUBSCRIBE", "c")
        for words, want in ((("TYPE", "nope"), "Unknown client type 'nope'"), (("USER", "nobody"), "No such user 'nobody'"),
                            (("ID", "x"), "client-id should be greater than 0"), (("NOPE", "x"), "syntax error")):
            self.assertEqual(self.c.cmd("CLIENT", "KILL", *words), Error(f"ERR {want}"))
        self.assertEqual(self.c.cmd("CLIENT", "LIST", "TYPE", "master"), b"")
        self.assertEqual(self.c.cmd("CLIENT", "LIST", "TYPE", "pubsub").count(b"\n"), 1)
        self.assertEqual(self.c.cmd("CLIENT", "KILL", "TYPE", "replica"), 0)
        self.assertEqual(self.c.cmd("CLIENT", "KILL", "TYPE", "pubsub"), 1)
        self.assert_closed(listener)
        self.assertEqual(self.c.cmd("CLIENT", "KILL", "TYPE", "normal"), 1)
        self.assert_closed(other)

    def test_queued_commands_are_counted(self):
        other = self.client()
        other.pipeline([("MULTI",), ("PING",), ("PING",)])
        self.assertIn(b" multi=2 ", self.c.cmd("CLIENT", "LIST"))
        self.assertEqual(other.cmd("EXEC"), [Status("PONG"), Status("PONG")])


class Closing(Connection):
    """Connections that ask for nothing more and do not read what they are owed."""

    def owed(self, *last, close=False):
        """Megabytes that nobody reads, more than the system takes; then the last command."""
        self.c.cmd("SET", "big", b"x" * 1000000)
        client = self.one.client(receive_bytes=4096)
        self.addCleanup(client.close)
        ident = client.cmd("CLIENT", "ID")
        client.raw(encode("GET", "big") * 30 + (encode(*last) if last else b""))
        if close:
            client.sock.shutdown(socket.SHUT_WR)
        wait_until(lambda: b" flags=c " in self.c.cmd("CLIENT", "LIST", "ID", ident), "it to be closing")
        return ident

    def alone(self):
        return b"connected_clients:1\r" in self.c.cmd("INFO", "clients")

    def test_one_that_takes_nothing_is_disconnected(self):
        self.owed("QUIT")
        self.owed(close=True)
        self.c.cmd("CONFIG", "SET", "client-output-soft-bytes", "64mb", "client-output-soft-time", "1s")
        wait_until(self.alone, "those that close to be gone")

    def test_one_is_killed(self):
        ident = self.owed("QUIT")
        self.assertEqual(self.c.pipeline([("CLIENT", "KILL", "ID", ident)] * 2), [1, 0])
        wait_until(self.alone, "the killed one to be gone")


class Looking(Connection):
    def test_debug(self):
        self.assertEqual(self.c.cmd("DEBUG", "OBJECT", "k"), Error("ERR no such key"))
        self.c.cmd("SET", "k", 12)
        self.assertRegex(self.c.cmd("DEBUG", "OBJECT", "k"), r"^Value at:\S+ refcount:1 encoding:int serializedlength:2 ")
        for sub in ("SLEEP", "JMAP", "SEGFAULT", "RELOAD"):
            self.assertEqual(self.c.cmd("DEBUG", sub, 0), Error(f"ERR unknown subcommand '{sub}'. Try DEBUG HELP."))

    def test_latency_events(self):
        self.assertEqual(self.c.cmd("LATENCY", "RESET"), 0)
        self.assertEqual(self.c.cmd("LATENCY", "HISTORY", "command"), [])
        self.assertEqual(self.c.cmd("LATENCY", "GRAPH", "nope"), Error("ERR No samples available for event 'nope'"))
        self.c.cmd("CONFIG", "SET", "latency-monitor-threshold", 1, "slowlog-log-slower-than", -1)
        for first in range(0, 200000, 2000):
            self.c.cmd("MSET", *[word for n in range(first, first + 2000) for word in (f"key:{n}", n)])
        self.c.cmd("KEYS", "*nothing*like*this*")
        latest = {row[0]: row[1:] for row in self.c.cmd("LATENCY", "LATEST")}
        self.assertIn(b"command", latest)
        self.assertIn(b"event-loop", latest)
        at, took, worst = latest[b"command"]
        self.assertLess(abs(at - time.time()), 60)
        self.assertGreaterEqual(worst, took)
        history = self.c.cmd("LATENCY", "HISTORY", "command")
        self.assertEqual(history[-1], [at, took])
        self.assertIn(b"all time high %d ms" % worst, self.c.cmd("LATENCY", "GRAPH", "command"))
        self.assertIn(b"command:", self.c.cmd("LATENCY", "DOCTOR"))
        self.assertEqual(self.c.cmd("LATENCY", "RESET", "command", "nope"), 1)
        self.assertNotIn(b"command", [row[0] for row in self.c.cmd("LATENCY", "LATEST")])

    def test_latency_histogram(self):
        three = self.client(3)
        for _ in range(5):
            three.cmd("KEYS", "*")
        three.cmd("KV", "RANGE", "", "PREFIX")
        got = three.cmd("LATENCY", "HISTOGRAM", "keys", "KV", "get")
        self.assertEqual(set(got), {b"keys", b"kv|range"})
        self.assertEqual(got[b"keys"][b"calls"], 5)
        self.assertEqual(max(got[b"keys"][b"histogram_usec"].values()), 5)


class Junk(Connection):
    """Every command of the table, with everything that it does not want: one reply each, and the server is there."""

    # Not one reply: they end connections or processes, or confirm each channel with a push.
    OTHERWISE = {"shutdown", "quit", "client|reply", "client|kill", "subscribe", "psubscribe", "ssubscribe", "unsubscribe",
                 "punsubscribe", "sunsubscribe"}
    WORDS = (b"", b"\0", b"-1", b"9223372036854775808", b"x" * 5000, b"\r\n$-1\r\n", b"*", b"[", b"\xff\xfe")

    def rows(self):
        for top in self.c.cmd("COMMAND"):
            for row in [top] + top[9]:
                if row[0].decode() not in self.OTHERWISE:
                    yield row[0].decode().split("|"), row[1]

    def replies(self, client, words):
        """Of one command; the connection is as new afterwards, whatever it began."""
        client.send(*words)
        client.send("RESET")
        client.send("ECHO", "end of it")
        got = [client.read()]
        while got[-1] != b"end of it":
            got.append(client.read())
        self.c.cmd("CLIENT", "UNPAUSE")
        got = [reply for reply in got if not str(reply).endswith('"RESET"')]  # what MONITOR shows
        self.assertEqual(got[-2], Status("RESET"), words[:3])
        return got[:-2]

    def test_every_command_with_few_many_and_strange_words(self):
        client = self.client()
        for name, arity in list(self.rows()):
            least = abs(arity) - len(name)
            cases = [name, name + [b"a"] * 2000, name + [b""] * max(least, 0), name + [b""] * (least + 3)]
            cases += [name + [word] * (max(least, 0) + more) for word in self.WORDS for more in (0, 1, 2)]
            for words in cases:
                self.assertEqual(len(self.replies(client, words)), 1, words[:3])

    def test_every_command_with_a_megabyte_in_each_place(self):
        client = self.client()
        big = b"\xe9\0\r\n" * (1 << 18)
        for name, arity in list(self.rows()):
            least = max(abs(arity) - len(name), 0)
            for place in range(least + (1 if arity < 0 else 0)):
                words = name + [b"1"] * max(least, place + 1)
                words[len(name) + place] = big
                self.assertEqual(len(self.replies(client, words)), 1, (name, place))
        self.assertEqual(self.c.cmd("PING"), Status("PONG"))


if __name__ == "__main__":
    unittest.main()
