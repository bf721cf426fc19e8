// SPDX-License-Identifier: Apache-2.0
// safetensors files: a JSON header and the data. Reading maps and checks; writing goes to a
// temporary.
#ifndef HONE_IO_SAFETENSORS_H
#define HONE_IO_SAFETENSORS_H

#include "base/dtype.h"
#include "base/file.h"

typedef struct SafeTensor {
    char *name;
    int dtype; // HONE_F32, HONE_F16, HONE_BF16, …; -1: a type Hone does not read (type_name says
               // which)
    char type_name[16];
    int rank;
    int64_t shape[8];
    const void *data;
    size_t bytes;
} SafeTensor;

typedef struct SafeTensorsFile {
    FileMap map;
    bool borrowed; // the map is another's
    SafeTensor *tensors;
    int64_t count;
} SafeTensorsFile;

// Refused: a header outside the file, ranges that overlap, leave a hole or pass the end, sizes that
// disagree with shape × type, duplicate names.
hone_status hone_safetensors_open(const char *path, SafeTensorsFile *file, HoneError *err);
// The same of a file that is in memory already, borrowed until it is closed; `path` for messages.
hone_status hone_safetensors_parse(const char *path, const unsigned char *data, size_t bytes,
                                   SafeTensorsFile *file, HoneError *err);
void hone_safetensors_close(SafeTensorsFile *file);
const SafeTensor *hone_safetensors_find(const SafeTensorsFile *file, const char *name);

typedef struct SafeTensorEntry {
    const char *name;
    int dtype;
    int rank;
    int64_t shape[4];
    const void *data;
} SafeTensorEntry;
// Written with {"format":"pt"}, header padded with spaces to 8 bytes.
hone_status hone_safetensors_write(const char *path, const SafeTensorEntry *entries, int64_t count,
                                   HoneError *err);
// The same of tensors that are not all in memory: before each is written, in the file's order,
// `source` may set its entry's data, valid until the next call. A failure of its own leaves no
// file.
typedef hone_status (*SafeTensorSource)(void *user, SafeTensorEntry *entry, HoneError *err);
hone_status hone_safetensors_stream(const char *path, SafeTensorEntry *entries, int64_t count,
                                    SafeTensorSource source, void *user, HoneError *err);

#endif
