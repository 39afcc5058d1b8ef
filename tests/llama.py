#!/usr/bin/env python3
"""GGUF files of `tandem generate` in llama.cpp and in Tandem: the same logprobs (make test-llama, five minutes). Needs numpy and
llama-cpp-python.

    llama.py TANDEM

Of every architecture both read a file of F32 and a prompt of 60 tokens: windows that bind, yarn and llama3's
scaling, groups, clamps, sinks. Both compute in f32 in orders of their own, so logprobs of up to 20 agree to about 1e-5.
Of formats of blocks llama.cpp is given the file made F32 by itself, which must agree as well. With the file as it is it
rounds rows to 8 bits before it multiplies them: what that changes is printed, and is its own affair.
One thing is not the same: llama.cpp rounds the ends of yarn's range, gpt-oss's own config says not to
(truncate: false); here Tandem is told to ignore that field.
"""
import ctypes
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import llama_cpp as llama
import numpy as np

BOUND = 3e-5
DECODED = 2e-4  # of blocks: here and there a logprob hangs on the order of sums more than others do (9e-5 was seen)
COMMON = ["q8_0", "q4_k", "q6_k"]
OTHERS = ["f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q5_k", "q2_k", "q3_k", "iq4_nl", "iq4_xs", "mxfp4"]
VOCAB, TOKENS = 512, 60
SIZES = ("hidden=256 layers=4 heads=8 kv_heads=2 head_dim=64 experts=8 topk=2 expert=256 dense=320 shared=256 context=512 groups=4 "
         "topk_groups=2 q_rank=96 kv_rank=128 nope_dim=64 rope_dim=32 value_dim=64 window=24").split()
# step35 is stretched as the release is.
MODELS = {"llama": ["rope_factor=8"], "qwen3": ["tied=true"], "qwen3_moe": ["rope_factor=3"], "step3p5": ["limit=0.3", "rope_factor=1"],
          "deepseek_v3": ["rope_factor=4"], "glm4_moe": ["groups=1", "topk_groups=1"], "minimax_m2": [], "gpt_oss": ["rope_factor=4"]}

said = []


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def keep(level, text, _):
    if level >= 3:
        said.append(text.decode(errors="replace"))


def command(tandem, *rest):
    done = subprocess.run([tandem, *map(str, rest)], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        sys.exit(f"tandem {rest[0]}: {done.stderr}{done.stdout}")
    return done.stdout


def theirs(path, tokens):
    """Logprobs [T][VOCAB]."""
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    if not model:
        sys.exit(f"llama.cpp refuses {path}: {''.join(said)}")
    p = llama.llama_context_default_params()
    p.n_ctx, p.n_threads, p.n_threads_batch = 512, 1, 1
    p.type_k = p.type_v = 0  # f32
    p.flash_attn_type = 0
    context = llama.llama_init_from_model(model, p)
    batch = llama.llama_batch_init(len(tokens), 0, 1)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
        batch.seq_id[i][0] = 0
    batch.n_tokens = len(tokens)
    if llama.llama_decode(context, batch) != 0:
        sys.exit("llama_decode failed")
    x = np.array([np.ctypeslib.as_array(llama.llama_get_logits_ith(context, i), (VOCAB,)) for i in range(len(tokens))], float)
    llama.llama_batch_free(batch)
    llama.llama_free(context)
    llama.llama_model_free(model)
    x -= x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def numbers(path, to):
    """The file in F32, as llama.cpp decodes it."""
    p = llama.llama_model_quantize_default_params()
    p.ftype, p.allow_requantize, p.nthread = llama.LLAMA_FTYPE_ALL_F32, True, 1
    if llama.llama_model_quantize(str(path).encode(), str(to).encode(), ctypes.byref(p)) != 0:
        sys.exit(f"llama.cpp does not make {path} F32: {''.join(said)}")


def ours(tandem, work, path, family):
    """Logprobs of the prompt's tokens but the first, and the greedy token behind it."""
    job = dict(model=str(path), prompts=dict(file=f"{work}/p.h5"), output=dict(file=f"{work}/{family}.h5"), layout=dict(attention=1, colocated=True),
               precision=dict.fromkeys(("activations", "kv_cache", "dispatch", "combine"), "f32"), schedule=dict(max_context=256, slots=1),
               sampling=dict(temperature=0, max_new_tokens=1, prompt_logprobs=True, ignore_eos=True))
    if family == "gpt_oss":
        job["model_ignore"] = ["rope_scaling.truncate"]
    (work / "job.yaml").write_text(json.dumps(job))
    command(tandem, "run", work / "job.yaml")
    row = json.loads(command(tandem, "export", "--tokens", "--logprobs", f"{work}/{family}.h5"))
    return np.array(row["prompt_logprobs"]), row["tokens"][0]


def main():
    tandem, bad, total = sys.argv[1], 0, 0
    llama.llama_log_set(keep, None)
    llama.llama_backend_init()
    tokens = [int(t) for t in np.random.default_rng(1).integers(3, VOCAB, TOKENS)]
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        (work / "p.jsonl").write_text(json.dumps({"tokens": tokens}) + "\n")
        command(tandem, "import", work / "p.jsonl", work / "p.h5", "--tokens", "tokens")
        for n, (family, settings) in enumerate(MODELS.items()):
            for dtype in ["f32", *COMMON, *OTHERS[n % 4::4]]:
                path, decoded = work / f"{family}.gguf", work / "decoded.gguf"
                command(tandem, "generate", path, f"family={family}", "unused=ignore", f"vocab={VOCAB}", *SIZES, *settings, f"dtype={dtype}")
                if dtype != "f32":
                    numbers(path, decoded)
                exact = theirs(path if dtype == "f32" else decoded, tokens)
                found, token = ours(tandem, work, path, family)
                own = lambda x: x[np.arange(TOKENS - 1), tokens[1:]]
                error = float(np.abs(found - own(exact)).max())
                rounded = float(np.sqrt(np.square(found - own(theirs(path, tokens))).mean())) if dtype != "f32" else 0.0
                good = error <= (BOUND if dtype == "f32" else DECODED) and token == int(exact[-1].argmax())
                print(f"{family:12} {dtype:7} largest difference {error:.1e} of logprobs down to {own(exact).min():.1f}; "
                      f"rounding rows changes {rounded:.1e}{'' if good else '  WRONG'}", flush=True)
                bad += not good
                total += 1
                for old in work.glob("*.gguf"):
                    old.unlink()
                for old in work.glob(f"{family}.*h5*"):
                    shutil.rmtree(old) if old.is_dir() else old.unlink()
    print(f"llama-cpp-python {llama.__version__}: {total - bad} passed, {bad} failed")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
