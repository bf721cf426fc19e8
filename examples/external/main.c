// SPDX-License-Identifier: Apache-2.0
// The smallest program outside of Hone's tree: one query, two keys, of which it sees one.
#include <hone/hone.h>
#include <stdio.h>

int main(void) {
    const float q[1] = {1}, k[2] = {1, 2}, v[2] = {3, 4};
    float o[1] = {0};
    HoneContext *context = NULL;
    HoneAttention *attention = NULL;
    HoneAttentionOptions options = {
        .batch = 1, .queries = 1, .keys = 2, .heads = 1, .head_size = 1};
    options.causal = HONE_CAUSAL_TOP_LEFT;
    HoneAttentionTensors tensors = {.q = hone_const_view(q, 1, 1, 1),
                                    .k = hone_const_view(k, 2, 1, 1),
                                    .v = hone_const_view(v, 2, 1, 1),
                                    .o = hone_view(o, 1, 1, 1)};
    bool fine = hone_context_create(NULL, &context) == HONE_OK &&
                hone_attention_create(context, &options, &attention) == HONE_OK &&
                hone_attend(attention, &tensors) == HONE_OK;
    printf("%s %g\n", fine ? "attention gives" : hone_context_error(context), (double)o[0]);
    hone_attention_free(attention);
    hone_context_free(context);
    return fine && o[0] == 3 ? 0 : 1;
}
