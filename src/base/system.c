// SPDX-License-Identifier: Apache-2.0
#include "base/system.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define HONE_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HONE_HAS_ASAN 1
#endif
#endif
#ifdef HONE_HAS_ASAN
#include <sanitizer/asan_interface.h>
#endif

void *hone_pages_alloc(size_t bytes, bool reserve) {
    int protection = reserve ? PROT_NONE : PROT_READ | PROT_WRITE;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (reserve ? MAP_NORESERVE : 0);
    void *pages = mmap(NULL, bytes, protection, flags, -1, 0);
    if (pages == MAP_FAILED) return NULL;
    if (!reserve) hone_pages_advise(pages, bytes);
    return pages;
}

void hone_pages_advise(void *pages, size_t bytes) {
#ifdef MADV_HUGEPAGE
    madvise(pages, bytes, MADV_HUGEPAGE);
#else
    (void)pages, (void)bytes;
#endif
}

void hone_pages_free(void *pages, size_t bytes, bool reserve) {
    if (!pages) return;
    if (!reserve) hone_unpoison(pages, bytes); // the next owner of these addresses starts clean
    munmap(pages, bytes);
}

void hone_poison(void *memory, size_t bytes) {
#ifdef HONE_HAS_ASAN
    ASAN_POISON_MEMORY_REGION(memory, bytes);
#else
    (void)memory, (void)bytes;
#endif
}

void hone_unpoison(void *memory, size_t bytes) {
#ifdef HONE_HAS_ASAN
    ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
#else
    (void)memory, (void)bytes;
#endif
}

// Read a small file of /sys or /proc; false when it is not there.
static bool read_small(const char *path, char *text, size_t size) {
    FILE *file = fopen(path, "re");
    if (!file) return false;
    size_t got = fread(text, 1, size - 1, file);
    text[got] = '\0';
    fclose(file);
    return got > 0;
}

static int quota_cores(void) {
    char text[128];
    long long quota, period;
    if (read_small("/sys/fs/cgroup/cpu.max", text, sizeof text) &&
        sscanf(text, "%lld %lld", &quota, &period) == 2 && period > 0)
        return (int)((quota + period - 1) / period);
    return 0;
}

int hone_physical_cores(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    int cores = 0;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (!CPU_ISSET(cpu, &set)) continue;
            char path[128], text[128];
            snprintf(path, sizeof path,
                     "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
            // A core counts once: by its first hardware thread that we may use.
            int first = cpu;
            if (read_small(path, text, sizeof text)) {
                for (int other = atoi(text); other < cpu; other++) {
                    bool listed = strchr(text, '-') || strtol(text, NULL, 10) == other;
                    if (listed && CPU_ISSET(other, &set)) {
                        first = other;
                        break;
                    }
                }
            }
            cores += first == cpu;
        }
    }
    if (cores < 1) cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    int quota = quota_cores();
    if (quota > 0 && quota < cores) cores = quota;
    return cores > 0 ? cores : 1;
}

double hone_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int64_t hone_resident_parts(int64_t *anonymous, int64_t *mapped) {
    char text[256];
    long long size, resident, shared;
    *anonymous = *mapped = 0;
    if (!read_small("/proc/self/statm", text, sizeof text) ||
        sscanf(text, "%lld %lld %lld", &size, &resident, &shared) != 3)
        return 0;
    const int64_t page = sysconf(_SC_PAGESIZE);
    *mapped = shared * page;
    *anonymous = (resident - shared) * page;
    return resident * page;
}

int64_t hone_resident_bytes(void) {
    int64_t anonymous, mapped;
    return hone_resident_parts(&anonymous, &mapped);
}

// getrusage counts what the process that started this one held, until exec, as this one's.
int64_t hone_resident_peak(void) {
    char text[4096];
    long long kib;
    const char *line =
        read_small("/proc/self/status", text, sizeof text) ? strstr(text, "VmHWM:") : NULL;
    if (line && sscanf(line, "VmHWM: %lld", &kib) == 1) return kib * 1024;
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
    return (int64_t)usage.ru_maxrss * 1024;
}

int64_t hone_memory_available(void) {
    int64_t available = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    if (file) {
        char line[256];
        long long kib;
        while (fgets(line, sizeof line, file))
            if (sscanf(line, "MemAvailable: %lld kB", &kib) == 1) available = kib * 1024;
        fclose(file);
    }
    char text[64];
    long long limit, used;
    if (read_small("/sys/fs/cgroup/memory.max", text, sizeof text) &&
        sscanf(text, "%lld", &limit) == 1 &&
        read_small("/sys/fs/cgroup/memory.current", text, sizeof text) &&
        sscanf(text, "%lld", &used) == 1 && (available == 0 || limit - used < available))
        available = limit - used;
    return available;
}

int64_t hone_memory_total(void) {
    return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

void hone_processor_name(char *text, size_t size) {
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[512];
    *text = '\0';
    while (file && !*text && fgets(line, sizeof line, file)) {
        const char *value = strchr(line, ':');
        // Arm's kernels say only what the device tree knows, under one of these names.
        const bool named = strncmp(line, "model name", 10) == 0 ||
                           strncmp(line, "Hardware", 8) == 0 || strncmp(line, "Model", 5) == 0;
        if (!value || !named) continue;
        value += 1 + strspn(value + 1, " \t");
        snprintf(text, size, "%.*s", (int)strcspn(value, "\n"), value);
    }
    if (file) fclose(file);
}

CpuFeatures hone_cpu_features(void) {
    CpuFeatures found = {0};
#if defined(__x86_64__)
    // gcc and clang check XCR0 too, so a level is reported only if the system saves its registers.
    __builtin_cpu_init();
    found.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    found.avx512 = found.avx2 && __builtin_cpu_supports("avx512f") &&
                   __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vl");
    found.avx512_vnni = found.avx512 && __builtin_cpu_supports("avx512vnni");
    found.avx512_bf16 = found.avx512 && __builtin_cpu_supports("avx512bf16");
#elif defined(__aarch64__)
    found.neon = true;
#endif
    return found;
}
