// SPDX-License-Identifier: Apache-2.0
// How one product is cut. What is summed in which order follows from the shape, the types and the
// level alone, never from the threads: these only decide how many rows and columns a task has.
#ifndef HONE_KERNELS_MATMUL_PLAN_H
#define HONE_KERNELS_MATMUL_PLAN_H

#include "kernels/kernels.h"
#include "kernels/table.h"

// Up to this many rows (a decoded token, a few at once) a product is a set of dot products.
enum { MATMUL_SMALL_ROWS = 8 };

// Stored rows that are packed as B's.
typedef struct StoredRows {
    const char *data;
    size_t row_bytes;
    int type, block; // block: elements of it
    int64_t count;   // of rows
} StoredRows;

// A task multiplies task_rows of A by task_columns of B, `depth` of K at a time: it unpacks its
// columns of B into panels (depth, table->columns), which stay in its worker's scratch.
typedef struct MatmulPlan {
    const MatmulArgs *args;
    const MatmulTable *table;
    StoredRows B, B2;
    int64_t K;             // K + K2: the second product continues the first one's sums
    bool packs_a, packs_b; // else the tile reads the matrix where it lies
    bool bf16;             // what is packed is pairs of bf16
    int64_t depth;         // of K
    int64_t task_rows, task_columns;
    int64_t packed_rows; // rows of A in scratch at once, as slabs (span, table->rows)
    int64_t span;        // of K: what of those rows is in scratch at once, a multiple of depth
    size_t packed_bytes, worker_bytes;
} MatmulPlan;

// One worker's scratch.
typedef struct MatmulScratch {
    float *panels; // (task_columns / columns) × (depth, columns)
    float *rows;   // unpacked stored rows, before they are transposed or spread over panels
    float *tail;   // (depth, rows): the last, incomplete rows of an A that is not packed
    float *corner; // (rows, columns): a tile that does not fit in C
} MatmulScratch;

// Floats that hone_pack_panels needs in MatmulScratch.rows.
int64_t hone_pack_rows_size(const MatmulPlan *plan);
// Slab (K, rows) ← rows first … of op(A), zeros below the last row. In bf16: ⌈K/2⌉ rows of pairs.
void hone_pack_slab(const MatmulPlan *plan, int64_t first, int64_t k, int64_t K, float *slab);
// The same of `count` slabs that lie behind one another, of `table->rows` rows each.
void hone_pack_slabs(const MatmulPlan *plan, int64_t first, int64_t count, int64_t k, int64_t K,
                     float *slab);
// Panels ← op(B)[k … k+K, first … first+columns], zeros right of the last column; as far apart in
// bf16, where each is ⌈K/2⌉ rows of pairs.
void hone_pack_panels(const MatmulPlan *plan, int64_t first, int64_t columns, int64_t k, int64_t K,
                      const MatmulScratch *scratch);

size_t hone_matmul_small_scratch(const KernelContext *kc, const MatmulArgs *args);
void hone_matmul_small(const KernelContext *kc, const MatmulArgs *args, void *scratch);

#endif
