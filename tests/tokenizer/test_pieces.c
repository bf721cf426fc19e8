// SPDX-License-Identifier: Apache-2.0
// sentencepiece's models and WordPiece on vocabularies made here. Real and trained ones are
// compared with other libraries in tests/interop.
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "check.h"
#include "tokenizer/tokenizer.h"

// _ stands for the ▁ that spells a space.
#define _ "\xe2\x96\x81"

typedef struct Entry {
    const char *text;
    float score;
    TokenKind kind;
} Entry;

// ---- vocabularies ------------------------------------------------------------------------------

static const Entry words[] = {
    {"<unk>", 0, TOKEN_UNKNOWN},    {"<s>", 0, TOKEN_CONTROL},   {"<tool>", 0, TOKEN_USER},
    {_, -9, TOKEN_NORMAL},          {"a", -5, TOKEN_NORMAL},     {"b", -6, TOKEN_NORMAL},
    {"c", -7, TOKEN_NORMAL},        {"ab", -2, TOKEN_NORMAL},    {"bc", -1, TOKEN_NORMAL},
    {"abc", -4, TOKEN_NORMAL},      {_ "a", -3, TOKEN_NORMAL},   {_ "abc", -8, TOKEN_NORMAL},
    {"\xc3\xa9", -9, TOKEN_NORMAL}, {"aa", -2.5f, TOKEN_NORMAL}, {"aaa", -10, TOKEN_NORMAL},
};

enum { MOST = 300 };

typedef struct Vocabulary {
    TokenizerText tokens[MOST];
    float scores[MOST];
    int32_t kinds[MOST];
    char bytes[256][8];
    TokenizerSource source;
} Vocabulary;

static void add(Vocabulary *vocabulary, Entry entry) {
    int64_t id = vocabulary->source.token_count++;
    vocabulary->tokens[id] = (TokenizerText){entry.text, strlen(entry.text)};
    vocabulary->scores[id] = entry.score;
    vocabulary->kinds[id] = (int32_t)entry.kind;
}

static Vocabulary *vocabulary_of(const char *model, bool bytes) {
    Vocabulary *vocabulary = calloc(1, sizeof *vocabulary);
    vocabulary->source = (TokenizerSource){.model = model,
                                           .tokens = vocabulary->tokens,
                                           .scores = vocabulary->scores,
                                           .kinds = vocabulary->kinds,
                                           .add_space_prefix = true,
                                           .bos = -1,
                                           .eos = -1,
                                           .eot = -1,
                                           .padding = -1};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) add(vocabulary, words[i]);
    for (int byte = 0; bytes && byte < 256; byte++) {
        snprintf(vocabulary->bytes[byte], 8, "<0x%02X>", (unsigned)byte);
        add(vocabulary, (Entry){vocabulary->bytes[byte], 0, TOKEN_BYTE});
    }
    return vocabulary;
}

static Tokenizer *make(Vocabulary *vocabulary) {
    Tokenizer *tokenizer = NULL;
    HoneError err = {0};
    CHECK_INT(hone_tokenizer_create(&vocabulary->source, &tokenizer, &err), HONE_OK);
    CHECK_STRING(err.message, "");
    free(vocabulary);
    return tokenizer;
}

// ---- checks ------------------------------------------------------------------------------------

// The tokens' texts, a space as _, with | between them.
static void check_tokens(Tokenizer *tokenizer, const char *text, const char *want) {
    for (int again = 0; again < 2; again++) { // the second time from the cache
        TokenList list = {0};
        TextBuffer got = {0};
        size_t length = strlen(text);
        CHECK_INT(hone_tokenize_append(tokenizer, text, length, true, &list, NULL), HONE_OK);
        for (int64_t i = 0; i < list.count; i++) {
            TokenizerText bytes = hone_token_bytes(tokenizer, list.tokens[i], true);
            hone_text_puts(&got, i ? "|" : "");
            hone_text_append(&got, bytes.data, bytes.length);
            CHECK(list.begin[i] <= list.end[i] && list.end[i] <= length);
            if (i > 0) CHECK(list.begin[i] >= list.begin[i - 1]);
        }
        CHECK_STRING(got.data ? got.data : "", want);
        hone_text_free(&got);
        hone_token_list_free(&list);
    }
}

// Decoding what a text became gives the text again.
static void check_round_trip(Tokenizer *tokenizer, const char *text, size_t length) {
    TokenList list = {0};
    TextBuffer got = {0};
    hone_text_puts(&got, "");
    CHECK_INT(hone_tokenize_append(tokenizer, text, length, true, &list, NULL), HONE_OK);
    hone_tokenizer_text(tokenizer, list.tokens, list.count, true, &got);
    CHECK_INT(got.length, length);
    CHECK(got.length == length && memcmp(got.data, text, length) == 0);
    hone_text_free(&got);
    hone_token_list_free(&list);
}

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

// ---- tests -------------------------------------------------------------------------------------

static void the_best_score_merges_first(void) {
    Tokenizer *tokenizer = make(vocabulary_of("llama", true));
    check_tokens(tokenizer, "abc", " abc"); // "bc", then " a", then both
    check_tokens(tokenizer, "ab", " |ab");  // before " a"
    check_tokens(tokenizer, "ac a", " a|c| a");
    check_tokens(tokenizer, "aaaa", " |aa|aa"); // the left one of equals first
    check_tokens(tokenizer, "aaa", " |aaa");
    check_tokens(tokenizer, "", "");
    check_tokens(tokenizer, " ", " | ");
    check_tokens(tokenizer, "<s>c<tool>", "<s>| |c|<tool>");
    hone_tokenizer_free(tokenizer);
}

static void what_is_not_there_is_bytes_or_unknown(void) {
    Tokenizer *tokenizer = make(vocabulary_of("llama", true));
    check_tokens(tokenizer, "x\xff", " |x|\xff");
    hone_tokenizer_free(tokenizer);
    tokenizer = make(vocabulary_of("llama", false));
    check_tokens(tokenizer, "xyab\xff", " |<unk>|ab|<unk>"); // several in a row are one
    hone_tokenizer_free(tokenizer);
    tokenizer = make(vocabulary_of("t5", false));
    check_tokens(tokenizer, "xyab\xff", " |<unk>|ab|<unk>");
    hone_tokenizer_free(tokenizer);
}

static void tokens_know_their_bytes(void) {
    Tokenizer *tokenizer = make(vocabulary_of("llama", true));
    TokenList list = {0};
    const char *text = "a  \xc3\xa9<s>ab";
    CHECK_INT(hone_tokenize_append(tokenizer, text, strlen(text), true, &list, NULL), HONE_OK);
    static const uint32_t want[][2] = {{0, 1}, {1, 2}, {2, 3}, {3, 5}, {5, 8}, {8, 8}, {8, 10}};
    CHECK_INT(list.count, 7); // " a", " ", " ", "é", "<s>", " ", "ab"
    for (int64_t i = 0; i < list.count && i < 7; i++) {
        CHECK_INT(list.begin[i], want[i][0]);
        CHECK_INT(list.end[i], want[i][1]);
    }
    hone_token_list_free(&list);
    hone_tokenizer_free(tokenizer);
}

static void text_comes_back(void) {
    static const char *const parts[] = {"a", "b", "c", " ", "  ", "\xc3\xa9", "\xff", "<s", "\n"};
    Tokenizer *tokenizer = make(vocabulary_of("llama", true));
    uint32_t random = 3;
    for (int round = 0; round < 300; round++) {
        TextBuffer text = {0};
        hone_text_puts(&text, "");
        for (uint32_t i = next_random(&random) % (round % 3 ? 20 : 300); i > 0; i--)
            hone_text_puts(&text, parts[next_random(&random) % 9]);
        check_round_trip(tokenizer, text.data, text.length);
        hone_text_free(&text);
    }
    hone_tokenizer_free(tokenizer);
}

static void the_likeliest_tokens_win(void) {
    Tokenizer *tokenizer = make(vocabulary_of("t5", true));
    check_tokens(tokenizer, "abc", " a|bc");     // -4; " abc" is -8
    check_tokens(tokenizer, "caaa", " |c|a|aa"); // the first of equals: "aa" then "a" is no better
    check_tokens(tokenizer, "a a", " a| a");
    hone_tokenizer_free(tokenizer);
}

// All ways to spell a text, one by one.
static double best_plainly(const char *text, size_t length, double unknown) {
    if (length == 0) return 0;
    double best = unknown + best_plainly(text + 1, length - 1, unknown);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t bytes = strlen(words[i].text);
        if (words[i].kind != TOKEN_NORMAL || bytes > length || memcmp(text, words[i].text, bytes))
            continue;
        double score = (double)words[i].score + best_plainly(text + bytes, length - bytes, unknown);
        if (score > best) best = score;
    }
    return best;
}

static void no_spelling_is_likelier(void) {
    Vocabulary *vocabulary = vocabulary_of("t5", false);
    vocabulary->source.add_space_prefix = false;
    Tokenizer *tokenizer = make(vocabulary);
    uint32_t random = 5;
    for (int round = 0; round < 300; round++) {
        char text[12];
        size_t length = 1 + next_random(&random) % 11;
        for (size_t i = 0; i < length; i++) text[i] = "abc"[next_random(&random) % 3];
        TokenList list = {0};
        CHECK_INT(hone_tokenize_append(tokenizer, text, length, true, &list, NULL), HONE_OK);
        double score = 0;
        for (int64_t i = 0; i < list.count; i++) score += (double)words[list.tokens[i]].score;
        CHECK_NEAR(score, best_plainly(text, length, -20), 0, 1e-9);
        hone_token_list_free(&list);
    }
    hone_tokenizer_free(tokenizer);
}

static void spaces_are_merged_where_asked(void) {
    Vocabulary *vocabulary = vocabulary_of("t5", true);
    vocabulary->source.merge_spaces = true;
    Tokenizer *tokenizer = make(vocabulary);
    check_tokens(tokenizer, "  a   a ", " a| a");
    check_tokens(tokenizer, "   ", "");
    hone_tokenizer_free(tokenizer);
}

// A charsmap with one entry: "A" becomes "ab". Unit 0 is the root with its children at 0 ^ byte.
static void a_charsmap_replaces(void) {
    uint32_t units[128] = {0};
    units[0] = 2u << 10;                                // children at 2 ^ byte
    units[2 ^ 'A'] = 'A' | 1u << 8 | (uint32_t)1 << 10; // ends here; its value at node ^ 1
    units[2 ^ 'A' ^ 1] = 1u << 31 | 2;
    char table[4 + sizeof units + 5];
    uint32_t bytes = sizeof units;
    memcpy(table, &bytes, 4);
    memcpy(table + 4, units, sizeof units);
    memcpy(table + 4 + sizeof units, "x\0ab", 5);
    Vocabulary *vocabulary = vocabulary_of("t5", true);
    vocabulary->source.charsmap = (TokenizerText){table, sizeof table};
    Tokenizer *tokenizer = make(vocabulary);
    check_tokens(tokenizer, "Ac", " a|bc");
    check_tokens(tokenizer,
                 "\xff"
                 "A",
                 " |\xff|ab");
    hone_tokenizer_free(tokenizer);
}

static void words_are_cut_as_bert_does(void) {
    static const Entry entries[] = {
        {"[UNK]", 0, TOKEN_CONTROL},
        {"[SEP]", 0, TOKEN_CONTROL},
        {_ "hel", 0, TOKEN_NORMAL},
        {"lo", 0, TOKEN_NORMAL},
        {"l", 0, TOKEN_NORMAL},
        {_ "h", 0, TOKEN_NORMAL},
        {_ "!", 0, TOKEN_NORMAL},
        {_ "e", 0, TOKEN_NORMAL},
        {_ "\xe4\xb8\xad", 0, TOKEN_NORMAL},
        {_ ",", 0, TOKEN_NORMAL},
    };
    Vocabulary *vocabulary = vocabulary_of("bert", false);
    vocabulary->source.token_count = 0;
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) add(vocabulary, entries[i]);
    vocabulary->source.lowercase = vocabulary->source.strip_accents = true;
    Tokenizer *tokenizer = make(vocabulary);
    check_tokens(tokenizer, "Hello  HELL!", " hel|lo| hel|l|!");
    check_tokens(tokenizer, "\xc3\x89[SEP]", " e|[SEP]");             // É without its accent
    check_tokens(tokenizer, "h\xe4\xb8\xadh", " h| \xe4\xb8\xad| h"); // an ideograph stands alone
    check_tokens(tokenizer, "hex h", "[UNK]| h");                     // no part unknown
    check_tokens(tokenizer, "h\x01\x7fl\t,", " h|l|,");               // control characters go
    TextBuffer text = {0};
    hone_tokenizer_text(tokenizer, (const int32_t[]){2, 3, 9, 5, 6}, 5, false, &text);
    CHECK_STRING(text.data, "hello, h!");
    hone_text_free(&text);
    hone_tokenizer_free(tokenizer);
}

static void long_texts_do_not_hang(void) {
    static const char *const models[] = {"llama", "t5", "bert"};
    static const char *const units[] = {"a", "abc", " ", "x", "a ", _, "\xff", "<", "\xc3\xa9"};
    size_t length = 1 << 20;
    char *text = malloc(length);
    for (int model = 0; model < 6; model++) {
        Vocabulary *vocabulary = vocabulary_of(models[model % 3], true);
        if (model >= 3) add(vocabulary, (Entry){"c" _ "a", -1, TOKEN_NORMAL}); // spans words
        Tokenizer *tokenizer = make(vocabulary);
        for (size_t unit = 0; unit < sizeof units / sizeof *units; unit++) {
            size_t size = strlen(units[unit]);
            for (size_t i = 0; i < length; i++) text[i] = units[unit][i % size];
            TokenList list = {0};
            CHECK_INT(hone_tokenize_append(tokenizer, text, length, true, &list, NULL), HONE_OK);
            hone_token_list_free(&list);
        }
        hone_tokenizer_free(tokenizer);
    }
    free(text);
}

static void refuse(Vocabulary *vocabulary, hone_status want, const char *first,
                   const char *second) {
    Tokenizer *tokenizer = NULL;
    HoneError err = {0};
    CHECK_INT(hone_tokenizer_create(&vocabulary->source, &tokenizer, &err), want);
    CHECK(tokenizer == NULL);
    CHECK_CONTAINS(err.message, first);
    CHECK_CONTAINS(err.message, second);
    free(vocabulary);
}

static void bad_vocabularies_are_refused(void) {
    Vocabulary *vocabulary = vocabulary_of("llama", true);
    vocabulary->source.scores = NULL;
    refuse(vocabulary, HONE_ERROR_INPUT, "llama", "without scores");
    vocabulary = vocabulary_of("t5", true);
    vocabulary->scores[3] = NAN;
    refuse(vocabulary, HONE_ERROR_INPUT, "token 3", "nan");
    vocabulary = vocabulary_of("t5", true);
    char *large = calloc(1, 1002);
    memset(large, 'a', 1001);
    vocabulary->tokens[4] = (TokenizerText){large, 1001};
    refuse(vocabulary, HONE_ERROR_UNSUPPORTED, "token 4", "1001");
    free(large);
    static const char *const tables[] = {"\x08\0\0\0abcd", "\x03\0\0\0abcd", "ab",
                                         "\x04\0\0\0abcdx"};
    static const size_t lengths[] = {8, 8, 2, 9};
    for (int i = 0; i < 4; i++) {
        vocabulary = vocabulary_of("t5", true);
        vocabulary->source.charsmap = (TokenizerText){tables[i], lengths[i]};
        refuse(vocabulary, HONE_ERROR_INPUT, "charsmap", "");
    }
}

// Whatever the table says, text is read to its end and nothing outside the table is.
static void random_charsmaps_do_no_harm(void) {
    uint32_t random = 11;
    char table[4 + 1024 + 16], text[64];
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < sizeof table; i++) table[i] = (char)next_random(&random);
        memcpy(table, "\0\x04\0\0", 4);
        table[sizeof table - 1] = 0;
        for (size_t i = 0; i < sizeof text; i++) text[i] = (char)next_random(&random);
        Vocabulary *vocabulary = vocabulary_of("t5", true);
        vocabulary->source.charsmap = (TokenizerText){table, sizeof table};
        Tokenizer *tokenizer = make(vocabulary);
        TokenList list = {0};
        CHECK_INT(hone_tokenize_append(tokenizer, text, sizeof text, true, &list, NULL), HONE_OK);
        hone_token_list_free(&list);
        hone_tokenizer_free(tokenizer);
    }
}

int main(void) {
    RUN(the_best_score_merges_first);
    RUN(what_is_not_there_is_bytes_or_unknown);
    RUN(tokens_know_their_bytes);
    RUN(text_comes_back);
    RUN(the_likeliest_tokens_win);
    RUN(no_spelling_is_likelier);
    RUN(spaces_are_merged_where_asked);
    RUN(a_charsmap_replaces);
    RUN(words_are_cut_as_bert_does);
    RUN(long_texts_do_not_hang);
    RUN(bad_vocabularies_are_refused);
    RUN(random_charsmaps_do_no_harm);
    return check_report();
}
