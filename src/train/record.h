// SPDX-License-Identifier: Apache-2.0
// run.json: what is known of a run beside its metrics, for report.html and for programs.
#ifndef HONE_TRAIN_RECORD_H
#define HONE_TRAIN_RECORD_H

#include "train/run.h"

enum { RECORD_TOKENS = 64 }; // of an answer, at most

// The state that run.json tells.
typedef enum RunState { RUN_RUNNING, RUN_DONE, RUN_INTERRUPTED } RunState;

// Room for the held-out losses; those before the first step come from the resumed run.
hone_status hone_record_begin(Run *run);
void hone_record_answer(Run *run); // samples.c: before the record of a run that is done
// Write run.json. done: NULL while it runs.
hone_status hone_record_write(Run *run, RunState state, const HoneDone *done);
void hone_record_free(RunRecord *record);

#endif
