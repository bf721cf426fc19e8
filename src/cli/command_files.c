// SPDX-License-Identifier: Apache-2.0
// hone inspect, hone merge, hone convert
#include <string.h>

#include <sys/stat.h>

#include "output.h"

int command_inspect(int argc, char **argv) {
    Common common = {0};
    const char *path = NULL;
    Option options[8];
    Command command = {.name = "inspect",
                       .summary =
                           "What is in a model or adapter file, and what Hone can do with it.",
                       .usage = "hone inspect FILE [--json]",
                       .options = options,
                       .option_count = common_options(&common, options),
                       .positional = "FILE",
                       .position = &path};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!path) {
        fprintf(stderr, "hone inspect: which file? (usage: %s)\n", command.usage);
        return EXIT_USAGE;
    }
    HoneContext *context = open_context("inspect", &common, &status);
    if (!context) return status;
    char *text = NULL;
    hone_status result = hone_inspect(context, path, common.json, &text);
    status = EXIT_DONE;
    if (text) fputs(text, stdout);
    if (result != HONE_OK) status = report_failure("inspect", context, result);
    hone_free(text);
    hone_context_free(context);
    return status;
}

typedef struct MergeOptions {
    Common common;
    const char *model, *out, *to, *type, *eval_data;
    TextList adapters;
} MergeOptions;

// Held-out loss of a model as it stands; -1 after reporting a failure.
static double loss_of(HoneModel *model, HoneContext *context, const char *path, int *status) {
    HoneData *data = NULL;
    HoneEvaluation result;
    HoneEvaluateOptions options = {0};
    hone_status done = hone_data_read(model, path, NULL, &data);
    if (done == HONE_OK) done = hone_evaluate(model, data, &options, NULL, NULL, &result);
    hone_data_free(data);
    if (done == HONE_OK) return result.loss;
    *status = report_failure("merge", context, done);
    return -1;
}

static int compare_losses(HoneContext *context, HoneModel *model, const MergeOptions *options) {
    int status = EXIT_DONE;
    hone_model_enable_adapters(model, false);
    double base = loss_of(model, context, options->eval_data, &status);
    hone_model_enable_adapters(model, true);
    double adapted = base >= 0 ? loss_of(model, context, options->eval_data, &status) : -1;
    if (adapted < 0) return status;
    HoneModel *written = NULL;
    hone_status done = hone_model_load(context, options->out, &written);
    if (done != HONE_OK) return report_failure("merge", context, done);
    double merged = loss_of(written, context, options->eval_data, &status);
    hone_model_free(written);
    if (merged < 0) return status;
    if (options->common.json)
        printf("{\"loss_base\":%.9g,\"loss_adapter\":%.9g,\"loss_merged\":%.9g}\n", base, adapted,
               merged);
    else
        printf("held-out loss: base %.4f, with adapter %.4f, merged file %.4f\n", base, adapted,
               merged);
    return EXIT_DONE;
}

static bool go_on(void *user, int64_t done, int64_t tensors) {
    (void)user, (void)done, (void)tensors;
    return !was_interrupted();
}

// The data must be readable before anything is written, and not what is written.
static hone_status check_eval_data(HoneModel *model, const MergeOptions *options) {
    if (!options->eval_data) return HONE_OK;
    HoneData *data = NULL;
    hone_status status = hone_data_read(model, options->eval_data, NULL, &data);
    hone_data_free(data);
    return status;
}

static void print_merged(const char *command, const char *out, bool json,
                         const HoneMerged *merged) {
    if (merged->narrow > 0)
        fprintf(stderr,
                "hone %s: note: %lld merged tensors are stored as they were, in less than 8 bits "
                "a value, which rounds small changes away; --type q8_0 keeps them\n",
                command, (long long)merged->narrow);
    if (merged->again > 0)
        fprintf(stderr,
                "hone %s: note: %lld tensors were quantised before (%s) and are rounded once more, "
                "and losses add up; start from the model in F16, BF16 or F32 if you can get it, or "
                "write --type q8_0\n",
                command, (long long)merged->again, merged->again_from);
    if (merged->own_head)
        fprintf(stderr,
                "hone %s: note: this model has a head of its own, and llama.cpp takes this "
                "family's head from its embedding: it will not load %s; --to hf writes a folder "
                "that transformers loads\n",
                command, out);
    if (json) {
        printf("{\"out\":");
        print_json_text(stdout, out);
        printf(",\"type\":\"%s\",\"types\":\"%s\",\"tensors\":%lld,\"merged\":%lld,"
               "\"copied\":%lld,\"fallbacks\":%lld,\"bytes\":%lld}\n",
               merged->type, merged->types, (long long)merged->tensors, (long long)merged->merged,
               (long long)merged->copied, (long long)merged->fallbacks, (long long)merged->bytes);
        return;
    }
    char size[32];
    printf("%s: %s, %lld tensors, ", out, merged->type, (long long)merged->tensors);
    if (merged->merged > 0)
        printf("%lld of them with the adapter merged in, ", (long long)merged->merged);
    printf("%lld copied, %s\n", (long long)merged->copied, size_text(merged->bytes, size));
    printf("types: %s\n", merged->types);
    if (merged->fallbacks > 0)
        printf(
            "%lld tensors have rows that are no whole blocks of what %s has for them: types with "
            "smaller blocks stand in\n",
            (long long)merged->fallbacks, merged->type);
}

static int merge(HoneContext *context, const MergeOptions *options) {
    HoneModel *model = NULL;
    HoneMerged merged;
    hone_status result = hone_model_load(context, options->model, &model);
    if (result == HONE_OK) result = add_adapters(model, &options->adapters);
    if (result == HONE_OK) result = check_eval_data(model, options);
    const bool folder = strcmp(options->to, "hf") == 0;
    if (result == HONE_OK)
        result = folder ? hone_merge_hf(model, options->type, options->out, go_on, NULL, &merged)
                        : hone_merge(model, options->type, options->out, go_on, NULL, &merged);
    int status = EXIT_DONE;
    if (result == HONE_OK)
        print_merged("merge", options->out, options->common.json, &merged);
    else
        status = report_failure("merge", context, result);
    if (status == EXIT_DONE && options->eval_data) status = compare_losses(context, model, options);
    hone_model_free(model);
    return status;
}

int command_merge(int argc, char **argv) {
    MergeOptions given = {.to = "gguf", .type = "auto"};
    Option options[16] = {
        {"model", OPTION_TEXT, &given.model, "FILE",
         "the base model, a GGUF file or a Hugging Face folder"},
        {"adapter", OPTION_LIST, &given.adapters, "A[:WEIGHT]",
         "PEFT or MLX-LM folder or GGUF adapter; may be repeated"},
        {"out", OPTION_TEXT, &given.out, "PATH", "the GGUF file, or the folder, to write"},
        {"to", OPTION_TEXT, &given.to, "gguf|hf",
         "a GGUF file (default), or a Hugging Face folder"},
        {"type", OPTION_TEXT, &given.type, "TYPE",
         "of the matrices: auto, f32, f16, bf16, q8_0, q6_k, q5_k_m, q4_k_m, q4_0 …, same"},
        {"eval-data", OPTION_TEXT, &given.eval_data, "FILE",
         "print held-out loss of base, adapter and merged file"},
    };
    Command command = {.name = "merge",
                       .summary = "Write model and adapter as one GGUF file or Hugging Face "
                                  "folder.",
                       .usage = "hone merge --model M --adapter A --out F [--type q8_0] "
                                "[--to hf]",
                       .options = options,
                       .option_count = 6 + common_options(&given.common, options + 6)};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!given.model || !given.out || given.adapters.count == 0) {
        fprintf(stderr, "hone merge: --model, --adapter and --out are needed (usage: %s)\n",
                command.usage);
        return EXIT_USAGE;
    }
    if (strcmp(given.to, "gguf") != 0 && strcmp(given.to, "hf") != 0) {
        fprintf(stderr, "hone merge: --to \"%s\" is not gguf or hf\n", given.to);
        return EXIT_USAGE;
    }
    struct stat out, data;
    if (given.eval_data && stat(given.out, &out) == 0 && stat(given.eval_data, &data) == 0 &&
        out.st_dev == data.st_dev && out.st_ino == data.st_ino) {
        fprintf(stderr, "hone merge: --out %s is the file of --eval-data\n", given.out);
        return EXIT_USAGE;
    }
    HoneContext *context = open_context("merge", &given.common, &status);
    if (!context) return status;
    watch_signals();
    status = merge(context, &given);
    hone_context_free(context);
    return status;
}

// ---- convert -----------------------------------------------------------------------------------

typedef struct ConvertOptions {
    Common common;
    const char *in, *model, *out, *to, *type;
    TextList adapters;
} ConvertOptions;

static int convert_adapter(HoneContext *context, HoneModel *model, const ConvertOptions *options) {
    const bool peft = strcmp(options->to, "peft") == 0;
    hone_status result = HONE_OK;
    if (options->in) {
        result = hone_convert_adapter(model, options->in, peft, options->out);
    } else {
        result = add_adapters(model, &options->adapters);
        if (result == HONE_OK) result = hone_convert_adapters(model, peft, options->out);
    }
    if (result != HONE_OK) return report_failure("convert", context, result);
    if (options->common.json) {
        printf("{\"out\":");
        print_json_text(stdout, options->out);
        printf(",\"format\":\"%s\"}\n", options->to);
    } else {
        printf("%s: %s\n", options->out, peft ? "a PEFT adapter" : "a GGUF adapter");
    }
    return EXIT_DONE;
}

static int convert(HoneContext *context, const ConvertOptions *options) {
    HoneModel *model = NULL;
    HoneMerged merged;
    hone_status result =
        hone_model_load(context, options->model ? options->model : options->in, &model);
    int status = EXIT_DONE;
    if (result == HONE_OK && options->model) {
        status = convert_adapter(context, model, options);
    } else {
        const char *type = options->type ? options->type : "same";
        if (result == HONE_OK)
            result = strcmp(options->to, "hf") == 0
                         ? hone_merge_hf(model, type, options->out, go_on, NULL, &merged)
                         : hone_convert(model, type, options->out, go_on, NULL, &merged);
        if (result == HONE_OK)
            print_merged("convert", options->out, options->common.json, &merged);
        else
            status = report_failure("convert", context, result);
    }
    hone_model_free(model);
    return status;
}

static bool is_adapter_folder(const char *path) {
    char config[4096];
    struct stat info;
    snprintf(config, sizeof config, "%s/adapter_config.json", path);
    return stat(config, &info) == 0;
}

// NULL: the options go together.
static const char *convert_problem(const ConvertOptions *given) {
    if (given->in && given->adapters.count > 0)
        return "name the adapter first, or several as --adapter A[:WEIGHT], not both";
    if (!given->in && given->adapters.count == 0) return "which file or folder?";
    if (!given->out || !given->to) return "--out and --to are needed";
    const bool peft = strcmp(given->to, "peft") == 0;
    const bool folder = strcmp(given->to, "hf") == 0;
    if (!peft && !folder && strcmp(given->to, "gguf") != 0) return "--to is gguf, hf or peft";
    if (peft && !given->model) return "--to peft wants the adapter's base as --model";
    if (folder && given->model)
        return "--to hf writes models: hone merge --to hf puts an adapter into one, --to peft "
               "converts it";
    if (!given->model && (!given->in || is_adapter_folder(given->in)))
        return "this is an adapter: its base is wanted as --model";
    if (given->type && given->model) return "--type is of models; an adapter is written in f32";
    return NULL;
}

int command_convert(int argc, char **argv) {
    ConvertOptions given = {0};
    Option options[16] = {
        {"out", OPTION_TEXT, &given.out, "PATH", "the GGUF file, or the folder, to write"},
        {"to", OPTION_TEXT, &given.to, "gguf|hf|peft",
         "gguf (models and adapters), hf (models, a Hugging Face folder) or peft (adapters)"},
        {"type", OPTION_TEXT, &given.type, "TYPE",
         "of a model's matrices: same (default), f32, f16, bf16, q8_0, q6_k, q4_k_m …"},
        {"model", OPTION_TEXT, &given.model, "FILE", "the base, where IN is an adapter"},
        {"adapter", OPTION_LIST, &given.adapters, "A[:WEIGHT]",
         "instead of IN: adapters to write as one, of summed rank; may be repeated"},
    };
    Command command = {.name = "convert",
                       .summary = "Write a model as GGUF, of any type, or as a Hugging Face "
                                  "folder; an adapter as GGUF or for PEFT.",
                       .usage = "hone convert IN --to gguf|hf|peft --out F [--type q4_k_m] "
                                "[--model BASE [--adapter A:0.7 --adapter B:0.3]]",
                       .options = options,
                       .option_count = 5 + common_options(&given.common, options + 5),
                       .positional = "FILE",
                       .position = &given.in};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    const char *problem = convert_problem(&given);
    if (problem) {
        fprintf(stderr, "hone convert: %s (usage: %s)\n", problem, command.usage);
        return EXIT_USAGE;
    }
    HoneContext *context = open_context("convert", &given.common, &status);
    if (!context) return status;
    watch_signals();
    status = convert(context, &given);
    hone_context_free(context);
    return status;
}
