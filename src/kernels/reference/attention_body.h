// SPDX-License-Identifier: Apache-2.0
// Included by attention.c once for each precision, with REAL, NAME(function), MATH(function) and
// OPERAND(x) set: what is computed, as a product takes it. No include guard, on purpose.

// s_ij; *slope: its derivative by scale·q·k.
static REAL NAME(score)(const ReferenceAttention *args, const REAL *q, const REAL *k, int64_t h,
                        int64_t i, int64_t j, REAL *slope) {
    REAL score = 0, cap = (REAL)args->softcap;
    for (int64_t c = 0; c < args->head_size; c++) score += q[c] * k[c];
    score *= (REAL)args->scale;
    *slope = 1;
    if (cap > 0) {
        REAL t = MATH(tanh)(score / cap);
        score = cap * t;
        *slope = 1 - t * t;
    }
    if (args->slopes) {
        REAL distance = (REAL)(i + args->offset - j);
        score -= (REAL)args->slopes[h] * MATH(fabs)(distance);
    }
    return score + (REAL)added(args, h, i, j);
}

void NAME(attention_forward)(const ReferenceAttention *args, const REAL *q, const REAL *k,
                             const REAL *v, REAL *o, REAL *lse, REAL *row) {
    int64_t D = args->head_size, E = args->value_size, H = args->heads, K = args->kv_heads;
    for (int64_t h = 0; h < H; h++)
        for (int64_t i = 0; i < args->queries; i++) {
            REAL sink = args->sinks ? (REAL)args->sinks[h] : (REAL)-INFINITY, slope;
            REAL *oi = o + (i * H + h) * E, highest = sink;
            for (int64_t j = 0; j < args->keys; j++) {
                row[j] = (REAL)-INFINITY;
                if (!sees(args, h, i, j)) continue;
                row[j] = NAME(score)(args, q + (i * H + h) * D, k + (j * K + h / (H / K)) * D, h, i,
                                     j, &slope);
                if (row[j] > highest) highest = row[j];
            }
            REAL sum = args->sinks ? MATH(exp)(sink - highest) : 0;
            for (int64_t c = 0; c < E; c++) oi[c] = 0;
            for (int64_t j = 0; j < args->keys; j++) {
                if (!sees(args, h, i, j)) continue;
                const REAL *vj = v + (j * K + h / (H / K)) * E;
                REAL p = MATH(exp)(row[j] - highest);
                REAL kept = OPERAND(p * (REAL)dropped(args, h, i, j));
                sum += p;
                for (int64_t c = 0; c < E; c++) oi[c] += kept * vj[c];
            }
            lse[h * args->queries + i] = highest + MATH(log)(sum);
            if (sum != 0)
                for (int64_t c = 0; c < E; c++) oi[c] /= sum;
        }
}

// Σ_j e^(s_ij − lse): 1 but where lse is too large to hold the logarithm of the sum.
static REAL NAME(weight_sum)(const ReferenceAttention *args, const REAL *q, const REAL *k,
                             int64_t h, int64_t i, REAL lse) {
    REAL slope, sum = args->sinks ? MATH(exp)((REAL)args->sinks[h] - lse) : 0;
    int64_t D = args->head_size, H = args->heads, K = args->kv_heads;
    for (int64_t j = 0; j < args->keys; j++)
        if (sees(args, h, i, j))
            sum += MATH(exp)(NAME(score)(args, q + (i * H + h) * D, k + (j * K + h / (H / K)) * D,
                                         h, i, j, &slope) -
                             lse);
    return sum;
}

void NAME(attention_backward)(const ReferenceAttention *args, const REAL *q, const REAL *k,
                              const REAL *v, const REAL *o, const REAL *lse, const REAL *d_o,
                              REAL *dq, REAL *dk, REAL *dv) {
    int64_t D = args->head_size, E = args->value_size, H = args->heads, K = args->kv_heads;
    REAL scale = (REAL)args->scale;
    for (int64_t h = 0; h < H; h++)
        for (int64_t i = 0; i < args->queries; i++) {
            int64_t at = i * H + h;
            REAL sum = 0, slope, total = lse[h * args->queries + i];
            REAL weights = NAME(weight_sum)(args, q, k, h, i, total);
            for (int64_t c = 0; c < E; c++) sum += d_o[at * E + c] * o[at * E + c];
            if (args->sinks && args->d_sinks)
                args->d_sinks[h] -= (double)(sum * MATH(exp)((REAL)args->sinks[h] - total));
            for (int64_t j = 0; j < args->keys; j++) {
                if (!sees(args, h, i, j)) continue;
                int64_t from = j * K + h / (H / K);
                REAL dp = 0, kept = (REAL)dropped(args, h, i, j);
                for (int64_t c = 0; c < E; c++) dp += d_o[at * E + c] * v[from * E + c];
                REAL s = NAME(score)(args, q + at * D, k + from * D, h, i, j, &slope);
                REAL p = MATH(exp)(s - total) / weights, ds = p * (kept * dp - sum);
                if (args->d_mask) args->d_mask[mask_place(args, h, i, j)] += (double)ds;
                ds = scale * OPERAND(ds * slope);
                p = OPERAND(p * kept);
                for (int64_t c = 0; c < E; c++) dv[from * E + c] += p * d_o[at * E + c];
                for (int64_t c = 0; c < D; c++) dk[from * D + c] += ds * q[at * D + c];
                for (int64_t c = 0; c < D; c++) dq[at * D + c] += ds * k[from * D + c];
            }
        }
}
