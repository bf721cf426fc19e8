// SPDX-License-Identifier: Apache-2.0
// The kernel contract: pure functions on pointers and sizes. Kernels never allocate and keep no
// state; whoever calls them brings scratch of the size that the _scratch companion names. Work is
// cut from the shape alone and reductions run in a fixed order: the same bits on any number of
// threads.
//
// Shape alphabet: T tokens (rows), C channels, H query heads, K key/value heads, D head size,
// F feed-forward size, V vocabulary, M/N/K the usual letters of a matrix product. All matrices are
// row-major. Every activation and gradient is f32; only weights, and attention's inputs and
// outputs, have other types.
#ifndef HONE_KERNELS_KERNELS_H
#define HONE_KERNELS_KERNELS_H

#include "base/dtype.h"
#include "base/error.h"
#include "base/pool.h"

typedef struct KernelTable KernelTable; // one ISA level's micro-kernels (kernels/table.h)

// What every kernel takes first. Borrowed by the kernel.
typedef struct KernelContext {
    const KernelTable *table;
    ThreadPool *pool; // NULL: one thread
    bool bf16;        // matrix products of more than a few rows round their operands to bf16
} KernelContext;

// The table named "generic", "avx2", "avx512", "avx512bf16" (NULL: $HONE_ISA, else the best that
// this processor has). HONE_ERROR_ARGUMENT with the levels that would do, when the name is unknown
// or the level is lacking.
hone_status hone_kernel_table(const char *name, const KernelTable **table, HoneError *err);
const char *hone_kernel_table_name(const KernelTable *table);
// Has the level bf16 arithmetic for matrix products? Where it has not, KernelContext.bf16 changes
// nothing. (The generic level computes it in f32, for tests.)
bool hone_kernel_has_bf16(const KernelTable *table);
// Names of the levels this processor has, worst first; returns how many (at most 8).
int hone_kernel_levels(const char *names[8]);
int hone_kernel_levels_built(const char *names[8]); // the same of all levels of this build

// Floating-point operations a second that all of the pool's threads reach together on registers
// alone, measured over about a millisecond; the best of `runs`. bf16: on operands of that type
// where the level has the instructions.
double hone_kernel_peak(const KernelContext *kc, bool bf16, int runs);

// ---- types -------------------------------------------------------------------------------------

// x (count) = the stored elements as f32. count is a multiple of the type's block. Any weight type.
void hone_dequantise(int dtype, const void *stored, float *x, int64_t count);
// stored = x rounded to F32, F16 or BF16 (nearest even), or to blocks of Q4_0, Q4_1, Q5_0, Q5_1,
// Q8_0 (the bits of ggml's reference), Q4_K, Q5_K or Q6_K (a search for the least squared error),
// of which count is a multiple then; values finite, none beyond what f16 holds. Other types:
// HONE_ERROR_UNSUPPORTED.
hone_status hone_quantise(int dtype, const float *x, void *stored, int64_t count, HoneError *err);
bool hone_can_quantise(int dtype);

// ---- matrix product ----------------------------------------------------------------------------

enum { MATMUL_BF16_ROWS = 48, MATMUL_BF16_COLUMNS = 96 };

// C (M,N) = [C +] alpha · (op(A) (M,K) · op(B) (K,N) + alpha2 · A2 (M,K2) · op(B2) (K2,N))
//   op(A): A as it lies (M,K), leading dimension lda; a_transposed: stored (K,M), lda ≥ M.
//   op(B): stored (K,N), ldb elements a stored row; b_transposed: stored (N,K) as Linear weights
//   are. B has any weight type; blocks run along its stored rows, so ldb is a multiple of the
//   block.
//   op(B2): f32, stored as B is. The second product costs its own multiply-adds and no pass over C:
//   it is how an adapter is added to its weight. K2 = 0: there is none.
// Products y = x·Wᵀ are b_transposed with W (N,K); dX = dY·W is plain with W (K = out, N = in);
// dW = dYᵀ·X is a_transposed. M, N or K may be 0. Sums in f32. With KernelContext.bf16 the elements
// of A, B, alpha2·A2 and B2 are rounded to bf16 first where C has at least MATMUL_BF16_ROWS rows
// and MATMUL_BF16_COLUMNS columns: narrower products, an adapter's own, cost less as they are.
typedef struct MatmulArgs {
    int64_t M, N, K;
    const float *A;
    int64_t lda;
    bool a_transposed;
    const void *B;
    int b_type; // HoneDtype
    int64_t ldb;
    bool b_transposed;
    float *C;
    int64_t ldc;
    float alpha;
    bool accumulate; // false: C is overwritten
    int64_t K2;
    const float *A2, *B2;
    int64_t lda2, ldb2;
    float alpha2;
} MatmulArgs;

size_t hone_matmul_scratch(const KernelContext *kc, const MatmulArgs *args); // bytes
void hone_matmul(const KernelContext *kc, const MatmulArgs *args, void *scratch);

// ---- attention ---------------------------------------------------------------------------------

// For each element of the batch, query i and head h, with g(h) = h / (heads / kv_heads) the
// key/value head it shares:
//     t_ij = scale · q_ih · k_jg, or softcap · tanh(t_ij / softcap) where softcap > 0
//     s_ij = t_ij − slopes_h · |i + offset − j| + mask_ij
//     p_ij = e^s_ij / (Σ_j e^s_ij + e^sinks_h) over the visible keys j
//     o_ih = Σ_j drop_ij · p_ij · v_jg, drop_ij = 0 with probability `dropout`, else 1/(1−dropout)
// Key j is seen by the queries i with begin[j] ≤ i < end[j] (begin and end NULL: by all) unless the
// mask hides it: 0 in a boolean mask, -infinity in another. A pair that does not see each other is
// as if it were not there, whatever NaN stands at it. With depths also what lies `window` or more
// below a query is hidden from it: pairs with query_depth[i] − key_depth[j] < window stay. A query
// that sees no key gives o = 0 and gradient 0. Element (batch b, row t, head h, c) of a tensor lies
// at base[b · batch + t · row + h · head + c] (strides in elements). lse (batch, heads, queries),
// natural log of Σ_j e^s_ij + e^sinks_h; -infinity for a query that sees no key and has no sink.
// Tiled so that memory is linear in length both ways; whole tiles that no query sees are skipped.
typedef struct AttentionView {
    void *data;
    int64_t row, head, batch;
} AttentionView;

// Strides in elements; 0 where the mask is the same along that axis.
typedef struct AttentionMask {
    const void *data; // float, or uint8_t where `boolean`; NULL: no mask
    bool boolean;
    int64_t batch, head, query, key;
} AttentionMask;

typedef struct AttentionArgs {
    int64_t batch, queries, keys;
    int heads, kv_heads;
    int head_size;  // D of q and k, 1…256
    int value_size; // D of v and o, 1…256
    int dtype;      // of q, k, v, o and d_o: HONE_F32 or HONE_BF16
    float scale;
    const int32_t *begin, *end; // (keys) each, in numbers of queries; the same for all the batch
    AttentionMask mask;
    // Sliding windows where a key's queries do not lie in one piece, as in a trie of branches.
    // window above 0 without depths only makes room for them: scratch depends on it, not on these.
    int32_t window;
    const int32_t *query_depth, *key_depth; // (queries), (keys); both or neither
    const float *slopes;                    // (heads) or NULL: ALiBi (Press et al. 2021)
    int64_t offset;     // the key that stands where query 0 stands; for ALiBi only
    float softcap;      // 0: none (Gemma 2, 2024)
    const float *sinks; // (heads) or NULL: a logit that takes weight and gives none
    float dropout;      // [0, 1), in steps of 1/256
    uint64_t seed;      // of the dropout: drop depends on it, batch, head, query and key alone
    AttentionView q, k, v, o;
    float *lse;
    float *weights; // NULL, or (batch, heads, queries, keys) contiguous: p
    // Backward only: gradients, all f32, are added to what these hold; overwrites: dq, dk and dv
    // are written, whatever they hold.
    AttentionView d_o, dq, dk, dv;
    bool overwrites;
    float
        *d_mask; // NULL, or with the strides of a mask of floats: summed along its axes of stride 0
    float *d_sinks; // NULL or (heads)
} AttentionArgs;

size_t hone_attention_forward_scratch(const KernelContext *kc, const AttentionArgs *args);
void hone_attention_forward(const KernelContext *kc, const AttentionArgs *args, void *scratch);
// What forward does with the keys: copies them into the order that its products read, or reads them
// where they lie; multiplies bf16 as it is, backward too; and cuts the keys into parts, a task
// each, where few queries meet many.
typedef struct AttentionKeys {
    bool packed, bf16;
    int64_t parts; // 1: not cut
} AttentionKeys;
AttentionKeys hone_attention_forward_keys(const KernelContext *kc, const AttentionArgs *args);
size_t hone_attention_backward_scratch(const KernelContext *kc, const AttentionArgs *args);
// Reads q, k, v, o, lse, d_o.
void hone_attention_backward(const KernelContext *kc, const AttentionArgs *args, void *scratch);

// ---- additive attention -------------------------------------------------------------------------

// Attention by a small network in place of the product (Bahdanau, Cho, Bengio 2015):
//     s_ij = Σ_u scale_u · tanh(q_iu + k_ju) + mask_ij; p = softmax over the visible keys j;
//     o_i = Σ_j drop_ij · p_ij · v_j
// q (batch, queries, units), k (batch, keys, units), v (batch, keys, value_size), o (batch,
// queries, value_size), all contiguous. begin, end, mask (its head stride unused), queries that see
// nothing, drop, lse (batch, queries) and weights (batch, queries, keys) as for attention above, of
// one head. No block
// (queries, keys, units) is ever held: memory is linear in queries and in keys.
typedef struct AdditiveArgs {
    int64_t batch, queries, keys, units, value_size;
    const float *q, *k, *v;
    const float *scale; // (units)
    const int32_t *begin, *end;
    AttentionMask mask;
    float dropout; // as of attention
    uint64_t seed;
    float *o, *lse;
    float *weights; // NULL: not wanted
    // Backward only: gradients are added to what these hold.
    const float *d_o;
    float *dq, *dk, *dv;
    float *d_scale; // (units)
} AdditiveArgs;

size_t hone_additive_forward_scratch(const KernelContext *kc, const AdditiveArgs *args);
void hone_additive_forward(const KernelContext *kc, const AdditiveArgs *args, void *scratch);
size_t hone_additive_backward_scratch(const KernelContext *kc, const AdditiveArgs *args);
// Reads q, k, v, scale, o, lse, d_o.
void hone_additive_backward(const KernelContext *kc, const AdditiveArgs *args, void *scratch);

// ---- rows and elements -------------------------------------------------------------------------

// y = x · r ⊙ w, r = 1/√(mean(x²) + eps) (Zhang, Sennrich 2019). x, y (T,C), w (C), r (T) written.
void hone_rms_norm_forward(const KernelContext *kc, int64_t T, int64_t C, const float *x,
                           const float *w, float eps, float *y, float *r);
// dx += r·(dy⊙w − x·r²·mean(dy⊙w⊙x)); dw += Σ_t dy⊙x·r. dx or dw may be NULL.
// scratch: hone_rms_norm_backward_scratch bytes (used for dw's fixed-order partial sums).
size_t hone_rms_norm_backward_scratch(const KernelContext *kc, int64_t T, int64_t C);
void hone_rms_norm_backward(const KernelContext *kc, int64_t T, int64_t C, const float *x,
                            const float *w, const float *r, const float *dy, float *dx, float *dw,
                            void *scratch);

// Layer norm (Ba et al. 2016): y = n ⊙ w + b, n = (x − mean)·r, r = 1/√(mean((x − mean)²) + eps).
// statistics (T,2): mean and r, written. dx += r·(g − mean(g) − n·mean(g⊙n)), g = dy⊙w;
// dw += Σ_t dy⊙n; db += Σ_t dy. dx may be NULL, and dw and db together; scratch as many bytes.
void hone_layer_norm_forward(const KernelContext *kc, int64_t T, int64_t C, const float *x,
                             const float *w, const float *b, float eps, float *y,
                             float *statistics);
size_t hone_layer_norm_backward_scratch(int64_t T, int64_t C);
void hone_layer_norm_backward(const KernelContext *kc, int64_t T, int64_t C, const float *x,
                              const float *w, const float *statistics, const float *dy, float *dx,
                              float *dw, float *db, void *scratch);

// Rotary embedding (Su et al. 2021) of x (T, heads·D) into y (may be x):
//   pair (a,b) → (a·cos − b·sin, a·sin + b·cos), angle = position[t] · frequency[pair],
//   rounded to float; both times `magnitude`, where that is not 0 (scaled positions).
//   interleaved: pairs are (2j, 2j+1), as in GGUF's Llama; else (j, j + rotary/2).
//   frequency (rotary/2). Elements rotary…D of each head are copied. inverse: angle negated, and
//   the result is added to y (the gradient).
typedef struct RopeArgs {
    int64_t T;
    int heads, head_size, rotary;
    bool interleaved, inverse;
    const int32_t *position;
    const float *frequency;
    float magnitude;
    const float *x;
    float *y;
} RopeArgs;
void hone_rope(const KernelContext *kc, const RopeArgs *args);

// y = silu(gate) ⊙ up, silu(g) = g/(1 + e^−g) (Shazeer 2020). count elements.
void hone_swiglu_forward(const KernelContext *kc, int64_t count, const float *gate, const float *up,
                         float *y);
// dgate = [dgate +] dy⊙up⊙silu'(gate); dup = [dup +] dy⊙silu(gate).
void hone_swiglu_backward(const KernelContext *kc, int64_t count, const float *gate,
                          const float *up, const float *dy, bool accumulate, float *dgate,
                          float *dup);

// y = gelu(x) = ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) (Hendrycks, Gimpel 2016); count elements.
// −∞ gives NaN, as the formula does.
void hone_gelu_forward(const KernelContext *kc, int64_t count, const float *x, float *y);
// dx = [dx +] dy⊙gelu'(x)
void hone_gelu_backward(const KernelContext *kc, int64_t count, const float *x, const float *dy,
                        bool accumulate, float *dx);

// y = max(x, 0); NaN stays. dx = [dx +] dy where x > 0. count elements.
void hone_relu_forward(const KernelContext *kc, int64_t count, const float *x, float *y);
void hone_relu_backward(const KernelContext *kc, int64_t count, const float *x, const float *dy,
                        bool accumulate, float *dx);
// GELU with the normal distribution itself: y = x·Φ(x) = ½·x·(1 + erf(x/√2)), and its gradient.
void hone_gelu_erf_forward(const KernelContext *kc, int64_t count, const float *x, float *y);
void hone_gelu_erf_backward(const KernelContext *kc, int64_t count, const float *x, const float *dy,
                            bool accumulate, float *dx);

// y = [y +] factor·x. y may be x.
void hone_scaled(const KernelContext *kc, int64_t count, float factor, const float *x,
                 bool accumulate, float *y);
// y = [y +] a ⊙ b. y may be a or b.
void hone_multiply(const KernelContext *kc, int64_t count, const float *a, const float *b,
                   bool accumulate, float *y);
// y = cap·tanh(x / cap) (Gemma 2, 2024), cap > 0; y may be x.
void hone_softcap_forward(const KernelContext *kc, int64_t count, float cap, const float *x,
                          float *y);
// dx = [dx +] dy ⊙ (1 − (y / cap)²); dx may be dy.
void hone_softcap_backward(const KernelContext *kc, int64_t count, float cap, const float *y,
                           const float *dy, bool accumulate, float *dx);
void hone_add_forward(const KernelContext *kc, int64_t count, const float *a, const float *b,
                      float *y);                                                        // y = a + b
void hone_accumulate(const KernelContext *kc, int64_t count, const float *x, float *y); // y += x
void hone_fill(const KernelContext *kc, int64_t count, float value, float *y);

// Dropout (Srivastava et al. 2014) of x (T,C): y = [y +] keep ⊙ x / (1 − rate), keep_tc 0 with
// probability `rate`, in steps of 1/256, else 1. It depends on key, place, path[t] and c alone: not
// on where the row stands, on T, or on threads.
typedef struct DropoutRows {
    int64_t T, C;
    float rate;           // [0, 1)
    uint64_t key;         // of Philox
    uint32_t place;       // in the model
    const uint64_t *path; // (T)
} DropoutRows;
void hone_dropout_rows(const KernelContext *kc, const DropoutRows *rows, const float *x, float *y,
                       bool accumulate);

// y (T,C) = x, and y += x; rows ldx and ldy floats apart.
void hone_copy_columns(const KernelContext *kc, int64_t T, int64_t C, const float *x, int64_t ldx,
                       float *y, int64_t ldy);
void hone_accumulate_columns(const KernelContext *kc, int64_t T, int64_t C, const float *x,
                             int64_t ldx, float *y, int64_t ldy);

// y (T,C) = b (C) in every row.
void hone_repeat_row(const KernelContext *kc, int64_t T, int64_t C, const float *b, float *y);
// b (C) += Σ_t x (T,C), each sum in the order of t.
void hone_sum_rows(const KernelContext *kc, int64_t T, int64_t C, const float *x, float *b);
// y (T,C) = [y +] g (C) ⊙ x, in every row; y may be x.
void hone_scale_columns(const KernelContext *kc, int64_t T, int64_t C, const float *g,
                        const float *x, bool accumulate, float *y);
// s (C) += Σ_t a ⊙ b of a, b (T,C), each sum in the order of t.
void hone_sum_products(const KernelContext *kc, int64_t T, int64_t C, const float *a,
                       const float *b, float *s);

// y (T,C) = [y +] w_t · x_t of each row; w (T).
void hone_weigh_rows(const KernelContext *kc, int64_t T, int64_t C, const float *w, const float *x,
                     bool accumulate, float *y);
// w (T) += x_t · y_t of each row of x, y (T,C).
void hone_dot_rows(const KernelContext *kc, int64_t T, int64_t C, const float *x, const float *y,
                   float *w);

// Where the rows of a mixture of experts go (Shazeer et al. 2017). Of each row of logits
// (T,experts), p = softmax(z): chosen (T,used) are the experts with the largest p, from the largest
// on, the first of equal ones first; weight (T,used) is their p, or p over the sum of the chosen
// ones' where `normalised`.
typedef struct RouteArgs {
    int64_t T;
    int experts, used; // used ≤ experts
    bool normalised;
    const float *logits;
    int32_t *chosen;
    float *weight;
} RouteArgs;
void hone_route_forward(const KernelContext *kc, const RouteArgs *args);
// sums (experts) = Σ_t p, in the order of t.
void hone_route_probabilities(const RouteArgs *args, double *sums);
// dlogits (T,experts) += what dweight (T,used), and dprobability (experts) of every row's p, give
// it; dprobability NULL: none. Reads logits, chosen and weight.
void hone_route_backward(const KernelContext *kc, const RouteArgs *args, const float *dweight,
                         const double *dprobability, float *dlogits);

// y (T,C) = rows of a stored table (V,C) of any weight type; index in [0,V).
void hone_gather_rows(const KernelContext *kc, int64_t T, int64_t C, int dtype, const void *table,
                      const int32_t *index, float *y);
// table (V,C) += rows: table[index[t]] += dy[t], in the order of t for each row.
void hone_scatter_rows(const KernelContext *kc, int64_t T, int64_t C, const int32_t *index,
                       const float *dy, float *table);

// Sequence s is rows first[s] … first[s+1]-1 of x, at least one. y (S,C): each sequence's mean, or
// with `largest` the largest of each column, and from (S,C) the row of it, the first of equals.
// dx += dy / rows to each row of a sequence; with `largest` dx[from] += dy.
typedef struct PoolRows {
    int64_t S, C;
    bool largest;
    const int32_t *first; // (S+1)
    int32_t *from;        // (S,C), with `largest` only
} PoolRows;
void hone_pool_rows_forward(const KernelContext *kc, const PoolRows *pool, const float *x,
                            float *y);
void hone_pool_rows_backward(const KernelContext *kc, const PoolRows *pool, const float *dy,
                             float *dx);

// Cross-entropy of one chunk of logits (rows, V), in place. Row r has the entries e = first[r] …
// first[r+1]-1, each a target with a weight; first NULL: one a row, e = r.
//   loss[e] = weight[e]·(l − (1 − ε)·z_r[target[e]] − ε·mean(z_r) + z_loss·l²), l = logsumexp(z_r),
//   ε the smoothing of labels (Szegedy et al. 2016);
//   logprob[e] = z_r[target] − l;
//   with gradient: z_r ← Σ_e weight[e]·((1 + 2·z_loss·l)·softmax(z_r) − (1 − ε)·onehot(target[e]) −
//   ε/V); else z_r stays.
// logprob may be NULL.
void hone_cross_entropy(const KernelContext *kc, int64_t rows, int64_t V, float *logits,
                        const int32_t *first, const int32_t *target, const float *weight,
                        double z_loss, double smoothing, bool gradient, double *loss,
                        float *logprob);

// Distillation from a teacher (Hinton, Vinyals, Dean 2015). Of each row, with p =
// softmax(teacher/τ) and q = softmax(logits/τ), τ the temperature:
//   loss[r] = weight[r]·τ²·Σ p·(log p − log q)
//   with gradient: teacher ← what the logits' is, weight[r]·τ·(q − p); else its content is lost.
// scratch (rows,V); logits stay. A row of weight 0 has loss and gradient 0 whatever its logits are.
typedef struct DistillArgs {
    int64_t rows, V;
    const float *logits, *weight;
    float *teacher, *scratch;
    float temperature; // τ > 0
    bool gradient;
    double *loss;
} DistillArgs;
void hone_distill(const KernelContext *kc, const DistillArgs *args);

// correct[e] = 1 when no logit of e's row is larger than that of target[e]. Entries as above.
void hone_target_is_largest(const KernelContext *kc, int64_t rows, int64_t V, const float *logits,
                            const int32_t *first, const int32_t *target, uint8_t *correct);

// ---- optimiser ---------------------------------------------------------------------------------

// Σ x², over fixed chunks in fixed order, in double. NaN and infinity come through.
double hone_sum_of_squares(const KernelContext *kc, int64_t count, const float *x);

// AdamW (Loshchilov, Hutter 2019), as torch.optim.AdamW orders it:
//   p ← p·(1 − lr·decay); m ← β1·m + (1−β1)·g; v ← β2·v + (1−β2)·g²;
//   p ← p − (lr/(1−β1^step))·m / (√v/√(1−β2^step) + eps), with g scaled by `scale` first
//   (clipping).
typedef struct AdamWArgs {
    int64_t count, step; // step from 1
    float lr, beta1, beta2, eps, decay, scale;
    float *p, *m, *v;
    const float *g;
} AdamWArgs;
void hone_adamw(const KernelContext *kc, const AdamWArgs *args);

// AdamW whose moments are stored in 8 bits (Dettmers et al. 2022, "8-bit optimizers via block-wise
// quantization"): blocks of ADAMW8_BLOCK values from the first on, each with its largest magnitude,
// and codes of the dynamic map: 7 decades below 1, each twice as fine as the one below it. A step
// computes in f32 and rounds to the nearest code; a second moment above 0 is not stored as 0.
enum { ADAMW8_BLOCK = 256 };
typedef struct AdamW8Map {
    int zero; // the code of 0; above it codes rise with the magnitude, below it are negative values
    int magnitudes;   // besides 0
    int parts;        // of the lowest decade
    float value[256]; // of each code
    float first[7];   // [d]: half way from the magnitude before decade d to its first; without
                      // signs [0] is the smallest number above 0
    float last;       // half way from the last decade's last to 1
} AdamW8Map;
void hone_adamw8_map(bool is_signed, AdamW8Map *map);

typedef struct AdamW8Args {
    AdamWArgs adamw;                // its m and v are not used
    uint8_t *m, *v;                 // codes (count)
    float *m_scale, *v_scale;       // one a block
    const AdamW8Map *m_map, *v_map; // signed, unsigned
} AdamW8Args;
void hone_adamw8(const KernelContext *kc, const AdamW8Args *args);

// Adafactor (Shazeer, Stern 2018) without a first moment and with a given rate, as
// transformers.optimization.Adafactor(scale_parameter=False, relative_step=False) computes it: with
// g scaled by `scale` first, β = 1 − step^−0.8, s = g² + 1e-30,
//   row ← β·row + (1−β)·mean of s over columns; column likewise over rows;
//   u = g·√(mean(row)/(row·column)); of a vector (R = 1): v ← β·v + (1−β)·s, u = g/√v;
//   p ← p·(1 − lr·decay) − lr·u / max(1, √mean(u²)).
typedef struct AdafactorArgs {
    int64_t R, C, step; // p and g (R,C); step from 1
    float lr, decay, scale;
    float *p, *row, *column; // row (R); column (C); R = 1: column is v, row is not used
    const float *g;
} AdafactorArgs;
size_t hone_adafactor_scratch(int64_t R, int64_t C);
void hone_adafactor(const KernelContext *kc, const AdafactorArgs *args, void *scratch);

// Stochastic gradient descent with momentum, as torch.optim.SGD orders it, g scaled first:
//   m ← β·m + g + decay·p;  p ← p − lr·m.   m NULL: β is 0 and nothing is kept.
typedef struct SgdArgs {
    int64_t count;
    float lr, beta, decay, scale;
    float *p, *m;
    const float *g;
} SgdArgs;
void hone_sgd(const KernelContext *kc, const SgdArgs *args);

#endif
