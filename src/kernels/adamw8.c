// SPDX-License-Identifier: Apache-2.0
// AdamW with moments of 8 bits: a block is decoded, updated by the f32 kernel and encoded again
// while it is in the first-level cache.
#include <float.h>
#include <math.h>

#include "base/half.h"
#include "kernels/kernels.h"
#include "kernels/table.h"

enum { TASK_BLOCKS = 64, DECADES = 7 };

typedef struct AdamW8Task {
    const ElementTable *table;
    const AdamW8Args *args;
    AdamWStep step;
} AdamW8Task;

// ---- the map -----------------------------------------------------------------------------------

// Decade d from 10^(d−7) to ten times that is cut into 2^d parts, twice as many without signs;
// their middles are magnitudes, and so is 1.
void hone_adamw8_map(bool is_signed, AdamW8Map *map) {
    double magnitude[256];
    int count = 0;
    *map = (AdamW8Map){.zero = is_signed ? 127 : 0, .parts = is_signed ? 1 : 2};
    magnitude[count++] = 0;
    for (int d = 0; d < DECADES; d++) {
        const int parts = map->parts << d;
        for (int i = 0; i < parts; i++, count++) {
            magnitude[count] = pow(10, d - (DECADES - 1)) * (0.1 + 0.9 * (i + 0.5) / (double)parts);
            if (i == 0) map->first[d] = (float)((magnitude[count - 1] + magnitude[count]) / 2);
        }
    }
    if (!is_signed) map->first[0] = FLT_TRUE_MIN; // what is above 0 is not stored as 0
    map->last = (float)((magnitude[count - 1] + 1) / 2);
    magnitude[count++] = 1;
    map->magnitudes = count - 1;
    for (int k = 0; k < count; k++) {
        map->value[map->zero + k] = (float)magnitude[k];
        if (map->zero >= k) map->value[map->zero - k] = -(float)magnitude[k];
    }
}

static float larger(float a, float b) {
    return a > b ? a : b;
}

// Eight at a time: as many chains of comparisons as a vector is wide.
static float largest_magnitude(int64_t n, const float *x) {
    float largest[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) largest[k] = larger(largest[k], fabsf(x[i + k]));
    for (; i < n; i++) largest[0] = larger(largest[0], fabsf(x[i]));
    for (int k = 1; k < 8; k++) largest[0] = larger(largest[0], largest[k]);
    return largest[0];
}

// Codes of n values, at most a block, and their largest magnitude.
static float encode(const ElementTable *table, const AdamW8Map *map, int64_t n, const float *x,
                    uint8_t *code) {
    const float largest = largest_magnitude(n, x);
    const float inverse = largest >= FLT_MIN ? 1 / largest : 0;
    table->nearest_codes(map, n, x, inverse, code);
    return largest;
}

// ---- the step ----------------------------------------------------------------------------------

static void update_block(const AdamW8Task *work, int64_t block) {
    const AdamW8Args *args = work->args;
    const int64_t first = block * ADAMW8_BLOCK, left = args->adamw.count - first;
    const int64_t n = left < ADAMW8_BLOCK ? left : ADAMW8_BLOCK;
    float m[ADAMW8_BLOCK], v[ADAMW8_BLOCK];
    work->table->decode_values(args->m_map, n, args->m + first, args->m_scale[block], m);
    work->table->decode_values(args->v_map, n, args->v + first, args->v_scale[block], v);
    work->table->adamw(n, &work->step, args->adamw.g + first, args->adamw.p + first, m, v);
    args->m_scale[block] = encode(work->table, args->m_map, n, m, args->m + first);
    args->v_scale[block] = encode(work->table, args->v_map, n, v, args->v + first);
}

static int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static void update_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const AdamW8Task *work = argument;
    const int64_t blocks = divide_up(work->args->adamw.count, ADAMW8_BLOCK);
    for (int64_t b = task * TASK_BLOCKS; b < blocks && b < (task + 1) * TASK_BLOCKS; b++)
        update_block(work, b);
}

void hone_adamw8(const KernelContext *kc, const AdamW8Args *args) {
    AdamW8Task work = {&kc->table->element, args, hone_adamw_step(&args->adamw)};
    hone_pool_run(kc->pool, divide_up(args->adamw.count, ADAMW8_BLOCK * TASK_BLOCKS), update_task,
                  &work);
}
