// SPDX-License-Identifier: Apache-2.0
// The seeds of a unigram vocabulary (Kudo 2018), from sorted suffixes: what neighbours in their
// order share are the inner nodes of the suffix tree. A suffix counts up to 16 characters only, so
// sorting takes bounded time at each of them, and ends with its word.
#include <stdlib.h>
#include <string.h>

#include "tokenizer/learn_unigram.h"

enum { LONGEST_CHARACTERS = 16, LONGEST_BYTES = 4 * LONGEST_CHARACTERS, MOST_SEEDS = 1000000 };

typedef struct Suffixes {
    const char *bytes; // the words, a zero behind each
    size_t length;
    uint32_t *at; // where a character begins, in the order of what stands there
    int64_t count;
    uint32_t *first; // of each word
    const Word *words;
    int64_t word_count;
} Suffixes;

void hone_pieces_free(PieceList *pieces) {
    hone_free(pieces->items);
    hone_free(pieces->texts);
    *pieces = (PieceList){0};
}

static bool is_special(const LearnOptions *options, const char *text, size_t length) {
    if (length == strlen(HONE_UNKNOWN) && memcmp(text, HONE_UNKNOWN, length) == 0) return true;
    for (int i = 0; i < options->special_count; i++)
        if (strlen(options->special[i]) == length && memcmp(options->special[i], text, length) == 0)
            return true;
    return false;
}

// ---- the order of suffixes ---------------------------------------------------------------------

static void swap(uint32_t *a, uint32_t *b) {
    const uint32_t kept = *a;
    *a = *b;
    *b = kept;
}

static int middle_of(int a, int b, int c) {
    if (a > b) {
        const int kept = a;
        a = b;
        b = kept;
    }
    return c <= a ? a : c >= b ? b : c;
}

// Multikey quicksort (Bentley, Sedgewick 1997): by the byte at `depth` into three parts, of which
// the middle one goes on with the next byte.
static void sort_suffixes(const char *bytes, uint32_t *at, int64_t count, int depth) {
    while (count > 1 && depth < LONGEST_BYTES) {
        const unsigned char *byte = (const unsigned char *)bytes + depth;
        const int pivot = middle_of(byte[at[0]], byte[at[count / 2]], byte[at[count - 1]]);
        int64_t less = 0, next = 0, more = count;
        while (next < more) {
            const int found = byte[at[next]];
            if (found < pivot)
                swap(&at[less++], &at[next++]);
            else if (found > pivot)
                swap(&at[next], &at[--more]);
            else
                next++;
        }
        sort_suffixes(bytes, at, less, depth);
        sort_suffixes(bytes, at + more, count - more, depth);
        if (pivot == 0) return; // words that end here
        at += less;
        count = more - less;
        depth++;
    }
}

static bool begins_character(char byte) {
    return ((unsigned char)byte & 0xc0) != 0x80;
}

// The words one behind the other, and the places of their characters, in order.
static hone_status sort_words(Suffixes *s, PieceList *pieces, HoneError *err) {
    for (int64_t w = 0; w < s->word_count; w++) s->length += (size_t)s->words[w].length + 1;
    if (s->length > UINT32_MAX)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "the corpus's distinct words have %zu bytes, of which a unigram "
                         "vocabulary is learnt up to 4 GiB; learn it from a part",
                         s->length);
    char *bytes = pieces->texts = hone_calloc(s->length + LONGEST_BYTES, 1);
    s->at = hone_calloc(s->length, sizeof *s->at);
    s->first = hone_calloc((size_t)s->word_count, sizeof *s->first);
    if (!bytes || !s->at || !s->first)
        return hone_fail_memory(err, 5 * s->length, "the words of a vocabulary");
    s->bytes = bytes;
    size_t end = 0;
    for (int64_t w = 0; w < s->word_count; w++) {
        const Word *word = &s->words[w];
        s->first[w] = (uint32_t)end;
        memcpy(bytes + end, word->text, (size_t)word->length);
        for (int64_t i = 0; i < word->length; i++)
            if (begins_character(word->text[i])) s->at[s->count++] = (uint32_t)(end + (size_t)i);
        end += (size_t)word->length + 1;
    }
    sort_suffixes(bytes, s->at, s->count, 0);
    return HONE_OK;
}

// How often the word stands that has this place.
static int64_t times_at(const Suffixes *s, uint32_t at) {
    int64_t low = 0, high = s->word_count;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (s->first[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return s->words[low].times;
}

// Bytes of the whole characters that two suffixes begin with alike.
static int32_t shared(const char *a, const char *b) {
    int32_t whole = 0;
    int characters = 0;
    for (int32_t i = 0; i <= LONGEST_BYTES; i++) {
        if (begins_character(a[i]) && begins_character(b[i])) {
            whole = i;
            if (characters++ == LONGEST_CHARACTERS) break;
        }
        if (a[i] != b[i] || !a[i]) break;
    }
    return whole;
}

static int characters_of(const char *text, int32_t length) {
    int count = 0;
    for (int32_t i = 0; i < length; i++) count += begins_character(text[i]);
    return count;
}

// ---- pieces ------------------------------------------------------------------------------------

int hone_piece_compare(const void *left, const void *right) {
    const Piece *a = left, *b = right;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    const int32_t both = a->length < b->length ? a->length : b->length;
    const int order = memcmp(a->text, b->text, (size_t)both);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static hone_status add_piece(PieceList *pieces, Piece piece, HoneError *err) {
    if (pieces->count == 2 * MOST_SEEDS) { // the better half of them
        qsort(pieces->items, (size_t)pieces->count, sizeof piece, hone_piece_compare);
        pieces->count = MOST_SEEDS;
    }
    if (pieces->count == pieces->capacity) {
        const int64_t capacity = pieces->capacity ? 2 * pieces->capacity : 4096;
        Piece *grown = hone_realloc(pieces->items, (size_t)pieces->count * sizeof *grown,
                                    (size_t)capacity * sizeof *grown);
        if (!grown)
            return hone_fail_memory(err, (size_t)capacity * sizeof *grown,
                                    "the pieces of a vocabulary");
        pieces->items = grown;
        pieces->capacity = capacity;
    }
    pieces->items[pieces->count++] = piece;
    return HONE_OK;
}

static hone_status add_substring(PieceList *pieces, const LearnOptions *options, const char *text,
                                 int32_t length, int64_t times, HoneError *err) {
    const int characters = characters_of(text, length);
    if (characters < 2 || times < 2 || is_special(options, text, (size_t)length)) return HONE_OK;
    return add_piece(pieces, (Piece){text, length, false, (double)times * characters}, err);
}

// A node of the suffix tree on the way from its root: bytes of its text, and how often it stood.
typedef struct Node {
    int32_t length;
    int64_t times;
} Node;

static hone_status add_substrings(const Suffixes *s, const LearnOptions *options, PieceList *pieces,
                                  HoneError *err) {
    Node way[LONGEST_CHARACTERS + 1] = {{0}};
    int depth = 0;
    for (int64_t i = 0; i < s->count; i++) {
        const char *text = s->bytes + s->at[i];
        const int32_t common = i + 1 < s->count ? shared(text, s->bytes + s->at[i + 1]) : 0;
        const int32_t rest = shared(text, text);
        int64_t times = times_at(s, s->at[i]);
        if (rest > common && rest > way[depth].length) // a leaf
            RETURN_IF_ERROR(add_substring(pieces, options, text, rest, times, err));
        for (; way[depth].length > common; depth--) {
            times += way[depth].times;
            RETURN_IF_ERROR(add_substring(pieces, options, text, way[depth].length, times, err));
        }
        if (way[depth].length < common)
            way[++depth] = (Node){common, times};
        else
            way[depth].times += times;
    }
    return HONE_OK;
}

// Suffixes of one first character are neighbours.
static hone_status add_characters(const Suffixes *s, PieceList *pieces, HoneError *err) {
    int64_t times = 0;
    for (int64_t i = 0; i < s->count; i++) {
        const char *text = s->bytes + s->at[i];
        const int32_t length = hone_utf8_decode(text, s->length - s->at[i], NULL);
        times += times_at(s, s->at[i]);
        const char *next = i + 1 < s->count ? s->bytes + s->at[i + 1] : "";
        if (strncmp(text, next, (size_t)length) == 0) continue;
        RETURN_IF_ERROR(add_piece(pieces, (Piece){text, length, true, (double)times}, err));
        times = 0;
    }
    return HONE_OK;
}

hone_status hone_learn_seeds(const Word *words, int64_t word_count, const LearnOptions *options,
                             PieceList *pieces, HoneError *err) {
    *pieces = (PieceList){0};
    PieceList longer = {0};
    Suffixes s = {.words = words, .word_count = word_count};
    hone_status status = sort_words(&s, pieces, err);
    if (status == HONE_OK) status = add_substrings(&s, options, &longer, err);
    if (status == HONE_OK) status = add_characters(&s, pieces, err);
    if (status == HONE_OK && longer.count > 0)
        qsort(longer.items, (size_t)longer.count, sizeof *longer.items, hone_piece_compare);
    for (int64_t i = 0; status == HONE_OK && i < longer.count && pieces->count < MOST_SEEDS; i++)
        status = add_piece(pieces, longer.items[i], err);
    hone_pieces_free(&longer);
    hone_free(s.at);
    hone_free(s.first);
    if (status != HONE_OK) hone_pieces_free(pieces);
    return status;
}
