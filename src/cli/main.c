// SPDX-License-Identifier: Apache-2.0
// hone COMMAND …: finds the command and hands over.
#include <signal.h>
#include <string.h>

#include "output.h"

typedef struct Entry {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} Entry;

static const Entry entries[] = {
    {"finetune", command_finetune, "fine-tune a model on your data (LoRA or all weights)"},
    {"train", command_train, "develop a model from random weights on a corpus"},
    {"eval", command_eval, "loss, accuracy, ranked choices, exact match"},
    {"generate", command_generate, "continue a prompt"},
    {"chat", command_chat, "talk with a model, with or without an adapter"},
    {"tokenize", command_tokenize, "text to tokens and back"},
    {"template", command_template, "examples as the model will see them, with the loss mask"},
    {"inspect", command_inspect, "what is in a model or adapter file"},
    {"merge", command_merge, "write model and adapter as one file"},
    {"convert", command_convert, "write a model or an adapter in another format or type"},
    {"pull", command_pull, "fetch a model from the model hub"},
    {"bench", command_bench, "speeds beside the processor's own peak"},
};
enum { ENTRY_COUNT = sizeof entries / sizeof *entries };

static void print_overview(FILE *out) {
    fputs("Hone fine-tunes and develops Transformer models on the machine you have.\n\n"
          "usage: hone COMMAND [options]    (hone COMMAND --help lists a command's options)\n\n",
          out);
    for (int i = 0; i < ENTRY_COUNT; i++)
        fprintf(out, "  %-10s %s\n", entries[i].name, entries[i].summary);
    fputs("\n  hone finetune --model M.gguf --data D.jsonl --out DIR\n"
          "  hone chat     --model M.gguf --adapter DIR\n",
          out);
}

// A full disk or a closed pipe behind stdout must not look like success.
static int finish(const char *name, int status) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    fprintf(stderr, "hone %s: cannot write to standard output\n", name);
    return status ? status : EXIT_WORK;
}

// The version, and the kernel levels of this processor, best last.
static int print_version(void) {
    static const char *const levels[] = {"generic", "avx2", "avx512", "avx512bf16", "neon"};
    printf("hone %s", HONE_VERSION);
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        HoneContextOptions options = {.threads = 1, .isa = levels[i]};
        HoneContext *context = NULL;
        if (hone_context_create(&options, &context) == HONE_OK) printf(" %s", levels[i]);
        hone_context_free(context);
    }
    printf("\n");
    return EXIT_DONE;
}

int main(int argc, char **argv) {
    signal(SIGXFSZ, SIG_IGN); // a file that may not grow is a write error like any other
    if (argc < 2) {
        print_overview(stderr);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_overview(stdout);
        return finish("--help", EXIT_DONE);
    }
    if (strcmp(name, "--version") == 0) return finish(name, print_version());
    const char *names[ENTRY_COUNT];
    for (int i = 0; i < ENTRY_COUNT; i++) {
        names[i] = entries[i].name;
        if (strcmp(name, entries[i].name) != 0) continue;
        return finish(name, entries[i].run(argc - 1, argv + 1));
    }
    const char *close = nearest(name, names, ENTRY_COUNT);
    fprintf(stderr, "hone: no command \"%s\"", name);
    if (close) fprintf(stderr, "; did you mean %s?", close);
    fprintf(stderr, " (hone --help lists them)\n");
    return EXIT_USAGE;
}
