// SPDX-License-Identifier: Apache-2.0
// The library inside a program that goes on: contexts side by side, a forked child, runs that are
// stopped again and again, a model whose file goes away.
#include <dirent.h>
#include <hone/hone.h>
#include <math.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "check.h"

#define TINY HONE_FIXTURES "/tiny.gguf"

static char folder[64];

static const char *place(char path[128], const char *name) {
    snprintf(path, 128, "%s/%s", folder, name);
    return path;
}

static void write_data(void) {
    static const char *const words[] = {"the tower", "one, two", "in the end", "no more of it"};
    char path[128];
    FILE *file = fopen(place(path, "data.jsonl"), "w");
    for (int i = 0; file && i < 12; i++)
        fprintf(file, "{\"text\": \"%s and %s, %d\"}\n", words[i % 4], words[i / 4], i);
    CHECK(file && fclose(file) == 0);
}

typedef struct Stopping {
    int events; // after so many; 0: never
} Stopping;

static bool on_event(void *user, const HoneEvent *event) {
    Stopping *stopping = user;
    (void)event;
    return stopping->events == 0 || --stopping->events > 0;
}

static hone_status finetune(HoneContext *context, const char *out, int stop_after, bool overwrite) {
    char data[128];
    Stopping stopping = {stop_after};
    const HoneDataSource source = {place(data, "data.jsonl"), 1};
    HoneFinetuneOptions options;
    hone_finetune_defaults(&options);
    options.model = TINY;
    options.data = &source;
    options.data_count = 1;
    options.out = out;
    options.steps = 6;
    options.batch = 4;
    options.accumulate = 2;
    options.dropout = 0.1;
    options.eval_split = 2;
    options.checkpoint_every = "2";
    options.overwrite = overwrite;
    return hone_finetune(context, &options, on_event, &stopping);
}

// In a context of its own.
static hone_status run_to(const char *name, int threads) {
    char out[128];
    HoneContextOptions options = {.threads = threads};
    HoneContext *context = NULL;
    hone_status status = hone_context_create(&options, &context);
    if (status == HONE_OK) status = finetune(context, place(out, name), 0, false);
    hone_context_free(context);
    return status;
}

static void same_adapter(const char *a, const char *b) {
    char path[128], *texts[2] = {NULL, NULL};
    size_t bytes[2] = {0, 0};
    HoneError err = {0};
    const char *const names[] = {a, b};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s/adapter.gguf", folder, names[i]);
        CHECK_INT(hone_file_read(path, &texts[i], &bytes[i], &err), HONE_OK);
    }
    CHECK(texts[0] && texts[1] && bytes[0] == bytes[1] && bytes[0] > 0 &&
          memcmp(texts[0], texts[1], bytes[0]) == 0);
    hone_free(texts[0]);
    hone_free(texts[1]);
}

// ---- threads and processes ---------------------------------------------------------------------

static void *run_in_thread(void *name) {
    return run_to(name, 3) == HONE_OK ? name : NULL;
}

static void contexts_side_by_side(void) {
    static char left[] = "left", right[] = "right";
    pthread_t threads[2];
    CHECK_INT(pthread_create(&threads[0], NULL, run_in_thread, left), 0);
    CHECK_INT(pthread_create(&threads[1], NULL, run_in_thread, right), 0);
    void *fine[2];
    CHECK_INT(pthread_join(threads[0], &fine[0]), 0);
    CHECK_INT(pthread_join(threads[1], &fine[1]), 0);
    CHECK(fine[0] == left && fine[1] == right);
    same_adapter("alone", "left");
    same_adapter("alone", "right");
}

// The child has the context and none of its threads: it works alone, and frees it.
static void a_forked_child_goes_on(void) {
    char out[128];
    HoneContextOptions options = {.threads = 4};
    HoneContext *context = NULL;
    CHECK_INT(hone_context_create(&options, &context), HONE_OK);
    CHECK_INT(finetune(context, place(out, "parent"), 0, false), HONE_OK);
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        alarm(300); // a hang is a failure
        const hone_status status = finetune(context, place(out, "child"), 0, false);
        hone_context_free(context);
        _exit(status == HONE_OK ? 0 : 1);
    }
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_INT(finetune(context, place(out, "after"), 0, false), HONE_OK);
    hone_context_free(context);
    same_adapter("alone", "child");
    same_adapter("alone", "after");
}

// ---- again and again ---------------------------------------------------------------------------

static int entries_of(const char *path) {
    DIR *directory = opendir(path);
    int count = 0;
    while (directory && readdir(directory)) count++;
    if (directory) closedir(directory);
    return count;
}

// Stopped at every event there is, in turn; the file descriptors, threads and files are those of
// before. (Memory is the leak sanitizer's to count.)
static void runs_come_and_go(void) {
    char out[128], tmp[160];
    const int files = entries_of("/proc/self/fd"), threads = entries_of("/proc/self/task");
    const int here = entries_of(folder), working = entries_of(".");
    for (int i = 0; i < 100; i++) {
        HoneContextOptions options = {.threads = 1 + i % 4};
        HoneContext *context = NULL;
        CHECK_INT(hone_context_create(&options, &context), HONE_OK);
        const int events = 1 + i % 20;
        const hone_status status = finetune(context, place(out, "come"), events, true);
        CHECK(status == HONE_INTERRUPTED || status == HONE_OK);
        hone_context_free(context);
    }
    HoneContext *context = NULL; // one that did not come to its end is not replaced unasked
    CHECK_INT(hone_context_create(NULL, &context), HONE_OK);
    CHECK_INT(finetune(context, out, 8, true), HONE_INTERRUPTED);
    CHECK(hone_unfinished_step(out) >= 0);
    CHECK_INT(finetune(context, out, 0, false), HONE_ERROR_ARGUMENT);
    CHECK_CONTAINS(hone_context_error(context), "--overwrite");
    hone_context_free(context);
    CHECK_INT(entries_of("/proc/self/fd"), files);
    CHECK_INT(entries_of("/proc/self/task"), threads);
    CHECK_INT(entries_of(folder), here + 1); // out
    CHECK_INT(entries_of("."), working);
    snprintf(tmp, sizeof tmp, "%s/checkpoint", out);
    CHECK(entries_of(tmp) <= 4); // ".", "..", the last two
}

// ---- a copied model ----------------------------------------------------------------------------

static double loss_of(HoneModel *model) {
    char path[128];
    HoneData *data = NULL;
    HoneEvaluateOptions options = {0};
    HoneEvaluation result = {0};
    CHECK_INT(hone_data_read(model, place(path, "data.jsonl"), NULL, &data), HONE_OK);
    if (data) CHECK_INT(hone_evaluate(model, data, &options, NULL, NULL, &result), HONE_OK);
    hone_data_free(data);
    return result.loss;
}

static void a_copied_model_needs_no_file(void) {
    char path[128], *bytes = NULL;
    size_t length = 0;
    HoneError err = {0};
    HoneContextOptions options = {.threads = 2, .copy_models = true};
    HoneContext *context = NULL;
    HoneModel *model = NULL, *mapped = NULL;
    CHECK_INT(hone_file_read(TINY, &bytes, &length, &err), HONE_OK);
    CHECK_INT(hone_file_write(place(path, "copy.gguf"), bytes, length, &err), HONE_OK);
    hone_free(bytes);
    CHECK_INT(hone_context_create(&options, &context), HONE_OK);
    CHECK_INT(hone_model_load(context, path, &model), HONE_OK);
    CHECK_INT(hone_model_load(context, TINY, &mapped), HONE_OK);
    CHECK_INT(truncate(path, 100), 0);
    if (model && mapped) CHECK_NEAR(loss_of(model), loss_of(mapped), 0, 0);
    hone_model_free(model);
    hone_model_free(mapped);
    CHECK(hone_model_load(context, path, &model) != HONE_OK);
    CHECK_CONTAINS(hone_context_error(context), "copy.gguf");
    hone_context_free(context);
}

// ---- log-probabilities -------------------------------------------------------------------------

static void probabilities_of_what_can_follow_add_up_to_one(void) {
    HoneContext *context = NULL;
    HoneModel *model = NULL;
    HoneModelInfo info = {0};
    float logprobs[3] = {0}, again[3] = {0};
    CHECK_INT(hone_context_create(NULL, &context), HONE_OK);
    CHECK_INT(hone_model_load(context, TINY, &model), HONE_OK);
    if (!model) return;
    hone_model_info(model, &info);
    double total = 0;
    for (int32_t last = 0; last < info.vocabulary; last++) {
        const int32_t tokens[] = {70, 71, 72, last};
        CHECK_INT(hone_log_probabilities(model, tokens, 4, logprobs), HONE_OK);
        total += exp((double)logprobs[2]);
    }
    CHECK_NEAR(total, 1, 0, 1e-4);
    // What stands before a token alone counts.
    CHECK_INT(hone_log_probabilities(model, (const int32_t[]){70, 71, 72}, 3, again), HONE_OK);
    for (int i = 0; i < 2; i++) CHECK_NEAR((double)logprobs[i], (double)again[i], 1e-5, 1e-5);
    again[0] = 5;
    CHECK_INT(hone_log_probabilities(model, (const int32_t[]){70, 9999}, 2, again),
              HONE_ERROR_ARGUMENT);
    CHECK_CONTAINS(hone_context_error(context), "token 1 is 9999");
    CHECK_INT(hone_log_probabilities(model, (const int32_t[]){70}, 1, again), HONE_ERROR_ARGUMENT);
    CHECK_NEAR((double)again[0], 5, 0, 0);
    hone_model_free(model);
    hone_context_free(context);
}

int main(void) {
    struct stat info; // in memory where there is such a place: hundreds of syncs
    const bool memory = stat("/dev/shm", &info) == 0;
    snprintf(folder, sizeof folder, "%s/hone-library-XXXXXX", memory ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder)) return 1;
    write_data();
    CHECK_INT(run_to("alone", 1), HONE_OK);
    RUN(contexts_side_by_side);
    RUN(a_forked_child_goes_on);
    RUN(runs_come_and_go);
    RUN(a_copied_model_needs_no_file);
    RUN(probabilities_of_what_can_follow_add_up_to_one);
    char command[80];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK_INT(system(command), 0);
    return check_report();
}
