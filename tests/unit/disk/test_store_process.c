/* Priority of the store's threads, and how many pages of tables stay resident. */
#include "store_kit.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "disk/store_process.h"

struct seen {
    int low, normal;
    char name[16];
};

static void *other_thread(void *arg)
{
    struct seen *seen = arg;
    pthread_t self = pthread_self();
    store_priority_name();
    pthread_getname_np(self, seen->name, sizeof seen->name);
    store_priority_set(true);
    seen->low = getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid));
    store_priority_set(false);
    seen->normal = getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid));
    return NULL;
}

static void test_only_the_named_threads_change(void **state)
{
    (void)state;
    pthread_t thread;
    struct seen seen;
    int before = getpriority(PRIO_PROCESS, 0);
    assert_int_equal(pthread_create(&thread, NULL, other_thread, &seen), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(seen.name, STORE_THREAD_NAME);
    assert_int_equal(getpriority(PRIO_PROCESS, 0), before);
    if (before > 19 - STORE_NICE_LOW) return;
    bool root = geteuid() == 0;
    int step = seen.low - before;
    assert_true(step == STORE_NICE_LOW || step == STORE_NICE_UNPRIVILEGED);
    if (root) assert_int_equal(step, STORE_NICE_LOW);
    if (root) assert_int_equal(seen.normal, before);
}

static uint64_t sum(const uint8_t *at, size_t bytes)
{
    uint64_t total = 0;
    for (size_t i = 0; i < bytes; i += 512) total += at[i];
    return total;
}

/* A mapped file that is named like a table; its content is the same after its pages were let go. */
static void test_pages_of_tables_are_let_go(void **state)
{
    (void)state;
    static const size_t bytes = 16 << 20;
    char dir[] = "/tmp/cordis-store-XXXXXX"; /* a real file system: pages of /dev/shm are memory */
    assert_non_null(mkdtemp(dir));
    char *path = kit_join(dir, "000007.ldb");
    uint8_t *content = mem_alloc(bytes);
    memset(content, 3, bytes);
    kit_write_file(path, (struct slice){ content, bytes });
    mem_free(content);
    int fd = open(path, O_RDWR);
    assert_int_equal(fsync(fd), 0); /* as LevelDB does: dirty pages would have to be written */
    uint8_t *at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(at, MAP_FAILED);
    uint64_t before = store_memory_mapped_bytes();
    uint64_t expect = sum(at, bytes);
    uint64_t full = store_memory_mapped_bytes();
    assert_true(full >= before + bytes / 2);
    store_memory_limit(full + bytes);
    assert_true(store_memory_mapped_bytes() >= full);
    store_memory_limit(0);
    assert_true(store_memory_mapped_bytes() < full - bytes / 2);
    assert_int_equal(sum(at, bytes), expect);
    munmap(at, bytes);
    close(fd);
    unlink(path);
    rmdir(dir);
    mem_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_named_threads_change),
        cmocka_unit_test(test_pages_of_tables_are_let_go),
    };
    return cmocka_run_group_tests_name("disk/store_process", tests, NULL, NULL);
}
