// SPDX-License-Identifier: Apache-2.0
// What a run makes of its own numbers: steps that stand out and are not taken, the best held-out
// loss so far, and when to stop waiting for a better one.
#include "train/run.h"

#include <math.h>
#include <stdio.h>

// ---- spikes ------------------------------------------------------------------------------------

enum {
    LEAST_STEPS = 16, // taken before the first one is judged
    MOST_IN_A_ROW = 5 // then it is no spike but how things are now
};

// Standard deviations of x above the mean of the steps before.
static double score(const SpikeSeries *series, double x) {
    return (x - series->mean) / sqrt(series->variance + 1e-12);
}

// Exponentially weighted (West 1979), the weight of a step 1/20 at last: early losses fall.
static void take(SpikeSeries *series, int64_t steps, double x) {
    const double share = 1.0 / (double)(steps < 20 ? steps + 1 : 20);
    const double apart = x - series->mean;
    series->mean += share * apart;
    series->variance = (1 - share) * (series->variance + share * apart * apart);
}

bool hone_judge_spike(Run *run, double loss, double norm) {
    Progress *progress = &run->progress;
    const double most = run->options.skip_spikes;
    if (!(most > 0)) return false;
    if (progress->judged_steps >= LEAST_STEPS &&
        (score(&progress->loss, loss) > most || score(&progress->norm, norm) > most)) {
        progress->skipped++;
        if (++progress->skipped_in_a_row < MOST_IN_A_ROW) return true;
        progress->judged_steps = progress->skipped_in_a_row = 0;
        progress->loss = progress->norm = (SpikeSeries){0};
        return true;
    }
    progress->skipped_in_a_row = 0;
    take(&progress->loss, progress->judged_steps, loss);
    take(&progress->norm, progress->judged_steps, norm);
    progress->judged_steps++;
    return false;
}

// ---- held-out losses ---------------------------------------------------------------------------

hone_status hone_judge_check(Run *run) {
    const bool best = run->options.keep_best;
    if (run->held_out_count > 0 || (!best && run->options.patience == 0)) return HONE_OK;
    return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                     "%s needs held-out examples: give --eval-data, or --eval-split above 0",
                     best ? "--keep best" : "--patience");
}

// Each step's loss counts once, also when a run that was resumed measures it again.
hone_status hone_judge_held_out(Run *run, int64_t step, double loss) {
    Progress *progress = &run->progress;
    if (step <= progress->held_out_step) return HONE_OK;
    progress->held_out_step = step;
    progress->held_out_loss = loss;
    if (progress->best_step > 0 && !(loss < progress->best_loss)) {
        progress->worse_in_a_row++;
        return HONE_OK;
    }
    progress->best_step = step;
    progress->best_loss = loss;
    progress->worse_in_a_row = 0;
    return run->options.keep_best ? hone_checkpoint_write_best(run) : HONE_OK;
}

bool hone_judge_enough(const Run *run) {
    return run->options.patience > 0 && run->progress.worse_in_a_row >= run->options.patience;
}

// The examples' own losses, for the report, are those of the weights that are written.
static hone_status measure_kept(Run *run) {
    HoneHeldOut kept;
    hone_status status = hone_run_held_out(run, run->progress.best_step, &kept);
    if (status != HONE_INTERRUPTED) return status;
    for (int64_t i = 0; i < run->held_out_count; i++) run->record.after[i] = (double)NAN;
    return HONE_OK;
}

hone_status hone_judge_finish(Run *run) {
    const Progress *progress = &run->progress;
    char text[256];
    if (progress->skipped > 0) {
        snprintf(text, sizeof text, "%lld steps stood out and were skipped (--skip-spikes %.10g)",
                 (long long)progress->skipped, run->options.skip_spikes);
        hone_run_note(run, text);
    }
    if (hone_judge_enough(run) && progress->steps < run->step_count) {
        snprintf(text, sizeof text,
                 "stopped after step %lld of %lld: %lld held-out losses in a row were not below "
                 "%.4f, that of step %lld (--patience)",
                 (long long)progress->steps, (long long)run->step_count,
                 (long long)progress->worse_in_a_row, progress->best_loss,
                 (long long)progress->best_step);
        hone_run_note(run, text);
    }
    if (!run->options.keep_best || progress->best_step == progress->steps) return HONE_OK;
    RETURN_IF_ERROR(hone_checkpoint_take_best(run));
    run->loss_last = progress->best_loss;
    RETURN_IF_ERROR(measure_kept(run));
    snprintf(text, sizeof text,
             "the weights are those after step %lld, whose held-out loss was "
             "lowest (--keep best)",
             (long long)progress->best_step);
    hone_run_note(run, text);
    return HONE_OK;
}
