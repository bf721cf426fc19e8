// SPDX-License-Identifier: Apache-2.0
// Which type each tensor of a written model has: one type for all matrices, or llama.cpp's
// mixtures.
#ifndef HONE_TRAIN_RECIPE_H
#define HONE_TRAIN_RECIPE_H

#include "train/session.h"

typedef struct Recipe Recipe;

// The recipe of a name ("q4_k_m"), any letter case. "same": every tensor as it is stored. "auto":
// what most of the model's matrices are stored as, but q8_0 where that has less than 8 bits a
// value, which would round a small change away. HONE_ERROR_ARGUMENT names those that there are;
// `option` is what the message begins with. model may be NULL for a check of the name.
hone_status hone_recipe_find(const char *name, const HoneModel *model, const char *option,
                             const Recipe **recipe, HoneError *err);
const char *hone_recipe_name(const Recipe *recipe);
bool hone_recipe_is_quantised(const Recipe *recipe);
// GGUF's general.file_type; −1: as the model's file has it.
int hone_recipe_file_type(const Recipe *recipe, const HoneModel *model);

// The type of a tensor whose values have changed. Vectors and positions are f32. *falls_back: the
// recipe's type has blocks that the rows are no multiple of, and another stands in.
int hone_recipe_type(const Recipe *recipe, const HoneModel *model, const GgufTensor *tensor,
                     bool *falls_back);
// Of one that has not: what it is stored as if that is quantised and so is the recipe, for nothing
// would be gained. A file asked for in f32, f16 or bf16 is of that type throughout.
int hone_recipe_type_untouched(const Recipe *recipe, const HoneModel *model,
                               const GgufTensor *tensor, bool *falls_back);

#endif
