"""Groups of three servers as processes under faults, the histories of their clients judged.

    CORDIS_LOAD, CORDIS_CHECK   group_load and history_check   (build/debug/tests/load/...)
"""
# seconds: 900

import random
import time
import unittest

import network

network.enter()

import harness  # noqa: E402
from group_kit import ELECTION_MS, GROUP_S_MAX, PASSING, GroupCase  # noqa: E402
from harness import Error, as_map, rounds  # noqa: E402

LOAD_S = rounds(8, 60)
LONGER_S = 2.5 * ELECTION_MS / 1000  # than an election and every lease of the load


class Processes(GroupCase):
    def test_killed_leader_unseen_by_clients_of_others(self):
        group = self.group(3).start()
        leader = group.wait_leader()
        load = group.load(LOAD_S, members=group.others(leader))
        time.sleep(LOAD_S / 2)
        leader.kill()
        load.finish()
        self.assert_passing(load)
        self.tell(f"fail-over {load.silence_ms()} ms")
        group.restart(leader)
        group.assert_equal()

    def test_killed_one_after_the_other(self):
        group = self.group(3).start()
        load = group.load(LOAD_S)
        dice = random.Random(harness.SEED)
        end = time.monotonic() + LOAD_S - 2
        while time.monotonic() < end:
            member = dice.choice(group.members)
            member.kill()
            time.sleep(dice.uniform(0.1, 1.5))
            group.start()
        load.finish()
        self.assert_passing(load, (*PASSING, "(connection lost)", "(not connected)"))
        group.assert_equal()

    def test_all_killed_at_once(self):
        group = self.group(3).start()
        load = group.load(LOAD_S)
        for _ in range(2):
            time.sleep(LOAD_S / 4)
            for m in group:
                m.process.kill()
            for m in group:
                m.kill()
            group.start()
        load.finish()
        self.assert_passing(load, (*PASSING, "(connection lost)", "(not connected)"))
        group.assert_equal()

    def test_paused_leader(self):
        group = self.group(3).start()
        leader = group.wait_leader()
        load = group.load(LOAD_S, members=group.others(leader))
        time.sleep(LOAD_S / 4)
        leader.pause()
        time.sleep(LONGER_S)
        self.assertIsNot(group.wait_leader(), leader)
        leader.resume()
        load.finish()
        self.assert_passing(load)
        self.tell(f"fail-over {load.silence_ms()} ms")
        group.assert_equal()

    def test_paused_leader_with_its_clients(self):
        group = self.group(3).start()
        load = group.load(LOAD_S)
        time.sleep(LOAD_S / 4)
        leader = group.wait_leader()
        leader.pause()
        time.sleep(LONGER_S)
        leader.resume()
        load.finish()
        self.assert_passing(load, PASSING)
        group.assert_equal()

    def test_paused_follower(self):
        group = self.group(3).start()
        follower = group.followers()[0]
        load = group.load(LOAD_S, members=group.others(follower))
        time.sleep(LOAD_S / 4)
        follower.pause()
        time.sleep(LONGER_S)
        follower.resume()
        load.finish()
        self.assertIsNot(group.wait_leader(), follower)  # who comes back does not disturb
        self.assert_passing(load)
        group.assert_equal()

    def test_all_paused(self):
        """Nobody's time passes while nobody runs: no lease ends by it (P5)."""
        group = self.group(3).start()
        load = group.load(LOAD_S)
        time.sleep(LOAD_S / 4)
        for m in group:
            m.pause()
        time.sleep(LONGER_S)
        for m in group:
            m.resume()
        load.finish()
        self.assert_passing(load, PASSING)
        group.assert_equal()

    def test_lease_outlives_the_pause_of_its_leader(self):
        """Never before its time has passed for a working leader, whoever that is."""
        group = self.group(3).start()
        leader = group.wait_leader()
        other = group.others(leader)[0]
        lease = as_map(other.ask("LEASE", "GRANT", "PX", 3000))["id"]
        granted = time.monotonic()
        self.assertEqual(other.ask("SET", "leased", "v", "LEASE", lease), "OK")
        leader.pause()
        time.sleep(LONGER_S)
        leader.resume()
        while other.ask("GET", "leased") is not None:
            self.assertLess(time.monotonic() - granted, GROUP_S_MAX)
            time.sleep(0.01)
        lived_s = time.monotonic() - granted
        self.assertGreaterEqual(lived_s, 3 - 0.05)
        self.tell(f"a lease of 3 s lived {lived_s:.1f} s through a fail-over")


class Network(GroupCase):
    def cut(self, out, into, who="leader"):
        group = self.group(3, links=True).start()
        victim = group.wait_leader() if who == "leader" else group.followers()[0]
        rest = group.others(victim)
        load = group.load(LOAD_S + 3, members=rest)
        time.sleep(LOAD_S / 4)
        group.links.isolate(victim.number, range(3), out, into)
        time.sleep(LONGER_S)
        found = group.wait_leader(rest)
        if who == "leader" and out:
            self.assertIsNot(found, victim)
        group.links.heal()
        load.finish()
        self.assert_passing(load)
        self.tell(f"longest time without a success {load.silence_ms()} ms")
        group.wait_ready()
        group.assert_equal()
        return group, victim

    def test_leader_cut_off(self):
        self.cut(True, True)

    def test_leader_not_heard(self):
        self.cut(True, False)

    def test_leader_hears_nobody(self):
        self.cut(False, True)

    def test_follower_cut_off(self):
        self.cut(True, True, "follower")

    def test_follower_not_heard(self):
        self.cut(True, False, "follower")

    def test_follower_hears_nobody(self):
        self.cut(False, True, "follower")

    def test_minority_serves_nothing(self):
        group = self.group(3, links=True, request_timeout=1500).start()
        leader = group.wait_leader()
        self.assertEqual(leader.ask("SET", "k", "1"), "OK")
        group.links.isolate(leader.number, range(3))
        fresh = group.wait_leader(group.others(leader), but=leader)
        self.assertEqual(fresh.ask("SET", "k", "2"), "OK")
        for words in (("SET", "k", "3"), ("GET", "k")):
            answer = leader.ask(*words)
            self.assertIsInstance(answer, Error, words)
            self.assertRegex(answer, "CLUSTERDOWN|TIMEOUT")
        group.links.heal()
        group.wait_ready()
        self.assertEqual(leader.ask("GET", "k"), b"2")
        group.assert_equal()

    def test_links_come_and_go(self):
        self.come_and_go(True)

    def test_links_hold_up_what_comes_later(self):
        self.come_and_go("proxy")

    def come_and_go(self, links):
        group = self.group(3, links=links).start()
        load = group.load(LOAD_S)
        dice = random.Random(harness.SEED)
        end = time.monotonic() + LOAD_S - 2
        while time.monotonic() < end:
            number = dice.randrange(3)
            group.links.isolate(number, range(3), dice.random() < 0.7, dice.random() < 0.7)
            time.sleep(dice.uniform(0.2, 2.5))
            group.links.heal()
            time.sleep(dice.uniform(0, 0.5))
        load.finish()
        self.assert_passing(load, PASSING)
        group.wait_ready()
        group.assert_equal()

if __name__ == "__main__":
    unittest.main()
