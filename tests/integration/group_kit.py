"""Groups of servers as processes: started, killed, paused, cut off from each other, under a load
whose history is judged by the checkers.

    CORDIS_LOAD, CORDIS_CHECK   group_load and history_check   (build/debug/tests/load/...)

The members of a group on `links` can be cut off from each other, in each direction by itself. Where
a network of our own is permitted (network.py), packets are dropped; else, or if asked for, they
reach each other through a proxy of this process, which knows who speaks (the first frame of a
connection says it) and holds up what is sent: it comes later, or is lost with its connection.
"""

import os
import random
import re
import signal
import socket
import subprocess
import threading

import harness
import network
from harness import Client, Closed, Error, as_map, wait_until

LOADS = harness.ROOT / "build" / "debug" / "tests" / "load"
LOAD = os.environ.get("CORDIS_LOAD", str(LOADS / "group_load"))
CHECK = os.environ.get("CORDIS_CHECK", str(LOADS / "history_check"))
HEARTBEAT_MS = 100
ELECTION_MS = 1000
GROUP_S_MAX = 60          # until a group works again, on a machine that is busy
TRANSFERS_MAX = 10
PORTS = range(10000, 32000)  # below those that the kernel gives to connections

# What clients of nodes that stay alive may be told while others come and go.
PASSING = ("TIMEOUT outcome unknown", "CLUSTERDOWN ")


class Ports:
    """Ports of TCP that no other run takes: the same port of UDP is held meanwhile."""

    def __init__(self):
        self.held = []
        self.dice = random.Random()

    def take(self):
        while True:
            port = self.dice.choice(PORTS)
            holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                holder.bind(("127.0.0.1", port))
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            except OSError:
                holder.close()
                continue
            self.held.append(holder)
            return port

    def close(self):
        for holder in self.held:
            holder.close()
        self.held = []


# --- the network --------------------------------------------------------------------------------


def read_exactly(sock, count):
    data = b""
    while len(data) < count:
        got = sock.recv(count - len(data))
        if not got:
            raise ConnectionError
        data += got
    return data


class Links:
    """The proxy before the peer ports of all members. Members are numbers of the group's list."""

    def __init__(self):
        self.changed = threading.Condition()
        self.listeners = []
        self.socks = set()
        self.ids = {}       # member id -> number
        self.blocked = set()
        self.stopping = False

    def listen(self, number, port, target):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        self.listeners.append(listener)
        threading.Thread(target=self.accept, args=(listener, number, target), daemon=True).start()

    def know(self, ids):
        with self.changed:
            self.ids.update(ids)

    def block(self, *links):
        """Nothing more gets from a to b, for each (a, b)."""
        with self.changed:
            self.blocked.update(links)

    def isolate(self, number, others, out=True, into=True):
        """Cuts one off from the others, in one direction or both."""
        self.block(*[(number, other) for other in others if out and other != number],
                   *[(other, number) for other in others if into and other != number])

    def heal(self):
        """What was held up goes on."""
        with self.changed:
            self.blocked.clear()
            self.changed.notify_all()

    def close(self):
        with self.changed:
            self.stopping = True
            self.changed.notify_all()
            socks = list(self.socks) + self.listeners
        for sock in socks:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # its other side was faster
            if sock in self.listeners:
                sock.close()

    def is_blocked(self, links):
        """A link here has an id at one end: who has it is known when the group is."""
        return any((self.ids.get(a, a), self.ids.get(b, b)) in self.blocked for a, b in links)

    def pass_on(self, *links):
        """Waits until all of them are open."""
        with self.changed:
            while not self.stopping and self.is_blocked(links):
                self.changed.wait()
            if self.stopping:
                raise ConnectionError

    def accept(self, listener, number, target):
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(caller, number, target), daemon=True).start()

    def serve(self, caller, number, target):
        """One connection. A hello or a founder's frame says whose: see src/server/peer_frame.h."""
        callee = socket.socket()
        with self.changed:
            self.socks.update((caller, callee))
        try:
            head = read_exactly(caller, 48)
            at = 32 if head[8] == 1 else 24
            member = int.from_bytes(head[at:at + 8], "little")
            there, back = (member, number), (number, member)
            self.pass_on(there, back)
            callee.connect(("127.0.0.1", target))
            for sock in (caller, callee):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            callee.sendall(head)
            answers = threading.Thread(target=self.carry, args=(callee, caller, back), daemon=True)
            answers.start()
            self.carry(caller, callee, there)
            answers.join()
        except OSError:
            pass  # as a broken connection anywhere: both sides see it
        finally:
            with self.changed:
                self.socks.difference_update((caller, callee))
            caller.close()
            callee.close()

    def carry(self, source, sink, link):
        try:
            while True:
                data = source.recv(65536)
                self.pass_on(link)
                if not data:
                    break
                sink.sendall(data)
        except OSError:
            pass
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


# --- a load -----------------------------------------------------------------------------------------


class Load:
    """group_load in the background against some members."""

    def __init__(self, test, members, seconds, *options, seed=harness.SEED):
        self.test = test
        self.seconds = seconds
        self.path = test.scratch / f"history-{random.getrandbits(48):x}.txt"
        self.said = None
        nodes = ",".join(f"{m.host}:{m.port}" for m in members)
        command = [LOAD, "--nodes", nodes, "--out", self.path, "--seconds", seconds, "--seed", seed,
                   "--pause-ms", 8, "--timeout-ms", 20000, "--end-seconds", GROUP_S_MAX, *options]
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        test.addCleanup(self.end)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def finish(self, operations_min=100):
        """Waits for it and judges the history: what it said."""
        # It reads everything from every node at its end.
        self.said = self.process.communicate(timeout=self.seconds + 3 * GROUP_S_MAX)[0].decode()
        self.test.assertEqual(self.process.returncode, 0, self.said)
        self.test.assertGreater(self.operations(), operations_min, self.said)
        done = subprocess.run([CHECK, str(self.path)], stdin=subprocess.DEVNULL, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=GROUP_S_MAX * harness.rounds(2, 20))
        self.test.assertEqual(done.returncode, 0, done.stdout.decode() + self.said)
        return self.said

    def operations(self):
        return int(re.search(r"(\d+) operations", self.said).group(1))

    def silence_ms(self):
        """The longest time in which nothing succeeded: a fail-over, seen by clients."""
        return int(re.search(r"longest time without a success (\d+) ms", self.said).group(1))

    def errors(self):
        """{words: how often}"""
        return {text: int(count) for count, text in re.findall(r"^ *(\d+) times (.*)$", self.said, re.M)}


# --- members and groups ---------------------------------------------------------------------------------


class Member(harness.Server):
    """A server of a group. Its number is its place in the group's list."""

    def __init__(self, group, number, directory, options, env=None):
        super().__init__(directory, options, env=env)
        self.group = group
        self.number = number
        self.name = options["name"]
        self.host = options["bind"]
        self.paused = False

    def command(self):
        cables = self.group.cables
        return [*(cables.inside(self.number) if cables else ()), *super().command()]

    def client(self, **more):
        return Client((self.host, self.port), **more)

    def ask(self, *args, timeout=harness.STEP_S_MAX):
        """One command on a connection of its own; None when there is no answer in time."""
        try:
            with Client((self.host, self.options["port"]), timeout=timeout) as client:
                return client.cmd(*args)
        except (OSError, Closed):
            return None

    def status(self, timeout=2):
        """MEMBER STATUS as a map with numbers; None if it does not answer."""
        if self.process is None or self.paused:
            return None
        answer = self.ask("MEMBER", "STATUS", timeout=timeout)
        return None if answer is None or isinstance(answer, Error) else as_map(answer)

    def id(self):
        return wait_until(self.status, f"{self.name} to say its id", GROUP_S_MAX)["id"]

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        if self.paused and self.process is not None:
            self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def kill(self):
        self.paused = False
        return super().kill()


class Group:
    """Servers of one group on this machine, numbered from 0."""

    def __init__(self, test, size=3, links=False, env=None, dirs=None, **options):
        """links: True, or "proxy" also where packets could be dropped."""
        self.test = test
        self.ports = Ports()
        test.addCleanup(self.ports.close)
        self.cables = network.Cables() if links is True and network.permitted() else None
        self.proxy = Links() if links and not self.cables else None
        self.links = self.cables or self.proxy
        if links:
            test.addCleanup(self.links.close)
        self.options = {"heartbeat-interval": HEARTBEAT_MS,
                        "election-timeout": ELECTION_MS, "disk-reserve-bytes": "1mb",
                        "wal-segment-bytes": "1mb",
                        **{key.replace("_", "-"): value for key, value in options.items()}}
        self.env = env or {}
        self.dirs = dirs or {}
        self.members = []
        for _ in range(size):
            self.add()
        names = [f"{m.name}={m.options['peer-address']}" for m in self.members]
        for m in self.members:
            if size > 1:
                m.options["initial-cluster"] = ",".join(names)

    def add(self, name=None, **options):
        """One more server, not started; with join=... it asks to be let in."""
        number = len(self.members)
        name = name or f"n{number + 1}"
        port, peer = self.ports.take(), self.ports.take()
        reached = self.ports.take() if self.proxy else peer
        if self.proxy:
            self.proxy.listen(number, reached, peer)
        host = self.cables.plug(number) if self.cables else "127.0.0.1"
        directory = self.dirs.get(number, self.test.scratch / name)
        settings = {**self.options, "name": name, "port": port, "peer-port": peer,
                    "bind": host, "peer-address": f"{host}:{reached}",
                    **({"protected-mode": "no"} if self.cables else {}),
                    **{key.replace("_", "-"): value for key, value in options.items()}}
        member = Member(self, number, directory, settings, dict(self.env))
        self.test.addCleanup(member.kill)
        self.members.append(member)
        return member

    def __iter__(self):
        return iter(self.members)

    def __getitem__(self, number):
        return self.members[number]

    def alive(self):
        return [m for m in self.members if m.process is not None and not m.paused]

    def start(self):
        """All that do not run, at once; then waits until the group serves."""
        fresh = [m for m in self.members if m.process is None]
        for m in fresh:
            m.launch()
        for m in fresh:
            if not m.started(GROUP_S_MAX):
                raise AssertionError(f"{m.name} ended with {m.wait()}:\n{m.text()}")
        self.wait_ready()
        return self

    def wait_ready(self, members=None):
        """Until each of them (all alive ones) executes a command of its own."""
        for m in members or self.alive():
            def serves(m=m):
                if m.process.poll() is not None:
                    raise AssertionError(f"{m.name} ended with {m.wait()}:\n{m.text()}")
                return isinstance(m.ask("KV", "REVISION"), int) and isinstance(m.ask("GET", "ready"), (bytes, type(None)))
            try:
                wait_until(serves, f"{m.name} to serve", GROUP_S_MAX)
            except AssertionError as e:
                raise AssertionError(f"{e}\n{self.seen()}") from e
        if self.links:
            self.links.know({m.id(): m.number for m in self.alive()})

    def seen(self):
        """What each member says of itself, and the end of its log: for a failure's text."""
        parts = []
        for m in self.members:
            said = [m.status(), m.ask("GET", "ready"), m.ask("MEMBER", "LIST", "LOCAL")]
            parts.append(f"{m.name}: {said}\n" + "\n".join(m.text().splitlines()[-12:]))
        return "\n".join(parts)

    def leader(self, among=None):
        """Who leads, in the highest term that any of those who answer knows; None: nobody."""
        seen = [s for s in (m.status() for m in among or self.members) if s is not None]
        if not seen:
            return None
        newest = max(s["term"] for s in seen)
        leaders = {s["leader"] for s in seen if s["term"] == newest and s["leader"] != 0}
        owners = [m for m in self.members for s in [m.status()]
                  if s is not None and s["id"] in leaders and s["leader"] == s["id"]]
        return owners[0] if len(owners) == 1 else None

    def wait_leader(self, among=None, but=None):
        """A leader of those (all that are alive), that is not `but`."""
        def look():
            found = self.leader(among)
            return found if found is not None and found is not but else None
        return wait_until(look, "a leader", GROUP_S_MAX)

    def transfer(self, asked, target):
        """As a user would: on a slow machine the target may need more than one chance."""
        for _ in range(TRANSFERS_MAX):
            answer = asked.ask("MEMBER", "TRANSFER", target.id())
            if answer == "OK":
                return
            if not str(answer).startswith("TRYAGAIN"):
                break
        raise AssertionError(f"MEMBER TRANSFER {target.name}: {answer}")

    def followers(self):
        leader = self.wait_leader()
        return [m for m in self.alive() if m is not leader]

    def others(self, but):
        return [m for m in self.members if m is not but]

    def restart(self, member):
        member.launch()
        if not member.started(GROUP_S_MAX):
            raise AssertionError(f"{member.name} ended with {member.wait()}:\n{member.text()}")
        self.wait_ready([member])

    def ids(self, at=None):
        """Ids of the members as the group knows them: {id: map of MEMBER LIST}."""
        listed = [as_map(m) for m in (at or self.wait_leader()).ask("MEMBER", "LIST")]
        return {m["id"]: m for m in listed}

    def load(self, seconds, *options, members=None, **more):
        """Begun when this returns: something was written."""
        members = members or self.members
        load = Load(self.test, members, seconds, *options, **more)

        def begun():
            revision = members[0].ask("KV", "REVISION")
            if load.process.poll() is not None:
                raise AssertionError(load.process.stdout.read().decode())
            return isinstance(revision, int) and revision > 1
        wait_until(begun, "the load to begin", GROUP_S_MAX)
        return load

    def assert_equal(self, members=None):
        """P9: the same revision and the same hash on all, nobody else writing."""
        members = members or self.alive()

        def hashes():
            answers = [m.ask("KV", "HASH") for m in members]
            if any(a is None or isinstance(a, Error) for a in answers):
                return None
            found = [as_map(a) for a in answers]
            return found if len({f["revision"] for f in found}) == 1 else None
        found = wait_until(hashes, "the same revision on all", GROUP_S_MAX)
        # What expires changes it once more: only equal revisions compare.
        self.test.assertEqual(len({(f["revision"], f["compacted"], f["hash"]) for f in found}), 1, found)


class GroupCase(harness.TestCase):
    """Tests of groups."""

    def group(self, size=3, **more):
        return Group(self, size, **more)

    def assert_passing(self, load, allowed=()):
        """Clients of surviving nodes were told nothing but what `allowed` names."""
        bad = {text: n for text, n in load.errors().items() if not text.startswith((*allowed, "NOLEASE "))}
        self.assertEqual(bad, {}, load.said)

    def tell(self, text):
        print(f"    {self.id().rsplit('.', 1)[1]}: {text}", flush=True)
