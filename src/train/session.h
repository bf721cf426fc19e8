// SPDX-License-Identifier: Apache-2.0
// What stands behind the public handles.
#ifndef HONE_TRAIN_SESSION_H
#define HONE_TRAIN_SESSION_H

#include <hone/hone.h>

#include "base/text.h"
#include "data/data.h"
#include "io/gguf.h"
#include "io/peft.h"
#include "models/model.h"
#include "tensor/context.h"

// One parameter as the model's visitor says it, with the file's tensor behind it.
typedef struct ParameterSlot {
    char name[72];
    Tensor *tensor;
    Weight *weight;     // NULL for norms
    const char *target; // "q", … ; NULL: never adapted
    int layer;
    int adapters; // attached; weight->adapter_count is this or 0 (switched off)
    Tensor gain;  // attached likewise: weight->gain is this or empty
    Tensor whole,
        stored; // attached whole likewise: *tensor is the first or, switched off, the second
} ParameterSlot;

struct HoneModel {
    HoneContext *context;
    char *name; // as it was given: a path, or what was pulled
    char *path; // where it lies
    GgufFile file;
    ModelConfig config;
    Model *model;
    ParameterSlot *slots;
    int64_t slot_count, slot_capacity;
    StringMap slot_index;    // names of the slots once all are there; empty: not yet
    ParameterSlot tied_head; // for adapters of a head that is the embedding; weight NULL: it is not
    Tokenizer *tokenizer;
    ChatTemplate *chat_template; // NULL: none
    const char **labels;         // an encoder's classes; NULL: it tells none apart
    int64_t label_count;
    bool fresh_pooler; // drawn with the classifier
    bool adapters_enabled;
    const char *adapter_path[64]; // as added, for those who write beside them
    int adapter_paths;
    Arena memory; // names, converted norms, adapters
};

struct HoneData {
    Dataset set;
    FileMap map; // of a corpus: its tokens, which the examples are windows on
};

// tokenizer.c
// The tokeniser that a GGUF file's metadata describes; the messages name the file. Caller frees.
hone_status hone_read_tokenizer(const GgufFile *file, Tokenizer **tokenizer, HoneError *err);
// What the public calls for tokenisers and for models share.
hone_status hone_copy_tokens(Tokenizer *tokenizer, const char *text, size_t length, bool special,
                             int32_t **tokens, int64_t *count, HoneError *err);
hone_status hone_check_tokens(const Tokenizer *tokenizer, const int32_t *tokens, int64_t count,
                              HoneError *err);
hone_status hone_give_text(TextBuffer *buffer, char **text, size_t *length, HoneError *err);

// encoder.c
// HONE_ERROR_UNSUPPORTED for an encoder, with what it cannot and the commands that it is for; for
// any other model.
hone_status hone_need_decoder(HoneModel *model, const char *why);
hone_status hone_need_encoder(HoneModel *model);

// load.c
// The number of parameters, adapters left out.
int64_t hone_model_parameters(const HoneModel *model);
AdapterBase hone_model_adapter_base(const HoneModel *model);
// Any model-wide check that a weight can take an adapter of this shape, then append it to the
// weight.
hone_status hone_slot_add_adapter(HoneModel *model, ParameterSlot *slot, Adapter adapter,
                                  Adapter **added);
// "output.weight" of a model whose head is the embedding too. NULL: none of that name.
ParameterSlot *hone_model_slot(HoneModel *model, const char *name);
// The slots and the tied head's, from number 0 on; NULL beyond.
ParameterSlot *hone_adaptable_slot(HoneModel *model, int64_t number);
// Of a file that is open, which is the model's from now on, or closed; name: of it, for messages.
hone_status hone_model_load_file(HoneContext *context, const char *name, GgufFile *file,
                                 HoneModel **model);
// Make the parameters again of the file, which has got other tensors. No adapter is attached.
hone_status hone_model_build(HoneModel *model, HoneError *err);

// labels.c
// The classes that the file names, or as transformers calls those that have no names.
hone_status hone_read_labels(HoneModel *model, HoneError *err);
// Give an encoder a classifier for these labels, and a pooler where it has none, drawn by the seed;
// a classifier that it has for the same labels stays. The names are copied. HONE_ERROR_UNSUPPORTED:
// it is no encoder, or adapters are attached.
hone_status hone_model_add_classes(HoneModel *model, const char *const *labels, int64_t count,
                                   uint64_t seed, HoneError *err);
// An adapter's labels.json, {"id2label":{"0":…}}: that for all of a folder's classes. *count 0:
// there is none.
hone_status hone_labels_load(HoneModel *model, const char *folder, const char ***labels,
                             int64_t *count, HoneError *err);
hone_status hone_labels_save(const HoneModel *model, const char *path, HoneError *err);

hone_status hone_model_add_slot(HoneModel *model, const ParameterVisit *visit, HoneError *err);

// whole.c: another tensor's values in place of the slot's: its own + weight·(whole's − the file's).
hone_status hone_attach_whole(HoneModel *model, const char *path, const AdapterWhole *whole,
                              float weight);
// Fail unless the model has a tensor of that name and shape.
hone_status hone_check_whole(HoneModel *model, const char *path, const AdapterWhole *whole);
// The slot's tensor is about to get values of its own: part it from a head or an embedding that it
// shares them with.
void hone_slot_part(HoneModel *model, const ParameterSlot *slot);
// The tensor as pair of a name and values, which are borrowed.
AdapterWhole hone_slot_whole(const ParameterSlot *slot);

// model.c: fail unless the pair adapts a matrix of the model, of its shape.
hone_status hone_check_pair(HoneModel *model, const char *path, const AdapterPair *pair);

// random_model.c
// A Llama with random weights and no tokeniser: matrices of a type for weights, their rows in whole
// blocks; norms of ones. HONE_ERROR_ARGUMENT: sizes that cannot be; HONE_ERROR_MEMORY: more than
// the machine has free.
hone_status hone_model_random(HoneContext *context, const HoneLlamaShape *shape, int dtype,
                              uint64_t seed, HoneModel **model);

DataOptions hone_model_data_options(const HoneModel *model, const HoneDataOptions *options);

#endif
