"""A recorded workload against a server that is killed, judged by all checkers of tests/check.

    CORDIS_LOAD, CORDIS_CHECK   group_load and history_check   (build/debug/tests/load/...)
"""

import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import time

import harness

LOADS = harness.ROOT / "build" / "debug" / "tests" / "load"
LOAD = os.environ.get("CORDIS_LOAD", LOADS / "group_load")
CHECK = os.environ.get("CORDIS_CHECK", LOADS / "history_check")
SECONDS = harness.rounds(6, 120)


class Load(harness.TestCase):
    def run_load(self, server, *options):
        """The workload in the background: the process, and where its history goes."""
        path = self.scratch / "history.txt"
        command = [LOAD, "--nodes", f"127.0.0.1:{server.port}", "--out", path,
                   "--seconds", SECONDS, "--seed", harness.SEED, "--pause-ms", 4, *options]
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.kill)
        return process, path

    def judge(self, path, *options):
        """history_check's exit code and words."""
        done = subprocess.run([str(CHECK), *options, str(path)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                              timeout=harness.STEP_S_MAX * harness.rounds(4, 40))
        return done.returncode, done.stdout.decode()

    def finish(self, process):
        said = process.communicate(timeout=SECONDS + harness.STEP_S_MAX * 3)[0].decode()
        self.assertEqual(process.returncode, 0, said)
        self.assertGreater(int(re.search(r"(\d+) operations", said).group(1)), 100, said)
        return said

    def test_killed_and_paused(self):
        server = self.server(port=harness.free_port()).start()
        process, path = self.run_load(server)
        dice = random.Random(harness.SEED)
        end = time.monotonic() + SECONDS - 2
        while time.monotonic() < end:
            time.sleep(dice.uniform(0.2, 1.2))
            if dice.random() < 0.3:
                server.process.send_signal(signal.SIGSTOP)
                time.sleep(dice.uniform(0.1, 1.0))
                server.process.send_signal(signal.SIGCONT)
            else:
                server.kill()
                server.start()
        self.finish(process)
        code, words = self.judge(path)
        self.assertEqual(code, 0, words)

    def test_a_directory_set_back_is_found(self):
        """What the checkers are for: a node that lost acknowledged writes."""
        server = self.server(port=harness.free_port()).start()
        process, path = self.run_load(server)
        time.sleep(1.5)
        server.process.send_signal(signal.SIGSTOP)
        older = pathlib.Path(f"{server.dir}.older")
        shutil.copytree(server.dir, older)
        server.process.send_signal(signal.SIGCONT)
        time.sleep(1.5)
        server.kill()
        shutil.rmtree(server.dir)
        older.rename(server.dir)
        server.start()
        self.finish(process)
        code, words = self.judge(path)
        self.assertEqual(code, 1, words)
        self.assertIn("VIOLATION", words)
        self.assertRegex(words, "lost write|does not show what was done")


if __name__ == "__main__":
    import unittest
    unittest.main()
