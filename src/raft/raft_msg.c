/* raft/raft_msg.c - see raft_msg.h. */
#include "raft/raft_msg.h"

#include "raft/raft_members.h"

#define FLAG_REJECT 1u
#define FLAG_FORCE 2u

_Static_assert(RAFT_MSG_HEAD_BYTES == 8 + 9 * 8, "the head is what FORMAT says");

const char *raft_msg_name(enum raft_msg_type type)
{
    static const char *const names[] = {
        [RAFT_MSG_PREVOTE] = "prevote",     [RAFT_MSG_PREVOTE_RESP] = "prevote-resp",
        [RAFT_MSG_VOTE] = "vote",           [RAFT_MSG_VOTE_RESP] = "vote-resp",
        [RAFT_MSG_APPEND] = "append",       [RAFT_MSG_APPEND_RESP] = "append-resp",
        [RAFT_MSG_HEARTBEAT] = "heartbeat", [RAFT_MSG_HEARTBEAT_RESP] = "heartbeat-resp",
        [RAFT_MSG_READ] = "read",           [RAFT_MSG_READ_RESP] = "read-resp",
        [RAFT_MSG_TIMEOUT_NOW] = "timeout-now",
    };
    if ((size_t)type >= ARRAY_LEN(names) || names[type] == NULL) return "unknown";
    return names[type];
}

/* --- shape ----------------------------------------------------------------------------------- */

static bool entry_is_valid(const struct raft_entry *e)
{
    size_t bytes = e->body == NULL ? 0 : e->body->len;
    if (bytes > RAFT_ENTRY_BYTES_MAX) return false;
    switch (e->type) {
    case RAFT_ENTRY_BATCH: return true;
    case RAFT_ENTRY_NOOP: return bytes == 0;
    case RAFT_ENTRY_MEMBERS: break;
    default: return false;
    }
    struct raft_members m;
    return bytes != 0 && raft_members_decode(blob_slice(e->body), &m) == OK;
}

static bool entries_are_valid(const struct raft_msg *m)
{
    uint64_t term = m->log_term;
    for (size_t i = 0; i < m->entry_count; i++) {
        const struct raft_entry *e = &m->entries[i];
        if (e->index != m->index + 1 + i || e->term < term || e->term > m->term) return false;
        if (e->term == 0 || !entry_is_valid(e)) return false;
        term = e->term;
    }
    return true;
}

bool raft_msg_is_valid(const struct raft_msg *m)
{
    if (m->type < RAFT_MSG_PREVOTE || m->type > RAFT_MSG_TIMEOUT_NOW) return false;
    if (m->from == 0 || m->to == 0 || m->from == m->to) return false;
    if (m->term == 0 || m->term >= RAFT_INDEX_MAX || m->index >= RAFT_INDEX_MAX) return false;
    if (m->log_term > m->term || m->hint >= RAFT_INDEX_MAX) return false;
    if (m->entry_count > RAFT_MSG_ENTRIES_MAX) return false;
    if (m->type != RAFT_MSG_APPEND) return m->entry_count == 0;
    return (m->index != 0 || m->log_term == 0) && entries_are_valid(m);
}

/* --- bytes ----------------------------------------------------------------------------------- */

size_t raft_msg_encoded_bytes(const struct raft_msg *m)
{
    size_t bytes = RAFT_MSG_HEAD_BYTES + m->entry_count * RAFT_MSG_ENTRY_HEAD_BYTES;
    for (size_t i = 0; i < m->entry_count; i++) {
        bytes += m->entries[i].body == NULL ? 0 : m->entries[i].body->len;
    }
    return bytes;
}

static void head_encode(uint8_t *to, const struct raft_msg *m)
{
    to[0] = RAFT_MSG_VERSION;
    to[1] = (uint8_t)m->type;
    to[2] = (uint8_t)((m->reject ? FLAG_REJECT : 0u) | (m->force ? FLAG_FORCE : 0u));
    to[3] = 0;
    u32_le_put(to + 4, (uint32_t)m->entry_count);
    const uint64_t words[] = { m->from,   m->to,    m->term, m->index,   m->log_term,
                               m->commit, m->round, m->hint, m->clock_ms };
    for (size_t i = 0; i < ARRAY_LEN(words); i++) u64_le_put(to + 8 + i * 8, words[i]);
}

void raft_msg_encode(struct buf *out, const struct raft_msg *m)
{
    ASSERT(m->entry_count <= RAFT_MSG_ENTRIES_MAX);
    size_t bytes = raft_msg_encoded_bytes(m);
    uint8_t *to = buf_reserve(out, bytes);
    const uint8_t *end = to + bytes;
    head_encode(to, m);
    to += RAFT_MSG_HEAD_BYTES;
    for (size_t i = 0; i < m->entry_count; i++) {
        const struct raft_entry *e = &m->entries[i];
        size_t len = e->body == NULL ? 0 : e->body->len;
        u64_le_put(to, e->term);
        u32_le_put(to + 8, e->type); /* one byte, then three that are 0 */
        u32_le_put(to + 12, e->crc);
        u32_le_put(to + 16, (uint32_t)len);
        if (len != 0) memcpy(to + RAFT_MSG_ENTRY_HEAD_BYTES, e->body->at, len);
        to += RAFT_MSG_ENTRY_HEAD_BYTES + len;
    }
    ASSERT(to == end);
    out->len += bytes;
}

static enum err head_decode(struct slice in, struct raft_msg *m)
{
    if (in.len < RAFT_MSG_HEAD_BYTES) return ERR_PROTO;
    if (in.at[0] != RAFT_MSG_VERSION) return ERR_UNSUPPORTED;
    if ((in.at[2] & ~(FLAG_REJECT | FLAG_FORCE)) != 0 || in.at[3] != 0) return ERR_PROTO;
    if (in.at[1] < RAFT_MSG_PREVOTE || in.at[1] > RAFT_MSG_TIMEOUT_NOW) return ERR_PROTO;
    const uint8_t *word = in.at + 8;
    *m = (struct raft_msg){
        .type = (enum raft_msg_type)in.at[1],
        .reject = (in.at[2] & FLAG_REJECT) != 0,
        .force = (in.at[2] & FLAG_FORCE) != 0,
        .entry_count = u32_le(in.at + 4),
        .from = u64_le(word),
        .to = u64_le(word + 8),
        .term = u64_le(word + 16),
        .index = u64_le(word + 24),
        .log_term = u64_le(word + 32),
        .commit = u64_le(word + 40),
        .round = u64_le(word + 48),
        .hint = u64_le(word + 56),
        .clock_ms = u64_le(word + 64),
    };
    return m->entry_count > RAFT_MSG_ENTRIES_MAX ? ERR_PROTO : OK;
}

/* Takes one entry from the front of *in. Only the body is allocated, and only once it is there. */
static enum err entry_take(struct slice *in, struct raft_entry *e)
{
    if (in->len < RAFT_MSG_ENTRY_HEAD_BYTES) return ERR_PROTO;
    const uint8_t *head = in->at;
    if (head[9] != 0 || head[10] != 0 || head[11] != 0) return ERR_PROTO;
    size_t len = u32_le(head + 16);
    if (len > RAFT_ENTRY_BYTES_MAX || in->len - RAFT_MSG_ENTRY_HEAD_BYTES < len) return ERR_PROTO;

    struct slice body = { head + RAFT_MSG_ENTRY_HEAD_BYTES, len };
    uint32_t crc = u32_le(head + 12);
    if (crc != (len == 0 ? 0 : crc32c(0, body.at, body.len))) return ERR_CORRUPT;
    e->term = u64_le(head);
    e->type = head[8];
    e->crc = crc;
    e->body = len == 0 ? NULL : blob_copy(body);
    in->at += RAFT_MSG_ENTRY_HEAD_BYTES + len;
    in->len -= RAFT_MSG_ENTRY_HEAD_BYTES + len;
    return OK;
}

static void entries_free(struct raft_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) blob_unref(entries[i].body);
    mem_free(entries);
}

static enum err entries_take(struct slice *in, uint64_t first_index, struct raft_entry *entries,
                             size_t count)
{
    for (size_t i = 0; i < count; i++) {
        TRY(entry_take(in, &entries[i]));
        entries[i].index = first_index + i;
    }
    return in->len == 0 ? OK : ERR_PROTO;
}

enum err raft_msg_decode(struct slice in, struct raft_msg *out)
{
    struct raft_msg m;
    TRY(head_decode(in, &m));
    struct slice rest = { in.at + RAFT_MSG_HEAD_BYTES, in.len - RAFT_MSG_HEAD_BYTES };
    if (rest.len / RAFT_MSG_ENTRY_HEAD_BYTES < m.entry_count) return ERR_PROTO;

    struct raft_entry *entries = NULL;
    if (m.entry_count != 0) entries = mem_zalloc(m.entry_count * sizeof *entries);
    enum err err = entries_take(&rest, m.index + 1, entries, m.entry_count);
    m.entries = entries;
    if (err == OK && !raft_msg_is_valid(&m)) err = ERR_PROTO;
    if (err != OK) {
        entries_free(entries, m.entry_count);
        return err;
    }
    *out = m;
    return OK;
}

/* The array was made by this file; only borrowers see it as const. */
static struct raft_entry *entries_owned(const struct raft_msg *m)
{
    struct raft_entry *entries;
    memcpy(&entries, &m->entries, sizeof entries);
    return entries;
}

void raft_msg_deinit(struct raft_msg *m)
{
    entries_free(entries_owned(m), m->entry_count);
    *m = (struct raft_msg){ 0 };
}

struct raft_msg raft_msg_copy(const struct raft_msg *m)
{
    struct raft_msg copy = *m;
    copy.entries = NULL;
    if (m->entry_count == 0) return copy;
    copy.entries = mem_copy(m->entries, m->entry_count * sizeof *m->entries);
    for (size_t i = 0; i < m->entry_count; i++) {
        if (m->entries[i].body != NULL) blob_ref(m->entries[i].body);
    }
    return copy;
}
