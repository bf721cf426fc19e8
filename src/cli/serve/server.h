// SPDX-License-Identifier: Apache-2.0
// The server's parts. Two threads: libmicrohttpd's reads requests and writes answers, and never
// waits for the model; the one that called serve() has the context and answers one request after
// the other. Between them is a queue of exchanges, behind one mutex.
#ifndef HONE_CLI_SERVE_SERVER_H
#define HONE_CLI_SERVE_SERVER_H

#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>
#include <sys/types.h>
#include <time.h>

#include "loaded.h"
#include "serve.h"

enum { STOP_LIMIT = 16, MODEL_NAME_LIMIT = 512 };
enum { STATUS_TOO_LARGE = 413 }; // libmicrohttpd has renamed its own

// Bytes that one side appends to and the other takes from. All zero is empty.
typedef struct Bytes {
    char *data;
    size_t length, capacity, taken;
    bool failed; // no memory: what was appended since is missing
} Bytes;
void bytes_append(Bytes *bytes, const char *data, size_t length);
void bytes_free(Bytes *bytes);

typedef struct AdapterChoice {
    char *path;    // NULL: the base model
    double weight; // 1 as it was trained
} AdapterChoice;

// An adapter of --adapters that cannot be used, as it was when the server began: written anew, it
// is another.
typedef struct Refused {
    char *path;
    struct timespec changed;
    ino_t file;
} Refused;

typedef enum ExchangeStage {
    STAGE_READING,   // the request is coming
    STAGE_WAITING,   // in the queue or being answered; the connection is suspended
    STAGE_STREAMING, // status 200 is settled, `out` grows
    STAGE_ANSWERED,  // `status` and `out` are whole
} ExchangeStage;

// A request and its answer. Two own it: the connection, until libmicrohttpd says that it is over,
// and from the queue on the worker.
typedef struct Exchange {
    struct Server *server;
    struct MHD_Connection *connection;
    struct Exchange *next; // in the queue
    // What the connection's thread alone uses.
    char method[8], path[96];
    double began;
    Bytes body;
    size_t body_seen;
    // What is asked; set before it is queued and not changed then.
    bool chat, stream, include_usage;
    json_t *request, *made; // owns the texts that follow; texts put together from parts
    HoneMessage *messages;
    int64_t message_count;
    const char *prompt;
    const char *stop[STOP_LIMIT];
    int stop_count;
    HoneSampling sampling;
    AdapterChoice adapter;
    char model[MODEL_NAME_LIMIT]; // as the answer calls it
    unsigned long long number;
    long long created;
    // Behind the server's mutex.
    int owners, socket;
    ExchangeStage stage;
    bool suspended, gone;
    unsigned status;
    Bytes out;
    int64_t prompt_tokens, answer_tokens;
} Exchange;

typedef struct Server {
    const ServeOptions *options;
    const char *name; // of the base model
    HoneSampling defaults;
    int64_t context_limit;
    Refused *refused; // not changed once requests come
    int refused_count;
    char key[256]; // "": none is asked for
    struct MHD_Daemon *daemon;
    int port;
    pthread_mutex_t mutex;
    pthread_cond_t work;
    // Behind the mutex.
    Exchange *first, *last;
    int64_t waiting, open; // in the queue; exchanges whose connection is not over
    bool ending;
    unsigned long long count;
} Server;

double seconds_now(void);

// ---- names.c: what a request may call a model --------------------------------------------------

// The name of a path to clients: its last part, without .gguf. Caller frees.
char *name_of_path(const char *path);
// Check the adapters of the command line: two of one name cannot be told apart.
bool check_adapter_names(const Server *server);
// Which adapter `model` means; model NULL: the first one given, else the base. On success fills
// *choice (caller frees choice->path) and the name by which answers call it.
bool choose_model(const Server *server, const char *model, AdapterChoice *choice,
                  char name[MODEL_NAME_LIMIT]);
// The adapter of --adapter number i. Caller frees choice->path (NULL: no memory).
void given_adapter(const Server *server, int i, AdapterChoice *choice, char name[MODEL_NAME_LIMIT]);
// When the adapter was written and as what file: one that was trained anew has others.
void look_at_adapter(const char *path, struct timespec *changed, ino_t *file);
// Try each adapter of --adapters on the model; those that cannot be used are said, and not offered.
void try_adapters(Server *server, HoneContext *context);
void forget_refused(Server *server);
// {"object":"list",…}, or with `only` that one model, NULL if there is none. Caller frees.
char *models_json(const Server *server, const char *only);

// ---- guard.c: who may ask ----------------------------------------------------------------------

// The key of --key-file or the environment. Prints what is wrong and returns false.
bool read_key(const ServeOptions *options, char key[256]);
// 0, or the status of the refusal, with its words in *why.
unsigned guard(const Server *server, struct MHD_Connection *connection, const char *path,
               const char **why);
bool is_loopback(const char *address);

// ---- request.c ---------------------------------------------------------------------------------

// Read the body into the exchange. false: it is answered with what is wrong.
bool read_request(Exchange *exchange);

// ---- answer.c: what is written -----------------------------------------------------------------

// An error as OpenAI's clients know it, whole. code and parameter may be NULL.
void answer_error(Exchange *exchange, unsigned status, const char *code, const char *parameter,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));
// One piece of a stream: text, or the start (role) or the end (finish reason) of it.
void write_chunk(const Exchange *exchange, Bytes *out, const char *text, size_t length,
                 const char *finish);
void write_stream_end(const Exchange *exchange, Bytes *out, const HoneGenerated *result);
void write_stream_error(Bytes *out, const char *message);
void write_answer(const Exchange *exchange, Bytes *out, const char *text, size_t length,
                  const char *finish, const HoneGenerated *result);

// ---- worker.c ----------------------------------------------------------------------------------

typedef struct Pool Pool; // models with their adapters, the last used ones
Pool *pool_create(HoneContext *context, const ServeOptions *options);
void pool_free(Pool *pool);
hone_status pool_find(Pool *pool, const AdapterChoice *choice, LoadedModel **found);
// Put to the end of the queue and suspend its connection. false: it is answered, by a refusal.
bool enqueue(Exchange *exchange);
// Answer what comes until interrupted, then refuse what is left.
void work(Server *server, HoneContext *context, Pool *pool);

// ---- server.c ----------------------------------------------------------------------------------

// Both with the mutex held: wake a connection that waits for more; give up one owner's share.
void wake(Exchange *exchange);
void release(Exchange *exchange);

#endif
