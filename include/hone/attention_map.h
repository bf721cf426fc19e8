// SPDX-License-Identifier: Apache-2.0
// Attention maps: what each head of a model attends to on a text, as a page, a picture or JSON.
//
//     HoneAttentionMap *map = NULL;
//     HoneAttentionMapOptions options = {.layer = -1, .head = -1};
//     if (hone_attention_map_create(model, "The cat sat.", 12, &options, &map) == HONE_OK)
//         hone_attention_map_write(map, HONE_MAP_PAGE, HONE_MAP_ADAPTED, "map.html");
//     hone_attention_map_free(map);
//
// The weight p_ij of a head is the share with which the value of token j goes into the sum that
// query i reads: e^s_ij / Σ_j e^s_ij over the tokens j that i sees (<hone/attention.h>). Of each
// head three numbers sum up its map:
//     entropy  = mean over queries i of −Σ_j p_ij · ln p_ij, in nats: 0 looks at one token
//     distance = mean over i of Σ_j p_ij · |i − j|, in tokens
//     change   = mean over i of ½ · Σ_j |p_ij − base_ij|: 0 the same with adapters as without,
//                1 nothing in common
#ifndef HONE_ATTENTION_MAP_H
#define HONE_ATTENTION_MAP_H

#include <hone/model.h>

#ifdef __cplusplus
extern "C" {
#endif

// The most weights that a map holds, of all its heads, with adapters and without: 128 MB.
#define HONE_MAP_WEIGHTS ((int64_t)1 << 25)

typedef struct HoneAttentionMapOptions {
    int64_t layer, head; // from 0 on; −1: all
    int64_t max_length;  // the text's first tokens only; 0: all of them
    bool chat;           // the text is a user's message, in the model's chat template
} HoneAttentionMapOptions;

typedef enum HoneMapForm {
    HONE_MAP_PAGE,    // HTML that loads nothing from anywhere
    HONE_MAP_PICTURE, // PNG; HONE_ERROR_UNSUPPORTED in a build without libpng
    HONE_MAP_JSON
} HoneMapForm;

typedef enum HoneMapSide {
    HONE_MAP_ADAPTED,   // the model with its adapters, or as it is where it has none
    HONE_MAP_BASE,      // without them
    HONE_MAP_DIFFERENCE // the first less the second
} HoneMapSide;

typedef struct HoneAttentionMap HoneAttentionMap;

// Compute the map of a text (any bytes; spelled-out control tokens are those tokens, and BOS comes
// first where the model begins texts with it). A model with adapters is run with them and without.
// HONE_ERROR_ARGUMENT: an empty text, one longer than the model's context, more weights than
// HONE_MAP_WEIGHTS, a layer or head that is not there; HONE_ERROR_NUMERIC: weights that are not
// finite. Caller frees *map, before the model.
hone_status hone_attention_map_create(HoneModel *model, const char *text, size_t length,
                                      const HoneAttentionMapOptions *options,
                                      HoneAttentionMap **map);
void hone_attention_map_free(HoneAttentionMap *map); // NULL is allowed

typedef struct HoneAttentionMapInfo {
    int64_t tokens, layers, heads; // layers and heads of the map
    int64_t first_layer, first_head;
    int64_t cut;          // tokens of the text that max_length left out
    const int32_t *token; // (tokens), borrowed from the map
    bool adapted;         // there is a base
    bool causal;          // no token sees one after it
} HoneAttentionMapInfo;
void hone_attention_map_info(const HoneAttentionMap *map, HoneAttentionMapInfo *info);

// (tokens, tokens) of queries and keys, 0 where a query does not see a key; layer and head are
// counted in the model. NULL: not in the map, or no base. Borrowed from the map. side: not the
// difference.
const float *hone_attention_map_weights(const HoneAttentionMap *map, int64_t layer, int64_t head,
                                        HoneMapSide side);

// Write file `path`. side: what the page begins with and what the picture shows; without adapters
// HONE_ERROR_ARGUMENT for any but the first.
hone_status hone_attention_map_write(const HoneAttentionMap *map, HoneMapForm form,
                                     HoneMapSide side, const char *path);
// What HONE_MAP_JSON writes, one line without the newline. Caller frees *text with hone_free.
hone_status hone_attention_map_json(const HoneAttentionMap *map, char **text, size_t *length);

#ifdef __cplusplus
}
#endif
#endif
