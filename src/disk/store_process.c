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

#define IO_NORMAL_LEVEL 4 /* of 0..7 in the best-effort class: the kernel's default */

static void thread_set(long tid, int nice_value, bool io_idle)
{
    int io = io_idle ? IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)
                     : IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, IO_NORMAL_LEVEL);
    setpriority(PRIO_PROCESS, (id_t)tid, nice_value);
    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid, io);
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

void store_priority_begin(void)
{
    pthread_setname_np(pthread_self(), STORE_THREAD_NAME);
    thread_set(syscall(SYS_gettid), low_nice(), true);
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

void store_memory_release(void)
{
#ifdef MADV_PAGEOUT
    FILE *maps = fopen("/proc/self/maps", "re");
    if (maps == NULL) return;
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    while ((len = getline(&line, &cap, maps)) > 0) {
        static const char end[] = ".ldb\n";
        uint64_t from;
        uint64_t to;
        if ((size_t)len < sizeof end || strcmp(line + len - (sizeof end - 1), end) != 0) continue;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " r--s", &from, &to) != 2) continue;
        madvise((void *)(uintptr_t)from, (size_t)(to - from), MADV_PAGEOUT);
    }
    free(line);
    fclose(maps);
#endif
}
