// SPDX-License-Identifier: Apache-2.0
// What stands where libmicrohttpd was not there when Hone was built.
#include "serve.h"

int serve(HoneContext *context, const ServeOptions *options) {
    (void)context, (void)options;
    fprintf(stderr, "hone serve: this Hone was built without libmicrohttpd and serves nothing: "
                    "install libmicrohttpd-dev and build again\n");
    return EXIT_WORK;
}
