// SPDX-License-Identifier: Apache-2.0
// hone finetune: options to the library's, events to the terminal or to JSON.
#include <signal.h>

#include "finetune_display.h"
#include "output.h"
#include "run_options.h"

static void note_what_is_ignored(const Command *command, int argc, char **argv,
                                 const HoneFinetuneOptions *run) {
    if (run->method == HONE_METHOD_FULL)
        note_without_effect(command, argc, argv,
                            "rank alpha dropout targets layers rslora save-modules",
                            "with --method full");
    else
        note_without_effect(command, argc, argv, "type", "without --method full");
    const bool pairs = run->loss == HONE_LOSS_DPO || run->loss == HONE_LOSS_ORPO;
    if (run->loss != HONE_LOSS_DISTILL)
        note_without_effect(command, argc, argv, "teacher temperature teacher-share",
                            "without --loss distill");
    if (!pairs)
        note_without_effect(command, argc, argv, "beta", "without --loss dpo or orpo");
    else
        note_without_effect(command, argc, argv, "loss-on z-loss", "with --loss dpo or orpo");
    if (run->examples.task != HONE_TASK_CLASSIFY)
        note_without_effect(command, argc, argv, "labels", "without --task classify");
    if (run->examples.task != HONE_TASK_NONE)
        note_without_effect(command, argc, argv, "loss-on no-eos template date stride",
                            "with an encoder's --task");
    if (run->adapter)
        note_without_effect(command, argc, argv, "targets layers save-modules", "beside --adapter");
    note_what_the_optimizer_ignores(command, argc, argv, run);
    if (!run->resume)
        note_without_effect(command, argc, argv, "resume-changed", "without --resume");
}

static const char *missing(const HoneFinetuneOptions *run) {
    if (!run->model) return "--model";
    if (run->data_count == 0) return "--data";
    return run->out || run->dry_run ? NULL : "--out";
}

int command_finetune(int argc, char **argv) {
    RunOptions given = {0};
    hone_finetune_defaults(&given.run);
    run_option_defaults(&given);
    Option options[96];
    Command command = {
        .name = "finetune",
        .summary = "Fine-tune a model on your data: LoRA or DoRA over the weights as stored, "
                   "or all weights.",
        .usage = "hone finetune --model M --data D --out DIR [options]",
        .options = options,
        .option_count = run_option_table(&given, options)};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    let_the_command_line_win(argc, argv, &given.run);
    HoneDataSource sources[LIST_LIMIT];
    if (!resolve_run_options("finetune", &given, sources)) return EXIT_USAGE;
    const char *lacking = missing(&given.run);
    if (lacking && given.run.resume) {
        fprintf(stderr,
                "hone finetune: %s: is not the folder of a run to resume: it has no config.yaml "
                "(and %s is not given)\n",
                given.run.resume, lacking);
        return EXIT_USAGE;
    }
    if (lacking) {
        fprintf(stderr, "hone finetune: %s is needed (usage: %s)\n", lacking, command.usage);
        return EXIT_USAGE;
    }
    note_what_is_ignored(&command, argc, argv, &given.run);
    if (!ask_to_overwrite("finetune", &given)) return EXIT_USAGE;
    HoneContext *context = open_context("finetune", &given.common, &status);
    if (!context) return status;
    watch_signals();
    signal(SIGPIPE, SIG_IGN); // whoever read along may leave: the training goes on
    static const char *const commands[] = {NULL, "embed", "classify", "embed"};
    Display display = {.json = given.common.json,
                       .model = given.run.model,
                       .out = given.run.out,
                       .encodes = commands[given.run.examples.task],
                       .template_path = given.run.template_path,
                       .dry_run = given.run.dry_run};
    hone_status result = hone_finetune(context, &given.run, display_event, &display);
    display_end(&display);
    status = result == HONE_OK ? EXIT_DONE : report_failure("finetune", context, result);
    hone_context_free(context);
    return status;
}
