// SPDX-License-Identifier: Apache-2.0
// What config.json says of single layers: windows and positions. A pattern that GGUF's readers know
// by the architecture is not written.
#include <string.h>

#include "base/memory.h"
#include "io/hf_config.h"

// transformers' layer_types.
static hone_status read_types(const ConfigReading *reading, const json_t *types, int64_t layers,
                              bool *slides) {
    if (!json_is_array(types) || (int64_t)json_array_size(types) != layers)
        return hone_fail(reading->err, HONE_ERROR_INPUT,
                         "%s/config.json: \"layer_types\" is no array of %lld texts",
                         reading->folder, (long long)layers);
    for (int64_t i = 0; i < layers; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        slides[i] = type && strcmp(type, "sliding_attention") == 0;
        if (slides[i] || (type && strcmp(type, "full_attention") == 0)) continue;
        return hone_fail(reading->err, HONE_ERROR_UNSUPPORTED,
                         "%s/config.json: layer_types[%lld] is \"%.40s\"; supported: "
                         "full_attention, sliding_attention",
                         reading->folder, (long long)i, type ? type : "no text");
    }
    return HONE_OK;
}

// Where there are no layer_types: what transformers makes of the older keys.
static hone_status make_types(const ConfigReading *reading, const bool *turns, int64_t layers,
                              bool *slides) {
    const HfFamily *family = reading->family;
    int64_t first = 0, period = family->period;
    if (strcmp(family->architecture, "qwen2") == 0 || strcmp(family->architecture, "qwen3") == 0)
        RETURN_IF_ERROR(hone_hf_read_count(reading, "max_window_layers", 28, &first));
    if (family->sliding_base > 0)
        RETURN_IF_ERROR(hone_hf_read_count(reading, "sliding_window_pattern", 6, &period));
    for (int64_t i = 0; i < layers; i++)
        slides[i] =
            i >= first && (period == 0 || (i + 1) % period != 0) && !(family->turning && turns[i]);
    return HONE_OK;
}

static hone_status read_windows(const ConfigReading *reading, const bool *turns, int64_t layers,
                                bool *slides) {
    const HfFamily *family = reading->family;
    const json_t *size = json_object_get(reading->root, "sliding_window");
    const json_t *types = json_object_get(reading->root, "layer_types");
    int64_t window;
    bool any = false, usual = true;
    if (family->windowed == HF_WINDOW_NEVER || json_is_null(size) ||
        (!size && family->window == 0) ||
        (family->windowed == HF_WINDOW_ASKED &&
         !hone_hf_flag(reading, "use_sliding_window", false)))
        return HONE_OK;
    RETURN_IF_ERROR(hone_hf_read_count(reading, "sliding_window", family->window, &window));
    if (types && !json_is_null(types) && (family->period || family->windowed == HF_WINDOW_ASKED))
        RETURN_IF_ERROR(read_types(reading, types, layers, slides));
    else
        RETURN_IF_ERROR(make_types(reading, turns, layers, slides));
    for (int64_t i = 0; i < layers; i++) {
        any = any || slides[i];
        usual = usual && slides[i] == (family->period == 0 || (i + 1) % family->period != 0);
    }
    if (!any && !family->period) return HONE_OK;
    hone_hf_put_count(reading, "attention.sliding_window", window);
    if (!usual) hone_hf_put_flags(reading, "attention.sliding_window_pattern", slides, layers);
    return HONE_OK;
}

static hone_status read_turning(const ConfigReading *reading, int64_t layers, bool *turns) {
    const json_t *list = json_object_get(reading->root, "no_rope_layers");
    int64_t period = reading->family->turning;
    bool usual = true;
    for (int64_t i = 0; i < layers; i++) turns[i] = true;
    if (period == 0) return HONE_OK;
    RETURN_IF_ERROR(hone_hf_read_count(reading, "no_rope_layer_interval", period, &period));
    if (list && !json_is_null(list) &&
        (!json_is_array(list) || (int64_t)json_array_size(list) != layers))
        return hone_fail(reading->err, HONE_ERROR_INPUT,
                         "%s/config.json: \"no_rope_layers\" is no array of %lld numbers",
                         reading->folder, (long long)layers);
    for (int64_t i = 0; i < layers; i++) {
        turns[i] = (i + 1) % period != 0;
        if (json_is_array(list))
            turns[i] = json_integer_value(json_array_get(list, (size_t)i)) != 0;
        usual = usual && turns[i] == ((i + 1) % reading->family->turning != 0);
    }
    if (!usual) hone_hf_put_flags(reading, "rope.layers", turns, layers);
    return HONE_OK;
}

hone_status hone_hf_read_layers(const ConfigReading *reading, const HfConfig *config) {
    const size_t layers = (size_t)config->layers;
    if (config->layers > 4096)
        return hone_hf_refuse(reading, "num_hidden_layers", "at most 4096 are computed");
    bool *flags = hone_calloc(2 * layers, sizeof *flags);
    if (!flags) return hone_fail_memory(reading->err, 2 * layers, "layers");
    hone_status status = read_turning(reading, config->layers, flags);
    if (status == HONE_OK) status = read_windows(reading, flags, config->layers, flags + layers);
    hone_free(flags);
    return status;
}
