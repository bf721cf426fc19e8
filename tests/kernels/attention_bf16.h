// SPDX-License-Identifier: Apache-2.0
// The tables that multiply bf16 as it is: every level that can, and a copy of the best level that
// cannot with plain C in place of the instructions, so that the passes are tested anywhere.
#ifndef HONE_TESTS_KERNELS_ATTENTION_BF16_H
#define HONE_TESTS_KERNELS_ATTENTION_BF16_H

#include "check.h"
#include "kernels/kernels.h"
#include "kernels/reference/attention_bf16.h"
#include "kernels/table.h"

typedef struct Bf16Tables {
    KernelTable plain;
    const KernelTable *tables[8];
    int count;
} Bf16Tables;

// *found holds the plain table itself: it stays where it is.
static inline void find_bf16_tables(Bf16Tables *found) {
    const char *names[8];
    int levels = hone_kernel_levels(names);
    found->count = 0;
    found->tables[found->count++] = &found->plain;
    for (int i = 0; i < levels; i++) {
        const KernelTable *table;
        HoneError err = {0};
        if (!CHECK(hone_kernel_table(names[i], &table, &err) == HONE_OK)) continue;
        if (table->attention.product_bf16)
            found->tables[found->count++] = table;
        else
            found->plain = *table;
    }
    found->plain.name = "bf16 in plain C";
    hone_reference_bf16_kernels(&found->plain.attention);
}

#endif
