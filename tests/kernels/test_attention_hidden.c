// SPDX-License-Identifier: Apache-2.0
// What a mask hides, where whole blocks of keys and whole parts of a decoding step are hidden: rows
// of -infinity, of the most negative number, of False; NaN and infinity behind the mask and before
// it. Every level, for lengths that are packed, that are not, and that are cut into parts.
#include <float.h>

#include "attention_case.h"

typedef struct Path {
    const char *name;
    int64_t queries, keys;
    int heads, kv_heads;
} Path;

static const Path paths[] = {
    {"many queries", 600, 600, 1, 1},
    {"some queries, many keys", 60, 3000, 2, 1},
    {"few queries", 7, 600, 2, 1},
    {"few queries, many keys", 7, 5000, 2, 1},
};
enum { PATHS = sizeof paths / sizeof *paths };

typedef enum Mask { BOOLEAN, MINUS_INFINITY, LOWEST, INTERVALS, MASKS } Mask;

static Problem problem_of(const Path *path) {
    return problem_from_zero_gradients((Case){.queries = path->queries,
                                              .keys = path->keys,
                                              .heads = path->heads,
                                              .kv_heads = path->kv_heads,
                                              .head_size = 12,
                                              .value_size = 20,
                                              .visibility = SEE_ALL,
                                              .gap = 1,
                                              .spread = 1.0f},
                                       8);
}

// Five kinds of rows: nothing seen; only the last tenth of the keys, after whole blocks of others;
// only the first tenth; all but some blocks between; everything.
static bool row_sees(const Problem *p, int64_t i, int64_t j) {
    int64_t tenth = p->what.keys / 10;
    switch (i % 5) {
    case 0:
        return false;
    case 1:
        return j >= 9 * tenth;
    case 2:
        return j < tenth;
    case 3:
        return j < 2 * tenth || j >= 8 * tenth;
    default:
        return true;
    }
}

// The same for both sides of the comparison. Caller frees the result after the problem's last run.
static void *set_mask(Problem *p, Mask kind) {
    int64_t queries = p->what.queries, keys = p->what.keys;
    if (kind == INTERVALS) { // a range of queries for each key: the first and the last see nothing
        for (int64_t j = 0; j < keys; j++) {
            p->begin[j] = (int32_t)(j < keys * 9 / 10 ? queries / 2 : queries / 5);
            p->end[j] = (int32_t)(queries - queries / 5);
        }
        p->args.begin = p->reference.begin = p->begin;
        p->args.end = p->reference.end = p->end;
        return NULL;
    }
    float *numbers = hone_calloc((size_t)(queries * keys), sizeof *numbers);
    for (int64_t at = 0; at < queries * keys; at++) {
        bool shown = row_sees(p, at / keys, at % keys);
        if (kind == BOOLEAN)
            ((uint8_t *)numbers)[at] = shown;
        else
            numbers[at] = shown ? 0 : kind == LOWEST ? -FLT_MAX : -INFINITY;
    }
    p->args.mask = (AttentionMask){.data = numbers, .query = keys, .key = 1};
    p->args.mask.boolean = kind == BOOLEAN;
    p->reference.mask = p->args.mask;
    return numbers;
}

// Of rows that see nothing everything is exactly 0, and the log-sum-exp -infinity.
static bool empty_rows_are_zero(const Problem *p, int *empty) {
    bool fine = true;
    for (int64_t line = 0; line < p->what.queries * p->what.heads; line++) {
        int64_t i = line / p->what.heads, h = line % p->what.heads;
        if (p->lse[h * p->what.queries + i] != (double)-INFINITY) continue;
        fine = fine && p->args.lse[h * p->what.queries + i] == -INFINITY;
        for (int64_t c = 0; c < p->o.size; c++)
            fine = fine && floats_of(&p->o.view)[place(&p->o, line * p->o.size + c)] == 0;
        for (int64_t c = 0; c < p->dq.size; c++)
            fine = fine && floats_of(&p->dq.view)[place(&p->dq, line * p->dq.size + c)] == 0;
        ++*empty;
    }
    return fine;
}

static void check_hidden(const KernelTable *table, const char *name) {
    for (int i = 0; i < PATHS; i++)
        for (int kind = 0; kind < MASKS; kind++) {
            Problem p = problem_of(&paths[i]);
            void *mask = set_mask(&p, (Mask)kind);
            int empty = 0;
            run_reference(&p);
            run_kernel(&p, table, NULL);
            bool fine = results_close(&p);
            fine = empty_rows_are_zero(&p, &empty) && fine;
            CHECK((empty > 0) == (kind != LOWEST));
            if (!CHECK(fine)) printf("  %s, %s, mask %d\n", name, paths[i].name, kind);
            free_problem(&p);
            hone_free(mask);
        }
}

static void hidden_blocks_and_rows(void) {
    on_every_level(check_hidden);
}

// ---- NaN and infinity behind the mask ----------------------------------------------------------

static void put(CaseTensor *t, int64_t row, double value) {
    for (int64_t c = 0; c < t->heads * t->size; c++) t->dense[row * t->heads * t->size + c] = value;
    fill_view(t);
}

// A key of NaN, one of infinity, a value of each: only the rows of the last kind see them. Whoever
// sees a NaN key is all NaN, forward and backward; nobody else knows. With and without a soft-cap,
// which is taken back from the scores themselves.
static void check_behind(const KernelTable *table, const char *name) {
    for (int i = 0; i < PATHS; i++)
        for (int kind = 0; kind < 4; kind++) {
            Problem p = problem_of(&paths[i]);
            p.args.softcap = p.reference.softcap = kind & 2 ? 5 : 0;
            int64_t middle = p.what.keys / 2;
            void *mask = set_mask(&p, kind & 1 ? MINUS_INFINITY : BOOLEAN);
            put(&p.k, middle, (double)NAN);
            put(&p.k, middle + 1, (double)INFINITY);
            put(&p.v, middle + 2, (double)NAN);
            put(&p.v, middle + 40, -(double)INFINITY);
            run_reference(&p);
            run_kernel(&p, table, NULL);
            int64_t knowing = 0, wrong = 0, D = p.what.head_size, E = p.what.value_size;
            for (int64_t line = 0; line < p.what.queries * p.what.heads; line++) {
                bool knows = line / p.what.heads % 5 == 4;
                knowing += knows;
                for (int64_t c = 0; c < E; c++) {
                    float o = floats_of(&p.o.view)[place(&p.o, line * E + c)];
                    double want = p.o.dense[line * E + c];
                    wrong += knows ? !isnan(o) : !(fabs((double)o - want) <= 1e-5);
                }
                for (int64_t c = 0; c < D; c++) {
                    float dq = floats_of(&p.dq.view)[place(&p.dq, line * D + c)];
                    double want = p.dq.dense[line * D + c];
                    wrong += knows ? !isnan(dq) : !(fabs((double)dq - want) <= 1e-5);
                }
            }
            CHECK(knowing > 0);
            if (!CHECK_INT(wrong, 0)) printf("  %s, %s, mask %d\n", name, paths[i].name, kind);
            free_problem(&p);
            hone_free(mask);
        }
}

static void nothing_behind_a_mask_is_read(void) {
    on_every_level(check_behind);
}

// ---- infinite scores ---------------------------------------------------------------------------

// A visible score of -infinity weighs nothing; one of +infinity leaves no softmax, which is NaN and
// not a number that looks fine.
static void check_infinite(const KernelTable *table, const char *name) {
    for (int i = 0; i < PATHS; i++) {
        Problem p = problem_of(&paths[i]);
        int64_t E = p.what.value_size, wide = p.what.heads * p.what.head_size;
        for (int64_t n = 0; n < dense_count(&p.q); n++)
            p.q.dense[n] = fabs(p.q.dense[n]) * (n / wide % 2 ? 1 : -1);
        fill_view(&p.q);
        put(&p.k, p.what.keys - 3, (double)INFINITY); // even queries: -infinity; odd: +infinity
        run_reference(&p);
        run_kernel(&p, table, NULL);
        int64_t wrong = 0;
        for (int64_t n = 0; n < dense_count(&p.o); n++) {
            float o = floats_of(&p.o.view)[place(&p.o, n)];
            bool odd = n / E / p.what.heads % 2;
            wrong += odd ? !isnan(o) : !(fabs((double)o - p.o.dense[n]) <= 1e-5);
        }
        if (!CHECK_INT(wrong, 0)) printf("  %s, %s\n", name, paths[i].name);
        free_problem(&p);
    }
}

static void infinite_scores(void) {
    on_every_level(check_infinite);
}

// ---- between those who see ----------------------------------------------------------------------

// The first and the last panel of a block of queries see a key; one between them, of NaN, sees only
// keys of another block. The key's gradients know nothing of it.
static void check_between_capped(const KernelTable *table, const char *name, float softcap) {
    Problem p = problem_of(&(Path){"", 120, 300, 1, 1});
    for (int64_t j = 0; j < 300; j++) {
        p.begin[j] = j >= 150 ? 50 : j % 2 ? 100 : 0;
        p.end[j] = p.begin[j] + 1;
    }
    p.args.softcap = softcap;
    p.reference.softcap = (double)softcap;
    p.args.begin = p.reference.begin = p.begin;
    p.args.end = p.reference.end = p.end;
    put(&p.q, 50, (double)NAN);
    put(&p.d_o, 50, (double)NAN);
    run_reference(&p);
    run_kernel(&p, table, NULL);
    if (!CHECK(results_close(&p))) printf("  %s, softcap %g\n", name, (double)softcap);
    free_problem(&p);
}

static void check_between(const KernelTable *table, const char *name) {
    check_between_capped(table, name, 0);
    check_between_capped(table, name, 5);
}

static void a_panel_between_is_not_there(void) {
    on_every_level(check_between);
}

int main(void) {
    RUN(hidden_blocks_and_rows);
    RUN(nothing_behind_a_mask_is_read);
    RUN(infinite_scores);
    RUN(a_panel_between_is_not_there);
    return check_report();
}
