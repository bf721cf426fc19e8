// SPDX-License-Identifier: Apache-2.0
// The options of a run, which hone finetune and hone train share.
#ifndef HONE_CLI_RUN_OPTIONS_H
#define HONE_CLI_RUN_OPTIONS_H

#include "options.h"

typedef struct RunOptions {
    Common common;
    HoneFinetuneOptions run;
    TextList data;
    const char *method, *loss, *schedule, *optimizer, *loss_on, *on_bad, *date, *config,
        *checkpoint_layers, *keep, *task;
    int64_t rank, layers;
} RunOptions;

// Set the words of `given` whose defaults the table cannot have; given->run is set already.
void run_option_defaults(RunOptions *given);
// Fill options with all of them, the common ones too; returns how many.
int run_option_table(RunOptions *given, Option *options);
// What the table cannot say by itself; prints the error and returns false. sources: LIST_LIMIT.
bool resolve_run_options(const char *command, RunOptions *given, HoneDataSource *sources);
// The command line wins: what it says of the batch or the length takes the place of what a config
// file says of the same in another way.
void let_the_command_line_win(int argc, char **argv, HoneFinetuneOptions *run);
// A run in --out that could go on is replaced with --overwrite only: ask for it on a terminal,
// where nothing is said elsewhere (the library refuses). Returns false when the answer is no.
bool ask_to_overwrite(const char *command, RunOptions *given);
void note_what_the_optimizer_ignores(const Command *command, int argc, char **argv,
                                     const HoneFinetuneOptions *run);

#endif
