// SPDX-License-Identifier: Apache-2.0
// hone bench
#include <stdlib.h>
#include <string.h>

#include "bench.h"

int read_sizes(const char *text, int64_t *sizes, int most) {
    int count = 0;
    while (count < most) {
        char *end;
        long long value = strtoll(text, &end, 10);
        if (end == text || value < 0 || value > INT32_MAX) return -1;
        sizes[count++] = value;
        if (*end == '\0') return count;
        if (*end != ',') return -1;
        text = end + 1;
    }
    return -1;
}

static bool sizes_of(const BenchOptions *given, const char *usual, const char *names,
                     int64_t *sizes, int count) {
    const char *shape = given->shape ? given->shape : usual;
    if (read_sizes(shape, sizes, count) == count) return true;
    fprintf(stderr, "hone bench: --shape is \"%s\", want %s as whole numbers: %s\n", shape, names,
            usual);
    return false;
}

static void print_speed(const BenchOptions *given, const char *what, const HoneSpeed *speed) {
    double peak = speed->peak_flops, forward = speed->forward_flops;
    double backward = speed->backward_flops;
    if (given->common.json) {
        printf("{\"bench\":\"%s\",\"fwd_gflops\":%.2f,\"bwd_gflops\":%.2f,\"peak_gflops\":%.2f,"
               "\"fwd_fraction\":%.4f,\"bwd_fraction\":%.4f,\"fwd_seconds\":%.9f,"
               "\"bwd_seconds\":%.9f,\"fwd_gbytes_per_s\":%.2f,\"turns\":%lld}\n",
               what, forward * 1e-9, backward * 1e-9, peak * 1e-9, forward / peak, backward / peak,
               speed->forward_seconds, speed->backward_seconds, speed->forward_bytes * 1e-9,
               (long long)speed->turns);
        return;
    }
    printf("%s\n  forward   %8.1f GF/s  %5.1f %% of the peak  %10.1f us\n", what, forward * 1e-9,
           100 * forward / peak, speed->forward_seconds * 1e6);
    if (backward > 0)
        printf("  backward  %8.1f GF/s  %5.1f %% of the peak  %10.1f us\n", backward * 1e-9,
               100 * backward / peak, speed->backward_seconds * 1e6);
    printf("  peak      %8.1f GF/s of multiply-adds on registers (medians of %lld turns)\n",
           peak * 1e-9, (long long)speed->turns);
}

static int bench_attention(HoneContext *context, const BenchOptions *given) {
    int64_t s[6];
    if (!sizes_of(given, "1,8,8,1024,1024,64",
                  "B,H,K,Nq,Nk,D (batch, heads, key/value heads, queries, keys, head size)", s, 6))
        return EXIT_USAGE;
    HoneAttentionOptions options = {.batch = s[0],
                                    .heads = (int)s[1],
                                    .kv_heads = (int)s[2],
                                    .queries = s[3],
                                    .keys = s[4],
                                    .head_size = (int)s[5],
                                    .window = given->window,
                                    .dropout = (float)given->dropout};
    if (given->causal) options.causal = HONE_CAUSAL_BOTTOM_RIGHT;
    if (given->mask) {
        bool gradient = strcmp(given->mask, "gradient") == 0;
        options.mask = (HoneMask){.type = HONE_MASK_FLOAT,
                                  .head = s[3] * s[4],
                                  .query = s[4],
                                  .key = 1,
                                  .elements = s[1] * s[3] * s[4],
                                  .gradient = gradient};
        if (strcmp(given->mask, "boolean") == 0) options.mask.type = HONE_MASK_BOOLEAN;
    }
    if (strcmp(given->dtype, "bf16") == 0) options.element = HONE_ELEMENT_BF16;
    HoneSpeed speed;
    hone_status status = hone_bench_attention(context, &options, given->seconds, &speed);
    if (status != HONE_OK) return report_failure("bench", context, status);
    print_speed(given, "attention", &speed);
    return EXIT_DONE;
}

static int bench_layer(HoneContext *context, const BenchOptions *given) {
    int64_t s[4];
    if (!sizes_of(given, "32,10,64,64", "B,N,C,U (batch, length, channels, units)", s, 4))
        return EXIT_USAGE;
    const HoneSelfAttentionOptions options = {
        .batch = s[0], .length = s[1], .channels = s[2], .units = (int)s[3]};
    HoneSpeed speed;
    hone_status status = hone_bench_self_attention(context, &options, given->seconds, &speed);
    if (status != HONE_OK) return report_failure("bench", context, status);
    print_speed(given, "layer", &speed);
    return EXIT_DONE;
}

static int bench_matmul(HoneContext *context, const BenchOptions *given) {
    int64_t s[3];
    if (!sizes_of(given, "1024,1536,576", "M,N,K", s, 3)) return EXIT_USAGE;
    HoneSpeed speed;
    hone_status status =
        hone_bench_matmul(context, s[0], s[1], s[2], given->dtype, given->seconds, &speed);
    if (status != HONE_OK) return report_failure("bench", context, status);
    print_speed(given, "matmul", &speed);
    return EXIT_DONE;
}

static bool known_words(const BenchOptions *given) {
    static const char *const masks[] = {"float", "boolean", "gradient"};
    bool fine = !given->mask;
    for (int i = 0; i < 3 && given->mask; i++) fine = fine || strcmp(given->mask, masks[i]) == 0;
    if (!fine)
        fprintf(stderr, "hone bench: --mask is \"%s\", want float, boolean or gradient\n",
                given->mask);
    if (strcmp(given->what, "attention") == 0 && strcmp(given->dtype, "f32") != 0 &&
        strcmp(given->dtype, "bf16") != 0) {
        fprintf(stderr, "hone bench: --dtype is \"%s\", want f32 or bf16\n", given->dtype);
        fine = false;
    }
    return fine;
}

// Options of one benchmark do nothing for another, and some nothing beside others.
static void note_unused(const Command *command, const BenchOptions *given, int argc, char **argv) {
    const bool tokenize = strcmp(given->what, "tokenize") == 0;
    if (!tokenize) note_without_effect(command, argc, argv, "text", "but for tokenize");
    if (tokenize)
        note_without_effect(command, argc, argv, "shape causal window mask dropout dtype",
                            "for tokenize");
    if (strcmp(given->what, "train") != 0 && !tokenize)
        note_without_effect(command, argc, argv, "model", "but for train and tokenize");
    if (strcmp(given->what, "train") != 0)
        note_without_effect(command, argc, argv,
                            "type method optimizer precision rank batch length accumulate",
                            "but for train");
    if (strcmp(given->what, "layer") == 0)
        note_without_effect(command, argc, argv, "causal window mask dropout dtype", "for layer");
    if (strcmp(given->what, "matmul") == 0)
        note_without_effect(command, argc, argv, "causal window mask dropout", "for matmul");
    if (strcmp(given->what, "train") != 0) return;
    note_without_effect(command, argc, argv, "causal window mask dropout dtype", "for train");
    if (given->model) note_without_effect(command, argc, argv, "type", "beside --model");
    if (strcmp(given->method, "full") == 0)
        note_without_effect(command, argc, argv, "rank", "beside --method full");
}

static int run_benches(HoneContext *context, const BenchOptions *given) {
    static const struct {
        const char *name;
        int (*run)(HoneContext *context, const BenchOptions *given);
        bool in_all;
    } benches[] = {{"attention", bench_attention, true},
                   {"layer", bench_layer, true},
                   {"matmul", bench_matmul, true},
                   {"tokenize", bench_tokenize, false}, // a vocabulary and a text
                   {"train", bench_train, false}};      // a model and half a minute
    const bool all = strcmp(given->what, "all") == 0;
    int status = EXIT_DONE;
    for (int i = 0; i < 5 && status == EXIT_DONE; i++)
        if (all ? benches[i].in_all : strcmp(given->what, benches[i].name) == 0)
            status = benches[i].run(context, given);
    return status;
}

static bool known_benchmark(const Command *command, const BenchOptions *given) {
    static const char *const names[] = {"attention", "layer", "matmul", "tokenize", "train", "all"};
    for (int i = 0; i < 6 && given->what; i++)
        if (strcmp(given->what, names[i]) == 0) return true;
    fprintf(stderr, "hone bench: %s%s%s (usage: %s)\n", given->what ? "no benchmark \"" : "of what",
            given->what ? given->what : "?", given->what ? "\"" : "", command->usage);
    return false;
}

int command_bench(int argc, char **argv) {
    BenchOptions given = {.dtype = "f32",
                          .seconds = 2,
                          .type = "q4_1",
                          .method = "lora",
                          .optimizer = "adamw",
                          .precision = "f32",
                          .batch = 4,
                          .length = 256,
                          .rank = 16,
                          .accumulate = 1};
    Option options[24] = {
        {"shape", OPTION_TEXT, &given.shape, "N,N,…",
         "attention: B,H,K,Nq,Nk,D (1,8,8,1024,1024,64); layer: B,N,C,U (32,10,64,64); matmul: "
         "M,N,K (1024,1536,576); train: random weights of layers,C,heads,kv_heads,F,V or 15M, "
         "60M, 135M, 360M, 1B (135M)"},
        {"causal", OPTION_FLAG, &given.causal, NULL,
         "attention: a query sees no later key; the last sees the last"},
        {"window", OPTION_COUNT, &given.window, "W", "attention: the last W keys only"},
        {"mask", OPTION_TEXT, &given.mask, "float|boolean|gradient",
         "attention: add a mask of zeros of this kind"},
        {"dropout", OPTION_REAL, &given.dropout, "X", "attention: of the weights (0)"},
        {"dtype", OPTION_TEXT, &given.dtype, "T", "f32, bf16; matmul: a weight type, q4_1 …"},
        {"seconds", OPTION_RATE, &given.seconds, "S", "of each measurement (2)"},
        {"model", OPTION_TEXT, &given.model, "FILE",
         "train: a model in place of a shape; tokenize: whose tokeniser"},
        {"text", OPTION_TEXT, &given.text, "FILE", "tokenize: the text"},
        {"type", OPTION_TEXT, &given.type, "T", "train: of random weights, as stored (q4_1)"},
        {"method", OPTION_TEXT, &given.method, "lora|full", "train: what is trained (lora)"},
        {"optimizer", OPTION_TEXT, &given.optimizer, "adamw|adamw8bit|adafactor|sgd",
         "train: what makes a step of a gradient (adamw)"},
        {"precision", OPTION_TEXT, &given.precision, "f32|bf16", "train: of matrix products (f32)"},
        {"rank", OPTION_COUNT, &given.rank, "R", "train: of adapters on all linear layers (16)"},
        {"batch", OPTION_COUNT, &given.batch, "N", "train: examples a step (4)"},
        {"length", OPTION_COUNT, &given.length, "N", "train: random tokens an example (256)"},
        {"accumulate", OPTION_COUNT, &given.accumulate, "K",
         "train: micro-batches that a step is cut into (1)"},
    };
    int own = 0;
    while (options[own].name) own++;
    Command command = {.name = "bench",
                       .summary = "Speeds beside the processor's own peak, measured in turns.",
                       .usage = "hone bench attention|layer|matmul|tokenize|train [--shape N,…] "
                                "[--json], or all of the "
                                "first three",
                       .options = options,
                       .option_count = own + common_options(&given.common, options + own),
                       .positional = "attention|layer|matmul|tokenize|train|all",
                       .position = &given.what};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!known_benchmark(&command, &given)) return EXIT_USAGE;
    if (given.shape && strcmp(given.what, "all") == 0) {
        fprintf(stderr, "hone bench: --shape belongs to one benchmark, not to all\n");
        return EXIT_USAGE;
    }
    if (!known_words(&given)) return EXIT_USAGE;
    HoneContext *context = open_context("bench", &given.common, &status);
    if (!context) return status;
    note_unused(&command, &given, argc, argv);
    status = run_benches(context, &given);
    hone_context_free(context);
    return status;
}
