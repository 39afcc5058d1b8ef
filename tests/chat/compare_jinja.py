#!/usr/bin/env python3
"""Compares src/chat/chat.c with Jinja2 in the environment of Hugging Face's apply_chat_template().

    python3 tests/chat/compare_jinja.py [--count N] [--seed S] RENDER TEMPLATE...

RENDER is build/tests/chat/render_chat. Every template is given N random conversations (with system
messages, tools, calls, reasoning, odd white space, control tokens): the text must be equal in every byte,
and where Jinja2 fails, so must we. Needs python3-jinja2. What a template wrote and what a message wrote is
checked too: every character of a marker that only messages contain must be marked.
"""
import argparse
import datetime
import json
import random
import subprocess
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

DATE = datetime.datetime(2026, 1, 31)


class Generation(jinja2.ext.Extension):
    """{% generation %}: a block with its own variables, as transformers compiles it."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("render"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def render(self, context, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = DATE.strftime
    return env


WORDS = ["hello", "world", "a\nb", "  lead", "trail  ", "\ttab", "é", "漢字", "😀", "<|im_end|>", "<think>", "</think>",
         "<tool_call>", "{{ x }}", "{% if %}", "'", '"', "\\", "&<>", "1.5", "", "\n\n", "</think>\n\n", "x" * 30,
         "<tool_response>", "</tool_response>", "<|eot_id|>", "\u2028", "\u00a0"]


class Maker:
    """Random conversations."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def text(self):
        return self.r.choice(["", " ", "\n"]).join(self.r.choice(WORDS) for _ in range(self.r.randrange(6)))

    def value(self, depth=0):
        kind = self.r.randrange(8 if depth < 2 else 6)
        if kind == 0:
            return self.r.choice([0, 1, -7, 10**12])
        if kind == 1:
            return self.r.choice([0.5, 1e20, -1e-7, 3.0, 123456.789])
        if kind == 2:
            return self.r.choice([True, False, None])
        if kind < 6:
            return self.text()
        if kind == 6:
            return [self.value(depth + 1) for _ in range(self.r.randrange(3))]
        return {self.r.choice(["a", "b", "name", "k y"]): self.value(depth + 1) for _ in range(self.r.randrange(3))}

    def call(self):
        arguments = {self.r.choice(["city", "n", "unit"]): self.value() for _ in range(self.r.randrange(3))}
        body = {"name": self.r.choice(["weather", "f"]),
                "arguments": arguments if self.r.random() < 0.7 else json.dumps(arguments)}
        if self.r.random() < 0.8:
            return {"id": self.r.choice(["call_1", "functions.f:0", "a" * 9]), "type": "function", "function": body}
        return body

    def parameters(self):
        kinds = ["string", "integer", "array", "object"]
        return {"type": "object", "required": self.r.choice([[], ["city"]]), "properties": {
            name: {"type": self.r.choice(kinds), "description": self.text()}
            for name in self.r.sample(["city", "n", "unit"], self.r.randrange(3))}}

    def tool(self):
        return {"type": "function", "function": {
            "name": self.r.choice(["weather", "f"]), "description": self.text(), "parameters": self.parameters()}}

    def content(self):
        kind = self.r.random()
        if kind < 0.98:
            return self.text()
        if kind < 0.99:
            return None
        return [{"type": "text", "text": self.text()} for _ in range(self.r.randrange(3))]

    def message(self, role):
        m = {"role": role, "content": self.content()}
        if role == "assistant":
            if self.r.random() < 0.2:
                m["tool_calls"] = [self.call() for _ in range(1 + self.r.randrange(2))]
                if self.r.random() < 0.5:
                    m["content"] = self.r.choice([None, ""])
            if self.r.random() < 0.3:
                m["reasoning_content"] = self.text()
        if role == "tool":
            m["tool_call_id"] = self.r.choice(["call_1", "functions.f:0", "a" * 9])
            m["name"] = "f"
        return m

    def conversation(self):
        roles = ["system"] if self.r.random() < 0.5 else []
        for _ in range(self.r.randrange(4)):
            roles += ["user", "assistant"]
            roles += ["tool", "assistant"] if self.r.random() < 0.3 else []
        roles += ["user"] if self.r.random() < 0.8 else []
        if self.r.random() < 0.1:
            self.r.shuffle(roles)
        roles += ["tool", "tool"] if self.r.random() < 0.05 else []
        variables = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": self.r.random() < 0.7}
        for name in ["enable_thinking", "thinking"]:
            if self.r.random() < 0.4:
                variables[name] = self.r.random() < 0.5
        return {"messages": [self.message(r) for r in roles], "variables": variables, "date": "2026-01-31",
                "tools": [self.tool() for _ in range(1 + self.r.randrange(2))] if self.r.random() < 0.3 else None}


class Ours:
    def __init__(self, program):
        self.p = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, what):
        self.p.stdin.write(json.dumps({k: v for k, v in what.items() if v is not None}) + "\n")
        self.p.stdin.flush()
        return json.loads(self.p.stdout.readline())


def theirs(template, what):
    try:
        return template.render(messages=what["messages"], tools=what["tools"], **what["variables"]), ""
    except (jinja2.exceptions.TemplateError, TypeError, ValueError, AttributeError, KeyError, IndexError) as e:
        return None, f"{type(e).__name__}: {e}"


def compare(ours, env, path, count, seed):
    """How many conversations were rendered by both, refused by both, and differed."""
    source = open(path, newline="").read()
    answer = ours.ask({"parse": source})
    if "error" in answer:
        print(f"{path}:{answer['error']}")
        return 0, 0, 1
    template, maker, counts = env.from_string(source), Maker(seed), [0, 0, 0]
    for _ in range(count):
        what = maker.conversation()
        want, why = theirs(template, what)
        got = ours.ask(what)
        if want == got.get("text"):
            counts[want is None] += 1
            continue
        counts[2] += 1
        if counts[2] == 1:
            print(f"{path}: differs for {json.dumps(what)}\n  wanted {want!r} {why}\n  found  {got}")
    return counts


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--count", type=int, default=200)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("render")
    p.add_argument("templates", nargs="+")
    a = p.parse_args()
    ours, env, failed = Ours(a.render), environment(), 0
    for path in a.templates:
        same, refused, differ = compare(ours, env, path, a.count, a.seed)
        failed += differ > 0 or (same == 0)
        print(f"{path}: {same} equal, {refused} refused by both, {differ} differ")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
