// SPDX-License-Identifier: Apache-2.0
#include "hub/pull.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "hub/cache.h"
#include "hub/net/transfer.h"

enum { LISTING_LIMIT = 64 << 20 };

static const char *revision_of(const PullRequest *request) {
    return request->revision ? request->revision : "main";
}

static hone_status check_request(const PullRequest *request, HoneError *err) {
    const char *repository = request->repository;
    if (!repository || !hone_hub_is_repository(repository))
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "\"%s\" is no repository: want OWNER/NAME, as HuggingFaceTB/SmolLM2-135M",
                         repository ? repository : "");
    if (request->file && !hone_hub_is_file_name(request->file))
        return hone_fail(err, HONE_ERROR_ARGUMENT, "\"%s\" cannot be a file of a repository",
                         request->file);
    if (!hone_hub_is_file_name(revision_of(request)) || strlen(revision_of(request)) > 200)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "\"%s\" cannot be a revision",
                         revision_of(request));
    return HONE_OK;
}

static hone_status open_puller(Puller *puller, char **token) {
    const PullRequest *request = puller->request;
    const char *endpoint = request->endpoint ? request->endpoint : getenv("HF_ENDPOINT");
    if (!endpoint || !*endpoint) endpoint = "https://huggingface.co";
    size_t length = strlen(endpoint);
    while (length > 0 && endpoint[length - 1] == '/') length--;
    if ((strncasecmp(endpoint, "https://", 8) != 0 && strncasecmp(endpoint, "http://", 7) != 0) ||
        length > 1000)
        return hone_fail(puller->err, HONE_ERROR_ARGUMENT,
                         "the hub's address \"%.*s\" does not begin with https:// or http://",
                         hone_excerpt(endpoint), endpoint);
    RETURN_IF_ERROR(hone_hub_token(token, puller->err));
    puller->token = *token;
    puller->hub = hone_hub_folder();
    if (!puller->hub)
        return hone_fail(puller->err, HONE_ERROR_ARGUMENT,
                         "where is the cache? Neither HF_HUB_CACHE nor HF_HOME nor HOME is set");
    puller->endpoint = hone_strndup(endpoint, length);
    puller->folder = hone_hub_repository_folder(puller->hub, request->repository);
    if (!puller->endpoint || !puller->folder) return hone_fail_memory(puller->err, 0, "a path");
    return hone_http_open(&puller->client, puller->err);
}

static hone_status read_listing(Puller *puller, Arena *arena) {
    const PullRequest *request = puller->request;
    TextBuffer url = {0}, text = {0};
    char *revision = hone_http_escape(revision_of(request), "");
    hone_text_printf(&url, "%s/api/models/%s/revision/%s?blobs=true", puller->endpoint,
                     request->repository, revision ? revision : "");
    hone_status status = !revision || url.failed
                             ? hone_fail_memory(puller->err, 0, "an address")
                             : hone_puller_text(puller, url.data, LISTING_LIMIT, &text);
    if (status == HONE_OK) {
        status = hone_listing_read(text.data ? text.data : "", text.length, arena, &puller->listing,
                                   puller->err);
        if (status != HONE_OK) hone_fail_in(puller->err, "%s", url.data);
    }
    hone_free(revision);
    hone_text_free(&url);
    hone_text_free(&text);
    return status;
}

static hone_status make_folders(Puller *puller) {
    static const char *const names[] = {"blobs", "refs", "snapshots"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = hone_path_join(puller->folder, names[i]);
        hone_status status = path ? hone_directory_make(path, puller->err)
                                  : hone_fail_memory(puller->err, 0, "a path");
        hone_free(path);
        RETURN_IF_ERROR(status);
    }
    return HONE_OK;
}

static hone_status fetch_all(Puller *puller, PullResult *result) {
    Listing *listing = &puller->listing;
    for (int64_t i = 0; i < listing->count; i++) puller->step.files += listing->files[i].wanted;
    for (int64_t i = 0; i < listing->count; i++) {
        if (!listing->files[i].wanted) continue;
        puller->step.index++;
        puller->step.whole = false;
        RETURN_IF_ERROR(hone_puller_file(puller, &listing->files[i]));
        result->files++;
        result->bytes += puller->step.bytes;
        puller->step.whole = true;
        RETURN_IF_ERROR(hone_puller_tell(puller, NULL));
        puller->step.whole = false;
    }
    return HONE_OK;
}

// refs/REVISION, now that everything of the commit is there. A commit needs none.
static hone_status write_ref(Puller *puller) {
    const char *revision = revision_of(puller->request), *commit = puller->listing.commit;
    if (strcmp(revision, commit) == 0) return HONE_OK;
    TextBuffer path = {0};
    hone_text_printf(&path, "%s/refs/%s", puller->folder, revision);
    if (path.failed) return hone_fail_memory(puller->err, 0, "a path");
    char *slash = strrchr(path.data, '/');
    *slash = '\0';
    hone_status status = hone_directory_make(path.data, puller->err);
    *slash = '/';
    if (status == HONE_OK) status = hone_file_write(path.data, commit, strlen(commit), puller->err);
    hone_text_free(&path);
    return status;
}

// The folder of the snapshot, or the file where it is one model by itself.
static hone_status say_where(const Puller *puller, PullResult *result) {
    const HubFile *first = NULL;
    const Listing *listing = &puller->listing;
    for (int64_t i = 0; i < listing->count && !first; i++)
        if (listing->files[i].wanted) first = &listing->files[i];
    size_t length = strlen(first->name);
    bool alone =
        puller->request->file || (length > 5 && strcmp(first->name + length - 5, ".gguf") == 0);
    TextBuffer path = {0};
    hone_text_printf(&path, "%s/snapshots/%s%s%s", puller->folder, listing->commit,
                     alone ? "/" : "", alone ? first->name : "");
    if (path.failed) return hone_fail_memory(puller->err, 0, "a path");
    result->path = path.data;
    return HONE_OK;
}

static hone_status pull(Puller *puller, char **token, Arena *arena, PullResult *result) {
    const PullRequest *request = puller->request;
    RETURN_IF_ERROR(check_request(request, puller->err));
    RETURN_IF_ERROR(open_puller(puller, token));
    RETURN_IF_ERROR(read_listing(puller, arena));
    RETURN_IF_ERROR(
        hone_listing_choose(&puller->listing, request->repository, request->file, puller->err));
    RETURN_IF_ERROR(make_folders(puller));
    RETURN_IF_ERROR(fetch_all(puller, result));
    RETURN_IF_ERROR(write_ref(puller));
    snprintf(result->commit, sizeof result->commit, "%s", puller->listing.commit);
    result->received = puller->received;
    return say_where(puller, result);
}

hone_status hone_hub_pull(const PullRequest *request, PullResult *result, HoneError *err) {
    Puller puller = {.request = request, .err = err};
    Arena arena = {0};
    char *token = NULL;
    *result = (PullResult){0};
    hone_status status = pull(&puller, &token, &arena, result);
    hone_http_close(puller.client);
    hone_free(puller.endpoint);
    hone_free(puller.hub);
    hone_free(puller.folder);
    hone_free(token);
    hone_arena_free(&arena);
    return status;
}
