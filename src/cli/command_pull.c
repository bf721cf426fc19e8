// SPDX-License-Identifier: Apache-2.0
// hone pull
#include <string.h>

#include "output.h"

typedef struct Progress {
    bool json, terminal;
    bool open;          // a line that is written over stands on the terminal
    int64_t last_tenth; // of the file, as last shown
} Progress;

static void end_line(Progress *progress) {
    if (progress->open) fputc('\n', stderr);
    progress->open = false;
}

static void show_file(Progress *progress, const HonePullStep *step) {
    char done[32], whole[32];
    int64_t share = step->total > 0 ? step->bytes * 1000 / step->total : 1000;
    if (!progress->terminal || (share == progress->last_tenth && !step->whole)) return;
    progress->last_tenth = share;
    fprintf(stderr, "\r\033[K%lld/%lld  ", (long long)step->index, (long long)step->files);
    plain_text(stderr, step->file, strlen(step->file));
    fprintf(stderr, "  %s of %s", size_text(step->bytes, done),
            size_text(step->total < 0 ? 0 : step->total, whole));
    progress->open = true;
    if (step->whole) end_line(progress);
}

static bool show(void *user, const HonePullStep *step) {
    Progress *progress = user;
    if (step->note) {
        end_line(progress);
        fprintf(stderr, "hone pull: ");
        plain_text(stderr, step->file, strlen(step->file));
        fprintf(stderr, "%s%s\n", *step->file ? ": " : "", step->note);
    } else if (step->whole && progress->json) {
        printf("{\"event\":\"file\",\"file\":");
        print_json_text(stdout, step->file);
        printf(",\"index\":%lld,\"files\":%lld,\"bytes\":%lld}\n", (long long)step->index,
               (long long)step->files, (long long)step->bytes);
        fflush(stdout);
    }
    if (step->index > 0) show_file(progress, step);
    return !was_interrupted();
}

static int pull(HoneContext *context, const HonePullOptions *options, bool json) {
    Progress progress = {.json = json, .terminal = stderr_is_terminal(), .last_tenth = -1};
    HonePulled pulled;
    char size[32];
    hone_status result = hone_pull(context, options, show, &progress, &pulled);
    end_line(&progress);
    if (result == HONE_INTERRUPTED) {
        fputs("hone pull: stopped; what came stays, and the same command goes on from there\n",
              stderr);
        return EXIT_INTERRUPTED;
    }
    if (result != HONE_OK) return report_failure("pull", context, result);
    if (json) {
        printf("{\"event\":\"done\",\"path\":");
        print_json_text(stdout, pulled.path);
        printf(",\"commit\":\"%s\",\"files\":%lld,\"bytes\":%lld,\"received\":%lld}\n",
               pulled.commit, (long long)pulled.files, (long long)pulled.bytes,
               (long long)pulled.received);
    } else {
        printf("%s\n", pulled.path);
        fprintf(stderr, "%lld files, %s, all verified; use it as --model %s%s%s\n",
                (long long)pulled.files, size_text(pulled.bytes, size), options->repository,
                options->file ? "/" : "", options->file ? options->file : "");
    }
    hone_free(pulled.path);
    return EXIT_DONE;
}

int command_pull(int argc, char **argv) {
    Common common = {0};
    HonePullOptions given = {0};
    Option options[16] = {
        {"file", OPTION_TEXT, &given.file, "F",
         "this file alone (default: what Hone reads, or the one GGUF file)"},
        {"revision", OPTION_TEXT, &given.revision, "R", "a branch, tag or commit (main)"},
        {"endpoint", OPTION_TEXT, &given.endpoint, "URL",
         "the hub (default: $HF_ENDPOINT, else https://huggingface.co)"},
    };
    Command command = {.name = "pull",
                       .summary = "Fetch a model from the model hub into Hugging Face's cache, and "
                                  "print where it is; it is then a --model by its name.",
                       .usage = "hone pull OWNER/NAME [--file F] [--revision R] [--endpoint URL]",
                       .options = options,
                       .option_count = 3 + common_options(&common, options + 3),
                       .positional = "OWNER/NAME",
                       .position = &given.repository};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!given.repository) {
        fprintf(stderr, "hone pull: which model? (usage: %s)\n", command.usage);
        return EXIT_USAGE;
    }
    HoneContext *context = open_context("pull", &common, &status);
    if (!context) return status;
    watch_signals();
    status = pull(context, &given, common.json);
    hone_context_free(context);
    return status;
}
