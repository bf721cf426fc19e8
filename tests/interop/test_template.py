# SPDX-License-Identifier: Apache-2.0
"""Chat templates against jinja2, called as transformers calls it: text and byte origins.

    HONE_BINARY=build/release/hone "$(scripts/interop-env)" -m pytest \\
        tests/interop/test_template.py

Where a byte came from is checked without trusting the interpreter: in one of the two passes every
message's content is written in characters that stand nowhere else, so the text itself says it.
"""
import json
import pathlib
import random
import subprocess

import pytest

jinja2 = pytest.importorskip("jinja2")
chat_template_utils = pytest.importorskip("transformers.utils.chat_template_utils")

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "templates"

# ---- templates ---------------------------------------------------------------------------------

TEMPLATES = {
    "macros": """\
{%- macro turn(message, begin='<|turn|>', end=none) -%}
    {%- set text = message.content | trim -%}
    {{- begin ~ message.role ~ '\\n' -}}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}{{- text ~ (end or '<|end|>') -}}{%- endgeneration -%}
    {%- else -%}{{- text ~ (end or '<|end|>') -}}{%- endif -%}
    {{- '\\n' -}}
{%- endmacro -%}
{%- macro depth(n) -%}{{ n }}{% if n > 0 %}{{ depth(n - 1) }}{% endif %}{%- endmacro -%}
{%- filter upper | trim %} header {{ depth(3) }} {% endfilter -%}
{% for message in messages %}{{ turn(message, end='<|eot|>' if loop.last) }}{% endfor %}
{%- if add_generation_prompt %}{{ turn({'role': 'assistant', 'content': ''}, end=' ') | trim }}{% endif %}
""",
    "system_prefix": """\
{% if messages[0]['role'] == 'system' %}
    {% set system_message = messages[0]['content'] | trim + '\\n\\n' %}
    {% set loop_messages = messages[1:] %}
{% else %}
    {% set system_message = '' %}
    {% set loop_messages = messages %}
{% endif %}
{{ bos_token }}
{%- for message in loop_messages -%}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Roles must alternate: user, assistant, user, ...') }}
    {% endif %}
    {% if loop.index0 == 0 %}{% set content = system_message + message['content'] %}
    {% else %}{% set content = message['content'] %}{% endif %}
    {% if message['role'] == 'user' %}
        {{ '[ASK] ' ~ content.strip() ~ ' [/ASK]' }}
    {% elif message['role'] == 'assistant' %}
        {{ ' ' + content | trim + ' ' + eos_token }}
    {% endif %}
{% endfor -%}
""",
    "headers": """\
{# each message below a header #}
{% for message in messages %}
{{- '<|head|>' + message.role + '<|/head|>\\n\\n' + message.content | trim + '<|end|>' -}}
{% endfor %}
{%- if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\\n\\n' }}{%- endif -%}
""",
    "namespace": """\
{%- set ns = namespace(system='', turns=0, last=none) -%}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}
        {%- set ns.system = ns.system ~ message.content -%}
    {%- else -%}
        {%- set ns.turns = ns.turns + 1 -%}
        {%- set ns.last = message -%}
    {%- endif -%}
{%- endfor -%}
turns: {{ ns.turns }}{% if ns.last is not none %} last: {{ ns.last['role'] }}{% endif %}

{% if ns.system %}
### System
{{ ns.system }}
{% endif %}
{% for message in messages if message.role != 'system' %}
### {{ message.role | title }}{{ ' (first)' if loop.first }}{{ ' (last)' if loop.last }}
{{ message.content.rstrip() }}
{% else %}
nothing was said
{% endfor %}
""",
    "thinking": """\
{%- for message in messages %}
  {%- if message.role == 'assistant' and '</think>' in message.content %}
    {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
  {%- else %}
    {%- set content = message.content %}
  {%- endif %}
  {{- '<' ~ message.role ~ '>' }}
  {{- content | replace('<', '&lt;') }}
  {{- '</' + message['role'] + '>\\n' }}
{%- endfor %}
{%- if add_generation_prompt is defined and add_generation_prompt %}<assistant>{% endif %}
""",
    "json": """\
{% for message in messages %}
{{ loop.index }}/{{ loop.length }} {{ message | tojson }}
{{ {'n': loop.index0, 'list': [1, 2.5, none, true], 'text': message.content[:12]} | tojson(indent=2) }}
{% if not loop.last %}{{ '-' * 8 }}{% endif %}
{% endfor %}
""",
    "neighbours": """\
{% for m in messages %}
{% if loop.previtem is defined and loop.previtem.role == m.role %}+{% endif %}
{{ m.role[0] | upper }}{{ loop.revindex }}: {{ m.content }}
{% if loop.nextitem is defined %}{{ loop.nextitem.role }} follows{% endif %}
{% endfor %}
""",
    "blocks": """\
{% set header %}
== {{ messages | length }} messages ==
{% endset %}
{{ header | trim }}
  {% for role, group in [('user', messages | selectattr('role', 'equalto', 'user') | list),
                         ('rest', messages | rejectattr('role', 'equalto', 'user') | list)] %}
{{ role }}: {{ group | map(attribute='content') | join(' | ') }}
  {% endfor %}
{%+ if true %} kept {%+ endif +%}
{% for m in messages %}{% if loop.index > 3 %}{% break %}{% endif %}
{% if m.content == '' %}{% continue %}{% endif %}{{ m.content[::-1] if m.role == 'system' else m.content }}
{% endfor %}
""",
    "first_and_rest": """\
{% set first, rest = messages[0], messages[1:] %}
{{ bos_token ~ first.content }}{% for m in rest %}

{{ '%' ~ m.role.upper() }}
{{ m['content'] | default('none', true) }}{% endfor %}
{% if not rest %}(alone){% endif %}
{%- if messages[-1].role == 'user' and add_generation_prompt %}

%ASSISTANT
{% endif %}
""",
}


def template_names():
    return sorted(TEMPLATES) + ["smollm2", "smollm2-edited"]


def template_source(name):
    if name in TEMPLATES:
        return TEMPLATES[name]
    source = (FIXTURES / "smollm2.jinja").read_text()
    if name == "smollm2-edited":
        source = source.replace("<|im_start|>", "<<").replace("SmolLM", "Nobody")
    return source


# ---- conversations -----------------------------------------------------------------------------

TEXTS = ["Hello", "  leading and trailing \n", "", "two\nlines", "\ttab", "naïve café – “quotes”",
         "你好，世界", "🙂🙃 emoji 👩‍👩‍👧", "<b>tags & 'quotes' \"double\"</b>", "back\\slash \\n",
         "<think>why</think>\n\nbecause", "{{ not }} {% a template %}", "line\r\nend", "x" * 300,
         "\u2003wide\u00a0space\u3000", "a</think>b</think> c", "0", "None", "\x1f unit \x7f"]


def conversations():
    random.seed(7)
    made = []
    for number in range(20):
        turns = random.randint(1, 6)
        roles = ["system"] if number % 3 == 0 else []
        roles += ["user" if turn % 2 == 0 else "assistant" for turn in range(turns)]
        if number % 7 == 6:
            random.shuffle(roles)
        messages = [{"role": role, "content": random.choice(TEXTS)} for role in roles]
        made.append({"messages": messages, "add_generation_prompt": number % 2 == 0,
                     "bos_token": "<s>", "eos_token": "</s>"})
    return made


def marked(conversation):
    """The same conversation with message i's content in characters of a block of its own."""
    copy = json.loads(json.dumps(conversation))
    for i, message in enumerate(copy["messages"]):
        message["content"] = "".join(c if c == " " else chr(0xA000 + 0x40 * i + ord(c) % 0x40)
                                     for c in message["content"])
    return copy


# ---- running both ------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def tool(built):
    return built("tests/template/template_tool")


def ours(tool, tmp_path, source, inputs):
    path = tmp_path / "template.jinja"
    path.write_bytes(source.encode())
    lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in inputs)
    done = subprocess.run([tool, str(path)], input=lines.encode(), stdout=subprocess.PIPE,
                          timeout=60)
    return [json.loads(line) for line in done.stdout.split(b"\n") if line]


def theirs(source, one):
    """The text, or None when the template raises."""
    try:
        compiled = chat_template_utils._compile_jinja_template(source)
        return compiled.render(messages=one["messages"], tools=None, documents=None,
                               **{k: v for k, v in one.items() if k != "messages"})
    except (jinja2.exceptions.TemplateError, TypeError, ValueError, ZeroDivisionError,
            AttributeError, OverflowError, IndexError):
        return None


@pytest.mark.parametrize("name", template_names())
def test_text_is_jinja2s(tool, tmp_path, name):
    source, inputs = template_source(name), conversations()
    results = ours(tool, tmp_path, source, inputs)
    assert len(results) == len(inputs)
    rendered = 0
    for one, result in zip(inputs, results):
        want = theirs(source, one)
        if want is None:
            assert "error" in result, result
            continue
        assert result.get("text") == want, result
        rendered += 1
    assert rendered >= 5


@pytest.mark.parametrize("name", template_names())
def test_origins(tool, tmp_path, name):
    source = template_source(name)
    inputs = [marked(one) for one in conversations()]
    checked = 0
    for one, result in zip(inputs, ours(tool, tmp_path, source, inputs)):
        if "error" in result:
            continue
        at = 0
        assert len(result["origin"]) == len(result["text"].encode())
        for c in result["text"]:
            size = len(c.encode())
            # what a generation block printed is marked besides
            origin = {-3 - o if o <= -2 else o for o in result["origin"][at:at + size]}
            at += size
            assert len(origin) == 1
            if 0xA000 <= ord(c) < 0xC000:
                assert origin == {(ord(c) - 0xA000) // 0x40}
                checked += 1
            elif not c.isspace():
                assert origin == {-1}, (c, result)
    assert checked > 100


# ---- single expressions ------------------------------------------------------------------------

EXPRESSIONS = """
1 + 2 * 3 - 4 // 3 % 2
-7 // 2, -7 % 3, 7 // -2, 7 % -3, 7.5 // 2, -7.5 % 2
1 / 2, 3 / 3, 1.0, 1e20, 1e-7, 1.5e300, 100000000000000.0, 1e16, 123456789.125, 0.1 + 0.2
1_000, 1_0.5, 2e3
'a' 'b' "c", 'it\\'s', "\\x41\\u00e9\\101\\t\\q|"
'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1, 'x'] ~ {'k': 'v'} ~ (1,) ~ ()
'ab' * 3, 3 * 'x', 'a' + 'b'
[1, 2] + [3], (1, 2) + (3,)
1 < 2 < 3, 1 < 3 < 2, 1 == 1.0, 'a' < 'b', 'a' == "a", true == 1, none == none, [1, [2]] == [1, [2]]
1 in [1, 2], 'k' in {'k': 1}, 'ell' in 'hello', 'x' not in 'abc', not 1 in [2]
true and 'x', '' or 'y', not '', 0 or none, 1 and 0, not not 3
1 if true else 2, 1 if false else 2, (1 if false) is defined, 'a' if 0 else 'b' if 0 else 'c'
[1, 2, 3][0], [1, 2, 3][-1], [1, 2, 3][5] is defined, 'héllo'[1], 'abc'[-2], {'a': 1}['a'], {'a': 1}.a
'hello'[1:3], 'hello'[:-1], 'hello'[::-1], 'hello'[::2], 'hello'[-3:], 'hello'[10:], 'hello'[3:1]
[1, 2, 3, 4][1:], [1, 2, 3, 4][::-2], [1, 2, 3][:], (1, 2, 3)[:2], [1, 2, 3][-100:100]
[4, 5].0
'  x '.strip() ~ '|', 'xxaxx'.strip('x'), ' a '.lstrip() ~ '|', ' a '.rstrip() ~ '|', 'abcba'.rstrip('ab')
'a b  c'.split(), 'a,b,,c'.split(','), 'a,b,c'.split(',', 1), ' a b '.split(' '), 'abc'.split('abc')
' a  b c '.split(none, 1), 'a,b,c'.rsplit(',', 1), 'a--b--c'.rsplit('--'), ''.split(), ''.split(',')
'abc'.startswith('ab'), 'abc'.endswith('bc'), 'abc'.startswith(('x', 'a')), 'abc'.endswith('')
"it's a DOG's".title(), "it's a (big) DOG's" | title, 'aBC dEF'.capitalize(), 'aBC' | capitalize
'aBc'.upper(), 'aBc'.lower(), 'aBc' | upper, 'aBc' | lower, 12 | upper
'aXbXc'.replace('X', '--'), 'aXbXc'.replace('X', '', 1), 'aXbXc' | replace('X', 1), 'abc'.replace('x', 'y')
'-'.join(['a', 'b']), ['a', 1, none] | join('-'), 'abc' | join(','), [] | join, [{'n': 1}, {'n': 2}] | join('+', attribute='n')
'banana'.find('na'), 'banana'.find('x'), 'banana'.count('an'), 'ab'.count('')
'prefix-x'.removeprefix('prefix-'), 'x.suffix'.removesuffix('.suffix'), 'x'.removeprefix('y')
{'a': 1, 'b': 2}.items() | list, {'a': 1}.get('a'), {'a': 1}.get('b'), {'a': 1}.get('b', 5), {'a': 1} | items | list
{'a': 1, 'b': 2}.keys() | list, {'a': 1, 'b': 2}.values() | list, {'a': 1, 'a': 2}, {1: 2, none: 3, true: 4}
[1, 2, 3] | length, 'héé' | length, {} | length, undefined_name | length, {'a': 1} | count
[1, 2] | first, [1, 2] | last, 'abc' | first, 'abc' | last, ([] | first) is defined
undefined_name | default('d'), '' | default('d'), '' | default('d', true), none | default('d'), none | d('x', boolean=true), x | d ~ '|'
'abc' | list, {'a': 1} | list, (1, 2) | list, [1, 2] | reverse | list, 'abc' | reverse
'12' | int, 'x' | int, 'x' | int(7), '3.9' | int, 3.9 | int, ' 42 ' | int, -3.9 | int, true | int, '-5' | int, '1e3' | int
'1.5' | float, 'x' | float, 2 | float, 'x' | float(1.5), -3 | abs, -2.5 | abs
1.5 | string ~ 'x', [1] | string, none | string, true | string | length
range(3) | list, range(1, 4) | list, range(5, 0, -2) | list, range(0) | list
undefined_name is defined, messages is defined, undefined_name is undefined, none is none, 1 is none
'a' is string, 1 is string, 1 is number, 1.5 is number, true is number, 1 is integer, true is integer, 1.5 is float, true is boolean, 1 is boolean
{} is mapping, [] is mapping, [] is iterable, 1 is iterable, 'a' is iterable, [] is sequence, {} is sequence, undefined_name is iterable
3 is odd, 3 is even, 9 is divisibleby 3, 9 is divisibleby(2), 1 is in [1, 2], 1 is not in [1, 2], 3 is eq 3, 3 is ne(3), 2 is lt 3, 2 is ge 3
true is true, 1 is true, false is false, none is not none, 1 is equalto 1.0, range is callable, 'x' is callable
[1, 2, 3, 4] | select('odd') | list, [1, 2, 3] | reject('equalto', 2) | list, [0, 1, ''] | select | list, [1, 2, 3] | select('>', 1) | list
messages | selectattr('role', 'equalto', 'user') | list | length, messages | selectattr('nope') | list, messages | rejectattr('nope', 'defined') | list | length
messages | map(attribute='role') | list, messages | map(attribute='nope', default='x') | list, [' a', 'b '] | map('trim') | list, [{'a': {'b': 1}}] | map(attribute='a.b') | list
{'a': [1, 2.5, none, true, 'é"\\\\\\n'], 'b': {}} | tojson, [] | tojson, {'a': [], 'b': [1]} | tojson(indent=2), 'é😀' | tojson(ensure_ascii=true)
{'a': 1, 'b': [1, 2]} | tojson(separators=(',', ':')), {1: 2, none: 3} | tojson, '\\x7f\\x01' | tojson
['it\\'s', "say \\"x\\"", 'both\\' "', 'tab\\t\\n\\\\ é 😀 \\u200b\\u00a0'], [none, true, 1.0, (1,), ('a', 'b')], {'k': ['v']}
messages[0].role, messages[0]['role'], messages[0].nope is defined, (messages | first).role, messages[-1:][0].content
none.x is defined, 1 .x is defined, 'x'.nope is defined, {}.nope is defined
namespace(a=1, b='x').b, dict(a=1, b=2), dict({'z': 1}, a=2), namespace({'q': 5}).q
(1), (1,), 1, 2
-1 | abs, -(1 | abs), +5, - -5, -true
'a' ~ 'b' | upper, ('a' ~ 'b') | upper, 1 + 2 | abs, 'x' in 'xyz' and 'a' not in 'xyz'
'%' ~ 5, '{{' ~ '}}', {'a': {'b': {'c': 1}}}.a.b.c, {'a': {'b': 1}}['a']['b']
undefined_name ~ 'x', undefined_name or 'y', not undefined_name, undefined_name == other_name, undefined_name in [1]
'1' == 1, [1] == (1,), {'a': 1} == {'a': 1.0}, none == false, 'b' > 'a', 2 >= 2.0
loop is defined, messages | length > 1, 'abc'[1:] ~ 'abc'[:1], ('abc' | list)[1:], tools is none, tools is defined
[3, 1, 2] | sort, ['b', 'A', 'c'] | sort, ['b', 'A'] | sort(case_sensitive=true), [1, 3, 2] | sort(reverse=true), [{'k': 2, 'n': 'x'}, {'k': 1, 'n': 'y'}, {'k': 2, 'n': 'z'}] | sort(attribute='k')
{'b': 1, 'A': 2, 'c': 0} | dictsort, {'b': 1, 'A': 2} | dictsort(true), {'b': 1, 'A': 2} | dictsort(by='value'), {'b': 1, 'a': 2} | dictsort(reverse=true)
[3, 1, 2] | min, [3, 1, 2] | max, ['b', 'A'] | min, ['b', 'C'] | max(case_sensitive=true), ([] | max) is defined, [1, 2.5] | max
[1, 2, 1, 1.0, 'a', 'A'] | unique | list, ['a', 'A'] | unique(true) | list, [{'k': 1}, {'k': 1}] | unique(attribute='k') | list
'a\nb\n\nc\n' | indent, 'a\nb' | indent(2, true), 'a\n\nb' | indent('> ', blank=true), '' | indent(3, first=true), 5 | string | indent
'{}-{}'.format(1, 'x'), '{1}{0}'.format('a', 'b'), '{{{}}}'.format([1]), 'plain'.format(), '{0}{0}'.format(none)
(('<a>' | safe) + '&') ~ '|' ~ ('"' + ('b' | safe)) ~ '|' ~ (('<a>' | safe) ~ '&') ~ '|' ~ (('a' | safe) + "b'" + '<')
(messages | map(attribute='role')) is defined, 'y' if messages | selectattr('role', 'equalto', 'nobody'), [1] | map('string') | list
none | selectattr('a') | list, none | map('upper') | list, undefined_name | rejectattr('a') | list, 0 | select | list
messages | selectattr('role') | list | tojson | length > 2, messages | map(attribute='role') | tojson
[1, 2] | map('string') | length
[3, 'a'] | sort
[].append(1)
'{}'.format()
'x' | from_json
unknown_function(1)
'a' if true else ('x' | nothing_like_it)
bos_token ~ eos_token, bos_token | length, add_generation_prompt, (true, false)[0]
1 / 0
'a' + 1
1 + none
undefined_name + 'x'
undefined_name.x
[1] < 'a'
5 | length
'a'.nothing()
none.items()
[1, 2][1:2:0]
raise_exception('no')
1 in 5
'x' in none
1 | join
-'a'
9 % 0
'abc'.startswith(1)
{[1]: 2}
undefined_name | tojson
range(1000000) | list
range(1, 5, 0)
""".strip().split("\n")

STATEMENTS = [
    "{% macro f(a, b=2) %}({{ a }},{{ b }}){% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=1, a=0) }}{{ f() }}",
    "{% macro f(a, b=a) %}{{ b }}{% endmacro %}{{ f(1) }}{% macro g() %}{{ f('x') | upper }}{% endmacro %}{{ g() }}",
    "{% macro f() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ f() }}{% set x = 2 %}{{ f() }}",
    "{% set x = 1 %}{% macro f() %}{% set x = 2 %}{{ x }}{% endmacro %}{{ f() }}{{ x }}",
    "{% set ns = namespace(n=0) %}{% macro f() %}{% set ns.n = ns.n + 1 %}{% endmacro %}{{ f() }}{{ f() }}{{ ns.n }}",
    "{% for i in range(3) %}{% macro f(j) %}{{ j * 2 }}{% endmacro %}{{ f(i) }}{% endfor %}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, a=2) }}",
    "{% macro f() %}{{ 1 if g is defined else 2 }}{{ g() }}{% endmacro %}{% macro g() %}G{% endmacro %}{{ f() }}",
    "{% filter upper %}a{{ 'b' }}{% if 1 %}c{% endif %}{% endfilter %}d{% filter replace('x', 'y') | trim %} x {% endfilter %}",
    "a{% generation %}{% set x = 1 %}b{{ messages[0].role }}{% endgeneration %}c{{ x is defined }}",
    "{% for m in messages | selectattr('role', 'equalto', 'nobody') %}x{% else %}none{% endfor %}",
    "a\n{% if true %}\n  b\n{% endif %}\nc\n",
    "  {% if true %}  x  {% endif %}  \n  y",
    "\t{%- if true -%}  x  {%- endif -%}  \n  y",
    "a  {{- 'b' -}}  c  {{ 'd' }}\n e {#- gone -#} f {# x #}\n g",
    "   {# comment #}\n  {#\n lines #}\n end\n\n",
    "{%+ if true +%}\n x {%+ endif %}\n",
    " {% for i in range(3) %}\n {{ i }}\n {% endfor %}\n",
    "{% for i in [] %}x{% else %}none{% endfor %}",
    "{% for i in range(9) if i is odd %}{{ loop.index }}{{ i }}{{ loop.last }}|{% else %}no{% endfor %}",
    "{% for i in range(5) if i > 7 %}{{ i }}{% else %}no{% endfor %}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for (a, b) in [(1, 2), (3, 4)] %}{{ a + b }},{% endfor %}",
    "{% for c in 'héy' %}[{{ c }}]{% endfor %}{% for k in {'x': 1} %}{{ k }}{% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = 5 %}{{ x }}{% endfor %}{{ x }}",
    "{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set ns = namespace(x=0) %}{% for i in range(4) %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(stop=false) %}{% for i in range(6) if not ns.stop %}{{ i }}{% if i == 2 %}"
    "{% set ns.stop = true %}{% endif %}{% endfor %}",
    "{% for i in range(3) %}{% for j in range(2) %}{{ loop.index }}{{ i }}{{ j }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t = 1, 2 %}{{ t }}",
    "{% set t %} x {{ 1 }} {% endset %}[{{ t }}][{{ t | trim }}]{{ t is string }}",
    "{% if false %}a{% elif none %}b{% elif 1 %}c{% else %}d{% endif %}",
    "{% if x is defined and x %}a{% else %}b{% endif %}",
    "{{ loop }}{% for i in [1] %}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{% endfor %}",
    "{{ '}}' }}{{ \"%}\" }}{{ {'a': {'b': 1}} }}{{ {} }}",
    "{{1}}{{-1}}{{ -1 }}{{+1}}",
    "{{ 'a'\n  ~\t'b' }}\r\nx\ry\r\n",
    "no tags { at } all % # {",
    "",
    "\n",
    "\n\n",
    "{% for m in messages %}{{ m.role }}{% if not loop.last %}, {% endif %}{% endfor %}\n",
    "{% set ns = namespace() %}{{ ns.a is defined }}{% set ns.a = [1] %}{{ ns.a }}{{ ns.b }}",
    "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{% for x in 5 %}{% endfor %}",
    "{% for x in none %}{% endfor %}",
    "{% set x = {'a': 1} %}{% set x.a = 2 %}{{ x }}",
    "{% if 1 %}a\n{%- endif %}\n\n b {%- if 1 %} c{% endif %}",
    "x\n   {%- if 1 %}\n   y\n   {%- endif %}\nz",
    "x\n   {{- 1 }}\n   {{ 2 -}}\n   z\n{{ 3 -}}\n  {% if 1 %}w{% endif %}",
    "{{ 1 -}}\n\n   {% if 1 %}w{% endif %}\n",
    "{#a#}{#b-#}  {#+c+#}\n{#-#}x",
]


def both(tool, tmp_path, source):
    one = conversations()[6]
    return theirs(source, one), ours(tool, tmp_path, source, [one])


def pytest_generate_tests(metafunc):
    if "expression" in metafunc.fixturenames:
        metafunc.parametrize("expression", EXPRESSIONS)
    if "statement" in metafunc.fixturenames:
        metafunc.parametrize("statement", STATEMENTS)


def check(want, results):
    assert len(results) == 1
    if want is None:
        assert "error" in results[0], results[0]
    else:
        assert results[0].get("text") == want, results[0]


def test_expression(tool, tmp_path, expression):
    want, results = both(tool, tmp_path, "{{ " + expression + " }}")
    check(want, results)


def test_statement(tool, tmp_path, statement):
    want, results = both(tool, tmp_path, statement)
    check(want, results)
