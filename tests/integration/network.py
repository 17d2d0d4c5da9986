"""A network of this process' own, in which packets between members of a group can be dropped.

Each member is in a network namespace with a cable to a bridge, as machines are at a switch; its
packet filter (nftables) drops what comes from another one. That needs root, and a kernel and a
place that allow it: where it is not permitted, tests use the proxy of group_kit.py instead.
"""

import itertools
import os
import subprocess
import sys

IN_IT = "CORDIS_TEST_NETWORK"  # in the environment: yes; or why not
COMMAND_S_MAX = 30
BRIDGE = "cables"
FILTER = "add table inet cuts; add chain inet cuts in { type filter hook input priority 0; }"

SET_UP = f"""set -e
ip link set lo up
ip link add {BRIDGE} type bridge
ip address add 10.77.0.1/16 dev {BRIDGE}
ip link set {BRIDGE} up
"""
# All that a group will need, in a namespace that ends with the shell.
PROBE = SET_UP + f"""
ip link add probe0 type veth peer name probe1
ip link set probe0 master {BRIDGE} up
nft '{FILTER}'
nft add rule inet cuts in ip saddr 10.77.1.1 drop
unshare --net true
"""


def run(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=COMMAND_S_MAX, **more)


def enter():
    """To be called before anything else: begins this program again in a network of its own, if that is
    permitted. Returns in the new one, or where it is not."""
    if IN_IT in os.environ:
        if os.environ[IN_IT] == "yes":
            run("sh", "-c", SET_UP)
            os.environ[IN_IT] = "made"
        return
    try:
        run("unshare", "--net", "sh", "-c", PROBE)
    except (OSError, subprocess.SubprocessError) as e:
        said = getattr(e, "stdout", None) or b""
        os.environ[IN_IT] = f"{e} {said.decode(errors='replace').strip()}"
        print(f"no network of our own, so members are cut off by a proxy: {os.environ[IN_IT]}", flush=True)
        return
    sys.stdout.flush()
    os.environ[IN_IT] = "yes"
    os.execvp("unshare", ["unshare", "--net", "--", *sys.orig_argv])


def permitted():
    return os.environ.get(IN_IT) == "made"


class Cables:
    """The cables of one group's members. Members are numbers of the group's list."""

    group_numbers = itertools.count(1)
    cable_numbers = itertools.count(1)

    def __init__(self):
        self.subnet = next(self.group_numbers)
        self.holders = []  # a process keeps a member's namespace; its input ends with us
        self.hosts = []
        self.last_host = 0

    def inside(self, number):
        """What a command begins with that is to run at a member's end."""
        return ["nsenter", f"--net=/proc/{self.holders[number].pid}/ns/net", "--"]

    def plug(self, number):
        """One more member, or another one in place of who had this number: its address."""
        if number < len(self.hosts):
            self.unplug(self.holders[number])
            del self.holders[number:], self.hosts[number:]
        assert number == len(self.hosts)
        self.last_host += 1
        cable = f"cable{next(self.cable_numbers)}"
        host = f"10.77.{self.subnet}.{self.last_host}"
        holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.holders.append(holder)
        self.hosts.append(host)
        holder.stdout.readline()  # it is there
        run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        run("ip", "link", "set", cable, "master", BRIDGE, "up")
        for words in ("ip link set lo up", f"ip address add {host}/16 dev eth0", "ip link set eth0 up"):
            run(*self.inside(number), *words.split())
        run(*self.inside(number), "nft", FILTER)
        return host

    def know(self, ids):
        """Addresses say who is who."""

    def block(self, *links):
        """Nothing more gets from a to b, for each (a, b)."""
        for a, b in links:
            run(*self.inside(b), "nft", f"add rule inet cuts in ip saddr {self.hosts[a]} drop")

    def isolate(self, number, others, out=True, into=True):
        """Cuts one off from the others, in one direction or both."""
        self.block(*[(number, other) for other in others if out and other != number],
                   *[(other, number) for other in others if into and other != number])

    def heal(self):
        for number in range(len(self.hosts)):
            run(*self.inside(number), "nft", "flush chain inet cuts in")

    @staticmethod
    def unplug(holder):
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()

    def close(self):
        for holder in self.holders:
            self.unplug(holder)
