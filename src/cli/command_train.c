// SPDX-License-Identifier: Apache-2.0
// hone train: a model from nothing.
#include <signal.h>
#include <string.h>

#include "finetune_display.h"
#include "output.h"
#include "run_options.h"

// Of the options of a run, those that a new model has no use for.
static bool is_of_finetune_only(const char *name) {
    static const char *const names[] = {
        "model",   "method",  "rank",        "alpha",          "targets",     "layers", "rslora",
        "adapter", "loss-on", "date",        "on-bad-example", "template",    "stride", "loss",
        "beta",    "teacher", "temperature", "teacher-share",  "router-loss", "task",   "labels"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

static int fill_table(RunOptions *given, HoneTrainOptions *train, const char **norm,
                      Option *options) {
    const Option table[] = {
        {"the model", OPTION_HEADING, NULL, NULL, NULL},
        {"architecture", OPTION_TEXT, &train->architecture, "llama|gpt2|transformer",
         "its family (llama); transformer: the encoder-decoder of 2017"},
        {"layers", OPTION_COUNT, &train->layers, "N", "of the model; its decoder (6)"},
        {"encoder-layers", OPTION_COUNT, &train->encoder_layers, "N",
         "of a transformer (as many as layers)"},
        {"norm", OPTION_TEXT, norm, "post|pre",
         "of a transformer: behind each sum (post, the paper's), or before each part"},
        {"channels", OPTION_COUNT, &train->channels, "N", "its width (384)"},
        {"heads", OPTION_COUNT, &train->heads, "N", "of attention (6)"},
        {"kv-heads", OPTION_COUNT, &train->kv_heads, "N", "of keys and values (as many)"},
        {"head-size", OPTION_COUNT, &train->head_size, "N", "(channels/heads)"},
        {"feed-forward", OPTION_COUNT, &train->feed_forward, "N",
         "width inside (llama: 8/3 of channels, else 4 times)"},
        {"context", OPTION_SIZE, &train->context, "N", "tokens (512)"},
        {"norm-eps", OPTION_RATE, &train->norm_eps, "X", "(1e-5)"},
        {"rope-base", OPTION_RATE, &train->rope_base, "X", "(10000)"},
        {"tied-head", OPTION_SWITCH, &train->tied_head, "on|off", "the head is the embedding (on)"},
        {"tokenizer", OPTION_TEXT, &train->tokenizer, "FILE|bpe|unigram",
         "bpe (default) or unigram: learnt from the data; or a GGUF file, a tokenizer.json or its "
         "folder"},
        {"vocabulary", OPTION_COUNT, &train->vocabulary, "N", "tokens to learn at most (8192)"},
        {"min-frequency", OPTION_COUNT, &train->min_frequency, "N",
         "of bpe: pairs that stand less often are not merged (2)"},
    };
    Option shared[96];
    const int all = run_option_table(given, shared);
    int count = (int)(sizeof table / sizeof *table);
    memcpy(options, table, sizeof table);
    for (int i = 0; i < all; i++) {
        if (is_of_finetune_only(shared[i].name)) continue;
        options[count] = shared[i];
        Option *option = &options[count++];
        if (strcmp(option->name, "data") == 0)
            option->help = "a corpus: records with a \"text\" (.jsonl, .json, .csv, .tsv), text "
                           "files, folders of them; of a transformer: records with source and "
                           "target; each file also .gz or .zst";
        if (strcmp(option->name, "max-length") == 0)
            option->help = "tokens of an example; longer texts are several (the context)";
        if (strcmp(option->name, "dropout") == 0)
            option->help = "of what each part of a transformer's layer adds, in training (0)";
        if (strcmp(option->name, "no-eos") == 0) option->help = "do not end texts with EOS";
        if (strcmp(option->name, "lr") == 0) option->help = "learning rate (1e-3)";
        if (strcmp(option->name, "weight-decay") == 0) option->help = "of matrices (0.1)";
        if (strcmp(option->name, "beta2") == 0) option->help = "of AdamW (0.95)";
        if (strcmp(option->name, "type") == 0)
            option->help = "of model.gguf: f16 (default) or as hone merge has them";
    }
    return count;
}

int command_train(int argc, char **argv) {
    HoneTrainOptions train;
    hone_train_defaults(&train);
    RunOptions given = {.run = train.run};
    run_option_defaults(&given);
    Option options[128];
    static const char *const norms[] = {"post", "pre"};
    const char *norm = norms[0];
    Command command = {.name = "train",
                       .summary = "Develop a model from random weights on a corpus.",
                       .usage = "hone train --data D --out DIR [--config C] [options]",
                       .options = options,
                       .option_count = fill_table(&given, &train, &norm, options)};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    let_the_command_line_win(argc, argv, &given.run);
    HoneDataSource sources[LIST_LIMIT];
    if (!resolve_run_options("train", &given, sources)) return EXIT_USAGE;
    const int first = choose("train", "norm", norm, norms, 2);
    if (first < 0) return EXIT_USAGE;
    train.norm_first = first == 1;
    const char *lacking = given.run.data_count == 0            ? "--data"
                          : given.run.out || given.run.dry_run ? NULL
                                                               : "--out";
    if (lacking) {
        fprintf(stderr, "hone train: %s is needed (usage: %s)\n", lacking, command.usage);
        return EXIT_USAGE;
    }
    note_what_the_optimizer_ignores(&command, argc, argv, &given.run);
    if (!ask_to_overwrite("train", &given)) return EXIT_USAGE;
    HoneContext *context = open_context("train", &given.common, &status);
    if (!context) return status;
    watch_signals();
    signal(SIGPIPE, SIG_IGN); // whoever read along may leave: the training goes on
    Display display = {.json = given.common.json,
                       .model = train.architecture,
                       .out = given.run.out,
                       .dry_run = given.run.dry_run};
    train.run = given.run;
    hone_status result = hone_train(context, &train, display_event, &display);
    display_end(&display);
    status = result == HONE_OK ? EXIT_DONE : report_failure("train", context, result);
    hone_context_free(context);
    return status;
}
