// SPDX-License-Identifier: Apache-2.0
#include "hub/net/transfer.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { HOPS = 10, TRIES = 5, LONGEST_WAIT = 300 };

hone_status hone_puller_tell(Puller *puller, const char *note) {
    puller->step.received = puller->received;
    puller->step.note = note;
    const PullRequest *request = puller->request;
    bool go_on = !request->step || request->step(request->user, &puller->step);
    puller->step.note = NULL;
    return go_on ? HONE_OK : hone_fail(puller->err, HONE_INTERRUPTED, "stopped");
}

// ---- redirections ------------------------------------------------------------------------------

static bool is_redirection(int status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static hone_status check_redirection(Puller *puller, const char *from, const char *to) {
    bool plain = strncasecmp(to, "http://", 7) == 0;
    if (!plain && !hone_http_is_secure(to))
        return hone_fail(puller->err, HONE_ERROR_INPUT,
                         "%s: sends on to \"%.*s\", which is no http or https address", from,
                         hone_excerpt(to), to);
    if (plain && hone_http_is_secure(from))
        return hone_fail(puller->err, HONE_ERROR_INPUT,
                         "%s: sends on from https to \"%.*s\", which anybody can read and change",
                         from, hone_excerpt(to), to);
    return HONE_OK;
}

static hone_status follow(Puller *puller, const HttpRequest *request, const char *url,
                          bool stop_elsewhere, HttpAnswer *answer) {
    char current[sizeof answer->location], commit[sizeof answer->commit] = "";
    snprintf(current, sizeof current, "%s", url);
    for (int hop = 0; hop <= HOPS; hop++) {
        HttpRequest one = *request;
        const bool home = hone_http_same_origin(puller->endpoint, current);
        one.url = current;
        one.token = home && hone_http_is_private(current) ? puller->token : NULL;
        RETURN_IF_ERROR(hone_http_ask(puller->client, &one, answer, puller->err));
        if (!answer->commit[0]) memcpy(answer->commit, commit, sizeof commit);
        memcpy(commit, answer->commit, sizeof commit);
        if (answer->lost || !is_redirection(answer->status)) return HONE_OK;
        RETURN_IF_ERROR(check_redirection(puller, current, answer->location));
        if (stop_elsewhere && !hone_http_same_origin(current, answer->location)) return HONE_OK;
        memcpy(current, answer->location, sizeof current);
    }
    return hone_fail(puller->err, HONE_ERROR_INPUT, "%s: sends on more than %d times", url, HOPS);
}

// ---- trying again ------------------------------------------------------------------------------

static hone_status refused(Puller *puller, const char *url, const HttpAnswer *answer) {
    const char *repository = puller->request->repository, *said = answer->problem;
    const char *mark = *said ? ": " : "";
    if (answer->lost) return hone_fail(puller->err, HONE_ERROR_IO, "%s: %s", url, said);
    switch (answer->status) {
    case 401:
    case 403:
        return hone_fail(puller->err, HONE_ERROR_INPUT,
                         "%s: the hub answers %d%s%s: there is no such repository, or it is not "
                         "open to everybody; %s",
                         repository, answer->status, mark, said,
                         puller->token ? "this token may not read it: accept its terms on its page"
                                       : "HF_TOKEN or \"hf auth login\" gives a token");
    case 404:
        return hone_fail(puller->err, HONE_ERROR_INPUT, "%s: the hub has it not (404%s%s): %s",
                         repository, mark, said, url);
    default:
        return hone_fail(puller->err, answer->status >= 500 ? HONE_ERROR_IO : HONE_ERROR_INPUT,
                         "%s: the server answers %d%s%s", url, answer->status, mark, said);
    }
}

static hone_status wait_for(Puller *puller, double seconds) {
    const struct timespec tenth = {.tv_nsec = 100000000};
    for (double waited = 0; waited < seconds; waited += 0.1) {
        RETURN_IF_ERROR(hone_puller_tell(puller, NULL));
        nanosleep(&tenth, NULL);
    }
    return HONE_OK;
}

static bool is_hopeful(const HttpAnswer *answer, bool answered) {
    if (answer->lost) return answered; // nobody there at the first word: the address is wrong
    return answer->status == 429 || answer->status == 408 ||
           (answer->status >= 500 && answer->status != 501 && answer->status != 505);
}

hone_status hone_puller_ask(Puller *puller, const HttpRequest *request, const char *url,
                            bool stop_elsewhere, HttpAnswer *answer) {
    for (int tries = 1;; tries++) {
        int64_t before = puller->received;
        RETURN_IF_ERROR(follow(puller, request, url, stop_elsewhere, answer));
        const bool fine = answer->status == 200 || answer->status == 206 || answer->status == 416 ||
                          (stop_elsewhere && is_redirection(answer->status));
        // A body that broke off is its reader's to go on with: what was asked is no longer right.
        if (fine && (!answer->lost || puller->received > before)) return HONE_OK;
        if (!is_hopeful(answer, answer->status != 0 || puller->listing.count > 0) ||
            tries == TRIES || answer->retry_after > LONGEST_WAIT)
            return refused(puller, url, answer);
        char note[300];
        double seconds =
            answer->retry_after >= 0 ? (double)answer->retry_after : 0.25 * (1 << tries);
        snprintf(note, sizeof note, "%s, trying again in %g s",
                 answer->lost ? answer->problem : "the server is busy", seconds);
        RETURN_IF_ERROR(hone_puller_tell(puller, note));
        RETURN_IF_ERROR(wait_for(puller, seconds));
    }
}

// ---- texts -------------------------------------------------------------------------------------

typedef struct TextBody {
    Puller *puller;
    TextBuffer *text;
    size_t limit;
    const HttpAnswer *answer; // of which the text is
} TextBody;

static hone_status refuse_coding(const HttpAnswer *answer, HoneError *err) {
    if (!answer->coding[0] || strcasecmp(answer->coding, "identity") == 0) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT,
                     "the server sends it as %s, and was asked for it as it is", answer->coding);
}

static hone_status take_text(void *user, const HttpAnswer *answer, const void *bytes, size_t length,
                             HoneError *err) {
    TextBody *body = user;
    RETURN_IF_ERROR(refuse_coding(answer, err));
    if (length > body->limit - body->text->length)
        return hone_fail(err, HONE_ERROR_INPUT, "the server's answer has more than %zu bytes",
                         body->limit);
    hone_text_append(body->text, bytes, length);
    return body->text->failed ? hone_fail_memory(err, body->text->length, "an answer") : HONE_OK;
}

static bool text_goes_on(void *user) {
    return hone_puller_tell(((TextBody *)user)->puller, NULL) == HONE_OK;
}

hone_status hone_puller_text(Puller *puller, const char *url, size_t limit, TextBuffer *text) {
    HttpAnswer answer;
    TextBody body = {.puller = puller, .text = text, .limit = limit};
    HttpRequest request = {.body = take_text, .go_on = text_goes_on, .user = &body};
    for (int tries = 1;; tries++) {
        hone_text_clear(text);
        RETURN_IF_ERROR(hone_puller_ask(puller, &request, url, false, &answer));
        if (answer.status == 200 && !answer.lost) return HONE_OK;
        if (tries == TRIES || answer.status != 200) return refused(puller, url, &answer);
    }
}
