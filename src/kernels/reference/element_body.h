// SPDX-License-Identifier: Apache-2.0
// Included by element.c once for each precision, with REAL, NAME(function) and MATH(function) set.
// No include guard, on purpose.

void NAME(rms_norm_forward)(int64_t T, int64_t C, const REAL *x, const REAL *w, REAL eps, REAL *y,
                            REAL *r) {
    for (int64_t t = 0; t < T; t++) {
        REAL sum = 0;
        for (int64_t c = 0; c < C; c++) sum += x[t * C + c] * x[t * C + c];
        r[t] = 1 / MATH(sqrt)(sum / (REAL)C + eps);
        for (int64_t c = 0; c < C; c++) y[t * C + c] = x[t * C + c] * r[t] * w[c];
    }
}

void NAME(rms_norm_backward)(int64_t T, int64_t C, const REAL *x, const REAL *w, const REAL *r,
                             const REAL *dy, REAL *dx, REAL *dw) {
    for (int64_t t = 0; t < T; t++) {
        const REAL *xt = x + t * C, *dyt = dy + t * C;
        REAL mean = 0;
        for (int64_t c = 0; c < C; c++) mean += dyt[c] * w[c] * xt[c] / (REAL)C;
        for (int64_t c = 0; c < C; c++) {
            if (dx) dx[t * C + c] += r[t] * (dyt[c] * w[c] - xt[c] * r[t] * r[t] * mean);
            if (dw) dw[c] += dyt[c] * xt[c] * r[t];
        }
    }
}

void NAME(layer_norm_forward)(int64_t T, int64_t C, const REAL *x, const REAL *w, const REAL *b,
                              REAL eps, REAL *y, REAL *statistics) {
    for (int64_t t = 0; t < T; t++) {
        const REAL *xt = x + t * C;
        REAL mean = 0, variance = 0;
        for (int64_t c = 0; c < C; c++) mean += xt[c] / (REAL)C;
        for (int64_t c = 0; c < C; c++) variance += (xt[c] - mean) * (xt[c] - mean) / (REAL)C;
        const REAL r = 1 / MATH(sqrt)(variance + eps);
        for (int64_t c = 0; c < C; c++) y[t * C + c] = (xt[c] - mean) * r * w[c] + b[c];
        statistics[2 * t] = mean;
        statistics[2 * t + 1] = r;
    }
}

void NAME(layer_norm_backward)(int64_t T, int64_t C, const REAL *x, const REAL *w,
                               const REAL *statistics, const REAL *dy, REAL *dx, REAL *dw,
                               REAL *db) {
    for (int64_t t = 0; t < T; t++) {
        const REAL *xt = x + t * C, *dyt = dy + t * C;
        const REAL mean = statistics[2 * t], r = statistics[2 * t + 1];
        REAL plain = 0, along = 0;
        for (int64_t c = 0; c < C; c++) {
            plain += dyt[c] * w[c] / (REAL)C;
            along += dyt[c] * w[c] * (xt[c] - mean) * r / (REAL)C;
        }
        for (int64_t c = 0; c < C; c++) {
            const REAL n = (xt[c] - mean) * r;
            if (dx) dx[t * C + c] += r * (dyt[c] * w[c] - plain - n * along);
            if (dw) dw[c] += dyt[c] * n;
            if (db) db[c] += dyt[c];
        }
    }
}

void NAME(rope)(const ReferenceRope *args, const REAL *frequency, const REAL *x, REAL *y) {
    int64_t D = args->head_size, half = args->rotary / 2;
    const REAL size = args->magnitude != 0 ? (REAL)args->magnitude : 1;
    for (int64_t head = 0; head < args->T * args->heads; head++) {
        const REAL *in = x + head * D;
        REAL *out = y + head * D;
        float position = (float)args->position[head / args->heads]; // angles are float: kernels.h
        if (args->inverse) position = -position;
        for (int64_t j = 0; j < half; j++) {
            int64_t first = args->interleaved ? 2 * j : j;
            int64_t second = args->interleaved ? 2 * j + 1 : j + half;
            float angle = position * (float)frequency[j];
            REAL c = size * MATH(cos)((REAL)angle), s = size * MATH(sin)((REAL)angle);
            REAL a = in[first] * c - in[second] * s, b = in[first] * s + in[second] * c;
            out[first] = args->inverse ? out[first] + a : a;
            out[second] = args->inverse ? out[second] + b : b;
        }
        for (int64_t c = args->rotary; c < D; c++) out[c] = args->inverse ? out[c] + in[c] : in[c];
    }
}

void NAME(swiglu_forward)(int64_t count, const REAL *gate, const REAL *up, REAL *y) {
    for (int64_t i = 0; i < count; i++) y[i] = gate[i] / (1 + MATH(exp)(-gate[i])) * up[i];
}

void NAME(swiglu_backward)(int64_t count, const REAL *gate, const REAL *up, const REAL *dy,
                           REAL *dgate, REAL *dup) {
    for (int64_t i = 0; i < count; i++) {
        REAL sigma = 1 / (1 + MATH(exp)(-gate[i]));
        dgate[i] += dy[i] * up[i] * sigma * (1 + gate[i] * (1 - sigma));
        dup[i] += dy[i] * gate[i] * sigma;
    }
}

// Written with the logistic function, which does not cancel where tanh comes near to -1:
// ½·(1 + tanh u) = 1/(1 + exp(−2·u)).
void NAME(gelu_forward)(int64_t count, const REAL *x, REAL *y) {
    const REAL root = MATH(sqrt)(2 / (REAL)3.14159265358979323846);
    for (int64_t i = 0; i < count; i++) {
        const REAL u = root * (x[i] + (REAL)0.044715 * x[i] * x[i] * x[i]);
        y[i] = x[i] / (1 + MATH(exp)(-2 * u));
    }
}

void NAME(gelu_backward)(int64_t count, const REAL *x, const REAL *dy, REAL *dx) {
    const REAL root = MATH(sqrt)(2 / (REAL)3.14159265358979323846);
    for (int64_t i = 0; i < count; i++) {
        const REAL u = root * (x[i] + (REAL)0.044715 * x[i] * x[i] * x[i]);
        const REAL slope = root * (1 + 3 * (REAL)0.044715 * x[i] * x[i]);
        const REAL sigma = 1 / (1 + MATH(exp)(-2 * u));
        dx[i] += dy[i] * sigma * (1 + x[i] * 2 * slope * (1 / (1 + MATH(exp)(2 * u))));
    }
}

void NAME(relu_forward)(int64_t count, const REAL *x, REAL *y) {
    for (int64_t i = 0; i < count; i++) y[i] = x[i] > 0 ? x[i] : 0;
}

void NAME(relu_backward)(int64_t count, const REAL *x, const REAL *dy, REAL *dx) {
    for (int64_t i = 0; i < count; i++) dx[i] += x[i] > 0 ? dy[i] : 0;
}

// Φ(x) = ½·erfc(−x/√2), which does not cancel where erf comes near to -1.
void NAME(gelu_erf_forward)(int64_t count, const REAL *x, REAL *y) {
    const REAL half = MATH(sqrt)((REAL)0.5);
    for (int64_t i = 0; i < count; i++) y[i] = x[i] * (REAL)0.5 * MATH(erfc)(-x[i] * half);
}

void NAME(gelu_erf_backward)(int64_t count, const REAL *x, const REAL *dy, REAL *dx) {
    const REAL half = MATH(sqrt)((REAL)0.5);
    const REAL density = 1 / MATH(sqrt)(2 * (REAL)3.14159265358979323846);
    for (int64_t i = 0; i < count; i++)
        dx[i] += dy[i] * ((REAL)0.5 * MATH(erfc)(-x[i] * half) +
                          x[i] * density * MATH(exp)(-(REAL)0.5 * x[i] * x[i]));
}

void NAME(scatter_rows)(int64_t T, int64_t C, const int32_t *index, const REAL *dy, REAL *table) {
    for (int64_t t = 0; t < T; t++)
        for (int64_t c = 0; c < C; c++) table[index[t] * C + c] += dy[t * C + c];
}

void NAME(cross_entropy)(int64_t rows, int64_t V, REAL *logits, const int32_t *first,
                         const int32_t *target, const REAL *weight, double z_loss, double smoothing,
                         bool gradient, REAL *loss, REAL *logprob) {
    for (int64_t r = 0; r < rows; r++) {
        REAL *z = logits + r * V, largest = z[0], sum = 0, weights = 0;
        int64_t begin = first ? first[r] : r, end = first ? first[r + 1] : r + 1;
        bool weighted = false;
        for (int64_t v = 1; v < V; v++) largest = z[v] > largest ? z[v] : largest;
        for (int64_t v = 0; v < V; v++) sum += MATH(exp)(z[v] - largest);
        const REAL all = largest + MATH(log)(sum), lambda = (REAL)z_loss, eps = (REAL)smoothing;
        REAL mean = 0;
        for (int64_t v = 0; v < V; v++) mean += z[v] / (REAL)V;
        for (int64_t e = begin; e < end; e++) {
            REAL at_target = z[target[e]] - largest - MATH(log)(sum);
            // A weight of 0 takes the entry out, whatever its row's logits are.
            const REAL loss_at = lambda * all * all - at_target;
            const REAL smoothed = smoothing > 0 ? eps * (z[target[e]] - mean) : 0;
            loss[e] = weight[e] == 0 ? 0 : weight[e] * (loss_at + smoothed);
            if (logprob) logprob[e] = at_target;
            weights += weight[e];
            weighted = weighted || weight[e] != 0;
        }
        if (!gradient) continue;
        for (int64_t v = 0; v < V; v++)
            z[v] = weighted ? weights * ((1 + 2 * lambda * all) * MATH(exp)(z[v] - largest) / sum -
                                         eps / (REAL)V)
                            : 0;
        for (int64_t e = begin; e < end; e++) z[target[e]] -= (1 - eps) * weight[e];
    }
}

void NAME(adamw)(const ReferenceAdamW *args, const REAL *g, REAL *p, REAL *m, REAL *v) {
    REAL lr = (REAL)args->lr, beta1 = (REAL)args->beta1, beta2 = (REAL)args->beta2;
    REAL correction1 = 1 - MATH(pow)(beta1, (REAL)args->step);
    REAL correction2 = 1 - MATH(pow)(beta2, (REAL)args->step);
    for (int64_t i = 0; i < args->count; i++) {
        REAL gradient = g[i] * (REAL)args->scale;
        p[i] *= 1 - lr * (REAL)args->decay;
        m[i] = beta1 * m[i] + (1 - beta1) * gradient;
        v[i] = beta2 * v[i] + (1 - beta2) * gradient * gradient;
        REAL denominator = MATH(sqrt)(v[i]) / MATH(sqrt)(correction2) + (REAL)args->eps;
        p[i] -= lr / correction1 * m[i] / denominator;
    }
}
