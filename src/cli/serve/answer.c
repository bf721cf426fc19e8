// SPDX-License-Identifier: Apache-2.0
// Answers: JSON as OpenAI's clients read it, whole or in server-sent events.
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "server.h"

void bytes_append(Bytes *bytes, const char *data, size_t length) {
    if (bytes->taken == bytes->length) bytes->taken = bytes->length = 0;
    if (length > bytes->capacity - bytes->length) {
        size_t capacity = bytes->capacity ? bytes->capacity : 512;
        while (capacity - bytes->length < length) capacity *= 2;
        char *grown = realloc(bytes->data, capacity);
        if (!grown) {
            bytes->failed = true;
            return;
        }
        bytes->data = grown;
        bytes->capacity = capacity;
    }
    memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
}

void bytes_free(Bytes *bytes) {
    free(bytes->data);
    *bytes = (Bytes){0};
}

// A stream that is written to as a file and ends up in bytes.
typedef struct Paper {
    FILE *file;
    char *text;
    size_t length;
} Paper;

static FILE *open_paper(Paper *paper) {
    *paper = (Paper){0};
    paper->file = open_memstream(&paper->text, &paper->length);
    return paper->file;
}

static void hand_in(Paper *paper, Bytes *out) {
    if (!paper->file || fclose(paper->file) != 0)
        out->failed = true;
    else
        bytes_append(out, paper->text, paper->length);
    free(paper->text);
}

static void print_error(FILE *file, unsigned status, const char *code, const char *parameter,
                        const char *message) {
    fprintf(file, "{\"error\":{\"message\":");
    print_json_text(file, message);
    fprintf(file, ",\"type\":\"%s\",\"param\":",
            status >= 500   ? "server_error"
            : status == 401 ? "authentication_error"
            : status == 429 ? "rate_limit_error"
                            : "invalid_request_error");
    print_json_text(file, parameter);
    fprintf(file, ",\"code\":");
    print_json_text(file, code);
    fprintf(file, "}}");
}

void answer_error(Exchange *exchange, unsigned status, const char *code, const char *parameter,
                  const char *format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    Paper paper;
    if (open_paper(&paper)) print_error(paper.file, status, code, parameter, message);
    exchange->out.length = exchange->out.taken = 0;
    hand_in(&paper, &exchange->out);
    exchange->status = status;
    exchange->stage = STAGE_ANSWERED;
}

static void print_head(FILE *file, const Exchange *exchange, bool part) {
    fprintf(file, "{\"id\":\"%s-%llx%llx\",\"object\":\"%s%s\",\"created\":%lld,\"model\":",
            exchange->chat ? "chatcmpl" : "cmpl", (unsigned long long)exchange->created,
            exchange->number, exchange->chat ? "chat.completion" : "text_completion",
            part && exchange->chat ? ".chunk" : "", exchange->created);
    print_json_text(file, exchange->model);
    fprintf(file, ",\"system_fingerprint\":\"hone-%s\"", hone_version());
}

static void print_usage(FILE *file, const HoneGenerated *result) {
    fprintf(file,
            ",\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld}",
            (long long)result->prompt_tokens, (long long)result->count,
            (long long)(result->prompt_tokens + result->count));
}

void write_chunk(const Exchange *exchange, Bytes *out, const char *text, size_t length,
                 const char *finish) {
    Paper paper;
    FILE *file = open_paper(&paper);
    if (file) {
        fprintf(file, "data: ");
        print_head(file, exchange, true);
        fprintf(file, ",\"choices\":[{\"index\":0,");
        if (!exchange->chat) {
            fprintf(file, "\"text\":");
            print_json_string(file, text ? text : "", length);
        } else if (finish) {
            fprintf(file, "\"delta\":{}");
        } else {
            fprintf(file, "\"delta\":{%s\"content\":", text ? "" : "\"role\":\"assistant\",");
            print_json_string(file, text ? text : "", length);
            fputc('}', file);
        }
        fprintf(file, ",\"logprobs\":null,\"finish_reason\":");
        print_json_text(file, finish);
        fprintf(file, "}]%s}\n\n", exchange->include_usage ? ",\"usage\":null" : "");
    }
    hand_in(&paper, out);
}

void write_stream_end(const Exchange *exchange, Bytes *out, const HoneGenerated *result) {
    Paper paper;
    FILE *file = open_paper(&paper);
    if (file && exchange->include_usage) {
        fprintf(file, "data: ");
        print_head(file, exchange, true);
        fprintf(file, ",\"choices\":[]");
        print_usage(file, result);
        fprintf(file, "}\n\n");
    }
    if (file) fprintf(file, "data: [DONE]\n\n");
    hand_in(&paper, out);
}

void write_stream_error(Bytes *out, const char *message) {
    Paper paper;
    FILE *file = open_paper(&paper);
    if (file) {
        fprintf(file, "data: ");
        print_error(file, 500, NULL, NULL, message);
        fprintf(file, "\n\n");
    }
    hand_in(&paper, out);
}

void write_answer(const Exchange *exchange, Bytes *out, const char *text, size_t length,
                  const char *finish, const HoneGenerated *result) {
    Paper paper;
    FILE *file = open_paper(&paper);
    if (file) {
        print_head(file, exchange, false);
        fprintf(file, ",\"choices\":[{\"index\":0,%s",
                exchange->chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
        print_json_string(file, text ? text : "", length);
        fprintf(file, "%s,\"logprobs\":null,\"finish_reason\":\"%s\"}]",
                exchange->chat ? ",\"refusal\":null}" : "", finish);
        print_usage(file, result);
        fputc('}', file);
    }
    hand_in(&paper, out);
}
