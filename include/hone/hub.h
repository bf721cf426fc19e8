// SPDX-License-Identifier: Apache-2.0
// Models from the model hub (huggingface.co, or who speaks its HTTP interface), kept where Hugging
// Face's own libraries keep theirs. A model that was pulled is loaded by its name: OWNER/NAME, or
// OWNER/NAME/FILE, wherever the path of a model is wanted.
#ifndef HONE_HUB_H
#define HONE_HUB_H

#include <hone/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct HonePullOptions {
    const char *repository; // OWNER/NAME
    // One file of it, with the other parts if it is a part of a split GGUF file. NULL: what Hone
    // reads: safetensors, configuration, tokeniser and template; or an adapter; or the one GGUF
    // file.
    const char *file;
    const char *revision; // a branch, tag or commit; NULL: main
    const char *endpoint; // NULL: $HF_ENDPOINT, else https://huggingface.co
} HonePullOptions;

typedef struct HonePullStep {
    const char *file;
    int64_t index, files; // the how many-th of how many
    int64_t bytes, total; // of this file
    int64_t received;     // over the network in this call
    bool whole;           // this file is there, and its checksum is right
    const char *note;     // NULL; or what went wrong and is tried again
} HonePullStep;
// Called several times a second; return false to stop: HONE_INTERRUPTED.
typedef bool (*HonePullSink)(void *user, const HonePullStep *step);

typedef struct HonePulled {
    char *path; // the folder, or the GGUF file. Caller frees with hone_free
    char commit[65];
    int64_t files, bytes, received;
} HonePulled;

// Fetch what is not there yet. The token ($HF_TOKEN, or the file of "hf auth login") goes to the
// endpoint alone, and over TLS or to this machine only. Every file's checksum is verified; one that
// broke off goes on where it stopped, in this call or the next. sink may be NULL.
// HONE_ERROR_ARGUMENT: a name that cannot be; HONE_ERROR_INPUT: there is no such repository or
// file, it is not open, or the server answers what cannot be; HONE_ERROR_UNSUPPORTED: nothing but
// pickles, or the library was built without libcurl; HONE_ERROR_IO: network, disk, checksum.
hone_status hone_pull(HoneContext *context, const HonePullOptions *options, HonePullSink sink,
                      void *user, HonePulled *pulled);

#ifdef __cplusplus
}
#endif
#endif
