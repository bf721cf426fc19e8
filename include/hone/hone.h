// SPDX-License-Identifier: Apache-2.0
// The whole public interface of Hone. Each part has a header of its own that says how it is used.
#ifndef HONE_HONE_H
#define HONE_HONE_H

#include <hone/attention.h>
#include <hone/attention_map.h>
#include <hone/base.h>
#include <hone/bench.h>
#include <hone/data.h>
#include <hone/classify.h>
#include <hone/embed.h>
#include <hone/evaluate.h>
#include <hone/files.h>
#include <hone/finetune.h>
#include <hone/generate.h>
#include <hone/hub.h>
#include <hone/layers.h>
#include <hone/model.h>
#include <hone/report.h>
#include <hone/system.h>
#include <hone/tokenizer.h>
#include <hone/train.h>
#include <hone/translate.h>

#endif
