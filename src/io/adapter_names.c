// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/adapter.h"
#include "io/gguf.h"
#include "io/hf.h"
#include "io/hf_parts.h"

// The linear layers of a block, in the order of the computation.
enum { Q, K, V, QKV, O, ROUTER, GATE, UP, DOWN, TENSORS };
enum { MOST_LAYERS = 100000, MOST_EXPERTS = 1 << 20 };

static const char *const tensor_names[TENSORS] = {
    [Q] = "attn_q",      [K] = "attn_k",      [V] = "attn_v",
    [QKV] = "attn_qkv",  [O] = "attn_output", [ROUTER] = "ffn_gate_inp",
    [GATE] = "ffn_gate", [UP] = "ffn_up",     [DOWN] = "ffn_down",
};

// How transformers names them.
typedef struct ModuleNames {
    const char *layers;          // what comes before a layer's number
    const char *module[TENSORS]; // NULL: not in this architecture
    bool in_out;                 // weights are stored (in,out) there
    const char *expert; // what an expert's modules have before the number, in place of "mlp."
} ModuleNames;

static const ModuleNames separate = {"model.layers.",
                                     {[Q] = "self_attn.q_proj",
                                      [K] = "self_attn.k_proj",
                                      [V] = "self_attn.v_proj",
                                      [O] = "self_attn.o_proj",
                                      [GATE] = "mlp.gate_proj",
                                      [UP] = "mlp.up_proj",
                                      [DOWN] = "mlp.down_proj"},
                                     false,
                                     NULL};
static const ModuleNames mixture = {"model.layers.",
                                    {[Q] = "self_attn.q_proj",
                                     [K] = "self_attn.k_proj",
                                     [V] = "self_attn.v_proj",
                                     [O] = "self_attn.o_proj",
                                     [ROUTER] = "mlp.gate",
                                     [GATE] = "mlp.gate_proj",
                                     [UP] = "mlp.up_proj",
                                     [DOWN] = "mlp.down_proj"},
                                    false,
                                    "mlp.experts."};
static const ModuleNames fused = {"model.layers.",
                                  {[QKV] = "self_attn.qkv_proj",
                                   [O] = "self_attn.o_proj",
                                   [UP] = "mlp.gate_up_proj",
                                   [DOWN] = "mlp.down_proj"},
                                  false,
                                  NULL};
static const ModuleNames gpt2 = {
    "transformer.h.",
    {[QKV] = "attn.c_attn", [O] = "attn.c_proj", [UP] = "mlp.c_fc", [DOWN] = "mlp.c_proj"},
    true,
    NULL};

static const ModuleNames bert = {"bert.encoder.layer.",
                                 {[Q] = "attention.self.query",
                                  [K] = "attention.self.key",
                                  [V] = "attention.self.value",
                                  [O] = "attention.output.dense",
                                  [UP] = "intermediate.dense",
                                  [DOWN] = "output.dense"},
                                 false,
                                 NULL};

// T5's modules are hf_t5.c's; of these the last parts are asked for.
static const ModuleNames t5 = {
    "", {[Q] = "q", [K] = "k", [V] = "v", [O] = "o", [UP] = "wi", [DOWN] = "wo"}, false, NULL};
static const ModuleNames t5_gated = {
    "",
    {[Q] = "q", [K] = "k", [V] = "v", [O] = "o", [GATE] = "wi_0", [UP] = "wi_1", [DOWN] = "wo"},
    false,
    NULL};

static const struct Architecture {
    const char *name;
    const ModuleNames *names;
    bool permuted; // rows of q and k are in another order in GGUF files
} architectures[] = {
    {"llama", &separate, true},    {"granite", &separate, true},
    {"smollm3", &separate, true},  {"qwen2", &separate, false},
    {"qwen3", &separate, false},   {"olmo2", &separate, false},
    {"gemma2", &separate, false},  {"gemma3", &separate, false},
    {"phi3", &fused, false},       {"gpt2", &gpt2, false},
    {"qwen3moe", &mixture, false}, {"olmoe", &mixture, false},
    {"bert", &bert, false},        {"t5", &t5, false},
};

enum { ARCHITECTURES = sizeof architectures / sizeof *architectures };

const char *hone_adapter_architecture(int index) {
    return index < ARCHITECTURES ? architectures[index].name : NULL;
}

static const struct Architecture *architecture_of(const AdapterBase *base) {
    for (int i = 0; i < ARCHITECTURES; i++)
        if (strcmp(architectures[i].name, base->architecture) == 0) return &architectures[i];
    return &architectures[0];
}

static const ModuleNames *names_of(const AdapterBase *base) {
    const ModuleNames *names = architecture_of(base)->names;
    return names == &t5 && base->gated ? &t5_gated : names;
}

static bool skip_text(const char **text, const char *end, const char *wanted) {
    size_t length = strlen(wanted);
    if ((size_t)(end - *text) < length || memcmp(*text, wanted, length) != 0) return false;
    *text += length;
    return true;
}

// A layer's number as both sides write it: digits without leading zeros.
static bool skip_number(const char **text, const char *end, int *number) {
    const char *begin = *text;
    int value = 0;
    while (*text < end && **text >= '0' && **text <= '9' && value < MOST_LAYERS)
        value = value * 10 + (*(*text)++ - '0');
    *number = value;
    return *text > begin && value < MOST_LAYERS && (*begin != '0' || *text == begin + 1);
}

static bool is_rest(const char *text, const char *end, const char *wanted) {
    return skip_text(&text, end, wanted) && text == end;
}

// The table of its bias is no linear layer, and norms are none.
static bool is_t5_linear(const char *name) {
    return !strstr(name, "norm") && !strstr(name, "rel_b");
}

static bool t5_name(const AdapterBase *base, const char *module, size_t length,
                    char name[ADAPTER_NAME]) {
    char found[HF_NAME];
    if (!hone_t5_name(base->gated, module, length, found) || !is_t5_linear(found)) return false;
    return snprintf(name, ADAPTER_NAME, "%s", found) < ADAPTER_NAME;
}

static bool t5_module(const AdapterBase *base, const char *name, char module[ADAPTER_MODULE]) {
    char found[HF_STORED_NAME];
    if (!is_t5_linear(name) || !hone_t5_module(base->gated, name, found)) return false;
    return snprintf(module, ADAPTER_MODULE, "%s", found) < ADAPTER_MODULE;
}

bool hone_adapter_name(const AdapterBase *base, const char *module, size_t length,
                       char name[ADAPTER_NAME]) {
    const ModuleNames *names = names_of(base);
    const char *end = module + length;
    int layer;
    if (is_rest(module, end, "lm_head")) {
        snprintf(name, ADAPTER_NAME, "output.weight");
        return true;
    }
    const char *embedding = hone_hf_embedding(base->architecture);
    if (embedding && is_rest(module, end, embedding)) {
        snprintf(name, ADAPTER_NAME, "token_embd.weight");
        return true;
    }
    if (hone_hf_is_encoder(base->architecture)) { // with its prefix or, of the bare model, without
        char stored[HF_STORED_NAME], found[HF_NAME];
        snprintf(stored, sizeof stored, "%.*s.weight", (int)(length < 96 ? length : 96), module);
        if (!hone_hf_encoder_gguf_name(base->architecture, stored, found)) return false;
        snprintf(name, ADAPTER_NAME, "%s", found);
        return true;
    }
    if (hone_is_t5(base->architecture)) return t5_name(base, module, length, name);
    if (!skip_text(&module, end, names->layers) || !skip_number(&module, end, &layer) ||
        !skip_text(&module, end, "."))
        return false;
    int expert;
    if (names->expert && skip_text(&module, end, names->expert)) {
        if (!skip_number(&module, end, &expert) || !skip_text(&module, end, ".")) return false;
        for (int i = GATE; i <= DOWN; i++) {
            if (!is_rest(module, end, names->module[i] + strlen("mlp."))) continue;
            snprintf(name, ADAPTER_NAME, "blk.%d.%s.%d.weight", layer, tensor_names[i], expert);
            return true;
        }
        return false;
    }
    for (int i = 0; i < TENSORS; i++) {
        if (!names->module[i] || !is_rest(module, end, names->module[i])) continue;
        snprintf(name, ADAPTER_NAME, "blk.%d.%s.weight", layer, tensor_names[i]);
        return true;
    }
    return false;
}

// "blk.3.attn_q.weight" → 3, Q and -1; "blk.3.ffn_up.5.weight" → 3, UP and expert 5.
static bool split_name(const char *name, int *layer, int *kind, int *expert) {
    const char *end = name + strlen(name);
    char stacked[GGUF_NAME];
    *expert = -1;
    if (strlen(name) < GGUF_NAME && hone_gguf_expert(name, stacked, expert)) {
        char whole[GGUF_NAME];
        snprintf(whole, sizeof whole, "%.*s.weight",
                 (int)(strlen(stacked) - strlen("_exps.weight")), stacked);
        int none;
        return split_name(whole, layer, kind, &none);
    }
    if (!skip_text(&name, end, "blk.") || !skip_number(&name, end, layer) ||
        !skip_text(&name, end, "."))
        return false;
    for (*kind = 0; *kind < TENSORS; ++*kind) {
        const char *rest = name;
        if (skip_text(&rest, end, tensor_names[*kind]) && is_rest(rest, end, ".weight"))
            return true;
    }
    return false;
}

// A matrix of an encoder, outside of its layers too.
static bool encoder_module(const AdapterBase *base, const char *name, char module[ADAPTER_MODULE]) {
    char stored[HF_STORED_NAME];
    if (!hone_hf_encoder_name(base->architecture, name, stored)) return false;
    char *part = strrchr(stored, '.');
    if (!part || strcmp(part, ".weight") != 0 || part - stored >= ADAPTER_MODULE) return false;
    *part = '\0';
    const char *named = stored;
    if (base->bare) named = strchr(stored, '.') + 1; // what stands outside has no adapter
    snprintf(module, ADAPTER_MODULE, "%.*s", ADAPTER_MODULE - 1, named);
    return true;
}

bool hone_adapter_module(const AdapterBase *base, const char *name, char module[ADAPTER_MODULE]) {
    const ModuleNames *names = names_of(base);
    int layer, kind, expert;
    if (hone_hf_is_encoder(base->architecture)) return encoder_module(base, name, module);
    const char *embedding = hone_hf_embedding(base->architecture);
    if (strcmp(name, "output.weight") == 0)
        snprintf(module, ADAPTER_MODULE, "lm_head");
    else if (hone_adapter_is_embedding(name) && embedding)
        snprintf(module, ADAPTER_MODULE, "%s", embedding);
    else if (hone_is_t5(base->architecture))
        return t5_module(base, name, module);
    else if (!split_name(name, &layer, &kind, &expert) || !names->module[kind] ||
             (expert >= 0 && !names->expert))
        return false;
    else if (expert >= 0)
        snprintf(module, ADAPTER_MODULE, "%s%d.%s%d.%s", names->layers, layer, names->expert,
                 expert, names->module[kind] + strlen("mlp."));
    else
        snprintf(module, ADAPTER_MODULE, "%s%d.%s", names->layers, layer, names->module[kind]);
    return true;
}

bool hone_adapter_is_embedding(const char *name) {
    return strcmp(name, "token_embd.weight") == 0;
}

static const char *last_part(const char *module) {
    const char *dot = strrchr(module, '.');
    return dot ? dot + 1 : module;
}

const char *hone_adapter_leaf(const AdapterBase *base, const char *module) {
    const ModuleNames *names = names_of(base);
    const char *leaf = last_part(module), *own = leaf;
    int alike = 0;
    for (int i = 0; i < TENSORS; i++) {
        const char *known = names->module[i];
        if (!known || strcmp(last_part(known), leaf) != 0) continue;
        alike++;
        size_t length = strlen(known), whole = strlen(module);
        if (whole > length && strcmp(module + whole - length, known) == 0)
            own = module + whole - length;
    }
    return alike > 1 ? own : leaf;
}

void hone_adapter_known_modules(const AdapterBase *base, char list[ADAPTER_KNOWN]) {
    const ModuleNames *names = names_of(base);
    size_t used = 0;
    for (int i = 0; i < TENSORS; i++) {
        if (!names->module[i]) continue;
        const char *leaf = hone_adapter_leaf(base, names->module[i]);
        int length = snprintf(list + used, ADAPTER_KNOWN - used, "%s, ", leaf);
        used += (size_t)length;
    }
    const char *embedding = hone_hf_embedding(base->architecture);
    if (embedding)
        used += (size_t)snprintf(list + used, ADAPTER_KNOWN - used, "%s, ", last_part(embedding));
    snprintf(list + used - 2, ADAPTER_KNOWN - used + 2, " and lm_head");
}

bool hone_adapter_in_out(const AdapterBase *base) {
    return names_of(base)->in_out;
}

static int64_t sort_key(const char *name) {
    int layer, kind, expert;
    if (hone_adapter_is_embedding(name)) return -1;
    if (split_name(name, &layer, &kind, &expert))
        return ((int64_t)layer * TENSORS + kind) * MOST_EXPERTS + expert + 1;
    return strcmp(name, "output.weight") == 0 ? INT64_MAX - 1 : INT64_MAX;
}

static int compare_pairs(const void *left, const void *right) {
    const AdapterPair *a = left, *b = right;
    int64_t a_key = sort_key(a->name), b_key = sort_key(b->name);
    if (a_key != b_key) return a_key < b_key ? -1 : 1;
    return strcmp(a->name, b->name);
}

void hone_adapter_sort(AdapterPair *pairs, int64_t count) {
    qsort(pairs, (size_t)count, sizeof *pairs, compare_pairs);
}

// ---- rows --------------------------------------------------------------------------------------

// Of a matrix, or of its bias: that has the same rows.
static int heads_of(const AdapterBase *base, const char *name) {
    int layer, kind, expert;
    char matrix[ADAPTER_NAME];
    const size_t length = strlen(name);
    if (length > 5 && length < sizeof matrix - 2 && strcmp(name + length - 5, ".bias") == 0) {
        snprintf(matrix, sizeof matrix, "%.*s.weight", (int)(length - 5), name);
        name = matrix;
    }
    if (!split_name(name, &layer, &kind, &expert)) return 0;
    return kind == Q ? base->heads : kind == K ? base->kv_heads : 0;
}

int hone_adapter_permuted_heads(const AdapterBase *base, const char *name) {
    return base->rope_interleaved ? heads_of(base, name) : 0;
}

int hone_adapter_gguf_heads(const AdapterBase *base, const char *name) {
    return architecture_of(base)->permuted && !base->rope_interleaved ? heads_of(base, name) : 0;
}

static void move_rows(float *to, const float *from, int heads, int head_size, int rank,
                      bool to_gguf) {
    int half = head_size / 2;
    for (int h = 0; h < heads; h++) {
        for (int t = 0; t < 2; t++) {
            for (int j = 0; j < half; j++) {
                int64_t gguf = (int64_t)h * head_size + 2 * j + t;
                int64_t peft = (int64_t)h * head_size + t * half + j;
                int64_t target = to_gguf ? gguf : peft, source = to_gguf ? peft : gguf;
                memcpy(to + target * rank, from + source * rank, (size_t)rank * sizeof *to);
            }
        }
    }
}

void hone_adapter_rows_to_gguf(float *gguf, const float *peft, int heads, int head_size, int rank) {
    move_rows(gguf, peft, heads, head_size, rank, true);
}

void hone_adapter_rows_to_peft(float *peft, const float *gguf, int heads, int head_size, int rank) {
    move_rows(peft, gguf, heads, head_size, rank, false);
}

// ---- what writers ask --------------------------------------------------------------------------

hone_status hone_adapter_check(const char *path, const AdapterBase *base,
                               const AdapterSettings *settings, const AdapterPair *pairs,
                               int64_t count, HoneError *err) {
    if (count <= 0)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "%s: the adapter has no pairs, nothing to write",
                         path);
    if (!isfinite(settings->alpha) || !isfinite(settings->dropout))
        return hone_fail(err, HONE_ERROR_ARGUMENT, "%s: alpha is %g, dropout is %g", path,
                         (double)settings->alpha, (double)settings->dropout);
    for (int64_t i = 0; i < count; i++) {
        const AdapterPair *pair = &pairs[i];
        if (pair->rank < 1 || pair->in < 1 || pair->out < 1)
            return hone_fail(err, HONE_ERROR_ARGUMENT,
                             "%s: %s: an adapter of rank %d over %lld×%lld cannot be written: all "
                             "must be at least 1",
                             path, pair->name, pair->rank, (long long)pair->out,
                             (long long)pair->in);
        if (!isfinite(pair->scale * (float)pair->rank))
            return hone_fail(err, HONE_ERROR_ARGUMENT,
                             "%s: %s: a scale of %g at rank %d is no scale", path, pair->name,
                             (double)pair->scale, pair->rank);
        if ((pair->magnitude != NULL) != (pairs->magnitude != NULL))
            return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                             "%s: %s %s a DoRA and %s %s: PEFT has one or the other in a folder",
                             path, pairs->name, pairs->magnitude ? "has" : "has not", pair->name,
                             pair->magnitude ? "has" : "has not");
        if (pair->magnitude && hone_adapter_is_embedding(pair->name))
            return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                             "%s: %s: a DoRA of the embedding cannot be written", path, pair->name);
        int heads = hone_adapter_permuted_heads(base, pair->name);
        if (heads && pair->out != (int64_t)heads * base->head_size)
            return hone_fail(err, HONE_ERROR_ARGUMENT,
                             "%s: %s: B has %lld rows, %d heads of %d make %lld", path, pair->name,
                             (long long)pair->out, heads, base->head_size,
                             (long long)heads * base->head_size);
    }
    return HONE_OK;
}
