// SPDX-License-Identifier: Apache-2.0
// Fetch a repository of the model hub into the cache (hub/cache.h).
#ifndef HONE_HUB_PULL_H
#define HONE_HUB_PULL_H

#include "base/error.h"

typedef struct PullStep {
    const char *file;
    int64_t index, files; // the how many-th of how many
    int64_t bytes, total; // of this file
    int64_t received;     // of these over the network, this time
    bool whole;           // the file is there, and verified
    const char *note;     // NULL, or what went wrong and is tried again
} PullStep;

typedef struct PullRequest {
    const char *repository; // OWNER/NAME
    const char *file;       // NULL: what Hone reads
    const char *revision;   // NULL: main
    const char *endpoint;   // NULL: HF_ENDPOINT, else https://huggingface.co
    bool (*step)(void *user, const PullStep *step); // false: stop. May be NULL
    void *user;
} PullRequest;

typedef struct PullResult {
    char *path; // the snapshot's folder, or its GGUF file. Caller frees with hone_free
    char commit[65];
    int64_t files, bytes, received;
} PullResult;

// HONE_ERROR_ARGUMENT: names that cannot be; HONE_ERROR_INPUT: the hub has it not, refuses it or
// answers what cannot be; HONE_ERROR_UNSUPPORTED: pickles alone, or built without libcurl;
// HONE_ERROR_IO: the network, the disk, a checksum; HONE_INTERRUPTED: what came stays, and the next
// call goes on from there.
hone_status hone_hub_pull(const PullRequest *request, PullResult *result, HoneError *err);

#endif
