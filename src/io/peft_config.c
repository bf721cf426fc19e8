// SPDX-License-Identifier: Apache-2.0
#include "io/peft_config.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

// ---- opening -----------------------------------------------------------------------------------

// Keys that, when set, change what the adapter means. Absent, null, false and empty are all "off".
typedef struct Refusal {
    const char *key, *advice;
} Refusal;

#define MERGE_FIRST "merge it into the base with PEFT's merge_and_unload"

static const Refusal refusals[] = {
    {"lora_bias", "a bias on lora_B cannot be used: train without lora_bias, or " MERGE_FIRST},
    {"trainable_token_indices", "trained tokens cannot be used: " MERGE_FIRST},
    {"target_parameters", "adapted bare parameters cannot be used: " MERGE_FIRST},
    {"layer_replication", "repeated layers cannot be used: " MERGE_FIRST},
    {"alora_invocation_tokens", "an activated LoRA cannot be used as a plain one"},
    {"use_qalora", "QA-LoRA cannot be used: " MERGE_FIRST},
    {"use_bdlora", "block-diagonal LoRA cannot be used: " MERGE_FIRST},
    {"arrow_config", "a routed LoRA cannot be used as a plain one"},
    {"kasa_config", "KaSA cannot be used: " MERGE_FIRST},
    {"monteclora_config", "MonteCLoRA cannot be used: " MERGE_FIRST},
    {"velora_config", "VeLoRA cannot be used: " MERGE_FIRST},
};

static bool is_off(const json_t *value) {
    if (!value || json_is_null(value) || json_is_false(value)) return true;
    if (json_is_array(value)) return json_array_size(value) == 0;
    if (json_is_object(value)) return json_object_size(value) == 0;
    return false;
}

static hone_status bad_key(const PeftConfig *config, const char *key, const char *wanted,
                           HoneError *err) {
    return hone_fail(err, HONE_ERROR_INPUT, "%s: \"%s\" is %s, %s is wanted", config->path, key,
                     json_object_get(config->root, key) ? "something else" : "missing", wanted);
}

// Names in a value that is text or a list of texts, for a message.
static void describe_names(const json_t *value, TextBuffer *text) {
    if (json_is_string(value)) hone_text_puts(text, json_string_value(value));
    for (size_t i = 0; i < json_array_size(value) && i < 8; i++) {
        const char *name = json_string_value(json_array_get(value, i));
        if (name) hone_text_printf(text, "%s%.60s", i ? ", " : "", name);
    }
}

static hone_status refuse(const PeftConfig *config, const Refusal *refusal, HoneError *err) {
    TextBuffer names = {0};
    describe_names(json_object_get(config->root, refusal->key), &names);
    bool named = names.length > 0 && !names.failed;
    hone_status status = hone_fail(err, HONE_ERROR_UNSUPPORTED, "%s: \"%s\" is set%s%.200s%s: %s",
                                   config->path, refusal->key, named ? " (" : "",
                                   named ? names.data : "", named ? ")" : "", refusal->advice);
    hone_text_free(&names);
    return status;
}

static hone_status check_variant(PeftConfig *config, HoneError *err) {
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        if (!is_off(json_object_get(config->root, refusals[i].key)))
            return refuse(config, &refusals[i], err);
    const char *bias = json_string_value(json_object_get(config->root, "bias"));
    config->biases = bias && (strcmp(bias, "all") == 0 || strcmp(bias, "lora_only") == 0);
    if (bias && !config->biases && strcmp(bias, "none") != 0)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: \"bias\" is \"%.40s\": PEFT has \"none\", \"all\" and \"lora_only\"",
                         config->path, bias);
    const char *init = json_string_value(json_object_get(config->root, "init_lora_weights"));
    if (init && strcmp(init, "gaussian") != 0 && strcmp(init, "eva") != 0 &&
        strcmp(init, "orthogonal") != 0)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: \"init_lora_weights\" is \"%.40s\", which may change the base: save "
                         "it from PEFT with path_initial_model_for_weight_conversion",
                         config->path, init);
    return HONE_OK;
}

static hone_status read_config(PeftConfig *config, HoneError *err) {
    const json_t *type = json_object_get(config->root, "peft_type");
    if (!json_is_string(type)) return bad_key(config, "peft_type", "\"LORA\"", err);
    if (strcmp(json_string_value(type), "LORA") != 0)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: \"peft_type\" is \"%.40s\": only LORA can be used", config->path,
                         json_string_value(type));
    RETURN_IF_ERROR(check_variant(config, err));
    const json_t *rank = json_object_get(config->root, "r");
    const json_t *alpha = json_object_get(config->root, "lora_alpha");
    if (!json_is_integer(rank) || json_integer_value(rank) < 1)
        return bad_key(config, "r", "a rank of at least 1", err);
    if (!json_is_number(alpha)) return bad_key(config, "lora_alpha", "a number", err);
    config->rank = json_integer_value(rank);
    config->alpha = json_number_value(alpha);
    config->rslora = json_is_true(json_object_get(config->root, "use_rslora"));
    config->dora = json_is_true(json_object_get(config->root, "use_dora"));
    return HONE_OK;
}

hone_status hone_peft_config_open(const char *path, PeftConfig *config, HoneError *err) {
    *config = (PeftConfig){.path = hone_strdup(path)};
    if (!config->path) return hone_fail_memory(err, strlen(path) + 1, "a path");
    char *text = NULL;
    size_t bytes = 0;
    hone_status status = hone_file_read(path, &text, &bytes, err);
    if (status == HONE_OK) {
        json_error_t fault = {0};
        hone_memory_watch();
        config->root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &fault);
        if (!config->root && hone_memory_lacked())
            status = hone_fail_memory(err, bytes, path);
        else if (!json_is_object(config->root))
            status = hone_fail(err, HONE_ERROR_INPUT, "%s: line %d: %s", path,
                               config->root ? 1 : fault.line,
                               config->root ? "a JSON object is wanted" : fault.text);
    }
    hone_free(text);
    if (status == HONE_OK) status = read_config(config, err);
    if (status != HONE_OK) hone_peft_config_close(config);
    return status;
}

void hone_peft_config_close(PeftConfig *config) {
    json_decref(config->root);
    hone_free(config->path);
    *config = (PeftConfig){0};
}

// ---- patterns ----------------------------------------------------------------------------------

static bool is_plain(const char *pattern) {
    return strspn(pattern, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") ==
           strlen(pattern);
}

// A pattern of letters, digits, '_' and '.' (any character) at the end of the module's path, after
// a dot or at its start: what the regular expression below says, without compiling it.
static bool matches_plain(const char *pattern, const char *module) {
    size_t length = strlen(pattern), whole = strlen(module);
    if (length > whole) return false;
    const char *tail = module + whole - length;
    for (size_t i = 0; i < length; i++)
        if (pattern[i] != '.' && pattern[i] != tail[i]) return false;
    return tail == module || tail[-1] == '.';
}

// The limits keep a hostile pattern from running for ever: it then does not match.
static hone_status matches_regex(const PeftConfig *config, const char *key, const char *format,
                                 const char *pattern, const char *module, bool *matched,
                                 HoneError *err) {
    *matched = false;
    TextBuffer text = {0};
    if (strlen(pattern) > 4096)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: a pattern in \"%s\" has %zu bytes",
                         config->path, key, strlen(pattern));
    const char *hole = strchr(format, '@');
    hone_text_append(&text, format, (size_t)(hole - format));
    hone_text_puts(&text, pattern);
    hone_text_puts(&text, hole + 1);
    if (text.failed) return hone_fail_memory(err, strlen(pattern), "a pattern");
    int fault = 0;
    PCRE2_SIZE place = 0;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)text.data, text.length, PCRE2_ANCHORED | PCRE2_UTF,
                                     &fault, &place, NULL);
    hone_text_free(&text);
    if (!code && fault == PCRE2_ERROR_HEAP_FAILED)
        return hone_fail_memory(err, strlen(pattern), "a pattern");
    if (!code)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: \"%s\": %.200s is not a regular expression that can be read",
                         config->path, key, pattern);
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(code, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    if (data && limits) {
        pcre2_set_match_limit(limits, 100000);
        *matched = pcre2_match(code, (PCRE2_SPTR)module, strlen(module), 0, 0, data, limits) > 0;
    }
    bool had_memory = data && limits;
    pcre2_match_context_free(limits);
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    return had_memory ? HONE_OK : hone_fail_memory(err, strlen(pattern), "a pattern's match");
}

// The module's entry in rank_pattern or alpha_pattern: the first whose key matches the path's end.
static hone_status find_pattern(const PeftConfig *config, const char *key, const char *module,
                                const json_t **found, HoneError *err) {
    *found = NULL;
    json_t *patterns = json_object_get(config->root, key), *value;
    if (is_off(patterns)) return HONE_OK;
    if (!json_is_object(patterns)) return bad_key(config, key, "an object", err);
    const char *pattern;
    json_object_foreach(patterns, pattern, value) {
        bool matched = false;
        if (is_plain(pattern))
            matched = matches_plain(pattern, module);
        else
            RETURN_IF_ERROR(
                matches_regex(config, key, "(.*\\.)?(@)$", pattern, module, &matched, err));
        if (!matched) continue;
        if (!json_is_number(value)) return bad_key(config, key, "an object of numbers", err);
        *found = value;
        return HONE_OK;
    }
    return HONE_OK;
}

hone_status hone_peft_config_scale(const PeftConfig *config, const char *module, int rank,
                                   float *scale, HoneError *err) {
    const json_t *own_rank, *own_alpha;
    RETURN_IF_ERROR(find_pattern(config, "rank_pattern", module, &own_rank, err));
    RETURN_IF_ERROR(find_pattern(config, "alpha_pattern", module, &own_alpha, err));
    double wanted = own_rank ? json_number_value(own_rank) : (double)config->rank;
    if (wanted != (double)rank)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: %s has rank %g here, its tensors have rank %d",
                         config->path, module, wanted, rank);
    double alpha = own_alpha ? json_number_value(own_alpha) : config->alpha;
    double value = alpha / (config->rslora ? sqrt((double)rank) : (double)rank);
    *scale = (float)value;
    if (isfinite(*scale)) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT, "%s: %s: alpha is %g", config->path, module, alpha);
}

// Does the list name the module by the end of its name? parts: by whole parts of it, as PEFT has it
// for target_modules; modules_to_save may name the end of a part.
static bool lists(const json_t *list, const char *module, bool parts) {
    const size_t whole = strlen(module);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        const size_t length = name ? strlen(name) : 0;
        if (length == 0 || length > whole) continue;
        const char *tail = module + whole - length;
        if (strcmp(tail, name) == 0 && (!parts || tail == module || tail[-1] == '.')) return true;
    }
    return false;
}

static const char *last_part(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

static bool is_embedding(const char *part) {
    return strcmp(part, "embed_tokens") == 0 || strcmp(part, "wte") == 0;
}

// With "ensure_weight_tying" the head has what the embedding has, and the other way round: PEFT
// stores both and names one.
static bool lists_either(const PeftConfig *config, const json_t *list, const char *module,
                         bool parts) {
    if (lists(list, module, parts)) return true;
    if (!json_is_true(json_object_get(config->root, "ensure_weight_tying"))) return false;
    const bool head = strcmp(last_part(module), "lm_head") == 0;
    bool found = false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        const char *part = name ? last_part(name) : "";
        found = found || (head && is_embedding(part)) ||
                (is_embedding(last_part(module)) && strcmp(part, "lm_head") == 0);
    }
    return found;
}

hone_status hone_peft_config_check_saved(const PeftConfig *config, const char *module,
                                         HoneError *err) {
    if (lists_either(config, json_object_get(config->root, "modules_to_save"), module, false))
        return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT,
                     "%s: there is a whole tensor of %s, which \"modules_to_save\" does not name: "
                     "PEFT would ignore it",
                     config->path, module);
}

hone_status hone_peft_config_check_target(const PeftConfig *config, const char *module,
                                          HoneError *err) {
    const json_t *targets = json_object_get(config->root, "target_modules");
    bool matched = is_off(targets); // without it PEFT has a default for each architecture
    if (json_is_string(targets)) {
        const char *pattern = json_string_value(targets);
        matched = strcmp(pattern, "all-linear") == 0;
        if (!matched)
            RETURN_IF_ERROR(matches_regex(config, "target_modules", "(?:@)\\z", pattern, module,
                                          &matched, err));
    }
    matched = matched || lists_either(config, targets, module, true);
    if (matched) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT,
                     "%s: there are tensors for %s, which \"target_modules\" does not name: PEFT "
                     "would ignore them; add it or remove them",
                     config->path, module);
}
