// SPDX-License-Identifier: Apache-2.0
// hone eval
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "output.h"

typedef struct EvalOptions {
    Common common;
    const char *model, *data, *choices, *loss_on, *on_bad, *template_path, *date;
    TextList adapters;
    int64_t max_length, stride, max_tokens, limit;
    bool logprobs, generate, no_eos;
} EvalOptions;

typedef struct Reporting {
    const EvalOptions *given;
    const HoneData *data;
    char **choices;
    int64_t choice_count, examples, done;
} Reporting;

// ---- choices -----------------------------------------------------------------------------------

enum { CHOICE_LIMIT = 1000 };

static bool add_choice(Reporting *reporting, const char *text, size_t length) {
    while (length && (text[length - 1] == '\r' || text[length - 1] == ' ')) length--;
    if (length == 0) return true;
    for (int64_t i = 0; i < reporting->choice_count; i++)
        if (strlen(reporting->choices[i]) == length &&
            memcmp(reporting->choices[i], text, length) == 0)
            return true;
    if (reporting->choice_count == CHOICE_LIMIT) {
        fprintf(stderr, "hone eval: more than %d different choices\n", CHOICE_LIMIT);
        return false;
    }
    char *copy = malloc(length + 1);
    if (!copy) return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    reporting->choices[reporting->choice_count++] = copy;
    return true;
}

// A file of one choice a line, or "auto": the different answers of the data.
static bool read_choices(Reporting *reporting, const char *source) {
    reporting->choices = calloc(CHOICE_LIMIT, sizeof *reporting->choices);
    if (!reporting->choices) return false;
    if (strcmp(source, "auto") == 0) {
        for (int64_t i = 0; i < reporting->examples; i++) {
            HoneExample example;
            hone_data_example(reporting->data, i, &example);
            if (example.answer && !add_choice(reporting, example.answer, strlen(example.answer)))
                return false;
        }
    } else {
        struct stat info; // a device may never end
        const bool readable =
            stat(source, &info) == 0 && (S_ISREG(info.st_mode) || S_ISFIFO(info.st_mode));
        FILE *file = readable ? fopen(source, "rb") : NULL;
        if (!file) {
            fprintf(stderr, "hone eval: %s: cannot open the file of choices\n", source);
            return false;
        }
        char *line = NULL;
        size_t room = 0;
        bool fine = true;
        for (ssize_t length; fine && (length = getline(&line, &room, file)) >= 0;) {
            size_t used = strcspn(line, "\n"), mark = 0;
            if ((size_t)length > used + 1) {
                fprintf(stderr, "hone eval: %s: holds a NUL character\n", source);
                fine = false;
                break;
            }
            if (reporting->choice_count == 0 && strncmp(line, "\xef\xbb\xbf", 3) == 0) mark = 3;
            fine = add_choice(reporting, line + mark, used - mark);
        }
        free(line);
        fclose(file);
        if (!fine) return false;
    }
    if (reporting->choice_count >= 2) return true;
    fprintf(stderr, "hone eval: --choices %s gives %lld choices, want at least 2\n", source,
            (long long)reporting->choice_count);
    return false;
}

// ---- reports -----------------------------------------------------------------------------------

static void json_example(const Reporting *reporting, const HoneEvaluated *example) {
    const EvalOptions *given = reporting->given;
    HoneExample source;
    hone_data_example(reporting->data, example->index, &source);
    printf("{\"example\":%lld,\"line\":%d,\"loss\":%.9g", (long long)example->index, example->line,
           example->loss);
    if (given->logprobs) {
        printf(",\"tokens\":[");
        for (int64_t i = 0; i < source.count; i++) printf("%s%d", i ? "," : "", source.tokens[i]);
        printf("],\"targets\":[");
        const char *comma = "";
        for (int64_t i = 0; i < source.count; i++) {
            if (!source.mask[i]) continue;
            printf("%s%lld", comma, (long long)i);
            comma = ",";
        }
        printf("],\"logprobs\":[");
        for (int64_t i = 0; i < example->targets; i++)
            printf("%s%.9g", i ? "," : "", (double)example->logprobs[i]);
        printf("]");
    }
    if (example->prompt) {
        printf(",\"prompt\":");
        print_json_text(stdout, example->prompt);
        printf(",\"answer\":");
        print_json_text(stdout, example->answer);
    }
    if (example->generated) {
        printf(",\"generated\":");
        print_json_text(stdout, example->generated);
        printf(",\"exact\":%s", example->exact ? "true" : "false");
    }
    if (example->choice >= 0) {
        printf(",\"choice\":");
        print_json_text(stdout, reporting->choices[example->choice]);
        printf(",\"choice_right\":%s", example->choice_right ? "true" : "false");
    }
    printf("}\n");
}

static bool on_example(void *user, const HoneEvaluated *example) {
    Reporting *reporting = user;
    const EvalOptions *given = reporting->given;
    reporting->done++;
    bool detailed = given->logprobs || given->generate || reporting->choice_count > 0;
    if (given->common.json && detailed) json_example(reporting, example);
    if (stderr_is_terminal())
        fprintf(stderr, "\r\033[K%lld/%lld examples", (long long)reporting->done,
                (long long)reporting->examples);
    return !was_interrupted();
}

static void print_summary(const EvalOptions *given, const HoneEvaluation *result) {
    char time[32];
    if (given->common.json) {
        printf("{\"loss\":%.9g,\"perplexity\":%.9g,\"tokens\":%lld,\"accuracy\":%.9g,"
               "\"examples\":%lld",
               result->loss, result->perplexity, (long long)result->tokens, result->accuracy,
               (long long)result->examples);
        if (result->exact_match >= 0) printf(",\"exact_match\":%.9g", result->exact_match);
        if (result->choice_accuracy >= 0)
            printf(",\"choice_accuracy\":%.9g", result->choice_accuracy);
        printf(",\"seconds\":%.3f}\n", result->seconds);
        return;
    }
    printf("loss             %.4f (mean over %lld target token%s of %lld example%s)\n",
           result->loss, (long long)result->tokens, plural(result->tokens),
           (long long)result->examples, plural(result->examples));
    printf("perplexity       %.4f\n", result->perplexity);
    printf("token accuracy   %.4f\n", result->accuracy);
    if (result->choice_accuracy >= 0) printf("choice accuracy  %.4f\n", result->choice_accuracy);
    if (result->exact_match >= 0) printf("exact match      %.4f\n", result->exact_match);
    printf("time             %s\n", time_text(result->seconds, time));
}

// ---- the command -------------------------------------------------------------------------------

static int evaluate(HoneContext *context, HoneModel *model, Reporting *reporting) {
    const EvalOptions *given = reporting->given;
    HoneDataInfo info;
    hone_data_info(reporting->data, &info);
    if (info.skipped)
        fprintf(stderr, "%lld bad example%s skipped, the first: %s\n", (long long)info.skipped,
                plural(info.skipped), info.first_skipped);
    reporting->examples =
        given->limit > 0 && given->limit < info.examples ? given->limit : info.examples;
    if (given->choices && !read_choices(reporting, given->choices)) return EXIT_USAGE;
    HoneEvaluateOptions options = {.logprobs = given->logprobs,
                                   .generate = given->generate,
                                   .max_tokens = given->max_tokens,
                                   .choices = (const char *const *)reporting->choices,
                                   .choice_count = reporting->choice_count,
                                   .limit = given->limit};
    HoneEvaluation result;
    hone_status status =
        hone_evaluate(model, reporting->data, &options, on_example, reporting, &result);
    if (stderr_is_terminal()) fputs("\r\033[K", stderr);
    if (status != HONE_OK) return report_failure("eval", context, status);
    print_summary(given, &result);
    return EXIT_DONE;
}

static int load_and_evaluate(HoneContext *context, const EvalOptions *given,
                             const HoneDataOptions *data_options) {
    HoneModel *model = NULL;
    HoneData *data = NULL;
    hone_status result = hone_model_load(context, given->model, &model);
    if (result == HONE_OK) result = add_adapters(model, &given->adapters);
    if (result == HONE_OK && given->template_path)
        result = hone_model_set_template(model, given->template_path);
    if (result == HONE_OK) result = hone_data_read(model, given->data, data_options, &data);
    int status;
    if (result == HONE_OK) {
        Reporting reporting = {.given = given, .data = data};
        status = evaluate(context, model, &reporting);
        for (int64_t i = 0; i < reporting.choice_count; i++) free(reporting.choices[i]);
        free(reporting.choices);
    } else {
        status = report_failure("eval", context, result);
    }
    hone_data_free(data);
    hone_model_free(model);
    return status;
}

static int option_table(EvalOptions *given, Option *options) {
    const Option table[] = {
        {"model", OPTION_TEXT, &given->model, "FILE",
         "the model, a GGUF file or a Hugging Face folder"},
        {"adapter", OPTION_LIST, &given->adapters, "A[:WEIGHT]",
         "PEFT or MLX-LM folder or GGUF adapter; may be repeated"},
        {"data", OPTION_TEXT, &given->data, "FILE",
         "examples (.jsonl, .json, .csv, .tsv, .txt; also .gz, .zst)"},
        {"logprobs", OPTION_FLAG, &given->logprobs, NULL,
         "log-probability of every target token, a line an example (with --json)"},
        {"generate", OPTION_FLAG, &given->generate, NULL,
         "answer each prompt greedily and count exact matches"},
        {"max-tokens", OPTION_COUNT, &given->max_tokens, "N", "of a generated answer (64)"},
        {"choices", OPTION_TEXT, &given->choices, "FILE|auto",
         "rank fixed answers: a file of one a line, or the data's own"},
        {"limit", OPTION_COUNT, &given->limit, "N", "the first N examples only"},
        {"loss-on", OPTION_TEXT, &given->loss_on, "auto|assistant|completion|all",
         "which tokens count (auto: the assistant's or the completion's where the data has them)"},
        {"on-bad-example", OPTION_TEXT, &given->on_bad, "stop|skip", "stop is the default"},
        {"max-length", OPTION_SIZE, &given->max_length, "N", "cut longer examples"},
        {"stride", OPTION_COUNT, &given->stride, "N",
         "tokens from window to window of a .txt file (no overlap)"},
        {"date", OPTION_TEXT, &given->date, "DAY",
         "that a chat template tells, as 2026-11-24 (today)"},
        {"no-eos", OPTION_FLAG, &given->no_eos, NULL,
         "do not end texts with EOS; take answers that nothing ends"},
        {"template", OPTION_TEXT, &given->template_path, "FILE", "another chat template"},
    };
    int count = (int)(sizeof table / sizeof *table);
    memcpy(options, table, sizeof table);
    return count + common_options(&given->common, options + count);
}

int command_eval(int argc, char **argv) {
    EvalOptions given = {.loss_on = "auto", .on_bad = "stop"};
    Option options[32];
    Command command = {.name = "eval",
                       .summary = "How well a model, with or without an adapter, does on examples.",
                       .usage = "hone eval --model M [--adapter A] --data D [--choices F] "
                                "[--generate] [--json]",
                       .options = options,
                       .option_count = option_table(&given, options)};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!given.model || !given.data) {
        fprintf(stderr, "hone eval: --model and --data are needed (usage: %s)\n", command.usage);
        return EXIT_USAGE;
    }
    if (!given.common.json) note_without_effect(&command, argc, argv, "logprobs", "without --json");
    if (!given.generate)
        note_without_effect(&command, argc, argv, "max-tokens", "without --generate");
    HoneDataOptions data = {
        .max_length = given.max_length, .stride = given.stride, .no_eos = given.no_eos};
    if (!parse_loss_on("eval", given.loss_on, &data.loss_on) ||
        !parse_on_bad("eval", given.on_bad, &data.skip_bad) ||
        !parse_date("eval", given.date, &data.now))
        return EXIT_USAGE;
    HoneContext *context = open_context("eval", &given.common, &status);
    if (!context) return status;
    watch_signals();
    status = load_and_evaluate(context, &given, &data);
    hone_context_free(context);
    return status;
}
