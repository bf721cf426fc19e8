// SPDX-License-Identifier: Apache-2.0
#include "train/session.h"

hone_status hone_convert_adapter(HoneModel *model, const char *adapter, bool peft,
                                 const char *out) {
    HoneError *err = hone_begin(model->context);
    const AdapterBase base = hone_model_adapter_base(model);
    AdapterFile file;
    if (!*out || hone_same_file(adapter, out))
        return hone_fail(err, HONE_ERROR_ARGUMENT, "--out \"%s\": name another %s than the input",
                         out, peft ? "folder" : "file");
    if (!peft && hone_is_directory(out))
        return hone_fail(err, HONE_ERROR_ARGUMENT, "%s: is a folder; --out names the GGUF file",
                         out);
    RETURN_IF_ERROR(hone_adapter_read(adapter, &base, &file, err));
    hone_status status = HONE_OK;
    for (int64_t i = 0; i < file.count && status == HONE_OK; i++)
        status = hone_check_pair(model, adapter, &file.pairs[i]);
    const AdapterPair *first = file.pairs;
    const AdapterSettings settings = {.rank = first->rank,
                                      .alpha = first->scale * (float)first->rank};
    if (status == HONE_OK)
        status = peft ? hone_peft_write(out, &base, &settings, file.pairs, file.count, err)
                      : hone_adapter_gguf_write(out, &base, &settings, file.pairs, file.count, err);
    hone_adapter_close(&file);
    return status;
}
