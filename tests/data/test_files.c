// SPDX-License-Identifier: Apache-2.0
// Tables, text in windows, and how a file's kind is told.
#include "check.h"

#include <unistd.h>

#include "base/file.h"
#include "data/bytes.h"
#include "data/content.h"
#include "data/data.h"
#include "data/table.h"

static Tokenizer *tokenizer;
static Dataset dataset;
static HoneError err;

static hone_status read_as(const char *name, const char *content, size_t length,
                           const DataOptions *options) {
    char path[128];
    snprintf(path, sizeof path, "/tmp/hone-test-files-%d-%s", (int)getpid(), name);
    hone_dataset_free(&dataset);
    hone_error_clear(&err);
    HoneError writing = {0};
    CHECK_INT(hone_file_write(path, content, length, &writing), HONE_OK);
    hone_status status = hone_dataset_read(path, options, &dataset, &err);
    remove(path);
    return status;
}

static DataOptions standard(void) {
    return (DataOptions){.tokenizer = tokenizer, .max_length = 1000, .keep_text = true};
}

static hone_status table(const char *name, const char *content) {
    DataOptions options = standard();
    return read_as(name, content, strlen(content), &options);
}

// Tokens as text; learnt ones between brackets: "ab[cd<s>]".
static const char *show(int64_t index) {
    static char shown[512];
    const Example *example = &dataset.examples[index];
    TextBuffer text = {0};
    bool inside = false;
    for (int64_t i = 0; i <= example->count; i++) {
        bool target = i < example->count && example->target[i];
        if (target != inside) hone_text_puts(&text, target ? "[" : "]");
        inside = target;
        if (i == example->count) break;
        TokenizerText bytes = hone_token_bytes(tokenizer, example->token[i], true);
        hone_text_append(&text, bytes.data, bytes.length);
    }
    snprintf(shown, sizeof shown, "%s", text.data);
    hone_text_free(&text);
    return shown;
}

// ---- tables ------------------------------------------------------------------------------------

static void rows_become_records(void) {
    CHECK_INT(table("d.csv", "prompt,completion,note\r\na,b,x\r\n\r\n\"c,\"\"d\"\"\n\",e,\n"),
              HONE_OK);
    CHECK_INT(dataset.count, 2);
    CHECK_STRING(show(0), "<s>a[b</s>]");
    CHECK_STRING(show(1), "<s>c,\"d\"\n[e</s>]");
    CHECK_INT(dataset.examples[0].line, 2);
    CHECK_INT(dataset.examples[1].line, 4);
    CHECK_INT(table("d.tsv", "text\tid\nab,c\t1\nd \"e\"\t2"), HONE_OK);
    CHECK_STRING(show(0), "<s>[ab,c</s>]");
    CHECK_STRING(show(1), "<s>[d \"e\"</s>]");
    CHECK_INT(table("d.csv", "text;id\na,b;1\n"), HONE_OK);
    CHECK_STRING(show(0), "<s>[a,b</s>]");
    CHECK_INT(table("d.csv", "\xef\xbb\xbftext\nab\n"), HONE_OK);
    CHECK_STRING(show(0), "<s>[ab</s>]");
    CHECK_INT(table("d.csv", "instruction,input,output\nAdd.,,3\nAdd.,1 2,3\n"), HONE_OK);
    CHECK_STRING(show(0), "<s>Add.\n\n[3</s>]");
    CHECK_STRING(show(1), "<s>Add.\n\n1 2\n\n[3</s>]");
}

static void tables_are_told_by_their_header(void) {
    CHECK_INT(table("data", "id\tprompt\tcompletion\n1\ta\tb\n"), HONE_OK);
    CHECK_STRING(show(0), "<s>a[b</s>]");
    CHECK_INT(table("data", "id,name\n1,a\n"), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "not JSON");
    CHECK_INT(table("data", "{\"text\": \"ab\"}\n"), HONE_OK);
    CHECK_STRING(show(0), "<s>[ab</s>]");
}

static void bad_rows_are_named(void) {
    CHECK_INT(table("d.csv", "text,id\nab,1\ncd\n"), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "d.csv:3: this row has 1 cells, the header has 2");
    CHECK_INT(table("d.csv", "text,id\n\"a\nb\",1\n\"cd\"x,2\nef,3\n"), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "d.csv:4: text follows the closing quote of cell 1");
    CHECK_INT(table("d.csv", "text,id\nab,1\n\"cd,2\n"), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "d.csv:3: a quote is opened in cell 1 of this row and never");
    CHECK_INT(table("d.csv", "text,text\nab,1\n"), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "d.csv:1: two columns have the name 'text'");
    CHECK_INT(table("d.csv", "te\xffxt\nab\n"), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "d.csv:1: the name of column 1 is not UTF-8");
    CHECK_INT(table("d.csv", "text\na\xff\n"), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "d.csv:2: column 'text' is not UTF-8");
    CHECK_INT(table("d.csv", "id,name\n1,a\n"), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "('id', 'name') are none of: messages");
    CHECK_INT(table("d.csv", "messages\nx\n"), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "d.csv:2: column 'messages': not JSON");
    CHECK_INT(table("d.csv", "text\n"), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "there is no example");
    DataOptions options = standard();
    options.on_bad = BAD_SKIP;
    const char *mixed = "text,id\nab\n\"c\"d,1\nef,2\n";
    CHECK_INT(read_as("d.csv", mixed, strlen(mixed), &options), HONE_OK);
    CHECK_INT(dataset.count, 1);
    CHECK_INT(dataset.skipped, 2);
    CHECK_INT(read_as("d.csv", "text\na\0b\n", 9, &options), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "\\u0000");
}

// ---- windows -----------------------------------------------------------------------------------

static void windows(const char *text, int64_t length, int64_t stride) {
    DataOptions options = standard();
    options.max_length = length;
    options.stride = stride;
    CHECK_INT(read_as("d.txt", text, strlen(text), &options), HONE_OK);
    CHECK_STRING(err.message, "");
}

static void text_is_cut_into_windows(void) {
    windows("abcdefg", 4, 0); // BOS in front of each
    CHECK_INT(dataset.count, 3);
    CHECK_STRING(show(0), "<s>[abc]");
    CHECK_STRING(show(1), "<s>[def]");
    CHECK_STRING(show(2), "<s>[g</s>]");
    CHECK_STRING(dataset.examples[1].text, "def");
    windows("ab\nde\ng", 4, 1);
    CHECK_INT(dataset.count, 6);
    CHECK_STRING(show(0), "<s>[ab\n]");
    CHECK_STRING(show(1), "<s>b\n[d]");
    CHECK_STRING(show(5), "<s>\ng[</s>]");
    CHECK_INT(dataset.examples[0].line, 1);
    CHECK_INT(dataset.examples[3].line, 2);
    CHECK_INT(dataset.examples[4].line, 2);
    CHECK_INT(dataset.targets, 8); // each token once
    windows("[\"no JSON\"", 100, 0);
    CHECK_STRING(show(0), "<s>[[\"no JSON\"</s>]");
}

static void windows_without_marks(void) {
    Tokenizer *with = tokenizer;
    tokenizer = bytes_tokenizer(-1, -1, false);
    DataOptions options = standard();
    CHECK_INT(read_as("d.txt", "abc", 3, &options), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "use --no-eos");
    options.no_eos = true;
    options.max_length = 2;
    CHECK_INT(read_as("d.txt", "abcde", 5, &options), HONE_OK);
    CHECK_INT(dataset.count, 2); // e alone is not predicted
    CHECK_STRING(show(0), "a[b]");
    CHECK_STRING(show(1), "c[d]");
    CHECK_INT(read_as("d.txt", "a", 1, &options), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "nothing to predict");
    hone_tokenizer_free(tokenizer);
    tokenizer = with;
}

static void bad_text_is_named(void) {
    DataOptions options = standard();
    CHECK_INT(read_as("d.txt", "a\nb\xff", 4, &options), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "d.txt: line 2: byte 4 of the file (0xff) is no text in UTF-8");
    CHECK_INT(read_as("d.txt", "a\0b", 3, &options), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "byte 2 of the file (0x00)");
    CHECK_INT(read_as("d.txt", "", 0, &options), HONE_ERROR_INPUT);
    options.stride = 1001;
    CHECK_INT(read_as("d.txt", "abc", 3, &options), HONE_ERROR_ARGUMENT);
    CHECK_CONTAINS(err.message, "--stride is 1001, more than the 1000");
    options.stride = 0;
    options.loss_on = LOSS_ASSISTANT;
    CHECK_INT(read_as("d.txt", "abc", 3, &options), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "--loss-on all");
}

// ---- the example in a refusal ------------------------------------------------------------------

static hone_status chat(const char *template_text, const char *record, bool no_eos) {
    ChatTemplate *parsed = NULL;
    HoneError problem = {0};
    CHECK_INT(hone_template_parse("t", template_text, strlen(template_text), &parsed, &problem),
              HONE_OK);
    DataOptions options = standard();
    options.chat_template = parsed;
    options.no_eos = no_eos;
    hone_status status = read_as("d.jsonl", record, strlen(record), &options);
    hone_template_free(parsed);
    return status;
}

static void an_answer_without_an_end_is_shown(void) {
    static const char words[] = "{% for m in messages %}{{ m.content }} {% endfor %}";
    static const char record[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},"
                                 "{\"role\":\"assistant\",\"content\":\"ja \u00fc\"}]}";
    CHECK_INT(chat(words, record, false), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "d.jsonl:1: the chat template puts no end token behind the last "
                                "answer");
    CHECK_CONTAINS(err.message, "it ends \"q ja \u00fc \"");
    CHECK_INT(chat(words, record, true), HONE_OK);
    CHECK_INT(
        chat("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}", record, false),
        HONE_OK);
    // The end token need not be learnt where the template says what is.
    CHECK_INT(chat("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}"
                   "{{ eos_token }}{% endfor %}",
                   record, false),
              HONE_OK);
    CHECK_INT(chat("{{ bos_token }}{{ bos_token }}{{ messages[1].content }}{{ eos_token }}", record,
                   false),
              HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "BOS twice");
    CHECK_CONTAINS(err.message, "it reads \"<s><s>ja \u00fc</s>\"");
}

int main(void) {
    tokenizer = bytes_tokenizer(TOKEN_BEGIN, TOKEN_FINISH, true);
    RUN(rows_become_records);
    RUN(tables_are_told_by_their_header);
    RUN(bad_rows_are_named);
    RUN(text_is_cut_into_windows);
    RUN(windows_without_marks);
    RUN(bad_text_is_named);
    RUN(an_answer_without_an_end_is_shown);
    hone_dataset_free(&dataset);
    hone_tokenizer_free(tokenizer);
    return check_report();
}
