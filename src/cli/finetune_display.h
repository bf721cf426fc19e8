// SPDX-License-Identifier: Apache-2.0
// What a fine-tuning run shows: the plan with the first example's mask, one live line, the files.
#ifndef HONE_CLI_FINETUNE_DISPLAY_H
#define HONE_CLI_FINETUNE_DISPLAY_H

#include "live.h"

typedef struct Display {
    bool json, dry_run;
    bool translates;     // the model is an encoder-decoder; from the plan
    const char *encodes; // of an encoder's run: the command that shows it; NULL: another's
    bool chats;          // most examples are conversations; from the plan
    char prompt[64];     // of the first example, if it is short and no conversation; from the plan
    const char *model, *out, *template_path;
    double last_shown; // when the live line or a plain one was last written
    Live live;
} Display;

bool display_event(void *user, const HoneEvent *event);
void display_end(Display *display);

#endif
