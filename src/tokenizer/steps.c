// SPDX-License-Identifier: Apache-2.0
// The steps that text goes through, in the order in which they are added.
#include "tokenizer/vocabulary.h"

static Step *next_step(Tokenizer *tokenizer, HoneError *err) {
    if (tokenizer->step_count < STEP_LIMIT) return &tokenizer->steps[tokenizer->step_count++];
    hone_fail(err, HONE_ERROR_UNSUPPORTED, "a tokeniser of more than %d steps", STEP_LIMIT);
    return NULL;
}

Change *hone_add_change(Tokenizer *tokenizer, ChangeKind kind, HoneError *err) {
    Step *step = next_step(tokenizer, err);
    if (!step) return NULL;
    step->change = hone_arena_calloc(&tokenizer->arena, 1, sizeof *step->change);
    if (!step->change)
        hone_fail_memory(err, sizeof *step->change, "a tokeniser");
    else
        step->change->kind = kind;
    return step->change;
}

hone_status hone_add_cut(Tokenizer *tokenizer, const char *name, const char *pattern,
                         CutBehaviour behaviour, HoneError *err) {
    Step *step = next_step(tokenizer, err);
    if (!step) return HONE_ERROR_UNSUPPORTED;
    return hone_pretokenizer_create(name, pattern, behaviour, &step->cut, err);
}

void hone_free_steps(Tokenizer *tokenizer) {
    for (int i = 0; i < tokenizer->step_count; i++) {
        if (tokenizer->steps[i].change) hone_change_free(tokenizer->steps[i].change);
        hone_pretokenizer_free(tokenizer->steps[i].cut);
    }
}
