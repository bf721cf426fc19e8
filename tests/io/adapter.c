// SPDX-License-Identifier: Apache-2.0
// Adapters: PEFT's own folders against the GGUF form of the same adapter, and both ways round.
#include "io/gguf.h"
#include "io/peft.h"
#include "io_test.h"

// The model of tests/fixtures/make_io.py.
static const AdapterBase base = {.architecture = "llama",
                                 .path = "models/tiny \"llama\".gguf",
                                 .heads = 2,
                                 .kv_heads = 1,
                                 .head_size = 8,
                                 .rope_interleaved = true};

static AdapterFile read_fixture(const char *name) {
    AdapterFile file;
    HoneError err = {0};
    check_ok(hone_adapter_read(fixture(name), &base, &file, &err), &err);
    return file;
}

static const AdapterPair *find(const AdapterFile *file, const char *name) {
    for (int64_t i = 0; i < file->count; i++)
        if (strcmp(file->pairs[i].name, name) == 0) return &file->pairs[i];
    return NULL;
}

static bool same_bits(const float *a, const float *b, int64_t count) {
    return memcmp(a, b, (size_t)count * sizeof *a) == 0;
}

static bool same_pair(const AdapterPair *a, const AdapterPair *b) {
    return strcmp(a->name, b->name) == 0 && a->rank == b->rank && a->in == b->in &&
           a->out == b->out && a->scale == b->scale && same_bits(a->A, b->A, a->rank * a->in) &&
           same_bits(a->B, b->B, a->out * a->rank) &&
           (a->magnitude != NULL) == (b->magnitude != NULL) &&
           (!a->magnitude || same_bits(a->magnitude, b->magnitude, a->out));
}

static void check_same(const AdapterFile *a, const AdapterFile *b) {
    CHECK_INT(a->count, b->count);
    for (int64_t i = 0; i < a->count && i < b->count; i++)
        CHECK(same_pair(&a->pairs[i], &b->pairs[i]));
}

static void peft_equals_gguf(void) {
    AdapterFile peft = read_fixture("peft-plain"), gguf = read_fixture("adapter.gguf");
    CHECK_INT(peft.count, 14);
    check_same(&peft, &gguf);
    static const char *const order[] = {"blk.0.attn_q.weight",   "blk.0.attn_k.weight",
                                        "blk.0.attn_v.weight",   "blk.0.attn_output.weight",
                                        "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight",
                                        "blk.0.ffn_down.weight", "blk.1.attn_q.weight"};
    for (int i = 0; i < 8 && i < peft.count; i++) CHECK_STRING(peft.pairs[i].name, order[i]);
    const AdapterPair *down = find(&peft, "blk.1.ffn_down.weight");
    CHECK(down && down->rank == 4 && down->in == 24 && down->out == 16 && down->scale == 2);
    hone_adapter_close(&peft);
    hone_adapter_close(&gguf);
}

// Row h·d + 2j + t in memory is PEFT's row h·d + t·d/2 + j; with a base in PEFT's order nothing
// moves.
static void q_and_k_rows_are_permuted(void) {
    AdapterBase plain_base = base;
    AdapterFile moved = read_fixture("peft-plain"), kept;
    HoneError err = {0};
    plain_base.rope_interleaved = false;
    check_ok(hone_adapter_read(fixture("peft-plain"), &plain_base, &kept, &err), &err);
    for (int64_t i = 0; i < moved.count && i < kept.count; i++) {
        const AdapterPair *a = &moved.pairs[i], *b = &kept.pairs[i];
        bool permuted = strstr(a->name, "attn_q") || strstr(a->name, "attn_k");
        CHECK(same_bits(a->A, b->A, a->rank * a->in));
        CHECK(same_bits(a->B, b->B, a->out * a->rank) == !permuted);
        for (int64_t row = 0; row < a->out && permuted; row++) {
            int64_t head = row / 8, j = row % 8 / 2, t = row % 2;
            CHECK(
                same_bits(a->B + row * a->rank, b->B + (head * 8 + t * 4 + j) * b->rank, a->rank));
        }
    }
    hone_adapter_close(&moved);
    hone_adapter_close(&kept);
}

static void scales(void) {
    AdapterFile file = read_fixture("peft-rslora");
    CHECK_INT(file.count, 14);
    for (int64_t i = 0; i < file.count; i++) CHECK(file.pairs[i].scale == 4); // 8/√4
    hone_adapter_close(&file);
    file = read_fixture("peft-patterns");
    CHECK_INT(file.count, 14);
    static const struct {
        const char *name;
        int rank;
        double alpha;
    } wanted[] = {
        {"blk.0.attn_q.weight", 4, 8},   {"blk.1.attn_q.weight", 2, 8},
        {"blk.0.attn_v.weight", 4, 5},   {"blk.1.attn_v.weight", 4, 5},
        {"blk.0.ffn_gate.weight", 4, 6}, {"blk.0.ffn_down.weight", 3, 6},
        {"blk.1.ffn_down.weight", 3, 8}, {"blk.1.ffn_up.weight", 4, 8},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const AdapterPair *pair = find(&file, wanted[i].name);
        CHECK(pair && pair->rank == wanted[i].rank &&
              pair->scale == (float)(wanted[i].alpha / wanted[i].rank));
    }
    hone_adapter_close(&file);
}

static void other_types_and_modules(void) {
    AdapterFile file = read_fixture("peft-f16");
    CHECK_INT(file.count, 14);
    CHECK(file.count && file.pairs[0].scale == 1.5f && file.pairs[0].rank == 2);
    hone_adapter_close(&file);
    file = read_fixture("peft-bf16"); // target_modules is a regular expression for layer 1
    CHECK_INT(file.count, 7);
    CHECK(find(&file, "blk.1.attn_q.weight") && !find(&file, "blk.0.attn_q.weight"));
    hone_adapter_close(&file);
    file = read_fixture("peft-head");
    CHECK_INT(file.count, 3);
    const AdapterPair *head = find(&file, "output.weight");
    CHECK(head && head->in == 16 && head->out == 32 && head == &file.pairs[2]);
    hone_adapter_close(&file);
}

static void whole_tensors(void) {
    AdapterFile file = read_fixture("peft-modules"), again;
    CHECK_INT(file.whole_count, 5); // "norm" ends the name of every norm
    CHECK(file.count == 2 && file.whole[0].rank == 1 && file.whole[0].shape[0] == 16);
    CHECK_STRING(file.whole[0].name, "blk.0.attn_norm.weight");
    CHECK_STRING(file.whole[4].name, "output_norm.weight");
    HoneError err = {0};
    const AdapterSettings settings = {
        .rank = 1, .alpha = 1, .whole = file.whole, .whole_count = file.whole_count};
    check_refused(hone_adapter_gguf_write(in_folder("whole.gguf"), &base, &settings, file.pairs,
                                          file.count, &err),
                  HONE_ERROR_UNSUPPORTED, &err, "tensors that were trained whole");
    hone_error_clear(&err);
    const char *folder = in_folder("whole");
    check_ok(hone_peft_write(folder, &base, &settings, file.pairs, file.count, &err), &err);
    check_ok(hone_adapter_read(folder, &base, &again, &err), &err);
    check_same(&file, &again);
    CHECK_INT(again.whole_count, 5);
    for (int i = 0; i < 5; i++)
        CHECK(strcmp(again.whole[i].name, file.whole[i].name) == 0 &&
              same_bits(again.whole[i].values, file.whole[i].values, 16));
    hone_adapter_close(&file);
    hone_adapter_close(&again);
}

static void doras_and_embeddings(void) {
    AdapterFile file = read_fixture("peft-dora");
    CHECK_INT(file.count, 2); // v of two layers
    for (int64_t i = 0; i < file.count; i++)
        CHECK(file.pairs[i].magnitude && file.pairs[i].magnitude[7] != 0);
    HoneError err = {0};
    const AdapterSettings one = {.rank = 1, .alpha = 1};
    check_refused(
        hone_adapter_gguf_write(in_folder("dora.gguf"), &base, &one, file.pairs, file.count, &err),
        HONE_ERROR_UNSUPPORTED, &err, "llama.cpp cannot load a DoRA");
    CHECK(!hone_is_file(in_folder("dora.gguf")));
    hone_error_clear(&err);
    file.pairs[1].magnitude = NULL;
    check_refused(hone_peft_write(in_folder("dora"), &base, &one, file.pairs, file.count, &err),
                  HONE_ERROR_UNSUPPORTED, &err, "PEFT has one or the other in a folder");
    hone_adapter_close(&file);
    file = read_fixture("peft-embedding");
    CHECK_INT(file.count, 1);
    const AdapterPair *pair = find(&file, "token_embd.weight");
    CHECK(pair && pair->in == 16 && pair->out == 32 && pair->rank == 1);
    AdapterBase tied = base;
    tied.tied_head = true;
    hone_error_clear(&err);
    check_refused(
        hone_adapter_gguf_write(in_folder("tied.gguf"), &tied, &one, file.pairs, file.count, &err),
        HONE_ERROR_UNSUPPORTED, &err, "an embedding that is the head too");
    hone_adapter_close(&file);
}

static void refused(const char *name, hone_status status, const char *words) {
    AdapterFile file;
    HoneError err = {0};
    hone_status got = hone_adapter_read(fixture(name), &base, &file, &err);
    CHECK_CONTAINS(err.message, name);
    check_refused(got, status, &err, words);
    CHECK(file.count == 0 && file.path == NULL);
}

static void other_methods(void) {
    refused("peft-lora-bias", HONE_ERROR_UNSUPPORTED, "\"lora_bias\" is set");
    refused("small.gguf", HONE_ERROR_INPUT, "not an adapter: key general.type is missing");
    refused("small.safetensors", HONE_ERROR_INPUT, "it is a safetensors file");
    refused("absent", HONE_ERROR_INPUT, "absent: cannot open");
}

static void write_and_read(const char *name, const AdapterSettings *settings) {
    AdapterFile from = read_fixture(name), peft, gguf;
    HoneError err = {0};
    const char *folder = in_folder("out/adapter");
    check_ok(hone_peft_write(folder, &base, settings, from.pairs, from.count, &err), &err);
    check_ok(hone_adapter_read(folder, &base, &peft, &err), &err);
    check_same(&from, &peft);
    const char *path = in_folder("out/adapter.gguf");
    check_ok(hone_adapter_gguf_write(path, &base, settings, from.pairs, from.count, &err), &err);
    check_ok(hone_adapter_read(path, &base, &gguf, &err), &err);
    CHECK_INT(gguf.count, from.count);
    for (int64_t i = 0; i < from.count && i < gguf.count; i++) {
        const AdapterPair *a = &from.pairs[i], *b = &gguf.pairs[i];
        CHECK(strcmp(a->name, b->name) == 0 && same_bits(a->A, b->A, a->rank * a->in));
        for (int64_t k = 0; k < a->out * a->rank; k++) // scale·B is what counts
            CHECK_NEAR(b->scale * b->B[k], a->scale * a->B[k], 3e-7, 0);
        if (settings->alpha == 8)
            CHECK(same_bits(a->B, b->B, a->out * a->rank) == (a->scale == b->scale));
    }
    hone_adapter_close(&from);
    hone_adapter_close(&peft);
    hone_adapter_close(&gguf);
}

static void peft_and_back(const char *name, const AdapterSettings *settings) {
    AdapterFile from = read_fixture(name), peft;
    HoneError err = {0};
    const char *folder = in_folder("out/adapter");
    check_ok(hone_peft_write(folder, &base, settings, from.pairs, from.count, &err), &err);
    check_ok(hone_adapter_read(folder, &base, &peft, &err), &err);
    check_same(&from, &peft);
    hone_adapter_close(&from);
    hone_adapter_close(&peft);
}

static void round_trips(void) {
    write_and_read("peft-plain", &(AdapterSettings){.rank = 4, .alpha = 8});
    write_and_read("peft-rslora", &(AdapterSettings){.rank = 4, .alpha = 8, .rslora = true});
    write_and_read("peft-f16", &(AdapterSettings){.rank = 2, .alpha = 3});
    write_and_read("peft-bf16", &(AdapterSettings){.rank = 2, .alpha = 3});
    write_and_read("peft-patterns", &(AdapterSettings){.rank = 4, .alpha = 8});
    write_and_read("peft-head", &(AdapterSettings){.rank = 2, .alpha = 2});
    write_and_read("peft-embedding", &(AdapterSettings){.rank = 1, .alpha = 1});
    peft_and_back("peft-dora", &(AdapterSettings){.rank = 1, .alpha = 1});
    // settings that fit no pair: all goes into the patterns
    write_and_read("peft-plain", &(AdapterSettings){.rank = 7, .alpha = 0.3f, .rslora = true});
}

static void check_alpha(const char *name, const AdapterSettings *settings, double wanted) {
    AdapterFile from = read_fixture(name);
    GgufFile gguf;
    HoneError err = {0};
    const char *path = in_folder("alpha.gguf");
    check_ok(hone_adapter_gguf_write(path, &base, settings, from.pairs, from.count, &err), &err);
    check_ok(hone_gguf_open(path, &gguf, &err), &err);
    double alpha = 0;
    check_ok(hone_gguf_float(&gguf, "adapter.lora.alpha", &alpha, &err), &err);
    CHECK(alpha == wanted);
    GgufString base_name = {0};
    check_ok(hone_gguf_string(&gguf, "general.base_model.0.name", &base_name, &err), &err);
    CHECK(base_name.length == 12 && memcmp(base_name.data, "tiny \"llama\"", 12) == 0);
    hone_gguf_close(&gguf);
    hone_adapter_close(&from);
}

// adapter_config.json once more with another word, of as many letters.
static void change_config(const char *folder, const char *word, const char *other) {
    char path[192], *text = NULL;
    size_t bytes = 0;
    HoneError err = {0};
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    check_ok(hone_file_read(path, &text, &bytes, &err), &err);
    char *place = text ? strstr(text, word) : NULL;
    if (CHECK(place != NULL)) memcpy(place, other, strlen(other));
    check_ok(hone_file_write(path, text, bytes, &err), &err);
    hone_free(text);
}

// Of a module with a pair, and of one without; PEFT's "bias" tells which there are.
static void trained_biases(void) {
    float values[16];
    for (int i = 0; i < 16; i++) values[i] = (float)i - 0.5f;
    AdapterFile from = read_fixture("peft-bias"), again; // v
    CHECK(from.count == 2 && from.whole_count == 0);
    const AdapterWhole biases[] = {
        {.name = "blk.1.attn_v.bias", .rank = 1, .shape = {8, 1}, .values = values},
        {.name = "blk.0.attn_q.bias", .rank = 1, .shape = {16, 1}, .values = values}};
    HoneError err = {0};
    char folder[192];
    snprintf(folder, sizeof folder, "%s", in_folder("biases"));
    for (int count = 1; count <= 2; count++) {
        const AdapterSettings settings = {
            .rank = 1, .alpha = 1, .whole = biases, .whole_count = count};
        check_ok(hone_peft_write(folder, &base, &settings, from.pairs, from.count, &err), &err);
        check_ok(hone_adapter_read(folder, &base, &again, &err), &err);
        check_same(&from, &again);
        CHECK_INT(again.whole_count, count);
        for (int64_t i = 0; i < again.whole_count; i++) {
            const AdapterWhole *found = &again.whole[i];
            const AdapterWhole *wanted = &biases[strcmp(found->name, biases[0].name) != 0];
            CHECK_STRING(found->name, wanted->name);
            CHECK(same_bits(found->values, wanted->values, wanted->shape[0])); // q's rows too
        }
        hone_adapter_close(&again);
    }
    change_config(folder, "\"all\"", "null ");
    check_refused(hone_adapter_read(folder, &base, &again, &err), HONE_ERROR_INPUT, &err,
                  "\"modules_to_save\" does not name");
    const AdapterSettings settings = {.rank = 1, .alpha = 1, .whole = biases, .whole_count = 1};
    check_ok(hone_peft_write(folder, &base, &settings, from.pairs, from.count, &err), &err);
    change_config(folder, "\"lora_only\"", "\"none\"     ");
    check_refused(hone_adapter_read(folder, &base, &again, &err), HONE_ERROR_INPUT, &err,
                  "v_proj.base_layer.bias is a trained bias, and \"bias\" is \"none\"");
    change_config(folder, "\"none\"     ", "\"boft_only\"");
    check_refused(hone_adapter_read(folder, &base, &again, &err), HONE_ERROR_UNSUPPORTED, &err,
                  "\"bias\" is \"boft_only\"");
    hone_adapter_close(&from);
}

static void one_alpha_for_a_gguf(void) {
    check_alpha("peft-plain", &(AdapterSettings){.rank = 4, .alpha = 8}, 8);
    check_alpha("peft-rslora", &(AdapterSettings){.rank = 4, .alpha = 8, .rslora = true}, 16);
    AdapterFile file = read_fixture("peft-plain");
    HoneError err = {0};
    for (int64_t i = 0; i < file.count; i++)
        file.pairs[i].scale = 0; // llama.cpp takes alpha 0 as 1
    const char *path = in_folder("zero.gguf");
    check_ok(hone_adapter_gguf_write(path, &base, &(AdapterSettings){.rank = 4}, file.pairs,
                                     file.count, &err),
             &err);
    hone_adapter_close(&file);
    check_ok(hone_adapter_read(path, &base, &file, &err), &err);
    for (int64_t i = 0; i < file.count; i++)
        CHECK(file.pairs[i].scale == 1 && file.pairs[i].B[0] == 0);
    hone_adapter_close(&file);
}

static void config_is_as_peft_writes_it(void) {
    static const char wanted[] =
        "{\n  \"alpha_pattern\": {\n    \"model.layers.1.self_attn.v_proj\": 5.5\n  },\n"
        "  \"base_model_name_or_path\": \"models/tiny \\\"llama\\\".gguf\",\n  \"bias\": "
        "\"none\",\n"
        "  \"fan_in_fan_out\": false,\n  \"inference_mode\": true,\n"
        "  \"init_lora_weights\": true,\n  \"lora_alpha\": 8,\n  \"lora_dropout\": 0.05,\n"
        "  \"modules_to_save\": null,\n  \"peft_type\": \"LORA\",\n"
        "  \"peft_version\": \"0.21.2\",\n  \"r\": 4,\n  \"rank_pattern\": {\n"
        "    \"model.layers.1.self_attn.v_proj\": 2\n  },\n  \"target_modules\": [\n"
        "    \"lm_head\",\n    \"model.layers.1.mlp.up_proj\",\n    \"v_proj\"\n  ],\n"
        "  \"task_type\": \"CAUSAL_LM\",\n  \"use_dora\": false,\n  \"use_rslora\": false\n}\n";
    static const float values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const AdapterPair pairs[] = {
        {"blk.0.attn_v.weight", 4, 1, 1, 2.0f, values, values, NULL},
        {"blk.1.attn_v.weight", 2, 1, 1, 2.75f, values, values, NULL},
        {"blk.1.ffn_up.weight", 4, 1, 1, 2.0f, values, values,
         NULL}, // not in layer 0: its full path
        {"output.weight", 4, 1, 1, 2.0f, values, values, NULL},
    };
    HoneError err = {0};
    char *text = NULL;
    size_t bytes = 0;
    const AdapterSettings settings = {.rank = 4, .alpha = 8, .dropout = 0.05f};
    check_ok(hone_peft_write(in_folder("config"), &base, &settings, pairs, 4, &err), &err);
    check_ok(hone_file_read(in_folder("config/adapter_config.json"), &text, &bytes, &err), &err);
    CHECK_STRING(text, wanted);
    hone_free(text);
}

static void writers_refuse(void) {
    static const float values[4] = {1};
    AdapterPair pair = {"blk.0.attn_v.weight", 1, 2, 2, 1.0f, values, values, NULL};
    AdapterSettings settings = {.rank = 1, .alpha = 1};
    HoneError err = {0};
    char path[192];
    snprintf(path, sizeof path, "%s", in_folder("none"));
    check_refused(hone_peft_write(path, &base, &settings, &pair, 0, &err), HONE_ERROR_ARGUMENT,
                  &err, "no pairs");
    check_refused(hone_adapter_gguf_write(path, &base, &settings, &pair, 0, &err),
                  HONE_ERROR_ARGUMENT, &err, "no pairs");
    pair.rank = 0;
    check_refused(hone_peft_write(path, &base, &settings, &pair, 1, &err), HONE_ERROR_ARGUMENT,
                  &err, "an adapter of rank 0");
    check_refused(hone_adapter_gguf_write(path, &base, &settings, &pair, 1, &err),
                  HONE_ERROR_ARGUMENT, &err, "an adapter of rank 0");
    pair.rank = 1;
    settings.rank = 0;
    check_refused(hone_peft_write(path, &base, &settings, &pair, 1, &err), HONE_ERROR_ARGUMENT,
                  &err, "an adapter of rank 0");
    settings.rank = 1;
    snprintf(pair.name, sizeof pair.name, "blk.0.attn_q.weight");
    check_refused(hone_peft_write(path, &base, &settings, &pair, 1, &err), HONE_ERROR_ARGUMENT,
                  &err, "B has 2 rows, 2 heads of 8 make 16");
    snprintf(pair.name, sizeof pair.name, "blk.0.attn_qkv.weight");
    check_refused(hone_peft_write(path, &base, &settings, &pair, 1, &err), HONE_ERROR_UNSUPPORTED,
                  &err, "blk.0.attn_qkv.weight has no name in PEFT");
    snprintf(pair.name, sizeof pair.name, "blk.0.attn_v.weight");
    check_refused(hone_peft_write("/proc/none", &base, &settings, &pair, 1, &err), HONE_ERROR_IO,
                  &err, "/proc/none");
    check_refused(hone_adapter_gguf_write("/proc/none.gguf", &base, &settings, &pair, 1, &err),
                  HONE_ERROR_IO, &err, "/proc/none.gguf");
    CHECK(!hone_is_directory(path) && !hone_is_file(path));
}

int main(void) {
    make_test_folder();
    RUN(peft_equals_gguf);
    RUN(q_and_k_rows_are_permuted);
    RUN(scales);
    RUN(other_types_and_modules);
    RUN(whole_tensors);
    RUN(doras_and_embeddings);
    RUN(other_methods);
    RUN(round_trips);
    RUN(trained_biases);
    RUN(one_alpha_for_a_gguf);
    RUN(config_is_as_peft_writes_it);
    RUN(writers_refuse);
    remove_test_folder();
    return check_report();
}
