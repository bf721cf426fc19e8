// SPDX-License-Identifier: Apache-2.0
// Dropout of rows, by the same draws as attention's (attention_table.h): a channel stands where a
// query does there, sixteen to a draw.
#include <string.h>

#include "base/random.h"
#include "kernels/attention_modify.h"
#include "kernels/kernels.h"
#include "kernels/table.h"

enum { TASK_FLOATS = 16384, PIECE = 2048, DRAWS = PIECE / HONE_PANEL };

typedef struct DropoutTask {
    const AttentionTable *table;
    const DropoutRows *rows;
    int64_t rows_a_task;
    const float *x;
    float *y;
    bool add;
    float factor;
} DropoutTask;

// Channels first … first+count-1 of row t; first is a multiple of HONE_PANEL.
static void drop_piece(const DropoutTask *work, int64_t t, int64_t first, int64_t count) {
    const DropoutRows *rows = work->rows;
    const float *x = work->x + t * rows->C + first;
    float *y = work->y + t * rows->C + first, kept[PIECE];
    uint16_t bits[DRAWS];
    const int64_t draws = (count + HONE_PANEL - 1) / HONE_PANEL;
    const DropoutCounter counter = {.key = rows->key,
                                    .head = rows->path[t],
                                    .block = rows->place,
                                    .threshold = hone_dropout_threshold(rows->rate)};
    memcpy(kept, x, (size_t)count * sizeof *kept);
    memset(kept + count, 0, (size_t)(draws * HONE_PANEL - count) * sizeof *kept);
    work->table->keep(&counter, first / HONE_PANEL, draws, bits);
    work->table->select(draws, kept, HONE_PANEL, bits, work->factor);
    for (int64_t c = 0; c < count; c++) y[c] = work->add ? y[c] + kept[c] : kept[c];
}

static void run_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const DropoutTask *work = argument;
    const DropoutRows *rows = work->rows;
    int64_t end = (task + 1) * work->rows_a_task;
    if (end > rows->T) end = rows->T;
    for (int64_t t = task * work->rows_a_task; t < end; t++)
        for (int64_t c = 0; c < rows->C; c += PIECE)
            drop_piece(work, t, c, rows->C - c < PIECE ? rows->C - c : PIECE);
}

void hone_dropout_rows(const KernelContext *kc, const DropoutRows *rows, const float *x, float *y,
                       bool accumulate) {
    DropoutTask work = {.table = &kc->table->attention,
                        .rows = rows,
                        .rows_a_task = TASK_FLOATS / (rows->C + 1) + 1,
                        .x = x,
                        .y = y,
                        .add = accumulate,
                        .factor = hone_dropout_factor(rows->rate)};
    hone_pool_run(kc->pool, (rows->T + work.rows_a_task - 1) / work.rows_a_task, run_task, &work);
}
