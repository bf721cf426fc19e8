// SPDX-License-Identifier: Apache-2.0
// Values for a run, by what dry runs over the data tell: how many examples there are and how long,
// what an epoch takes, and what memory. docs/guides/rank-and-rate.md has the reasons at length.
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "init.h"
#include "output.h"

const Choice *find_choice(const Init *init, const char *name) {
    for (int i = 0; i < init->choice_count; i++)
        if (strcmp(init->choices[i].name, name) == 0) return &init->choices[i];
    return NULL;
}

// Set the option, as a line of the config will, and note why. The table checks the value.
__attribute__((format(printf, 4, 5))) static void
choose_value(Init *init, const char *name, const char *value, const char *why, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, why);
    vsnprintf(text, sizeof text, why, arguments);
    va_end(arguments);
    const Choice choice = {name, keep_text(value, strlen(value)), keep_text(text, strlen(text))};
    const Option *option = find_option(&init->finetune, name);
    int at = 0;
    while (at < init->choice_count && strcmp(init->choices[at].name, name) != 0) at++;
    if (!choice.value || !choice.why || at == CHOICE_LIMIT) return;
    if (option->kind != OPTION_LIST && !set_option(&init->finetune, option, choice.value)) return;
    init->choices[at] = choice;
    if (at == init->choice_count) init->choice_count++;
}

static void choose_number(Init *init, const char *name, int64_t value, const char *why) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    choose_value(init, name, text, "%s", why);
}

// ---- dry runs ----------------------------------------------------------------------------------

static bool keep_plan(void *user, const HoneEvent *event) {
    Init *init = user;
    if (event->kind == HONE_EVENT_PLAN) init->plan = *event->as.plan;
    return true;
}

// The plan of what is chosen so far.
static hone_status plan(Init *init) {
    HoneDataSource sources[LIST_LIMIT];
    if (!resolve_run_options("init", &init->run, sources)) return HONE_ERROR_ARGUMENT;
    HoneFinetuneOptions run = init->run.run;
    run.dry_run = true;
    return hone_finetune(init->context, &run, keep_plan, init);
}

// Records of preferences are told by that they can be read as such alone.
static hone_status plan_any_loss(Init *init) {
    hone_status status = plan(init);
    if (status != HONE_ERROR_INPUT) return status;
    const char *first = hone_context_error(init->context);
    first = keep_text(first, strlen(first));
    choose_value(init, "loss", "dpo",
                 "the records are pairs, of which one answer is preferred; orpo is the other way");
    status = plan(init);
    if (status == HONE_ERROR_INPUT && first) {
        fprintf(stderr, "hone init: %s\n", first);
        return HONE_INTERRUPTED; // it is said
    }
    return status;
}

static int64_t examples(const Init *init) {
    return init->plan.train_examples + init->plan.eval_examples;
}

// ---- the values --------------------------------------------------------------------------------

// At first the likely bound; where more than one example in fifty is longer, the next power of two,
// up to the model's context and to half of the memory.
static hone_status choose_length(Init *init, int64_t memory) {
    int64_t length = 2048;
    if (init->model_context > 0 && init->model_context < length) length = init->model_context;
    while (init->plan.cut * 50 > init->plan.train_examples && 2 * length <= init->model_context) {
        const HonePlan before = init->plan;
        choose_number(init, "max-length", 2 * length, "");
        const hone_status status = plan(init);
        if (status != HONE_OK && status != HONE_ERROR_MEMORY) return status;
        if (status != HONE_OK || init->plan.memory_bytes > memory / 2) {
            init->plan = before;
            break;
        }
        length *= 2;
    }
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)length);
    if (init->plan.cut)
        choose_value(init, "max-length", text,
                     "%lld of the %lld that are trained on are longer, and cut at their end",
                     (long long)init->plan.cut, (long long)init->plan.train_examples);
    else
        choose_value(init, "max-length", text, "the longest example has %lld tokens: none is cut",
                     (long long)init->plan.longest);
    return HONE_OK;
}

static void choose_held_out(Init *init) {
    const int64_t count = examples(init);
    if (count < 10)
        choose_value(init, "eval-split", "0", "%lld examples are too few to hold any back",
                     (long long)count);
    else if (count < 160)
        choose_value(init, "eval-split", "0.1",
                     "of %lld examples, so that a held-out loss means something; those are not "
                     "trained on",
                     (long long)count);
    else
        choose_value(init, "eval-split", "0.05", "of %lld examples; those are not trained on",
                     (long long)count);
}

static void choose_rank(Init *init) {
    const bool large = init->model_channels >= 256 && examples(init) >= 1000;
    if (large && strcmp(init->purpose, "best") == 0) {
        choose_value(init, "rank", "32", "there is enough data (%lld examples) to fill it",
                     (long long)examples(init));
        choose_value(init, "alpha", "64", "twice the rank");
        return;
    }
    choose_value(init, "rank", "16",
                 "enough for form and tone; 32 to 64 hold more knowledge, at more memory and time");
    choose_value(init, "alpha", "32", "twice the rank");
}

// Passes over so many examples that neither learn too little nor all by heart.
static double good_epochs(int64_t count) {
    return count < 200 ? 4 : count < 1000 ? 3 : count < 10000 ? 2 : 1;
}

// By the minutes of one epoch.
static void choose_passes(Init *init) {
    const double minutes = init->plan.minutes;
    const int64_t count = examples(init);
    char *end, text[32];
    double wanted = strtod(init->purpose, &end);
    if (end == init->purpose) wanted = strcmp(init->purpose, "try") == 0 ? 3 : 0;
    if (wanted <= 0) {
        const bool best = strcmp(init->purpose, "best") == 0;
        snprintf(text, sizeof text, "%g", good_epochs(count) * (best ? 2 : 1));
        choose_value(init, "epochs", text,
                     best ? "twice what is usual for %lld examples: the best weights are kept"
                          : "usual for %lld examples: fewer examples, more passes",
                     (long long)count);
        return;
    }
    const double most = strcmp(init->purpose, "try") == 0 ? 1 : 2 * good_epochs(count);
    const double fit = minutes > 0 ? wanted / minutes : most;
    if (fit >= most) {
        snprintf(text, sizeof text, "%g", most);
        choose_value(init, "epochs", text,
                     "fewer minutes than were given (%g): more passes would learn the examples by "
                     "heart",
                     wanted);
        return;
    }
    const double steps = floor((double)init->plan.steps * fit);
    snprintf(text, sizeof text, "%.0f", steps < 1 ? 1 : steps);
    choose_value(init, "steps", text, "what fits into %g minutes; an epoch has %lld and takes %.3g",
                 wanted, (long long)init->plan.steps, minutes);
}

static void choose_what_is_kept(Init *init) {
    if (init->plan.eval_examples == 0 || init->plan.epochs <= 1) return;
    choose_value(init, "keep", "best",
                 "after several passes the last weights need not be the best ones");
    if (strcmp(init->purpose, "best") != 0) return;
    const int64_t steps = init->plan.steps / 12 > 1 ? init->plan.steps / 12 : 1;
    choose_number(init, "eval-every", steps, "twelve times in the run, for patience to go by");
    choose_value(init, "patience", "3", "no longer than it gains anything");
}

// A bound where the run would take more than that; the plan says then what it costs.
static hone_status choose_memory(Init *init, int64_t memory, hone_status unbound) {
    char bound[32], wants[32], has[32];
    if (unbound == HONE_OK && init->plan.memory_bytes <= memory) return HONE_OK;
    snprintf(bound, sizeof bound, "%lldM", (long long)(memory >> 20));
    if (unbound == HONE_OK)
        choose_value(init, "memory", bound,
                     "it would take %s otherwise, and %s; the same result, in more time",
                     size_text(init->plan.memory_bytes, wants),
                     init->memory ? "that was given" : "this machine has less free");
    else
        choose_value(init, "memory", bound,
                     "it would not fit into this machine otherwise (%s free); the same result, in "
                     "more time",
                     size_text(init->machine.available_bytes, has));
    return plan(init);
}

static hone_status choose_all(Init *init) {
    int64_t memory = init->memory;
    hone_machine(&init->machine);
    if (!memory) memory = init->machine.available_bytes / 5 * 4;
    if (!memory) memory = INT64_MAX;
    hone_status status = plan_any_loss(init);
    if (status == HONE_ERROR_MEMORY) status = choose_memory(init, memory, status);
    if (status != HONE_OK) return status;
    choose_held_out(init);
    choose_rank(init);
    status = plan(init);
    if (status == HONE_OK) status = choose_length(init, memory);
    if (status != HONE_OK) return status;
    status = plan(init); // one epoch's minutes
    if (status != HONE_OK) return status;
    choose_passes(init);
    status = plan(init);
    if (!find_choice(init, "memory")) status = choose_memory(init, memory, status);
    if (status != HONE_OK) return status;
    choose_what_is_kept(init);
    return plan(init);
}

// What was answered, as options of the run.
static hone_status choose_given(Init *init) {
    HoneModel *model = NULL;
    const hone_status status = hone_model_load(init->context, init->model, &model);
    if (status != HONE_OK) return status;
    HoneModelInfo info;
    hone_model_info(model, &info);
    init->model_context = info.context;
    init->model_channels = info.channels;
    choose_value(init, "model", init->model, "%.1f M parameters, %s", (double)info.parameters / 1e6,
                 info.has_template ? "with a chat template" : "without a chat template");
    hone_model_free(model);
    choose_value(init, "data", init->data.items[0], "%s", ""); // once they are read
    choose_value(init, "out", init->out, "all that the run writes is there");
    init->run.data = init->data;
    return HONE_OK;
}

int choose_values(Init *init) {
    hone_status status = choose_given(init);
    if (status == HONE_OK) status = choose_all(init);
    if (status == HONE_INTERRUPTED) return EXIT_USAGE;
    if (status != HONE_OK) return report_failure("init", init->context, status);
    const HonePlan *found = &init->plan;
    choose_value(init, "data", init->data.items[0],
                 "%lld examples, %lld of them held out; %lld tokens to read, %lld to learn",
                 (long long)examples(init), (long long)found->eval_examples,
                 (long long)found->tokens, (long long)found->targets);
    return -1;
}
