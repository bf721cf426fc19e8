// SPDX-License-Identifier: Apache-2.0
#include "train/choices.h"

#include <string.h>

// A node of the trie of answers; node 0 is the prompt's last token.
typedef struct Node {
    int32_t token;
    int32_t parent, child, sibling; // -1: none
    int32_t
        order; // depth-first number among the nodes that are computed, -1: a leaf is only predicted
    int32_t depth, last; // last: order of the last computed node below it
    float logprob;
} Node;

typedef struct Trie {
    Node *nodes;
    int64_t count;
} Trie;

// The token list of the example's text with its answer replaced by `choice`, up to and with the
// first end token at or after the choice's end.
static hone_status choice_tokens(const HoneModel *model, const Example *example, size_t place,
                                 const char *choice, TokenList *list, HoneError *err) {
    TextBuffer text = {0};
    size_t answer = (size_t)example->answer_length, length = strlen(example->text);
    hone_text_append(&text, example->text, place);
    hone_text_puts(&text, choice);
    size_t choice_end = text.length;
    hone_text_append(&text, example->text + place + answer, length - place - answer);
    list->count = 0;
    hone_status status = text.failed ? hone_fail_memory(err, length, "a choice")
                                     : hone_tokenize_append(model->tokenizer, text.data,
                                                            text.length, true, list, err);
    hone_text_free(&text);
    RETURN_IF_ERROR(status);
    int64_t keep = 0; // through the token that holds the choice's last byte
    while (keep < list->count && list->begin[keep] < choice_end) keep++;
    if (keep < list->count && hone_token_ends(model->tokenizer, list->tokens[keep])) keep++;
    list->count = keep;
    return HONE_OK;
}

// Where the answer lies in the text: the last occurrence is the last answer's.
static bool find_answer(const Example *example, size_t *place) {
    if (!example->text || !example->answer || example->answer_length <= 0) return false;
    size_t length = strlen(example->text), wanted = (size_t)example->answer_length;
    if (wanted > length) return false;
    for (size_t at = length - wanted + 1; at-- > 0;)
        if (memcmp(example->text + at, example->answer, wanted) == 0) {
            *place = at;
            return true;
        }
    return false;
}

// Follow or make the child of `parent` with this token.
static int32_t descend(Trie *trie, int32_t parent, int32_t token) {
    int32_t *link = &trie->nodes[parent].child;
    while (*link >= 0 && trie->nodes[*link].token != token) link = &trie->nodes[*link].sibling;
    if (*link >= 0) return *link;
    int32_t made = (int32_t)trie->count++;
    *link = made;
    trie->nodes[made] = (Node){.token = token,
                               .parent = parent,
                               .child = -1,
                               .sibling = -1,
                               .order = -1,
                               .depth = trie->nodes[parent].depth + 1};
    return made;
}

// Number the inner nodes depth first, so that what a node sees is one interval. Returns how many.
static int32_t number(Trie *trie) {
    int32_t used = 0, at = 0;
    for (;;) {
        Node *node = &trie->nodes[at];
        if (node->child >= 0) {
            node->order = used++;
            at = node->child;
            continue;
        }
        while (trie->nodes[at].sibling < 0) { // a branch is done: close the nodes above it
            at = trie->nodes[at].parent;
            if (at < 0) return used;
            trie->nodes[at].last = used - 1;
        }
        at = trie->nodes[at].sibling;
    }
}

// Compute the trie behind `held` cached tokens and set the log-probability of every node but the
// root.
static hone_status score_trie(HoneGenerator *generator, Trie *trie, int64_t held, Arena *memory,
                              HoneError *err) {
    int32_t inner = number(trie);
    size_t keys = (size_t)(held + inner), edges = (size_t)trie->count;
    int32_t *numbers = hone_arena_calloc(memory, (size_t)inner * 2 + keys * 2 + edges * 3, 4);
    float *floats = hone_arena_calloc(memory, edges * 2, sizeof *floats);
    if (!numbers || !floats) return hone_fail_memory(err, keys * 8, "the choices");
    int32_t *token = numbers, *position = token + inner, *begin = position + inner;
    int32_t *end = begin + keys, *row = end + keys, *target = row + edges, *edge = target + edges;
    float *weight = floats, *logprob = floats + edges;
    for (int64_t k = 0; k < held; k++) end[k] = inner;
    for (int64_t n = 0; n < trie->count; n++) {
        const Node *node = &trie->nodes[n];
        if (node->order < 0) continue;
        token[node->order] = node->token;
        position[node->order] = (int32_t)held + node->depth;
        begin[held + node->order] = node->order;
        end[held + node->order] = node->last + 1;
    }
    // One entry an edge, by the parent's number: rows must not decrease.
    int32_t *by_order = hone_arena_calloc(memory, (size_t)inner, sizeof *by_order);
    if (!by_order) return hone_fail_memory(err, (size_t)inner * 4, "the choices");
    for (int64_t n = 0; n < trie->count; n++)
        if (trie->nodes[n].order >= 0) by_order[trie->nodes[n].order] = (int32_t)n;
    int64_t entries = 0;
    for (int32_t i = 0; i < inner; i++)
        for (int32_t c = trie->nodes[by_order[i]].child; c >= 0; c = trie->nodes[c].sibling) {
            row[entries] = i;
            target[entries] = trie->nodes[c].token;
            edge[entries++] = c;
        }
    hone_tape_reset(generator->tape, false);
    ModelBatch batch = {.tokens = inner,
                        .token = token,
                        .position = position,
                        .begin = begin,
                        .end = end,
                        .rows = inner};
    HeadLoss loss = {
        .entries = entries, .row = row, .target = target, .weight = weight, .logprob = logprob};
    Model *model = generator->model->model;
    Tensor *hidden = hone_model_extend(model, generator->tape, generator->cache, &batch);
    hone_head_cross_entropy(generator->tape, hone_model_head(model), hidden, &loss);
    RETURN_IF_ERROR(hone_tape_status(generator->tape, err));
    for (int64_t e = 0; e < entries; e++) trie->nodes[edge[e]].logprob = logprob[e];
    return HONE_OK;
}

// All choices' tokens, each list in the arena, and how many leading tokens all share with the
// prompt.
static hone_status tokenize_choices(HoneGenerator *generator, const Example *example,
                                    const char *const *choices, int64_t count, Arena *memory,
                                    TokenList *lists, int64_t *shared) {
    HoneError *err = &generator->model->context->error;
    size_t place;
    if (!find_answer(example, &place))
        return hone_fail(err, HONE_ERROR_INPUT,
                         "line %d: has no answer in whose place choices could be ranked",
                         example->line);
    TokenList list = {0};
    hone_status status = HONE_OK;
    // The example may begin with a BOS that its text does not spell.
    int64_t extra = 0;
    *shared = example->prompt;
    for (int64_t c = 0; c < count && status == HONE_OK; c++) {
        status = choice_tokens(generator->model, example, place, choices[c], &list, err);
        if (status != HONE_OK) break;
        if (list.count > 0 && list.tokens[0] != example->token[0] &&
            example->token[0] == hone_tokenizer_bos(generator->model->tokenizer))
            extra = 1;
        int64_t length = list.count + extra;
        lists[c] =
            (TokenList){.tokens = hone_arena_alloc(memory, (size_t)length * 4), .count = length};
        if (!lists[c].tokens) {
            status = hone_fail_memory(err, (size_t)length * 4, "a choice");
            break;
        }
        if (extra) lists[c].tokens[0] = example->token[0];
        memcpy(lists[c].tokens + extra, list.tokens, (size_t)list.count * 4);
        int64_t same = 0;
        while (same < *shared && same < length && lists[c].tokens[same] == example->token[same])
            same++;
        *shared = same;
    }
    hone_token_list_free(&list);
    return status;
}

hone_status hone_score_choices(HoneGenerator *generator, const Example *example,
                               const char *const *choices, int64_t count, Arena *memory,
                               double *scores) {
    HoneError *err = &generator->model->context->error;
    TokenList *lists = hone_arena_calloc(memory, (size_t)count, sizeof *lists);
    if (!lists) return hone_fail_memory(err, (size_t)count * sizeof *lists, "the choices");
    int64_t shared = 0, total = 1;
    RETURN_IF_ERROR(tokenize_choices(generator, example, choices, count, memory, lists, &shared));
    if (shared < 1)
        return hone_fail(err, HONE_ERROR_INPUT, "line %d: the prompt is empty", example->line);
    for (int64_t c = 0; c < count; c++) total += lists[c].count - shared;
    Trie trie = {.nodes = hone_arena_calloc(memory, (size_t)total, sizeof *trie.nodes), .count = 1};
    int32_t *leaf = hone_arena_calloc(memory, (size_t)count, sizeof *leaf);
    if (!trie.nodes || !leaf)
        return hone_fail_memory(err, (size_t)total * sizeof(Node), "the trie");
    trie.nodes[0] = (Node){
        .token = example->token[shared - 1], .parent = -1, .child = -1, .sibling = -1, .order = -1};
    for (int64_t c = 0; c < count; c++)
        for (int64_t i = shared; i < lists[c].count; i++)
            leaf[c] = descend(&trie, leaf[c], lists[c].tokens[i]);
    RETURN_IF_ERROR(hone_generator_reserve(generator, example->count + total, err));
    RETURN_IF_ERROR(hone_generator_feed(generator, example->token, shared, err));
    hone_cache_truncate(generator->cache, shared - 1);
    if (trie.count > 1) RETURN_IF_ERROR(score_trie(generator, &trie, shared - 1, memory, err));
    for (int64_t c = 0; c < count; c++) {
        scores[c] = 0;
        for (int32_t n = leaf[c]; n > 0; n = trie.nodes[n].parent)
            scores[c] += (double)trie.nodes[n].logprob;
    }
    return HONE_OK;
}
