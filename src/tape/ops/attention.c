// SPDX-License-Identifier: Apache-2.0
// Attention: s_ij = cap(scale·q_i·k_j) over the keys j that query i sees, cap(t) = c·tanh(t/c) with
// a soft-cap c and t without, p = softmax(s), o_i = Σ_j p_ij·v_j.
//   With D_i = do_i·o_i:  dv_j += Σ_i p_ij·do_i;  ds_ij = p_ij·(do_i·v_j − D_i)·cap'(t_ij);
//                         dq_i += scale·Σ_j ds_ij·k_j;  dk_j += scale·Σ_i ds_ij·q_i
// Kept: q, k, v, o and lse (H,Tq); the kernel makes p again tile by tile.
#include "tape/state.h"

typedef struct AttentionRecord {
    Record base;
    Tensor *q, *k, *v, *lse;
    AttentionArgs args; // without addresses
} AttentionRecord;

static AttentionView heads_of(float *data, int64_t columns, int heads) {
    return (AttentionView){.data = data, .row = columns, .head = columns / heads};
}

static AttentionArgs with_data(Tape *tape, const AttentionArgs *shape, Tensor *q, Tensor *k,
                               Tensor *v, Tensor *o, Tensor *lse) {
    AttentionArgs args = *shape;
    args.q = heads_of(hone_tape_data(tape, q), q->shape[1], args.heads);
    args.k = heads_of(hone_tape_data(tape, k), k->shape[1], args.kv_heads);
    args.v = heads_of(hone_tape_data(tape, v), v->shape[1], args.kv_heads);
    args.o = heads_of(hone_tape_data(tape, o), o->shape[1], args.heads);
    args.lse = hone_tape_data(tape, lse);
    return args;
}

static void backward(Tape *tape, Record *base) {
    const AttentionRecord *record = (const AttentionRecord *)base;
    Tensor *q = record->q, *k = record->k, *v = record->v, *o = base->output;
    AttentionArgs args = with_data(tape, &record->args, q, k, v, o, record->lse);
    HeapBlock *unused[3];
    args.d_o = heads_of(hone_tape_gradient(tape, o), o->shape[1], args.heads);
    Tensor *const inputs[3] = {q, k, v};
    float *gradients[3];
    args.overwrites = hone_tape_gradients_to_write(tape, 3, inputs, gradients, unused);
    args.dq = heads_of(gradients[0], q->shape[1], args.heads);
    args.dk = heads_of(gradients[1], k->shape[1], args.kv_heads);
    args.dv = heads_of(gradients[2], v->shape[1], args.kv_heads);
    const KernelContext *kc = hone_tape_kernels(tape);
    HeapBlock *scratch = hone_tape_take(tape, hone_attention_backward_scratch(kc, &args));
    if (hone_tape_runs(tape)) hone_attention_backward(kc, &args, hone_block_address(scratch));
    hone_tape_give(tape, scratch);
    for (int i = 0; i < 3; i++) hone_tape_give(tape, unused[i]);
}

static bool fits(const Tensor *q, const Tensor *k, const Tensor *v, int heads, int kv_heads,
                 Visibility visible) {
    if (heads < 1 || kv_heads < 1 || heads % kv_heads) return false;
    if (q->shape[1] % heads || k->shape[1] % kv_heads || v->shape[1] % kv_heads) return false;
    return q->shape[1] / heads == k->shape[1] / kv_heads && k->shape[0] == v->shape[0] &&
           q->shape[0] == visible.queries && k->shape[0] == visible.keys;
}

static void forward(Tape *tape, AttentionArgs args) {
    const KernelContext *kc = hone_tape_kernels(tape);
    HeapBlock *shown = NULL;
    if (tape->take_weights)
        shown = hone_tape_take_floats(tape, args.heads * args.queries, args.keys);
    args.weights = hone_block_address(shown);
    HeapBlock *scratch = hone_tape_take(tape, hone_attention_forward_scratch(kc, &args));
    if (hone_tape_runs(tape)) {
        hone_attention_forward(kc, &args, hone_block_address(scratch));
        if (shown)
            tape->take_weights(tape->take_user, args.heads, args.queries, args.keys, args.weights);
    }
    hone_tape_give(tape, scratch);
    hone_tape_give(tape, shown);
}

Tensor *hone_attention(Tape *tape, Tensor *q, Tensor *k, Tensor *v, int heads, int kv_heads,
                       float scale, float softcap, Visibility visible) {
    if (!hone_tape_given(tape, q) || !hone_tape_given(tape, k) || !hone_tape_given(tape, v))
        return NULL;
    char text[3][64];
    if (!fits(q, k, v, heads, kv_heads, visible))
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                                "attention: q %s, k %s, v %s do not fit %d heads, %d key heads, "
                                "%lld queries, %lld keys",
                                hone_shape_text(q, text[0]), hone_shape_text(k, text[1]),
                                hone_shape_text(v, text[2]), heads, kv_heads,
                                (long long)visible.queries, (long long)visible.keys);
    int64_t value_size = v->shape[1] / kv_heads;
    Tensor *o = hone_tape_new_tensor(tape, q->shape[0], value_size * heads);
    Tensor *lse = hone_tape_new_tensor(tape, heads, q->shape[0]);
    if (!o || !lse) return NULL;
    const AttentionArgs shape = {.batch = 1,
                                 .queries = visible.queries,
                                 .keys = visible.keys,
                                 .heads = heads,
                                 .kv_heads = kv_heads,
                                 .head_size = (int)(q->shape[1] / heads),
                                 .value_size = (int)value_size,
                                 .scale = scale,
                                 .softcap = softcap,
                                 .begin = visible.begin,
                                 .end = visible.end,
                                 .window = visible.window,
                                 .query_depth = visible.query_depth,
                                 .key_depth = visible.key_depth};
    forward(tape, with_data(tape, &shape, q, k, v, o, lse));

    o->requires_grad =
        hone_tape_gradients(tape) && (q->requires_grad || k->requires_grad || v->requires_grad);
    if (!o->requires_grad) return o;
    AttentionRecord *record = hone_tape_record(tape, sizeof *record, o, backward);
    if (!record) return NULL;
    record->q = q;
    record->k = k;
    record->v = v;
    record->lse = lse;
    record->args = shape;
    Tensor *needed[] = {q, k, v, o, lse};
    for (int i = 0; i < 5; i++) hone_tape_save(tape, &record->base, needed[i]);
    return o;
}
