// SPDX-License-Identifier: Apache-2.0
// What the forward and the backward pass of attention share: how queries and keys are cut, and who
// sees whom at the grain of a strip of keys and a panel of queries.
//
// A key/value head of one element of the batch is a *stack*, with the query heads that share it:
// row i·group + h is query i of the h-th of them, so keys and values are read once a group, and one
// query with a group of 16 already fills a panel.
#ifndef HONE_KERNELS_ATTENTION_PARTS_H
#define HONE_KERNELS_ATTENTION_PARTS_H

#include <string.h>

#include "kernels/kernels.h"
#include "kernels/table.h"

enum {
    STRIP = 16,                             // keys whose intervals are summed up together
    BLOCK_PANELS = 8,                       // panels that share one pass over a block of keys
    BLOCK_ROWS = BLOCK_PANELS * HONE_PANEL, // rows of such a block
};

// From here on the logarithm of a sum of exponentials may be lost in lse.
#define HONE_LSE_EXACT 0x1p18f

// The extremes of the intervals of one strip's keys.
typedef struct StripBounds {
    int32_t begin_least, begin_most, end_least, end_most;
} StripBounds;

typedef enum StripState {
    STRIP_DEAD,   // no query sees any of its keys
    STRIP_TESTED, // some query may not see some key
    STRIP_FREE,   // every query sees every key
} StripState;

typedef struct AttentionShape {
    const AttentionArgs *args;
    int group;                 // query heads per key/value head
    int64_t stacks;            // batch · kv_heads
    int64_t rows, panels;      // of one stack
    int64_t strips;            // of the keys
    const StripBounds *bounds; // (strips), NULL: every query sees every key
} AttentionShape;

typedef struct PanelRange {
    int64_t first, last; // queries, both inclusive
    int lanes;           // rows that exist
} PanelRange;

// Hands out 64-byte aligned pieces of scratch; with base NULL it only measures.
typedef struct ScratchCursor {
    char *base;
    size_t used;
} ScratchCursor;

AttentionShape hone_attention_shape(const AttentionArgs *args);
void *hone_attention_take(ScratchCursor *cursor, size_t count, size_t size);
size_t hone_attention_scratch_bytes(const ScratchCursor *cursor); // with room to align the base
char *hone_attention_scratch_base(void *scratch);
// The pool, or NULL where the work is too small for a second thread to pay.
ThreadPool *hone_attention_pool(const KernelContext *kc, const AttentionShape *shape);

void hone_attention_bounds(const AttentionShape *shape, int64_t strip, StripBounds *bounds);
PanelRange hone_attention_panel_range(const AttentionShape *shape, int64_t panel);
// query[lane] of a panel; lanes past the last row get args->queries, which sees nothing.
void hone_attention_lane_queries(const AttentionShape *shape, int64_t panel,
                                 int32_t query[HONE_PANEL]);
// Addresses of a panel's rows in a view of query heads; lanes past the last row get NULL.
void hone_attention_lane_rows(const AttentionShape *shape, int64_t stack, int64_t panel,
                              AttentionView view, float *rows[HONE_PANEL]);
StripState hone_attention_strip_state(const AttentionShape *shape, int64_t strip, PanelRange range);
// The next keys [*start, *stop) at or after *start and before end that a panel may see: no dead
// strip among them, and the first and the last one seen. false: no more.
bool hone_attention_next_keys(const AttentionShape *shape, PanelRange range, int64_t end,
                              int64_t *start, int64_t *stop);
// The end of the keys from start on, before stop, whose scores all need a test, or all do not.
int64_t hone_attention_test_run(const AttentionShape *shape, PanelRange range, int64_t start,
                                int64_t stop, bool *test);

// Neighbouring panels that meet the keys [start, stop) together.
typedef struct PanelGroup {
    int first, count;
    int64_t start, stop;
} PanelGroup;

// Of `panels` panels that are to meet the keys [from, to) each: those that come first, up to where
// one of them leaves or another comes. Their from moves on to there. false: all have met theirs.
bool hone_attention_next_group(int panels, int64_t *from, const int64_t *to, PanelGroup *group);

// Zero times NaN or infinity is NaN, so a product over keys and queries of which some do not see
// each other must not touch a row that is not finite. As AttentionTable.product, leaving out the
// terms whose coefficient (in A if `left`, else in B) is exactly 0. Slow: for tiles that hold NaN
// or infinity and are not wholly visible.
void hone_attention_sparse_product(int64_t M, int64_t K, PanelOperand A, const float *B,
                                   int64_t ldb, float *C, int64_t ldc, bool accumulate, bool left);

// The query of a panel's lane and its head, counted over the whole batch: head 0 of batch 1 is
// `heads`. row: its place among rows (batch, heads, queries).
typedef struct LanePlace {
    int64_t query, head, row;
} LanePlace;

static inline LanePlace attention_lane_place(const AttentionShape *shape, int64_t stack,
                                             int64_t panel, int lane) {
    int64_t row = panel * HONE_PANEL + lane, query = row / shape->group;
    int64_t head = stack * shape->group + row % shape->group; // heads = kv_heads · group
    return (LanePlace){query, head, head * shape->args->queries + query};
}

// The address of key `key` of a stack in a view of key/value heads.
static inline float *attention_key_row(const AttentionShape *shape, AttentionView view,
                                       int64_t stack, int64_t key) {
    int64_t kv_heads = shape->args->kv_heads;
    return (float *)view.data + stack / kv_heads * view.batch + stack % kv_heads * view.head +
           key * view.row;
}

// Columns of HONE_PANEL, `apart` floats from one panel to the next, ← x (size), zeros up to a whole
// panel; x NULL: only zeros.
static inline void attention_pack_columns(int64_t size, const float *x, float *columns,
                                          int64_t apart) {
    int64_t c = 0;
    for (; x && c + HONE_PANEL <= size; c += HONE_PANEL, columns += apart)
        memcpy(columns, x + c, HONE_PANEL * sizeof *columns);
    for (; c < size; c += HONE_PANEL, columns += apart) {
        memset(columns, 0, HONE_PANEL * sizeof *columns);
        if (x) memcpy(columns, x + c, (size_t)(size - c) * sizeof *columns);
    }
}

// The passes of kernels.h over arrays of f32, whatever args->dtype: that says which type holds the
// values of q, k, v and d_o without loss.
size_t hone_attention_f32_forward_scratch(const KernelContext *kc, const AttentionArgs *args);
void hone_attention_f32_forward(const KernelContext *kc, const AttentionArgs *args, void *scratch);
size_t hone_attention_f32_backward_scratch(const KernelContext *kc, const AttentionArgs *args);
void hone_attention_f32_backward(const KernelContext *kc, const AttentionArgs *args, void *scratch);

static inline int64_t attention_ceiling(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

// Does a task that does all of a stack keep the threads as busy as smaller ones would? What it does
// is the same to the bit.
static inline bool attention_whole_stacks(int64_t stacks, int threads) {
    return stacks % threads == 0 || stacks >= 4 * (int64_t)threads;
}

// The panels of `left` that are done together.
static inline int attention_few(int64_t left, int most) {
    return left < most ? (int)left : most;
}

#endif
