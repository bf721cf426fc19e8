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

static void levels_follow_the_processor(void) {
    const char *names[8];
    int count = hone_kernel_levels(names);
    CpuFeatures cpu = hone_cpu_features();
#if defined(__aarch64__)
    CHECK_INT(count, 2);
    CHECK_STRING(names[1], "neon");
#else
    CHECK_INT(count, 1 + (cpu.avx2 ? 1 : 0) + (cpu.avx512 ? 1 : 0) + (cpu.avx512_bf16 ? 1 : 0));
#endif
    CHECK_STRING(names[0], "generic");
    if (cpu.avx2) CHECK_STRING(names[1], "avx2");
    if (cpu.avx512) CHECK_STRING(names[2], "avx512");
    if (cpu.avx512_bf16) CHECK_STRING(names[3], "avx512bf16");
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
