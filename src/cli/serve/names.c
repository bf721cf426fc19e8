// SPDX-License-Identifier: Apache-2.0
// What a request may call a model: the base by its name, and BASE:ADAPTER.
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "server.h"

// The adapters of --adapter [NAME=]A[:WEIGHT], and after them those in --adapters.
typedef struct Shelf {
    const Server *server;
    const ServeOptions *options;
    int at;                  // of the options
    struct dirent **entries; // of the folder, sorted
    int entry, entry_count;
    char name[256], path[4096];
    double weight;
} Shelf;

static bool has_file(const char *folder, const char *file) {
    char path[4352];
    struct stat info;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, file) >= sizeof path) return false;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

static bool looks_like_adapter(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0) return false;
    const size_t length = strlen(path);
    if (S_ISREG(info.st_mode)) return length > 5 && strcmp(path + length - 5, ".gguf") == 0;
    return has_file(path, "adapter_config.json") || has_file(path, "adapters.safetensors");
}

void look_at_adapter(const char *path, struct timespec *changed, ino_t *file) {
    static const char *const files[] = {"/adapter_model.safetensors", "/adapters.safetensors", ""};
    struct stat info;
    *changed = (struct timespec){0};
    *file = 0;
    for (size_t i = 0; path && i < sizeof files / sizeof *files; i++) {
        char name[4352];
        const int wrote = snprintf(name, sizeof name, "%s%s", path, files[i]);
        if (wrote < 0 || (size_t)wrote >= sizeof name || stat(name, &info) != 0) continue;
        *changed = info.st_mtim;
        *file = info.st_ino;
        return;
    }
}

static bool is_refused(const Server *server, const char *path) {
    struct timespec changed;
    ino_t file;
    if (server->refused_count == 0) return false;
    look_at_adapter(path, &changed, &file);
    for (int i = 0; i < server->refused_count; i++) {
        const Refused *refused = &server->refused[i];
        if (strcmp(refused->path, path) == 0 && refused->file == file &&
            refused->changed.tv_sec == changed.tv_sec &&
            refused->changed.tv_nsec == changed.tv_nsec)
            return true;
    }
    return false;
}

char *name_of_path(const char *path) {
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/') begin--;
    if (end - begin > 5 && strncmp(path + end - 5, ".gguf", 5) == 0) end -= 5;
    return strndup(path + begin, end - begin);
}

static bool set_name(Shelf *shelf, const char *name, size_t length) {
    if (length == 0 || length >= sizeof shelf->name) return false;
    memcpy(shelf->name, name, length);
    shelf->name[length] = '\0';
    return true;
}

// "[NAME=]A[:WEIGHT]": a file or folder of the whole text comes first.
static bool split_given(Shelf *shelf, const char *text) {
    struct stat info;
    const char *equals = strchr(text, '='), *slash = strchr(text, '/');
    const bool named =
        equals && equals > text && !(slash && slash < equals) && stat(text, &info) != 0;
    const char *path = named ? equals + 1 : text;
    const char *colon = strrchr(path, ':');
    char *end;
    size_t length = strlen(path);
    shelf->weight = 1;
    if (colon && colon > path && stat(path, &info) != 0) {
        const double weight = strtod(colon + 1, &end);
        if (end > colon + 1 && *end == '\0') {
            shelf->weight = weight;
            length = (size_t)(colon - path);
        }
    }
    if (length >= sizeof shelf->path) return false;
    memcpy(shelf->path, path, length);
    shelf->path[length] = '\0';
    if (named) return set_name(shelf, text, (size_t)(equals - text));
    char *name = name_of_path(shelf->path);
    const bool fine = name && set_name(shelf, name, strlen(name));
    free(name);
    return fine;
}

static void open_shelf(Shelf *shelf, const Server *server) {
    *shelf = (Shelf){.server = server, .options = server->options, .entry_count = -1};
}

// The next adapter into name, path and weight; false: there is none.
static bool next_adapter(Shelf *shelf) {
    const ServeOptions *options = shelf->options;
    while (shelf->at < options->adapters.count)
        if (split_given(shelf, options->adapters.items[shelf->at++])) return true;
    if (!options->folder) return false;
    if (shelf->entry_count < 0) {
        shelf->entry_count = scandir(options->folder, &shelf->entries, NULL, alphasort);
        if (shelf->entry_count < 0) shelf->entry_count = 0;
    }
    while (shelf->entry < shelf->entry_count) {
        const char *name = shelf->entries[shelf->entry++]->d_name;
        const int wrote = snprintf(shelf->path, sizeof shelf->path, "%s/%s", options->folder, name);
        if (name[0] == '.' || wrote < 0 || (size_t)wrote >= sizeof shelf->path) continue;
        if (!looks_like_adapter(shelf->path) || is_refused(shelf->server, shelf->path)) continue;
        char *short_name = name_of_path(name);
        const bool fine = short_name && set_name(shelf, short_name, strlen(short_name));
        free(short_name);
        shelf->weight = 1;
        if (fine) return true;
    }
    return false;
}

static void close_shelf(Shelf *shelf) {
    for (int i = 0; i < shelf->entry_count; i++) free(shelf->entries[i]);
    free(shelf->entries);
}

bool check_adapter_names(const Server *server) {
    const ServeOptions *options = server->options;
    Shelf one, other;
    for (int i = 0; i < options->adapters.count; i++) {
        const char *text = options->adapters.items[i];
        open_shelf(&one, server);
        if (!split_given(&one, text)) {
            fprintf(stderr, "hone serve: --adapter \"%s\": no name can be made of it\n", text);
            return false;
        }
        for (int j = 0; j < i; j++) {
            open_shelf(&other, server);
            if (!split_given(&other, options->adapters.items[j])) continue;
            if (strcmp(one.name, other.name) != 0) continue;
            fprintf(stderr,
                    "hone serve: --adapter %s and %s are both called %s: name one, as in "
                    "--adapter other=%s\n",
                    options->adapters.items[j], text, one.name, text);
            return false;
        }
    }
    struct stat info;
    if (options->folder && (stat(options->folder, &info) != 0 || !S_ISDIR(info.st_mode))) {
        fprintf(stderr, "hone serve: --adapters %s: is not a folder\n", options->folder);
        return false;
    }
    return true;
}

static bool take(const Server *server, const Shelf *shelf, AdapterChoice *choice,
                 char name[MODEL_NAME_LIMIT]) {
    choice->path = strdup(shelf->path);
    choice->weight = shelf->weight;
    snprintf(name, MODEL_NAME_LIMIT, "%s:%s", server->name, shelf->name);
    return choice->path != NULL;
}

bool choose_model(const Server *server, const char *model, AdapterChoice *choice,
                  char name[MODEL_NAME_LIMIT]) {
    *choice = (AdapterChoice){NULL, 1};
    snprintf(name, MODEL_NAME_LIMIT, "%s", server->name);
    const bool any = !model;
    const char *bases[] = {server->name, "base"};
    const char *wanted = NULL;
    for (int i = 0; i < 2 && !any && !wanted; i++) {
        const size_t length = strlen(bases[i]);
        if (strcmp(model, bases[i]) == 0) return true;
        if (strncmp(model, bases[i], length) == 0 && model[length] == ':')
            wanted = model + length + 1;
    }
    if (any && server->options->adapters.count == 0) return true;
    if (!any && !wanted) return false;
    Shelf shelf;
    open_shelf(&shelf, server);
    bool found = false;
    while (!found && next_adapter(&shelf))
        found = (any || strcmp(shelf.name, wanted) == 0) && take(server, &shelf, choice, name);
    close_shelf(&shelf);
    return found;
}

void given_adapter(const Server *server, int i, AdapterChoice *choice,
                   char name[MODEL_NAME_LIMIT]) {
    Shelf shelf;
    open_shelf(&shelf, server);
    *choice = (AdapterChoice){NULL, 1};
    if (split_given(&shelf, server->options->adapters.items[i])) take(server, &shelf, choice, name);
}

static void refuse_adapter(Server *server, const char *path, const char *why) {
    Refused *grown =
        realloc(server->refused, (size_t)(server->refused_count + 1) * sizeof *server->refused);
    Refused refused = {.path = strdup(path)};
    if (grown) server->refused = grown;
    fprintf(stderr, "hone serve: note: not offered: %s\n", why);
    if (!grown || !refused.path) { // offered then, and refused when it is asked for
        free(refused.path);
        return;
    }
    look_at_adapter(path, &refused.changed, &refused.file);
    server->refused[server->refused_count++] = refused;
}

void try_adapters(Server *server, HoneContext *context) {
    enum { AT_ONCE = 8 }; // on one model, which cannot give them back
    const ServeOptions *options = server->options;
    LoadedModel loaded = {0};
    Shelf shelf;
    open_shelf(&shelf, server);
    shelf.at = options->adapters.count; // those were loaded
    for (int tried = 0; next_adapter(&shelf); tried++) {
        hone_status status = HONE_OK;
        if (tried % AT_ONCE == 0) {
            unload_model(&loaded);
            status = load_model(context, options->model, options->template_path, NULL, &loaded);
            if (status != HONE_OK) break;
        }
        if (hone_model_add_adapter(loaded.model, shelf.path, 1) != HONE_OK)
            refuse_adapter(server, shelf.path, hone_context_error(context));
    }
    unload_model(&loaded);
    close_shelf(&shelf);
}

void forget_refused(Server *server) {
    for (int i = 0; i < server->refused_count; i++) free(server->refused[i].path);
    free(server->refused);
}

static void print_model(FILE *file, const char *base, const char *adapter, long long created,
                        int *printed) {
    char id[MODEL_NAME_LIMIT];
    snprintf(id, sizeof id, "%s%s%s", base, adapter ? ":" : "", adapter ? adapter : "");
    fprintf(file, "%s{\"id\":", (*printed)++ ? "," : "");
    print_json_text(file, id);
    fprintf(file, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"hone\"}", created);
}

char *models_json(const Server *server, const char *only) {
    AdapterChoice choice;
    char name[MODEL_NAME_LIMIT], *text = NULL;
    size_t length = 0;
    int printed = 0;
    struct stat info;
    FILE *file = open_memstream(&text, &length);
    if (!file) return NULL;
    const long long begun = stat(server->options->model, &info) == 0 ? (long long)info.st_mtime : 0;
    if (only) {
        if (choose_model(server, only, &choice, name)) {
            print_model(file, only, NULL, begun, &printed);
            free(choice.path);
        }
    } else {
        Shelf shelf;
        fprintf(file, "{\"object\":\"list\",\"data\":[");
        print_model(file, server->name, NULL, begun, &printed);
        open_shelf(&shelf, server);
        while (next_adapter(&shelf)) {
            const long long made = stat(shelf.path, &info) == 0 ? (long long)info.st_mtime : 0;
            print_model(file, server->name, shelf.name, made, &printed);
        }
        close_shelf(&shelf);
        fprintf(file, "]}");
    }
    const bool fine = fclose(file) == 0 && printed > 0;
    if (fine) return text;
    free(text);
    return NULL;
}
