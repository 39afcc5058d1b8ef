#!/usr/bin/env python3
"""Trains a small chat model that is right where a person can see it: the questions of tasks.py, and
definitions from WordNet. The same architecture and size as train.py's; a chat template and an
end-of-turn token of its own.

    pip install torch numpy tokenizers safetensors h5py
    nohup nice -n 19 ./chat.py --out chat --minutes 600 >>chat.log 2>&1 &

trains in the background. The same command goes on where it was: weights, optimizer and the time that has
passed are in OUT/state.pt. At every check OUT is a checkpoint that `tandem` reads, and the log has the
share of held-out questions that are answered right, by kind.
"""
import argparse
import json
import random
import time
from pathlib import Path

import torch

import tasks
import train

USER, ASSISTANT = "<|user|>", "<|assistant|>"  # token ids 2 and 3; <|end|> ends every turn
# Role tokens stand as themselves: what is put together from a message's parts would be text.
TEMPLATE = ("{{ '<|begin|>' }}{% for m in messages %}"
            "{% if m['role'] == 'assistant' %}{{ '<|assistant|>' }}{% else %}{{ '<|user|>' }}{% endif %}"
            "{{ m['content'] }}{{ '<|end|>' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")


def make_tokenizer(lines):
    """train.py's, with the tokens of the two roles behind its own two."""
    t = train.Tokenizer(train.models.BPE())
    t.pre_tokenizer = train.pre_tokenizers.Sequence(
        [train.pre_tokenizers.Split(train.Regex(s), "isolated") for s in train.SPLITS]
        + [train.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = train.decoders.ByteLevel()
    t.post_processor = train.processors.ByteLevel(trim_offsets=False)
    t.train_from_iterator(lines, train.trainers.BpeTrainer(
        vocab_size=train.CONFIG["vocab_size"], special_tokens=[train.BEGIN, train.END, USER, ASSISTANT],
        show_progress=False, initial_alphabet=train.pre_tokenizers.ByteLevel.alphabet()))
    return t


def definition_of(synset, r):
    part, words, definition, _ = synset
    return f"Define {r.choice(words)}, {part}.", definition


def sample(synsets, r, shares):
    """A question and its answer: a definition, or one of tasks.py that is not held out."""
    if synsets and r.random() < shares:
        return definition_of(r.choice(synsets), r)
    return next(tasks.examples(r.choice(list(tasks.TASKS)), r, False))


def document(tokenizer, question, answer):
    """Token ids, and how many of them are the question's: those are not learned."""
    asked = [0, 2] + tokenizer.encode(question).ids + [1, 3]
    return asked + tokenizer.encode(answer).ids + [1], len(asked)


def batch(tokenizer, synsets, r, args):
    pairs, width = [], 0
    while True:
        ids, asked = document(tokenizer, *sample(synsets, r, args.definitions))
        ids = ids[:args.longest]
        width = max(width, len(ids) - 1)
        if pairs and width * (len(pairs) + 1) > args.batch:
            break
        pairs.append((ids, asked))
    inputs, targets = train.padded([ids for ids, _ in pairs])
    for row, (_, asked) in enumerate(pairs):
        targets[row, :asked - 1] = -100
    return inputs, targets


@torch.no_grad()
def answer(model, tokenizer, question, limit=40):
    ids = [0, 2] + tokenizer.encode(question).ids + [1, 3]
    start = len(ids)
    while len(ids) < start + limit:
        token = int(model.lm_head(model.model(torch.tensor([ids]))[0, -1]).argmax())
        if token == 1:
            break
        ids.append(token)
    return tokenizer.decode(ids[start:])


def score(model, tokenizer, count):
    """Of held-out questions, how many of a kind are answered right."""
    model.eval()
    r, right = random.Random(12), {}
    for task in tasks.TASKS:
        asked = [pair for _, pair in zip(range(count), tasks.examples(task, r, True))]
        right[task] = sum(tasks.is_right(a, answer(model, tokenizer, q)) for q, a in asked)
    model.train()
    return right


def save(model, optimizer, progress, out):
    train.export(model, out)
    new = out / "state.new"
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "progress": progress}, new)
    new.rename(out / "state.pt")


def learn(model, tokenizer, synsets, args):
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=args.decay)
    progress = {"minutes": 0.0, "step": 0}
    if (args.out / "state.pt").exists():
        state = torch.load(args.out / "state.pt", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        progress = state["progress"]
        print(f"goes on at step {progress['step']}, minute {progress['minutes']:.1f}", flush=True)
    r = random.Random(args.seed * 1000003 + progress["step"])
    before, begin, mean = progress["minutes"], time.monotonic(), None
    next_check = before + args.every
    while progress["minutes"] < args.minutes:
        for group in optimizer.param_groups:
            group["lr"] = train.learning_rate(args, progress["step"], progress["minutes"] / args.minutes)
        with torch.autocast("cpu", torch.bfloat16, enabled=not args.f32):
            loss, _ = model.loss(*batch(tokenizer, synsets, r, args))
            balance = sum(m.balance for m in model.moes())
        optimizer.zero_grad()
        (loss + args.balance * balance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        progress["step"] += 1
        progress["minutes"] = before + (time.monotonic() - begin) / 60
        mean = loss.item() if mean is None else 0.99 * mean + 0.01 * loss.item()
        if progress["step"] % 50 == 0:
            print(f"{progress['minutes']:7.1f} min  step {progress['step']}  loss {mean:.3f}", flush=True)
        if progress["minutes"] >= next_check or progress["minutes"] >= args.minutes:
            next_check = progress["minutes"] + args.every
            save(model, optimizer, progress, args.out)
            print(f"right of {args.ask}:", score(model, tokenizer, args.ask), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wordnet", default="/usr/share/wordnet", help="folder of data.noun and so on; none: no definitions")
    parser.add_argument("--out", type=Path, default=Path("chat"))
    parser.add_argument("--minutes", type=float, default=600, help="of training, all runs together")
    parser.add_argument("--every", type=float, default=15, help="minutes between checks")
    parser.add_argument("--ask", type=int, default=20, help="held-out questions of a kind at every check")
    parser.add_argument("--definitions", type=float, default=0.3, help="share of them in training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--f32", action="store_true", help="no bfloat16 autocast")
    parser.add_argument("--batch", type=int, default=4096, help="tokens of a step")
    parser.add_argument("--longest", type=int, default=96)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--decay", type=float, default=0.1)
    parser.add_argument("--balance", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    synsets = []
    if (Path(args.wordnet) / "data.noun").exists():
        synsets, _ = train.split_synsets(train.read_synsets(args.wordnet), 2500, 3)
    file = args.out / "tokenizer.json"
    if file.exists():
        tokenizer = train.Tokenizer.from_file(str(file))
    else:
        r = random.Random(args.seed)
        tokenizer = make_tokenizer(" ".join(sample(synsets, r, 0.5)) for _ in range(200000))
        train.save_tokenizer(tokenizer, args.out)
        config = json.loads((args.out / "tokenizer_config.json").read_text())
        config["chat_template"] = TEMPLATE
        (args.out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    model = train.Model(train.CONFIG | {"vocab_size": tokenizer.get_vocab_size()})
    learn(model.train(), tokenizer, synsets, args)


if __name__ == "__main__":
    main()
