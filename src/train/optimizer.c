// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.h"

#include "train/muon.h"
#include "train/run.h"

enum {
    SMALL_TENSOR = 4096, // below, AdamW's moments stay f32, as bitsandbytes has it
};

typedef struct Optimizer {
    void (*describe)(Run *run);
    void (*update)(Run *run, int64_t step, float scale);
    size_t (*scratch)(const Run *run, const Trainable *item); // NULL: none
} Optimizer;

static void add_block(Run *run, const char *name, int dtype, int64_t count) {
    OptimizerState *state = &run->parameters.state;
    if (count > 0) state->block[state->count++] = (StateBlock){name, dtype, count, NULL};
}

static float decay_of(const Run *run, const Trainable *item) {
    return item->decays ? (float)run->options.weight_decay : 0.0f;
}

// The items from i on that decay alike, as one range of the blocks; the number of the next one.
static int64_t alike(const Parameters *parameters, int64_t i, int64_t *count) {
    const bool decays = parameters->items[i].decays;
    for (*count = 0; i < parameters->item_count && parameters->items[i].decays == decays; i++)
        *count += parameters->items[i].count;
    return i;
}

// ---- AdamW -------------------------------------------------------------------------------------

static AdamWArgs adamw_args(const Run *run, const Trainable *first, int64_t count, int64_t step,
                            float scale) {
    const HoneFinetuneOptions *options = &run->options;
    return (AdamWArgs){.count = count,
                       .step = step + 1,
                       .lr = (float)hone_run_learning_rate(run, step),
                       .beta1 = (float)options->beta1,
                       .beta2 = (float)options->beta2,
                       .eps = (float)options->eps,
                       .decay = decay_of(run, first),
                       .scale = scale,
                       .p = run->parameters.values + first->offset,
                       .g = run->parameters.gradient + first->offset};
}

static void describe_adamw(Run *run) {
    add_block(run, "moment1", HONE_F32, run->parameters.count);
    add_block(run, "moment2", HONE_F32, run->parameters.count);
}

static void update_adamw(Run *run, int64_t step, float scale) {
    const Parameters *parameters = &run->parameters;
    for (int64_t i = 0, next; i < parameters->item_count; i = next) {
        const Trainable *first = &parameters->items[i];
        int64_t count;
        next = alike(parameters, i, &count);
        AdamWArgs args = adamw_args(run, first, count, step, scale);
        args.m = (float *)parameters->state.block[0].data + first->offset;
        args.v = (float *)parameters->state.block[1].data + first->offset;
        hone_adamw(&run->context->kernels, &args);
    }
}

// ---- AdamW in 8 bits ---------------------------------------------------------------------------

enum { CODES1, CODES2, SCALES, SMALL };

static int64_t blocks_of(int64_t count) {
    return (count + ADAMW8_BLOCK - 1) / ADAMW8_BLOCK;
}

// All four are there, empty ones as one value: their places are known.
static void describe_adamw8(Run *run) {
    int64_t codes = 0, scales = 0, small = 0;
    for (int64_t i = 0; i < run->parameters.item_count; i++) {
        const int64_t count = run->parameters.items[i].count;
        if (count < SMALL_TENSOR) {
            small += 2 * count;
        } else {
            codes += count;
            scales += 2 * blocks_of(count);
        }
    }
    add_block(run, "moment1_codes", HONE_I8, codes ? codes : 1);
    add_block(run, "moment2_codes", HONE_I8, codes ? codes : 1);
    add_block(run, "moment_scales", HONE_F32, scales ? scales : 1);
    add_block(run, "small_moments", HONE_F32, small ? small : 1);
}

static void update_adamw8(Run *run, int64_t step, float scale) {
    const Parameters *parameters = &run->parameters;
    const OptimizerState *state = &parameters->state;
    uint8_t *codes1 = state->block[CODES1].data, *codes2 = state->block[CODES2].data;
    float *scales = state->block[SCALES].data, *small = state->block[SMALL].data;
    for (int64_t i = 0; i < parameters->item_count; i++) {
        const Trainable *item = &parameters->items[i];
        AdamWArgs args = adamw_args(run, item, item->count, step, scale);
        if (item->count < SMALL_TENSOR) {
            args.m = small;
            args.v = small + item->count;
            small += 2 * item->count;
            hone_adamw(&run->context->kernels, &args);
            continue;
        }
        const int64_t blocks = blocks_of(item->count);
        const AdamW8Args coded = {
            args, codes1, codes2, scales, scales + blocks, &state->maps[0], &state->maps[1]};
        hone_adamw8(&run->context->kernels, &coded);
        codes1 += item->count;
        codes2 += item->count;
        scales += 2 * blocks;
    }
}

// ---- Adafactor ---------------------------------------------------------------------------------

static int64_t rows_of(const Trainable *item) {
    return item->tensor->rank == 2 ? item->tensor->shape[0] : 1;
}

static void describe_adafactor(Run *run) {
    int64_t count = 0;
    for (int64_t i = 0; i < run->parameters.item_count; i++) {
        const Trainable *item = &run->parameters.items[i];
        count += rows_of(item) + item->count / rows_of(item);
    }
    add_block(run, "moment2_means", HONE_F32, count);
}

static void update_adafactor(Run *run, int64_t step, float scale) {
    const Parameters *parameters = &run->parameters;
    float *means = parameters->state.block[0].data;
    for (int64_t i = 0; i < parameters->item_count; i++) {
        const Trainable *item = &parameters->items[i];
        const int64_t R = rows_of(item), C = item->count / R;
        const AdafactorArgs args = {.R = R,
                                    .C = C,
                                    .step = step + 1,
                                    .lr = (float)hone_run_learning_rate(run, step),
                                    .decay = decay_of(run, item),
                                    .scale = scale,
                                    .p = parameters->values + item->offset,
                                    .row = means,
                                    .column = means + R,
                                    .g = parameters->gradient + item->offset};
        hone_adafactor(&run->context->kernels, &args, parameters->state.scratch);
        means += R + C;
    }
}

// ---- SGD ---------------------------------------------------------------------------------------

static void describe_sgd(Run *run) {
    if (run->options.beta1 > 0) add_block(run, "momentum", HONE_F32, run->parameters.count);
}

static void update_sgd(Run *run, int64_t step, float scale) {
    const Parameters *parameters = &run->parameters;
    float *momentum = parameters->state.count ? parameters->state.block[0].data : NULL;
    for (int64_t i = 0, next; i < parameters->item_count; i = next) {
        const Trainable *first = &parameters->items[i];
        SgdArgs args = {.lr = (float)hone_run_learning_rate(run, step),
                        .beta = (float)run->options.beta1,
                        .decay = decay_of(run, first),
                        .scale = scale,
                        .p = parameters->values + first->offset,
                        .m = momentum ? momentum + first->offset : NULL,
                        .g = parameters->gradient + first->offset};
        next = alike(parameters, i, &args.count);
        hone_sgd(&run->context->kernels, &args);
    }
}

// ---- Muon --------------------------------------------------------------------------------------

// Matrices inside the layers; embeddings, the head, gains and biases have AdamW.
static bool is_hidden_matrix(const Trainable *item) {
    return item->tensor->rank == 2 && item->slot->layer >= 0;
}

static int64_t hidden_values(const Run *run) {
    int64_t count = 0;
    for (int64_t i = 0; i < run->parameters.item_count; i++)
        if (is_hidden_matrix(&run->parameters.items[i])) count += run->parameters.items[i].count;
    return count;
}

// All three are there, empty ones as one value: their places are known.
static void describe_muon(Run *run) {
    const int64_t hidden = hidden_values(run), others = run->parameters.count - hidden;
    add_block(run, "momentum", HONE_F32, hidden ? hidden : 1);
    add_block(run, "moment1", HONE_F32, others ? others : 1);
    add_block(run, "moment2", HONE_F32, others ? others : 1);
}

static void update_muon(Run *run, int64_t step, float scale) {
    const Parameters *parameters = &run->parameters;
    const KernelContext *kc = &run->context->kernels;
    float *momentum = parameters->state.block[0].data, *moment1 = parameters->state.block[1].data,
          *moment2 = parameters->state.block[2].data;
    for (int64_t i = 0; i < parameters->item_count; i++) {
        const Trainable *item = &parameters->items[i];
        if (!is_hidden_matrix(item)) {
            AdamWArgs args = adamw_args(run, item, item->count, step, scale);
            args.m = moment1;
            args.v = moment2;
            hone_adamw(kc, &args);
            moment1 += item->count;
            moment2 += item->count;
            continue;
        }
        const MuonArgs args = {.R = item->tensor->shape[0],
                               .C = item->tensor->shape[1],
                               .lr = (float)hone_run_learning_rate(run, step),
                               .beta = (float)run->options.momentum,
                               .decay = decay_of(run, item),
                               .scale = scale,
                               .p = parameters->values + item->offset,
                               .m = momentum,
                               .g = parameters->gradient + item->offset};
        hone_muon(kc, &args, parameters->state.scratch);
        momentum += item->count;
    }
}

static size_t muon_scratch(const Run *run, const Trainable *item) {
    const int64_t *shape = item->tensor->shape;
    return is_hidden_matrix(item) ? hone_muon_scratch(&run->context->kernels, shape[0], shape[1])
                                  : 0;
}

static size_t adafactor_scratch(const Run *run, const Trainable *item) {
    (void)run;
    return hone_adafactor_scratch(rows_of(item), item->count / rows_of(item));
}

// ---- all ---------------------------------------------------------------------------------------

static const Optimizer optimizers[] = {
    // by HoneOptimizer
    {describe_adamw, update_adamw, NULL},
    {describe_adamw8, update_adamw8, NULL},
    {describe_adafactor, update_adafactor, adafactor_scratch},
    {describe_sgd, update_sgd, NULL},
    {describe_muon, update_muon, muon_scratch},
};

void hone_optimizer_describe(Run *run) {
    run->parameters.state = (OptimizerState){0};
    optimizers[run->options.optimizer].describe(run);
}

size_t hone_optimizer_scratch_bytes(const Run *run) {
    size_t most = 0;
    const Optimizer *optimizer = &optimizers[run->options.optimizer];
    if (!optimizer->scratch) return 0;
    for (int64_t i = 0; i < run->parameters.item_count; i++) {
        const size_t bytes = optimizer->scratch(run, &run->parameters.items[i]);
        if (bytes > most) most = bytes;
    }
    return most;
}

hone_status hone_optimizer_allocate(Run *run) {
    OptimizerState *state = &run->parameters.state;
    hone_optimizer_describe(run);
    for (int i = 0; i < state->count; i++) {
        StateBlock *block = &state->block[i];
        const size_t bytes = hone_dtype_bytes(block->dtype, block->count);
        block->data = hone_calloc(bytes, 1);
        if (!block->data) return hone_fail_memory(run->err, bytes, block->name);
    }
    const size_t scratch = hone_optimizer_scratch_bytes(run);
    if (scratch) state->scratch = hone_alloc(scratch);
    if (scratch && !state->scratch)
        return hone_fail_memory(run->err, scratch, "the optimiser's scratch");
    if (run->options.optimizer != HONE_ADAMW8BIT) return HONE_OK;
    state->maps = hone_alloc(2 * sizeof *state->maps);
    if (!state->maps) return hone_fail_memory(run->err, 2 * sizeof *state->maps, "code tables");
    hone_adamw8_map(true, &state->maps[0]);
    hone_adamw8_map(false, &state->maps[1]);
    // A scale of 0 makes every code 0.
    return HONE_OK;
}

void hone_optimizer_free(OptimizerState *state) {
    for (int i = 0; i < state->count; i++) hone_free(state->block[i].data);
    hone_free(state->maps);
    hone_free(state->scratch);
    *state = (OptimizerState){0};
}

void hone_optimizer_update(Run *run, int64_t step, float scale) {
    optimizers[run->options.optimizer].update(run, step, scale);
}
