// SPDX-License-Identifier: Apache-2.0
// A model of any size without a file, to measure with: random weights as their type stores them,
// of about the spread that freshly made models have.
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "base/random.h"
#include "base/system.h"
#include "train/session.h"

enum { ALIGNMENT = 64, MOST_LAYERS = 4096, MOST_HEADS = 65536 };

// Where a block of a quantised type has its scale (f16), and its shift where it has one; what
// random quants (and scales within the block) spread by, and the shift that centres them, both in
// units of the scale.
typedef struct BlockLayout {
    HoneDtype type;
    int scale_at, shift_at; // -1: none; without a scale the first byte is its exponent
    float spread, shift;
} BlockLayout;

static const BlockLayout layouts[] = {
    {HONE_Q4_0, 0, -1, 4.6f, 0},      {HONE_Q4_1, 0, 2, 4.6f, -7.5f},
    {HONE_Q5_0, 0, -1, 9.2f, 0},      {HONE_Q5_1, 0, 2, 9.2f, -15.5f},
    {HONE_Q8_0, 0, -1, 74, 0},        {HONE_Q4_K, 0, 2, 258, 7.5f},
    {HONE_Q5_K, 0, 2, 527, 15.5f},    {HONE_Q6_K, 208, -1, 1366, 0},
    {HONE_Q2_K, 80, 82, 13.9f, 1.5f}, {HONE_Q3_K, 108, -1, 43.3f, 0},
    {HONE_IQ4_NL, 0, -1, 67.4f, 0},   {HONE_IQ4_XS, 0, -1, 1246, 0},
    {HONE_MXFP4, -1, -1, 2.93f, 0},
};

static const BlockLayout *layout_of(int dtype) {
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if ((int)layouts[i].type == dtype) return &layouts[i];
    return NULL;
}

static void put_half(uint8_t *at, float value) {
    uint16_t bits = hone_f32_to_f16(value);
    memcpy(at, &bits, sizeof bits);
}

static void draw_blocks(const BlockLayout *layout, RandomStream *stream, uint8_t *stored,
                        size_t bytes, float deviation) {
    for (size_t at = 0; at + 4 <= bytes; at += 4) {
        uint32_t word = hone_random_u32(stream);
        memcpy(stored + at, &word, sizeof word);
    }
    const size_t block = (size_t)hone_dtype_info(layout->type)->block_bytes;
    const float scale = deviation / layout->spread;
    for (size_t at = 0; at < bytes; at += block) {
        if (layout->scale_at < 0) { // a power of two, in one byte
            stored[at] = (uint8_t)(127 + lrintf(log2f(scale)));
            continue;
        }
        put_half(stored + at + layout->scale_at, scale);
        if (layout->shift_at >= 0) put_half(stored + at + layout->shift_at, scale * layout->shift);
    }
}

// A matrix (out,in) of mean 0 and deviation 1/√in.
static hone_status draw_matrix(Tensor *tensor, RandomStream *stream, HoneError *err) {
    enum { PIECE = 1024 };
    const int64_t count = hone_tensor_count(tensor);
    const float deviation = 1.0f / sqrtf((float)tensor->shape[1]);
    const BlockLayout *layout = layout_of(tensor->dtype);
    if (layout) {
        draw_blocks(layout, stream, tensor->data, hone_tensor_bytes(tensor), deviation);
        return HONE_OK;
    }
    const float bound = sqrtf(3.0f) * deviation; // of a uniform distribution
    float values[PIECE];
    uint8_t *stored = tensor->data;
    for (int64_t done = 0; done < count; done += PIECE) {
        int64_t now = count - done < PIECE ? count - done : PIECE;
        for (int64_t i = 0; i < now; i++)
            values[i] = bound * (2.0f * hone_random_uniform(stream) - 1.0f);
        RETURN_IF_ERROR(hone_quantise(tensor->dtype, values, stored, now, err));
        stored += hone_dtype_bytes(tensor->dtype, now);
    }
    return HONE_OK;
}

// ---- sizes -------------------------------------------------------------------------------------

static hone_status check_shape(const HoneLlamaShape *shape, int dtype, HoneError *err) {
    if (shape->layers < 1 || shape->layers > MOST_LAYERS || shape->heads < 1 ||
        shape->heads > MOST_HEADS || shape->kv_heads < 1 || shape->kv_heads > shape->heads)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "the shape has %lld layers, %lld heads and %lld key/value heads: want 1 "
                         "to %d layers, 1 to %d heads, and at most as many for keys and values",
                         (long long)shape->layers, (long long)shape->heads,
                         (long long)shape->kv_heads, MOST_LAYERS, MOST_HEADS);
    if (shape->channels % shape->heads)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "the shape has %lld channels, which %lld heads cannot share: not a "
                         "multiple",
                         (long long)shape->channels, (long long)shape->heads);
    const int64_t rows[] = {shape->channels, shape->feed_forward};
    for (int i = 0; i < 2; i++)
        if (rows[i] % hone_dtype_info(dtype)->block)
            return hone_fail(err, HONE_ERROR_ARGUMENT,
                             "the shape has rows of %lld, and those of %s come in blocks of %d: "
                             "another --type, f32 takes any size",
                             (long long)rows[i], hone_dtype_name(dtype),
                             hone_dtype_info(dtype)->block);
    return HONE_OK;
}

static ModelConfig config_of(const HoneLlamaShape *shape) {
    int head_size = (int)(shape->channels / shape->heads);
    return (ModelConfig){.architecture = "llama",
                         .layers = (int)shape->layers,
                         .heads = (int)shape->heads,
                         .kv_heads = (int)shape->kv_heads,
                         .head_size = head_size,
                         .rotary = head_size,
                         .channels = shape->channels,
                         .feed_forward = shape->feed_forward,
                         .vocabulary = shape->vocabulary,
                         .context = 1 << 30,
                         .norm_eps = 1e-5f,
                         .rope_base = 10000,
                         .rope_interleaved = true,
                         .tied_head = true};
}

// ---- the whole ---------------------------------------------------------------------------------

static hone_status add_slot(void *user, const ParameterVisit *visit, HoneError *err) {
    return hone_model_add_slot(user, visit, err);
}

static size_t room_of(const Tensor *tensor) {
    return (hone_tensor_bytes(tensor) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

// All weights lie in one mapping in the file's place, so that what gives back pages of a file gives
// back these.
static hone_status make(HoneModel *model, int dtype, uint64_t seed, HoneError *err) {
    hone_status status = hone_model_make(&model->config, &model->model, err);
    if (status != HONE_OK) return hone_fail_in(err, "the shape");
    RETURN_IF_ERROR(hone_model_visit(model->model, add_slot, model, err));
    double total = 0;
    for (int64_t i = 0; i < model->slot_count; i++) {
        Tensor *tensor = model->slots[i].tensor;
        if (model->slots[i].weight) tensor->dtype = (HoneDtype)dtype;
        total += (double)room_of(tensor);
    }
    const double available = (double)hone_memory_available();
    if (total > 1e15 || (available > 0 && total > available))
        return hone_fail(err, HONE_ERROR_MEMORY,
                         "weights of this shape take %.0f MiB as %s, the machine has %.0f MiB free",
                         total / 1048576, hone_dtype_name(dtype), available / 1048576);
    uint8_t *pages = hone_pages_alloc((size_t)total, false);
    if (!pages) return hone_fail_memory(err, (size_t)total, "the weights");
    model->file.map.data = pages;
    model->file.map.bytes = (size_t)total;
    for (int64_t i = 0; i < model->slot_count; i++) {
        Tensor *tensor = model->slots[i].tensor;
        RandomStream stream = hone_random_stream(seed, RANDOM_TEST, (uint64_t)i);
        tensor->data = pages;
        pages += room_of(tensor);
        if (model->slots[i].weight)
            RETURN_IF_ERROR(draw_matrix(tensor, &stream, err));
        else
            for (int64_t j = 0; j < tensor->shape[0]; j++) ((float *)tensor->data)[j] = 1;
    }
    return HONE_OK;
}

hone_status hone_model_random(HoneContext *context, const HoneLlamaShape *shape, int dtype,
                              uint64_t seed, HoneModel **model) {
    HoneError *err = &context->error;
    *model = NULL;
    RETURN_IF_ERROR(check_shape(shape, dtype, err));
    HoneModel *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "a model");
    made->context = context;
    made->name = made->path = "random weights";
    made->config = config_of(shape);
    made->adapters_enabled = true;
    hone_status status = make(made, dtype, seed, err);
    if (status != HONE_OK) {
        hone_model_free(made);
        return status;
    }
    *model = made;
    return HONE_OK;
}
