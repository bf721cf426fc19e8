// SPDX-License-Identifier: Apache-2.0
// The tape: calling an operator computes at once and appends a record; backward walks the records
// in reverse. There is no graph, no sort and no reference count.
//
// Memory. Activations live in a heap whose pages stay for the next step. A *scope* (one per decoder
// block) says when they may go: when it is left, what no backward needs is given back at once, what
// a cheap operator can make again (norm, SwiGLU) is given back and rebuilt in backward when first
// asked for, and the rest stays until its record has been walked. Gradients of activations are
// taken when first written, zeroed, always added to, and given back with the record that made the
// activation.
//
// Errors are sticky: the tape keeps the first, operators given NULL return NULL, the caller checks
// hone_tape_status once. A *dry* tape runs the same calls without touching any data, to learn the
// peak of memory beforehand (hone_tape_peak).
#ifndef HONE_TAPE_TAPE_H
#define HONE_TAPE_TAPE_H

#include "base/file.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

typedef struct Tape Tape;

typedef struct TapeOptions {
    bool gradients; // false: nothing is recorded, scopes free everything but their result
    bool dry;       // count memory only: no kernel runs, no data is touched
    bool keep;      // for tests: scopes give nothing back, so nothing is made again in backward
    const FileMap *release; // the pages of weights in it are given back once read; NULL: they stay
} TapeOptions;

// kc is copied; its table and pool are borrowed. NULL: out of memory.
Tape *hone_tape_create(const KernelContext *kc, TapeOptions options);
void hone_tape_free(Tape *tape);
// Before its first use: room for `bytes` in one piece, so that the blocks lie closer. No more than
// advice: where there is no such room memory is taken in smaller pieces.
void hone_tape_reserve(Tape *tape, size_t bytes);
// Forget all records, activations and the error, keep the pages. `gradients` may change between
// runs.
void hone_tape_reset(Tape *tape, bool gradients);

hone_status hone_tape_status(const Tape *tape, HoneError *err); // copies the first error into err
hone_status hone_tape_backward(Tape *tape);                     // from the loss operators recorded
size_t hone_tape_peak(const Tape *tape); // bytes, activations + scratch, at most so far
size_t hone_tape_used(const Tape *tape); // bytes held now

// Scopes nest. `leave` returns result, which outlives the scope. `renew` leaves and enters again
// with result inside the new scope: what a loop over layers calls, so that a layer's input goes
// with it.
void hone_tape_enter(Tape *tape);
Tensor *hone_tape_leave(Tape *tape, Tensor *result);
Tensor *hone_tape_renew(Tape *tape, Tensor *result);

// ---- operators (one file each in tape/ops/) ----------------------------------------------------

// Inputs of a batch (borrowed until the next reset). A key j is seen by queries begin[j] ≤ i <
// end[j].
typedef struct Visibility {
    int64_t queries, keys;
    const int32_t *begin, *end; // NULL: all see all
    // Sliding windows: a query sees only keys less than `window` below it, 0: no window. Depths in
    // the sequence of the queries and keys, where the intervals alone cannot say it; else NULL.
    int32_t window;
    const int32_t *query_depth, *key_depth;
} Visibility;

Tensor *hone_embedding(Tape *tape, Weight *table, const int32_t *tokens, int64_t count); // → (T,C)
// (T,in) → (T,out). path (T), borrowed until backward, or NULL: the hash of each row's token and
// those before it, from which adapters with dropout draw while gradients are recorded; so a row
// keeps the same channels wherever, and with however many others, it is computed.
Tensor *hone_linear(Tape *tape, Weight *weight, Tensor *x, const uint64_t *path);
// Of each row, or of each of its heads where gain (D) is shorter: x (T,H·D). Recomputable
Tensor *hone_rms_norm(Tape *tape, Tensor *gain, float eps, Tensor *x);
// y = (x − mean)/√(variance + eps) ⊙ gain + bias; recomputable
Tensor *hone_layer_norm(Tape *tape, Tensor *gain, Tensor *bias, float eps, Tensor *x);
// How elements 0 … rotary-1 of each head turn: RopeArgs in kernels.h.
typedef struct Rotation {
    int rotary;
    bool interleaved;
    const float *frequency; // (rotary/2)
    float magnitude;        // of what is turned; 0: 1
} Rotation;
Tensor *hone_rotary(Tape *tape, Tensor *x, int heads, Rotation rotation,
                    const int32_t *position); // (T,H·D) → (T,H·D)
// q (Tq,H·D), k (Tk,K·D), v (Tk,K·D) → (Tq,H·D). softcap: kernels.h; 0: none
Tensor *hone_attention(Tape *tape, Tensor *q, Tensor *k, Tensor *v, int heads, int kv_heads,
                       float scale, float softcap, Visibility visible);
// A bias of the scores by how far a key stands behind its query (Raffel et al. 2020): row n of the
// table (numbers,H) is that of a distance: near ones each have a number, far ones share theirs by
// logarithms, those from `farthest` on have the last. both_ways: half of the numbers for keys
// behind the query, half for those before; else keys behind it are taken as at its place.
typedef struct RelativeBias {
    Tensor *table; // trained like any
    int farthest;  // above numbers / 2
    bool both_ways;
    const int32_t *query_position, *key_position; // borrowed until backward
} RelativeBias;
// q, k (T,H·D), v → (Tq,H·D): hone_attention of as many key heads, scale 1, with the bias. Memory
// for the bias is H times the queries times the keys of one example, not of the batch.
Tensor *hone_relative_attention(Tape *tape, Tensor *q, Tensor *k, Tensor *v, int heads,
                                RelativeBias bias, Visibility visible);
Tensor *hone_scale(Tape *tape, float factor, Tensor *x); // factor·x; x itself where that is 1
Tensor *hone_softcap(Tape *tape, float cap, Tensor *x); // cap·tanh(x/cap); x itself where cap is 0
Tensor *hone_swiglu(Tape *tape, Tensor *gate, Tensor *up); // recomputable
Tensor *hone_geglu(Tape *tape, Tensor *gate, Tensor *up);  // recomputable
Tensor *hone_gelu(Tape *tape, Tensor *x);                  // recomputable
Tensor *hone_relu(Tape *tape, Tensor *x);                  // recomputable
// What a model drops of its activations, while gradients are recorded.
typedef struct Dropout {
    float rate;   // [0, 1), in steps of 1/256; 0: nothing
    uint64_t key; // another one for every step
} Dropout;
// keep ⊙ x / (1 − rate), keep from the key, `place` in the model, path[t] and the channel alone
// (hone_linear's path; NULL: nothing is dropped). x itself where nothing is. Recomputable
Tensor *hone_dropout(Tape *tape, Dropout dropout, uint32_t place, const uint64_t *path, Tensor *x);
Tensor *hone_gelu_erf(Tape *tape, Tensor *x); // with the normal distribution itself; recomputable
// Sequence s is rows first[s] … first[s+1]-1 of x, at least one: their mean, or the largest of
// each column: (T,C) → (count,C). first (count+1) is borrowed.
Tensor *hone_pool_rows(Tape *tape, bool largest, Tensor *x, const int32_t *first, int64_t count);
Tensor *hone_add(Tape *tape, Tensor *a, Tensor *b);
// Rows of x in the given order: (T,C) → (count,C). rows is borrowed.
Tensor *hone_select_rows(Tape *tape, Tensor *x, const int32_t *rows, int64_t count);
// Columns first … first+count-1 of x: (T,C) → (T,count).
Tensor *hone_select_columns(Tape *tape, Tensor *x, int64_t first, int64_t count);

// A mixture of experts: each row goes to a few of them. hone_route says which; then rows for
// experts lie one expert after the other, within one in the order of the tokens: none is dropped.
// No data is known on a dry tape; the first experts get all rows there, which needs the most
// memory.
typedef struct Routing {
    int experts;
    int64_t tokens, rows; // rows = tokens · used
    int64_t *begin;       // (experts+1): the rows of expert e are begin[e] … begin[e+1]-1
    int32_t *token;       // (rows): whose row it is
    const uint64_t *path; // (rows): of that token, or NULL
    Tensor *weight;       // (rows,1): what its result counts
} Routing;
// How evenly experts are used, for a loss that keeps them so (Fedus et al. 2021, as transformers
// has it): coefficient · experts · Σ_e F_e·P_e, F_e = how often e was chosen and P_e = its mean
// probability, over the rows of all layers. The caller's; a layer writes its own part, the same
// when it runs again.
typedef struct RouterBalance {
    float coefficient;
    int layers, experts;
    int64_t *rows;       // (layers)
    int64_t *chosen;     // (layers, experts)
    double *probability; // (layers, experts): sums
} RouterBalance;
double hone_router_loss(const RouterBalance *balance); // after the layers; 0 for NULL
typedef struct RouterArgs {
    int used;               // experts a row goes to
    bool normalised;        // their weights add up to 1
    const uint64_t *path;   // of the rows, or NULL
    RouterBalance *balance; // NULL: no such loss. Its gradient is added in backward.
    int layer;              // its number there
} RouterArgs;
// logits (T,experts). Lists live on the tape. NULL after an error.
const Routing *hone_route(Tape *tape, Tensor *logits, RouterArgs args);
// Each expert's rows by its own weight, with adapters as of hone_linear: (rows,in) → (rows,out).
// weights (experts), all of one shape.
Tensor *hone_experts_linear(Tape *tape, Weight *weights, const Routing *routing, Tensor *x);
Tensor *hone_weigh(Tape *tape, Tensor *x, Tensor *weight); // weight_r · x_r; recomputable
Tensor *hone_collect(Tape *tape, const Routing *routing, Tensor *x); // Σ of each token's rows

// A segment of a model as one operator: its activations are given back once y = run(tape,
// arguments, x) is there, and made again when backward comes to it, the same bits. Any tensor made
// before may be read inside and gets its gradient. `run` is called twice with the same arguments
// (`bytes` of them, copied; what they point to must stay until the next reset), records operators
// and does nothing else; no loss may be inside. What hone_tape_host gives inside lives as long as
// the call.
typedef Tensor *TapeSegment(Tape *tape, const void *arguments, Tensor *x);
Tensor *hone_checkpoint(Tape *tape, TapeSegment *run, const void *arguments, size_t bytes,
                        Tensor *x);

// For generation, without gradients: write x (T,C) into rows at … at+T-1 of store (capacity,C),
// which the caller owns → the rows 0 … at+T-1 of store, not copied.
Tensor *hone_append_rows(Tape *tape, Tensor *store, int64_t at, Tensor *x);

// Head and cross-entropy in one operator, over chunks of rows: the logits, soft-capped where the
// head says so, never exist whole.
// Entry e: row row[e] of x (T,C) predicts target[e] with weight[e];
//   *loss = Σ_e weight[e]·(−log softmax(x_row·Wᵀ)[target]) (added up in double, in order).
// With gradients, dX of the chunk is made while its logits exist and scaled by `upstream` = 1.
// logprob (entries), natural log, may be NULL. row must not decrease. A row that several entries
// name has its logits computed once.
//
// With a teacher, whose last hidden states of the same rows are x (T,C'), that loss counts 1 −
// share, and share the divergence from the teacher's distribution: for each row Σ weight of its
// entries times hone_distill's (kernels.h).
typedef struct HeadTeacher {
    Weight *head; // (V,C')
    Tensor *x;
    float temperature, share;
} HeadTeacher;
typedef struct HeadLoss {
    int64_t entries;
    const int32_t *row, *target;
    const float *weight;
    const uint64_t *path; // of x's rows, as of hone_linear; or NULL
    float *logprob;
    float smoothing; // ε of labels, each 1 − ε at its target and ε/V at all (kernels.h); 0: none
    float z_loss;    // beside each entry's loss, weight[e]·z_loss·(log Σ exp of the row)²
    const HeadTeacher *teacher; // NULL: none
    bool measures;              // no gradient, whatever the tape is: logprob and correct are wanted
    uint8_t *correct;           // (entries): 1 where the target has the largest logit; may be NULL
    double loss;                // out
    double seconds;             // out: what the operator took
} HeadLoss;
void hone_head_cross_entropy(Tape *tape, Weight *head, Tensor *x, HeadLoss *io);

// A loss whose derivative by x (T,C) is dx, which the caller has computed: added to x's gradient.
void hone_seed_gradient(Tape *tape, Tensor *x, const float *dx);

// To find where numbers stop being finite: while a tape is watched, hone_tape_look notes `number`
// the first time that a tensor it is given holds NaN or infinity. -1: none did.
void hone_tape_watch(Tape *tape, bool on); // forgets what was noted
void hone_tape_look(Tape *tape, int64_t number, Tensor *tensor);
int64_t hone_tape_not_finite(const Tape *tape);

// Attention's weights on request: every hone_attention that runs from now on also makes p (heads,
// queries, keys), 0 where a query does not see a key, and shows it to `take` before it returns; the
// array is the tape's and gone then. take NULL: no longer. Memory for one call's is heads · queries
// · keys floats.
typedef void TapeWeights(void *user, int heads, int64_t queries, int64_t keys, const float *p);
void hone_tape_take_weights(Tape *tape, TapeWeights *take, void *user);

// For operators and for reading results ----------------------------------------------------------
const KernelContext *hone_tape_kernels(const Tape *tape);
bool hone_tape_gradients(const Tape *tape);
bool hone_tape_dry(const Tape *tape);
// Copy a tensor's values out: the one way by which they leave the tape. Nothing in a dry tape.
void hone_tape_read(Tape *tape, Tensor *tensor, float *values);
// Host memory for index lists, zeroed; lives until the next reset. NULL after an error.
void *hone_tape_host(Tape *tape, int64_t count, size_t size);
// Record the first error; returns NULL, so that `return hone_tape_refuse(…)` is an operator's way
// out.
Tensor *hone_tape_refuse(Tape *tape, hone_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
