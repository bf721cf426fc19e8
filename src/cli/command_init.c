// SPDX-License-Identifier: Apache-2.0
// hone init: four questions, a look at the data and the machine, and a config that says why.
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "init.h"
#include "output.h"

static int exists_already(const Init *init) {
    struct stat info;
    if (lstat(init->file, &info) != 0) return -1;
    fprintf(stderr, "hone init: %s is there already and stays as it is: hone init OTHER.yaml\n",
            init->file);
    return EXIT_USAGE;
}

static int write_file(const Init *init) {
    FILE *out = fopen(init->file, "wx"); // never over one that has come meanwhile
    if (!out) {
        fprintf(stderr, "hone init: %s: cannot be written: %s\n", init->file, strerror(errno));
        return EXIT_WORK;
    }
    write_init_config(init, out);
    const bool failed = ferror(out) != 0;
    if (fclose(out) == 0 && !failed) return EXIT_DONE;
    fprintf(stderr, "hone init: %s: cannot be written whole: %s\n", init->file, strerror(errno));
    remove(init->file);
    return EXIT_WORK;
}

static void print_result(const Init *init) {
    const HonePlan *plan = &init->plan;
    char time[32], memory[32];
    if (init->common.json) {
        printf("{\"file\":");
        print_json_text(stdout, init->file);
        printf(",\"steps\":%lld,\"minutes\":%.3f,\"memory_bytes\":%lld,\"chosen\":{",
               (long long)plan->steps, plan->minutes, (long long)plan->memory_bytes);
        for (int i = 0; i < init->choice_count; i++) {
            printf("%s\"%s\":{\"value\":", i ? "," : "", init->choices[i].name);
            print_json_text(stdout, init->choices[i].value);
            printf(",\"why\":");
            print_json_text(stdout, init->choices[i].why);
            printf("}");
        }
        printf("}}\n");
        return;
    }
    for (int i = 0; i < init->choice_count; i++)
        printf("%-10s %s   (%s)\n", init->choices[i].name, init->choices[i].value,
               init->choices[i].why);
    printf("\nwritten: %s; the run takes %lld steps, about %s, and about %s of memory:\n"
           "  hone finetune --config %s\n",
           init->file, (long long)plan->steps, time_text(plan->minutes * 60, time),
           size_text(plan->memory_bytes, memory), init->file);
}

// What the table of hone finetune points to, at its defaults.
static void prepare(Init *init) {
    hone_finetune_defaults(&init->run.run);
    run_option_defaults(&init->run);
    init->finetune = (Command){.name = "init",
                               .options = init->options,
                               .option_count = run_option_table(&init->run, init->options)};
}

int command_init(int argc, char **argv) {
    Init init = {0};
    Option options[12] = {
        {"yes", OPTION_FLAG, &init.yes, NULL,
         "ask nothing: take what is likely for what no option says"},
        {"model", OPTION_TEXT, &init.model, "FILE",
         "the model (the only .gguf file of this folder)"},
        {"data", OPTION_LIST, &init.data, "F[:WEIGHT]",
         "the examples (the only file of data in this folder); may be repeated"},
        {"out", OPTION_TEXT, &init.out, "DIR", "the folder for the results (my-adapter)"},
        {"for", OPTION_TEXT, &init.purpose, "try|good|best|MINUTES",
         "what the run is for, or how many minutes it may take (good; try: 3 minutes)"},
        {"memory", OPTION_SIZE, &init.memory, "SIZE", "that it may take (most of what is free)"},
    };
    Command command = {.name = "init",
                       .summary = "Write a commented config for hone finetune, by four questions "
                                  "and a look at the data and this machine.",
                       .usage = "hone init [FILE] [--yes] [options]",
                       .options = options,
                       .option_count = 6 + common_options(&init.common, options + 6),
                       .positional = "FILE",
                       .position = &init.file};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!init.file) init.file = "finetune.yaml";
    status = exists_already(&init);
    if (status < 0) status = ask_what_is_missing(&init);
    if (status >= 0) return status;
    prepare(&init);
    init.context = open_context("init", &init.common, &status);
    if (!init.context) return status;
    status = choose_values(&init);
    if (status < 0) status = write_file(&init);
    if (status == EXIT_DONE) print_result(&init);
    hone_context_free(init.context);
    return status;
}
