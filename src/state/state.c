/* state/state.c - see state.h: the state as a whole; apply is in state_apply*.c. */
#include "state/state.h"

#include "state/real.h"
#include "state/state_int.h"

struct state *state_new(uint64_t hash_seed)
{
    struct state *s = mem_zalloc(sizeof *s);
    s->mvcc = mvcc_new(hash_seed);
    s->leases = lease_table_new(hash_seed);
    s->txn = txn_new();
    settings_init(&s->settings);
    dedup_init(&s->dedup);
    retention_init(&s->retention);
    return s;
}

static void scratch_deinit(struct apply_scratch *scratch)
{
    ASSERT(scratch->taken.len == 0);
    buf_deinit(&scratch->value);
    buf_deinit(&scratch->keys);
    buf_deinit(&scratch->prevs);
    buf_deinit(&scratch->numbers);
    buf_deinit(&scratch->taken);
    for (size_t i = 0; i < ARRAY_LEN(scratch->failed); i++) buf_deinit(&scratch->failed[i]);
}

void state_free(struct state *s)
{
    if (s == NULL) return;
    scratch_deinit(&s->scratch);
    txn_free(s->txn);
    dedup_deinit(&s->dedup);
    mvcc_free(s->mvcc);
    lease_table_free(s->leases);
    mem_free(s);
}

const struct mvcc *state_mvcc(const struct state *s)
{
    return s->mvcc;
}

const struct lease_table *state_leases(const struct state *s)
{
    return s->leases;
}

const struct settings *state_settings(const struct state *s)
{
    return &s->settings;
}

uint64_t state_applied_index(const struct state *s)
{
    return s->applied_index;
}

uint64_t state_applied_term(const struct state *s)
{
    return s->applied_term;
}

uint64_t state_stamp_ms(const struct state *s)
{
    return s->stamp_ms;
}

int64_t state_wall_ms(const struct state *s)
{
    return s->wall_ms;
}

/* Every part is mixed with a number of its own, so that no two can stand in for each other. */
uint64_t state_hash(const struct state *s)
{
    uint64_t hash = mvcc_hash(s->mvcc);
    hash += u64_mix(lease_table_hash(s->leases) ^ 0x1000000000000001ULL);
    hash += u64_mix(settings_hash(&s->settings) ^ 0x2000000000000002ULL);
    hash += u64_mix(mvcc_rev(s->mvcc) ^ 0x3000000000000003ULL);
    hash += u64_mix(mvcc_compacted(s->mvcc) ^ 0x4000000000000004ULL);
    for (size_t i = 0; i < s->alarm_count; i++) {
        hash += u64_mix(u64_mix(s->alarms[i].member) + s->alarms[i].kind);
    }
    return hash;
}

/* --- alarms --------------------------------------------------------------------------- */

bool state_alarm(const struct state *s, uint32_t kind)
{
    for (size_t i = 0; i < s->alarm_count; i++) {
        if (s->alarms[i].kind == kind) return true;
    }
    return false;
}

bool state_alarm_of(const struct state *s, uint32_t kind, uint64_t member)
{
    for (size_t i = 0; i < s->alarm_count; i++) {
        if (s->alarms[i].kind == kind && s->alarms[i].member == member) return true;
    }
    return false;
}

/* Place of (kind, member), or where it would be. */
static size_t alarm_place(const struct state *s, uint32_t kind, uint64_t member)
{
    size_t i = 0;
    for (; i < s->alarm_count; i++) {
        const struct alarm *a = &s->alarms[i];
        if (a->kind > kind || (a->kind == kind && a->member >= member)) break;
    }
    return i;
}

bool state_alarm_set(struct state *s, uint32_t kind, uint64_t member, bool raised)
{
    size_t at = alarm_place(s, kind, member);
    struct alarm *place = &s->alarms[at];
    bool present = at < s->alarm_count && place->kind == kind && place->member == member;
    if (present == raised) return true;
    if (raised && s->alarm_count == ALARM_COUNT_MAX) return false;
    size_t behind = s->alarm_count - at;
    if (raised) {
        memmove(place + 1, place, behind * sizeof *place);
        *place = (struct alarm){ kind, member };
        s->alarm_count++;
    } else {
        memmove(place, place + 1, (behind - 1) * sizeof *place);
        s->alarm_count--;
    }
    return true;
}

/* --- members -------------------------------------------------------------------------- */

static bool is_among(uint64_t member, const uint64_t *members, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (members[i] == member) return true;
    }
    return false;
}

bool state_was_applied(const struct state *s, uint64_t member, uint32_t incarnation, uint64_t seq)
{
    return dedup_was_applied(&s->dedup, member, incarnation, seq);
}

void state_origins_keep(struct state *s, const uint64_t *members, size_t count)
{
    for (size_t i = s->dedup.origin_count; i > 0; i--) {
        uint64_t member = s->dedup.origins[i - 1]->member;
        if (!is_among(member, members, count)) dedup_remove(&s->dedup, member);
    }
    for (size_t i = s->alarm_count; i > 0; i--) {
        struct alarm a = s->alarms[i - 1];
        if (!is_among(a.member, members, count)) state_alarm_set(s, a.kind, a.member, false);
    }
}

/* --- growth --------------------------------------------------------------------------- */

#define GROWTH_HEAD_BYTES sizeof(struct entry)
#define GROWTH_SEQ_BYTES 20
#define GROWTH_NUMBER_BYTES 20
#define GROWTH_LEASE_BYTES 128

static uint64_t op_growth(const struct op *o);

static uint64_t list_growth(const struct op_list *list)
{
    struct op o;
    uint64_t bytes = 0;
    for (size_t offset = 0; op_list_next_op(list, &offset, &o);) bytes += op_growth(&o);
    return bytes;
}

/* At most how many bytes the operation adds; 0: it does not grow anything. What a COPY adds shows
 * only when it is applied. */
static uint64_t op_growth(const struct op *o)
{
    uint64_t head = GROWTH_HEAD_BYTES + o->key.len;
    switch ((int)o->kind) {
    case OP_PUT:
    case OP_APPEND:
        return head + o->value.len;
    case OP_INCR:
        return head + GROWTH_NUMBER_BYTES;
    case OP_INCR_FLOAT:
        return head + REAL_TEXT_BYTES_MAX;
    case OP_SETRANGE:
        return head + o->value.len + (o->number > 0 ? (uint64_t)o->number : 0);
    case OP_SEQ:
        return head + GROWTH_SEQ_BYTES + o->value.len;
    case OP_RENAME:
    case OP_COPY:
        return GROWTH_HEAD_BYTES + o->key2.len;
    case OP_MPUT:
        return o->list.bytes.len + o->list.count * GROWTH_HEAD_BYTES;
    case OP_LEASE_GRANT:
        return GROWTH_LEASE_BYTES;
    case OP_TXN:
        return MAX(list_growth(&o->list), list_growth(&o->list2));
    default:
        return 0;
    }
}

bool state_quota_exceeded(const struct state *s, uint64_t more_bytes)
{
    uint64_t quota = s->settings.quota_bytes;
    return quota != 0 && mvcc_live_bytes(s->mvcc) + more_bytes > quota;
}

bool state_refuses_growth(const struct state *s, const struct op *op)
{
    uint64_t bytes = op_growth(op);
    if (bytes == 0) return false;
    if (UNLIKELY(s->alarm_count != 0) && state_alarm(s, ALARM_NOSPACE)) return true;
    return state_quota_exceeded(s, bytes);
}

bool state_op_grows(const struct op *op)
{
    return op_growth(op) != 0;
}

/* --- what the leader should propose --------------------------------------------------- */

struct due {
    struct buf *keys, *ids;
    uint32_t key_count, id_count;
};

/* What does not fit into an operation of the usual size is still due at the next call. */
static void due_visit(void *ctx, const struct lease *lease, const struct life *life)
{
    struct due *due = ctx;
    if (lease != NULL) {
        op_list_add_id(due->ids, lease->id);
        due->id_count++;
    } else if (due->keys->len < OP_BATCH_BYTES_MAX) {
        ASSERT(life->entry != NULL);
        op_list_add_internal_key(due->keys, entry_key(life->entry));
        due->key_count++;
    }
}

bool state_due(const struct state *s, uint64_t now_ms, size_t limit, struct buf *keys,
               struct buf *ids, struct op *op)
{
    struct due due = { .keys = keys, .ids = ids };
    buf_clear(keys);
    buf_clear(ids);
    lease_due(s->leases, now_ms, limit, due_visit, &due);
    if (due.key_count + due.id_count == 0) return false;
    *op = (struct op){
        .kind = OP_EXPIRE,
        .fields = (due.key_count != 0 ? FIELD_LIST : 0) | (due.id_count != 0 ? FIELD_LIST2 : 0),
        .list = { due.key_count, buf_slice(keys) },
        .list2 = { due.id_count, buf_slice(ids) },
    };
    return true;
}

uint64_t state_next_due_ms(const struct state *s)
{
    return lease_next_due_ms(s->leases);
}

uint64_t state_compact_due(const struct state *s, uint64_t history_bytes)
{
    struct retention_now now = {
        .stamp_ms = s->stamp_ms, .rev = mvcc_rev(s->mvcc),
        .compacted = mvcc_compacted(s->mvcc), .history_bytes = history_bytes,
    };
    return retention_due(&s->retention, &s->settings, &now);
}

bool state_compact_step(struct state *s, size_t max)
{
    return mvcc_compact_step(s->mvcc, max);
}

void state_packs_stored(struct state *s, uint64_t rev)
{
    mvcc_packs_stored(s->mvcc, rev);
}
