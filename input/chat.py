#!/usr/bin/env python3
"""Trains a small chat model that is right where a person can see it: the questions of tasks.py, and
definitions from WordNet. It begins with the weights and the tokenizer of train.py's dictionary model.

    pip install torch numpy tokenizers safetensors h5py
    nohup ./chat.py --start words --out chat --minutes 60 >>chat.log 2>&1 &

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

USER, ASSISTANT = "<|user|>", "<|assistant|>"  # <|end|> ends every turn
HARD = 5 * ["total"] + 3 * ["in_order"]  # are seen more often
# Role tokens stand as themselves: what is put together from a message's parts would be text.
TEMPLATE = ("{{ '<|begin|>' }}{% for m in messages %}"
            "{% if m['role'] == 'assistant' %}{{ '<|assistant|>' }}{% else %}{{ '<|user|>' }}{% endif %}"
            "{{ m['content'] }}{{ '<|end|>' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")


def make_tokenizer(start):
    """The tokenizer of the model that is trained on, with the tokens of the two roles in the places of its
    last two merges, and every digit a token of its own: sums are learned digit by digit."""
    t = json.loads((start / "tokenizer.json").read_text())
    vocab, merges = t["model"]["vocab"], t["model"]["merges"]
    for role in (ASSISTANT, USER):
        left, right = merges.pop()
        place = vocab.pop(left + right)
        vocab[role] = place
        t["added_tokens"].append(t["added_tokens"][0] | {"id": place, "content": role})
    t["added_tokens"].sort(key=lambda token: token["id"])
    t["model"]["vocab"] = dict(sorted(vocab.items(), key=lambda item: item[1]))
    t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\p{N}"
    return train.Tokenizer.from_str(json.dumps(t))


def definition_of(synset, r):
    part, words, definition, _ = synset
    return f"Define {r.choice(words)}, {part}.", definition


def turn(tokenizer, question):
    """A user's turn, and the beginning of the answer."""
    user, assistant = map(tokenizer.token_to_id, (USER, ASSISTANT))
    return [0, user] + tokenizer.encode(question).ids + [1, assistant]


def document(tokenizer, synsets, r, args):
    """Token ids, and how many of them are not learned: a line of the dictionary as train.py has it, or a
    question (a definition, or one of tasks.py that is not held out) with its answer."""
    kind = r.random()
    if synsets and kind < args.lines:
        part, words, definition, examples = r.choice(synsets)
        return [0] + tokenizer.encode(train.line_of(part, r.choice(words), definition, examples)).ids + [1], 1
    if synsets and kind < args.lines + args.definitions:
        question, answer = definition_of(r.choice(synsets), r)
    else:
        question, answer = next(tasks.examples(r.choice(list(tasks.TASKS) + HARD), r, False))
    asked = turn(tokenizer, question)
    return asked + tokenizer.encode(answer).ids + [1], len(asked)


def batches(tokenizer, synsets, r, args):
    """Without end: documents of similar length together, so that little is padding."""
    while True:
        pool = sorted((document(tokenizer, synsets, r, args) for _ in range(16 * args.batch // 32)),
                      key=lambda pair: len(pair[0]))
        rows = [[]]
        for ids, asked in pool:
            ids = ids[:args.longest]
            if rows[-1] and (len(ids) - 1) * (len(rows[-1]) + 1) > args.batch:
                rows.append([])
            rows[-1].append((ids, asked))
        r.shuffle(rows)
        for pairs in rows:
            inputs, targets = train.padded([ids for ids, _ in pairs])
            for row, (_, asked) in enumerate(pairs):
                targets[row, :asked - 1] = -100
            yield inputs, targets


@torch.no_grad()
def answer(model, tokenizer, question, limit=40):
    ids = turn(tokenizer, question)
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
    documents = batches(tokenizer, synsets, random.Random(args.seed * 1000003 + progress["step"]), args)
    before, begin, mean = progress["minutes"], time.monotonic(), None
    next_check = before + args.every
    while progress["minutes"] < args.minutes:
        for group in optimizer.param_groups:
            group["lr"] = train.learning_rate(args, progress["step"], progress["minutes"] / args.minutes)
        with torch.autocast("cpu", torch.bfloat16, enabled=not args.f32):
            loss, _ = model.loss(*next(documents))
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
    parser.add_argument("--start", type=Path, required=True, help="the checkpoint whose weights and tokenizer it begins with")
    parser.add_argument("--out", type=Path, default=Path("chat"))
    parser.add_argument("--minutes", type=float, default=60, help="of training, all runs together")
    parser.add_argument("--every", type=float, default=15, help="minutes between checks")
    parser.add_argument("--ask", type=int, default=20, help="held-out questions of a kind at every check")
    parser.add_argument("--lines", type=float, default=0.2, help="share of dictionary lines in training")
    parser.add_argument("--definitions", type=float, default=0.1, help="share of definitions that are asked for")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--f32", action="store_true", help="no bfloat16 autocast")
    parser.add_argument("--batch", type=int, default=1536, help="tokens of a step")
    parser.add_argument("--longest", type=int, default=96)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=40)
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
        tokenizer = make_tokenizer(args.start)
        train.save_tokenizer(tokenizer, args.out)
        config = json.loads((args.out / "tokenizer_config.json").read_text())
        config["chat_template"] = TEMPLATE
        (args.out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    model = train.load(args.start)
    learn(model.train(), tokenizer, synsets, args)


if __name__ == "__main__":
    main()
