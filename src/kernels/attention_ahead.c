// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_ahead.h"

enum { LINE = 16 }; // floats

void hone_attention_ahead(Ahead *ahead, AheadRows rows) {
    const AttentionShape *shape = ahead->shape;
    int64_t all = rows.queries ? shape->rows : shape->args->keys;
    if (rows.end > all) rows.end = all;
    if (rows.view.data && rows.stack < shape->stacks && rows.row < rows.end)
        ahead->rows[ahead->count++] = rows;
}

void hone_attention_ahead_in(Ahead *ahead, int64_t times) {
    int64_t rows = 0;
    for (int i = 0; i < ahead->count; i++) rows += ahead->rows[i].end - ahead->rows[i].row;
    ahead->at_once = attention_ceiling(rows, times > 0 ? times : 1);
}

static const float *row_at(const AttentionShape *shape, const AheadRows *rows) {
    int64_t group = rows->queries ? shape->group : 1;
    int64_t heads = shape->args->kv_heads;
    return (const float *)rows->view.data + rows->stack / heads * rows->view.batch +
           (rows->stack % heads * group + rows->row % group) * rows->view.head +
           rows->row / group * rows->view.row;
}

void hone_attention_fetch(Ahead *ahead) {
    for (int64_t left = ahead->at_once; left > 0 && ahead->next < ahead->count; left--) {
        AheadRows *rows = &ahead->rows[ahead->next];
        const float *row = row_at(ahead->shape, rows);
        for (int c = 0; c < rows->size; c += LINE)
            if (rows->written)
                __builtin_prefetch(row + c, 1);
            else
                __builtin_prefetch(row + c, 0);
        if (++rows->row == rows->end) ahead->next++;
    }
}
