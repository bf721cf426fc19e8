// SPDX-License-Identifier: Apache-2.0
// The live line of a run on a terminal: as much as its width holds, also when that changes.
#ifndef HONE_CLI_LIVE_H
#define HONE_CLI_LIVE_H

#include <hone/hone.h>

enum { LIVE_RECENT = 64 };

typedef struct Live {
    double recent[LIVE_RECENT]; // the last losses, a ring
    int64_t steps_seen;
    double mean_loss; // live_mean corrects its bias
    double held_out;  // the last one; 0: none
    int columns;      // of the line that stands on the terminal; 0: none does
} Live;

// A terminal that can go back to the beginning of a line.
bool live_possible(void);
void live_note_step(Live *live, const HoneStep *step);
double live_mean(const Live *live); // moving average over about twenty steps
void live_draw(Live *live, const HoneStep *step);
void live_clear(Live *live); // take the line away, and stay where it began
void live_end(Live *live);   // leave it there, and go to the next line
// Put a text of so many columns there in its place.
void live_text(Live *live, const char *text);

// Bars of eight heights, `count` of them in place of values from `low` to `high`, into text of room
// for 3·count + 1.
void sparkline(const double *values, int count, double low, double high, char *text);

#endif
