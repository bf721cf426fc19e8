// SPDX-License-Identifier: Apache-2.0
// Rows that a task is going to read or write, fetched into the cache while it multiplies: a
// head's rows lie far apart, which no processor foresees, and loads that wait for them would stop
// all else. Results do not depend on it.
#ifndef HONE_KERNELS_ATTENTION_AHEAD_H
#define HONE_KERNELS_ATTENTION_AHEAD_H

#include "kernels/attention_parts.h"

enum { MOST_AHEAD = 8 };

// Rows [row, end) of a stack: of queries, i·group + h, or of keys.
typedef struct AheadRows {
    AttentionView view;
    int64_t stack, row, end;
    int size; // floats of a row
    bool queries, written;
} AheadRows;

typedef struct Ahead {
    const AttentionShape *shape;
    AheadRows rows[MOST_AHEAD]; // in the order in which they are needed
    int count, next;
    int64_t at_once; // rows
} Ahead;

// Rows to be fetched after all others; those that do not exist are left out.
void hone_attention_ahead(Ahead *ahead, AheadRows rows);
// They are to be fetched in about `times` parts.
void hone_attention_ahead_in(Ahead *ahead, int64_t times);
// Begins to fetch the next part.
void hone_attention_fetch(Ahead *ahead);

#endif
