// SPDX-License-Identifier: Apache-2.0
// Attention with a bias by relative position (Raffel et al. 2020): s_ij = q_i·k_j + b[n(p_j −
// p_i)], p = softmax(s), o_i = Σ_j p_ij·v_j; n numbers distances, the near ones each, the far ones
// by their logarithm.  dq, dk, dv as of attention.c;  db[n] += Σ over pairs of that number of
// ds_ij. The bias of a pair is written out for one segment at a time: a range of queries that sees
// a range of keys and no other sees, as a packed example is. Kept: q, k, v, o and lse.
#include <math.h>

#include "tape/record.h"

typedef struct Segment {
    int64_t query, queries, key, keys;
} Segment;

typedef struct RelativeRecord {
    Record base;
    Tensor *q, *k, *v, *lse;
    RelativeBias bias;
    int heads, span; // span: the largest distance
    int64_t count;
    const Segment *segments;
    const int32_t *begin, *end; // of the segment's queries; NULL: all see all
    const int32_t *number;      // of the distances −span … span
} RelativeRecord;

// The number of a key at this distance behind the query: of half as many to either side, or of all
// to the keys before.
static int32_t number_of(const RelativeBias *bias, int64_t distance) {
    int64_t numbers = bias->table->shape[0], first = 0;
    if (bias->both_ways) {
        numbers /= 2;
        first = distance > 0 ? numbers : 0;
    } else if (distance > 0) {
        distance = 0;
    }
    if (distance < 0) distance = -distance;
    const int64_t exact = numbers / 2;
    if (distance < exact) return (int32_t)(first + distance);
    const float ratio =
        logf((float)distance / (float)exact) / (float)log((double)bias->farthest / (double)exact);
    const int64_t far = exact + (int64_t)(ratio * (float)(numbers - exact));
    return (int32_t)(first + (far < numbers - 1 ? far : numbers - 1));
}

static bool number_distances(Tape *tape, RelativeRecord *record, Visibility visible) {
    int32_t span = 0;
    for (int64_t i = 0; i < visible.queries; i++)
        if (record->bias.query_position[i] > span) span = record->bias.query_position[i];
    for (int64_t j = 0; j < visible.keys; j++)
        if (record->bias.key_position[j] > span) span = record->bias.key_position[j];
    int32_t *number = hone_tape_host(tape, 2 * (int64_t)span + 1, sizeof *number);
    if (!number) return false;
    for (int32_t d = -span; d <= span; d++) number[d + span] = number_of(&record->bias, d);
    record->span = span;
    record->number = number;
    return true;
}

// Keys in their order, cut where the next one is seen by none of the queries so far. Where a later
// key is seen by an earlier segment's queries all is one.
static bool cut_segments(Tape *tape, RelativeRecord *record, Visibility visible) {
    Segment *segments = hone_tape_host(tape, visible.keys + 1, sizeof *segments);
    int32_t *begin = hone_tape_host(tape, visible.keys, sizeof *begin);
    int32_t *end = hone_tape_host(tape, visible.keys, sizeof *end);
    if (!segments || !begin || !end) return false;
    int64_t count = 0, reach = 0;
    Segment now = {0};
    for (int64_t j = 0; visible.begin && j < visible.keys; j++) {
        const bool seen = visible.begin[j] < visible.end[j];
        if (seen && visible.begin[j] < now.query) { // it belongs to a segment before
            count = 0;
            now = (Segment){0};
            break;
        }
        if (seen && visible.begin[j] >= reach && reach > now.query) {
            now.queries = reach - now.query;
            now.keys = j - now.key;
            segments[count++] = now;
            now = (Segment){.query = reach, .key = j};
        }
        if (visible.end[j] > reach) reach = visible.end[j];
    }
    now.queries = visible.queries - now.query;
    now.keys = visible.keys - now.key;
    segments[count++] = now;
    for (int64_t s = 0; s < count && visible.begin; s++)
        for (int64_t j = segments[s].key; j < segments[s].key + segments[s].keys; j++) {
            begin[j] = visible.begin[j] - (int32_t)segments[s].query;
            end[j] = visible.end[j] - (int32_t)segments[s].query;
        }
    record->segments = segments;
    record->count = count;
    record->begin = visible.begin ? begin : NULL;
    record->end = visible.begin ? end : NULL;
    return true;
}

static AttentionView rows_of(float *data, int64_t first, int64_t columns, int heads) {
    return (AttentionView){data ? data + first * columns : NULL, columns, columns / heads, 0};
}

// A segment's arguments, but for addresses of its own.
static AttentionArgs shape_of(const RelativeRecord *record, const Segment *segment) {
    const int heads = record->heads;
    return (AttentionArgs){
        .batch = 1,
        .queries = segment->queries,
        .keys = segment->keys,
        .heads = heads,
        .kv_heads = heads,
        .head_size = (int)(record->q->shape[1] / heads),
        .value_size = (int)(record->v->shape[1] / heads),
        .scale = 1,
        .begin = record->begin ? record->begin + segment->key : NULL,
        .end = record->begin ? record->end + segment->key : NULL,
        .mask = {.head = segment->queries * segment->keys, .query = segment->keys, .key = 1}};
}

static int64_t pairs_of(const RelativeRecord *record) {
    int64_t most = 0;
    for (int64_t s = 0; s < record->count; s++) {
        const int64_t pairs = record->segments[s].queries * record->segments[s].keys;
        if (pairs > most) most = pairs;
    }
    return most;
}

// The numbers of a query's keys.
static const int32_t *numbers_of(const RelativeRecord *record, const Segment *segment, int64_t i) {
    return record->number + record->span - record->bias.query_position[segment->query + i];
}

static void write_bias(const RelativeRecord *record, const Segment *segment, const float *table,
                       float *bias) {
    const int32_t *position = record->bias.key_position + segment->key;
    for (int h = 0; h < record->heads; h++)
        for (int64_t i = 0; i < segment->queries; i++) {
            const int32_t *number = numbers_of(record, segment, i);
            for (int64_t j = 0; j < segment->keys; j++)
                *bias++ = table[number[position[j]] * record->heads + h];
        }
}

static void add_bias_gradient(const RelativeRecord *record, const Segment *segment,
                              const float *gradient, double *sums) {
    const int32_t *position = record->bias.key_position + segment->key;
    for (int h = 0; h < record->heads; h++)
        for (int64_t i = 0; i < segment->queries; i++) {
            const int32_t *number = numbers_of(record, segment, i);
            for (int64_t j = 0; j < segment->keys; j++)
                sums[number[position[j]] * record->heads + h] += (double)*gradient++;
        }
}

// With addresses; lse lies a segment after the other.
static AttentionArgs with_data(Tape *tape, const RelativeRecord *record, const Segment *segment,
                               Tensor *o, float *bias) {
    AttentionArgs args = shape_of(record, segment);
    const int heads = record->heads;
    float *lse = hone_tape_data(tape, record->lse);
    args.q = rows_of(hone_tape_data(tape, record->q), segment->query, record->q->shape[1], heads);
    args.k = rows_of(hone_tape_data(tape, record->k), segment->key, record->k->shape[1], heads);
    args.v = rows_of(hone_tape_data(tape, record->v), segment->key, record->v->shape[1], heads);
    args.o = rows_of(hone_tape_data(tape, o), segment->query, o->shape[1], heads);
    args.lse = lse ? lse + segment->query * heads : NULL;
    args.mask.data = bias;
    return args;
}

typedef size_t ScratchSize(const KernelContext *kc, const AttentionArgs *args);

// Of the largest segment; a mask is there.
static HeapBlock *take_scratch(Tape *tape, const RelativeRecord *record, bool gradient,
                               ScratchSize *size) {
    size_t most = 0;
    float there = 0;
    for (int64_t s = 0; s < record->count; s++) {
        AttentionArgs args = shape_of(record, &record->segments[s]);
        args.mask.data = &there;
        args.d_mask = gradient ? &there : NULL;
        const size_t bytes = size(hone_tape_kernels(tape), &args);
        if (bytes > most) most = bytes;
    }
    return hone_tape_take(tape, most);
}

static void run_forward(Tape *tape, const RelativeRecord *record, Tensor *o) {
    HeapBlock *bias = hone_tape_take_floats(tape, record->heads, pairs_of(record));
    HeapBlock *scratch = take_scratch(tape, record, false, hone_attention_forward_scratch);
    const float *table = hone_tape_data(tape, record->bias.table);
    for (int64_t s = 0; s < record->count && hone_tape_runs(tape); s++) {
        const Segment *segment = &record->segments[s];
        const AttentionArgs args = with_data(tape, record, segment, o, hone_block_address(bias));
        write_bias(record, segment, table, hone_block_address(bias));
        hone_attention_forward(hone_tape_kernels(tape), &args, hone_block_address(scratch));
    }
    hone_tape_give(tape, scratch);
    hone_tape_give(tape, bias);
}

static void backward(Tape *tape, Record *base) {
    const RelativeRecord *record = (const RelativeRecord *)base;
    const KernelContext *kc = hone_tape_kernels(tape);
    const int heads = record->heads;
    Tensor *o = base->output, *const inputs[3] = {record->q, record->k, record->v};
    float *gradients[3], *d_o = hone_tape_gradient(tape, o);
    HeapBlock *unused[3];
    const bool fresh = hone_tape_gradients_to_write(tape, 3, inputs, gradients, unused);
    for (int i = 0; i < 3 && fresh && hone_tape_runs(tape); i++)
        hone_fill(kc, hone_tensor_count(inputs[i]), 0, gradients[i]);
    const Tensor *table = record->bias.table;
    float *d_table = hone_tape_gradient(tape, record->bias.table);
    const int64_t pairs = pairs_of(record), entries = hone_tensor_count(table);
    HeapBlock *bias = hone_tape_take_floats(tape, heads, pairs);
    HeapBlock *d_bias = hone_tape_take_floats(tape, heads, pairs);
    HeapBlock *sums = hone_tape_take(tape, (size_t)entries * sizeof(double));
    HeapBlock *scratch = take_scratch(tape, record, true, hone_attention_backward_scratch);
    double *sum = hone_block_address(sums);
    for (int64_t e = 0; e < entries && hone_tape_runs(tape); e++) sum[e] = 0;
    for (int64_t s = 0; s < record->count && hone_tape_runs(tape); s++) {
        const Segment *segment = &record->segments[s];
        AttentionArgs args = with_data(tape, record, segment, o, hone_block_address(bias));
        write_bias(record, segment, table->data, hone_block_address(bias));
        args.d_o = rows_of(d_o, segment->query, o->shape[1], heads);
        args.dq = rows_of(gradients[0], segment->query, record->q->shape[1], heads);
        args.dk = rows_of(gradients[1], segment->key, record->k->shape[1], heads);
        args.dv = rows_of(gradients[2], segment->key, record->v->shape[1], heads);
        args.d_mask = d_table ? hone_block_address(d_bias) : NULL;
        if (d_table) hone_fill(kc, heads * segment->queries * segment->keys, 0, args.d_mask);
        hone_attention_backward(kc, &args, hone_block_address(scratch));
        if (d_table) add_bias_gradient(record, segment, args.d_mask, sum);
    }
    for (int64_t e = 0; d_table && e < entries && hone_tape_runs(tape); e++)
        d_table[e] += (float)sum[e];
    hone_tape_give(tape, scratch);
    hone_tape_give(tape, sums);
    hone_tape_give(tape, d_bias);
    hone_tape_give(tape, bias);
    for (int i = 0; i < 3; i++) hone_tape_give(tape, unused[i]);
}

static bool fits(const Tensor *q, const Tensor *k, const Tensor *v, int heads,
                 const RelativeBias *bias, Visibility visible) {
    return heads > 0 && q->shape[1] % heads == 0 && q->shape[1] == k->shape[1] &&
           v->shape[1] % heads == 0 && k->shape[0] == v->shape[0] &&
           q->shape[0] == visible.queries && k->shape[0] == visible.keys &&
           bias->table->shape[1] == heads && bias->table->shape[0] >= 4;
}

Tensor *hone_relative_attention(Tape *tape, Tensor *q, Tensor *k, Tensor *v, int heads,
                                RelativeBias bias, Visibility visible) {
    if (!hone_tape_given(tape, q) || !hone_tape_given(tape, k) || !hone_tape_given(tape, v))
        return NULL;
    char text[4][64];
    if (!fits(q, k, v, heads, &bias, visible))
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                                "attention: q %s, k %s, v %s and a bias %s do not fit %d heads, "
                                "%lld queries, %lld keys",
                                hone_shape_text(q, text[0]), hone_shape_text(k, text[1]),
                                hone_shape_text(v, text[2]), hone_shape_text(bias.table, text[3]),
                                heads, (long long)visible.queries, (long long)visible.keys);
    Tensor *o = hone_tape_new_tensor(tape, q->shape[0], v->shape[1]);
    Tensor *lse = hone_tape_new_tensor(tape, q->shape[0], heads);
    if (!o || !lse) return NULL;
    RelativeRecord made = {.q = q, .k = k, .v = v, .lse = lse, .bias = bias, .heads = heads};
    if (!number_distances(tape, &made, visible) || !cut_segments(tape, &made, visible)) return NULL;
    run_forward(tape, &made, o);
    o->requires_grad = hone_tape_gradients(tape) && (q->requires_grad || k->requires_grad ||
                                                     v->requires_grad || bias.table->requires_grad);
    if (!o->requires_grad) return o;
    RelativeRecord *record = hone_tape_record(tape, sizeof *record, o, backward);
    if (!record) return NULL;
    made.base = record->base;
    *record = made;
    Tensor *needed[] = {q, k, v, o, lse};
    for (int i = 0; i < 5; i++) hone_tape_save(tape, &record->base, needed[i]);
    return o;
}
