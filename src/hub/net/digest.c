// SPDX-License-Identifier: Apache-2.0
#include "hub/net/digest.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"

struct Digest {
    EVP_MD_CTX *context;
};

static hone_status failed(HoneError *err) {
    return hone_fail(err, HONE_ERROR_IO, "libcrypto cannot compute a checksum");
}

hone_status hone_digest_start(const char *name, int64_t bytes, Digest **digest, HoneError *err) {
    *digest = NULL;
    size_t length = strlen(name);
    if (strspn(name, "0123456789abcdef") != length || (length != 40 && length != 64))
        return hone_fail(err, HONE_ERROR_INPUT,
                         "the server names it \"%.*s\", which is no checksum: what would come "
                         "could not be verified",
                         hone_excerpt(name), name);
    *digest = hone_calloc(1, sizeof **digest);
    if (!*digest) return hone_fail_memory(err, sizeof **digest, "a checksum");
    (*digest)->context = EVP_MD_CTX_new();
    char head[40];
    int used = snprintf(head, sizeof head, "blob %lld", (long long)bytes) + 1; // with the NUL
    bool fine =
        (*digest)->context &&
        EVP_DigestInit_ex((*digest)->context, length == 64 ? EVP_sha256() : EVP_sha1(), NULL) &&
        (length == 64 || EVP_DigestUpdate((*digest)->context, head, (size_t)used));
    if (fine) return HONE_OK;
    hone_digest_free(*digest);
    *digest = NULL;
    return failed(err);
}

hone_status hone_digest_add(Digest *digest, const void *bytes, size_t length, HoneError *err) {
    return EVP_DigestUpdate(digest->context, bytes, length) ? HONE_OK : failed(err);
}

hone_status hone_digest_end(Digest *digest, char text[65], HoneError *err) {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    if (!EVP_DigestFinal_ex(digest->context, bytes, &length) || length > 32) return failed(err);
    for (unsigned i = 0; i < length; i++) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return HONE_OK;
}

void hone_digest_free(Digest *digest) {
    if (!digest) return;
    EVP_MD_CTX_free(digest->context);
    hone_free(digest);
}
