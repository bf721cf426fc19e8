// SPDX-License-Identifier: Apache-2.0
// Developing a model: its vocabulary, its first weights, and its corpus as examples. The steps are
// those of full fine-tuning.
#ifndef HONE_TRAIN_DEVELOP_H
#define HONE_TRAIN_DEVELOP_H

#include <hone/train.h>

#include "train/run.h"

// windows.c: a corpus (data/corpus.h) as examples of at most max_length tokens. Tokens lie in a
// mapped file without a name in the nearest folder above `out` that there is (NULL: that for
// temporary files). Caller frees with hone_data_free.
hone_status hone_corpus_read(HoneModel *model, const char *path, const HoneDataOptions *options,
                             const char *out, HoneData **data);
// Say which files of the corpora's folders are not read.
hone_status hone_corpus_note(Run *run);
// A file of that folder, hidden and of this process. Caller frees; NULL: out of memory.
char *hone_scratch_path(const char *out, const char *what);

// vocabulary.c: what run->develop->tokenizer names, read or learnt from the run's data.
hone_status hone_develop_vocabulary(Run *run, GgufFile *vocabulary);

// develop.c: run->model with random weights by run->develop, and run->vocabulary.
hone_status hone_develop_model(Run *run);
// Whether it is an encoder-decoder, which learns from records of two texts.
bool hone_develop_translates(const HoneTrainOptions *options);
// Fail unless the sizes can be a model's.
hone_status hone_develop_check(const HoneTrainOptions *options, HoneError *err);
// The options that only `hone train` has, as lines of config.yaml.
void hone_develop_config(const Run *run, TextBuffer *text);

#endif
