// SPDX-License-Identifier: Apache-2.0
// What a fine-tuning run shows: the plan with the first example's mask, one live line, the files.
#ifndef HONE_CLI_FINETUNE_DISPLAY_H
#define HONE_CLI_FINETUNE_DISPLAY_H

#include <hone/hone.h>

typedef struct Display {
    bool json, dry_run;
    bool generates; // the model is new: it has no chat template
    const char *model, *out;
    bool line_open;    // a live line without its newline stands on the terminal
    double last_shown; // when plain lines were last written (not on a terminal)
    double mean_loss;  // moving average
    int64_t steps_seen;
} Display;

bool display_event(void *user, const HoneEvent *event);
void display_end(Display *display);

#endif
