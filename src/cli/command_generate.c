// SPDX-License-Identifier: Apache-2.0
// hone generate
#include <stdlib.h>
#include <string.h>

#include "generate.h"

int generate_options(GenerateOptions *given, Option *options) {
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

hone_status load_generator(HoneContext *context, GenerateOptions *given, LoadedModel *loaded) {
    hone_status result =
        load_model(context, given->model, given->template_path, &given->adapters, loaded);
    if (result == HONE_OK) given->sampling = sampling_of(given, loaded->model);
    return result;
}

// Stream the answer as it comes.
bool print_piece(void *user, int32_t token, const char *bytes, size_t length) {
    (void)user, (void)token;
    fwrite(bytes, 1, length, stdout);
    fflush(stdout);
    return !was_interrupted();
}

bool is_sampling_given(int argc, char **argv) {
    return is_given(argc, argv, "temperature") || is_given(argc, argv, "top-p") ||
           is_given(argc, argv, "top-k");
}

bool silent_piece(void *user, int32_t token, const char *bytes, size_t length) {
    (void)user, (void)token, (void)bytes, (void)length;
    return !was_interrupted();
}

// ---- generate ----------------------------------------------------------------------------------

static int generate(HoneContext *context, GenerateOptions *given) {
    LoadedModel loaded;
    HoneGenerated result = {0};
    const HoneSampling *sampling = &given->sampling;
    HoneTokenSink sink = given->common.json ? silent_piece : print_piece;
    hone_status done = load_generator(context, given, &loaded);
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
                       .option_count = 2 + generate_options(&given, options + 2)};
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
