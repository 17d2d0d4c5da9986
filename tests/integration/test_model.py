#!/usr/bin/env python3
"""Random commands of several connections against a model of the versioned key space: every answer,
every event of every watch, everything that is still known of the past; the same after a stop, after
kill -9 and after compaction. With tiny checkpoints, so that history comes from the disk.

    CORDIS_TEST_SEED    the seed of the first round (default 1); a failure says which to repeat
    CORDIS_SOAK=1       many rounds
"""
# seconds: 300

import random
import time
import unittest

from harness import SEED, Closed, Push, Status, TestCase, rounds, wait_until
from test_model_kit import KEYS, OK, AnyOf, Change, Map, Model, Words, flat, range_of, same, shown

TINY = {"checkpoint_bytes": 4096, "checkpoint_interval": "50ms", "snapshot_count": 50, "store_write_buffer_bytes": 65536,
        "wal_segment_bytes": 1 << 20}
QUEUED = Status("QUEUED")


class Watch:
    """A KV WATCH and what it must still be told."""

    def __init__(self, db, id, begin, end, options, first):
        self.db, self.id, self.begin, self.end, self.options, self.next = db, id, begin, end, options, first

    def wants(self, event):
        if event.db != self.db or event.key < self.begin or (self.end is not None and event.key >= self.end):
            return False
        return not ("NOPUT" in self.options if event.op == "put" else "NODEL" in self.options)

    def push(self, event):
        value = event.value
        if "KEYSONLY" in self.options:
            value = AnyOf(None, b"")
        items = [b"kvwatch", self.id, event.rev, event.op.encode(), event.key, value, event.create, event.version,
                 event.lease]
        if "PREVKV" in self.options:
            old = event.prev
            items += [AnyOf(None, old.value) if old else None, AnyOf(-1, old.mod) if old else 0]
        return items


class Round:
    """One seed: a server, connections, a model."""

    def __init__(self, test, seed):
        self.test, self.seed = test, seed
        self.r = random.Random(seed)
        self.model = Model()
        self.words = Words(self.r, self.model)
        self.server = test.server(f"data{seed}", **TINY).start()
        self.done = []
        self.early = {}      # pushes that were read while something else was awaited
        self.watches = []
        self.next_watch = 1
        self.pulled = 1      # KV READ and XREAD went on to here
        self.connect()

    def fail(self, text):
        tail = "\n".join(f"    {line}"[:400] for line in self.done[-15:])
        self.test.fail(f"{text}\nagain with: CORDIS_TEST_SEED={self.seed} python3 -m unittest test_model.Random\n"
                       f"the last commands:\n{tail}")

    def check(self, what, got, want):
        if not same(got, want):
            self.fail(f"{what}\n  answers  {got!r}\n  but must {shown(want)!r}"[:6000])

    # --- connections ------------------------------------------------------------------------

    def connect(self):
        self.clients = []
        for db, proto in ((0, 2), (0, 3), (0, 2), (1, 3)):
            client = self.server.client()
            if proto == 3:
                client.cmd("HELLO", 3)
            client.cmd("SELECT", db)
            self.clients.append((db, client))
        self.watchers = []
        for db in (0, 1):
            client = self.server.client()
            client.cmd("HELLO", 3)
            client.cmd("SELECT", db)
            self.watchers.append(client)
        for watch in self.watches:  # they go on where they were
            self.begin_watch(watch)

    def begin_watch(self, watch):
        place = [watch.begin, "END", b"" if watch.end is None else watch.end]
        answer = self.watchers[watch.db].cmd("KV", "WATCH", *place, "FROM", watch.next, *watch.options, "ID", watch.id)
        while isinstance(answer, Push):  # of another watch
            self.early.setdefault(answer[1], []).append(answer)
            answer = self.watchers[watch.db].read()
        self.check("KV WATCH", answer, Map(("id", watch.id), ("revision", self.model.rev)))

    def new_watch(self):
        r, model = self.r, self.model
        db = r.choice([0, 0, 1])
        begin, end, _ = range_of(self.words.range())
        options = [word for word in ("PREVKV", "NOPUT", "NODEL", "KEYSONLY") if r.random() < 0.3]
        first = r.choice([model.rev + 1, r.randrange(max(model.compacted, 1), model.rev + 2)])
        watch = Watch(db, self.next_watch, begin, end, options, first)
        self.next_watch += 1
        self.done.append(f"KV WATCH {begin!r} {end!r} FROM {first} {options}")
        self.begin_watch(watch)
        self.watches.append(watch)

    # --- steps ----------------------------------------------------------------------------------

    def commands(self):
        """A few commands of one connection, sent at once."""
        db, client = self.r.choice(self.clients)
        count = self.r.choice([1, 1, 5, 30])
        script = []
        for _ in range(count):
            kind = self.r.random()
            if kind < 0.6:
                script.append(self.words.op(db))
            elif kind < 0.75:
                script.append(self.words.txn(db))
            else:
                script.append(self.words.lonely())
        self.done += [f"db{db} {flat(words)}" for words in script]
        answers = client.pipeline([flat(words) for words in script])
        for words, got in zip(script, answers):
            self.check(f"{flat(words)}", got, self.model.run(db, words))

    def multi(self):
        r = self.r
        db, client = r.choice(self.clients)
        compares = [self.words.compare(db) for _ in range(r.choice([0, 1, 2]))] if r.random() < 0.5 else None
        lines = [self.words.op(db) for _ in range(r.choice([0, 1, 3, 8]))]
        others = [self.words.op(db) for _ in range(r.choice([0, 1, 3]))] if compares is not None and r.random() < 0.6 else None
        sent = [["MULTI"]]
        if compares is not None:
            sent.append(["TXN", "IF", len(compares), *(word for compare in compares for word in compare)])
        sent += lines
        if others is not None:
            sent += [["TXN", "ELSE"], *others]
        sent.append(["EXEC"])
        self.done += [f"db{db} {words}" for words in sent]
        answers = client.pipeline(sent)
        self.check("MULTI", answers[:-1], [OK] + [QUEUED] * (len(sent) - 2))
        self.check(f"EXEC of {sent}", answers[-1], self.model.run_multi(db, compares, lines, others))

    def watched(self):
        """WATCH: EXEC answers null if and only if something changed."""
        db, client = self.r.choice(self.clients)
        key = self.words.key()
        before = self.version(db, key)
        self.done.append(f"db{db} WATCH {key!r}")
        self.check("WATCH", client.cmd("WATCH", key), OK)
        for _ in range(self.r.choice([0, 1, 1])):
            other_db, other = self.r.choice(self.clients)
            words = self.words.write(other_db)
            self.done.append(f"db{other_db} {words}")
            self.check(f"{words}", other.cmd(*words), self.model.run(other_db, words))
            life_only = words[0] in ("PEXPIRE", "PERSIST") and words[1] == key and other_db == db
        changed = self.version(db, key) != before
        value = self.words.value()
        answers = client.pipeline([["MULTI"], ["SET", key, value], ["EXEC"]])
        self.done.append(f"db{db} MULTI SET {key!r} EXEC, changed={changed}")
        if not changed and answers[-1] is None and life_only:
            return  # a new lifetime of the same kind
        self.check("EXEC", answers[-1], None if changed else [OK])
        if not changed:
            self.model.run(db, ["SET", key, value])

    def version(self, db, key):
        found = self.model.live.get((db, key))
        return (found.mod, found.lease, found.private) if found else None

    def expiry(self):
        """A key, or the keys of a lease, that end now: one revision, op `expire`."""
        r, model = self.r, self.model
        db, client = r.choice(self.clients)
        keys = r.sample(KEYS, r.choice([1, 1, 2, 3]))
        self.done.append(f"db{db} {keys} end")
        if len(keys) == 1:
            self.check("SET", client.cmd("SET", keys[0], "short", "PX", r.choice([1, 5, 30])), OK)
            model.run(db, ["SET", keys[0], b"short", "PX", 1])
            wait_until(lambda: client.cmd("EXISTS", *keys) == 0, "a key to expire")
            change = Change(model)
            change.delete(db, keys[0])
            model.commit(change, "expire")
            return
        lease = self.words.next_lease = self.words.next_lease + 1
        batch = [["LEASE", "GRANT", "PX", 100, "ID", lease]] + [["SET", key, b"short", "LEASE", lease] for key in keys]
        for words, got in zip(batch, client.pipeline(batch)):
            self.check(f"{words}", got, model.run(db, words))
        wait_until(lambda: client.cmd("EXISTS", *keys) == 0, "a lease to end")
        self.lease_ended(lease, "expire")

    def revoke(self):
        lease = self.words.lease()
        if lease in self.model.leases:
            self.done.append(f"LEASE REVOKE {lease}")
            count = sum(key.lease == lease for key in self.model.live.values())
            self.check("LEASE REVOKE", self.clients[0][1].cmd("LEASE", "REVOKE", lease), count)
            self.lease_ended(lease, "del")

    def lease_ended(self, lease, op):
        """The order of the keys inside the revision is the server's affair, and learned from it."""
        model = self.model
        places = {}
        for db, reader in enumerate(self.watchers):
            stream = self.read_pushes_aside(reader, "XREAD", "STREAMS", "__watch__:", model.rev + 1)
            for id, fields in stream[b"__watch__:"] if stream else []:
                places[int(id.split(b"-")[1])] = (db, fields[fields.index(b"key") + 1])
        keys = {at for at, key in model.live.items() if key.lease == lease}
        if len(places) != len(keys) or set(places.values()) != keys:
            self.fail(f"of lease {lease} with keys {keys} ended {places}")
        change = Change(model)
        for n in sorted(places):
            change.delete(*places[n])
        del model.leases[lease]
        model.commit(change, op)

    def read_pushes_aside(self, client, *words):
        client.send(*words)
        while True:
            answer = client.read()
            if not isinstance(answer, Push):
                return answer
            self.early.setdefault(answer[1], []).append(answer)

    def compact(self):
        model = self.model
        if model.rev < model.compacted + 5:
            return
        rev = self.r.randrange(model.compacted + 1, model.rev + 1)
        words = ["KV", "COMPACT", rev] + (["PHYSICAL"] if self.r.random() < 0.5 else [])
        self.done.append(str(words))
        self.check_watches()  # what is compacted cannot be shown any more
        self.check(str(words), self.clients[0][1].cmd(*words), OK)
        model.compacted = rev
        self.pulled = max(self.pulled, rev)
        for watch in self.watches:
            watch.next = max(watch.next, rev)

    def restart(self):
        hash_before = self.clients[0][1].cmd("KV", "HASH")
        self.check_watches()
        if self.r.random() < 0.5:
            self.done.append("-- stopped and started")
            self.server.stop()
        else:
            self.done.append("-- killed and started")
            self.server.kill()
        self.server.start()
        self.connect()
        self.check("KV HASH after the restart", self.clients[0][1].cmd("KV", "HASH"), hash_before)
        self.check_past(20)

    # --- looking ------------------------------------------------------------------------------------

    def check_watches(self):
        for db, client in enumerate(self.watchers):
            watches = [watch for watch in self.watches if watch.db == db]
            # one that still reads history holds it back
            wait_until(lambda: self.read_pushes_aside(client, "KV", "PROGRESS") == self.model.rev, "all events")
            pushes = self.early
            for watch in watches:
                want = [watch.push(event) for event in self.model.since(watch.next) if watch.wants(event)]
                got = [list(push) for push in pushes.pop(watch.id, [])]
                self.check(f"watch {watch.id} of {watch.begin!r}..{watch.end!r} {watch.options} from {watch.next}", got, want)
                watch.next = self.model.rev + 1
        if len(self.watches) > 12:
            watch = self.watches.pop(self.r.randrange(len(self.watches)))
            self.check("KV UNWATCH", self.watchers[watch.db].cmd("KV", "UNWATCH", watch.id), 1)

    def check_pulled(self):
        """KV READ and XREAD from where the last one ended; both must say the same as the model."""
        model = self.model
        for db, client in ((0, self.clients[0][1]), (1, self.clients[3][1])):
            events = [event for event in model.since(self.pulled) if event.db == db]
            got = client.cmd("XREAD", "STREAMS", "__watch__:", f"{self.pulled}")
            if events:
                pairs = next(iter(got.items())) if isinstance(got, dict) else got[0]
                entries = [[id, dict(zip(fields[::2], fields[1::2]))] for id, fields in pairs[1]]
                self.check(f"XREAD from {self.pulled} in db {db}", [id for id, _ in entries],
                           [b"%d-%d" % (event.rev, event.n) for event in events])
                for event, (_, fields) in zip(events, entries):
                    want = {b"op": event.op.encode(), b"key": event.key, b"create": b"%d" % event.create,
                            b"version": b"%d" % event.version, b"lease": b"%d" % event.lease}
                    if event.op == "put":
                        want[b"value"] = event.value
                    if fields != want:
                        self.fail(f"XREAD of {event}: {fields}")
            else:
                self.check(f"XREAD from {self.pulled} in db {db}", got, None)
            got = client.cmd("KV", "READ", b"", "PREFIX", "FROM", self.pulled, "COUNT", 100000)
            want = Map(("next", model.rev + 1),
                       ("events", [Map(("op", e.op.encode()), ("key", e.key), ("value", e.value), ("rev", e.rev),
                                       ("create", e.create), ("version", e.version), ("lease", e.lease)) for e in events]))
            self.check(f"KV READ from {self.pulled} in db {db}", got, want)
        self.pulled = model.rev + 1

    def check_past(self, count):
        """All of the present, and samples of the past."""
        r, model = self.r, self.model
        for db, client in (self.clients[1], self.clients[3]):
            self.check("all keys", client.cmd("KV", "RANGE", b"", "PREFIX"), model.run(db, ["KV", "RANGE", b"", "PREFIX"]))
            revs = {max(model.compacted, 1), model.rev} | {self.words.revision() for _ in range(count)}
            for rev in revs:
                words = ["KV", "RANGE", b"", "PREFIX", "REV", rev]
                self.check(f"{words} compacted={model.compacted}", client.cmd(*words), model.run(db, words))
            for key in r.sample(KEYS, 3):
                begin = r.randrange(max(model.compacted, 1), model.rev + 1)
                end = r.randrange(begin, model.rev + 1)
                for words, want in ((["FROM", begin, "TO", end], model.history(db, key, begin, end)),
                                    ([], model.history(db, key, model.compacted, model.rev))):
                    words = ["KV", "HISTORY", key, *words]
                    self.check(f"{words} compacted={model.compacted}", client.cmd(*words), want[:1000])
        self.check("LEASE LIST", self.clients[0][1].cmd("LEASE", "LIST"), sorted(model.leases))

    def run(self, steps):
        kinds = [self.commands] * 40 + [self.multi] * 12 + [self.watched] * 6 + [self.expiry] * 2 + [self.revoke] + [self.new_watch] * 3 + \
                [self.check_watches] * 3 + [self.check_pulled] * 4 + [self.compact] * 2 + [self.restart]
        for _ in range(steps):
            self.r.choice(kinds)()
        self.check_watches()
        self.check_pulled()
        self.check_past(30)
        self.restart()
        self.check_past(30)
        self.server.stop()


class Random(TestCase):
    def test_random(self):
        for seed in range(SEED, SEED + rounds(8, 300)):
            with self.subTest(seed=seed):
                one = Round(self, seed)
                try:
                    one.run(rounds(220, 500))
                except Closed:
                    one.fail(f"the server closed a connection, exit code {one.server.process.poll()}\n{one.server.said().decode(errors='replace')[-3000:]}")
                finally:
                    one.server.kill()


class Compaction(TestCase):
    """What is forgotten on disk, piece by piece, must not come back, nor stop a start."""

    def check(self, again):
        server = self.server(f"data{int(again)}", checkpoint_interval="10ms").start()
        client = server.client()

        def in_a_pack_of_its_own(*commands):
            client.pipeline(commands)
            time.sleep(0.3)  # the checkpoint of these is written

        # The first version of `a` shares its pack with rows that live; its deletion does not.
        in_a_pack_of_its_own(("SET", "a", 1), *[("SET", f"live{i}", "x" * 50) for i in range(5)])
        in_a_pack_of_its_own(("DEL", "a"))
        if again:
            in_a_pack_of_its_own(("SET", "a", 2))
        in_a_pack_of_its_own(("SET", "z", 1), ("SET", "z", 2))
        self.assertEqual(client.cmd("KV", "COMPACT", client.cmd("KV", "REVISION"), "PHYSICAL"), OK)
        before = client.cmd("KV", "HASH")
        server.stop()
        server.start()
        client = server.client()
        self.assertEqual(client.cmd("GET", "a"), b"2" if again else None)
        self.assertEqual(client.cmd("KV", "HASH"), before)

    def test_deleted(self):
        self.check(False)

    def test_deleted_and_put_again(self):
        self.check(True)


if __name__ == "__main__":
    unittest.main()
