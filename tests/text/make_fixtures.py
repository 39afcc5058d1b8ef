#!/usr/bin/env python3
"""Makes the tokenizer fixtures. Needs the tokenizers package; run from the root of the repository:

    python3 tests/text/make_fixtures.py [a DeepSeek-V3 tokenizer.json]

Written to tests/text/fixtures/:
  small.json          a vocabulary of 600 trained here, merges as pairs, DeepSeek-style pre-tokenizer
  small_strings.json  the same tokenizer, merges as strings
  small_ids.json      [text, ids, decoded, decoded without special tokens] of Hugging Face tokenizers
  variants.json       other pre-tokenizers, flags and models on the same vocabulary: parts of a
                      tokenizer.json that replace those of small.json, and [text, ids] pairs
  deepseek_ids.json   [text, ids] with the vocabulary given on the command line (not kept here); left as
                      it is when none is given
"""
import json
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import samples

OUT = "tests/text/fixtures/"
DEEPSEEK = [
    r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""".replace(r"\r\n", "\r\n")
]
LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI = (
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
# What Oniguruma and PCRE2 read differently when it is not rewritten.
PATTERNS = [
    r"\s+", r"\S+", r"\w+", r"\W", r"\d+", r"\D+", r"\h+", r"[^\s]+", r"[\S]", r"[\w']+", r"[^\w]",
    r"\p{Han}+", r"[\p{Hiragana}\p{Katakana}]+", r"\P{L}+", r"\p{^L}", r"[^\p{L}]", r"\p{N}{1,3}+",
    r"\p{N}{,2}", r"a{2,}?", r"[^\r\n\p{L}\p{N}]?+\p{L}++", r"(?:ab)+|c", r"(a|b)*c", r"^.", r".$",
    r"\A.|.\z", r"^", "$", r"(?<=a)b", r"(?<! )a", r"(?=b)", r"", r"a|", r"x*", r"[a-c\-]+",
    r"[-ab]", r"\u0061\x62|\x{4e2d}", r"\v|\t|\f", r"a{b", r"\.\*", "\u4e2d+", r"(?i)the|OF",
    r"(?i:k|s)+", r"(?>a+)b", r"[^a]", r"\p{Sc}|\p{Pd}", r"\p{Zs}", r"\p{Alphabetic}", r"\p{Lo}+",
    r"\p{M}"
]


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(pattern, behavior, invert)


def deepseek_style():
    return pre_tokenizers.Sequence(
        [split(Regex(p))
         for p in DEEPSEEK] + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train():
    rng = random.Random(20250727)
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = deepseek_style()
    t.decoder = decoders.ByteLevel()
    plain = [
        s for s in (samples.natural(rng) for _ in range(4000))
        if not any(a in s for a in samples.ADDED)
    ]
    t.train_from_iterator(
        plain,
        trainers.BpeTrainer(vocab_size=600,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                            special_tokens=["<\uff5cbegin\u2581of\u2581sentence\uff5c>"],
                            show_progress=False))
    for content, special in (("<|EOT|>", True), ("<s>", True), ("<\uff5cUser\uff5c>", False),
                             ("<\uff5cAssistant\uff5c>", False), ("New York", False),
                             ("longlonger", False), ("longlong", True)):
        add = AddedToken(content, special=special, normalized=not special)
        (t.add_special_tokens if special else t.add_tokens)([add])
    return json.loads(t.to_str())


def variants():
    """name, parts that replace those of small.json."""
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False
    }

    def stage(pattern, behavior="Isolated", invert=False, kind="Regex"):
        return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}

    def sequence(*stages, **last):
        return {
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [*stages, {
                    **byte_level,
                    **last
                }]
            }
        }

    def added(i, content, **flags):
        base = {
            "id": i,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": False
        }
        return {**base, **flags}

    yield "gpt2", {"pre_tokenizer": {**byte_level, "use_regex": True}}
    yield "gpt2 prefix", {
        "pre_tokenizer": {
            **byte_level, "use_regex": True,
            "add_prefix_space": True
        }
    }
    yield "no split", {"pre_tokenizer": byte_level}
    yield "prefix behind a split", sequence(stage(r"\n"), add_prefix_space=True)
    yield "llama 3", {**sequence(stage(LLAMA)), "model": {"ignore_merges": True}}
    yield "o200k", sequence(stage(O200K))
    yield "digits", sequence({"type": "Digits", "individual_digits": True}, use_regex=True)
    yield "digit runs", sequence({"type": "Digits", "individual_digits": False})
    for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield "%s %s" % (behavior, invert), sequence(stage(r"[\s.]", behavior, invert))
            yield "%s %s string" % (behavior, invert), sequence(
                stage("a", behavior, invert, "String"))
            yield "%s %s empty" % (behavior, invert), sequence(stage(r"x*|(?=b)", behavior, invert))
    yield "string of specials", sequence(stage(".*[", kind="String"))
    yield "flags", {
        "added_tokens": [
            added(600, "<s>", special=True),
            added(601, "<left>", lstrip=True),
            added(602, "<right>", rstrip=True, special=True),
            added(603, "<both>", lstrip=True, rstrip=True, normalized=True),
            added(604, "word", single_word=True, normalized=True),
            added(605, "New York", normalized=True),
            added(606, "long"),
            added(607, "longlonger"),
            added(608, "  "),
            added(609, "<mark>", single_word=True, lstrip=True, rstrip=True),
            added(166, "\u00e9"),
            added(610, "caf\u00e9", normalized=True)
        ]
    }
    # Words with an "a" cannot be merged any more, and are whole pieces.
    yield "ignore merges", {
        **sequence(stage(LLAMA)), "drop": ["a"],
        "model": {
            "ignore_merges": True
        }
    }
    yield "missing bytes dropped", {"drop": ["a", "\u0120", "\u00e4"]}
    yield "missing bytes unknown", {"drop": ["a", "\u0120", "\u00e4"], "model": {"unk_token": "!"}}
    yield "missing bytes fused", {
        "drop": ["a", "\u0120", "\u00e4"],
        "model": {
            "unk_token": "!",
            "fuse_unk": True
        }
    }
    for p in PATTERNS:
        yield "pattern " + p, sequence(stage(p, "Removed"))
    yield "kimi", sequence(stage(KIMI))


def vary(base, parts):
    """A tokenizer.json from small.json and the parts of a variant; the C test does the same."""
    j = json.loads(json.dumps(base))
    for key, value in parts.items():
        if key == "model":
            j["model"].update(value)
        elif key == "drop":
            for token in value:
                j["model"]["vocab"]["dropped " + token] = j["model"]["vocab"].pop(token)
            j["model"]["merges"] = [
                m for m in j["model"]["merges"] if m[0] not in value and m[1] not in value
            ]
        else:
            j[key] = value
    return j


def dump(name, value):
    with open(OUT + name, "w", encoding="ascii") as f:
        json.dump(value, f, separators=(",", ":"))
        f.write("\n")


def lines(name, rows):
    with open(OUT + name, "w", encoding="ascii") as f:
        f.write("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]\n")


def main():
    rng = random.Random(1)
    texts = samples.FIXED + [samples.sample(rng) for _ in range(100)]
    base = train()
    dump("small.json", base)
    strings = json.loads(json.dumps(base))
    strings["model"]["merges"] = [" ".join(m) for m in base["model"]["merges"]]
    dump("small_strings.json", strings)
    hf = Tokenizer.from_str(json.dumps(base))
    rows = []
    for s in texts:
        ids = hf.encode(s, add_special_tokens=False).ids
        rows.append([s, ids, hf.decode(ids, skip_special_tokens=False), hf.decode(ids)])
    lines("small_ids.json", rows)
    out = []
    for name, parts in variants():
        hf = Tokenizer.from_str(json.dumps(vary(base, parts)))
        some = rng.sample(texts, 24) + [samples.confetti(rng) for _ in range(8)]
        if name == "flags":
            some = texts
        if name.startswith("pattern"):
            some = [samples.EXOTIC] + rng.sample(texts,
                                                 10) + [samples.confetti(rng) for _ in range(6)]
        out.append([name, parts, [[s, hf.encode(s, add_special_tokens=False).ids] for s in some]])
    lines("variants.json", out)
    if len(sys.argv) > 1:
        hf = Tokenizer.from_file(sys.argv[1])
        lines("deepseek_ids.json", [[s, hf.encode(s, add_special_tokens=False).ids] for s in texts])


if __name__ == "__main__":
    main()
