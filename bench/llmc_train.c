// SPDX-License-Identifier: Apache-2.0
// Steps of llm.c's GPT-2 on given tokens, for bench/gpt2.py. Built in a checkout of llm.c, whose
// train_gpt2.c it includes as that project's own test does.
//   usage: llmc_train MODEL.bin TOKENS BATCH LENGTH RATE
// TOKENS: for each step BATCH rows of LENGTH + 1 numbers of 32 bits. Prints a line a step: its loss
// before the update and its seconds.
#define TESTING
#include "train_gpt2.c"

static int read_rows(FILE *file, int *tokens, int *inputs, int *targets, int B, int T) {
    if (fread(tokens, sizeof(int), (size_t)B * (T + 1), file) != (size_t)B * (T + 1)) return 0;
    for (int b = 0; b < B; b++)
        for (int t = 0; t < T; t++) {
            inputs[b * T + t] = tokens[b * (T + 1) + t];
            targets[b * T + t] = tokens[b * (T + 1) + t + 1];
        }
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    const int B = atoi(argv[3]), T = atoi(argv[4]);
    GPT2 model;
    gpt2_build_from_checkpoint(&model, argv[1]);
    FILE *file = fopenCheck(argv[2], "rb");
    int *tokens = mallocCheck((size_t)B * (T + 1) * sizeof(int));
    int *inputs = mallocCheck((size_t)B * T * sizeof(int));
    int *targets = mallocCheck((size_t)B * T * sizeof(int));
    for (int step = 1; read_rows(file, tokens, inputs, targets, B, T); step++) {
        struct timespec start, end;
        clock_gettime(CLOCK_MONOTONIC, &start);
        gpt2_forward(&model, inputs, targets, B, T);
        gpt2_zero_grad(&model);
        gpt2_backward(&model);
        gpt2_update(&model, (float)atof(argv[5]), 0.9f, 0.999f, 1e-8f, 0.0f, step);
        clock_gettime(CLOCK_MONOTONIC, &end);
        printf("step %.6f %.6f\n", model.mean_loss,
               (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) * 1e-9);
    }
    gpt2_free(&model);
    return 0;
}
