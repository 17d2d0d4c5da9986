#!/usr/bin/env python3
"""Starting and not starting: each wrong start is one clear line and an exit code."""

import os
import shutil
import signal
import socket
import stat
import time
import unittest

from harness import ROOT, Client, TestCase, free_port, no_events, rounds, wait_until

EXIT_START = 1
EXIT_USAGE = 2
NEVER = "never"  # a directory that no start below may make


class Refused(TestCase):
    def refused(self, code, *args, names=()):
        """It ends with this code and one line that names all of these."""
        got, out, err = self.run_server(*args, cwd=self.scratch)
        self.assertEqual((got, out), (code, ""), err)
        lines = no_events(err)
        self.assertEqual(len(lines), 1, err)
        self.assertTrue(lines[0].startswith("cordis-server: "), err)
        for name in names:
            self.assertIn(str(name), lines[0])

    def test_options(self):
        here = ("--dir", self.scratch / NEVER)
        for words, names in (
                (("--bogus", "1"), ("bogus", "--help")),
                (("--port",), ("--port", "needs a value")),
                (("--port", "x"), ("port", "number")),
                (("--port", "65536"), ("port", "65535")),
                (("--port", "-1"), ("port",)),
                (("--port", ""), ("port",)),
                (("--wal-backend", "quick"), ("wal-backend", "thread", "uring")),
                (("--wal-segment-bytes", "1kb"), ("wal-segment-bytes", "65536")),
                (("--wal-segment-bytes", "64zb"), ("wal-segment-bytes",)),
                (("--protected-mode", "maybe"), ("protected-mode", "yes")),
                (("--checkpoint-interval", "5 parsecs"), ("checkpoint-interval",)),
                (("--loglevel", "loud"), ("loglevel", "notice")),
                (("stray",), ("stray",)),
                (("--port", "0", "stray"), ("stray",)),
                (("-p", "1"), ("-p",))):
            with self.subTest(words=words):
                args = words + here if words[0].startswith("--") and len(words) > 1 else words
                self.refused(EXIT_USAGE, *args, names=names)
        self.assertFalse((self.scratch / NEVER).exists())

    def test_options_that_do_not_fit(self):
        self.refused(EXIT_START, "--dir", self.scratch / NEVER, "--port", 0, "--election-timeout", "200ms",
                     names=("election-timeout", "heartbeat-interval"))
        for address in ("256.1.1.1", "no.such.host.invalid", "192.0.2.7"):
            with self.subTest(address=address):
                self.refused(EXIT_START, "--dir", self.scratch / NEVER, "--port", 0, "--bind", address,
                             names=(address,))
        self.assertFalse((self.scratch / NEVER).exists())

    def test_config_file(self):
        path = self.scratch / "cordis.conf"
        for text, line, names in (("port 0\nbogus 1\n", 2, ("bogus",)), ("# good\n\nport x\n", 3, ("port",)),
                                  ("port\n", 1, ("port",)), ("dir \"open\n", 1, ("quotes",)),
                                  ("name " + "x" * 100000 + "\n", 1, ("long",)), ("\0\n", 1, ()),
                                  ("port 1 2\n", 1, ())):
            with self.subTest(text=text[:30]):
                path.write_text(text)
                self.refused(EXIT_USAGE, path, names=(f"{path}:{line}: ", *names))
        self.refused(EXIT_USAGE, self.scratch / "none.conf", names=(self.scratch / "none.conf",))
        self.refused(EXIT_USAGE, self.scratch, names=(self.scratch,))

    def test_used_port(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.refused(EXIT_START, "--dir", self.scratch / NEVER, "--port", port, names=(port, "127.0.0.1"))
        self.assertFalse((self.scratch / NEVER).exists())

    def test_second_server(self):
        server = self.server().start()
        self.refused(EXIT_START, "--dir", server.dir, "--port", 0, "--peer-port", 0,
                     names=(server.dir, server.process.pid))
        with server.client() as client:
            self.assertEqual(client.cmd("SET", "a", "b"), "OK")

    def test_directory_that_is_not_ours(self):
        strange = self.scratch / "strange"
        strange.mkdir()
        (strange / "letter.txt").write_text("dear")
        self.refused(EXIT_START, "--dir", strange, "--port", 0, "--peer-port", 0, names=(strange, "identity"))
        self.assertEqual([path.name for path in strange.iterdir()], ["letter.txt"])
        self.assertEqual((strange / "letter.txt").read_text(), "dear")

    def test_directory_that_is_a_new_file_system(self):
        server = self.server()
        server.dir.mkdir(mode=0o700)
        (server.dir / "lost+found").mkdir()
        server.start()
        server.stop()
        self.assertTrue((server.dir / "lost+found").is_dir())

    def test_no_pidfile_says_why(self):
        self.refused(EXIT_START, "--dir", self.scratch / "data", "--port", 0, "--peer-port", 0, "--pidfile",
                     self.scratch, names=(self.scratch, "Is a directory"))

    def test_no_directory(self):
        file = self.scratch / "file"
        file.write_text("x")
        for path in (file, file / "below", self.scratch / "no" / "parent", self.scratch / ("x" * 300),
                     "/proc/cordis-data", "/" + "x/" * 3000):
            with self.subTest(path=str(path)[:60]):
                self.refused(EXIT_START, "--dir", path, "--port", 0, "--peer-port", 0)
        self.assertEqual(file.read_text(), "x")

    def test_other_files(self):
        good = ("--dir", self.scratch / "data", "--port", 0, "--peer-port", 0)
        nowhere = self.scratch / "no" / "where"
        for option in ("--pidfile", "--logfile", "--unixsocket"):
            with self.subTest(option=option):
                self.refused(EXIT_START, *good, option, nowhere, names=(nowhere,))
        self.refused(EXIT_START, *good, "--unixsocket", self.scratch / ("s" * 200))
        file = self.scratch / "precious"
        file.write_text("x")
        self.refused(EXIT_START, *good, "--unixsocket", file, names=(file,))
        self.assertEqual(file.read_text(), "x")


class Told(TestCase):
    def test_help_and_version(self):
        code, out, err = self.run_server("--help")
        self.assertEqual((code, err), (0, ""))
        self.assertIn("usage: cordis-server", out)
        self.assertIn("--wal-segment-bytes", out)
        code, out, err = self.run_server("--version")
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"^cordis-server \d+\.\d+\.\d+\n$")

    def test_print_config(self):
        code, out, err = self.run_server("--print-config")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(out, (ROOT / "conf" / "cordis.conf").read_text())

    def test_printed_config_starts(self):
        _, out, _ = self.run_server("--print-config")
        path = self.scratch / "cordis.conf"
        path.write_text("\n".join(line[2:] if line.startswith("# ") and '""' in line else line
                                  for line in out.splitlines()) + "\n")
        server = self.server()
        command = server.command
        server.command = lambda: [command()[0], str(path), *command()[1:]]
        server.start()
        with server.client() as client:
            self.assertEqual(client.cmd("PING"), "PONG")
            for name in ("maxclients", "wal-segment-bytes", "loglevel"):
                pair = client.cmd("CONFIG", "GET", name)
                self.assertEqual(pair[0], name.encode())
            self.assertEqual(client.cmd("CONFIG", "SET", "timeout", "77"), "OK")
            self.assertEqual(client.cmd("CONFIG", "REWRITE"), "OK")
        self.assertIn("timeout 77\n", path.read_text())
        server.stop()
        server.start()
        with server.client() as client:
            self.assertEqual(client.cmd("CONFIG", "GET", "timeout"), [b"timeout", b"77"])


class Started(TestCase):
    def test_ports(self):
        server = self.server().start()
        self.assertGreater(server.port, 0)
        server.stop()
        port = free_port()
        server.options["port"] = port
        server.start()
        self.assertEqual(server.port, port)
        with server.client() as client:
            self.assertEqual(client.cmd("CONFIG", "GET", "port"), [b"port", b"%d" % port])
            # The port is free at once for the next one, connections or not.
            server.kill()
            server.start()

    def test_unix_socket(self):
        path = self.scratch / "cordis.sock"
        server = self.server(unixsocket=path, unixsocketperm=770).start()
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o770)
        with Client(str(path)) as client, server.client() as other:
            self.assertEqual(client.cmd("SET", "a", "b"), "OK")
            self.assertEqual(other.cmd("GET", "a"), b"b")
        server.kill()
        self.assertTrue(path.exists())
        server.start()  # over the stale one
        with Client(str(path)) as client:
            self.assertEqual(client.cmd("GET", "a"), b"b")
        server.stop()
        self.assertFalse(path.exists())

    def test_pidfile_logfile_modes(self):
        server = self.server(pidfile=self.scratch / "pid").start()
        self.assertEqual(int((self.scratch / "pid").read_text()), server.process.pid)
        self.assertEqual(stat.S_IMODE(server.dir.stat().st_mode), 0o700)
        with server.client() as client:
            self.assertEqual(client.cmd("SET", "secretkey", "secretvalue"), "OK")
            client.cmd("AUTH", "secretpassword")
        server.stop()
        self.assertFalse((self.scratch / "pid").exists())
        self.assertNotIn("secret", server.text())
        for path in server.dir.rglob("*"):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode) & 0o077, 0, path)
        log = self.scratch / "own.log"
        server.options["logfile"] = log
        server.launch()
        while "ready" not in (log.read_text() if log.exists() else ""):
            self.assertIsNone(server.process.poll())
            time.sleep(0.01)
        self.assertEqual(server.signal(signal.SIGTERM), 0)
        self.assertEqual(server.text(), "")

    def test_closed_standard_streams(self):
        """Their numbers are nobody else's: what is written there reaches no socket and no file."""
        log = self.scratch / "own.log"
        server = self.server(logfile=log)
        command = server.command
        server.command = lambda: ["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", *command()]
        server.launch()
        wait_until(lambda: log.exists() and "ready" in log.read_text(), "the server to start")
        for fd in (0, 1, 2):
            self.assertEqual(os.readlink(f"/proc/{server.process.pid}/fd/{fd}"), "/dev/null")
        server.stop()

    def test_directory_moved(self):
        """Nothing in a directory depends on where it is."""
        server = self.server().start()
        with server.client() as client:
            client.cmd("SET", "a", "b")
        server.kill()
        moved = self.server("moved")
        os.rename(server.dir, moved.dir)
        moved.start()
        with moved.client() as client:
            self.assertEqual(client.cmd("GET", "a"), b"b")
        moved.stop()
        copy = self.server("copy")
        shutil.copytree(moved.dir, copy.dir)
        copy.start()
        with copy.client() as client:
            self.assertEqual(client.cmd("GET", "a"), b"b")

    def test_many_keys(self):
        """Everything of before is there, by value and by metadata, after a stop and after a kill."""
        count = rounds(20000, 500000)
        server = self.server(checkpoint_bytes="64kb", wal_segment_bytes="1mb").start()
        value = b"v" * 64
        with server.client() as client:
            client.cmd("LEASE", "GRANT", 600, "ID", 77)
            for begin in range(0, count, 1000):
                answers = client.pipeline([("SET", b"key/%08d" % i, value + b"%d" % i)
                                           for i in range(begin, begin + 1000)])
                self.assertEqual(set(answers), {"OK"})
            client.pipeline([("SET", b"leased/%d" % i, i, "LEASE", 77) for i in range(100)])
            client.pipeline([("SET", b"key/%08d" % i, "again") for i in range(0, 1000, 3)])
            client.cmd("SET", "ttl", "x", "EX", 500)
            self.assertEqual(client.cmd("DEL", b"key/%08d" % (count - 1)), 1)
            before = self.picture(client)
        self.assertEqual(before[0], count + 100)
        for end in (server.stop, server.kill, server.stop):
            end()
            began = time.monotonic()
            server.start()
            self.assertLess(time.monotonic() - began, 20)
            with server.client() as client:
                self.assertEqual(self.picture(client), before)
                self.assertGreater(client.cmd("TTL", "ttl"), 400)

    @staticmethod
    def picture(client):
        """What must not change over a restart."""
        pages, cursor = [], b"0"
        while True:
            cursor, keys = client.cmd("SCAN", cursor, "COUNT", 1000)
            pages += keys
            if cursor == b"0":
                break
        values = []
        for begin in range(0, len(pages), 1000):
            values += client.cmd("MGET", *pages[begin:begin + 1000])
        return (client.cmd("DBSIZE"), pages, values, client.cmd("KV", "REVISION"),
                client.cmd("KV", "GET", "key/00000003"), client.cmd("LEASE", "LIST"),
                client.cmd("KV", "GET", "leased/7"), client.cmd("KV", "HISTORY", "key/00000003"))


if __name__ == "__main__":
    unittest.main()
