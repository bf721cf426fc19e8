// SPDX-License-Identifier: Apache-2.0
// Batches: the examples' prefixes as a trie, laid out depth first.
#include <stdlib.h>

#include "data/data.h"

// An example on its way into the trie. What comes after its last target changes no loss, so it ends
// there.
typedef struct Path {
    const Example *example;
    int64_t number, length; // number: of the example as given
    int64_t shared;         // leading tokens that the path before has too
    int64_t results;        // where its targets begin in batch->result
} Path;

// A node is a token after all tokens before it. The last one of a path is only predicted: it takes
// no place in the line unless a longer path goes through it.
typedef struct Node {
    int32_t before; // the place in the line of the token before it, -1: none
    int32_t token, learners, entry;
} Node;

typedef struct Trie {
    Path *paths;
    int64_t count, longest;
    Node *nodes;
    int64_t node_count;
    int32_t *node_at, *place_at; // by depth: of the path that is being laid out
} Trie;

// ---- paths -------------------------------------------------------------------------------------

static int compare_sources(const Example *a, const Example *b) {
    const int64_t shorter = a->source_count < b->source_count ? a->source_count : b->source_count;
    for (int64_t i = 0; i < shorter; i++) {
        const int32_t left = a->token[i - a->source_count], right = b->token[i - b->source_count];
        if (left != right) return left < right ? -1 : 1;
    }
    return (a->source_count > b->source_count) - (a->source_count < b->source_count);
}

static int64_t shared_tokens(const Path *a, const Path *b) {
    if (compare_sources(a->example, b->example) != 0) return 0;
    const int64_t most = a->length < b->length ? a->length : b->length;
    int64_t same = 0;
    while (same < most && a->example->token[same] == b->example->token[same]) same++;
    return same;
}

// By sources, then by tokens, a prefix before what it is a prefix of; equal ones as they were
// given.
static int compare_paths(const void *left, const void *right) {
    const Path *a = left, *b = right;
    const int sources = compare_sources(a->example, b->example);
    if (sources != 0) return sources;
    const int64_t same = shared_tokens(a, b);
    if (same < a->length && same < b->length)
        return a->example->token[same] < b->example->token[same] ? -1 : 1;
    if (a->length != b->length) return a->length < b->length ? -1 : 1;
    return a->number < b->number ? -1 : 1;
}

static int64_t length_with_targets(const Example *example) {
    int64_t length = example->count;
    while (length > 1 && !example->target[length - 1]) length--;
    return length > 1 ? length : 0;
}

// Does the node of path i at this depth have a token after it, in this path or in a later one?
static bool goes_on(const Trie *trie, int64_t i, int64_t depth) {
    while (trie->paths[i].length == depth + 1) {
        i++;
        if (i == trie->count || trie->paths[i].shared <= depth) return false;
    }
    return true;
}

static hone_status sorted_paths(const Example *const *examples, int64_t count, Arena *memory,
                                Path **paths, HoneError *err) {
    *paths = hone_arena_calloc(memory, (size_t)count + 1, sizeof **paths);
    if (!*paths) return hone_fail_memory(err, (size_t)count * sizeof **paths, "a batch");
    int64_t targets = 0;
    for (int64_t i = 0; i < count; i++) {
        (*paths)[i] = (Path){.example = examples[i],
                             .number = i,
                             .length = length_with_targets(examples[i]),
                             .results = targets};
        targets += examples[i]->targets;
    }
    qsort(*paths, (size_t)count, sizeof **paths, compare_paths);
    return HONE_OK;
}

hone_status hone_examples_sort(const Example **examples, int64_t count, Arena *memory,
                               HoneError *err) {
    Path *paths;
    RETURN_IF_ERROR(sorted_paths(examples, count, memory, &paths, err));
    for (int64_t i = 0; i < count; i++) examples[i] = paths[i].example;
    return HONE_OK;
}

// Whether path i has another source than the path before it: its own, which is to be laid out.
static bool begins_source(const Trie *trie, int64_t i) {
    return i == 0 || compare_sources(trie->paths[i - 1].example, trie->paths[i].example) != 0;
}

// What the trie will hold.
static hone_status measure(Trie *trie, TokenBatch *batch, HoneError *err) {
    int64_t total = 0;
    for (int64_t i = 0; i < trie->count; i++) {
        Path *path = &trie->paths[i];
        path->shared = i > 0 ? shared_tokens(path - 1, path) : 0;
        trie->node_count += path->length - path->shared;
        if (path->length > trie->longest) trie->longest = path->length;
        batch->targets += path->example->targets;
        if (begins_source(trie, i)) batch->source.tokens += path->example->source_count;
        total += path->length + path->example->source_count;
        if (total > INT32_MAX)
            return hone_fail(err, HONE_ERROR_ARGUMENT, "a batch of more than %d tokens", INT32_MAX);
    }
    batch->tokens = trie->node_count;
    for (int64_t i = 0; i < trie->count; i++) {
        const Path *path = &trie->paths[i];
        if (path->length > path->shared && !goes_on(trie, i, path->length - 1)) batch->tokens--;
    }
    return HONE_OK;
}

static hone_status take_arrays(Trie *trie, TokenBatch *batch, Arena *memory, HoneError *err) {
    const size_t tokens = (size_t)batch->tokens, nodes = (size_t)trie->node_count;
    const size_t depths = (size_t)trie->longest, targets = (size_t)batch->targets;
    const size_t entries = targets < nodes ? targets : nodes;
    trie->nodes = hone_arena_calloc(memory, nodes + 1, sizeof *trie->nodes);
    int32_t *lists = hone_arena_calloc(memory, 2 * depths + 4 * tokens + 3 * entries + targets + 1,
                                       sizeof *lists);
    if (!trie->nodes || !lists)
        return hone_fail_memory(err, nodes * sizeof *trie->nodes + tokens * 16, "a batch");
    batch->path = hone_arena_calloc(memory, tokens + 1, sizeof *batch->path);
    if (!batch->path) return hone_fail_memory(err, tokens * sizeof *batch->path, "a batch");
    TokenSources *source = &batch->source;
    const size_t sources = (size_t)source->tokens;
    source->token = hone_arena_calloc(memory, 6 * sources + 1, sizeof *source->token);
    source->path = hone_arena_calloc(memory, sources + 1, sizeof *source->path);
    if (!source->token || !source->path)
        return hone_fail_memory(err, sources * 32, "the sources of a batch");
    source->position = source->token + sources;
    source->begin = source->position + sources;
    source->end = source->begin + sources;
    source->seen_begin = source->end + sources;
    source->seen_end = source->seen_begin + sources;
    trie->node_at = lists;
    trie->place_at = trie->node_at + depths;
    batch->token = trie->place_at + depths;
    batch->position = batch->token + tokens;
    batch->begin = batch->position + tokens;
    batch->end = batch->begin + tokens;
    batch->row = batch->end + tokens;
    batch->target = batch->row + entries;
    batch->learners = batch->target + entries;
    batch->result = batch->learners + entries;
    return HONE_OK;
}

// ---- layout ------------------------------------------------------------------------------------

// The finaliser of MurmurHash3.
uint64_t hone_token_hash(uint64_t before, int32_t token) {
    uint64_t h = before * 0x9E3779B97F4A7C15u + (uint64_t)(uint32_t)token + 1;
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCDu;
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53u;
    return h ^ h >> 33;
}

// The source of path i, from place `first` on; `at` is where the tokens begin that see it. Returns
// its end.
static int64_t lay_out_source(const Trie *trie, int64_t i, TokenSources *source, int64_t first,
                              int32_t at) {
    const Example *example = trie->paths[i].example;
    const int64_t end = first + example->source_count;
    for (int64_t s = first; s < end; s++) {
        source->token[s] = example->token[s - end];
        source->position[s] = (int32_t)(s - first);
        source->begin[s] = (int32_t)first;
        source->end[s] = (int32_t)end;
        source->seen_begin[s] = at;
        source->path[s] = hone_token_hash(s > first ? source->path[s - 1] : 0, source->token[s]);
    }
    return end;
}

// The path's own part, behind what it shares with the one before it. root: the source's hash.
static void lay_out_path(Trie *trie, int64_t i, TokenBatch *batch, uint64_t root, int32_t *node,
                         int32_t *at) {
    const Path *path = &trie->paths[i];
    const int32_t *token = path->example->token;
    for (int64_t d = path->shared; d < path->length; d++, (*node)++) {
        const bool placed = goes_on(trie, i, d);
        trie->nodes[*node] =
            (Node){.before = d > 0 ? trie->place_at[d - 1] : -1, .token = token[d]};
        trie->node_at[d] = *node;
        trie->place_at[d] = placed ? *at : -1;
        if (!placed) continue;
        batch->token[*at] = token[d];
        batch->position[*at] = (int32_t)d;
        batch->path[*at] =
            hone_token_hash(d > 0 ? batch->path[trie->place_at[d - 1]] : root, token[d]);
        batch->begin[*at] = *at; // key `at` is seen by the queries from itself …
        (*at)++;
    }
    int64_t results = path->results;
    for (int64_t d = 1; d < path->length; d++) {
        if (!path->example->target[d]) continue;
        trie->nodes[trie->node_at[d]].learners++;
        batch->result[results++] = trie->node_at[d];
    }
}

static void lay_out(Trie *trie, TokenBatch *batch) {
    int32_t node = 0, at = 0;
    int64_t first = 0, end = 0; // the source of the path
    for (int64_t i = 0; i < trie->count; i++) {
        if (begins_source(trie, i)) {
            first = end;
            end = lay_out_source(trie, i, &batch->source, first, at);
        }
        lay_out_path(trie, i, batch, end > first ? batch->source.path[end - 1] : 0, &node, &at);
        for (int64_t s = first; s < end; s++) batch->source.seen_end[s] = at;
        const int64_t kept = i + 1 < trie->count ? trie->paths[i + 1].shared : 0;
        for (int64_t d = kept; d < trie->paths[i].length; d++)
            if (trie->place_at[d] >= 0) batch->end[trie->place_at[d]] = at; // … to its last branch
    }
}

// One entry for every node that somebody learns, by the rows that predict them; the nodes of one
// row as they were laid out.
static hone_status number_entries(Trie *trie, TokenBatch *batch, Arena *memory, HoneError *err) {
    const size_t places = (size_t)batch->tokens + 1;
    int32_t *next = hone_arena_calloc(memory, places, sizeof *next);
    if (!next) return hone_fail_memory(err, places * sizeof *next, "a batch");
    for (int64_t n = 0; n < trie->node_count; n++)
        if (trie->nodes[n].learners) next[trie->nodes[n].before]++;
    for (int64_t t = 0; t < batch->tokens; t++) {
        const int32_t own = next[t];
        batch->rows += own > 0;
        next[t] = (int32_t)batch->entries;
        batch->entries += own;
    }
    for (int64_t n = 0; n < trie->node_count; n++) {
        Node *node = &trie->nodes[n];
        if (!node->learners) continue;
        node->entry = next[node->before]++;
        batch->row[node->entry] = node->before;
        batch->target[node->entry] = node->token;
        batch->learners[node->entry] = node->learners;
    }
    for (int64_t k = 0; k < batch->targets; k++)
        batch->result[k] = trie->nodes[batch->result[k]].entry;
    return HONE_OK;
}

hone_status hone_batch_pack(const Example *const *examples, int64_t count, Arena *memory,
                            TokenBatch *batch, HoneError *err) {
    Trie trie = {.count = count};
    *batch = (TokenBatch){0};
    RETURN_IF_ERROR(sorted_paths(examples, count, memory, &trie.paths, err));
    RETURN_IF_ERROR(measure(&trie, batch, err));
    RETURN_IF_ERROR(take_arrays(&trie, batch, memory, err));
    lay_out(&trie, batch);
    return number_entries(&trie, batch, memory, err);
}
