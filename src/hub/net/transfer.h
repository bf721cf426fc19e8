// SPDX-License-Identifier: Apache-2.0
// What a pull is made of: requests that follow redirections and try again, and files that go on
// where they stopped.
#ifndef HONE_HUB_NET_TRANSFER_H
#define HONE_HUB_NET_TRANSFER_H

#include "base/text.h"
#include "hub/net/http.h"
#include "hub/net/listing.h"
#include "hub/pull.h"

typedef struct Puller {
    const PullRequest *request;
    HttpClient *client;
    const char *token;  // NULL: none
    char *endpoint;     // without a slash at the end
    char *hub, *folder; // the cache, and the repository's folder in it
    Listing listing;
    PullStep step;
    int64_t received;
    HoneError *err;
} Puller;

// Tell the step; HONE_INTERRUPTED when it says stop.
hone_status hone_puller_tell(Puller *puller, const char *note);

// The request at `url` and where it leads, tried again while there is hope: at 429 and 5xx, and
// where the connection broke. The token goes to the endpoint's own host alone. HONE_OK: an answer
// of status 200 or 206 has come whole; or 416; or, with `stop_elsewhere`, one that leads to another
// host (answer->location).
hone_status hone_puller_ask(Puller *puller, const HttpRequest *request, const char *url,
                            bool stop_elsewhere, HttpAnswer *answer);
// A text of at most `limit` bytes, appended.
hone_status hone_puller_text(Puller *puller, const char *url, size_t limit, TextBuffer *text);
// The file as blobs/ETAG, verified, and the link to it in the snapshot.
hone_status hone_puller_file(Puller *puller, const HubFile *file);

#endif
