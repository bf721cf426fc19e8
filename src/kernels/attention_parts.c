// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_parts.h"

#include <string.h>

enum { ALIGNMENT = 64 };

AttentionShape hone_attention_shape(const AttentionArgs *args) {
    AttentionShape shape = {.args = args};
    shape.group = args->heads / args->kv_heads;
    shape.stacks = args->batch * args->kv_heads;
    shape.rows = args->queries * shape.group;
    shape.panels = attention_ceiling(shape.rows, HONE_PANEL);
    shape.strips = attention_ceiling(args->keys, STRIP);
    return shape;
}

void *hone_attention_take(ScratchCursor *cursor, size_t count, size_t size) {
    char *piece = cursor->base ? cursor->base + cursor->used : NULL;
    size_t bytes = (count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    cursor->used += bytes;
    return piece;
}

size_t hone_attention_scratch_bytes(const ScratchCursor *cursor) {
    return cursor->used + ALIGNMENT;
}

char *hone_attention_scratch_base(void *scratch) {
    uintptr_t address = (uintptr_t)scratch;
    return (char *)scratch + (ALIGNMENT - address % ALIGNMENT) % ALIGNMENT;
}

ThreadPool *hone_attention_pool(const KernelContext *kc, const AttentionShape *shape) {
    // About 20 µs of one core: what waking a second one costs, several times over.
    const double least = 2e6;
    const AttentionArgs *args = shape->args;
    double work = (double)args->queries * (double)args->keys * args->heads * (double)args->batch *
                  (args->head_size + args->value_size) * 2;
    return work < least ? NULL : kc->pool;
}

void hone_attention_bounds(const AttentionShape *shape, int64_t strip, StripBounds *bounds) {
    const int32_t *begin = shape->args->begin, *end = shape->args->end;
    int64_t key = strip * STRIP, stop = key + STRIP;
    if (stop > shape->args->keys) stop = shape->args->keys;
    StripBounds b = {begin[key], begin[key], end[key], end[key]};
    for (key++; key < stop; key++) {
        if (begin[key] < b.begin_least) b.begin_least = begin[key];
        if (begin[key] > b.begin_most) b.begin_most = begin[key];
        if (end[key] < b.end_least) b.end_least = end[key];
        if (end[key] > b.end_most) b.end_most = end[key];
    }
    *bounds = b;
}

PanelRange hone_attention_panel_range(const AttentionShape *shape, int64_t panel) {
    int64_t row = panel * HONE_PANEL, lanes = shape->rows - row;
    if (lanes > HONE_PANEL) lanes = HONE_PANEL;
    return (PanelRange){row / shape->group, (row + lanes - 1) / shape->group, (int)lanes};
}

void hone_attention_lane_queries(const AttentionShape *shape, int64_t panel,
                                 int32_t query[HONE_PANEL]) {
    int64_t i = panel * HONE_PANEL / shape->group;
    int h = (int)(panel * HONE_PANEL % shape->group);
    for (int lane = 0; lane < HONE_PANEL; lane++) {
        query[lane] = (int32_t)(i < shape->args->queries ? i : shape->args->queries);
        if (++h == shape->group) {
            h = 0;
            i++;
        }
    }
}

void hone_attention_lane_rows(const AttentionShape *shape, int64_t stack, int64_t panel,
                              AttentionView view, float *rows[HONE_PANEL]) {
    int64_t i = panel * HONE_PANEL / shape->group;
    int h = (int)(panel * HONE_PANEL % shape->group);
    int64_t kv_heads = shape->args->kv_heads;
    float *heads = (float *)view.data + stack / kv_heads * view.batch +
                   stack % kv_heads * shape->group * view.head;
    for (int lane = 0; lane < HONE_PANEL; lane++) {
        rows[lane] = i < shape->args->queries ? heads + i * view.row + h * view.head : NULL;
        if (++h == shape->group) {
            h = 0;
            i++;
        }
    }
}

StripState hone_attention_strip_state(const AttentionShape *shape, int64_t strip,
                                      PanelRange range) {
    if (!shape->bounds) return STRIP_FREE;
    const StripBounds *b = &shape->bounds[strip];
    if (range.last < b->begin_least || range.first >= b->end_most) return STRIP_DEAD;
    if (range.first >= b->begin_most && range.last < b->end_least) return STRIP_FREE;
    return STRIP_TESTED;
}

static bool key_dead(const AttentionArgs *args, int64_t key, PanelRange range) {
    return range.last < args->begin[key] || range.first >= args->end[key];
}

bool hone_attention_next_keys(const AttentionShape *shape, PanelRange range, int64_t end,
                              int64_t *start, int64_t *stop) {
    if (!shape->bounds) {
        *stop = end;
        return *start < end;
    }
    int64_t key = *start;
    while (key < end) {
        if (hone_attention_strip_state(shape, key / STRIP, range) == STRIP_DEAD)
            key = (key / STRIP + 1) * STRIP;
        else if (key_dead(shape->args, key, range))
            key++;
        else
            break;
    }
    if (key >= end) return false;
    *start = key;
    while (key < end && hone_attention_strip_state(shape, key / STRIP, range) != STRIP_DEAD)
        key = (key / STRIP + 1) * STRIP;
    if (key > end) key = end;
    while (key_dead(shape->args, key - 1, range)) key--;
    *stop = key;
    return true;
}

int64_t hone_attention_test_run(const AttentionShape *shape, PanelRange range, int64_t start,
                                int64_t stop, bool *test) {
    int64_t strip = start / STRIP;
    *test = hone_attention_strip_state(shape, strip, range) != STRIP_FREE;
    for (strip++; strip * STRIP < stop; strip++)
        if ((hone_attention_strip_state(shape, strip, range) != STRIP_FREE) != *test) break;
    return strip * STRIP < stop ? strip * STRIP : stop;
}

bool hone_attention_next_group(int panels, int64_t *from, const int64_t *to, PanelGroup *group) {
    int first = -1;
    for (int n = 0; n < panels; n++)
        if (from[n] < to[n] && (first < 0 || from[n] < from[first])) first = n;
    if (first < 0) return false;
    int last = first;
    int64_t start = from[first], stop = to[first];
    for (; last < panels && from[last] == start && start < to[last]; last++)
        if (to[last] < stop) stop = to[last];
    for (int n = 0; n < panels; n++)
        if (from[n] < to[n] && start < from[n] && from[n] < stop) stop = from[n];
    for (int n = first; n < last; n++) from[n] = stop;
    *group = (PanelGroup){first, last - first, start, stop};
    return true;
}

void hone_attention_sparse_product(int64_t M, int64_t K, PanelOperand A, const float *B,
                                   int64_t ldb, float *C, int64_t ldc, bool accumulate, bool left) {
    for (int64_t m = 0; m < M; m++)
        for (int n = 0; n < HONE_PANEL; n++) {
            float sum = accumulate ? C[m * ldc + n] : 0.0f;
            for (int64_t k = 0; k < K; k++) {
                float a = A.data[m * A.row + k * A.column];
                float b = B[k * ldb + n];
                if ((left ? a : b) != 0.0f) sum += a * b;
            }
            C[m * ldc + n] = sum;
        }
}
