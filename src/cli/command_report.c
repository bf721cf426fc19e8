// SPDX-License-Identifier: Apache-2.0
// hone report: the page of a run, or of several beside each other.
#include <string.h>

#include "output.h"

int command_report(int argc, char **argv) {
    Common common = {0};
    const char *first = NULL, *out = NULL;
    TextList more = {0};
    Option options[8] = {
        {"out", OPTION_TEXT, &out, "FILE", "the page (of one run: RUN/report.html)"},
    };
    Command command = {.name = "report",
                       .summary = "Write the page of a run: curves, plan against reality, data, "
                                  "answers before and after, the worst held-out examples. Of "
                                  "several runs: their curves over each other, and the options "
                                  "that differ.",
                       .usage = "hone report RUN… [--out FILE]",
                       .options = options,
                       .option_count = 1 + common_options(&common, options + 1),
                       .positional = "DIR",
                       .position = &first,
                       .more = &more};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!first || (more.count > 0 && !out)) {
        fprintf(stderr, "hone report: %s (usage: %s)\n",
                first ? "--out is needed for several runs" : "the folder of which run?",
                command.usage);
        return EXIT_USAGE;
    }
    char own[4096];
    if (!out) {
        snprintf(own, sizeof own, "%s/report.html", first);
        out = own;
    }
    const char *folders[LIST_LIMIT + 1] = {first};
    memcpy(folders + 1, more.items, (size_t)more.count * sizeof *folders);
    HoneContext *context = open_context("report", &common, &status);
    if (!context) return status;
    hone_status result = hone_report(context, folders, more.count + 1, out);
    if (result != HONE_OK) {
        status = report_failure("report", context, result);
    } else {
        status = EXIT_DONE;
        if (common.json) {
            printf("{\"out\":");
            print_json_text(stdout, out);
            printf(",\"runs\":%d}\n", more.count + 1);
        } else {
            printf("%s\n", out);
        }
    }
    hone_context_free(context);
    return status;
}
