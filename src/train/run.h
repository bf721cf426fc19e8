// SPDX-License-Identifier: Apache-2.0
// One fine-tuning run: what is trained, in which order, and what was resolved from the options.
#ifndef HONE_TRAIN_RUN_H
#define HONE_TRAIN_RUN_H

#include <hone/train.h>

#include "base/random.h"
#include "train/classes.h"
#include "train/loss.h"
#include "train/optimizer.h"
#include "train/session.h"

typedef enum TrainedPart { PART_WHOLE, PART_A, PART_B, PART_MAGNITUDE } TrainedPart;

// A trained tensor: a range of the contiguous blocks below. An adapter's A is followed by its B,
// and that by its magnitude if it is a DoRA.
typedef struct Trainable {
    char name[96]; // "blk.0.attn_q.weight.lora_a", or the weight's own name
    Tensor *tensor;
    ParameterSlot *slot;
    TrainedPart part;
    int64_t offset, count;
    bool decays;     // weight decay applies: matrices, not norms
    double *squares; // of a magnitude: ‖w‖² of the weight's rows
} Trainable;

// All trained values in one block each, so that norms, sums, updates and files are loops over one
// array.
typedef struct Parameters {
    Trainable *items;
    int64_t item_count, item_capacity;
    int64_t count; // floats
    float *values, *gradient;
    float *kept_values;   // as they were before the step; NULL: nothing asks for them
    float *kept_gradient; // of the loss alone, where its norm is penalised; else NULL
    OptimizerState state;
    // Micro-batch gradients are added in a fixed binary tree over their numbers: partial sums on a
    // stack, like a binary counter. Level i holds the sum of 2^i leaves.
    float *partial[32];
    bool partial_full[32];
} Parameters;

// The examples of one step: a range of `order`.
typedef struct StepRange {
    int64_t first, count;
    int64_t tokens, targets; // read; to be learnt
    // Over its micro-batches' tries: tokens computed, rows of logits, pairs of tokens that see each
    // other.
    int64_t computed, rows, pairs;
    // Of those computed, an encoder's; pairs among these, and of these with the others.
    int64_t sources, source_pairs, cross_pairs;
    int64_t most_tokens, most_rows; // computed in one micro-batch
    int64_t tokens_part, rows_part; // which one that is
} StepRange;

// Seconds in the parts of all steps so far. The head's include the gradient of what it reads.
typedef struct PhaseSeconds {
    double forward, head, backward;
} PhaseSeconds;

// Bytes resident at the peak, and their parts.
typedef struct MemoryUse {
    int64_t program; // before: code, tokeniser, data
    int64_t model;   // mapped weights
    bool releases;   // of those one at a time is resident
    int64_t values, state, activations;
    int64_t total;
} MemoryUse;

enum { HONE_HELD_OUT_TOKENS = 2048 };

// What a run goes on with beside its tensors, as a checkpoint holds it: members of 8 bytes.
typedef struct SpikeSeries {
    double mean, variance;
} SpikeSeries;

typedef struct Progress {
    int64_t steps; // done
    double loss_first;
    // judge.c: held-out losses after steps; the best, and how many since have not been better
    int64_t held_out_step;
    double held_out_loss;
    int64_t best_step; // 0: none yet
    double best_loss;
    int64_t worse_in_a_row;
    int64_t judged_steps; // in the series below
    SpikeSeries loss, norm;
    int64_t skipped, skipped_in_a_row;
} Progress;

// What run.json tells beside the plan: record.h.
enum { RECORD_SAMPLES = 4 };
typedef struct RecordSample {
    const Example *example;
    int64_t prompt;       // its first tokens are the prompt
    char *before, *after; // NULL: not answered
    bool before_ended, after_ended;
} RecordSample;
typedef struct RunRecord {
    const HonePlan *plan;   // the run's, as long as it lasts
    double *before, *after; // (held_out_count) mean losses; NaN: not measured
    RecordSample samples[RECORD_SAMPLES];
    int sample_count;
    double train_seconds;
    char started[32];
} RunRecord;

struct Run {
    HoneContext *context;
    KernelContext kernels; // the context's, in the run's precision
    HoneError *err;
    HoneFinetuneOptions options;     // as resolved; strings borrowed from the caller
    const HoneTrainOptions *develop; // the model is a new one of these sizes; NULL: it is loaded
    GgufFile vocabulary;             // of a new model: the tokeniser's keys
    HoneEventSink sink;
    void *user;
    HoneModel *model, *teacher; // teacher NULL: none
    HoneData *data[64], *eval_data;
    ClassCounts classes;               // of the held-out examples
    const Example **train, **held_out; // borrowed from data
    int64_t train_count, held_out_count;
    int64_t source_begin[65]; // train[source_begin[s] … source_begin[s+1]-1] come from data[s]
    const Example **order;    // every example of the run, in order
    int64_t order_count, order_capacity;
    StepRange *steps;
    int64_t step_count, warmup_steps, epoch_steps; // epoch_steps: of the first epoch
    Parameters parameters;
    AdapterSettings adapter;
    MemoryUse memory;
    int64_t held_out_tokens; // at most in a held-out batch of several examples
    Tape *tape;
    Arena batch_memory;
    LogFile metrics;
    bool metrics_open, stop;
    int lock;          // of options.out: hone_directory_lock
    bool replaces;     // the folder holds another run
    bool eval_pending; // resumed where a held-out loss is due that metrics.jsonl does not hold
    double started, checkpoint_last, checkpoint_seconds;
    int64_t checkpoint_steps;
    TextBuffer identity; // identity.c: a resumed run must agree
    Progress progress;
    double loss_last;
    PhaseSeconds spent;
    RunRecord record;
    char *files[10];
    int64_t file_count;
};

void hone_run_free(Run *run);                   // and what it holds; run is hone_calloc's
void hone_run_note(Run *run, const char *text); // say it to who looks on

// parameters.c
hone_status hone_parameters_lora(Run *run);           // fresh or from options.adapter
hone_status hone_parameters_full(Run *run);           // f32 masters of every parameter
hone_status hone_parameters_allocate_state(Run *run); // gradient, optimiser
// Another draw of what the adapters drop, which only the seed and the step decide.
void hone_parameters_draw_dropout(Run *run, int64_t step);
// The adapter that an item is a part of; NULL: a whole tensor.
Adapter *hone_trained_adapter(const Trainable *item);
// After A or B have changed: what DoRA divides by.
hone_status hone_parameters_norms(Run *run);
// Behind the last step: of what allocate_state took nothing stays, the values do.
void hone_parameters_free_state(Parameters *parameters);
void hone_parameters_free(Parameters *parameters);
void hone_gradient_leaf_done(const KernelContext *kc, Parameters *parameters);
void hone_gradient_sum(const KernelContext *kc, Parameters *parameters);
// The name of the first tensor whose gradient is not; NULL: all are finite.
const char *hone_parameters_not_finite(const Parameters *parameters);

// whole.c: is the tensor trained whole, by --save-modules? A weight and its bias are both or
// neither.
bool hone_slot_is_saved(const Run *run, const ParameterSlot *slot);
hone_status hone_check_saved(const Run *run); // fail where an entry names nothing

// distil.c: load the teacher and compare it with the model. HONE_ERROR_ARGUMENT: it cannot teach
// it.
hone_status hone_run_load_teacher(Run *run);
// Of a loss that learns from it; memory of `teacher`. NULL: none.
const BatchTeacher *hone_run_teacher(const Run *run, BatchTeacher *teacher);
bool hone_loss_has_pairs(HoneLoss loss);

// label_set.c: for a task of classes. Before data is read: those that are given, or the model's or
// the adapter's own; once it is read: else those of the training data, by number where all are
// numbers, and the classifier for them.
hone_status hone_run_given_labels(Run *run);
hone_status hone_run_take_labels(Run *run);

// order.c
hone_status hone_run_read_data(Run *run);
hone_status hone_run_order(Run *run);
hone_status hone_step_count(Run *run, StepRange *step); // from computed on
// preference.c: the examples of pairs (example->rejected), both answers of each one after the
// other; others as they are.
hone_status hone_pairs_list(const Example *const *pairs, int64_t count, Arena *memory,
                            const Example *const **examples, int64_t *examples_count,
                            HoneError *err);
// A step is cut into --accumulate micro-batches, or fewer when it has fewer examples.
int64_t hone_micro_batches(const Run *run, const StepRange *step);
const Example *const *hone_micro_batch(const Run *run, const StepRange *step, int64_t part,
                                       int64_t *count);

// operations.c
// Useful floating-point operations of a step, 2 a multiply-add; what is computed again does not
// count. A token computed: 4 a frozen weight of the layers (forward, gradient of the input), 6 a
// trained one; a row with a target: the same of the head; a pair of tokens that sees each other: 14
// a channel of the queries (Σ over heads of 4 forward, 10 backward).
double hone_step_operations(const Run *run, const StepRange *step);
// What the loss takes beside these: DPO's forward pass of the reference, the logits that it and
// ORPO weigh pairs by before their gradients are made, the teacher's forward pass.
double hone_reference_operations(const Run *run, const StepRange *step);

// finetune.c
// The run of these options, which are hone_train's if develop is given.
hone_status hone_run_start(HoneContext *context, const HoneFinetuneOptions *options,
                           const HoneTrainOptions *develop, HoneEventSink sink, void *user);
// Set run->kernels by options.precision. HONE_ERROR_UNSUPPORTED where the level cannot.
hone_status hone_run_precision(Run *run);

// memory.c
// Resolve accumulate and checkpoint_layers so that the run stays within options.memory, set the
// model's checkpoints and fill run->memory. HONE_ERROR_MEMORY with the smallest size that would do.
hone_status hone_run_choose_memory(Run *run);

// plan.c
hone_status hone_run_plan(Run *run, HonePlan *plan);
// The first example, token by token; *shown must live as long as plan.
hone_status hone_plan_preview(Run *run, HonePlan *plan, HoneExample *shown);

// survey.c: lengths and duplicates.
hone_status hone_plan_survey(Run *run, HonePlan *plan);

// step.c
typedef struct StepResult {
    double loss, grad_norm;
    bool skipped; // it stood out: nothing was changed
} StepResult;
// norms.c: of a step that was made, ","layers":…" for its line in metrics.jsonl; nothing where its
// norms are not due.
bool hone_norms_due(const Run *run, int64_t step);
hone_status hone_norms_text(Run *run, int64_t step, TextBuffer *text);
hone_status hone_run_step(Run *run, int64_t step, StepResult *result); // step from 0
// Fill kept_values and kept_gradient if the options ask for them.
hone_status hone_penalty_allocate(Run *run);
// What they take, in floats.
int64_t hone_penalty_floats(const Run *run);
double hone_run_learning_rate(const Run *run, int64_t step);
// How many held-out examples from `first` on go into one batch.
int64_t hone_held_out_batch(const Run *run, int64_t first);
// Mean loss of examples on a gradient-free tape. HONE_INTERRUPTED, without a message, when the sink
// stopped it.
hone_status hone_run_held_out(Run *run, int64_t step, HoneHeldOut *result);
// sample.c: continue options.sample if there is one, into metrics.jsonl and to the sink.
hone_status hone_run_sample(Run *run, int64_t step);
LossCall hone_run_loss_call(Run *run, Tape *tape); // on batch_memory

// identity.c
hone_status hone_identity_make(Run *run);
// Append to `told` in what this run differs from the one whose identity is stored; nothing when
// they are the same.
void hone_identity_compare(const Run *run, const char *stored, size_t length, TextBuffer *told);

// judge.c
// Whether a step is not to be taken, by options.skip_spikes; counts it in run->progress.
bool hone_judge_spike(Run *run, double loss, double norm);
hone_status hone_judge_check(Run *run); // fail where held-out losses are wanted and there are none
hone_status hone_judge_held_out(Run *run, int64_t step, double loss);
bool hone_judge_enough(const Run *run); // patience is at its end
// Notes for the person; the best weights in the place of the last ones, if they are wanted.
hone_status hone_judge_finish(Run *run);

// diagnose.c
// Where a loss that is not finite comes from, in words; "" when nothing is found. `examples`
// (count) are run forward again; 0 of them: only weights and gradients are looked at.
void hone_diagnose(Run *run, const Example *const *examples, int64_t count, char *text,
                   size_t size);

// checkpoint.c
int64_t hone_checkpoint_newest(const char *run_folder); // its step; -1: there is none
hone_status hone_checkpoint_check(Run *run);            // fail unless options.resume holds one
void hone_checkpoint_clear(const Run *run);
// Of run->progress and the trained values, after which metrics.jsonl is on the disk too.
hone_status hone_checkpoint_write(Run *run);
hone_status hone_checkpoint_resume(Run *run); // sets run->progress
// The trained values as they are, beside the checkpoints; and back again.
hone_status hone_checkpoint_write_best(Run *run);
hone_status hone_checkpoint_take_best(Run *run);
// The best of the run that is resumed, for one that goes on in another folder.
hone_status hone_checkpoint_carry_best(Run *run);

// place.c
// Fail where the run's files could not be written, or would replace a run that can go on.
hone_status hone_place_check(Run *run);
void hone_place_note(Run *run); // say which run will be replaced

// outputs.c
// Of an encoder that is trained whole: fail where out/model is no place for it.
hone_status hone_check_model_folder(Run *run);
hone_status hone_outputs_write(Run *run);
void hone_config_text(const Run *run, TextBuffer *text); // every option as resolved, a line each
hone_status hone_config_write(Run *run);
// Open metrics.jsonl; the lines after steps_done, of a run that ended without a checkpoint, go.
hone_status hone_metrics_open(Run *run, int64_t steps_done);
hone_status hone_run_add_file(Run *run, const char *name);

// merge_gguf.c: the model as one GGUF file of a recipe's types; whole: see hone_convert.
hone_status hone_model_write(HoneModel *model, const char *type, bool whole, const char *path,
                             HoneMergeSink sink, void *user, HoneMerged *merged);

#endif
