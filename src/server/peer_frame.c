/* server/peer_frame.c - see peer_frame.h. */
#include "server/peer_frame.h"

#include "raft/raft_members.h"
#include "raft/raft_msg.h"

#define HELLO_HEAD_BYTES 40
#define WELCOME_BYTES 24
#define FOUNDER_HEAD_BYTES 24
#define FOUNDER_TEXT_COUNT 4

static const uint8_t magic[3] = { 'C', 'R', 'P' };

_Static_assert(RAFT_MSG_HEAD_BYTES + RAFT_MSG_ENTRIES_MAX * RAFT_MSG_ENTRY_HEAD_BYTES +
               RAFT_ENTRY_BYTES_MAX + (1u << 20) <= PEER_FRAME_BYTES_MAX, "a longest append fits");
_Static_assert(FOUNDER_HEAD_BYTES + FOUNDER_TEXT_COUNT * 2 + RAFT_NAME_BYTES_MAX +
               RAFT_ADDRESS_BYTES_MAX + PEER_LIST_BYTES_MAX + PEER_MEMBERS_BYTES_MAX <=
               PEER_HANDSHAKE_BYTES_MAX, "a founder's frame fits");
_Static_assert(RAFT_VOTERS_MAX * (RAFT_NAME_BYTES_MAX + RAFT_ADDRESS_BYTES_MAX + 2) <=
               PEER_LIST_BYTES_MAX, "the longest list fits");
_Static_assert(2 + RAFT_VOTERS_MAX * (23 + 2 * RAFT_ADDRESS_BYTES_MAX + RAFT_NAME_BYTES_MAX) <=
               PEER_MEMBERS_BYTES_MAX, "the most founders fit");

static size_t payload_max(enum peer_frame_kind kind)
{
    return kind == PEER_PAYLOAD ? PEER_FRAME_BYTES_MAX : PEER_HANDSHAKE_BYTES_MAX;
}

static uint16_t head_check(const uint8_t *head)
{
    return (uint16_t)crc32c(0, head, 10);
}

/* --- frames ------------------------------------------------------------------------------- */

void peer_frame_put(struct chain *out, enum peer_frame_kind kind, struct slice payload)
{
    ASSERT(payload.len <= payload_max(kind));
    uint8_t *head = chain_reserve(out, PEER_FRAME_HEAD_BYTES);
    memcpy(head, magic, sizeof magic);
    head[3] = PEER_FRAME_VERSION;
    u32_le_put(head + 4, (uint32_t)payload.len);
    head[8] = (uint8_t)kind;
    head[9] = 0;
    u16_le_put(head + 10, head_check(head));
    u32_le_put(head + 12, crc32c(crc32c(0, head, 12), payload.at, payload.len));
    chain_commit(out, PEER_FRAME_HEAD_BYTES);
    chain_append_slice(out, payload);
}

static enum err head_decode(const uint8_t *head, bool handshake, struct errmsg *em)
{
    if (u16_le(head + 10) != head_check(head)) {
        errmsg_set(em, "a frame with a broken head");
        return ERR_CORRUPT;
    }
    uint8_t kind = head[8];
    if (kind < PEER_HELLO || kind > PEER_FOUNDER || head[9] != 0) {
        errmsg_set(em, "a frame of unknown kind %u", kind);
        return ERR_PROTO;
    }
    size_t max = handshake ? PEER_HANDSHAKE_BYTES_MAX : payload_max((enum peer_frame_kind)kind);
    if (u32_le(head + 4) > max) {
        errmsg_set(em, "a frame of %u bytes, more than %zu", u32_le(head + 4), max);
        return ERR_PROTO;
    }
    return OK;
}

/* The first bytes of TLS: a handshake, or an alert. */
static bool is_tls(struct slice in)
{
    return (in.at[0] == 0x16 || in.at[0] == 0x15) && (in.len < 2 || in.at[1] == 3);
}

/* As soon as it can be told: who connects to the wrong port is not waited for. */
static enum err start_check(struct slice in, struct errmsg *em)
{
    if (memcmp(in.at, magic, MIN(in.len, sizeof magic)) != 0) {
        errmsg_set(em, "not the protocol of members%s",
                   is_tls(in) ? ": it is TLS, which this node was not told to speak ('peer-tls-cert-file')" : "");
        return ERR_PROTO;
    }
    if (in.len > 3 && in.at[3] != PEER_FRAME_VERSION) {
        errmsg_set(em, "frames of version %u, this is version %u", in.at[3], PEER_FRAME_VERSION);
        return ERR_UNSUPPORTED;
    }
    return OK;
}

enum err peer_frame_decode(struct slice in, bool handshake, struct peer_frame *out,
                           size_t *need_bytes, struct errmsg *em)
{
    if (in.len > 0) TRY(start_check(in, em));
    if (in.len < PEER_FRAME_HEAD_BYTES) {
        *need_bytes = in.len + 1; /* who speaks another protocol may never send a whole head */
        return ERR_AGAIN;
    }
    TRY(head_decode(in.at, handshake, em));
    size_t whole = PEER_FRAME_HEAD_BYTES + (size_t)u32_le(in.at + 4);
    if (in.len < whole) {
        *need_bytes = whole;
        return ERR_AGAIN;
    }
    struct slice payload = { in.at + PEER_FRAME_HEAD_BYTES, whole - PEER_FRAME_HEAD_BYTES };
    if (crc32c(crc32c(0, in.at, 12), payload.at, payload.len) != u32_le(in.at + 12)) {
        errmsg_set(em, "a frame of %zu bytes with a wrong checksum", payload.len);
        return ERR_CORRUPT;
    }
    *out = (struct peer_frame){ (enum peer_frame_kind)in.at[8], payload, whole };
    return OK;
}

/* --- handshakes --------------------------------------------------------------------------- */

static enum err fail(struct errmsg *em, const char *what)
{
    errmsg_set(em, "a broken %s", what);
    return ERR_PROTO;
}

static enum err protocol_check(struct slice in, struct errmsg *em)
{
    if (in.len < 2) return fail(em, "handshake");
    if (u16_le(in.at) == PEER_PROTOCOL) return OK;
    errmsg_set(em, "it speaks version %u of the members' protocol, this node version %u: "
               "run the same release on all members", u16_le(in.at), PEER_PROTOCOL);
    return ERR_UNSUPPORTED;
}

static bool is_zero(const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (at[i] != 0) return false;
    }
    return true;
}

static bool is_printable(uint8_t c) { return c >= ' ' && c < 127 && c != '"' && c != '\\'; }

static void text_put(struct buf *out, struct slice text)
{
    buf_append_u16(out, (uint16_t)text.len);
    buf_append_slice(out, text);
}

static void safe_text_put(struct buf *out, struct slice text)
{
    buf_append_u16(out, (uint16_t)text.len);
    for (size_t i = 0; i < text.len; i++) buf_append_u8(out, is_printable(text.at[i]) ? text.at[i] : '?');
}

static bool text_take(struct slice *rest, size_t bytes_max, bool text, struct slice *out)
{
    if (rest->len < 2) return false;
    size_t len = u16_le(rest->at);
    if (len > bytes_max || rest->len - 2 < len) return false;
    for (size_t i = 0; text && i < len; i++) {
        if (!is_printable(rest->at[2 + i])) return false;
    }
    *out = (struct slice){ rest->at + 2, len };
    *rest = (struct slice){ rest->at + 2 + len, rest->len - 2 - len };
    return true;
}

void peer_hello_put(struct chain *out, const struct peer_hello *hello)
{
    struct buf bytes CLEANUP(buf_deinit) = { 0 };
    buf_append_u16(&bytes, PEER_PROTOCOL);
    buf_append_u8(&bytes, hello->channel);
    buf_append_u8(&bytes, 0);
    buf_append_u32(&bytes, hello->group);
    buf_append_u64(&bytes, hello->cluster_id);
    buf_append_u64(&bytes, hello->from_id);
    buf_append_u64(&bytes, hello->directory_id);
    buf_append_u64(&bytes, hello->to_id);
    safe_text_put(&bytes, hello->name);
    safe_text_put(&bytes, hello->address);
    peer_frame_put(out, PEER_HELLO, buf_slice(&bytes));
}

enum err peer_hello_decode(struct slice in, struct peer_hello *out, struct errmsg *em)
{
    TRY(protocol_check(in, em));
    if (in.len < HELLO_HEAD_BYTES || in.at[3] != 0) return fail(em, "hello");
    struct peer_hello hello = {
        .channel = in.at[2],
        .group = u32_le(in.at + 4),
        .cluster_id = u64_le(in.at + 8),
        .from_id = u64_le(in.at + 16),
        .directory_id = u64_le(in.at + 24),
        .to_id = u64_le(in.at + 32),
    };
    struct slice rest = { in.at + HELLO_HEAD_BYTES, in.len - HELLO_HEAD_BYTES };
    bool good = text_take(&rest, RAFT_NAME_BYTES_MAX, true, &hello.name) &&
                text_take(&rest, RAFT_ADDRESS_BYTES_MAX, true, &hello.address) && rest.len == 0;
    bool named = hello.cluster_id != 0 && hello.from_id != 0 && hello.directory_id != 0 &&
                 hello.to_id != 0;
    if (!good || !named) return fail(em, "hello");
    *out = hello;
    return OK;
}

void peer_welcome_put(struct chain *out, const struct peer_welcome *welcome)
{
    uint8_t bytes[WELCOME_BYTES] = { 0 };
    u16_le_put(bytes, PEER_PROTOCOL);
    u64_le_put(bytes + 8, welcome->member_id);
    u64_le_put(bytes + 16, welcome->directory_id);
    peer_frame_put(out, PEER_WELCOME, (struct slice){ bytes, sizeof bytes });
}

enum err peer_welcome_decode(struct slice in, struct peer_welcome *out, struct errmsg *em)
{
    TRY(protocol_check(in, em));
    if (in.len != WELCOME_BYTES || !is_zero(in.at + 2, 6)) return fail(em, "welcome");
    *out = (struct peer_welcome){ u64_le(in.at + 8), u64_le(in.at + 16) };
    return OK;
}

void peer_refusal_put(struct chain *out, bool final, const char *text)
{
    uint8_t bytes[3 + PEER_REFUSAL_BYTES_MAX];
    size_t len = MIN(strlen(text), (size_t)PEER_REFUSAL_BYTES_MAX);
    bytes[0] = final ? 1 : 0;
    u16_le_put(bytes + 1, (uint16_t)len);
    memcpy(bytes + 3, text, len);
    peer_frame_put(out, PEER_REFUSE, (struct slice){ bytes, 3 + len });
}

enum err peer_refusal_decode(struct slice in, struct peer_refusal *out, struct errmsg *em)
{
    if (in.len < 3 || in.at[0] > 1) return fail(em, "refusal");
    size_t len = u16_le(in.at + 1);
    if (len > PEER_REFUSAL_BYTES_MAX || in.len != 3 + len) return fail(em, "refusal");
    out->final = in.at[0] == 1;
    for (size_t i = 0; i < len; i++) {
        out->text[i] = is_printable(in.at[3 + i]) ? (char)in.at[3 + i] : '?';
    }
    out->text[len] = '\0';
    return OK;
}

void peer_founder_put(struct chain *out, const struct peer_founder *founder)
{
    struct buf bytes CLEANUP(buf_deinit) = { 0 };
    buf_append_u16(&bytes, PEER_PROTOCOL);
    buf_append_u16(&bytes, 0);
    buf_append_u32(&bytes, founder->group);
    buf_append_u64(&bytes, founder->member_id);
    buf_append_u64(&bytes, founder->directory_id);
    const struct slice texts[FOUNDER_TEXT_COUNT] = { founder->name, founder->client_address,
                                                     founder->list, founder->members };
    for (size_t i = 0; i < FOUNDER_TEXT_COUNT; i++) text_put(&bytes, texts[i]);
    peer_frame_put(out, PEER_FOUNDER, buf_slice(&bytes));
}

enum err peer_founder_decode(struct slice in, struct peer_founder *out, struct errmsg *em)
{
    TRY(protocol_check(in, em));
    if (in.len < FOUNDER_HEAD_BYTES || !is_zero(in.at + 2, 2)) return fail(em, "founder's hello");
    struct peer_founder f = {
        .group = u32_le(in.at + 4),
        .member_id = u64_le(in.at + 8),
        .directory_id = u64_le(in.at + 16),
    };
    struct slice rest = { in.at + FOUNDER_HEAD_BYTES, in.len - FOUNDER_HEAD_BYTES };
    bool good = text_take(&rest, RAFT_NAME_BYTES_MAX, true, &f.name) &&
                text_take(&rest, RAFT_ADDRESS_BYTES_MAX, true, &f.client_address) &&
                text_take(&rest, PEER_LIST_BYTES_MAX, true, &f.list) &&
                text_take(&rest, PEER_MEMBERS_BYTES_MAX, false, &f.members) && rest.len == 0;
    if (!good || f.member_id == 0 || f.directory_id == 0 || f.name.len == 0) {
        return fail(em, "founder's hello");
    }
    *out = f;
    return OK;
}
