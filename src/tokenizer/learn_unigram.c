// SPDX-License-Identifier: Apache-2.0
// A unigram model from counted words (Kudo 2018: Subword regularization, section 3.2). The words
// are cut into parts from their number alone, each of which sums by itself, so that sums do not
// depend on threads.
#include "tokenizer/learn_unigram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/trie.h"

enum { PARTS = 8, STEPS_EACH = 2 };

static const double KEPT = 0.75, SURPLUS = 1.1, LEAST_EXPECTED = 0.5;

// The best way to a place in a word: its score and the piece that it ends with (-1: none).
typedef struct Arrival {
    double score;
    int32_t piece;
} Arrival;

// Of one part of the words. One place more than the longest word has bytes.
typedef struct Part {
    double *forward, *backward; // logarithms of the sums over all ways to a place and from it
    Arrival *arrivals;
    double *sums; // of each piece: how often it is expected, or stands in the best ways
} Part;

typedef struct Learning {
    const Word *words;
    int64_t word_count;
    ThreadPool *pool;
    PieceList pieces;
    Trie trie; // of the pieces
    Part parts[PARTS];
    double *sums;   // of all parts
    double *losses; // without each piece
    HoneError *err;
} Learning;

typedef void (*WordWork)(const Learning *l, const Word *word, Part *part);

typedef struct WordTask {
    Learning *l;
    WordWork work;
} WordTask;

static void run_part(void *argument, int64_t number, int worker) {
    (void)worker;
    const WordTask *task = argument;
    const Learning *l = task->l;
    const int64_t begin = l->word_count * number / PARTS,
                  end = l->word_count * (number + 1) / PARTS;
    Part *part = &task->l->parts[number];
    memset(part->sums, 0, (size_t)l->pieces.count * sizeof *part->sums);
    for (int64_t w = begin; w < end; w++) task->work(l, &l->words[w], part);
}

// Every word, and sums over the parts in their order.
static void each_word(Learning *l, WordWork work) {
    WordTask task = {l, work};
    hone_pool_run(l->pool, PARTS, run_part, &task);
    for (int64_t i = 0; i < l->pieces.count; i++) {
        l->sums[i] = 0;
        for (int p = 0; p < PARTS; p++) l->sums[i] += l->parts[p].sums[i];
    }
}

static hone_status make_trie(Learning *l) {
    const size_t count = (size_t)l->pieces.count;
    hone_trie_free(&l->trie);
    TrieItem *items = hone_calloc(count, sizeof *items);
    if (!items) return hone_fail_memory(l->err, count * sizeof *items, "the pieces");
    for (size_t i = 0; i < count; i++) {
        const Piece *piece = &l->pieces.items[i];
        items[i] = (TrieItem){{piece->text, (size_t)piece->length}, (int32_t)i};
    }
    hone_status status = hone_trie_create(&l->trie, items, count, l->err);
    hone_free(items);
    return status;
}

// ---- expectation -------------------------------------------------------------------------------

// log(exp(a) + exp(b))
static double log_sum(double a, double b) {
    const double high = a > b ? a : b, low = a > b ? b : a;
    return isinf(low) ? high : high + log1p(exp(low - high));
}

// times · the probability of each piece at each place, given the word.
static void expect(const Learning *l, const Word *word, Part *part) {
    const int64_t length = word->length;
    const TrieNode *nodes = l->trie.nodes;
    for (int64_t i = 0; i <= length; i++) part->forward[i] = part->backward[i] = -(double)INFINITY;
    part->forward[0] = part->backward[length] = 0;
    for (int64_t from = 0; from < length; from++) {
        if (isinf(part->forward[from])) continue; // within a character
        uint32_t node = 0;
        for (int64_t i = from; i < length; i++) {
            node = hone_trie_child(&l->trie, node, (unsigned char)word->text[i]);
            if (node == 0) break;
            if (nodes[node].token < 0) continue;
            const double score = l->pieces.items[nodes[node].token].score;
            part->forward[i + 1] = log_sum(part->forward[i + 1], part->forward[from] + score);
        }
    }
    for (int64_t from = length - 1; from >= 0; from--) {
        if (isinf(part->forward[from])) continue;
        uint32_t node = 0;
        for (int64_t i = from; i < length; i++) {
            node = hone_trie_child(&l->trie, node, (unsigned char)word->text[i]);
            if (node == 0) break;
            const int32_t piece = nodes[node].token;
            if (piece < 0) continue;
            const double way = l->pieces.items[piece].score + part->backward[i + 1];
            part->sums[piece] +=
                (double)word->times * exp(part->forward[from] + way - part->forward[length]);
            part->backward[from] = log_sum(part->backward[from], way);
        }
    }
}

// ---- maximisation ------------------------------------------------------------------------------

// ψ(x) for x > 0, by ψ(x) = ψ(x+1) − 1/x and its series at large x; to 1e-12.
static double digamma(double x) {
    double result = 0;
    for (; x < 10; x++) result -= 1 / x;
    const double y = 1 / (x * x);
    return result + log(x) - 0.5 / x -
           y * (1.0 / 12 - y * (1.0 / 120 - y * (1.0 / 252 - y * (1.0 / 240 - y / 132))));
}

// Kudo's trainer drops characters that are hardly expected too and brings them back at the end;
// here they stay, as if they were expected LEAST_EXPECTED times.
static void maximise(Learning *l) {
    double total = 0;
    int64_t kept = 0;
    for (int64_t i = 0; i < l->pieces.count; i++) {
        Piece piece = l->pieces.items[i];
        double expected = l->sums[i];
        if (expected < LEAST_EXPECTED && !piece.character) continue;
        if (expected < LEAST_EXPECTED) expected = LEAST_EXPECTED;
        piece.score = digamma(expected);
        total += expected;
        l->pieces.items[kept++] = piece;
    }
    l->pieces.count = kept;
    const double all = digamma(total);
    for (int64_t i = 0; i < kept; i++) l->pieces.items[i].score -= all;
}

static hone_status step(Learning *l) {
    RETURN_IF_ERROR(make_trie(l));
    each_word(l, expect);
    maximise(l);
    return HONE_OK;
}

// ---- pruning -----------------------------------------------------------------------------------

// The best way through a text without one piece (-1: with all); false: there is none.
static bool find_best(const Learning *l, const char *text, int64_t length, int32_t without,
                      Arrival *arrivals) {
    const TrieNode *nodes = l->trie.nodes;
    for (int64_t i = 1; i <= length; i++) arrivals[i] = (Arrival){-(double)INFINITY, -1};
    arrivals[0] = (Arrival){0, -1};
    for (int64_t from = 0; from < length; from++) {
        if (isinf(arrivals[from].score)) continue;
        uint32_t node = 0;
        for (int64_t i = from; i < length; i++) {
            node = hone_trie_child(&l->trie, node, (unsigned char)text[i]);
            if (node == 0) break;
            const int32_t piece = nodes[node].token;
            if (piece < 0 || piece == without) continue;
            const double score = arrivals[from].score + l->pieces.items[piece].score;
            if (score > arrivals[i + 1].score) arrivals[i + 1] = (Arrival){score, piece};
        }
    }
    return arrivals[length].piece >= 0;
}

static void count_best(const Learning *l, const Word *word, Part *part) {
    if (!find_best(l, word->text, word->length, -1, part->arrivals)) return;
    for (int64_t at = word->length; at > 0;) {
        const int32_t piece = part->arrivals[at].piece;
        part->sums[piece] += (double)word->times;
        at -= l->pieces.items[piece].length;
    }
}

// What the words' likelihood loses without a piece: its places would be spelled by the next best
// pieces, which then stand that much more often.
static double loss_without(const Learning *l, int32_t number, double total, Arrival *arrivals) {
    const Piece *piece = &l->pieces.items[number];
    const double times = l->sums[number];
    if (piece->character) return (double)INFINITY;
    if (times <= 0 || !find_best(l, piece->text, piece->length, number, arrivals) ||
        arrivals[piece->length].score > piece->score)
        return -(double)INFINITY;
    int64_t count = 0;
    for (int64_t at = piece->length; at > 0; count++)
        at -= l->pieces.items[arrivals[at].piece].length;
    const double after = log(total + times * (double)(count - 1));
    double instead = 0;
    for (int64_t at = piece->length; at > 0;) {
        const int32_t part = arrivals[at].piece;
        instead += log(l->sums[part] + times) - after;
        at -= l->pieces.items[part].length;
    }
    return times * (log(times) - log(total) - instead);
}

typedef struct LossTask {
    Learning *l;
    double total;
} LossTask;

static void run_losses(void *argument, int64_t number, int worker) {
    (void)worker;
    const LossTask *task = argument;
    const Learning *l = task->l;
    const int64_t count = l->pieces.count;
    for (int64_t i = count * number / PARTS; i < count * (number + 1) / PARTS; i++)
        l->losses[i] = loss_without(l, (int32_t)i, task->total, l->parts[number].arrivals);
}

typedef struct Loss {
    double loss;
    int64_t piece;
} Loss;

static int compare_losses(const void *left, const void *right) {
    const Loss *a = left, *b = right;
    if (a->loss != b->loss) return a->loss > b->loss ? -1 : 1;
    return (a->piece > b->piece) - (a->piece < b->piece);
}

// Down to `most` pieces; those that no best way has go in any case.
static hone_status prune(Learning *l, int64_t most) {
    RETURN_IF_ERROR(make_trie(l));
    each_word(l, count_best);
    LossTask task = {.l = l};
    for (int64_t i = 0; i < l->pieces.count; i++) task.total += l->sums[i];
    hone_pool_run(l->pool, PARTS, run_losses, &task);
    Loss *order = hone_calloc((size_t)l->pieces.count, sizeof *order);
    if (!order)
        return hone_fail_memory(l->err, (size_t)l->pieces.count * sizeof *order, "the pieces");
    for (int64_t i = 0; i < l->pieces.count; i++) order[i] = (Loss){l->losses[i], i};
    qsort(order, (size_t)l->pieces.count, sizeof *order, compare_losses);
    for (int64_t i = most; i < l->pieces.count; i++) l->losses[order[i].piece] = -(double)INFINITY;
    hone_free(order);
    int64_t kept = 0;
    for (int64_t i = 0; i < l->pieces.count; i++)
        if (l->losses[i] > -(double)INFINITY) l->pieces.items[kept++] = l->pieces.items[i];
    l->pieces.count = kept;
    return HONE_OK;
}

// ---- the vocabulary ----------------------------------------------------------------------------

static hone_status put_token(LearntVocabulary *learnt, const char *text, size_t length,
                             TokenKind kind, double score, HoneError *err) {
    char *copy = hone_arena_strndup(&learnt->memory, text, length);
    if (!copy) return hone_fail_memory(err, length, "a vocabulary");
    learnt->tokens[learnt->token_count] = (TokenizerText){copy, length};
    learnt->kinds[learnt->token_count] = (int32_t)kind;
    learnt->scores[learnt->token_count++] = (float)score;
    return HONE_OK;
}

static hone_status put_vocabulary(Learning *l, const LearnOptions *options, int64_t room,
                                  LearntVocabulary *learnt) {
    const size_t most = (size_t)options->special_count + 1 + (size_t)l->pieces.count;
    learnt->tokens = hone_arena_calloc(&learnt->memory, most, sizeof *learnt->tokens);
    learnt->kinds = hone_arena_calloc(&learnt->memory, most, sizeof *learnt->kinds);
    learnt->scores = hone_arena_calloc(&learnt->memory, most, sizeof *learnt->scores);
    if (!learnt->tokens || !learnt->kinds || !learnt->scores)
        return hone_fail_memory(l->err, most * 24, "a vocabulary");
    for (int i = 0; i < options->special_count; i++)
        RETURN_IF_ERROR(put_token(learnt, options->special[i], strlen(options->special[i]),
                                  TOKEN_CONTROL, 0, l->err));
    RETURN_IF_ERROR(
        put_token(learnt, HONE_UNKNOWN, strlen(HONE_UNKNOWN), TOKEN_UNKNOWN, 0, l->err));
    qsort(l->pieces.items, (size_t)l->pieces.count, sizeof *l->pieces.items, hone_piece_compare);
    int64_t characters = 0;
    for (int64_t i = 0; i < l->pieces.count; i++) characters += l->pieces.items[i].character;
    int64_t longer = room - characters;
    for (int64_t i = 0; i < l->pieces.count; i++) {
        const Piece *piece = &l->pieces.items[i];
        if (!piece->character && longer-- <= 0) continue;
        RETURN_IF_ERROR(put_token(learnt, piece->text, (size_t)piece->length, TOKEN_NORMAL,
                                  piece->score, l->err));
    }
    return HONE_OK;
}

static hone_status check_room(const Learning *l, const LearnOptions *options, int64_t *room) {
    int64_t characters = 0;
    for (int64_t i = 0; i < l->pieces.count; i++) characters += l->pieces.items[i].character;
    const int64_t others = options->special_count + 1;
    *room = options->vocabulary - others;
    if (*room >= characters && options->vocabulary <= INT32_MAX) return HONE_OK;
    return hone_fail(l->err, HONE_ERROR_ARGUMENT,
                     "a vocabulary of %lld tokens: the corpus has %lld different characters, which "
                     "with %lld special tokens need %lld",
                     (long long)options->vocabulary, (long long)characters, (long long)others,
                     (long long)(characters + others));
}

static hone_status make_room(Learning *l) {
    size_t longest = 0, count = (size_t)l->pieces.count;
    for (int64_t w = 0; w < l->word_count; w++)
        if ((size_t)l->words[w].length > longest) longest = (size_t)l->words[w].length;
    bool made = true;
    for (int p = 0; p < PARTS; p++) {
        Part *part = &l->parts[p];
        part->forward = hone_calloc(longest + 1, sizeof *part->forward);
        part->backward = hone_calloc(longest + 1, sizeof *part->backward);
        part->arrivals = hone_calloc(longest + 1, sizeof *part->arrivals);
        part->sums = hone_calloc(count, sizeof *part->sums);
        made = made && part->forward && part->backward && part->arrivals && part->sums;
    }
    l->sums = hone_calloc(count, sizeof *l->sums);
    l->losses = hone_calloc(count, sizeof *l->losses);
    if (made && l->sums && l->losses) return HONE_OK;
    return hone_fail_memory(l->err, (PARTS + 2) * count * sizeof(double), "the pieces");
}

static void free_learning(Learning *l) {
    for (int p = 0; p < PARTS; p++) {
        hone_free(l->parts[p].forward);
        hone_free(l->parts[p].backward);
        hone_free(l->parts[p].arrivals);
        hone_free(l->parts[p].sums);
    }
    hone_free(l->sums);
    hone_free(l->losses);
    hone_trie_free(&l->trie);
    hone_pieces_free(&l->pieces);
}

static hone_status learn(Learning *l, const LearnOptions *options, LearntVocabulary *learnt) {
    int64_t room;
    RETURN_IF_ERROR(hone_learn_seeds(l->words, l->word_count, options, &l->pieces, l->err));
    RETURN_IF_ERROR(check_room(l, options, &room));
    RETURN_IF_ERROR(make_room(l));
    double total = 0;
    for (int64_t i = 0; i < l->pieces.count; i++) total += l->pieces.items[i].score;
    for (int64_t i = 0; i < l->pieces.count; i++)
        l->pieces.items[i].score = log(l->pieces.items[i].score) - log(total);
    const int64_t wanted = (int64_t)(SURPLUS * (double)room);
    for (;;) {
        for (int i = 0; i < STEPS_EACH; i++) RETURN_IF_ERROR(step(l));
        if (l->pieces.count <= wanted) break;
        const int64_t kept = (int64_t)(KEPT * (double)l->pieces.count);
        RETURN_IF_ERROR(prune(l, kept > wanted ? kept : wanted));
    }
    return put_vocabulary(l, options, room, learnt);
}

hone_status hone_learn_unigram(const WordCounts *counts, const LearnOptions *options,
                               ThreadPool *pool, LearntVocabulary *learnt, HoneError *err) {
    *learnt = (LearntVocabulary){0};
    Learning l = {.pool = pool, .err = err};
    l.words = hone_word_counts_list(counts, &l.word_count);
    if (l.word_count == 0)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "a unigram vocabulary is learnt from words, and the corpus has none");
    hone_status status = learn(&l, options, learnt);
    free_learning(&l);
    if (status != HONE_OK) hone_learnt_free(learnt);
    return status;
}
