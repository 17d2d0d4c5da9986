/* disk/store_process.c - see store_process.h. */
#include "disk/store_process.h"

#include <dirent.h>
#include <inttypes.h>
#include <linux/ioprio.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of 0..7 in the best-effort class; 4 is the kernel's default. Not the idle class: beside a busy
 * log, mq-deadline lets its requests wait for up to ten seconds each (prio_aging_expire). */
#define IO_LEVEL_NORMAL 4
#define IO_LEVEL_LOW 7

static void thread_set(long tid, int nice_value, bool low)
{
    int level = low ? IO_LEVEL_LOW : IO_LEVEL_NORMAL;
    setpriority(PRIO_PROCESS, (id_t)tid, nice_value);
    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, level));
}

/* The priority the process was started with is that of its first thread. */
static int process_nice(void)
{
    return getpriority(PRIO_PROCESS, (id_t)getpid());
}

static bool may_raise(void)
{
    struct rlimit limit;
    if (geteuid() == 0) return true;
    if (getrlimit(RLIMIT_NICE, &limit) != 0) return false;
    return limit.rlim_cur != RLIM_INFINITY ? (int64_t)limit.rlim_cur >= 20 - process_nice() : true;
}

static int low_nice(void)
{
    return process_nice() + (may_raise() ? STORE_NICE_LOW : STORE_NICE_UNPRIVILEGED);
}

void store_priority_name(void)
{
    pthread_setname_np(pthread_self(), STORE_THREAD_NAME);
}

static bool has_our_name(long tid)
{
    char path[64];
    char name[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%ld/comm", tid);
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    bool got = fgets(name, sizeof name, file) != NULL;
    fclose(file);
    return got && strcmp(name, STORE_THREAD_NAME "\n") == 0;
}

void store_priority_set(bool low)
{
    DIR *dir = opendir("/proc/self/task");
    if (dir == NULL) return;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        long tid = strtol(entry->d_name, NULL, 10);
        if (tid <= 0 || !has_our_name(tid)) continue;
        thread_set(tid, low ? low_nice() : process_nice(), low);
    }
    closedir(dir);
}

uint64_t store_memory_mapped_bytes(void)
{
    uint64_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) return 0;
    if (fscanf(file, "%*u %*u %" SCNu64, &pages) != 1) pages = 0;
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

#ifdef MADV_PAGEOUT
static void release_table(const char *line, size_t len)
{
    static const char end[] = ".ldb\n";
    size_t end_len = sizeof end - 1;
    uint64_t from = 0;
    uint64_t to = 0;
    if (len < end_len || strcmp(line + len - end_len, end) != 0) return;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " r--s", &from, &to) != 2 || to <= from) return;
    madvise((void *)(uintptr_t)from, (size_t)(to - from), MADV_PAGEOUT);
}
#endif

void store_memory_limit(uint64_t bytes_max)
{
    if (store_memory_mapped_bytes() <= bytes_max) return;
#ifdef MADV_PAGEOUT
    FILE *maps = fopen("/proc/self/maps", "re");
    if (maps == NULL) return;
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    while ((len = getline(&line, &cap, maps)) > 0) release_table(line, (size_t)len);
    free(line);
    fclose(maps);
#endif
}
