// SPDX-License-Identifier: Apache-2.0
// Adapters that are wrong in one place each, made from small pieces.
#include <math.h>

#include "io/gguf.h"
#include "io/peft.h"
#include "io/safetensors.h"
#include "io_test.h"

static const AdapterBase base = {.architecture = "llama",
                                 .path = "base.gguf",
                                 .heads = 2,
                                 .kv_heads = 1,
                                 .head_size = 4,
                                 .rope_interleaved = true};

static const float values[64] = {0.5f, 1.5f};
static const char good_config[] = "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4}";

#define V_PROJ "base_model.model.model.layers.0.self_attn.v_proj.lora_"
#define Q_PROJ "base_model.model.model.layers.0.self_attn.q_proj.lora_"

static SafeTensorEntry entry(const char *name, int64_t rows, int64_t columns) {
    return (SafeTensorEntry){name, HONE_F32, 2, {rows, columns}, values};
}

static void write_folder(const char *config, const SafeTensorEntry *entries, int64_t count) {
    HoneError err = {0};
    check_ok(hone_directory_make(in_folder("peft"), &err), &err);
    put_file("peft/adapter_config.json", config, strlen(config));
    check_ok(
        hone_safetensors_write(in_folder("peft/adapter_model.safetensors"), entries, count, &err),
        &err);
}

static void read_refused(const char *name, hone_status status, const char *words) {
    AdapterFile file;
    HoneError err = {0};
    hone_status got = hone_adapter_read(in_folder(name), &base, &file, &err);
    CHECK_CONTAINS(err.message, name);
    check_refused(got, status, &err, words);
}

static void config_refused(const char *config, hone_status status, const char *words) {
    const SafeTensorEntry entries[] = {entry(V_PROJ "A.weight", 2, 3),
                                       entry(V_PROJ "B.weight", 4, 2)};
    write_folder(config, entries, 2);
    read_refused("peft", status, words);
}

static void read_accepted(double scale) {
    AdapterFile file;
    HoneError err = {0};
    check_ok(hone_adapter_read(in_folder("peft"), &base, &file, &err), &err);
    CHECK(file.count == 1 && file.pairs[0].scale == (float)scale);
    hone_adapter_close(&file);
}

static void config_accepted(const char *config, double scale) {
    const SafeTensorEntry entries[] = {entry(V_PROJ "A.default.weight", 2, 3),
                                       entry(V_PROJ "B.default.weight", 4, 2)};
    write_folder(config, entries, 2);
    read_accepted(scale);
}

static void configs(void) {
    hone_status input = HONE_ERROR_INPUT, unsupported = HONE_ERROR_UNSUPPORTED;
    config_accepted(good_config, 2);
    config_refused("{\"peft_type\":", input, "adapter_config.json: line 1: ");
    config_refused("", input, "adapter_config.json: line 1: ");
    config_refused("[]", input, "a JSON object is wanted");
    config_refused("{}", input, "\"peft_type\" is missing");
    config_refused("{\"peft_type\":\"LOHA\"}", unsupported, "\"peft_type\" is \"LOHA\"");
    config_refused("{\"peft_type\":\"LORA\",\"lora_alpha\":4}", input, "\"r\" is missing");
    config_refused("{\"peft_type\":\"LORA\",\"r\":2}", input, "\"lora_alpha\" is missing");
    config_refused("{\"peft_type\":\"LORA\",\"r\":0,\"lora_alpha\":4}", input,
                   "\"r\" is something else, a rank of at least 1 is wanted");
    config_refused("{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":4}", input,
                   "model.layers.0.self_attn.v_proj has rank 8 here, its tensors have rank 2");
    config_refused("{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"r\":2}", input, "duplicate");
    config_refused("{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":1e300}", input,
                   "alpha is 1e+300");
    config_refused(
        "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"init_lora_weights\":\"pissa\"}",
        unsupported, "\"init_lora_weights\" is \"pissa\"");
    config_refused(
        "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"layer_replication\":[[0,4]]}",
        unsupported, "\"layer_replication\" is set: repeated layers");
}

#define CONFIG_WITH(more) "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4," more "}"

static void patterns(void) {
    hone_status input = HONE_ERROR_INPUT;
    config_accepted(CONFIG_WITH("\"alpha_pattern\":{\"proj\":9,\"v_proj\":3,\".*\":7}"), 1.5);
    config_accepted(CONFIG_WITH("\"alpha_pattern\":{\"[kv]_proj\":3,\"v_proj\":7}"), 1.5);
    config_accepted(CONFIG_WITH("\"alpha_pattern\":{\"v.proj\":3}"), 1.5); // '.' is any character
    config_accepted(CONFIG_WITH("\"alpha_pattern\":{\"attn.v_proj\":3}"), 2);
    config_accepted(CONFIG_WITH("\"alpha_pattern\":{\"(a+)+$\":3}"), 2);
    config_accepted(CONFIG_WITH("\"use_rslora\":true"), 4 / sqrt(2.0));
    config_refused(CONFIG_WITH("\"alpha_pattern\":{\"v_[\":3}"), input,
                   "\"alpha_pattern\": v_[ is not a regular expression");
    config_refused(CONFIG_WITH("\"alpha_pattern\":{\"v_proj\":\"x\"}"), input,
                   "\"alpha_pattern\" is something else");
    config_refused(CONFIG_WITH("\"rank_pattern\":[1]"), input,
                   "\"rank_pattern\" is something else");
    config_refused(CONFIG_WITH("\"rank_pattern\":{\"v_proj\":3}"), input, "has rank 3 here");
    config_accepted(CONFIG_WITH("\"target_modules\":[\"q_proj\",\"v_proj\"]"), 2);
    config_accepted(CONFIG_WITH("\"target_modules\":\"all-linear\""), 2);
    config_accepted(CONFIG_WITH("\"target_modules\":\".*(q|v)_proj\""), 2);
    config_refused(CONFIG_WITH("\"target_modules\":\".*q_proj\""), input, "does not name");
    config_refused(CONFIG_WITH("\"target_modules\":[\"q_proj\",\"_proj\"]"), input,
                   "tensors for model.layers.0.self_attn.v_proj, which \"target_modules\"");
}

static void tensors_refused(const SafeTensorEntry *entries, int64_t count, hone_status status,
                            const char *words) {
    write_folder(good_config, entries, count);
    read_refused("peft", status, words);
}

static void tensors(void) {
    static const float spoilt[8] = {1, NAN};
    hone_status input = HONE_ERROR_INPUT, unsupported = HONE_ERROR_UNSUPPORTED;
    SafeTensorEntry entries[3] = {entry(V_PROJ "A.weight", 2, 3), entry(V_PROJ "B.weight", 4, 2)};
    tensors_refused(entries, 0, input, "no LoRA tensors");
    tensors_refused(entries, 1, input, "v_proj.lora_A.weight has no partner B for blk.0.attn_v");
    tensors_refused(entries + 1, 1, input,
                    "v_proj.lora_B.weight has no partner A for blk.0.attn_v");
    entries[2] = entry(V_PROJ "A.default.weight", 2, 3);
    tensors_refused(entries, 3, input, "say the same thing");
    entries[1].shape[1] = 3;
    tensors_refused(entries, 2, input, "(2,3) is 2, that of its partner (4,3) is 3");
    entries[1].shape[1] = 0;
    entries[0].shape[0] = 0;
    tensors_refused(entries, 2, input, "a rank of 0 over 4");
    entries[0] = entry(V_PROJ "A.weight", 2, 3);
    entries[1] = (SafeTensorEntry){V_PROJ "B.weight", HONE_F32, 1, {4}, values};
    tensors_refused(entries, 2, input, "has 1 dimensions, a matrix is wanted");
    entries[1] = (SafeTensorEntry){V_PROJ "B.weight", HONE_F32, 2, {4, 2}, spoilt};
    tensors_refused(entries, 2, input, "lora_B.weight: value 1 is nan");
    entries[1] = (SafeTensorEntry){V_PROJ "B.weight", HONE_I32, 2, {4, 2}, values};
    tensors_refused(entries, 2, unsupported, "an adapter of type I32 cannot be read");
    entries[0] = entry(Q_PROJ "A.weight", 2, 3);
    entries[1] = entry(Q_PROJ "B.weight", 4, 2);
    tensors_refused(entries, 2, input, "has 4 rows, the base has 2 heads of 4 (8 rows)");
}

static void other_tensors(void) {
    static const struct {
        const char *name, *words;
    } cases[] = {
        {"base_model.model.model.embed_tokens.lora_magnitude_vector", "a DoRA of the embedding"},
        {"base_model.model.model.embed_tokens.lora_A.weight", "cannot be adapted"},
        {V_PROJ "embedding_A", "cannot be adapted"},
        {V_PROJ "B.bias", "is a bias of lora_B"},
        {"model.layers.0.self_attn.v_proj.lora_a", "MLX"},
        {"something", "is no part of a LoRA"},
        {"base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight", "cannot be adapted"},
        {"base_model.model.model.layers.00.self_attn.v_proj.lora_A.weight", "cannot be adapted"},
        {"base_model.model.model.layers.x.self_attn.v_proj.lora_A.weight", "cannot be adapted"},
        {"base_model.model.model.layers.99999999999.mlp.up_proj.lora_A.weight",
         "cannot be adapted"},
        {".lora_A.weight", "cannot be adapted"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        SafeTensorEntry one = entry(cases[i].name, 2, 2);
        tensors_refused(&one, 1, HONE_ERROR_UNSUPPORTED, cases[i].words);
    }
    // the head's own weight beside its pair is the base's, and is passed over
    SafeTensorEntry entries[3] = {entry(V_PROJ "A.weight", 2, 3), entry(V_PROJ "B.weight", 4, 2),
                                  entry("base_model.model.lm_head.base_layer.weight", 5, 3)};
    write_folder(good_config, entries, 3);
    read_accepted(2);
}

#define EMBEDDING "base_model.model.model.embed_tokens.lora_embedding_"

// A (rank, tokens) and B (width, rank) there, turned and exchanged here.
static void embeddings(void) {
    const SafeTensorEntry pair[] = {entry(EMBEDDING "A", 2, 5), entry(EMBEDDING "B", 3, 2)};
    AdapterFile file;
    HoneError err = {0};
    write_folder(good_config, pair, 2);
    check_ok(hone_adapter_read(in_folder("peft"), &base, &file, &err), &err);
    CHECK(file.count == 1 && file.pairs[0].rank == 2);
    CHECK(file.pairs[0].in == 3 && file.pairs[0].out == 5 && file.pairs[0].scale == 2);
    CHECK(file.pairs[0].A[3] == values[1] && file.pairs[0].B[2] == values[1]);
    hone_adapter_close(&file);
    tensors_refused(pair, 1, HONE_ERROR_INPUT, "has no partner A for token_embd");
    const SafeTensorEntry ranks[] = {pair[0], entry(EMBEDDING "B", 3, 4)};
    tensors_refused(ranks, 2, HONE_ERROR_INPUT, "that of its partner");
    const SafeTensorEntry flat[] = {pair[0], {EMBEDDING "B", HONE_F32, 1, {6}, values}};
    tensors_refused(flat, 2, HONE_ERROR_INPUT, "has 1 dimensions, a matrix is wanted");
}

#define SAVED_CONFIG                                                                               \
    "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"modules_to_save\":[\"norm\",\"q_proj\","   \
    "\"x\"]}"

static void whole_refused(const char *config, const SafeTensorEntry *whole, int count,
                          hone_status status, const char *words) {
    SafeTensorEntry entries[4] = {entry(V_PROJ "A.weight", 2, 3), entry(V_PROJ "B.weight", 4, 2)};
    for (int i = 0; i < count; i++) entries[2 + i] = whole[i];
    write_folder(config, entries, 2 + count);
    read_refused("peft", status, words);
}

static void whole_tensors(void) {
    static const float spoilt[8] = {1, 1, NAN};
    const hone_status input = HONE_ERROR_INPUT, unsupported = HONE_ERROR_UNSUPPORTED;
    const char *norm = "base_model.model.model.norm.weight";
    SafeTensorEntry whole[2] = {{norm, HONE_F32, 1, {3}, values}};
    whole_refused(good_config, whole, 1, input, "model.norm, which \"modules_to_save\" does not");
    whole[0].data = spoilt;
    whole_refused(SAVED_CONFIG, whole, 1, input, "norm.weight: value 2 is nan");
    whole[0] = (SafeTensorEntry){norm, HONE_F32, 3, {1, 1, 3}, values};
    whole_refused(SAVED_CONFIG, whole, 1, input, "has 3 dimensions, a vector or a matrix");
    whole[0] = (SafeTensorEntry){norm, HONE_I32, 1, {3}, values};
    whole_refused(SAVED_CONFIG, whole, 1, unsupported, "type I32 cannot be read");
    whole[0] = entry("base_model.model.model.layers.0.self_attn.q_proj.weight", 4, 3);
    whole_refused(SAVED_CONFIG, whole, 1, input, "has 4 rows, 2 heads of 4 are 8");
    whole[0] = entry("base_model.model.model.x.weight", 4, 3);
    whole_refused(SAVED_CONFIG, whole, 1, unsupported, "is not part of a llama model");
    whole[0] = entry("model.x.weight", 4, 3);
    whole_refused(SAVED_CONFIG, whole, 1, unsupported, "cannot be adapted");
    write_folder(SAVED_CONFIG, &(SafeTensorEntry){norm, HONE_F32, 1, {3}, values}, 1);
    read_refused("peft", input, "no LoRA tensors");
}

#define DORA_CONFIG "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"use_dora\":true}"

static void dora_refused(const char *config, const SafeTensorEntry *magnitude, const char *words) {
    SafeTensorEntry entries[] = {
        entry(V_PROJ "A.weight", 2, 3), entry(V_PROJ "B.weight", 4, 2), {0}};
    if (magnitude) entries[2] = *magnitude;
    write_folder(config, entries, magnitude ? 3 : 2);
    read_refused("peft", HONE_ERROR_INPUT, words);
}

static void magnitudes(void) {
    static const float spoilt[4] = {1, INFINITY, 1, 1};
    const char *name = V_PROJ "magnitude_vector";
    SafeTensorEntry magnitude = {name, HONE_F32, 1, {4}, values};
    dora_refused(DORA_CONFIG, NULL, "v_proj has no magnitude");
    dora_refused(good_config, &magnitude, "\"use_dora\" is false");
    magnitude.shape[0] = 3;
    dora_refused(DORA_CONFIG, &magnitude, "each of the 4 rows of B is wanted");
    magnitude = (SafeTensorEntry){name, HONE_F32, 2, {4, 1}, values};
    dora_refused(DORA_CONFIG, &magnitude, "has 2 dimensions");
    magnitude = (SafeTensorEntry){name, HONE_F32, 1, {4}, spoilt};
    dora_refused(DORA_CONFIG, &magnitude, "magnitude_vector: value 1 is inf");
    const SafeTensorEntry alone = {name, HONE_F32, 1, {4}, values};
    write_folder(DORA_CONFIG, &alone, 1);
    read_refused("peft", HONE_ERROR_INPUT, "blk.0.attn_v.weight has a magnitude and no pair");
}

static void other_folders(void) {
    HoneError err = {0};
    check_ok(hone_directory_make(in_folder("other"), &err), &err);
    read_refused("other", HONE_ERROR_INPUT, "adapter_config.json is missing in this folder");
    put_file("other/adapter_config.json", good_config, strlen(good_config));
    read_refused("other", HONE_ERROR_INPUT, "adapter_model.safetensors is missing in this folder");
    put_file("other/adapter_model.bin", "", 0);
    read_refused("other", HONE_ERROR_UNSUPPORTED, "adapter_model.bin is a Python pickle");
    put_file("other/adapters.safetensors", "", 0);
    read_refused("other", HONE_ERROR_INPUT, "\"lora_parameters\" is missing");
    put_file("other/adapter_model.safetensors", "", 0);
    read_refused("other", HONE_ERROR_INPUT, "adapter_model.safetensors: the file is empty");
}

// ---- MLX-LM ------------------------------------------------------------------------------------

#define MLX_V "model.layers.0.self_attn.v_proj.lora_"
static const char good_mlx[] = "{\"fine_tune_type\":\"lora\",\"lora_parameters\":{\"scale\":2.5}}";

static void write_mlx(const char *config, const SafeTensorEntry *entries, int64_t count) {
    HoneError err = {0};
    check_ok(hone_directory_make(in_folder("mlx"), &err), &err);
    put_file("mlx/adapter_config.json", config, strlen(config));
    check_ok(hone_safetensors_write(in_folder("mlx/adapters.safetensors"), entries, count, &err),
             &err);
}

static void mlx_refused(const char *config, const SafeTensorEntry *entries, int64_t count,
                        hone_status status, const char *words) {
    write_mlx(config, entries, count);
    read_refused("mlx", status, words);
}

// With the magnitude of each row, which all pairs have or none.
static void mlx_doras(const SafeTensorEntry *pair) {
    static const char *const configs[] = {
        "{\"fine_tune_type\":\"dora\",\"lora_parameters\":{\"scale\":1}}",
        "{\"lora_parameters\":{\"scale\":1},\"use_dora\":true}"}; // older versions'
    SafeTensorEntry dora[] = {
        pair[0], pair[1], {"model.layers.0.self_attn.v_proj.m", HONE_F32, 1, {4}, values}};
    AdapterFile file;
    HoneError err = {0};
    for (int i = 0; i < 2; i++) {
        write_mlx(configs[i], dora, 3);
        check_ok(hone_adapter_read(in_folder("mlx"), &base, &file, &err), &err);
        CHECK(file.count == 1 && file.pairs[0].magnitude[3] == values[3]);
        hone_adapter_close(&file);
        mlx_refused(configs[i], pair, 2, HONE_ERROR_INPUT, "says dora, and blk.0.attn_v.weight");
    }
    mlx_refused(good_mlx, dora, 3, HONE_ERROR_INPUT, "says lora, and blk.0.attn_v.weight");
    mlx_refused(configs[0], dora + 2, 1, HONE_ERROR_INPUT, "has a magnitude and no pair");
    dora[2].shape[0] = 3;
    mlx_refused(configs[0], dora, 3, HONE_ERROR_INPUT, "a magnitude for each of the 4 rows");
    dora[2] = (SafeTensorEntry){"model.embed_tokens.m", HONE_F32, 1, {4}, values};
    mlx_refused(configs[0], dora, 3, HONE_ERROR_UNSUPPORTED, "a DoRA of the embedding");
}

// A (in, rank) and B (rank, out).
static void mlx_folders(void) {
    const SafeTensorEntry pair[] = {entry(MLX_V "a", 3, 2), entry(MLX_V "b", 2, 4)};
    AdapterFile file;
    HoneError err = {0};
    write_mlx(good_mlx, pair, 2);
    check_ok(hone_adapter_read(in_folder("mlx"), &base, &file, &err), &err);
    CHECK(file.count == 1 && file.pairs[0].scale == 2.5f);
    CHECK(file.pairs[0].rank == 2 && file.pairs[0].in == 3 && file.pairs[0].out == 4);
    CHECK(file.pairs[0].A[3] == values[1] && file.pairs[0].B[2] == values[1]); // turned
    hone_adapter_close(&file);
    hone_status input = HONE_ERROR_INPUT, unsupported = HONE_ERROR_UNSUPPORTED;
    mlx_refused("{", pair, 2, input, "adapter_config.json: line 1: ");
    mlx_refused("[]", pair, 2, input, "a JSON object is wanted");
    mlx_refused("{\"lora_parameters\":{}}", pair, 2, input, "no number \"scale\"");
    mlx_refused("{\"lora_parameters\":{\"scale\":1e300}}", pair, 2, input, "\"scale\" is 1e+300");
    mlx_refused("{\"fine_tune_type\":\"full\",\"lora_parameters\":{\"scale\":1}}", pair, 2,
                unsupported, "\"fine_tune_type\" is \"full\"");
    mlx_doras(pair);
    mlx_refused(good_mlx, pair, 1, input, "has no partner B");
    const SafeTensorEntry ranks[] = {entry(MLX_V "a", 3, 2), entry(MLX_V "b", 3, 4)};
    mlx_refused(good_mlx, ranks, 2, input, "is 2, that of its partner");
    const SafeTensorEntry heads[] = {entry("model.layers.0.self_attn.q_proj.lora_a", 3, 2),
                                     entry("model.layers.0.self_attn.q_proj.lora_b", 2, 4)};
    mlx_refused(good_mlx, heads, 2, input, "has 4 rows, the base has 2 heads of 4 (8 rows)");
    const SafeTensorEntry flat[] = {{MLX_V "a", HONE_F32, 1, {6}, values}, pair[1]};
    mlx_refused(good_mlx, flat, 2, input, "has 1 dimensions");
    const SafeTensorEntry other[] = {entry("model.embed_norm.lora_a", 3, 2)};
    mlx_refused(good_mlx, other, 1, unsupported, "this module cannot be adapted");
    const SafeTensorEntry table[] = {entry("model.embed_tokens.lora_a", 5, 2),
                                     entry("model.embed_tokens.lora_b", 2, 3)};
    write_mlx(good_mlx, table, 2);
    check_ok(hone_adapter_read(in_folder("mlx"), &base, &file, &err), &err);
    CHECK(file.pairs[0].out == 5 && file.pairs[0].in == 3 && file.pairs[0].rank == 2);
    CHECK(file.pairs[0].A[1] == values[1] && file.pairs[0].B[1] == values[1]);
    hone_adapter_close(&file);
    const SafeTensorEntry whole[] = {entry("model.norm.weight", 3, 2)};
    mlx_refused(good_mlx, whole, 1, unsupported, "is no part of a LoRA");
    mlx_refused(good_mlx, NULL, 0, input, "no LoRA tensors");
}

typedef struct GgufCase {
    const char *architecture, *type, *kind;
    float alpha;
    const char *A, *B;
    int64_t B_rank;
} GgufCase;

static const char *write_gguf(const GgufCase *made) {
    GgufWriter *writer = NULL;
    HoneError err = {0};
    const char *path = in_folder("adapter.gguf");
    check_ok(hone_gguf_writer_create(&writer, &err), &err);
    hone_gguf_put_string(writer, "general.architecture", made->architecture);
    hone_gguf_put_string(writer, "general.type", made->type);
    if (made->kind) hone_gguf_put_string(writer, "adapter.type", made->kind);
    hone_gguf_put_f32(writer, "adapter.lora.alpha", made->alpha);
    if (made->A) hone_gguf_add_tensor(writer, made->A, HONE_F32, 2, (const int64_t[]){2, 3});
    if (made->B)
        hone_gguf_add_tensor(writer, made->B, HONE_F32, 2, (const int64_t[]){4, made->B_rank});
    check_ok(hone_gguf_writer_begin(writer, path, &err), &err);
    if (made->A) check_ok(hone_gguf_write_tensor(writer, values, 24, &err), &err);
    if (made->B)
        check_ok(hone_gguf_write_tensor(writer, values, (size_t)made->B_rank * 16, &err), &err);
    check_ok(hone_gguf_writer_commit(writer, &err), &err);
    hone_gguf_writer_free(writer);
    return path;
}

static void gguf_adapters(void) {
    static const char A[] = "blk.0.attn_v.weight.lora_a", B[] = "blk.0.attn_v.weight.lora_b";
    hone_status input = HONE_ERROR_INPUT, unsupported = HONE_ERROR_UNSUPPORTED;
    const struct {
        GgufCase made;
        hone_status status;
        const char *words;
    } cases[] = {
        {{"gpt2", "adapter", "lora", 4, A, B, 2},
         input,
         "general.architecture is \"gpt2\", the base model's is \"llama\""},
        {{"llama", "model", "lora", 4, A, B, 2}, input, "general.type is \"model\""},
        {{"llama", "adapter", NULL, 4, A, B, 2}, input, "key adapter.type is missing"},
        {{"llama", "adapter", "loha", 4, A, B, 2}, input, "adapter.type is \"loha\""},
        {{"llama", "adapter", "lora", INFINITY, A, B, 2}, input, "adapter.lora.alpha is inf"},
        {{"llama", "adapter", "lora", 4, NULL, NULL, 2}, input, "no LoRA tensors"},
        {{"llama", "adapter", "lora", 4, A, NULL, 2}, input, "has no partner B for blk.0.attn_v"},
        {{"llama", "adapter", "lora", 4, A, B, 3}, input, "that of its partner (4,3) is 3"},
        {{"llama", "adapter", "lora", 4, "blk.0.attn_norm.weight", NULL, 2},
         unsupported,
         "blk.0.attn_norm.weight is no part of a LoRA"},
        {{"llama", "adapter", "lora", 4, "token_embd.weight.lora_a", NULL, 2},
         input,
         "has no partner A for token_embd"},
        {{"llama", "adapter", "lora", 4, "token_embd.weight.lora_a", "token_embd.weight.lora_b", 2},
         input,
         "is 2, that of its partner (2,3) is 3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_gguf(&cases[i].made);
        read_refused("adapter.gguf", cases[i].status, cases[i].words);
    }
    AdapterFile file;
    HoneError err = {0};
    const char *path = write_gguf(&(GgufCase){"llama", "adapter", "lora", 0, A, B, 2});
    check_ok(hone_adapter_read(path, &base, &file, &err), &err);
    CHECK(file.count == 1 && file.pairs[0].scale == 1); // no alpha: B·A as it is
    hone_adapter_close(&file);
}

int main(void) {
    make_test_folder();
    RUN(configs);
    RUN(patterns);
    RUN(tensors);
    RUN(other_tensors);
    RUN(embeddings);
    RUN(whole_tensors);
    RUN(magnitudes);
    RUN(other_folders);
    RUN(mlx_folders);
    RUN(gguf_adapters);
    remove_test_folder();
    return check_report();
}
