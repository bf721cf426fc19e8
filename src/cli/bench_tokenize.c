// SPDX-License-Identifier: Apache-2.0
// hone bench tokenize: one thread, the whole text at once, again and again.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

enum { TURNS = 99 };

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

// Caller frees; NULL after printing what failed.
static char *read_text(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    long size = file && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (size > 0 && (text = malloc((size_t)size))) {
        rewind(file);
        *length = fread(text, 1, (size_t)size, file);
        if (*length == (size_t)size) {
            fclose(file);
            return text;
        }
    }
    fprintf(stderr, "hone bench: %s: cannot be read, or is empty%s%s\n", path, errno ? ": " : "",
            errno ? strerror(errno) : "");
    free(text);
    if (file) fclose(file);
    return NULL;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The first turn, on a tokeniser that has seen no word yet, and the median of all, at least three.
static hone_status measure(HoneTokenizer *tokenizer, const BenchOptions *given, const char *text,
                           size_t length, double speeds[2], int64_t *count, int *turns) {
    double taken[TURNS], begun = seconds_now();
    *turns = 0;
    while (*turns < TURNS && (*turns < 3 || seconds_now() - begun < given->seconds)) {
        int32_t *tokens;
        double start = seconds_now();
        hone_status status = hone_tokenizer_encode(tokenizer, text, length, true, &tokens, count);
        if (status != HONE_OK) return status;
        taken[(*turns)++] = seconds_now() - start;
        hone_free(tokens);
    }
    speeds[0] = (double)length / taken[0] * 1e-6;
    qsort(taken, (size_t)*turns, sizeof *taken, ascending);
    speeds[1] = (double)length / taken[*turns / 2] * 1e-6;
    return HONE_OK;
}

int bench_tokenize(HoneContext *context, const BenchOptions *given) {
    if (!given->model || !given->text) {
        fputs("hone bench: tokenize wants --model (whose tokeniser) and --text FILE\n", stderr);
        return EXIT_USAGE;
    }
    HoneTokenizer *tokenizer = NULL;
    size_t length = 0;
    double speeds[2];
    int64_t count = 0;
    int turns = 0;
    hone_status status = hone_tokenizer_open(context, given->model, &tokenizer);
    if (status != HONE_OK) return report_failure("bench", context, status);
    char *text = read_text(given->text, &length);
    if (text) status = measure(tokenizer, given, text, length, speeds, &count, &turns);
    free(text);
    hone_tokenizer_close(tokenizer);
    if (!text) return EXIT_USAGE;
    if (status != HONE_OK) return report_failure("bench", context, status);
    if (given->common.json)
        printf("{\"bench\":\"tokenize\",\"bytes\":%zu,\"tokens\":%lld,\"first_mb_per_s\":%.2f,"
               "\"mb_per_s\":%.2f,\"turns\":%d}\n",
               length, (long long)count, speeds[0], speeds[1], turns);
    else
        printf("tokenize, one thread\n  %.2f MB to %lld tokens\n  first     %8.1f MB/s\n"
               "  median    %8.1f MB/s of %d turns\n",
               (double)length * 1e-6, (long long)count, speeds[0], speeds[1], turns);
    return EXIT_DONE;
}
