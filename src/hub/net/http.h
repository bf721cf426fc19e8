// SPDX-License-Identifier: Apache-2.0
// One request over HTTP and its answer. Redirections are not followed here but told: who asks
// decides where a token may go.
#ifndef HONE_HUB_NET_HTTP_H
#define HONE_HUB_NET_HTTP_H

#include "base/error.h"

typedef struct HttpClient HttpClient;

typedef struct HttpAnswer {
    int status;                       // 0: no answer came
    int64_t length;                   // Content-Length; −1: not said
    int64_t linked_size;              // X-Linked-Size; −1
    int64_t range_begin, range_total; // of Content-Range; −1
    int64_t retry_after;              // seconds; −1
    char etag[160], linked_etag[160]; // without quotes and W/; "" where there is none
    bool weak;                        // the ETag is a weak one
    char commit[80];                  // X-Repo-Commit
    char coding[32];                  // Content-Encoding
    char problem[200];                // X-Error-Message, or the network's fault
    char fault_code[40];              // X-Error-Code
    char location[4096];              // where a redirection leads, absolute; ""
    bool lost;                        // the connection failed or broke, now or in the body
} HttpAnswer;

typedef struct HttpRequest {
    const char *url;
    bool head;
    const char *token;    // NULL: none is sent
    int64_t from;         // > 0: the bytes from there on
    const char *if_range; // only if the ETag is still this; NULL: in any case
    // The body of answers 200 and 206, piece by piece; others' bodies go. The first failure ends
    // the request.
    hone_status (*body)(void *user, const HttpAnswer *answer, const void *bytes, size_t length,
                        HoneError *err);
    bool (*go_on)(void *user); // asked at least once a second; false: HONE_INTERRUPTED
    void *user;
} HttpRequest;

hone_status hone_http_open(HttpClient **client, HoneError *err); // Caller closes
void hone_http_close(HttpClient *client);                        // NULL is allowed
// HONE_OK: there is an answer, of whatever status, or answer->lost says why there is not. Only
// http and https, TLS verified.
hone_status hone_http_ask(HttpClient *client, const HttpRequest *request, HttpAnswer *answer,
                          HoneError *err);
bool hone_http_same_origin(const char *a, const char *b); // scheme, host and port
// The token may be sent there: over TLS, or to this machine.
bool hone_http_is_private(const char *url);
bool hone_http_is_secure(const char *url); // https
// `text` with all but letters, digits and "-._~" (and `keep`) as %XX. Caller frees with hone_free.
char *hone_http_escape(const char *text, const char *keep);

#endif
