// SPDX-License-Identifier: Apache-2.0
// Corpora: the documents of text files, one after the other, whatever their size together.
#ifndef HONE_DATA_CORPUS_H
#define HONE_DATA_CORPUS_H

#include "base/error.h"

// text (length bytes) is valid during the call; it stands in line `line` of path.
typedef hone_status DocumentVisitor(void *user, const char *path, int line, const char *text,
                                    size_t length, HoneError *err);

// A file named .jsonl, .json, .csv or .tsv: each record's "text" is a document. Any other file of
// text: all of it is one, but above 16 MiB it is cut at ends of lines. Each may be packed
// (data/content.h). A folder: its .jsonl, .csv, .tsv, .txt and .md files and those of the folders
// in it, by name; names that begin with a dot are left out. Files are mapped and what was read is
// given back; a packed one is unpacked into memory. HONE_ERROR_INPUT: no document at all, a record
// without a text, an empty text, by file and line; a zero byte; what data/content.h says.
hone_status hone_corpus_each(const char *path, DocumentVisitor *visit, void *user, HoneError *err);

// The files of a folder that hone_corpus_each passes over for their names (of a file: none), and
// folders too deep in it. first: the caller's, hone_free; NULL without any.
typedef struct CorpusOthers {
    int64_t count;
    char *first;
} CorpusOthers;
hone_status hone_corpus_others(const char *path, CorpusOthers *others, HoneError *err);

#endif
