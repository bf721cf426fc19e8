// SPDX-License-Identifier: Apache-2.0
#include "train/contrast.h"

#include <math.h>
#include <string.h>

#include "train/texts.h"

enum { HELD_OUT_GROUP = 64 };
static const double contrast_scale = 20;

// ---- the loss ----------------------------------------------------------------------------------

static double dot(const double *a, const double *b, int64_t C) {
    double sum = 0;
    for (int64_t c = 0; c < C; c++) sum += a[c] * b[c];
    return sum;
}

// Unit vectors u and their lengths.
static void normalise(const float *vectors, int64_t rows, int64_t C, double *u, double *length) {
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < C; c++) u[r * C + c] = (double)vectors[r * C + c];
        length[r] = fmax(sqrt(dot(u + r * C, u + r * C, C)), 1e-12);
        for (int64_t c = 0; c < C; c++) u[r * C + c] /= length[r];
    }
}

// s (N) of anchor i → softmax less the one-hot of i; returns −log softmax[i].
static double anchor_loss(const double *u, int64_t pairs, int64_t C, int64_t i, double *s,
                          bool *nearest) {
    double most = -(double)INFINITY, sum = 0;
    *nearest = true;
    for (int64_t j = 0; j < pairs; j++) {
        s[j] = contrast_scale * dot(u + 2 * i * C, u + (2 * j + 1) * C, C);
        if (s[j] > most) most = s[j];
    }
    for (int64_t j = 0; j < pairs; j++) *nearest = *nearest && !(s[j] > s[i]);
    const double own = s[i];
    for (int64_t j = 0; j < pairs; j++) sum += s[j] = exp(s[j] - most);
    for (int64_t j = 0; j < pairs; j++) s[j] /= sum;
    s[i] -= 1;
    return log(sum) + most - own;
}

// du (2N,C) += what anchor i's scores give.
static void add_anchor(const double *u, int64_t pairs, int64_t C, int64_t i, const double *s,
                       double *du) {
    const double factor = contrast_scale / (double)pairs;
    for (int64_t j = 0; j < pairs; j++) {
        const double *a = u + 2 * i * C, *p = u + (2 * j + 1) * C, weight = factor * s[j];
        double *da = du + 2 * i * C, *dp = du + (2 * j + 1) * C;
        for (int64_t c = 0; c < C; c++) {
            da[c] += weight * p[c];
            dp[c] += weight * a[c];
        }
    }
}

double hone_contrast_loss(const float *vectors, int64_t pairs, int64_t C, float *gradient,
                          double *own, int64_t *right) {
    const int64_t rows = 2 * pairs;
    const size_t block = (size_t)(rows * C);
    double *u = hone_calloc(2 * block + (size_t)(rows + pairs), sizeof *u), total = 0;
    *right = 0;
    if (!u) return (double)NAN;
    double *du = u + block, *length = du + block, *s = length + rows;
    normalise(vectors, rows, C, u, length);
    for (int64_t i = 0; i < pairs; i++) {
        bool nearest;
        const double loss = anchor_loss(u, pairs, C, i, s, &nearest);
        if (own) own[i] = loss;
        if (gradient) add_anchor(u, pairs, C, i, s, du);
        total += loss;
        *right += nearest;
    }
    for (int64_t r = 0; r < rows && gradient; r++) { // back through the division by the length
        const double along = dot(u + r * C, du + r * C, C);
        for (int64_t c = 0; c < C; c++)
            gradient[r * C + c] = (float)((du[r * C + c] - along * u[r * C + c]) / length[r]);
    }
    hone_free(u);
    return total / (double)pairs;
}

// ---- vectors -----------------------------------------------------------------------------------

// Of both texts of each pair, (2·count, C).
static hone_status forward(Run *run, const LossCall *call, const Example *const *pairs,
                           int64_t count, Tensor **y) {
    HoneEmbedOptions options = {HONE_POOLING_AUTO, HONE_NORMALIZE_AUTO, 0};
    const Example *const *texts;
    int64_t rows;
    hone_embed_options(run->model, &options);
    RETURN_IF_ERROR(hone_pairs_list(pairs, count, call->memory, &texts, &rows, call->err));
    return hone_pooled_texts(call, texts, rows, options.pooling, y);
}

static LossCall begin(Run *run, bool gradients) {
    hone_tape_reset(run->tape, gradients);
    hone_arena_reset(&run->batch_memory);
    return hone_run_loss_call(run, run->tape);
}

hone_status hone_contrast_rehearse(Run *run, const LossCall *call, bool gradients,
                                   const Example *const *pairs, int64_t count) {
    Tensor *y;
    RETURN_IF_ERROR(forward(run, call, pairs, count, &y));
    if (gradients) hone_seed_gradient(call->tape, y, NULL);
    return hone_tape_status(call->tape, call->err);
}

// ---- a step ------------------------------------------------------------------------------------

typedef struct ContrastStep {
    Run *run;
    const StepRange *step;
    int64_t parts, C;
    float *vectors, *gradient; // (2·pairs, C)
} ContrastStep;

// One part's backward; its vectors are on the tape.
static hone_status go_back(ContrastStep *work, Tensor *y, int64_t done) {
    Run *run = work->run;
    const KernelContext *kc = &run->context->kernels;
    hone_fill(kc, run->parameters.count, 0.0f, run->parameters.gradient);
    hone_seed_gradient(run->tape, y, work->gradient + 2 * done * work->C);
    hone_tape_backward(run->tape);
    if (run->options.accumulate > 1) hone_gradient_leaf_done(kc, &run->parameters);
    return hone_tape_status(run->tape, run->err);
}

static hone_status all_vectors(ContrastStep *work, Tensor **y) {
    Run *run = work->run;
    // What is dropped is drawn where gradients are recorded.
    const bool records = work->parts == 1 || run->options.dropout > 0;
    int64_t done = 0, count;
    for (int64_t part = 0; part < work->parts; part++, done += count) {
        const Example *const *pairs = hone_micro_batch(run, work->step, part, &count);
        const LossCall call = begin(run, records);
        RETURN_IF_ERROR(forward(run, &call, pairs, count, y));
        hone_tape_read(run->tape, *y, work->vectors + 2 * done * work->C);
    }
    return HONE_OK;
}

static hone_status run_step(ContrastStep *work, double *loss) {
    Run *run = work->run;
    Tensor *y = NULL;
    int64_t right, done = 0, count;
    RETURN_IF_ERROR(all_vectors(work, &y));
    *loss =
        hone_contrast_loss(work->vectors, work->step->count, work->C, work->gradient, NULL, &right);
    if (work->parts == 1) return go_back(work, y, 0);
    for (int64_t part = 0; part < work->parts; part++, done += count) {
        const Example *const *pairs = hone_micro_batch(run, work->step, part, &count);
        const LossCall call = begin(run, true);
        RETURN_IF_ERROR(forward(run, &call, pairs, count, &y));
        RETURN_IF_ERROR(go_back(work, y, done));
    }
    return HONE_OK;
}

hone_status hone_contrast_step(Run *run, const StepRange *step, double *loss) {
    const int64_t C = run->model->config.channels;
    const size_t numbers = (size_t)(2 * step->count * C);
    ContrastStep work = {run, step, hone_micro_batches(run, step), C, NULL, NULL};
    work.vectors = hone_calloc(2 * numbers, sizeof *work.vectors);
    if (!work.vectors)
        return hone_fail_memory(run->err, 2 * numbers * sizeof *work.vectors, "vectors");
    work.gradient = work.vectors + numbers;
    hone_status status = run_step(&work, loss);
    hone_free(work.vectors);
    RETURN_IF_ERROR(status);
    if (run->options.accumulate > 1) hone_gradient_sum(&run->context->kernels, &run->parameters);
    return HONE_OK;
}

// ---- held out ----------------------------------------------------------------------------------

static hone_status held_out_vectors(Run *run, float *vectors) {
    const int64_t C = run->model->config.channels;
    for (int64_t first = 0; first < run->held_out_count;) {
        const int64_t count = hone_held_out_batch(run, first);
        const LossCall call = begin(run, false);
        Tensor *y;
        RETURN_IF_ERROR(forward(run, &call, run->held_out + first, count, &y));
        hone_tape_read(run->tape, y, vectors + 2 * first * C);
        first += count;
    }
    return HONE_OK;
}

hone_status hone_contrast_held_out(Run *run, double *losses, double *loss, double *accuracy) {
    const int64_t C = run->model->config.channels, count = run->held_out_count;
    float *vectors = hone_calloc((size_t)(2 * count * C), sizeof *vectors);
    int64_t right = 0, more;
    if (!vectors) return hone_fail_memory(run->err, (size_t)(2 * count * C) * 4, "vectors");
    hone_status status = held_out_vectors(run, vectors);
    *loss = 0;
    for (int64_t first = 0; first < count && status == HONE_OK; first += HELD_OUT_GROUP) {
        const int64_t left = count - first, pairs = left < HELD_OUT_GROUP ? left : HELD_OUT_GROUP;
        *loss += (double)pairs *
                 hone_contrast_loss(vectors + 2 * first * C, pairs, C, NULL, losses + first, &more);
        right += more;
    }
    *loss /= (double)count;
    *accuracy = (double)right / (double)count;
    hone_free(vectors);
    return status;
}
