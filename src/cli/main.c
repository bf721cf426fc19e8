// SPDX-License-Identifier: Apache-2.0
// hone COMMAND …: finds the command and hands over.
#include <signal.h>
#include <string.h>

#include "output.h"

static const CommandEntry entries[] = {
    {"init", command_init, "write a commented config for hone finetune, by four questions"},
    {"finetune", command_finetune, "fine-tune a model on your data (LoRA, DoRA or all weights)"},
    {"train", command_train, "develop a model from random weights on a corpus"},
    {"eval", command_eval, "loss, accuracy, ranked choices, exact match"},
    {"embed", command_embed, "vectors of texts by an encoder"},
    {"classify", command_classify, "classes of texts by an encoder"},
    {"generate", command_generate, "continue a prompt"},
    {"chat", command_chat, "talk with a model, with or without an adapter"},
    {"attention", command_attention, "what each head attends to on a text: page, picture or JSON"},
    {"serve", command_serve, "answer OpenAI's clients, with adapters to choose from"},
    {"translate", command_translate, "what an encoder-decoder makes of texts, by beam search"},
    {"tokenize", command_tokenize, "text to tokens and back"},
    {"template", command_template, "examples as the model will see them, with the loss mask"},
    {"inspect", command_inspect, "what is in a model or adapter file"},
    {"merge", command_merge, "write model and adapter as one file"},
    {"convert", command_convert, "write a model or an adapter in another format or type"},
    {"pull", command_pull, "fetch a model from the model hub"},
    {"bench", command_bench, "speeds beside the processor's own peak"},
    {"report", command_report, "the page of a run, or several runs compared"},
    {"doctor", command_doctor, "what this processor and this build can do, and what is missing"},
    {"completion", command_completion, "a script that completes commands and options in a shell"},
};
enum { ENTRY_COUNT = sizeof entries / sizeof *entries };

const CommandEntry *all_commands(int *count) {
    *count = ENTRY_COUNT;
    return entries;
}

static void print_overview(FILE *out) {
    fputs("Hone fine-tunes and develops Transformer models on the machine you have.\n\n"
          "usage: hone COMMAND [options]    (hone COMMAND --help lists a command's options)\n\n",
          out);
    for (int i = 0; i < ENTRY_COUNT; i++)
        fprintf(out, "  %-10s %s\n", entries[i].name, entries[i].summary);
    fputs("\n  hone finetune --model M.gguf --data D.jsonl --out DIR\n"
          "  hone chat     --model M.gguf --adapter DIR\n\n"
          "exit status: 0 done, 1 the work failed, 2 options or input are at fault, 130 stopped\n",
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
    const char *levels[8];
    int count = hone_levels(levels);
    printf("hone %s", hone_version());
    for (int i = 0; i < count; i++) printf(" %s", levels[i]);
    printf("\n");
    return EXIT_DONE;
}

// hone help COMMAND is hone COMMAND --help.
static int help_of(int argc, char **argv) {
    char help[] = "--help";
    for (int i = 0; i < ENTRY_COUNT && argc > 2; i++)
        if (strcmp(argv[2], entries[i].name) == 0)
            return entries[i].run(2, (char *[]){argv[2], help, NULL});
    print_overview(stdout);
    return EXIT_DONE;
}

int main(int argc, char **argv) {
    guard_json_memory();
    signal(SIGXFSZ, SIG_IGN); // a file that may not grow is a write error like any other
    if (argc < 2) {
        print_overview(stderr);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
        return finish("--help", help_of(argc, argv));
    if (strncmp(name, "--help=", 7) == 0) return finish(name, print_overview_as(name + 7));
    if (strcmp(name, "--version") == 0) return finish(name, print_version());
    const char *names[ENTRY_COUNT];
    for (int i = 0; i < ENTRY_COUNT; i++) {
        names[i] = entries[i].name;
        if (strcmp(name, entries[i].name) != 0) continue;
        return finish(name, entries[i].run(argc - 1, argv + 1));
    }
    const char *close = hone_nearest(name, names, ENTRY_COUNT);
    fprintf(stderr, "hone: no command \"%s\"", name);
    if (close) fprintf(stderr, "; did you mean %s?", close);
    fprintf(stderr, " (hone --help lists them)\n");
    return EXIT_USAGE;
}
