"""What commands answer in a group of three processes: roles, figures, PUBLISH, local reads, watches."""

import signal
import time

from harness import Error, Push, TestCase, free_port, wait_until


def info(client, *sections):
    text = client.cmd("INFO", *sections).decode()
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


class GroupTestCase(TestCase):
    """Three members that have a leader."""

    def setUp(self):
        super().setUp()
        names = ["n1", "n2", "n3"]
        ports = {name: free_port() for name in names}
        clients = {name: free_port() for name in names}
        cluster = ",".join(f"{name}=127.0.0.1:{ports[name]}" for name in names)
        self.members = []
        for name in names:
            member = self.server(name, port=clients[name], peer_port=ports[name], initial_cluster=cluster,
                                 request_timeout="2s", election_timeout="500ms", heartbeat_interval="50ms")
            member.options["name"] = name
            self.members.append(member)
        for member in self.members:
            member.launch()
        for member in self.members:
            self.assertTrue(member.started(), member.text())
        self.leader = wait_until(self.find_leader, "a leader")
        self.followers = [member for member in self.members if member is not self.leader]

    def client(self, member, **more):
        client = member.client(**more)
        self.addCleanup(client.close)
        return client

    def find_leader(self):
        for member in self.members:
            if member.process is None:
                continue
            with member.client() as client:
                if client.cmd("ROLE")[0] == b"master" and client.cmd("SET", "ready", "1") == "OK":
                    return member
        return None

    def leave_alone(self, member):
        """Nobody leads any more."""
        for other in self.members:
            if other is not member:
                other.kill()


class RoleTest(GroupTestCase):
    def test_role_and_info_agree_with_the_membership(self):
        leader = self.client(self.leader)

        def all_followers():
            role = leader.cmd("ROLE")
            return role if len(role[2]) == 2 else None
        role = wait_until(all_followers, "two followers")
        self.assertEqual(role[0], b"master")
        self.assertGreater(role[1], 0)
        self.assertEqual({int(port) for _, port, _ in role[2]}, {m.port for m in self.followers})
        self.assertEqual({host for host, _, _ in role[2]}, {b"127.0.0.1"})
        figures = info(leader, "replication")
        self.assertEqual(figures["role"], "master")
        self.assertEqual(figures["connected_slaves"], "2")
        slave = dict(part.split("=") for part in figures["slave0"].split(","))
        self.assertEqual(list(slave), ["ip", "port", "state", "offset", "lag"])
        self.assertEqual(slave["state"], "online")
        for member in self.followers:
            follower = self.client(member)
            role = follower.cmd("ROLE")
            self.assertEqual(role[:4], [b"slave", b"127.0.0.1", self.leader.port, b"connected"])
            figures = info(follower)
            self.assertEqual(figures["role"], "slave")
            self.assertEqual(figures["master_host"], "127.0.0.1")
            self.assertEqual(figures["master_port"], str(self.leader.port))
            self.assertEqual(figures["master_link_status"], "up")
            self.assertEqual(figures["voters"], "3")
            self.assertEqual(figures["member_name"], member.options["name"])
            self.assertEqual(follower.cmd("HELLO")[11], b"replica")
            self.assertEqual(figures["master_replid"], info(leader, "replication")["master_replid"])

    def test_wait_tells_what_a_majority_means(self):
        leader = self.client(self.leader)
        replies = leader.pipeline([("SET", "w", "1"), ("WAIT", 2, 0), ("WAITAOF", 1, 1, 0)])
        self.assertEqual(replies[0], "OK")
        self.assertIn(replies[1], (1, 2))
        self.assertEqual(replies[2][0], 1)
        wait_until(lambda: leader.cmd("WAIT", 2, 100) == 2, "both followers")
        self.assertIn(self.client(self.followers[0]).cmd("WAIT", 2, 0), (1, 2))

    def test_figures_of_forwarding(self):
        follower = self.client(self.followers[0])
        before = int(info(follower, "cluster")["forwarded_operations"])
        for i in range(20):
            self.assertEqual(follower.cmd("SET", "f", i), "OK")
        self.assertGreaterEqual(int(info(follower, "cluster")["forwarded_operations"]), before + 20)
        self.assertGreaterEqual(int(info(self.client(self.leader), "cluster")["forwarded_operations_taken"]), 20)


class PublishTest(GroupTestCase):
    def test_a_message_reaches_subscribers_of_every_member(self):
        subscribers = [self.client(member) for member in self.members]
        for sub in subscribers:
            self.assertEqual(sub.cmd("SUBSCRIBE", "news"), [b"subscribe", b"news", 1])
        for i, member in enumerate(self.members):
            self.assertEqual(self.client(member).cmd("PUBLISH", "news", f"from {i}"), 1)
            for sub in subscribers:
                self.assertEqual(sub.read(), [b"message", b"news", b"from %d" % i])

    def test_a_large_message(self):
        sub = self.client(self.followers[0])
        sub.cmd("SUBSCRIBE", "news")
        message = b"x" * (1 << 20)
        self.assertEqual(self.client(self.leader).cmd("PUBLISH", "news", message), 0)
        self.assertEqual(sub.read(), [b"message", b"news", message])


class GoneTest(GroupTestCase):
    def test_one_that_goes_while_its_read_waits_for_the_leader(self):
        """It had gone before it was blocked: nobody comes to say so later."""
        member = self.followers[0]
        looking = self.client(member)
        others = [other for other in self.members if other is not member]
        for other in others:
            other.process.send_signal(signal.SIGSTOP)
        try:
            for command in (["XREAD", "BLOCK", 0, "STREAMS", "__watch__:none", "$"],
                            ["KV", "READ", "none", "BLOCK", 0]):
                for behind in ([], ["PING"]):
                    gone = self.client(member)
                    gone.send(*command)
                    if behind:
                        gone.send(*behind)
                    gone.close()
            wait_until(lambda: info(looking, "cluster")["waiting_reads"] == "4", "the reads to wait")
        finally:
            for other in others:
                other.process.send_signal(signal.SIGCONT)
        wait_until(lambda: info(looking, "clients")["connected_clients"] == "1", "those that went to be gone")


class TransactionTest(GroupTestCase):
    def test_own_writes_behind_a_watch(self):
        for member in self.members:
            client = self.client(member)
            for reads in ([], [("GET", "k")]):
                got = client.pipeline([("WATCH", "k"), ("SET", "k", 1), *reads, ("DEL", "k"), *reads, ("MULTI",),
                                       ("SET", "x", 1), ("EXEC",)])
                self.assertIsNone(got[-1])
                got = client.pipeline([("WATCH", "k"), *reads, ("SET", "j", 1), *reads, ("MULTI",), ("SET", "x", 1), ("EXEC",)])
                self.assertEqual(got[-1], ["OK"])


class WithoutLeaderTest(GroupTestCase):
    def test_what_one_member_answers_alone(self):
        member = self.followers[0]
        writer = self.client(member)
        watch = self.client(member)
        reader = self.client(member)
        sub = self.client(member)
        self.assertEqual(writer.cmd("SET", "a", "1"), "OK")
        rev = writer.cmd("KV", "REVISION")
        watch.cmd("HELLO", 3)
        self.assertEqual(watch.cmd("KV", "WATCH", "", "PREFIX", "ID", 5)[b"id"], 5)
        reader.send("XREAD", "BLOCK", 0, "STREAMS", "__watch__:", "$")
        sub.cmd("SUBSCRIBE", "news")
        self.leave_alone(member)
        self.assertEqual(watch.read(), Push([b"kvwatch", 5, rev + 1, b"canceled", b"CLUSTERDOWN no leader"]))
        self.assertEqual(reader.read(), Error("CLUSTERDOWN no leader"))
        role = writer.cmd("ROLE")
        self.assertEqual(role[:4], [b"slave", b"127.0.0.1", self.leader.port, b"connect"])
        self.assertEqual(info(writer, "replication")["master_link_status"], "down")
        self.assertEqual(writer.cmd("PUBLISH", "news", "still"), 1)
        self.assertEqual(sub.read(), [b"message", b"news", b"still"])
        self.assertEqual(writer.cmd("GET", "a"), Error("CLUSTERDOWN no leader"))
        self.assertEqual(writer.cmd("READONLY"), "OK")
        begin = time.monotonic()
        self.assertEqual(writer.cmd("GET", "a"), b"1")
        self.assertLess(time.monotonic() - begin, 1)
        self.assertEqual(writer.pipeline([("MULTI",), ("GET", "a"), ("EXEC",)])[2], [b"1"])
        self.assertGreaterEqual(int(info(writer, "cluster")["timed_out_reads"]), 1)
        self.assertEqual(writer.cmd("READWRITE"), "OK")
        for other in self.members:
            if other is not member:
                other.launch()
        wait_until(lambda: writer.cmd("SET", "a", "2") == "OK", "a leader")
        self.assertEqual(watch.cmd("KV", "WATCH", "a", "FROM", rev + 1, "ID", 5)[b"id"], 5)
        event = watch.read()
        self.assertEqual((event[3], event[4], event[5]), (b"put", b"a", b"2"))

    def test_a_paused_leader_is_replaced(self):
        follower = self.client(self.followers[0])
        self.leader.process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: follower.cmd("SET", "b", "1") == "OK", "another leader")

            def other_master():
                role = follower.cmd("ROLE")
                return role[0] == b"master" or role[2] != self.leader.port
            self.assertTrue(wait_until(other_master, "the new leader's address"))
        finally:
            self.leader.process.send_signal(signal.SIGCONT)
        old = self.client(self.leader)
        wait_until(lambda: old.cmd("ROLE")[0] == b"slave", "the old leader to follow")
        self.assertEqual(old.cmd("GET", "b"), b"1")
