// SPDX-License-Identifier: Apache-2.0
// The simple self-attention layer learns to find things: in each sequence one position is marked by
// its last channel, and every position shall give that one's channels. Weights move by the sign of
// their gradients, with a rate that falls to 0.
#include <hone/hone.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 32, LENGTH = 10, CHANNELS = 64, SEQUENCE = LENGTH * CHANNELS, STEPS = 300 };
static float x[BATCH * SEQUENCE], y[BATCH * SEQUENCE], dy[BATCH * SEQUENCE];

int main(void) {
    HoneContext *context = NULL;
    HoneSelfAttention *layer = NULL;
    HoneSelfAttentionOptions options = {
        .batch = BATCH, .length = LENGTH, .channels = CHANNELS, .units = CHANNELS, .bias = true};
    if (hone_context_create(NULL, &context) != HONE_OK ||
        hone_self_attention_create(context, &options, &layer) != HONE_OK) {
        fprintf(stderr, "%s\n", hone_context_error(context));
        return 1;
    }
    HoneParameter parameters[HONE_MOST_PARAMETERS];
    int count = hone_self_attention_parameters(layer, parameters);
    double loss = 0;
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < BATCH * SEQUENCE; i++) {
            x[i] = (float)rand() / (float)RAND_MAX * 2 - 1;
            if (i % CHANNELS == CHANNELS - 1)
                x[i] = i / CHANNELS % LENGTH == i / SEQUENCE % LENGTH ? 4 : 0; // the mark
        }
        hone_self_attention_forward(layer, x, y);
        loss = 0;
        for (int i = 0; i < BATCH * SEQUENCE; i++) {
            int b = i / SEQUENCE, marked = b * SEQUENCE + b % LENGTH * CHANNELS;
            dy[i] = y[i] - x[marked + i % CHANNELS];
            loss += 0.5 * (double)dy[i] * (double)dy[i] / (BATCH * SEQUENCE);
        }
        hone_clear_gradients(parameters, count);
        hone_self_attention_backward(layer, x, y, dy, NULL);
        float rate = 0.01f * (1 - (float)step / STEPS);
        for (int p = 0; p < count; p++)
            for (int64_t i = 0; i < parameters[p].count; i++)
                parameters[p].value[i] -= parameters[p].gradient[i] > 0 ? rate : -rate;
        if (step % 50 == 0 || step == STEPS - 1) printf("step %3d  loss %.4f\n", step, loss);
    }
    hone_self_attention_free(layer);
    hone_context_free(context);
    return loss < 0.005 ? 0 : 1;
}
