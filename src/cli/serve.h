// SPDX-License-Identifier: Apache-2.0
// hone serve: what the command line says of it. src/cli/serve is the server; src/cli/absent stands
// in its place in a build without libmicrohttpd.
#ifndef HONE_CLI_SERVE_H
#define HONE_CLI_SERVE_H

#include "output.h"

typedef struct ServeOptions {
    Common common;
    const char *model, *name, *template_path, *folder, *host, *key_file;
    TextList adapters, known_hosts;
    int64_t port, context, max_tokens, max_body, queue, keep, top_k;
    double timeout, temperature, top_p;
    bool own_sampling; // none of these three is given: the model's own
} ServeOptions;

// Serve until interrupted. Returns the exit status, after saying what went wrong.
int serve(HoneContext *context, const ServeOptions *options);

#endif
