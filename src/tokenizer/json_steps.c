// SPDX-License-Identifier: Apache-2.0
// Normalisers and pre-tokenisers of tokenizer.json: each is a step, or several.
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "tokenizer/json.h"
#include "tokenizer/rules.h"

#define PUNCTUATION "[\\p{P}!-/:-@\\[-`{-~]"
#define MARK "\xe2\x96\x81" // ▁
#define GPT2                                                                                       \
    "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^" HONE_SPACE "\\p{L}\\p{N}]+|[" HONE_SPACE       \
    "]+(?![^" HONE_SPACE "])|[" HONE_SPACE "]+"
// Rust's \w, which has letter-like numbers and symbols besides.
#define RUST_WORD                                                                                  \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}"  \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"

enum { DEEPEST = 8 }; // sequences in sequences

bool hone_json_mentions(const json_t *value, const char *type, int depth) {
    const char *name = hone_json_type(value);
    if (name && strcmp(name, type) == 0) return true;
    static const char *const lists[] = {"normalizers", "pretokenizers", "processors", "decoders"};
    for (size_t i = 0; depth < DEEPEST && i < sizeof lists / sizeof *lists; i++) {
        const json_t *list = json_object_get(value, lists[i]);
        for (size_t k = 0; k < json_array_size(list); k++)
            if (hone_json_mentions(json_array_get(list, k), type, depth + 1)) return true;
    }
    return false;
}

typedef hone_status Reader(JsonReading *reading, const json_t *value, HoneError *err);

typedef struct Kind {
    const char *name;
    Reader *read;
} Kind;

// ---- normalisers -------------------------------------------------------------------------------

static hone_status add_change(JsonReading *reading, ChangeKind kind, Change **change,
                              HoneError *err) {
    *change = hone_add_change(reading->tokenizer, kind, err);
    return *change ? HONE_OK : HONE_ERROR_UNSUPPORTED;
}

static hone_status add_form(JsonReading *reading, bool compose, bool compatible, HoneError *err) {
    Change *change;
    RETURN_IF_ERROR(add_change(reading, CHANGE_FORM, &change, err));
    change->compose = compose;
    change->compatible = compatible;
    return HONE_OK;
}

static hone_status read_nfc(JsonReading *reading, const json_t *value, HoneError *err) {
    (void)value;
    return add_form(reading, true, false, err);
}

static hone_status read_nfd(JsonReading *reading, const json_t *value, HoneError *err) {
    (void)value;
    return add_form(reading, false, false, err);
}

static hone_status read_nfkc(JsonReading *reading, const json_t *value, HoneError *err) {
    (void)value;
    return add_form(reading, true, true, err);
}

static hone_status read_nfkd(JsonReading *reading, const json_t *value, HoneError *err) {
    (void)value;
    return add_form(reading, false, true, err);
}

static hone_status read_lowercase(JsonReading *reading, const json_t *value, HoneError *err) {
    Change *change;
    (void)value;
    return add_change(reading, CHANGE_LOWER, &change, err);
}

static hone_status read_accents(JsonReading *reading, const json_t *value, HoneError *err) {
    Change *change;
    (void)value;
    return add_change(reading, CHANGE_ACCENTS, &change, err);
}

static hone_status read_nmt(JsonReading *reading, const json_t *value, HoneError *err) {
    Change *change;
    (void)value;
    return add_change(reading, CHANGE_NMT, &change, err);
}

static hone_status read_strip(JsonReading *reading, const json_t *value, HoneError *err) {
    Change *change;
    RETURN_IF_ERROR(add_change(reading, CHANGE_STRIP, &change, err));
    change->left = hone_json_flag(value, "strip_left", true);
    change->right = hone_json_flag(value, "strip_right", true);
    return HONE_OK;
}

static hone_status read_prepend(JsonReading *reading, const json_t *value, HoneError *err) {
    const json_t *text = json_object_get(value, "prepend");
    Change *change;
    if (!json_is_string(text))
        return hone_json_wants("normalizer \"Prepend\": \"prepend\"", "a text", err);
    RETURN_IF_ERROR(add_change(reading, CHANGE_PREPEND, &change, err));
    return hone_json_copy(reading, hone_json_text(text), &change->put, err);
}

static hone_status read_replace(JsonReading *reading, const json_t *value, HoneError *err) {
    const char *place = "normalizer \"Replace\"", *pattern;
    const json_t *content = json_object_get(value, "content");
    TokenizerText find, put;
    if (!json_is_string(content))
        return hone_json_wants("normalizer \"Replace\": \"content\"", "a text", err);
    RETURN_IF_ERROR(
        hone_json_pattern(reading, place, json_object_get(value, "pattern"), &pattern, &find, err));
    RETURN_IF_ERROR(hone_json_copy(reading, hone_json_text(content), &put, err));
    Change *change;
    RETURN_IF_ERROR(add_change(reading, find.data ? CHANGE_REPLACE : CHANGE_REGEX, &change, err));
    change->find = find;
    change->put = put;
    if (find.length == 1 && *find.data == ' ' && hone_has_mark(put.data, put.length))
        reading->replaces_space = true;
    if (find.data) return HONE_OK;
    return hone_pretokenizer_create(place, pattern, CUT_BOTH, &change->pattern, err);
}

static hone_status read_bert(JsonReading *reading, const json_t *value, HoneError *err) {
    Change *change;
    RETURN_IF_ERROR(add_change(reading, CHANGE_BERT, &change, err));
    change->clean = hone_json_flag(value, "clean_text", true);
    change->apart = hone_json_flag(value, "handle_chinese_chars", true);
    change->lower = hone_json_flag(value, "lowercase", true);
    change->strip = hone_json_flag(value, "strip_accents", change->lower);
    return HONE_OK;
}

static hone_status read_precompiled(JsonReading *reading, const json_t *value, HoneError *err) {
    const char *place = "normalizer \"Precompiled\": \"precompiled_charsmap\"";
    const json_t *stored = json_object_get(value, "precompiled_charsmap");
    if (json_is_null(stored)) return HONE_OK;
    if (!json_is_string(stored)) return hone_json_wants(place, "a text", err);
    TokenizerText text = hone_json_text(stored);
    char *bytes = hone_arena_alloc(&reading->tokenizer->arena, text.length + 1);
    if (!bytes) return hone_fail_memory(err, text.length, "the charsmap");
    size_t length;
    if (!hone_base64_decode(text.data, text.length, bytes, &length))
        return hone_json_wants(place, "base64", err);
    if (length == 0) return HONE_OK;
    Change *change;
    RETURN_IF_ERROR(add_change(reading, CHANGE_CLUSTERS, &change, err));
    return hone_charsmap_read(&change->charsmap, bytes, length, err);
}

static hone_status read_nothing(JsonReading *reading, const json_t *value, HoneError *err) {
    (void)reading, (void)value, (void)err;
    return HONE_OK;
}

static const Kind normalizers[] = {
    {"NFC", read_nfc},
    {"NFD", read_nfd},
    {"NFKC", read_nfkc},
    {"NFKD", read_nfkd},
    {"Lowercase", read_lowercase},
    {"StripAccents", read_accents},
    {"Nmt", read_nmt},
    {"Strip", read_strip},
    {"Prepend", read_prepend},
    {"Replace", read_replace},
    {"BertNormalizer", read_bert},
    {"Precompiled", read_precompiled},
    {"ByteLevel", read_nothing}, // the vocabulary is one of bytes
};

// ---- pre-tokenisers ----------------------------------------------------------------------------

static hone_status add_cut(JsonReading *reading, const char *name, const char *pattern,
                           CutBehaviour behaviour, HoneError *err) {
    return hone_add_cut(reading->tokenizer, name, pattern, behaviour, err);
}

static hone_status add_lead(JsonReading *reading, TokenizerText put, bool only_first,
                            HoneError *err) {
    Change *change;
    RETURN_IF_ERROR(add_change(reading, CHANGE_LEAD, &change, err));
    change->put = put;
    change->only_first = only_first;
    return HONE_OK;
}

static hone_status read_byte_level(JsonReading *reading, const json_t *value, HoneError *err) {
    if (hone_json_flag(value, "add_prefix_space", true))
        RETURN_IF_ERROR(add_lead(reading, (TokenizerText){" ", 1}, false, err));
    if (!hone_json_flag(value, "use_regex", true)) return HONE_OK;
    return add_cut(reading, "ByteLevel", GPT2, CUT_BOTH, err);
}

static hone_status read_metaspace(JsonReading *reading, const json_t *value, HoneError *err) {
    const json_t *replacement = json_object_get(value, "replacement");
    const json_t *scheme = json_object_get(value, "prepend_scheme");
    const char *when = json_is_string(scheme)                            ? json_string_value(scheme)
                       : hone_json_flag(value, "add_prefix_space", true) ? "always"
                                                                         : "never";
    TokenizerText mark = {MARK, 3};
    if (replacement && (!json_is_string(replacement) || json_string_length(replacement) == 0))
        return hone_json_wants("pre_tokenizer \"Metaspace\": \"replacement\"", "a character", err);
    if (replacement)
        RETURN_IF_ERROR(hone_json_copy(reading, hone_json_text(replacement), &mark, err));
    Change *change;
    RETURN_IF_ERROR(add_change(reading, CHANGE_REPLACE, &change, err));
    change->find = (TokenizerText){" ", 1};
    change->put = mark;
    if (strcmp(when, "never") != 0)
        RETURN_IF_ERROR(add_lead(reading, mark, strcmp(when, "first") == 0, err));
    if (!hone_json_flag(value, "split", true)) return HONE_OK;
    const char *pattern;
    TokenizerText literal;
    json_t *string = json_stringn(mark.data, mark.length);
    hone_status status =
        hone_json_pattern(reading, "pre_tokenizer \"Metaspace\"", string, &pattern, &literal, err);
    json_decref(string);
    RETURN_IF_ERROR(status);
    return add_cut(reading, "Metaspace", pattern, CUT_NEXT, err);
}

static hone_status read_behaviour(const char *place, const json_t *value, const char *missing,
                                  CutBehaviour *behaviour, HoneError *err) {
    static const struct {
        const char *name;
        CutBehaviour behaviour;
    } names[] = {{"Isolated", CUT_BOTH},
                 {"Removed", CUT_GAPS},
                 {"MergedWithPrevious", CUT_PREVIOUS},
                 {"MergedWithNext", CUT_NEXT},
                 {"Contiguous", CUT_RUNS}};
    const json_t *given = json_object_get(value, "behavior");
    const char *name = given ? json_string_value(given) : missing;
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, name) == 0) {
            *behaviour = names[i].behaviour;
            return HONE_OK;
        }
    return name ? hone_json_unknown(place, name, err)
                : hone_json_wants(place, "a text \"behavior\"", err);
}

static hone_status read_split(JsonReading *reading, const json_t *value, HoneError *err) {
    const char *place = "pre_tokenizer \"Split\"", *pattern;
    TokenizerText literal;
    CutBehaviour behaviour;
    RETURN_IF_ERROR(hone_json_pattern(reading, place, json_object_get(value, "pattern"), &pattern,
                                      &literal, err));
    RETURN_IF_ERROR(read_behaviour(place, value, NULL, &behaviour, err));
    bool invert = hone_json_flag(value, "invert", false);
    if (invert && behaviour == CUT_GAPS) behaviour = CUT_MATCHES;
    if (invert && behaviour != CUT_MATCHES && behaviour != CUT_BOTH)
        return hone_json_unknown(place, "invert", err);
    return add_cut(reading, place, pattern, behaviour, err);
}

static hone_status read_punctuation(JsonReading *reading, const json_t *value, HoneError *err) {
    CutBehaviour behaviour;
    RETURN_IF_ERROR(
        read_behaviour("pre_tokenizer \"Punctuation\"", value, "Isolated", &behaviour, err));
    return add_cut(reading, "Punctuation", PUNCTUATION, behaviour, err);
}

static hone_status read_digits(JsonReading *reading, const json_t *value, HoneError *err) {
    bool each = hone_json_flag(value, "individual_digits", false);
    return add_cut(reading, "Digits", "\\p{N}", each ? CUT_BOTH : CUT_RUNS, err);
}

static hone_status read_whitespace(JsonReading *reading, const json_t *value, HoneError *err) {
    (void)value;
    return add_cut(reading, "Whitespace", "[" RUST_WORD "]+|[^" RUST_WORD HONE_SPACE "]+",
                   CUT_MATCHES, err);
}

static hone_status read_space_split(JsonReading *reading, const json_t *value, HoneError *err) {
    (void)value;
    return add_cut(reading, "WhitespaceSplit", "[" HONE_SPACE "]+", CUT_GAPS, err);
}

static hone_status read_bert_split(JsonReading *reading, const json_t *value, HoneError *err) {
    (void)value;
    return add_cut(reading, "BertPreTokenizer",
                   "[^" HONE_SPACE "\\p{P}!-/:-@\\[-`{-~]+|" PUNCTUATION, CUT_MATCHES, err);
}

static hone_status read_delimiter(JsonReading *reading, const json_t *value, HoneError *err) {
    const char *place = "pre_tokenizer \"CharDelimiterSplit\"", *pattern;
    TokenizerText literal;
    RETURN_IF_ERROR(hone_json_pattern(reading, place, json_object_get(value, "delimiter"), &pattern,
                                      &literal, err));
    return add_cut(reading, place, pattern, CUT_GAPS, err);
}

static const Kind cutters[] = {
    {"ByteLevel", read_byte_level},
    {"Metaspace", read_metaspace},
    {"Split", read_split},
    {"Punctuation", read_punctuation},
    {"Digits", read_digits},
    {"Whitespace", read_whitespace},
    {"WhitespaceSplit", read_space_split},
    {"BertPreTokenizer", read_bert_split},
    {"CharDelimiterSplit", read_delimiter},
};

// ---- both --------------------------------------------------------------------------------------

static hone_status read_steps(JsonReading *reading, const char *place, const char *list,
                              const Kind *kinds, size_t kind_count, const json_t *value, int depth,
                              HoneError *err) {
    if (!value || json_is_null(value)) return HONE_OK;
    const char *type = hone_json_type(value);
    if (!type) return hone_json_wants(place, "an object with a text \"type\"", err);
    for (size_t i = 0; i < kind_count; i++)
        if (strcmp(kinds[i].name, type) == 0) return kinds[i].read(reading, value, err);
    const json_t *parts = json_object_get(value, list);
    if (strcmp(type, "Sequence") != 0 || depth >= DEEPEST)
        return hone_json_unknown(place, type, err);
    if (!json_is_array(parts)) return hone_json_wants(place, "a list in \"Sequence\"", err);
    for (size_t i = 0; i < json_array_size(parts); i++)
        RETURN_IF_ERROR(read_steps(reading, place, list, kinds, kind_count,
                                   json_array_get(parts, i), depth + 1, err));
    return HONE_OK;
}

hone_status hone_json_normalizer(JsonReading *reading, const json_t *value, HoneError *err) {
    return read_steps(reading, "normalizer", "normalizers", normalizers,
                      sizeof normalizers / sizeof *normalizers, value, 0, err);
}

hone_status hone_json_cutter(JsonReading *reading, const json_t *value, HoneError *err) {
    return read_steps(reading, "pre_tokenizer", "pretokenizers", cutters,
                      sizeof cutters / sizeof *cutters, value, 0, err);
}
