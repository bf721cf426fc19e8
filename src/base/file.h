// SPDX-License-Identifier: Apache-2.0
// Files: mapped for reading, written under a temporary name and renamed when whole.
#ifndef HONE_BASE_FILE_H
#define HONE_BASE_FILE_H

#include "base/error.h"

// A file mapped read-only. `data` is NULL for an empty file.
typedef struct FileMap {
    const unsigned char *data;
    size_t bytes;
    char *path;
} FileMap;

hone_status hone_file_map(const char *path, FileMap *map, HoneError *err);
// Several files in one map, each from a page of its own on; begin[i], bytes[i]: where file i lies.
// `path` is the map's, for messages.
hone_status hone_files_map(const char *path, const char *const *files, int count, FileMap *map,
                           size_t *begin, size_t *bytes, HoneError *err);
void hone_file_unmap(FileMap *map);
// Put a copy in memory in the place of the files, at the same addresses: what happens to them from
// then on is not seen. HONE_ERROR_IO where they end before the map does.
hone_status hone_file_copy(FileMap *map, HoneError *err);
// Give these bytes' pages back: read again they come from the kernel's cache, or from the file.
// What lies outside of the map is left alone.
void hone_file_drop(const FileMap *map, const void *data, size_t bytes);

// The whole file, NUL-terminated. Caller frees *text with hone_free.
hone_status hone_file_read(const char *path, char **text, size_t *bytes, HoneError *err);

// A file being written: to "PATH.tmp" beside it, so that PATH never holds half of anything.
// Errors are sticky; hone_writer_commit reports the first one (disk full, with the bytes written).
typedef struct FileWriter {
    char *path, *temporary;
    int descriptor;
    int error_number;
    char *buffer;
    size_t used;
    int64_t written;
} FileWriter;

hone_status hone_writer_open(FileWriter *writer, const char *path, HoneError *err);
void hone_writer_put(FileWriter *writer, const void *bytes, size_t length);
void hone_writer_pad(FileWriter *writer, size_t alignment); // zeros to the next multiple
int64_t hone_writer_offset(const FileWriter *writer);
// Flush, sync, rename, sync the folder: after it the file is there whatever happens. Frees.
hone_status hone_writer_commit(FileWriter *writer, HoneError *err);
void hone_writer_abort(FileWriter *writer); // removes the temporary; frees

// A file that only this process sees: its name, which there may not be yet, is gone before the
// first byte is written, so that nothing of it stays however the process ends. PATH is for
// messages.
hone_status hone_writer_open_unnamed(FileWriter *writer, const char *path, HoneError *err);
// Instead of a commit: what was written as a map, which keeps it until hone_file_unmap. Frees.
hone_status hone_writer_map(FileWriter *writer, FileMap *map, HoneError *err);

// Write a whole small file in one go.
hone_status hone_file_write(const char *path, const void *bytes, size_t length, HoneError *err);

// Append one line to a log (metrics): opened in append mode, written with one call.
typedef struct LogFile {
    int descriptor;
    char *path;
} LogFile;
// What stands in the file after its first `keep` bytes goes.
hone_status hone_log_open(LogFile *log, const char *path, int64_t keep, HoneError *err);
hone_status hone_log_line(LogFile *log, const char *line, HoneError *err); // adds the newline
hone_status hone_log_sync(LogFile *log, HoneError *err); // its lines are on the disk
void hone_log_close(LogFile *log);

hone_status hone_directory_make(const char *path, HoneError *err); // with parents; existing is fine
// Fail as hone_directory_make would, or as writing into the folder would; makes nothing.
hone_status hone_directory_check(const char *path, HoneError *err);
// Take the folder for this process: fails at once while another holds it, is given back by
// hone_directory_unlock or by the process's end, however it ends. Where the file system has no
// locks, nobody is kept out. *lock: 0 is none, as of a struct of zeros.
hone_status hone_directory_lock(const char *path, int *lock, HoneError *err);
void hone_directory_unlock(int lock);
// Call visit with the name of every entry but "." and ".."; a folder that cannot be read has none.
void hone_directory_each(const char *path, void (*visit)(void *user, const char *name), void *user);
void hone_file_remove(const char *path);      // no word if it is not there
void hone_directory_remove(const char *path); // of an empty one; no word otherwise
bool hone_is_directory(const char *path);
// The folder itself or the nearest above it that is there; "." where a relative path has none.
// Caller frees with hone_free; NULL: out of memory.
char *hone_directory_nearest(const char *path);
bool hone_is_file(const char *path);
bool hone_same_file(const char *a, const char *b); // both exist and are one file
// "a/b" from "a" and "b". Caller frees with hone_free; NULL: out of memory.
char *hone_path_join(const char *folder, const char *name);

#endif
