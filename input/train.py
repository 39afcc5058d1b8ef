#!/usr/bin/env python3
"""Trains the demonstration model in demo/ and writes the prompts in prompts.h5.

The model is a small Step-3 (multi-matrix factorization attention and a coarse mixture of
experts) that has learned to write dictionary definitions. One document is one line,

    harbor, noun: a sheltered port where ships can take on or discharge cargo

between the tokens <|begin|> and <|end|>. The lines come from WordNet 3.0; Debian's package
wordnet-base puts its data files where --wordnet looks by default.

    pip install torch numpy tokenizers safetensors h5py
    ./train.py --out demo --prompts prompts.h5 --minutes 95      train
    ./train.py --evaluate demo                                   held-out loss and samples of a checkpoint

Runs on a CPU. bfloat16 autocast is several times faster than float32 where the CPU has AVX512-BF16
or AMX (--f32 turns it off). With glibc, this keeps freed memory and saves a third of the time:

    export MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184
"""
import argparse
import json
import math
import random
import re
import time
from pathlib import Path

import h5py
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

BEGIN, END = "<|begin|>", "<|end|>"  # token ids 0 and 1

CONFIG = {
    "architectures": ["Step3TextForCausalLM"],
    "model_type": "step3_text",
    "bos_token_id": 0,
    "eos_token_id": 1,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_attention_groups": 1,
    "head_dim": 64,
    "share_q_dim": 128,
    "moe_layers_enum": "1,2,3,4",
    "moe_num_experts": 8,
    "moe_top_k": 3,
    "moe_intermediate_size": 128,
    "share_expert_dim": 128,
    "norm_expert_weight": False,
    "max_seq_len": 512,
    "max_position_embedding": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 4096,
}


# ---- text: WordNet to lines -----------------------------------------------------------------

PARTS = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}


def read_synsets(folder):
    """[(part of speech, [words], definition, [examples])], in file order.

    Leaves out instances (people, places, battles): their definitions are facts that a model
    of this size could only make up.
    """
    synsets = []
    for suffix, part in PARTS.items():
        for line in open(Path(folder) / f"data.{suffix}", encoding="latin-1"):
            if line.startswith("  "):  # the licence
                continue
            head, gloss = line.rstrip().split(" | ", 1)
            fields = head.split(" ")
            count = int(fields[3], 16)
            pointers = fields[4 + 2 * count + 1:]
            if "@i" in pointers:
                continue
            words = [re.sub(r"\(\w+\)$", "", w).replace("_", " ") for w in fields[4:4 + 2 * count:2]]
            pieces = re.split(r';\s*(?=")', gloss.strip())
            definition = pieces[0].strip(" ;:")
            if definition.startswith('"') or not definition:
                continue
            examples = [p.strip(" ;") for p in pieces[1:] if re.fullmatch(r'"[^"]+"', p.strip(" ;"))]
            synsets.append((part, list(dict.fromkeys(words)), definition, examples))
    return synsets


def line_of(part, word, definition, examples):
    """One line of text; an example is kept where it uses the word."""
    stem = word.lower()[:max(3, len(word) - 2)]
    fitting = [e for e in examples if stem in e.lower()]
    return f"{word}, {part}: {definition}" + "".join(f"; {e}" for e in fitting[:1])


def split_synsets(synsets, count, seed):
    """Training and held-out synsets. A word of a held-out synset heads no training line."""
    held_ids = set(random.Random(seed).sample(range(len(synsets)), count))
    held = [s for i, s in enumerate(synsets) if i in held_ids]
    held_words = {w.lower() for s in held for w in s[1]}
    train = []
    for i, (part, words, definition, examples) in enumerate(synsets):
        words = [w for w in words if w.lower() not in held_words]
        if i not in held_ids and words:
            train.append((part, words, definition, examples))
    return train, held


# ---- prompts --------------------------------------------------------------------------------

def make_prompts(path, folder, held, count, seed):
    """Held-out words in common use: every second prompt also has the definition's first words."""
    common = {line.split("%")[0] for line in open(Path(folder) / "cntlist.rev", encoding="latin-1")}
    candidates = {}
    for part, words, definition, _ in held:
        for word in words[:1]:
            if re.fullmatch(r"[a-z]{3,12}", word) and word in common and len(definition.split()) >= 5:
                candidates.setdefault(f"{part}/{word}", (part, word, definition))
    ids = sorted(candidates)
    random.Random(seed).shuffle(ids)
    texts = []
    for i, name in enumerate(ids[:count]):
        part, word, definition = candidates[name]
        start = " " + " ".join(definition.split()[:3]) if i % 2 else ""
        texts.append(f"{word}, {part}:{start}")
    with h5py.File(path, "w") as f:
        f.create_dataset("text", data=texts, dtype=h5py.string_dtype("utf-8"))
        f.create_dataset("id", data=ids[:count], dtype=h5py.string_dtype("utf-8"))
    return texts


# ---- tokenizer ------------------------------------------------------------------------------

# The split patterns of the DeepSeek-V3 tokenizer, which Step-3 uses.
SPLITS = [
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
    "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]


def make_tokenizer(lines, vocab_size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(s), "isolated") for s in SPLITS]
        + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[BEGIN, END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    assert tokenizer.get_vocab_size() == vocab_size
    return tokenizer


def save_tokenizer(tokenizer, out):
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    special = {"__type": "AddedToken", "lstrip": False, "normalized": False, "rstrip": False,
               "single_word": False}
    config = {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True, "add_eos_token": False,
              "bos_token": special | {"content": BEGIN}, "eos_token": special | {"content": END},
              "pad_token": special | {"content": END}, "unk_token": None,
              "clean_up_tokenization_spaces": False, "model_max_length": CONFIG["max_seq_len"]}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


# ---- model ----------------------------------------------------------------------------------
# Module names are the checkpoint's tensor names.

class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * y.to(x.dtype)


def rotate(x, cos, sin):
    """Rotary embedding over the whole head; dimension i is paired with i + head_dim / 2."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class Attention(nn.Module):
    """Multi-matrix factorization attention: low-rank queries, one key and one value head."""

    def __init__(self, c):
        super().__init__()
        self.heads, self.head_dim = c["num_attention_heads"], c["head_dim"]
        hidden, width = c["hidden_size"], self.heads * self.head_dim
        self.q_proj = nn.Linear(hidden, c["share_q_dim"], bias=False)
        self.k_proj = nn.Linear(hidden, self.head_dim, bias=False)
        self.v_proj = nn.Linear(hidden, self.head_dim, bias=False)
        self.inter_norm = RMSNorm(c["share_q_dim"], c["rms_norm_eps"])
        self.wq = nn.Linear(c["share_q_dim"], width, bias=False)
        self.o_proj = nn.Linear(width, hidden, bias=False)

    def forward(self, x, cos, sin):
        rows, length, _ = x.shape
        q = self.wq(self.inter_norm(self.q_proj(x)))
        q = q.view(rows, length, self.heads, self.head_dim).transpose(1, 2)
        k, v = self.k_proj(x).unsqueeze(1), self.v_proj(x).unsqueeze(1)
        cos, sin = cos[:length].to(q.dtype), sin[:length].to(q.dtype)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        # One key head: all heads' queries make one tall matrix, which is faster than a product a head.
        score = q.reshape(rows, -1, self.head_dim) @ k.squeeze(1).transpose(1, 2)
        score = score.view(rows, self.heads, length, length).float() * self.head_dim ** -0.5
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        p = F.softmax(score.masked_fill(future, -math.inf), dim=-1).to(v.dtype)
        y = (p.view(rows, -1, length) @ v.squeeze(1)).view(rows, self.heads, length, self.head_dim)
        return self.o_proj(y.transpose(1, 2).reshape(rows, length, -1))


class MLP(nn.Module):
    def __init__(self, hidden, inner):
        super().__init__()
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Stack(nn.Module):
    """The same matrix of all experts, as one tensor."""

    def __init__(self, experts, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, outputs, inputs))


class MoE(nn.Module):
    """Softmax over all experts, then top-k; the weights are not renormalised."""

    def __init__(self, c):
        super().__init__()
        hidden, inner, experts = c["hidden_size"], c["moe_intermediate_size"], c["moe_num_experts"]
        self.experts, self.top_k = experts, c["moe_top_k"]
        self.gate = nn.Linear(hidden, experts, bias=False)
        self.gate_proj = Stack(experts, hidden, inner)
        self.up_proj = Stack(experts, hidden, inner)
        self.down_proj = Stack(experts, inner, hidden)

    def forward(self, x):
        shape, x = x.shape, x.reshape(-1, x.shape[-1])
        with torch.autocast("cpu", enabled=False):
            p = F.softmax(self.gate(x.float()), dim=-1)
        weight, index = p.topk(self.top_k, dim=-1)
        used = F.one_hot(index, self.experts).sum(1).float().mean(0)  # how often each expert is chosen
        self.balance = (used / self.top_k * p.mean(0)).sum() * self.experts  # 1 when balanced
        self.load = used.detach()

        order = index.flatten().argsort(stable=True)  # (row, choice) pairs sorted by expert
        rows = order // self.top_k
        counts = torch.bincount(index.flatten(), minlength=self.experts).tolist()
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        gate, up, down = (
            stack.weight.to(dtype).unbind(0) for stack in (self.gate_proj, self.up_proj, self.down_proj))
        parts = x.to(dtype)[rows].split(counts)
        y = [F.linear(F.silu(F.linear(t, g)) * F.linear(t, u), d)
             for t, g, u, d in zip(parts, gate, up, down)]
        y = torch.cat(y) * weight.flatten()[order].to(dtype).unsqueeze(1)
        out = torch.zeros(x.shape, dtype=dtype).index_add(0, rows, y)
        return out.view(shape)


class Dropout(nn.Module):
    """Drops channels of whole rows: a mask a row costs next to nothing, one a token much."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training or self.rate == 0:
            return x
        mask = torch.empty(x.shape[0], 1, x.shape[2], dtype=x.dtype).bernoulli_(1 - self.rate)
        return x * (mask / (1 - self.rate))


class CrossEntropy(torch.autograd.Function):
    """Mean loss of F.linear(x, weight) against targets. Goes through the rows in blocks that stay
    in the cache and computes the gradients on the way: several times faster than the plain form."""

    @staticmethod
    def forward(ctx, x, weight, targets, dtype):
        total = 0.0
        dx, dweight = torch.empty_like(x), torch.zeros_like(weight)
        w = weight.to(dtype)
        for at in range(0, len(x), 256):
            block, t = x[at:at + 256].to(dtype), targets[at:at + 256].unsqueeze(1)
            logits = F.linear(block, w).float()
            logits -= logits.amax(1, keepdim=True)
            chosen = logits.gather(1, t)
            p = logits.exp_()
            norm = p.sum(1, keepdim=True)
            total += (norm.log() - chosen).sum().item()
            p /= norm
            p.scatter_add_(1, t, torch.full_like(chosen, -1.0))
            g = p.to(dtype)
            dx[at:at + 256] = g @ w
            dweight += g.t() @ block
        ctx.save_for_backward(dx / len(x), dweight / len(x))
        return x.new_tensor(total / len(x), dtype=torch.float32)

    @staticmethod
    def backward(ctx, grad):
        dx, dweight = ctx.saved_tensors
        return dx * grad, dweight * grad, None, None


class Layer(nn.Module):
    def __init__(self, c, index, dropout):
        super().__init__()
        self.input_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.sparse = str(index) in c["moe_layers_enum"].split(",")
        if self.sparse:
            self.moe = MoE(c)
            self.share_expert = MLP(c["hidden_size"], c["share_expert_dim"])
        else:
            self.mlp = MLP(c["hidden_size"], c["intermediate_size"])
        self.dropout = Dropout(dropout)

    def forward(self, x, cos, sin):
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), cos, sin))
        h = self.post_attention_layernorm(x)
        h = self.moe(h) + self.share_expert(h) if self.sparse else self.mlp(h)
        return x + self.dropout(h)


class Trunk(nn.Module):
    def __init__(self, c, dropout):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(Layer(c, i, dropout) for i in range(c["num_hidden_layers"]))
        self.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        half = torch.arange(0, c["head_dim"], 2).float() / c["head_dim"]
        angle = torch.outer(torch.arange(c["max_position_embedding"]).float(), c["rope_theta"] ** -half)
        angle = torch.cat((angle, angle), dim=-1)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, ids):
        x = self.dropout(self.embed_tokens(ids))
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return self.norm(x)


class Model(nn.Module):
    def __init__(self, c, dropout=0.0):
        super().__init__()
        self.config = c
        self.model = Trunk(c, dropout)
        self.lm_head = nn.Linear(c["hidden_size"], c["vocab_size"], bias=False)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                last = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * c["num_hidden_layers"]) if last else 0.02)

    def loss(self, ids, targets):
        """Mean cross-entropy in nats over the targets that are >= 0, and their number."""
        keep = targets >= 0
        x, t = self.model(ids)[keep], targets[keep]
        if self.training:
            dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
            return CrossEntropy.apply(x, self.lm_head.weight, t, dtype), len(t)
        return F.cross_entropy(self.lm_head(x).float(), t), len(t)

    def moes(self):
        return [layer.moe for layer in self.model.layers if layer.sparse]


# ---- batches --------------------------------------------------------------------------------

def encode_all(tokenizer, lines, longest):
    """Token ids with <|begin|> and <|end|>, cut to at most `longest`."""
    return [([0] + e.ids + [1])[:longest] for e in tokenizer.encode_batch(lines)]


def padded(documents):
    """Inputs and targets of documents in rows of their own; padding has target -100."""
    width = max(map(len, documents)) - 1
    ids = np.ones((len(documents), width), np.int64)
    targets = np.full((len(documents), width), -100, np.int64)
    for row, d in enumerate(documents):
        ids[row, :len(d) - 1] = d[:-1]
        targets[row, :len(d) - 1] = d[1:]
    return torch.from_numpy(ids), torch.from_numpy(targets)


def by_length(documents, tokens):
    """Batches of about `tokens` tokens, documents of similar length together."""
    batch, width = [], 0
    for d in sorted(documents, key=len):
        width = max(width, len(d) - 1)
        if width * (len(batch) + 1) > tokens and batch:
            yield padded(batch)
            batch, width = [], len(d) - 1
        batch.append(d)
    if batch:
        yield padded(batch)


def packed(documents, tokens, width):
    """Batches whose rows are one document after another, so that long contexts are seen too."""
    stream = np.fromiter((t for d in documents for t in d), np.int64)
    rows = (len(stream) - 1) // width
    ids = torch.from_numpy(stream[:rows * width]).view(rows, width)
    targets = torch.from_numpy(stream[1:rows * width + 1]).view(rows, width)
    yield from zip(ids.split(tokens // width), targets.split(tokens // width))


def epoch(tokenizer, synsets, args, rng):
    """One pass over the synsets, each under one of its words; a share of them packed."""
    lines = [line_of(part, rng.choice(words), definition, examples)
             for part, words, definition, examples in synsets]
    documents = encode_all(tokenizer, lines, args.longest)
    rng.shuffle(documents)
    cut = int(len(documents) * args.packed)
    batches = list(packed(documents[:cut], args.batch, args.width))
    batches += by_length(documents[cut:], args.batch)
    rng.shuffle(batches)
    return batches


# ---- evaluation -----------------------------------------------------------------------------

@torch.no_grad()
def held_out_loss(model, documents, autocast):
    """Nats per token over the held-out documents, each from its own <|begin|>."""
    model.eval()
    total = count = 0
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for ids, targets in by_length(documents, 4096):
            loss, n = model.loss(ids, targets)
            total, count = total + loss.item() * n, count + n
    model.train()
    return total / count, count


@torch.no_grad()
def complete(model, tokenizer, text, temperature=0.0, limit=64):
    model.eval()
    ids = [0] + tokenizer.encode(text).ids
    start = len(ids)
    while len(ids) < start + limit:
        logits = model.lm_head(model.model(torch.tensor([ids]))[0, -1])
        if temperature > 0:
            token = int(torch.multinomial(F.softmax(logits / temperature, -1), 1))
        else:
            token = int(logits.argmax())
        if token == 1:
            break
        ids.append(token)
    model.train()
    return tokenizer.decode(ids[start:])


def show_samples(model, tokenizer, texts):
    for text in texts:
        print(f"  {text} |{complete(model, tokenizer, text)}", flush=True)
        print(f"      0.7 |{complete(model, tokenizer, text, 0.7)}", flush=True)


# ---- checkpoint -----------------------------------------------------------------------------

def export(model, out):
    tensors = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    new = out / "model.safetensors.new"
    save_file(tensors, str(new), metadata={"format": "pt"})
    new.chmod(0o644)
    new.rename(out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(model.config, indent=2) + "\n")


def load(out, dropout=0.0):
    model = Model(json.loads((out / "config.json").read_text()), dropout)
    tensors = load_file(str(out / "model.safetensors"))
    model.load_state_dict({k: v.float() for k, v in tensors.items()})
    return model.eval()


# ---- training -------------------------------------------------------------------------------

def learning_rate(args, step, share):
    """Linear warm-up by step, then cosine over the share of the time that has passed."""
    low = 0.02
    cosine = low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    return args.lr * min(1.0, (step + 1) / args.warmup) * cosine


def train(model, tokenizer, synsets, held_documents, texts, args):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": args.decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=args.lr, betas=(0.9, 0.98), fused=True)
    rng = random.Random(args.seed)
    begin = time.monotonic()
    elapsed = lambda: (time.monotonic() - begin) / 60
    step = tokens = passes = 0
    next_check, best, mean = args.every, math.inf, None
    while elapsed() < args.minutes:
        for ids, targets in epoch(tokenizer, synsets, args, rng):
            share = elapsed() / args.minutes
            if share >= 1:
                break
            lr = learning_rate(args, step, share)
            for group in optimizer.param_groups:
                group["lr"] = lr
            with torch.autocast("cpu", torch.bfloat16, enabled=not args.f32):
                loss, count = model.loss(ids, targets)
                balance = sum(m.balance for m in model.moes())
            optimizer.zero_grad()
            (loss + args.balance * balance).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step, tokens = step + 1, tokens + count
            mean = loss.item() if mean is None else 0.99 * mean + 0.01 * loss.item()
            if step % 50 == 0:
                loads = " ".join(f"{m.load.min():.2f}-{m.load.max():.2f}" for m in model.moes())
                print(f"{elapsed():6.1f} min  step {step}  pass {passes}  tokens {tokens}  loss {mean:.3f}"
                      f"  lr {lr:.2e}  load {loads}  {tokens / elapsed() / 60:.0f} tokens/s", flush=True)
            if elapsed() >= next_check:
                next_check = elapsed() + args.every
                best = check(model, tokenizer, held_documents, texts, best, args)
        passes += 1
    check(model, tokenizer, held_documents, texts, best, args)
    print(f"trained {elapsed():.1f} minutes, {step} steps, {tokens} tokens, {passes} passes")


def check(model, tokenizer, held_documents, texts, best, args):
    """Writes the checkpoint if its held-out loss is the best so far."""
    loss, _ = held_out_loss(model, held_documents, not args.f32)
    print(f"held-out loss {loss:.4f}  perplexity {math.exp(loss):.2f}", flush=True)
    if loss < best:
        export(model, args.out)
    show_samples(model, tokenizer, texts[:6])
    return min(loss, best)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wordnet", default="/usr/share/wordnet", help="folder of data.noun and so on")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="checkpoint folder to write")
    parser.add_argument("--prompts", type=Path, default=Path("prompts.h5"), help="prompt file to write")
    parser.add_argument("--prompt-count", type=int, default=300)
    parser.add_argument("--evaluate", type=Path, metavar="FOLDER", help="measure this checkpoint, train nothing")
    parser.add_argument("--start", type=Path, metavar="FOLDER", help="go on from this checkpoint's weights")
    parser.add_argument("--minutes", type=float, default=95, help="wall-clock time of training")
    parser.add_argument("--every", type=float, default=9, help="minutes between checkpoints")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--f32", action="store_true", help="no bfloat16 autocast")
    parser.add_argument("--batch", type=int, default=4096, help="tokens of a step")
    parser.add_argument("--longest", type=int, default=96, help="tokens of a document at most")
    parser.add_argument("--packed", type=float, default=0.2, help="share of the documents in packed rows")
    parser.add_argument("--width", type=int, default=256, help="tokens of a packed row")
    parser.add_argument("--held-out", type=int, default=2500, help="synsets kept out of training")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=200, help="steps")
    parser.add_argument("--decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--balance", type=float, default=0.01, help="weight of the load-balancing loss")
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    synsets, held = split_synsets(read_synsets(args.wordnet), args.held_out, args.seed)
    held_lines = [line_of(part, words[0], definition, examples) for part, words, definition, examples in held]

    if args.evaluate:
        tokenizer = Tokenizer.from_file(str(args.evaluate / "tokenizer.json"))
        model = load(args.evaluate)
        loss, count = held_out_loss(model, encode_all(tokenizer, held_lines, args.longest), False)
        print(f"held-out loss {loss:.4f} nats/token  perplexity {math.exp(loss):.2f}  over {count} tokens")
        with h5py.File(args.prompts) as f:
            show_samples(model, tokenizer, f["text"].asstr()[:24])
        return

    args.out.mkdir(parents=True, exist_ok=True)
    texts = make_prompts(args.prompts, args.wordnet, held, args.prompt_count, args.seed)
    lines = [line_of(part, word, definition, examples)
             for part, words, definition, examples in synsets for word in words]
    tokenizer = make_tokenizer(lines, CONFIG["vocab_size"])
    save_tokenizer(tokenizer, args.out)
    held_documents = encode_all(tokenizer, held_lines, args.longest)
    model = load(args.start, args.dropout).train() if args.start else Model(CONFIG, args.dropout)
    print(f"{len(synsets)} training synsets, {len(held)} held out, {len(texts)} prompts, "
          f"{sum(p.numel() for p in model.parameters())} parameters, torch {torch.__version__}", flush=True)
    train(model, tokenizer, synsets, held_documents, texts, args)
    final = load(args.out)
    loss, count = held_out_loss(final, held_documents, False)
    print(f"exported bfloat16 weights: held-out loss {loss:.4f} nats/token, "
          f"perplexity {math.exp(loss):.2f}, over {count} tokens")


if __name__ == "__main__":
    main()
