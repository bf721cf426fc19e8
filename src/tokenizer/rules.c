// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/rules.h"

#include <string.h>

#include "base/text.h"

#define SPACE HONE_SPACE
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

// A new pre-tokeniser is a row here. Text that a pattern does not match stands as its own piece.
static const PreRule rules[] = {
    {"smollm", {"\\p{N}|" SUFFIX "| ?\\p{L}+| ?" SYMBOLS "|" SPACES_BEFORE_DIGITS}, false},
    {"gpt-2", {SUFFIX "| ?\\p{L}+| ?\\p{N}+| ?" SYMBOLS "|" SPACES}, false},
    {"llama-bpe",
     {SUFFIX_ANY_CASE "|" LETTERS "|\\p{N}{1,3}|" SYMBOLS_AND_LINES "|" LINES "|" SPACES},
     true},
    {"qwen2",
     {SUFFIX_ANY_CASE "|" LETTERS "|\\p{N}|" SYMBOLS_AND_LINES "|" LINES "|" SPACES},
     false},
};

enum { RULE_COUNT = sizeof rules / sizeof *rules };

hone_status hone_rule_find(const char *name, const PreRule **rule, HoneError *err) {
    for (int i = 0; i < RULE_COUNT; i++) {
        *rule = &rules[i];
        if (strcmp(rules[i].name, name) == 0) return HONE_OK;
    }
    TextBuffer names = {0}, quoted = {0};
    for (int i = 0; i < RULE_COUNT; i++)
        hone_text_printf(&names, "%s%s", i == 0 ? "" : ", ", rules[i].name);
    hone_text_json(&quoted, name, strnlen(name, 64));
    hone_fail(err, HONE_ERROR_UNSUPPORTED, "pre-tokeniser %s is not supported; there are %s",
              quoted.data && !quoted.failed ? quoted.data : "?",
              names.data && !names.failed ? names.data : "?");
    hone_text_free(&quoted);
    hone_text_free(&names);
    return HONE_ERROR_UNSUPPORTED;
}
