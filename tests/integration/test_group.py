"""Groups of servers as processes: founded, grown, shrunk, repaired. See test_group_faults,
test_group_disks.

    CORDIS_LOAD, CORDIS_CHECK   group_load and history_check   (build/debug/tests/load/...)
"""
# seconds: 900

import shutil
import time
import unittest

from group_kit import GROUP_S_MAX, GroupCase
from harness import Error, rounds, wait_until

LOAD_S = rounds(5, 60)


class Found(GroupCase):
    def test_three(self):
        group = self.group(3).start()
        for m in group:
            self.assertEqual(m.ask("SET", f"by-{m.name}", m.name), "OK")
            for other in group:
                self.assertEqual(other.ask("GET", f"by-{m.name}"), m.name.encode())
        self.assertEqual(len(group.ids()), 3)
        group.assert_equal()

    def test_five_lose_two(self):
        group = self.group(5).start()
        self.assertEqual(sorted(m["role"] for m in group.ids().values()),
                         [b"follower"] * 4 + [b"leader"])
        load = group.load(LOAD_S)
        leader = group.wait_leader()
        other = group.others(leader)[0]
        time.sleep(LOAD_S / 4)
        leader.kill()
        other.kill()
        time.sleep(LOAD_S / 4)
        group.start()
        load.finish()
        group.assert_equal()

    def test_unequal_lists(self):
        group = self.group(3)
        right = group[2].options["initial-cluster"]
        group[2].options["initial-cluster"] = right.replace("n1=", "n9=")
        for m in group:
            m.launch()
        for m in group:
            wait_until(lambda m=m: "unequal 'initial-cluster'" in m.text(), f"{m.name} to say so")
            self.assertNotIn("ready port=", m.text())
        group[2].kill()
        group[2].options["initial-cluster"] = right
        group[2].launch()
        for m in group:
            self.assertTrue(m.started(GROUP_S_MAX))
        group.wait_ready()
        self.assertEqual(len(group.ids()), 3)

    def test_a_list_without_this_node(self):
        group = self.group(2)
        group[0].options["initial-cluster"] = "n8=127.0.0.1:1,n9=127.0.0.1:2"
        group[0].launch()
        self.assertFalse(group[0].started())
        self.assertIn("does not name this node", group[0].text())

    def test_member_of_another_group(self):
        one, two = self.group(3).start(), self.group(2, dirs={n: self.scratch / f"two{n}" for n in range(2)}).start()
        one[2].kill()
        for m in two:
            m.kill()
        # A member of the second group where the first one's was.
        for name in ("port", "peer-port", "peer-address"):
            two[0].options[name] = one[2].options[name]
        two[0].launch()
        self.assertTrue(two[0].started())
        wait_until(lambda: "two groups are configured with each other's addresses" in two[0].text(), "the refusal")
        self.assertIsInstance(two[0].ask("SET", "k", "v"), Error)
        self.assertEqual(one[0].ask("SET", "k", "v"), "OK")


class Change(GroupCase):
    def join(self, group, at, **options):
        member = group.add(join=f"127.0.0.1:{at.options['port']}", **options)
        member.launch()
        self.assertTrue(member.started(GROUP_S_MAX), member.text())
        return member

    def wait_roles(self, group, voters, learners=0, at=None):
        def look():
            listed = (at or group.wait_leader()).ask("MEMBER", "LIST")
            roles = [dict(zip(m[::2], m[1::2]))[b"role"] for m in listed] if isinstance(listed, list) else []
            return roles.count(b"learner") == learners and len(roles) == voters + learners
        wait_until(look, f"{voters} voters", GROUP_S_MAX)

    def test_grow_from_one_and_shrink(self):
        group = self.group(1).start()
        first = group[0]
        load = group.load(LOAD_S, members=[first])
        second = self.join(group, first)
        self.wait_roles(group, 2)
        third = self.join(group, second)  # asked through a follower, maybe
        self.wait_roles(group, 3)
        load.finish()
        self.assert_passing(load)
        self.assertEqual(third.ask("SET", "through", "third"), "OK")
        group.assert_equal()
        # Joining again changes nothing.
        ids = set(group.ids())
        third.kill()
        group.restart(third)
        self.assertEqual(set(group.ids()), ids)
        # The leader goes, and the next one.
        for left in (2, 1):
            leader = group.wait_leader()
            rest = [m for m in group.alive() if m is not leader]
            gone = leader.id()
            self.assertEqual(rest[0].ask("MEMBER", "REMOVE", gone), "OK")
            self.wait_roles(group, left, at=rest[0])
            leader.kill()
            group.wait_leader(rest)
            self.assertEqual(rest[0].ask("SET", f"left-{left}", "v"), "OK")
        self.assertIsInstance(group.alive()[0].ask("MEMBER", "REMOVE", group.alive()[0].id()), Error)
        self.assertEqual(group.alive()[0].ask("GET", "through"), b"third")

    def test_wiped_member_is_refused_and_joins_anew(self):
        group = self.group(3).start()
        self.assertEqual(group[0].ask("SET", "k", "v"), "OK")
        wiped = group[2]
        gone = wiped.id()
        wiped.kill()
        shutil.rmtree(wiped.dir)
        wiped.launch()
        wait_until(lambda: "Remove that member (MEMBER REMOVE) and start the node with 'join'" in wiped.text(),
                   "the refusal")
        self.assertNotIn("ready port=", wiped.text())
        wiped.kill()
        self.assertEqual(group[0].ask("MEMBER", "REMOVE", gone), "OK")
        del wiped.options["initial-cluster"]
        wiped.options["join"] = f"127.0.0.1:{group[0].options['port']},127.0.0.1:{group[1].options['port']}"
        wiped.launch()
        self.assertTrue(wiped.started(GROUP_S_MAX), wiped.text())
        self.wait_roles(group, 3)
        self.assertEqual(wiped.ask("GET", "k"), b"v")
        self.assertNotIn(gone, group.ids())
        group.assert_equal()

    def test_removed_member_is_told(self):
        group = self.group(3).start()
        member = group.followers()[0]
        gone = member.id()
        rest = group.others(member)
        member.kill()
        self.assertEqual(rest[0].ask("MEMBER", "REMOVE", gone), "OK")
        member.launch()
        self.assertTrue(member.started(GROUP_S_MAX))
        wait_until(lambda: "is not in this group" in member.text(), "the refusal")
        self.assertIsInstance(member.ask("SET", "k", "v"), Error)
        self.assertEqual(rest[0].ask("SET", "k", "v"), "OK")

    def test_removed_member_is_told_by_who_was_restarted_since(self):
        """Who comes back before anybody leads is let in, and told as soon as somebody knows."""
        group = self.group(3).start()
        member = group.followers()[0]
        gone = member.id()
        rest = group.others(member)
        member.kill()
        self.assertEqual(rest[0].ask("MEMBER", "REMOVE", gone), "OK")
        self.wait_roles(group, 2, at=rest[0])
        for m in rest:
            m.kill()
        for m in (member, rest[0]):
            m.launch()
        wait_until(lambda: f"connected member={gone} " in rest[0].text(), "the removed one to be heard", GROUP_S_MAX)
        self.assertNotIn("is not in this group", member.text())
        rest[1].launch()
        wait_until(lambda: "is not in this group" in member.text(), "the refusal", GROUP_S_MAX)
        group.wait_ready(rest)

    def test_a_leader_whose_first_addition_was_undone_is_heard(self):
        """One member has it in its log that the other was added, and nobody else. That entry goes,
        and the next one that names the other comes from the other itself."""
        group = self.group(3, election_timeout=4000).start()
        leader = group.wait_leader()
        rest = group.others(leader)
        for m in rest:
            m.kill()
        fresh = group.add(join=f"127.0.0.1:{leader.options['port']}")
        fresh.launch()
        wait_until(lambda: b"n4" in str(leader.ask("MEMBER", "LIST", "LOCAL")).encode(), "its addition", GROUP_S_MAX)
        fresh.kill()
        leader.kill()
        for m in rest:
            m.launch()
        group.wait_ready(rest)
        for number in range(10):  # more than one message of the log takes
            self.assertEqual(rest[0].ask("SET", f"large-{number}", "v" * 500000), "OK")
        fresh.options["join"] = f"127.0.0.1:{rest[0].options['port']}"
        fresh.launch()
        self.assertTrue(fresh.started(GROUP_S_MAX), fresh.text())
        wait_until(lambda: rest[0].ask("MEMBER", "PROMOTE", fresh.id()) == "OK", "the promotion", GROUP_S_MAX)
        group.transfer(rest[0], fresh)
        self.assertIs(group.wait_leader([*rest, fresh]), fresh)
        group.restart(leader)
        group.assert_equal()

    def test_replace_a_dead_one_under_load(self):
        group = self.group(3).start()
        dead = group.followers()[0]
        rest = group.others(dead)
        gone = dead.id()
        load = group.load(LOAD_S, members=rest)
        dead.kill()
        time.sleep(1)
        fresh = self.join(group, rest[0])
        self.wait_roles(group, 3, 1, at=rest[0])  # not promoted while a voter is missing
        self.assertEqual(rest[0].ask("MEMBER", "REMOVE", gone), "OK")
        self.wait_roles(group, 3, at=rest[0])
        load.finish()
        self.assert_passing(load)
        group.assert_equal([*rest, fresh])

    def test_who_comes_back_hears_a_leader_that_it_does_not_know(self):
        """It has to answer before it has the entry that names the leader, and it gets none before."""
        group = self.group(3).start()
        away = group.followers()[0]
        rest = group.others(away)
        away.kill()
        fresh = self.join(group, rest[0])
        self.wait_roles(group, 3, 1, at=rest[0])
        wait_until(lambda: rest[0].ask("MEMBER", "PROMOTE", fresh.id()) == "OK", "the promotion", GROUP_S_MAX)
        self.wait_roles(group, 4, at=rest[0])
        group.transfer(rest[0], fresh)
        self.assertIs(group.wait_leader([*rest, fresh]), fresh)
        away.launch()
        self.assertTrue(away.started(GROUP_S_MAX), away.text())
        group.wait_ready([away])
        self.assertIn("does not know yet", away.text())
        self.assertEqual(away.ask("SET", "through", "away"), "OK")
        self.assertIs(group.wait_leader(), fresh)
        group.assert_equal()

    def test_quorum_is_not_given_away(self):
        group = self.group(3).start()
        leader = group.wait_leader()
        dead, other = group.others(leader)
        victim = other.id()
        dead.kill()
        time.sleep(2)
        answer = leader.ask("MEMBER", "REMOVE", victim)
        self.assertIsInstance(answer, Error)
        self.assertEqual(leader.ask("SET", "k", "v"), "OK")

    def test_transfer_under_load(self):
        group = self.group(3).start()
        load = group.load(LOAD_S)
        for _ in range(4):
            time.sleep(LOAD_S / 6)
            leader = group.wait_leader()
            target = group.others(leader)[0]
            group.transfer(group.others(leader)[1], target)
            self.assertIs(group.wait_leader(), target)
        load.finish()
        self.assert_passing(load)
        self.tell(f"longest time without a success {load.silence_ms()} ms")
        group.assert_equal()

    def test_clean_stop_hands_over(self):
        group = self.group(3).start()
        leader = group.wait_leader()
        load = group.load(LOAD_S, members=group.others(leader))
        time.sleep(LOAD_S / 2)
        leader.stop()
        load.finish()
        self.assert_passing(load)
        self.tell(f"longest time without a success {load.silence_ms()} ms")


if __name__ == "__main__":
    unittest.main()
