// SPDX-License-Identifier: Apache-2.0
// From a JSON record to an example: what data.c is made of.
#ifndef HONE_DATA_RECORD_H
#define HONE_DATA_RECORD_H

#include <jansson.h>

#include "data/data.h"

enum { TEXT_LIMIT = 1 << 30 }; // bytes of one example; token offsets are 32 bits

typedef enum RecordKind {
    RECORD_CHAT,
    RECORD_COMPLETION,
    RECORD_TEXT,
    RECORD_TRANSLATION
} RecordKind;

// Strings are borrowed from the JSON value or lie in the arena that hone_record_read was given.
typedef struct Record {
    RecordKind kind;
    ChatMessage *messages; // chat
    int64_t count;
    const json_t *tools, *extra;     // chat: of the template; NULL: none
    json_t *read;                    // tools that stood in a string; hone_record_done releases it
    const char *prompt, *completion; // completion; text: prompt alone; translation: both texts
} Record;

// What making examples needs again and again; zero-initialise to create.
typedef struct Workshop {
    TextBuffer text, origin, before, before_origin; // before: a conversation's beginning
    TextBuffer learnt;                              // a byte of `text` each: what it is to the loss
    TokenList tokens, prompt;
    TextBuffer targets; // a byte a token
    char *bos, *eos;    // spellings, or NULL
} Workshop;

hone_status hone_workshop_open(Workshop *workshop, const DataOptions *options, HoneError *err);
void hone_workshop_close(Workshop *workshop);

// The kind is told from the keys. HONE_ERROR_ARGUMENT (chat data without a chat template) concerns
// the whole file; any other failure this record.
hone_status hone_record_read(const json_t *value, const DataOptions *options, Arena *arena,
                             Record *record, HoneError *err);
void hone_record_done(Record *record);
// The record that a pair's answer ("chosen", "rejected") comes to: with texts prompt and
// completion, with lists the messages of both; "tools" and "chat_template_kwargs" as they are.
// Without a prompt the answers begin alike. NULL: it is none, and err says why. Caller decrefs.
json_t *hone_pair_answer(const json_t *pair, const char *answer, HoneError *err);

// What a template is given of the first `count` messages.
TemplateInput hone_record_input(const Workshop *workshop, const DataOptions *options,
                                const Record *record, int64_t count, bool generation);

// Tokens and mask in the dataset's arena.
hone_status hone_example_make(Workshop *workshop, const DataOptions *options, const Record *record,
                              Arena *arena, Example *example, HoneError *err);

// encode.c: what the task wants of a record, in the dataset's arena; `text` alone of one that has
// no keys. HONE_ERROR_INPUT as of the two above.
hone_status hone_encoder_example(Workshop *workshop, const DataOptions *options,
                                 const json_t *value, Arena *arena, Example *example,
                                 HoneError *err);

// data.c: append an example, whose arrays are the dataset's already.
hone_status hone_dataset_add(Dataset *dataset, const Example *example, HoneError *err);

// window.c: text as it is, in windows of max_length tokens. Each begins `stride` tokens behind the
// one before; what that one had is read and not learnt. BOS goes in front of each where the
// tokeniser wants one, EOS behind the last. HONE_ERROR_INPUT: not UTF-8, nothing to predict.
hone_status hone_windows_read(Workshop *workshop, const DataOptions *options, const char *text,
                              size_t length, Dataset *dataset, HoneError *err);

// translation.c: source and target in one list of tokens, one behind the other.
hone_status hone_translation_make(Workshop *workshop, const DataOptions *options,
                                  const Record *record, Arena *arena, Example *example,
                                  HoneError *err);

// mask.c: the targets of workshop->tokens, a byte each, in workshop->targets. last: the message
// that LOSS_COMPLETION learns, −1: none; boundary: where the completion of a text begins.
hone_status hone_mask_make(Workshop *workshop, const DataOptions *options, const Record *record,
                           int64_t last, size_t boundary, HoneError *err);
// Of each byte of workshop->text whether it is what a message says, 1 or 0, in workshop->learnt.
hone_status hone_mask_content(Workshop *workshop, HoneError *err);

#endif
