#!/usr/bin/env python3
"""gpt-oss's published vocabulary, and prompts as its own library makes them. By hand.

    python3 tests/text/compare_harmony.py [--count N] RANKS TEMPLATE RENDER

RANKS is o200k_base.tiktoken, which has to have its published checksum, or a file that contains it, as the shared object
in the Python package semantic-text-splitter does; TEMPLATE is the model's chat template; RENDER is
build/tests/chat/render_chat. Random strings must give the tokens of tiktoken's o200k_harmony, random conversations through
src/chat and src/text those that openai-harmony makes of their messages. Run from the root; needs tiktoken, openai-harmony
and a C compiler.
"""
import argparse
import base64
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile

import samples

SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
URL = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
DATE = "2026-01-31"


def ranks_of(path):
    """The file's text, and token -> rank."""
    data = open(path, "rb").read()
    start = re.compile(rb"IQ== 0\nIg== 1\n")
    for m in start.finditer(data):
        end = re.compile(rb"(?:[A-Za-z0-9+/=]+ \d+\n)+").match(data, m.start()).end()
        text = data[m.start():end]
        if hashlib.sha256(text).hexdigest() == SHA256:
            return text, {base64.b64decode(a): int(b) for a, b in (line.split() for line in text.splitlines())}
    sys.exit(f"{path} has no o200k_base.tiktoken of the published checksum")


def halves(ranks, token):
    """The two parts that are joined last."""
    parts = [token[i:i + 1] for i in range(len(token))]
    while len(parts) > 2:
        i = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], 1 << 30))
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts


def tokenizer_json(ranks, special, pattern):
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in visible]
    text = {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(rest)}
    name = lambda token: "".join(text[b] for b in token)
    added = [{"id": i, "content": s, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for i, s in sorted({i: s for s, i in reversed(special.items())}.items())]  # one has two names
    stages = [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
              {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]
    merges = [[name(p) for p in halves(ranks, t)] for t in ranks if len(t) > 1]
    return {"version": "1.0", "added_tokens": added, "normalizer": None, "post_processor": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": stages}, "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": {name(t): r for t, r in ranks.items()}, "merges": merges, "ignore_merges": False}}


class Chat:
    def __init__(self, render, template):
        self.child = subprocess.Popen([render], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask({"parse": open(template).read()})

    def ask(self, question):
        print(json.dumps(question), file=self.child.stdin, flush=True)
        answer = json.loads(self.child.stdout.readline())
        if "error" in answer:
            sys.exit(answer["error"])
        return answer.get("text")


def conversation(harmony, rng, text):
    """The same for the template and for the library: instructions perhaps, then turns, the last one the user's."""
    effort = rng.choice(["low", "medium", "high"])
    system = (harmony.SystemContent.new().with_reasoning_effort(harmony.ReasoningEffort(effort.capitalize()))
              .with_conversation_start_date(DATE))
    theirs = [harmony.Message.from_role_and_content(harmony.Role.SYSTEM, system)]
    ours = []
    if rng.random() < .5:
        said = text()
        ours.append({"role": "developer", "content": said})
        # The template ends instructions with an empty line.
        content = harmony.DeveloperContent.new().with_instructions(said + "\n\n")
        theirs.append(harmony.Message.from_role_and_content(harmony.Role.DEVELOPER, content))
    for turn in range(2 * rng.randint(0, 3) + 1):
        said = text()
        role = harmony.Role.ASSISTANT if turn % 2 else harmony.Role.USER
        ours.append({"role": role.value, "content": said})
        message = harmony.Message.from_role_and_content(role, said)
        theirs.append(message.with_channel("final") if turn % 2 else message)
    return effort, ours, harmony.Conversation.from_messages(theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("paths", nargs=3)
    args = parser.parse_args()
    if args.count < 4:
        parser.error("--count: wants 4 or more")
    file, ranks = ranks_of(args.paths[0])
    rng, bad, longest = random.Random(1), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for name in (hashlib.sha1(URL.encode()).hexdigest(), "o200k_base.tiktoken"):
            with open(os.path.join(folder, name), "wb") as f:
                f.write(file)
        os.environ |= {"TIKTOKEN_CACHE_DIR": folder, "TIKTOKEN_ENCODINGS_BASE": folder}
        import openai_harmony as harmony
        import tiktoken
        from compare_text import Ours, library
        wanted = tiktoken.get_encoding("o200k_harmony")
        path = os.path.join(folder, "tokenizer.json")
        with open(path, "w") as f:
            json.dump(tokenizer_json(ranks, wanted._special_tokens, wanted._pat_str), f)
        ours = Ours(library(folder), path)
        for i in range(args.count):
            s = rng.choice([samples.sample, samples.confetti])(rng)
            bad += ours.encode(s) != wanted.encode_ordinary(s)
        print(f"{args.count} strings, {bad} differ from tiktoken's o200k_harmony")
        library_, chat, differ = harmony.load_harmony_encoding(harmony.HarmonyEncodingName.HARMONY_GPT_OSS), Chat(*args.paths[:0:-1]), 0
        for i in range(args.count // 4):
            effort, messages, theirs = conversation(harmony, rng, lambda: samples.sample(rng).replace("\0", ""))
            text = chat.ask({"messages": messages, "variables": {"reasoning_effort": effort, "add_generation_prompt": True}, "date": DATE})
            want = library_.render_conversation_for_completion(theirs, harmony.Role.ASSISTANT)
            got = ours.encode(text)
            longest = max(longest, len(want))
            if got != want:
                differ += 1
                if differ <= 2:
                    print(f"ours   {text!r}\ntheirs {library_.decode(want)!r}")
        print(f"{args.count // 4} conversations of up to {longest} tokens, {differ} differ from openai-harmony's")
    sys.exit(1 if bad or differ else 0)


if __name__ == "__main__":
    main()
