// SPDX-License-Identifier: Apache-2.0
// Reports: one self-contained HTML page of a run, or of several beside each other.
#ifndef HONE_REPORT_H
#define HONE_REPORT_H

#include <hone/base.h>

#ifdef __cplusplus
extern "C" {
#endif

// Write a page of the runs whose folders are named, from their metrics.jsonl, run.json and
// config.yaml, as file `out`: curves, plan against reality, data, answers before and after,
// held-out examples with the worst first, options; of several runs the curves lie over each other
// and the options that differ are told. The page loads nothing, and text from data is only text in
// it. HONE_ERROR_INPUT: a folder that is not a run's, or a damaged file, with its line.
hone_status hone_report(HoneContext *context, const char *const *folders, int count,
                        const char *out);

#ifdef __cplusplus
}
#endif
#endif
