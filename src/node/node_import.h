/* node/node_import.h - a state that arrives record by record becomes a store and a state.
 *
 * PURPOSE  Build a new store of the chunks of an export, read it back, and rebuild the state with its
 *          hash checked. Does not decide where chunks come from, or what becomes of the result.
 * OWNS     The new directory, its store and the new state until node_import_take; one chunk. The present store and state are not touched.
 * USES     disk (store, store_export, workers), state, raft_members.
 * THREADS  Loop thread only. Each call that begins something is carried out by a worker and answered
 *          through the done queue; there is one at a time.
 * LIMITS   NODE_IMPORT_BACKLOG_BYTES wait to be written: see node_import_is_behind. Memory: that, a
 *          chunk, and the finished state.
 * ERRORS   ERR_CORRUPT what came cannot be; ERR_UNSUPPORTED a newer version wrote it; ERR_NOSPACE
 *          less than the reserve would be free; ERR_IO; ERR_TIMEOUT it was cancelled. After an error
 *          only node_import_discard is left. None of them ends the process.
 */
#ifndef NODE_IMPORT_H
#define NODE_IMPORT_H

#include "disk/store_export.h"
#include "raft/raft_members.h"
#include "state/state.h"

#define NODE_IMPORT_BACKLOG_BYTES (8u << 20)

struct node_import;

struct node_import_options {
    const char *dir;            /* of the new store; what is there is removed. Copied */
    struct store_options store; /* as of the present one; dir and expendable are not looked at */
    struct done_queue *done;
    uint64_t hash_seed; /* of the new state */
    uint64_t reserve_bytes; /* of the disk that stay free */
    struct store_view view;
};

/* Begins: the directory is made. */
struct node_import *node_import_new(const struct node_import_options *options);
const struct work *node_import_work(const struct node_import *im); /* what the done queue gives */
enum err node_import_result(const struct node_import *im, struct errmsg *em) MUST_USE;

void node_import_chunk(struct node_import *im, struct buf *chunk_taken); /* left empty */
/* More was taken than is written: give it no chunk now. To be asked again, at most some ms later. */
bool node_import_is_behind(const struct node_import *im);
/* All chunks were taken: so many records, with this crc32c. Closes, opens, reads all of it. */
void node_import_finish(struct node_import *im, uint64_t count, uint32_t crc);
/* What is under way ends soon, with ERR_TIMEOUT if it would have taken long. */
void node_import_cancel(struct node_import *im);
/* At any time between an answer and the next call: closes and removes. */
void node_import_discard(struct node_import *im);
bool node_import_is_discarded(const struct node_import *im); /* that was the last call */

struct node_imported {
    struct state *state;
    struct store *store; /* scanned, not started */
    struct store_info info;
    struct raft_members members; /* in force at the applied index */
};
/* After finish was answered with OK, once. *out owns. */
void node_import_take(struct node_import *im, struct node_imported *out);
/* After take, or after discard was answered. NULL is allowed. */
void node_import_free(struct node_import *im);

/* The store that is being filled, NULL if none is open: to step it where nothing has threads. */
struct store *node_import_store(const struct node_import *im);

#endif
