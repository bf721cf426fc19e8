// SPDX-License-Identifier: Apache-2.0
// An attention map as JSON: numbers for programs, packed for the page (attention.html).
#include "train/attention_map.h"

#include <math.h>
#include <string.h>

static void put_range(TextBuffer *json, const char *name, int64_t first, int64_t count) {
    hone_text_printf(json, ",\"%s\":[", name);
    for (int64_t i = 0; i < count; i++)
        hone_text_printf(json, "%s%lld", i ? "," : "", (long long)(first + i));
    hone_text_puts(json, "]");
}

static void put_tokens(TextBuffer *json, const HoneAttentionMap *map) {
    hone_text_puts(json, ",\"tokens\":[");
    for (int64_t i = 0; i < map->info.tokens; i++)
        hone_text_printf(json, "%s%d", i ? "," : "", map->token[i]);
    hone_text_puts(json, "],\"pieces\":[");
    for (int64_t i = 0; i < map->info.tokens; i++) {
        const TokenizerText piece = hone_token_bytes(map->model->tokenizer, map->token[i], true);
        hone_text_puts(json, i ? "," : "");
        hone_text_json(json, piece.data, piece.length);
    }
    hone_text_puts(json, "]");
}

// Of query i are keys 0 … i written where none after it is seen, else all.
static int64_t keys_of(const HoneAttentionMap *map, int64_t query) {
    return map->info.causal ? query + 1 : map->info.tokens;
}

static void put_square(TextBuffer *json, const HoneAttentionMap *map, const float *p) {
    const int64_t T = map->info.tokens;
    hone_text_puts(json, "[");
    for (int64_t i = 0; i < T; i++) {
        hone_text_puts(json, i ? ",[" : "[");
        for (int64_t j = 0; j < keys_of(map, i); j++) {
            if (j) hone_text_puts(json, ",");
            if (p[i * T + j] == 0)
                hone_text_puts(json, "0");
            else
                hone_text_printf(json, "%.7g", (double)p[i * T + j]);
        }
        hone_text_puts(json, "]");
    }
    hone_text_puts(json, "]");
}

// [layer][head] of a measure.
static void put_measure(TextBuffer *json, const HoneAttentionMap *map, const char *name,
                        MapMeasure measure, int side) {
    hone_text_printf(json, "\"%s\":[", name);
    for (int64_t l = 0; l < map->info.layers; l++)
        for (int64_t h = 0; h < map->info.heads; h++)
            hone_text_printf(json, "%s%.7g%s",
                             h   ? ","
                             : l ? ",["
                                 : "[",
                             map_measure(map, measure, side, l, h),
                             h + 1 == map->info.heads ? "]" : "");
    hone_text_puts(json, "]");
}

// ---- numbers -----------------------------------------------------------------------------------

// average [layer] and weights [layer][head] of [query][key].
static void put_weights(TextBuffer *json, const HoneAttentionMap *map, HoneMapSide side,
                        float *shown) {
    const HoneAttentionMapInfo *info = &map->info;
    hone_text_puts(json, "\"average\":[");
    for (int64_t l = 0; l < info->layers; l++) {
        hone_map_shown(map, side, l, -1, shown);
        hone_text_puts(json, l ? "," : "");
        put_square(json, map, shown);
    }
    hone_text_puts(json, "],\"weights\":[");
    for (int64_t l = 0; l < info->layers; l++)
        for (int64_t h = 0; h < info->heads; h++) {
            hone_map_shown(map, side, l, h, shown);
            hone_text_puts(json, h ? "," : l ? ",[" : "[");
            put_square(json, map, shown);
            if (h + 1 == info->heads) hone_text_puts(json, "]");
        }
    hone_text_puts(json, "]");
}

static void put_side(TextBuffer *json, const HoneAttentionMap *map, int side, float *shown) {
    put_measure(json, map, "entropy", MAP_ENTROPY, side);
    hone_text_puts(json, ",");
    put_measure(json, map, "distance", MAP_DISTANCE, side);
    hone_text_puts(json, ",");
    put_weights(json, map, side == 0 ? HONE_MAP_ADAPTED : HONE_MAP_BASE, shown);
}

static void put_numbers(TextBuffer *json, const HoneAttentionMap *map) {
    const int64_t square = map->info.tokens * map->info.tokens;
    float *shown = hone_alloc((size_t)square * sizeof *shown);
    if (!shown) {
        json->failed = true;
        return;
    }
    hone_text_puts(json, ",");
    put_side(json, map, 0, shown);
    if (map->info.adapted) {
        hone_text_puts(json, ",\"base\":{");
        put_side(json, map, 1, shown);
        hone_text_puts(json, "},\"difference\":{");
        put_measure(json, map, "change", MAP_CHANGE, 0);
        hone_text_puts(json, ",");
        put_weights(json, map, HONE_MAP_DIFFERENCE, shown);
        hone_text_puts(json, "}");
    }
    hone_free(shown);
}

// ---- packed ------------------------------------------------------------------------------------

// Three bytes as four characters.
typedef struct Base64 {
    TextBuffer *out;
    unsigned char held[3];
    int count;
} Base64;

static void put_group(Base64 *base64) {
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *b = base64->held;
    const unsigned bits = (unsigned)b[0] << 16 | (unsigned)b[1] << 8 | b[2];
    char four[4];
    for (int i = 0; i < 4; i++)
        four[i] = i > base64->count ? '=' : alphabet[bits >> (18 - 6 * i) & 63];
    hone_text_append(base64->out, four, sizeof four);
    memset(base64->held, 0, sizeof base64->held);
    base64->count = 0;
}

static void put_byte(Base64 *base64, unsigned char byte) {
    base64->held[base64->count++] = byte;
    if (base64->count == 3) put_group(base64);
}

// Weights in 65535ths, lower byte first, [layer][head][query][key].
static void put_packed(TextBuffer *json, const HoneAttentionMap *map, int side) {
    const HoneAttentionMapInfo *info = &map->info;
    Base64 base64 = {.out = json};
    hone_text_puts(json, "{");
    put_measure(json, map, "entropy", MAP_ENTROPY, side);
    hone_text_puts(json, ",");
    put_measure(json, map, "distance", MAP_DISTANCE, side);
    hone_text_puts(json, ",\"weights\":\"");
    for (int64_t head = 0; head < info->layers * info->heads; head++) {
        const float *p = map_weights(map, side, head / info->heads, head % info->heads);
        for (int64_t i = 0; i < info->tokens; i++)
            for (int64_t j = 0; j < keys_of(map, i); j++) {
                const float share = p[i * info->tokens + j];
                const unsigned value = (unsigned)lrintf((share < 1 ? share : 1) * 65535);
                put_byte(&base64, (unsigned char)(value & 255));
                put_byte(&base64, (unsigned char)(value >> 8));
            }
    }
    if (base64.count) put_group(&base64);
    hone_text_puts(json, "\"}");
}

void hone_map_json(const HoneAttentionMap *map, bool packed, HoneMapSide side, TextBuffer *json) {
    static const char *const sides[] = {"adapted", "base", "difference"};
    const HoneModel *model = map->model;
    hone_text_printf(json, "{\"version\":\"%s\",\"model\":", HONE_VERSION);
    hone_text_json(json, model->name, strlen(model->name));
    hone_text_puts(json, ",\"adapters\":[");
    for (int i = 0; i < model->adapter_paths && map->info.adapted; i++) {
        hone_text_puts(json, i ? "," : "");
        hone_text_json(json, model->adapter_path[i], strlen(model->adapter_path[i]));
    }
    hone_text_printf(json, "],\"causal\":%s,\"cut\":%lld", map->info.causal ? "true" : "false",
                     (long long)map->info.cut);
    put_tokens(json, map);
    put_range(json, "layers", map->info.first_layer, map->info.layers);
    put_range(json, "heads", map->info.first_head, map->info.heads);
    if (!packed) {
        put_numbers(json, map);
        hone_text_puts(json, "}");
        return;
    }
    hone_text_printf(json, ",\"shown\":\"%s\",\"sides\":[", sides[side]);
    for (int i = 0; i < map->sides; i++) {
        hone_text_puts(json, i ? "," : "");
        put_packed(json, map, i);
    }
    hone_text_puts(json, "],");
    put_measure(json, map, "change", MAP_CHANGE, 0);
    hone_text_puts(json, "}");
}
