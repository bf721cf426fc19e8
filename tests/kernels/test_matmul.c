// SPDX-License-Identifier: Apache-2.0
// The matrix product of every level of this processor against the reference in double.
#include "check.h"

#include "base/memory.h"
#include "kernels/kernels.h"
#include "kernels/matmul_reference.h"
#include "quant_support.h"

enum { POISON = 0x7fc0abcd }; // a NaN that no kernel makes: what lies outside the matrices

static const KernelTable *table;
static bool bf16; // products of operands rounded to it
static RandomStream random_numbers;

// A case's matrices, each inside a larger block of poison, `shift` elements off its alignment.
typedef struct Case {
    MatmulArgs args;
    float *A, *C, *A2, *B2;
    uint8_t *B;
    int64_t a_size, b_size, c_size; // floats, bytes, floats
    int64_t shift;
} Case;

static int64_t up(int64_t count, int64_t block) {
    return (count + block - 1) / block * block;
}

static float *poisoned(int64_t count) {
    float *x = hone_alloc((size_t)count * sizeof *x + 1);
    for (int64_t i = 0; i < count; i++) x[i] = hone_bits_to_f32(POISON);
    return x;
}

// Blocks that hold elements of op(B) get values, all others scales that are NaN.
static void make_b(Case *c, int64_t rows, int64_t columns) {
    int type = c->args.b_type;
    const DtypeInfo *info = hone_dtype_info(type);
    int64_t row_bytes = (int64_t)hone_dtype_bytes(type, c->args.ldb);
    int64_t offset = info->is_quantised ? c->shift : c->shift * info->block_bytes;
    c->b_size = rows * row_bytes + offset;
    c->B = hone_alloc((size_t)c->b_size + 1);
    memset(c->B, 0xff, (size_t)c->b_size);
    c->args.B = c->B + offset;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t n = 0; n < columns; n += info->block)
            fill_block(&random_numbers, type, 1,
                       c->B + offset + r * row_bytes + (int64_t)hone_dtype_bytes(type, n));
}

// (rows, columns) of values, `leading` apart, all else poison.
static float *make_values(int64_t rows, int64_t columns, int64_t leading) {
    float *x = poisoned(rows * leading);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) x[i * leading + j] = random_value(&random_numbers);
    return x;
}

// In one case of three: a product whose sums continue the first one's.
static void make_second(Case *c) {
    if (hone_random_below(&random_numbers, 3)) return;
    MatmulArgs *args = &c->args;
    int64_t K2 = 1 + (int64_t)hone_random_below(&random_numbers, 40);
    int64_t rows = args->b_transposed ? args->N : K2, columns = args->b_transposed ? K2 : args->N;
    args->K2 = K2;
    args->lda2 = K2 + (int64_t)hone_random_below(&random_numbers, 3);
    args->ldb2 = columns + (int64_t)hone_random_below(&random_numbers, 3);
    args->alpha2 = hone_random_below(&random_numbers, 2) ? 1.0f : 2.5f;
    args->A2 = c->A2 = make_values(args->M, K2, args->lda2);
    args->B2 = c->B2 = make_values(rows, columns, args->ldb2);
}

static Case make_case(int64_t M, int64_t N, int64_t K, int type, bool at, bool bt) {
    Case c = {.shift = (int64_t)hone_random_below(&random_numbers, 2)};
    int block = hone_dtype_info(type)->block;
    int64_t a_rows = at ? K : M, a_columns = at ? M : K;
    int64_t b_rows = bt ? N : K, b_columns = bt ? K : N;
    int64_t pad = (int64_t)hone_random_below(&random_numbers, 4);
    c.args = (MatmulArgs){.M = M, .N = N, .K = K, .b_type = type};
    c.args.a_transposed = at;
    c.args.b_transposed = bt;
    c.args.lda = a_columns + pad;
    c.args.ldb = up(b_columns, block) + (pad & 1) * block;
    c.args.ldc = N + (pad >> 1) * 3;
    c.args.alpha = hone_random_below(&random_numbers, 2) ? 1.0f : -0.75f;
    c.args.accumulate = hone_random_below(&random_numbers, 2);
    c.a_size = a_rows * c.args.lda + c.shift;
    c.A = poisoned(c.a_size);
    for (int64_t i = 0; i < a_rows; i++)
        for (int64_t j = 0; j < a_columns; j++)
            c.A[c.shift + i * c.args.lda + j] = random_value(&random_numbers);
    c.args.A = c.A + c.shift;
    make_b(&c, b_rows, b_columns);
    c.c_size = M * c.args.ldc + c.shift;
    c.C = poisoned(c.c_size);
    c.args.C = c.C + c.shift;
    for (int64_t i = 0; i < M && c.args.accumulate; i++)
        for (int64_t j = 0; j < N; j++)
            c.args.C[i * c.args.ldc + j] = random_value(&random_numbers);
    make_second(&c);
    return c;
}

static void free_case(Case *c) {
    hone_free(c->A);
    hone_free(c->B);
    hone_free(c->C);
    hone_free(c->A2);
    hone_free(c->B2);
}

// A copy of C with the product in it.
static float *multiply(const Case *c, ThreadPool *pool) {
    KernelContext kc = {.table = table, .pool = pool, .bf16 = bf16};
    float *result = hone_alloc((size_t)c->c_size * sizeof *result + 1);
    memcpy(result, c->C, (size_t)c->c_size * sizeof *result);
    MatmulArgs args = c->args;
    args.C = result + c->shift;
    void *scratch = hone_alloc(hone_matmul_scratch(&kc, &args));
    hone_matmul(&kc, &args, scratch);
    hone_free(scratch);
    return result;
}

// `rows` of `columns` values, `leading` apart: factor · x, rounded.
static float *rounded(const float *x, int64_t rows, int64_t columns, int64_t leading,
                      float factor) {
    float *y = hone_calloc((size_t)(rows * leading) + 1, sizeof *y);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            y[i * leading + j] = hone_bf16_to_f32(hone_f32_to_bf16(factor * x[i * leading + j]));
    return y;
}

// The reference of operands as bf16 has them. B is expanded already.
static void reference_bf16(MatmulArgs args, double *want, double *magnitude) {
    const bool at = args.a_transposed, bt = args.b_transposed;
    const int64_t b_rows = bt ? args.N : args.K, b_columns = bt ? args.K : args.N;
    float *A = rounded(args.A, at ? args.K : args.M, at ? args.M : args.K, args.lda, 1);
    float *B = rounded(args.B, b_rows, b_columns, args.ldb, 1);
    float *A2 = rounded(args.A2, args.K2 ? args.M : 0, args.K2, args.lda2, args.alpha2);
    float *B2 = rounded(args.B2, args.K2 ? (bt ? args.N : args.K2) : 0, bt ? args.K2 : args.N,
                        args.ldb2, 1);
    args.A = A, args.B = B, args.A2 = A2, args.B2 = B2, args.alpha2 = 1;
    hone_reference_matmul(&args, want, magnitude);
    hone_free(A), hone_free(B), hone_free(A2), hone_free(B2);
}

// The reference of a case, B expanded first so that each element is decoded once.
static void reference(const Case *c, double *want, double *magnitude) {
    MatmulArgs args = c->args;
    int64_t rows = args.b_transposed ? args.N : args.K,
            columns = args.b_transposed ? args.K : args.N;
    size_t row_bytes = hone_dtype_bytes(args.b_type, args.ldb);
    float *B = hone_alloc((size_t)(rows * columns) * sizeof *B + 1);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t n = 0; n < columns; n++)
            B[r * columns + n] = (float)hone_reference_element(
                args.b_type, (const char *)args.B + (size_t)r * row_bytes, n);
    args.B = B;
    args.b_type = HONE_F32;
    args.ldb = columns;
    if (bf16 && args.M >= MATMUL_BF16_ROWS && args.N >= MATMUL_BF16_COLUMNS)
        reference_bf16(args, want, magnitude);
    else
        hone_reference_matmul(&args, want, magnitude);
    hone_free(B);
}

static bool is_right(const Case *c, const float *result) {
    const MatmulArgs *args = &c->args;
    size_t count = (size_t)(args->M * args->N) + 1;
    double *want = hone_alloc(count * sizeof *want), *magnitude = hone_alloc(count * sizeof *want);
    reference(c, want, magnitude);
    double unit = 0x1p-23 * (2 + sqrt((double)(args->K + args->K2)));
    bool right = true;
    for (int64_t i = 0; i < c->c_size && right; i++) {
        int64_t m = i < c->shift ? -1 : (i - c->shift) / args->ldc;
        int64_t n = i < c->shift ? 0 : (i - c->shift) % args->ldc;
        if (m < 0 || n >= args->N) {
            right = hone_f32_to_bits(result[i]) == POISON;
            continue;
        }
        double off = fabs((double)result[i] - want[m * args->N + n]);
        right = off <= unit * magnitude[m * args->N + n] + 1e-30;
        if (!right)
            printf("  at (%lld,%lld): %.9g, want %.9g\n", (long long)m, (long long)n,
                   (double)result[i], want[m * args->N + n]);
    }
    hone_free(want);
    hone_free(magnitude);
    return right;
}

static void check_case(int64_t M, int64_t N, int64_t K, int type, bool at, bool bt,
                       ThreadPool *pool) {
    if (!check_runs(5)) return;
    Case c = make_case(M, N, K, type, at, bt);
    float *alone = multiply(&c, NULL), *shared = multiply(&c, pool);
    if (!CHECK(is_right(&c, alone)) ||
        !CHECK(memcmp(alone, shared, (size_t)c.c_size * sizeof *alone) == 0))
        printf("  %s %s: M %lld N %lld K %lld + %lld, A %s, B %s, alpha %g, %s\n",
               hone_kernel_table_name(table), hone_dtype_name(type), (long long)M, (long long)N,
               (long long)K, (long long)c.args.K2, at ? "transposed" : "plain",
               bt ? "transposed" : "plain", (double)c.args.alpha,
               c.args.accumulate ? "accumulated" : "overwritten");
    hone_free(alone);
    hone_free(shared);
    free_case(&c);
}

// Sizes that are multiplied in bf16 where that is tested.
static int64_t wide_rows(int64_t rows) {
    return bf16 ? MATMUL_BF16_ROWS - 1 + rows : rows;
}

static int64_t wide_columns(int64_t columns) {
    return bf16 ? MATMUL_BF16_COLUMNS - 1 + columns : columns;
}

static int64_t some_size(void) {
    return 1 + (int64_t)hone_random_below(&random_numbers, 67);
}

static void every_type_and_transpose_with_odd_sizes(void) {
    ThreadPool *pool = hone_pool_create(3);
    for (int type = 0; type < WEIGHT_TYPES; type++)
        for (int variant = 0; variant < 4; variant++)
            for (int repeat = 0; repeat < 24; repeat++)
                check_case(wide_rows(some_size()), wide_columns(some_size()), some_size(),
                           weight_types[type], variant & 1, variant & 2, pool);
    hone_pool_free(pool);
}

static void one_to_nine_rows(void) {
    ThreadPool *pool = hone_pool_create(3);
    for (int type = 0; type < WEIGHT_TYPES; type++)
        for (int M = 1; M <= 9; M++)
            for (int at = 0; at < 2; at++) {
                check_case(M, 96 + M, 512, weight_types[type], at, true, pool);
                check_case(M, 320, 40 + M, weight_types[type], at, false, pool);
            }
    check_case(1, 700, 576, HONE_Q4_1, false, true, pool);
    check_case(1, 700, 576, HONE_Q4_0, false, true, pool);
    check_case(1, 700, 576, HONE_Q8_0, false, true, pool);
    check_case(1, 700, 577, HONE_F32, false, true, pool);
    check_case(3, 700, 577, HONE_BF16, false, true, pool);
    hone_pool_free(pool);
}

static void every_size_up_to_33(void) {
    for (int size = 1; size <= 33; size++) {
        const int64_t rows = wide_rows(17), columns = wide_columns(size);
        check_case(wide_rows(size), wide_columns(17), 9, HONE_F32, false, false, NULL);
        check_case(rows, columns, 9, HONE_F32, false, true, NULL);
        check_case(rows, wide_columns(9), size, HONE_F32, true, false, NULL);
        check_case(wide_rows(40), columns, 40, HONE_Q8_0, false, false, NULL);
        check_case(wide_rows(40), wide_columns(40), size, HONE_Q4_1, false, true, NULL);
    }
}

// Several tasks, several passes over K, A packed and not.
static void large_products(void) {
    static const int types[] = {HONE_F32, HONE_BF16, HONE_Q4_1, HONE_Q8_0, HONE_Q4_K, HONE_Q6_K};
    ThreadPool *pool = hone_pool_create(3);
    for (int i = 0; i < 6; i++) {
        for (int variant = 0; variant < 4; variant++) {
            check_case(203, 178, 300, types[i], variant & 1, variant & 2, pool);
            check_case(97, 110, 1300, types[i], variant & 1, variant & 2, pool);
        }
    }
    for (int variant = 0; variant < 4; variant++) { // adapters
        check_case(420, 16, 1270, HONE_F32, variant & 1, variant & 2, pool);
        check_case(420, 270, 16, HONE_F32, variant & 1, variant & 2, pool);
        check_case(16, 420, 1270, HONE_F32, variant & 1, variant & 2, pool);
    }
    check_case(2100, 100, 20, HONE_Q4_1, false, true, pool); // more rows than are packed at once
    check_case(2100, 50, 20, HONE_F32, true, false, pool);
    hone_pool_free(pool);
}

static void empty_products(void) {
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        for (int empty = 0; empty < 3; empty++) {
            Case c = make_case(5, 6, 7, HONE_F32, false, true);
            c.args.K2 = 0;
            c.args.accumulate = accumulate;
            for (int i = 0; i < 5 * c.args.ldc; i++) c.args.C[i] = 3;
            if (empty == 0) c.args.M = 0;
            if (empty == 1) c.args.N = 0;
            if (empty == 2) c.args.K = 0;
            float *result = multiply(&c, NULL);
            for (int m = 0; m < 5; m++)
                for (int n = 0; n < 6; n++)
                    CHECK(result[c.shift + m * c.args.ldc + n] ==
                          (empty == 2 && !accumulate ? 0.0f : 3.0f));
            hone_free(result);
            free_case(&c);
        }
    }
}

// A NaN reaches exactly the sums it belongs to, whatever is packed beside it.
static void nan_stays_in_its_row_and_column(void) {
    for (int variant = 0; variant < 4; variant++) {
        const int64_t N = wide_columns(40);
        Case c = make_case(50, N, 30, HONE_F32, variant & 1, variant & 2);
        c.args.accumulate = false;
        c.A[c.shift + (variant & 1 ? 12 * c.args.lda + 7 : 7 * c.args.lda + 12)] = (float)NAN;
        float *result = multiply(&c, NULL);
        for (int m = 0; m < 50; m++)
            for (int n = 0; n < N; n++)
                CHECK(isnan(result[c.shift + m * c.args.ldc + n]) == (m == 7));
        hone_free(result);
        free_case(&c);
    }
}

static void run_all(void) {
    random_numbers = hone_random_stream(1, RANDOM_TEST, 0);
    RUN(every_type_and_transpose_with_odd_sizes);
    RUN(one_to_nine_rows);
    RUN(every_size_up_to_33);
    RUN(large_products);
    RUN(empty_products);
    RUN(nan_stays_in_its_row_and_column);
}

int main(void) {
    const char *names[8];
    int levels = hone_kernel_levels(names);
    for (int level = 0; level < levels; level++) {
        printf("%s:\n", names[level]);
        hone_kernel_table(names[level], &table, NULL);
        run_all();
        if (!hone_kernel_has_bf16(table)) continue;
        printf("%s, bf16:\n", names[level]);
        bf16 = true;
        run_all();
        bf16 = false;
    }
    return check_report();
}
