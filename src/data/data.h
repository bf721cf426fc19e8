// SPDX-License-Identifier: Apache-2.0
// Examples: records of a data file, rendered by the chat template, tokenised, with the loss mask;
// and batches that lay examples out in one line without a padding token, what they share once.
#ifndef HONE_DATA_DATA_H
#define HONE_DATA_DATA_H

#include "base/memory.h"
#include "template/template.h"
#include "tokenizer/tokenizer.h"

typedef enum LossOn { LOSS_AUTO, LOSS_ASSISTANT, LOSS_COMPLETION, LOSS_ALL } LossOn;
// What an encoder's examples are for; LOSS_… are of the others.
typedef enum EncoderTask {
    TASK_NONE,     // a model that continues texts
    TASK_EMBED,    // {"text"}: framed by the tokens of both ends
    TASK_CLASSIFY, // {"text", "label"}, where "text_pair" is given behind it in the same frame
    TASK_PAIRS,    // {"anchor", "positive"}: two examples, the second one as `rejected`
} EncoderTask;

typedef enum OnBad { BAD_STOP, BAD_SKIP } OnBad;

typedef struct DataOptions {
    Tokenizer *tokenizer;
    const ChatTemplate *chat_template; // NULL: the model has none (chat data is refused, saying so)
    int64_t max_length;                // tokens; longer examples are cut from the end and counted
    int64_t stride; // tokens between the beginnings of a text's windows; 0: max_length, no overlap
    LossOn loss_on;
    OnBad on_bad;
    bool no_eos; // "text" records end with EOS unless this is set
    bool pairs;  // records of prompt, chosen and rejected; only the answers are learnt
    int64_t now; // seconds since 1970, for templates; 0: now
    EncoderTask task;
    // Of classes: the names that a label can have, the only ones; NULL: any. A whole number that is
    // none of the names is the label's place among them.
    const char *const *labels;
    int64_t label_count;
    bool unlabelled; // a label is not asked for
    bool keep_text;  // keep the rendered text (hone template, previews)
    // For an encoder-decoder: records of two texts, source and target, each of max_length tokens
    // at most. A source is its tokens and EOS; a target is `start`, its tokens, EOS.
    bool translates;
    bool sources_only; // what a record's target would be is not asked for
    int32_t start;
} DataOptions;

// One example. Position i predicts token[i+1]; target[i] = 1 when token[i] is to be learnt
// (target[0] is never set: nothing predicts it).
typedef struct Example {
    int32_t *token; // the source, if there is one, lies before it: token[−source_count … −1]
    uint8_t *target;
    int64_t count, targets;
    int64_t source_count; // tokens of the source; target[−source_count … −1] are 0
    int64_t prompt;       // tokens before the last answer: what generation starts from
    char *text;           // rendered (keep_text), NUL-terminated
    // Content of the last assistant message or the completion; a class's name; NULL: neither
    char *answer;
    int64_t answer_length;
    int line; // in its file, from 1
    bool cut;
    bool chat; // rendered by the chat template
    // Of a pair: the other answer to the same prompt; of TASK_PAIRS the positive; else NULL
    const struct Example *rejected;
    int64_t second; // of an encoder: where the second text begins; 0: there is none
    int32_t label;  // of classes: its place among the labels, −1: not known or not given
} Example;

typedef struct Dataset {
    Example *examples;
    int64_t count;
    int64_t tokens, targets, cut, skipped, longest;
    char first_bad[512]; // why the first skipped example was, with file and line
    Arena memory;
} Dataset;

// Append the examples of a file (data/content.h): messages, conversations, prompt+completion,
// instruction(+input)+output, text; the kind is told from the keys of each record or the columns of
// the table. A .txt file is cut into windows. BAD_STOP: the first bad example is the error, with
// its line and how many more there are. All bad, or an empty file: HONE_ERROR_INPUT in any case.
hone_status hone_dataset_read(const char *path, const DataOptions *options, Dataset *dataset,
                              HoneError *err);
// The same of texts that are given (line: their numbers from 1), for a task of encoders: without
// labels.
hone_status hone_dataset_texts(const char *const *texts, int64_t count, const DataOptions *options,
                               Dataset *dataset, HoneError *err);
void hone_dataset_free(Dataset *dataset);

// The source and the target of each record, as hone_dataset_read with `translates` takes them; both
// are valid during the call. sources_only: the target is "", and each line of plain text is a
// source.
typedef hone_status TranslationVisitor(void *user, const char *path, int line, const char *source,
                                       const char *target, HoneError *err);
hone_status hone_translations_each(const char *path, bool sources_only, TranslationVisitor *visit,
                                   void *user, HoneError *err);

// Tokens of the source and of the target together.
int64_t hone_example_length(const Example *example);

// Render one conversation for generation: tokens of the prompt, the generation prompt included.
// Control tokens are the template's alone: one that a message spells out is text.
hone_status hone_chat_prompt(const DataOptions *options, const ChatMessage *messages, int64_t count,
                             TokenList *list, HoneError *err);

// A batch: the examples in one line without padding, as a trie. Tokens that examples begin with
// alike are there once, depth first, whether they are targets or not; key k is seen by the queries
// in [begin[k], end[k]), its subtree. The tokens from an example's last target on are left out: no
// loss depends on them. Arrays live in the arena.
//
// Sources of an encoder-decoder lie in a line of their own, each once, and see themselves; what
// begins alike behind different sources is not shared.
typedef struct TokenSources {
    int64_t tokens;
    int32_t *token, *position, *begin, *end;
    int32_t *seen_begin, *seen_end; // the batch's tokens that see it
    uint64_t *path;
} TokenSources;
typedef struct TokenBatch {
    TokenSources source;
    int64_t tokens;
    int32_t *token, *position, *begin, *end; // position: the depth in the trie
    uint64_t *path;                          // a hash of the token and all before it, source too
    int64_t entries, rows;                   // rows: that predict something
    int32_t *row;    // entry → row that predicts it, not falling: a row can have several targets
    int32_t *target; // entry → token, each of a row's once
    int32_t *learners; // entry → in how many examples it is a target
    int64_t targets;   // of all examples
    int32_t *result;   // of each target, example by example as given: its entry
} TokenBatch;
// The hash of a token after what `before` is the hash of; 0: after nothing.
uint64_t hone_token_hash(uint64_t before, int32_t token);

// An encoder's batch: the examples side by side, in the order given, without padding; key j is seen
// by the tokens of its own example, begin[j] ≤ i < end[j]. Arrays live in the arena.
typedef struct TextBatch {
    int64_t tokens, texts;
    int32_t *token, *position, *begin, *end;
    int32_t *type;  // 1 from the second text of an example on, else 0
    int32_t *first; // (texts+1): where each example begins
    uint64_t *path; // a hash of all of the example's tokens and the place among them
} TextBatch;
hone_status hone_texts_pack(const Example *const *examples, int64_t count, Arena *memory,
                            TextBatch *batch, HoneError *err);

// Into the order of their tokens, so that those that begin alike stand together; equal ones stay as
// they are.
hone_status hone_examples_sort(const Example **examples, int64_t count, Arena *memory,
                               HoneError *err);
hone_status hone_batch_pack(const Example *const *examples, int64_t count, Arena *memory,
                            TokenBatch *batch, HoneError *err);

#endif
