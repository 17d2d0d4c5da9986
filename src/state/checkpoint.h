/* state/checkpoint.h - the state as the store keeps it: what a cut writes, how it is read again.
 *
 * PURPOSE  Take everything that changed since the last cut, as of one applied index, as names,
 *          values and packs of rows; and build a state from such names, values and packs. Does not
 *          decide when, and touches no file.
 * OWNS     struct checkpoint: its bytes and one reference on each pack.
 * USES     state, mvcc, base.
 * THREADS  Loop thread only. A checkpoint's bytes may be read by the store thread until
 *          checkpoint_deinit, which is the loop's again (packs are counted there).
 * LIMITS   None of its own.
 * ERRORS   ERR_CORRUPT: not what a cut wrote, or the rebuilt state has another hash.
 *          ERR_UNSUPPORTED: written by a later version.
 *
 * FORMAT   Names sort before packs ('r'). 'L', 'S', 'T' are this module's; the node's own names
 *          begin with another capital letter. Numbers are little-endian, varint is LEB128.
 *  every value  u8 version (1) | body | u32 crc32c over name, version and body
 *  "S"          u64 applied index, term, stamp_ms | i64 wall_ms | u64 revision, compacted, live
 *               keys, state hash, next lease id, lease count |
 *               4 x (u32 length, bytes): settings, dedup windows, retention samples, alarms
 *               alarms = varint count | count x (varint kind, u64 member), ascending
 *  "L" id(be64) varint ttl_ms, deadline_ms
 *  "T" key      a lifetime that the key's newest row does not say. key: internal.
 *               varint mod (revision of that row), lease, deadline_ms, unix_ms, life_index
 */
#ifndef STATE_CHECKPOINT_H
#define STATE_CHECKPOINT_H

#include "state/state.h"

#define CHECKPOINT_FORMAT 1

struct checkpoint {
    uint64_t applied_index, applied_term;
    uint64_t rev, compacted;
    uint64_t hash;
    struct buf metas;        /* walked with checkpoint_next_meta */
    struct mvcc_pack *packs; /* ascending; each with a reference of its own */
    size_t pack_count;
};

struct checkpoint_meta {
    bool is_put; /* else: delete the name */
    struct slice name, value;
};

/* Everything since the last cut, as of the applied index. *out is overwritten. Whoever cuts must
 * write it: the state counts it as written. */
void checkpoint_cut(struct state *s, struct checkpoint *out);
void checkpoint_deinit(struct checkpoint *c); /* a second call does nothing */

/* In the order in which the store must execute them; *offset starts at 0; false at the end.
 * Borrows from c. */
bool checkpoint_next_meta(const struct checkpoint *c, size_t *offset, struct checkpoint_meta *out);

/* --- loading -------------------------------------------------------------------------- */

struct checkpoint_load;

/* s: new and empty, borrowed until end or free. */
struct checkpoint_load *checkpoint_load_begin(struct state *s);
/* Gives up: the state must not be used any more. NULL is allowed. */
void checkpoint_load_free(struct checkpoint_load *load);

/* Is this name one of this module's? */
bool checkpoint_owns_name(struct slice name);

/* Each of this module's names, in ascending order. */
enum err checkpoint_load_meta(struct checkpoint_load *load, struct slice name, struct slice value,
                              struct errmsg *em) MUST_USE;

/* A row that is dead: nobody needs it any more. Slices borrow until the return. */
struct checkpoint_dead {
    void (*note)(void *ctx, uint64_t rev, struct slice key); /* NULL: nobody wants to know */
    void *ctx;
};

/* Each pack, ascending by first_rev, after all names. */
enum err checkpoint_load_pack(struct checkpoint_load *load, uint64_t first_rev, struct slice pack,
                              const struct checkpoint_dead *dead, struct errmsg *em) MUST_USE;

/* Puts lifetimes in place, checks the hash, frees `load` (also on error). On OK the state is as it
 * was at the cut, and what changes from now on goes into its next cut. */
enum err checkpoint_load_end(struct checkpoint_load *load, struct errmsg *em) MUST_USE;

#endif
