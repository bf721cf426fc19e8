// SPDX-License-Identifier: Apache-2.0
// Where attention may read and write: up to the last byte of every array and no further, at
// addresses far beyond 32 bits, and with memory linear in a length of 65,536.
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "attention_case.h"

// ---- 65,536 ------------------------------------------------------------------------------------

#if defined(__has_feature) // clang
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) ||                         \
    __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

enum { LONG = 65536, BACK = 20, PIECE = 60 }; // SEE_WINDOW: a query sees BACK keys

static long peak_kilobytes(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

// Keys and queries [start, start + PIECE) of a long problem by themselves: what the queries from
// the BACK-th on give, and the keys that no later query sees.
static bool piece_agrees(const Problem *p, int64_t start) {
    int64_t D = p->what.head_size, queries = PIECE - BACK, first = start + BACK;
    int32_t begin[PIECE], end[PIECE];
    for (int32_t j = 0; j < PIECE; j++) {
        begin[j] = j < BACK ? 0 : j - BACK;
        end[j] = j < (int32_t)queries ? j : (int32_t)queries;
    }
    ReferenceAttention piece = p->reference;
    piece.queries = queries;
    piece.keys = PIECE;
    piece.begin = begin;
    piece.end = end;
    double *o = doubles(queries * D), *lse = doubles(queries), *row = doubles(PIECE);
    double *dq = doubles(queries * D), *dk = doubles(PIECE * D), *dv = doubles(PIECE * D);
    const double *q = p->q.dense + first * D, *k = p->k.dense + start * D;
    const double *v = p->v.dense + start * D, *d_o = p->d_o.dense + first * D;
    hone_reference_f64_attention_forward(&piece, q, k, v, o, lse, row);
    hone_reference_f64_attention_backward(&piece, q, k, v, o, lse, d_o, dq, dk, dv);
    bool fine = true;
    for (int64_t i = 0; i < queries; i++)
        fine = CHECK_NEAR(p->args.lse[first + i], lse[i], 2e-6, 1e-6) && fine;
    for (int64_t n = 0; n < queries * D; n++) {
        fine = CHECK_NEAR(floats_of(&p->o.view)[first * D + n], o[n], 2e-6, 2e-6) && fine;
        fine = CHECK_NEAR(floats_of(&p->dq.view)[first * D + n], dq[n], 5e-6, 4e-6) && fine;
    }
    int64_t last = start + PIECE == p->what.keys ? PIECE : PIECE - BACK;
    for (int64_t n = BACK * D; n < last * D; n++) {
        fine = CHECK_NEAR(floats_of(&p->dk.view)[start * D + n], dk[n], 5e-6, 4e-6) && fine;
        fine = CHECK_NEAR(floats_of(&p->dv.view)[start * D + n], dv[n], 5e-6, 4e-6) && fine;
    }
    double *arrays[] = {o, lse, row, dq, dk, dv};
    for (int i = 0; i < 6; i++) hone_free(arrays[i]);
    return fine;
}

static void check_long(const KernelTable *table, const char *name) {
    KernelContext kc = {.table = table};
    Problem p = problem_from_zero_gradients((Case){.queries = LONG,
                                                   .keys = LONG,
                                                   .heads = 1,
                                                   .kv_heads = 1,
                                                   .head_size = 8,
                                                   .value_size = 8,
                                                   .visibility = SEE_WINDOW,
                                                   .spread = 1.0f},
                                            5);
    size_t forward = hone_attention_forward_scratch(&kc, &p.args);
    size_t backward = hone_attention_backward_scratch(&kc, &p.args);
    long before = peak_kilobytes();
    run_kernel(&p, table, NULL);
    // A row of scores for every query would be 16 GiB.
    long growth = peak_kilobytes() - before, scratch = (long)((forward + backward) / 1024);
    CHECK(scratch < 256 * 1024);
#ifndef SANITIZED // whose own memory counts as well
    if (!CHECK(growth <= scratch + 16 * 1024)) printf("  %s: %ld kB more\n", name, growth);
#else
    (void)growth;
#endif
    const int64_t starts[] = {0, 12345, 32768 - 30, 50000, LONG - PIECE};
    for (int i = 0; i < 5; i++)
        if (!CHECK(piece_agrees(&p, starts[i]))) printf("  %s at %lld\n", name, (long long)i);
    free_problem(&p);
}

static void sixty_five_thousand_tokens(void) {
    on_every_level(check_long);
}

// All of 65,536 keys seen by a few queries, and the other way round, within the tolerances of
// results_close although sums of n terms round by the root of n.
static void check_oblong(const KernelTable *table, const char *name) {
    for (int turned = 0; turned < 2; turned++) {
        Problem p = problem_from_zero_gradients((Case){.queries = turned ? 3 : LONG,
                                                       .keys = turned ? LONG : 3,
                                                       .heads = 2,
                                                       .kv_heads = 1,
                                                       .head_size = 4,
                                                       .value_size = 4,
                                                       .visibility = SEE_ALL,
                                                       .spread = 1.0f},
                                                6);
        run_reference(&p);
        run_kernel(&p, table, NULL);
        bool fine = close_to(&p.o, 2e-6, 1e-6, "o") && close_to(&p.dq, 5e-6, 2e-6, "dq");
        fine = close_to(&p.dk, 5e-6, 2e-6, "dk") && fine;
        fine = close_to(&p.dv, 5e-6, 2e-6, "dv") && fine;
        for (int64_t i = 0; i < p.what.queries * p.what.heads; i++)
            fine = CHECK_NEAR(p.args.lse[i], p.lse[i], 2e-6, 1e-6) && fine;
        if (!CHECK(fine)) print_case(&p.what, name);
        free_problem(&p);
    }
}

static void few_queries_many_keys_and_turned(void) {
    on_every_level(check_oblong);
}

// ---- guard pages -------------------------------------------------------------------------------

// Memory of its own with pages before and after it that no one may touch.
typedef struct Guarded {
    char *pages;
    size_t length;
    void *data; // up to the guard after it, or from the guard before it on
} Guarded;

static Guarded guard(size_t bytes, bool at_end) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), inside = (bytes + page) / page * page;
    Guarded g = {.length = inside + 2 * page};
    g.pages = mmap(NULL, g.length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g.pages == MAP_FAILED || mprotect(g.pages, page, PROT_NONE) != 0 ||
        mprotect(g.pages + page + inside, page, PROT_NONE) != 0) {
        perror("mmap");
        CHECK(!"guard pages");
        return (Guarded){0};
    }
    memset(g.pages + page, 0xff, inside); // NaN
    g.data = g.pages + page + (at_end ? inside - bytes : 0);
    return g;
}

enum { AT_Q, AT_K, AT_V, AT_O, AT_D_O, AT_DQ, AT_DK, AT_DV, TENSORS };
enum { LSE = TENSORS, WEIGHTS, SINKS, D_SINKS, SLOPES, MASK, D_MASK, BEGIN, END, ARRAYS };

typedef struct Shape {
    int64_t queries, keys;
    int heads, kv_heads, head_size, value_size;
    int dtype;
    bool boolean; // mask
} Shape;

// Everything that attention can be given, each array between guards. Filled alike at either end.
static AttentionArgs guarded_args(const Shape *s, bool at_end, Guarded g[ARRAYS]) {
    const int64_t B = 2, H = s->heads, N = s->kv_heads, Q = s->queries, K = s->keys;
    const int64_t D = s->head_size, E = s->value_size, pairs = Q * K;
    const size_t element = s->dtype == HONE_BF16 ? 2 : 4, mask = s->boolean ? 1 : 4;
    const int64_t counts[ARRAYS] = {B * Q * H * D,
                                    B * K * N * D,
                                    B * K * N * E,
                                    B * Q * H * E,
                                    B * Q * H * E,
                                    B * Q * H * D,
                                    B * K * N * D,
                                    B * K * N * E,
                                    B * H * Q,
                                    B * H * pairs,
                                    H,
                                    H,
                                    H,
                                    pairs,
                                    pairs,
                                    K,
                                    K};
    RandomStream random = hone_random_stream(3, RANDOM_TEST, 0);
    for (int a = 0; a < ARRAYS; a++) {
        size_t size = a <= AT_D_O ? element : a == MASK ? mask : 4;
        g[a] = guard((size_t)counts[a] * size, at_end);
        for (int64_t i = 0; i < counts[a]; i++) {
            float number = hone_random_normal(&random);
            if (a == BEGIN || a == END)
                ((int32_t *)g[a].data)[i] = a == BEGIN ? (int32_t)(i < Q ? i : Q) : (int32_t)Q;
            else if (size == 1)
                ((uint8_t *)g[a].data)[i] = number > -1;
            else if (size == 2)
                hone_quantise(HONE_BF16, &number, (uint16_t *)g[a].data + i, 1, NULL);
            else
                ((float *)g[a].data)[i] = number;
        }
    }
    AttentionView views[TENSORS];
    for (int a = 0; a < TENSORS; a++) {
        bool of_queries = a == AT_Q || a == AT_O || a == AT_D_O || a == AT_DQ;
        bool wide = a == AT_V || a == AT_O || a == AT_D_O || a == AT_DV;
        int64_t size = wide ? E : D, heads = of_queries ? H : N, rows = of_queries ? Q : K;
        views[a] = (AttentionView){g[a].data, heads * size, size, rows * heads * size};
    }
    return (AttentionArgs){.batch = B,
                           .queries = Q,
                           .keys = K,
                           .heads = s->heads,
                           .kv_heads = s->kv_heads,
                           .head_size = s->head_size,
                           .value_size = s->value_size,
                           .dtype = s->dtype,
                           .scale = 0.3f,
                           .begin = g[BEGIN].data,
                           .end = g[END].data,
                           .mask = {g[MASK].data, s->boolean, 0, 0, K, 1},
                           .slopes = g[SLOPES].data,
                           .softcap = 20,
                           .sinks = g[SINKS].data,
                           .dropout = 0.25f,
                           .q = views[AT_Q],
                           .k = views[AT_K],
                           .v = views[AT_V],
                           .o = views[AT_O],
                           .lse = g[LSE].data,
                           .weights = g[WEIGHTS].data,
                           .d_o = views[AT_D_O],
                           .dq = views[AT_DQ],
                           .dk = views[AT_DK],
                           .dv = views[AT_DV],
                           .d_mask = s->boolean ? NULL : g[D_MASK].data,
                           .d_sinks = g[D_SINKS].data};
}

static void run_guarded(const KernelContext *kc, const AttentionArgs *args, bool at_end) {
    for (int pass = 0; pass < 2; pass++) {
        size_t bytes = pass ? hone_attention_backward_scratch(kc, args)
                            : hone_attention_forward_scratch(kc, args);
        Guarded scratch = guard(bytes, at_end);
        pass ? hone_attention_backward(kc, args, scratch.data)
             : hone_attention_forward(kc, args, scratch.data);
        munmap(scratch.pages, scratch.length);
    }
}

// A byte too far is a crash. And what lies at the one end has the bits of what lies at the other,
// whose addresses are aligned.
static void check_guarded(const KernelTable *table, const char *name) {
    static const Shape shapes[] = {
        {1, 1, 1, 1, 1, 1, HONE_F32, false},       {17, 33, 2, 1, 5, 9, HONE_F32, false},
        {33, 17, 4, 2, 16, 31, HONE_F32, true},    {201, 203, 2, 2, 7, 24, HONE_F32, false},
        {3, 1101, 2, 1, 33, 8, HONE_F32, true},    {130, 129, 3, 1, 65, 64, HONE_F32, false},
        {17, 33, 2, 1, 5, 9, HONE_BF16, false},    {201, 203, 2, 2, 7, 24, HONE_BF16, true},
        {3, 1101, 2, 1, 33, 8, HONE_BF16, false},  {65, 63, 2, 2, 256, 255, HONE_F32, false},
        {1, 513, 16, 1, 64, 128, HONE_F32, false},
    };
    KernelContext kc = {.table = table};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        Guarded ends[2][ARRAYS];
        AttentionArgs args[2];
        for (int at_end = 0; at_end < 2; at_end++) {
            args[at_end] = guarded_args(&shapes[i], at_end, ends[at_end]);
            run_guarded(&kc, &args[at_end], at_end);
        }
        const AttentionArgs *a = &args[0];
        const size_t rows = (size_t)(a->batch * a->queries * a->heads);
        const struct {
            int array;
            size_t bytes;
        } results[] = {
            {AT_O, rows * (size_t)a->value_size * (a->dtype == HONE_BF16 ? 2 : 4)},
            {LSE, rows * 4},
            {WEIGHTS, rows * (size_t)a->keys * 4},
            {AT_DQ, rows * (size_t)a->head_size * 4},
            {AT_DK, (size_t)(a->batch * a->keys * a->kv_heads * a->head_size) * 4},
            {AT_DV, (size_t)(a->batch * a->keys * a->kv_heads * a->value_size) * 4},
            {D_MASK, (size_t)(a->queries * a->keys) * 4},
            {D_SINKS, (size_t)a->heads * 4},
        };
        for (size_t n = 0; n < sizeof results / sizeof *results; n++) {
            const Guarded *one = ends[0], *other = ends[1];
            int array = results[n].array;
            if (!CHECK(memcmp(one[array].data, other[array].data, results[n].bytes) == 0))
                printf("  %s, shape %zu, array %d\n", name, i, array);
        }
        for (int at_end = 0; at_end < 2; at_end++)
            for (int n = 0; n < ARRAYS; n++) munmap(ends[at_end][n].pages, ends[at_end][n].length);
    }
}

static void nothing_outside_the_arrays_is_touched(void) {
    on_every_level(check_guarded);
}

// ---- far strides -------------------------------------------------------------------------------

// 40 GiB of addresses, of which the pages that hold rows are ever there: all tensors and the mask
// are columns of it.
enum { FAR_ROWS = 20, FAR_HEADS = 2, FAR_BATCH = 2, FAR_SIZE = 8 };
static const int64_t far_row = (int64_t)1 << 27; // floats
static const int64_t far_head = FAR_ROWS * ((int64_t)1 << 27);

static int64_t far_place(int64_t dense) { // of (batch, rows, heads, size)
    int64_t c = dense % FAR_SIZE, h = dense / FAR_SIZE % FAR_HEADS;
    int64_t row = dense / FAR_SIZE / FAR_HEADS % FAR_ROWS;
    int64_t b = dense / FAR_SIZE / FAR_HEADS / FAR_ROWS;
    return b * FAR_HEADS * far_head + h * far_head + row * far_row + c;
}

static AttentionView far_view(float *buffer, int column) {
    return (AttentionView){buffer + column * FAR_SIZE, far_row, far_head, FAR_HEADS * far_head};
}

static void fill_far(float *buffer, double *dense[TENSORS]) {
    const int64_t count = FAR_BATCH * FAR_ROWS * FAR_HEADS * FAR_SIZE;
    RandomStream random = hone_random_stream(4, RANDOM_TEST, 0);
    for (int t = 0; t < TENSORS; t++) {
        dense[t] = doubles(count);
        for (int64_t i = 0; i < count; i++) {
            float number = t >= AT_DQ ? 0 : hone_random_normal(&random);
            dense[t][i] = (double)number;
            buffer[far_place(i) + t * FAR_SIZE] = number;
        }
    }
    for (int64_t line = 0; line < FAR_BATCH * FAR_HEADS * FAR_ROWS; line++) // the mask
        for (int j = 0; j < FAR_ROWS; j++) {
            float *at = buffer + line * far_row + TENSORS * FAR_SIZE + j;
            *at = hone_random_below(&random, 4) == 0 ? -INFINITY : hone_random_normal(&random);
        }
}

static void check_far(const KernelTable *table, const char *name) {
    const size_t bytes = (size_t)(FAR_BATCH * FAR_HEADS * far_head) * sizeof(float);
    const int64_t count = FAR_BATCH * FAR_ROWS * FAR_HEADS * FAR_SIZE;
    float *buffer = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (buffer == MAP_FAILED) { // where addresses are rationed
        printf("skipped: no 40 GiB of addresses\n");
        return;
    }
    double *dense[TENSORS], lse[FAR_HEADS * FAR_ROWS], row[FAR_ROWS];
    float found_lse[FAR_BATCH * FAR_HEADS * FAR_ROWS];
    fill_far(buffer, dense);
    AttentionArgs args = {.batch = FAR_BATCH,
                          .queries = FAR_ROWS,
                          .keys = FAR_ROWS,
                          .heads = FAR_HEADS,
                          .kv_heads = FAR_HEADS,
                          .head_size = FAR_SIZE,
                          .value_size = FAR_SIZE,
                          .scale = 0.5f,
                          .mask = {.data = buffer + TENSORS * FAR_SIZE,
                                   .batch = FAR_HEADS * far_head,
                                   .head = far_head,
                                   .query = far_row,
                                   .key = 1},
                          .lse = found_lse};
    AttentionView *views[TENSORS] = {&args.q,   &args.k,  &args.v,  &args.o,
                                     &args.d_o, &args.dq, &args.dk, &args.dv};
    for (int t = 0; t < TENSORS; t++) *views[t] = far_view(buffer, t);
    KernelContext kc = {.table = table};
    void *scratch = poisoned(hone_attention_forward_scratch(&kc, &args));
    hone_attention_forward(&kc, &args, scratch);
    hone_free(scratch);
    scratch = poisoned(hone_attention_backward_scratch(&kc, &args));
    hone_attention_backward(&kc, &args, scratch);
    hone_free(scratch);
    for (int64_t b = 0; b < FAR_BATCH; b++) {
        ReferenceAttention reference = {.queries = FAR_ROWS,
                                        .keys = FAR_ROWS,
                                        .heads = FAR_HEADS,
                                        .kv_heads = FAR_HEADS,
                                        .head_size = FAR_SIZE,
                                        .value_size = FAR_SIZE,
                                        .scale = 0.5,
                                        .mask = args.mask,
                                        .element = b};
        double *at[TENSORS];
        for (int t = 0; t < TENSORS; t++) at[t] = dense[t] + b * count / FAR_BATCH;
        hone_reference_f64_attention_forward(&reference, at[AT_Q], at[AT_K], at[AT_V], at[AT_O],
                                             lse, row);
        hone_reference_f64_attention_backward(&reference, at[AT_Q], at[AT_K], at[AT_V], at[AT_O],
                                              lse, at[AT_D_O], at[AT_DQ], at[AT_DK], at[AT_DV]);
        for (int n = 0; n < FAR_HEADS * FAR_ROWS; n++)
            CHECK_NEAR(found_lse[b * FAR_HEADS * FAR_ROWS + n], lse[n], 2e-6, 1e-6);
    }
    const int results[] = {AT_O, AT_DQ, AT_DK, AT_DV};
    for (int n = 0; n < 4; n++)
        for (int64_t i = 0; i < count; i++)
            if (!CHECK_NEAR(buffer[far_place(i) + results[n] * FAR_SIZE], dense[results[n]][i],
                            5e-6, 4e-6))
                printf("  %s, tensor %d\n", name, results[n]);
    for (int t = 0; t < TENSORS; t++) hone_free(dense[t]);
    munmap(buffer, bytes);
}

static void strides_beyond_32_bits(void) {
    on_every_level(check_far);
}

int main(void) {
    RUN(sixty_five_thousand_tokens); // first: it asks how far the peak of memory moves
    RUN(few_queries_many_keys_and_turned);
    RUN(nothing_outside_the_arrays_is_touched);
    RUN(strides_beyond_32_bits);
    return check_report();
}
