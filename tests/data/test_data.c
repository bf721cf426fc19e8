// SPDX-License-Identifier: Apache-2.0
#include "check.h"

#include <unistd.h>

#include "base/file.h"
#include "data/bytes.h"
#include "data/data.h"

static Tokenizer *tokenizer;
static ChatTemplate *smollm2;
static Dataset dataset;
static HoneError err;
static hone_status status;
static char shown[4096];

static ChatTemplate *parse(const char *source) {
    ChatTemplate *parsed = NULL;
    HoneError problem = {0};
    CHECK_INT(hone_template_parse("t", source, strlen(source), &parsed, &problem), HONE_OK);
    CHECK_STRING(problem.message, "");
    return parsed;
}

static DataOptions standard(void) {
    return (DataOptions){
        .tokenizer = tokenizer, .chat_template = smollm2, .max_length = 1000, .keep_text = true};
}

static void read_as(const char *name, const char *content, const DataOptions *options) {
    char path[128];
    snprintf(path, sizeof path, "/tmp/hone-test-data-%d-%s", (int)getpid(), name);
    hone_dataset_free(&dataset);
    hone_error_clear(&err);
    HoneError writing = {0};
    CHECK_INT(hone_file_write(path, content, strlen(content), &writing), HONE_OK);
    status = hone_dataset_read(path, options, &dataset, &err);
    remove(path);
    char *at = strstr(err.message, path); // messages with the file's short name
    if (at)
        memmove(at, at + strlen(path) - strlen(name), strlen(at) - strlen(path) + strlen(name) + 1);
}

static void read_lines(const char *content) {
    DataOptions options = standard();
    read_as("d.jsonl", content, &options);
}

// Tokens as text; learnt ones between brackets: "ab[cd<s>]".
static const char *show(const Example *example) {
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
    snprintf(shown, sizeof shown, "%s", text.data ? text.data : "");
    hone_text_free(&text);
    return shown;
}

// A small template, so that whole examples can be written down.
static const char small[] =
    "{% for m in messages %}<|im_start|>{{ m.role[0] }}:{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>a:{% endif %}";

static void read_with(const char *source, const char *content, LossOn loss_on) {
    ChatTemplate *parsed = parse(source);
    DataOptions options = standard();
    options.chat_template = parsed;
    options.no_eos = true; // not every template here ends its answers
    options.loss_on = loss_on;
    read_as("d.jsonl", content, &options);
    hone_template_free(parsed);
}

// ---- masks -------------------------------------------------------------------------------------

#define TWO_TURNS                                                                                  \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":"    \
    "\"A1\"},{\"role\":\"user\",\"content\":\"r\"},{\"role\":\"assistant\",\"content\":\"B\"}]}\n"

static void every_answer_is_learnt_with_its_end_token(void) {
    read_with(small, TWO_TURNS, LOSS_AUTO);
    CHECK_INT(status, HONE_OK);
    CHECK_INT(dataset.count, 1);
    CHECK_STRING(show(&dataset.examples[0]),
                 "<|im_start|>u:q<|im_end|>\n<|im_start|>a:[A1<|im_end|>]\n"
                 "<|im_start|>u:r<|im_end|>\n<|im_start|>a:[B<|im_end|>]\n");
    CHECK_INT(dataset.examples[0].targets, 5);
    CHECK_INT(dataset.targets, 5);
    CHECK_INT(dataset.tokens, dataset.examples[0].count);
    CHECK_INT(dataset.longest, dataset.examples[0].count);
    CHECK_STRING(dataset.examples[0].answer, "B");
    CHECK_INT(dataset.examples[0].answer_length, 1);
    CHECK_INT(dataset.examples[0].prompt, dataset.examples[0].count - 3);
    CHECK_STRING(dataset.examples[0].text,
                 "<|im_start|>u:q<|im_end|>\n<|im_start|>a:A1<|im_end|>\n"
                 "<|im_start|>u:r<|im_end|>\n<|im_start|>a:B<|im_end|>\n");
}

// As Qwen's: a thought, text, then each call in a tag of its own; what a tool says is the user's.
static const char calling[] =
    "{% for t in tools or [] %}<{{ t.function.name }}>{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role[0] }}:"
    "{% if m.reasoning_content %}(think {{ m.reasoning_content }}){% endif %}"
    "{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for p in m.content or [] %}{{ p.text }}{% endfor %}{% endif %}"
    "{% for c in m.tool_calls or [] %}[call {{ c.function | tojson }}]{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>a:{% endif %}";

#define CALL                                                                                       \
    "\"tool_calls\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"           \
    "{\"x\":1,\"y\":[2.5,true]}}}]"

static void calls_and_thoughts_are_learnt_whole(void) {
    read_with(
        calling,
        "{\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"messages\":["
        "{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":null," CALL
        "},{\"role\":\"tool\",\"content\":\"7\"},{\"role\":\"assistant\",\"content\":\"B\"}]}",
        LOSS_AUTO);
    CHECK_STRING(err.message, "");
    CHECK_STRING(show(&dataset.examples[0]),
                 "<f><|im_start|>u:q<|im_end|>\n<|im_start|>a:[[call {\"name\": \"f\", "
                 "\"arguments\": {\"x\": 1, \"y\": [2.5, true]}}]<|im_end|>]\n"
                 "<|im_start|>t:7<|im_end|>\n<|im_start|>a:[B<|im_end|>]\n");
    // The tools as a string, an answer of text and a call, one of weight 0, the last alone.
    const char *mixed =
        "{\"tools\":\"[{\\\"function\\\":{\\\"name\\\":\\\"f\\\"}}]\",\"messages\":["
        "{\"role\":\"assistant\",\"content\":\"A\",\"weight\":0," CALL
        "},{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"C\"," CALL
        "},{\"role\":\"tool\",\"content\":\"7\"},"
        "{\"role\":\"assistant\",\"reasoning_content\":\"hm\",\"content\":\"B\",\"name\":null}]}";
    read_with(calling, mixed, LOSS_AUTO);
    const char *given =
        "<f><|im_start|>a:A[call {\"name\": \"f\", \"arguments\": {\"x\": 1, \"y\": "
        "[2.5, true]}}]<|im_end|>\n<|im_start|>u:q<|im_end|>\n<|im_start|>a:";
    const char *shown_all = show(&dataset.examples[0]);
    CHECK_INT(strncmp(shown_all, given, strlen(given)), 0);
    CHECK_STRING(shown_all + strlen(given),
                 "[C[call {\"name\": \"f\", \"arguments\": {\"x\": 1, \"y\": [2.5, true]}}]"
                 "<|im_end|>]\n<|im_start|>t:7<|im_end|>\n<|im_start|>a:[(think hm)B<|im_end|>]\n");
    read_with(calling, mixed, LOSS_COMPLETION);
    CHECK_INT(dataset.examples[0].targets, 12);
    read_with(calling, mixed, LOSS_ALL);
    CHECK_CONTAINS(show(&dataset.examples[0]),
                   "<[f><|im_start|>a:]A[call {\"name\": \"f\", "
                   "\"arguments\": {\"x\": 1, \"y\": [2.5, true]}}[]<|im_end|>");
    // Content in parts is content; whole numbers beyond 64 bits pass.
    read_with(
        calling,
        "{\"id\":123456789012345678901234567890,\"messages\":[{\"role\":\"user\","
        "\"content\":[{\"type\":\"text\",\"text\":\"q\"},{\"type\":\"text\",\"text\":\"r\"}]},"
        "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"B\"}]}]}",
        LOSS_AUTO);
    CHECK_STRING(show(&dataset.examples[0]),
                 "<|im_start|>u:qr<|im_end|>\n<|im_start|>a:[B<|im_end|>]\n");
}

static void what_a_template_says_is_generated_is_learnt(void) {
    const char *generation =
        "{% for m in messages %}<|im_start|>{{ m.role[0] }}:{% if m.role == 'assistant' %}"
        "{% generation %}<{{ m.content }}><|im_end|>{% endgeneration %}{% else %}{{ m.content }}"
        "<|im_end|>{% endif %}{{ '\n' }}{% endfor %}";
    read_with(generation, TWO_TURNS, LOSS_AUTO);
    CHECK_STRING(show(&dataset.examples[0]),
                 "<|im_start|>u:q<|im_end|>\n<|im_start|>a:[<A1><|im_end|>]\n"
                 "<|im_start|>u:r<|im_end|>\n<|im_start|>a:[<B><|im_end|>]\n");
    read_with(generation, TWO_TURNS, LOSS_COMPLETION);
    CHECK_STRING(show(&dataset.examples[0]),
                 "<|im_start|>u:q<|im_end|>\n<|im_start|>a:<A1><|im_end|>\n"
                 "<|im_start|>u:r<|im_end|>\n<|im_start|>a:[<B><|im_end|>]\n");
    read_with(generation,
              "{\"messages\":[{\"role\":\"assistant\",\"content\":\"A\",\"weight\":0},"
              "{\"role\":\"assistant\",\"content\":\"B\"}]}",
              LOSS_AUTO);
    CHECK_STRING(show(&dataset.examples[0]),
                 "<|im_start|>a:<A><|im_end|>\n<|im_start|>a:[<B><|im_end|>]\n");
}

static void loss_on_chooses_what_is_learnt(void) {
    read_with(small, TWO_TURNS, LOSS_COMPLETION);
    CHECK_STRING(show(&dataset.examples[0]),
                 "<|im_start|>u:q<|im_end|>\n<|im_start|>a:A1<|im_end|>\n"
                 "<|im_start|>u:r<|im_end|>\n<|im_start|>a:[B<|im_end|>]\n");
    read_with(small, TWO_TURNS, LOSS_ALL);
    CHECK_STRING(show(&dataset.examples[0]),
                 "<|im_start|>[u:q<|im_end|>\n<|im_start|>a:A1<|im_end|>\n"
                 "<|im_start|>u:r<|im_end|>\n<|im_start|>a:B<|im_end|>\n]");
}

static void weight_0_is_never_learnt(void) {
    const char *record =
        "{\"messages\":[{\"role\":\"assistant\",\"content\":\"no\",\"weight\":0},"
        "{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"yes\","
        "\"weight\":1}]}";
    read_with(small, record, LOSS_AUTO);
    CHECK_STRING(show(&dataset.examples[0]),
                 "<|im_start|>a:no<|im_end|>\n<|im_start|>u:q<|im_end|>\n"
                 "<|im_start|>a:[yes<|im_end|>]\n");
    read_with(small, record, LOSS_ALL);
    CHECK_STRING(show(&dataset.examples[0]),
                 "<|im_start|>[a:]no[<|im_end|>\n<|im_start|>u:q<|im_end|>\n"
                 "<|im_start|>a:yes<|im_end|>\n]");
}

static void an_edited_template_moves_the_mask(void) {
    read_with("{% for m in messages %}[{{ m.content | upper | trim }}]{{ eos_token }}"
              "{% endfor %}",
              TWO_TURNS, LOSS_AUTO);
    CHECK_CONTAINS(show(&dataset.examples[0]), "[Q]<|im_end|>[[A1]][<|im_end|>][R]");
    read_with("{% for m in messages %}{{ m.content }}{% endfor %}", TWO_TURNS, LOSS_AUTO);
    CHECK_STRING(show(&dataset.examples[0]), "q[A1]r[B]");
    read_with("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}"
              "{% endfor %}",
              TWO_TURNS, LOSS_AUTO);
    CHECK_INT(status, HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "d.jsonl:1: no token to learn: the answers are empty, or the chat "
                                "template does not print them");
}

static void smollm2_masks_the_answer_and_its_end(void) {
    read_lines(TWO_TURNS);
    CHECK_INT(status, HONE_OK);
    CHECK_STRING(show(&dataset.examples[0]),
                 "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
                 "Hugging Face<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
                 "<|im_start|>assistant\n[A1<|im_end|>]\n<|im_start|>user\nr<|im_end|>\n"
                 "<|im_start|>assistant\n[B<|im_end|>]\n");
}

static void the_prompt_is_what_generation_starts_from(void) {
    DataOptions options = standard();
    TokenList list = {0};
    ChatMessage messages[] = {
        {"user", "q", true, NULL}, {"assistant", "A1", true, NULL}, {"user", "r", true, NULL}};
    read_lines(TWO_TURNS);
    hone_error_clear(&err);
    CHECK_INT(hone_chat_prompt(&options, messages, 3, &list, &err), HONE_OK);
    CHECK_INT(list.count, dataset.examples[0].prompt);
    CHECK(memcmp(list.tokens, dataset.examples[0].token, (size_t)list.count * 4) == 0);
    hone_token_list_free(&list);
    options.chat_template = NULL;
    CHECK_INT(hone_chat_prompt(&options, messages, 3, &list, &err), HONE_ERROR_ARGUMENT);
    CHECK_CONTAINS(err.message, "no chat template");
    // This template refuses a conversation that nothing was said in.
    read_with("{% if not messages %}{{ raise_exception('empty') }}{% endif %}>{% for m in messages "
              "%}{{ m.content }}{% endfor %}",
              "{\"messages\":[{\"role\":\"assistant\",\"content\":\"A\"}]}", LOSS_AUTO);
    CHECK_STRING(show(&dataset.examples[0]), ">[A]");
    CHECK_INT(dataset.examples[0].prompt, 1);
}

// ---- kinds of records --------------------------------------------------------------------------

static void conversations_are_messages(void) {
    read_with(small,
              "{\"conversations\":[{\"from\":\"system\",\"value\":\"s\"},{\"from\":\"human\","
              "\"value\":\"q\"},{\"from\":\"gpt\",\"value\":\"a\"}]}",
              LOSS_AUTO);
    CHECK_STRING(show(&dataset.examples[0]),
                 "<|im_start|>s:s<|im_end|>\n<|im_start|>u:q<|im_end|>\n"
                 "<|im_start|>a:[a<|im_end|>]\n");
}

static void a_completion_ends_with_eos(void) {
    read_lines("{\"prompt\":\"2+2=\",\"completion\":\"4\"}");
    CHECK_STRING(show(&dataset.examples[0]), "2+2=[4<|im_end|>]");
    CHECK_INT(dataset.examples[0].prompt, 4);
    CHECK_STRING(dataset.examples[0].answer, "4");
    CHECK_STRING(dataset.examples[0].text, "2+2=4");
    DataOptions options = standard();
    options.loss_on = LOSS_ALL;
    read_as("d.jsonl", "{\"prompt\":\"2+2=\",\"completion\":\"4<|im_end|>\"}", &options);
    CHECK_STRING(show(&dataset.examples[0]), "2[+2=4<|im_end|>]");
}

static void an_instruction_is_a_conversation(void) {
    const char *record = "{\"instruction\":\"Add\",\"input\":\"1 2\",\"output\":\"3\"}";
    read_with(small, record, LOSS_AUTO);
    CHECK_STRING(show(&dataset.examples[0]),
                 "<|im_start|>u:Add\n\n1 2<|im_end|>\n<|im_start|>a:[3<|im_end|>]\n");
    read_with(small, "{\"instruction\":\"Add\",\"input\":\"\",\"output\":\"3\"}", LOSS_AUTO);
    CHECK_STRING(show(&dataset.examples[0]),
                 "<|im_start|>u:Add<|im_end|>\n<|im_start|>a:[3<|im_end|>]\n");
    DataOptions options = standard();
    options.chat_template = NULL;
    read_as("d.jsonl", record, &options);
    CHECK_STRING(show(&dataset.examples[0]), "Add\n\n1 2\n\n[3<|im_end|>]");
}

static void text_is_learnt_whole(void) {
    read_lines("{\"text\":\"abc\"}\n{\"text\":\"d<|im_end|>\"}");
    CHECK_STRING(show(&dataset.examples[0]), "a[bc<|im_end|>]");
    CHECK_STRING(show(&dataset.examples[1]), "d[<|im_end|>]");
    CHECK_INT(dataset.examples[0].prompt, 0);
    CHECK(dataset.examples[0].answer == NULL);
    DataOptions options = standard();
    options.no_eos = true;
    read_as("d.jsonl", "{\"text\":\"abc\"}", &options);
    CHECK_STRING(show(&dataset.examples[0]), "a[bc]");
    options.loss_on = LOSS_COMPLETION;
    read_as("d.jsonl", "{\"text\":\"abc\"}", &options);
    CHECK_STRING(err.message, "d.jsonl:1: a 'text' record has no completion to learn: use "
                              "--loss-on all");
}

static void bos_comes_once(void) {
    Tokenizer *plain = tokenizer;
    tokenizer = bytes_tokenizer(TOKEN_BEGIN, TOKEN_FINISH, true);
    read_lines("{\"text\":\"ab\"}\n{\"text\":\"<s>ab\"}\n{\"prompt\":\"a\",\"completion\":\"b\"}");
    CHECK_STRING(show(&dataset.examples[0]), "<s>[ab</s>]");
    CHECK_STRING(show(&dataset.examples[1]), "<s>[ab</s>]");
    CHECK_STRING(show(&dataset.examples[2]), "<s>a[b</s>]");
    CHECK_INT(dataset.examples[2].prompt, 2);
    const char *record = "{\"messages\":[{\"role\":\"assistant\",\"content\":\"x\"}]}";
    read_with("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", record, LOSS_AUTO);
    CHECK_STRING(show(&dataset.examples[0]), "<s>[x</s>]");
    read_with("{{ messages[0].content }}{{ eos_token }}", record, LOSS_AUTO);
    CHECK_STRING(show(&dataset.examples[0]), "<s>[x</s>]");
    read_with("{{ bos_token }}{{ bos_token }}{{ messages[0].content }}", record, LOSS_AUTO);
    CHECK_CONTAINS(err.message, "d.jsonl:1: the text begins with BOS twice");
    hone_tokenizer_free(tokenizer);
    tokenizer = bytes_tokenizer(-1, -1, false);
    read_lines("{\"text\":\"ab\"}");
    CHECK_STRING(
        err.message,
        "d.jsonl:1: the tokenizer has no EOS token to end this example with: use --no-eos");
    hone_tokenizer_free(tokenizer);
    tokenizer = plain;
}

// ---- files -------------------------------------------------------------------------------------

static void lists_and_lines_give_the_same(void) {
    DataOptions options = standard();
    read_as("d.json",
            "\xef\xbb\xbf\n[\n {\"text\":\"a\"},\n\n {\"text\":\n\"b\"}, {\"text\":\"c\"}\n]\n",
            &options);
    CHECK_INT(status, HONE_OK);
    CHECK_INT(dataset.count, 3);
    CHECK_INT(dataset.examples[0].line, 3);
    CHECK_INT(dataset.examples[1].line, 5);
    CHECK_INT(dataset.examples[2].line, 6);
    read_lines("\r\n{\"text\":\"a\"}\r\n\n  {\"text\":\"b\"}");
    CHECK_INT(dataset.count, 2);
    CHECK_INT(dataset.examples[0].line, 2);
    CHECK_INT(dataset.examples[1].line, 4);
}

static void several_files_are_one_dataset(void) {
    DataOptions options = standard();
    Dataset all = {0};
    read_as("d.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"}\n{\"text\":\"c\"}", &options);
    all = dataset;
    dataset = (Dataset){0};
    char path[64];
    snprintf(path, sizeof path, "/tmp/hone-test-more-%d.jsonl", (int)getpid());
    HoneError problem = {0};
    const char *more = "{\"text\":\"dd\"}\n{\"text\":\"e\"}";
    CHECK_INT(hone_file_write(path, more, strlen(more), &problem), HONE_OK);
    CHECK_INT(hone_dataset_read(path, &options, &all, &problem), HONE_OK);
    remove(path);
    CHECK_INT(all.count, 5);
    CHECK_STRING(show(&all.examples[0]), "a[<|im_end|>]");
    CHECK_STRING(show(&all.examples[3]), "d[d<|im_end|>]");
    CHECK_INT(all.longest, 3);
    hone_dataset_free(&all);
}

static void bad_line(const char *content, const char *message) {
    read_lines(content);
    CHECK_INT(status, HONE_ERROR_INPUT);
    CHECK_STRING(err.message, message);
}

static void broken_json_gives_line_and_column(void) {
    bad_line("{\"text\":\"a\"}\n{\"text\":\"b\"\n",
             "d.jsonl:2: not JSON: '}' expected near end of file (column 11)");
    bad_line("{\"text\":\"a\"}\n\n  {\"text\" \"b\"}\n{\"text\":\"c\"}\n",
             "d.jsonl:3: not JSON: ':' expected near '\"b\"' (column 13)");
    bad_line("{\"text\":\"a\\u0000\"}", "d.jsonl:1: a text holds the character \\u0000, which no "
                                        "text may hold (column 17)");
    bad_line("{\"text\":\"a\",\"text\":\"b\"}",
             "d.jsonl:1: not JSON: duplicate object key near '\"text\"' (column 18)");
    bad_line("{\"text\":\"a\xff\"}", "d.jsonl:1: not UTF-8 (column 10)");
    bad_line("\xff\xfe{", "d.jsonl: is UTF-16; UTF-8 is wanted (iconv -f UTF-16 -t UTF-8)");
    bad_line("[{\"text\":\"a\"},\n {\"text\":}]",
             "d.jsonl:2: not JSON: unexpected token near '}' (column 10)");
    bad_line("[{\"text\":\"a\"}\n{\"text\":\"b\"}]",
             "d.jsonl:2: not JSON: expected ',' or the end in the list of records (column 1)");
    bad_line("[{\"text\":\"a\"}\n",
             "d.jsonl:2: not JSON: expected ']' in the list of records (column 1)");
    bad_line("[]", "d.jsonl: there is no example in this file");
    bad_line("", "d.jsonl: there is no example in this file");
    bad_line(" \n\n", "d.jsonl: there is no example in this file");
    bad_line("[1]", "d.jsonl:1: this record is a number, not an object");
}

#define MESSAGES(list) "{\"messages\":[" list "]}"
#define ANSWER "{\"role\":\"assistant\",\"content\":\"a\"}"

static void bad_records_say_what_is_wrong(void) {
    bad_line("{\"foo\":1,\"bar\":2}",
             "d.jsonl:1: the keys of this record ('foo', 'bar') are none of: messages; "
             "conversations; prompt, completion; instruction, output; text");
    bad_line("{\"prompt\":\"a\",\"chosen\":\"b\"}",
             "d.jsonl:1: the keys of this record ('prompt', 'chosen') are none of: messages; "
             "conversations; prompt, completion; instruction, output; text");
    bad_line("{}", "d.jsonl:1: the keys of this record (none) are none of: messages; "
                   "conversations; prompt, completion; instruction, output; text");
    bad_line("{\"text\":5}", "d.jsonl:1: 'text' is a number, not a string");
    bad_line("{\"text\":\"\"}", "d.jsonl:1: 'text' is empty");
    bad_line("{\"prompt\":[],\"completion\":\"x\"}", "d.jsonl:1: 'prompt' is a list, not a string");
    bad_line("{\"prompt\":\"x\",\"completion\":\"\"}", "d.jsonl:1: the answer is empty");
    bad_line("{\"instruction\":\"x\",\"output\":null}",
             "d.jsonl:1: 'output' is null, not a string");
    bad_line("{\"messages\":\"x\"}", "d.jsonl:1: 'messages' is a string, not a list");
    bad_line(MESSAGES(""), "d.jsonl:1: 'messages' is empty");
    bad_line(MESSAGES("1"), "d.jsonl:1: message 1: it is a number, not an object");
    bad_line(MESSAGES("{\"role\":\"user\"}"), "d.jsonl:1: message 1: 'content' is missing");
    bad_line(MESSAGES("{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}"),
             "d.jsonl:1: message 1: part 1 of 'content' is not {\"type\": \"text\", \"text\": a "
             "string}");
    bad_line(MESSAGES(ANSWER ",{\"role\":\"bot\",\"content\":\"x\"}"),
             "d.jsonl:1: message 2 has the role 'bot', which does not exist here; the roles are "
             "system, user, assistant, tool");
    bad_line("{\"conversations\":[{\"from\":\"bob\",\"value\":\"x\"}]}",
             "d.jsonl:1: message 1: it is from 'bob', who does not exist; there are human, gpt, "
             "system, tool");
    bad_line(MESSAGES("{\"role\":\"assistant\",\"content\":\"x\",\"weight\":0.5}"),
             "d.jsonl:1: message 1: 'weight' is neither 0 nor 1");
    bad_line(MESSAGES("{\"role\":\"user\",\"content\":\"x\"}"),
             "d.jsonl:1: no token to learn: there is no assistant message; it reads \"<|im_start|>"
             "system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
             "Face<|im_end|>\\n<|im_start|>user\\nx<|im\"…");
    bad_line(MESSAGES("{\"role\":\"assistant\",\"content\":\"x\",\"weight\":0}"),
             "d.jsonl:1: no token to learn: every assistant message has weight 0; it "
             "reads \"<|im_start|>assistant\\n\"");
    bad_line(MESSAGES("{\"role\":\"assistant\",\"content\":\"\"}"),
             "d.jsonl:1: no token to learn: the answers are empty, or the chat template does not "
             "print them; it reads \"<|im_start|>assistant\\n\"");
}

// A message without its last bracket.
static void bad_with(const char *source, const char *message, const char *why) {
    char record[256], wanted[256];
    snprintf(record, sizeof record, "{\"messages\":[%s,\"role\":\"assistant\"}]}", message);
    snprintf(wanted, sizeof wanted, "d.jsonl:1: message 1: %s", why);
    read_with(source, record, LOSS_AUTO);
    CHECK_STRING(err.message, wanted);
}

static void what_a_template_refuses_is_a_bad_record(void) {
    const char *strict =
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% elif m.role != 'tool' %}{{ m.content }}{% endif %}{% endfor %}";
    read_with(strict, MESSAGES("{\"role\":\"system\",\"content\":\"x\"}," ANSWER), LOSS_AUTO);
    CHECK_CONTAINS(
        err.message,
        "d.jsonl:1: t line 1 column 54: the template refuses this conversation: no system");
    read_with(strict, MESSAGES("{\"role\":\"tool\",\"content\":\"x\"}," ANSWER), LOSS_AUTO);
    CHECK_STRING(err.message, "d.jsonl:1: message 1 has the role 'tool', which does not exist "
                              "here; the roles are user, assistant");
    read_with(small, MESSAGES("{\"role\":\"tool\",\"content\":\"x\"}," ANSWER), LOSS_AUTO);
    CHECK_INT(status, HONE_OK);
    bad_with(small, "{\"tool_calls\":[{\"id\":1}]",
             "call 1 of 'tool_calls' has no \"name\" that is a string");
    bad_with(small, "{\"tool_calls\":{}", "'tool_calls' is an object, not a list");
    bad_with(small, "{\"tool_calls\":[]", "'content' is missing");
    bad_with(small, "{\"content\":[{\"type\":\"image\",\"url\":\"x\"}]",
             "part 1 of 'content' is of the type 'image': text alone can be learnt");
    bad_with(small, "{\"content\":[\"a\"]",
             "part 1 of 'content' is not {\"type\": \"text\", \"text\": a string}");
    read_with(small, MESSAGES("{\"role\":\"assistant\",\"content\":\"x\"," CALL "}"), LOSS_AUTO);
    CHECK_STRING(err.message,
                 "d.jsonl:1: the chat template does not print 'tool_calls' ('f'), "
                 "which would be lost: give a template that does with --template FILE");
    read_with(small, "{\"tools\":[{\"name\":\"get_it\"}],\"messages\":[" ANSWER "]}", LOSS_AUTO);
    CHECK_CONTAINS(err.message, "does not print 'tools' ('get_it')");
    read_with(small, "{\"tools\":\"[\",\"messages\":[" ANSWER "]}", LOSS_AUTO);
    CHECK_CONTAINS(err.message, "d.jsonl:1: 'tools' is a string that is not JSON");
    read_with(small, "{\"tools\":{},\"messages\":[" ANSWER "]}", LOSS_AUTO);
    CHECK_STRING(err.message, "d.jsonl:1: 'tools' is an object, not a list");
    DataOptions options = standard();
    options.chat_template = NULL;
    options.on_bad = BAD_SKIP;
    read_as("d.jsonl", "{\"text\":\"a\"}\n" MESSAGES(ANSWER), &options);
    CHECK_INT(status, HONE_ERROR_ARGUMENT);
    CHECK_STRING(err.message, "d.jsonl:2: chat messages need a chat template, and the model has "
                              "none: give one with --template FILE");
}

static void bad_examples_stop_or_are_skipped(void) {
    const char *content = "{\"text\":\"a\"}\nnonsense\n{\"text\":\"\"}\n{\"text\":\"b\"}\n";
    DataOptions options = standard();
    read_as("d.jsonl", content, &options);
    CHECK_INT(status, HONE_ERROR_INPUT);
    CHECK_STRING(err.message,
                 "d.jsonl:2: not JSON: invalid token near 'nonsense' (column 8) (and 1 more of 4 "
                 "examples are bad; --on-bad-example skip leaves them out)");
    options.on_bad = BAD_SKIP;
    read_as("d.jsonl", content, &options);
    CHECK_INT(status, HONE_OK);
    CHECK_INT(dataset.count, 2);
    CHECK_INT(dataset.skipped, 2);
    CHECK_CONTAINS(dataset.first_bad, "d.jsonl:2: not JSON: invalid token near 'nonsense'");
    CHECK_INT(dataset.examples[1].line, 4);
    read_as("d.jsonl", "x\n{}\n", &options);
    CHECK_INT(status, HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "d.jsonl:1: not JSON: invalid token near 'x' (column 1) (all 2 "
                                "examples are bad)");
}

static void other_files_are_refused(void) {
    DataOptions options = standard();
    read_as("d.Parquet", "", &options);
    CHECK_INT(status, HONE_ERROR_UNSUPPORTED);
    read_as("d", "PAR1", &options);
    CHECK_INT(status, HONE_ERROR_UNSUPPORTED);
    CHECK_CONTAINS(err.message, "pandas.read_parquet(");
    hone_error_clear(&err);
    CHECK_INT(hone_dataset_read("/nowhere/d.jsonl", &options, &dataset, &err), HONE_ERROR_INPUT);
    options.max_length = 1;
    read_as("d.jsonl", "{\"text\":\"a\"}", &options);
    CHECK_INT(status, HONE_ERROR_ARGUMENT);
}

// ---- cutting and batches -----------------------------------------------------------------------

static void long_examples_are_cut_from_the_end(void) {
    DataOptions options = standard();
    options.max_length = 6;
    read_as("d.jsonl", "{\"prompt\":\"abcd\",\"completion\":\"efgh\"}\n{\"text\":\"xy\"}",
            &options);
    CHECK_INT(status, HONE_OK);
    CHECK_STRING(show(&dataset.examples[0]), "abcd[ef]");
    CHECK_INT(dataset.examples[0].cut, true);
    CHECK_INT(dataset.examples[1].cut, false);
    CHECK_INT(dataset.cut, 1);
    CHECK_INT(dataset.longest, 6);
    options.max_length = 4;
    read_as("d.jsonl", "{\"prompt\":\"abcd\",\"completion\":\"efgh\"}", &options);
    CHECK_INT(status, HONE_ERROR_INPUT);
    CHECK_STRING(err.message,
                 "d.jsonl:1: no target is left after cutting 9 tokens to 4 (the prompt "
                 "has 4): give a longer --max-length or shorten the prompt");
}

int main(void) {
    char *source = NULL;
    size_t length = 0;
    CHECK_INT(hone_file_read(HONE_FIXTURES "/templates/smollm2.jinja", &source, &length, &err),
              HONE_OK);
    tokenizer = bytes_tokenizer(TOKEN_START, TOKEN_STOP, false);
    smollm2 = parse(source);
    RUN(every_answer_is_learnt_with_its_end_token);
    RUN(calls_and_thoughts_are_learnt_whole);
    RUN(what_a_template_says_is_generated_is_learnt);
    RUN(loss_on_chooses_what_is_learnt);
    RUN(weight_0_is_never_learnt);
    RUN(an_edited_template_moves_the_mask);
    RUN(smollm2_masks_the_answer_and_its_end);
    RUN(the_prompt_is_what_generation_starts_from);
    RUN(conversations_are_messages);
    RUN(a_completion_ends_with_eos);
    RUN(an_instruction_is_a_conversation);
    RUN(text_is_learnt_whole);
    RUN(bos_comes_once);
    RUN(lists_and_lines_give_the_same);
    RUN(several_files_are_one_dataset);
    RUN(broken_json_gives_line_and_column);
    RUN(bad_records_say_what_is_wrong);
    RUN(what_a_template_refuses_is_a_bad_record);
    RUN(bad_examples_stop_or_are_skipped);
    RUN(other_files_are_refused);
    RUN(long_examples_are_cut_from_the_end);
    hone_dataset_free(&dataset);
    hone_template_free(smollm2);
    hone_tokenizer_free(tokenizer);
    hone_free(source);
    return check_report();
}
