// SPDX-License-Identifier: Apache-2.0
// Models as a whole: its parameters, what it keeps for backward, and what must not change
// a result: packing, choosing rows, making activations again, threads.
#include "tiny.h"

static void sample_batch(TinyBatch *batch) {
    *batch = (TinyBatch){0};
    tiny_append_example(batch, 1, 7, 2, 41);
    tiny_append_example(batch, 2, 11, 4, 41);
    tiny_append_example(batch, 3, 5, 0, 41);
}

// Loss, log-probabilities and gradients of one run; caller frees gradients.
typedef struct Outcome {
    double loss;
    float logprob[2 * TINY_TOKENS];
    float *gradients;
    int64_t count;
    size_t peak;
} Outcome;

static Outcome run(Tiny *tiny, const TinyBatch *batch, bool chosen, ThreadPool *pool,
                   TapeOptions options) {
    Outcome outcome = {0};
    Tape *tape = tiny_tape(pool, options);
    tiny_zero_gradients(tiny);
    outcome.loss = tiny_loss(tiny, tape, batch, chosen, outcome.logprob);
    outcome.gradients = tiny_gradients(tiny, &outcome.count);
    outcome.peak = hone_tape_peak(tape);
    hone_tape_free(tape);
    return outcome;
}

static const TapeOptions training = {.gradients = true};

static void check_same_bits(const Outcome *a, const Outcome *b, int64_t entries) {
    CHECK(memcmp(&a->loss, &b->loss, sizeof a->loss) == 0);
    CHECK(memcmp(a->logprob, b->logprob, (size_t)entries * sizeof *a->logprob) == 0);
    CHECK(a->count == b->count &&
          memcmp(a->gradients, b->gradients, (size_t)a->count * sizeof(float)) == 0);
}

static void tiny_of(Tiny *tiny, bool tied, bool full) {
    ModelConfig config = tiny_config;
    config.tied_head = tied;
    tiny_make(tiny, &config);
    if (full) tiny_train_all(tiny);
    if (!full || !tied) tiny_adapt(tiny, 3, 0.4f);
    tiny_drop(tiny);
}

static void parameters_have_the_names_and_shapes_of_gguf(void) {
    Tiny tiny;
    tiny_of(&tiny, false, true);
    CHECK_INT(tiny.count, 1 + 2 * 9 + 2);
    char text[64];
    CHECK_STRING(tiny.parameters[0].name, "token_embd.weight");
    CHECK_STRING(tiny.parameters[1].name, "blk.0.attn_norm.weight");
    CHECK_STRING(hone_shape_text(tiny.parameters[1].tensor, text), "(19)");
    CHECK_STRING(tiny.parameters[11].name, "blk.1.attn_q.weight");
    CHECK_STRING(hone_shape_text(tiny.parameters[11].tensor, text), "(24, 19)");
    CHECK_STRING(tiny.parameters[12].name, "blk.1.attn_k.weight");
    CHECK_STRING(hone_shape_text(tiny.parameters[12].tensor, text), "(12, 19)");
    CHECK_STRING(tiny.parameters[14].name, "blk.1.attn_output.weight");
    CHECK_STRING(hone_shape_text(tiny.parameters[14].tensor, text), "(19, 24)");
    CHECK_STRING(tiny.parameters[18].name, "blk.1.ffn_down.weight");
    CHECK_STRING(tiny.parameters[19].name, "output_norm.weight");
    CHECK_STRING(tiny.parameters[20].name, "output.weight");
    tiny_free(&tiny);
    tiny_of(&tiny, true, true);
    CHECK_INT(tiny.count, 1 + 2 * 9 + 1);
    CHECK(hone_model_head(tiny.model)->base.data == tiny.parameters[0].weight->base.data);
    tiny_free(&tiny);
}

static void parameters_of_gpt2(void) {
    Tiny tiny;
    tiny_of(&tiny, false, true);
    CHECK_INT(tiny.count, 2 + 2 * 12 + 3);
    char text[64];
    CHECK_STRING(tiny.parameters[0].name, "token_embd.weight");
    CHECK_STRING(tiny.parameters[1].name, "position_embd.weight");
    CHECK_STRING(hone_shape_text(tiny.parameters[1].tensor, text), "(64, 20)");
    CHECK_STRING(tiny.parameters[2].name, "blk.0.attn_norm.weight");
    CHECK_STRING(tiny.parameters[3].name, "blk.0.attn_norm.bias");
    CHECK_STRING(tiny.parameters[16].name, "blk.1.attn_qkv.weight");
    CHECK_STRING(hone_shape_text(tiny.parameters[16].tensor, text), "(60, 20)");
    CHECK_STRING(tiny.parameters[17].name, "blk.1.attn_qkv.bias");
    CHECK_STRING(hone_shape_text(tiny.parameters[17].tensor, text), "(60)");
    CHECK_STRING(tiny.parameters[24].name, "blk.1.ffn_down.weight");
    CHECK_STRING(hone_shape_text(tiny.parameters[24].tensor, text), "(20, 27)");
    CHECK_STRING(tiny.parameters[26].name, "output_norm.weight");
    CHECK_STRING(tiny.parameters[28].name, "output.weight");
    tiny_free(&tiny);
}

static void parameters_of_bert(void) {
    Tiny tiny;
    ModelConfig config = tiny_config;
    config.pooler = config.mask_head = true;
    config.labels = 3;
    tiny_make(&tiny, &config);
    CHECK_INT(tiny.count, 5 + 2 * 16 + 4 + 5);
    char text[64];
    CHECK_STRING(tiny.parameters[0].name, "token_embd.weight");
    CHECK_STRING(tiny.parameters[1].name, "token_types.weight");
    CHECK_STRING(hone_shape_text(tiny.parameters[1].tensor, text), "(2, 20)");
    CHECK_STRING(tiny.parameters[2].name, "position_embd.weight");
    CHECK_STRING(tiny.parameters[3].name, "token_embd_norm.weight");
    CHECK_STRING(tiny.parameters[13].name, "blk.0.attn_output_norm.weight");
    CHECK_STRING(tiny.parameters[36].name, "blk.1.layer_output_norm.bias");
    CHECK_STRING(tiny.parameters[37].name, "cls.weight");
    CHECK_STRING(tiny.parameters[39].name, "cls.output.weight");
    CHECK_STRING(hone_shape_text(tiny.parameters[39].tensor, text), "(3, 20)");
    CHECK_STRING(tiny.parameters[45].name, "mask.bias");
    CHECK(hone_model_is_encoder(tiny.model));
    tiny_free(&tiny);
}

static void check_refused(const ModelConfig *config, hone_status status, const char *part) {
    HoneError err = {0};
    Model *model = NULL;
    CHECK_INT(hone_model_make(config, &model, &err), status);
    CHECK_CONTAINS(err.message, part);
    CHECK(model == NULL);
}

static void wrong_sizes_are_refused_with_their_values(void) {
    ModelConfig config = tiny_config;
    config.architecture = "mamba";
    check_refused(&config, HONE_ERROR_UNSUPPORTED,
                  "\"mamba\" is not supported; supported: llama, granite, smollm3, qwen2, qwen3, "
                  "qwen3moe, olmoe, phi3, olmo2, gemma2, gemma3, gpt2, bert, transformer");
    config = tiny_config;
    config.kv_heads = 3;
    check_refused(&config, HONE_ERROR_INPUT, "4 heads cannot share 3");
    config = tiny_config;
    config.rotary = 8;
    check_refused(&config, HONE_ERROR_INPUT, "rotary size is 8");
    config = tiny_config;
    config.layers = 0;
    check_refused(&config, HONE_ERROR_INPUT, "layers is 0");
    config = tiny_config;
    config.norm_eps = NAN;
    check_refused(&config, HONE_ERROR_INPUT, "epsilon is nan");
}

static void wrong_numbers_are_refused_with_their_values(void) {
    ModelConfig config = tiny_config;
    config.residual_scale = -1;
    check_refused(&config, HONE_ERROR_INPUT, "scale of what a layer adds is -1");
    config = tiny_config;
    config.logit_softcap = NAN;
    check_refused(&config, HONE_ERROR_INPUT, "soft-cap of the logits is nan");
    config = tiny_config;
    config.window = 5;
    check_refused(&config, HONE_ERROR_INPUT, "the window is 5, which no layer can have");
    config = tiny_config;
    config.rope_scaling = (RopeScaling){.factor = 2, .yarn = true, .beta_fast = 32};
    check_refused(&config, HONE_ERROR_INPUT, "original context of 0 and betas of 32 and 0");
}

static void a_decoder_has_its_parameters(int which) {
    Tiny tiny;
    tiny_of(&tiny, true, true);
    if (tiny_config.sparse) // 24 a layer with experts, 11 without
        CHECK_INT(tiny.count, 1 + 2 * 24 + 11 + 1);
    else
        CHECK_INT(tiny.count, 1 + 3 * tiny_decoders[which].parameters + 1);
    tiny_free(&tiny);
}

static void wrong_sizes_of_gpt2_are_refused(void) {
    ModelConfig config = tiny_config;
    config.channels = 24;
    check_refused(&config, HONE_ERROR_INPUT,
                  "4 heads and 4 key/value heads of 5 do not make the embedding length 24");
    config = tiny_config;
    config.kv_heads = 2;
    check_refused(&config, HONE_ERROR_INPUT, "2 key/value heads");
}

static void wrong_sizes_of_bert_are_refused(void) {
    ModelConfig config = tiny_config;
    config.channels = 24;
    check_refused(&config, HONE_ERROR_INPUT, "do not make the embedding length 24");
    config = tiny_config;
    config.labels = -1;
    check_refused(&config, HONE_ERROR_INPUT, "-1 labels are not between 0 and");
}

static void packed_examples_equal_each_alone(void) {
    Tiny tiny;
    tiny_of(&tiny, true, true);
    TinyBatch batch;
    sample_batch(&batch);
    Outcome packed = run(&tiny, &batch, true, NULL, training);
    const int length[] = {7, 11, 5}, prompt[] = {2, 4, 0};
    float *sum = hone_calloc((size_t)packed.count, sizeof *sum);
    double loss = 0;
    int64_t entry = 0;
    for (int e = 0; e < 3; e++) {
        TinyBatch one = {0};
        tiny_append_example(&one, e + 1, length[e], prompt[e], 41);
        Outcome alone = run(&tiny, &one, true, NULL, training);
        loss += alone.loss;
        for (int64_t i = 0; i < packed.count; i++) sum[i] += alone.gradients[i];
        CHECK_CLOSE(packed.logprob + entry, alone.logprob, one.entries, 1e-5, 1e-6);
        entry += one.entries;
        hone_free(alone.gradients);
    }
    CHECK_INT(entry, batch.entries);
    CHECK_NEAR(packed.loss, loss, 1e-6, 0);
    CHECK(tiny_near(packed.gradients, sum, packed.count, 1e-5));
    hone_free(sum);
    hone_free(packed.gradients);
    tiny_free(&tiny);
}

// Windows included: what a token sees goes by its depth, not by where it lies.
static void a_trie_equals_each_alone(void) {
    enum { BEGIN = 6, FIRST = 7, SECOND = 5 };
    Tiny tiny;
    tiny_of(&tiny, true, true);
    TinyBatch trie, alone;
    tiny_make_trie(&trie, BEGIN, FIRST, SECOND);
    Outcome both = run(&tiny, &trie, true, NULL, training);
    Outcome all = run(&tiny, &trie, false, NULL, training);
    float *sum = hone_calloc((size_t)both.count, sizeof *sum);
    double loss = 0;
    for (int which = 0; which < 2; which++) {
        tiny_make_branch(&alone, &trie, BEGIN, FIRST, which);
        Outcome one = run(&tiny, &alone, true, NULL, training);
        loss += one.loss;
        for (int64_t i = 0; i < both.count; i++) sum[i] += one.gradients[i];
        CHECK_CLOSE(both.logprob + (which ? FIRST : 0), one.logprob, which ? SECOND : FIRST, 1e-5,
                    2e-6);
        hone_free(one.gradients);
    }
    CHECK_NEAR(both.loss, loss, 1e-6, 0);
    CHECK_NEAR(all.loss, loss, 1e-6, 0);
    CHECK(tiny_near(both.gradients, sum, both.count, 1e-5));
    CHECK(tiny_near(all.gradients, sum, all.count, 1e-5));
    hone_free(sum);
    hone_free(both.gradients);
    hone_free(all.gradients);
    tiny_free(&tiny);
}

// Every adapted matrix drops: the loss is another with each one's dropout taken away.
static void every_adapter_drops(void) {
    Tiny tiny;
    tiny_of(&tiny, false, false);
    TinyBatch batch;
    sample_batch(&batch);
    Outcome all = run(&tiny, &batch, true, NULL, training);
    for (int i = 0; i < tiny.count; i++) {
        Weight *weight = tiny.parameters[i].weight;
        if (!weight || weight->adapter_count == 0) continue;
        weight->adapters[0].dropout = 0;
        Outcome one = run(&tiny, &batch, true, NULL, training);
        if (!CHECK(one.loss != all.loss)) printf("%s\n", tiny.parameters[i].name);
        weight->adapters[0].dropout = 0.25f;
        hone_free(one.gradients);
    }
    hone_free(all.gradients);
    tiny_free(&tiny);
}

static void chosen_rows_equal_all_rows(void) {
    for (int full = 0; full < 2; full++) {
        Tiny tiny;
        tiny_of(&tiny, !full, full != 0);
        TinyBatch batch;
        sample_batch(&batch);
        Outcome all = run(&tiny, &batch, false, NULL, training);
        Outcome chosen = run(&tiny, &batch, true, NULL, training);
        CHECK_NEAR(chosen.loss, all.loss, 1e-6, 0);
        CHECK_CLOSE(chosen.logprob, all.logprob, batch.entries, 1e-5, 1e-6);
        CHECK(tiny_near(chosen.gradients, all.gradients, all.count, 1e-5));
        hone_free(all.gradients);
        hone_free(chosen.gradients);
        tiny_free(&tiny);
    }
}

static void what_is_made_again_has_the_same_bits(void) {
    for (int full = 0; full < 2; full++) {
        Tiny tiny;
        tiny_of(&tiny, true, full != 0);
        TinyBatch batch;
        sample_batch(&batch);
        Outcome again = run(&tiny, &batch, true, NULL, training);
        Outcome kept =
            run(&tiny, &batch, true, NULL, (TapeOptions){.gradients = true, .keep = true});
        check_same_bits(&again, &kept, batch.entries);
        CHECK(again.peak < kept.peak);
        hone_free(again.gradients);
        hone_free(kept.gradients);
        tiny_free(&tiny);
    }
}

static void threads_change_no_bit(void) {
    Tiny tiny;
    tiny_of(&tiny, true, true);
    TinyBatch batch;
    sample_batch(&batch);
    ThreadPool *pool = hone_pool_create(3);
    Outcome one = run(&tiny, &batch, true, NULL, training);
    Outcome three = run(&tiny, &batch, true, pool, training);
    check_same_bits(&one, &three, batch.entries);
    hone_free(one.gradients);
    hone_free(three.gradients);
    hone_pool_free(pool);
    tiny_free(&tiny);
}

static void adapters_begin_without_a_gradient_of_a(void) {
    Tiny tiny;
    tiny_make(&tiny, &tiny_config);
    tiny_adapt(&tiny, 4, 0.0f);
    TinyBatch batch;
    sample_batch(&batch);
    Outcome outcome = run(&tiny, &batch, true, NULL, training);
    for (int i = 0; i < tiny.trained_count; i++) {
        const Tensor *tensor = tiny.trained[i];
        double sum = 0;
        for (int64_t j = 0; j < hone_tensor_count(tensor); j++)
            sum += fabs((double)tensor->grad[j]);
        const bool is_a = strstr(tiny.trained_name[i], ".A") != NULL;
        CHECK(is_a ? sum == 0 : sum > 0);
    }
    hone_free(outcome.gradients);
    tiny_free(&tiny);
}

// With adapters in the last layer only, nothing of the layers below is recorded for backward.
static void nothing_below_the_lowest_trained_parameter_is_kept(void) {
    Tiny tiny;
    tiny_of(&tiny, true, false);
    TinyBatch batch;
    sample_batch(&batch);
    Outcome before = run(&tiny, &batch, true, NULL, training);
    size_t used[2];
    for (int frozen = 0; frozen < 2; frozen++) {
        for (int i = 0; i < tiny.trained_count && frozen; i++)
            if (strncmp(tiny.trained_name[i], "blk.0.", 6) == 0)
                tiny.trained[i]->requires_grad = false;
        Tape *tape = tiny_tape(NULL, training);
        const ModelBatch all = tiny_model_batch(&batch, true);
        CHECK(hone_model_forward(tiny.model, tape, &all) != NULL);
        used[frozen] = hone_tape_used(tape);
        hone_tape_free(tape);
    }
    // layer 0: x, q, k, v, o, x2, gate, up
    CHECK(used[0] - used[1] > (size_t)batch.T * (19 + 24 + 12 + 12 + 24 + 19 + 27 + 27) * 4);
    Outcome after = run(&tiny, &batch, true, NULL, training);
    int64_t at = 0;
    for (int i = 0; i < tiny.trained_count; i++) {
        const int64_t count = hone_tensor_count(tiny.trained[i]);
        if (tiny.trained[i]->requires_grad) {
            CHECK(memcmp(before.gradients + at, after.gradients + at, (size_t)count * 4) == 0);
        } else {
            for (int64_t j = 0; j < count; j++) CHECK(after.gradients[at + j] == 0);
        }
        at += count;
    }
    hone_free(before.gradients);
    hone_free(after.gradients);
    tiny_free(&tiny);
}

static void a_dry_tape_knows_the_peak(void) {
    for (int full = 0; full < 2; full++) {
        Tiny tiny;
        tiny_of(&tiny, !full, full != 0);
        TinyBatch batch;
        sample_batch(&batch);
        Outcome real = run(&tiny, &batch, true, NULL, training);
        Outcome dry = run(&tiny, &batch, true, NULL, (TapeOptions){.gradients = true, .dry = true});
        if (tiny_config.experts > 0) // no data, no routing: all tokens at the same experts
            CHECK(dry.peak >= real.peak);
        else
            CHECK_INT(dry.peak, real.peak);
        CHECK(dry.loss == 0);
        for (int64_t i = 0; i < dry.count; i++) CHECK(dry.gradients[i] == 0);
        hone_free(real.gradients);
        hone_free(dry.gradients);
        tiny_free(&tiny);
    }
}

// ---- SmolLM2-135M's sizes, without its data ----------------------------------------------------

typedef struct Adapters {
    Arena memory;
    int rank;
} Adapters;

static hone_status adapt_all(void *user, const ParameterVisit *visit, HoneError *err) {
    (void)err;
    Adapters *adapters = user;
    if (!visit->weight || visit->layer < 0) return HONE_OK;
    Adapter *adapter = hone_arena_calloc(&adapters->memory, 1, sizeof *adapter);
    const int64_t *shape = visit->tensor->shape;
    adapter->A = (Tensor){.rank = 2, .shape = {adapters->rank, shape[1]}, .requires_grad = true};
    adapter->B = (Tensor){.rank = 2, .shape = {shape[0], adapters->rank}, .requires_grad = true};
    visit->weight->adapters = adapter;
    visit->weight->adapter_count = 1;
    return HONE_OK;
}

// One step of T tokens: what is kept after the layers, and the peak.
static size_t peak_of_a_step(Model *model, int64_t T, size_t *kept) {
    Tape *tape = tiny_tape(NULL, (TapeOptions){.gradients = true, .dry = true});
    const ModelBatch batch = {.tokens = T, .rows = T};
    Tensor *hidden = hone_model_forward(model, tape, &batch);
    CHECK(hidden && hidden->requires_grad);
    *kept = hone_tape_used(tape);
    HeadLoss loss = {.entries = T};
    hone_head_cross_entropy(tape, hone_model_head(model), hidden, &loss);
    CHECK_INT(hone_tape_backward(tape), HONE_OK);
    CHECK_INT(hone_tape_used(tape), 0);
    const size_t peak = hone_tape_peak(tape);
    hone_tape_free(tape);
    return peak;
}

// Kept a token and layer: x, q, k, v, o, x2, gate, up (5,760 floats), two norms' and nine heads'
// statistics and seven adapters' x·Aᵀ; after the layers the last x and the normed one. Where the
// first layer's x needs no gradient, its norm's output is kept in its place, without statistics.
// A checkpointed layer keeps its x.
static void a_layer_keeps_5760_floats_a_token(void) {
    const ModelConfig config = {.architecture = "llama",
                                .layers = 30,
                                .heads = 9,
                                .kv_heads = 3,
                                .head_size = 64,
                                .rotary = 64,
                                .channels = 576,
                                .feed_forward = 1536,
                                .vocabulary = 49152,
                                .context = 8192,
                                .norm_eps = 1e-5f,
                                .rope_base = 100000.0f,
                                .rope_interleaved = true,
                                .tied_head = true};
    HoneError err = {0};
    Model *model = NULL;
    Adapters adapters = {.rank = 16};
    CHECK_INT(hone_model_make(&config, &model, &err), HONE_OK);
    CHECK_INT(hone_model_visit(model, adapt_all, &adapters, &err), HONE_OK);
    const int64_t T = 512, layer = 5760 + 2 + 9 + 7 * 16;
    size_t kept, peak = peak_of_a_step(model, T, &kept);
    CHECK_INT(kept, (30 * layer - 1 + 576 + 1 + 576) * T * 4);
    for (int i = 0; i < config.layers; i++) hone_model_checkpoint(model, i, true);
    size_t kept_of_checkpoints, least = peak_of_a_step(model, T, &kept_of_checkpoints);
    CHECK_INT(kept_of_checkpoints, (30 * 576 + 576 + 1 + 576) * T * 4);
    CHECK(3 * least < peak);
    printf("     peak of a step of %lld tokens: %.1f MB, of which layers %.1f MB; with every layer "
           "checkpointed %.1f MB\n",
           (long long)T, (double)peak / 1e6, (double)(30 * layer * T * 4) / 1e6,
           (double)least / 1e6);
    hone_model_destroy(model);
    hone_arena_free(&adapters.memory);
}

static void check_what_changes_no_result(void) {
    RUN(packed_examples_equal_each_alone);
    RUN(a_trie_equals_each_alone);
    RUN(every_adapter_drops);
    RUN(chosen_rows_equal_all_rows);
    RUN(what_is_made_again_has_the_same_bits);
    RUN(threads_change_no_bit);
    RUN(adapters_begin_without_a_gradient_of_a);
    RUN(a_dry_tape_knows_the_peak);
}

int main(void) {
    RUN(parameters_have_the_names_and_shapes_of_gguf);
    RUN(wrong_sizes_are_refused_with_their_values);
    RUN(nothing_below_the_lowest_trained_parameter_is_kept);
    RUN(a_layer_keeps_5760_floats_a_token);
    check_what_changes_no_result();
    RUN(wrong_numbers_are_refused_with_their_values);
    for (int i = 0; i < TINY_DECODERS; i++) {
        tiny_become_decoder(i);
        a_decoder_has_its_parameters(i);
        check_what_changes_no_result();
    }
    tiny_become_gpt2();
    RUN(parameters_of_gpt2);
    RUN(wrong_sizes_of_gpt2_are_refused);
    check_what_changes_no_result();
    tiny_become_bert();
    RUN(parameters_of_bert);
    RUN(wrong_sizes_of_bert_are_refused);
    check_what_changes_no_result();
    return check_report();
}
