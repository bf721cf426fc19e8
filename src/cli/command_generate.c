// SPDX-License-Identifier: Apache-2.0
// hone generate, hone chat
#include <stdlib.h>
#include <string.h>

#include "loaded.h"

typedef struct GenerateOptions {
    Common common;
    const char *model, *prompt, *system, *template_path;
    TextList adapters;
    int64_t max_tokens, top_k;
    double temperature, top_p;
    bool raw, own_sampling; // none of these three is given: the model's own
    HoneSampling sampling;  // once the model is there
} GenerateOptions;

static int shared_table(GenerateOptions *given, Option *options) {
    const Option table[] = {
        {"model", OPTION_TEXT, &given->model, "FILE",
         "the model, a GGUF file or a Hugging Face folder"},
        {"adapter", OPTION_LIST, &given->adapters, "A[:WEIGHT]",
         "PEFT or MLX-LM folder or GGUF adapter; may be repeated"},
        {"system", OPTION_TEXT, &given->system, "TEXT", "system message"},
        {"max-tokens", OPTION_COUNT, &given->max_tokens, "N", "of an answer (256)"},
        {"temperature", OPTION_REAL, &given->temperature, "T",
         "0 is greedy (default: the model's own, else 0)"},
        {"top-p", OPTION_REAL, &given->top_p, "P", "draw from the likeliest share P"},
        {"top-k", OPTION_INTEGER, &given->top_k, "K", "draw from the K likeliest (0: all)"},
        {"template", OPTION_TEXT, &given->template_path, "FILE", "another chat template"},
    };
    int count = (int)(sizeof table / sizeof *table);
    memcpy(options, table, sizeof table);
    return count + common_options(&given->common, options + count);
}

static HoneSampling sampling_of(const GenerateOptions *given, const HoneModel *model) {
    int64_t most = 1 << 30;
    HoneSampling sampling = {.max_tokens = given->max_tokens,
                             .temperature = (float)given->temperature,
                             .top_p = (float)given->top_p,
                             .top_k = (int)(given->top_k > most ? most : given->top_k),
                             .seed = (uint64_t)given->common.seed};
    if (given->own_sampling) hone_model_sampling(model, &sampling);
    if (given->own_sampling && sampling.temperature > 0)
        fprintf(stderr,
                "drawn as the model's file asks: --temperature %g --top-p %g --top-k %d "
                "(--temperature 0 is greedy)\n",
                (double)sampling.temperature, (double)sampling.top_p, sampling.top_k);
    return sampling;
}

static hone_status load(HoneContext *context, GenerateOptions *given, LoadedModel *loaded) {
    hone_status result =
        load_model(context, given->model, given->template_path, &given->adapters, loaded);
    if (result == HONE_OK) given->sampling = sampling_of(given, loaded->model);
    return result;
}

// Stream the answer as it comes.
static bool print_piece(void *user, int32_t token, const char *bytes, size_t length) {
    (void)user, (void)token;
    fwrite(bytes, 1, length, stdout);
    fflush(stdout);
    return !was_interrupted();
}

static bool is_sampling_given(int argc, char **argv) {
    return is_given(argc, argv, "temperature") || is_given(argc, argv, "top-p") ||
           is_given(argc, argv, "top-k");
}

static bool silent_piece(void *user, int32_t token, const char *bytes, size_t length) {
    (void)user, (void)token, (void)bytes, (void)length;
    return !was_interrupted();
}

// ---- generate ----------------------------------------------------------------------------------

static int generate(HoneContext *context, GenerateOptions *given) {
    LoadedModel loaded;
    HoneGenerated result = {0};
    const HoneSampling *sampling = &given->sampling;
    HoneTokenSink sink = given->common.json ? silent_piece : print_piece;
    hone_status done = load(context, given, &loaded);
    HoneGenerator *generator = loaded.generator;
    if (done == HONE_OK && given->raw) {
        done = hone_generate_text(generator, given->prompt, strlen(given->prompt), sampling, sink,
                                  NULL, &result);
    } else if (done == HONE_OK) {
        HoneMessage messages[2] = {{"system", given->system}, {"user", given->prompt}};
        int skip = given->system ? 0 : 1;
        done =
            hone_generate_chat(generator, messages + skip, 2 - skip, sampling, sink, NULL, &result);
    }
    int status = EXIT_DONE;
    if (done != HONE_OK) {
        status = report_failure("generate", context, done);
    } else if (given->common.json) {
        printf("{\"text\":");
        print_json_text(stdout, result.text);
        printf(",\"tokens\":[");
        for (int64_t i = 0; i < result.count; i++) printf("%s%d", i ? "," : "", result.tokens[i]);
        printf("],\"ended\":%s,\"prompt_tokens\":%lld,\"prompt_seconds\":%.4f,\"seconds\":%.4f}\n",
               result.ended ? "true" : "false", (long long)result.prompt_tokens,
               result.prompt_seconds, result.seconds);
    } else {
        printf("\n");
    }
    if (status == EXIT_DONE && was_interrupted()) status = EXIT_INTERRUPTED;
    hone_free(result.text);
    hone_free(result.tokens);
    unload_model(&loaded);
    return status;
}

int command_generate(int argc, char **argv) {
    GenerateOptions given = {0};
    Option options[32] = {
        {"prompt", OPTION_TEXT, &given.prompt, "TEXT", "a user message (or plain text: --raw)"},
        {"raw", OPTION_FLAG, &given.raw, NULL,
         "continue the prompt as it is, without the template"},
    };
    Command command = {.name = "generate",
                       .summary = "Answer or continue a prompt.",
                       .usage = "hone generate --model M [--adapter A] --prompt P [options]",
                       .options = options,
                       .option_count = 2 + shared_table(&given, options + 2)};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!given.model || !given.prompt) {
        fprintf(stderr, "hone generate: --model and --prompt are needed (usage: %s)\n",
                command.usage);
        return EXIT_USAGE;
    }
    if (given.raw) note_without_effect(&command, argc, argv, "system template", "beside --raw");
    given.own_sampling = !is_sampling_given(argc, argv);
    HoneContext *context = open_context("generate", &given.common, &status);
    if (!context) return status;
    watch_signals();
    status = generate(context, &given);
    hone_context_free(context);
    return status;
}

// ---- chat --------------------------------------------------------------------------------------

typedef struct Conversation {
    HoneMessage *messages;
    int64_t count, capacity;
} Conversation;

static bool say(Conversation *conversation, const char *role, const char *content) {
    if (conversation->count == conversation->capacity) {
        int64_t capacity = conversation->capacity ? conversation->capacity * 2 : 16;
        HoneMessage *grown =
            realloc(conversation->messages, (size_t)capacity * sizeof *conversation->messages);
        if (!grown) return false;
        conversation->messages = grown;
        conversation->capacity = capacity;
    }
    char *copy = strdup(content);
    if (!copy) return false;
    conversation->messages[conversation->count++] = (HoneMessage){role, copy};
    return true;
}

static void forget(Conversation *conversation, int64_t keep) {
    while (conversation->count > keep)
        free((void *)(uintptr_t)conversation->messages[--conversation->count].content);
}

// One question and its answer; a failure leaves the conversation as it was.
static int turn(HoneContext *context, const GenerateOptions *given, HoneGenerator *generator,
                Conversation *conversation, const char *line) {
    int64_t before = conversation->count;
    HoneSampling sampling = given->sampling;
    sampling.seed += (uint64_t)before; // each turn draws anew
    HoneGenerated result = {0};
    if (!say(conversation, "user", line)) return EXIT_WORK;
    hone_status done =
        hone_generate_chat(generator, conversation->messages, conversation->count, &sampling,
                           given->common.json ? silent_piece : print_piece, NULL, &result);
    if (done != HONE_OK) {
        forget(conversation, before);
        return report_failure("chat", context, done);
    }
    if (given->common.json) {
        printf("{\"text\":");
        print_json_text(stdout, result.text);
        printf("}\n");
    } else {
        printf("\n");
    }
    fflush(stdout);
    bool kept = say(conversation, "assistant", result.text);
    hone_free(result.text);
    hone_free(result.tokens);
    return kept ? EXIT_DONE : EXIT_WORK;
}

static int converse(HoneContext *context, const GenerateOptions *given, LoadedModel *loaded) {
    bool ask = stderr_is_terminal();
    Conversation conversation = {0};
    if (given->system && !say(&conversation, "system", given->system)) return EXIT_WORK;
    int64_t opening = conversation.count;
    if (ask)
        fprintf(stderr, "/reset begins anew, /base answers without the adapter, /adapter with it, "
                        "/quit ends\n");
    char *line = NULL;
    size_t capacity = 0;
    int status = EXIT_DONE;
    while (!was_interrupted()) {
        if (ask) fputs("> ", stderr);
        ssize_t length = getline(&line, &capacity, stdin);
        if (length < 0) break;
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
            line[--length] = '\0';
        if (length == 0) continue;
        if (strcmp(line, "/quit") == 0) break;
        bool base = strcmp(line, "/base") == 0, adapted = strcmp(line, "/adapter") == 0;
        if (strcmp(line, "/reset") == 0 || base || adapted) {
            forget(&conversation, opening);
            if (base || adapted) {
                // What the cache holds was computed with the other weights.
                hone_model_enable_adapters(loaded->model, adapted);
                hone_generator_free(loaded->generator);
                loaded->generator = NULL;
                if (hone_generator_create(loaded->model, &loaded->generator) != HONE_OK) break;
            }
            continue;
        }
        int turn_status = turn(context, given, loaded->generator, &conversation, line);
        if (turn_status != EXIT_DONE && !ask) status = turn_status;
    }
    free(line);
    forget(&conversation, 0);
    free(conversation.messages);
    return was_interrupted() ? EXIT_INTERRUPTED : status;
}

int command_chat(int argc, char **argv) {
    GenerateOptions given = {0};
    Option options[32];
    Command command = {.name = "chat",
                       .summary = "Talk with a model, with or without an adapter.",
                       .usage = "hone chat --model M [--adapter A] [options]",
                       .options = options,
                       .option_count = shared_table(&given, options)};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!given.model) {
        fprintf(stderr, "hone chat: --model is needed (usage: %s)\n", command.usage);
        return EXIT_USAGE;
    }
    given.own_sampling = !is_sampling_given(argc, argv);
    HoneContext *context = open_context("chat", &given.common, &status);
    if (!context) return status;
    LoadedModel loaded;
    hone_status result = load(context, &given, &loaded);
    status = result == HONE_OK ? converse(context, &given, &loaded)
                               : report_failure("chat", context, result);
    unload_model(&loaded);
    hone_context_free(context);
    return status;
}
