"""Groups of three and five servers as processes under faults, their histories judged. Short form.

    CORDIS_LOAD, CORDIS_CHECK   group_load and history_check   (build/debug/tests/load/...)
"""
# seconds: 900

import re
import shutil
import signal
import time
import unittest

import harness
from group_kit import ELECTION_MS, GROUP_S_MAX, GroupCase
from harness import Error, as_map, rounds, wait_until

LOAD_S = rounds(8, 60)


class Life(GroupCase):
    def test_found_three_and_write_anywhere(self):
        group = self.group(3).start()
        for m in group:
            self.assertEqual(m.ask("SET", f"by-{m.name}", m.name), "OK")
            for other in group:
                self.assertEqual(other.ask("GET", f"by-{m.name}"), m.name.encode())
        self.assertEqual(len(group.ids()), 3)
        group.assert_equal()

    def test_found_five(self):
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


class Faults(GroupCase):
    def test_killed_leader_unseen_by_clients_of_others(self):
        group = self.group(3).start()
        leader = group.wait_leader()
        rest = group.others(leader)
        load = group.load(LOAD_S, members=rest)
        time.sleep(LOAD_S / 2)
        leader.kill()
        load.finish()
        self.assert_passing(load)
        self.tell(f"fail-over {load.silence_ms()} ms")
        group.restart(leader)
        group.assert_equal()


if __name__ == "__main__":
    unittest.main()
