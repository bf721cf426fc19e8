// SPDX-License-Identifier: Apache-2.0
// Fine-tuning: LoRA over the weights as stored, or all weights in f32.
//
//     HoneFinetuneOptions options;
//     hone_finetune_defaults(&options);
//     options.model = "SmolLM2.gguf";
//     options.data = (const HoneDataSource[]){{"tickets.jsonl", 1}};
//     options.data_count = 1;
//     options.out = "my-adapter";
//     hone_status status = hone_finetune(ctx, &options, on_event, NULL);
#ifndef HONE_FINETUNE_H
#define HONE_FINETUNE_H

#include <hone/data.h>

#ifdef __cplusplus
extern "C" {
#endif

// LoRA (Hu et al. 2021), all weights, DoRA (Liu et al. 2024: LoRA on directions, with a trained
// magnitude for each row).
typedef enum HoneMethod { HONE_METHOD_LORA, HONE_METHOD_FULL, HONE_METHOD_DORA } HoneMethod;
// AdamW (Loshchilov, Hutter 2019); the same with moments of 8 bits (Dettmers et al. 2022), tensors
// below 4096 values in f32; Adafactor (Shazeer, Stern 2018) at the given rate, without a first
// moment; SGD with momentum beta1; Muon (Jordan et al. 2024) for the layers' matrices, its step of
// AdamW's size (Liu et al. 2025), and AdamW for all else.
typedef enum HoneOptimizer {
    HONE_ADAMW,
    HONE_ADAMW8BIT,
    HONE_ADAFACTOR,
    HONE_SGD,
    HONE_MUON
} HoneOptimizer;

// Of each token that is learnt; or of pairs of answers, one preferred: DPO (Rafailov et al. 2023;
// the reference is the model without its adapter, so the method is LoRA), ORPO (Hong et al. 2024);
// or of tokens and a teacher's distributions over them (Hinton et al. 2015).
typedef enum HoneLoss {
    HONE_LOSS_TOKENS,
    HONE_LOSS_DPO,
    HONE_LOSS_ORPO,
    HONE_LOSS_DISTILL
} HoneLoss;

typedef enum HoneSchedule {
    HONE_SCHEDULE_COSINE,
    HONE_SCHEDULE_LINEAR,
    HONE_SCHEDULE_CONSTANT,
    HONE_SCHEDULE_WSD, // constant, then linear to 0 (warm-up, stable, decay: Hu et al. 2024)
    HONE_SCHEDULE_INVERSE_SQRT // falls as 1/√step behind the warm-up (Vaswani et al. 2017)
} HoneSchedule;

typedef struct HoneDataSource {
    const char *path;
    double weight; // how often its examples are drawn an epoch: 1 once, 2 twice, 0.5 half of them
} HoneDataSource;

// A negative or zero value that is marked (auto) is resolved before the run and written to
// config.yaml.
typedef struct HoneFinetuneOptions {
    const char *model, *out;
    const HoneDataSource *data;
    int64_t data_count;
    const char *eval_data; // NULL: split from data
    double eval_split; // < 1: share; ≥ 1: examples; 0: none. Default 0.05, at most 200 examples
    HoneMethod method;
    int rank;     // (auto 0: 16, or the adapter's; another than the adapter's is refused)
    double alpha; // (auto 0: 32, or the adapter's, likewise)
    // Of what adapters read; of all weights of an encoder-decoder, of what each part of a layer
    // adds. [0, 1) in steps of 1/256. The draw depends on the seed, the step and a token and those
    // before it, never on how a step is batched.
    double dropout;
    const char *targets; // "all-linear" or a list of q,k,v,qkv,o,gate,up,down (as the model has
                         // them), embed, head (apart also where they are one matrix), and of
                         // patterns of tensor names
    int layers;          // adapt the last N layers only; 0: all
    bool rslora;
    // Train these whole, in f32, beside the adapter (PEFT's modules_to_save): a list of embed,
    // head, norm (the last), words as in targets, patterns of tensor names. NULL: none
    const char *save_modules;
    const char *adapter;  // begin from this adapter, a LoRA or a DoRA as it is; NULL: fresh
    double epochs;        // 1
    int64_t steps;        // (auto 0: from epochs)
    int64_t batch;        // examples a step (auto 0)
    int64_t batch_tokens; // tokens a step (auto 0: 4096, fewer when an epoch would have under 100
                          // steps)
    int64_t accumulate;   // micro-batches a step; 1
    // Layers whose activations are made again in backward: less memory, more time, the same bits.
    // The lowest ones that are trained; -1: all. Default 0
    int checkpoint_layers;
    // Bound on the resident pages, anonymous and mapped; 0: none. accumulate and checkpoint_layers
    // are raised as far as it needs, HONE_ERROR_MEMORY names the smallest size that would do.
    int64_t memory;
    // examples.task says what an encoder learns. Of classes: the labels, parted by commas, in the
    // order of their numbers; NULL: those of the model or of the adapter, else of the data
    HoneDataOptions examples;
    const char *labels;
    double lr;               // (auto 0: 2e-4 for adapters, 2e-5 for full)
    HoneOptimizer optimizer; // HONE_ADAMW
    HoneSchedule schedule;
    HoneLoss loss;
    double beta; // of DPO and ORPO; 0.1
    // Of distillation: a model with the same vocabulary; τ of (1 − share)·(−log p of the token) +
    // share·τ²·KL(teacher's softmax(z/τ) ‖ the model's); 2; and the share; 0.5
    const char *teacher;
    double temperature, teacher_share;
    double decay;    // of WSD: < 1: share of the steps, ≥ 1: steps; 0.2
    double momentum; // of Muon; 0.95
    // λ of λ·(logsumexp z)² a target, beside its loss (Chowdhery et al. 2022): logits stay small. 0
    double z_loss;
    // ε: each target counts 1 − ε, all tokens together ε (Szegedy et al. 2016). Held-out losses are
    // without it. 0
    double label_smoothing;
    // Of a mixture of experts: weight of the loss that keeps its experts evenly used (Fedus et al.
    // 2021), as transformers' router_aux_loss_coef. 0
    double router_loss;
    // λ of λ·‖g‖ beside the loss, g its gradient: its own gradient λ·H·g/‖g‖ is the difference to
    // the gradient at θ + ε·g/‖g‖, over ε. Doubles the time of a step. 0
    double gradient_penalty;
    // Every so many steps the norms of each layer's gradient and update stand in metrics.jsonl; 0:
    // never. Takes a copy of what is trained.
    int64_t log_norms;
    const char *sample; // NULL; else what the model continues whenever its loss is measured
    double warmup;      // < 1: share of the steps, ≥ 1: steps; 0.03
    double weight_decay, clip, beta1, beta2, eps; // 0, 1.0, 0.9, 0.999, 1e-8; clip 0: off
    bool shuffle;                                 // true
    // Bring examples that begin alike together into steps, so that less is computed: by their
    // tokens within windows of 16 steps of the shuffled order; the steps are then shuffled. false
    bool group_prefixes;
    const char *precision; // "auto" (f32), "f32", or "bf16": matrix products of operands so rounded
    const char *type; // of a fully fine-tuned model: "f16", "bf16", "f32"; NULL: f16, encoders f32
    const char *template_path; // NULL: the model's own
    uint64_t seed;
    int64_t eval_every;           // steps between held-out losses (auto 0: a quarter of the run)
    const char *checkpoint_every; // "5m" (minutes) or steps "100"; default "5m"
    bool keep_best;   // write the weights with the lowest held-out loss, not the last. false
    int64_t patience; // stop after so many held-out losses in a row above the lowest; 0: never
    // Change nothing at a step whose loss or gradient norm lies more than so many standard
    // deviations above those of the steps before (16 at least; recent ones weigh more). 0: off. The
    // fifth in a row begins the statistics anew: that is no spike.
    double skip_spikes;
    const char *resume;  // a run folder; NULL: a fresh run
    bool resume_changed; // go on though model, data or options are others; false: refused by name
    bool overwrite;      // replace a run in `out` that has a checkpoint and is not at its end; else
                         // refused
    bool dry_run;        // plan only, write nothing
} HoneFinetuneOptions;
void hone_finetune_defaults(HoneFinetuneOptions *options);

// The step from which a run in `folder` can be resumed that did not come to its end; -1: there is
// none, or it is still going on.
int64_t hone_unfinished_step(const char *folder);

// ---- events ------------------------------------------------------------------------------------

enum { HONE_LENGTH_BUCKETS = 24 };

typedef struct HonePlan { // strings and example are valid during the call only
    const char *model_name, *method;
    int64_t model_parameters, trainable, trained_tensors;
    int64_t train_examples, eval_examples, skipped, cut;
    int64_t conversations; // of train_examples: made by the chat template
    int64_t unended; // answers in which the template puts no end token: nothing teaches to stop
    const char *first_skipped;
    bool translates;   // the model is an encoder-decoder
    bool has_template; // the model's own: hone chat needs no option to talk to the result
    // One epoch's: read, computed (what examples of a micro-batch begin with alike counts once), in
    // the loss.
    int64_t tokens, tokens_computed, targets;
    int64_t longest;
    int64_t length_width; // lengths[i]: training examples of i·width + 1 … (i + 1)·width tokens
    int64_t lengths[HONE_LENGTH_BUCKETS];
    int length_buckets; // up to the longest
    int64_t duplicates; // held-out examples that are training examples too, token by token
    int64_t steps, batch, batch_tokens; // batch 0: steps are filled up to batch_tokens
    int64_t accumulate;
    int layers, checkpoint_layers; // of the model; those whose activations are made again
    double step_tokens;            // a step reads on average
    double epochs, lr, minutes;    // minutes: estimated from a measured matrix product
    int passes;                    // a step takes its gradient so often: 2 with a gradient penalty
    double operations;             // useful ones of all steps, two a multiply-add; see hone/bench.h
    int64_t warmup_steps;
    int64_t memory_bytes; // resident peak expected, anonymous and mapped; the parts:
    int64_t model_bytes, state_bytes, activation_bytes;
    int64_t memory_limit; // as asked for; 0: none
    const char *isa;
    int threads;
    const char *targets_text;     // "q,k,v,o,gate,up,down"
    const HoneExample *example;   // the first training example, with its mask
    const int32_t *piece_offsets; // (example->count + 1): byte offset of each token in pieces
    const char *pieces;           // the tokens' texts, one after the other
} HonePlan;

typedef struct HoneStep {
    int64_t step, steps;
    double loss; // mean over the step's target tokens
    double lr, grad_norm;
    int64_t tokens, tokens_computed;
    double tokens_per_s, seconds, seconds_left;          // seconds: of this step
    int64_t rss_bytes, rss_anon_bytes, rss_mapped_bytes; // resident: in all, and its two parts
    double epoch;
    bool skipped; // by skip_spikes
} HoneStep;

typedef struct HoneHeldOut {
    int64_t step; // 0: before the first
    double loss, perplexity;
    double preferred; // share of the pairs whose chosen answer is the likelier one; NAN: no pairs
    // Of classes: the share that is right, the mean of the labels' F1; of HONE_TASK_PAIRS the share
    // of anchors nearest to their own positive, among 64 at most; else NAN
    double accuracy, f1;
    int64_t tokens;
    double seconds;
} HoneHeldOut;

typedef struct HoneSample {
    int64_t step;
    const char *prompt, *text;
} HoneSample;

typedef struct HoneDone {
    int64_t steps;
    double loss_first, loss_last; // held-out before and after; NAN when there is none
    double seconds;
    int64_t rss_peak_bytes;
    const char *const *files; // written, borrowed
    int64_t file_count;
    bool interrupted;
    int64_t best_step; // whose held-out loss was lowest; 0: none was measured after a step
    int64_t skipped;   // steps, by skip_spikes
} HoneDone;

typedef enum HoneEventKind {
    HONE_EVENT_PLAN,
    HONE_EVENT_STEP,
    HONE_EVENT_EVAL,
    HONE_EVENT_PROGRESS,   // progress: held-out examples measured, of all
    HONE_EVENT_CHECKPOINT, // text: the folder
    HONE_EVENT_NOTE,       // text: something the person should know
    HONE_EVENT_SAMPLE,     // sample: what the model wrote
    HONE_EVENT_DONE,
} HoneEventKind;

typedef struct HoneEvent {
    HoneEventKind kind;
    union {
        const HonePlan *plan;
        const HoneStep *step;
        const HoneHeldOut *eval;
        struct {
            int64_t done, total;
        } progress;
        const char *text;
        const HoneSample *sample;
        const HoneDone *done;
    } as;
} HoneEvent;

// Return false to stop: after a step a checkpoint is written and hone_finetune returns
// HONE_INTERRUPTED.
typedef bool (*HoneEventSink)(void *user, const HoneEvent *event);

// Train. Nothing is written before the held-out loss of the model as it is has been measured and
// its event has returned true; files appear whole or not at all. out/ holds afterwards:
// adapter_model.safetensors, adapter_config.json, adapter.gguf (LoRA and DoRA, the last where
// llama.cpp has a form for it; a note says so where not) or model.gguf (full), of an encoder the
// Hugging Face folder model/; labels.json beside an adapter of classes; metrics.jsonl,
// config.yaml, checkpoint/, run.json and report.html (hone/report.h). HONE_ERROR_NUMERIC names the
// step and the first tensor that is not finite; the parameters are untouched then.
hone_status hone_finetune(HoneContext *context, const HoneFinetuneOptions *options,
                          HoneEventSink sink, void *user);

#ifdef __cplusplus
}
#endif
#endif
