"""Groups of three servers as processes whose disks fail, fill up, hang, lose power or are set back,
and members that are so far behind that they need a snapshot; the histories of clients are judged.

    CORDIS_LOAD, CORDIS_CHECK   group_load and history_check   (build/debug/tests/load/...)
"""
# seconds: 900

import fcntl
import os
import random
import shutil
import struct
import subprocess
import time
import unittest

import harness
from group_kit import GROUP_S_MAX, PASSING, GroupCase
from harness import Error, build_shim, rounds, shim_env, wait_until

LOAD_S = rounds(8, 60)
EXIT_IO = 74


def mounted(test, name, size):
    """A small disk in memory, or the test is skipped."""
    where = test.scratch / name
    where.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "cordis-test", str(where)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=10)
    if done.returncode != 0:
        test.skipTest(f"no file system may be mounted here: {done.stdout.decode().strip()}")
    test.addCleanup(subprocess.run, ["umount", "-l", str(where)], check=False, timeout=10)
    return where


class Disks(GroupCase):
    def shim(self):
        shim = build_shim(self.scratch)
        if shim is None:
            self.skipTest("no C compiler for the shim")
        return shim

    def test_full_disk_of_one(self):
        disk = mounted(self, "small", "48m")
        group = self.group(3, dirs={2: disk / "data"}, disk_reserve_bytes="8mb").start()
        self.assertEqual(group[0].ask("SET", "old", "v"), "OK")
        ballast = disk / "ballast"
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
        ballast.write_bytes(b"\0" * (free - (4 << 20)))
        for m in group:
            wait_until(lambda m=m: isinstance(m.ask("SET", "more", "x" * 100), Error), "growth to be refused")
            self.assertRegex(m.ask("SET", "more", "x" * 100), "^NOSPACE ")
        self.assertEqual(group[0].ask("GET", "old"), b"v")
        self.assertEqual(group[1].ask("DEL", "old"), 1)
        ballast.unlink()
        for m in group:
            wait_until(lambda m=m: m.ask("SET", "more", "x" * 100) == "OK", "room again", GROUP_S_MAX)
        group.assert_equal()

    def test_full_to_the_last_byte(self):
        """A disk that fills up in spite of all: that member ends, the others go on."""
        disk = mounted(self, "small", "160m")  # without the ballast there is room for all of the load
        group = self.group(3, dirs={2: disk / "data"}, disk_reserve_bytes=0).start()
        load = group.load(LOAD_S, "--value-bytes", 500, members=group.members[:2])
        ballast = disk / "ballast"
        time.sleep(1)
        with ballast.open("wb", buffering=0) as out:
            try:
                while True:
                    out.write(b"\0" * 65536)
            except OSError:
                pass
        load.finish()
        self.assert_passing(load)
        ballast.unlink()
        if group[2].process.poll() is not None:
            self.assertEqual(group[2].wait(), EXIT_IO, group[2].text())
            group.restart(group[2])
        group.assert_equal()

    def failing_sync(self, leads):
        group = self.group(3, wal_backend="thread").start()
        leader = group.wait_leader()
        victim = leader if leads else group.others(leader)[0]
        rest = group.others(victim)
        # With the shim from here on; it is quiet until its number is reached.
        victim.stop()
        victim.launch(**shim_env(self.shim(), victim.dir, "EIO", "fdatasync", 150,
                                 self.scratch / "failed.note"))
        self.assertTrue(victim.started(GROUP_S_MAX))
        group.wait_ready([victim])
        if leads:
            group.transfer(rest[0], victim)
        load = group.load(LOAD_S, members=rest)
        code = victim.wait(GROUP_S_MAX)
        self.assertEqual(code, EXIT_IO, victim.text())
        load.finish()
        self.assert_passing(load)
        self.tell(f"longest time without a success {load.silence_ms()} ms")
        group.restart(victim)
        group.assert_equal()

    def test_failing_sync_of_a_follower(self):
        self.failing_sync(False)

    def test_failing_sync_of_the_leader(self):
        self.failing_sync(True)

    def slow_sync(self, leads, delay_us, hands_over=False):
        group = self.group(3, wal_backend="thread").start()
        leader = group.wait_leader()
        victim = leader if leads else group.others(leader)[0]
        victim.stop()
        gate = self.scratch / "slow"
        victim.launch(**shim_env(self.shim(), victim.dir, "DELAY", "fdatasync", delay_us=delay_us), SHIM_WHILE=str(gate))
        self.assertTrue(victim.started(GROUP_S_MAX))
        group.wait_ready([victim])
        if leads:
            group.transfer(group.others(victim)[0], victim)
        # What its own clients wait for is on its disk: they may be told that the outcome is unknown.
        load = group.load(LOAD_S, members=group.others(victim) if hands_over else group.members)
        time.sleep(1)
        gate.touch()
        time.sleep(LOAD_S / 2)
        if hands_over:
            self.assertIsNot(group.wait_leader(), victim)
        gate.unlink()
        load.finish()
        self.assert_passing(load)
        self.tell(f"{load.operations()} operations, longest time without a success {load.silence_ms()} ms")
        group.assert_equal()

    def test_slow_syncs_of_a_follower(self):
        self.slow_sync(False, 200000)

    def test_slow_syncs_of_the_leader(self):
        self.slow_sync(True, 200000)

    def test_leader_whose_disk_hangs_hands_over(self):
        self.slow_sync(True, 3000000, hands_over=True)


class Snapshots(GroupCase):
    SMALL = {"snapshot_count": 200, "wal_segment_bytes": "64kb", "wal_keep_bytes": 0,
             "checkpoint_interval": "50ms"}

    def leave_behind(self, group, rest):
        """Cuts the log. Another leader: the old one has entries in memory for those behind it."""
        time.sleep(LOAD_S)
        target = next(m for m in rest if m is not group.wait_leader())
        group.transfer(rest[0], target)

    def test_install_under_load(self):
        group = self.group(3, **self.SMALL).start()
        behind = group.followers()[0]
        rest = group.others(behind)
        load = group.load(LOAD_S * 2, "--value-bytes", 1000, members=rest)
        time.sleep(1)
        behind.kill()
        self.leave_behind(group, rest)
        group.restart(behind)
        wait_until(lambda: "snapshot installed" in behind.text(), "the snapshot", GROUP_S_MAX)
        load.finish()
        self.assert_passing(load)
        group.assert_equal()
        behind.kill()
        group.restart(behind)  # what was installed is on its disk
        group.assert_equal()

    def test_killed_while_it_installs(self):
        group = self.group(3, **self.SMALL).start()
        behind = group.followers()[0]
        rest = group.others(behind)
        load = group.load(LOAD_S * 2, "--value-bytes", 1000, members=rest)
        time.sleep(1)
        behind.kill()
        self.leave_behind(group, rest)
        dice = random.Random(harness.SEED)
        for _ in range(rounds(4, 30)):
            behind.launch()
            wait_until(lambda: "snapshot receive begins" in behind.text()
                       or "snapshot installed" in behind.text(), "a snapshot", GROUP_S_MAX)
            time.sleep(dice.uniform(0, 0.1))
            behind.kill()
        group.restart(behind)
        load.finish()
        self.assert_passing(load)
        group.assert_equal()

    def test_joining_needs_a_snapshot(self):
        group = self.group(3, **self.SMALL).start()
        load = group.load(LOAD_S, "--value-bytes", 1000)
        time.sleep(LOAD_S / 2)
        fresh = group.add(join=f"127.0.0.1:{group[0].options['port']}")
        fresh.launch()
        self.assertTrue(fresh.started(GROUP_S_MAX), fresh.text())
        load.finish()
        self.assert_passing(load)
        wait_until(lambda: "snapshot installed" in fresh.text(), "the snapshot", GROUP_S_MAX)
        group.assert_equal()


class Lost(GroupCase):
    def test_rolled_back_member(self):
        """A directory that was set back is found by the leader, and does not count any more."""
        group = self.group(3).start()
        leader = group.wait_leader()
        member, other = group.others(leader)
        gone = member.id()
        self.assertEqual(leader.ask("SET", "k", "1"), "OK")
        group.assert_equal()
        member.kill()
        older = self.scratch / "older"
        shutil.copytree(member.dir, older)
        group.restart(member)
        for i in range(50):
            self.assertEqual(leader.ask("SET", "k", f"{i}"), "OK")
        group.assert_equal()
        self.assertIs(group.wait_leader(), leader)
        other.pause()
        self.assertEqual(leader.ask("SET", "k", "only these two"), "OK")
        member.kill()
        shutil.rmtree(member.dir)
        older.rename(member.dir)
        member.launch()
        wait_until(lambda: "member lost acknowledged entries" in leader.text(),
                   "the leader to find it", GROUP_S_MAX)
        wait_until(lambda: member.process.poll() is not None, "it to stop for good", GROUP_S_MAX)
        self.assertIn("lost entries that it had acknowledged", member.text())
        # What the two had promised must not be outvoted by one of them that has forgotten it.
        answer = leader.ask("SET", "k", "alone")
        self.assertIsInstance(answer, harness.Error)
        self.assertRegex(answer, "^(TIMEOUT|CLUSTERDOWN) ")
        member.kill()
        member.launch()
        self.assertFalse(member.started(GROUP_S_MAX))
        self.assertIn("MEMBER REMOVE", member.text())
        other.resume()
        wait_until(lambda: other.ask("GET", "k") in (b"only these two", b"alone"), "the two to go on", GROUP_S_MAX)
        wait_until(lambda: b"CORRUPT" in other.status()["errors"], "the alarm on all", GROUP_S_MAX)
        leader = group.wait_leader(among=[leader, other])
        other = next(m for m in group if m not in (leader, member))
        self.assertEqual(leader.ask("SET", "k", "after"), "OK")
        # What the leader said to do.
        member.kill()
        self.assertEqual(other.ask("MEMBER", "REMOVE", gone), "OK")
        shutil.rmtree(member.dir)
        del member.options["initial-cluster"]
        member.options["join"] = f"127.0.0.1:{leader.options['port']}"
        member.launch()
        self.assertTrue(member.started(GROUP_S_MAX), member.text())
        wait_until(lambda: member.ask("GET", "k") == b"after", "it to be back", GROUP_S_MAX)
        group.assert_equal()

    def test_power_cut(self):
        """The file system of one member is shut down under it: what was not synced is gone."""
        self.cut_power()

    def test_power_cut_with_tables_of_their_own(self):
        """The same while packs go to tables, past a log that is not synced."""
        group = self.cut_power("--value-bytes", 1000, store_write_buffer_bytes="64kb",
                               checkpoint_bytes="64kb", checkpoint_interval="1h", snapshot_count=1000000)

        def table():
            self.assertEqual(group[2].ask("SET", "k", "x" * 9000), "OK")
            return b"\r\ncheckpoint_file_batches:0\r\n" not in group[2].ask("INFO", "persistence")
        wait_until(table, "a checkpoint", GROUP_S_MAX)

    def cut_power(self, *load_options, **options):
        group_disk = PowerDisk(self)
        group = self.group(3, dirs={2: group_disk.where / "data"}, **options).start()
        load = group.load(LOAD_S, *load_options)
        for _ in range(rounds(2, 12)):
            time.sleep(LOAD_S / 4)
            group_disk.cut()
            group[2].kill()
            group_disk.again()
            group.restart(group[2])
        load.finish()
        self.assert_passing(load, (*PASSING, "(connection lost)", "(not connected)"))
        group.assert_equal()
        return group


class PowerDisk:
    """A file system in a file, whose power can be cut; the test is skipped where that may not be."""

    GOING_DOWN = 0x8004587d  # _IOR('X', 125, u32)
    NO_LOG_FLUSH = 2

    def __init__(self, test):
        self.test = test
        self.where = test.scratch / "power"
        self.where.mkdir()
        self.image = test.scratch / "power.image"
        with self.image.open("wb") as out:
            out.truncate(256 << 20)
        if shutil.which("mkfs.ext4") is None:
            test.skipTest("no mkfs.ext4")
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self.image)], check=True, timeout=60)
        done = self.mount()
        if done.returncode != 0:
            test.skipTest(f"no file system may be mounted here: {done.stdout.decode().strip()}")
        test.addCleanup(self.unmount)

    def mount(self):
        return subprocess.run(["mount", "-o", "loop", str(self.image), str(self.where)], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)

    def unmount(self):
        return subprocess.run(["umount", str(self.where)], check=False, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=30).returncode == 0

    def cut(self):
        fd = os.open(self.where, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, self.GOING_DOWN, struct.pack("I", self.NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def again(self):
        wait_until(self.unmount, "the file system to be unmounted")
        done = self.mount()
        self.test.assertEqual(done.returncode, 0, done.stdout)

if __name__ == "__main__":
    unittest.main()
