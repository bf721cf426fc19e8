// SPDX-License-Identifier: Apache-2.0
// The public call of the hub.
#include "hub/pull.h"

#include <string.h>

#include "train/session.h"

typedef struct Sink {
    HonePullSink call;
    void *user;
} Sink;

static bool tell(void *user, const PullStep *step) {
    const Sink *sink = user;
    HonePullStep told = {.file = step->file ? step->file : "",
                         .index = step->index,
                         .files = step->files,
                         .bytes = step->bytes,
                         .total = step->total,
                         .received = step->received,
                         .whole = step->whole,
                         .note = step->note};
    return sink->call(sink->user, &told);
}

hone_status hone_pull(HoneContext *context, const HonePullOptions *options, HonePullSink sink,
                      void *user, HonePulled *pulled) {
    HoneError *err = hone_begin(context);
    Sink told = {sink, user};
    PullResult result;
    PullRequest request = {.repository = options->repository,
                           .file = options->file,
                           .revision = options->revision,
                           .endpoint = options->endpoint,
                           .step = sink ? tell : NULL,
                           .user = &told};
    *pulled = (HonePulled){0};
    RETURN_IF_ERROR(hone_hub_pull(&request, &result, err));
    *pulled = (HonePulled){.path = result.path,
                           .files = result.files,
                           .bytes = result.bytes,
                           .received = result.received};
    memcpy(pulled->commit, result.commit, sizeof pulled->commit);
    return HONE_OK;
}
