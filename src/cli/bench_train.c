// SPDX-License-Identifier: Apache-2.0
// hone bench train
#include <string.h>

#include "bench.h"

static const struct {
    const char *name;
    HoneLlamaShape shape;
} shapes[] = {
    {"15M", {6, 288, 6, 6, 768, 32000}},     // stories15M
    {"60M", {14, 512, 8, 4, 1536, 32000}},   //
    {"135M", {30, 576, 9, 3, 1536, 49152}},  // SmolLM2-135M
    {"360M", {32, 960, 15, 5, 2560, 49152}}, // SmolLM2-360M
    {"1B", {16, 2048, 32, 8, 8192, 128256}}, // Llama 3.2 1B
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static bool shape_of(const char *text, HoneLlamaShape *shape) {
    for (int i = 0; i < SHAPES; i++)
        if (strcmp(shapes[i].name, text) == 0) {
            *shape = shapes[i].shape;
            return true;
        }
    int64_t s[6];
    if (read_sizes(text, s, 6) == 6) {
        *shape = (HoneLlamaShape){s[0], s[1], s[2], s[3], s[4], s[5]};
        return true;
    }
    fprintf(stderr,
            "hone bench: --shape is \"%s\", want 15M, 60M, 135M, 360M, 1B, or "
            "layers,C,heads,kv_heads,F,V as whole numbers: 30,576,9,3,1536,49152\n",
            text);
    return false;
}

static void print_json(const HoneContext *context, const BenchOptions *given, const char *model,
                       const HoneTrainingSpeed *speed) {
    const bool lora = strcmp(given->method, "lora") == 0;
    const double flops = speed->operations / speed->step_seconds;
    printf("{\"bench\":\"train\",\"model\":");
    print_json_text(stdout, model);
    printf(",\"type\":");
    print_json_text(stdout, given->model ? NULL : given->type);
    printf(",\"method\":\"%s\",\"optimizer\":\"%s\",\"rank\":%lld,\"batch\":%lld,\"length\":%lld,"
           "\"accumulate\":%lld,"
           "\"parameters\":%lld,\"trainable\":%lld,\"tokens\":%lld,\"targets\":%lld,",
           given->method, given->optimizer, lora ? (long long)given->rank : 0,
           (long long)given->batch, (long long)given->length, (long long)given->accumulate,
           (long long)speed->parameters, (long long)speed->trainable, (long long)speed->tokens,
           (long long)speed->targets);
    printf("\"tokens_per_s\":%.8g,\"gflop_per_token\":%.9g,\"gflops\":%.6g,\"peak_gflops\":%.6g,"
           "\"share\":%.6g,\"step_seconds\":%.9f,\"step_seconds_p10\":%.9f,",
           (double)speed->tokens / speed->step_seconds,
           1e-9 * speed->operations / (double)speed->tokens, 1e-9 * flops, 1e-9 * speed->peak_flops,
           flops / speed->peak_flops, speed->step_seconds, speed->step_seconds_p10);
    printf("\"forward_seconds\":%.9f,\"head_seconds\":%.9f,\"backward_seconds\":%.9f,"
           "\"update_seconds\":%.9f,\"rss_bytes\":%lld,\"steps\":%lld,\"threads\":%d,"
           "\"isa\":\"%s\"}\n",
           speed->forward_seconds, speed->head_seconds, speed->backward_seconds,
           speed->update_seconds, (long long)speed->rss_bytes, (long long)speed->steps,
           hone_context_threads(context), hone_context_isa(context));
}

static void print_lines(const HoneContext *context, const BenchOptions *given, const char *model,
                        const HoneTrainingSpeed *speed) {
    const double flops = speed->operations / speed->step_seconds;
    char rss[32], method[32] = "every weight trained";
    if (strcmp(given->method, "lora") == 0)
        snprintf(method, sizeof method, "LoRA of rank %lld", (long long)given->rank);
    printf("train %s: %lld parameters, %s, %lld x %lld tokens a step\n", model,
           (long long)speed->parameters, method, (long long)given->batch, (long long)given->length);
    printf("  %.1f tokens/s, %.4g s a step (a tenth took less than %.4g; %lld steps), %s at most\n",
           (double)speed->tokens / speed->step_seconds, speed->step_seconds,
           speed->step_seconds_p10, (long long)speed->steps, size_text(speed->rss_bytes, rss));
    printf("  %.1f GF/s of useful work, %.4g GF a token, %.1f %% of the peak of %.1f GF/s "
           "(%d threads, %s)\n",
           flops * 1e-9, 1e-9 * speed->operations / (double)speed->tokens,
           100 * flops / speed->peak_flops, speed->peak_flops * 1e-9, hone_context_threads(context),
           hone_context_isa(context));
    printf("  forward %.4g s, head and loss %.4g, backward %.4g, update %.4g\n",
           speed->forward_seconds, speed->head_seconds, speed->backward_seconds,
           speed->update_seconds);
}

int bench_train(HoneContext *context, const BenchOptions *given) {
    static const char *const methods[] = {"lora", "full"};
    const char *shape = given->shape ? given->shape : "135M";
    HoneTrainingOptions options = {.model = given->model,
                                   .type = given->type,
                                   .rank = given->rank,
                                   .batch = given->batch,
                                   .length = given->length,
                                   .accumulate = given->accumulate,
                                   .seed = (uint64_t)given->common.seed};
    int method = choose("bench", "method", given->method, methods, 2);
    if (method < 0 || !parse_optimizer("bench", given->optimizer, &options.optimizer))
        return EXIT_USAGE;
    static const char *const precisions[] = {"f32", "bf16"};
    int precision = choose("bench", "precision", given->precision, precisions, 2);
    if (precision < 0) return EXIT_USAGE;
    options.bf16 = precision == 1;
    options.method = method ? HONE_METHOD_FULL : HONE_METHOD_LORA;
    if (given->model && given->shape) {
        fprintf(stderr, "hone bench: give --model or --shape, not both\n");
        return EXIT_USAGE;
    }
    if (!given->model && !shape_of(shape, &options.shape)) return EXIT_USAGE;
    HoneTrainingSpeed speed;
    hone_status status = hone_bench_training(context, &options, given->seconds, &speed);
    if (status != HONE_OK) return report_failure("bench", context, status);
    const char *model = given->model ? given->model : shape;
    if (given->common.json)
        print_json(context, given, model, &speed);
    else
        print_lines(context, given, model, &speed);
    return EXIT_DONE;
}
