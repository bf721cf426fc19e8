// SPDX-License-Identifier: Apache-2.0
// What is in folders and files that are no model by themselves: adapters' settings, runs and their
// checkpoints, tokenisers.
#include "train/inspect.h"

#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

// ---- entries -----------------------------------------------------------------------------------

typedef struct Entries {
    const char *folder;
    TextBuffer *text;
    bool json;
    int64_t count;
} Entries;

static void put_entry(void *user, const char *name) {
    Entries *entries = user;
    char *path = hone_path_join(entries->folder, name);
    struct stat info;
    if (path && stat(path, &info) == 0) {
        const bool folder = S_ISDIR(info.st_mode);
        if (entries->json) {
            hone_text_puts(entries->text, entries->count ? "," : "");
            hone_text_json(entries->text, name, strlen(name));
            hone_text_printf(entries->text, ":%lld", folder ? -1LL : (long long)info.st_size);
        } else if (folder) {
            hone_text_printf(entries->text, "  %s/\n", name);
        } else {
            hone_text_printf(entries->text, "  %-32s %10.1f kB\n", name,
                             (double)info.st_size / 1e3);
        }
        entries->count++;
    }
    hone_free(path);
}

static void put_head(const char *path, const char *format, const char *able, bool json,
                     TextBuffer *text) {
    if (json) {
        hone_text_printf(text, ",\"format\":\"%s\",\"can\":", format);
        hone_text_json(text, able, strlen(able));
    } else {
        hone_text_printf(text, "%s\n  %s\n  %s\n", path, format, able);
    }
}

static void put_entries(const char *path, bool json, TextBuffer *text) {
    Entries entries = {.folder = path, .text = text, .json = json};
    hone_text_puts(text, json ? ",\"files\":{" : "\nfiles\n");
    hone_directory_each(path, put_entry, &entries);
    hone_text_puts(text, json ? "}" : "");
}

static bool holds(const char *folder, const char *name) {
    char *path = hone_path_join(folder, name);
    bool there = path && (hone_is_file(path) || hone_is_directory(path));
    hone_free(path);
    return there;
}

// ---- runs --------------------------------------------------------------------------------------

bool hone_is_run(const char *path) {
    return holds(path, "config.yaml") &&
           (holds(path, "metrics.jsonl") || holds(path, "checkpoint"));
}

bool hone_is_checkpoint(const char *path) {
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] == '/') length--;
    return length >= 10 && memcmp(path + length - 10, "checkpoint", 10) == 0;
}

// Its last event, as it stands in metrics.jsonl.
static void put_last_event(const char *path, bool json, TextBuffer *text) {
    char *name = hone_path_join(path, "metrics.jsonl"), *log = NULL;
    size_t length = 0;
    if (name && hone_file_read(name, &log, &length, NULL) == HONE_OK) {
        while (length > 0 && log[length - 1] == '\n') length--;
        size_t begin = length;
        while (begin > 0 && log[begin - 1] != '\n') begin--;
        if (length > begin) {
            hone_text_puts(text, json ? ",\"last_event\":" : "  last event: ");
            hone_text_json(text, log + begin, length - begin < 2000 ? length - begin : 2000);
            hone_text_puts(text, json ? "" : "\n");
        }
    }
    hone_free(log);
    hone_free(name);
}

// Whether config.yaml is of `hone train`: only there is an architecture chosen.
static bool is_developed(const char *folder) {
    static const char key[] = "architecture:";
    HoneError unused = {0};
    char *path = hone_path_join(folder, "config.yaml"), *config = NULL;
    const bool read = path && hone_file_read(path, &config, NULL, &unused) == HONE_OK;
    const char *at = read ? config : NULL;
    while (at && strncmp(at, key, sizeof key - 1) != 0) {
        at = strchr(at, '\n');
        if (at) at++;
    }
    hone_free(path);
    hone_free(config);
    return at != NULL;
}

void hone_inspect_run(const char *path, bool json, TextBuffer *text, HoneError *fault) {
    const bool adapter = holds(path, "adapter_config.json"), model = holds(path, "model.gguf");
    const bool resumes = holds(path, "checkpoint");
    const char *command = is_developed(path) ? "train" : "finetune";
    TextBuffer able = {0};
    hone_text_printf(&able, "a run: %s",
                     adapter ? "an adapter: give the folder as --adapter to finetune, eval, chat, "
                               "merge"
                     : model ? "a model: model.gguf in it"
                             : "it has written no adapter or model yet");
    if (resumes) hone_text_printf(&able, "; hone %s --resume goes on with it", command);
    hone_text_printf(&able, "; hone %s --config its config.yaml does it again", command);
    TextBuffer can = {0}, about = {0};
    const char *said = able.data ? able.data : "";
    if (adapter)
        hone_inspect_adapter(path, NULL, said, json, &can, &about, fault);
    else
        hone_text_puts(&can, said);
    put_head(path, "run", can.data ? can.data : "", json, text);
    hone_text_puts(text, about.data ? about.data : "");
    hone_text_free(&can);
    hone_text_free(&about);
    put_last_event(path, json, text);
    put_entries(path, json, text);
    hone_text_puts(text, json ? "}\n" : "");
    hone_text_free(&able);
}

void hone_inspect_checkpoint(const char *path, bool json, TextBuffer *text) {
    put_head(path, "checkpoint",
             "the state of a run: hone finetune --resume and the folder it is in", json, text);
    put_entries(path, json, text);
    hone_text_puts(text, json ? "}\n" : "");
}

// ---- adapters ----------------------------------------------------------------------------------

static int append_part(const char *part, size_t length, void *text) {
    hone_text_append(text, part, length);
    return 0;
}

// What adapter_config.json says of a PEFT or MLX-LM adapter, as far as it concerns its use.
void hone_inspect_adapter_config(const char *folder, bool json, TextBuffer *text) {
    static const char *const names[] = {"peft_type",
                                        "base_model_name_or_path",
                                        "model",
                                        "fine_tune_type",
                                        "r",
                                        "lora_alpha",
                                        "use_rslora",
                                        "use_dora",
                                        "lora_dropout",
                                        "target_modules",
                                        "rank_pattern",
                                        "alpha_pattern",
                                        "bias",
                                        "modules_to_save",
                                        "task_type",
                                        "num_layers",
                                        "lora_parameters"};
    char *path = hone_path_join(folder, "adapter_config.json"), *content = NULL;
    size_t length = 0;
    if (path && hone_file_read(path, &content, &length, NULL) == HONE_OK) {
        json_t *root = json_loadb(content, length, JSON_REJECT_DUPLICATES, NULL);
        hone_text_puts(text, json ? ",\"settings\":{" : "\nsettings\n");
        bool first = true;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            const json_t *value = json_object_get(root, names[i]);
            if (!value || json_is_null(value)) continue;
            hone_text_printf(text, json ? "%s\"%s\":" : "%s  %s = ", json && !first ? "," : "",
                             names[i]);
            json_dump_callback(value, append_part, text,
                               JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
            hone_text_puts(text, json ? "" : "\n");
            first = false;
        }
        hone_text_puts(text, json ? "}" : "");
        json_decref(root);
    }
    hone_free(content);
    hone_free(path);
}

// ---- tokenisers --------------------------------------------------------------------------------

static void put_role(TextBuffer *text, const Tokenizer *tokenizer, const char *name, int32_t token,
                     bool json) {
    if (token < 0) return;
    TokenizerText spelled = hone_token_bytes(tokenizer, token, true);
    hone_text_printf(text, json ? ",\"%s\":{\"id\":%d,\"text\":" : "  %s = %d ", name, token);
    hone_text_json(text, spelled.data, spelled.length);
    hone_text_puts(text, json ? "}" : "\n");
}

hone_status hone_inspect_tokenizer(const char *path, bool json, TextBuffer *text, HoneError *err) {
    Tokenizer *tokenizer;
    RETURN_IF_ERROR(hone_tokenizer_read_json(path, &tokenizer, err));
    const int64_t count = hone_tokenizer_size(tokenizer);
    int64_t control = 0, added = 0;
    for (int64_t i = 0; i < count; i++) {
        const TokenKind kind = hone_token_kind(tokenizer, (int32_t)i);
        control += kind == TOKEN_CONTROL;
        added += kind == TOKEN_USER;
    }
    put_head(path, "tokenizer.json", "a tokeniser: hone tokenize, and hone train --tokenizer", json,
             text);
    hone_text_printf(text,
                     json ? ",\"tokens\":%lld,\"control\":%lld,\"added\":%lld"
                          : "\n  tokens = %lld\n  control tokens = %lld\n  added tokens = %lld\n",
                     (long long)count, (long long)control, (long long)added);
    put_role(text, tokenizer, "bos", hone_tokenizer_bos(tokenizer), json);
    put_role(text, tokenizer, "eos", hone_tokenizer_eos(tokenizer), json);
    hone_text_puts(text, json ? "}\n" : "");
    hone_tokenizer_free(tokenizer);
    return HONE_OK;
}
