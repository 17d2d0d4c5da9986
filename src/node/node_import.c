/* node/node_import.c - see node_import.h. */
#include "node/node_import.h"

#include "disk/db_current.h"
#include "disk/disk_wait.h"
#include "node/node_int.h"

struct node_import {
    struct work work;
    struct node_import_options options;
    char dir[DISK_PATH_BYTES_MAX];
    enum err result;
    struct errmsg em;
    uint32_t cancelled; /* atomic */

    struct store *store;
    struct state *state;
    struct store_info info;
    struct raft_members members;

    struct buf chunk;
    uint64_t count;
    uint32_t crc;
    uint64_t count_want;
    uint32_t crc_want;
    struct buf last_name;
    uint64_t last_rev;
    uint32_t last_n;
};

/* --- on a worker ------------------------------------------------------------------------ */

static const struct disk_io *import_io(const struct node_import *im)
{
    return im->options.store.io == NULL ? disk_io_posix() : im->options.store.io;
}

static enum err refused(struct node_import *im, const char *what)
{
    errmsg_set(&im->em, "snapshot: %s", what);
    return ERR_CORRUPT;
}

static enum err open_store(struct node_import *im, bool expendable)
{
    struct store_options options = im->options.store;
    options.dir = im->dir;
    options.expendable = expendable;
    return store_open(&options, &im->store, &im->info, &im->em);
}

static enum err no_meta(void *ctx, struct slice name, struct slice value)
{
    (void)ctx, (void)name, (void)value;
    return ERR_CORRUPT;
}

static enum err no_pack(void *ctx, uint64_t first_rev, uint32_t first_n, struct slice pack)
{
    (void)ctx, (void)first_rev, (void)first_n, (void)pack;
    return ERR_CORRUPT;
}

static enum err begin(struct node_import *im)
{
    TRY(db_remove(import_io(im), im->dir, &im->em));
    TRY(open_store(im, true));
    TRY(store_scan(im->store, no_meta, no_pack, NULL, &im->em));
    store_start(im->store);
    return OK;
}

static void begin_run(struct work *w)
{
    struct node_import *im = CONTAINER_OF(w, struct node_import, work);
    im->result = begin(im);
}

/* The store asserts their order; here it is a peer's word. */
static enum err take_record(struct node_import *im, struct store_batch *to,
                            const struct store_record *r)
{
    if (r->kind == STORE_RECORD_META) {
        if (im->last_rev != 0) return refused(im, "a name behind the packs");
        if (slice_cmp(r->name, buf_slice(&im->last_name)) <= 0) {
            return refused(im, "names do not ascend");
        }
        buf_clear(&im->last_name);
        buf_append_slice(&im->last_name, r->name);
        store_batch_put(to, r->name, r->value);
        return OK;
    }
    bool ascends = r->first_rev > im->last_rev ||
                   (r->first_rev == im->last_rev && r->first_n > im->last_n);
    if (!ascends || r->first_rev == 0) return refused(im, "packs do not ascend");
    im->last_rev = r->first_rev;
    im->last_n = r->first_n;
    store_batch_pack(to, r->first_rev, r->first_n, blob_copy(r->value));
    return OK;
}

/* Batches of index 0: a store that ends with one of them never looks whole. */
static enum err take_chunk(struct node_import *im, struct store_batch *to)
{
    struct slice rest = buf_slice(&im->chunk);
    im->crc = crc32c(im->crc, rest.at, rest.len);
    while (rest.len != 0) {
        struct store_record r;
        if (store_record_decode(&rest, &r) != OK) return refused(im, "a record is cut");
        TRY(take_record(im, to, &r));
        im->count++;
    }
    if (disk_free_bytes(im->options.store.io, im->dir) >= im->options.reserve_bytes) return OK;
    errmsg_set(&im->em, "snapshot: less than the reserve is free on the disk");
    return ERR_NOSPACE;
}

static void chunk_run(struct work *w)
{
    struct node_import *im = CONTAINER_OF(w, struct node_import, work);
    struct store_done done;
    struct store_batch *batch = store_batch_new();
    store_poll(im->store, &done); /* releases what is written */
    im->result = store_failed(im->store, &im->em);
    if (im->result == OK) im->result = take_chunk(im, batch);
    buf_deinit(&im->chunk);
    if (im->result != OK) {
        store_batch_free(batch);
        return;
    }
    store_submit(im->store, batch, &(struct store_cut){ .applied_index = 0 });
}

/* The last batch makes it whole, as of the view. */
static enum err close_whole(struct node_import *im)
{
    const struct store_view *v = &im->options.view;
    if (im->count != im->count_want || im->crc != im->crc_want) {
        return refused(im, "records are missing, or not as they were sent");
    }
    struct store_batch *last = store_batch_new();
    store_batch_floor(last, v->floor_rev);
    uint64_t number = store_submit(im->store, last,
                                   &(struct store_cut){ v->applied_index, v->applied_term,
                                                        v->compacted_rev });
    (void)number; /* closing writes it */
    store_close(im->store);
    im->store = NULL;
    return OK;
}

static enum err load(struct node_import *im)
{
    const struct store_view *v = &im->options.view;
    TRY(open_store(im, false));
    if (im->info.applied_index != v->applied_index || im->info.applied_term != v->applied_term ||
        im->info.compacted_rev != v->compacted_rev) {
        errmsg_set(&im->em, "%s: a write failed", im->dir); /* closing did not write all */
        return ERR_IO;
    }
    im->state = state_new(im->options.hash_seed);
    TRY(node_load_from(im->store, &im->info, im->dir, im->state, &im->members, &im->cancelled,
                       &im->em));
    if (im->members.count == 0) return refused(im, "it has no membership");
    bool same = state_applied_term(im->state) == v->applied_term &&
                mvcc_compacted(state_mvcc(im->state)) == v->compacted_rev;
    return same ? OK : refused(im, "it is not as of the index that was told");
}

static void finish_run(struct work *w)
{
    struct node_import *im = CONTAINER_OF(w, struct node_import, work);
    im->result = store_failed(im->store, &im->em);
    if (im->result == OK) im->result = close_whole(im);
    if (im->result == OK) im->result = load(im);
}

static void discard_run(struct work *w)
{
    struct node_import *im = CONTAINER_OF(w, struct node_import, work);
    store_close(im->store);
    im->store = NULL;
    state_free(im->state);
    im->state = NULL;
    im->result = db_remove(import_io(im), im->dir, &im->em); /* else the next start does it */
}

/* --- the loop ------------------------------------------------------------------------------ */

static void submit(struct node_import *im, void (*run)(struct work *w))
{
    im->work = (struct work){ .run = run, .done = im->options.done };
    workers_submit(im->options.store.workers, &im->work);
}

struct node_import *node_import_new(const struct node_import_options *options)
{
    ASSERT(options->view.applied_index != 0);
    ASSERT(options->view.floor_rev <= options->view.compacted_rev);
    struct node_import *im = mem_zalloc(sizeof *im);
    im->options = *options;
    ASSERT(strlen(options->dir) < sizeof im->dir);
    memcpy(im->dir, options->dir, strlen(options->dir) + 1);
    im->options.dir = im->dir;
    submit(im, begin_run);
    return im;
}

const struct work *node_import_work(const struct node_import *im)
{
    return &im->work;
}

enum err node_import_result(const struct node_import *im, struct errmsg *em)
{
    if (im->result != OK) errmsg_set(em, "%s", im->em.text);
    return im->result;
}

void node_import_chunk(struct node_import *im, struct buf *chunk)
{
    ASSERT(im->result == OK && im->store != NULL && im->state == NULL);
    ASSERT(im->chunk.at == NULL);
    im->chunk = *chunk;
    *chunk = (struct buf){ 0 };
    submit(im, chunk_run);
}

bool node_import_is_behind(const struct node_import *im)
{
    return im->store != NULL && store_backlog_bytes(im->store) > NODE_IMPORT_BACKLOG_BYTES;
}

void node_import_finish(struct node_import *im, uint64_t count, uint32_t crc)
{
    ASSERT(im->result == OK && im->store != NULL && im->state == NULL);
    im->count_want = count;
    im->crc_want = crc;
    submit(im, finish_run);
}

void node_import_cancel(struct node_import *im)
{
    __atomic_store_n(&im->cancelled, 1, __ATOMIC_RELAXED);
}

void node_import_discard(struct node_import *im)
{
    submit(im, discard_run);
}

bool node_import_is_discarded(const struct node_import *im)
{
    return im->work.run == discard_run;
}

void node_import_take(struct node_import *im, struct node_imported *out)
{
    ASSERT(im->result == OK && im->store != NULL && im->state != NULL);
    *out = (struct node_imported){ im->state, im->store, im->info, im->members };
    im->state = NULL;
    im->store = NULL;
}

void node_import_free(struct node_import *im)
{
    if (im == NULL) return;
    ASSERT(im->store == NULL && im->state == NULL);
    buf_deinit(&im->chunk);
    buf_deinit(&im->last_name);
    mem_free(im);
}

struct store *node_import_store(const struct node_import *im)
{
    return im->store;
}
