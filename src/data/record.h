// SPDX-License-Identifier: Apache-2.0
// From a JSON record to an example: what data.c is made of.
#ifndef HONE_DATA_RECORD_H
#define HONE_DATA_RECORD_H

#include <jansson.h>

#include "data/data.h"

enum { TEXT_LIMIT = 1 << 30 }; // bytes of one example; token offsets are 32 bits

typedef enum RecordKind { RECORD_CHAT, RECORD_COMPLETION, RECORD_TEXT } RecordKind;

// Strings are borrowed from the JSON value or lie in the arena that hone_record_read was given.
typedef struct Record {
    RecordKind kind;
    ChatMessage *messages; // chat
    int64_t count;
    const char *prompt, *completion; // completion; text: prompt alone
} Record;

// What making examples needs again and again; zero-initialise to create.
typedef struct Workshop {
    TextBuffer text, origin;
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

// Tokens and mask in the dataset's arena.
hone_status hone_example_make(Workshop *workshop, const DataOptions *options, const Record *record,
                              Arena *arena, Example *example, HoneError *err);

// Render and tokenise messages, with BOS as the tokeniser wants it.
hone_status hone_chat_tokens(Workshop *workshop, const DataOptions *options,
                             const ChatMessage *messages, int64_t count, bool generation,
                             TokenList *list, HoneError *err);

#endif
