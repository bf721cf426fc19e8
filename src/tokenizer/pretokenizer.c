// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"

// ---- the rules ---------------------------------------------------------------------------------

// Unicode's White_Space. PCRE2's own \s has U+180E too, the tokenizers' regular expressions do not.
#define SPACE "\\p{Z}\\x09-\\x0d\\x{85}"
#define SYMBOLS "[^" SPACE "\\p{L}\\p{N}]+"
#define SUFFIX "'(?:[sdmt]|ll|ve|re)"
#define SUFFIX_ANY_CASE "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LETTERS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define SYMBOLS_AND_LINES " ?" SYMBOLS "[\\r\\n]*"
#define LINES "[" SPACE "]*[\\r\\n]+"
// All but the last space of a run, which goes with the word behind it; a run at the end, whole.
#define SPACES "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"
// As above, but a digit ends the text: it was cut out first.
#define SPACES_BEFORE_DIGITS "[" SPACE "]+(?![^" SPACE "\\p{N}])|[" SPACE "]+"

typedef struct Rule {
    const char *name; // tokenizer.ggml.pre
    const char *pattern;
    bool whole_pieces;
} Rule;

// A new pre-tokeniser is a row here. Text that a pattern does not match stands as its own piece.
static const Rule rules[] = {
    {"smollm", "\\p{N}|" SUFFIX "| ?\\p{L}+| ?" SYMBOLS "|" SPACES_BEFORE_DIGITS, false},
    {"gpt-2", SUFFIX "| ?\\p{L}+| ?\\p{N}+| ?" SYMBOLS "|" SPACES, false},
    {"llama-bpe",
     SUFFIX_ANY_CASE "|" LETTERS "|\\p{N}{1,3}|" SYMBOLS_AND_LINES "|" LINES "|" SPACES, true},
    {"qwen2", SUFFIX_ANY_CASE "|" LETTERS "|\\p{N}|" SYMBOLS_AND_LINES "|" LINES "|" SPACES, false},
};

enum { RULE_COUNT = sizeof rules / sizeof *rules };

static const Rule *rule_of(const char *name) {
    for (int i = 0; i < RULE_COUNT; i++)
        if (strcmp(rules[i].name, name) == 0) return &rules[i];
    return NULL;
}

static hone_status fail_unknown_rule(const char *name, HoneError *err) {
    TextBuffer names = {0};
    for (int i = 0; i < RULE_COUNT; i++)
        hone_text_printf(&names, "%s%s", i == 0 ? "" : ", ", rules[i].name);
    TextBuffer quoted = {0};
    hone_text_json(&quoted, name, strnlen(name, 64));
    hone_fail(err, HONE_ERROR_UNSUPPORTED, "pre-tokeniser %s is not supported; there are %s",
              quoted.data && !quoted.failed ? quoted.data : "?",
              names.data && !names.failed ? names.data : "?");
    hone_text_free(&quoted);
    hone_text_free(&names);
    return HONE_ERROR_UNSUPPORTED;
}

// ---- making and freeing ------------------------------------------------------------------------

struct PreTokenizer {
    const Rule *rule;
    pcre2_general_context *general;
    pcre2_compile_context *compile;
    pcre2_match_context *match;
    pcre2_code *code;
    pcre2_match_data *data;
    bool compiled_to_machine_code;
    const char *text; // valid UTF-8: the caller's, or `repaired`
    size_t length;
    char *repaired;
    size_t repaired_capacity;
};

static void *take(PCRE2_SIZE bytes, void *unused) {
    (void)unused;
    return hone_alloc(bytes);
}

static void give(void *block, void *unused) {
    (void)unused;
    hone_free(block);
}

void hone_pretokenizer_free(PreTokenizer *pre) {
    if (!pre) return;
    pcre2_match_data_free(pre->data);
    pcre2_code_free(pre->code);
    pcre2_match_context_free(pre->match);
    pcre2_compile_context_free(pre->compile);
    pcre2_general_context_free(pre->general);
    hone_free(pre->repaired);
    hone_free(pre);
}

static hone_status compile(PreTokenizer *pre, HoneError *err) {
    pre->general = pcre2_general_context_create(take, give, NULL);
    pre->compile = pcre2_compile_context_create(pre->general);
    pre->match = pcre2_match_context_create(pre->general);
    if (!pre->general || !pre->compile || !pre->match)
        return hone_fail_memory(err, 4096, "a pre-tokeniser");
    int error;
    PCRE2_SIZE place;
    pre->code = pcre2_compile((PCRE2_SPTR)pre->rule->pattern, PCRE2_ZERO_TERMINATED,
                              PCRE2_UTF | PCRE2_UCP, &error, &place, pre->compile);
    if (!pre->code) {
        PCRE2_UCHAR message[128] = "";
        pcre2_get_error_message(error, message, sizeof message);
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "pre-tokeniser %s: this PCRE2 refuses the pattern at %zu: %s",
                         pre->rule->name, (size_t)place, (const char *)message);
    }
    // Without machine code (another processor, a hardened system) matching is interpreted.
    pre->compiled_to_machine_code = pcre2_jit_compile(pre->code, PCRE2_JIT_COMPLETE) == 0;
    pre->data = pcre2_match_data_create(1, pre->general);
    return pre->data ? HONE_OK : hone_fail_memory(err, 128, "a pre-tokeniser");
}

hone_status hone_pretokenizer_create(const char *name, PreTokenizer **pre, HoneError *err) {
    *pre = NULL;
    const Rule *rule = rule_of(name);
    if (!rule) return fail_unknown_rule(name, err);
    PreTokenizer *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "a pre-tokeniser");
    made->rule = rule;
    hone_status status = compile(made, err);
    if (status != HONE_OK) {
        hone_pretokenizer_free(made);
        return status;
    }
    *pre = made;
    return HONE_OK;
}

bool hone_pretokenizer_takes_whole_pieces(const PreTokenizer *pre) {
    return pre->rule->whole_pieces;
}

// ---- cutting -----------------------------------------------------------------------------------

// The first place at or after `from` that is not UTF-8; `length` when there is none.
static size_t find_invalid(const char *text, size_t length, size_t from) {
    size_t i = from;
    while (i < length) {
        uint64_t eight;
        if (length - i >= sizeof eight) {
            memcpy(&eight, text + i, sizeof eight);
            if (!(eight & 0x8080808080808080u)) {
                i += sizeof eight;
                continue;
            }
        }
        int bytes = hone_utf8_decode(text + i, length - i, NULL);
        if (bytes == 0) return i;
        i += (size_t)bytes;
    }
    return length;
}

// A copy of the same length in which each byte that is not UTF-8 is a symbol of one byte. What
// others put there, U+FFFD, is a symbol too, so that the pieces are the same.
static hone_status repair(PreTokenizer *pre, size_t invalid, HoneError *err) {
    if (pre->length > pre->repaired_capacity) {
        char *larger = hone_alloc(pre->length);
        if (!larger) return hone_fail_memory(err, pre->length, "a copy of the text");
        hone_free(pre->repaired);
        pre->repaired = larger;
        pre->repaired_capacity = pre->length;
    }
    memcpy(pre->repaired, pre->text, pre->length);
    while (invalid < pre->length) {
        pre->repaired[invalid] = '#';
        invalid = find_invalid(pre->text, pre->length, invalid + 1);
    }
    pre->text = pre->repaired;
    return HONE_OK;
}

hone_status hone_pretokenizer_start(PreTokenizer *pre, const char *text, size_t length,
                                    HoneError *err) {
    pre->text = text;
    pre->length = length;
    // One backtracking step a character is what a run of spaces costs; far more is a bad pattern.
    uint64_t limit = 10000000 + 8 * (uint64_t)length;
    pcre2_set_match_limit(pre->match, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX);
    size_t invalid = find_invalid(text, length, 0);
    return invalid < length ? repair(pre, invalid, err) : HONE_OK;
}

hone_status hone_pretokenizer_next(PreTokenizer *pre, size_t *end, HoneError *err) {
    size_t begin = *end;
    PCRE2_SPTR text = (PCRE2_SPTR)pre->text;
    int found = PCRE2_ERROR_JIT_STACKLIMIT;
    if (pre->compiled_to_machine_code)
        found = pcre2_jit_match(pre->code, text, pre->length, begin, PCRE2_NOTEMPTY, pre->data,
                                pre->match);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found =
            pcre2_match(pre->code, text, pre->length, begin,
                        PCRE2_NOTEMPTY | PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, pre->data, pre->match);
    if (found == PCRE2_ERROR_NOMATCH) {
        *end = pre->length;
        return HONE_OK;
    }
    if (found < 0) {
        PCRE2_UCHAR message[128] = "";
        pcre2_get_error_message(found, message, sizeof message);
        return hone_fail(err, HONE_ERROR_UNSUPPORTED, "pre-tokeniser %s: byte %zu of %zu: %s",
                         pre->rule->name, begin, pre->length, (const char *)message);
    }
    const PCRE2_SIZE *match = pcre2_get_ovector_pointer(pre->data);
    *end = match[0] > begin ? match[0] : match[1];
    return HONE_OK;
}
