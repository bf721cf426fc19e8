// SPDX-License-Identifier: Apache-2.0
// Head and cross-entropy: over logits z = head·x_r, for each entry of row r with target y and
// weight w,
//   loss += w·(log Σ_v exp z_v − z_y);  dz += w·(softmax(z) − onehot(y));
// where the head has a soft-cap c, z = c·tanh(z'/c) of z' = head·x_r and dz' = dz·(1 − (z/c)²);
// and then, for the row,  dx_r += dz·head;  dhead += dzᵀ·x_r;  adapters of the head as in weight.h.
// Rows go by in chunks, each once however many entries it has: the logits (chunk,V) are scratch,
// made and used up within one chunk, with the gradients taken in the same pass. So there is no
// record: backward begins with x's gradient.
#include <inttypes.h>

#include "base/system.h"
#include "tape/ops/weight.h"

enum { LEAST_ROWS = 128, LOGITS_BYTES = 52 << 20 };

// Rows a chunk: 128 or as many as LOGITS_BYTES hold `copies` times, with the chunks about equally
// large.
static int64_t chunk_rows(int64_t rows, int64_t V, int copies) {
    int64_t limit = LOGITS_BYTES / (int64_t)sizeof(float) / V / copies;
    if (limit < LEAST_ROWS) limit = LEAST_ROWS;
    int64_t chunks = (rows + limit - 1) / limit;
    return chunks > 1 ? (rows + chunks - 1) / chunks : rows;
}

static bool entries_exist(Tape *tape, const Tensor *x, int64_t V, const HeadLoss *io) {
    for (int64_t e = 0; e < io->entries && hone_tape_runs(tape); e++) {
        int32_t row = io->row[e], target = io->target[e];
        if (row < 0 || row >= x->shape[0] || (e > 0 && row < io->row[e - 1]))
            hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                             "loss entry %" PRId64 " has row %" PRId32
                             "; rows must rise and be below %" PRId64,
                             e, row, x->shape[0]);
        else if (target < 0 || target >= V)
            hone_tape_refuse(tape, HONE_ERROR_INPUT,
                             "target %" PRId32 " of loss entry %" PRId64
                             " is outside of the vocabulary of %" PRId64,
                             target, e, V);
    }
    return hone_tape_dry(tape) || hone_tape_runs(tape);
}

// The rows that have entries, each once: entries first[i] … first[i+1]-1 are of row[i].
typedef struct EntryRows {
    int64_t count;
    int32_t *row, *first;
    uint64_t *path; // of those rows; NULL: no dropout
} EntryRows;

static EntryRows distinct_rows(Tape *tape, const HeadLoss *io) {
    EntryRows rows = {.row = hone_tape_host(tape, io->entries, sizeof(int32_t)),
                      .first = hone_tape_host(tape, io->entries + 1, sizeof(int32_t))};
    const bool drops = io->path && hone_tape_gradients(tape);
    if (drops) rows.path = hone_tape_host(tape, io->entries, sizeof *rows.path);
    if (!rows.row || !rows.first || (drops && !rows.path)) return rows;
    for (int64_t e = 0; e < io->entries; e++) {
        if (io->row && e > 0 && io->row[e] == io->row[e - 1]) continue;
        if (io->row) rows.row[rows.count] = io->row[e];
        rows.first[rows.count++] = (int32_t)e;
    }
    rows.first[rows.count] = (int32_t)io->entries;
    for (int64_t i = 0; i < rows.count && rows.path && io->row; i++)
        rows.path[i] = io->path[rows.row[i]];
    return rows;
}

// Memory of one chunk; the loss, of all entries.
typedef struct Chunk {
    HeapBlock *x, *u, *logits, *dx, *loss;
    HeapBlock *capped; // the logits once more, where there is a soft-cap to go back through
    HeapBlock *z;      // and before DoRA's magnitudes, where those are trained
    HeapBlock *teacher_x, *teacher, *soft, *divergence; // where there is a teacher
} Chunk;

static Chunk take_chunk(Tape *tape, int64_t rows, int64_t entries, const Weight *head,
                        bool wants_dx) {
    int64_t V = head->base.shape[0], C = head->base.shape[1], ranks = hone_weight_ranks(head);
    return (Chunk){.x = hone_tape_take_floats(tape, rows, C),
                   .u = ranks ? hone_tape_take_floats(tape, rows, ranks) : NULL,
                   .logits = hone_tape_take_floats(tape, rows, V),
                   .dx = wants_dx ? hone_tape_take_floats(tape, rows, C) : NULL,
                   .loss = hone_tape_take(tape, (size_t)entries * sizeof(double)),
                   .capped = head->softcap > 0 && hone_tape_gradients(tape)
                                 ? hone_tape_take_floats(tape, rows, V)
                                 : NULL,
                   .z = hone_weight_reads_product(head) && hone_tape_gradients(tape)
                            ? hone_tape_take_floats(tape, rows, V)
                            : NULL};
}

static void give_chunk(Tape *tape, const Chunk *chunk) {
    hone_tape_give(tape, chunk->divergence);
    hone_tape_give(tape, chunk->soft);
    hone_tape_give(tape, chunk->teacher);
    hone_tape_give(tape, chunk->teacher_x);
    hone_tape_give(tape, chunk->z);
    hone_tape_give(tape, chunk->capped);
    hone_tape_give(tape, chunk->loss);
    hone_tape_give(tape, chunk->dx);
    hone_tape_give(tape, chunk->logits);
    hone_tape_give(tape, chunk->u);
    hone_tape_give(tape, chunk->x);
}

static void cap_logits(const KernelContext *kc, const Weight *head, const Chunk *chunk,
                       int64_t count, float *logits) {
    float *kept = hone_block_address(chunk->capped);
    if (!(head->softcap > 0)) return;
    hone_softcap_forward(kc, count, head->softcap, logits, logits);
    if (kept) hone_copy_columns(kc, 1, count, logits, count, kept, count);
}

// ---- a teacher ---------------------------------------------------------------------------------

// What the parts of the loss count: entries' weights for the cross-entropy, rows' for the
// divergence.
typedef struct Shares {
    const float *entry;
    float *row; // NULL: there is no teacher
} Shares;

static bool teacher_fits(Tape *tape, const Weight *head, const Tensor *x,
                         const HeadTeacher *teacher) {
    char text[2][64];
    if (!hone_tape_given(tape, teacher->x) || !hone_weight_fits(tape, teacher->head, teacher->x))
        return false;
    if (teacher->head->base.shape[0] == head->base.shape[0] &&
        teacher->x->shape[0] == x->shape[0] && teacher->temperature > 0)
        return true;
    hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "a teacher's head %s and rows %s do not fit",
                     hone_shape_text(&teacher->head->base, text[0]),
                     hone_shape_text(teacher->x, text[1]));
    return false;
}

static void take_teacher(Tape *tape, int64_t rows, const HeadTeacher *teacher, Chunk *chunk) {
    const int64_t *shape = teacher->head->base.shape;
    chunk->teacher_x = hone_tape_take_floats(tape, rows, shape[1]);
    chunk->teacher = hone_tape_take_floats(tape, rows, shape[0]);
    chunk->soft = hone_tape_take_floats(tape, rows, shape[0]);
    chunk->divergence = hone_tape_take(tape, (size_t)rows * sizeof(double));
}

static bool share_weights(Tape *tape, const HeadLoss *io, const EntryRows *rows, Shares *shares) {
    *shares = (Shares){.entry = io->weight};
    if (!io->teacher) return true;
    float *entry = hone_tape_host(tape, io->entries, sizeof *entry);
    shares->row = hone_tape_host(tape, rows->count, sizeof *shares->row);
    if (!entry || !shares->row) return false;
    shares->entry = entry;
    for (int64_t i = 0; i < rows->count && hone_tape_runs(tape); i++) {
        float sum = 0;
        for (int32_t e = rows->first[i]; e < rows->first[i + 1]; e++) {
            entry[e] = (1 - io->teacher->share) * io->weight[e];
            sum += io->weight[e];
        }
        shares->row[i] = io->teacher->share * sum;
    }
    return true;
}

// The chunk's divergences are added to the loss; their gradient by the logits lies in
// chunk->teacher then.
static void run_teacher(Tape *tape, HeadLoss *io, const Chunk *chunk, const int32_t *row,
                        const float *weight, int64_t count, const float *logits, bool backward) {
    const KernelContext *kc = hone_tape_kernels(tape);
    const HeadTeacher *teacher = io->teacher;
    const int64_t V = teacher->head->base.shape[0], C = teacher->head->base.shape[1];
    float *rows = hone_block_address(chunk->teacher_x), *z = hone_block_address(chunk->teacher);
    const float *from = hone_tape_data(tape, teacher->x);
    if (hone_tape_runs(tape)) hone_gather_rows(kc, count, C, HONE_F32, from, row, rows);
    hone_weight_forward(tape, teacher->head, &(WeightRows){.T = count, .x = rows, .y = z});
    const DistillArgs args = {.rows = count,
                              .V = V,
                              .logits = logits,
                              .weight = weight,
                              .teacher = z,
                              .scratch = hone_block_address(chunk->soft),
                              .temperature = teacher->temperature,
                              .gradient = backward,
                              .loss = hone_block_address(chunk->divergence)};
    if (!hone_tape_runs(tape)) return;
    if (teacher->head->softcap > 0)
        hone_softcap_forward(kc, count * V, teacher->head->softcap, z, z);
    hone_distill(kc, &args);
    for (int64_t r = 0; r < count; r++) io->loss += args.loss[r];
}

// Rows begin … begin+count-1 of those that have entries.
static void run_chunk(Tape *tape, Weight *head, Tensor *x, HeadLoss *io, const Chunk *chunk,
                      const EntryRows *entries, const Shares *shares, int64_t begin,
                      int64_t count) {
    const KernelContext *kc = hone_tape_kernels(tape);
    int64_t V = head->base.shape[0], C = head->base.shape[1];
    const int32_t *row = entries->row + begin, *first = entries->first + begin;
    const bool backward = hone_tape_gradients(tape) && !io->measures &&
                          (x->requires_grad || hone_weight_is_trained(head));
    float *rows = hone_block_address(chunk->x), *logits = hone_block_address(chunk->logits);
    double *loss = hone_block_address(chunk->loss);
    WeightRows product = {.T = count,
                          .path = entries->path ? entries->path + begin : NULL,
                          .x = rows,
                          .u = hone_block_address(chunk->u),
                          .z = hone_block_address(chunk->z),
                          .y = logits,
                          .dy = logits,
                          .dx = hone_block_address(chunk->dx),
                          .wants_dx = chunk->dx != NULL,
                          .writes_dx = true};
    const float *from = hone_tape_data(tape, x);
    if (hone_tape_runs(tape)) hone_gather_rows(kc, count, C, HONE_F32, from, row, rows);
    hone_weight_forward(tape, head, &product);
    if (hone_tape_runs(tape)) cap_logits(kc, head, chunk, count * V, logits);
    if (shares->row)
        run_teacher(tape, io, chunk, row, shares->row + begin, count, logits, backward);
    if (hone_tape_runs(tape)) {
        if (io->correct)
            hone_target_is_largest(kc, count, V, logits, first, io->target, io->correct);
        hone_cross_entropy(kc, count, V, logits, first, io->target, shares->entry,
                           (double)io->z_loss, (double)io->smoothing, backward, loss, io->logprob);
        for (int64_t e = first[0]; e < first[count]; e++) io->loss += loss[e];
        if (backward && shares->row)
            hone_accumulate(kc, count * V, hone_block_address(chunk->teacher), logits);
        if (backward && head->softcap > 0)
            hone_softcap_backward(kc, count * V, head->softcap, hone_block_address(chunk->capped),
                                  logits, false, logits);
    }
    if (!backward) return;
    float *dx = hone_tape_gradient(tape, x);
    hone_weight_backward(tape, head, &product);
    if (hone_tape_runs(tape) && product.wants_dx)
        hone_scatter_rows(kc, count, C, row, product.dx, dx);
}

void hone_head_cross_entropy(Tape *tape, Weight *head, Tensor *x, HeadLoss *io) {
    double start = hone_seconds();
    io->loss = io->seconds = 0;
    int64_t V = head->base.shape[0];
    if (!hone_tape_given(tape, x) || !hone_weight_fits(tape, head, x)) return;
    if (hone_tape_runs_again(tape)) {
        hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "a loss is inside of a checkpointed segment");
        return;
    }
    if (!entries_exist(tape, x, V, io) || io->entries < 1) return;
    const EntryRows entries = distinct_rows(tape, io);
    if (entries.count < 1) return; // out of memory: the tape says so
    Shares shares;
    if (io->teacher && !teacher_fits(tape, head, x, io->teacher)) return;
    if (!share_weights(tape, io, &entries, &shares)) return;
    int copies = io->teacher ? 3 : 1;
    if (hone_tape_gradients(tape)) copies += (head->softcap > 0) + hone_weight_reads_product(head);
    int64_t rows = chunk_rows(entries.count, V, copies);
    hone_tape_close_holes(tape);
    Chunk chunk =
        take_chunk(tape, rows, io->entries, head, hone_tape_gradients(tape) && x->requires_grad);
    if (io->teacher) take_teacher(tape, rows, io->teacher, &chunk);
    for (int64_t begin = 0; begin < entries.count; begin += rows) {
        int64_t left = entries.count - begin;
        run_chunk(tape, head, x, io, &chunk, &entries, &shares, begin, left < rows ? left : rows);
    }
    give_chunk(tape, &chunk);
    io->seconds = hone_seconds() - start;
}
