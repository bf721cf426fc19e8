// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/rules.h"

#include <string.h>

#include "base/text.h"

#define SPACE HONE_SPACE
#define SYMBOLS "[^" SPACE "\\p{L}\\p{N}]+"
#define SUFFIX "'(?:[sdmt]|ll|ve|re)"
// Spelled out: with (?i) PCRE2 would take the long s for an s too.
#define SUFFIX_ANY_CASE "'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])"
#define MAY_BEGIN_WORD "[^\\r\\n\\p{L}\\p{N}]?"
#define LETTERS MAY_BEGIN_WORD "\\p{L}+"
#define SYMBOLS_AND_LINES " ?" SYMBOLS "[\\r\\n]*"
#define LINES "[" SPACE "]*[\\r\\n]+"
// All but the last space of a run, which goes with the word behind it; a run at the end, whole.
#define SPACES "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"
// As above, but a digit ends the text: it was cut out first.
#define SPACES_BEFORE_DIGITS "[" SPACE "]+(?![^" SPACE "\\p{N}])|[" SPACE "]+"

#define GPT2 SUFFIX "| ?\\p{L}+| ?\\p{N}+| ?" SYMBOLS "|" SPACES
#define SMOLLM "\\p{N}|" SUFFIX "| ?\\p{L}+| ?" SYMBOLS "|" SPACES_BEFORE_DIGITS
// Llama 3's rule and its kin differ in how many digits go together.
#define LLAMA3(digits)                                                                             \
    SUFFIX_ANY_CASE "|" LETTERS "|" digits "|" SYMBOLS_AND_LINES "|" LINES "|" SPACES
#define DEEPSEEK3(symbols_and_lines)                                                               \
    "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|" symbols_and_lines     \
    "|" SPACES
#define DEEPSEEK3_LINES " ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINES
#define HAN_AND_KANA "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{30ff}]+"
// From U+0800 on, and no space among them.
#define HAN_AND_HANGUL                                                                             \
    "[\\x{800}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}"                 \
    "\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{9fa5}\\x{ac00}-\\x{d7ff}]+"
#define BLOOM " ?[^(" SPACE "|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"
// A word whose capitals come first. llama.cpp takes for a capital, and for a small letter, each
// letter that ASCII does not say to be the other.
#define CAPITALS_FIRST(capital, small, tail)                                                       \
    MAY_BEGIN_WORD capital "*" small "+" tail "|" MAY_BEGIN_WORD capital "+" small "*" tail
#define CAPITAL "[^\\P{L}a-z]"
#define SMALL "[^\\P{L}A-Z]"
#define MARKED_CAPITAL "[^\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}a-z]"
#define MARKED_SMALL "[^\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}A-Z]"
#define SYMBOLS_LINES_SLASHES " ?" SYMBOLS "[\\r\\n/]*|" LINES "|" SPACES
#define GPT4O(capital, small)                                                                      \
    CAPITALS_FIRST(capital, small, "(?:" SUFFIX_ANY_CASE ")?")                                     \
    "|\\p{N}{1,3}|" SYMBOLS_LINES_SLASHES
#define MARKED_WORDS(digits)                                                                       \
    MAY_BEGIN_WORD "[\\p{L}\\p{M}]+(?:" SUFFIX_ANY_CASE ")?|" digits "|" SYMBOLS_LINES_SLASHES

// Numbers in groups of three from the right; what is before a number goes with its first group.
// A number's length is looked at once, where it begins, so that time is linear.
#define FIRST_GROUP "\\p{N}{1,2}(?=(?:\\p{N}{3})*+(?!\\p{N}))"
#define GROUPS "\\P{N}++(?:" FIRST_GROUP "|\\p{N}{3})?+|\\A" FIRST_GROUP "|\\p{N}{3}"
// The same for ASCII's digits, but a group goes with what is behind it, if no group follows.
#define FIRST_DIGITS "(?:[0-9]{1,2}(?=(?:[0-9]{3})*+(?![0-9])))?+"
#define DIGITS_BEHIND "(?:[^0-9]++" FIRST_DIGITS ")*+"
#define DIGIT_GROUPS "\\A" FIRST_DIGITS DIGITS_BEHIND "|[0-9]{3}" DIGITS_BEHIND

#define LATIN_GREEK_CYRILLIC                                                                       \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}"                 \
    "\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}"         \
    "\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}"                  \
    "\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}"                       \
    "\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}"                 \
    "\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}"                 \
    "\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}"        \
    "\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}"         \
    "\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}"                 \
    "\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}"                  \
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}"                   \
    "\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}"        \
    "\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}"         \
    "\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}"                  \
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}"                 \
    "\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"               \
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"         \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"

// A new pre-tokeniser is a row here. Text that a pattern does not match stands as its own piece.
// \s of the published patterns is written out: see HONE_SPACE.
static const PreRule rules[] = {
    {.names = "gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 modern-bert roberta-bpe "
              "a.x-4.0 "
              "gigachat mellum jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code",
     .patterns = {GPT2}},
    {.names = "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
     .patterns = {SMOLLM}},
    {.names = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     .patterns = {LLAMA3("\\p{N}{1,3}")},
     .whole_pieces = true,
     .adds_bos = true},
    {.names = "glm4 glm5", .patterns = {LLAMA3("\\p{N}{1,3}")}, .whole_pieces = true},
    {.names = "dbrx smaug-bpe chatglm-bpe", .patterns = {LLAMA3("\\p{N}{1,3}")}},
    {.names = "minicpm5", .patterns = {"\\p{N}{1,3}", LLAMA3("\\p{N}+")}, .whole_pieces = true},
    {.names = "qwen2 deepseek-r1-qwen megrez stablelm2 hunyuan solar-open grok-2 kormo f2llmv2",
     .patterns = {LLAMA3("\\p{N}")}},
    {.names = "qwen35",
     .patterns = {SUFFIX_ANY_CASE "|" MAY_BEGIN_WORD "[\\p{L}\\p{M}]+|\\p{N}| ?[^" SPACE
                                  "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES "|" SPACES}},
    {.names = "laguna", .patterns = {"[^\\n]+|\\n+", LLAMA3("\\p{N}")}},
    {.names = "ufakzeka", .patterns = {LETTERS "|\\p{N}|" SYMBOLS_AND_LINES "|" LINES "|" SPACES}},
    {.names = "seed-coder",
     .patterns = {SUFFIX_ANY_CASE "|" LETTERS "|\\p{N}| ?[^" SPACE "\\p{L}\\p{N}]+|" LINES
                                  "|" SPACES}},
    {.names = "bailingmoe bailingmoe2 llada-moe",
     .patterns = {SUFFIX_ANY_CASE "|" LETTERS "|\\p{N}|" SYMBOLS_AND_LINES "|[" SPACE
                                  "]*[\\r\\n]|" SPACES}},
    {.names = "exaone-moe",
     .patterns = {SUFFIX_ANY_CASE "|" MAY_BEGIN_WORD
                                  "(?:\\p{L}\\p{M}*+(?: \\p{L}\\p{M}*+)*+)++|\\p{N}| ?" SYMBOLS
                                  "[\\r\\n/]?|[" SPACE "]*[\\r\\n]|" SPACES}},
    {.names = "jais-2",
     .patterns = {SUFFIX_ANY_CASE "|" LETTERS "|\\p{N}{1,3}|" SYMBOLS_AND_LINES "|" LINES
                                  "|(?:[" SPACE "]{512}|[" SPACE "]{256}|[" SPACE "]{128}|[" SPACE
                                  "]{64}|[" SPACE "]{32}|[" SPACE "]{16}|[" SPACE "]{8}|[" SPACE
                                  "]{4}|[" SPACE "]{1,2})(?![^" SPACE "])|[" SPACE "]"}},
    {.names = "deepseek-llm",
     .patterns = {"[\\r\\n]", "[" SPACE "]?[" LATIN_GREEK_CYRILLIC "]+",
                  "[" SPACE "]?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}"
                  "\\x{3001}\\x{3002}]+",
                  "[" SPACE "]++\\z", HAN_AND_HANGUL, "\\p{N}+"}},
    {.names = "deepseek-coder",
     .patterns = {"[\\r\\n]", "[" SPACE "]?\\p{L}+", "[" SPACE "]?\\p{P}+", HAN_AND_HANGUL,
                  "\\p{N}"}},
    {.names = "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
     .patterns = {"\\p{N}{1,3}", HAN_AND_KANA, DEEPSEEK3(DEEPSEEK3_LINES)}},
    {.names = "spark2_5",
     .patterns = {"\\p{N}{1,3}", HAN_AND_KANA, DEEPSEEK3(" ?[\\p{P}\\p{S}]+|[\\r\\n]"), "\\p{N}"}},
    {.names = "afmoe",
     .patterns = {GROUPS,
                  "[\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{8c48}-\\x{faff}\\x{3040}-\\x{30ff}"
                  "\\x{ff65}-\\x{ff9f}\\x{2f00}-\\x{2fdf}\\x{e40}-\\x{eff}\\x{1780}-\\x{17ff}"
                  "\\x{1000}-\\x{109f}\\x{aa60}-\\x{aa7f}\\x{a9e0}-\\x{a9ff}\\x{1100}-\\x{11ff}]+",
                  DEEPSEEK3(DEEPSEEK3_LINES)}},
    {.names = "falcon", .patterns = {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {.names = "default", .patterns = {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {.names = "bloom poro-chat gpt3-finnish", .patterns = {BLOOM}},
    {.names = "viking", .patterns = {BLOOM, "\\p{N}"}},
    {.names = "tekken",
     .patterns = {CAPITALS_FIRST(CAPITAL, SMALL, "") "|\\p{N}|" SYMBOLS_LINES_SLASHES},
     .whole_pieces = true,
     .adds_bos = true},
    {.names = "gpt-4o llama4 kanana2 talkie minimax-m2", .patterns = {GPT4O(CAPITAL, SMALL)}},
    {.names = "granite-embed-multi-97m",
     .patterns = {GPT4O(MARKED_CAPITAL, MARKED_SMALL)},
     .whole_pieces = true},
    {.names = "tiny_aya cohere2moe", .patterns = {GROUPS, MARKED_WORDS("\\p{N}{1,3}")}},
    {.names = "youtu",
     .patterns =
         {"[\\x{ac00}-\\x{d7a3}\\x{3131}-\\x{318e}]+|[\\x{ff01}\\x{2026}\\x{201c}\\x{201d}\\x{2018}"
          "\\x{2019}\\x{2014}\\x{ff1a}\\x{ff1b}\\x{ff0c}\\x{3001}-\\x{303f}\\x{fe30}-\\x{fe4f}]+"
          "|[\\x{3105}-\\x{312f}]+|" HAN_AND_KANA,
          MARKED_WORDS("\\p{N}")},
     .whole_pieces = true},
    {.names = "superbpe", .patterns = {"\\p{N}+", DIGIT_GROUPS}},
    {.names = "chameleon",
     .patterns = {"<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", "[\\t\\n]|    |  ", "\\p{N}",
                  "[\\p{P}!-/:-@\\[-`{-~]", GPT2},
     .adds_bos = true},
};

enum { RULE_COUNT = sizeof rules / sizeof *rules };

// Whether `name` is one of the words of `names`.
static bool is_named(const char *names, const char *name) {
    size_t length = strlen(name);
    for (const char *word = names; *word;) {
        size_t size = strcspn(word, " ");
        if (size == length && memcmp(word, name, length) == 0) return true;
        word += size + (word[size] == ' ');
    }
    return false;
}

const PreRule *hone_rule_named(const char *name) {
    for (int i = 0; i < RULE_COUNT; i++)
        if (is_named(rules[i].names, name)) return &rules[i];
    return NULL;
}

hone_status hone_rule_find(const char *name, const PreRule **rule, HoneError *err) {
    *rule = hone_rule_named(name);
    if (*rule) return HONE_OK;
    TextBuffer names = {0}, quoted = {0};
    for (int i = 0; i < RULE_COUNT; i++)
        hone_text_printf(&names, "%s%s", i == 0 ? "" : " ", rules[i].names);
    hone_text_json(&quoted, name, strnlen(name, 64));
    hone_fail(err, HONE_ERROR_UNSUPPORTED, "pre-tokeniser %s is not supported; there are %s",
              quoted.data && !quoted.failed ? quoted.data : "?",
              names.data && !names.failed ? names.data : "?");
    hone_text_free(&quoted);
    hone_text_free(&names);
    return HONE_ERROR_UNSUPPORTED;
}
