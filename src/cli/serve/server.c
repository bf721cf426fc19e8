// SPDX-License-Identifier: Apache-2.0
// The connections: what libmicrohttpd calls, and the server's beginning and end.
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "server.h"

extern const unsigned char hone_serve_page[];

// Seconds without a byte from or for a client; connections at once; a body this many times over
// the limit is not even swallowed any more.
enum { IDLE_SECONDS = 60, CONNECTION_LIMIT = 512, SWALLOW = 16 };

double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void wake(Exchange *exchange) {
    if (!exchange->suspended) return;
    exchange->suspended = false;
    MHD_resume_connection(exchange->connection);
}

void release(Exchange *exchange) {
    if (--exchange->owners > 0) return;
    free(exchange->messages);
    free(exchange->adapter.path);
    json_decref(exchange->request);
    json_decref(exchange->made);
    bytes_free(&exchange->body);
    bytes_free(&exchange->out);
    free(exchange);
}

// ---- answers -----------------------------------------------------------------------------------

// More of a stream; with nothing to send the connection sleeps until the worker wakes it.
static ssize_t read_stream(void *user, uint64_t position, char *buffer, size_t room) {
    Exchange *exchange = user;
    Bytes *out = &exchange->out;
    (void)position;
    pthread_mutex_lock(&exchange->server->mutex);
    size_t count = out->length - out->taken;
    ssize_t result = 0;
    if (count > room) count = room;
    if (count) {
        memcpy(buffer, out->data + out->taken, count);
        out->taken += count;
        result = (ssize_t)count;
    } else if (out->failed) {
        result = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (exchange->stage == STAGE_ANSWERED) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        exchange->suspended = true;
        MHD_suspend_connection(exchange->connection);
    }
    pthread_mutex_unlock(&exchange->server->mutex);
    return result;
}

static enum MHD_Result send_response(Exchange *exchange, struct MHD_Response *response,
                                     const char *type, const char *allow) {
    if (!response) return MHD_NO;
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (strncmp(type, "text/html", 9) == 0)
        MHD_add_response_header(response, "Content-Security-Policy",
                                "default-src 'none'; style-src 'unsafe-inline'; script-src "
                                "'unsafe-inline'; connect-src 'self'; img-src data:; "
                                "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    if (allow) MHD_add_response_header(response, "Allow", allow);
    if (exchange->status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (exchange->status == 429 || exchange->status == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(response, "Retry-After", "2");
    const enum MHD_Result result =
        MHD_queue_response(exchange->connection, exchange->status, response);
    MHD_destroy_response(response);
    return result;
}

// What lies in `out`, whole.
static enum MHD_Result send_whole(Exchange *exchange, const char *type, const char *allow) {
    Bytes out = exchange->out;
    exchange->out = (Bytes){0};
    if (out.failed || !out.data) {
        bytes_free(&out);
        return MHD_NO;
    }
    return send_response(
        exchange, MHD_create_response_from_buffer(out.length, out.data, MHD_RESPMEM_MUST_FREE),
        type, allow);
}

static enum MHD_Result send_answer(Exchange *exchange) {
    pthread_mutex_lock(&exchange->server->mutex);
    const bool whole = !exchange->stream || exchange->status != MHD_HTTP_OK;
    pthread_mutex_unlock(&exchange->server->mutex);
    if (whole) return send_whole(exchange, "application/json", NULL);
    return send_response(
        exchange,
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, read_stream, exchange, NULL),
        "text/event-stream", NULL);
}

static enum MHD_Result send_text(Exchange *exchange, const char *text, const char *type) {
    exchange->status = MHD_HTTP_OK;
    exchange->stage = STAGE_ANSWERED;
    bytes_append(&exchange->out, text, strlen(text));
    return send_whole(exchange, type, NULL);
}

static enum MHD_Result send_models(Exchange *exchange, const char *only) {
    char *text = models_json(exchange->server, only);
    if (!text) {
        answer_error(exchange, MHD_HTTP_NOT_FOUND, "model_not_found", "model",
                     "there is no model \"%s\"", only ? only : "");
        return send_whole(exchange, "application/json", NULL);
    }
    const enum MHD_Result result = send_text(exchange, text, "application/json");
    free(text);
    return result;
}

static enum MHD_Result send_health(Exchange *exchange) {
    char text[96];
    Server *server = exchange->server;
    pthread_mutex_lock(&server->mutex);
    snprintf(text, sizeof text, "{\"status\":\"ok\",\"waiting\":%lld,\"open\":%lld}",
             (long long)server->waiting, (long long)server->open);
    pthread_mutex_unlock(&server->mutex);
    return send_text(exchange, text, "application/json");
}

// ---- requests ----------------------------------------------------------------------------------

// The whole request is there.
static enum MHD_Result dispatch(Exchange *exchange, const char *path) {
    static const char one[] = "/v1/models/";
    const bool get = strcmp(exchange->method, "GET") == 0 || strcmp(exchange->method, "HEAD") == 0;
    const bool chat = strcmp(path, "/v1/chat/completions") == 0;
    const bool asks = chat || strcmp(path, "/v1/completions") == 0;
    const bool page = strcmp(path, "/") == 0, health = strcmp(path, "/health") == 0;
    const bool list = strcmp(path, "/v1/models") == 0,
               single = strncmp(path, one, sizeof one - 1) == 0;
    if (!asks && !page && !health && !list && !single) {
        answer_error(exchange, MHD_HTTP_NOT_FOUND, NULL, NULL,
                     "there is nothing at this path: /v1/chat/completions, /v1/completions, "
                     "/v1/models, /health");
        return send_whole(exchange, "application/json", NULL);
    }
    if (asks ? strcmp(exchange->method, "POST") != 0 : !get) {
        const char *allow = asks ? "POST" : "GET, HEAD";
        answer_error(exchange, MHD_HTTP_METHOD_NOT_ALLOWED, NULL, NULL, "this path wants %s",
                     allow);
        return send_whole(exchange, "application/json", allow);
    }
    if (page) return send_text(exchange, (const char *)hone_serve_page, "text/html; charset=utf-8");
    if (health) return send_health(exchange);
    if (list || single) return send_models(exchange, single ? path + sizeof one - 1 : NULL);
    exchange->chat = chat;
    if (!read_request(exchange) || !enqueue(exchange)) return send_answer(exchange);
    return MHD_YES; // asleep until the worker has something
}

static void begin_exchange(Exchange *exchange, const char *path) {
    const Server *server = exchange->server;
    const char *why = NULL;
    const unsigned refused = guard(server, exchange->connection, path, &why);
    if (refused) {
        answer_error(exchange, refused, refused == 401 ? "invalid_api_key" : NULL, NULL, "%s", why);
        return;
    }
    const char *length =
        MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, "Content-Length");
    if (length && strtoll(length, NULL, 10) > server->options->max_body)
        answer_error(exchange, STATUS_TOO_LARGE, NULL, NULL,
                     "the body has %lld bytes, at most %lld are taken (hone serve --max-body)",
                     strtoll(length, NULL, 10), (long long)server->options->max_body);
}

static Exchange *open_exchange(Server *server, struct MHD_Connection *connection,
                               const char *method, const char *path) {
    Exchange *exchange = calloc(1, sizeof *exchange);
    if (!exchange) return NULL;
    exchange->server = server;
    exchange->connection = connection;
    exchange->owners = 1;
    exchange->began = seconds_now();
    exchange->created = (long long)time(NULL);
    exchange->socket =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    snprintf(exchange->method, sizeof exchange->method, "%s", method);
    snprintf(exchange->path, sizeof exchange->path, "%s", path);
    pthread_mutex_lock(&server->mutex);
    server->open++;
    exchange->number = server->count++;
    pthread_mutex_unlock(&server->mutex);
    return exchange;
}

// A part of the body. One that is refused already is swallowed, so that the client gets to read
// why.
static enum MHD_Result take_body(Exchange *exchange, const char *data, size_t length) {
    const ServeOptions *options = exchange->server->options;
    const size_t most = (size_t)options->max_body;
    const double seconds = seconds_now() - exchange->began;
    exchange->body_seen += length;
    if (exchange->body_seen > most * SWALLOW || seconds > options->timeout + IDLE_SECONDS)
        return MHD_NO;
    if (exchange->stage != STAGE_READING) return MHD_YES;
    if (seconds > options->timeout) {
        bytes_free(&exchange->body);
        answer_error(exchange, MHD_HTTP_REQUEST_TIMEOUT, "timeout", NULL,
                     "the request took longer than %g seconds to come", options->timeout);
        return MHD_YES;
    }
    if (exchange->body_seen > most) {
        bytes_free(&exchange->body);
        answer_error(exchange, STATUS_TOO_LARGE, NULL, NULL,
                     "the body has more than %zu bytes (hone serve --max-body)", most);
        return MHD_YES;
    }
    bytes_append(&exchange->body, data, length);
    return exchange->body.failed ? MHD_NO : MHD_YES;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *length, void **state) {
    Server *server = user;
    Exchange *exchange = *state;
    (void)version;
    if (!exchange) {
        *state = exchange = open_exchange(server, connection, method, path);
        if (!exchange) return MHD_NO;
        begin_exchange(exchange, path);
        const char *said =
            MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");
        const bool huge = said && strtoll(said, NULL, 10) / SWALLOW > server->options->max_body;
        return huge ? send_answer(exchange) : MHD_YES;
    }
    if (*length) {
        const enum MHD_Result result = take_body(exchange, data, *length);
        *length = 0;
        return result;
    }
    pthread_mutex_lock(&server->mutex);
    const ExchangeStage stage = exchange->stage;
    pthread_mutex_unlock(&server->mutex);
    return stage == STAGE_READING ? dispatch(exchange, path) : send_answer(exchange);
}

static void tell(const Exchange *exchange, double seconds) {
    if (exchange->server->options->common.json) {
        printf("{\"event\":\"request\",\"method\":");
        print_json_text(stdout, exchange->method);
        printf(",\"path\":");
        print_json_text(stdout, exchange->path);
        printf(",\"status\":%u,\"seconds\":%.3f,\"model\":", exchange->status, seconds);
        print_json_text(stdout, *exchange->model ? exchange->model : NULL);
        printf(",\"prompt_tokens\":%lld,\"completion_tokens\":%lld}\n",
               (long long)exchange->prompt_tokens, (long long)exchange->answer_tokens);
        fflush(stdout);
        return;
    }
    char clock[16];
    struct tm local;
    const time_t now = time(NULL);
    strftime(clock, sizeof clock, "%H:%M:%S", localtime_r(&now, &local));
    flockfile(stderr);
    fprintf(stderr, "%s %u %s ", clock, exchange->status, exchange->method);
    plain_text(stderr, exchange->path, strlen(exchange->path));
    if (*exchange->model) {
        fputc(' ', stderr);
        plain_text(stderr, exchange->model, strlen(exchange->model));
    }
    if (exchange->answer_tokens)
        fprintf(stderr, ", %lld + %lld tokens", (long long)exchange->prompt_tokens,
                (long long)exchange->answer_tokens);
    fprintf(stderr, ", %.2f s\n", seconds);
    funlockfile(stderr);
}

static void on_completed(void *user, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code) {
    Server *server = user;
    Exchange *exchange = *state;
    (void)connection, (void)code;
    *state = NULL;
    if (!exchange) return;
    pthread_mutex_lock(&server->mutex);
    exchange->gone = true;
    server->open--;
    tell(exchange, seconds_now() - exchange->began);
    release(exchange);
    pthread_mutex_unlock(&server->mutex);
}

// ---- beginning and end -------------------------------------------------------------------------

// A listening socket, -1 after saying what is wrong.
static int listen_at(const char *host, int port) {
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;
    const int failed = getaddrinfo(host, service, &hints, &found);
    if (failed) {
        fprintf(stderr, "hone serve: --host %s: %s\n", host, gai_strerror(failed));
        return -1;
    }
    const int on = 1;
    const int made = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool ready = made >= 0 &&
                       setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                       bind(made, found->ai_addr, found->ai_addrlen) == 0 && listen(made, 128) == 0;
    const int why = errno;
    freeaddrinfo(found);
    if (ready) return made;
    fprintf(stderr, "hone serve: cannot listen at %s port %d: %s%s\n", host, port, strerror(why),
            why == EADDRINUSE ? " (--port takes another, 0 any free one)" : "");
    if (made >= 0) close(made);
    return -1;
}

static bool start(Server *server, int socket_number) {
    // poll, for it is level-triggered: with epoll libmicrohttpd 0.9.75 overlooks a client that
    // closes right behind a part of its body, and sometimes every client after it.
    server->daemon = MHD_start_daemon(
        MHD_USE_POLL | MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
        on_request, server, MHD_OPTION_LISTEN_SOCKET, socket_number, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, server, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTION_LIMIT, MHD_OPTION_END);
    if (!server->daemon) {
        fprintf(stderr, "hone serve: libmicrohttpd cannot be started: %s\n", strerror(errno));
        close(socket_number);
        return false;
    }
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    char service[16] = "";
    if (getsockname(socket_number, (struct sockaddr *)&address, &length) == 0)
        getnameinfo((struct sockaddr *)&address, length, NULL, 0, service, sizeof service,
                    NI_NUMERICSERV);
    server->port = (int)strtol(service, NULL, 10);
    return true;
}

static void stop(Server *server) {
    const int listening = MHD_quiesce_daemon(server->daemon);
    if (listening >= 0) close(listening);
    for (int i = 0; i < 100; i++) { // what is answered may still be read, for two seconds
        pthread_mutex_lock(&server->mutex);
        const bool done = server->open == 0;
        pthread_mutex_unlock(&server->mutex);
        if (done) break;
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    MHD_stop_daemon(server->daemon);
}

static void greet(const Server *server) {
    const ServeOptions *options = server->options;
    char *models = models_json(server, NULL);
    const bool wide = strchr(options->host, ':') != NULL;
    char url[320];
    snprintf(url, sizeof url, wide ? "http://[%s]:%d" : "http://%s:%d", options->host,
             server->port);
    if (!is_loopback(options->host))
        fprintf(stderr, "hone serve: warning: other machines can reach this server%s\n",
                *server->key ? ", by anyone who has the key and unencrypted"
                             : ", and no key is asked for (--key-file)");
    if (options->common.json) {
        printf("{\"event\":\"ready\",\"url\":\"%s\",\"models\":%s}\n", url, models ? models : "[]");
        fflush(stdout);
    } else {
        fprintf(stderr,
                "%s is at %s (a page to try it), for OpenAI's clients at %s/v1\nCtrl-C ends\n",
                server->name, url, url);
    }
    free(models);
}

// Load the base and look at each adapter once: what cannot be used is said now.
static hone_status warm(Server *server, HoneContext *context, Pool *pool) {
    LoadedModel *loaded;
    AdapterChoice choice;
    char name[MODEL_NAME_LIMIT];
    HoneModelInfo info;
    const ServeOptions *options = server->options;
    hone_status status = pool_find(pool, &(AdapterChoice){NULL, 1}, &loaded);
    if (status != HONE_OK) return status;
    hone_model_info(loaded->model, &info);
    const int64_t usual = info.context < 8192 ? info.context : 8192;
    server->context_limit = options->context ? options->context : usual;
    if (server->context_limit > info.context) {
        fprintf(stderr,
                "hone serve: note: --context %lld is more than the model was made for: it is "
                "%lld\n",
                (long long)options->context, (long long)info.context);
        server->context_limit = info.context;
    }
    server->defaults = (HoneSampling){.temperature = (float)options->temperature,
                                      .top_p = (float)options->top_p,
                                      .top_k = (int)options->top_k};
    if (options->own_sampling) hone_model_sampling(loaded->model, &server->defaults);
    for (int i = options->adapters.count - 1; i >= 0 && status == HONE_OK; i--) {
        given_adapter(server, i, &choice, name);
        status = choice.path ? pool_find(pool, &choice, &loaded) : HONE_ERROR_MEMORY;
        free(choice.path);
    }
    if (status == HONE_OK && options->folder) try_adapters(server, context);
    return status;
}

int serve(HoneContext *context, const ServeOptions *options) {
    Server server = {
        .options = options, .mutex = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};
    if (!read_key(options, server.key) || !check_adapter_names(&server)) return EXIT_USAGE;
    char *name = options->name ? strdup(options->name) : name_of_path(options->model);
    Pool *pool = pool_create(context, options);
    int status = EXIT_WORK;
    if (!name || !pool) {
        fprintf(stderr, "hone serve: out of memory\n");
    } else {
        server.name = name;
        const hone_status warmed = warm(&server, context, pool);
        if (warmed != HONE_OK) {
            status = report_failure("serve", context, warmed);
        } else {
            signal(SIGPIPE, SIG_IGN);
            const int listening = listen_at(options->host, (int)options->port);
            if (listening >= 0 && start(&server, listening)) {
                greet(&server);
                work(&server, context, pool);
                stop(&server);
                status = EXIT_DONE;
            }
        }
    }
    pool_free(pool);
    forget_refused(&server);
    free(name);
    pthread_mutex_destroy(&server.mutex);
    pthread_cond_destroy(&server.work);
    return status;
}
