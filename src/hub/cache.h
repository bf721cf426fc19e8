// SPDX-License-Identifier: Apache-2.0
// The folder in which Hugging Face's libraries keep what they fetched, and Hone too:
//     HUB/models--OWNER--NAME/blobs/ETAG             the files, by their checksum
//                             refs/REVISION          the commit that a branch or tag stood at
//                             snapshots/COMMIT/FILE  a link to its blob
//                             .locks is beside the models: HUB/.locks/models--OWNER--NAME/ETAG.lock
#ifndef HONE_HUB_CACHE_H
#define HONE_HUB_CACHE_H

#include "base/memory.h"

// HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else
// ~/.cache/huggingface/hub. Caller frees with hone_free; NULL: out of memory, or no home.
char *hone_hub_folder(void);

// HF_TOKEN, else the file HF_TOKEN_PATH, else HF_HOME/token and so on as above, without white
// space around it. *token: NULL where there is none; caller frees with hone_free. A token with
// characters that a header cannot hold is HONE_ERROR_INPUT.
hone_status hone_hub_token(char **token, HoneError *err);

// OWNER/NAME as the hub allows it: letters, digits, '-', '_', '.'; no part that begins or ends with
// '-' or '.', no "--" and no "..".
bool hone_hub_is_repository(const char *text);
// A file's name inside a repository that leads nowhere else: no empty, "." or ".." part, no
// backslash, no control character, at most 1000 bytes.
bool hone_hub_is_file_name(const char *name);

// HUB/models--OWNER--NAME. Caller frees with hone_free; NULL: out of memory.
char *hone_hub_repository_folder(const char *hub, const char *repository);

// What `name` ("OWNER/NAME", or "OWNER/NAME/FILE") stands for in the cache: the snapshot's folder
// where it holds config.json or adapter_config.json, else its one GGUF file (the first of a split
// one), or the named file. *path: NULL where nothing of that name was pulled, or where `name` has
// not that form; caller frees with hone_free. HONE_ERROR_INPUT: several files could be meant.
hone_status hone_hub_find(const char *name, char **path, HoneError *err);

// The path itself where there is such a file, or its folder where it is a file of a model's or an
// adapter's folder (adapter_model.safetensors, config.json, …); else what stands for it in the
// cache, else the path again; HONE_ERROR_INPUT where it can only be a name, and was not pulled.
// Caller frees *found with hone_free.
hone_status hone_hub_resolve(const char *path, char **found, HoneError *err);

#endif
