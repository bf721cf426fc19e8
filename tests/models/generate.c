// SPDX-License-Identifier: Apache-2.0
// Decoding with a cache gives what the whole forward pass gives.
#include "tiny.h"

enum { LENGTH = 23, V = 41 };

static void sample_tokens(int32_t token[LENGTH]) {
    RandomStream random = hone_random_stream(3, RANDOM_TEST, 9);
    for (int i = 0; i < LENGTH; i++) token[i] = (int32_t)hone_random_below(&random, V);
}

// logprob[i] = log p(token[i+1] | token[0…i]), by the whole forward pass.
static void whole(Tiny *tiny, Tape *tape, const int32_t *token, float *logprob) {
    TinyBatch batch = {.T = LENGTH};
    for (int i = 0; i < LENGTH; i++) {
        batch.token[i] = token[i];
        batch.position[i] = batch.begin[i] = i;
        batch.end[i] = LENGTH;
        if (i + 1 < LENGTH) tiny_entry(&batch, i, token[i + 1], 0, 0);
    }
    tiny_loss(tiny, tape, &batch, false, logprob);
}

static double log_softmax(const float *logits, int32_t target) {
    double sum = 0;
    for (int v = 0; v < V; v++) sum += exp((double)logits[v]);
    return (double)logits[target] - log(sum);
}

typedef struct Bench {
    Tiny tiny;
    Tape *tape;
    KeyValueCache *cache;
    int32_t token[LENGTH];
    float want[LENGTH];
} Bench;

static void make_bench(Bench *bench, bool tied) {
    ModelConfig config = tiny_config;
    config.tied_head = tied;
    HoneError err = {0};
    tiny_make(&bench->tiny, &config);
    tiny_adapt(&bench->tiny, 2, 0.3f);
    bench->tape = tiny_tape(NULL, (TapeOptions){.gradients = false});
    CHECK_INT(hone_cache_create(bench->tiny.model, LENGTH + 1, &bench->cache, &err), HONE_OK);
    sample_tokens(bench->token);
    whole(&bench->tiny, bench->tape, bench->token, bench->want);
}

static void free_bench(Bench *bench) {
    hone_cache_free(bench->cache);
    hone_tape_free(bench->tape);
    tiny_free(&bench->tiny);
}

// Log-probability of the token after the first `count` of those not yet in the cache.
static double decode(Bench *bench, int64_t count) {
    float logits[V];
    HoneError err = {0};
    const int32_t *token = bench->token + hone_cache_length(bench->cache);
    if (!CHECK_INT(hone_model_decode(bench->tiny.model, bench->tape, bench->cache, token, count,
                                     logits, &err),
                   HONE_OK))
        printf("%s\n", err.message);
    return log_softmax(logits, token[count]);
}

static void steps_equal_the_whole_pass(void) {
    for (int tied = 0; tied < 2; tied++) {
        Bench bench;
        make_bench(&bench, tied != 0);
        for (int i = 0; i + 1 < LENGTH; i++)
            CHECK_NEAR(decode(&bench, 1), bench.want[i], 1e-5, 1e-5);
        CHECK_INT(hone_cache_length(bench.cache), LENGTH - 1);
        free_bench(&bench);
    }
}

static void pieces_equal_the_whole_pass(void) {
    Bench bench;
    make_bench(&bench, true);
    CHECK_NEAR(decode(&bench, 9), bench.want[8], 1e-5, 1e-5);
    CHECK_NEAR(decode(&bench, 5), bench.want[13], 1e-5, 1e-5);
    CHECK_NEAR(decode(&bench, 1), bench.want[14], 1e-5, 1e-5);
    CHECK_NEAR(decode(&bench, 4), bench.want[18], 1e-5, 1e-5);
    free_bench(&bench);
}

static void truncation_forgets(void) {
    Bench bench;
    make_bench(&bench, true);
    HoneError err = {0};
    decode(&bench, 6);
    const int32_t other[] = {1, 2, 3, 4};
    CHECK_INT(hone_model_decode(bench.tiny.model, bench.tape, bench.cache, other, 4, NULL, &err),
              HONE_OK);
    CHECK_INT(hone_cache_length(bench.cache), 10);
    hone_cache_truncate(bench.cache, 6);
    CHECK_INT(hone_cache_length(bench.cache), 6);
    CHECK_NEAR(decode(&bench, 7), bench.want[12], 1e-5, 1e-5);
    hone_cache_truncate(bench.cache, 0);
    CHECK_NEAR(decode(&bench, 1), bench.want[0], 1e-5, 1e-5);
    free_bench(&bench);
}

static void scores_equal_the_whole_pass(void) {
    Bench bench;
    make_bench(&bench, false);
    HoneError err = {0};
    float score[LENGTH];
    Model *model = bench.tiny.model;
    CHECK_INT(hone_model_score(model, bench.tape, bench.cache, bench.token, 8, bench.token[8],
                               score, &err),
              HONE_OK);
    CHECK_CLOSE(score, bench.want, 8, 1e-5, 1e-5);
    // the rest, without a next token: its last place is not written
    score[LENGTH - 9] = 77.0f;
    CHECK_INT(hone_model_score(model, bench.tape, bench.cache, bench.token + 8, LENGTH - 8, -1,
                               score, &err),
              HONE_OK);
    CHECK_CLOSE(score, bench.want + 8, LENGTH - 9, 1e-5, 1e-5);
    CHECK(score[LENGTH - 9] == 77.0f);
    // a single token without a next: only the cache grows
    CHECK_INT(hone_model_score(model, bench.tape, bench.cache, bench.token, 1, -1, score, &err),
              HONE_OK);
    CHECK_INT(hone_cache_length(bench.cache), LENGTH + 1);
    free_bench(&bench);
}

// Two endings laid out once behind a shared beginning, each seeing only itself and the beginning.
static void branches_equal_each_alone(void) {
    Bench bench;
    make_bench(&bench, true);
    HoneError err = {0};
    enum { SHARED = 6, FIRST = 3, SECOND = 4, NEW = FIRST + SECOND, KEYS = SHARED + NEW };
    float want[2][SECOND], got[NEW];
    decode(&bench, SHARED);
    const int32_t *ending[2] = {bench.token + SHARED, bench.token + 12};
    const int32_t count[2] = {FIRST, SECOND};
    int32_t token[NEW], position[NEW], begin[KEYS] = {0}, end[KEYS], row[NEW], target[NEW], at = 0;
    for (int j = 0; j < SHARED; j++) end[j] = NEW;
    for (int b = 0; b < 2; b++) {
        CHECK_INT(hone_model_score(bench.tiny.model, bench.tape, bench.cache, ending[b], count[b],
                                   5, want[b], &err),
                  HONE_OK);
        hone_cache_truncate(bench.cache, SHARED);
        const int32_t last = at + count[b];
        for (int32_t i = 0; i < count[b]; i++, at++) {
            token[at] = ending[b][i];
            position[at] = SHARED + i;
            begin[SHARED + at] = row[at] = at;
            end[SHARED + at] = last;
            target[at] = i + 1 < count[b] ? ending[b][i + 1] : 5;
        }
    }
    const ModelBatch batch = {.tokens = NEW,
                              .token = token,
                              .position = position,
                              .begin = begin,
                              .end = end,
                              .rows = NEW};
    const float weight[NEW] = {0};
    HeadLoss loss = {
        .entries = NEW, .row = row, .target = target, .weight = weight, .logprob = got};
    hone_tape_reset(bench.tape, false);
    Tensor *hidden = hone_model_extend(bench.tiny.model, bench.tape, bench.cache, &batch);
    hone_head_cross_entropy(bench.tape, hone_model_head(bench.tiny.model), hidden, &loss);
    CHECK_INT(hone_tape_status(bench.tape, &err), HONE_OK);
    CHECK_CLOSE(got, want[0], FIRST, 1e-5, 1e-5);
    CHECK_CLOSE(got + FIRST, want[1], SECOND, 1e-5, 1e-5);
    CHECK_INT(hone_cache_length(bench.cache), SHARED);
    CHECK_NEAR(decode(&bench, 1), bench.want[SHARED], 1e-5, 1e-5);
    free_bench(&bench);
}

static void a_full_cache_refuses(void) {
    Bench bench;
    make_bench(&bench, true);
    HoneError err = {0};
    decode(&bench, 20);
    CHECK_INT(
        hone_model_decode(bench.tiny.model, bench.tape, bench.cache, bench.token, 5, NULL, &err),
        HONE_ERROR_ARGUMENT);
    CHECK_CONTAINS(err.message, "5 tokens do not fit behind 20 in a cache of 24");
    CHECK_INT(hone_cache_length(bench.cache), 20);
    hone_error_clear(&err);
    const int32_t outside[] = {3, 41};
    CHECK_INT(hone_model_decode(bench.tiny.model, bench.tape, bench.cache, outside, 2, NULL, &err),
              HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "token 41 at place 1");
    CHECK_INT(hone_cache_length(bench.cache), 20);
    free_bench(&bench);
}

static void check_family(void) {
    RUN(steps_equal_the_whole_pass);
    RUN(pieces_equal_the_whole_pass);
    RUN(truncation_forgets);
    RUN(scores_equal_the_whole_pass);
    RUN(branches_equal_each_alone);
    RUN(a_full_cache_refuses);
}

int main(void) {
    check_family();
    for (int i = 0; i < TINY_DECODERS; i++) {
        tiny_become_decoder(i);
        check_family();
    }
    tiny_become_gpt2();
    check_family();
    return check_report();
}
