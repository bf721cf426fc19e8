// SPDX-License-Identifier: Apache-2.0
// hone serve: the options.
#include "serve.h"

static bool check_options(const ServeOptions *given, const char *usage) {
    if (!given->model)
        fprintf(stderr, "hone serve: --model is needed (usage: %s)\n", usage);
    else if (given->port < 0 || given->port > 65535)
        fprintf(stderr, "hone serve: --port is %lld, want 0 to 65535\n", (long long)given->port);
    else if (!(given->temperature >= 0 && given->temperature <= 100))
        fprintf(stderr, "hone serve: --temperature is %g, want 0 to 100\n", given->temperature);
    else if (!(given->top_p >= 0 && given->top_p <= 1))
        fprintf(stderr, "hone serve: --top-p is %g, want 0 to 1\n", given->top_p);
    else if (given->top_k < 0 || given->top_k > 1 << 30)
        fprintf(stderr, "hone serve: --top-k is %lld, want 0 or more\n", (long long)given->top_k);
    else if (given->keep > 64)
        fprintf(stderr, "hone serve: --keep is %lld, want 1 to 64\n", (long long)given->keep);
    else if (given->queue > 1000)
        fprintf(stderr, "hone serve: --queue is %lld, want 1 to 1000\n", (long long)given->queue);
    else if (given->max_body > (int64_t)1 << 30)
        fprintf(stderr, "hone serve: --max-body is %lld, want at most 1G\n",
                (long long)given->max_body);
    else
        return true;
    return false;
}

int command_serve(int argc, char **argv) {
    ServeOptions given = {.host = "127.0.0.1",
                          .port = 8080,
                          .max_tokens = 1024,
                          .max_body = 1 << 20,
                          .queue = 128,
                          .keep = 4,
                          .timeout = 600};
    Option options[32] = {
        {"model", OPTION_TEXT, &given.model, "FILE",
         "the model, a GGUF file or a Hugging Face folder"},
        {"adapter", OPTION_LIST, &given.adapters, "[NAME=]A[:WEIGHT]",
         "an adapter that requests name as MODEL:NAME (its folder's or file's name); may be "
         "repeated"},
        {"adapters", OPTION_TEXT, &given.folder, "DIR",
         "every adapter in this folder too, also those that come later"},
        {"name", OPTION_TEXT, &given.name, "NAME", "of the model to clients (its file's name)"},
        {"template", OPTION_TEXT, &given.template_path, "FILE", "another chat template"},
        {"the answers", OPTION_HEADING, NULL, NULL, NULL},
        {"context", OPTION_COUNT, &given.context, "N",
         "tokens of prompt and answer together (the model's, at most 8192)"},
        {"max-tokens", OPTION_COUNT, &given.max_tokens, "N",
         "of an answer where the request does not say (1024)"},
        {"temperature", OPTION_REAL, &given.temperature, "T",
         "where the request does not say; 0 is greedy (the model's own, else 0)"},
        {"top-p", OPTION_REAL, &given.top_p, "P", "where the request does not say"},
        {"top-k", OPTION_INTEGER, &given.top_k, "K", "where the request does not say (0: all)"},
        {"who may ask, and how much", OPTION_HEADING, NULL, NULL, NULL},
        {"host", OPTION_TEXT, &given.host, "ADDRESS",
         "to listen at (127.0.0.1); another lets other machines in"},
        {"port", OPTION_INTEGER, &given.port, "N", "to listen at (8080); 0 takes any free one"},
        {"allow-host", OPTION_LIST, &given.known_hosts, "NAME",
         "a name that this machine is called by, besides localhost; may be repeated"},
        {"key-file", OPTION_TEXT, &given.key_file, "FILE",
         "ask for the key in this file ($HONE_API_KEY does the same)"},
        {"queue", OPTION_COUNT, &given.queue, "N",
         "requests that wait at once (128); more are told to come again"},
        {"timeout", OPTION_RATE, &given.timeout, "S", "seconds for a request, waiting too (600)"},
        {"max-body", OPTION_SIZE, &given.max_body, "SIZE", "of a request (1M)"},
        {"keep", OPTION_COUNT, &given.keep, "N",
         "adapters kept ready at once, each with its own conversation's memory (4)"},
        {"of every command", OPTION_HEADING, NULL, NULL, NULL},
    };
    int count = 0;
    while (options[count].name) count++;
    Command command = {.name = "serve",
                       .summary = "Answer OpenAI-compatible requests, with adapters to choose "
                                  "from.",
                       .usage = "hone serve --model M [--adapter A] [--adapters DIR] [options]",
                       .options = options,
                       .option_count = count + common_options(&given.common, options + count)};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!check_options(&given, command.usage)) return EXIT_USAGE;
    given.own_sampling = !is_given(argc, argv, "temperature") && !is_given(argc, argv, "top-p") &&
                         !is_given(argc, argv, "top-k");
    HoneContext *context = open_context("serve", &given.common, &status);
    if (!context) return status;
    watch_signals();
    status = serve(context, &given);
    hone_context_free(context);
    return status;
}
