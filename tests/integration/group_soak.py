"""A long mix of faults against groups of processes: python3 group_soak.py [MINUTES [SEED [ROUND_S]]]

Rounds until the time is over. Each one founds a group of 3 or 5 on links that can be cut, runs a
load for about a minute while faults come and go by the round's seed, then judges the history and
compares the members. A round that fails is told with its seed; again, as far as real time allows:
`python3 group_soak.py 1 SEED`. The last lines sum up; exit code 1 if a round failed.

    CORDIS_SERVER, CORDIS_LOAD, CORDIS_CHECK   the binaries   (bin/..., build/debug/tests/load/...)
"""

import collections
import random
import sys
import time
import unittest

import network
from group_kit import ELECTION_MS, GROUP_S_MAX, PASSING, GroupCase
from harness import Error, build_shim, shim_env, wait_until

OPTIONS = (
    {},
    {"snapshot_count": 200, "wal_segment_bytes": "64kb", "wal_keep_bytes": 0, "checkpoint_interval": "50ms"},
    {"wal_backend": "thread"},
)
ALLOWED = (*PASSING, "(connection lost)", "(not connected)", "LOADING ")


class Round(GroupCase):
    """One group, one seed."""

    seed = 1
    seconds = 60
    sums = collections.Counter()

    def test_round(self):
        self.dice = random.Random(self.seed)
        self.fresh_count = 0
        options = self.dice.choice(OPTIONS)
        size = self.dice.choice((3, 3, 5))
        links = self.dice.choice((True, "proxy"))
        self.group_ = self.group(size, links=links, **options)
        self.gates = self.slow_disks()
        self.group_.start()
        load = self.group_.load(self.seconds, "--value-bytes", self.dice.choice((32, 1000)), seed=self.seed)
        end = time.monotonic() + self.seconds - 5
        while time.monotonic() < end:
            self.fault()
            time.sleep(self.dice.uniform(0, 1))
        load.finish()
        self.assert_passing(load, ALLOWED)
        self.group_.wait_ready()
        self.group_.assert_equal()
        self.sums["operations"] += load.operations()

    def slow_disks(self):
        """A file for each member; while it is there, that one's syncs are slow."""
        shim = build_shim(self.scratch)
        gates = {}
        for m in self.group_ if shim else ():
            gates[m] = self.scratch / f"slow-{m.name}"
            delay_us = self.dice.choice((20000, 300000, 2000000))
            m.env.update(shim_env(shim, m.dir, "DELAY", "fdatasync", delay_us=delay_us), SHIM_WHILE=str(gates[m]))
        return gates

    def fault(self):
        """One or two at the same time, held for a while, then undone."""
        undo = []
        kinds = [self.kill, self.kill_leader, self.kill_all, self.stop, self.pause, self.pause_all,
                 self.cut, self.slow, self.transfer, self.churn]
        chosen = self.dice.sample(kinds, self.dice.choice((1, 1, 2)))
        for kind in sorted(chosen, key=lambda kind: kind == self.churn):  # its undoing waits for all
            self.sums[kind.__name__.replace("_", " ")] += 1
            undo.append(kind())
        time.sleep(self.dice.choice((0.1, 0.5, 1, 3)) * ELECTION_MS / 1000)
        for back in undo:
            back()
        self.group_.start()

    def any(self):
        return self.dice.choice(self.group_.members)

    def kill(self):
        self.any().kill()
        return lambda: None

    def kill_leader(self):
        (self.group_.leader() or self.any()).kill()
        return lambda: None

    def kill_all(self):
        for m in self.group_.alive():
            m.process.kill()
        for m in self.group_:
            m.kill()
        return lambda: None

    def stop(self):
        member = self.any()
        if member in self.group_.alive():
            member.stop()
        return lambda: None

    def pause(self):
        member = self.any()
        if member in self.group_.alive():
            member.pause()
        return member.resume

    def pause_all(self):
        paused = self.group_.alive()
        for m in paused:
            m.pause()
        return lambda: [m.resume() for m in paused]

    def cut(self):
        number = self.any().number
        out = self.dice.random() < 0.7
        into = not out or self.dice.random() < 0.7
        self.group_.links.isolate(number, range(len(self.group_.members)), out, into)
        return self.group_.links.heal

    def slow(self):
        gate = self.gates.get(self.any())
        if gate is None:
            return lambda: None
        gate.touch()
        return lambda: gate.unlink(missing_ok=True)

    def transfer(self):
        alive = self.group_.alive()
        status = self.any().status()
        if alive and status is not None:
            self.dice.choice(alive).ask("MEMBER", "TRANSFER", status["id"], timeout=5)
        return lambda: None

    def churn(self):
        """Another member comes, and goes again."""
        group = self.group_
        alive = group.alive()
        if not alive:
            return lambda: None
        joins = ",".join(f"{m.host}:{m.options['port']}" for m in group)
        self.fresh_count += 1  # a directory that was removed from the group is of no use any more
        fresh = group.add(name=f"fresh{self.fresh_count}", join=joins)
        fresh.launch()

        def leave():
            group.members.remove(fresh)  # what is started anew below are the others
            group.links.heal()
            for m in group:
                m.resume()
            group.start()
            fresh.resume()
            if fresh.process is None or fresh.process.poll() is not None:
                fresh.kill()
                fresh.launch()
            self.assertTrue(fresh.started(GROUP_S_MAX), fresh.text())
            try:
                gone = fresh.id()
            except AssertionError as e:
                group.members.append(fresh)
                raise AssertionError(f"{e}\n{group.seen()}") from e

            def removed():
                answer = group[0].ask("MEMBER", "REMOVE", gone)
                return answer == "OK" or (isinstance(answer, Error) and "not found" in answer)
            wait_until(removed, "it to be removed", GROUP_S_MAX)
            fresh.kill()
        return leave


def main(minutes=10.0, seed=None, round_s=60):
    seed = random.randrange(1, 10**6) if seed is None else seed
    Round.seconds = round_s
    failed, rounds = [], 0
    began = time.monotonic()
    end = began + minutes * 60
    while rounds == 0 or time.monotonic() < end:
        Round.seed = seed + rounds
        rounds += 1
        print(f"round {rounds}, seed {Round.seed}", flush=True)
        result = unittest.TestResult()
        Round("test_round").run(result)
        for _, words in result.failures + result.errors:
            failed.append(Round.seed)
            print(f"FAILED seed {Round.seed}:\n{words}", flush=True)
    hours = (time.monotonic() - began) / 3600
    sums = ", ".join(f"{name} {count}" for name, count in sorted(Round.sums.items()))
    print(f"group soak: {rounds} rounds in {hours:.2f} hours; {sums}")
    print(f"group soak: {len(failed)} failed{': seeds ' + ' '.join(map(str, failed)) if failed else ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    network.enter()
    arguments = sys.argv[1:]
    sys.exit(main(float(arguments[0]) if arguments else 10.0,
                  int(arguments[1]) if len(arguments) > 1 else None,
                  int(arguments[2]) if len(arguments) > 2 else 60))
