// SPDX-License-Identifier: Apache-2.0
#include "loaded.h"

hone_status load_model(HoneContext *context, const char *path, const char *template_path,
                       const TextList *adapters, LoadedModel *loaded) {
    *loaded = (LoadedModel){0};
    hone_status result = hone_model_load(context, path, &loaded->model);
    if (result == HONE_OK && adapters) result = add_adapters(loaded->model, adapters);
    if (result == HONE_OK && template_path)
        result = hone_model_set_template(loaded->model, template_path);
    if (result == HONE_OK) result = hone_generator_create(loaded->model, &loaded->generator);
    return result;
}

void unload_model(LoadedModel *loaded) {
    hone_generator_free(loaded->generator);
    hone_model_free(loaded->model);
    *loaded = (LoadedModel){0};
}
