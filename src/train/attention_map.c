// SPDX-License-Identifier: Apache-2.0
// What each head attends to on a text: <hone/attention_map.h>. One forward pass over all tokens, in
// which the attention operator shows its weights; two of them where there are adapters.
#include "train/attention_map.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "train/decode.h"
#include "train/page.h"

// ---- the text ----------------------------------------------------------------------------------

static hone_status chat_tokens(HoneAttentionMap *map, const char *text, size_t length,
                               HoneError *err) {
    char *content = hone_strndup(text, length);
    if (!content) return hone_fail_memory(err, length, "a message");
    const ChatMessage message = {"user", content, true, NULL};
    const DataOptions options = hone_model_data_options(map->model, NULL);
    TokenList list = {0};
    hone_status status = hone_chat_prompt(&options, &message, 1, &list, err);
    if (status == HONE_OK) {
        const size_t bytes = (size_t)list.count * sizeof *map->token;
        map->token = hone_alloc(bytes + 1);
        if (!map->token) status = hone_fail_memory(err, bytes, "tokens");
        if (map->token && list.count) memcpy(map->token, list.tokens, bytes);
        map->info.tokens = list.count;
    }
    hone_token_list_free(&list);
    hone_free(content);
    return status;
}

static hone_status take_text(HoneAttentionMap *map, const char *text, size_t length,
                             const HoneAttentionMapOptions *options, HoneError *err) {
    HoneAttentionMapInfo *info = &map->info;
    if (options->chat)
        RETURN_IF_ERROR(chat_tokens(map, text, length, err));
    else
        RETURN_IF_ERROR(
            hone_prompt_tokens(map->model, text, length, &map->token, &info->tokens, err));
    info->token = map->token;
    if (options->max_length > 0 && info->tokens > options->max_length) {
        info->cut = info->tokens - options->max_length;
        info->tokens = options->max_length;
    }
    if (info->tokens == 0)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "the text has no tokens: there is nothing to attend to");
    if (info->tokens > map->model->config.context)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "the text has %" PRId64 " tokens, the model's context is %" PRId64,
                         info->tokens, map->model->config.context);
    return HONE_OK;
}

// ---- which heads, and is there room ------------------------------------------------------------

static hone_status choose(const char *what, int64_t wanted, int64_t there, int64_t *first,
                          int64_t *count, HoneError *err) {
    *first = wanted < 0 ? 0 : wanted;
    *count = wanted < 0 ? there : 1;
    if (wanted < there) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT,
                     "there is no %s %" PRId64 ": the model's are 0 to %" PRId64, what, wanted,
                     there - 1);
}

// Most weights of one layer that the operator makes at once: 1 GB.
enum { MOST_AT_ONCE = 1 << 28 };

static hone_status check_room(const HoneAttentionMap *map, HoneError *err) {
    const HoneAttentionMapInfo *info = &map->info;
    const int64_t kept = map->sides * info->layers * info->heads;
    const double T = (double)info->tokens, all = map->model->config.heads;
    int64_t most = (int64_t)sqrt((double)HONE_MAP_WEIGHTS / (double)kept);
    const int64_t at_once = (int64_t)sqrt(MOST_AT_ONCE / all);
    if (at_once < most) most = at_once;
    if (info->tokens <= most) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT,
                     "the text has %" PRId64 " tokens, whose map of %" PRId64
                     " heads%s has %.0f million weights: cut it to %" PRId64
                     " tokens with --max-length, or choose a layer or a head",
                     info->tokens, info->layers * info->heads,
                     map->sides > 1 ? " with and without adapters" : "", T * T * (double)kept / 1e6,
                     most);
}

static hone_status make_room(HoneAttentionMap *map, HoneError *err) {
    const HoneAttentionMapInfo *info = &map->info;
    const size_t heads = (size_t)(map->sides * info->layers * info->heads);
    const size_t bytes = heads * (size_t)(info->tokens * info->tokens) * sizeof(float);
    map->weights = hone_calloc(1, bytes);
    if (!map->weights) return hone_fail_memory(err, bytes, "a map of attention");
    for (int i = 0; i < MAP_MEASURES; i++) {
        map->measure[i] = hone_calloc(heads, sizeof(double));
        if (!map->measure[i]) return hone_fail_memory(err, heads * sizeof(double), "a map");
    }
    return HONE_OK;
}

// ---- the forward pass --------------------------------------------------------------------------

typedef struct Taking {
    HoneAttentionMap *map;
    int side;
    int64_t layer; // that the next call of the operator is
} Taking;

// One layer's weights, of which the chosen heads are kept.
static void take(void *user, int heads, int64_t queries, int64_t keys, const float *p) {
    Taking *taking = user;
    const HoneAttentionMapInfo *info = &taking->map->info;
    const int64_t layer = taking->layer++ - info->first_layer;
    const int64_t square = info->tokens * info->tokens;
    if (layer < 0 || layer >= info->layers || info->first_head + info->heads > heads ||
        queries * keys != square)
        return;
    const float *kept = map_weights(taking->map, taking->side, layer, 0);
    memcpy((float *)(uintptr_t)kept, p + info->first_head * square,
           (size_t)(info->heads * square) * sizeof *p);
}

static hone_status run(HoneAttentionMap *map, int side, HoneError *err) {
    HoneModel *model = map->model;
    const int64_t T = map->info.tokens;
    Tape *tape = hone_tape_create(&model->context->kernels, (TapeOptions){.gradients = false});
    if (!tape) return hone_fail_memory(err, 0, "a map of attention");
    int32_t *position = hone_tape_host(tape, T, sizeof *position);
    int32_t *end = hone_tape_host(tape, T, sizeof *end);
    Taking taking = {map, side, 0};
    hone_tape_take_weights(tape, take, &taking);
    if (position && end) {
        for (int64_t i = 0; i < T; i++) {
            position[i] = (int32_t)i;
            end[i] = (int32_t)T;
        }
        const ModelBatch batch = {.tokens = T,
                                  .token = map->token,
                                  .position = position,
                                  .begin = position,
                                  .end = end,
                                  .rows = T};
        hone_model_forward(model->model, tape, &batch);
    }
    hone_status status = hone_tape_status(tape, err);
    hone_tape_free(tape);
    if (status == HONE_OK && taking.layer != model->config.layers)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: %" PRId64 " of the %d layers of this model attend", model->name,
                         taking.layer, model->config.layers);
    return status;
}

// ---- what sums a head up -----------------------------------------------------------------------

// NaN where a weight is.
static void measure_head(HoneAttentionMap *map, int side, int64_t layer, int64_t head) {
    const int64_t T = map->info.tokens;
    const int64_t at = (side * map->info.layers + layer) * map->info.heads + head;
    const float *p = map_weights(map, side, layer, head);
    double entropy = 0, distance = 0;
    for (int64_t i = 0; i < T; i++)
        for (int64_t j = 0; j < T; j++) {
            const double weight = (double)p[i * T + j];
            if (weight == 0) continue;
            entropy -= weight * log(weight);
            distance += weight * fabs((double)(i - j));
            if (j > i) map->info.causal = false;
        }
    map->measure[MAP_ENTROPY][at] = fabs(entropy) / (double)T;
    map->measure[MAP_DISTANCE][at] = distance / (double)T;
}

static void measure_change(HoneAttentionMap *map, int64_t layer, int64_t head) {
    const int64_t T = map->info.tokens;
    const float *p = map_weights(map, HONE_MAP_ADAPTED, layer, head);
    const float *base = map_weights(map, HONE_MAP_BASE, layer, head);
    double change = 0;
    for (int64_t i = 0; i < T * T; i++) change += fabs((double)p[i] - (double)base[i]);
    map->measure[MAP_CHANGE][layer * map->info.heads + head] = change / 2 / (double)T;
}

static hone_status measure(HoneAttentionMap *map, HoneError *err) {
    map->info.causal = true;
    for (int side = 0; side < map->sides; side++)
        for (int64_t layer = 0; layer < map->info.layers; layer++)
            for (int64_t head = 0; head < map->info.heads; head++) {
                measure_head(map, side, layer, head);
                if (!isfinite(map_measure(map, MAP_DISTANCE, side, layer, head)))
                    return hone_fail(err, HONE_ERROR_NUMERIC,
                                     "the weights of layer %" PRId64 ", head %" PRId64
                                     " are not finite: the model or an adapter holds NaN or "
                                     "infinity, or makes it",
                                     layer + map->info.first_layer, head + map->info.first_head);
                if (side) measure_change(map, layer, head);
            }
    return HONE_OK;
}

// ---- the public calls --------------------------------------------------------------------------

static hone_status fill(HoneAttentionMap *map, const char *text, size_t length,
                        const HoneAttentionMapOptions *options, HoneError *err) {
    HoneAttentionMapInfo *info = &map->info;
    HoneModel *model = map->model;
    if (model->config.encoder_layers > 0)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: maps of encoder-decoders are not drawn yet, only those of decoders",
                         model->name);
    RETURN_IF_ERROR(choose("layer", options->layer, model->config.layers, &info->first_layer,
                           &info->layers, err));
    RETURN_IF_ERROR(
        choose("head", options->head, model->config.heads, &info->first_head, &info->heads, err));
    RETURN_IF_ERROR(take_text(map, text, length, options, err));
    info->adapted = model->adapter_paths > 0 && model->adapters_enabled;
    map->sides = info->adapted ? 2 : 1;
    RETURN_IF_ERROR(check_room(map, err));
    RETURN_IF_ERROR(make_room(map, err));
    RETURN_IF_ERROR(run(map, HONE_MAP_ADAPTED, err));
    if (info->adapted) {
        hone_model_enable_adapters(model, false);
        hone_status status = run(map, HONE_MAP_BASE, err);
        hone_model_enable_adapters(model, true);
        RETURN_IF_ERROR(status);
    }
    return measure(map, err);
}

hone_status hone_attention_map_create(HoneModel *model, const char *text, size_t length,
                                      const HoneAttentionMapOptions *options,
                                      HoneAttentionMap **map) {
    HoneError *err = hone_begin(model->context);
    *map = NULL;
    RETURN_IF_ERROR(hone_need_decoder(model, "a map shows what goes before a token alone"));
    HoneAttentionMap *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "a map of attention");
    made->model = model;
    hone_status status = fill(made, text, length, options, err);
    if (status != HONE_OK) {
        hone_attention_map_free(made);
        return status;
    }
    *map = made;
    return HONE_OK;
}

void hone_attention_map_free(HoneAttentionMap *map) {
    if (!map) return;
    for (int i = 0; i < MAP_MEASURES; i++) hone_free(map->measure[i]);
    hone_free(map->weights);
    hone_free(map->token);
    hone_free(map);
}

void hone_attention_map_info(const HoneAttentionMap *map, HoneAttentionMapInfo *info) {
    *info = map->info;
}

const float *hone_attention_map_weights(const HoneAttentionMap *map, int64_t layer, int64_t head,
                                        HoneMapSide side) {
    const HoneAttentionMapInfo *info = &map->info;
    const int64_t l = layer - info->first_layer, h = head - info->first_head;
    if (l < 0 || l >= info->layers || h < 0 || h >= info->heads || (int)side >= map->sides)
        return NULL;
    return map_weights(map, (int)side, l, h);
}

void hone_map_shown(const HoneAttentionMap *map, HoneMapSide side, int64_t layer, int64_t head,
                    float *shown) {
    const int64_t square = map->info.tokens * map->info.tokens;
    const int64_t first = head < 0 ? 0 : head, count = head < 0 ? map->info.heads : 1;
    memset(shown, 0, (size_t)square * sizeof *shown);
    for (int64_t h = first; h < first + count; h++) {
        const float *p = map_weights(map, side == HONE_MAP_BASE ? 1 : 0, layer, h);
        const float *base = side == HONE_MAP_DIFFERENCE ? map_weights(map, 1, layer, h) : NULL;
        for (int64_t i = 0; i < square; i++)
            shown[i] += (p[i] - (base ? base[i] : 0)) / (float)count;
    }
}

hone_status hone_attention_map_json(const HoneAttentionMap *map, char **text, size_t *length) {
    HoneError *err = hone_begin(map->model->context);
    TextBuffer json = {0};
    hone_map_json(map, false, HONE_MAP_ADAPTED, &json);
    return hone_give_text(&json, text, length, err);
}

hone_status hone_attention_map_write(const HoneAttentionMap *map, HoneMapForm form,
                                     HoneMapSide side, const char *path) {
    HoneError *err = hone_begin(map->model->context);
    if (side != HONE_MAP_ADAPTED && !map->info.adapted)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "%s: without an adapter there is neither base nor difference to show",
                         path);
    if (form == HONE_MAP_PICTURE) return hone_map_picture(map, side, path, err);
    TextBuffer json = {0};
    hone_map_json(map, form == HONE_MAP_PAGE, side, &json);
    hone_status status = HONE_OK;
    if (form == HONE_MAP_PAGE) {
        status = hone_page_write(path, hone_attention_html, &json, err);
    } else {
        hone_text_puts(&json, "\n");
        status = json.failed ? hone_fail_memory(err, json.length, "a map of attention")
                             : hone_file_write(path, json.data, json.length, err);
    }
    hone_text_free(&json);
    return status;
}
