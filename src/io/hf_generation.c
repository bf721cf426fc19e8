// SPDX-License-Identifier: Apache-2.0
// generation_config.json: the tokens that end an answer, and how the next one is drawn.
#include "io/hf_parts.h"

static hone_status not_so(const char *folder, const char *key, const char *want, HoneError *err) {
    return hone_fail(err, HONE_ERROR_INPUT, "%s/generation_config.json: %s is not %s", folder, key,
                     want);
}

// eos_token_id, a number or a list of them; an id that the vocabulary has not is left out, for
// published files have some.
static hone_status put_ends(const char *folder, const json_t *ends, int64_t vocabulary,
                            HfKeys *keys, HoneError *err) {
    const json_t *one;
    size_t i;
    int64_t count = 0;
    if (!ends || json_is_null(ends)) return HONE_OK;
    json_t *list =
        json_is_array(ends) ? json_incref((json_t *)(uintptr_t)ends) : json_pack("[O]", ends);
    if (!list) return hone_fail_memory(err, 0, "end tokens");
    bool fine = true;
    json_array_foreach(list, i, one) {
        fine = fine && json_is_integer(one) && json_integer_value(one) >= 0;
        count += fine && json_integer_value(one) < vocabulary;
    }
    if (fine && count > 0) {
        hone_hf_begin_array(keys, "hone.eos_token_ids", GGUF_U32, count);
        json_array_foreach(list, i, one) {
            const uint32_t id = (uint32_t)json_integer_value(one);
            if (json_integer_value(one) < vocabulary)
                hone_text_append(&keys->bytes, &id, sizeof id);
        }
    }
    json_decref(list);
    return fine ? HONE_OK
                : not_so(folder, "eos_token_id", "a token's number or a list of them", err);
}

// A number within bounds; false: there is none of that name, or null.
static hone_status number_of(const char *folder, const json_t *root, const char *key, double low,
                             double high, double *value, bool *given, HoneError *err) {
    const json_t *found = json_object_get(root, key);
    *given = found && !json_is_null(found);
    if (!*given) return HONE_OK;
    *value = json_is_number(found) ? json_number_value(found) : low - 1;
    if (*value >= low && *value <= high) return HONE_OK;
    return not_so(folder, key, "a number that it can be", err);
}

// The names are llama.cpp's. What transformers draws with where the file is silent: temperature 1
// among the 50 likeliest.
static hone_status put_sampling(const char *folder, const json_t *root, HfKeys *keys,
                                HoneError *err) {
    double value = 1;
    bool given;
    if (!json_is_true(json_object_get(root, "do_sample"))) return HONE_OK;
    RETURN_IF_ERROR(number_of(folder, root, "temperature", 0, 100, &value, &given, err));
    hone_hf_put_f32(keys, "general.sampling.temp", value);
    RETURN_IF_ERROR(number_of(folder, root, "top_p", 0, 1, &value, &given, err));
    if (given) hone_hf_put_f32(keys, "general.sampling.top_p", value);
    value = 50;
    RETURN_IF_ERROR(number_of(folder, root, "top_k", 0, 1e9, &value, &given, err));
    hone_hf_put_u32(keys, "general.sampling.top_k", (int64_t)value);
    return HONE_OK;
}

hone_status hone_hf_generation(const char *folder, const json_t *config, int64_t vocabulary,
                               HfKeys *keys, HoneError *err) {
    json_t *root;
    RETURN_IF_ERROR(hone_hf_json(folder, "generation_config.json", false, 0, &root, err));
    const json_t *ends = json_object_get(root, "eos_token_id");
    hone_status status = put_ends(folder, ends ? ends : json_object_get(config, "eos_token_id"),
                                  vocabulary, keys, err);
    if (status == HONE_OK) status = put_sampling(folder, root, keys, err);
    json_decref(root);
    return status;
}
