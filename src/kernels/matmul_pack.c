// SPDX-License-Identifier: Apache-2.0
// Packing: A into slabs of table->rows, B into panels of table->columns, de-quantised on the way
// and, in bf16, rounded to pairs of neighbours along K.
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

// Do the K terms of the first product make pairs of their own, so that they can be packed as such?
static bool pairs_apart(const MatmulPlan *plan, int64_t K) {
    return plan->bf16 && K % 2 == 0;
}

static void pack_first_slab(const MatmulPlan *plan, int64_t first, int64_t valid, int64_t k,
                            int64_t K, float *slab) {
    const MatmulArgs *args = plan->args;
    int64_t rows = plan->table->rows, lda = args->lda;
    if (args->a_transposed) {
        const float *a = args->A + k * lda + first;
        for (int64_t i = 0; i < K; i++, a += lda, slab += rows)
            for (int64_t r = 0; r < rows; r++) slab[r] = r < valid ? a[r] : 0;
        return;
    }
    const float *a = args->A + first * lda + k;
    if (valid == rows) {
        if (pairs_apart(plan, K))
            plan->table->pack_pairs(a, lda, K, rows, slab);
        else
            plan->table->pack_rows(a, lda, K, slab);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < K; i++) slab[i * rows + r] = r < valid ? a[r * lda + i] : 0;
}

// Whole slabs of an A that lies transposed: a piece of each of its rows serves them all.
static void pack_across(const MatmulPlan *plan, int64_t first, int64_t slabs, int64_t k, int64_t K,
                        float *slab) {
    const MatmulTable *table = plan->table;
    const int64_t rows = table->rows, lda = plan->args->lda, size = rows * K;
    const size_t piece = (size_t)(slabs * rows) * sizeof(float);
    const float *a = plan->args->A + k * lda + first;
    for (int64_t i = 0; i < K; i++, a += lda) {
        const float *from = a;
        if (i + AHEAD < K) fetch_piece((const char *)(a + AHEAD * lda), piece);
        for (float *to = slab + i * rows; to < slab + slabs * size; to += size, from += rows) {
            int64_t r = 0;
            for (; r + 4 <= rows; r += 4) memcpy(to + r, from + r, 2 * PAIR);
            if (r < rows) memcpy(to + r, from + r, PAIR);
        }
    }
    for (int64_t s = 0; s < slabs && plan->bf16; s++) table->pair_rows(slab + s * size, K, rows);
}

void hone_pack_slabs(const MatmulPlan *plan, int64_t first, int64_t count, int64_t k, int64_t K,
                     float *slab) {
    const MatmulArgs *args = plan->args;
    const int64_t rows = plan->table->rows;
    int64_t across = args->a_transposed && args->K2 == 0 ? (args->M - first) / rows : 0;
    across = smaller(across, count);
    if (across > 0) pack_across(plan, first, across, k, K, slab);
    for (int64_t s = across; s < count; s++)
        hone_pack_slab(plan, first + s * rows, k, K, slab + s * rows * K);
}

void hone_pack_slab(const MatmulPlan *plan, int64_t first, int64_t k, int64_t K, float *slab) {
    const MatmulArgs *args = plan->args;
    const MatmulTable *table = plan->table;
    int64_t rows = table->rows, valid = smaller(rows, args->M - first);
    int64_t whole = smaller(K, args->K > k ? args->K - k : 0);
    if (whole > 0) pack_first_slab(plan, first, valid, k, whole, slab);
    bool apart = pairs_apart(plan, whole), packed = valid == rows && !args->a_transposed;
    if (apart && !packed) table->pair_rows(slab, whole, rows);
    float *rest = slab + (apart ? whole / 2 : whole) * rows;
    if (K > whole) {
        const float *a = args->A2 + first * args->lda2 + (k + whole - args->K);
        for (int64_t i = 0; i < K - whole; i++)
            for (int64_t r = 0; r < rows; r++)
                rest[i * rows + r] = r < valid ? args->alpha2 * a[r * args->lda2 + i] : 0;
    }
    if (apart)
        table->pair_rows(rest, K - whole, rows);
    else if (plan->bf16)
        table->pair_rows(slab, K, rows);
}

int64_t hone_pack_rows_size(const MatmulPlan *plan) {
    int64_t chunk = plan->B.block > CHUNK ? plan->B.block : CHUNK;
    if (plan->args->b_transposed) return chunk * plan->table->columns;
    return whole_blocks(plan->task_columns, plan->B.block) * (plan->bf16 ? 2 : 1);
}

// Stored rows run along K: one panel's rows are unpacked a chunk at a time and transposed.
static void pack_transposed(const MatmulTable *table, const StoredRows *B, int64_t first,
                            int64_t valid, int64_t k, int64_t K, bool pairs, float *rows,
                            float *panel) {
    int64_t columns = table->columns, block = B->block;
    const char *stored = B->data + (size_t)first * B->row_bytes + hone_dtype_bytes(B->type, k);
    if (B->type == HONE_F32 && valid == columns) {
        const float *x = (const float *)(const void *)stored;
        int64_t stride = (int64_t)(B->row_bytes / sizeof(float));
        if (pairs)
            table->pack_pairs(x, stride, K, columns, panel);
        else
            table->pack_columns(x, stride, K, panel);
        return;
    }
    UnpackRow unpack = table->unpack[B->type];
    int64_t chunk = block > CHUNK ? block : CHUNK;
    if (valid < columns)
        memset(rows + valid * chunk, 0, (size_t)((columns - valid) * chunk) * sizeof *rows);
    for (int64_t done = 0; done < K; done += chunk) {
        int64_t count = smaller(chunk, K - done), whole = whole_blocks(count, block);
        size_t piece = hone_dtype_bytes(B->type, whole);
        const char *row = stored + hone_dtype_bytes(B->type, done);
        for (int64_t j = 0; j < valid; j++, row += B->row_bytes) {
            if (first + j + columns < B->count)
                fetch_piece(row + (size_t)columns * B->row_bytes, piece);
            unpack(row, rows + j * chunk, whole);
        }
        if (pairs)
            table->pack_pairs(rows, chunk, count, columns, panel + done / 2 * columns);
        else
            table->pack_columns(rows, chunk, count, panel + done * columns);
    }
}

// A row of `valid` elements spread over panels that begin `panel` apart, zeros beyond.
static void spread_row(const float *x, int64_t valid, int64_t columns, float *panels,
                       int64_t panel) {
    for (int64_t n = 0; n < valid; n += columns) {
        float *out = panels + n / columns * panel;
        for (int64_t j = 0; j < columns; j += 8) {
            if (n + j + 8 <= valid) {
                memcpy(out + j, x + n + j, EIGHT);
                continue;
            }
            for (int64_t i = j; i < j + 8; i++) out[i] = n + i < valid ? x[n + i] : 0;
        }
    }
}

// The same of a stored row, each panel's part straight to its place.
static void unpack_across(const MatmulTable *table, const StoredRows *B, const char *stored,
                          int64_t valid, float *rows, float *panels, int64_t panel) {
    UnpackRow unpack = table->unpack[B->type];
    int64_t columns = table->columns;
    size_t width = hone_dtype_bytes(B->type, columns);
    for (; valid >= columns; valid -= columns, stored += width, panels += panel)
        unpack(stored, panels, columns);
    if (valid == 0) return;
    unpack(stored, rows, whole_blocks(valid, B->block));
    spread_row(rows, valid, columns, panels, panel);
}

// Stored rows run along N: each, or each pair of them, is unpacked across all panels.
static void pack_plain(const MatmulTable *table, const StoredRows *B, int64_t first, int64_t valid,
                       int64_t k, int64_t K, bool pairs, float *rows, float *panels,
                       int64_t panel) {
    UnpackRow unpack = table->unpack[B->type];
    int64_t columns = table->columns, count = whole_blocks(valid, B->block), step = pairs ? 2 : 1;
    const char *stored = B->data + (size_t)k * B->row_bytes + hone_dtype_bytes(B->type, first);
    size_t piece = hone_dtype_bytes(B->type, count);
    const bool across = !pairs && B->type != HONE_F32 && columns % B->block == 0;
    for (int64_t i = 0; i < K; i += step, panels += columns) {
        const float *x = rows;
        int64_t together = smaller(step, K - i);
        for (int64_t j = 0; j < together; j++, stored += B->row_bytes) {
            if (k + i + j + AHEAD < B->count) fetch_piece(stored + AHEAD * B->row_bytes, piece);
            if (B->type == HONE_F32 && !pairs)
                x = (const float *)(const void *)stored;
            else if (across)
                unpack_across(table, B, stored, valid, rows, panels, panel);
            else
                unpack(stored, rows + j * count, count);
        }
        if (pairs) table->pair_rows(rows, together, count);
        if (!across) spread_row(x, valid, columns, panels, panel);
    }
}

// K of one stored matrix's part of the sums.
static void pack_part(const MatmulPlan *plan, const StoredRows *B, int64_t first, int64_t columns,
                      int64_t k, int64_t K, bool pairs, float *rows, float *panels, int64_t panel) {
    if (!plan->args->b_transposed) {
        pack_plain(plan->table, B, first, columns, k, K, pairs, rows, panels, panel);
        return;
    }
    int64_t width = plan->table->columns;
    for (int64_t n = 0; n < columns; n += width)
        pack_transposed(plan->table, B, first + n, smaller(width, columns - n), k, K, pairs, rows,
                        panels + n / width * panel);
}

void hone_pack_panels(const MatmulPlan *plan, int64_t first, int64_t columns, int64_t k, int64_t K,
                      const MatmulScratch *scratch) {
    int64_t width = plan->table->columns, whole = plan->args->K > k ? plan->args->K - k : 0;
    whole = smaller(K, whole);
    bool pairs = pairs_apart(plan, whole);
    float *rest = scratch->panels + (pairs ? whole / 2 : whole) * width;
    if (whole > 0)
        pack_part(plan, &plan->B, first, columns, k, whole, pairs, scratch->rows, scratch->panels,
                  width * K);
    if (whole < K)
        pack_part(plan, &plan->B2, first, columns, k + whole - plan->args->K, K - whole, pairs,
                  scratch->rows, rest, width * K);
    if (!plan->bf16 || pairs) return;
    for (int64_t n = 0; n < columns; n += width)
        plan->table->pair_rows(scratch->panels + n * K, K, width);
}
