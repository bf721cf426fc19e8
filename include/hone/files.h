// SPDX-License-Identifier: Apache-2.0
// Files: what is in them, and adapters merged into models.
#ifndef HONE_FILES_H
#define HONE_FILES_H

#include <hone/model.h>

#ifdef __cplusplus
extern "C" {
#endif

// Describe a model (GGUF file, Hugging Face folder), an adapter (GGUF, PEFT, MLX-LM), a safetensors
// file, a run's folder, its checkpoint or a tokenizer.json: as one JSON object (json true) or as
// text for a person. Caller frees *text with hone_free. A tensor type or architecture that Hone
// cannot train is described all the same, and said to be so. HONE_ERROR_INPUT: what it is meant to
// be is damaged; *text is there if it could be described all the same, else NULL.
hone_status hone_inspect(HoneContext *context, const char *path, bool json, char **text);

// Write the model with its added adapters merged, W + Σ weight·scale·B·A, as one GGUF file.
// type, of the matrices: "f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "q6_k", or
// one of llama.cpp's mixtures "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s"; "same": each as it is stored;
// "auto": what most of the model is stored as, but q8_0 where that has less than 8 bits a value,
// which would round a small change away. Changed tensors are rounded from their f32 values. With a
// quantised type, quantised tensors that no adapter touches are copied byte for byte; f32, f16 and
// bf16 are the whole file's. Where rows are no whole blocks another type stands in, as in llama.cpp
// (Q4_K: Q5_0, Q5_K: Q5_1, Q6_K: Q8_0, else F16); the head has at least Q6_K or Q8_0; vectors are
// f32. Metadata is copied. The adapters' weights are those of hone_model_add_adapter.
// HONE_ERROR_ARGUMENT for another type, naming these; HONE_ERROR_NUMERIC for values that the type
// cannot hold.
typedef struct HoneMerged {
    int64_t tensors;   // written
    int64_t merged;    // of these changed by an adapter
    int64_t copied;    // of these copied byte for byte
    int64_t fallbacks; // of these stored as a type that stands in
    int64_t narrow; // of the merged, stored as before in less than 8 bits: small changes are lost
    int64_t again;  // stored in less than 8 bits, and before in another such type: losses add up
    bool own_head; // a head beside the embedding, in a family whose head llama.cpp takes from there
    int64_t bytes;
    char again_from[16]; // the type of the first of `again`
    char type[16];       // "auto" resolved
    char types[160];     // tensors of each type: "Q4_K 78, Q6_K 12, F32 61"
} HoneMerged;
// Called after each tensor; return false to stop: HONE_INTERRUPTED, and no file is left.
typedef bool (*HoneMergeSink)(void *user, int64_t done, int64_t tensors);
hone_status hone_merge(HoneModel *model, const char *type, const char *out, HoneMergeSink sink,
                       void *user, HoneMerged *merged);
// The same, but every tensor takes the type: quantised ones are quantised again. "same" and a GGUF
// file: all tensors are copied.
hone_status hone_convert(HoneModel *model, const char *type, const char *out, HoneMergeSink sink,
                         void *user, HoneMerged *merged);
// Write the model with its added adapters merged as a Hugging Face folder `out`, which must be new
// or empty: model.safetensors, config.json, generation_config.json, tokenizer.json,
// tokenizer_config.json and chat_template.jinja; from a folder all but the weights are copies.
// type: "f32", "f16" or "bf16"; "same" and "auto": floats as they are stored, quantised weights as
// f16. Vectors that the type would round stay f32. In *merged, `copied` counts untouched tensors in
// the type that they had. What transformers has no words for is HONE_ERROR_UNSUPPORTED.
hone_status hone_merge_hf(HoneModel *model, const char *type, const char *out, HoneMergeSink sink,
                          void *user, HoneMerged *merged);
// Write an adapter of the model (a PEFT or MLX-LM folder, a GGUF adapter) as PEFT folder or as GGUF
// file `out`, in f32. HONE_ERROR_INPUT: it is not an adapter, or not of this model.
hone_status hone_convert_adapter(HoneModel *model, const char *adapter, bool peft, const char *out);
// Write the adapters that were added to the model, each with its weight, as one in the same way: of
// summed rank, Σ weight·scale·B·A. Where scales differ they go into B. With a DoRA among them it is
// one.
hone_status hone_convert_adapters(HoneModel *model, bool peft, const char *out);

#ifdef __cplusplus
}
#endif
#endif
