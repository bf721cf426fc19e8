// SPDX-License-Identifier: Apache-2.0
// The interpreter alone. tests/interop/test_template.py compares it with jinja2 on far more.
#include "check.h"

#include <stdlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "template/template.h"

static const ChatMessage talk[] = {{"user", " Hi <b>é ", true, NULL},
                                   {"assistant", "Yes\nno", true, NULL},
                                   {"user", "", true, NULL},
                                   {"assistant", "z", false, NULL}};

typedef struct Result {
    char text[4096];   // the rendered text, or the error's message
    char origin[4096]; // a character a byte: '.', or the message's digit
    hone_status status;
} Result;

static Result result;

static void render_into(const char *source, size_t length, const TemplateInput *input) {
    HoneError err = {0};
    ChatTemplate *parsed = NULL;
    TextBuffer text = {0}, origin = {0};
    memset(&result, 0, sizeof result);
    result.status = hone_template_parse("t", source, length, &parsed, &err);
    if (result.status == HONE_OK)
        result.status = hone_template_render(parsed, input, &text, &origin, &err);
    snprintf(result.text, sizeof result.text, "%s",
             result.status != HONE_OK ? err.message
             : text.data              ? text.data
                                      : "");
    for (size_t i = 0; i < text.length && i + 1 < sizeof result.origin; i++) {
        int32_t from;
        memcpy(&from, origin.data + i * sizeof from, sizeof from);
        const int32_t message = hone_origin_message(from);
        result.origin[i] = message < 0 ? '.' : (char)('0' + message);
        if (hone_origin_generated(from))
            result.origin[i] = message < 0 ? '*' : (char)('A' + message);
    }
    if (result.status == HONE_OK) CHECK_INT(origin.length, text.length * sizeof(int32_t));
    hone_text_free(&text);
    hone_text_free(&origin);
    hone_template_free(parsed);
}

static const char *render(const char *source) {
    TemplateInput input = {.messages = talk,
                           .count = 4,
                           .add_generation_prompt = false,
                           .bos_token = "<s>",
                           .eos_token = "</s>"};
    render_into(source, strlen(source), &input);
    return result.text;
}

// ---- text --------------------------------------------------------------------------------------

static void blocks_take_white_space_as_transformers_does(void) {
    CHECK_STRING(render("a\n  {% if true %}\n  b\n  {% endif %}\nc\n"), "a\n  b\nc");
    CHECK_STRING(render("a \n {%- if true -%} \n b {%- endif %} c\n\n"), "ab c\n");
    CHECK_STRING(render("a {%+ if true %}\nb{% endif %}"), "a b");
    CHECK_STRING(render("a  {{- 'x' -}}  b\n {# gone #}\nc"), "axb\nc");
    CHECK_STRING(render("{{ 1 }}\r\n{{ 2 }}\r3"), "1\n2\n3");
}

static void expressions_have_pythons_meaning(void) {
    CHECK_STRING(render("{{ 1 + 2 * 3 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 1 / 2 }} {{ 1e16 }}"),
                 "7 -4 2 0.5 1e+16");
    CHECK_STRING(render("{{ 'a' ~ 1 ~ none }} {{ [1, 'x', (2,)] }} {{ {'k': true} }}"),
                 "a1None [1, 'x', (2,)] {'k': True}");
    CHECK_STRING(render("{{ 'b' in 'abc' and 3 not in [1] }} {{ 1 < 2 < 3 }} {{ 0 or 'x' }}"),
                 "True True x");
    CHECK_STRING(render("{{ 'yes' if 1 else 'no' }} {{ 'h\\xe9llo'[1:3] }} {{ [1, 2, 3][::-1] }}"),
                 "yes él [3, 2, 1]");
    CHECK_STRING(render("{{ nothing }}|{{ nothing is defined }}|{{ messages[9] is defined }}"),
                 "|False|False");
    CHECK_STRING(render("{{ '\\u00e9\\x41\\101\\n' ~ \"it's\" }}"), "éAA\nit's");
}

static void filters_and_methods_are_there(void) {
    CHECK_STRING(render("{{ ' x ' | trim }}{{ 'ab' | upper }}{{ 'AB' | lower }}{{ x | d('q') }}"),
                 "xABabq");
    CHECK_STRING(render("{{ [1, 2] | join('-') }} {{ 'h\\xe9' | length }} {{ 'abc' | last }}"),
                 "1-2 2 c");
    CHECK_STRING(render("{{ {'a': [1, none], 'b': 'é\"\\n'} | tojson }}"),
                 "{\"a\": [1, null], \"b\": \"é\\\"\\n\"}");
    CHECK_STRING(render("{{ ' a '.strip() }}{{ 'a,b'.split(',')[1] }}{{ 'abc'.startswith('ab') }}"),
                 "abTrue");
    CHECK_STRING(render("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}"), "a1");
    CHECK_STRING(render("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}"),
                 "2");
    CHECK_STRING(render("{{ messages | map(attribute='role') | join(' ') }}"),
                 "user assistant user assistant");
}

static void statements_work(void) {
    CHECK_STRING(render("{% for i in range(4) if i != 2 %}{{ loop.index }}{{ i }}"
                        "{{ ',' if not loop.last }}{% else %}none{% endfor %}"),
                 "10,21,33");
    CHECK_STRING(render("{% for i in [] %}x{% else %}none{% endfor %}"), "none");
    CHECK_STRING(render("{% set n = namespace(a=1) %}{% for i in [1, 2] %}{% set n.a = n.a + i %}"
                        "{% set b = 1 %}{% endfor %}{{ n.a }}{{ b is defined }}"),
                 "4False");
    CHECK_STRING(render("{% set t %}<{{ 1 }}>{% endset %}{{ t }}{% set a, b = 1, 2 %}{{ b }}"),
                 "<1>2");
    CHECK_STRING(render("{% if 0 %}a{% elif 1 %}b{% else %}c{% endif %}"), "b");
    CHECK_STRING(render("{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}"
                        "{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"),
                 "02");
    CHECK_STRING(render("{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}{{ tools }}"),
                 "<s></s>FalseNone");
}

static void macros_work(void) {
    CHECK_STRING(render("{% macro f(a, b='x', c) %}{% endmacro %}"),
                 "t line 1 column 22: parameter 'c' without a default after one that has it");
    CHECK_STRING(render("{% macro f(a, b='x', c=a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}"
                        "{{ f(1) }}{{ f(1, c=2) }}{{ f(b=3, a=4) }}{{ f() }}"),
                 "[1x1][1x2][434][x]");
    CHECK_STRING(
        render("{% macro g(n) %}{{ n }}{% if n > 0 %}{{ g(n - 1) }}{% endif %}{% endmacro %}"
               "{{ g(3) | length }}{% set t = g(2) %}{{ t }}"),
        "4210");
    // Names of the place of its definition, as they are when it runs; its own stay within.
    CHECK_STRING(
        render("{% macro f() %}{{ x }}{% set y = 1 %}{% endmacro %}{% set x = 1 %}{{ f() }}"
               "{% set x = 2 %}{% for i in [5] %}{% set x = 9 %}{{ f() }}{% endfor %}"
               "{{ y is defined }}"),
        "12False");
    CHECK_STRING(render("{% set ns = namespace() %}{% for i in [7] %}{% macro f() %}{{ i }}"
                        "{% endmacro %}{% set ns.f = f %}{% endfor %}{% set f = ns.f %}{{ f() }}"),
                 "7");
    CHECK_STRING(render("{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}"),
                 "t line 1 column 34: macro 'f' does not take so many arguments");
    CHECK_STRING(render("{% macro f(a) %}{% endmacro %}{{ f(b=2) }}"),
                 "t line 1 column 34: macro 'f' does not take 'b'");
    CHECK_STRING(render("{% macro f(a) %}{% endmacro %}{{ f(1, a=2) }}"),
                 "t line 1 column 34: macro 'f': 'a' is given twice");
    CHECK_STRING(render("{{ f() }}{% macro f() %}{% endmacro %}"),
                 "t line 1 column 4: 'f' is undefined");
    CHECK_STRING(render("{% for i in [1] %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}"),
                 "t line 1 column 37: 'break' outside of a loop");
    CHECK_STRING(render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
                 "t line 1 column 19: macros call each other more than 2000 levels deep");
}

static void blocks_of_filters_and_the_time(void) {
    CHECK_STRING(render("{% filter upper | trim %} a{{ 'b' }} {% endfilter %}c"), "ABc");
    setenv("SOURCE_DATE_EPOCH", "86400", 1);
    CHECK_STRING(render("{{ strftime_now('%d %b %Y') }}{{ strftime_now('') }}"), "02 Jan 1970");
    setenv("SOURCE_DATE_EPOCH", "soon", 1);
    CHECK_STRING(render("{{ strftime_now('%Y') }}"),
                 "t line 1 column 4: SOURCE_DATE_EPOCH is no number of seconds");
    unsetenv("SOURCE_DATE_EPOCH");
    CHECK_INT(strlen(render("{{ strftime_now('%Y-%m-%d') }}")), 10);
}

static void messages_have_fields(void) {
    json_error_t fault;
    json_t *fields = json_loads(
        "{\"role\": \"assistant\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}], "
        "\"weight\": 1, \"name\": \"n\", \"tool_calls\": [{\"n\": 1, \"k\": [2.5, null]}]}",
        0, &fault);
    json_t *tools = json_loads("[{\"name\": \"t\"}]", 0, &fault);
    const ChatMessage messages[] = {{"user", "u", true, NULL}, {"assistant", NULL, true, fields}};
    const TemplateInput input = {.messages = messages, .count = 2, .tools = tools};
    const char *source = "{% for m in messages %}{{ m.keys() | list | tojson }}{% endfor %}";
    render_into(source, strlen(source), &input);
    CHECK_STRING(result.text,
                 "[\"role\", \"content\"][\"role\", \"content\", \"name\", \"tool_calls\"]");
    source = "{{ messages[1].name }}{{ messages[1].content[0].text }}{{ tools[0].name }}";
    render_into(source, strlen(source), &input);
    CHECK_STRING(result.text, "nat");
    CHECK_STRING(result.origin, ".1.");
    source = "{{ messages[1].tool_calls | tojson }}";
    render_into(source, strlen(source), &input);
    CHECK_STRING(result.text, "[{\"n\": 1, \"k\": [2.5, null]}]");
    json_decref(fields);
    json_decref(tools);
}

// ---- origins -----------------------------------------------------------------------------------

static const char *origins(const char *source) {
    render(source);
    return result.status == HONE_OK ? result.origin : result.text;
}

static void origins_survive_what_templates_do(void) {
    CHECK_STRING(origins("a{{ messages[1].content }}b"), ".111111.");
    CHECK_STRING(origins("{{ 'a' + messages[1]['content'] + '\\n' }}"), ".111111.");
    CHECK_STRING(origins("{{ messages[0].content | trim ~ messages[3].content }}"), "000000003");
    CHECK_STRING(origins("{{ messages[1].content[1:3] }}{{ messages[1].content[::-1] }}"),
                 "11111111");
    CHECK_STRING(origins("{{ messages[1].content.replace('s', '--') }}"), "11..111");
    CHECK_STRING(origins("{{ (messages[1].content | upper).split('\\n') | join(', ') }}"),
                 "111..11");
    CHECK_STRING(origins("{{ messages[1].content | tojson }}"), ".1111111.");
    CHECK_STRING(origins("{{ [messages[3].content] }}"), "..3..");
    CHECK_STRING(origins("{% set t %}x{{ messages[3].content }}{% endset %}{{ t * 2 }}"), ".3.3");
    CHECK_STRING(origins("{% for c in messages[1].content %}{{ c }}-{% endfor %}"), "1.1.1.1.1.1.");
    CHECK_STRING(origins("{{ messages[1].role }}{{ messages[1].content | length }}"), "..........");
    CHECK_STRING(origins("{{ messages[3].content.upper() | default('q') | string | first }}"), "3");
}

static void generation_blocks_mark_what_they_print(void) {
    CHECK_STRING(origins("a{% generation %}b{{ messages[1].content }}{% endgeneration %}c"),
                 ".*BBBBBB.");
    CHECK_STRING(origins("{% macro f(m) %}<{{ m.content }}>{% endmacro %}{{ f(messages[3]) }}"),
                 ".3.");
    CHECK_STRING(origins("{% generation %}{% set x = 1 %}{% generation %}y{% endgeneration %}"
                         "{% endgeneration %}{{ x is defined }}"),
                 "*.....");
}

// ---- refusals ----------------------------------------------------------------------------------

static void refuses(const char *source, hone_status status, const char *message) {
    render(source);
    CHECK_INT(result.status, status);
    CHECK_STRING(result.text, message);
}

static void what_is_not_there_is_refused_by_name_and_place(void) {
    refuses("a\n\n   é  {{ 1 | foo }}", HONE_ERROR_UNSUPPORTED,
            "t line 3 column 14: filter 'foo' is not supported");
    refuses("{% include 'x' %}", HONE_ERROR_UNSUPPORTED,
            "t line 1 column 4: tag 'include' is not supported");
    CHECK_STRING(render("{{ 'a' if 1 else (1 | foo(2, b=3)) }}{% if 0 %}{{ f(1) is prime }}"
                        "{{ 'x'.bar() }}{% endif %}"),
                 "a"); // where it is never used, what is not there does no harm
    refuses("{{ 1 is prime }}", HONE_ERROR_UNSUPPORTED,
            "t line 1 column 9: test 'prime' is not supported");
    refuses("{{ now_utc('%Y') }}", HONE_ERROR_UNSUPPORTED,
            "t line 1 column 4: function 'now_utc' is not supported");
    refuses("{{ [].sort() }}", HONE_ERROR_UNSUPPORTED,
            "t line 1 column 7: method 'sort' is not supported");
    refuses("{{ [].append(1) }}", HONE_ERROR_INPUT,
            "t line 1 column 7: 'append' would change a list: templates run in a sandbox that "
            "refuses it");
    refuses("{% macro f() %}{{ varargs }}{% endmacro %}", HONE_ERROR_UNSUPPORTED,
            "t line 1 column 19: 'varargs' in a macro is not supported");
    refuses("{{ {} | tojson(sort_keys=true) }}", HONE_ERROR_UNSUPPORTED,
            "t line 1 column 16: argument 'sort_keys' of filter 'tojson' is not supported");
    refuses("{{ 'a' | trim('b', 'c') }}", HONE_ERROR_UNSUPPORTED,
            "t line 1 column 20: filter 'trim' does not take this argument");
    refuses("{{ 2 ** 3 }}", HONE_ERROR_UNSUPPORTED,
            "t line 1 column 6: operator '**' is not supported");
    refuses("{{ 'a' | replace('b') }}", HONE_ERROR_INPUT,
            "t line 1 column 10: filter 'replace' needs its argument 'new'");
    refuses("{{ [1] | select('prime') }}", HONE_ERROR_UNSUPPORTED,
            "t line 1 column 17: test 'prime' is not supported here");
    refuses("{% for a in b recursive %}{% endfor %}", HONE_ERROR_UNSUPPORTED,
            "t line 1 column 15: 'recursive' loops are not supported");
}

static void wrong_syntax_gives_the_place(void) {
    refuses("{{ 1 +", HONE_ERROR_INPUT, "t line 1 column 1: this tag has no end: {{");
    refuses("{{ 1 + }}", HONE_ERROR_INPUT, "t line 1 column 8: expected a value, found }}");
    refuses("\n{% if 1 %}x", HONE_ERROR_INPUT, "t line 2 column 4: this block has no end");
    refuses("{% endif %}", HONE_ERROR_INPUT,
            "t line 1 column 1: tag 'endif' does not belong to any block");
    refuses("{% if 1 %}\n{% endfor %}", HONE_ERROR_INPUT,
            "t line 2 column 1: tag 'endfor' does not belong to the block opened on line 1");
    refuses("{{ 'abc }}", HONE_ERROR_INPUT, "t line 1 column 4: this string has no end");
    refuses("{{ (1] }}", HONE_ERROR_INPUT, "t line 1 column 6: there is no opening bracket for ]");
    refuses("{# x", HONE_ERROR_INPUT, "t line 1 column 1: this comment has no end: {#");
    refuses("{{ a $ b }}", HONE_ERROR_INPUT,
            "t line 1 column 6: a tag cannot hold this character: $");
    refuses("{{ 99999999999999999999 }}", HONE_ERROR_INPUT,
            "t line 1 column 4: this integer does not fit 64 bits: 99999999999999999999");
    refuses("{{ '\\ud800' }}", HONE_ERROR_INPUT,
            "t line 1 column 4: an escape in this string is not a character");
    refuses("{% set loop = 1 %}", HONE_ERROR_INPUT, "t line 1 column 8: 'loop' cannot be set");
    refuses("{% break %}", HONE_ERROR_INPUT, "t line 1 column 4: 'break' outside of a loop");
}

static void wrong_values_give_the_place(void) {
    refuses("a\n{{ 'x' + 1 }}", HONE_ERROR_INPUT,
            "t line 2 column 8: '+' does not work between str and int");
    refuses("{{ nothing.x }}", HONE_ERROR_INPUT, "t line 1 column 12: 'nothing' is undefined");
    refuses("{{ 1 // 0 }}", HONE_ERROR_INPUT, "t line 1 column 6: division by zero");
    refuses("{{ 9223372036854775807 + 1 }}", HONE_ERROR_INPUT,
            "t line 1 column 24: the result does not fit 64 bits");
    refuses("{{ raise_exception('roles\\nmust alternate') }}", HONE_ERROR_INPUT,
            "t line 1 column 4: the template refuses this conversation: roles must alternate");
    refuses("{{ '\\xe9' | upper }}", HONE_ERROR_UNSUPPORTED,
            "t line 1 column 13: changing the case of letters beyond ASCII is not supported");
    refuses("{{ '%s' % 1 }}", HONE_ERROR_UNSUPPORTED,
            "t line 1 column 9: formatting a string with % is not supported");
    refuses("{{ messages[0].items }}", HONE_ERROR_INPUT,
            "t line 1 column 1: a function cannot be printed");
}

// ---- bounds ------------------------------------------------------------------------------------

static void repeated(const char *before, const char *middle, int times, const char *after) {
    TextBuffer source = {0};
    hone_text_puts(&source, before);
    for (int i = 0; i < times; i++) hone_text_puts(&source, middle);
    hone_text_puts(&source, after);
    render(source.data);
    hone_text_free(&source);
}

static void depth_is_bounded(void) {
    repeated("{{ ", "(", 90, "1");
    CHECK_CONTAINS(result.text, "this tag has no end");
    repeated("{{ ", "(", 200, "1");
    CHECK_CONTAINS(result.text, "brackets are nested too deeply");
    repeated("{{ ", "not ", 5000, "1 }}");
    CHECK_CONTAINS(result.text, "nested more than 100 levels deep");
    repeated("{{ ", "- ", 5000, "1 }}");
    CHECK_CONTAINS(result.text, "nested more than 100 levels deep");
    repeated("", "{% if 1 %}", 5000, "");
    CHECK_CONTAINS(result.text, "nested more than 100 levels deep");
    repeated("{{ 1", " + 1", 400, " }}");
    CHECK_STRING(result.text, "401");
    repeated("{{ 1", " + 1", 5000, " }}");
    CHECK_CONTAINS(result.text, "more than 500 levels deep");
    repeated("{{ a", " | trim", 5000, " }}");
    CHECK_CONTAINS(result.text, "more than 500 levels deep");
    repeated("{% if 0 %}", "{% elif 0 %}", 5000, "{% else %}x{% endif %}");
    CHECK_STRING(result.text, "x");
    render(
        "{% set n = namespace(a=[]) %}{% for i in range(99) %}{% set n.a = [n.a] %}{% endfor %}");
    CHECK_CONTAINS(result.text, "nested more than 50 levels deep");
    render("{% set n = namespace() %}{% set n.n = n %}{{ n.n.n == n }}{{ {'a': n} }}");
    CHECK_CONTAINS(result.text, "a namespace cannot be printed");
}

static void time_and_memory_are_bounded(void) {
    render("{% set r = range(99999) %}{% for a in r %}{% for b in r %}"
           "{% if 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 < 0 %}{% endif %}{% endfor %}{% endfor %}");
    CHECK_INT(result.status, HONE_ERROR_INPUT);
    CHECK_CONTAINS(result.text, "takes more than 10000000 steps");
    render("{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}"
           "{% endfor %}");
    CHECK_INT(result.status, HONE_ERROR_INPUT);
    CHECK_CONTAINS(result.text, "t line 1 column");
    render("{{ 'abcdefgh' * 99999999 }}");
    CHECK_INT(result.status, HONE_ERROR_INPUT);
    render("{% set n = namespace(a=[1]) %}{% for i in range(49) %}{% set n.a = [n.a, n.a] %}"
           "{% endfor %}{{ n.a }}");
    CHECK_INT(result.status, HONE_ERROR_INPUT);
    render("{{ range(200000) | list }}");
    CHECK_CONTAINS(result.text, "range() with more than 100000 items");
}

static void bytes_of_any_kind_pass(void) {
    static const ChatMessage odd[] = {{"user", "\xff\xc3 \xf0\x9f", true, NULL}};
    const char *source = "{{ messages[0].content[1] }}|{{ messages[0].content | length }}\xfe";
    TemplateInput input = {.messages = odd,
                           .count = 1,
                           .add_generation_prompt = false,
                           .bos_token = NULL,
                           .eos_token = NULL};
    render_into(source, strlen(source), &input);
    CHECK_STRING(result.text, "\xc3|5\xfe");
    render_into("a\0b", 3, &input);
    CHECK_INT(result.origin[2], '.');
}

// ---- the reference model's template ------------------------------------------------------------

static char *read_smollm2(void) {
    HoneError err = {0};
    char *source = NULL;
    size_t length = 0;
    CHECK_INT(hone_file_read(HONE_FIXTURES "/templates/smollm2.jinja", &source, &length, &err),
              HONE_OK);
    return source;
}

static void smollm2_renders_with_and_without_a_system_message(void) {
    static const ChatMessage plain[] = {{"user", "Hi", true, NULL},
                                        {"assistant", "Yo", true, NULL}};
    static const ChatMessage system[] = {{"system", "S", true, NULL}, {"user", "Q", true, NULL}};
    char *source = read_smollm2();
    TemplateInput input = {.messages = plain,
                           .count = 2,
                           .add_generation_prompt = false,
                           .bos_token = NULL,
                           .eos_token = NULL};
    render_into(source, strlen(source), &input);
    CHECK_STRING(result.text,
                 "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
                 "Hugging Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
                 "<|im_start|>assistant\nYo<|im_end|>\n");
    CHECK_STRING(strstr(result.origin, "0"), "00.................................11...........");
    input = (TemplateInput){.messages = system, .count = 2, .add_generation_prompt = true};
    render_into(source, strlen(source), &input);
    CHECK_STRING(result.text, "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n"
                              "<|im_start|>assistant\n");
    hone_free(source);
}

// Every occurrence of `old` in a copy of the text. Caller frees with hone_free.
static char *edited(const char *text, const char *old, const char *with) {
    TextBuffer out = {0};
    for (const char *found; (found = strstr(text, old)); text = found + strlen(old)) {
        hone_text_append(&out, text, (size_t)(found - text));
        hone_text_puts(&out, with);
    }
    hone_text_puts(&out, text);
    return out.data;
}

static void an_edited_template_renders_what_it_says(void) {
    static const ChatMessage plain[] = {{"user", "Hi", true, NULL},
                                        {"assistant", "Yo", true, NULL}};
    TemplateInput input = {.messages = plain,
                           .count = 2,
                           .add_generation_prompt = true,
                           .bos_token = NULL,
                           .eos_token = NULL};
    char *source = read_smollm2();
    char *first = edited(source, "<|im_start|>", "[");
    char *second = edited(first,
                          "You are a helpful AI assistant named SmolLM, trained by "
                          "Hugging Face",
                          "Be brief");
    char *third = edited(second, "message['content']", "message['content'] | upper");
    render_into(third, strlen(third), &input);
    CHECK_STRING(result.text, "[system\nBe brief<|im_end|>\n[user\nHI<|im_end|>\n"
                              "[assistant\nYO<|im_end|>\n[assistant\n");
    CHECK_STRING(strstr(result.origin, "0"), "00......................11......................");
    hone_free(source);
    hone_free(first);
    hone_free(second);
    hone_free(third);
}

int main(void) {
    RUN(blocks_take_white_space_as_transformers_does);
    RUN(expressions_have_pythons_meaning);
    RUN(filters_and_methods_are_there);
    RUN(statements_work);
    RUN(macros_work);
    RUN(blocks_of_filters_and_the_time);
    RUN(messages_have_fields);
    RUN(origins_survive_what_templates_do);
    RUN(generation_blocks_mark_what_they_print);
    RUN(what_is_not_there_is_refused_by_name_and_place);
    RUN(wrong_syntax_gives_the_place);
    RUN(wrong_values_give_the_place);
    RUN(depth_is_bounded);
    RUN(time_and_memory_are_bounded);
    RUN(bytes_of_any_kind_pass);
    RUN(smollm2_renders_with_and_without_a_system_message);
    RUN(an_edited_template_renders_what_it_says);
    return check_report();
}
