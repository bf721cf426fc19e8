// SPDX-License-Identifier: Apache-2.0
// The first step's gradient, by the path that training takes, for tests/interop:
//   gradient_tool MODEL DATA OUT [ADAPTER|full] [MICRO-BATCHES] [dpo|orpo BETA]
//       or [MICRO-BATCHES] smooth SHARE, or [MICRO-BATCHES] router WEIGHT, or [MICRO-BATCHES]
//       distill TEACHER TEMPERATURE SHARE, or [MICRO-BATCHES] task classify|embed
// All of DATA is one step. Prints {"loss","grad_norm"} and writes every trained tensor's gradient
// to OUT (safetensors), named as the trained tensor.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"
#include "train/run.h"

static hone_status write_gradients(Run *run, const char *path) {
    const Parameters *parameters = &run->parameters;
    SafeTensorEntry *entries = hone_calloc((size_t)parameters->item_count, sizeof *entries);
    if (!entries) return hone_fail_memory(run->err, 0, "the list of gradients");
    for (int64_t i = 0; i < parameters->item_count; i++) {
        const Trainable *item = &parameters->items[i];
        entries[i] = (SafeTensorEntry){.name = item->name,
                                       .dtype = HONE_F32,
                                       .rank = item->tensor->rank,
                                       .data = parameters->gradient + item->offset};
        memcpy(entries[i].shape, item->tensor->shape, sizeof entries[i].shape);
    }
    hone_status status = hone_safetensors_write(path, entries, parameters->item_count, run->err);
    hone_free(entries);
    return status;
}

static hone_status first_step(Run *run, const char *out) {
    RETURN_IF_ERROR(hone_model_load(run->context, run->options.model, &run->model));
    RETURN_IF_ERROR(hone_run_load_teacher(run));
    RETURN_IF_ERROR(hone_run_read_data(run));
    RETURN_IF_ERROR(hone_run_order(run));
    RETURN_IF_ERROR(run->options.method == HONE_METHOD_FULL ? hone_parameters_full(run)
                                                            : hone_parameters_lora(run));
    run->tape = hone_tape_create(&run->context->kernels, (TapeOptions){.gradients = true});
    if (!run->tape) return hone_fail_memory(run->err, 0, "the tape");
    for (int64_t i = 0; i < run->parameters.item_count; i++)
        run->parameters.items[i].tensor->requires_grad = true;
    RETURN_IF_ERROR(hone_parameters_allocate_state(run));
    StepResult result;
    RETURN_IF_ERROR(hone_run_step(run, 0, &result));
    printf("{\"loss\":%.9g,\"grad_norm\":%.9g}\n", result.loss, result.grad_norm);
    return write_gradients(run, out);
}

static void release(Run *run) {
    hone_tape_free(run->tape);
    hone_parameters_free(&run->parameters);
    hone_data_free(run->data[0]);
    hone_free((void *)run->train);
    hone_free((void *)run->order);
    hone_free(run->steps);
    hone_arena_free(&run->batch_memory);
    hone_model_free(run->model);
    hone_model_free(run->teacher);
}

int main(int argc, char **argv) {
    if (argc < 4 || argc > 10) {
        fprintf(stderr,
                "usage: gradient_tool MODEL DATA OUT [ADAPTER|full] [MICRO-BATCHES] [dpo|orpo BETA]"
                "\n       or [MICRO-BATCHES] smooth SHARE, or [MICRO-BATCHES] router WEIGHT"
                "\n       or [MICRO-BATCHES] distill TEACHER TEMPERATURE SHARE"
                "\n       or [MICRO-BATCHES] task classify|embed\n");
        return 2;
    }
    HoneDataSource source = {argv[2], 1};
    Run run = {0};
    hone_finetune_defaults(&run.options);
    run.options.model = argv[1];
    run.options.data = &source;
    run.options.data_count = 1;
    run.options.eval_split = 0;
    run.options.batch = 1 << 20;
    run.options.shuffle = false;
    run.options.lr = 1e-3;
    if (argc > 4 && strcmp(argv[4], "full") == 0)
        run.options.method = HONE_METHOD_FULL;
    else if (argc > 4)
        run.options.adapter = argv[4];
    if (argc > 5) run.options.accumulate = atoi(argv[5]);
    if (argc > 7 && strcmp(argv[6], "smooth") == 0) {
        run.options.label_smoothing = atof(argv[7]);
    } else if (argc > 7 && strcmp(argv[6], "task") == 0) {
        run.options.examples.task =
            strcmp(argv[7], "classify") == 0 ? HONE_TASK_CLASSIFY : HONE_TASK_PAIRS;
    } else if (argc > 7 && strcmp(argv[6], "router") == 0) {
        run.options.router_loss = atof(argv[7]);
    } else if (argc > 9 && strcmp(argv[6], "distill") == 0) {
        run.options.loss = HONE_LOSS_DISTILL;
        run.options.teacher = argv[7];
        run.options.temperature = atof(argv[8]);
        run.options.teacher_share = atof(argv[9]);
    } else if (argc > 7) {
        run.options.loss = strcmp(argv[6], "dpo") == 0 ? HONE_LOSS_DPO : HONE_LOSS_ORPO;
        run.options.beta = atof(argv[7]);
        run.options.examples.pairs = true;
    }
    HoneContextOptions options = {.threads = 2};
    hone_status status = hone_context_create(&options, &run.context);
    if (status == HONE_OK) {
        run.err = &run.context->error;
        status = first_step(&run, argv[3]);
    }
    if (status != HONE_OK) fprintf(stderr, "gradient_tool: %s\n", hone_context_error(run.context));
    release(&run);
    hone_context_free(run.context);
    return status == HONE_OK ? 0 : 1;
}
