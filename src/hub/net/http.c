// SPDX-License-Identifier: Apache-2.0
#include "hub/net/http.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "base/text.h"

struct HttpClient {
    CURL *curl;
};

typedef struct Exchange {
    const HttpRequest *request;
    HttpAnswer *answer;
    HoneError *err;
    hone_status status;
    bool stopped;
} Exchange;

hone_status hone_http_open(HttpClient **client, HoneError *err) {
    *client = hone_calloc(1, sizeof **client);
    if (!*client) return hone_fail_memory(err, sizeof **client, "a connection");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) {
        (*client)->curl = curl_easy_init();
        if ((*client)->curl) return HONE_OK;
        curl_global_cleanup();
    }
    hone_free(*client);
    *client = NULL;
    return hone_fail(err, HONE_ERROR_IO, "libcurl cannot be started");
}

void hone_http_close(HttpClient *client) {
    if (!client) return;
    curl_easy_cleanup(client->curl);
    curl_global_cleanup();
    hone_free(client);
}

// ---- the answer's headers ----------------------------------------------------------------------

// The value of "NAME: value" into out; false: another header.
static bool header(const char *line, size_t length, const char *name, char *out, size_t room) {
    size_t bytes = strlen(name);
    if (length <= bytes || strncasecmp(line, name, bytes) != 0 || line[bytes] != ':') return false;
    const char *from = line + bytes + 1, *to = line + length;
    while (from < to && (*from == ' ' || *from == '\t')) from++;
    while (to > from && strchr(" \t\r\n", to[-1])) to--;
    size_t kept = (size_t)(to - from) < room ? (size_t)(to - from) : room - 1;
    memcpy(out, from, kept);
    out[kept] = '\0';
    return true;
}

// The number that text begins with; −1: none, or one beyond 62 bits.
static int64_t number(const char *text) {
    char *end;
    if (*text < '0' || *text > '9') return -1;
    unsigned long long value = strtoull(text, &end, 10);
    return value < (1ull << 62) ? (int64_t)value : -1;
}

// "abc" or W/"abc" to abc.
static void unquote(char *etag, bool *weak) {
    char *from = etag;
    if (strncmp(from, "W/", 2) == 0) {
        from += 2;
        if (weak) *weak = true;
    }
    size_t length = strlen(from);
    if (length >= 2 && from[0] == '"' && from[length - 1] == '"') {
        from++;
        length -= 2;
    }
    memmove(etag, from, length);
    etag[length] = '\0';
}

static void start_answer(HttpAnswer *answer) {
    *answer = (HttpAnswer){
        .length = -1, .linked_size = -1, .range_begin = -1, .range_total = -1, .retry_after = -1};
}

static size_t on_header(char *line, size_t size, size_t count, void *user) {
    HttpAnswer *answer = ((Exchange *)user)->answer;
    const size_t length = size * count;
    char text[256];
    if (length > 5 && strncasecmp(line, "HTTP/", 5) == 0) start_answer(answer); // not a 100's
    if (header(line, length, "Content-Length", text, sizeof text)) answer->length = number(text);
    if (header(line, length, "X-Linked-Size", text, sizeof text))
        answer->linked_size = number(text);
    if (header(line, length, "Retry-After", text, sizeof text)) answer->retry_after = number(text);
    if (header(line, length, "Content-Range", text, sizeof text) &&
        strncasecmp(text, "bytes ", 6) == 0) {
        const char *total = strchr(text, '/');
        answer->range_begin = number(text + 6);
        answer->range_total = total ? number(total + 1) : -1;
    }
    if (header(line, length, "ETag", answer->etag, sizeof answer->etag))
        unquote(answer->etag, &answer->weak);
    if (header(line, length, "X-Linked-ETag", answer->linked_etag, sizeof answer->linked_etag))
        unquote(answer->linked_etag, NULL);
    header(line, length, "X-Repo-Commit", answer->commit, sizeof answer->commit);
    header(line, length, "Content-Encoding", answer->coding, sizeof answer->coding);
    header(line, length, "X-Error-Message", answer->problem, sizeof answer->problem);
    header(line, length, "X-Error-Code", answer->fault_code, sizeof answer->fault_code);
    return length;
}

// ---- the body ----------------------------------------------------------------------------------

static size_t on_body(char *bytes, size_t size, size_t count, void *user) {
    Exchange *exchange = user;
    const size_t length = size * count;
    long code = exchange->answer->status;
    if (code == 0) return 0;
    if ((code != 200 && code != 206) || !exchange->request->body) return length;
    if (exchange->status == HONE_OK)
        exchange->status = exchange->request->body(exchange->request->user, exchange->answer, bytes,
                                                   length, exchange->err);
    return exchange->status == HONE_OK ? length : 0;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    Exchange *exchange = user;
    (void)a, (void)b, (void)c, (void)d;
    const HttpRequest *request = exchange->request;
    if (request->go_on && !request->go_on(request->user)) exchange->stopped = true;
    return exchange->stopped;
}

// The status is wanted while the body comes.
static size_t on_header_line(char *line, size_t size, size_t count, void *user) {
    Exchange *exchange = user;
    size_t taken = on_header(line, size, count, user);
    if (size * count > 9 && strncasecmp(line, "HTTP/", 5) == 0) {
        const char *space = memchr(line, ' ', size * count);
        if (space) exchange->answer->status = (int)number(space + 1);
    }
    return taken;
}

// ---- the request -------------------------------------------------------------------------------

static bool add_header(struct curl_slist **list, const char *name, const char *value) {
    TextBuffer line = {0};
    hone_text_printf(&line, "%s: %s", name, value);
    struct curl_slist *grown = line.failed ? NULL : curl_slist_append(*list, line.data);
    hone_text_free(&line);
    if (grown) *list = grown;
    return grown != NULL;
}

static bool request_headers(const HttpRequest *request, struct curl_slist **list) {
    char range[64], etag[192];
    bool fine = add_header(list, "Accept-Encoding", "identity");
    if (request->token) {
        TextBuffer bearer = {0};
        hone_text_printf(&bearer, "Bearer %s", request->token);
        fine = fine && !bearer.failed && add_header(list, "Authorization", bearer.data);
        hone_text_free(&bearer);
    }
    if (request->from > 0) {
        snprintf(range, sizeof range, "bytes=%lld-", (long long)request->from);
        fine = fine && add_header(list, "Range", range);
        if (request->if_range) {
            snprintf(etag, sizeof etag, "\"%s\"", request->if_range);
            fine = fine && add_header(list, "If-Range", etag);
        }
    }
    return fine;
}

static void set_options(CURL *curl, const HttpRequest *request, Exchange *exchange,
                        struct curl_slist *headers, char *problem) {
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, request->url);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "hone/" HONE_VERSION);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 30L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L); // bytes a second …
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 60L); // … for a minute: the line is dead
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_NOBODY, request->head ? 1L : 0L);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header_line);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, exchange);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, exchange);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, exchange);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem);
    const char *authorities = getenv("CURL_CA_BUNDLE");
    if (!authorities || !*authorities) authorities = getenv("SSL_CERT_FILE");
    if (authorities && *authorities) curl_easy_setopt(curl, CURLOPT_CAINFO, authorities);
}

hone_status hone_http_ask(HttpClient *client, const HttpRequest *request, HttpAnswer *answer,
                          HoneError *err) {
    Exchange exchange = {.request = request, .answer = answer, .err = err};
    char problem[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    start_answer(answer);
    if (!request_headers(request, &headers)) {
        curl_slist_free_all(headers);
        return hone_fail_memory(err, 0, "a request");
    }
    set_options(client->curl, request, &exchange, headers, problem);
    CURLcode code = curl_easy_perform(client->curl);
    char *location = NULL;
    curl_easy_getinfo(client->curl, CURLINFO_REDIRECT_URL, &location);
    if (location && strlen(location) < sizeof answer->location)
        memcpy(answer->location, location, strlen(location) + 1);
    curl_slist_free_all(headers);
    if (exchange.stopped) return hone_fail(err, HONE_INTERRUPTED, "stopped");
    RETURN_IF_ERROR(exchange.status);
    if (code == CURLE_OK) return HONE_OK;
    if (code == CURLE_OUT_OF_MEMORY) return hone_fail_memory(err, 0, "a request");
    if (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: is no http or https address", request->url);
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        return hone_fail(err, HONE_ERROR_IO, "%s: who answers cannot be trusted: %s", request->url,
                         problem);
    answer->lost = true;
    snprintf(answer->problem, sizeof answer->problem, "%s",
             *problem ? problem : curl_easy_strerror(code));
    return HONE_OK;
}

// ---- addresses ---------------------------------------------------------------------------------

typedef struct Origin {
    char *scheme, *host, *port;
} Origin;

static void origin_free(Origin *origin) {
    curl_free(origin->scheme);
    curl_free(origin->host);
    curl_free(origin->port);
}

static bool origin_of(const char *url, Origin *origin) {
    *origin = (Origin){0};
    CURLU *parsed = curl_url();
    bool fine =
        parsed && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_SCHEME, &origin->scheme, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_HOST, &origin->host, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_PORT, &origin->port, CURLU_DEFAULT_PORT) == CURLUE_OK;
    curl_url_cleanup(parsed);
    return fine;
}

bool hone_http_same_origin(const char *a, const char *b) {
    Origin one, other;
    bool read_a = origin_of(a, &one), read_b = origin_of(b, &other);
    bool same = read_a && read_b && strcasecmp(one.scheme, other.scheme) == 0 &&
                strcasecmp(one.host, other.host) == 0 && strcmp(one.port, other.port) == 0;
    origin_free(&one);
    origin_free(&other);
    return same;
}

bool hone_http_is_secure(const char *url) {
    return strncasecmp(url, "https://", 8) == 0;
}

bool hone_http_is_private(const char *url) {
    if (hone_http_is_secure(url)) return true;
    Origin origin;
    bool local =
        origin_of(url, &origin) && (strcasecmp(origin.host, "localhost") == 0 ||
                                    (strncmp(origin.host, "127.", 4) == 0 &&
                                     origin.host[strspn(origin.host, "0123456789.")] == '\0') ||
                                    strcmp(origin.host, "[::1]") == 0);
    origin_free(&origin);
    return local;
}

char *hone_http_escape(const char *text, const char *keep) {
    TextBuffer out = {0};
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     strchr("-._~", c) || strchr(keep, c);
        if (plain)
            hone_text_append(&out, text, 1);
        else
            hone_text_printf(&out, "%%%02X", c);
    }
    if (!out.failed) return out.data ? out.data : hone_strdup("");
    hone_text_free(&out);
    return NULL;
}
