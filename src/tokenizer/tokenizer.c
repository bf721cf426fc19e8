// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <string.h>

#include "tokenizer/alphabet.h"
#include "tokenizer/rules.h"
#include "tokenizer/vocabulary.h"

#define MARK "\xe2\x96\x81" // ▁
#define BAR "\xef\xbd\x9c"  // ｜

// Tokens that are control tokens by their spelling, whatever a file says, as in llama.cpp.
static const struct {
    const char *spelling;
    bool ends; // an answer
} controls[] = {
    {"<|im_end|>", true},
    {"<|eot_id|>", true},
    {"<|endoftext|>", true},
    {"<end_of_turn>", true},
    {"</s>", true},
    {"<|end|>", true},
    {"<|end_of_text|>", true},
    {"<|eom_id|>", true},
    {"<|return|>", true},
    {"<|call|>", true},
    {"<|flush|>", true},
    {"<|calls|>", true},
    {"<EOT>", true},
    {"_<EOT>", true},
    {"[EOT]", true},
    {"[EOS]", true},
    {"<end_of_utterance>", true},
    {"<eos>", true},
    {"<turn|>", true},
    {"<|tool_response>", true},
    {"<" BAR "end" MARK "of" MARK "sentence" BAR ">", true},
    {"[e~[", true},
    {"<|fim_prefix|>", false},
    {"<fim-prefix>", false},
    {"<fim_prefix>", false},
    {"<" BAR "fim" MARK "begin" BAR ">", false},
    {"<PRE>", false},
    {MARK "<PRE>", false},
    {"<|code_prefix|>", false},
    {"<|prefix|>", false},
    {"<|fim_suffix|>", false},
    {"<fim-suffix>", false},
    {"<fim_suffix>", false},
    {"<" BAR "fim" MARK "hole" BAR ">", false},
    {"<SUF>", false},
    {MARK "<SUF>", false},
    {"<|code_suffix|>", false},
    {"<|suffix|>", false},
    {"<|fim_middle|>", false},
    {"<fim-middle>", false},
    {"<fim_middle>", false},
    {"<" BAR "fim" MARK "end" BAR ">", false},
    {"<MID>", false},
    {MARK "<MID>", false},
    {"<|code_middle|>", false},
    {"<|middle|>", false},
    {"<|fim_pad|>", false},
    {"<fim-pad>", false},
    {"<fim_pad>", false},
    {"<PAD>", false},
    {"[PAD]", false},
    {"<|fim_repo|>", false},
    {"<|repo_name|>", false},
    {"<fim-repo>", false},
    {"<REPO>", false},
    {"<reponame>", false},
    {"<|file_sep|>", false},
};
enum { CONTROL_COUNT = sizeof controls / sizeof *controls };

// ---- reading the source ------------------------------------------------------------------------

hone_status hone_fail_with_text(HoneError *err, const char *what, int64_t index, const char *text,
                                size_t length, const char *problem) {
    TextBuffer quoted = {0};
    hone_text_json(&quoted, text, length < 80 ? length : 80);
    hone_fail(err, HONE_ERROR_INPUT, "%s %lld, %s%s: %s", what, (long long)index,
              quoted.data && !quoted.failed ? quoted.data : "?", length < 80 ? "" : "…", problem);
    hone_text_free(&quoted);
    return HONE_ERROR_INPUT;
}

static bool is_spelled_out(int kind) {
    return kind != TOKEN_NORMAL && kind != TOKEN_BYTE;
}

bool hone_has_mark(const char *text, size_t length) {
    return length >= 3 && memcmp(text, "\xe2\x96\x81", 3) == 0;
}

// "<0x0A>" is one byte.
static int byte_of(TokenizerText spelling) {
    unsigned byte;
    char end;
    if (spelling.length != 6 || sscanf(spelling.data, "<0x%2X%c", &byte, &end) != 2 || end != '>')
        return -1;
    return (int)byte;
}

// Marks and suffixes stand without a space in decoded text.
static int64_t without_space(char *bytes, size_t length) {
    static const char *const close[] = {" .",  " ?",   " !",   " ,",  " 'm",
                                        " 's", " 've", " 're", " n't"};
    for (size_t i = 0; i < sizeof close / sizeof *close; i++)
        if (length == strlen(close[i]) && memcmp(bytes, close[i], length) == 0)
            memmove(bytes, bytes + 1, --length);
    return (int64_t)length;
}

// In vocabularies that spell a space as ▁; in BERT's a word has one before it.
static int64_t marked_bytes(const Tokenizer *tokenizer, TokenizerText spelling, char *bytes) {
    size_t length = 0;
    for (size_t i = 0; i < spelling.length;) {
        bool mark =
            !tokenizer->spells_mark && hone_has_mark(spelling.data + i, spelling.length - i);
        bytes[length++] = mark ? ' ' : spelling.data[i];
        i += mark ? 3 : 1;
    }
    if (tokenizer->model != PIECES_WORDPIECE) return (int64_t)length;
    return without_space(bytes, length);
}

// In BERT's own vocabularies: "##" before the parts that do not begin a word.
static int64_t part_bytes(const Tokenizer *tokenizer, TokenizerText spelling, char *bytes) {
    size_t skipped = strlen(tokenizer->part_prefix);
    if (spelling.length > skipped && memcmp(spelling.data, tokenizer->part_prefix, skipped) == 0) {
        memcpy(bytes, spelling.data + skipped, spelling.length - skipped);
        return (int64_t)(spelling.length - skipped);
    }
    bytes[0] = ' ';
    memcpy(bytes + 1, spelling.data, spelling.length);
    return without_space(bytes, spelling.length + 1);
}

// What a token stands for, written to `bytes` (room for its spelling and one); -1: its spelling.
static int64_t read_bytes(const Tokenizer *tokenizer, const Alphabet *alphabet, int kind,
                          TokenizerText spelling, char *bytes) {
    if (is_spelled_out(kind)) return -1;
    if (tokenizer->model == PIECES_BYTES)
        return hone_alphabet_decode(alphabet, spelling.data, spelling.length, bytes);
    if (tokenizer->part_prefix) return part_bytes(tokenizer, spelling, bytes);
    if (kind != TOKEN_BYTE) return marked_bytes(tokenizer, spelling, bytes);
    int byte = byte_of(spelling);
    if (byte < 0) return -1;
    bytes[0] = (char)byte;
    return 1;
}

static bool is_control(TokenizerText text) {
    for (int i = 0; i < CONTROL_COUNT; i++)
        if (strlen(controls[i].spelling) == text.length &&
            memcmp(controls[i].spelling, text.data, text.length) == 0)
            return true;
    return false;
}

static hone_status read_token(Tokenizer *tokenizer, const TokenizerSource *source, bool trusted,
                              const Alphabet *alphabet, int64_t id, HoneError *err) {
    TokenizerText text = source->tokens[id];
    if (text.length == 0) text.data = ""; // an empty text may have no address
    int kind = source->kinds && source->kinds[id] ? source->kinds[id] : TOKEN_NORMAL;
    if (!trusted && (kind == TOKEN_NORMAL || kind == TOKEN_USER) && is_control(text))
        kind = TOKEN_CONTROL;
    if (kind < TOKEN_NORMAL || kind > TOKEN_BYTE)
        return hone_fail(err, HONE_ERROR_INPUT, "token %lld has type %d; there are 1 to 6",
                         (long long)id, kind);
    if (text.length > UINT32_MAX)
        return hone_fail(err, HONE_ERROR_INPUT, "token %lld has %zu bytes", (long long)id,
                         text.length);
    TokenizerText spelling = {hone_arena_strndup(&tokenizer->arena, text.data, text.length),
                              text.length};
    char *bytes = hone_arena_alloc(&tokenizer->arena, text.length + 1);
    if (!spelling.data || !bytes ||
        !hone_map_put(&tokenizer->by_spelling, spelling.data, text.length, id))
        return hone_fail_memory(err, text.length, "the vocabulary");
    int64_t length = read_bytes(tokenizer, alphabet, kind, spelling, bytes);
    VocabularyToken *token = &tokenizer->tokens[id];
    *token = (VocabularyToken){.bytes = length < 0 ? spelling.data : bytes,
                               .spelling = spelling,
                               .length = length < 0 ? (uint32_t)text.length : (uint32_t)length,
                               .kind = (uint8_t)kind};
    TokenizerText piece =
        tokenizer->model == PIECES_BYTES ? (TokenizerText){token->bytes, token->length} : spelling;
    if (kind == TOKEN_NORMAL && tokenizer->whole_pieces &&
        !hone_map_put(&tokenizer->by_bytes, piece.data, piece.length, id))
        return hone_fail_memory(err, text.length, "the vocabulary");
    return HONE_OK;
}

static hone_status read_tokens(Tokenizer *tokenizer, const TokenizerSource *source, bool trusted,
                               HoneError *err) {
    int64_t count = source->token_count;
    if (count <= 0 || count > INT32_MAX)
        return hone_fail(err, HONE_ERROR_INPUT, "a vocabulary of %lld tokens", (long long)count);
    tokenizer->tokens = hone_calloc((size_t)count, sizeof *tokenizer->tokens);
    if (!tokenizer->tokens)
        return hone_fail_memory(err, (size_t)count * sizeof *tokenizer->tokens, "the vocabulary");
    tokenizer->token_count = count;
    Alphabet alphabet;
    hone_alphabet_fill(&alphabet);
    for (int64_t id = 0; id < count; id++)
        RETURN_IF_ERROR(read_token(tokenizer, source, trusted, &alphabet, id, err));
    return HONE_OK;
}

void hone_fill_byte_tokens(Tokenizer *tokenizer) {
    Alphabet alphabet;
    hone_alphabet_fill(&alphabet);
    for (int byte = 0; byte < 256; byte++) {
        char spelling[4];
        int length = hone_utf8_encode(alphabet.character[byte], spelling);
        tokenizer->byte_tokens[byte] =
            (int32_t)hone_map_get(&tokenizer->by_spelling, spelling, (size_t)length, -1);
    }
}

hone_status hone_add_merge(Tokenizer *tokenizer, int64_t rank, TokenizerText left,
                           TokenizerText right, HoneError *err) {
    TextBuffer joined = {0};
    hone_text_append(&joined, left.data, left.length);
    hone_text_append(&joined, right.data, right.length);
    if (joined.failed) {
        hone_text_free(&joined);
        return hone_fail_memory(err, left.length + right.length, "the merges");
    }
    const StringMap *map = &tokenizer->by_spelling;
    MergeSlot merge = {.left = (int32_t)hone_map_get(map, left.data, left.length, -1),
                       .right = (int32_t)hone_map_get(map, right.data, right.length, -1),
                       .result = (int32_t)hone_map_get(map, joined.data, joined.length, -1),
                       .rank = (uint32_t)rank};
    const char *problem = merge.left < 0     ? "the left part is not in the vocabulary"
                          : merge.right < 0  ? "the right part is not in the vocabulary"
                          : merge.result < 0 ? "the two parts joined are not in the vocabulary"
                                             : NULL;
    if (!problem) hone_merge_table_put(&tokenizer->merges, merge);
    hone_text_free(&joined);
    if (!problem) return HONE_OK;
    TextBuffer shown = {0};
    hone_text_append(&shown, left.data, left.length);
    hone_text_puts(&shown, " ");
    hone_text_append(&shown, right.data, right.length);
    hone_fail_with_text(err, "merge", rank, shown.data ? shown.data : "", shown.length, problem);
    hone_text_free(&shown);
    return HONE_ERROR_INPUT;
}

static hone_status read_merge(Tokenizer *tokenizer, int64_t rank, TokenizerText text,
                              HoneError *err) {
    // A part is never empty, so a space at the very front belongs to the left one.
    const char *space = text.length > 1 ? memchr(text.data + 1, ' ', text.length - 1) : NULL;
    size_t left_length = space ? (size_t)(space - text.data) : 0;
    if (!space || left_length + 1 == text.length)
        return hone_fail_with_text(err, "merge", rank, text.data, text.length,
                                   "not two parts with a space between them");
    TokenizerText left = {text.data, left_length};
    TokenizerText right = {space + 1, text.length - left_length - 1};
    return hone_add_merge(tokenizer, rank, left, right, err);
}

static hone_status read_merges(Tokenizer *tokenizer, const TokenizerSource *source,
                               HoneError *err) {
    if (source->merge_count < 0 || source->merge_count >= UINT32_MAX)
        return hone_fail(err, HONE_ERROR_INPUT, "a vocabulary of %lld merges",
                         (long long)source->merge_count);
    RETURN_IF_ERROR(hone_merge_table_create(&tokenizer->merges, source->merge_count, err));
    for (int64_t rank = 0; rank < source->merge_count; rank++)
        RETURN_IF_ERROR(read_merge(tokenizer, rank, source->merges[rank], err));
    return HONE_OK;
}

static hone_status read_roles(Tokenizer *tokenizer, const TokenizerSource *source, HoneError *err) {
    const struct {
        const char *name;
        int32_t id;
    } roles[] = {{"bos", source->bos},
                 {"eos", source->eos},
                 {"eot", source->eot},
                 {"unknown", source->unknown},
                 {"padding", source->padding}};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (roles[i].id < -1 || roles[i].id >= tokenizer->token_count)
            return hone_fail(err, HONE_ERROR_INPUT, "the %s token is %d, the vocabulary has %lld",
                             roles[i].name, (int)roles[i].id, (long long)tokenizer->token_count);
    if (source->eos >= 0) tokenizer->tokens[source->eos].ends = true;
    if (source->eot >= 0) tokenizer->tokens[source->eot].ends = true;
    for (int i = 0; i < CONTROL_COUNT; i++) {
        int32_t id = hone_tokenizer_find(tokenizer, controls[i].spelling);
        if (id >= 0 && tokenizer->tokens[id].kind == TOKEN_CONTROL && controls[i].ends)
            tokenizer->tokens[id].ends = true;
    }
    tokenizer->bos = source->bos;
    tokenizer->eos = source->eos;
    tokenizer->adds_bos = source->add_bos;
    tokenizer->adds_eos = source->add_eos;
    return HONE_OK;
}

// ---- making and freeing ------------------------------------------------------------------------

static hone_status fill_bytes(Tokenizer *tokenizer, const TokenizerSource *source, HoneError *err) {
    hone_fill_byte_tokens(tokenizer);
    return read_merges(tokenizer, source, err);
}

static const struct {
    const char *name; // tokenizer.ggml.model
    PieceModel model;
    hone_status (*fill)(Tokenizer *tokenizer, const TokenizerSource *source, HoneError *err);
} models[] = {
    {"gpt2", PIECES_BYTES, fill_bytes},
    {"llama", PIECES_CHARACTERS, hone_fill_sentencepiece},
    {"t5", PIECES_UNIGRAM, hone_fill_unigram},
    {"bert", PIECES_WORDPIECE, hone_fill_wordpiece},
};
enum { MODEL_COUNT = sizeof models / sizeof *models };

static hone_status fail_model(const char *model, HoneError *err) {
    TextBuffer quoted = {0};
    hone_text_json(&quoted, model, strnlen(model, 64));
    hone_fail(err, HONE_ERROR_UNSUPPORTED,
              "tokeniser model %s is not supported; there are gpt2 (byte-level BPE), llama "
              "(sentencepiece BPE), t5 (unigram) and bert (WordPiece)",
              quoted.data && !quoted.failed ? quoted.data : "?");
    hone_text_free(&quoted);
    return HONE_ERROR_UNSUPPORTED;
}

static hone_status add_rule(Tokenizer *tokenizer, const char *pre, HoneError *err) {
    const PreRule *rule;
    RETURN_IF_ERROR(hone_rule_find(pre, &rule, err));
    tokenizer->whole_pieces = rule->whole_pieces;
    for (int i = 0; i < RULE_PATTERNS && rule->patterns[i]; i++)
        RETURN_IF_ERROR(hone_add_cut(tokenizer, rule->names, rule->patterns[i], CUT_BOTH, err));
    return HONE_OK;
}

static hone_status fill(Tokenizer *tokenizer, const TokenizerSource *source, HoneError *err) {
    const char *name = source->model ? source->model : "";
    int model = 0;
    while (model < MODEL_COUNT && strcmp(models[model].name, name) != 0) model++;
    if (model == MODEL_COUNT) return fail_model(name, err);
    tokenizer->model = models[model].model;
    tokenizer->unknown = source->unknown;
    if (tokenizer->model == PIECES_BYTES)
        RETURN_IF_ERROR(add_rule(tokenizer, source->pre ? source->pre : "default", err));
    RETURN_IF_ERROR(hone_fill_tokens(tokenizer, source, false, err));
    RETURN_IF_ERROR(models[model].fill(tokenizer, source, err));
    return hone_fill_specials(tokenizer, err);
}

hone_status hone_fill_tokens(Tokenizer *tokenizer, const TokenizerSource *source, bool trusted,
                             HoneError *err) {
    tokenizer->late_step = -1;
    RETURN_IF_ERROR(read_tokens(tokenizer, source, trusted, err));
    RETURN_IF_ERROR(read_roles(tokenizer, source, err));
    tokenizer->cache = hone_calloc(CACHE_SIZE, sizeof *tokenizer->cache);
    if (!tokenizer->cache)
        return hone_fail_memory(err, CACHE_SIZE * sizeof *tokenizer->cache, "the tokeniser");
    return HONE_OK;
}

hone_status hone_tokenizer_create(const TokenizerSource *source, Tokenizer **tokenizer,
                                  HoneError *err) {
    *tokenizer = NULL;
    Tokenizer *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "a tokeniser");
    hone_status status = fill(made, source, err);
    if (status != HONE_OK) {
        hone_tokenizer_free(made);
        return status;
    }
    *tokenizer = made;
    return HONE_OK;
}

void hone_tokenizer_free(Tokenizer *tokenizer) {
    if (!tokenizer) return;
    hone_map_free(&tokenizer->by_spelling);
    hone_map_free(&tokenizer->by_bytes);
    hone_merge_table_free(&tokenizer->merges);
    hone_special_free(&tokenizer->specials);
    hone_special_free(&tokenizer->users);
    hone_special_free(&tokenizer->late_specials);
    hone_special_free(&tokenizer->late_users);
    hone_free_steps(tokenizer);
    hone_map_free(&tokenizer->characters);
    hone_trie_free(&tokenizer->words);
    hone_trie_free(&tokenizer->parts);
    hone_free(tokenizer->tokens);
    hone_free(tokenizer->cache);
    hone_arena_free(&tokenizer->arena);
    hone_free(tokenizer);
}

// ---- questions ---------------------------------------------------------------------------------

static const VocabularyToken *token_of(const Tokenizer *tokenizer, int32_t token) {
    return token >= 0 && token < tokenizer->token_count ? &tokenizer->tokens[token] : NULL;
}

TokenizerText hone_token_bytes(const Tokenizer *tokenizer, int32_t token, bool special) {
    const VocabularyToken *found = token_of(tokenizer, token);
    bool shown = found && (special || found->kind == TOKEN_NORMAL || found->kind == TOKEN_USER ||
                           found->kind == TOKEN_BYTE);
    return shown ? (TokenizerText){found->bytes, found->length} : (TokenizerText){"", 0};
}

void hone_tokenizer_text(const Tokenizer *tokenizer, const int32_t *tokens, int64_t count,
                         bool special, struct TextBuffer *text) {
    bool strip = tokenizer->strips_space;
    for (int64_t i = 0; i < count; i++) {
        TokenizerText piece = hone_token_bytes(tokenizer, tokens[i], special);
        if (piece.length == 0) continue;
        size_t skipped = strip && piece.data[0] == ' ' ? 1 : 0;
        strip = false;
        hone_text_append(text, piece.data + skipped, piece.length - skipped);
    }
}

int64_t hone_tokenizer_size(const Tokenizer *tokenizer) {
    return tokenizer->token_count;
}

int32_t hone_tokenizer_find(const Tokenizer *tokenizer, const char *spelling) {
    return (int32_t)hone_map_get(&tokenizer->by_spelling, spelling, strlen(spelling), -1);
}

int32_t hone_tokenizer_bos(const Tokenizer *tokenizer) {
    return tokenizer->bos;
}

int32_t hone_tokenizer_eos(const Tokenizer *tokenizer) {
    return tokenizer->eos;
}

bool hone_tokenizer_adds_bos(const Tokenizer *tokenizer) {
    return tokenizer->adds_bos;
}

bool hone_tokenizer_adds_eos(const Tokenizer *tokenizer) {
    return tokenizer->adds_eos;
}

void hone_tokenizer_add_end(Tokenizer *tokenizer, int32_t token) {
    if (token_of(tokenizer, token)) tokenizer->tokens[token].ends = true;
}

bool hone_token_ends(const Tokenizer *tokenizer, int32_t token) {
    const VocabularyToken *found = token_of(tokenizer, token);
    return found && found->ends;
}

TokenKind hone_token_kind(const Tokenizer *tokenizer, int32_t token) {
    const VocabularyToken *found = token_of(tokenizer, token);
    return found ? (TokenKind)found->kind : TOKEN_UNKNOWN;
}
