// SPDX-License-Identifier: Apache-2.0
// A model ready to answer: with its adapters, its template and a generator.
#ifndef HONE_CLI_LOADED_H
#define HONE_CLI_LOADED_H

#include "output.h"

typedef struct LoadedModel {
    HoneModel *model;
    HoneGenerator *generator;
} LoadedModel;

// template_path: NULL for the model's own. adapters: NULL for none. On failure, too, the caller
// ends with unload_model.
hone_status load_model(HoneContext *context, const char *path, const char *template_path,
                       const TextList *adapters, LoadedModel *loaded);
void unload_model(LoadedModel *loaded);

#endif
