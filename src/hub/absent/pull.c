// SPDX-License-Identifier: Apache-2.0
// What stands where libcurl or libcrypto was not there when Hone was built.
#include "hub/pull.h"

hone_status hone_hub_pull(const PullRequest *request, PullResult *result, HoneError *err) {
    *result = (PullResult){0};
    return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                     "%s: this Hone was built without libcurl and libcrypto, and fetches nothing: "
                     "install libcurl4-openssl-dev and libssl-dev and build again, or fetch with "
                     "\"hf download %s\"",
                     request->repository, request->repository);
}
