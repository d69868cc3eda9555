"""What `transformers` renders: chat templates of the families, and one line for each thing that templates do.

    python chats.py > chats.json

Each entry has a template, the messages, whether an answer's header is asked for, and the text or that it is refused.
"""

import datetime
import json
import sys
import unittest.mock

from transformers.utils import chat_template_utils

import templates

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def user(text):
    return {"role": "user", "content": text}


def answer(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


TALK = [system("Be brief."), user("It's \"late\" <b>é</b>\n"), answer("Yes.\tI know."), user(" Go on ")]
CHATS = {
    "one": [user("Hi there")],
    "padded": [user("  padded \n")],
    "system": [system("Be brief."), user("Hi")],
    "system_empty": [system(""), user("Hi")],
    "talk": TALK,
    "no_system_talk": TALK[1:],
    "think": [user("Why?"), answer("<think>\nplan\n</think>\n\nSo."), user("And?")],
    "think_last": [user("Why?"), answer("<think>\nplan\n</think>\n\nSo.")],
    "two_users": [user("a"), user("b")],
    "tool_role": [user("a"), {"role": "tool", "content": "b"}],
}

FAMILIES = {name: value for name, value in vars(templates).items() if name.isupper()}
FAMILIES["DATED"] = templates.LLAMA3.replace(
    '{%- set date_string = "26 Jul 2024" %}',
    '{%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}'
    '{%- set date_string = "26 Jul 2024" %}{%- endif %}',
)
FAMILIES["MARKED"] = (
    "{%- for m in messages %}\n{%- if m.role == 'assistant' %}<a>{% generation %}{{ m.content }}</a>{% endgeneration %}\n"
    "{%- else %}<{{ m.role }}>{{ m.content }}\n{% endif %}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}<a>{%- endif %}"
)

LINES = r"""
{{ messages }}
{{ messages[0] }}|{{ messages[0].keys() | list }}
{{ ['a', 1, none, true, 1.0, "it's", 'q"q', 'b\\n', '\n'] }}
{{ {'a': "it's", 'b': [1, {'c': none}], 1: 'x'} }}
{{ ('a', 1) }}|{{ () }}|{{ [] }}|{{ {} }}
{{ 'a' ~ none ~ true ~ 1.0 ~ 2 ~ ['x'] }}
{{ 1 ~ 2 }}{{ '1' + '2' }}
{{ '%s-%d' % ('a', 3) }}
{{ '%s' % 'x' }}
{{ "%s and %s" | format('a', 'b') }}
{{ 1.5 }} {{ 1.0 }} {{ 0.1 + 0.2 }} {{ 1e20 }} {{ 1e-7 }} {{ 123456789012345678 }} {{ 1e16 }} {{ 1e15 }} {{ -0.0 }}
{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 7.5 // 2 }} {{ 2 ** -1 }}
{{ 1 < 2 < 3 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ true == 1 }} {{ none == false }}
{{ 'a' * 3 }} {{ [1] * 2 }} {{ [1] + [2] }} {{ (1,) + (2,) }}
{{ nothing }}|{{ nothing is defined }}|{{ nothing | default('d') }}|{{ '' | default('d') }}|{{ '' | default('d', true) }}
{{ nothing.foo }}
{{ nothing['foo'] }}
{{ none.foo }}|
{{ messages[0].nothing }}|{{ messages[0]['nothing'] | default('x') }}|{{ messages[9] }}|{{ messages[-1].role }}
{{ messages[0].nothing.more }}
{{ 'a' + nothing }}
{{ 'a' + 1 }}
{{ 'a' + none }}
{{ 1 + true }}
{{ nothing ~ 'a' }}
{{ nothing + 'a' }}
{{ 'a' in nothing }}
{{ nothing | length }}|{{ nothing | list }}
{% for x in nothing %}x{% else %}none{% endfor %}
{{ nothing() }}
{{ messages.nothing() }}
{{ 'yes' if messages[5] else 'no' }}|{{ 'x' if false }}|
{{ '' and 'x' }}|{{ '' or 'x' }}|{{ 'a' and 'b' }}|{{ 0 or none }}|{{ not 'x' }}|{{ not nothing }}
{{ 'abc'[1] }}{{ 'abc'[-1] }}{{ 'abc'[::-1] }}{{ 'abcdef'[1:4] }}{{ 'abcdef'[::2] }}{{ [1, 2, 3, 4][::-2] }}{{ 'é😀x'[1] }}
{{ messages[1:] | length }}{{ messages[:-1] | map(attribute='role') | list }}{{ messages[::-1][0].role }}
{{ 'a' in 'abc' }} {{ 'a' in ['a'] }} {{ 'role' in messages[0] }} {{ 'x' not in messages[0] }} {{ 1 in {1: 2} }}
{{ messages | map(attribute='content') | join('|') }}
{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | map('trim') | list }}
{{ messages | rejectattr('role', 'eq', 'user') | list | length }}{{ messages | selectattr('content') | list | length }}
{{ messages | selectattr('role', 'in', ['user', 'system']) | list | length }}
{{ (messages | first).role }}{{ (messages | last).role }}{{ messages | length }}{{ messages | count }}
{% for k, v in messages[0].items() %}{{ loop.index }}{{ k }}={{ v }};{% endfor %}
{% for k, v in messages[0] | items %}{{ k }}{% endfor %}{% for k, v in {'b': 1, 'a': 2} | dictsort %}{{ k }}{{ v }}{% endfor %}
{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.depth }}{{ loop.cycle('a', 'b') }}{{ loop.previtem.role if loop.previtem is defined }}{{ loop.nextitem.role if not loop.last }};{% endfor %}
{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ loop.length }}{{ m.content }}{% else %}none{% endfor %}
{% for m in messages %}{% if loop.changed(m.role) %}{{ m.role }}{% endif %}{% endfor %}
{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in range(3, 9, 2) %}{{ x }}{% endfor %}{% for x in range(3)[::-1] %}{{ x }}{% endfor %}{{ range(3) | list }}
{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 9 %}{% endif %}{{ x }}
{% set ns = namespace(a=1, b='') %}{% for i in [1, 2] %}{% set ns.a = ns.a + i %}{% set ns.b = ns.b ~ i %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}
{% set ns = namespace({'a': 1}) %}{{ ns.a }}{{ ns['a'] }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set x %}block {{ a }}{% endset %}{{ x }}{% set y | upper %}abc{% endset %}{{ y }}
{% macro f(x, y=2, z='k') %}[{{ x }}{{ y }}{{ z }}]{% endmacro %}{{ f(1) }}{{ f(1, z=3) }}{{ f(x=5) }}{{ f() }}
{% macro f(x) %}{{ x }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, a=3) }}
{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}in{% endcall %}
{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}|{{ f(2) | upper }}|{{ f(1) | trim | length }}
{% macro f(m) -%}   {{ m.role }} {%- endmacro %}{% for m in messages %}{{ f(m) }}{% endfor %}
{% filter upper %}abc{% endfilter %}{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}{% raw %}{{ x }}{% endraw %}
{% for x in [[1, [2, [3]]]] recursive %}{% for y in x %}{{ y }}{% endfor %}{% endfor %}
{{ 1 is number }}{{ 1 is integer }}{{ 1.0 is float }}{{ 'a' is string }}{{ [] is sequence }}{{ 'a' is sequence }}{{ {} is mapping }}{{ 'a' is iterable }}{{ true is boolean }}{{ true is true }}{{ 1 is true }}{{ none is none }}{{ true is number }}{{ true is integer }}
{{ 4 is divisibleby 2 }}{{ 4 is odd }}{{ 4 is even }}{{ 1 is eq 1 }}{{ 1 is sameas 1 }}{{ 'a' is in 'abc' }}{{ 'a' is lower }}{{ 'A' is upper }}{{ nothing is undefined }}{{ messages is iterable }}{{ messages[0] is iterable }}{{ 3 is gt 2 }}{{ 3 is ge(3) }}{{ 3 is lt 2 }}{{ 3 is ne 2 }}
{{ ' a b ' | trim }}|{{ 'xxaxx' | trim('x') }}|{{ 'abc' | upper }}|{{ 'ABC' | lower }}|{{ 'hello wORLD it\'s' | title }}|{{ 'hELLO' | capitalize }}
{{ 'a-b' | replace('-', '+') }}|{{ 'aaa' | replace('a', 'b', 2) }}|{{ 'abc' | reverse }}|{{ [1, 2] | reverse | list }}|{{ 'abc' | list }}
{{ 3.7 | int }}|{{ '12' | int }}|{{ 'x' | int }}|{{ '3.5' | float }}|{{ 3.14159 | round(2) }}|{{ 2.5 | round }}|{{ 3 | abs }}|{{ -3 | abs }}|{{ 3 | string }}|{{ 2.7 | round(0, 'floor') }}
{{ [3, 1, 2] | sort }}|{{ ['b', 'A', 'c'] | sort }}|{{ [3, 1, 2] | sort(reverse=true) }}|{{ [3, 1, 2] | max }}|{{ [3, 1, 2] | min }}|{{ [3, 1, 2] | sum }}|{{ [1, 1, 2] | unique | list }}
{{ messages | groupby('role') | map('first') | list }}|{{ [1, 2, 3, 4, 5] | batch(2) | list }}|{{ [1, 2, 3] | slice(2) | list }}
{{ 'a b c' | wordcount }}
{{ 'a\nb' | indent(2) }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent }}
{{ '<a&"' | escape }}|{{ '<a>' | e }}|{{ '<a>' | safe }}
{{ [1, none, 2] | select | list }}|{{ [1, 2, 3] | select('odd') | list }}|{{ [1, 2, 3] | reject('odd') | list }}|{{ [['a', 1]] | map(attribute=0) | list }}|{{ [{'a': {'b': 5}}] | map(attribute='a.b') | list }}|{{ [{}] | map(attribute='a', default='z') | list }}
{{ messages[0] | tojson }}|{{ messages[:1] | tojson(indent=2) }}|{{ {'b': 1, 'a': 'é<>&\u007f/\'"\\'} | tojson }}|{{ 1.0 | tojson }}{{ none | tojson }}{{ true | tojson }}{{ [] | tojson }}{{ {} | tojson(indent=4) }}|{{ 1e20 | tojson }}
{{ {'b': 1, 'a': [1, 2]} | tojson(sort_keys=true, separators=(',', ':')) }}|{{ 'é😀' | tojson(ensure_ascii=true) }}|{{ [1, [2]] | tojson(indent=1) }}|{{ 'x' | tojson(ensure_ascii=false) }}
{{ 'a,b,c'.split(',') }}|{{ ' a  b '.split() }}|{{ 'a,b,c'.split(',', 1) }}|{{ 'a,b,c'.rsplit(',', 1) }}|{{ 'a b'.split(' ')[-1] }}|{{ 'x'.split('</think>')[-1] }}
{{ 'a=b=c'.partition('=') }}|{{ 'a=b=c'.rpartition('=') }}|{{ 'abc'.removeprefix('a') }}|{{ 'abc'.removesuffix('c') }}|{{ '7'.zfill(3) }}|{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '.') }}|{{ 'a'.center(4) }}
{{ ' x '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ '\n\na\n'.lstrip('\n') }}|{{ 'a\n'.rstrip('\n') }}|{{ 'abc'.startswith('a') }}|{{ 'abc'.startswith(('x', 'a')) }}|{{ 'abc'.endswith('c') }}|{{ 'abc'.find('c') }}|{{ 'abc'.find('z') }}|{{ 'abc'.index('b') }}|{{ 'aXb'.swapcase() }}
{{ 'abc'.replace('b', 'x') }}|{{ 'aaa'.replace('a', 'b', 1) }}|{{ 'abcabc'.count('b') }}|{{ '-'.join(['a', 'b']) }}|{{ 'abc'.upper() }}|{{ 'hello world'.title() }}|{{ 'hELLO'.capitalize() }}|{{ 'a\nb'.splitlines() }}|{{ 'ABC'.lower() }}
{{ 'a{}b{}'.format(1, 'x') }}|{{ '{a}-{b}'.format(a=1, b=2) }}|{{ '{0}{1}{0}'.format('a', 'b') }}|{{ '12'.isdigit() }}|{{ 'ab'.isalpha() }}|{{ ' '.isspace() }}|{{ 'a1'.isalnum() }}|{{ '1'.isdecimal() }}|{{ '1'.isnumeric() }}
{{ messages[0].get('role') }}|{{ messages[0].get('x') }}|{{ messages[0].get('x', 'd') }}|{{ messages[0].values() | list }}|{{ messages[0].items() | list }}|{{ messages[0].copy() }}
{{ [1, 2, 2].count(2) }}|{{ [1, 2].index(2) }}|{{ [1, 2].copy() }}
{{ [1].append(2) }}
{{ messages[0].update({'a': 1}) }}
{{ messages[0].pop('role') }}
{{ dict(a=1, b=2) }}|{{ dict({'x': 1}, y=2) }}
{{ dict([('a', 1)]) }}
{% set j = joiner(', ') %}{{ j() }}a{{ j() }}b|{% set c = cycler('x', 'y') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}
{{ strftime_now('%Y-%m-%d %H:%M:%S %j %a %A %b %B %y %I %p %U %%') }}
{{ strftime_now('%d %B %Y') }}|{{ strftime_now('%e') }}|{{ strftime_now('%-d') }}|{{ strftime_now('%c') }}|{{ strftime_now('%x %X') }}|{{ strftime_now('%D %T %R') }}
{{ raise_exception('no: ' ~ messages[0].role) }}
{# comment #}a{#- c -#} b {# x #}
{{- 'a' -}}  b  {{- 'c' }}
a {%- if true -%} b {%- endif -%} c
  {% if true %}  a{% endif %}  b
  {%+ if true %}a{%+ endif +%} b
{{ "double \"quoted\"" }}{{ 'single \'quoted\'' }}{{ 'é\u00e9\x41\t|' }}{{ '\\' }}
{{ 'a' 'b' }}
{{ 1_000 }}{{ 0x10 }}{{ 1.5e3 }}
{{ true }}{{ True }}{{ false }}{{ False }}{{ none }}{{ None }}
{{ messages[0]['content'] | trim | length > 3 }}{{ (messages[0].content | trim)[:2] }}
{{ tools }}{{ documents }}{{ tools is none }}{{ tools is defined }}{{ add_generation_prompt }}{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ unk_token }}
{{ messages[0].content is string and messages[0].content is not mapping }}
{% if messages[0]['role'] == 'system' and messages | length > 1 %}y{% elif not messages %}n{% else %}o{% endif %}
{{ 'a' if messages[0].role != 'user' else 'b' if true else 'c' }}
{% set loop_messages = messages[1:] if messages[0].role == 'system' else messages %}{{ loop_messages | length }}
{% set content %}{{ messages[0].content }}{% endset %}{{ content | upper }}{{ content is string }}
{% set x = [] %}{% set x = x + ['a'] %}{% set x = x + ['b'] %}{{ x | join }}{{ x | length }}
{% set d = {'a': 1} %}{% for k in d %}{{ k }}{{ d[k] }}{% endfor %}{{ d | length }}{{ d.a }}{{ d['a'] }}
{{ messages | map(attribute='role') | unique | sort | join(',') }}{{ messages | tojson | length }}
{{ 'x' | default(none) }}{{ none | default('d') }}{{ none | default('d', true) }}
{{ {'a': 1}.items() | list | first }}{{ {'a': 1} == {'a': 1} }}{{ [1, 2] == [1, 2] }}{{ (1, 2) == (1, 2) }}
{% autoescape true %}{{ '<a>' }}{% endautoescape %}
{% do messages.append(1) %}
{% include 'x' %}
{{ caller is defined }}{{ loop is defined }}{{ namespace is defined }}{{ strftime_now is defined }}{{ raise_exception is defined }}
{{ 'abc' | first }}{{ 'abc' | last }}{{ [1, 2] | first }}{{ [] | first }}|{{ [] | last }}
{{ ''.join(messages | map(attribute='role')) }}|{{ messages | map(attribute='role') | list | tojson }}
{{ 'Ünïcode'.upper() }}{{ 'İ'.lower() }}{{ 'ǆ' | title }}{{ 'straße' | upper }}
{{ 10 // 3 * 3 + 10 % 3 }}{{ -2 ** 2 }}{{ (1 + 2) * 3 - 4 / 2 }}{{ - 1 }}
{{ +1 }}
{{ 99999999999999999999 }}{{ 9007199254740993 * 3 }}{{ 1 / 3 }}{{ 100000 * 100000 * 100000 * 100000 }}
{{ 1 / 0 }}
{{ [1, 2, 3][1:] }}{{ [1, 2, 3][-2:] }}{{ 'abc'[5:] }}{{ [1][5:] }}{{ [1, 2, 3][:5] }}
{{ messages[0]['role'].title() ~ ': ' ~ messages[0].content }}
{% for m in messages | reverse %}{{ m.role[0] }}{% endfor %}{% for m in messages | list %}{{ loop.index }}{% endfor %}
{% for a, b in [[1, 2], [3, 4]] %}{{ a }}{{ b }}{% endfor %}{% for i in 'abc' %}{{ i }},{% endfor %}
{% for m in messages %}{% for c in m.content if c == 'e' %}{{ c }}{{ loop.index }}{{ m.role[0] }}{% endfor %}{% endfor %}
{% for m in messages %}{% set outer = loop %}{% for x in [1, 2] %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}
"""
MULTI = [
    "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "a\n  {% if true %}\n  b\n  {% endif %}\n  c\n\n",
    "{% for m in messages %}\n    {{ m.role }}\n{% endfor %}\n",
    "{%- for m in messages -%}\n    {{- m.role -}}\n{%- endfor -%}\n",
    "a\n{# comment #}\nb\n\t{# c #}\nd {# e #}\nf",
    "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\nc\r\n",
    "{{ 'a' }}\n{{ 'b' }}\n\n{{ 'c' }}\n",
    "x {% if true %} y\n{% endif %} z\n  {%+ if true %} w\n  {% endif %}\nend",
    "{% set x %}\n  a\n{% endset %}[{{ x }}]\n",
    "{% macro f(a) %}\n  <{{ a }}>\n{% endmacro %}\n{{ f(1) }}\n{{ f(2) }}",
    "{% raw %}\n {{ a }}\n{% endraw %}\nb",
    "a{% generation %}\n b\n{% endgeneration %}\nc",
    "a{%- generation -%}\n b\n{%- endgeneration -%}\nc",
    "{% for m in messages %}{%- generation %}{% if m.role == 'user' %}u{% else %}o{% endif %}{% endgeneration %}{% endfor %}",
    "{{ '{% generation %}' }}{# {% generation %} #}b",
    "\n\n{{ 'a' }}",
    "   {{ 'a' }}   {% if true %}   b{% endif %}",
    "{% if true -%}\n\n  a\n\n{%- endif %}\n\n  b",
    "a\n\n\n",
    "a",
    "",
    "{{ 'a\nb' }}\n",
    "\u00a0{% if true %}x{% endif %}\u00a0\n",
]


def rendered(template, messages, ask):
    try:
        return {"rendered": chat_template_utils.render_jinja_template(
            [messages], chat_template=template, add_generation_prompt=ask, **SPECIAL)[0][0]}
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"[:120]}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


with unittest.mock.patch.object(chat_template_utils, "datetime", Clock):
    out = {"templates": FAMILIES, "chats": CHATS, "rendered": [], "lines": []}
    for name, template in FAMILIES.items():
        for chat, messages in CHATS.items():
            for ask in (True, False):
                out["rendered"].append({"template": name, "chat": chat, "ask": ask, **rendered(template, messages, ask)})
    for line in LINES.strip("\n").split("\n") + MULTI:
        out["lines"].append({"template": line, **rendered(line, TALK, True)})
json.dump(out, sys.stdout, ensure_ascii=False, indent=0)
print()
