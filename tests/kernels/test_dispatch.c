// SPDX-License-Identifier: Apache-2.0
#include "check.h"

#include <stdlib.h>

#include "base/system.h"
#include "kernels/kernels.h"

static const char *chosen(const char *name) {
    const KernelTable *table = NULL;
    HoneError err = {0};
    return hone_kernel_table(name, &table, &err) == HONE_OK ? hone_kernel_table_name(table) : NULL;
}

static bool runs(const char *level, const CpuFeatures *cpu) {
    if (strcmp(level, "avx2") == 0) return cpu->avx2;
    if (strcmp(level, "avx512") == 0) return cpu->avx512;
    if (strcmp(level, "avx512bf16") == 0) return cpu->avx512_bf16;
    return strcmp(level, "generic") == 0 || strcmp(level, "neon") == 0;
}

// Of the levels built, in their order, those that run here (-DHONE_INTRINSICS=OFF builds one).
static void levels_follow_the_processor(void) {
    const char *names[8], *built[8];
    int count = hone_kernel_levels(names), wanted = 0, of = hone_kernel_levels_built(built);
    CpuFeatures cpu = hone_cpu_features();
    CHECK_STRING(built[0], "generic");
    for (int i = 0; i < of; i++) {
        if (!runs(built[i], &cpu)) continue;
        if (CHECK(wanted < count)) CHECK_STRING(names[wanted], built[i]);
        wanted++;
    }
    CHECK_INT(count, wanted);
}

static void each_level_is_found_by_name(void) {
    const char *names[8];
    int count = hone_kernel_levels(names);
    for (int i = 0; i < count; i++) CHECK_STRING(chosen(names[i]), names[i]);
}

static void the_best_level_is_the_default(void) {
    const char *names[8];
    int count = hone_kernel_levels(names);
    unsetenv("HONE_ISA");
    CHECK_STRING(chosen(NULL), names[count - 1]);
    setenv("HONE_ISA", "", 1);
    CHECK_STRING(chosen(NULL), names[count - 1]);
}

static void the_environment_forces_a_level(void) {
    setenv("HONE_ISA", "generic", 1);
    CHECK_STRING(chosen(NULL), "generic");
    setenv("HONE_ISA", "abacus", 1);
    const KernelTable *table = NULL;
    HoneError err = {0};
    CHECK_INT(hone_kernel_table(NULL, &table, &err), HONE_ERROR_ARGUMENT);
    CHECK_CONTAINS(err.message, "HONE_ISA");
    CHECK_CONTAINS(err.message, "abacus");
    CHECK_STRING(chosen("generic"), "generic");
    unsetenv("HONE_ISA");
}

static void an_unknown_level_names_those_that_would_do(void) {
    const KernelTable *table = NULL;
    HoneError err = {0};
    CHECK_INT(hone_kernel_table("neon2", &table, &err), HONE_ERROR_ARGUMENT);
    CHECK_CONTAINS(err.message, "neon2");
    CHECK_CONTAINS(err.message, "generic");
    if (!hone_cpu_features().avx512) CHECK(chosen("avx512") == NULL);
}

int main(void) {
    RUN(levels_follow_the_processor);
    RUN(each_level_is_found_by_name);
    RUN(the_best_level_is_the_default);
    RUN(the_environment_forces_a_level);
    RUN(an_unknown_level_names_those_that_would_do);
    return check_report();
}
