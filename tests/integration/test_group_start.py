"""How a group comes to be: founded by all of a list, or joined; and all that must keep it from it."""

import re
import shutil
import signal
import socket
import struct
import unittest

from harness import STEP_S_MAX, Client, Error, TestCase, free_port, no_events, wait_until

WAITING = re.compile(r"waiting port=(\d+)")
LOADING = "LOADING Cordis is waiting for the group: "


class GroupCase(TestCase):
    def setUp(self):
        super().setUp()
        self.peer_ports = [free_port() for _ in range(3)]
        self.list = ",".join(f"n{i + 1}=127.0.0.1:{port}" for i, port in enumerate(self.peer_ports))

    def member(self, i, **options):
        server = self.server(f"n{i + 1}", peer_port=self.peer_ports[i], heartbeat_interval="30ms",
                             election_timeout="300ms", **options)
        server.options["name"] = f"n{i + 1}"
        return server

    def founder(self, i, initial_cluster=None):
        return self.member(i, initial_cluster=initial_cluster or self.list)

    def waiting(self, server):
        """The port for clients of a server that waits for others."""
        found = wait_until(lambda: WAITING.search(server.text()), "the server to wait")
        return int(found.group(1))

    def says(self, server, *words):
        wait_until(lambda: all(word in server.text() for word in words), f"{words} in {server.text()}")

    def found(self):
        servers = [self.founder(i).launch() for i in range(3)]
        for server in servers:
            self.assertTrue(server.started(), server.text())
        return servers

    def settled(self, servers):
        """All serve, under one leader."""
        for server in servers:
            with server.client() as client:
                wait_until(lambda c=client: c.cmd("SET", "settled", "x") == "OK", "a leader")


class Found(GroupCase):
    def test_who_waits_says_why(self):
        first = self.founder(0).launch()
        self.waiting(first)
        self.says(first, 'bootstrap waiting_for="n2, n3"',
                  f'reason="127.0.0.1:{self.peer_ports[1]}: Connection refused"')

    def test_three(self):
        first, second = self.founder(0).launch(), self.founder(1).launch()
        for server in (first, second):
            with Client(self.waiting(server)) as client:
                self.says(server, "bootstrap heard=")
                self.assertEqual(client.cmd("PING"), LOADING + "n3")
                self.assertEqual(client.cmd("SET", "a", "b"), LOADING + "n3")
                self.assertEqual(client.cmd("SET", "a", "x" * 1000000), LOADING + "n3")
                self.assertEqual(client.cmd("MSET", *("word",) * 100), LOADING + "n3")
                self.assertEqual(client.pipeline([("GET", "a"), ("HELLO", "3")]), [LOADING + "n3"] * 2)
        third = self.founder(2).start()
        servers = [first, second, third]
        for server in servers:
            self.assertTrue(server.started(), server.text())
        self.settled(servers)
        clusters = set()
        for i, server in enumerate(servers):
            with server.client() as client:
                self.assertEqual(client.cmd("SET", f"key{i}", "value"), "OK")
                text = str(client.cmd("MEMBER", "LIST"))
                for name in ("n1", "n2", "n3"):
                    self.assertIn(f"'{name}'", text)
                clusters.add(re.search(r"cluster'?, (\d+)", str(client.cmd("MEMBER", "STATUS"))).group(1))
        self.assertEqual(len(clusters), 1)
        for server in servers:
            server.stop()

    def test_client_that_waited_is_served_then(self):
        first = self.founder(0).launch()
        with Client(self.waiting(first)) as client:
            self.assertTrue(client.cmd("GET", "a").startswith(LOADING))
            second, third = self.founder(1).launch(), self.founder(2).launch()
            for server in (first, second, third):
                self.assertTrue(server.started(), server.text())
            wait_until(lambda: client.cmd("SET", "a", "b") == "OK", "a leader")

    def test_ids_outlive_a_crash_while_waiting(self):
        first = self.founder(0).launch()
        self.waiting(first)
        wait_until(lambda: (first.dir / "identity").exists(), "the identity")
        before = re.findall(r"(?:member|directory) \d+", (first.dir / "identity").read_text())
        first.kill()
        servers = self.found()
        after = re.findall(r"(?:member|directory) \d+", (first.dir / "identity").read_text())
        self.assertEqual(before, after)
        self.settled(servers)

    def test_restart_ignores_the_list(self):
        servers = self.found()
        self.settled(servers)
        for server in servers:
            server.kill()
        servers[0].options["initial-cluster"] = "n1=127.0.0.1:1"
        del servers[1].options["initial-cluster"]
        for server in servers:
            server.launch()
        for server in servers:
            self.assertTrue(server.started(), server.text())
        self.says(servers[0], "initial-cluster ignored", "founded otherwise")
        self.assertNotIn("ignored", servers[1].text())
        self.settled(servers)

    def test_slow_third(self):
        """It stopped right after the others heard of it, and comes when they are a group."""
        first, second = self.founder(0).launch(), self.founder(1).launch()
        third = self.founder(2)
        ids = (4711, 4712)
        for server, port in ((first, self.peer_ports[0]), (second, self.peer_ports[1])):
            self.waiting(server)
            with socket.create_connection(("127.0.0.1", port), timeout=STEP_S_MAX) as peer:
                peer.sendall(founder_frame(*ids, "n3", "127.0.0.1:1", self.list))
                self.assertEqual(peer.recv(3), b"CRP")
        self.assertTrue(first.started() and second.started(), first.text() + second.text())
        third.dir.mkdir(mode=0o700)
        body = f"cordis-identity 1\ncluster 1\nmember {ids[0]}\ndirectory {ids[1]}\nincarnation 0\nready 0\n"
        (third.dir / "identity").write_text(not_ready(body + "crc "))
        third.start()
        self.says(third, "told_by=another")
        self.settled([first, second, third])

    def test_interrupt_while_waiting(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            server = self.founder(0).launch()
            self.waiting(server)
            self.assertEqual(server.signal(number), 0)


class Refused(GroupCase):
    def test_wiped(self):
        servers = self.found()
        self.settled(servers)
        servers[2].kill()
        shutil.rmtree(servers[2].dir)
        servers[2].launch()
        self.waiting(servers[2])
        self.says(servers[2], "bootstrap refused", "it was wiped or replaced", "MEMBER REMOVE")
        self.assertNotIn("bootstrap complete", servers[2].text())
        self.settled(servers[:2])

    def test_unequal_lists(self):
        short = self.list.rsplit(",", 1)[0]
        first, second = self.founder(0).launch(), self.founder(1, initial_cluster=short).launch()
        for server in (first, second):
            self.says(server, "unequal 'initial-cluster'", self.list, short)

    def test_options(self):
        for options, words in (
                ({"initial-cluster": "n9=127.0.0.1:1"}, ("initial-cluster", "name", "n1")),
                ({"initial-cluster": "n1"}, ("initial-cluster", "host:port")),
                ({"initial-cluster": "n1=127.0.0.1:1", "join": "127.0.0.1:1"}, ("initial-cluster", "join")),
                ({"join": "nowhere"}, ("join", "nowhere")),
                ({"peer-address": "nowhere"}, ("peer-address", "nowhere")),
                ({"peer-address": "a\"b:1"}, ("peer-address",)),
                ({"name": "zürich"}, ("'name'",)),
                ({"name": "n\"2"}, ("'name'",)),
                ({"name": "n\\2", "join": "127.0.0.1:1"}, ("'name'",)),
                ({"client-address": "a:b"}, ("client-address", "a:b"))):
            with self.subTest(options=options):
                words_out = ["--dir", self.scratch / "d", "--port", 0, "--peer-port", 0, "--name", "n1"]
                for name, value in options.items():
                    words_out += [f"--{name}", value]
                code, _, err = self.run_server(*words_out)
                self.assertEqual(code, 1)
                lines = no_events(err)
                self.assertEqual(len(lines), 1, err)
                for word in words:
                    self.assertIn(word, lines[0])

    def test_used_peer_port(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            code, _, err = self.run_server("--dir", self.scratch / "d", "--port", 0, "--peer-port", port)
        self.assertEqual(code, 1)
        self.assertEqual(len(no_events(err)), 1, err)
        self.assertIn("peer-port", err)
        self.assertIn(str(port), err)
        self.assertFalse((self.scratch / "d").exists())


class Join(GroupCase):
    def joiner(self, to):
        return self.member(1, join=to)

    def alone(self, **options):
        return self.member(0, **options).start()

    def test_one_becomes_two(self):
        first = self.alone()
        second = self.joiner(f"127.0.0.1:1,127.0.0.1:{first.port}").start()
        for _ in range(2):
            self.says(second, "joined cluster=", "peer connected", "following leader=")
            with first.client() as client:
                self.assertEqual(len(client.cmd("MEMBER", "LIST")), 2)
                self.assertIn("'n2'", str(client.cmd("MEMBER", "LIST")))
            second.kill()
            shutil.rmtree(second.dir / "wal")  # it stopped before anything was there but its ids
            (second.dir / "identity").write_text(not_ready((second.dir / "identity").read_text()))
            (second.dir / "group").unlink()
            second.start()  # joins again: the same member
        first.stop()

    def test_texts_that_a_hello_does_not_carry_are_refused(self):
        first = self.alone()
        with first.client() as client:
            for text in ('n"2', "n\\2", "zürich", "n 2", "x" * 64):
                with self.subTest(text=text):
                    address = f"{text}:1"
                    self.assertIsInstance(client.cmd("MEMBER", "ADD", "127.0.0.1:1", "NAME", text), Error)
                    self.assertIsInstance(client.cmd("MEMBER", "JOIN", 5, 6, "127.0.0.1:1", "127.0.0.1:2", text), Error)
                    if len(text) < 64:
                        self.assertIsInstance(client.cmd("MEMBER", "ADD", address), Error)
            self.assertEqual(len(client.cmd("MEMBER", "LIST")), 1)

    def test_waits_for_the_group(self):
        port = free_port()
        second = self.joiner(f"127.0.0.1:{port}").launch()
        with Client(self.waiting(second)) as client:
            self.assertEqual(client.cmd("GET", "a"), f"{LOADING}127.0.0.1:{port}")
        self.says(second, "join waiting_for=", "refused")
        self.alone(port=port)
        self.assertTrue(second.started(), second.text())

    def test_refused_for_good(self):
        first = self.alone(requirepass="secret")
        second = self.joiner(f"127.0.0.1:{first.port}").launch()
        self.assertFalse(second.started())
        self.assertEqual(second.wait(), 1)
        self.assertEqual(len(second.lines()), 1, second.text())
        self.assertIn("NOAUTH", second.lines()[0])
        second.options["requirepass"] = "secret"
        second.start()


def not_ready(identity):
    body = identity.replace("ready 1", "ready 0")
    body = body[:body.index("crc ")]
    return body + f"crc {crc32c(body.encode()):08x}\n"


PROTOCOL = 2  # PEER_PROTOCOL


def founder_frame(member, directory, name, client_address, text):
    """As in server/peer_frame.h."""
    payload = struct.pack("<HHIQQ", PROTOCOL, 0, 1, member, directory)
    for word in (name, client_address, text, ""):
        payload += struct.pack("<H", len(word)) + word.encode()
    head = b"CRP" + struct.pack("<BIBB", 1, len(payload), 5, 0)
    head += struct.pack("<H", crc32c(head) & 0xffff)
    return head + struct.pack("<I", crc32c(head + payload)) + payload


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


if __name__ == "__main__":
    unittest.main()
