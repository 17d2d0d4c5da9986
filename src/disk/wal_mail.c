/* disk/wal_mail.c - the mailbox between two threads, and the clock of the statistics. */
#include "disk/wal_int.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void futex_wake(uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Every other load, store and exchange is sequentially consistent: the pusher writes head and reads
 * asleep, the taker writes asleep and reads head; one of them must see the other. */
static void mail_wake(struct wal_mail *m)
{
    if (__atomic_load_n(&m->asleep, __ATOMIC_SEQ_CST) == 0) return;
    if (__atomic_exchange_n(&m->asleep, 0, __ATOMIC_SEQ_CST) != 0) futex_wake(&m->asleep);
}

void wal_mail_push(struct wal_mail *m, struct wal_mail_node *n)
{
    struct wal_mail_node *head = __atomic_load_n(&m->head, __ATOMIC_RELAXED);
    do {
        n->next = head;
    } while (!__atomic_compare_exchange_n(&m->head, &head, n, true, __ATOMIC_SEQ_CST,
                                          __ATOMIC_RELAXED));
    mail_wake(m);
}

struct wal_mail_node *wal_mail_take(struct wal_mail *m)
{
    if (wal_mail_is_empty(m)) return NULL;
    struct wal_mail_node *newest = __atomic_exchange_n(&m->head, NULL, __ATOMIC_SEQ_CST);
    struct wal_mail_node *oldest = NULL;
    while (newest != NULL) {
        struct wal_mail_node *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

bool wal_mail_is_empty(const struct wal_mail *m)
{
    return __atomic_load_n(&m->head, __ATOMIC_SEQ_CST) == NULL;
}

void wal_mail_wait(struct wal_mail *m, int64_t timeout_ms)
{
    __atomic_store_n(&m->asleep, 1, __ATOMIC_SEQ_CST);
    if (__atomic_exchange_n(&m->kicked, 0, __ATOMIC_SEQ_CST) == 0 && wal_mail_is_empty(m)) {
        struct timespec limit = { timeout_ms / 1000, timeout_ms % 1000 * 1000000 };
        syscall(SYS_futex, &m->asleep, FUTEX_WAIT_PRIVATE, 1, timeout_ms < 0 ? NULL : &limit, NULL,
                0);
    }
    __atomic_store_n(&m->asleep, 0, __ATOMIC_SEQ_CST);
}

void wal_mail_kick(struct wal_mail *m)
{
    __atomic_store_n(&m->kicked, 1, __ATOMIC_SEQ_CST);
    mail_wake(m);
}

int64_t wal_clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
