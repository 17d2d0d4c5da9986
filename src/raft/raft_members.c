/* raft/raft_members.c - see raft_members.h. */
#include "raft/raft_members.h"

#include "raft/raft_msg.h"

_Static_assert(RAFT_MEMBERS_MAX <= UINT8_MAX, "counted by one byte");
_Static_assert(RAFT_ADDRESS_BYTES_MAX <= UINT16_MAX, "measured by two bytes");

const struct raft_member *raft_members_find(const struct raft_members *m, uint64_t id)
{
    for (size_t i = 0; i < m->count; i++) {
        if (m->at[i].id == id) return &m->at[i];
    }
    return NULL;
}

bool raft_members_is_voter(const struct raft_members *m, uint64_t id)
{
    const struct raft_member *member = raft_members_find(m, id);
    return member != NULL && member->role == RAFT_VOTER;
}

size_t raft_members_voter_count(const struct raft_members *m)
{
    size_t count = 0;
    for (size_t i = 0; i < m->count; i++) count += m->at[i].role == RAFT_VOTER;
    return count;
}

bool raft_member_text_is_good(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];
        if (c <= ' ' || c >= 127 || c == '"' || c == '\\') return false;
    }
    return true;
}

static bool member_eq(const struct raft_member *a, const struct raft_member *b)
{
    return a->id == b->id && a->directory_id == b->directory_id && a->role == b->role &&
           strcmp(a->peer_address, b->peer_address) == 0 &&
           strcmp(a->client_address, b->client_address) == 0 && strcmp(a->name, b->name) == 0;
}

bool raft_members_eq(const struct raft_members *a, const struct raft_members *b)
{
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++) {
        if (!member_eq(&a->at[i], &b->at[i])) return false;
    }
    return true;
}

static bool text_ends(const char *text, size_t bytes_max)
{
    return memchr(text, 0, bytes_max + 1) != NULL;
}

static bool member_is_valid(const struct raft_member *m)
{
    if (m->id == 0 || m->role > RAFT_JOINING) return false;
    return text_ends(m->peer_address, RAFT_ADDRESS_BYTES_MAX) &&
           text_ends(m->client_address, RAFT_ADDRESS_BYTES_MAX) &&
           text_ends(m->name, RAFT_NAME_BYTES_MAX);
}

enum err raft_members_put(struct raft_members *m, const struct raft_member *member)
{
    ASSERT(m->count <= RAFT_MEMBERS_MAX);
    if (!member_is_valid(member)) return ERR_SYNTAX;

    size_t at = 0;
    while (at < m->count && m->at[at].id < member->id) at++;
    bool known = at < m->count && m->at[at].id == member->id;
    bool was_voter = known && m->at[at].role == RAFT_VOTER;
    if (!known && m->count == RAFT_MEMBERS_MAX) return ERR_LIMIT;
    if (member->role == RAFT_VOTER && !was_voter &&
        raft_members_voter_count(m) == RAFT_VOTERS_MAX) {
        return ERR_LIMIT;
    }
    if (!known) {
        memmove(&m->at[at + 1], &m->at[at], (m->count - at) * sizeof m->at[0]);
        m->count++;
    }
    m->at[at] = *member;
    return OK;
}

enum err raft_members_remove(struct raft_members *m, uint64_t id)
{
    ASSERT(m->count <= RAFT_MEMBERS_MAX);
    for (size_t i = 0; i < m->count; i++) {
        if (m->at[i].id != id) continue;
        memmove(&m->at[i], &m->at[i + 1], (m->count - i - 1) * sizeof m->at[0]);
        m->count--;
        return OK;
    }
    return ERR_MEMBER;
}

/* --- bytes ----------------------------------------------------------------------------------- */

static void text_encode(struct buf *out, const char *text)
{
    size_t len = strlen(text);
    buf_append_u16(out, (uint16_t)len);
    buf_append(out, text, len);
}

void raft_members_encode(struct buf *out, const struct raft_members *m)
{
    ASSERT(m->count <= RAFT_MEMBERS_MAX);
    buf_append_u8(out, RAFT_MEMBERS_FORMAT);
    buf_append_u8(out, (uint8_t)m->count);
    for (size_t i = 0; i < m->count; i++) {
        const struct raft_member *member = &m->at[i];
        ASSERT(member_is_valid(member));
        buf_append_u64(out, member->id);
        buf_append_u64(out, member->directory_id);
        buf_append_u8(out, (uint8_t)member->role);
        text_encode(out, member->peer_address);
        text_encode(out, member->client_address);
        text_encode(out, member->name);
    }
}

/* Each takes its bytes from the front of *in, or says false. */
static bool bytes_take(struct slice *in, size_t len, const uint8_t **at)
{
    if (in->len < len) return false;
    *at = in->at;
    in->at += len;
    in->len -= len;
    return true;
}

/* A zero inside would cut the text short and make two byte strings one configuration. */
static bool text_take(struct slice *in, char *out, size_t bytes_max)
{
    const uint8_t *at = NULL;
    if (!bytes_take(in, 2, &at)) return false;
    size_t len = u16_le(at);
    if (len > bytes_max || !bytes_take(in, len, &at)) return false;
    if (len != 0 && memchr(at, 0, len) != NULL) return false;
    memcpy(out, at, len);
    out[len] = 0;
    return true;
}

static bool member_take(struct slice *in, struct raft_member *out)
{
    const uint8_t *head = NULL;
    if (!bytes_take(in, 17, &head)) return false;
    if (head[16] > RAFT_JOINING) return false;
    out->id = u64_le(head);
    out->directory_id = u64_le(head + 8);
    out->role = (enum raft_member_role)head[16];
    return out->id != 0 && text_take(in, out->peer_address, RAFT_ADDRESS_BYTES_MAX) &&
           text_take(in, out->client_address, RAFT_ADDRESS_BYTES_MAX) &&
           text_take(in, out->name, RAFT_NAME_BYTES_MAX);
}

enum err raft_members_decode(struct slice in, struct raft_members *out)
{
    const uint8_t *head = NULL;
    if (!bytes_take(&in, 2, &head) || head[0] != RAFT_MEMBERS_FORMAT) return ERR_CORRUPT;
    if (head[1] > RAFT_MEMBERS_MAX) return ERR_CORRUPT;

    struct raft_members m = { 0 };
    for (size_t i = 0; i < head[1]; i++) {
        struct raft_member member = { 0 };
        if (!member_take(&in, &member)) return ERR_CORRUPT;
        if (m.count != 0 && m.at[m.count - 1].id >= member.id) return ERR_CORRUPT;
        m.at[m.count++] = member;
    }
    if (in.len != 0 || raft_members_voter_count(&m) > RAFT_VOTERS_MAX) return ERR_CORRUPT;
    *out = m;
    return OK;
}
