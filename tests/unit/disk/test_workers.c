/* The pool runs every job once and hands it back; the loop is woken when it sleeps, only then. */
#include "store_kit.h"

#include <pthread.h>
#include <signal.h>

#include "disk/workers_int.h"

struct job {
    struct work work;
    int *runs; /* atomic */
    int number;
    bool signals_blocked;
};

static void job_run(struct work *w)
{
    struct job *job = CONTAINER_OF(w, struct job, work);
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    job->signals_blocked = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGINT) == 1;
    __atomic_fetch_add(job->runs, 1, __ATOMIC_SEQ_CST);
}

static struct work *wait_some(struct done_queue *q)
{
    for (;;) {
        struct work *w = done_queue_take(q);
        if (w != NULL) return w;
        struct pollfd ready = { .fd = done_queue_fd(q), .events = POLLIN };
        if (!done_queue_about_to_sleep(q)) continue;
        assert_int_equal(poll(&ready, 1, -1), 1);
        done_queue_woke(q);
    }
}

static void test_every_job_comes_back_once(void **state)
{
    (void)state;
    for (size_t threads = 1; threads <= 4; threads++) {
        enum { JOBS = 3000 };
        static struct job jobs[JOBS];
        struct workers *ws;
        struct done_queue q;
        int runs = 0;
        int back = 0;
        assert_int_equal(done_queue_init(&q, NULL), OK);
        assert_int_equal(workers_new(threads, &ws, NULL), OK);
        for (int i = 0; i < JOBS; i++) {
            jobs[i] = (struct job){ .work = { .run = job_run, .done = &q }, .runs = &runs,
                                    .number = i };
            workers_submit(ws, &jobs[i].work);
            if (i % 100 != 0) continue;
            for (struct work *w = wait_some(&q); w != NULL; w = w->next) back++;
        }
        while (back < JOBS) {
            for (struct work *w = wait_some(&q); w != NULL; w = w->next) {
                assert_true(CONTAINER_OF(w, struct job, work)->signals_blocked);
                back++;
            }
        }
        assert_int_equal(back, JOBS);
        assert_int_equal(runs, JOBS);
        workers_free(ws);
        done_queue_deinit(&q);
    }
}

static void test_free_runs_what_was_submitted(void **state)
{
    (void)state;
    enum { JOBS = 200 };
    struct job jobs[JOBS];
    struct workers *ws;
    struct done_queue q;
    int runs = 0;
    int back = 0;
    assert_int_equal(done_queue_init(&q, NULL), OK);
    assert_int_equal(workers_new(2, &ws, NULL), OK);
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = (struct job){ .work = { .run = job_run, .done = &q }, .runs = &runs };
        workers_submit(ws, &jobs[i].work);
    }
    workers_free(ws);
    assert_int_equal(runs, JOBS);
    for (struct work *w = done_queue_take(&q); w != NULL; w = w->next) back++;
    assert_int_equal(back, JOBS);
    done_queue_deinit(&q);
    workers_free(NULL);
}

static void test_the_queue_keeps_order_and_wakes_only_a_sleeper(void **state)
{
    (void)state;
    struct done_queue q;
    struct work items[5] = { { 0 } };
    uint64_t count = 0;
    assert_int_equal(done_queue_init(&q, NULL), OK);
    assert_null(done_queue_take(&q));
    for (size_t i = 0; i < 5; i++) done_queue_push(&q, &items[i]);
    assert_int_equal(read(done_queue_fd(&q), &count, sizeof count), -1); /* nobody slept */
    assert_false(done_queue_about_to_sleep(&q));
    struct work *w = done_queue_take(&q);
    for (size_t i = 0; i < 5; i++, w = w->next) assert_ptr_equal(w, &items[i]);
    assert_null(w);

    assert_true(done_queue_about_to_sleep(&q));
    done_queue_push(&q, &items[0]);
    done_queue_push(&q, &items[1]);
    assert_int_equal(read(done_queue_fd(&q), &count, sizeof count), sizeof count);
    assert_int_equal(count, 1); /* written once for both */
    assert_int_equal(write(done_queue_fd(&q), &count, sizeof count), sizeof count);
    done_queue_woke(&q);
    assert_ptr_equal(done_queue_take(&q), &items[0]);

    /* Woken by something else. */
    assert_true(done_queue_about_to_sleep(&q));
    done_queue_woke(&q);
    done_queue_push(&q, &items[2]);
    assert_int_equal(read(done_queue_fd(&q), &count, sizeof count), -1);
    assert_ptr_equal(done_queue_take(&q), &items[2]);
    done_queue_deinit(&q);
}

/* A pusher may be preempted between taking `sleeping` and writing. Its write must be read at some
 * later wake: one that stays readable would keep the loop from ever sleeping again. */
static void test_a_late_write_is_read_later(void **state)
{
    (void)state;
    struct done_queue q;
    struct work item = { 0 };
    uint64_t one = 1;
    assert_int_equal(done_queue_init(&q, NULL), OK);
    assert_true(done_queue_about_to_sleep(&q));
    q.sleeping = 0; /* the first pusher took it and is preempted */
    done_queue_woke(&q);

    assert_true(done_queue_about_to_sleep(&q));
    done_queue_push(&q, &item);
    done_queue_woke(&q); /* reads the write of the second */
    assert_ptr_equal(done_queue_take(&q), &item);

    assert_int_equal(write(done_queue_fd(&q), &one, sizeof one), sizeof one); /* the first goes on */
    done_queue_woke(&q); /* it is readable: no sleep needs to come before */
    assert_int_equal(read(done_queue_fd(&q), &one, sizeof one), -1);
    done_queue_deinit(&q);
}

struct ringer {
    struct doorbell bell;
    int left; /* atomic */
};

static void *ring_many(void *arg)
{
    struct ringer *r = arg;
    while (__atomic_sub_fetch(&r->left, 1, __ATOMIC_SEQ_CST) > 0) doorbell_ring(&r->bell);
    doorbell_ring_all(&r->bell);
    return NULL;
}

static void test_a_ring_is_not_lost(void **state)
{
    (void)state;
    for (int round = 0; round < 200; round++) {
        struct ringer r = { .left = 20 };
        pthread_t thread;
        assert_int_equal(thread_start(&thread, "ringer", ring_many, &r, NULL), OK);
        for (;;) {
            uint32_t seen = doorbell_seen(&r.bell);
            if (__atomic_load_n(&r.left, __ATOMIC_SEQ_CST) <= 0) break;
            doorbell_wait(&r.bell, seen); /* hangs if one is lost */
        }
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
}

static void test_manual_workers_run_a_job_a_step(void **state)
{
    (void)state;
    struct workers *ws;
    struct done_queue q;
    int runs = 0;
    struct job jobs[3];
    done_queue_init_manual(&q);
    assert_int_equal(done_queue_fd(&q), -1);
    assert_int_equal(workers_new(0, &ws, NULL), OK);
    assert_false(workers_step(ws));
    for (int i = 0; i < 3; i++) {
        jobs[i] = (struct job){ .work = { .run = job_run, .done = &q }, .runs = &runs };
        workers_submit(ws, &jobs[i].work);
    }
    assert_int_equal(runs, 0);
    assert_true(done_queue_about_to_sleep(&q));
    assert_true(workers_step(ws));
    assert_int_equal(runs, 1);
    done_queue_woke(&q);
    assert_false(done_queue_about_to_sleep(&q));
    assert_ptr_equal(done_queue_take(&q), &jobs[0].work);
    workers_abandon(ws); /* the others come back as they are */
    assert_int_equal(runs, 1);
    struct work *w = done_queue_take(&q);
    assert_ptr_equal(w, &jobs[1].work);
    assert_ptr_equal(w->next, &jobs[2].work);
    assert_int_equal(workers_new(0, &ws, NULL), OK);
    workers_submit(ws, &jobs[0].work);
    workers_free(ws); /* runs what was submitted */
    assert_int_equal(runs, 2);
    assert_ptr_equal(done_queue_take(&q), &jobs[0].work);
    done_queue_deinit(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_job_comes_back_once),
        cmocka_unit_test(test_free_runs_what_was_submitted),
        cmocka_unit_test(test_the_queue_keeps_order_and_wakes_only_a_sleeper),
        cmocka_unit_test(test_a_late_write_is_read_later),
        cmocka_unit_test(test_a_ring_is_not_lost),
        cmocka_unit_test(test_manual_workers_run_a_job_a_step),
    };
    return cmocka_run_group_tests_name("disk/workers", tests, NULL, NULL);
}
