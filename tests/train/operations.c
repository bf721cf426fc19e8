// SPDX-License-Identifier: Apache-2.0
// The count of useful work against one made by hand, on SmolLM2-135M's sizes.
#include "train/run.h"

#include "check.h"

enum { BATCH = 4, LENGTH = 256, RANK = 16 };

// A step's, a token: of the loss of tokens; of another one what it takes beside.
static double counted(HoneMethod method, HoneLoss loss) {
    HoneContext *context = NULL;
    HoneModel *model = NULL;
    const HoneLlamaShape smollm2 = {30, 576, 9, 3, 1536, 49152};
    CHECK_INT(hone_context_create(NULL, &context), HONE_OK);
    CHECK_INT(hone_model_random(context, &smollm2, HONE_Q4_1, 0, &model), HONE_OK);
    if (!model) return 0;
    Run *run = hone_calloc(1, sizeof *run);
    run->context = context;
    run->err = &context->error;
    run->model = model;
    hone_finetune_defaults(&run->options);
    run->options.method = method;
    run->options.rank = RANK;
    run->options.loss = loss;
    if (loss == HONE_LOSS_DISTILL)
        CHECK_INT(hone_model_random(context, &smollm2, HONE_Q4_1, 1, &run->teacher), HONE_OK);
    CHECK_INT(hone_model_parameters(model), 134515008);
    if (method == HONE_METHOD_FULL)
        CHECK_INT(hone_parameters_full(run), HONE_OK);
    else
        CHECK_INT(hone_parameters_lora(run), HONE_OK);
    CHECK_INT(run->parameters.count, method == HONE_METHOD_FULL ? 134515008 : 4884480);
    static int32_t token[BATCH][LENGTH];
    static uint8_t target[LENGTH];
    Example example[BATCH];
    memset(target + 1, 1, LENGTH - 1);
    run->order = hone_calloc(BATCH, sizeof *run->order);
    for (int i = 0; i < BATCH; i++) {
        token[i][0] = i; // none shares its beginning
        example[i] =
            (Example){.token = token[i], .target = target, .count = LENGTH, .targets = LENGTH - 1};
        run->order[i] = &example[i];
    }
    run->order_count = BATCH;
    StepRange step = {.count = BATCH, .tokens = BATCH * LENGTH, .targets = BATCH * (LENGTH - 1)};
    CHECK_INT(hone_step_count(run, &step), HONE_OK);
    CHECK_INT(step.computed, BATCH * (LENGTH - 1));
    CHECK_INT(step.rows, BATCH * (LENGTH - 1));
    double operations = loss == HONE_LOSS_TOKENS ? hone_step_operations(run, &step)
                                                 : hone_reference_operations(run, &step);
    hone_run_free(run);
    hone_context_free(context);
    return operations / (double)step.tokens;
}

// A layer: q and o 576 × 576, k and v 192 × 576, gate, up and down 1536 × 576; an adapter of rank
// 16 has 16 · (in + out). 255 of 256 tokens are computed and have a target after them; each of them
// sees 128 on average.
#define SHARE (255.0 / 256)
static const double linear = 30.0 * (2 * 331776 + 2 * 110592 + 3 * 884736) * SHARE;
static const double adapters = 30.0 * 16 * (2 * 1152 + 2 * 768 + 3 * 2112) * SHARE;
static const double head = 49152.0 * 576 * SHARE;
static const double attention = 14.0 * 64 * 9 * 30 * 128 * SHARE;

static void lora_step(void) {
    double got = counted(HONE_METHOD_LORA, HONE_LOSS_TOKENS);
    CHECK_NEAR(got, 4 * linear + 6 * adapters + 4 * head + attention, 1e-12, 0);
    CHECK_NEAR(got, 0.596e9, 1e-3, 0);
}

static void full_step(void) {
    CHECK_NEAR(counted(HONE_METHOD_FULL, HONE_LOSS_TOKENS), 6 * linear + 6 * head + attention,
               1e-12, 0);
}

// The reference is the model without its adapter; its logits and the model's own are made once more
// than a gradient needs.
static void reference_passes(void) {
    const double forward = 2 * linear + 2 * head + attention * 4 / 14;
    CHECK_NEAR(counted(HONE_METHOD_LORA, HONE_LOSS_DPO), forward + 2 * head, 1e-12, 0);
    CHECK_NEAR(counted(HONE_METHOD_LORA, HONE_LOSS_ORPO), 2 * head, 1e-12, 0);
    CHECK_NEAR(counted(HONE_METHOD_LORA, HONE_LOSS_DISTILL), forward, 1e-12, 0);
}

int main(void) {
    RUN(lora_step);
    RUN(full_step);
    RUN(reference_passes);
    return check_report();
}
