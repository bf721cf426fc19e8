// SPDX-License-Identifier: Apache-2.0
// Files: what is in them, and adapters merged into models.
#ifndef HONE_FILES_H
#define HONE_FILES_H

#include <hone/model.h>

#ifdef __cplusplus
extern "C" {
#endif

// Describe a GGUF model or adapter, a safetensors file or a PEFT folder: as one JSON object (json
// true) or as text for a person. Caller frees *text with hone_free. A tensor type or architecture
// that Hone cannot train is described all the same, and said to be so.
hone_status hone_inspect(HoneContext *context, const char *path, bool json, char **text);

// Write the model with its added adapters merged, W + Σ weight·scale·B·A, as one GGUF file.
// type: "f32", "f16", "bf16": of the matrices; norms stay f32; tensors that no adapter touches are
// converted too, so that the file is of one type. Metadata is copied. The weights are those of
// hone_model_add_adapter. HONE_ERROR_ARGUMENT for another type, naming these.
typedef struct HoneMerged {
    int64_t tensors, merged; // written; of these changed by an adapter
    int64_t bytes;
} HoneMerged;
// Called after each tensor; return false to stop: HONE_INTERRUPTED, and no file is left.
typedef bool (*HoneMergeSink)(void *user, int64_t done, int64_t tensors);
hone_status hone_merge(HoneModel *model, const char *type, const char *out, HoneMergeSink sink,
                       void *user, HoneMerged *merged);

#ifdef __cplusplus
}
#endif
#endif
