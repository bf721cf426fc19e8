// SPDX-License-Identifier: Apache-2.0
// The thread that has the model: it takes one request after the other out of the queue.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "server.h"

// ---- models ------------------------------------------------------------------------------------

typedef struct Held {
    AdapterChoice choice;
    struct timespec changed; // the adapter's file, as it was loaded
    ino_t file;
    LoadedModel loaded;
    uint64_t used;
} Held;

struct Pool {
    HoneContext *context;
    const ServeOptions *options;
    uint64_t uses;
    int count;
    Held held[64];
};

Pool *pool_create(HoneContext *context, const ServeOptions *options) {
    Pool *pool = calloc(1, sizeof *pool);
    if (!pool) return NULL;
    pool->context = context;
    pool->options = options;
    return pool;
}

static void drop(Pool *pool, int at) {
    free(pool->held[at].choice.path);
    unload_model(&pool->held[at].loaded);
    pool->held[at] = pool->held[--pool->count];
}

void pool_free(Pool *pool) {
    if (!pool) return;
    while (pool->count) drop(pool, pool->count - 1);
    free(pool);
}

static bool is_same(const AdapterChoice *a, const AdapterChoice *b) {
    if (!a->path || !b->path) return a->path == b->path;
    return strcmp(a->path, b->path) == 0 && a->weight == b->weight;
}

hone_status pool_find(Pool *pool, const AdapterChoice *choice, LoadedModel **found) {
    struct timespec changed;
    ino_t file;
    look_at_adapter(choice->path, &changed, &file);
    for (int i = 0; i < pool->count; i++) {
        Held *held = &pool->held[i];
        if (!is_same(&held->choice, choice)) continue;
        if (held->file != file || held->changed.tv_sec != changed.tv_sec ||
            held->changed.tv_nsec != changed.tv_nsec) {
            drop(pool, i);
            break;
        }
        held->used = ++pool->uses;
        *found = &held->loaded;
        return HONE_OK;
    }
    if (pool->count == pool->options->keep) {
        int oldest = 0;
        for (int i = 1; i < pool->count; i++)
            if (pool->held[i].used < pool->held[oldest].used) oldest = i;
        drop(pool, oldest);
    }
    Held made = {.choice = {choice->path ? strdup(choice->path) : NULL, choice->weight},
                 .changed = changed,
                 .file = file,
                 .used = ++pool->uses};
    hone_status status = load_model(pool->context, pool->options->model,
                                    pool->options->template_path, NULL, &made.loaded);
    if (status == HONE_OK && choice->path)
        status = hone_model_add_adapter(made.loaded.model, choice->path, (float)choice->weight);
    pool->held[pool->count] = made;
    *found = &pool->held[pool->count++].loaded;
    if (status != HONE_OK) { // freed without touching the message
        free(made.choice.path);
        unload_model(&made.loaded);
        pool->count--;
    }
    return status;
}

// ---- one answer --------------------------------------------------------------------------------

typedef struct Answer {
    Exchange *exchange;
    Bytes text;      // taken: how much of it was sent
    size_t searched; // no stop begins before
    bool stopped, cut, late;
} Answer;

// Has the client closed its side? A suspended connection is not watched by libmicrohttpd.
static bool is_gone(const Exchange *exchange) {
    char byte;
    if (exchange->gone) return true;
    if (!exchange->suspended) return false;
    const ssize_t got = recv(exchange->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

// Cut the text at the first stop, if there is one.
static bool find_stop(Answer *answer) {
    const Exchange *exchange = answer->exchange;
    Bytes *text = &answer->text;
    size_t longest = 1, best = SIZE_MAX;
    for (int i = 0; i < exchange->stop_count; i++) {
        const size_t length = strlen(exchange->stop[i]);
        const char *at = text->data
                             ? memmem(text->data + answer->searched,
                                      text->length - answer->searched, exchange->stop[i], length)
                             : NULL;
        if (length > longest) longest = length;
        if (at && (size_t)(at - text->data) < best) best = (size_t)(at - text->data);
    }
    if (best != SIZE_MAX) text->length = best;
    answer->searched = text->length >= longest ? text->length - longest + 1 : 0;
    return best != SIZE_MAX;
}

// How much of the text cannot become part of a stop any more, and cuts no character.
static size_t safe_length(const Answer *answer) {
    const Exchange *exchange = answer->exchange;
    const Bytes *text = &answer->text;
    size_t safe = text->length;
    for (int i = 0; i < exchange->stop_count; i++) {
        size_t part = strlen(exchange->stop[i]) - 1;
        if (part > text->length) part = text->length;
        for (; part > 0; part--)
            if (memcmp(text->data + text->length - part, exchange->stop[i], part) == 0) break;
        if (text->length - part < safe) safe = text->length - part;
    }
    for (size_t back = 1; back <= 3 && back <= safe; back++) {
        const unsigned char c = (unsigned char)text->data[safe - back];
        if ((c & 0xc0) == 0x80) continue;
        const size_t bytes = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        return bytes > back ? safe - back : safe;
    }
    return safe;
}

// With the mutex held.
static void begin_stream(Exchange *exchange) {
    if (exchange->stage != STAGE_WAITING) return;
    exchange->stage = STAGE_STREAMING;
    exchange->status = MHD_HTTP_OK;
    if (exchange->chat) write_chunk(exchange, &exchange->out, NULL, 0, NULL);
}

static void send_text(Answer *answer, size_t until) {
    Exchange *exchange = answer->exchange;
    Bytes *text = &answer->text;
    begin_stream(exchange);
    if (until > text->taken) {
        write_chunk(exchange, &exchange->out, text->data + text->taken, until - text->taken, NULL);
        text->taken = until;
    }
    wake(exchange);
}

static bool on_token(void *user, int32_t token, const char *bytes, size_t length) {
    Answer *answer = user;
    Exchange *exchange = answer->exchange;
    Bytes *text = &answer->text;
    (void)token;
    const size_t sent = text->taken; // bytes_append starts anew when all was taken
    text->taken = 0;
    bytes_append(text, length ? bytes : "", length);
    text->taken = sent;
    answer->stopped = find_stop(answer);
    pthread_mutex_lock(&exchange->server->mutex);
    exchange->answer_tokens++;
    const bool gone = is_gone(exchange);
    if (exchange->stream && !gone)
        send_text(answer, answer->stopped ? text->length : safe_length(answer));
    pthread_mutex_unlock(&exchange->server->mutex);
    answer->late = seconds_now() - exchange->began > exchange->server->options->timeout;
    answer->cut = gone || was_interrupted();
    return !answer->stopped && !answer->cut && !answer->late && !text->failed;
}

static unsigned status_of(hone_status failure) {
    switch (failure) {
    case HONE_ERROR_ARGUMENT:
    case HONE_ERROR_INPUT:
    case HONE_ERROR_UNSUPPORTED:
        return MHD_HTTP_BAD_REQUEST; // the template refuses the messages, …
    case HONE_ERROR_MEMORY:
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    default:
        return MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
}

// With the mutex held.
static void finish(Answer *answer, const HoneGenerated *result) {
    Exchange *exchange = answer->exchange;
    const bool ended = result->ended || answer->stopped;
    const char *reason = ended ? "stop" : "length";
    exchange->prompt_tokens = result->prompt_tokens;
    exchange->answer_tokens = result->count;
    if (was_interrupted() && !ended) {
        if (exchange->stage == STAGE_STREAMING) {
            write_stream_error(&exchange->out, "the server is ending");
            exchange->stage = STAGE_ANSWERED;
        } else {
            answer_error(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, NULL,
                         "the server is ending");
        }
    } else if (exchange->stream) {
        send_text(answer, answer->text.length);
        write_chunk(exchange, &exchange->out, "", 0, reason);
        write_stream_end(exchange, &exchange->out, result);
        exchange->stage = STAGE_ANSWERED;
    } else {
        write_answer(exchange, &exchange->out, answer->text.data, answer->text.length, reason,
                     result);
        exchange->status = MHD_HTTP_OK;
        exchange->stage = STAGE_ANSWERED;
    }
}

static void fail(Exchange *exchange, unsigned status, const char *code, const char *message) {
    pthread_mutex_lock(&exchange->server->mutex);
    if (exchange->stage == STAGE_STREAMING) {
        write_stream_error(&exchange->out, message);
        exchange->stage = STAGE_ANSWERED;
    } else {
        answer_error(exchange, status, code, NULL, "%s", message);
    }
    pthread_mutex_unlock(&exchange->server->mutex);
}

static void answer_exchange(Exchange *exchange, HoneContext *context, Pool *pool) {
    Server *server = exchange->server;
    LoadedModel *loaded;
    Answer answer = {.exchange = exchange};
    HoneGenerated result = {0};
    pthread_mutex_lock(&server->mutex);
    const bool gone = is_gone(exchange);
    pthread_mutex_unlock(&server->mutex);
    if (gone) {
        fail(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, "the client is gone");
        return;
    }
    if (seconds_now() - exchange->began > server->options->timeout) {
        fail(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, "timeout", "the request waited too long");
        return;
    }
    if (pool_find(pool, &exchange->adapter, &loaded) != HONE_OK) {
        fail(exchange, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL, hone_context_error(context));
        return;
    }
    const hone_status status =
        exchange->chat
            ? hone_generate_chat(loaded->generator, exchange->messages, exchange->message_count,
                                 &exchange->sampling, on_token, &answer, &result)
            : hone_generate_text(loaded->generator, exchange->prompt, strlen(exchange->prompt),
                                 &exchange->sampling, on_token, &answer, &result);
    if (status != HONE_OK) {
        const bool too_long = status == HONE_ERROR_ARGUMENT && result.prompt_tokens > 0;
        fail(exchange, status_of(status), too_long ? "context_length_exceeded" : NULL,
             hone_context_error(context));
    } else {
        pthread_mutex_lock(&server->mutex);
        finish(&answer, &result);
        pthread_mutex_unlock(&server->mutex);
    }
    bytes_free(&answer.text);
    hone_free(result.text);
    hone_free(result.tokens);
}

// ---- the queue ---------------------------------------------------------------------------------

// Take those whose clients have given up out of the queue. With the mutex held.
static void sweep(Server *server) {
    Exchange **link = &server->first;
    server->last = NULL;
    while (*link) {
        Exchange *exchange = *link;
        if (!is_gone(exchange)) {
            server->last = exchange;
            link = &exchange->next;
            continue;
        }
        *link = exchange->next;
        server->waiting--;
        answer_error(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, NULL, "the client is gone");
        wake(exchange);
        release(exchange);
    }
}

bool enqueue(Exchange *exchange) {
    Server *server = exchange->server;
    pthread_mutex_lock(&server->mutex);
    if (server->waiting >= server->options->queue) sweep(server);
    const bool ending = server->ending, full = server->waiting >= server->options->queue;
    if (ending) {
        answer_error(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, NULL, "the server is ending");
    } else if (full) {
        answer_error(exchange, MHD_HTTP_TOO_MANY_REQUESTS, "queue_full", NULL,
                     "%lld requests are waiting already (hone serve --queue): try again later",
                     (long long)server->waiting);
    } else {
        exchange->owners++;
        exchange->stage = STAGE_WAITING;
        exchange->suspended = true;
        MHD_suspend_connection(exchange->connection);
        if (server->last)
            server->last->next = exchange;
        else
            server->first = exchange;
        server->last = exchange;
        server->waiting++;
        pthread_cond_signal(&server->work);
    }
    pthread_mutex_unlock(&server->mutex);
    return !ending && !full;
}

// The next exchange; NULL: none came for a moment, or it is time to end. With the mutex held.
static Exchange *next_exchange(Server *server) {
    if (!server->first) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&server->work, &server->mutex, &until);
    }
    Exchange *exchange = server->first;
    if (!exchange) return NULL;
    server->first = exchange->next;
    if (!server->first) server->last = NULL;
    server->waiting--;
    return exchange;
}

void work(Server *server, HoneContext *context, Pool *pool) {
    pthread_mutex_lock(&server->mutex);
    while (!was_interrupted()) {
        Exchange *exchange = next_exchange(server);
        if (!exchange) continue;
        pthread_mutex_unlock(&server->mutex);
        answer_exchange(exchange, context, pool);
        pthread_mutex_lock(&server->mutex);
        wake(exchange);
        release(exchange);
    }
    server->ending = true;
    for (Exchange *exchange; (exchange = server->first);) {
        server->first = exchange->next;
        server->waiting--;
        answer_error(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, NULL, "the server is ending");
        wake(exchange);
        release(exchange);
    }
    server->last = NULL;
    pthread_mutex_unlock(&server->mutex);
}
