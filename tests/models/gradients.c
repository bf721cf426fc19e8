// SPDX-License-Identifier: Apache-2.0
// The gradients of a tiny Llama against finite differences of a plain model in double, written here
// from the equations alone.
#include "tiny.h"

// ---- the model in double -----------------------------------------------------------------------

typedef struct Matrix {
    double *w, *a, *b; // (out,in), (rank,in), (out,rank); a and b NULL without an adapter
    int64_t out, in, rank;
    double scale;
} Matrix;

typedef struct Plain {
    const ModelConfig *config;
    Matrix matrices[TINY_PARAMETERS]; // in the visitor's order; vectors have in = 1
    Arena memory;
} Plain;

static double *copy(Plain *plain, const Tensor *tensor) {
    const int64_t count = hone_tensor_count(tensor);
    double *values = hone_arena_calloc(&plain->memory, (size_t)count, sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = (double)((const float *)tensor->data)[i];
    return values;
}

static void make_plain(Plain *plain, const Tiny *tiny) {
    *plain = (Plain){.config = hone_model_config(tiny->model)};
    for (int i = 0; i < tiny->count; i++) {
        const Tensor *tensor = tiny->parameters[i].tensor;
        Matrix *matrix = &plain->matrices[i];
        *matrix = (Matrix){.w = copy(plain, tensor),
                           .out = tensor->shape[0],
                           .in = tensor->rank == 2 ? tensor->shape[1] : 1};
        const Weight *weight = tiny->parameters[i].weight;
        if (!weight || weight->adapter_count == 0) continue;
        matrix->a = copy(plain, &weight->adapters->A);
        matrix->b = copy(plain, &weight->adapters->B);
        matrix->rank = weight->adapters->A.shape[0];
        matrix->scale = (double)weight->adapters->scale;
    }
}

// y (out) = (W + scale·B·A)·x
static void times(const Matrix *m, const double *x, double *y) {
    for (int64_t o = 0; o < m->out; o++) {
        y[o] = 0;
        for (int64_t i = 0; i < m->in; i++) y[o] += m->w[o * m->in + i] * x[i];
    }
    for (int64_t r = 0; r < m->rank; r++) {
        double u = 0;
        for (int64_t i = 0; i < m->in; i++) u += m->a[r * m->in + i] * x[i];
        for (int64_t o = 0; o < m->out; o++) y[o] += m->scale * m->b[o * m->rank + r] * u;
    }
}

static void norm(const Plain *plain, const Matrix *gain, const double *x, double *y) {
    double squares = 0;
    for (int64_t c = 0; c < gain->out; c++) squares += x[c] * x[c];
    const double r = 1 / sqrt(squares / (double)gain->out + (double)plain->config->norm_eps);
    for (int64_t c = 0; c < gain->out; c++) y[c] = x[c] * r * gain->w[c];
}

static void turn(const ModelConfig *config, double *x, int heads, int position) {
    for (int h = 0; h < heads; h++)
        for (int j = 0; j < config->rotary / 2; j++) {
            const double angle =
                position * pow((double)config->rope_base, -2.0 * j / config->rotary);
            const int first = config->rope_interleaved ? 2 * j : j;
            const int second = config->rope_interleaved ? 2 * j + 1 : j + config->rotary / 2;
            double *a = x + h * config->head_size + first, *b = x + h * config->head_size + second;
            const double turned = *a * cos(angle) - *b * sin(angle);
            *b = *a * sin(angle) + *b * cos(angle);
            *a = turned;
        }
}

enum { WIDE = 64 };
typedef double Rows[TINY_TOKENS][WIDE];

static void attend(const ModelConfig *config, const TinyBatch *batch, int i, const double *q,
                   Rows k, Rows v, double *o) {
    const int D = config->head_size;
    for (int h = 0; h < config->heads; h++) {
        const int at = h / (config->heads / config->kv_heads) * D;
        double sum = 0, p;
        for (int c = 0; c < D; c++) o[h * D + c] = 0;
        for (int j = 0; j < batch->T; j++) {
            if (i < batch->begin[j] || i >= batch->end[j]) continue;
            double score = 0;
            for (int c = 0; c < D; c++) score += q[h * D + c] * k[j][at + c];
            sum += p = exp(score / sqrt((double)D));
            for (int c = 0; c < D; c++) o[h * D + c] += p * v[j][at + c];
        }
        for (int c = 0; c < D; c++) o[h * D + c] /= sum;
    }
}

static void layer(const Plain *plain, const Matrix *m, const TinyBatch *batch, Rows x) {
    static Rows q, k, v; // too large for a stack under a sanitizer
    const ModelConfig *config = plain->config;
    double h[WIDE], o[WIDE], gate[WIDE], up[WIDE];
    for (int t = 0; t < batch->T; t++) {
        norm(plain, &m[0], x[t], h);
        times(&m[1], h, q[t]);
        times(&m[2], h, k[t]);
        times(&m[3], h, v[t]);
        turn(config, q[t], config->heads, batch->position[t]);
        turn(config, k[t], config->kv_heads, batch->position[t]);
    }
    for (int t = 0; t < batch->T; t++) {
        attend(config, batch, t, q[t], k, v, o);
        times(&m[4], o, h);
        for (int64_t c = 0; c < config->channels; c++) x[t][c] += h[c];
        norm(plain, &m[5], x[t], h);
        times(&m[6], h, gate);
        times(&m[7], h, up);
        for (int64_t f = 0; f < config->feed_forward; f++)
            gate[f] = gate[f] / (1 + exp(-gate[f])) * up[f];
        times(&m[8], gate, h);
        for (int64_t c = 0; c < config->channels; c++) x[t][c] += h[c];
    }
}

static double plain_loss(const Plain *plain, const TinyBatch *batch) {
    static Rows x;
    const ModelConfig *config = plain->config;
    const int after = 1 + 9 * config->layers;
    for (int t = 0; t < batch->T; t++)
        for (int64_t c = 0; c < config->channels; c++)
            x[t][c] = plain->matrices[0].w[batch->token[t] * config->channels + c];
    for (int l = 0; l < config->layers; l++) layer(plain, &plain->matrices[1 + 9 * l], batch, x);
    double loss = 0, h[WIDE], z[WIDE];
    for (int64_t e = 0; e < batch->entries; e++) {
        norm(plain, &plain->matrices[after], x[batch->entry_token[e]], h);
        times(&plain->matrices[config->tied_head ? 0 : after + 1], h, z);
        double sum = 0;
        for (int64_t w = 0; w < config->vocabulary; w++) sum += exp(z[w]);
        loss += (double)batch->weight[e] * (log(sum) - z[batch->target[e]]);
    }
    return loss;
}

// ---- comparison --------------------------------------------------------------------------------

static double difference(const Plain *plain, const TinyBatch *batch, double *at) {
    const double step = 1e-5, before = *at;
    *at = before + step;
    const double above = plain_loss(plain, batch);
    *at = before - step;
    const double below = plain_loss(plain, batch);
    *at = before;
    return (above - below) / (2 * step);
}

// Up to 40 elements of one parameter, evenly; errors are measured against the largest of them.
static void compare(const Plain *plain, const TinyBatch *batch, double *values,
                    const Tensor *trained, const char *name) {
    const int64_t count = hone_tensor_count(trained), step = count / 40 + 1;
    double largest = 0, worst = 0;
    for (int64_t i = 0; i < count; i += step) {
        const double want = difference(plain, batch, values + i);
        const double off = fabs((double)trained->grad[i] - want);
        if (fabs(want) > largest) largest = fabs(want);
        if (!(off <= worst)) worst = off;
    }
    if (!CHECK(worst <= 2e-5 * largest + 1e-7))
        printf("%s: off by %.3g of %.3g\n", name, worst, largest);
}

static double *values_of(const Plain *plain, const Tiny *tiny, const Tensor *trained) {
    for (int i = 0; i < tiny->count; i++) {
        const Weight *weight = tiny->parameters[i].weight;
        if (trained == tiny->parameters[i].tensor) return plain->matrices[i].w;
        if (!weight || weight->adapter_count == 0) continue;
        if (trained == &weight->adapters->A) return plain->matrices[i].a;
        if (trained == &weight->adapters->B) return plain->matrices[i].b;
    }
    return NULL;
}

static void check_model(const ModelConfig *config, bool full, bool chosen) {
    Tiny tiny;
    tiny_make(&tiny, config);
    if (full) tiny_train_all(&tiny);
    if (!full || !config->tied_head) tiny_adapt(&tiny, 3, 0.4f);
    TinyBatch batch = {0};
    tiny_append_example(&batch, 1, 7, 2, 41);
    tiny_append_example(&batch, 2, 5, 0, 41);
    Plain plain;
    make_plain(&plain, &tiny);
    Tape *tape = tiny_tape(NULL, (TapeOptions){.gradients = true});
    const double loss = tiny_loss(&tiny, tape, &batch, chosen, NULL);
    CHECK_NEAR(loss, plain_loss(&plain, &batch), 1e-6, 0);
    for (int i = 0; i < tiny.trained_count; i++)
        compare(&plain, &batch, values_of(&plain, &tiny, tiny.trained[i]), tiny.trained[i],
                tiny.trained_name[i]);
    hone_tape_free(tape);
    hone_arena_free(&plain.memory);
    tiny_free(&tiny);
}

static void full_training_of_a_tied_model(void) {
    check_model(&tiny_config, true, true);
}

static void full_training_and_adapters_of_an_untied_model(void) {
    ModelConfig config = tiny_config;
    config.tied_head = false;
    config.rope_interleaved = false;
    config.rotary = 6;
    check_model(&config, true, false);
}

static void adapters_of_a_tied_model(void) {
    check_model(&tiny_config, false, true);
}

static void adapters_with_a_head_of_its_own(void) {
    ModelConfig config = tiny_config;
    config.tied_head = false;
    config.kv_heads = 4;
    check_model(&config, false, true);
}

int main(void) {
    RUN(full_training_of_a_tied_model);
    RUN(full_training_and_adapters_of_an_untied_model);
    RUN(adapters_of_a_tied_model);
    RUN(adapters_with_a_head_of_its_own);
    return check_report();
}
