#!/usr/bin/env python3
"""Bytes in, bytes out: bad input, limits before and after authentication, order of answers, slow,
silent and many clients, transactions of two clients."""

import random
import resource
import shutil
import socket
import tempfile
import threading
import time
import unittest

from harness import (SEED, Client, Closed, Error, Push, Server, TestCase, as_map, encode, rounds,
                     wait_until)

PONG = b"+PONG\r\n"
PING = b"*1\r\n$4\r\nPING\r\n"
MULTIBULK = b"-ERR Protocol error: invalid multibulk length\r\n"
BULK = b"-ERR Protocol error: invalid bulk length\r\n"
INLINE_MAX = 4096
PASSWORD = "a secret"
NOAUTH = "NOAUTH Authentication required."
WRONGPASS = "WRONGPASS invalid username-password pair or user is disabled."


def expected(got):
    return b"-ERR Protocol error: expected '$', got '%s'\r\n" % got


# Input, the answer, and whether the connection goes on.
TABLE = [
    (b"\r\n", b"", True),
    (b"\n", b"", True),
    (b"   \r\n", b"", True),
    (b"*0\r\n", b"", True),
    (b"*-1\r\n", b"", True),
    (b"*-10\r\n", b"", True),
    (b"*-1\r\n*0\r\n\r\n", b"", True),
    (b"PING\r\n", PONG, True),
    (b"PING\n", PONG, True),
    (b"  ping  \r\n", PONG, True),
    (b"ECHO \"a b\"\r\n", b"$3\r\na b\r\n", True),
    (b"ECHO 'it\\'s'\r\n", b"$4\r\nit's\r\n", True),
    (b"ECHO \"\\x00\\n\\\"\"\r\n", b"$3\r\n\0\n\"\r\n", True),
    (b"ECHO \"\"\r\n", b"$0\r\n\r\n", True),
    (b"ECHO a\0b\r\n", b"$3\r\na\0b\r\n", True),
    (b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", b"$0\r\n\r\n", True),
    (b"*2\r\n$4\r\neChO\r\n$4\r\n\r\n\0\xff\r\n", b"$4\r\n\r\n\0\xff\r\n", True),
    (b"*01\r\n$04\r\nPING\r\n", PONG, None),  # what it says is not the point, that it is the same
    (b"*3000000000\r\n", MULTIBULK, False),
    (b"*2147483648\r\n", MULTIBULK, False),
    (b"*9999999999999999999999\r\n", MULTIBULK, False),
    (b"*-9999999999999999999999\r\n", MULTIBULK, False),
    (b"*abc\r\n", MULTIBULK, False),
    (b"*1a\r\n", MULTIBULK, False),
    (b"*\r\n", MULTIBULK, False),
    (b"* 1\r\n", MULTIBULK, False),
    (b"*+1\r\n", MULTIBULK, False),
    (b"*1\rX\r\n", MULTIBULK, False),
    (b"*5000\r\n", MULTIBULK, False),
    (b"*1\r\nfoo\r\n", expected(b"f"), False),
    (b"*2\r\n$4\r\nECHO\r\n:1\r\n", expected(b":"), False),
    (b"*1\r\n*1\r\n", expected(b"*"), False),
    (b"*1\r\n\r\n", expected(b"\\x0d"), False),
    (b"*1\r\n$-1\r\n", BULK, False),
    (b"*1\r\n$-10\r\n", BULK, False),
    (b"*1\r\n$2000000000\r\n", BULK, False),
    (b"*1\r\n$blabla\r\n", BULK, False),
    (b"*1\r\n$\r\n", BULK, False),
    (b"*1\r\n$99999999999999999999\r\n", BULK, False),
    (b"*1\r\n$0x10\r\n", BULK, False),
    (b"*1\r\n$ 3\r\n", BULK, False),
    (b"*1\r\n$3 \r\n", BULK, False),
    (b"*1\r\n$1572865\r\n", BULK, False),
    (b"*1\r\n$4\r\nPINGXX\r\n", b"-ERR Protocol error: expected CRLF after bulk\r\n", False),
    (b"*1\r\n$4\r\nPING\n\r\n", b"-ERR Protocol error: expected CRLF after bulk\r\n", False),
    (b"*" + b"1" * 70000, b"-ERR Protocol error: too big mbulk count string\r\n", False),
    (b"*1\r\n$" + b"1" * 70000, b"-ERR Protocol error: too big bulk count string\r\n", False),
    (b"x" * 70000, b"-ERR Protocol error: too big inline request\r\n", False),
    (b"PING " + b" " * INLINE_MAX + b"\r\n", b"-ERR Protocol error: too big inline request\r\n", False),
    (b"set \"a b\r\n", b"-ERR Protocol error: unbalanced quotes in request\r\n", False),
    (b"set 'a'b c\r\n", b"-ERR Protocol error: unbalanced quotes in request\r\n", False),
    (b"set \"a\"b c\r\n", b"-ERR Protocol error: unbalanced quotes in request\r\n", False),
    (b"POST / HTTP/1.1\r\n", b"", False),
    (b"GET / HTTP/1.1\r\n", b"", False),
    (b"Host: x\r\n", b"", False),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"", False),
    (b"%1\r\n", b"-ERR unknown command '%1', with args beginning with: \r\n", True),
    (b"~1\r\n", b"-ERR unknown command '~1', with args beginning with: \r\n", True),
    (b">1\r\n", b"-ERR unknown command '>1', with args beginning with: \r\n", True),
    (b"_\r\n", b"-ERR unknown command '_', with args beginning with: \r\n", True),
    (b"foo bar baz\r\n", b"-ERR unknown command 'foo', with args beginning with: 'bar' 'baz' \r\n", True),
    (b"foo a\rb\r\n", None, True),
    (b"GET\r\n", b"-ERR wrong number of arguments for 'get' command\r\n", True),
    (b"KV FROB\r\n", b"-ERR unknown subcommand 'FROB'. Try KV HELP.\r\n", True),
    (b"KV GET\r\n", b"-ERR wrong number of arguments for 'kv|get' command\r\n", True),
]


def rss_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as text:
        return int(text.read().split()[1]) * resource.getpagesize()


class Shared(TestCase):
    """One server for all tests of the class."""

    options = {}

    @classmethod
    def setUpClass(cls):
        scratch = tempfile.mkdtemp(prefix="cordis-")
        cls.addClassCleanup(shutil.rmtree, scratch, ignore_errors=True)
        options = {"port": 0, "peer-port": 0, "bind": "127.0.0.1", **cls.options}
        cls.served = Server(f"{scratch}/data", options)
        cls.addClassCleanup(cls.served.kill)
        cls.served.start()

    @classmethod
    def tearDownClass(cls):
        cls.served.stop()

    def setUp(self):
        super().setUp()
        self.client = self.connect()

    def connect(self, **more):
        client = self.served.client(**more)
        self.addCleanup(client.close)
        return client


class BadInput(Shared):
    def answer(self, data, pieces, goes_on):
        """What comes back, and whether the connection lives."""
        with self.served.client() as client:
            try:
                for i in range(0, len(data), pieces):
                    client.raw(data[i:i + pieces])
                if goes_on is not False:
                    client.raw(PING)
                    client.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # closed in our face; the answer is there nevertheless
            return client.read_all()

    def test_table(self):
        for data, want, goes_on in TABLE:
            whole = self.answer(data, len(data), goes_on)
            with self.subTest(data=data[:60]):
                if want is not None and goes_on is not None:
                    self.assertEqual(whole, want + (PONG if goes_on else b""))
                elif goes_on:
                    self.assertTrue(whole.startswith(b"-ERR ") and whole.endswith(b"\r\n" + PONG), whole)
                pieces = 1 if len(data) < 5000 else 1024
                self.assertEqual(self.answer(data, pieces, goes_on), whole, "in small pieces")

    def test_good_answers_before_bad_input(self):
        """What came before the error is answered before it."""
        for bad, error in ((b"*1\r\n$-1\r\n", BULK), (b"POST / HTTP/1.1\r\n", b"")):
            got = self.answer(encode("SET", "k", "v") + encode("GET", "k") + bad, 10000, False)
            if error:
                self.assertEqual(got, b"+OK\r\n$1\r\nv\r\n" + error)
            else:
                self.assertIn(got, (b"", b"+OK\r\n", b"+OK\r\n$1\r\nv\r\n"))

    def test_answers_in_one_line(self):
        for word in ("a\r\nb", "x" * 5000, "\0"):
            answer = self.client.cmd(word, word, word)
            self.assertIsInstance(answer, Error)
            self.assertLess(len(answer), 1000)
            self.assertEqual(self.client.cmd("PING"), "PONG")

    def test_sizes(self):
        client = self.client
        value = b"\0" * (1 << 20)
        self.assertEqual(client.cmd("SET", "big", value), "OK")
        self.assertEqual(client.cmd("GET", "big"), value)
        self.assertEqual(client.cmd("SET", "k" * 4096, "v"), "OK")
        for command in (("SET", "k" * 4097, "v"), ("SET", "big", value + b"x"), ("APPEND", "big", "x"),
                        ("SETRANGE", "big", 1 << 20, "x"), ("SETRANGE", "new", 1 << 40, "x")):
            self.assertIsInstance(client.cmd(*command), Error, command[:2])
        self.assertEqual(client.cmd("STRLEN", "big"), 1 << 20)
        self.assertEqual(client.cmd("SET", "", "empty"), "OK")
        self.assertEqual(client.cmd("GET", ""), b"empty")
        self.assertEqual(client.cmd("DEL", "big", "", "k" * 4096), 3)

    def test_random_bytes(self):
        """Whatever comes, the server lives and closes or answers."""
        draw = random.Random(SEED)
        pool = [b"*1\r\n", b"$4\r\n", b"PING\r\n", b"*3\r\n$3\r\nSET\r\n", b"\r\n", b"\0", b"*", b"$", b"\"",
                b"1000", b"-1", b"KV GET a\r\n", b"MULTI\r\n", b"EXEC\r\n", b"TXN IF 1 ", b"HELLO 3\r\n"]
        for _ in range(rounds(150, 5000)):
            data = b"".join(draw.choice(pool) if draw.random() < 0.8 else draw.randbytes(3)
                            for _ in range(draw.randrange(1, 30)))
            with self.served.client() as client:
                try:
                    client.raw(data)
                    client.sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                client.read_all()
        self.assertEqual(self.client.cmd("PING"), "PONG")

    def test_bad_arguments_change_nothing(self):
        client = self.client
        before = client.cmd("KV", "REVISION")
        errors = [
            ("LEASE", "GRANT", 0), ("LEASE", "GRANT", -1), ("LEASE", "GRANT", 1 << 63),
            ("LEASE", "GRANT", 10, "ID", 0), ("LEASE", "REVOKE", 1), ("LEASE", "TTL", 1 << 60),
            ("KV", "RANGE", "a", "PREFIX", "LIMIT", -1), ("KV", "RANGE", "a", "PREFIX", "REV", -1),
            ("KV", "RANGE", "a", "PREFIX", "REV", 1 << 50), ("KV", "COMPACT", 1 << 50),
            ("KV", "PUT", "a"), ("KV", "PUT", "a", "b", "LEASE", 12345),
            ("SET", "a", "b", "EX", 0), ("SET", "a", "b", "EX", -1), ("SET", "a", "b", "PX", 1 << 62),
            ("SET", "a", "b", "NX", "XX"), ("SET", "a", "b", "EX", 1, "PX", 1), ("SETEX", "a", 0, "b"),
            ("INCRBY", "a", "1.5"), ("INCRBY", "a", 1 << 64), ("GETRANGE", "a", "x", 1),
            ("TXN", "IF", 1), ("TXN", "IF", -1), ("TXN", "IF", 1 << 40), ("TXN", "IF", 1, "MOD", "a", "=", "x"),
            ("TXN", "IF", 0, "THEN", 1), ("TXN", "IF", 0, "THEN", 1, 3, "SET", "a"),
            ("TXN", "IF", 0, "THEN", 129, *(["2", "GET", "a"] * 129)),
            ("TXN", "IF", 0, "THEN", 1, 1, "EXEC"), ("SELECT", 16), ("SELECT", "x"), ("XREAD", "STREAMS", "a", 0),
            ("SCAN", "x"), ("SCAN", 0, "COUNT", 0), ("EXEC",), ("DISCARD",), ("KEYS",), ("MSET", "a"),
        ]
        for command in errors:
            with self.subTest(command=command[:6]):
                self.assertIsInstance(client.cmd(*command), Error)
        self.assertEqual(client.cmd("KV", "REVISION"), before)

    def test_patterns_take_no_time(self):
        client = self.client
        self.assertEqual(client.cmd("SET", "a" * 4000, "x"), "OK")
        began = time.monotonic()
        client.cmd("KEYS", "a*" * 500 + "b")
        client.cmd("KEYS", "?" * 100000)
        client.cmd("SCAN", 0, "MATCH", "[" * 1000)
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual(client.cmd("DEL", "a" * 4000), 1)


class Order(Shared):
    def test_long_pipeline(self):
        """Reads behind writes of the same connection, each with its right answer."""
        draw = random.Random(SEED)
        model, commands, want = {}, [], []
        for i in range(rounds(10000, 200000)):
            key = b"p%d" % draw.randrange(60)
            kind = draw.randrange(12)
            if kind < 3:
                commands.append(("SET", key, b"%d" % i))
                want.append("OK")
                model[key] = b"%d" % i
            elif kind < 6:
                commands.append(("GET", key))
                want.append(model.get(key))
            elif kind == 6:
                commands.append(("DEL", key))
                want.append(int(model.pop(key, None) is not None))
            elif kind == 7:
                commands.append(("INCR", b"n" + key))
                model[b"n" + key] = int(model.get(b"n" + key, 0)) + 1
                want.append(model[b"n" + key])
            elif kind == 8:
                commands.append(("APPEND", key, "."))
                model[key] = model.get(key, b"") + b"."
                want.append(len(model[key]))
            elif kind == 9:
                commands.append(("ECHO", b"%d" % i))
                want.append(b"%d" % i)
            elif kind == 10:
                keys = [b"p%d" % draw.randrange(60) for _ in range(4)]
                commands.append(("MGET", *keys))
                want.append([model.get(key) for key in keys])
            elif i % 3:
                commands.append(("NOSUCH", b"%d" % i))
                want.append(f"ERR unknown command 'NOSUCH', with args beginning with: '{i}' ")
            else:
                commands.append(("EXISTS", key))
                want.append(int(key in model))
        sender = threading.Thread(target=self.client.raw, args=(b"".join(encode(*c) for c in commands),))
        sender.start()
        for i, value in enumerate(want):
            self.assertEqual(self.client.read(), value, (i, commands[i]))
        sender.join()

    def test_pipeline_of_everything(self):
        client = self.client
        got = client.pipeline([
            ("SET", "o", "1"), ("MULTI",), ("INCR", "o"), ("GET", "o"), ("EXEC",), ("GET", "o"),
            ("TXN", "IF", 1, "VALUE", "o", "=", "2", "THEN", 1, 3, "SET", "o", "3"), ("GET", "o"),
            ("CLIENT", "REPLY", "ON"), ("SET", "o", "4"), ("CLIENT", "REPLY", "ON"), ("GET", "o"),
            ("SELECT", "1"), ("GET", "o"), ("SET", "o", "db1"), ("GET", "o"), ("SELECT", "0"), ("GET", "o"),
            ("SET", "o", "5"), ("HELLO", "2"), ("GET", "o"), ("SET", "o", "6"), ("KV", "RANGE", "o", "COUNTONLY"),
            ("DEL", "o"), ("EXISTS", "o"), ("SET", "o", "7"), ("RESET",), ("GET", "o"),
        ])
        self.assertEqual(got[:6], ["OK", "OK", "QUEUED", "QUEUED", [2, b"2"], b"2"])
        self.assertEqual(as_map(got[6])["succeeded"], 1)
        self.assertEqual(got[7:19], [b"3", "OK", "OK", "OK", b"4", "OK", None, "OK", b"db1", "OK", b"4", "OK"])
        self.assertEqual(as_map(got[19])["proto"], 2)
        self.assertEqual(got[20:22], [b"5", "OK"])
        self.assertEqual(as_map(got[22])["count"], 1)
        self.assertEqual(got[23:], [1, 0, "OK", "RESET", b"7"])

    def test_reply_off_and_skip(self):
        client = self.client
        for command in (("CLIENT", "REPLY", "OFF"), ("SET", "r", "1"), ("GET", "r"), ("NOSUCH",), ("INCR", "r"),
                        ("CLIENT", "REPLY", "ON"), ("GET", "r"), ("CLIENT", "REPLY", "SKIP"), ("INCR", "r"),
                        ("GET", "r"), ("SET", "r", "9"), ("CLIENT", "REPLY", "SKIP"), ("GET", "r"), ("ECHO", "end")):
            client.send(*command)
        self.assertEqual([client.read() for _ in range(5)], ["OK", b"2", b"3", "OK", b"end"])

    def test_reply_skip_twice(self):
        self.client.raw(encode("CLIENT", "REPLY", "SKIP") * 2 + encode("ECHO", "one") + encode("ECHO", "two"))
        self.assertEqual(self.client.read(), b"two")

    def test_multi_with_reply_off(self):
        client = self.client
        for command in (("CLIENT", "REPLY", "OFF"), ("MULTI",), ("SET", "m", "1"), ("EXEC",),
                        ("CLIENT", "REPLY", "ON"), ("GET", "m")):
            client.send(*command)
        self.assertEqual([client.read(), client.read()], ["OK", b"1"])

    def test_quit_with_pending_writes(self):
        client = self.client
        client.raw(b"".join(encode("SET", "q%d" % i, "v" * 1000) for i in range(500)) + encode("QUIT")
                   + encode("SET", "q0", "too late"))
        self.assertEqual(client.read_all(), b"+OK\r\n" * 501)
        self.assertEqual(self.connect().cmd("GET", "q0"), b"v" * 1000)

    def test_half_close(self):
        """A client that only stops sending gets all its answers."""
        cases = [
            [("SET", "h", i) for i in range(1000)] + [("GET", "h")],
            [("SET", "h", "1"), ("HELLO", "2"), ("GET", "h"), ("SET", "h", "2"), ("RESET",), ("GET", "h")],
            [("SET", "h", "1"), ("KV", "RANGE", "h"), ("GET", "h")] * 20,
            [("SET", "h", "1"), ("MULTI",), ("INCR", "h"), ("EXEC",), ("GET", "h")] * 40,
            [("SET", "h", "x" * 100000), ("GET", "h")] * 30,
            [("SET", "h", "1"), ("KV", "HISTORY", "h"), ("GET", "h"), ("KV", "GET", "h", "REV", "2"), ("GET", "h")],
            [("SET", "h", "1"), ("INCRBYFLOAT", "h", "1"), ("GET", "h"), ("FLUSHDB",), ("SET", "h", "2"), ("FLUSHDB",)],
        ]
        for commands in cases:
            with self.subTest(commands=[command[0] for command in commands[:5]]):
                client = self.connect()
                client.raw(b"".join(encode(*command) for command in commands))
                client.sock.shutdown(socket.SHUT_WR)
                try:
                    for i, command in enumerate(commands):
                        client.read()
                except Closed:
                    self.fail(f"closed before answer {i} of {len(commands)} ({command[:2]})")
                self.assert_closed(client)

    def test_half_close_while_history_is_read(self):
        """What reads the disk ends by itself and is answered; what then waits for events is closed."""
        for i in range(200):
            self.client.cmd("SET", "old", i)
        self.served.stop()
        self.served.start()
        oldest = "1"
        cases = [
            (["XREAD", "STREAMS", "__watch__:old", oldest], True),
            (["XREAD", "BLOCK", "0", "STREAMS", "__watch__:old", oldest], True),
            (["KV", "READ", "old", "FROM", oldest], True),
            (["KV", "READ", "old", "FROM", oldest, "BLOCK", "0"], True),
            (["XRANGE", "__watch__:old", "-", "+", "COUNT", "1"], True),
            (["XREVRANGE", "__watch__:old", "+", "-", "COUNT", "1"], True),
            (["XREAD", "STREAMS", "__watch__:none", oldest], True),
            (["XREAD", "BLOCK", "0", "STREAMS", "__watch__:none", oldest], False),
            (["KV", "READ", "none", "FROM", oldest, "BLOCK", "0"], False),
        ]
        for command, answered in cases * 10:
            for behind in ([], [["PING"]]):
                with self.subTest(command=command, behind=behind):
                    client = self.connect()
                    client.raw(b"".join(encode(*c) for c in [["ECHO", "first"], command, *behind]))
                    client.sock.shutdown(socket.SHUT_WR)
                    self.assertEqual(client.read(), b"first")
                    try:
                        if answered:
                            self.assertNotIsInstance(client.read(), Error)
                            for _ in behind:
                                self.assertEqual(client.read(), "PONG")
                    except Closed:
                        self.fail("closed before the answer")
                    self.assert_closed(client)

    def test_close_without_reading(self):
        """Clients that go in the middle of an answer hurt nobody."""
        linger = b"\1\0\0\0\0\0\0\0"
        for i in range(50):
            client = self.connect()
            if i % 2:
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # a reset
            client.raw(encode("SET", "big", "x" * 100000) + encode("GET", "big") * 20)
            client.close()
        self.assertEqual(self.client.cmd("PING"), "PONG")


class Resp3(Shared):
    def test_hello_forms(self):
        client = self.client
        for words, text in (
                (("4",), "NOPROTO unsupported protocol version"),
                (("1",), "NOPROTO unsupported protocol version"),
                (("x",), "ERR Protocol version is not an integer or out of range"),
                (("3", "AUTH", "u"), "ERR Syntax error in HELLO option 'AUTH'"),
                (("3", "FROB"), "ERR Syntax error in HELLO option 'FROB'"),
                (("3", "SETNAME"), "ERR Syntax error in HELLO option 'SETNAME'"),
                (("3", "AUTH", "nobody", "x"), WRONGPASS),
                (("3", "SETNAME", "a b"), "ERR Client names cannot contain spaces, newlines or special characters.")):
            with self.subTest(words=words):
                self.assertEqual(client.cmd("HELLO", *words), text)
        self.assertIsInstance(client.cmd("HELLO"), list)
        answer = client.cmd("HELLO", "3", "SETNAME", "me")
        self.assertIsInstance(answer, dict)
        answer = as_map(answer)
        self.assertEqual((answer["server"], answer["proto"], answer["role"], answer["modules"]),
                         (b"redis", 3, b"master", []))
        self.assertEqual(client.cmd("CLIENT", "GETNAME"), b"me")
        self.assertIsNone(client.cmd("GET", "none"))
        self.assertIsInstance(client.cmd("HELLO", "2"), list)
        self.assertEqual(client.cmd("AUTH", "x"), "ERR AUTH <password> called without any password configured for "
                         "the default user. Are you sure your configuration is correct?")

    def test_nulls(self):
        for proto, null, null_array in ((2, b"$-1\r\n", b"*-1\r\n"), (3, b"_\r\n", b"_\r\n")):
            client = self.connect()
            client.cmd("HELLO", proto)
            for request, want in (
                    (encode("GET", "none"), null), (encode("MGET", "none"), b"*1\r\n" + null),
                    (encode("KV", "GET", "none"), None),
                    (encode("WATCH", "w") + encode("SET", "w", "1") + encode("MULTI") + encode("PING") + encode("EXEC"),
                     b"+OK\r\n" * 3 + b"+QUEUED\r\n" + null_array)):
                client.raw(request + PING)
                got = b""
                while not got.endswith(PONG):
                    got += client.sock.recv(4096)
                if want is None:
                    self.assertIn(got[:-len(PONG)], (null, null_array))
                else:
                    self.assertEqual(got, want + PONG)

    def test_pushes_among_answers(self):
        client = self.client
        client.cmd("HELLO", 3)
        answer = client.cmd("KV", "WATCH", "push/", "PREFIX")
        self.assertFalse(isinstance(answer, Error), answer)
        client.raw(b"".join(encode("SET", "push/%d" % i, i) + encode("ECHO", i) for i in range(200)))
        answers, pushes = [], []
        while len(answers) < 400 or len(pushes) < 200:
            frame = client.read()
            (pushes if isinstance(frame, Push) else answers).append(frame)
        self.assertEqual(answers, [x for i in range(200) for x in ("OK", b"%d" % i)])
        revisions = [push[2] for push in pushes]
        self.assertEqual(revisions, sorted(set(revisions)))
        self.assertEqual([push[4] for push in pushes], [b"push/%d" % i for i in range(200)])


class Password(Shared):
    options = {"requirepass": PASSWORD, "handshake-timeout": "1500ms"}

    def test_texts(self):
        client = self.client
        for command in (("PING",), ("GET", "a"), ("SET", "a", "b"), ("KV", "REVISION"), ("MEMBER", "LIST"), ("INFO",),
                        ("LEASE", "LIST"), ("CONFIG", "GET", "*"), ("CLIENT", "LIST"), ("COMMAND",), ("SHUTDOWN",),
                        ("MULTI",), ("SUBSCRIBE", "a"), ("ALARM", "LIST"), ("DEBUG", "OBJECT", "a")):
            with self.subTest(command=command):
                answer = client.cmd(*command)
                if not str(answer).startswith("ERR unknown command"):
                    self.assertEqual(answer, NOAUTH)
        for words in (("wrong",), ("default", "wrong"), ("nobody", PASSWORD), ("",), ("x" * 10000,),
                      (PASSWORD + "\0",), (PASSWORD[:-1],)):
            self.assertEqual(client.cmd("AUTH", *words), WRONGPASS)
        self.assertIsInstance(client.cmd("AUTH"), Error)
        self.assertEqual(client.cmd("AUTH", "a", "b", "c"), "ERR syntax error")
        self.assertEqual(client.cmd("HELLO", "3"), "NOAUTH HELLO must be called with the client already "
                         "authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to "
                         "authenticate the client and select the RESP protocol version at the same time")
        self.assertEqual(client.cmd("HELLO", "3", "AUTH", "default", "no"), WRONGPASS)
        self.assertIsInstance(client.cmd("HELLO", "3", "AUTH", "default", PASSWORD), dict)
        self.assertEqual(client.cmd("SET", "a", "b"), "OK")
        self.assertEqual(client.cmd("RESET"), "RESET")
        self.assertEqual(client.cmd("GET", "a"), NOAUTH)
        self.assertEqual(client.cmd("AUTH", PASSWORD), "OK")
        self.assertEqual(client.cmd("AUTH", "default", PASSWORD), "OK")
        self.assertEqual(client.cmd("CONFIG", "GET", "port")[0], b"port")

    def test_auth_in_one_packet(self):
        answers = self.client.pipeline([("GET", "x"), ("AUTH", PASSWORD), ("SET", "x", "1"), ("GET", "x")])
        self.assertEqual(answers, [NOAUTH, "OK", "OK", b"1"])
        answers = self.connect().pipeline([("AUTH", PASSWORD), ("SET", "x", "y" * 200000), ("STRLEN", "x")])
        self.assertEqual(answers, ["OK", "OK", 200000])

    def test_limits_before(self):
        for data, text in ((b"*11\r\n", "unauthenticated multibulk length"),
                           (b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", "unauthenticated bulk length")):
            client = self.connect()
            client.raw(data)
            self.assertEqual(client.read_all(), b"-ERR Protocol error: %s\r\n" % text.encode())
        client = self.connect()
        client.cmd("AUTH", PASSWORD)
        self.assertIsInstance(client.cmd("MGET", *range(1000)), list)

    def test_unauthenticated_output_is_bounded(self):
        """One that asks and never reads is cut, and costs nothing."""
        before = rss_bytes(self.served.process.pid)
        clients = [self.connect(receive_bytes=4096) for _ in range(4)]
        try:
            for client in clients:
                client.sock.settimeout(0.3)
                for _ in range(200):
                    client.raw(PING * 5000)
        except OSError:
            pass
        other = self.connect()
        self.assertEqual(other.cmd("AUTH", PASSWORD), "OK")
        self.assertLess(rss_bytes(self.served.process.pid) - before, 100 << 20)

    def test_handshake_timeout(self):
        began = time.monotonic()
        silent, trickle, good = self.connect(), self.connect(), self.connect()
        self.assertEqual(good.cmd("AUTH", PASSWORD), "OK")
        self.assert_closed(silent)
        try:
            while time.monotonic() - began < 10:
                trickle.raw(b"\r\n")
                time.sleep(0.05)
            self.fail("one that sends empty lines stays for ever")
        except OSError:
            pass
        self.assertEqual(good.cmd("PING"), "PONG")

    def test_handshake_timeout_is_not_for_one_that_was_authenticated(self):
        """A pool may RESET what it keeps, and authenticate when it is needed."""
        good = self.client
        self.assertEqual(good.cmd("AUTH", PASSWORD), "OK")
        self.assertEqual(good.cmd("RESET"), "RESET")
        self.assert_closed(self.connect())
        self.assertEqual(good.cmd("GET", "a"), NOAUTH)

    def test_output_from_before_a_reset_is_sent(self):
        self.client.cmd("AUTH", PASSWORD)
        self.client.cmd("SET", "big", "x" * 100000)
        self.assertEqual(self.client.pipeline([("GET", "big"), ("RESET",), ("PING",)]), [b"x" * 100000, "RESET", NOAUTH])


class Limits(Shared):
    options = {"client-output-max-bytes": "1mb", "client-output-soft-bytes": "256kb", "client-output-soft-time": "1s",
               "request-deadline": "1500ms", "maxclients": 600}

    def test_client_that_never_reads(self):
        self.client.cmd("SET", "big", "x" * 100000)
        greedy = self.connect(receive_bytes=4096)
        greedy.raw(encode("GET", "big") * 400)
        for _ in range(50):
            self.assertEqual(self.client.cmd("PING"), "PONG")
        self.assertLess(len(greedy.read_all()), 400 * 100000)

    def test_client_that_never_reads_stays_over_the_soft_limit(self):
        self.client.cmd("SET", "mid", "x" * 50000)
        greedy = self.connect(receive_bytes=4096)
        ident = greedy.cmd("CLIENT", "ID")

        def unread():
            """Bytes the server holds for it; None when it is gone."""
            line = self.client.cmd("CLIENT", "LIST", "ID", ident)
            return int(line.split(b" omem=")[1].split()[0]) if line else None
        for _ in range(400):  # the system takes some megabytes first
            if unread() > 300000:
                break
            greedy.raw(encode("GET", "mid"))
            self.assertEqual(self.client.cmd("PING"), "PONG")
        self.assertGreater(unread(), 300000)
        wait_until(lambda: unread() is None, "the soft limit", 10)

    def test_slow_writer_is_served(self):
        client = self.connect()
        self.assertEqual(self.client.cmd("SET", "slow", "v"), "OK")
        for byte in encode("GET", "slow"):
            client.raw(bytes([byte]))
            time.sleep(0.01)
        self.assertEqual(client.read(), b"v")

    def test_request_deadline(self):
        half = self.connect()
        began = time.monotonic()
        half.raw(b"*2\r\n$3\r\nGET\r\n$10\r\n")
        try:
            while time.monotonic() - began < 10:
                half.raw(b"x")
                time.sleep(0.7)  # ten bytes would take longer than the deadline
            self.fail("an endless request stays")
        except OSError:
            pass
        self.assertLess(time.monotonic() - began, 8)
        idle = self.client
        self.assertEqual(idle.cmd("PING"), "PONG")

    def test_many_connections(self):
        clients = [self.connect() for _ in range(500)]
        for i, client in enumerate(clients):
            client.raw(encode("SET", "many%d" % i, i) + encode("GET", "many%d" % i))
        for i, client in enumerate(clients):
            self.assertEqual([client.read(), client.read()], ["OK", b"%d" % i])
        for client in clients:
            client.close()
        wait_until(lambda: self.client.cmd("INFO", "clients").split(b"connected_clients:")[1].split(b"\r")[0] == b"1",
                   "the connections to be gone")

    def test_maxclients(self):
        clients = []
        for _ in range(700):
            client = self.connect()
            client.send("PING")
            clients.append(client)
        refused = 0
        for client in clients:
            try:
                answer = client.read()
            except Closed:
                answer = "closed"
            if answer != "PONG":
                self.assertEqual(answer, "ERR max number of clients reached")
                refused += 1
        self.assertEqual(refused, 101)  # 600 less the one of setUp
        for client in clients:
            client.close()
        wait_until(lambda: self.client.cmd("INFO", "clients").split(b"connected_clients:")[1].split(b"\r")[0] == b"1",
                   "the connections to be gone")

    def test_connect_and_close_storm(self):
        for i in range(rounds(1000, 20000)):
            with self.served.client() as client:
                if i % 3 == 0:
                    client.raw(b"*1\r\n$4\r\nPI")
                elif i % 3 == 1:
                    client.raw(PING)
        self.assertEqual(self.client.cmd("PING"), "PONG")


class Configured(TestCase):
    def test_maxclients_is_what_the_descriptors_allow(self):
        server = self.server(maxclients=100).start()
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (700, 700))
        with server.client() as client:
            answer = client.cmd("CONFIG", "SET", "maxclients", 5000)
            self.assertIn("not able to handle the specified number of clients, try with ", str(answer))
            self.assertEqual(client.cmd("CONFIG", "GET", "maxclients"), [b"maxclients", b"100"])
            possible = int(str(answer).split("try with ")[1].split()[0].rstrip("')"))
            self.assertGreater(possible, 100)
            self.assertEqual(client.cmd("CONFIG", "SET", "maxclients", possible), "OK")
            others = [server.client() for _ in range(possible + 20)]
            refused = 0
            for other in others:
                try:
                    other.send("PING")
                    refused += other.read() != "PONG"
                except (Closed, OSError):
                    refused += 1
            self.assertEqual(refused, 21)
            for i in range(20):
                self.assertEqual(client.cmd("SET", "k%d" % i, "x" * 900000), "OK")
            for other in others:
                other.close()

    def test_longest_password(self):
        server = self.server().start()
        with server.client() as client:
            self.assertIn("at most 512 bytes", str(client.cmd("CONFIG", "SET", "requirepass", "p" * 513)))
            self.assertEqual(client.cmd("CONFIG", "SET", "requirepass", "p" * 512), "OK")
        with server.client() as client:
            self.assertEqual(client.cmd("AUTH", "p" * 512), "OK")

    def test_socket_permissions_are_octal(self):
        server = self.server(unixsocket="/nonexistent/socket", unixsocketperm=708)
        server.launch()
        self.assertNotEqual(server.wait(), 0)
        self.assertIn("'unixsocketperm' must be octal digits", server.text())


    def test_without_a_password_nothing_is_asked(self):
        server = self.server(requirepass=PASSWORD).start()
        with server.client() as one, server.client() as two:
            self.assertEqual(two.cmd("GET", "a"), NOAUTH)
            self.assertEqual(one.cmd("AUTH", PASSWORD), "OK")
            self.assertEqual(one.cmd("CONFIG", "SET", "requirepass", ""), "OK")
            self.assertIsNone(two.cmd("GET", "a"))
            self.assertEqual(one.cmd("CONFIG", "SET", "requirepass", "other"), "OK")
            self.assertIsNone(two.cmd("GET", "a"))
            self.assertEqual(two.cmd("RESET"), "RESET")
            self.assertEqual(two.cmd("GET", "a"), NOAUTH)


class Counted(TestCase):
    """INFO says what happened."""

    def test_info_stats(self):
        server = self.server().start()
        with server.client() as client, server.client() as other:
            def stats():
                lines = client.cmd("INFO", "stats").decode().split("\r\n")
                return {k: int(v) for k, v in (line.split(":") for line in lines if ":" in line)}
            before = stats()
            for words in (("NOSUCH",), ("GET",), ("SET", "k"), ("INCR", "s")):
                other.cmd("SET", "s", "x")
                self.assertIsInstance(other.cmd(*words), Error)
            other.cmd("SET", "big", "x" * 100000)
            other.cmd("GET", "big")
            after = stats()
            self.assertEqual(after["total_error_replies"] - before["total_error_replies"], 4)
            sent = after["total_net_output_bytes"] - before["total_net_output_bytes"]
            self.assertTrue(100000 < sent < 110000, sent)
            self.assertEqual(client.cmd("CONFIG", "RESETSTAT"), "OK")
            self.assertLess(stats()["total_net_output_bytes"], 10000)

    def test_time_does_not_go_back(self):
        server = self.server().start()
        with server.client() as client:
            client.raw(encode("TIME") * 5000)
            times = [tuple(map(int, client.read())) for _ in range(5000)]
            self.assertEqual(times, sorted(times))
            self.assertLess(abs(times[-1][0] - time.time()), 5)


class Local(TestCase):
    def test_other_loopback_address_is_local(self):
        server = self.server(bind="127.0.0.1 127.0.0.2").start()
        with Client(("127.0.0.2", server.port), local="127.0.0.3") as client:
            self.assertEqual(client.cmd("PING"), "PONG")

    def test_protected_mode(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))
                address = probe.getsockname()[0]
            except OSError:
                address = "127.0.0.1"
        if address.startswith("127."):
            self.skipTest("this machine has no address but loopback")
        server = self.server(bind=f"127.0.0.1 {address}").start()
        with Client((address, server.port)) as client:
            answer = client.read()
            self.assertTrue(answer.startswith("DENIED Cordis is running in protected mode"), answer)
            self.assert_closed(client)
        with server.client() as client:
            self.assertEqual(client.cmd("CONFIG", "SET", "protected-mode", "no"), "OK")
        with Client((address, server.port)) as client:
            self.assertEqual(client.cmd("PING"), "PONG")


class Transactions(Shared):
    def setUp(self):
        super().setUp()
        self.other = self.connect()
        self.client.cmd("FLUSHALL")

    def test_exec(self):
        a, b = self.client, self.other
        self.assertEqual(a.cmd("MULTI"), "OK")
        self.assertEqual(a.cmd("SET", "k", "1"), "QUEUED")
        self.assertEqual(b.cmd("GET", "k"), None)
        self.assertEqual(b.cmd("SET", "k", "b"), "OK")
        self.assertEqual(a.cmd("INCR", "k"), "QUEUED")
        self.assertEqual(a.cmd("EXEC"), ["OK", 2])
        self.assertEqual(b.cmd("GET", "k"), b"2")

    def test_one_revision(self):
        a = self.client
        before = a.cmd("KV", "REVISION")
        a.pipeline([("MULTI",), ("SET", "x", "1"), ("SET", "y", "2"), ("DEL", "x"), ("EXEC",)])
        self.assertEqual(a.cmd("KV", "REVISION"), before + 1)

    def test_errors_within(self):
        a = self.client
        a.cmd("SET", "s", "text")
        a.cmd("MULTI")
        a.cmd("SET", "t", "1")
        a.cmd("INCR", "s")
        a.cmd("INCR", "t")
        answer = a.cmd("EXEC")
        self.assertEqual((answer[0], answer[2]), ("OK", 2))
        self.assertEqual(answer[1], "ERR value is not an integer or out of range")
        self.assertIsInstance(answer[1], Error)

    def test_exec_after_a_bad_command(self):
        a = self.client
        for bad in (("NOSUCH",), ("GET",), ("WATCH", "x")):
            self.assertEqual(a.cmd("MULTI"), "OK")
            self.assertEqual(a.cmd("SET", "n", "1"), "QUEUED")
            self.assertIsInstance(a.cmd(*bad), Error)
            answer = a.cmd("EXEC")
            if bad[0] == "WATCH":
                self.assertEqual(answer, ["OK"])
                self.assertEqual(a.cmd("DEL", "n"), 1)
            else:
                self.assertEqual(answer, "EXECABORT Transaction discarded because of previous errors.")
                self.assertEqual(a.cmd("EXISTS", "n"), 0)
        self.assertEqual(a.cmd("EXEC"), "ERR EXEC without MULTI")
        self.assertEqual(a.cmd("DISCARD"), "ERR DISCARD without MULTI")
        a.cmd("MULTI")
        self.assertEqual(a.cmd("MULTI"), "ERR MULTI calls can not be nested")
        self.assertEqual(a.cmd("DISCARD"), "OK")

    def test_watch(self):
        a, b = self.client, self.other
        changes = [
            ("a change", [("SET", "w", "2")], None),
            ("the same value", [("SET", "w", "1")], None),
            ("a deletion", [("DEL", "w")], None),
            ("a deletion and a new key", [("DEL", "w"), ("SET", "w", "1")], None),
            ("a new lifetime", [("EXPIRE", "w", "100")], None),
            ("another key", [("SET", "v", "2")], ["OK"]),
            ("another database", [("SELECT", "3"), ("SET", "w", "2"), ("SELECT", "0")], ["OK"]),
            ("a read", [("GET", "w")], ["OK"]),
        ]
        for what, commands, want in changes:
            with self.subTest(what=what):
                a.cmd("SET", "w", "1")
                self.assertEqual(a.cmd("WATCH", "w"), "OK")
                b.pipeline(commands)
                a.cmd("MULTI")
                a.cmd("SET", "result", what)
                self.assertEqual(a.cmd("EXEC"), want)
                a.cmd("MULTI")
                a.cmd("SET", "w", "9")
                self.assertEqual(a.cmd("EXEC"), ["OK"])  # EXEC has ended the watch

    def test_watch_of_nothing_and_own_writes(self):
        a, b = self.client, self.other
        a.cmd("WATCH", "none")
        b.cmd("SET", "none", "1")
        a.cmd("MULTI")
        a.cmd("PING")
        self.assertIsNone(a.cmd("EXEC"))
        a.cmd("WATCH", "own")
        a.cmd("SET", "own", "1")
        a.cmd("MULTI")
        a.cmd("PING")
        self.assertIsNone(a.cmd("EXEC"))
        a.cmd("WATCH", "own")
        a.cmd("UNWATCH")
        b.cmd("SET", "own", "2")
        a.cmd("MULTI")
        a.cmd("PING")
        self.assertEqual(a.cmd("EXEC"), ["PONG"])

    def test_discard_ends_watch(self):
        a, b = self.client, self.other
        a.cmd("WATCH", "d")
        a.cmd("MULTI")
        a.cmd("DISCARD")
        b.cmd("SET", "d", "1")
        a.cmd("MULTI")
        a.cmd("GET", "d")
        self.assertEqual(a.cmd("EXEC"), [b"1"])

    def test_empty_and_reads_only(self):
        a = self.client
        before = a.cmd("KV", "REVISION")
        a.cmd("MULTI")
        self.assertEqual(a.cmd("EXEC"), [])
        a.cmd("MULTI")
        a.cmd("GET", "none")
        a.cmd("TTL", "none")
        self.assertEqual(a.cmd("EXEC"), [None, -2])
        self.assertEqual(a.cmd("KV", "REVISION"), before)

    def test_increments_by_watch(self):
        """The classic: read, add, EXEC; several clients; nothing is lost."""
        each, clients = 40, 4

        def count():
            with self.served.client() as client:
                for _ in range(each):
                    while True:
                        client.cmd("WATCH", "sum")
                        value = int(client.cmd("GET", "sum") or 0)
                        client.cmd("MULTI")
                        client.cmd("SET", "sum", value + 1)
                        if client.cmd("EXEC") is not None:
                            break
        threads = [threading.Thread(target=count) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.client.cmd("GET", "sum"), b"%d" % (each * clients))

    def test_multi_of_thousands(self):
        commands = [("MULTI",)] + [("INCR", "c")] * 5000 + [("EXEC",)]
        answers = self.client.pipeline(commands)
        self.assertEqual(answers[-1], list(range(1, 5001)))


if __name__ == "__main__":
    unittest.main()
