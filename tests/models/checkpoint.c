// SPDX-License-Identifier: Apache-2.0
// Checkpointed layers: whichever they are, not a bit of the loss or of any gradient changes.
#include "tiny.h"

enum { LAYERS = 3, CHOICES = 1 << LAYERS };

typedef struct Outcome {
    double loss;
    float *gradients; // caller frees
    int64_t count;
    size_t kept, peak; // bytes after forward and at most
} Outcome;

static void choose_layers(Tiny *tiny, int choice) {
    for (int i = 0; i < LAYERS; i++) hone_model_checkpoint(tiny->model, i, choice >> i & 1);
}

static Outcome run(Tiny *tiny, bool chosen, ThreadPool *pool, bool dry) {
    TinyBatch batch = {0};
    tiny_append_example(&batch, 1, 17, 2, 41);
    tiny_append_example(&batch, 2, 21, 4, 41);
    tiny_append_example(&batch, 3, 5, 0, 41);
    Tape *tape = tiny_tape(pool, (TapeOptions){.gradients = true, .dry = dry});
    Outcome outcome = {0};
    const ModelBatch model_batch = tiny_model_batch(&batch, chosen);
    CHECK(hone_model_forward(tiny->model, tape, &model_batch) != NULL);
    outcome.kept = hone_tape_used(tape);
    tiny_zero_gradients(tiny);
    outcome.loss = tiny_loss(tiny, tape, &batch, chosen, NULL);
    CHECK_INT(hone_tape_used(tape), 0);
    outcome.gradients = tiny_gradients(tiny, &outcome.count);
    outcome.peak = hone_tape_peak(tape);
    hone_tape_free(tape);
    return outcome;
}

static void make(Tiny *tiny, bool tied, bool full) {
    ModelConfig config = tiny_config;
    config.layers = LAYERS;
    config.tied_head = tied;
    tiny_make(tiny, &config);
    if (full) tiny_train_all(tiny);
    if (!full || !tied) tiny_adapt(tiny, 3, 0.4f);
    tiny_drop(tiny);
}

// Every subset of the layers against none, on one thread and on three; and the dry tape.
static void check_choices(Tiny *tiny, bool chosen) {
    ThreadPool *pool = hone_pool_create(3);
    Outcome plain = run(tiny, chosen, NULL, false);
    size_t kept[CHOICES] = {plain.kept};
    for (int choice = 1; choice < CHOICES; choice++) {
        choose_layers(tiny, choice);
        for (int threads = 0; threads < 2; threads++) {
            Outcome again = run(tiny, chosen, threads ? pool : NULL, false);
            CHECK(memcmp(&again.loss, &plain.loss, sizeof plain.loss) == 0);
            CHECK(again.count == plain.count && memcmp(again.gradients, plain.gradients,
                                                       (size_t)plain.count * sizeof(float)) == 0);
            Outcome dry = run(tiny, chosen, threads ? pool : NULL, true);
            CHECK_INT(dry.peak, again.peak);
            CHECK_INT(dry.kept, again.kept);
            kept[choice] = again.kept;
            hone_free(again.gradients);
            hone_free(dry.gradients);
        }
        for (int i = 0; i < LAYERS; i++)
            if (choice >> i & 1) CHECK(kept[choice] < kept[choice & ~(1 << i)]);
    }
    choose_layers(tiny, 0);
    hone_free(plain.gradients);
    hone_pool_free(pool);
}

static void full_training(void) {
    for (int tied = 0; tied < 2; tied++) {
        Tiny tiny;
        make(&tiny, tied, true);
        check_choices(&tiny, tied != 0);
        tiny_free(&tiny);
    }
}

static void adapters(void) {
    for (int chosen = 0; chosen < 2; chosen++) {
        Tiny tiny;
        make(&tiny, chosen, false);
        check_choices(&tiny, chosen != 0);
        tiny_free(&tiny);
    }
}

// What is kept with all layers checkpointed: their inputs, the last output, the normed one and its
// statistics.
static void only_the_inputs_of_layers_are_kept(void) {
    Tiny tiny;
    make(&tiny, true, false);
    choose_layers(&tiny, CHOICES - 1);
    Outcome outcome = run(&tiny, false, NULL, false);
    const size_t T = 43, C = (size_t)tiny_config.channels, unit = 64;
    const size_t values = strcmp(tiny_config.architecture, "gpt2") == 0 ? 2 : 1; // of the norm
    const size_t rows = (T * C * sizeof(float) + unit - 1) / unit * unit;
    CHECK_INT(outcome.kept,
              (LAYERS + 2) * rows + (T * values * sizeof(float) + unit - 1) / unit * unit);
    hone_free(outcome.gradients);
    tiny_free(&tiny);
}

// A layer below the lowest trained parameter is not run again: it keeps nothing either way.
static void frozen_layers_keep_nothing(void) {
    Tiny tiny;
    make(&tiny, true, false);
    for (int i = 0; i < tiny.trained_count; i++)
        if (strncmp(tiny.trained_name[i], "blk.2.", 6) != 0) tiny.trained[i]->requires_grad = false;
    Outcome plain = run(&tiny, true, NULL, false);
    choose_layers(&tiny, 3);
    Outcome again = run(&tiny, true, NULL, false);
    CHECK_INT(again.kept, plain.kept);
    CHECK_INT(again.peak, plain.peak);
    CHECK(memcmp(again.gradients, plain.gradients, (size_t)plain.count * sizeof(float)) == 0);
    hone_free(plain.gradients);
    hone_free(again.gradients);
    tiny_free(&tiny);
}

static void check_family(void) {
    RUN(full_training);
    RUN(adapters);
    RUN(only_the_inputs_of_layers_are_kept);
    RUN(frozen_layers_keep_nothing);
}

int main(void) {
    check_family();
    for (int i = 0; i < TINY_DECODERS; i++) {
        tiny_become_decoder(i);
        RUN(full_training);
        RUN(adapters);
    }
    tiny_become_gpt2();
    check_family();
    tiny_become_bert();
    RUN(full_training);
    RUN(adapters);
    RUN(frozen_layers_keep_nothing);
    return check_report();
}
