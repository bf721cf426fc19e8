// SPDX-License-Identifier: Apache-2.0
// The tokeniser on a vocabulary made here: 256 bytes, then the results of the merges in order, then
// special tokens. Real vocabularies are compared with other libraries in tests/interop.
#include "tokenizer/tokenizer.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "check.h"
#include "tokenizer/alphabet.h"

enum { BYTES = 256, MOST = 400 };

static const char *const pres[] = {"smollm", "gpt-2", "llama-bpe", "qwen2"};
enum { PRE_COUNT = sizeof pres / sizeof *pres };

// A name of each other rule.
static const char *const more_pres[] = {
    "glm4",         "dbrx",           "minicpm5",    "qwen35",     "laguna",
    "ufakzeka",     "seed-coder",     "bailingmoe",  "exaone-moe", "jais-2",
    "deepseek-llm", "deepseek-coder", "deepseek-v3", "spark2_5",   "afmoe",
    "falcon",       "default",        "bloom",       "viking",     "tekken",
    "gpt-4o",       "youtu",          "tiny_aya",    "superbpe",   "granite-embed-multi-97m",
    "chameleon",    "poro-chat",      "starcoder",   "minerva-7b", "llama-v3",
};
enum { MORE_COUNT = sizeof more_pres / sizeof *more_pres };

// ---- the vocabulary ----------------------------------------------------------------------------

// G stands for the Ġ that spells a space.
#define G "\xc4\xa0"

static const char *const merges[] = {
    "t h",   "th e", G " the", "a b", "ab c", "ab ab",     "a a", "aa aa",
    G " " G, G " a", "1 2",    "' s", "b a",  "abab abab", "c a",
};
enum { MERGE_COUNT = sizeof merges / sizeof *merges };

static const struct {
    const char *spelling;
    TokenKind kind;
} specials[] = {
    {"<end>", TOKEN_CONTROL},       {"<end><end>", TOKEN_CONTROL}, {"<unk>", TOKEN_UNKNOWN},
    {"<user>", TOKEN_USER},         {"<user", TOKEN_USER},         {"<|im_end|>", TOKEN_CONTROL},
    {"unused", TOKEN_UNUSED},       {"", TOKEN_CONTROL},           {"<eos>", TOKEN_CONTROL},
    {"e " G "w o r d", TOKEN_USER}, {"whole", TOKEN_NORMAL},
};
enum { SPECIAL_COUNT = sizeof specials / sizeof *specials };

typedef struct Vocabulary {
    char spellings[MOST][64];
    TokenizerText tokens[MOST], merge_texts[MERGE_COUNT + 1];
    int32_t kinds[MOST];
    TokenizerSource source;
} Vocabulary;

static int add_token(Vocabulary *vocabulary, const char *spelling, size_t length, TokenKind kind) {
    int id = (int)vocabulary->source.token_count++;
    memcpy(vocabulary->spellings[id], spelling, length);
    vocabulary->tokens[id] = (TokenizerText){vocabulary->spellings[id], length};
    vocabulary->kinds[id] = kind;
    return id;
}

static Vocabulary *vocabulary_of(const char *pre) {
    Vocabulary *vocabulary = calloc(1, sizeof *vocabulary);
    vocabulary->source = (TokenizerSource){.model = "gpt2",
                                           .pre = pre,
                                           .tokens = vocabulary->tokens,
                                           .kinds = vocabulary->kinds,
                                           .merges = vocabulary->merge_texts,
                                           .merge_count = MERGE_COUNT,
                                           .bos = -1,
                                           .eos = -1,
                                           .eot = -1,
                                           .unknown = -1,
                                           .padding = -1};
    Alphabet alphabet;
    hone_alphabet_fill(&alphabet);
    for (int byte = 0; byte < BYTES; byte++) {
        char spelling[4];
        int length = hone_utf8_encode(alphabet.character[byte], spelling);
        add_token(vocabulary, spelling, (size_t)length, TOKEN_NORMAL);
    }
    for (int i = 0; i < MERGE_COUNT; i++) {
        const char *space = strchr(merges[i] + 1, ' ');
        char joined[64];
        int length = snprintf(joined, sizeof joined, "%.*s%s", (int)(space - merges[i]), merges[i],
                              space + 1);
        add_token(vocabulary, joined, (size_t)length, TOKEN_NORMAL);
        vocabulary->merge_texts[i] = (TokenizerText){merges[i], strlen(merges[i])};
    }
    for (int i = 0; i < SPECIAL_COUNT; i++)
        add_token(vocabulary, specials[i].spelling, strlen(specials[i].spelling), specials[i].kind);
    return vocabulary;
}

static Tokenizer *tokenizer_of(const char *pre) {
    Vocabulary *vocabulary = vocabulary_of(pre);
    Tokenizer *tokenizer = NULL;
    HoneError err = {0};
    CHECK_INT(hone_tokenizer_create(&vocabulary->source, &tokenizer, &err), HONE_OK);
    CHECK_STRING(err.message, "");
    free(vocabulary);
    return tokenizer;
}

// The pieces of text that the tokens cover, with | between them.
static void check_tokens(Tokenizer *tokenizer, const char *text, bool special, const char *want) {
    TokenList list = {0};
    TextBuffer got = {0};
    CHECK_INT(hone_tokenize_append(tokenizer, text, strlen(text), special, &list, NULL), HONE_OK);
    for (int64_t i = 0; i < list.count; i++) {
        TokenizerText bytes = hone_token_bytes(tokenizer, list.tokens[i], true);
        if (i) hone_text_puts(&got, "|");
        hone_text_append(&got, text + list.begin[i], list.end[i] - list.begin[i]);
        CHECK_INT(bytes.length, list.end[i] - list.begin[i]);
        CHECK(memcmp(bytes.data, text + list.begin[i], bytes.length) == 0);
    }
    CHECK_STRING(got.data ? got.data : "", want);
    hone_text_free(&got);
    hone_token_list_free(&list);
}

// Every byte belongs to one token, in order, and is what that token stands for.
static void check_tiles(Tokenizer *tokenizer, const char *text, size_t length, bool special) {
    TokenList list = {0};
    CHECK_INT(hone_tokenize_append(tokenizer, text, length, special, &list, NULL), HONE_OK);
    size_t place = 0;
    bool ok = true;
    for (int64_t i = 0; ok && i < list.count; i++) {
        TokenizerText bytes = hone_token_bytes(tokenizer, list.tokens[i], true);
        ok = list.begin[i] == place && list.end[i] == place + bytes.length && bytes.length > 0 &&
             list.end[i] <= length && memcmp(bytes.data, text + place, bytes.length) == 0;
        place = list.end[i];
    }
    CHECK(ok);
    CHECK_INT(place, length);
    hone_token_list_free(&list);
}

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

// ---- tests -------------------------------------------------------------------------------------

static void merges_apply_best_first_and_leftmost(void) {
    Tokenizer *tokenizer = tokenizer_of("gpt-2");
    check_tokens(tokenizer, "the the", false, "the| the");
    check_tokens(tokenizer, "abababab", false, "abababab");
    check_tokens(tokenizer, "ababab", false, "abab|ab");
    check_tokens(tokenizer, "aaaaa", false, "aaaa|a");
    check_tokens(tokenizer, "baba", false, "b|ab|a"); // "a b" is better than "b a"
    check_tokens(tokenizer, "abca", false, "abc|a");
    check_tokens(tokenizer, "", false, "");
    hone_tokenizer_free(tokenizer);
}

static void each_rule_cuts_in_its_way(void) {
    static const struct {
        const char *text, *want[PRE_COUNT];
    } cases[] = {
        {"  12", {"  |1|2", " | |12", " | |12", " | |1|2"}},
        {"x  the", {"x| | the", "x| | the", "x| | the", "x| | the"}},
        {"a's", {"a|'s", "a|'s", "a|'s", "a|'s"}},
        {"a'S", {"a|'|S", "a|'|S", "a|'|S", "a|'|S"}},
        {"\xe1\xa0\x8e", {"\xe1|\xa0|\x8e", "\xe1|\xa0|\x8e", "\xe1|\xa0|\x8e", "\xe1|\xa0|\x8e"}},
        {"whole", {"w|h|o|l|e", "w|h|o|l|e", "whole", "w|h|o|l|e"}},
    };
    for (int pre = 0; pre < PRE_COUNT; pre++) {
        Tokenizer *tokenizer = tokenizer_of(pres[pre]);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            for (int again = 0; again < 2; again++) // the second time from the cache
                check_tokens(tokenizer, cases[i].text, false, cases[i].want[pre]);
        hone_tokenizer_free(tokenizer);
    }
}

static void specials_are_leftmost_longest(void) {
    Tokenizer *tokenizer = tokenizer_of(NULL);
    check_tokens(tokenizer, "the<end>the", true, "the|<end>|the");
    check_tokens(tokenizer, "<end><end><end>", true, "<end><end>|<end>");
    check_tokens(tokenizer, "<end", true, "<|e|n|d");
    check_tokens(tokenizer, "<end>", false, "<|e|n|d|>");
    check_tokens(tokenizer, "<unk>", true, "<unk>");
    check_tokens(tokenizer, "<unk>", false, "<|u|n|k|>");
    check_tokens(tokenizer, "a<user>b<userb", false, "a|<user>|b|<user|b");
    check_tokens(tokenizer, "unused", true, "u|n|u|s|e|d");
    // White space is cut as at the end of a text.
    check_tokens(tokenizer, "a  <user>", false, "a|  |<user>");
    hone_tokenizer_free(tokenizer);
}

static void bytes_come_back(void) {
    uint32_t random = 1;
    size_t length = 100000;
    char *text = malloc(length);
    for (int pre = 0; pre < PRE_COUNT + MORE_COUNT; pre++) {
        Tokenizer *tokenizer =
            tokenizer_of(pre < PRE_COUNT ? pres[pre] : more_pres[pre - PRE_COUNT]);
        for (size_t i = 0; i < length; i++) text[i] = (char)next_random(&random);
        check_tiles(tokenizer, text, length, true);
        static const char few[] = "ab12 \n'<\xc3\xa9\xff\xe4\xb8\xad";
        for (int round = 0; round < 300; round++) {
            size_t some = next_random(&random) % 200;
            for (size_t i = 0; i < some; i++)
                text[i] = few[next_random(&random) % (sizeof few - 1)];
            check_tiles(tokenizer, text, some, round % 2);
        }
        hone_tokenizer_free(tokenizer);
    }
    free(text);
}

static void long_runs_do_not_hang(void) {
    static const char *const units[] = {
        "a",    "ab",    "abc", " ",        "\n",           " \n",      "1",
        "!",    "'",     "A",   "\xff",     "\xe4\xb8\xad", "\xc2\xa0", "<",
        "<use", "\r\n ", "a1",  "\xd9\xa3", "a ",           "\xcc\x81", "a\xcc\x81"};
    size_t most = 1 << 20;
    char *text = malloc(most);
    for (int pre = 0; pre < PRE_COUNT + MORE_COUNT; pre++) {
        bool more = pre >= PRE_COUNT;
        size_t length = more ? most / 8 : most;
        Tokenizer *tokenizer = tokenizer_of(more ? more_pres[pre - PRE_COUNT] : pres[pre]);
        for (size_t unit = 0; unit < sizeof units / sizeof *units; unit++) {
            size_t size = strlen(units[unit]);
            for (size_t i = 0; i < length; i++) text[i] = units[unit][i % size];
            text[length - 1] = 'x';
            check_tiles(tokenizer, text, length, true);
        }
        hone_tokenizer_free(tokenizer);
    }
    free(text);
}

// The definition, by trying each merge everywhere: quadratic and worse, and plainly right.
static size_t merge_plainly(const Tokenizer *tokenizer, int32_t *ids, size_t count) {
    for (int rank = 0; rank < MERGE_COUNT;) {
        char left[64];
        const char *right = strchr(merges[rank] + 1, ' ') + 1;
        snprintf(left, sizeof left, "%.*s", (int)(right - 1 - merges[rank]), merges[rank]);
        int32_t left_id = hone_tokenizer_find(tokenizer, left);
        int32_t right_id = hone_tokenizer_find(tokenizer, right);
        size_t at = 0;
        while (at + 1 < count && (ids[at] != left_id || ids[at + 1] != right_id)) at++;
        if (at + 1 >= count) {
            rank++;
            continue;
        }
        ids[at] = BYTES + rank;
        memmove(ids + at + 1, ids + at + 2, (count - at - 2) * sizeof *ids);
        count--;
        rank = 0;
    }
    return count;
}

static void long_and_short_pieces_merge_by_the_definition(void) {
    Tokenizer *tokenizer = tokenizer_of("gpt-2");
    uint32_t random = 7;
    char text[300];
    int32_t ids[300];
    for (int round = 0; round < 400; round++) {
        size_t length = 1 + next_random(&random) % (round % 2 ? 300 : 20);
        for (size_t i = 0; i < length; i++) {
            text[i] = "abcthe"[next_random(&random) % 6];
            ids[i] = (unsigned char)text[i];
        }
        size_t count = merge_plainly(tokenizer, ids, length);
        TokenList list = {0};
        CHECK_INT(hone_tokenize_append(tokenizer, text, length, false, &list, NULL), HONE_OK);
        CHECK_INT(list.count, count);
        for (size_t i = 0; i < count && (int64_t)i < list.count; i++)
            CHECK_INT(list.tokens[i], ids[i]);
        hone_token_list_free(&list);
    }
    hone_tokenizer_free(tokenizer);
}

static void a_byte_without_a_token_is_passed_over(void) {
    Vocabulary *vocabulary = vocabulary_of("gpt-2");
    vocabulary->spellings['b'][0] = '?';
    vocabulary->source.merge_count = 1; // "t h", which needs no b
    Tokenizer *tokenizer = NULL;
    CHECK_INT(hone_tokenizer_create(&vocabulary->source, &tokenizer, NULL), HONE_OK);
    for (int again = 0; again < 2; again++) check_tokens(tokenizer, "thbth b", false, "th|th| ");
    TokenList list = {0};
    CHECK_INT(hone_tokenize_append(tokenizer, "tbh", 3, false, &list, NULL), HONE_OK);
    CHECK_INT(list.count, 2);
    CHECK_INT(list.begin[1], 2);
    CHECK_INT(list.end[1], 3);
    hone_token_list_free(&list);
    hone_tokenizer_free(tokenizer);
    free(vocabulary);
}

static void tokens_are_appended(void) {
    Tokenizer *tokenizer = tokenizer_of("smollm");
    TokenList list = {0};
    CHECK_INT(hone_tokenize_append(tokenizer, "the", 3, false, &list, NULL), HONE_OK);
    CHECK_INT(hone_tokenize_append(tokenizer, NULL, 0, false, &list, NULL), HONE_OK);
    CHECK_INT(hone_tokenize_append(tokenizer, "x the", 5, false, &list, NULL), HONE_OK);
    CHECK_INT(list.count, 3);
    CHECK_INT(list.begin[2], 1);
    CHECK_INT(list.end[2], 5);
    CHECK_INT(list.tokens[0], BYTES + 1);
    CHECK_INT(list.tokens[2], BYTES + 2);
    hone_token_list_free(&list);
    hone_tokenizer_free(tokenizer);
}

static void questions_are_answered(void) {
    Vocabulary *vocabulary = vocabulary_of("smollm");
    int32_t base = BYTES + MERGE_COUNT;
    vocabulary->source.bos = base;
    vocabulary->source.eos = base + 8;
    vocabulary->source.add_bos = true;
    Tokenizer *tokenizer = NULL;
    CHECK_INT(hone_tokenizer_create(&vocabulary->source, &tokenizer, NULL), HONE_OK);
    CHECK_INT(hone_tokenizer_size(tokenizer), base + SPECIAL_COUNT);
    CHECK_INT(hone_tokenizer_find(tokenizer, G "the"), BYTES + 2);
    CHECK_INT(hone_tokenizer_find(tokenizer, "absent"), -1);
    CHECK_INT(hone_tokenizer_bos(tokenizer), base);
    CHECK_INT(hone_tokenizer_eos(tokenizer), base + 8);
    CHECK(hone_tokenizer_adds_bos(tokenizer));
    CHECK(!hone_tokenizer_adds_eos(tokenizer));
    CHECK(hone_token_ends(tokenizer, base + 8));
    CHECK(hone_token_ends(tokenizer, hone_tokenizer_find(tokenizer, "<|im_end|>")));
    CHECK(!hone_token_ends(tokenizer, base));
    CHECK(!hone_token_ends(tokenizer, -1));
    CHECK_INT(hone_token_kind(tokenizer, base + 3), TOKEN_USER);
    CHECK_INT(hone_token_kind(tokenizer, 100000), TOKEN_UNKNOWN);
    CHECK_INT(hone_token_bytes(tokenizer, base, true).length, 5);
    CHECK_INT(hone_token_bytes(tokenizer, base, false).length, 0);
    CHECK_INT(hone_token_bytes(tokenizer, base + 3, false).length, 6);
    CHECK_INT(hone_token_bytes(tokenizer, -1, true).length, 0);
    CHECK_INT(hone_token_bytes(tokenizer, 100000, true).length, 0);
    TokenizerText the = hone_token_bytes(tokenizer, BYTES + 2, false);
    CHECK(the.length == 4 && memcmp(the.data, " the", 4) == 0);
    hone_tokenizer_free(tokenizer);
    free(vocabulary);
}

static void refuse(const Vocabulary *vocabulary, hone_status want, const char *first,
                   const char *second) {
    Tokenizer *tokenizer = NULL;
    HoneError err = {0};
    CHECK_INT(hone_tokenizer_create(&vocabulary->source, &tokenizer, &err), want);
    CHECK(tokenizer == NULL);
    CHECK_CONTAINS(err.message, first);
    CHECK_CONTAINS(err.message, second);
    CHECK(!strchr(err.message, '\n'));
}

static void bad_vocabularies_are_refused(void) {
    Vocabulary *vocabulary = vocabulary_of("nosuch");
    refuse(vocabulary, HONE_ERROR_UNSUPPORTED, "\"nosuch\"", "gpt-2 phi-2");
    vocabulary->source.pre = "smollm";
    vocabulary->source.model = "rwkv";
    refuse(vocabulary, HONE_ERROR_UNSUPPORTED, "\"rwkv\"", "gpt2");
    vocabulary->source.model = "gpt2";

    static const char *const bad[][2] = {
        {"zz a", "left part"},   {"a zz", "right part"}, {"a x", "joined"},
        {"ab", "not two parts"}, {"", "not two parts"},  {"a ", "not two parts"},
        {" ", "not two parts"},  {"a\nb c", "\\n"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        vocabulary->merge_texts[3] = (TokenizerText){bad[i][0], strlen(bad[i][0])};
        refuse(vocabulary, HONE_ERROR_INPUT, "merge 3", bad[i][1]);
    }
    vocabulary->merge_texts[3] = vocabulary->merge_texts[4];
    vocabulary->source.merge_count = -1;
    refuse(vocabulary, HONE_ERROR_INPUT, "-1", "merges");
    vocabulary->source.merge_count = 0;
    vocabulary->kinds[7] = 9;
    refuse(vocabulary, HONE_ERROR_INPUT, "token 7", "type 9");
    vocabulary->kinds[7] = TOKEN_NORMAL;
    vocabulary->source.eos = (int32_t)vocabulary->source.token_count;
    refuse(vocabulary, HONE_ERROR_INPUT, "eos", "282");
    vocabulary->source.token_count = 0;
    refuse(vocabulary, HONE_ERROR_INPUT, "0 tokens", "vocabulary");
    free(vocabulary);
}

int main(void) {
    RUN(merges_apply_best_first_and_leftmost);
    RUN(each_rule_cuts_in_its_way);
    RUN(specials_are_leftmost_longest);
    RUN(bytes_come_back);
    RUN(long_runs_do_not_hang);
    RUN(long_and_short_pieces_merge_by_the_definition);
    RUN(a_byte_without_a_token_is_passed_over);
    RUN(tokens_are_appended);
    RUN(questions_are_answered);
    RUN(bad_vocabularies_are_refused);
    return check_report();
}
