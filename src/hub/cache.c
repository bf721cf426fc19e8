// SPDX-License-Identifier: Apache-2.0
#include "hub/cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

// ---- places ------------------------------------------------------------------------------------

static char *given_path(TextBuffer *text) {
    if (!text->failed && text->data) return text->data;
    hone_text_free(text);
    return NULL;
}

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

// A folder as a person writes it: ~ is the home.
static void put_folder(TextBuffer *text, const char *folder) {
    const char *home = variable("HOME");
    if (folder[0] == '~' && (folder[1] == '/' || !folder[1]) && home) {
        hone_text_puts(text, home);
        folder++;
    }
    hone_text_puts(text, folder);
}

// HF_HOME or where it is by default, and what is in it.
static char *in_home(const char *name) {
    TextBuffer text = {0};
    const char *home = variable("HF_HOME"), *cache = variable("XDG_CACHE_HOME");
    if (home) {
        put_folder(&text, home);
    } else if (cache || variable("HOME")) {
        put_folder(&text, cache ? cache : "~/.cache");
        hone_text_puts(&text, "/huggingface");
    } else {
        return NULL;
    }
    hone_text_printf(&text, "/%s", name);
    return given_path(&text);
}

char *hone_hub_folder(void) {
    TextBuffer text = {0};
    const char *named = variable("HF_HUB_CACHE");
    if (!named) named = variable("HUGGINGFACE_HUB_CACHE");
    if (!named) return in_home("hub");
    put_folder(&text, named);
    return given_path(&text);
}

hone_status hone_hub_token(char **token, HoneError *err) {
    *token = NULL;
    const char *given = variable("HF_TOKEN"), *file = variable("HF_TOKEN_PATH"), *from = "HF_TOKEN";
    if (!given) given = variable("HUGGING_FACE_HUB_TOKEN");
    char *path = NULL, *text = NULL;
    hone_status status = HONE_OK;
    if (!given) {
        TextBuffer named = {0};
        if (file) put_folder(&named, file);
        path = file ? given_path(&named) : in_home("token");
        from = path;
        if (path && hone_is_file(path)) status = hone_file_read(path, &text, NULL, err);
        given = text ? text : "";
    }
    if (status == HONE_OK) {
        given += strspn(given, " \t\r\n");
        size_t length = strcspn(given, " \t\r\n"),
               rest = length + strspn(given + length, " \t\r\n");
        bool fine = given[rest] == '\0' && length < 4096;
        for (size_t i = 0; fine && i < length; i++) fine = given[i] > ' ' && given[i] < 0x7f;
        if (!fine)
            status = hone_fail(err, HONE_ERROR_INPUT, "%s: is no token: one word is wanted", from);
        else if (length > 0 && !(*token = hone_strndup(given, length)))
            status = hone_fail_memory(err, length, "a token");
    }
    hone_free(text);
    hone_free(path);
    return status;
}

// ---- names -------------------------------------------------------------------------------------

static bool is_name_part(const char *part, size_t length) {
    if (length == 0 || length > 96 || strchr("-.", part[0]) || strchr("-.", part[length - 1]))
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = part[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!word && !strchr("-_.", c)) return false;
        if (i > 0 && strchr("-.", c) && part[i - 1] == c) return false;
    }
    return true;
}

// The length of the OWNER/NAME that text begins with; 0: it begins with none.
static size_t repository_length(const char *text) {
    size_t owner = strcspn(text, "/");
    if (text[owner] != '/' || !is_name_part(text, owner)) return 0;
    size_t name = strcspn(text + owner + 1, "/");
    return is_name_part(text + owner + 1, name) ? owner + 1 + name : 0;
}

bool hone_hub_is_repository(const char *text) {
    size_t length = repository_length(text);
    return length > 0 && text[length] == '\0';
}

bool hone_hub_is_file_name(const char *name) {
    size_t length = strlen(name);
    if (length == 0 || length > 1000) return false;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f || name[i] == '\\') return false;
    for (const char *part = name;; part++) {
        size_t bytes = strcspn(part, "/");
        bool dots = bytes <= 2 && strspn(part, ".") >= bytes; // "", "." or ".."
        if (dots || bytes > 255) return false;
        part += bytes;
        if (*part == '\0') return true;
    }
}

char *hone_hub_repository_folder(const char *hub, const char *repository) {
    TextBuffer text = {0};
    int owner = (int)strcspn(repository, "/");
    hone_text_printf(&text, "%s/models--%.*s--%s", hub, owner, repository, repository + owner + 1);
    return given_path(&text);
}

// ---- finding -----------------------------------------------------------------------------------

typedef struct GgufFiles {
    int count;
    TextBuffer names; // as a list for the message
    char first[256];
} GgufFiles;

// Parts of a split file but the first are no files of their own.
static bool is_later_part(const char *name) {
    const char *of = strstr(name, "-of-");
    return of && of - name >= 6 && of[-6] == '-' && strncmp(of - 5, "00001", 5) != 0;
}

static void note_gguf(void *user, const char *name) {
    GgufFiles *files = user;
    size_t length = strlen(name);
    if (length < 5 || length >= sizeof files->first || strcmp(name + length - 5, ".gguf") != 0 ||
        is_later_part(name))
        return;
    if (files->count++ == 0) memcpy(files->first, name, length + 1);
    hone_text_printf(&files->names, "%s%s", files->count > 1 ? ", " : "", name);
}

static bool holds(const char *folder, const char *name) {
    char *path = hone_path_join(folder, name);
    bool there = path && hone_is_file(path);
    hone_free(path);
    return there;
}

// The snapshot of the branch main. NULL: nothing was pulled, or it is gone.
static char *find_snapshot(const char *repository) {
    char *hub = hone_hub_folder(), *text = NULL;
    char *folder = hub ? hone_hub_repository_folder(hub, repository) : NULL;
    char *ref = folder ? hone_path_join(folder, "refs/main") : NULL;
    char *snapshot = NULL;
    if (ref && hone_is_file(ref) && hone_file_read(ref, &text, NULL, NULL) == HONE_OK) {
        size_t length = strspn(text, "0123456789abcdef");
        TextBuffer path = {0};
        if (length >= 40 && length <= 64) {
            hone_text_printf(&path, "%s/snapshots/%.*s", folder, (int)length, text);
            snapshot = given_path(&path);
        }
        if (snapshot && !hone_is_directory(snapshot)) {
            hone_free(snapshot);
            snapshot = NULL;
        }
    }
    hone_free(text);
    hone_free(ref);
    hone_free(folder);
    hone_free(hub);
    return snapshot;
}

hone_status hone_hub_find(const char *name, char **path, HoneError *err) {
    *path = NULL;
    size_t length = repository_length(name);
    if (length == 0) return HONE_OK;
    const char *file = name[length] == '/' ? name + length + 1 : NULL;
    if (file && !hone_hub_is_file_name(file)) return HONE_OK;
    char *repository = hone_strndup(name, length);
    if (!repository) return hone_fail_memory(err, length, "a name");
    char *snapshot = find_snapshot(repository);
    hone_free(repository);
    if (!snapshot) return HONE_OK;
    GgufFiles files = {0};
    hone_status status = HONE_OK;
    if (file) {
        if (holds(snapshot, file)) *path = hone_path_join(snapshot, file);
    } else if (holds(snapshot, "config.json") || holds(snapshot, "adapter_config.json")) {
        *path = hone_strdup(snapshot);
    } else {
        hone_directory_each(snapshot, note_gguf, &files);
        if (files.count == 1)
            *path = hone_path_join(snapshot, files.first);
        else if (files.count > 1)
            status = hone_fail(err, HONE_ERROR_INPUT,
                               "%s: several files were pulled, name one as "
                               "%s/FILE: %s",
                               name, name, files.names.data ? files.names.data : "");
    }
    hone_text_free(&files.names);
    hone_free(snapshot);
    return status;
}

// A path by its looks, though nothing is there: a file's ending, or a folder that exists.
static bool is_known_name(const char *path) {
    static const char *const ends[] = {".gguf", ".json", ".jsonl", ".safetensors"};
    size_t length = strlen(path);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t tail = strlen(ends[i]);
        if (length > tail && strcmp(path + length - tail, ends[i]) == 0) return true;
    }
    char *owner = hone_strndup(path, strcspn(path, "/"));
    bool there = owner && hone_is_directory(owner);
    hone_free(owner);
    return there;
}

// Is it one of the files that make a folder a model or an adapter, in such a folder?
static bool stands_for_folder(const char *folder, const char *name) {
    static const char *const of_adapters[] = {"adapter_config.json", "adapter_model.safetensors",
                                              "adapters.safetensors"};
    for (size_t i = 0; i < sizeof of_adapters / sizeof *of_adapters; i++)
        if (strcmp(name, of_adapters[i]) == 0) return holds(folder, "adapter_config.json");
    return (strcmp(name, "config.json") == 0 || strncmp(name, "model.safetensors", 17) == 0 ||
            (strncmp(name, "model-", 6) == 0 && strstr(name, ".safetensors"))) &&
           holds(folder, "config.json");
}

static char *place_of(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char *folder = !slash          ? hone_strdup(".")
                   : slash == path ? hone_strdup("/")
                                   : hone_strndup(path, (size_t)(slash - path));
    if (folder && stands_for_folder(folder, name)) return folder;
    hone_free(folder);
    return hone_strdup(path);
}

hone_status hone_hub_resolve(const char *path, char **found, HoneError *err) {
    *found = NULL;
    if (hone_is_file(path)) {
        *found = place_of(path);
    } else if (!hone_is_directory(path)) {
        RETURN_IF_ERROR(hone_hub_find(path, found, err));
        if (!*found && hone_hub_is_repository(path) && !is_known_name(path))
            return hone_fail(err, HONE_ERROR_INPUT,
                             "%s: there is no such file or folder, nor was a model of that name "
                             "pulled (hone pull %s)",
                             path, path);
    }
    if (!*found && !hone_is_file(path)) *found = hone_strdup(path);
    return *found ? HONE_OK : hone_fail_memory(err, strlen(path) + 1, "a path");
}
