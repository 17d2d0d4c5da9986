"""The versioned key space in its simplest form, and random commands for it: for test_model.py.

A model holds every event there ever was. `run` says what a command must answer and what it
changes; a transaction is a tree of `run` over one `Change`.
"""

from harness import Error, Status

OK = Status("OK")
NOT_INT = Error("ERR value is not an integer or out of range")
NOLEASE = Error("NOLEASE requested lease not found")
FAR_MS = 10**9   # a time to live that does not end during a test


class Map:
    """A map in a reply: a list of pairs in RESP2."""

    def __init__(self, *pairs):
        self.pairs = pairs


class AnyOf:
    """One of these is right."""

    def __init__(self, *options):
        self.options = options


class Atleast(int):
    """A number that is this or up to FAR_MS."""


def same(got, want):
    if isinstance(want, AnyOf):
        return any(same(got, option) for option in want.options)
    if isinstance(want, Map):
        flat = [item for pair in got.items() for item in pair] if isinstance(got, dict) else got
        return (isinstance(flat, list) and len(flat) == 2 * len(want.pairs) and
                all(flat[2 * i] == name.encode() and same(flat[2 * i + 1], value)
                    for i, (name, value) in enumerate(want.pairs)))
    if isinstance(want, Atleast):
        return isinstance(got, int) and want <= got <= FAR_MS
    if isinstance(want, list):
        return isinstance(got, list) and len(got) == len(want) and all(map(same, got, want))
    return type(got) is type(want) and got == want


def shown(want):
    """For people."""
    if isinstance(want, Map):
        return {name: shown(value) for name, value in want.pairs}
    if isinstance(want, list):
        return [shown(item) for item in want]
    if isinstance(want, AnyOf):
        return ("any of", *map(shown, want.options))
    return f"-{want}" if isinstance(want, Error) else want


class Key:
    """A live version."""

    def __init__(self, value, create, mod, version, lease, private):
        self.value, self.create, self.mod, self.version = value, create, mod, version
        self.lease, self.private = lease, private

    def copy(self, **more):
        made = Key(self.value, self.create, self.mod, self.version, self.lease, self.private)
        made.__dict__.update(more)
        return made

    def kv(self, name, keysonly=False):
        return kv_map(name, AnyOf(b"", None) if keysonly else self.value, self.create, self.mod, self.version, self.lease)


def kv_map(name, value, create, mod, version, lease):
    return Map(("key", name), ("value", value), ("type", b"string"), ("create", create), ("mod", mod),
               ("version", version), ("lease", lease))


class Event:
    def __init__(self, rev, n, op, db, key, value, create, version, lease, prev):
        self.rev, self.n, self.op, self.db, self.key, self.value = rev, n, op, db, key, value
        self.create, self.version, self.lease, self.prev = create, version, lease, prev

    def __repr__(self):
        return f"{self.rev}-{self.n} {self.op} {self.db}:{self.key!r} {self.value!r} v{self.version} lease={self.lease}"


class Refused(Exception):
    """A command's error; nothing was changed by it."""


def refuse(text):
    raise Refused(Error(text))


def integer(value):
    text = value.decode("latin-1")
    digits = text[1:] if text.startswith("-") else text
    if not digits.isascii() or not digits.isdigit() or (len(digits) > 1 and digits[0] == "0") or text == "-0":
        raise Refused(NOT_INT)
    if not -2**63 <= int(text) < 2**63:
        raise Refused(NOT_INT)
    return int(text)


class Change:
    """What one revision will have changed."""

    def __init__(self, model):
        self.model = model
        self.rev = model.rev + 1
        self.keys = {}        # (db, key) -> Key or None, for what was put or deleted
        self.lives = {}       # (db, key) -> (lease, private), for what only changed its lifetime
        self.order = []
        self.deleted = set()  # a put after it makes the key anew
        self.sequences = 0

    def saved(self):
        return dict(self.keys), dict(self.lives), list(self.order), set(self.deleted), self.sequences

    def restore(self, saved):
        self.keys, self.lives, self.order, self.deleted, self.sequences = saved

    def get(self, db, key):
        at = (db, key)
        found = self.keys[at] if at in self.keys else self.model.live.get(at)
        if found is not None and at in self.lives:
            lease, private = self.lives[at]
            return found.copy(lease=lease, private=private)
        return found

    def names(self, db, begin, end):
        keys = {key for at_db, key in self.model.live if at_db == db} | {key for at_db, key in self.keys if at_db == db}
        return sorted(key for key in keys if key >= begin and (end is None or key < end) and self.get(db, key) is not None)

    def _touch(self, at):
        if at in self.order:
            self.order.remove(at)
        self.order.append(at)

    def put(self, db, key, value, lease=0, private=False):
        at = (db, key)
        base = None if at in self.deleted else self.model.live.get(at)
        if lease and lease not in self.model.leases:
            raise Refused(NOLEASE)
        self.lives.pop(at, None)
        self.keys[at] = Key(value, base.create if base else self.rev, self.rev, base.version + 1 if base else 1, lease, private)
        self._touch(at)

    def keep(self, db, key, value):
        """A put that keeps the lifetime."""
        old = self.get(db, key)
        self.put(db, key, value, old.lease if old else 0, old.private if old else False)

    def life(self, db, key, lease, private):
        self.lives[(db, key)] = (lease, private)

    def delete(self, db, key):
        if self.get(db, key) is None:
            return 0
        at = (db, key)
        self.lives.pop(at, None)
        self.keys[at] = None
        self.deleted.add(at)
        self._touch(at)
        return 1

    def changed(self):
        return any(self.keys[at] is not None or at in self.model.live for at in self.order)


class Model:
    def __init__(self):
        self.rev = 1
        self.compacted = 0
        self.live = {}
        self.events = []
        self.leases = {}   # id -> milliseconds
        self.begin_of = {} # revision -> place of its first event

    # --- applying --------------------------------------------------------------------------

    def commit(self, change, op="del"):
        for at, (lease, private) in change.lives.items():
            if at in self.live and at not in change.keys:
                self.live[at] = self.live[at].copy(lease=lease, private=private)
            elif change.keys.get(at) is not None:
                change.keys[at] = change.keys[at].copy(lease=lease, private=private)
        if not change.changed():
            return
        self.rev = change.rev
        self.begin_of[self.rev] = len(self.events)
        n = 0
        for at in change.order:
            new, old = change.keys[at], self.live.get(at)
            if new is None and old is None:
                continue
            n += 1
            if new is None:
                event = Event(self.rev, n, op, *at, None, 0, 0, old.lease, old)
                del self.live[at]
            else:
                event = Event(self.rev, n, "put", *at, new.value, new.create, new.version, new.lease, old)
                self.live[at] = new
            self.events.append(event)

    def run(self, db, words):
        """A command on its own: its answer; what it changes is done."""
        change = Change(self)
        try:
            answer = self.element(change, db, words, True)
        except Refused as refused:
            return refused.args[0]
        self.commit(change)
        return answer() if callable(answer) else answer

    def element(self, change, db, words, alone=False):
        name = words[0].lower() if words[0] not in ("KV", "LEASE") else f"{words[0]}_{words[1]}".lower()
        return getattr(self, f"do_{name}")(change, db, words, alone)

    def present(self, change, alone):
        """A revision in an answer: as it will be."""
        if alone:
            return lambda: self.rev
        return AnyOf(change.rev, change.rev - 1)

    # --- strings -----------------------------------------------------------------------------

    def do_get(self, change, db, words, _):
        found = change.get(db, words[1])
        return found.value if found else None

    def do_mget(self, change, db, words, _):
        return [self.do_get(change, db, ["GET", key], False) for key in words[1:]]

    def do_strlen(self, change, db, words, _):
        found = change.get(db, words[1])
        return len(found.value) if found else 0

    def do_exists(self, change, db, words, _):
        return sum(change.get(db, key) is not None for key in words[1:])

    def do_pttl(self, change, db, words, _):
        found = change.get(db, words[1])
        return -2 if found is None else Atleast(1) if found.lease or found.private else -1

    def do_set(self, change, db, words, _):
        _, key, value, *options = words
        old = change.get(db, key)
        met, get, lease, private = True, False, 0, False
        i = 0
        while i < len(options):
            word = options[i]
            i += 1
            if word == "NX":
                met = old is None
            elif word == "XX":
                met = old is not None
            elif word == "IFEQ":
                met = old is not None and old.value == options[i]
                i += 1
            elif word == "IFNE":
                met = old is None or old.value != options[i]
                i += 1
            elif word == "GET":
                get = True
            elif word == "KEEPTTL":
                lease, private = (old.lease, old.private) if old else (0, False)
            elif word == "PX":
                private = True
                i += 1
            else:
                assert word == "LEASE"
                lease = options[i]
                i += 1
        if met:
            change.put(db, key, value, lease, private)
        if get:
            return old.value if old else None
        return OK if met else None

    def do_setnx(self, change, db, words, _):
        return 1 if self.do_set(change, db, ["SET", *words[1:], "NX"], False) == OK else 0

    def do_getset(self, change, db, words, _):
        return self.do_set(change, db, ["SET", *words[1:], "GET"], False)

    def do_getdel(self, change, db, words, _):
        value = self.do_get(change, db, words, False)
        change.delete(db, words[1])
        return value

    def do_mset(self, change, db, words, _):
        for i in range(1, len(words), 2):
            change.put(db, words[i], words[i + 1])
        return OK

    def do_msetnx(self, change, db, words, _):
        if any(change.get(db, key) for key in words[1::2]):
            return 0
        self.do_mset(change, db, words, False)
        return 1

    def do_append(self, change, db, words, _):
        old = change.get(db, words[1])
        value = (old.value if old else b"") + words[2]
        change.keep(db, words[1], value)
        return len(value)

    def do_incrby(self, change, db, words, _):
        old = change.get(db, words[1])
        value = integer(old.value if old else b"0") + words[2]
        if not -2**63 <= value < 2**63:
            refuse("ERR increment or decrement would overflow")
        change.keep(db, words[1], b"%d" % value)
        return value

    def do_delifeq(self, change, db, words, _):
        old = change.get(db, words[1])
        return change.delete(db, words[1]) if old and old.value == words[2] else 0

    # --- keys ----------------------------------------------------------------------------------

    def do_del(self, change, db, words, _):
        return sum(change.delete(db, key) for key in words[1:])

    def do_rename(self, change, db, words, _):
        _, source, target = words
        old = change.get(db, source)
        if old is None:
            refuse("ERR no such key")
        if source != target:
            change.delete(db, source)
            change.put(db, target, old.value, old.lease, old.private)
        return OK

    def do_renamenx(self, change, db, words, _):
        if change.get(db, words[1]) is None:
            refuse("ERR no such key")
        if change.get(db, words[2]) is not None:
            return 0
        self.do_rename(change, db, words, False)
        return 1

    def do_copy(self, change, db, words, _):
        old = change.get(db, words[1])
        if old is None or ("REPLACE" not in words[3:] and change.get(db, words[2]) is not None):
            return 0
        change.put(db, words[2], old.value, old.lease, old.private)
        return 1

    def do_pexpire(self, change, db, words, _):
        if change.get(db, words[1]) is None:
            return 0
        if words[2] <= 0:
            return change.delete(db, words[1])
        change.life(db, words[1], 0, True)
        return 1

    def do_persist(self, change, db, words, _):
        old = change.get(db, words[1])
        if old is None or not (old.lease or old.private):
            return 0
        change.life(db, words[1], 0, False)
        return 1

    # --- KV --------------------------------------------------------------------------------------

    def do_kv_revision(self, change, _, __, alone):
        return self.rev if alone else AnyOf(change.rev, change.rev - 1)

    def do_kv_get(self, change, db, words, alone):
        if "REV" in words:
            return self.get_at(db, words[2], words[4])
        found = change.get(db, words[2])
        return found.kv(words[2]) if found else None

    def do_kv_put(self, change, db, words, alone):
        _, _, key, value, *options = words
        old = change.get(db, key)
        met, prev, keep_value, keep_lease, lease = True, False, False, False, 0
        i = 0
        while i < len(options):
            word = options[i]
            i += 1
            if word == "NX":
                met = old is None
            elif word == "XX":
                met = old is not None
            elif word == "IFEQ":
                met = old is not None and old.value == options[i]
                i += 1
            elif word == "IFMOD":
                met = (old.mod if old else 0) == options[i]
                i += 1
            elif word == "PREVKV":
                prev = True
            elif word == "IGNOREVALUE":
                keep_value = True
            elif word == "IGNORELEASE":
                keep_lease = True
            else:
                assert word == "LEASE"
                lease = options[i]
                i += 1
        was = old.kv(key) if old else None
        if old is None and (keep_value or keep_lease):
            refuse("ERR key not found")
        if met:
            value = old.value if keep_value else value
            if keep_lease:
                change.keep(db, key, value)
            else:
                change.put(db, key, value, lease)
        rest = [("applied", int(met))] + ([("prev", was)] if prev or not met else [])
        return lambda: Map(("revision", self.rev), *rest) if alone else self._with_rev(change, rest)

    @staticmethod
    def _with_rev(change, rest):
        return AnyOf(Map(("revision", change.rev), *rest), Map(("revision", change.rev - 1), *rest))

    def do_kv_del(self, change, db, words, alone):
        begin, end, rest = range_of(words[2:])
        names = change.names(db, begin, end)
        if rest[:1] == ["IFEQ"]:
            names = [key for key in names if change.get(db, key).value == rest[1]]
        elif rest[:1] == ["IFMOD"]:
            names = [key for key in names if change.get(db, key).mod == rest[1]]
        prevs = [change.get(db, key).kv(key) for key in names]
        for key in names:
            change.delete(db, key)
        more = [("deleted", len(names))] + ([("prevs", prevs)] if "PREVKV" in rest else [])
        return lambda: Map(("revision", self.rev), *more) if alone else self._with_rev(change, more)

    def do_kv_seq(self, change, db, words, _):
        key = words[2] + b"%016d%04d" % (change.rev, change.sequences)
        change.put(db, key, words[3])
        change.sequences += 1
        return Map(("key", key), ("revision", change.rev)) if _ else \
            AnyOf(Map(("key", key), ("revision", change.rev)), Map(("key", key), ("revision", change.rev - 1)))

    def do_kv_range(self, change, db, words, alone):
        begin, end, rest = range_of(words[2:])
        options = dict(zip(rest, rest[1:]))
        if "REV" in options:
            rev = options["REV"]
            problem = self.problem(rev)
            if problem:
                return problem
            found = [(key, version) for key, version in self.state_at(db, rev) if key >= begin and (end is None or key < end)]
            items = [self.old_kv(db, key, version, "KEYSONLY" in rest) for key, version in found]
            versions = [version for _, version in found]
        else:
            names = change.names(db, begin, end)
            versions = [change.get(db, key) for key in names]
            items = [version.kv(key, "KEYSONLY" in rest) for key, version in zip(names, versions)]
        count = len(items)
        pairs = list(zip(versions, items))
        for word, field, least in (("MINMOD", "mod", True), ("MAXMOD", "mod", False), ("MINCREATE", "create", True),
                                   ("MAXCREATE", "create", False)):
            if word in options:
                pairs = [(v, i) for v, i in pairs
                         if (getattr(v, field) >= options[word] if least else getattr(v, field) <= options[word])]
        if "SORT" in options:
            field = options["SORT"].lower()
            if field != "key":
                pairs.sort(key=lambda pair: getattr(pair[0], field), reverse=False)
            if "DESC" in rest:
                pairs = pairs[::-1]
        items = [item for _, item in pairs]
        limit = options.get("LIMIT", 0)
        more = int(bool(limit) and len(items) > limit)
        if limit:
            items = items[:limit]
        if "COUNTONLY" in rest:
            items, more = [], AnyOf(0, 1)
        body = [("count", count), ("more", more), ("kvs", items)]
        if alone:
            return Map(("revision", self.rev), *body)
        return self._with_rev(change, body)

    # --- leases ----------------------------------------------------------------------------------

    def do_lease_grant(self, _, __, words, ___):
        if words[5] in self.leases:
            refuse("ERR lease already exists")
        self.leases[words[5]] = words[3]
        return Map(("id", words[5]), ("ttl", words[3]))

    def do_lease_revoke(self, _, __, words, ___):
        assert words[2] not in self.leases  # else: Round.revoke
        raise Refused(NOLEASE)

    def do_lease_attach(self, change, db, words, _):
        if words[2] not in self.leases:
            raise Refused(NOLEASE)
        found = {key for key in words[3:] if change.get(db, key)}
        for key in found:
            change.life(db, key, words[2], False)
        return AnyOf(len(found), sum(key in found for key in words[3:]))

    def do_lease_keepalive(self, _, __, words, ___):
        return [self.leases.get(id, -2) for id in words[3:]]

    # --- transactions ------------------------------------------------------------------------------

    def holds(self, change, db, compare):
        """None, or the key that does not hold and what it is."""
        target = compare[0]
        if target in ("EXISTS", "MISSING"):
            found = change.get(db, compare[1])
            return None if (found is not None) == (target == "EXISTS") else (compare[1], found)
        begin, end, (op, number) = range_of(compare[1:])
        names = change.names(db, begin, end) if end != begin + b"\0" else [begin]
        for key in names or [begin]:
            found = change.get(db, key) if names else None
            if target == "VALUE":
                good = found is not None and compared(found.value, op, number)
            else:
                good = compared(getattr(found, target.lower()) if found else 0, op, number)
            if not good:
                return key, found
        return None

    def do_txn(self, change, db, words, alone):
        _, compares, then, other = words
        if alone and repeats(words):
            refuse("ERR duplicate key given in txn request")
        failed = None
        for i, compare in enumerate(compares):
            miss = self.holds(change, db, compare)
            if miss is not None:
                failed = [i, miss[1].kv(miss[0]) if miss[1] else None]
                break
        answers = [self.element(change, db, op) for op in (then if failed is None else other)]
        answers = [answer() if callable(answer) else answer for answer in answers]
        head = [("succeeded", int(failed is None))]
        tail = [("failed", failed), ("responses", answers)]
        if alone:
            return lambda: Map(*head, ("revision", self.rev), *tail)
        return AnyOf(*(Map(*head, ("revision", rev), *tail) for rev in (change.rev, change.rev - 1)))

    def run_multi(self, db, compares, lines, others):
        """MULTI ... EXEC: what EXEC answers."""
        change = Change(self)
        met = compares is None or all(self.holds(change, db, compare) is None for compare in compares)
        answers = [] if compares is None else [int(met)]
        for branch, taken in ((lines, met), (others, not met)):
            if branch is None:
                continue
            if branch is others:
                answers.append(int(taken))
            for words in branch:
                if not taken:
                    answers.append(None)
                    continue
                saved = change.saved()
                try:
                    answer = self.element(change, db, words)
                    answers.append(answer() if callable(answer) else answer)
                except Refused as refused:
                    change.restore(saved)
                    answers.append(refused.args[0])
        self.commit(change)
        return answers

    # --- history --------------------------------------------------------------------------------------

    def problem(self, rev):
        if rev > self.rev:
            return Error(f"FUTURE required revision {rev} is a future revision, current is {self.rev}")
        if rev < self.compacted:
            return Error(f"COMPACTED required revision {rev} has been compacted, oldest is {self.compacted}")
        return None

    def state_at(self, db, rev):
        state = {}
        for event in self.events:
            if event.rev > rev:
                break
            if event.db != db:
                continue
            if event.op == "put":
                state[event.key] = Key(event.value, event.create, event.rev, event.version, event.lease, False)
            else:
                state.pop(event.key, None)
        return sorted(state.items())

    def old_kv(self, db, key, version, keysonly=False):
        """The lifetime is no part of the revisions: the newest version shows the present one."""
        live = self.live.get((db, key))
        value = AnyOf(b"", None) if keysonly else version.value
        kvs = [kv_map(key, value, version.create, version.mod, version.version, lease)
               for lease in {version.lease, live.lease if live and live.mod == version.mod else version.lease}]
        return AnyOf(*kvs)

    def get_at(self, db, key, rev):
        problem = self.problem(rev)
        if problem:
            return problem
        for found, version in self.state_at(db, rev):
            if found == key:
                return self.old_kv(db, key, version)
        return None

    def history(self, db, key, begin, end):
        return [Map(("op", event.op.encode()), ("key", event.key), ("value", event.value), ("rev", event.rev),
                    ("create", event.create), ("version", event.version), ("lease", event.lease))
                for event in self.since(begin) if event.rev <= end and event.db == db and event.key == key]

    def since(self, rev):
        """The events of revision rev and later."""
        while rev <= self.rev and rev not in self.begin_of:
            rev += 1
        return self.events[self.begin_of[rev]:] if rev <= self.rev else []


def range_of(words):
    """begin, end (None: to the end), the words behind."""
    if len(words) > 1 and words[1] == "PREFIX":
        return words[0], above(words[0]), list(words[2:])
    if len(words) > 2 and words[1] == "END":
        return words[0], words[2] if words[2] != b"" else None, list(words[3:])
    return words[0], words[0] + b"\0", list(words[1:])


NEUTRAL = ("PEXPIRE", "PERSIST", "GET", "MGET", "EXISTS", "STRLEN", "PTTL")


def changes(words):
    """What a command in a transaction puts, deletes, deletes as a range."""
    name = words[0]
    if name == "KV":
        if words[1] == "PUT":
            return [words[2]], [], []
        if words[1] == "DEL":
            begin, end, _ = range_of(words[2:])
            return [], [words[2]] if end == begin + b"\0" else [], [] if end == begin + b"\0" else [(begin, end)]
        return [], [], []
    if name in ("DEL", "DELIFEQ", "GETDEL"):
        return [], words[1:2] if name != "DEL" else words[1:], []
    if name in ("MSET", "MSETNX"):
        return words[1::2], [], []
    if name in ("RENAME", "RENAMENX", "COPY"):
        return words[1:3], [], []
    return ([], [], []) if name in NEUTRAL else (words[1:2], [], [])


def repeats(txn):
    """A branch puts a key twice, or puts and deletes it."""
    for branch in txn[2:]:
        puts, deletes, ranges = [], [], []
        for op in branch:
            if op[0] == "TXN":
                if repeats(op):
                    return True
                continue
            for all_of, more in zip((puts, deletes, ranges), changes(op)):
                all_of += more
        if len(set(puts)) < len(puts) or set(puts) & set(deletes):
            return True
        if any(key >= begin and (end is None or key < end) for key in puts for begin, end in ranges):
            return True
    return False


def above(prefix):
    prefix = prefix.rstrip(b"\xff")
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else None


def compared(a, op, b):
    return {"=": a == b, "!=": a != b, "<": a < b, ">": a > b}[op]


# --- random commands -------------------------------------------------------------------------------


KEYS = [b"a", b"b", b"c", b"dir/1", b"dir/2", b"dir/3", b"dir/sub/x", b"e\0\xff", b"\xff", b""]


class Words:
    """Random commands, in words that the model reads."""

    def __init__(self, r, model):
        self.r = r
        self.model = model
        self.next_lease = 1000
        self.big = 0

    def key(self):
        return self.r.choice(KEYS)

    def value(self):
        r = self.r
        kind = r.random()
        if kind < 0.4:
            return b"%d" % r.randrange(-20, 20)
        if kind < 0.45 and self.big < 60:
            self.big += 1
            return r.randbytes(r.choice([3000, 20000, 100000]))
        return r.choice([b"x", b"", b"text", b"\r\n\0", b"v" * r.randrange(300)])

    def old_value(self, db, key):
        found = self.model.live.get((db, key))
        return found.value if found and self.r.random() < 0.7 else self.value()

    def old_mod(self, db, key):
        found = self.model.live.get((db, key))
        return found.mod if found and self.r.random() < 0.7 else self.r.choice([0, 1, 0, self.model.rev])

    def lease(self):
        leases = list(self.model.leases)
        return self.r.choice(leases) if leases and self.r.random() < 0.9 else 999

    def range(self):
        r = self.r
        kind = r.random()
        if kind < 0.4:
            return [r.choice([b"", b"d", b"dir/", b"dir/sub", b"\xff", b"e"]), "PREFIX"]
        if kind < 0.7:
            return [self.key(), "END", r.choice([b"", self.key(), self.key()])]
        return [self.key()]

    def write(self, db):
        r, key, value = self.r, self.key(), self.value()
        options = []
        kind = r.randrange(26)
        if kind < 4:
            options += r.choice([[], [], ["NX"], ["XX"], ["IFEQ", self.old_value(db, key)], ["IFNE", self.old_value(db, key)]])
            options += r.choice([[], [], ["GET"]])
            options += r.choice([[], [], ["KEEPTTL"], ["LEASE", self.lease()], ["PX", FAR_MS]])
            return ["SET", key, value, *options]
        if kind < 8:
            options += r.choice([[], [], ["NX"], ["XX"], ["IFEQ", self.old_value(db, key)], ["IFMOD", self.old_mod(db, key)]])
            options += r.choice([[], ["PREVKV"]])
            life = r.choice([[], [], ["LEASE", self.lease()], ["IGNORELEASE"], ["IGNOREVALUE"], ["IGNOREVALUE", "IGNORELEASE"]])
            return ["KV", "PUT", key, b"" if "IGNOREVALUE" in life else value, *options, *life]
        if kind < 10:
            return ["KV", "DEL", *self.range(), *r.choice([[], ["PREVKV"]])] if r.random() < 0.5 else \
                ["KV", "DEL", key, *r.choice([[], ["PREVKV"], ["IFEQ", self.old_value(db, key)], ["IFMOD", self.old_mod(db, key)]])]
        return [
            lambda: ["APPEND", key, value[:50]], lambda: ["INCRBY", key, r.randrange(-5, 9)], lambda: ["INCRBY", b"a", 1],
            lambda: ["SETNX", key, value], lambda: ["GETSET", key, value], lambda: ["GETDEL", key],
            lambda: ["MSET", key, value, self.key(), self.value()], lambda: ["MSETNX", key, value, self.key(), self.value()],
            lambda: ["DEL", key, self.key()], lambda: ["RENAME", key, self.key()], lambda: ["RENAMENX", key, self.key()],
            lambda: ["COPY", key, r.choice([other for other in KEYS if other != key]), *r.choice([[], ["REPLACE"]])],
            lambda: ["PEXPIRE", key, r.choice([FAR_MS, FAR_MS, -1])], lambda: ["PERSIST", key],
            lambda: ["DELIFEQ", key, self.old_value(db, key)],
            lambda: ["KV", "SEQ", b"seq/", value] if r.random() < 0.3 else ["SET", key, value],
        ][kind - 10]()

    def read(self):
        r = self.r
        return r.choice([
            lambda: ["GET", self.key()], lambda: ["MGET", self.key(), self.key()], lambda: ["KV", "GET", self.key()],
            lambda: ["EXISTS", self.key(), self.key()], lambda: ["STRLEN", self.key()], lambda: ["PTTL", self.key()],
            lambda: ["KV", "REVISION"],
            lambda: ["KV", "RANGE", *self.range(), *r.choice([[], ["LIMIT", r.randrange(5)], ["KEYSONLY"], ["COUNTONLY"]])]])()

    def lonely(self):
        """What is not allowed inside a transaction."""
        r = self.r
        kind = r.randrange(10)
        if kind == 0:
            self.next_lease += 1
            return ["LEASE", "GRANT", "PX", FAR_MS, "ID", self.next_lease]
        if kind == 1:
            return ["LEASE", "REVOKE", 999]
        if kind == 2:
            return ["LEASE", "ATTACH", self.lease(), self.key(), self.key()]
        if kind == 3:
            return ["LEASE", "KEEPALIVE", "PX", self.lease(), self.lease()]
        if kind < 7:
            edge = [r.choice(["MINMOD", "MAXMOD", "MINCREATE", "MAXCREATE"]), self.revision()]
            return ["KV", "RANGE", *self.range(), *r.choice([edge, edge + ["LIMIT", 3]] if r.random() < 0.5 else
                                                            [["SORT", "KEY", "DESC"], ["SORT", "KEY", "ASC", "LIMIT", 2]])]
        if kind == 7:
            return ["KV", "GET", self.key(), "REV", self.revision()]
        return ["KV", "RANGE", *self.range(), "REV", self.revision(), *r.choice([[], ["LIMIT", 3], ["KEYSONLY"], ["COUNTONLY"]])]

    def revision(self):
        """Mostly one that is there."""
        r, model = self.r, self.model
        if r.random() < 0.05:
            return model.rev + r.randrange(1, 5)
        if r.random() < 0.1 and model.compacted > 1:
            return model.compacted - 1
        if r.random() < 0.2:
            return max(model.compacted, 1)
        return r.randrange(max(model.compacted, 1), model.rev + 1)

    def compare(self, db):
        r = self.r
        target = r.choice(["VERSION", "CREATE", "MOD", "LEASE", "VALUE", "EXISTS", "MISSING"])
        if target in ("EXISTS", "MISSING"):
            return [target, self.key()]
        place = self.range()
        found = self.model.live.get((db, place[0]))
        op = r.choice(["=", "=", "!=", "<", ">"])
        if target == "VALUE":
            return [target, *place, op, found.value if found and r.random() < 0.6 else self.value()]
        right = getattr(found, target.lower()) if found else 0
        return [target, *place, op, right if r.random() < 0.6 else r.randrange(0, self.model.rev + 2)]

    def op(self, db):
        return self.write(db) if self.r.random() < 0.7 else self.read()

    def txn(self, db, depth=0):
        r = self.r
        compares = [self.compare(db) for _ in range(r.choice([0, 1, 1, 2]))]
        branches = [[self.txn(db, depth + 1) if depth < 3 and r.random() < 0.12 else self.op(db)
                     for _ in range(r.choice([0, 1, 2, 4]))] for _ in range(2)]
        for branch in branches:  # mostly ones that are not refused
            while r.random() < 0.95 and repeats(["TXN", [], branch]):
                branch.pop()
        return ["TXN", compares, *branches]


def flat(words):
    """As it is sent."""
    if words[0] != "TXN":
        return words
    _, compares, then, other = words
    out = ["TXN", "IF", len(compares)]
    for compare in compares:
        out += compare
    for name, branch in (("THEN", then), ("ELSE", other)):
        if branch:
            out += [name, len(branch)]
        for op in branch:
            sent = flat(op)
            out += [len(sent), *sent]
    return out
