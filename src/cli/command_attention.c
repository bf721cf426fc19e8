// SPDX-License-Identifier: Apache-2.0
// hone attention: what each head attends to on a text.
#include <string.h>

#include "output.h"

typedef struct AttentionOptions {
    Common common;
    const char *model, *prompt, *template_path, *out, *show;
    TextList adapters;
    int64_t layer, head, max_length;
    bool chat;
    HoneMapForm form;
} AttentionOptions;

// By the name's end. false after saying that it is none.
static bool form_of(const char *out, HoneMapForm *form) {
    static const char *const ends[] = {".html", ".png", ".json"};
    for (int i = 0; i < 3 && out; i++) {
        const size_t length = strlen(out), end = strlen(ends[i]);
        if (length < end || strcmp(out + length - end, ends[i]) != 0) continue;
        *form = (HoneMapForm)i;
        return true;
    }
    if (!out) return true;
    fputs("hone attention: --out is \"", stderr);
    plain_text(stderr, out, strlen(out));
    fputs("\", want a name that ends in .html, .png or .json\n", stderr);
    return false;
}

static void print_summary(const AttentionOptions *given, const HoneAttentionMapInfo *info) {
    if (!given->common.json) {
        printf("%s\n", given->out);
        return;
    }
    printf("{\"out\":");
    print_json_text(stdout, given->out);
    printf(",\"tokens\":%lld,\"layers\":%lld,\"heads\":%lld,\"cut\":%lld,\"adapted\":%s}\n",
           (long long)info->tokens, (long long)info->layers, (long long)info->heads,
           (long long)info->cut, info->adapted ? "true" : "false");
}

// The map in the file, or on stdout.
static hone_status put(const AttentionOptions *given, HoneMapSide side,
                       const HoneAttentionMap *map) {
    HoneAttentionMapInfo info;
    hone_attention_map_info(map, &info);
    if (info.cut)
        fprintf(stderr,
                "hone attention: note: of the text's %lld tokens the first %lld are shown\n",
                (long long)(info.tokens + info.cut), (long long)info.tokens);
    if (given->out) {
        const hone_status written = hone_attention_map_write(map, given->form, side, given->out);
        if (written == HONE_OK) print_summary(given, &info);
        return written;
    }
    char *text;
    size_t length;
    const hone_status made = hone_attention_map_json(map, &text, &length);
    if (made != HONE_OK) return made;
    fwrite(text, 1, length, stdout);
    putchar('\n');
    hone_free(text);
    return HONE_OK;
}

static int show(HoneContext *context, const AttentionOptions *given, HoneMapSide side) {
    const HoneAttentionMapOptions options = {.layer = given->layer,
                                             .head = given->head,
                                             .max_length = given->max_length,
                                             .chat = given->chat};
    HoneModel *model = NULL;
    HoneAttentionMap *map = NULL;
    hone_status result = hone_model_load(context, given->model, &model);
    if (result == HONE_OK) result = add_adapters(model, &given->adapters);
    if (result == HONE_OK && given->template_path)
        result = hone_model_set_template(model, given->template_path);
    if (result == HONE_OK)
        result =
            hone_attention_map_create(model, given->prompt, strlen(given->prompt), &options, &map);
    if (result == HONE_OK) result = put(given, side, map);
    const int status = result == HONE_OK ? EXIT_DONE : report_failure("attention", context, result);
    hone_attention_map_free(map);
    hone_model_free(model);
    return status;
}

static int check(const AttentionOptions *given, const Command *command, int *side) {
    static const char *const sides[] = {"adapted", "base", "difference"};
    if (!given->model || !given->prompt || (!given->out && !given->common.json)) {
        fprintf(stderr, "hone attention: %s needed (usage: %s)\n",
                given->model && given->prompt ? "--out or --json is" : "--model and --prompt are",
                command->usage);
        return EXIT_USAGE;
    }
    *side = choose("attention", "show", given->show, sides, 3);
    if (*side < 0) return EXIT_USAGE;
    if (*side > 0 && given->adapters.count == 0) {
        fprintf(stderr,
                "hone attention: --show %s compares with an adapter: give one with "
                "--adapter\n",
                given->show);
        return EXIT_USAGE;
    }
    return EXIT_DONE;
}

int command_attention(int argc, char **argv) {
    AttentionOptions given = {.layer = -1, .head = -1, .show = "adapted"};
    Option options[24] = {
        {"model", OPTION_TEXT, &given.model, "FILE",
         "the model, a GGUF file or a Hugging Face folder"},
        {"adapter", OPTION_LIST, &given.adapters, "A[:WEIGHT]",
         "PEFT or MLX-LM folder or GGUF adapter; may be repeated: shown with it, without it, and "
         "the difference"},
        {"prompt", OPTION_TEXT, &given.prompt, "TEXT", "the text (as it is, or see --chat)"},
        {"chat", OPTION_FLAG, &given.chat, NULL,
         "the text is a user's message, in the chat template"},
        {"template", OPTION_TEXT, &given.template_path, "FILE", "another chat template"},
        {"layer", OPTION_INTEGER, &given.layer, "N", "this one only, from 0 on (all)"},
        {"head", OPTION_INTEGER, &given.head, "N", "this one of each layer only, from 0 on (all)"},
        {"max-length", OPTION_COUNT, &given.max_length, "N", "cut the text to N tokens"},
        {"show", OPTION_TEXT, &given.show, "adapted|base|difference",
         "what a picture shows and a page begins with (adapted)"},
        {"out", OPTION_TEXT, &given.out, "FILE", "ends in .html, .png or .json"},
    };
    Command command = {.name = "attention",
                       .summary = "What each head attends to on a text: a page to look at, a "
                                  "picture or JSON; with --json and no --out, JSON on standard "
                                  "output.",
                       .usage = "hone attention --model M [--adapter A] --prompt P [--layer L "
                                "--head H] --out map.html",
                       .options = options,
                       .option_count = 10 + common_options(&given.common, options + 10)};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    int side;
    if ((is_given(argc, argv, "layer") && given.layer < 0) ||
        (is_given(argc, argv, "head") && given.head < 0)) {
        fprintf(stderr, "hone attention: --%s is %lld, want 0 or more\n",
                given.layer < 0 && is_given(argc, argv, "layer") ? "layer" : "head",
                (long long)(given.layer < 0 && is_given(argc, argv, "layer") ? given.layer
                                                                             : given.head));
        return EXIT_USAGE;
    }
    status = check(&given, &command, &side);
    if (status != EXIT_DONE || !form_of(given.out, &given.form)) return EXIT_USAGE;
    HoneContext *context = open_context("attention", &given.common, &status);
    if (!context) return status;
    status = show(context, &given, (HoneMapSide)side);
    hone_context_free(context);
    return status;
}
