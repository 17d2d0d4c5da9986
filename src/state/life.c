/* state/life.c - see lease.h: the lifetimes of single keys. */
#include "state/lease_int.h"

#define SORT_BINS 32 /* sorts up to 2^32 keys */

static inline struct life_node *node_of(struct life *life)
{
    return CONTAINER_OF(life, struct life_node, life);
}

uint64_t life_hash(const struct life *life)
{
    if (life->lease_id == 0 && life->deadline_ms == 0 && life->life_index == 0) return 0;
    const struct life_node *node =
        (const struct life_node *)(const void *)((const char *)life -
                                                 offsetof(struct life_node, life));
    uint64_t h = u64_mix(node->key_hash + 0xc2b2ae3d27d4eb4fULL);
    h = u64_mix(h ^ life->lease_id);
    h = u64_mix(h ^ (uint64_t)life->deadline_ms);
    h = u64_mix(h ^ (uint64_t)life->unix_ms);
    return u64_mix(h ^ life->life_index);
}

/* --- lists of what changed ------------------------------------------------------------ */

static void mark_changed(struct lease_table *t, struct life_node *node)
{
    node->life.changed = true;
    if (node->changed_at != 0) return;
    if (t->life_changed_count == t->life_changed_cap) {
        t->life_changed_cap = MAX(t->life_changed_cap * 2, 64);
        t->life_changed =
            mem_realloc(t->life_changed, t->life_changed_cap * sizeof *t->life_changed);
    }
    t->life_changed[t->life_changed_count++] = node;
    ASSERT(t->life_changed_count <= UINT32_MAX);
    node->changed_at = (uint32_t)t->life_changed_count;
}

static void unmark_changed(struct lease_table *t, struct life_node *node)
{
    node->life.changed = false;
    if (node->changed_at == 0) return;
    t->life_changed[node->changed_at - 1] = NULL;
    node->changed_at = 0;
    while (t->life_changed_count > 0 && t->life_changed[t->life_changed_count - 1] == NULL) {
        t->life_changed_count--;
    }
}

void life_record_forget(struct lease_table *t, struct slice key)
{
    ASSERT(key.len <= MVCC_KEY_BYTES_MAX);
    buf_append_u32(&t->life_gone, (uint32_t)key.len);
    buf_append_slice(&t->life_gone, key);
}

bool life_changed_at(const struct lease_table *t, size_t at, const struct life **out)
{
    if (at >= t->life_changed_count) return false;
    *out = t->life_changed[at] != NULL ? &t->life_changed[at]->life : NULL;
    return true;
}

bool life_gone_next(const struct lease_table *t, size_t *offset, struct slice *key)
{
    if (*offset == t->life_gone.len) return false;
    const uint8_t *at = t->life_gone.at + *offset;
    *key = (struct slice){ at + 4, u32_le(at) };
    *offset += 4 + key->len;
    return true;
}

void life_changes_clear(struct lease_table *t)
{
    for (size_t i = 0; i < t->life_changed_count; i++) {
        struct life_node *node = t->life_changed[i];
        if (node == NULL) continue;
        node->changed_at = 0;
        node->life.recorded = true;
    }
    t->life_changed_count = 0;
    buf_clear(&t->life_gone);
}

/* --- where a life is: a lease's list, the timer, or the idle list --------------------- */

static void list_push(struct life **head, struct life *life)
{
    life->prev = NULL;
    life->next = *head;
    if (*head != NULL) (*head)->prev = life;
    *head = life;
}

static void list_remove(struct life **head, struct life *life)
{
    if (life->prev != NULL) {
        life->prev->next = life->next;
    } else {
        ASSERT(*head == life);
        *head = life->next;
    }
    if (life->next != NULL) life->next->prev = life->prev;
    life->prev = life->next = NULL;
}

static void leave_list(struct lease_table *t, struct life *life)
{
    if (life->lease_id == 0) {
        list_remove(&t->idle, life);
        return;
    }
    struct lease *l = lease_get(t, life->lease_id);
    ASSERT(l != NULL && l->key_count > 0);
    list_remove(&l->keys, life);
    l->key_count--;
}

static inline bool is_idle(const struct life *life)
{
    return life->lease_id == 0 && life->timer == 0;
}

/* Out of wherever it is, and out of the hash; says nothing afterwards. */
static void leave(struct lease_table *t, struct life *life)
{
    t->hash -= life_hash(life);
    t->expiring[life->db] -= !is_idle(life);
    if (life->timer != 0) {
        timer_remove(&t->timer, life->timer);
    } else {
        leave_list(t, life);
    }
    life->lease_id = 0;
    life->deadline_ms = 0;
    life->unix_ms = 0;
}

/* --- making, changing, ending --------------------------------------------------------- */

struct life *life_new(struct lease_table *t, struct slice key)
{
    struct life_node *node = mem_zalloc(sizeof *node);
    node->key_hash = crc32c(0, key.at, key.len);
    node->life.db = key.len > 0 ? key.at[0] : 0;
    list_push(&t->idle, &node->life);
    t->life_count++;
    return &node->life;
}

static void record_forget(struct lease_table *t, struct life *life, struct slice key)
{
    ASSERT(node_of(life)->key_hash == crc32c(0, key.at, key.len));
    if (life->recorded) life_record_forget(t, key);
    life->recorded = false;
}

void life_free(struct lease_table *t, struct life *life, struct slice key)
{
    if (life == NULL) return;
    leave(t, life);
    unmark_changed(t, node_of(life));
    record_forget(t, life, key);
    t->life_count--;
    mem_free(node_of(life));
}

void life_set_private(struct lease_table *t, struct life *life, int64_t deadline_ms,
                      int64_t unix_ms, uint64_t life_index)
{
    ASSERT(deadline_ms > 0);
    ASSERT(life_index > 0);
    t->hash -= life_hash(life);
    t->expiring[life->db] += is_idle(life);
    if (life->timer == 0) {
        leave_list(t, life);
        life->lease_id = 0;
        life->deadline_ms = deadline_ms;
        timer_add(&t->timer, timer_owner_life(life), deadline_ms);
    } else {
        life->deadline_ms = deadline_ms;
        if (deadline_ms < timer_at(&t->timer, life->timer)->when_ms) {
            timer_move(&t->timer, life->timer, deadline_ms);
        }
    }
    life->unix_ms = unix_ms;
    life->life_index = life_index;
    t->hash += life_hash(life);
    mark_changed(t, node_of(life));
}

void life_clear(struct lease_table *t, struct life *life, uint64_t life_index)
{
    ASSERT(life_index > 0);
    leave(t, life);
    list_push(&t->idle, life);
    life->life_index = life_index;
    t->hash += life_hash(life);
    mark_changed(t, node_of(life));
}

static void attach(struct lease_table *t, struct lease *l, struct life *life, uint64_t life_index)
{
    leave(t, life);
    life->lease_id = l->id;
    life->life_index = life_index;
    list_push(&l->keys, life);
    l->key_count++;
    t->expiring[life->db]++;
    t->hash += life_hash(life);
}

enum err lease_attach(struct lease_table *t, uint64_t id, struct life *life, uint64_t life_index,
                      uint64_t keys_max)
{
    ASSERT(life_index > 0);
    struct lease *l = lease_get(t, id);
    if (l == NULL) return ERR_NOLEASE;
    if (life->lease_id != id && l->key_count >= keys_max) return ERR_LEASE_KEYS;
    attach(t, l, life, life_index);
    mark_changed(t, node_of(life));
    return OK;
}

void life_written(struct lease_table *t, struct life *life, struct slice key)
{
    unmark_changed(t, node_of(life));
    record_forget(t, life, key);
}

int64_t life_deadline_ms(const struct lease_table *t, const struct life *life)
{
    if (life->lease_id == 0) return life->deadline_ms;
    const struct lease *l = lease_find(t, life->lease_id);
    ASSERT(l != NULL);
    return l->deadline_ms;
}

enum err life_load(struct lease_table *t, struct slice key, const struct life_record *record,
                   struct life **out)
{
    struct lease *l = NULL;
    if (record->life_index == 0 || record->deadline_ms < 0) return ERR_CORRUPT;
    if (record->lease_id != 0) {
        l = lease_get(t, record->lease_id);
        if (l == NULL || record->deadline_ms != 0 || record->unix_ms != 0) return ERR_CORRUPT;
    }
    struct life *life = life_new(t, key);
    if (l != NULL) {
        attach(t, l, life, record->life_index);
    } else if (record->deadline_ms != 0) {
        life_set_private(t, life, record->deadline_ms, record->unix_ms, record->life_index);
    } else {
        life_clear(t, life, record->life_index);
    }
    unmark_changed(t, node_of(life));
    life->changed = record->recorded;
    life->recorded = record->recorded;
    *out = life;
    return OK;
}

/* --- sorting a lease's keys: merge sort of a list ------------------------------------- */

static inline bool key_before(const struct life *a, const struct life *b)
{
    return slice_cmp(entry_key(a->entry), entry_key(b->entry)) < 0;
}

static struct life *merge(struct life *a, struct life *b)
{
    struct life *head = NULL, **end = &head;
    while (a != NULL && b != NULL) {
        struct life **from = key_before(b, a) ? &b : &a;
        *end = *from;
        end = &(*from)->next;
        *from = (*from)->next;
    }
    *end = a != NULL ? a : b;
    return head;
}

/* Only the next pointers; the prev pointers are put right afterwards. */
static struct life *sorted(struct life *list)
{
    struct life *bins[SORT_BINS] = { NULL }; /* bins[i]: a sorted list of 2^i, or none */
    while (list != NULL) {
        struct life *one = list;
        list = list->next;
        one->next = NULL;
        size_t i = 0;
        for (; bins[i] != NULL; i++) {
            one = merge(bins[i], one);
            bins[i] = NULL;
        }
        ASSERT(i < SORT_BINS);
        bins[i] = one;
    }
    struct life *all = NULL;
    for (size_t i = 0; i < SORT_BINS; i++) all = merge(bins[i], all);
    return all;
}

void lease_sort_keys(struct lease_table *t, uint64_t id)
{
    struct lease *l = lease_get(t, id);
    if (l == NULL) return;
    const struct life *first = l->keys;
    bool in_order = true;
    for (; in_order && first != NULL && first->next != NULL; first = first->next) {
        in_order = !key_before(first->next, first);
    }
    if (in_order) return;
    l->keys = sorted(l->keys);
    struct life *prev = NULL;
    for (struct life *life = l->keys; life != NULL; life = life->next) {
        life->prev = prev;
        prev = life;
    }
}
