// SPDX-License-Identifier: Apache-2.0
// Packing: A into slabs of table->rows, B into panels of table->columns, de-quantised on the way.
#include "kernels/matmul_plan.h"

#include <string.h>

enum {
    CHUNK = 128,               // elements of K unpacked for a panel at a time: both inside L1
    PAIR = 2 * sizeof(float),  // every level's rows are a multiple of two
    EIGHT = 8 * sizeof(float), // and its columns of eight
    AHEAD = 16,                // stored rows fetched before they are unpacked
    LINE = 64,                 // bytes
};

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t whole_blocks(int64_t count, int64_t block) {
    return (count + block - 1) / block * block;
}

// A task reads a short piece of each stored row, which no prefetcher of the processor foresees.
static void fetch_piece(const char *piece, size_t bytes) {
    for (size_t i = 0; i < bytes; i += LINE) __builtin_prefetch(piece + i);
}

void hone_pack_slab(const MatmulPlan *plan, int64_t first, int64_t k, int64_t K, float *slab) {
    const MatmulArgs *args = plan->args;
    int64_t rows = plan->table->rows, valid = smaller(rows, args->M - first), lda = args->lda;
    if (args->a_transposed) {
        const float *a = args->A + k * lda + first;
        for (int64_t i = 0; i < K; i++, a += lda, slab += rows) {
            for (int64_t r = 0; r < rows; r += 2) {
                if (r + 2 <= valid) {
                    memcpy(slab + r, a + r, PAIR);
                } else {
                    slab[r] = r < valid ? a[r] : 0;
                    slab[r + 1] = 0;
                }
            }
        }
        return;
    }
    const float *a = args->A + first * lda + k;
    if (valid == rows) {
        plan->table->pack_rows(a, lda, K, slab);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < K; i++) slab[i * rows + r] = r < valid ? a[r * lda + i] : 0;
}

int64_t hone_pack_rows_size(const MatmulPlan *plan) {
    int64_t chunk = plan->b_block > CHUNK ? plan->b_block : CHUNK;
    return plan->args->b_transposed ? chunk * plan->table->columns
                                    : whole_blocks(plan->task_columns, plan->b_block);
}

// Stored rows run along K: one panel's rows are unpacked a chunk at a time and transposed.
static void pack_transposed(const MatmulPlan *plan, int64_t first, int64_t valid, int64_t k,
                            int64_t K, float *rows, float *panel) {
    const MatmulArgs *args = plan->args;
    const MatmulTable *table = plan->table;
    int64_t columns = table->columns, block = plan->b_block;
    if (args->b_type == HONE_F32 && valid == columns) {
        const float *b = args->B;
        table->pack_columns(b + first * args->ldb + k, args->ldb, K, panel);
        return;
    }
    UnpackRow unpack = table->unpack[args->b_type];
    int64_t chunk = block > CHUNK ? block : CHUNK;
    if (valid < columns)
        memset(rows + valid * chunk, 0, (size_t)((columns - valid) * chunk) * sizeof *rows);
    for (int64_t done = 0; done < K; done += chunk) {
        int64_t count = smaller(chunk, K - done);
        const char *stored = (const char *)args->B + (size_t)first * plan->b_row_bytes +
                             hone_dtype_bytes(args->b_type, k + done);
        int64_t whole = whole_blocks(count, block);
        size_t piece = hone_dtype_bytes(args->b_type, whole);
        for (int64_t j = 0; j < valid; j++) {
            const char *row = stored + (size_t)j * plan->b_row_bytes;
            if (first + j + columns < args->N)
                fetch_piece(row + (size_t)columns * plan->b_row_bytes, piece);
            unpack(row, rows + j * chunk, whole);
        }
        table->pack_columns(rows, chunk, count, panel + done * columns);
    }
}

// Stored rows run along N: each is unpacked across all panels and spread over them.
static void pack_plain(const MatmulPlan *plan, int64_t first, int64_t valid, int64_t k, int64_t K,
                       float *row, float *panels) {
    const MatmulArgs *args = plan->args;
    UnpackRow unpack = plan->table->unpack[args->b_type];
    int64_t columns = plan->table->columns, count = whole_blocks(valid, plan->b_block);
    const char *stored = (const char *)args->B + (size_t)k * plan->b_row_bytes +
                         hone_dtype_bytes(args->b_type, first);
    size_t piece = hone_dtype_bytes(args->b_type, count);
    for (int64_t i = 0; i < K; i++, stored += plan->b_row_bytes) {
        const float *x = row;
        if (k + i + AHEAD < args->K) fetch_piece(stored + AHEAD * plan->b_row_bytes, piece);
        if (args->b_type == HONE_F32)
            x = (const float *)(const void *)stored;
        else
            unpack(stored, row, count);
        for (int64_t n = 0; n < valid; n += columns) {
            float *out = panels + n * K + i * columns;
            if (n + columns <= valid) {
                for (int64_t j = 0; j < columns; j += 8) memcpy(out + j, x + n + j, EIGHT);
                continue;
            }
            for (int64_t j = 0; j < columns; j++) out[j] = n + j < valid ? x[n + j] : 0;
        }
    }
}

void hone_pack_panels(const MatmulPlan *plan, int64_t first, int64_t columns, int64_t k, int64_t K,
                      const MatmulScratch *scratch) {
    if (!plan->args->b_transposed) {
        pack_plain(plan, first, columns, k, K, scratch->rows, scratch->panels);
        return;
    }
    int64_t width = plan->table->columns;
    for (int64_t n = 0; n < columns; n += width)
        pack_transposed(plan, first + n, smaller(width, columns - n), k, K, scratch->rows,
                        scratch->panels + n * K);
}
