"""Groups of three nodes on this machine, seen as one server by the measuring: ours and etcd's."""
import os
import shutil
import subprocess
import time

from servers import SETTLE_CPU_SHARE, Etcd, ReplyError, Server, free_port

NODE_COUNT = 3
LEADER_SECONDS_MAX = 30
POLL_SECONDS = 0.01


class Group:
    """What a Server is to the measuring, of three nodes. Their ports and directories stay theirs
    when they are started again."""

    def __init__(self, name, nodes, ports):
        self.name = name
        self.nodes = nodes
        self.ports = ports

    def start(self):
        """Together: none is ready before a majority is there."""
        began = [node.launch(port) for node, port in zip(self.nodes, self.ports)]
        for node, then in zip(self.nodes, began):
            node.wait(then)
        self.leader()

    def stop(self, keep=False):
        for node in self.nodes:
            node.stop(keep)

    def start_node(self, node):
        """Again, on its old port; returns when it was launched."""
        began = node.launch(self.ports[self.nodes.index(node)])
        node.wait(began)
        return began

    def running(self):
        return [node for node in self.nodes if node.process is not None]

    def cpu_seconds(self):
        return sum(node.cpu_seconds() for node in self.running())

    def settle(self):
        """A group is never quite still: its heartbeats are part of it."""
        for node in self.running():
            node.settle(SETTLE_CPU_SHARE * 2)


class CordisGroup(Group):
    def __init__(self, bench):
        peers = [free_port() for _ in range(NODE_COUNT)]
        initial = ",".join(f"n{i + 1}=127.0.0.1:{port}" for i, port in enumerate(peers))

        def command(i):
            return lambda port, directory: [
                bench.cordis_program, "--name", f"n{i + 1}", "--port", str(port), "--bind",
                "127.0.0.1", "--dir", directory, "--peer-port", str(peers[i]),
                "--initial-cluster", initial]
        nodes = [Server(f"n{i + 1}", bench.path(f"cordis-n{i + 1}"), command(i))
                 for i in range(NODE_COUNT)]
        super().__init__("cordis", nodes, [free_port() for _ in nodes])

    def address_arguments(self, spread):
        ports = ",".join(str(port) for port in self.ports)
        return ["--port", ports] if spread else ["--port", ports, "--leader"]

    @staticmethod
    def status(node):
        """MEMBER STATUS of one node about itself; empty while it does not answer."""
        try:
            words = node.call("MEMBER", "STATUS")
        except (OSError, ReplyError):
            return {}
        return dict(zip(words[::2], words[1::2]))

    def leader(self):
        give_up = time.monotonic() + LEADER_SECONDS_MAX
        while time.monotonic() < give_up:
            for node in self.running():
                status = self.status(node)
                if status.get("leader", 0) != 0 and status["leader"] == status["id"]:
                    return node
            time.sleep(POLL_SECONDS)
        raise RuntimeError(f"cordis: no leader in {LEADER_SECONDS_MAX} s, see {self.nodes[0].log_path}")

    def followers(self):
        leader = self.leader()
        return [node for node in self.running() if node is not leader]

    def catch_up(self, node, seconds_max=LEADER_SECONDS_MAX):
        """Waits until the node has applied what the leader had committed a moment ago."""
        give_up = time.monotonic() + seconds_max
        leader = self.leader()
        while time.monotonic() < give_up:
            wanted = self.status(leader).get("index")
            time.sleep(POLL_SECONDS)
            if wanted is not None and self.status(node).get("applied", 0) >= wanted:
                return
        raise RuntimeError(f"{node.name} did not catch up in {seconds_max} s: it is at "
                           f"{self.status(node).get('applied')}, the leader at "
                           f"{self.status(leader).get('index')}; see {node.log_path}")


class EtcdGroup(Group):
    def __init__(self, bench):
        self.bench = bench
        peers = [f"http://127.0.0.1:{free_port()}" for _ in range(NODE_COUNT)]
        initial = ",".join(f"e{i + 1}={url}" for i, url in enumerate(peers))

        def command(i):
            def arguments(port, directory):
                client = f"http://127.0.0.1:{port}"
                return ["etcd", "--name", f"e{i + 1}", "--data-dir", directory,
                        "--listen-client-urls", client, "--advertise-client-urls", client,
                        "--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
                        "--initial-cluster", initial, "--initial-cluster-state", "new",
                        "--quota-backend-bytes", str(8 << 30), "--log-level", "error",
                        "--logger", "zap"]
            return arguments
        nodes = [Etcd(f"e{i + 1}", bench.path(f"etcd-e{i + 1}"), command(i))
                 for i in range(NODE_COUNT)]
        super().__init__("etcd", nodes, [free_port() for _ in nodes])
        self.endpoint = ""  # of the leader

    def endpoints(self):
        return ",".join(node.endpoint for node in self.nodes)

    def leader(self):
        """All load goes to the leader, as it does with ours."""
        self.endpoint = self.tool("leader", self.endpoints())
        return next(node for node in self.nodes if node.endpoint == self.endpoint)

    def tool(self, operation, endpoint, *options):
        return subprocess.run(
            [self.bench.etcdload_program, "-op", operation, "-endpoint", endpoint, *options],
            stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout.strip()

    def fill(self, keys):
        self.tool("fill", self.endpoint, "-keys", str(keys))
        self.settle()

    def cure(self):
        """etcd 3.4 reads are about four times slower after writes of keys until something commits
        that writes none: then it is at its best."""
        self.tool("grant", self.endpoint)


def clean(bench):
    """Directories of groups that did not get as far as removing them."""
    for entry in os.listdir(bench.folder):
        if entry.startswith(("cordis-n", "etcd-e")) and not entry.endswith(".log"):
            shutil.rmtree(bench.path(entry), ignore_errors=True)
