#!/usr/bin/env python3
"""Disks that fail, fill up, lie, or are mixed up: the server refuses or stops and says so in a line;
whatever was answered is there or the refusal names the file. Never silently missing."""

# seconds: 600

import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from harness import (SEED, SOAK, Closed, Error, TestCase, as_map, build_shim, encode, rounds, shim_env,
                     wait_until)

EXIT_START = 1
EXIT_IO = 74
FAIL_CALLS = "pwrite write fdatasync fsync rename ftruncate fallocate unlink"
KEY_COUNT = 15
WRITES = 60
SMALL = {"wal_segment_bytes": "64kb", "checkpoint_bytes": 8192, "snapshot_count": 20,
         "checkpoint_interval": "20ms", "store_write_buffer_bytes": 65536, "disk_reserve_bytes": 0}


class Faults(TestCase):
    def held(self, server, keys):
        with server.client() as client:
            return dict(zip(keys, client.pipeline([("GET", key) for key in keys])))

    def fill(self, server, seed=0, writes=WRITES, each=2000):
        """Writes one by one until done or the server is gone: what was answered, and the last one sent."""
        draw = random.Random(seed)
        answered, last = {}, None
        try:
            with server.client() as client:
                for i in range(writes):
                    key = b"f%d" % draw.randrange(KEY_COUNT)
                    value = b"%d." % i + draw.randbytes(each)
                    last = (key, value)
                    if client.cmd("SET", key, value) == "OK":
                        answered[key] = value
                        last = None
        except (Closed, OSError):
            pass
        return answered, last

    def check(self, server, answered, last=None):
        held = self.held(server, list(answered))
        for key, value in answered.items():
            if held[key] != value and (last is None or last != (key, held[key])):
                self.fail(f"{key} was answered and is not there")

    def one_line(self, server, code):
        """It has ended, with this code, and said why in one line."""
        self.assertEqual(server.process.wait(timeout=20), code, server.text())
        lines = server.lines()
        self.assertEqual(len(lines), 1, server.text())
        server.wait()
        return lines[0]


    def skips_the_checkpoint(self, server, code):
        self.assertEqual(code, 0, server.text())
        self.assertIn("checkpoint skipped", server.text())
        self.assertIn("No space left on device", server.text())


class FailingCalls(Faults):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.mkdtemp(prefix="cordis-shim-")
        cls.addClassCleanup(shutil.rmtree, scratch, ignore_errors=True)
        cls.shim = build_shim(scratch)
        if cls.shim is None:
            raise unittest.SkipTest("no C compiler for the shim")

    def fresh(self, name):
        return self.server(name, wal_backend="thread", **SMALL)

    def note_calls(self, prepare):
        """What a run does, call by call, in order."""
        server = self.fresh("count")
        note = self.scratch / "count.note"
        if prepare:
            server.start()
            self.fill(server, seed=1)
            server.kill()
        server.start(**shim_env(self.shim, server.dir, "NOTE", FAIL_CALLS, note=note))
        self.fill(server, seed=2)
        time.sleep(0.1)
        server.kill()
        shutil.rmtree(server.dir)
        return [line.split(" ", 1) for line in note.read_text().splitlines()]

    @staticmethod
    def kind_of_file(path):
        """wal/wal-.., wal/..tmp, db/rows/..log and so on: what fails alike."""
        path = pathlib.Path(path)
        if path.parent.name == "wal":
            return "segment" if path.name.startswith("wal-") and "." not in path.name else "wal-other"
        if path.parent.name in ("rows", "meta", "packs"):
            return path.parent.name + (path.suffix or path.name.split("-")[0])
        return path.name

    def choose(self, calls, count):
        """Some of each kind of call and file: the first ones, the last one, and drawn ones."""
        draw = random.Random(SEED)
        groups = {}
        for number, (call, path) in enumerate(calls, 1):
            groups.setdefault((call, self.kind_of_file(path)), []).append(number)
        chosen = set()
        for numbers in groups.values():
            chosen.update([numbers[0], draw.choice(numbers)])
        rest = [n for n in range(1, len(calls) + 1) if n not in chosen]
        chosen.update(draw.sample(rest, min(len(rest), max(0, count - len(chosen)))))
        return sorted(chosen)

    def run_one(self, number, kind, prepare):
        server = self.fresh(f"at{number}")
        answered, last = {}, None
        if prepare:
            server.start()
            answered, _ = self.fill(server, seed=1)
            server.kill()
        note = self.scratch / f"at{number}.note"
        server.launch(**shim_env(self.shim, server.dir, kind, FAIL_CALLS, number, note))
        if server.started():
            more, last = self.fill(server, seed=2)
            answered.update(more)
            try:
                server.process.wait(timeout=0.3)
            except subprocess.TimeoutExpired:
                pass
        failed = note.read_text().strip() if note.exists() else ""
        ready = b"ready port=" in server.said()
        code = server.process.poll()
        if code is not None:
            self.assertTrue(failed, server.text())
            self.assertIn(code, (EXIT_IO,) if ready else (EXIT_START, EXIT_IO), (failed, server.text()))
            self.one_line(server, code)
        elif failed:
            call, path = failed.split(" ", 1)
            fatal = call in ("pwrite", "fdatasync") and self.kind_of_file(path) == "segment" \
                or call in ("write", "fdatasync") and self.kind_of_file(path) == ".log"
            self.assertFalse(fatal and kind != "SHORT", f"goes on after {kind} of {failed}")
        server.kill()
        server.start()
        self.check(server, answered, last)
        self.assertEqual(self.fill(server, seed=3, writes=3)[1], None)
        server.kill()
        shutil.rmtree(server.dir)
        return failed

    def sweep(self, prepare, count):
        calls = self.note_calls(prepare)
        kinds = ("EIO", "ENOSPC", "SHORT")
        fired = 0
        chosen = range(1, len(calls) + 1) if SOAK else self.choose(calls, count)
        for i, number in enumerate(chosen):
            for kind in kinds if SOAK else kinds[i % 3:i % 3 + 1]:
                with self.subTest(number=number, kind=kind, call=calls[number - 1]):
                    fired += self.run_one(number, kind, prepare) != ""
        self.assertGreater(fired, len(chosen) // 2)

    def test_new_directory(self):
        self.sweep(False, 36)

    def test_after_a_crash(self):
        self.sweep(True, 30)

    def test_failing_stop(self):
        """The last checkpoint and the end of the log fail like all others: said, and nothing is lost. But
        a checkpoint that finds no room is only left out: the log has it all."""
        def run(kind, at):
            server = self.server(f"stop{at}", wal_backend="thread", checkpoint_interval="1h")
            note = self.scratch / f"stop{at}.note"
            server.launch(**shim_env(self.shim, server.dir, kind, FAIL_CALLS, at, note))
            answered = self.fill(server, writes=5)[0] if server.started() else {}
            calls = len(note.read_text().splitlines()) if note.exists() else 0
            if kind != "NOTE" and calls > 0:  # it failed before
                server.kill()
                return 0, 0
            server.process.send_signal(signal.SIGTERM)
            code = server.process.wait(timeout=20)
            calls_with_stop = len(note.read_text().splitlines()) if note.exists() else 0
            if kind != "NOTE" and calls_with_stop > calls:
                path = pathlib.Path(note.read_text().splitlines()[0].split(" ", 1)[1])
                if kind == "ENOSPC" and path.parent.name in ("rows", "meta", "packs", "db"):
                    self.skips_the_checkpoint(server, code)
                else:
                    self.one_line(server, EXIT_IO)
                server.start()
                self.check(server, answered)
            elif kind != "NOTE":
                self.assertEqual(code, 0, server.text())
            server.kill()
            return calls, calls_with_stop
        before, after = run("NOTE", 0)
        self.assertGreater(after, before)
        failed = 0
        for at in range(before, after + 1):
            for kind in ("EIO", "ENOSPC"):
                begin, end = run(kind, at)
                failed += end > begin
        self.assertGreater(failed, 0)

    def test_lifetimes_of_long_keys_survive(self):
        """A lifetime that comes after the write is a record of its own, named by the key."""
        server = self.fresh("long")
        key = "k" * 4096
        server.start()
        with server.client() as client:
            self.assertEqual(client.cmd("SET", key, "v"), "OK")
            self.assertEqual(client.cmd("EXPIRE", key, 1000), 1)
        server.stop()
        server.start()
        with server.client() as client:
            self.assertGreater(client.cmd("TTL", key), 900)
            self.assertEqual(client.cmd("DEL", key), 1)
        server.stop()
        server.start()
        with server.client() as client:
            self.assertEqual(client.cmd("TTL", key), -2)
        server.stop()

    def test_slow_disk(self):
        """Nothing is answered before its sync, and nothing is lost of what a client still sends."""
        server = self.fresh("slow")
        server.start(**shim_env(self.shim, server.dir / "wal", "DELAY", "fdatasync", delay_us=200000))
        with server.client() as client:
            began = time.monotonic()
            self.assertEqual(client.cmd("SET", "k", "v"), "OK")
            self.assertGreater(time.monotonic() - began, 0.19)
            began = time.monotonic()
            self.assertEqual(set(client.pipeline([("SET", "k", i) for i in range(2000)])), {"OK"})
            self.assertLess(time.monotonic() - began, 10)
        # What is no write, behind one that is not synced yet: in order all the same.
        with server.client() as client:
            answers = client.pipeline([
                ("SET", "n", 0), ("INCR", "n"), ("CLIENT", "REPLY", "ON"), ("INCR", "n"), ("NOSUCH",), ("INCR", "n"),
                ("SELECT", 1), ("GET", "n"), ("SELECT", 0), ("GET", "n"), ("PING",), ("INCR", "n"), ("EXEC",),
                ("WATCH", "n"), ("INCR", "n"), ("MULTI",), ("INCR", "n"), ("EXEC",), ("ECHO", "a"), ("INCR", "n"),
                ("SUBSCRIBE", "c"), ("UNSUBSCRIBE", "c"), ("STRLEN", "n"),
                ("XREAD", "BLOCK", 1, "STREAMS", "__watch__:x", "$"), ("GETDEL", "n"), ("EXISTS", "n"), ("INCR", "n")])
            self.assertEqual(answers, [
                "OK", 1, "OK", 2, "ERR unknown command 'NOSUCH', with args beginning with: ", 3,
                "OK", None, "OK", b"3", "PONG", 4, "ERR EXEC without MULTI",
                "OK", 5, "OK", "QUEUED", None, b"a", 6,
                [b"subscribe", b"c", 1], [b"unsubscribe", b"c", 0], 1, None, b"6", 0, 1])
        # Reads and waits behind writes, and then no more from the client: all is answered.
        with server.client() as client, server.client() as other:
            commands = [("SET", "k", "1"), ("HELLO", "2"), ("INCR", "k"), ("KV", "HISTORY", "k"), ("INCR", "k"),
                        ("RESET",), ("GET", "k")]
            from_client = b"".join(encode(*command) for command in commands)
            client.raw(from_client)
            client.sock.shutdown(1)
            began = time.monotonic()
            self.assertEqual(other.cmd("PING"), "PONG")
            self.assertLess(time.monotonic() - began, 0.15)
            answers = []
            try:
                for _ in commands:
                    answers.append(client.read())
            except Closed:
                self.fail(f"closed after {len(answers)} of {len(commands)} answers")
            self.assertEqual((answers[0], answers[2], answers[4:]), ("OK", 2, [3, "RESET", b"3"]))
        # An answer that was not sent when the signal came is sent before the end.
        with server.client() as client:
            client.send("SET", "last", "v")
            time.sleep(0.05)
            server.stop()
            self.assertEqual(client.read(), "OK")
        server.start()
        self.check(server, {b"last": b"v", b"k": b"3"})


class FullDisk(Faults):
    def mount(self, megabytes):
        where = self.scratch / "small"
        where.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "cordis-test", str(where)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=10)
        if done.returncode != 0:
            self.skipTest(f"may not mount a tmpfs: {done.stdout.decode().strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", str(where)], check=False, timeout=10)
        return where

    def test_reserve(self):
        """Below the reserve growth is refused, what frees or renews passes; it ends by itself."""
        where = self.mount(48)
        server = self.server("small/data", wal_backend="thread", wal_segment_bytes="1mb", disk_reserve_bytes="16mb",
                             store_write_buffer_bytes=65536)
        server.start()
        with server.client() as client:
            lease = as_map(client.cmd("LEASE", "GRANT", 60))["id"]
            self.assertEqual(client.cmd("SET", "kept", "1", "LEASE", lease), "OK")
            self.assertEqual(client.cmd("SET", "gone", "1"), "OK")
            self.assertEqual(client.cmd("SET", "short", "1", "PX", 1500), "OK")
            ballast = where / "ballast"
            ballast.write_bytes(b"x" * (34 << 20))
            wait_until(lambda: isinstance(client.cmd("SET", "a", "b"), Error), "NOSPACE", 10)
            for command in (("SET", "a", "b"), ("APPEND", "a", "b"), ("INCR", "n"), ("KV", "PUT", "a", "b"),
                            ("MSET", "a", "b"), ("TXN", "IF", 0, "THEN", 1, 3, "SET", "a", "b"), ("LEASE", "GRANT", 5)):
                with self.subTest(command=command):
                    self.assertEqual(client.cmd(*command), "NOSPACE database space exceeded")
            client.cmd("MULTI")
            client.cmd("SET", "a", "b")
            answer = client.cmd("EXEC")
            self.assertIn("NOSPACE", str(answer))
            self.assertEqual(client.cmd("GET", "kept"), b"1")
            self.assertEqual(client.cmd("DEL", "gone"), 1)
            self.assertGreater(client.cmd("LEASE", "KEEPALIVE", lease)[0], 50)
            self.assertEqual(client.cmd("KV", "COMPACT", client.cmd("KV", "REVISION")), "OK")
            wait_until(lambda: client.cmd("EXISTS", "short") == 0, "the expiry", 10)
            server.kill()
            server.start()
        with server.client() as client:
            wait_until(lambda: str(client.cmd("SET", "a", "b")).startswith("NOSPACE"), "NOSPACE after a restart", 10)
            self.assertEqual(client.pipeline([("GET", "kept"), ("EXISTS", "gone")]), [b"1", 0])
            ballast.unlink()
            wait_until(lambda: client.cmd("SET", "a", "b") == "OK", "room", 10)
        server.stop()

    @staticmethod
    def fill_up(path):
        """Makes a file of all the room there is."""
        out = os.open(path, os.O_WRONLY | os.O_CREAT)
        try:
            while os.write(out, b"x" * 4096) == 4096:
                pass
        except OSError:
            pass
        os.close(out)

    def test_stop_without_room(self):
        """The checkpoint that a stop would write has no room: it is left out, the next start has all."""
        where = self.mount(24)
        server = self.server("small/data", wal_backend="thread", wal_segment_bytes="4mb", checkpoint_interval="1h",
                             checkpoint_bytes="64mb", disk_reserve_bytes=0)
        server.start()
        answered, last = self.fill(server, writes=1000)
        self.assertIsNone(last)
        for at in range(1, 4):  # LevelDB's torn log is trimmed each time
            self.fill_up(where / "ballast")
            server.process.send_signal(signal.SIGTERM)
            self.skips_the_checkpoint(server, server.process.wait(timeout=20))
            server.kill()
            (where / "ballast").unlink()
            server.start()
            self.check(server, answered)
            more, last = self.fill(server, seed=at, writes=20)
            self.assertIsNone(last)
            answered.update(more)
        server.stop()
        server.start()
        self.check(server, answered)
        server.stop()

    def test_really_full(self):
        """Without a reserve the disk is filled to the last byte: stop or refuse, and lose nothing."""
        where = self.mount(12)
        server = self.server("small/data", wal_backend="thread", **SMALL)
        server.start()
        ballast = where / "ballast"
        self.fill_up(ballast)
        answered, last = self.fill(server, writes=400)
        if server.process.poll() is None:
            server.kill()
        else:
            self.one_line(server, EXIT_IO)
        server.launch()
        if not server.started():
            self.one_line(server, EXIT_START)
        else:
            server.kill()
        ballast.unlink()
        server.start()
        self.check(server, answered, last)
        server.stop()


class Damage(Faults):
    def prepared(self, end):
        """A stopped server's directory, and what it must hold."""
        server = self.server("origin", **SMALL).start()
        answered, _ = self.fill(server, seed=5, writes=300)
        with server.client() as client:
            for i in range(KEY_COUNT):
                key = b"r%d" % i
                answered[key] = b"rest%d" % i
                self.assertEqual(client.cmd("SET", key, answered[key]), "OK")
        if end == "kill":
            time.sleep(1.3)  # until the log proves its own end: before, a damaged end is a torn write
        getattr(server, end)()
        return server, answered

    def verdict(self, origin, answered, harm, what):
        """Starts a damaged copy: all is there, or it says which file and ends."""
        copy = self.server("copy", **SMALL)
        shutil.copytree(origin.dir, copy.dir)
        harm(copy.dir)
        copy.log.unlink(missing_ok=True)
        copy.launch()
        try:
            if copy.started():
                held = self.held(copy, list(answered))
                missing = [key for key, value in answered.items() if held[key] != value]
                self.assertEqual(missing, [], f"silently missing after {what}")
                copy.kill()
                return "harmless"
            code = copy.process.poll()
            self.assertIn(code, (EXIT_START, EXIT_IO), (what, copy.text()[-2000:]))
            line = self.one_line(copy, code)
            self.assertIn(str(copy.dir), line, what)
            return "refused"
        finally:
            copy.kill()
            shutil.rmtree(copy.dir)

    @staticmethod
    def overwrite(path, offset, data):
        with path.open("r+b") as out:
            out.seek(offset)
            out.write(data)

    def random_harm(self, draw, files):
        """(what, function of the directory)"""
        name, size = draw.choice(files)
        kind = draw.choice(("flip", "flip", "zero", "cut"))
        used = self.used[name]
        offset = draw.randrange(max(used, 1))
        if kind == "flip":
            def harm(directory):
                path = directory / name
                byte = path.read_bytes()[offset]
                self.overwrite(path, offset, bytes([byte ^ (1 << draw_bit)]))
            draw_bit = draw.randrange(8)
        elif kind == "zero":
            bytes_ = draw.choice((512, 4096, 32768))
            offset -= offset % 512
            bytes_ = min(bytes_, size - offset)

            def harm(directory):
                self.overwrite(directory / name, offset, b"\0" * bytes_)
        else:
            def harm(directory):
                os.truncate(directory / name, offset)
        return f"{kind} of {name} at {offset} ({used} of {size} bytes used)", harm

    def damage(self, end, folder, count):
        origin, answered = self.prepared(end)
        files, self.used = [], {}
        for path in sorted((origin.dir / folder).rglob("*")):
            if path.is_dir() or path.name in ("LOCK", "LOG", "LOG.old") or path.stat().st_size == 0:
                continue
            name = path.relative_to(origin.dir)
            files.append((name, path.stat().st_size))
            self.used[name] = len(path.read_bytes().rstrip(b"\0"))
        self.assertTrue(files)
        draw = random.Random(SEED)
        seen = {"harmless": 0, "refused": 0}
        for _ in range(count):
            what, harm = self.random_harm(draw, files)
            with self.subTest(what=what):
                seen[self.verdict(origin, answered, harm, what)] += 1
        return seen

    def test_wal_after_a_kill(self):
        seen = self.damage("kill", "wal", rounds(24, 1500))
        self.assertGreater(seen["refused"], 0)

    def test_wal_after_a_stop(self):
        self.damage("stop", "wal", rounds(10, 500))

    def test_db_after_a_kill(self):
        seen = self.damage("kill", "db", rounds(24, 1500))
        self.assertGreater(seen["refused"], 0)

    def test_db_after_a_stop(self):
        self.damage("stop", "db", rounds(12, 500))

    def test_missing_and_swapped(self):
        origin, answered = self.prepared("kill")
        other = self.server("other", **SMALL).start()
        self.fill(other, seed=9, writes=100)
        other.kill()

        def swap(folder):
            def harm(directory):
                path = directory / folder
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                source = other.dir / folder
                shutil.copytree(source, path) if source.is_dir() else shutil.copy(source, path)
            return harm

        def gone(folder):
            def harm(directory):
                path = directory / folder
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            return harm

        def each_file_gone(folder, number):
            def harm(directory):
                names = sorted(p for p in (directory / folder).iterdir() if p.name not in ("LOCK", "LOG", "LOG.old"))
                names[number % len(names)].unlink()
            return harm
        for folder in ("wal", "db", "db/rows", "db/meta", "db/packs", "identity"):
            with self.subTest(gone=folder):
                self.assertEqual(self.verdict(origin, answered, gone(folder), f"{folder} gone"), "refused")
            with self.subTest(swapped=folder):
                self.assertEqual(self.verdict(origin, answered, swap(folder), f"{folder} swapped"), "refused")
        for folder in ("wal", "db/rows", "db/meta", "db/packs"):
            for number in range(8):
                with self.subTest(one_of=folder, number=number):
                    self.verdict(origin, answered, each_file_gone(folder, number), f"file {number} of {folder} gone")

    def test_identity(self):
        origin, answered = self.prepared("stop")
        for offset in (0, 20, 60):
            def harm(directory, offset=offset):
                byte = (directory / "identity").read_bytes()[offset]
                self.overwrite(directory / "identity", offset, bytes([byte ^ 1]))
            with self.subTest(offset=offset):
                self.assertEqual(self.verdict(origin, answered, harm, f"flip in identity at {offset}"), "refused")

    def test_read_only_directory(self):
        where = self.scratch / "frozen"
        where.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "cordis-test", str(where)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=10)
        if done.returncode == 0:
            self.addCleanup(subprocess.run, ["umount", "-l", str(where)], check=False, timeout=10)
        elif os.geteuid() == 0:
            self.skipTest("root may write everywhere, and may not mount here")
        else:
            where.chmod(0o500)
        for name in ("frozen", "frozen/data"):
            server = self.server(name).launch()
            self.assertFalse(server.started())
            self.assertIn(str(where), self.one_line(server, EXIT_START))


if __name__ == "__main__":
    unittest.main()
