// SPDX-License-Identifier: Apache-2.0
// tokenizer.json and tokenizer_config.json from GGUF's tokenizer keys: what hf_tokenizer.c reads.
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/hf_parts.h"
#include "io/hf_write_parts.h"

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

#define SPACE_MARK "\xe2\x96\x81" // ▁

typedef struct Writing {
    const GgufFile *file;
    GgufString *token, *merge, rule;
    int32_t *kind;
    float *score;
    int64_t count, merges;
    bool pieces;  // sentencepiece's models: scores in place of merges
    bool unigram; // of these, the unigram model
    StringMap ids;
    TextBuffer *json;
    HoneError *err;
} Writing;

static bool text_is(GgufString text, const char *wanted) {
    return text.length == strlen(wanted) && memcmp(text.data, wanted, text.length) == 0;
}

static hone_status refuse(const Writing *w, const char *key, GgufString value, const char *can) {
    return hone_fail(w->err, HONE_ERROR_UNSUPPORTED,
                     "%s: %s is \"%.*s\"; folders are written with %s", w->file->map.path, key,
                     (int)(value.length < 40 ? value.length : 40), value.data, can);
}

// ---- reading the keys --------------------------------------------------------------------------

static hone_status check_tokens(Writing *w) {
    const char *path = w->file->map.path;
    for (int64_t i = 0; i < w->count; i++) {
        const GgufString text = w->token[i];
        if (w->kind[i] == UNUSED) continue;
        size_t at = 0;
        for (int length = 1; at < text.length && length > 0; at += (size_t)length)
            length = text.data[at] ? hone_utf8_decode(text.data + at, text.length - at, NULL) : 0;
        if (at < text.length || text.length == 0)
            return hone_fail(w->err, HONE_ERROR_UNSUPPORTED,
                             "%s: token %lld is %s, which tokenizer.json cannot hold", path,
                             (long long)i, text.length ? "not UTF-8" : "empty");
        const int64_t other = hone_map_get(&w->ids, text.data, text.length, -1);
        if (other >= 0)
            return hone_fail(w->err, HONE_ERROR_UNSUPPORTED,
                             "%s: tokens %lld and %lld are both \"%.*s\", which tokenizer.json "
                             "cannot say",
                             path, (long long)other, (long long)i,
                             (int)(text.length < 40 ? text.length : 40), text.data);
        if (!hone_map_put(&w->ids, text.data, text.length, i))
            return hone_fail_memory(w->err, text.length, "the vocabulary");
    }
    return HONE_OK;
}

static hone_status same_count(const Writing *w, const char *key, int64_t count) {
    if (count == w->count) return HONE_OK;
    return hone_fail(w->err, HONE_ERROR_INPUT, "%s: %s has %lld entries, there are %lld tokens",
                     w->file->map.path, key, (long long)count, (long long)w->count);
}

// The rules that cut digits off first and are GPT-2's then; Granite's files have the last two.
static bool cuts_digits(const Writing *w) {
    return text_is(w->rule, "smollm") || text_is(w->rule, "refact") ||
           text_is(w->rule, "starcoder");
}

static bool flag_of(const Writing *w, const char *key, bool missing) {
    int64_t flag;
    if (!hone_gguf_key(w->file, key) || hone_gguf_int(w->file, key, &flag, NULL) != HONE_OK)
        return missing;
    return flag != 0;
}

// What sentencepiece's normalisation does to a text is not written.
static hone_status check_unchanged(const Writing *w) {
    static const char charsmap[] = "tokenizer.ggml.precompiled_charsmap",
                      merged[] = "tokenizer.ggml.remove_extra_whitespaces";
    const char *key = hone_gguf_key(w->file, charsmap) ? charsmap
                      : flag_of(w, merged, false)      ? merged
                                                       : NULL;
    if (!key) return HONE_OK;
    return hone_fail(w->err, HONE_ERROR_UNSUPPORTED,
                     "%s: has %s; folders are written with unigram models that leave texts as they "
                     "are",
                     w->file->map.path, key);
}

static hone_status read_keys(Writing *w) {
    static const char rules[] = "gpt-2, smollm, llama-bpe, dbrx and qwen2";
    const GgufFile *file = w->file;
    GgufString model;
    int64_t count;
    RETURN_IF_ERROR(hone_gguf_string(file, "tokenizer.ggml.model", &model, w->err));
    w->unigram = text_is(model, "t5");
    w->pieces = w->unigram || text_is(model, "llama");
    if (!w->pieces && !text_is(model, "gpt2"))
        return refuse(w, "tokenizer.ggml.model", model, "gpt2, llama and t5");
    if (w->unigram) RETURN_IF_ERROR(check_unchanged(w));
    w->rule = hone_hf_text(file, "tokenizer.ggml.pre");
    if (!w->pieces && !text_is(w->rule, "gpt-2") && !cuts_digits(w) &&
        !hone_hf_pattern(w->rule.data, w->rule.length))
        return refuse(w, "tokenizer.ggml.pre", w->rule, rules);
    RETURN_IF_ERROR(hone_gguf_strings(file, "tokenizer.ggml.tokens", &w->token, &w->count, w->err));
    RETURN_IF_ERROR(hone_gguf_ints(file, "tokenizer.ggml.token_type", &w->kind, &count, w->err));
    RETURN_IF_ERROR(same_count(w, "tokenizer.ggml.token_type", count));
    RETURN_IF_ERROR(check_tokens(w));
    if (!w->pieces)
        return hone_gguf_strings(file, "tokenizer.ggml.merges", &w->merge, &w->merges, w->err);
    RETURN_IF_ERROR(hone_gguf_floats(file, "tokenizer.ggml.scores", &w->score, &count, w->err));
    return same_count(w, "tokenizer.ggml.scores", count);
}

// ---- merges of sentencepiece's pieces ----------------------------------------------------------

typedef struct Join {
    float score;
    int32_t id, left, right, left_length; // bytes of the piece that left has
    int32_t left_letters, right_letters;
} Join;

static int32_t letters(const char *text, size_t length) {
    int32_t count = 0;
    for (size_t i = 0; i < length; i++) count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

// The best score first, then the longer parts: the order of transformers' converter.
static int compare_joins(const void *one, const void *two) {
    const Join *a = one, *b = two;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    if (a->left_letters != b->left_letters) return b->left_letters - a->left_letters;
    if (a->right_letters != b->right_letters) return b->right_letters - a->right_letters;
    if (a->id != b->id) return a->id < b->id ? -1 : 1;
    if (a->left != b->left) return a->left < b->left ? -1 : 1;
    return a->right < b->right ? -1 : a->right > b->right;
}

// Every way to cut a piece into two others: into joins unless that is NULL; returns how many.
static int64_t cut_piece(const Writing *w, int64_t id, Join *joins) {
    const GgufString text = w->token[id];
    int64_t found = 0;
    for (size_t at = 1; at < text.length; at++) {
        if (((unsigned char)text.data[at] & 0xc0) == 0x80) continue;
        const int64_t left = hone_map_get(&w->ids, text.data, at, -1);
        const int64_t right = hone_map_get(&w->ids, text.data + at, text.length - at, -1);
        if (left < 0 || right < 0 || w->kind[left] != NORMAL || w->kind[right] != NORMAL) continue;
        if (joins)
            joins[found] = (Join){.score = w->score[id],
                                  .id = (int32_t)id,
                                  .left = (int32_t)left,
                                  .right = (int32_t)right,
                                  .left_length = (int32_t)at,
                                  .left_letters = letters(text.data, at),
                                  .right_letters = letters(text.data + at, text.length - at)};
        found++;
    }
    return found;
}

static void put_merge(Writing *w, bool first, GgufString left, GgufString right) {
    hone_text_puts(w->json, first ? "\n      [" : ",\n      [");
    hone_text_json(w->json, left.data, left.length);
    hone_text_puts(w->json, ", ");
    hone_text_json(w->json, right.data, right.length);
    hone_text_puts(w->json, "]");
}

static hone_status put_joins(Writing *w) {
    int64_t count = 0;
    for (int64_t i = 0; i < w->count; i++)
        if (w->kind[i] == NORMAL) count += cut_piece(w, i, NULL);
    Join *joins = hone_alloc((size_t)count * sizeof *joins + 1);
    if (!joins) return hone_fail_memory(w->err, (size_t)count * sizeof *joins, "merges");
    int64_t filled = 0;
    for (int64_t i = 0; i < w->count; i++)
        if (w->kind[i] == NORMAL) filled += cut_piece(w, i, joins + filled);
    qsort(joins, (size_t)count, sizeof *joins, compare_joins);
    for (int64_t i = 0; i < count; i++) {
        const GgufString text = w->token[joins[i].id];
        const size_t cut = (size_t)joins[i].left_length;
        put_merge(w, i == 0, (GgufString){text.data, cut},
                  (GgufString){text.data + cut, text.length - cut});
    }
    hone_free(joins);
    return HONE_OK;
}

// "a b": the space that parts them is not the first character of either.
static hone_status put_merges(Writing *w) {
    for (int64_t i = 0; i < w->merges; i++) {
        const GgufString merge = w->merge[i];
        const char *space = merge.length ? memchr(merge.data + 1, ' ', merge.length - 1) : NULL;
        const size_t cut = space ? (size_t)(space - merge.data) : 0;
        if (cut == 0 || cut + 1 >= merge.length)
            return hone_fail(w->err, HONE_ERROR_INPUT,
                             "%s: tokenizer.ggml.merges: entry %lld is not two texts",
                             w->file->map.path, (long long)i);
        put_merge(w, i == 0, (GgufString){merge.data, cut},
                  (GgufString){space + 1, merge.length - cut - 1});
    }
    return HONE_OK;
}

// ---- tokenizer.json ----------------------------------------------------------------------------

static void put_added(Writing *w) {
    bool first = true;
    hone_text_puts(w->json, "  \"added_tokens\": [");
    for (int64_t i = 0; i < w->count; i++) {
        if (w->kind[i] != CONTROL && w->kind[i] != USER_DEFINED && w->kind[i] != UNKNOWN) continue;
        hone_text_printf(w->json, "%s\n    {\"id\": %lld, \"content\": ", first ? "" : ",",
                         (long long)i);
        hone_text_json(w->json, w->token[i].data, w->token[i].length);
        hone_text_printf(w->json,
                         ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                         "\"normalized\": false, \"special\": %s}",
                         w->kind[i] == USER_DEFINED ? "false" : "true");
        first = false;
    }
    hone_text_puts(w->json, first ? "],\n" : "\n  ],\n");
}

#define BYTE_LEVEL(PREFIX, CUTS)                                                                   \
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": " PREFIX ", \"trim_offsets\": true, "         \
    "\"use_regex\": " CUTS "}"
#define SEQUENCE "{\"type\": \"Sequence\", \"pretokenizers\": ["

static void put_cutting(Writing *w) {
    TextBuffer *json = w->json;
    const bool qwen = text_is(w->rule, "qwen2");
    hone_text_puts(json,
                   qwen ? "  \"normalizer\": {\"type\": \"NFC\"},\n" : "  \"normalizer\": null,\n");
    hone_text_puts(json, "  \"pre_tokenizer\": ");
    const char *pattern = hone_hf_pattern(w->rule.data, w->rule.length);
    if (pattern) {
        hone_text_puts(json, SEQUENCE "{\"type\": \"Split\", \"pattern\": {\"Regex\": ");
        hone_text_json(json, pattern, strlen(pattern));
        hone_text_puts(json, "}, \"behavior\": \"Isolated\", \"invert\": false}, " BYTE_LEVEL(
                                 "false", "false") "]}");
    } else if (cuts_digits(w)) {
        hone_text_puts(json,
                       SEQUENCE "{\"type\": \"Digits\", \"individual_digits\": true}, " BYTE_LEVEL(
                           "false", "true") "]}");
    } else {
        hone_text_puts(json, BYTE_LEVEL("false", "true"));
    }
    hone_text_puts(json, ",\n");
}

static bool prepends_space(const Writing *w) {
    return flag_of(w, "tokenizer.ggml.add_space_prefix", true);
}

static void put_spaces(Writing *w) {
    hone_text_puts(w->json, "  \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [");
    if (prepends_space(w))
        hone_text_puts(w->json, "{\"type\": \"Prepend\", \"prepend\": \"" SPACE_MARK "\"}, ");
    hone_text_puts(w->json, "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, "
                            "\"content\": \"" SPACE_MARK "\"}]},\n  \"pre_tokenizer\": ");
    // A unigram model's pieces span no two words: it takes them one by one, as Hone does.
    hone_text_puts(w->json, w->unigram ? "{\"type\": \"Metaspace\", \"replacement\": \"" SPACE_MARK
                                         "\", \"prepend_scheme\": \"never\", \"split\": true},\n"
                                       : "null,\n");
}

static bool is_token(const Writing *w, int64_t id) {
    return id >= 0 && id < w->count && w->kind[id] != UNUSED;
}

// bos A eos, and for pairs the same twice.
static void put_template(Writing *w, const HfRoles *roles, bool pair) {
    for (int i = 0; i < 1 + pair; i++) {
        if (roles->adds_bos) {
            hone_text_puts(w->json,
                           i ? ", {\"SpecialToken\": {\"id\": " : "{\"SpecialToken\": {\"id\": ");
            hone_text_json(w->json, w->token[roles->bos].data, w->token[roles->bos].length);
            hone_text_printf(w->json, ", \"type_id\": %d}}", i);
        }
        hone_text_printf(w->json, "%s{\"Sequence\": {\"id\": \"%c\", \"type_id\": %d}}",
                         i || roles->adds_bos ? ", " : "", 'A' + i, i);
        if (!roles->adds_eos) continue;
        hone_text_puts(w->json, ", {\"SpecialToken\": {\"id\": ");
        hone_text_json(w->json, w->token[roles->eos].data, w->token[roles->eos].length);
        hone_text_printf(w->json, ", \"type_id\": %d}}", i);
    }
}

static void put_special(Writing *w, int64_t id, bool more) {
    hone_text_json(w->json, w->token[id].data, w->token[id].length);
    hone_text_puts(w->json, ": {\"id\": ");
    hone_text_json(w->json, w->token[id].data, w->token[id].length);
    hone_text_printf(w->json, ", \"ids\": [%lld], \"tokens\": [", (long long)id);
    hone_text_json(w->json, w->token[id].data, w->token[id].length);
    hone_text_puts(w->json, more ? "]}, " : "]}");
}

static void put_processor(Writing *w) {
    HfRoles roles;
    hone_hf_roles(w->file, &roles);
    roles.adds_bos = roles.adds_bos && is_token(w, roles.bos);
    roles.adds_eos = roles.adds_eos && is_token(w, roles.eos);
    hone_text_puts(w->json, "  \"post_processor\": ");
    if (!roles.adds_bos && !roles.adds_eos) {
        hone_text_puts(w->json, w->pieces ? "null" : BYTE_LEVEL("false", "true"));
        hone_text_puts(w->json, ",\n");
        return;
    }
    hone_text_puts(w->json, "{\"type\": \"TemplateProcessing\", \"single\": [");
    put_template(w, &roles, false);
    hone_text_puts(w->json, "], \"pair\": [");
    put_template(w, &roles, true);
    hone_text_puts(w->json, "], \"special_tokens\": {");
    const bool both = roles.adds_bos && roles.adds_eos && roles.bos != roles.eos;
    if (roles.adds_bos) put_special(w, roles.bos, both);
    if (roles.adds_eos && (both || !roles.adds_bos)) put_special(w, roles.eos, false);
    hone_text_puts(w->json, "}},\n");
}

static void put_decoder(Writing *w) {
    if (!w->pieces) {
        hone_text_puts(w->json, "  \"decoder\": " BYTE_LEVEL("true", "true") ",\n");
        return;
    }
    hone_text_puts(w->json,
                   "  \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", "
                   "\"pattern\": {\"String\": \"" SPACE_MARK "\"}, \"content\": \" \"}, "
                   "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}");
    if (prepends_space(w))
        hone_text_puts(w->json, ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, "
                                "\"stop\": 0}");
    hone_text_puts(w->json, "]},\n");
}

static void put_unigram(Writing *w, const HfRoles *roles) {
    hone_text_puts(w->json, "  \"model\": {\n    \"type\": \"Unigram\",\n    \"unk_id\": ");
    if (is_token(w, roles->unknown))
        hone_text_printf(w->json, "%lld", (long long)roles->unknown);
    else
        hone_text_puts(w->json, "null");
    bool bytes = false;
    for (int64_t i = 0; i < w->count; i++) bytes |= w->kind[i] == BYTE;
    hone_text_printf(w->json, ",\n    \"byte_fallback\": %s,\n    \"vocab\": [",
                     bytes ? "true" : "false");
    for (int64_t i = 0; i < w->count; i++) {
        hone_text_puts(w->json, i ? ",\n      [" : "\n      [");
        hone_text_json(w->json, w->token[i].data, w->token[i].length);
        hone_text_printf(w->json, ", %.17g]", (double)w->score[i]);
    }
    hone_text_puts(w->json, "\n    ]\n  }\n}\n");
}

static hone_status put_model(Writing *w) {
    HfRoles roles;
    hone_hf_roles(w->file, &roles);
    if (w->unigram) {
        put_unigram(w, &roles);
        return HONE_OK;
    }
    hone_text_puts(w->json, "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n"
                            "    \"unk_token\": ");
    if (w->pieces && is_token(w, roles.unknown))
        hone_text_json(w->json, w->token[roles.unknown].data, w->token[roles.unknown].length);
    else
        hone_text_puts(w->json, "null");
    // Llama 3's tokens are taken whole where they are words, merges or none.
    hone_text_printf(w->json,
                     ",\n    \"continuing_subword_prefix\": null,\n"
                     "    \"end_of_word_suffix\": null,\n    \"fuse_unk\": %s,\n"
                     "    \"byte_fallback\": %s,\n    \"ignore_merges\": %s,\n    \"vocab\": {",
                     w->pieces ? "true" : "false", w->pieces ? "true" : "false",
                     text_is(w->rule, "llama-bpe") ? "true" : "false");
    bool first = true;
    for (int64_t i = 0; i < w->count; i++) {
        if (w->kind[i] == UNUSED) continue;
        hone_text_puts(w->json, first ? "\n      " : ",\n      ");
        hone_text_json(w->json, w->token[i].data, w->token[i].length);
        hone_text_printf(w->json, ": %lld", (long long)i);
        first = false;
    }
    hone_text_puts(w->json, "\n    },\n    \"merges\": [");
    RETURN_IF_ERROR(w->pieces ? put_joins(w) : put_merges(w));
    hone_text_puts(w->json, "\n    ]\n  }\n}\n");
    return HONE_OK;
}

static hone_status write_all(Writing *w) {
    RETURN_IF_ERROR(read_keys(w));
    hone_text_puts(w->json, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n"
                            "  \"padding\": null,\n");
    put_added(w);
    if (w->pieces)
        put_spaces(w);
    else
        put_cutting(w);
    put_processor(w);
    put_decoder(w);
    RETURN_IF_ERROR(put_model(w));
    return w->json->failed ? hone_fail_memory(w->err, w->json->length, "tokenizer.json") : HONE_OK;
}

hone_status hone_hf_tokenizer_json(const GgufFile *file, TextBuffer *json, HoneError *err) {
    Writing w = {.file = file, .json = json, .err = err};
    hone_status status = write_all(&w);
    hone_map_free(&w.ids);
    hone_free(w.token);
    hone_free(w.merge);
    hone_free(w.kind);
    hone_free(w.score);
    return status;
}

// ---- tokenizer_config.json ---------------------------------------------------------------------

hone_status hone_hf_tokenizer_config(const GgufFile *file, const HfModel *model, TextBuffer *json,
                                     HoneError *err) {
    HfRoles roles;
    hone_hf_roles(file, &roles);
    const struct {
        const char *key;
        int64_t id;
    } named[] = {{"bos_token", roles.bos},
                 {"eos_token", roles.eos},
                 {"unk_token", roles.unknown},
                 {"pad_token", roles.padding}};
    GgufString *tokens = NULL;
    int64_t count;
    RETURN_IF_ERROR(hone_gguf_strings(file, "tokenizer.ggml.tokens", &tokens, &count, err));
    hone_text_printf(json, "{\n  \"add_bos_token\": %s,\n  \"add_eos_token\": %s",
                     roles.adds_bos ? "true" : "false", roles.adds_eos ? "true" : "false");
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        if (named[i].id < 0 || named[i].id >= count) continue;
        hone_text_printf(json, ",\n  \"%s\": ", named[i].key);
        hone_text_json(json, tokens[named[i].id].data, tokens[named[i].id].length);
    }
    hone_text_printf(
        json,
        ",\n  \"clean_up_tokenization_spaces\": false,\n  \"model_max_length\": %lld,\n"
        "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n",
        (long long)model->context);
    hone_free(tokens);
    return HONE_OK;
}
