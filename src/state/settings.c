/* state/settings.c - see settings.h. */
#include "state/settings.h"

#include "mvcc/mvcc.h"
#include "state/op.h"

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)
#define EIB (1ULL << 60)
#define KEY_BYTES_LIMIT (MVCC_KEY_BYTES_MAX - 1) /* the database byte */
#define YEAR_MS (365ULL * 86400 * 1000)

_Static_assert(OP_BYTES_MAX > MVCC_VALUE_BYTES_MAX + MVCC_KEY_BYTES_MAX,
               "the largest value fits into an operation");
_Static_assert(OP_BYTES_MAX >= 4 * SETTINGS_REQUEST_BYTES_MAX, "see SETTINGS_REQUEST_BYTES_MAX");

#define FIELD(f) offsetof(struct settings, f)

/* Defaults are for ever (see FORMAT): a new wish is a new name. */
const struct setting_row setting_rows[] = {
    { "key-max-bytes", SETTING_BYTES, FIELD(key_bytes_max), 4096, 1, KEY_BYTES_LIMIT, "bytes",
      "Largest key that a write accepts." },
    { "value-max-bytes", SETTING_BYTES, FIELD(value_bytes_max), MIB, 1, MVCC_VALUE_BYTES_MAX,
      "bytes", "Largest value that a write accepts." },
    { "request-max-bytes", SETTING_BYTES, FIELD(request_bytes_max), MIB + MIB / 2, KIB,
      SETTINGS_REQUEST_BYTES_MAX, "bytes", "Largest operation, with everything inside it." },
    { "txn-max-ops", SETTING_COUNT, FIELD(txn_ops_max), 128, 1, 10000, "operations",
      "Compares, and operations of each branch, of one TXN." },
    { "multi-max-ops", SETTING_COUNT, FIELD(multi_ops_max), 10000, 1, 100000, "operations",
      "Commands of one MULTI, and changes of one script." },
    { "op-max-keys", SETTING_COUNT, FIELD(op_keys_max), 10000, 1, 100000, "keys",
      "Keys that one operation may change, and keys of one lease." },
    { "lease-max-count", SETTING_COUNT, FIELD(lease_count_max), 1000000, 0, 100000000, "leases",
      "Leases at the same time." },
    { "quota-bytes", SETTING_BYTES, FIELD(quota_bytes), 8 * GIB, 0, EIB, "bytes",
      "Live data above which writes that grow it are refused; 0 means no quota." },
    { "retain-ms", SETTING_MS, FIELD(retain_ms), 3600000, 0, 100 * YEAR_MS, "ms",
      "History older than this is compacted; 0 means no limit by time." },
    { "retain-revs", SETTING_COUNT, FIELD(retain_revs), 1000000, 0, EIB, "revisions",
      "History beyond this many revisions is compacted; 0 means no limit by count." },
    { "retain-history-bytes", SETTING_BYTES, FIELD(retain_history_bytes), 512 * MIB, 0, EIB,
      "bytes", "History beyond this size is compacted; 0 means no limit by size." },
    { "retain-min-revs", SETTING_COUNT, FIELD(retain_revs_min), 10000, 0, EIB, "revisions",
      "The newest revisions, which automatic compaction never touches." },
    { "notify-keyspace-events", SETTING_NOTIFY, FIELD(notify_keyspace_events), 0, 0, 16383, "flags",
      "Which keyspace notifications are published, as Redis' letters." },
    { "txn-max-bytes", SETTING_BYTES, FIELD(txn_bytes_max), 16 * MIB, 1, GIB, "bytes",
      "Values that one transaction, or one MSET, writes in all." },
};
const size_t setting_row_count = ARRAY_LEN(setting_rows);

static uint64_t value_of(const struct settings *s, const struct setting_row *row)
{
    uint64_t v;
    memcpy(&v, (const char *)s + row->offset, sizeof v);
    return v;
}

static void value_set(struct settings *s, const struct setting_row *row, uint64_t v)
{
    memcpy((char *)s + row->offset, &v, sizeof v);
}

void settings_init(struct settings *s)
{
    *s = (struct settings){ 0 };
    for (size_t i = 0; i < setting_row_count; i++) {
        value_set(s, &setting_rows[i], setting_rows[i].fallback);
    }
}

const struct setting_row *setting_find(struct slice name)
{
    for (size_t i = 0; i < setting_row_count; i++) {
        if (slice_is(name, setting_rows[i].name)) return &setting_rows[i];
    }
    return NULL;
}

/* --- values as text ------------------------------------------------------------------- */

struct suffix {
    const char *text;
    uint64_t factor;
};
static const struct suffix byte_suffixes[] = { { "", 1 },        { "b", 1 },    { "k", 1000 },
                                               { "kb", KIB },    { "m", 1000000 }, { "mb", MIB },
                                               { "g", 1000000000 }, { "gb", GIB }, { NULL, 0 } };
static const struct suffix ms_suffixes[] = { { "", 1 },      { "ms", 1 },     { "s", 1000 },
                                             { "m", 60000 }, { "h", 3600000 }, { NULL, 0 } };
static const struct suffix no_suffixes[] = { { "", 1 }, { NULL, 0 } };

static const struct suffix *suffixes_of(enum setting_kind kind)
{
    switch (kind) {
    case SETTING_BYTES: return byte_suffixes;
    case SETTING_MS: return ms_suffixes;
    case SETTING_COUNT:
    case SETTING_NOTIFY: break;
    }
    return no_suffixes;
}

static bool number_parse(const struct setting_row *row, struct slice text, uint64_t *out)
{
    size_t digits = 0;
    while (digits < text.len && text.at[digits] >= '0' && text.at[digits] <= '9') digits++;
    uint64_t v;
    if (u64_parse((struct slice){ text.at, digits }, &v) != OK) return false;
    struct slice unit = { text.at + digits, text.len - digits };
    for (const struct suffix *s = suffixes_of(row->kind); s->text != NULL; s++) {
        if (slice_is(unit, s->text)) return !__builtin_mul_overflow(v, s->factor, out);
    }
    return false;
}

struct notify_letter {
    char letter;
    enum notify_flag flag;
};
/* In the order in which Redis prints them. */
static const struct notify_letter notify_letters[] = {
    { 'g', NOTIFY_GENERIC }, { '$', NOTIFY_STRING },   { 'l', NOTIFY_LIST },
    { 's', NOTIFY_SET },     { 'h', NOTIFY_HASH },     { 'z', NOTIFY_ZSET },
    { 'x', NOTIFY_EXPIRED }, { 'e', NOTIFY_EVICTED },  { 'd', NOTIFY_MODULE },
    { 't', NOTIFY_STREAM },  { 'n', NOTIFY_NEW },      { 'K', NOTIFY_KEYSPACE },
    { 'E', NOTIFY_KEYEVENT }, { 'm', NOTIFY_KEY_MISS },
};

static bool notify_parse(struct slice text, uint64_t *out)
{
    uint64_t flags = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = (char)text.at[i];
        uint64_t flag = c == 'A' ? NOTIFY_ALL : 0;
        for (size_t j = 0; j < ARRAY_LEN(notify_letters); j++) {
            if (notify_letters[j].letter == c) flag = notify_letters[j].flag;
        }
        if (flag == 0) return false;
        flags |= flag;
    }
    *out = flags;
    return true;
}

static void notify_print(uint64_t flags, struct buf *out)
{
    bool all = (flags & NOTIFY_ALL) == NOTIFY_ALL;
    if (all) buf_append_u8(out, 'A');
    for (size_t i = 0; i < ARRAY_LEN(notify_letters); i++) {
        uint64_t flag = notify_letters[i].flag;
        if ((flags & flag) == 0 || (all && (NOTIFY_ALL & flag) != 0)) continue;
        buf_append_u8(out, (uint8_t)notify_letters[i].letter);
    }
}

enum err settings_set(struct settings *s, struct slice name, struct slice value, struct errmsg *em)
{
    const struct setting_row *row = setting_find(name);
    if (row == NULL) return ERR_NOT_FOUND;
    uint64_t v;
    if (row->kind == SETTING_NOTIFY) {
        if (!notify_parse(value, &v)) {
            errmsg_set(em, "%s: unknown letter in event classes", row->name);
            return ERR_CONFIG;
        }
    } else if (!number_parse(row, value, &v)) {
        errmsg_set(em, "%s: argument couldn't be parsed into a number", row->name);
        return ERR_CONFIG;
    }
    if (v < row->min || v > row->max) {
        errmsg_set(em, "%s: argument must be between %llu and %llu inclusive", row->name,
                   (unsigned long long)row->min, (unsigned long long)row->max);
        return ERR_CONFIG;
    }
    value_set(s, row, v);
    return OK;
}

void settings_get(const struct settings *s, const struct setting_row *row, struct buf *out)
{
    if (row->kind == SETTING_NOTIFY) {
        notify_print(value_of(s, row), out);
        return;
    }
    char digits[20];
    buf_append(out, digits, u64_format(value_of(s, row), digits));
}

uint64_t settings_hash(const struct settings *s)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting_row *row = &setting_rows[i];
        uint64_t v = value_of(s, row);
        if (v == row->fallback) continue;
        hash += u64_mix(u64_mix(crc32c(0, row->name, strlen(row->name))) ^ v);
    }
    return hash;
}

/* --- bytes ---------------------------------------------------------------------------- */

void settings_encode(const struct settings *s, struct buf *out)
{
    buf_append_u8(out, SETTINGS_FORMAT);
    buf_append_u8(out, (uint8_t)setting_row_count);
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting_row *row = &setting_rows[i];
        buf_append_u8(out, (uint8_t)strlen(row->name));
        buf_append(out, row->name, strlen(row->name));
        size_t length_at = out->len;
        buf_append_u8(out, 0);
        settings_get(s, row, out);
        size_t len = out->len - length_at - 1;
        ASSERT(len <= SETTING_TEXT_BYTES_MAX);
        out->at[length_at] = (uint8_t)len;
    }
}

static bool word_take(struct slice *rest, struct slice *word)
{
    if (rest->len < 1 || rest->len - 1 < rest->at[0]) return false;
    *word = (struct slice){ rest->at + 1, rest->at[0] };
    *rest = (struct slice){ rest->at + 1 + word->len, rest->len - 1 - word->len };
    return true;
}

enum err settings_decode(struct settings *s, struct slice bytes, struct errmsg *em)
{
    if (bytes.len < 2) {
        errmsg_set(em, "settings: cut");
        return ERR_CORRUPT;
    }
    if (bytes.at[0] != SETTINGS_FORMAT) {
        errmsg_set(em, "settings: format %u is not known", bytes.at[0]);
        return ERR_UNSUPPORTED;
    }
    struct settings next;
    settings_init(&next);
    struct slice rest = { bytes.at + 2, bytes.len - 2 };
    for (size_t left = bytes.at[1]; left > 0; left--) {
        struct slice name, value;
        if (!word_take(&rest, &name) || !word_take(&rest, &value)) {
            errmsg_set(em, "settings: cut");
            return ERR_CORRUPT;
        }
        if (setting_find(name) == NULL) {
            errmsg_set(em, "settings: %.*s is not known to this version", (int)name.len,
                       (const char *)name.at);
            return ERR_UNSUPPORTED;
        }
        if (settings_set(&next, name, value, em) != OK) return ERR_CORRUPT;
    }
    if (rest.len != 0) {
        errmsg_set(em, "settings: bytes behind the end");
        return ERR_CORRUPT;
    }
    *s = next;
    return OK;
}
