// SPDX-License-Identifier: Apache-2.0
// The body of a request. What would change the answer and is not there is refused by name; what
// would change nothing (user, metadata, …) is let through.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server.h"

static bool refuse(Exchange *exchange, const char *parameter, const char *want) {
    answer_error(exchange, MHD_HTTP_BAD_REQUEST, NULL, parameter, "%s: want %s", parameter, want);
    return false;
}

// A field that is there and not null.
static json_t *field(const Exchange *exchange, const char *name) {
    json_t *value = json_object_get(exchange->request, name);
    return json_is_null(value) ? NULL : value;
}

static bool read_real(Exchange *exchange, const char *name, double low, double high,
                      const char *want, float *value) {
    json_t *given = field(exchange, name);
    if (!given) return true;
    const double number = json_number_value(given);
    if (!json_is_number(given) || !(number >= low && number <= high))
        return refuse(exchange, name, want);
    *value = (float)number;
    return true;
}

static bool read_whole(Exchange *exchange, const char *name, int64_t low, int64_t high,
                       const char *want, int64_t *value) {
    json_t *given = field(exchange, name);
    if (!given) return true;
    const json_int_t number = json_integer_value(given);
    if (!json_is_integer(given) || number < low || number > high)
        return refuse(exchange, name, want);
    *value = number;
    return true;
}

static bool read_truth(Exchange *exchange, const char *name, bool *value) {
    json_t *given = field(exchange, name);
    if (given && !json_is_boolean(given)) return refuse(exchange, name, "true or false");
    if (given) *value = json_is_true(given);
    return true;
}

// ---- what is not there -------------------------------------------------------------------------

static bool is_nothing(const json_t *value) {
    return !value || json_is_null(value) || json_is_false(value) ||
           (json_is_number(value) && json_number_value(value) == 0) ||
           ((json_is_array(value) || json_is_object(value)) &&
            json_array_size(value) + json_object_size(value) == 0) ||
           (json_is_string(value) && *json_string_value(value) == '\0');
}

static bool refuse_unsupported(Exchange *exchange) {
    static const char *const absent[] = {"tools",
                                         "functions",
                                         "logprobs",
                                         "top_logprobs",
                                         "logit_bias",
                                         "echo",
                                         "suffix",
                                         "audio",
                                         "min_p",
                                         "frequency_penalty",
                                         "presence_penalty",
                                         "repetition_penalty",
                                         "prediction",
                                         "best_of",
                                         "n"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        const json_t *value = field(exchange, absent[i]);
        const bool counts = strcmp(absent[i], "n") == 0 || strcmp(absent[i], "best_of") == 0;
        if (is_nothing(value)) continue;
        if (counts && json_is_integer(value) && json_integer_value(value) == 1) continue;
        answer_error(exchange, MHD_HTTP_BAD_REQUEST, "unsupported_parameter", absent[i],
                     "%s is not supported by this server", absent[i]);
        return false;
    }
    const json_t *format = field(exchange, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (!format || (type && strcmp(type, "text") == 0)) return true;
    answer_error(exchange, MHD_HTTP_BAD_REQUEST, "unsupported_parameter", "response_format",
                 "response_format: this server writes text only");
    return false;
}

// ---- what is asked -----------------------------------------------------------------------------

static bool read_stops(Exchange *exchange) {
    static const char want[] = "a string or a list of at most 16, none empty or over 256 bytes";
    json_t *given = field(exchange, "stop");
    if (!given) return true;
    const size_t count = json_is_array(given) ? json_array_size(given) : 1;
    if (count > STOP_LIMIT) return refuse(exchange, "stop", want);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_is_array(given) ? json_array_get(given, i) : given;
        const char *text = json_string_value(item);
        if (!text || !*text || strlen(text) > 256) return refuse(exchange, "stop", want);
        exchange->stop[exchange->stop_count++] = text;
    }
    return true;
}

static bool read_sampling(Exchange *exchange) {
    const Server *server = exchange->server;
    HoneSampling *sampling = &exchange->sampling;
    *sampling = server->defaults;
    sampling->max_tokens = server->options->max_tokens;
    sampling->context = server->context_limit;
    int64_t seed = server->options->common.seed + (int64_t)exchange->number;
    int64_t likeliest = sampling->top_k;
    static const char count[] = "a whole number, 1 or more";
    if (!read_real(exchange, "temperature", 0, 100, "a number, 0 (greedy) or more",
                   &sampling->temperature) ||
        !read_real(exchange, "top_p", 0, 1, "a number from 0 to 1", &sampling->top_p) ||
        !read_whole(exchange, "top_k", 0, 1 << 30, "a whole number, 0 (all) or more", &likeliest) ||
        !read_whole(exchange, "seed", INT64_MIN, INT64_MAX, "a whole number", &seed) ||
        !read_whole(exchange, "max_tokens", 1, INT64_MAX, count, &sampling->max_tokens) ||
        !read_whole(exchange, "max_completion_tokens", 1, INT64_MAX, count, &sampling->max_tokens))
        return false;
    sampling->top_k = (int)likeliest;
    sampling->seed = (uint64_t)seed;
    return true;
}

static bool read_stream(Exchange *exchange) {
    const json_t *options = field(exchange, "stream_options");
    if (!read_truth(exchange, "stream", &exchange->stream)) return false;
    if (!options) return true;
    if (!json_is_object(options)) return refuse(exchange, "stream_options", "an object");
    exchange->include_usage =
        exchange->stream && json_is_true(json_object_get(options, "include_usage"));
    return true;
}

// "content": text, or a list of parts that are text.
static const char *content_of(Exchange *exchange, json_t *content) {
    if (json_is_string(content)) return json_string_value(content);
    if (!json_is_array(content)) return NULL;
    Bytes text = {0};
    size_t i;
    json_t *part, *whole = NULL;
    bool fine = true;
    json_array_foreach(content, i, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        const char *piece = json_string_value(json_object_get(part, "text"));
        fine = fine && type && strcmp(type, "text") == 0 && piece;
        if (fine) bytes_append(&text, piece, strlen(piece));
    }
    if (fine && !text.failed) whole = json_stringn(text.data ? text.data : "", text.length);
    bytes_free(&text);
    if (!whole || json_array_append_new(exchange->made, whole) != 0) return NULL;
    return json_string_value(whole);
}

// A template prints a role as its own words, which may be control tokens: only a plain word is one.
static bool is_role(const char *role) {
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    const size_t length = role ? strlen(role) : 0;
    return length > 0 && length <= 64 && strspn(role, letters) == length;
}

static bool read_messages(Exchange *exchange) {
    json_t *list = field(exchange, "messages");
    const size_t count = json_array_size(list);
    if (!json_is_array(list) || count == 0)
        return refuse(exchange, "messages", "a list of at least one message");
    exchange->messages = calloc(count, sizeof *exchange->messages);
    if (!exchange->messages) {
        answer_error(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, NULL, "out of memory");
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        json_t *message = json_array_get(list, i);
        const char *role = json_string_value(json_object_get(message, "role"));
        const char *content = content_of(exchange, json_object_get(message, "content"));
        char place[48];
        snprintf(place, sizeof place, "messages[%zu]", i);
        if (!is_nothing(json_object_get(message, "tool_calls")))
            return refuse(exchange, place, "no tool_calls: tools are not supported here");
        if (!is_role(role) || !content)
            return refuse(exchange, place,
                          "an object with \"role\", a word of letters, digits, - and _, and "
                          "\"content\", which is text or a list of parts of type \"text\"");
        if (strcmp(role, "developer") == 0) role = "system"; // the newer name of it
        exchange->messages[i] = (HoneMessage){role, content};
    }
    exchange->message_count = (int64_t)count;
    return true;
}

static bool read_prompt(Exchange *exchange) {
    json_t *given = field(exchange, "prompt");
    if (json_is_array(given) && json_array_size(given) == 1) given = json_array_get(given, 0);
    exchange->prompt = json_string_value(given);
    if (exchange->prompt && *exchange->prompt) return true;
    return refuse(exchange, "prompt", "a string that is not empty (one prompt a request)");
}

static bool read_model(Exchange *exchange) {
    const json_t *given = field(exchange, "model");
    const char *name = json_string_value(given);
    if (given && !name) return refuse(exchange, "model", "a string");
    if (choose_model(exchange->server, name, &exchange->adapter, exchange->model)) return true;
    answer_error(exchange, MHD_HTTP_NOT_FOUND, "model_not_found", "model",
                 "there is no model \"%s\": GET /v1/models lists those that there are",
                 name ? name : "");
    return false;
}

bool read_request(Exchange *exchange) {
    json_error_t error;
    const char *body = exchange->body.data ? exchange->body.data : "";
    exchange->request = json_loadb(body, exchange->body.length, 0, &error);
    if (json_memory_refused()) {
        answer_error(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, NULL, "out of memory");
        return false;
    }
    if (!exchange->request) {
        answer_error(exchange, MHD_HTTP_BAD_REQUEST, "invalid_json", NULL,
                     "the body is not JSON: %s (line %d, column %d)", error.text, error.line,
                     error.column);
        return false;
    }
    bytes_free(&exchange->body);
    if (!json_is_object(exchange->request)) {
        answer_error(exchange, MHD_HTTP_BAD_REQUEST, "invalid_json", NULL,
                     "the body is not a JSON object");
        return false;
    }
    exchange->made = json_array();
    return refuse_unsupported(exchange) && read_model(exchange) && read_stream(exchange) &&
           read_stops(exchange) && read_sampling(exchange) &&
           (exchange->chat ? read_messages(exchange) : read_prompt(exchange));
}
