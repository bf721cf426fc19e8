// SPDX-License-Identifier: Apache-2.0
// The records of a data file as JSON values, whatever the file is, each with its line.
#ifndef HONE_DATA_RECORDS_H
#define HONE_DATA_RECORDS_H

#include <jansson.h>

#include "data/content.h"

typedef struct RecordSink {
    void *user;
    // A record, borrowed. Any failure ends the reading.
    hone_status (*record)(void *user, const json_t *value, int line, HoneError *err);
    // What stands there is no JSON, or no row of the table: why, with file and line.
    hone_status (*bad)(void *user, const HoneError *problem, HoneError *err);
} RecordSink;

// content: of any kind but CONTENT_TEXT. A table's row is an object of its columns, texts but for
// those that hold JSON. HONE_ERROR_INPUT: a list that is no JSON, two columns of one name.
hone_status hone_records_each(const char *path, const Content *content, const RecordSink *sink,
                              HoneError *err);

#endif
