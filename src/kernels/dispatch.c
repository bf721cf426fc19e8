// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/system.h"
#include "kernels/kernels.h"
#include "kernels/table.h"

// One level: what it overrides, and whether a processor can run it.
typedef struct Level {
    const char *name;
    bool (*runs_on)(const CpuFeatures *cpu);
    void (*matmul)(MatmulTable *table);
    void (*attention)(AttentionTable *table);
    void (*element)(ElementTable *table); // NULL: as the level before
} Level;

// NEON is a part of 64-bit Arm.
static bool runs_anywhere(const CpuFeatures *cpu) {
    (void)cpu;
    return true;
}

#if defined(__x86_64__) && !defined(HONE_PLAIN_ONLY)
static bool runs_avx2(const CpuFeatures *cpu) {
    return cpu->avx2;
}

static bool runs_avx512(const CpuFeatures *cpu) {
    return cpu->avx512;
}

static bool runs_avx512bf16(const CpuFeatures *cpu) {
    return cpu->avx512_bf16;
}
#endif

// Worst first: each level starts as a copy of the one before.
static const Level levels[] = {
    {"generic", runs_anywhere, hone_generic_matmul, hone_generic_attention, hone_generic_element},
#if defined(HONE_PLAIN_ONLY)
#elif defined(__x86_64__)
    {"avx2", runs_avx2, hone_avx2_matmul, hone_avx2_attention, hone_avx2_element},
    {"avx512", runs_avx512, hone_avx512_matmul, hone_avx512_attention, hone_avx512_element},
    {"avx512bf16", runs_avx512bf16, hone_avx512bf16_matmul, hone_avx512bf16_attention, NULL},
#elif defined(__aarch64__)
    {"neon", runs_anywhere, hone_neon_matmul, hone_neon_attention, hone_neon_element},
#endif
};

enum { LEVELS = sizeof levels / sizeof *levels };

// Filled once and read-only from then on.
static KernelTable tables[LEVELS];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

// Only the levels that this processor has: even the filling is compiled with a level's own flags.
static void fill_tables(void) {
    const char *names[8];
    int count = hone_kernel_levels(names);
    for (int i = 0; i < count; i++) {
        if (i > 0) tables[i] = tables[i - 1];
        tables[i].name = levels[i].name;
        levels[i].matmul(&tables[i].matmul);
        levels[i].attention(&tables[i].attention);
        if (levels[i].element) levels[i].element(&tables[i].element);
    }
}

int hone_kernel_levels(const char *names[8]) {
    CpuFeatures cpu = hone_cpu_features();
    int count = 0;
    while (count < LEVELS && levels[count].runs_on(&cpu)) {
        names[count] = levels[count].name;
        count++;
    }
    return count;
}

int hone_kernel_levels_built(const char *names[8]) {
    for (int i = 0; i < LEVELS; i++) names[i] = levels[i].name;
    return LEVELS;
}

hone_status hone_kernel_table(const char *name, const KernelTable **table, HoneError *err) {
    const char *names[8];
    int count = hone_kernel_levels(names);
    bool from_environment = !name;
    if (from_environment) name = getenv("HONE_ISA");
    pthread_once(&tables_once, fill_tables);
    if (from_environment && (!name || !*name)) {
        *table = &tables[count - 1];
        return HONE_OK;
    }
    char known[64] = "";
    for (int i = 0; i < count; i++) {
        if (strcmp(name, names[i]) == 0) {
            *table = &tables[i];
            return HONE_OK;
        }
        if (i > 0) strcat(known, ", ");
        strcat(known, names[i]);
    }
    return hone_fail(err, HONE_ERROR_ARGUMENT, "%s \"%s\": this processor has the levels %s",
                     from_environment ? "HONE_ISA is" : "kernel level", name, known);
}

bool hone_kernel_has_bf16(const KernelTable *table) {
    return table->matmul.tile_bf16 != NULL;
}

const char *hone_kernel_table_name(const KernelTable *table) {
    return table->name;
}
