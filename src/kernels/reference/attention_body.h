// SPDX-License-Identifier: Apache-2.0
// Included by attention.c once for each precision, with REAL, NAME(function) and MATH(function)
// set. No include guard, on purpose.

void NAME(attention_forward)(const ReferenceAttention *args, const REAL *q, const REAL *k,
                             const REAL *v, REAL *o, REAL *lse, REAL *row) {
    int64_t D = args->head_size, E = args->value_size, H = args->heads, K = args->kv_heads;
    for (int64_t h = 0; h < H; h++)
        for (int64_t i = 0; i < args->queries; i++) {
            const REAL *qi = q + (i * H + h) * D;
            REAL *oi = o + (i * H + h) * E, highest = (REAL)-INFINITY, sum = 0;
            for (int64_t j = 0; j < args->keys; j++) {
                row[j] = (REAL)-INFINITY;
                if (!sees(args, i, j)) continue;
                const REAL *kj = k + (j * K + h / (H / K)) * D;
                REAL score = 0;
                for (int64_t c = 0; c < D; c++) score += qi[c] * kj[c];
                row[j] = score * (REAL)args->scale;
                if (row[j] > highest) highest = row[j];
            }
            for (int64_t c = 0; c < E; c++) oi[c] = 0;
            for (int64_t j = 0; j < args->keys; j++) {
                if (!sees(args, i, j)) continue;
                const REAL *vj = v + (j * K + h / (H / K)) * E;
                REAL p = MATH(exp)(row[j] - highest);
                sum += p;
                for (int64_t c = 0; c < E; c++) oi[c] += p * vj[c];
            }
            lse[h * args->queries + i] = highest + MATH(log)(sum);
            if (sum != 0)
                for (int64_t c = 0; c < E; c++) oi[c] /= sum;
        }
}

void NAME(attention_backward)(const ReferenceAttention *args, const REAL *q, const REAL *k,
                              const REAL *v, const REAL *o, const REAL *lse, const REAL *d_o,
                              REAL *dq, REAL *dk, REAL *dv) {
    int64_t D = args->head_size, E = args->value_size, H = args->heads, K = args->kv_heads;
    REAL scale = (REAL)args->scale;
    for (int64_t h = 0; h < H; h++)
        for (int64_t i = 0; i < args->queries; i++) {
            int64_t at = i * H + h;
            REAL sum = 0;
            for (int64_t c = 0; c < E; c++) sum += d_o[at * E + c] * o[at * E + c];
            for (int64_t j = 0; j < args->keys; j++) {
                if (!sees(args, i, j)) continue;
                int64_t from = j * K + h / (H / K);
                REAL score = 0, dp = 0;
                for (int64_t c = 0; c < D; c++) score += q[at * D + c] * k[from * D + c];
                for (int64_t c = 0; c < E; c++) dp += d_o[at * E + c] * v[from * E + c];
                REAL p = MATH(exp)(score * scale - lse[h * args->queries + i]);
                REAL ds = scale * p * (dp - sum);
                for (int64_t c = 0; c < E; c++) dv[from * E + c] += p * d_o[at * E + c];
                for (int64_t c = 0; c < D; c++) dk[from * D + c] += ds * q[at * D + c];
                for (int64_t c = 0; c < D; c++) dq[at * D + c] += ds * k[from * D + c];
            }
        }
}
