// SPDX-License-Identifier: Apache-2.0
// What a tokeniser is made of; only this floor's files see it.
#ifndef HONE_TOKENIZER_VOCABULARY_H
#define HONE_TOKENIZER_VOCABULARY_H

#include "base/memory.h"
#include "base/text.h"
#include "tokenizer/change.h"
#include "tokenizer/merge.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/special.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/trie.h"

typedef struct VocabularyToken {
    const char *bytes;      // what the token stands for, in the arena
    TokenizerText spelling; // as the file has it, in the arena
    uint32_t length;
    uint8_t kind; // TokenKind
    bool ends;
    bool added;      // not the model's: found in the text as it is spelled, never made of pieces
    uint8_t finding; // FindRule: how it is found in the text
} VocabularyToken;

// How a piece becomes tokens.
typedef enum PieceModel {
    PIECES_BYTES,      // bytes that are merged
    PIECES_CHARACTERS, // characters that are merged
    PIECES_UNIGRAM,    // the likeliest tokens
    PIECES_WORDPIECE,  // the longest tokens from the left, or unknown
} PieceModel;

// What happens to text on its way, in order: it is changed or it is cut.
typedef struct Step {
    Change *change;
    PreTokenizer *cut; // where `change` is NULL
} Step;

enum { STEP_LIMIT = 32, CACHED_BYTES = 32, CACHED_TOKENS = 6, CACHE_SIZE = 1 << 15 };

// The tokens of a short piece, remembered: text repeats its words. length 0: an empty place.
typedef struct CachedPiece {
    char bytes[CACHED_BYTES];
    uint8_t length, count;
    uint8_t ends[CACHED_TOKENS];
    int32_t tokens[CACHED_TOKENS];
} CachedPiece;

struct Tokenizer {
    Arena arena;
    VocabularyToken *tokens;
    int64_t token_count;
    StringMap by_spelling;
    PieceModel model;
    bool whole_pieces;        // a piece that is a token is not merged
    StringMap by_bytes;       // normal tokens, when whole pieces are taken
    int32_t byte_tokens[256]; // -1: the vocabulary has no token for the byte
    MergeTable merges;
    StringMap characters;   // to token ids; from token_count on, characters that are none
    Trie words, parts;      // unigram: words; wordpiece: what words begin with and go on with
    double *scores;         // unigram
    double unknown_score;   //
    int32_t unknown;        // -1: what the vocabulary lacks gives no token
    bool byte_fallback;     // what the vocabulary lacks is spelled in byte_tokens
    bool fuses_unknown;     // several unknown characters in a row are one token
    size_t longest_word;    // wordpiece: characters, more are unknown; 0: any number
    SpecialSet specials;    // control, unknown and user-defined tokens
    SpecialSet users;       // user-defined tokens alone
    Step steps[STEP_LIMIT]; // from text to pieces
    int step_count;
    SpecialSet late_specials, late_users; // the like, which are found before step late_step
    int late_step;
    const uint8_t *content; // of the text at hand: hone_tokenize_chat; NULL: nothing is
    CachedPiece *cache;
    int32_t bos, eos;
    bool adds_bos, adds_eos;
    bool strips_space;       // decoding takes back the space that was put before the text
    bool spells_mark;        // decoding leaves ▁ as it is
    const char *part_prefix; // wordpiece: what word parts are spelled with; NULL: words have a ▁
};

// tokenizer.c
// The making of a tokeniser, in order: tokens and roles from a source, its model's own part, what
// is found in text. `trusted`: control tokens are those that the source says.
hone_status hone_fill_tokens(Tokenizer *tokenizer, const TokenizerSource *source, bool trusted,
                             HoneError *err);
void hone_fill_byte_tokens(Tokenizer *tokenizer);
hone_status hone_add_merge(Tokenizer *tokenizer, int64_t rank, TokenizerText left,
                           TokenizerText right, HoneError *err);
hone_status hone_fill_specials(Tokenizer *tokenizer, HoneError *err);
// Of the file's specials: "merge 12, "a b": problem", the text quoted and cut to a readable length.
hone_status hone_fail_with_text(HoneError *err, const char *what, int64_t index, const char *text,
                                size_t length, const char *problem);
// Whether text begins with ▁, which is how most vocabularies spell a space.
bool hone_has_mark(const char *text, size_t length);
// pieces.c
// The tokens of a piece of 1 byte or more: ids[i] ends before byte ends[i]. Both arrays have room
// for `length`; an id of -1 is a byte that has no token.
hone_status hone_piece_tokens(const Tokenizer *tokenizer, const char *piece, size_t length,
                              int32_t *ids, uint32_t *ends, size_t *count, HoneError *err);
// A stretch [begin, end) of a piece that no token spells.
void hone_append_unknown(const Tokenizer *tokenizer, const char *piece, size_t begin, size_t end,
                         int32_t *ids, uint32_t *ends, size_t *count);
// unigram.c
hone_status hone_unigram_tokens(const Tokenizer *tokenizer, const char *piece, size_t length,
                                int32_t *ids, uint32_t *ends, size_t *count, HoneError *err);
// steps.c
// A new change, owned by the tokeniser, as its next step; NULL: out of memory or of steps, said in
// `err`.
Change *hone_add_change(Tokenizer *tokenizer, ChangeKind kind, HoneError *err);
hone_status hone_add_cut(Tokenizer *tokenizer, const char *name, const char *pattern,
                         CutBehaviour behaviour, HoneError *err);
void hone_free_steps(Tokenizer *tokenizer);
// sentencepiece.c
void hone_find_byte_spellings(Tokenizer *tokenizer); // <0x0A>
hone_status hone_check_lengths(const Tokenizer *tokenizer, HoneError *err);
// A cut into words that begin with ▁, unless a token spans two.
hone_status hone_cut_words(Tokenizer *tokenizer, HoneError *err);
// The tokens that pieces are made of, by what they are spelled with; `part`: which part of a
// spelling counts, empty to leave the token out.
hone_status hone_fill_trie(const Tokenizer *tokenizer,
                           TokenizerText (*part)(const Tokenizer *tokenizer, TokenizerText text),
                           Trie *trie, HoneError *err);
hone_status hone_fill_sentencepiece(Tokenizer *tokenizer, const TokenizerSource *source,
                                    HoneError *err);
hone_status hone_fill_unigram(Tokenizer *tokenizer, const TokenizerSource *source, HoneError *err);
hone_status hone_fill_wordpiece(Tokenizer *tokenizer, const TokenizerSource *source,
                                HoneError *err);

#endif
