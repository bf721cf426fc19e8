// SPDX-License-Identifier: Apache-2.0
// Beam search over several sources at once. The hypotheses are a trie: each step's tokens stand in
// one line, those of a source together and, among them, those with one beginning; so each earlier
// token, and each source token, is seen by an interval of them, and nothing in the cache moves.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/beam.h"
#include "train/decode.h"

typedef struct Sentence {
    int64_t index;
    int32_t *source; // with EOS
    int64_t source_count;
    bool cut;
    Beam beam;
} Sentence;

typedef struct Search {
    HoneModel *model;
    HoneError *err;
    const HoneTranslateOptions *options;
    Tape *tape;
    KeyValueCache *cache;
    Sentence *sentences; // of the batch
    int64_t count;
    int64_t queries;        // of the step
    int32_t *token, *place; // (queries): of the step's tokens; zeros and where they stand
    int32_t *begin, *end;   // (capacity): of the cache's tokens
    int32_t *depth;         // (capacity): where they stand
    int32_t *kept;          // (capacity): those that somebody sees
    int32_t *before;        // (queries + 1): how many of the next step come from earlier queries
    int64_t sources;        // tokens
    int32_t *seen_begin, *seen_end; // (sources)
    int width, ends;
    BeamCandidate *candidates; // (width)
    float *logits;             // (queries,V)
    double *least;             // (queries): logsumexp
    Arena memory;              // of the batch
} Search;

void hone_translate_defaults(HoneTranslateOptions *options) {
    *options =
        (HoneTranslateOptions){.beams = 4, .length_penalty = 1, .candidates = 1, .batch = 16};
}

static hone_status in_range(HoneError *err, const char *name, int64_t value, int64_t most) {
    if (value >= 1 && value <= most) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT, "%s is %lld, want 1…%lld", name, (long long)value,
                     (long long)most);
}

static hone_status check(const HoneModel *model, const HoneTranslateOptions *options,
                         HoneError *err) {
    if (model->config.encoder_layers == 0)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s has no encoder, it is no model that translates: hone generate",
                         model->name);
    RETURN_IF_ERROR(in_range(err, "beams", options->beams, HONE_MOST_BEAMS));
    RETURN_IF_ERROR(in_range(err, "candidates", options->candidates, options->beams));
    RETURN_IF_ERROR(in_range(err, "batch", options->batch, 4096));
    RETURN_IF_ERROR(in_range(err, "max-tokens", options->max_tokens, model->config.context - 1));
    if (options->length_penalty >= -100 && options->length_penalty <= 100) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT, "length-penalty is %g, want -100…100",
                     options->length_penalty);
}

// ---- sources -----------------------------------------------------------------------------------

static hone_status read_source(Search *search, const char *text, Arena *arena, Sentence *sentence) {
    HoneModel *model = search->model;
    const int32_t eos = hone_tokenizer_eos(model->tokenizer);
    const int64_t room = model->config.context - 1;
    TokenList list = {0};
    if (!*text) return hone_fail(search->err, HONE_ERROR_INPUT, "the source is empty");
    if (eos < 0) return hone_fail(search->err, HONE_ERROR_INPUT, "the tokenizer has no EOS token");
    hone_status status =
        hone_tokenize_append(model->tokenizer, text, strlen(text), true, &list, search->err);
    sentence->cut = list.count > room;
    const int64_t count = sentence->cut ? room : list.count;
    sentence->source_count = count + 1;
    sentence->source = hone_arena_alloc(arena, (size_t)(count + 1) * sizeof *sentence->source);
    if (status == HONE_OK && !sentence->source)
        status = hone_fail_memory(search->err, (size_t)count * 4, "a source");
    if (status == HONE_OK) {
        if (count) memcpy(sentence->source, list.tokens, (size_t)count * sizeof *list.tokens);
        sentence->source[count] = eos;
    }
    hone_token_list_free(&list);
    return status;
}

static int by_length(const void *left, const void *right) {
    const Sentence *a = left, *b = right;
    if (a->source_count != b->source_count) return a->source_count < b->source_count ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

static int by_index(const void *left, const void *right) {
    const Sentence *a = left, *b = right;
    return a->index < b->index ? -1 : 1;
}

// ---- a batch -----------------------------------------------------------------------------------

static hone_status take_arrays(Search *search) {
    Arena *memory = &search->memory;
    const size_t most = (size_t)(search->count * search->options->beams);
    const size_t room = most * (size_t)search->options->max_tokens;
    const size_t sources = (size_t)search->sources;
    int32_t *lists =
        hone_arena_calloc(memory, 4 * room + 3 * most + 1 + 2 * sources, sizeof *lists);
    search->logits = hone_arena_alloc(memory, most * (size_t)search->model->config.vocabulary *
                                                  sizeof *search->logits);
    search->least = hone_arena_alloc(memory, most * sizeof *search->least);
    search->candidates =
        hone_arena_alloc(memory, (size_t)search->width * sizeof *search->candidates);
    if (!lists || !search->logits || !search->least || !search->candidates)
        return hone_fail_memory(search->err, room * 12, "a search");
    search->begin = lists;
    search->end = search->begin + room;
    search->kept = search->end + room;
    search->depth = search->kept + room;
    search->token = search->depth + room;
    search->place = search->token + most;
    search->before = search->place + most;
    search->seen_begin = search->before + most + 1;
    search->seen_end = search->seen_begin + sources;
    hone_cache_free(search->cache);
    search->cache = NULL;
    return hone_cache_create(search->model->model, (int64_t)room, &search->cache, search->err);
}

// The sources in one line, each seen by itself and by its sentence's one query.
static hone_status read_sources(Search *search) {
    const size_t sources = (size_t)search->sources;
    int32_t *lists = hone_arena_alloc(&search->memory, 4 * sources * sizeof *lists);
    if (!lists) return hone_fail_memory(search->err, sources * 16, "the sources");
    int32_t *token = lists, *place = token + sources, *begin = place + sources;
    int32_t *end = begin + sources;
    for (int64_t s = 0, first = 0; s < search->count; s++) {
        const Sentence *sentence = &search->sentences[s];
        for (int64_t i = 0; i < sentence->source_count; i++) {
            const int64_t at = first + i;
            token[at] = sentence->source[i];
            place[at] = (int32_t)i;
            begin[at] = (int32_t)first;
            end[at] = (int32_t)(first + sentence->source_count);
            search->seen_begin[at] = (int32_t)s;
            search->seen_end[at] = (int32_t)s + 1;
        }
        first += sentence->source_count;
    }
    const SourceBatch source = {
        .tokens = search->sources, .token = token, .position = place, .begin = begin, .end = end};
    return hone_model_read_source(search->model->model, search->tape, search->cache, &source,
                                  search->err);
}

// The logits after the step's tokens, and the logarithms of their sums of exponentials.
static hone_status compute(Search *search, int64_t step) {
    const int64_t held = hone_cache_length(search->cache), queries = search->queries;
    Model *model = search->model->model;
    for (int64_t q = 0; q < queries; q++) {
        search->begin[held + q] = (int32_t)q;
        search->end[held + q] = (int32_t)q + 1;
        search->place[q] = search->depth[held + q] = (int32_t)step;
    }
    const ModelBatch batch = {.tokens = queries,
                              .token = search->token,
                              .position = search->place,
                              .begin = search->begin,
                              .end = search->end,
                              .rows = queries,
                              .key_position = search->depth,
                              .source = {.tokens = search->sources,
                                         .seen_begin = search->seen_begin,
                                         .seen_end = search->seen_end}};
    hone_tape_reset(search->tape, false);
    Tensor *hidden = hone_model_extend(model, search->tape, search->cache, &batch);
    Weight *head = hone_model_head(model);
    Tensor *z = hidden ? hone_linear(search->tape, head, hidden, NULL) : NULL;
    if (z) hone_tape_read(search->tape, z, search->logits);
    RETURN_IF_ERROR(hone_tape_status(search->tape, search->err));
    hone_cache_lengthen(search->cache, queries);

    const int64_t V = search->model->config.vocabulary;
    int32_t *first = hone_tape_host(search->tape, queries, sizeof *first);
    float *weight = hone_tape_host(search->tape, queries, sizeof *weight);
    if (!first || !weight) return hone_tape_status(search->tape, search->err);
    for (int64_t q = 0; q < queries; q++) weight[q] = 1;
    // The loss of token 0 is logsumexp − its logit.
    hone_cross_entropy(hone_tape_kernels(search->tape), queries, V, search->logits, NULL, first,
                       weight, 0, 0, false, search->least, NULL);
    for (int64_t q = 0; q < queries; q++) {
        search->least[q] += (double)search->logits[q * V];
        if (!isfinite(search->least[q]))
            return hone_fail(search->err, HONE_ERROR_NUMERIC,
                             "the logits after %lld tokens are not finite: the model holds NaN or "
                             "infinity, or makes it",
                             (long long)step + 1);
    }
    return HONE_OK;
}

// ---- a step ------------------------------------------------------------------------------------

// The likeliest continuations of a sentence's runs, whose rows begin at `first`; the best first,
// equal ones as they come.
static int choose(Search *search, const Beam *beam, int64_t first) {
    const int64_t V = search->model->config.vocabulary;
    BeamCandidate *best = search->candidates;
    int count = 0;
    for (int run = 0; run < beam->running_count; run++) {
        const float *z = search->logits + (first + run) * V;
        const double all = search->least[first + run];
        const float before = beam->running[run].logprob;
        for (int64_t v = 0; v < V; v++) {
            const float logprob = (float)((double)z[v] - all) + before;
            if (count == search->width && !(logprob > best[count - 1].logprob)) continue;
            if (count < search->width) count++;
            int at = count - 1;
            for (; at > 0 && best[at - 1].logprob < logprob; at--) best[at] = best[at - 1];
            best[at] = (BeamCandidate){.logprob = logprob, .run = run, .token = (int32_t)v};
        }
    }
    for (int i = 0; i < count; i++)
        best[i].ends = hone_token_ends(search->model->tokenizer, best[i].token);
    return count;
}

static void narrow(const int32_t *before, int64_t count, int32_t *begin, int32_t *end) {
    for (int64_t i = 0; i < count; i++) {
        begin[i] = before[begin[i]];
        end[i] = before[end[i]];
    }
}

// What nobody sees any more goes, once it is the larger part.
static void tidy(Search *search) {
    const int64_t held = hone_cache_length(search->cache);
    int64_t kept = 0;
    for (int64_t k = 0; k < held; k++)
        if (search->begin[k] < search->end[k]) search->kept[kept++] = (int32_t)k;
    if (2 * kept >= held) return;
    for (int64_t k = 0; k < kept; k++) {
        search->begin[k] = search->begin[search->kept[k]];
        search->end[k] = search->end[search->kept[k]];
        search->depth[k] = search->depth[search->kept[k]];
    }
    hone_cache_keep(search->cache, search->kept, kept);
}

static hone_status advance(Search *search) {
    int64_t first = 0, next = 0;
    for (int64_t s = 0; s < search->count; s++) {
        Beam *beam = &search->sentences[s].beam;
        const int64_t runs = beam->running_count;
        if (runs == 0) continue;
        const int count = choose(search, beam, first);
        RETURN_IF_ERROR(hone_beam_step(beam, search->candidates, count, search->err));
        int run = 0;
        for (int64_t r = 0; r < runs; r++) {
            search->before[first + r] = (int32_t)next;
            for (; run < beam->running_count && beam->parent[run] == r; run++)
                search->token[next++] = beam->nodes[beam->running[run].node].token;
        }
        first += runs;
    }
    search->before[first] = (int32_t)next;
    search->queries = next;
    narrow(search->before, hone_cache_length(search->cache), search->begin, search->end);
    narrow(search->before, search->sources, search->seen_begin, search->seen_end);
    tidy(search);
    return HONE_OK;
}

// The sentences of one batch, to their ends.
static hone_status search_batch(Search *search) {
    hone_arena_reset(&search->memory);
    search->sources = 0;
    for (int64_t s = 0; s < search->count; s++) {
        search->sources += search->sentences[s].source_count;
        hone_beam_start(&search->sentences[s].beam, search->options);
    }
    RETURN_IF_ERROR(take_arrays(search));
    RETURN_IF_ERROR(read_sources(search));
    search->queries = search->count;
    for (int64_t s = 0; s < search->count; s++)
        search->token[s] = search->model->config.decoder_start;
    for (int64_t step = 0; search->queries > 0; step++) {
        RETURN_IF_ERROR(compute(search, step));
        RETURN_IF_ERROR(advance(search));
    }
    return HONE_OK;
}

// ---- results -----------------------------------------------------------------------------------

static hone_status make_text(Search *search, const Beam *beam, const BeamEnd *end,
                             HoneTranslation *translation) {
    Arena *memory = &search->memory;
    const int64_t count = end->length - end->ended;
    int32_t *tokens = hone_arena_alloc(memory, (size_t)end->length * sizeof *tokens);
    TextBuffer text = {0};
    if (!tokens) return hone_fail_memory(search->err, (size_t)end->length * 4, "a translation");
    hone_beam_tokens(beam, end->node, end->length, tokens);
    hone_text_append(&text, "", 0);
    for (int64_t i = 0; i < count; i++) {
        TokenizerText piece = hone_token_bytes(search->model->tokenizer, tokens[i], false);
        hone_text_append(&text, piece.data, piece.length);
    }
    // Of pieces that stand for a space before their word the first one begins with it.
    const size_t skip = text.length > 0 && text.data[0] == ' ';
    char *copy =
        text.failed ? NULL : hone_arena_strndup(memory, text.data + skip, text.length - skip);
    hone_text_free(&text);
    if (!copy) return hone_fail_memory(search->err, (size_t)count, "a translation");
    *translation = (HoneTranslation){.text = copy,
                                     .tokens = tokens,
                                     .count = count,
                                     .score = end->score,
                                     .logprob = (double)end->logprob,
                                     .ended = end->ended};
    return HONE_OK;
}

// What the last attention of a pass was: that of the decoder's last layer to the sources.
typedef struct LastWeights {
    float *mean; // (queries,keys)
    int64_t queries, keys;
} LastWeights;

static void take_mean(void *user, int heads, int64_t queries, int64_t keys, const float *p) {
    LastWeights *last = user;
    if (queries != last->queries || keys != last->keys) return; // another attention
    for (int64_t i = 0; i < queries * keys; i++) {
        double sum = 0;
        for (int h = 0; h < heads; h++) sum += (double)p[h * queries * keys + i];
        last->mean[i] = (float)(sum / heads);
    }
}

// A pass over the source and the tokens of its best hypothesis.
static hone_status align(Search *search, const Sentence *sentence, HoneTranslated *translated) {
    const BeamEnd *best = &sentence->beam.ends[0];
    const int64_t tokens = best->length, sources = sentence->source_count;
    const size_t rows = (size_t)tokens, columns = (size_t)sources;
    int32_t *lists = hone_arena_calloc(&search->memory, 4 * rows + 5 * columns, sizeof *lists);
    float *mean = hone_arena_calloc(&search->memory, rows * columns, sizeof *mean);
    if (!lists || !mean) return hone_fail_memory(search->err, rows * columns * 4, "an alignment");
    int32_t *token = lists, *place = token + tokens, *begin = place + tokens, *end = begin + tokens;
    int32_t *source_place = end + tokens, *source_begin = source_place + sources;
    int32_t *source_end = source_begin + sources, *seen_end = source_end + sources;
    hone_beam_tokens(&sentence->beam, best->node, tokens, token);
    memmove(token + 1, token, (rows - 1) * sizeof *token);
    token[0] = search->model->config.decoder_start;
    for (int64_t t = 0; t < tokens; t++) {
        place[t] = begin[t] = (int32_t)t;
        end[t] = (int32_t)tokens;
    }
    for (int64_t s = 0; s < sources; s++) {
        source_place[s] = (int32_t)s;
        source_end[s] = (int32_t)sources;
        seen_end[s] = (int32_t)tokens;
    }
    const ModelBatch batch = {.tokens = tokens,
                              .token = token,
                              .position = place,
                              .begin = begin,
                              .end = end,
                              .rows = tokens,
                              .source = {.tokens = sources,
                                         .token = sentence->source,
                                         .position = source_place,
                                         .begin = source_begin,
                                         .end = source_end,
                                         .seen_begin = source_begin,
                                         .seen_end = seen_end}};
    LastWeights last = {mean, tokens, sources};
    hone_tape_reset(search->tape, false);
    hone_tape_take_weights(search->tape, take_mean, &last);
    hone_model_forward(search->model->model, search->tape, &batch);
    hone_tape_take_weights(search->tape, NULL, NULL);
    translated->alignment = mean;
    translated->alignment_rows = tokens;
    return hone_tape_status(search->tape, search->err);
}

static hone_status report(Search *search, const Sentence *sentence, HoneTranslatedSink sink,
                          void *user) {
    HoneTranslation candidates[HONE_MOST_BEAMS];
    const Beam *beam = &sentence->beam;
    const int64_t wanted = search->options->candidates;
    const int64_t count = beam->end_count < wanted ? beam->end_count : wanted;
    hone_arena_reset(&search->memory);
    for (int64_t i = 0; i < count; i++)
        RETURN_IF_ERROR(make_text(search, beam, &beam->ends[i], &candidates[i]));
    HoneTranslated translated = {.index = sentence->index,
                                 .source_tokens = sentence->source_count,
                                 .cut = sentence->cut,
                                 .candidates = candidates,
                                 .count = count,
                                 .source_ids = sentence->source};
    if (search->options->alignment) RETURN_IF_ERROR(align(search, sentence, &translated));
    if (sink(user, &translated)) return HONE_OK;
    return hone_fail(search->err, HONE_INTERRUPTED, "stopped after source %lld",
                     (long long)sentence->index + 1);
}

static hone_status run(Search *search, Sentence *sentences, int64_t count, HoneTranslatedSink sink,
                       void *user) {
    qsort(sentences, (size_t)count, sizeof *sentences, by_length);
    for (int64_t first = 0; first < count; first += search->options->batch) {
        const int64_t left = count - first;
        search->sentences = sentences + first;
        search->count = left < search->options->batch ? left : search->options->batch;
        RETURN_IF_ERROR(search_batch(search));
    }
    qsort(sentences, (size_t)count, sizeof *sentences, by_index);
    for (int64_t i = 0; i < count; i++) RETURN_IF_ERROR(report(search, &sentences[i], sink, user));
    return HONE_OK;
}

hone_status hone_translate(HoneModel *model, const char *const *sources, int64_t count,
                           const HoneTranslateOptions *options, HoneTranslatedSink sink,
                           void *user) {
    HoneError *err = hone_begin(model->context);
    HoneTranslateOptions wanted = *options;
    const int64_t longest = model->config.context - 1;
    if (wanted.max_tokens == 0) wanted.max_tokens = longest < 256 ? longest : 256;
    RETURN_IF_ERROR(check(model, &wanted, err));
    Search search = {.model = model, .err = err, .options = &wanted};
    for (int64_t v = 0; v < model->config.vocabulary; v++)
        search.ends += hone_token_ends(model->tokenizer, (int32_t)v);
    search.width = hone_beam_width(&wanted, search.ends);
    const int64_t all = model->config.vocabulary * wanted.beams;
    if (search.width > all) search.width = (int)all;
    Arena arena = {0};
    hone_status status = HONE_OK;
    Sentence *sentences = hone_calloc((size_t)(count ? count : 1), sizeof *sentences);
    search.tape = hone_tape_create(&model->context->kernels, (TapeOptions){.gradients = false});
    if (!sentences || !search.tape) status = hone_fail_memory(err, (size_t)count, "a search");
    for (int64_t i = 0; i < count && status == HONE_OK; i++) {
        sentences[i].index = i;
        status = read_source(&search, sources[i], &arena, &sentences[i]);
        if (status != HONE_OK) hone_fail_in(err, "source %lld", (long long)i + 1);
    }
    if (status == HONE_OK) status = run(&search, sentences, count, sink, user);
    for (int64_t i = 0; sentences && i < count; i++) hone_beam_free(&sentences[i].beam);
    hone_free(sentences);
    hone_cache_free(search.cache);
    hone_tape_free(search.tape);
    hone_arena_free(&search.memory);
    hone_arena_free(&arena);
    return status;
}
