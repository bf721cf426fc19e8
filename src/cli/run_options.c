// SPDX-License-Identifier: Apache-2.0
#include "run_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

void run_option_defaults(RunOptions *given) {
    given->method = "lora";
    given->loss = "tokens";
    given->task = "lm";
    given->schedule = "cosine";
    given->optimizer = "adamw";
    given->loss_on = "auto";
    given->on_bad = "stop";
    given->checkpoint_layers = "0";
    given->keep = "last";
    given->rank = given->run.rank;
}

// What is read, written and trained, and on which examples.
static int fill_first(RunOptions *given, Option *options) {
    HoneFinetuneOptions *run = &given->run;
    const Option table[] = {
        {"what is read and written", OPTION_HEADING, NULL, NULL, NULL},
        {"model", OPTION_TEXT, &run->model, "FILE",
         "the model, a GGUF file or a Hugging Face folder"},
        {"data", OPTION_LIST, &given->data, "F[:WEIGHT]",
         "examples (.jsonl, .json, .csv, .tsv, .txt; also .gz, .zst); may be repeated"},
        {"out", OPTION_TEXT, &run->out, "DIR", "the folder for the results"},
        {"overwrite", OPTION_FLAG, &run->overwrite, NULL,
         "begin anew where --out holds a run that could go on with --resume"},
        {"config", OPTION_TEXT, &given->config, "FILE", "YAML of these names"},
        {"dry-run", OPTION_FLAG, &run->dry_run, NULL, "print the plan, write nothing"},
        {"what is trained", OPTION_HEADING, NULL, NULL, NULL},
        {"method", OPTION_TEXT, &given->method, "lora|dora|full",
         "an adapter over the weights as stored (lora, the default; dora: with magnitudes of its "
         "own), or every weight"},
        {"rank", OPTION_COUNT, &given->rank, "N", "of the adapter (16, or that of --adapter)"},
        {"alpha", OPTION_RATE, &run->alpha, "X",
         "its scale is alpha/rank (32, or that of --adapter)"},
        {"dropout", OPTION_REAL, &run->dropout, "X",
         "of what adapters read, in training (0); in steps of 1/256"},
        {"targets", OPTION_TEXT, &run->targets, "LIST",
         "all-linear (default), or a list of q,k,v,qkv,o,gate,up,down,embed,head and patterns of "
         "tensor names"},
        {"layers", OPTION_COUNT, &given->layers, "N", "adapt the last N layers only"},
        {"save-modules", OPTION_TEXT, &run->save_modules, "LIST",
         "train these whole beside the adapter: embed, head, norm, patterns of tensor names"},
        {"rslora", OPTION_FLAG, &run->rslora, NULL, "scale alpha/sqrt(rank)"},
        {"adapter", OPTION_TEXT, &run->adapter, "A", "begin from this adapter"},
        {"type", OPTION_TEXT, &run->type, "TYPE",
         "of a fully tuned model: f16 (an encoder: f32) or as hone merge has them"},
        {"the examples", OPTION_HEADING, NULL, NULL, NULL},
        {"eval-data", OPTION_TEXT, &run->eval_data, "FILE", "held-out examples"},
        {"eval-split", OPTION_REAL, &run->eval_split, "X",
         "without --eval-data: share or number held out (0.05, at most 200; 0: none)"},
        {"max-length", OPTION_SIZE, &run->examples.max_length, "N",
         "cut longer examples (the model's context, at most 2048)"},
        {"stride", OPTION_COUNT, &run->examples.stride, "N",
         "tokens from window to window of a .txt file (no overlap)"},
        {"task", OPTION_TEXT, &given->task, "lm|classify|embed",
         "what is learnt: to continue texts (lm); of an encoder a class of each text: records with "
         "text, label, perhaps text_pair; or vectors: anchor and positive, which belong together"},
        {"labels", OPTION_TEXT, &run->labels, "LIST",
         "of classify: the classes in the order of their numbers (the model's, else the data's)"},
        {"loss", OPTION_TEXT, &given->loss, "tokens|dpo|orpo|distill",
         "of each token (tokens); of pairs: records of prompt, chosen, rejected; of a teacher"},
        {"beta", OPTION_RATE, &run->beta, "X", "of dpo and orpo (0.1)"},
        {"teacher", OPTION_TEXT, &run->teacher, "MODEL",
         "of distill: its distributions are learnt beside the tokens; same vocabulary"},
        {"temperature", OPTION_RATE, &run->temperature, "X",
         "of distill: logits of both are divided by it (2)"},
        {"teacher-share", OPTION_REAL, &run->teacher_share, "X",
         "of distill: what the teacher counts, the tokens count the rest (0.5)"},
        {"loss-on", OPTION_TEXT, &given->loss_on, "auto|assistant|completion|all",
         "which tokens are learnt (auto: the assistant's or the completion's where the data has "
         "them)"},
        {"on-bad-example", OPTION_TEXT, &given->on_bad, "stop|skip", "stop is the default"},
        {"template", OPTION_TEXT, &run->template_path, "FILE", "another chat template"},
        {"date", OPTION_TEXT, &given->date, "DAY",
         "that a chat template tells, as 2026-11-24 (today)"},
        {"no-eos", OPTION_FLAG, &run->examples.no_eos, NULL,
         "do not end texts with EOS; take answers that nothing ends"},
        {"shuffle", OPTION_SWITCH, &run->shuffle, "on|off", "the order depends on --seed (on)"},
        {"group-prefixes", OPTION_FLAG, &run->group_prefixes, NULL,
         "bring examples that begin alike into the same steps: less to compute"},
    };
    memcpy(options, table, sizeof table);
    return (int)(sizeof table / sizeof *table);
}

// How.
static int fill_second(RunOptions *given, Option *options) {
    HoneFinetuneOptions *run = &given->run;
    const Option table[] = {
        {"the steps", OPTION_HEADING, NULL, NULL, NULL},
        {"epochs", OPTION_RATE, &run->epochs, "E", "passes over the data (1)"},
        {"steps", OPTION_COUNT, &run->steps, "N", "instead of epochs"},
        {"batch", OPTION_COUNT, &run->batch, "N", "examples a step"},
        {"batch-tokens", OPTION_SIZE, &run->batch_tokens, "N",
         "tokens a step, but 4 examples at least (4096, less for little data)"},
        {"lr", OPTION_RATE, &run->lr, "X", "learning rate (2e-4; full: 2e-5)"},
        {"schedule", OPTION_TEXT, &given->schedule, "cosine|linear|constant|wsd|inverse-sqrt",
         "of the learning rate (cosine); inverse-sqrt: as 1/sqrt(step) behind the warm-up"},
        {"decay", OPTION_REAL, &run->decay, "X",
         "of wsd: share of the steps, from 1 on steps (0.2)"},
        {"warmup", OPTION_REAL, &run->warmup, "X", "share of the steps, from 1 on steps (0.03)"},
        {"optimizer", OPTION_TEXT, &given->optimizer, "adamw|adamw8bit|adafactor|sgd|muon",
         "what makes a step of a gradient (adamw)"},
        {"weight-decay", OPTION_REAL, &run->weight_decay, "X", "of matrices (0)"},
        {"clip", OPTION_REAL, &run->clip, "X", "largest gradient norm (1; 0: off)"},
        {"beta1", OPTION_REAL, &run->beta1, "X", "of AdamW; sgd: its momentum (0.9)"},
        {"beta2", OPTION_REAL, &run->beta2, "X", "of AdamW (0.999)"},
        {"eps", OPTION_RATE, &run->eps, "X", "of AdamW (1e-8)"},
        {"momentum", OPTION_REAL, &run->momentum, "X", "of muon (0.95)"},
        {"z-loss", OPTION_REAL, &run->z_loss, "X", "weight of (log sum exp of the logits)^2 (0)"},
        {"label-smoothing", OPTION_REAL, &run->label_smoothing, "X",
         "share of each target that goes to all tokens (0)"},
        {"router-loss", OPTION_REAL, &run->router_loss, "X",
         "of a mixture of experts: weight of the loss for their even use (0)"},
        {"gradient-penalty", OPTION_REAL, &run->gradient_penalty, "X",
         "weight of the gradient's norm, by a second pass (0)"},
        {"memory and speed", OPTION_HEADING, NULL, NULL, NULL},
        {"memory", OPTION_SIZE, &run->memory, "SIZE",
         "stay within SIZE (900M, 4G): chooses the next two, or says what would do"},
        {"accumulate", OPTION_COUNT, &run->accumulate, "K",
         "cut each step into K micro-batches: less memory, same result"},
        {"checkpoint-layers", OPTION_TEXT, &given->checkpoint_layers, "N|all",
         "make the activations of N layers again in backward: less memory, same bits (0)"},
        {"precision", OPTION_TEXT, &run->precision, "auto|f32|bf16",
         "of matrix products: f32 (auto), or bf16 with f32 sums where the processor has it"},
        {"along the way", OPTION_HEADING, NULL, NULL, NULL},
        {"eval-every", OPTION_COUNT, &run->eval_every, "N", "steps between held-out losses"},
        {"sample", OPTION_TEXT, &run->sample, "PROMPT",
         "continue it whenever the held-out loss is measured"},
        {"log-norms", OPTION_COUNT, &run->log_norms, "N",
         "steps between the norms of each layer's gradient and update in metrics.jsonl"},
        {"checkpoint-every", OPTION_TEXT, &run->checkpoint_every, "T", "steps, or minutes: 5m"},
        {"keep", OPTION_TEXT, &given->keep, "last|best",
         "which weights to write: the last (default), or those with the lowest held-out loss"},
        {"patience", OPTION_COUNT, &run->patience, "N",
         "stop once N held-out losses in a row are not below the lowest"},
        {"skip-spikes", OPTION_REAL, &run->skip_spikes, "Z",
         "skip steps whose loss or gradient norm is Z standard deviations above those before (0)"},
        {"resume", OPTION_TEXT, &run->resume, "DIR", "go on with DIR's run, by its options"},
        {"resume-changed", OPTION_FLAG, &run->resume_changed, NULL,
         "with --resume: go on though model, data or options are others"},
        {"of every command", OPTION_HEADING, NULL, NULL, NULL},
    };
    memcpy(options, table, sizeof table);
    return (int)(sizeof table / sizeof *table);
}

int run_option_table(RunOptions *given, Option *options) {
    int count = fill_first(given, options);
    count += fill_second(given, options + count);
    return count + common_options(&given->common, options + count);
}

// "all" or a number of layers.
static bool parse_layers(const char *command, const char *text, int *layers) {
    char *end;
    const long count = strtol(text, &end, 10);
    const bool all = strcmp(text, "all") == 0;
    *layers = all ? -1 : (int)count;
    if (all || (end != text && !*end && count >= 0 && count <= 65536)) return true;
    fprintf(stderr, "hone %s: --checkpoint-layers is \"%s\", want a number or all\n", command,
            text);
    return false;
}

bool resolve_run_options(const char *command, RunOptions *given, HoneDataSource *sources) {
    static const char *const methods[] = {"lora", "full", "dora"};
    static const char *const losses[] = {"tokens", "dpo", "orpo", "distill"};
    static const char *const schedules[] = {"cosine", "linear", "constant", "wsd", "inverse-sqrt"};
    HoneFinetuneOptions *run = &given->run;
    int method = choose(command, "method", given->method, methods, 3);
    int loss = method < 0 ? -1 : choose(command, "loss", given->loss, losses, 4);
    int schedule = loss < 0 ? -1 : choose(command, "schedule", given->schedule, schedules, 5);
    static const char *const tasks[] = {"lm", "classify", "embed"};
    static const HoneTask known_tasks[] = {HONE_TASK_NONE, HONE_TASK_CLASSIFY, HONE_TASK_PAIRS};
    const int task = schedule < 0 ? -1 : choose(command, "task", given->task, tasks, 3);
    static const char *const kept[] = {"last", "best"};
    const int keep = task < 0 ? -1 : choose(command, "keep", given->keep, kept, 2);
    if (keep < 0 || !parse_optimizer(command, given->optimizer, &run->optimizer) ||
        !parse_loss_on(command, given->loss_on, &run->examples.loss_on) ||
        !parse_on_bad(command, given->on_bad, &run->examples.skip_bad) ||
        !parse_date(command, given->date, &run->examples.now) ||
        !parse_layers(command, given->checkpoint_layers, &run->checkpoint_layers))
        return false;
    run->method = (HoneMethod)method;
    run->loss = (HoneLoss)loss;
    run->examples.task = known_tasks[task];
    run->schedule = (HoneSchedule)schedule;
    run->keep_best = keep == 1;
    const int64_t most = INT32_MAX;
    run->rank = (int)(given->rank > most ? most : given->rank < -1 ? -1 : given->rank);
    run->layers = (int)(given->layers > most ? most : given->layers < -1 ? -1 : given->layers);
    run->seed = (uint64_t)given->common.seed;
    for (int i = 0; i < given->data.count; i++)
        sources[i].path = split_weight(given->data.items[i], &sources[i].weight);
    run->data = sources;
    run->data_count = given->data.count;
    if (run->resume && !run->out) run->out = run->resume;
    return true;
}

void let_the_command_line_win(int argc, char **argv, HoneFinetuneOptions *run) {
    bool batch = is_given(argc, argv, "batch"), tokens = is_given(argc, argv, "batch-tokens");
    if (batch && !tokens) run->batch_tokens = 0;
    if (tokens && !batch) run->batch = 0;
    if (is_given(argc, argv, "epochs") && !is_given(argc, argv, "steps")) run->steps = 0;
}

bool ask_to_overwrite(const char *command, RunOptions *given) {
    HoneFinetuneOptions *run = &given->run;
    if (run->resume || run->overwrite || run->dry_run || !run->out || given->common.json ||
        !stdin_is_terminal() || !stderr_is_terminal())
        return true;
    const int64_t step = hone_unfinished_step(run->out);
    if (step < 0) return true;
    fprintf(stderr,
            "%s holds a run that did not come to its end, saved at step %lld; hone %s --resume %s "
            "goes on with it.\nThrow it away and begin anew? [y/N] ",
            run->out, (long long)step, command, run->out);
    char answer[16] = "";
    run->overwrite = fgets(answer, sizeof answer, stdin) && (*answer == 'y' || *answer == 'Y');
    if (!run->overwrite) fprintf(stderr, "hone %s: nothing was changed\n", command);
    return run->overwrite;
}

void note_what_the_optimizer_ignores(const Command *command, int argc, char **argv,
                                     const HoneFinetuneOptions *run) {
    if (run->optimizer == HONE_ADAFACTOR)
        note_without_effect(command, argc, argv, "beta1 beta2 eps", "with --optimizer adafactor");
    if (run->optimizer == HONE_SGD)
        note_without_effect(command, argc, argv, "beta2 eps", "with --optimizer sgd");
    if (run->optimizer != HONE_MUON)
        note_without_effect(command, argc, argv, "momentum", "without --optimizer muon");
    if (run->schedule != HONE_SCHEDULE_WSD)
        note_without_effect(command, argc, argv, "decay", "without --schedule wsd");
    if (run->steps > 0) note_without_effect(command, argc, argv, "epochs", "beside --steps");
    if (run->eval_data)
        note_without_effect(command, argc, argv, "eval-split", "beside --eval-data");
}
