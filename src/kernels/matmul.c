// SPDX-License-Identifier: Apache-2.0
// The blocked matrix product (after Goto, van de Geijn: Anatomy of high-performance matrix
// multiplication, 2008), with B de-quantised as its panels are packed.
#include "kernels/matmul_plan.h"

#include <string.h>

enum {
    PANEL_STEPS = 576,  // of K: fewer make more passes over C, more fill the second-level cache;
    PANEL_SLACK = 8,    // an eighth more rather than one more pass
    PACKED_ROWS = 1024, // of A at once
    PACKED_FLOATS = 1 << 20, // and no more than this, which the third level of caches holds
    TASK_ROWS = 1024,        // unpacking a panel costs about a hundredth of so many rows' work
    LEAST_TASK_ROWS = 96,    // below, unpacking would cost more than idle threads
    LEAST_TASK_COLUMNS = 96, // of stored rows along N: shorter pieces wait for memory
    PANELS = 4,              // of one task
    SLABS = 8,               // packed by one task
    THREAD_TASKS = 4,        // for each thread, so that all end at about the same time
    TASKS = 16,              // and no more than this: each unpacks its panels for itself
    LEAST_COLUMNS = 96,      // below, A is not read often enough to pay for packing it;
    PAGE_FLOATS = 1024,      // nor where it lies in rows, unless all of them begin in one cache set
    LEAST_ROWS = 48,         // and likewise an f32 B that lies as the tile wants it
    ALIGNMENT = 16,          // floats
};

typedef struct BlockedProduct {
    MatmulPlan plan;
    int64_t first_row, rows; // of A: what is packed now
    int64_t from, to;        // of K, likewise
    int64_t column_tasks;
    float *packed;
    char *workers;
} BlockedProduct;

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static int64_t round_up(int64_t a, int64_t unit) {
    return divide_up(a, unit) * unit;
}

static bool is_small(const MatmulArgs *args) {
    return args->M <= MATMUL_SMALL_ROWS && args->b_transposed;
}

// Few columns read A more often, few rows unpack B more often, which costs more.
static void cut_tasks(MatmulPlan *plan, int threads, int64_t M, int64_t N) {
    const int64_t tasks = smaller(TASKS, (int64_t)THREAD_TASKS * threads);
    int64_t rows = plan->table->rows, columns = plan->table->columns;
    int64_t least = plan->B.block > LEAST_TASK_COLUMNS ? plan->B.block : LEAST_TASK_COLUMNS;
    int64_t narrowest = plan->args->b_transposed ? columns : round_up(least, columns);
    int64_t width = columns * PANELS > narrowest ? columns * PANELS : narrowest;
    int64_t height = divide_up(M, divide_up(M, TASK_ROWS + rows)); // packed rows are rounded up
    while (divide_up(M, height) * divide_up(N, width) < tasks) {
        if (width / 2 >= narrowest)
            width /= 2;
        else if (height / 2 >= LEAST_TASK_ROWS)
            height = divide_up(height, 2);
        else
            break;
    }
    plan->task_rows = round_up(height, rows);
    plan->task_columns = smaller(width, round_up(N, columns));
}

static StoredRows stored_rows(const void *data, int type, int64_t ld, int64_t count) {
    return (StoredRows){.data = data,
                        .row_bytes = hone_dtype_bytes(type, ld),
                        .type = type,
                        .block = hone_dtype_info(type)->block,
                        .count = count};
}

static MatmulPlan make_plan(const KernelContext *kc, const MatmulArgs *args) {
    MatmulPlan plan = {.args = args, .table = &kc->table->matmul};
    int64_t rows = plan.table->rows, columns = plan.table->columns, K = args->K + args->K2;
    plan.K = K;
    plan.B = stored_rows(args->B, args->b_type, args->ldb, args->b_transposed ? args->N : args->K);
    plan.B2 = stored_rows(args->B2, HONE_F32, args->ldb2, args->b_transposed ? args->N : args->K2);
    int64_t unit = args->b_transposed && plan.B.block > 32 ? plan.B.block : 32;
    plan.bf16 = kc->bf16 && plan.table->tile_bf16 && args->M >= MATMUL_BF16_ROWS &&
                args->N >= MATMUL_BF16_COLUMNS;
    int64_t most = PANEL_STEPS / unit * unit * (plan.bf16 ? 2 : 1);
    int64_t passes = divide_up(K > most ? K - most / PANEL_SLACK : K, most);
    plan.depth = smaller(K, round_up(divide_up(K, passes), unit));
    plan.packs_a = plan.bf16 || (args->N >= LEAST_COLUMNS &&
                                 (args->a_transposed || args->lda % PAGE_FLOATS == 0));
    plan.packs_b = plan.bf16 || args->K2 > 0 || args->b_type != HONE_F32 || args->b_transposed ||
                   args->M >= LEAST_ROWS;
    plan.packed_rows = args->M;
    plan.span = K;
    if (plan.packs_a) {
        // All rows that B's panels can serve come before a long K: a panel is made once for them.
        plan.packed_rows = round_up(divide_up(args->M, divide_up(args->M, PACKED_ROWS)), rows);
        int64_t fitting = PACKED_FLOATS / plan.packed_rows / plan.depth * plan.depth;
        plan.span = smaller(K, fitting > plan.depth ? fitting : plan.depth);
        plan.packed_bytes =
            (size_t)round_up(plan.packed_rows * plan.span, ALIGNMENT) * sizeof(float);
    }
    cut_tasks(&plan, hone_pool_threads(kc->pool), smaller(args->M, plan.packed_rows), args->N);
    int64_t floats = round_up(plan.task_columns, columns) * plan.depth +
                     round_up(hone_pack_rows_size(&plan), ALIGNMENT) +
                     round_up(plan.depth * rows, ALIGNMENT) + rows * columns;
    plan.worker_bytes = (size_t)round_up(floats, ALIGNMENT) * sizeof(float);
    return plan;
}

static MatmulScratch worker_scratch(const BlockedProduct *product, int worker) {
    const MatmulPlan *plan = &product->plan;
    int64_t rows = plan->table->rows, columns = plan->table->columns;
    MatmulScratch scratch;
    scratch.panels = (float *)(void *)(product->workers + (size_t)worker * plan->worker_bytes);
    scratch.rows = scratch.panels + round_up(plan->task_columns, columns) * plan->depth;
    scratch.tail = scratch.rows + round_up(hone_pack_rows_size(plan), ALIGNMENT);
    scratch.corner = scratch.tail + round_up(plan->depth * rows, ALIGNMENT);
    return scratch;
}

// Slabs lie in the order in which a task reads them: all of one pass over K, then the next.
static float *packed_slab(const BlockedProduct *product, int64_t first, int64_t k, int64_t K) {
    return product->packed + (k - product->from) * product->plan.packed_rows +
           (first - product->first_row) * K;
}

static void pack_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const BlockedProduct *product = argument;
    const MatmulPlan *plan = &product->plan;
    const int64_t height = SLABS * plan->table->rows, end = product->first_row + product->rows;
    const int64_t first = product->first_row + task * height;
    const int64_t slabs = divide_up(smaller(height, end - first), plan->table->rows);
    for (int64_t k = product->from; k < product->to; k += plan->depth) {
        int64_t K = smaller(plan->depth, product->to - k);
        hone_pack_slabs(plan, first, slabs, k, K, packed_slab(product, first, k, K));
    }
}

// A slab of op(A) from `row` on and columns k … k+K, in the way the tile reads it. Where it is read
// as it lies, the K2 columns of the second product, which come last, are a slab of their own.
static void point_at_rows(const BlockedProduct *product, int64_t row, int64_t k, int64_t K,
                          const MatmulScratch *scratch, MatmulTile *tile, MatmulTile *second) {
    const MatmulPlan *plan = &product->plan;
    const MatmulArgs *args = plan->args;
    int64_t rows = plan->table->rows;
    tile->K = plan->bf16 ? divide_up(K, 2) : K; // pairs
    second->K = 0;
    if (plan->packs_a) {
        tile->A = packed_slab(product, row, k, K);
    } else if (row + rows > args->M) {
        hone_pack_slab(plan, row, k, K, scratch->tail);
        tile->A = scratch->tail;
    } else {
        tile->K = smaller(K, args->K > k ? args->K - k : 0);
        second->K = K - tile->K;
        if (second->K > 0) second->A = args->A2 + row * args->lda2 + (k + tile->K - args->K);
        if (tile->K > 0)
            tile->A = args->A + (args->a_transposed ? k * args->lda + row : row * args->lda + k);
        tile->a_row = args->a_transposed ? 1 : args->lda;
        tile->a_step = args->a_transposed ? args->lda : 1;
        return;
    }
    tile->a_row = 1;
    tile->a_step = rows;
}

// Both parts of the sums of a register tile. No copy is made of what was just written: it would
// wait for the stores of the last tile.
static void run_tiles(const MatmulPlan *plan, MatmulTile *tile, MatmulTile *second, bool half) {
    const MatmulTable *table = plan->table;
    void (*run)(const MatmulTile *) = half ? table->half_tile : table->tile;
    if (plan->bf16) run = table->tile_bf16;
    if (tile->K > 0) run(tile);
    if (second->K == 0) return;
    second->B = tile->B + tile->K * tile->b_step;
    second->C = tile->C;
    second->ldc = tile->ldc;
    second->accumulate = tile->K > 0 || tile->accumulate;
    run(second);
}

// A tile of which only (rows, columns) lie in C.
static void corner_tiles(const MatmulPlan *plan, const MatmulTile *tile, MatmulTile *second,
                         int64_t rows, int64_t columns, bool half, float *corner) {
    MatmulTile whole = *tile;
    whole.C = corner;
    whole.ldc = plan->table->columns;
    whole.accumulate = false;
    run_tiles(plan, &whole, second, half);
    for (int64_t r = 0; r < rows; r++) {
        float *c = tile->C + r * tile->ldc;
        const float *sum = corner + r * whole.ldc;
        for (int64_t j = 0; j < columns; j++) c[j] = (tile->accumulate ? c[j] : 0) + sum[j];
    }
}

// The slab (rows of C from `row` on) times all panels of a task, whose columns are `panel` floats
// apart each.
static void multiply_slab(const BlockedProduct *product, int64_t row, int64_t rows, int64_t column,
                          int64_t columns, int64_t panel, MatmulTile *tile, MatmulTile *second,
                          float *corner) {
    const MatmulPlan *plan = &product->plan;
    const MatmulTable *table = plan->table;
    const float *B = tile->B;
    for (int64_t n = 0; n < columns; n += table->columns) {
        const int64_t width = smaller(table->columns, columns - n);
        const bool half = table->half_tile && !plan->bf16 && width <= table->columns / 2;
        tile->B = B + n * panel;
        tile->C = plan->args->C + row * plan->args->ldc + column + n;
        if (rows == table->rows && width == (half ? table->columns / 2 : table->columns))
            run_tiles(plan, tile, second, half);
        else
            corner_tiles(plan, tile, second, rows, width, half, corner);
    }
    tile->B = B;
}

static void multiply_task(void *argument, int64_t task, int worker) {
    const BlockedProduct *product = argument;
    const MatmulPlan *plan = &product->plan;
    const MatmulArgs *args = plan->args;
    MatmulScratch scratch = worker_scratch(product, worker);
    int64_t width = plan->table->columns;
    int64_t row = product->first_row + task / product->column_tasks * plan->task_rows;
    int64_t end = smaller(row + plan->task_rows, product->first_row + product->rows);
    int64_t column = task % product->column_tasks * plan->task_columns;
    int64_t columns = smaller(plan->task_columns, args->N - column);
    MatmulTile tile = {.ldc = args->ldc, .alpha = args->alpha};
    MatmulTile second = {.a_row = args->lda2, .a_step = 1, .alpha = args->alpha * args->alpha2};
    for (int64_t k = product->from; k < product->to; k += plan->depth) {
        const int64_t K = smaller(plan->depth, product->to - k);
        tile.accumulate = args->accumulate || k > 0;
        bool packs = plan->packs_b || columns % width;
        if (packs) hone_pack_panels(plan, column, columns, k, K, &scratch);
        tile.b_step = second.b_step = packs ? width : args->ldb;
        tile.B = packs ? scratch.panels : (const float *)args->B + k * args->ldb + column;
        for (int64_t i = row; i < end; i += plan->table->rows) {
            point_at_rows(product, i, k, K, &scratch, &tile, &second);
            multiply_slab(product, i, smaller(plan->table->rows, end - i), column, columns,
                          packs ? K : 1, &tile, &second, scratch.corner);
        }
    }
}

// Dot products and an empty first product leave nothing to continue: the second goes alone.
static bool splits(const MatmulArgs *args, MatmulArgs *first, MatmulArgs *second) {
    if (args->K2 == 0 || (args->K > 0 && !is_small(args))) return false;
    *first = *second = *args;
    first->K2 = second->K2 = 0;
    second->K = args->K2;
    second->A = args->A2;
    second->lda = args->lda2;
    second->a_transposed = false;
    second->B = args->B2;
    second->b_type = HONE_F32;
    second->ldb = args->ldb2;
    second->alpha = args->alpha * args->alpha2;
    second->accumulate = true;
    return true;
}

size_t hone_matmul_scratch(const KernelContext *kc, const MatmulArgs *args) {
    MatmulArgs first, second;
    if (splits(args, &first, &second)) {
        size_t one = hone_matmul_scratch(kc, &first), two = hone_matmul_scratch(kc, &second);
        return one > two ? one : two;
    }
    if (args->M == 0 || args->N == 0 || args->K == 0) return 0;
    if (is_small(args)) return hone_matmul_small_scratch(kc, args);
    MatmulPlan plan = make_plan(kc, args);
    return plan.packed_bytes + (size_t)hone_pool_threads(kc->pool) * plan.worker_bytes;
}

void hone_matmul(const KernelContext *kc, const MatmulArgs *args, void *scratch) {
    if (args->M == 0 || args->N == 0) return;
    MatmulArgs first_part, second_part;
    if (splits(args, &first_part, &second_part)) {
        hone_matmul(kc, &first_part, scratch);
        hone_matmul(kc, &second_part, scratch);
        return;
    }
    if (args->K == 0) {
        for (int64_t m = 0; m < args->M && !args->accumulate; m++)
            memset(args->C + m * args->ldc, 0, (size_t)args->N * sizeof(float));
        return;
    }
    if (is_small(args)) {
        hone_matmul_small(kc, args, scratch);
        return;
    }
    BlockedProduct product = {.plan = make_plan(kc, args), .packed = scratch};
    const MatmulPlan *plan = &product.plan;
    product.workers = (char *)scratch + plan->packed_bytes;
    product.column_tasks = divide_up(args->N, plan->task_columns);
    for (int64_t first = 0; first < args->M; first += plan->packed_rows) {
        product.first_row = first;
        product.rows = smaller(plan->packed_rows, args->M - first);
        int64_t row_tasks = divide_up(product.rows, plan->task_rows);
        for (product.from = 0; product.from < plan->K; product.from = product.to) {
            product.to = smaller(product.from + plan->span, plan->K);
            if (plan->packs_a)
                hone_pool_run(kc->pool, divide_up(product.rows, SLABS * plan->table->rows),
                              pack_task, &product);
            hone_pool_run(kc->pool, row_tasks * product.column_tasks, multiply_task, &product);
        }
    }
}
