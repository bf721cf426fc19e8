// SPDX-License-Identifier: Apache-2.0
// What a run holds at its peak, and what is given up for a bound on that: activations of layers,
// which are made again in backward (Chen et al. 2016), and then steps in one piece. Learnt with dry
// tapes, before any of the memory is taken.
#include <string.h>

#include "base/system.h"
#include "train/contrast.h"
#include "train/preference.h"

enum {
    HUGE_PAGE = 2 << 20,
    UNSEEN = 4 << 20, // records of the tape, stacks, code not yet run, buffers of files
};
static const size_t dry_reserve = (size_t)1 << 42; // addresses only

// Large blocks lie on huge pages.
static int64_t resident(int64_t bytes) {
    return bytes < HUGE_PAGE ? bytes : (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
}

// ---- the layers --------------------------------------------------------------------------------

static bool is_head(const char *target) {
    static const char *const heads[] = {"head", "classifier", "pooler", "mask"};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (strcmp(heads[i], target) == 0) return true;
    return false;
}

// Layers below the lowest trained parameter keep nothing.
static int lowest_layer(const Run *run) {
    int lowest = run->model->config.layers;
    for (int64_t i = 0; i < run->parameters.item_count; i++) {
        const ParameterSlot *slot = run->parameters.items[i].slot;
        const bool above = slot->layer < 0 && // the last norm, the head
                           (!slot->target || is_head(slot->target));
        if (!above && slot->layer < lowest) lowest = slot->layer < 0 ? 0 : slot->layer;
    }
    return lowest;
}

static int kept_layers(const Run *run) {
    return run->model->config.layers - lowest_layer(run);
}

// The first ones: when backward comes to them, what the others kept is given back already.
static void checkpoint_layers(Run *run, int count) {
    const int lowest = lowest_layer(run);
    for (int i = 0; i < run->model->config.layers; i++)
        hone_model_checkpoint(run->model->model, i, i >= lowest && i < lowest + count);
    run->options.checkpoint_layers = count;
}

// ---- what it takes -----------------------------------------------------------------------------

// One pass over a tape that touches nothing.
static hone_status rehearse(Run *run, Tape *dry, const Example *const *examples, int64_t count,
                            bool gradients) {
    LossCall call = hone_run_loss_call(run, dry);
    BatchTeacher teacher;
    if (gradients) call.teacher = hone_run_teacher(run, &teacher);
    hone_tape_reset(dry, gradients);
    hone_arena_reset(&run->batch_memory);
    if (run->options.examples.task == HONE_TASK_PAIRS) {
        RETURN_IF_ERROR(hone_contrast_rehearse(run, &call, gradients, examples, count));
    } else if (run->options.examples.task == HONE_TASK_CLASSIFY) {
        BatchLoss unused;
        RETURN_IF_ERROR(hone_class_loss(&call, examples, count, 1.0, &unused));
    } else if (!hone_loss_has_pairs(run->options.loss)) {
        BatchLoss unused;
        RETURN_IF_ERROR(hone_batch_loss(&call, examples, count, 1.0, &unused));
    } else {
        PairsLoss unused;
        const PairWeights weights = {1, 1};
        RETURN_IF_ERROR(hone_pairs_loss(run, &call, gradients, examples, count, weights, &unused));
    }
    if (gradients) hone_tape_backward(dry);
    return hone_tape_status(dry, run->err);
}

static hone_status rehearse_held_out(Run *run, Tape *dry) {
    int64_t heaviest = 0, heaviest_count = 0, most = 0;
    for (int64_t first = 0; first < run->held_out_count;) {
        int64_t count = hone_held_out_batch(run, first), tokens = 0;
        for (int64_t i = 0; i < count; i++) tokens += hone_example_length(run->held_out[first + i]);
        if (tokens > most) {
            most = tokens;
            heaviest = first;
            heaviest_count = count;
        }
        first += count;
    }
    if (most == 0) return HONE_OK;
    return rehearse(run, dry, run->held_out + heaviest, heaviest_count, false);
}

// The steps with the micro-batch of the most tokens and with that of the most rows of logits: the
// heap only grows, so its peak is theirs.
static void find_heaviest(const Run *run, const StepRange *heaviest[2]) {
    heaviest[0] = heaviest[1] = &run->steps[0];
    for (int64_t s = 1; s < run->step_count; s++) {
        const StepRange *step = &run->steps[s];
        if (step->most_tokens > heaviest[0]->most_tokens) heaviest[0] = step;
        if (step->most_rows > heaviest[1]->most_rows) heaviest[1] = step;
    }
}

// Activations and scratch at their peak, with the options as they are.
static hone_status activation_bytes(Run *run, int64_t *bytes) {
    const HoneFinetuneOptions *options = &run->options;
    const StepRange *heaviest[2];
    find_heaviest(run, heaviest);
    run->held_out_tokens = HONE_HELD_OUT_TOKENS;
    if ((options->accumulate > 1 || options->checkpoint_layers > 0) &&
        heaviest[0]->most_tokens < HONE_HELD_OUT_TOKENS)
        run->held_out_tokens = heaviest[0]->most_tokens;
    Tape *dry = hone_tape_create(&run->kernels, (TapeOptions){.gradients = true, .dry = true});
    if (!dry) return hone_fail_memory(run->err, sizeof(void *), "the plan");
    hone_tape_reserve(dry, dry_reserve);
    hone_status status = HONE_OK;
    for (int k = 0; k < 2 && status == HONE_OK; k++) {
        int64_t count, part = k == 0 ? heaviest[k]->tokens_part : heaviest[k]->rows_part;
        const Example *const *examples = hone_micro_batch(run, heaviest[k], part, &count);
        status = rehearse(run, dry, examples, count, true);
    }
    if (status == HONE_OK) status = rehearse_held_out(run, dry);
    *bytes = resident((int64_t)hone_tape_peak(dry));
    hone_tape_free(dry);
    return status;
}

// What hone_parameters_allocate_state will take.
static int64_t state_bytes(const Run *run) {
    int64_t blocks = 1, bytes = (int64_t)hone_optimizer_scratch_bytes(run); // the gradient, sums
    for (int64_t k = 1; run->options.accumulate > 1 && k <= run->options.accumulate; k *= 2)
        blocks++;
    const OptimizerState *state = &run->parameters.state;
    for (int i = 0; i < state->count; i++)
        bytes += resident((int64_t)hone_dtype_bytes(state->block[i].dtype, state->block[i].count));
    bytes += resident(hone_penalty_floats(run) * (int64_t)sizeof(float));
    return bytes + blocks * resident(run->parameters.count * (int64_t)sizeof(float));
}

static hone_status use_of(Run *run, int64_t accumulate, int layers, MemoryUse *use) {
    if (accumulate != run->options.accumulate) {
        run->options.accumulate = accumulate;
        for (int64_t s = 0; s < run->step_count; s++)
            RETURN_IF_ERROR(hone_step_count(run, &run->steps[s]));
    }
    checkpoint_layers(run, layers);
    *use = run->memory;
    RETURN_IF_ERROR(activation_bytes(run, &use->activations));
    use->state = state_bytes(run);
    use->total = use->program + use->model + use->values + use->state + use->activations;
    return HONE_OK;
}

// The teacher's weights, all of which a step reads.
static int64_t teacher_bytes(const Run *run) {
    int64_t bytes = 0;
    for (int64_t i = 0; run->teacher && i < run->teacher->slot_count; i++)
        bytes += (int64_t)hone_tensor_bytes(run->teacher->slots[i].tensor);
    return bytes;
}

static bool is_mapped(const Run *run) {
    return run->model->file.map.bytes > 0 && run->options.method != HONE_METHOD_FULL;
}

// What is resident already. The mapped model goes first, so that all of it counts once.
static void measure_program(Run *run) {
    const FileMap *map = &run->model->file.map;
    hone_file_drop(map, map->data, map->bytes);
    if (run->teacher) {
        const FileMap *other = &run->teacher->file.map;
        hone_file_drop(other, other->data, other->bytes);
    }
    int64_t anonymous, mapped, weights = 0;
    hone_resident_parts(&anonymous, &mapped);
    for (int64_t i = 0; i < run->model->slot_count; i++)
        if (!run->model->slots[i].tensor->requires_grad) // else it is among the values
            weights += (int64_t)hone_tensor_bytes(run->model->slots[i].tensor);
    run->memory.model = (is_mapped(run) ? weights : 0) + teacher_bytes(run);
    run->memory.values = resident(run->parameters.count * (int64_t)sizeof(float));
    run->memory.program = anonymous + mapped - run->memory.values + UNSEEN;
}

// From here on a weight's pages go when it has been read: the largest is resident, and no others.
static void release_weights(Run *run) {
    int64_t largest = 0;
    for (int64_t i = 0; i < run->model->slot_count; i++) {
        const int64_t bytes = (int64_t)hone_tensor_bytes(run->model->slots[i].tensor);
        if (bytes > largest) largest = bytes;
    }
    run->memory.releases = true;
    run->memory.model = largest + teacher_bytes(run);
}

// ---- the choice --------------------------------------------------------------------------------

static bool fits(const Run *run, const MemoryUse *use) {
    return run->options.memory == 0 || use->total <= run->options.memory;
}

// Without a bound, what the machine can give.
static bool has_room(const Run *run, const MemoryUse *use) {
    if (run->options.memory > 0) return fits(run, use);
    const int64_t available = hone_memory_available();
    return available <= 0 || use->total - hone_resident_bytes() <= available;
}

// The fewest checkpointed layers that suffice with this many micro-batches; -1 when all do not.
static hone_status fewest_layers(Run *run, int64_t accumulate, int least, MemoryUse *use,
                                 int *layers) {
    int low = least, high = kept_layers(run);
    *layers = -1;
    RETURN_IF_ERROR(use_of(run, accumulate, low, use));
    if (fits(run, use)) {
        *layers = low;
        return HONE_OK;
    }
    RETURN_IF_ERROR(use_of(run, accumulate, high, use));
    if (!fits(run, use)) return HONE_OK;
    while (high - low > 1) { // low does not suffice, high does
        const int middle = low + (high - low) / 2;
        MemoryUse tried;
        RETURN_IF_ERROR(use_of(run, accumulate, middle, &tried));
        if (fits(run, &tried)) {
            high = middle;
            *use = tried;
        } else {
            low = middle;
        }
    }
    *layers = high;
    return HONE_OK;
}

// What the program holds differs a little from run to run: what would do has room for that.
static hone_status refuse(Run *run, int64_t least, int64_t accumulate) {
    const int64_t unit = 1 << 20, room = 2 * unit + least / 100, given = run->options.memory;
    return hone_fail(run->err, HONE_ERROR_MEMORY,
                     "--memory %lld%s is too small: with --checkpoint-layers all and --accumulate "
                     "%lld the run takes %lldM; --memory %lldM would do",
                     (long long)(given < unit ? given : given / unit), given < unit ? "" : "M",
                     (long long)accumulate, (long long)(least / unit),
                     (long long)((least + room) / unit + 1));
}

// Released pages first, which cost least; then checkpoints, which change no bit either; then
// micro-batches with the fewest checkpoints.
hone_status hone_run_choose_memory(Run *run) {
    HoneFinetuneOptions *options = &run->options;
    measure_program(run);
    hone_optimizer_describe(run);
    const int64_t given = options->accumulate;
    const int all = kept_layers(run);
    int layers = options->checkpoint_layers;
    if (layers < 0 || layers > all) layers = all;
    RETURN_IF_ERROR(use_of(run, given, layers, &run->memory));
    if (!has_room(run, &run->memory) && is_mapped(run) && !run->context->copies) {
        release_weights(run);
        RETURN_IF_ERROR(use_of(run, given, layers, &run->memory));
    }
    if (options->memory == 0) return HONE_OK;

    int64_t most = 1, best_accumulate = given, least_accumulate = given, least = INT64_MAX;
    for (int64_t s = 0; s < run->step_count; s++)
        if (run->steps[s].count > most) most = run->steps[s].count;
    if (most < given || options->resume) most = given; // a resumed run keeps its sums
    int best = all + 1;
    for (int64_t accumulate = given;;) {
        MemoryUse use;
        int found;
        RETURN_IF_ERROR(fewest_layers(run, accumulate, layers, &use, &found));
        if (found < 0 && use.total < least) {
            least = use.total;
            least_accumulate = accumulate;
        }
        if (found >= 0 && found < best) {
            best = found;
            best_accumulate = accumulate;
        }
        if (accumulate == most || (found >= 0 && accumulate == given)) break;
        accumulate = 2 * accumulate < most ? 2 * accumulate : most;
    }
    if (best > all) return refuse(run, least, least_accumulate);
    return use_of(run, best_accumulate, best, &run->memory);
}
