// SPDX-License-Identifier: Apache-2.0
// Development: a model from random weights, of the sizes that are asked for, on a corpus of texts.
//
//     HoneTrainOptions options;
//     hone_train_defaults(&options);
//     options.run.data = (const HoneDataSource[]){{"corpus/", 1}};
//     options.run.data_count = 1;
//     options.run.out = "my-model";
//     hone_status status = hone_train(ctx, &options, on_event, NULL);
#ifndef HONE_TRAIN_H
#define HONE_TRAIN_H

#include <hone/finetune.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct HoneTrainOptions {
    // As for fine-tuning all weights. model, method, adapter and what only adapters have are not
    // used, nor is dropout but by "transformer"; data are corpora: .jsonl files with a "text" a
    // line, files of plain text, folders of both. Longer texts than max_length are cut into several
    // examples, and none is dropped.
    HoneFinetuneOptions run;
    // Files of records (hone/data.h) with source and target for "transformer", the encoder-decoder
    // of 2017.
    const char *architecture;        // "llama"; "gpt2", "transformer"
    int64_t layers, channels, heads; // layers: of the decoder
    int64_t encoder_layers;          // of "transformer" (auto 0: as many)
    bool norm_first;   // of "transformer": norms before what they belong to, not behind the sum
    int64_t kv_heads;  // (auto 0: heads)
    int64_t head_size; // (auto 0: channels / heads)
    int64_t
        feed_forward; // (auto 0: 8/3·channels up to a multiple of 64 for llama, else 4·channels)
    int64_t context;  // tokens
    double norm_eps, rope_base; // 1e-5, 10000
    bool tied_head;             // the head is the embedding; true
    // "bpe", "unigram": learnt from the data; else a GGUF file, a tokenizer.json or its folder.
    const char *tokenizer;
    int64_t vocabulary;    // of a learnt one, tokens at most; 8192
    int64_t min_frequency; // bpe: pairs that stand less often are not merged; 2
} HoneTrainOptions;
// Those of fine-tuning but for method full, lr 1e-3, beta2 0.95, weight decay 0.1.
void hone_train_defaults(HoneTrainOptions *options);

// Matrices and embeddings are drawn from a normal distribution of deviation 0.02, those that write
// to the residual stream (attention output, feed-forward down) of 0.02/√(2·layers) (Radford et al.
// 2019); gains are 1, biases 0. "transformer" draws as its authors' programs did: matrices (out,in)
// uniform in ±√(6/(in+out)) (Glorot, Bengio 2010), embeddings normal of deviation 1/√channels. All
// of it depends on the seed alone. Then as hone_finetune. out/ holds model.gguf, tokenizer.json and
// tokenizer_config.json, metrics.jsonl, config.yaml, checkpoint/.
hone_status hone_train(HoneContext *context, const HoneTrainOptions *options, HoneEventSink sink,
                       void *user);

#ifdef __cplusplus
}
#endif
#endif
