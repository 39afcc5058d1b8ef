"""What the counted loops say about time: a layer on cards, beside the roofline and what was measured.

Printed by sass.py; sass.txt has the counts. A turn is 64 columns for a tile of tokens (products) or 32 tokens
of a cache (attention), by four warps, one on each scheduler. Warps of a block meet at a barrier each turn, so it
takes what the tensor cores need and SERIAL of what the issue of its instructions does, or its integers (16 lanes a
scheduler) or floats, if they take longer. ALONE: what a processor's last blocks reach of that rate; EPILOGUE: clocks
of an instruction at the end of a work item, whose stores wait. Memory and turns hide behind each other as a
norm of degree BESIDE has it; the L2 cache gives L2_BYTES a clock and processor.

All these constants, FILL and LAUNCH are fitted to measured.txt's times of an H200, which is no proof of them: the
errors that are printed for it are those of a fit. The H100's are of a prediction. Other cards were never tried;
of them nothing is known but what is printed on them. Kernels that only wait (norms, router, rotation) are what
they took on the H200, by the clock. DeepSeek-V3's attention is not modelled: the warps of its kernel wait for each other.

The wgmma column takes mma.sync and the loads of its right operand out of a turn, and the full rate of the
tensor cores: a bound, not a promise (the same loop with wgmma, tried on an H200, gained 5 to 10 %).
"""
import math

SERIAL, ALONE, EPILOGUE, BESIDE = 1.09, 0.81, 2.3, 2.7
L2_BYTES = 37.0
DRAM_SHARE = 0.92            # of what is printed on the card
LAUNCH, GAP, FILL = 2.8, 0.6, 2.4  # us: a kernel, one more in a graph, until the first data are there
HMMA_FLOP = 4096.0
SHARE = 14  # instructions by which a lane adds one share of a token, 4 columns (ffn_down.cu)
RING = 1536  # FFN_RING


class Card:
    def __init__(self, processors, ghz, tbs, tflops, mma, shared, float_lanes=32):
        self.processors, self.ghz, self.tbs, self.tflops = processors, ghz, tbs * DRAM_SHARE, tflops
        self.shared, self.float_clocks = shared, 32 / float_lanes
        every = 4 * HMMA_FLOP * processors * ghz * 1e9 / (tflops * 1e12)
        self.wgmma, self.mma = every, every / mma  # clocks a scheduler needs for one mma.m16n8k16

    def us(self, clocks):
        return clocks / self.ghz / 1e3


# processors, GHz, TB/s, TFLOP/s of bf16, what mma.sync has of that, KB of shared memory (a processor)
CARDS = {
    "H200": Card(132, 1.755, 4.8, 989, 0.565, 228),
    "H100": Card(132, 1.755, 3.35, 989, 0.565, 228),
    "H800": Card(132, 1.755, 3.35, 989, 0.565, 228),
    "H20": Card(78, 1.755, 4.0, 148, 1.0, 228),
    "A100": Card(108, 1.41, 2.0, 312, 1.0, 164, float_lanes=16),
    "L20": Card(92, 2.52, 0.864, 119.5, 1.0, 100),
}
FITTED = "H200"
BF16, FP8, FORM = 1, 2, 256  # FORM: MATRIX_FORM


def is_product(kernel):
    return kernel.startswith(("linear_kernel", "up_kernel", "down_kernel"))


class Shape:
    """gemm_shape<TYPE, FRAME> of gemm.cuh."""

    def __init__(self, kind, frame):
        self.wide, grouped = frame > 64, kind in (16, 17)
        self.step = 32 if self.wide and kind == BF16 else 16  # tokens that are multiplied at once,
        self.hmma = self.step  # and how many HMMA a warp has for them in a chunk
        self.sums = frame  # of a thread
        pieces = 4 if kind == BF16 else 1 if kind == 16 else 2
        self.blocks = 2 if self.wide else (3 if frame == 64 else 4) - (kind == BF16 or grouped)
        stage = frame * 128 + 8 * (pieces * 512 + (FORM if grouped else 0))
        self.queue = min(min(216 * 1024 // self.blocks, 96 * 1024) // stage, 3 if self.wide else 6) * stage
        self.queue += frame * 32 if self.wide and kind != BF16 else 0


def times(kernel, hmma, copies):
    """How often a loop inside of the main loop runs, from the HMMA and the copies in it."""
    if is_product(kernel):
        return 2 if hmma else 1  # halves of a chunk
    if not kernel.startswith("attend"):
        return 1
    dim, kind, rows = arguments(kernel)
    if hmma:
        return dim // 4 // hmma  # scores of 32 tokens
    return 2 * 32 * dim * (2 if kind == BF16 else 1) // (16 * 128 * rows) // copies if copies else 1


def arguments(kernel):
    """Of a template's instance; false and true are as they stand."""
    return [int(g) if g.isdigit() else g for g in kernel.partition("<")[2].rstrip(">").split(", ")]


def shared_bytes(kernel, experts=128):
    """Dynamic shared memory of a block: gemm_shape of gemm.cuh, attend_shape of attend.cu, latent_shape. experts: held by
    a rank, whose lists (grouped_bytes) the experts' kernels have."""
    name = kernel.partition("<")[0]
    if is_product(kernel):
        return Shape(*arguments(kernel)[:2]).queue + (0 if name == "linear_kernel" else 256 + 4 * (experts + 2))
    if name == "attend_kernel":
        dim, kind, rows = arguments(kernel)
        stage = 2 * 32 * dim * (2 if kind == BF16 else 1)
        return min(max(65536 // stage, 2), 6) * stage + rows * 4 * (dim // 16) * 512
    if name == "latent_kernel":
        kind, tokens = arguments(kernel)
        tile = tokens * 576 * 2
        stages = 2 * tile if kind == BF16 else tile + tile
        return stages + 2 * (256 + tokens // 8 * 256) + 2 * 576 // 16 * 512
    return 0


def blocks(kernel, registers, shared_kb, warps=4, experts=128):
    """On a processor; warps: of a row in attention; experts: held by a rank."""
    if is_product(kernel):
        threads = 128
    else:
        pair = kernel.startswith("latent") or kernel.endswith(", 2>") and kernel.startswith("attend")
        threads = (2 if pair else 1) * 32 * warps
    by_registers = 65536 // (max(registers, 24) * threads)
    by_shared = shared_kb * 1024 // (shared_bytes(kernel, experts) + 1024)
    return min(by_registers, by_shared, 32)


def expected_tiles(rows, chance, tokens):
    """Of an expert that each row chooses with that chance: tiles, and of one the steps of 16 tokens."""
    def of_count(r):  # how likely r rows are
        if chance >= 1:
            return r == rows
        return math.exp(math.lgamma(rows + 1) - math.lgamma(r + 1) - math.lgamma(rows - r + 1)
                        + r * math.log(chance) + (rows - r) * math.log(1 - chance))
    tiles = sum(of_count(r) * -(-r // tokens) for r in range(rows + 1))
    return tiles, sum(of_count(r) * -(-r // 16) for r in range(rows + 1)) / tiles


class Loops:
    """Times in us on a card, from {kernel: counts}."""

    def __init__(self, found, card, wgmma=False, as_measured=False):
        """as_measured: launches as they were when measured.txt was made."""
        self.found, self.card, self.wgmma, self.as_measured = found, card, wgmma, as_measured
        self.pieces = []  # of turns(): what each pipe alone would take

    def turn(self, kernel, hmma):
        """Clocks of a turn that runs `hmma` of the multiplications of its longest run."""
        c, card = self.found[kernel], self.card
        issued, integer, floats = c["run"], c["integer"], c["half"] + c["float"]
        if is_product(kernel):
            kind, frame = arguments(kernel)[:2]
            scales = c["scaled"] / 2 if kind == FP8 else 0  # at every other chunk
            issued += scales - (c["hmma"] - hmma) * 1.2
            floats += min(scales, Shape(kind, frame).sums / 2)
        others = max(2 * integer, floats * card.float_clocks)
        if self.wgmma:
            return max(hmma * card.wgmma, issued - 1.25 * hmma, others)
        return max(hmma * card.mma + SERIAL * issued, others)

    def turns(self, kernel, count, each, hmma, l2, bytes_read, warps=4, experts=128, border=None):
        """`count` items of `each` turns, dealt out to all blocks; l2: bytes a turn; border: instructions of an item's end."""
        return self.sorts(kernel, [(count, each, hmma, l2, border)], bytes_read, warps, experts)

    def sorts(self, kernel, items, bytes_read, warps=4, experts=128):
        """The same for items of several sorts."""
        card, found = self.card, self.found[kernel]
        at_once = max(1, blocks(kernel, found["registers"], card.shared, warps, experts))
        count = sum(i[0] for i in items)
        each_has = math.ceil(count / card.processors) if count < 4 * card.processors else count / card.processors

        def mean(of):
            return sum(i[0] * of(*i[1:]) for i in items) / count
        clocks = mean(lambda each, hmma, l2, border: each * self.turn(kernel, hmma))
        epilogue = EPILOGUE * mean(lambda each, hmma, l2, border: found["border"] if border is None else border)
        all_at = each_has * (clocks + epilogue) * warps / 4
        last = math.ceil(count / (card.processors * at_once)) * (clocks / ALONE + epilogue)
        compute, memory = card.us(max(all_at, last)), bytes_read / card.tbs / 1e6
        cached = card.us(each_has * mean(lambda each, hmma, l2, border: each * l2) / L2_BYTES)
        taken = max((compute ** BESIDE + memory ** BESIDE) ** (1 / BESIDE), cached) + FILL
        share = warps / 4 * count / card.processors  # as if no processor ever waited for the others
        tensor = card.us(share * mean(lambda each, hmma, l2, border: each * hmma) * (card.wgmma if self.wgmma else card.mma))
        self.pieces.append((kernel, taken, memory, tensor, card.us(share * clocks) - tensor, card.us(share * epilogue),
                            compute - card.us(share * (clocks + epilogue)), cached))
        return taken

    def splits(self, n, k):
        """cuda_linear_splits() of linear.cu."""
        blocks_n, chunks = -(-n // 128), -(-k // 64)
        two, three = (max(1, most // blocks_n) for most in (264, 396))
        more = not self.as_measured and 100 * blocks_n * three // 396 >= 100 * blocks_n * two // 264 + 10
        splits = max(1, min(three if more else two, chunks // 4))
        return 1 if blocks_n >= 88 and chunks < 32 * splits else splits

    def linear(self, n, k, rows, kind=FP8):
        return self.linears([n], k, rows, kind)

    def linears(self, outputs, k, rows, kind=FP8):
        """Matrices in one launch, with their sums' kernel; where there is one in panels of rows, of which scratch holds
        the parts of 256 of a matrix with the most (linear.cu, linear.c, scratch.c)."""
        if self.as_measured and len(outputs) > 1:
            return sum(self.linear(n, k, rows, kind) for n in outputs) + GAP * (len(outputs) - 1)
        chunks, n = -(-k // 64), sum(outputs)
        count = sum(-(-o // 128) * self.splits(o, k) for o in outputs)
        turns = sum(-(-o // 128) for o in outputs) * chunks / count
        splits = sum(o * self.splits(o, k) for o in outputs) / n
        panel = min(256, 256 * 396 * 128 // int(splits * n + 0.5) // 64 * 64)
        if splits > 1 and rows > panel:
            return sum(self.linears(outputs, k, min(panel, rows - at), kind) + (GAP if at else 0)
                       for at in range(0, rows, panel))
        wide_blocks = -(-rows // 128) * count
        is_wide = rows > 64 and wide_blocks * 100 >= -(-wide_blocks // 264) * 264 * (80 if kind == BF16 else 90)
        frame = 128 if is_wide else 64
        shape, tiles, kernel = Shape(kind, frame), -(-rows // frame), "linear_kernel<%d, %d, true>" % (kind, frame)
        tokens = min(rows, frame)
        hmma = shape.hmma * -(-tokens // shape.step)
        weights = n * k * (2 if kind == BF16 else 1)
        l2 = (16384 if kind == BF16 else 8192) + tokens * 128
        t = self.turns(kernel, count * tiles, turns, hmma, l2, weights)
        if splits > 1:
            t += GAP + FILL + 2 * splits * rows * n * 4 / (L2_BYTES * self.card.processors * self.card.ghz * 1e3)
        return t

    def attend(self, heads, kv_heads, dim, rows, context, kind):
        kernel = "attend_kernel<%d, %d, 1>" % (dim, kind)
        chunk, size = (1024, 2) if kind == BF16 else (2048, 1)
        parts, steps = -(-context // chunk), min(context, chunk) / 32
        read = rows * context * 2 * kv_heads * dim * size
        l2 = 2 * 32 * dim * size
        hmma = dim // 2
        warps = min((heads // kv_heads + 15) // 16, 4)
        t = self.turns(kernel, rows * parts * kv_heads, steps, hmma, l2, read, warps)
        if parts > 1:
            t += GAP + FILL + 2 * parts * rows * heads * dim * 4 / self.card.tbs / 1e6
        return t

    def small(self, us):
        return us * 1.755 / self.card.ghz

    def experts(self, rows, held, inter, hidden, topk, of, shared, kind=FP8):
        """up, down, and the kernel that adds, 0: down does. Of a rank with `held` of `of` experts, rows chosen evenly. That
        blocks of down wait for each other is not in it; its ring of shares is written to memory once."""
        def frame(times):  # grouped_few(), grouped_many()
            few, wide = rows * topk <= 32 * held, rows * topk // 128 > times * held and kind == FP8
            return 32 if few else 128 if wide and not self.as_measured else 64

        def items(tokens):  # of an expert in a piece of the columns, of the shared one, HMMA of a turn, bytes of one
            tiles, steps = expected_tiles(rows, topk / of, tokens)
            return tiles, -(-rows // tokens), 16 * steps, (16384 if kind == BF16 else 8192) + tokens * 128

        size, tokens = 2 if kind == BF16 else 1, frame(4)
        tiles, shared_tiles, hmma, x = items(tokens)
        up_items = held * tiles * -(-inter // 64) + shared_tiles * -(-shared // 64)
        weights = (held * inter + shared) * hidden * size
        up = "up_kernel<%d, %d, true>" % (kind, tokens)
        t_up = self.turns(up, up_items, -(-hidden // 64), hmma, x, 2 * weights, experts=held)
        tokens = frame(1)
        tiles, shared_tiles, hmma, x = items(tokens)
        down, pieces = "down_kernel<%d, %d>" % (kind, tokens), -(-hidden // 128)
        routed, common = held * tiles * pieces, shared_tiles * pieces
        some, few = rows * topk * held / of, rows * topk <= 32 * held
        stores = self.found[down].get("shares")

        def write(n):
            return n * hidden * 4

        if not shared or few or self.as_measured:
            turns = (routed * -(-inter // 64) + common * -(-shared // 64)) / max(routed + common, 1)
            shares = write(some + (rows if shared else 0))
            t_down = self.turns(down, routed + common, turns, hmma, x, weights + shares, experts=held, border=stores)
            return t_up, t_down, (shares + rows * hidden * 2) / self.card.tbs / 1e6 + FILL
        sums = self.found[down]["border"] + topk * SHARE * tokens // 4
        share = 128 * 4 * tokens  # bytes of an item's, through the L2 cache
        read = weights + some * min(hidden, RING) * 4 + rows * hidden * 2
        return t_up, self.sorts(down, [(routed, -(-inter // 64), hmma, x + share / -(-inter // 64), stores),
                                       (common, -(-shared // 64), tokens, x + topk * held / of * share / -(-shared // 64), sums)], read, experts=held), 0


# Stand-alone on the H200, less a launch: kernels that wait more than they work.
NORM, INTER_NORM, ROUTE, ROPE, COPY, GROUP = 5.0, 1.8, 14.2, 4.7, 2.4, 2.2


def attention_layer(l, kind, context, rows=64, model="Step-3"):
    small = [NORM, NORM, ROUTE, ROPE, COPY]
    if model == "Step-3":
        parts = [l.linears([2048, 256, 256], 7168, rows),
                 l.linear(16384, 2048, rows), l.linear(7168, 16384, rows), l.attend(64, 1, 256, rows, context, kind)]
        small.append(INTER_NORM)
    else:  # Qwen3-235B: GQA 64/4 of 128
        parts = [l.linears([8192, 512, 512], 4096, rows),
                 l.linear(4096, 8192, rows), l.attend(64, 4, 128, rows, context, kind)]
        small.append(2 * INTER_NORM)
    return sum(parts) + sum(l.small(s) for s in small) + GAP * (len(parts) + len(small))


def ffn_layer(l, rows, model="Step-3"):
    held, inter, hidden, topk, of, shared = {"Step-3": (24, 640, 7168, 3, 48, 320), "DeepSeek-V3": (256, 256, 7168, 8, 256, 256),
                                             "Qwen3-235B": (128, 192, 4096, 8, 128, 0)}[model]
    parts = l.experts(rows, held, inter, hidden, topk, of, shared)
    return sum(parts) + l.small(GROUP * (1 + rows / 400)) + (1 + sum(p > 0 for p in parts)) * GAP


def roof_attention(card, context, size, rows=64, cache=512):
    read = 7168 * 2560 + 2048 * 16384 + 16384 * 7168 + rows * context * cache * size
    flop = 2 * rows * (7168 * 2560 + 2048 * 16384 + 16384 * 7168) + 4 * 64 * 256 * rows * context
    return max(read / card.tbs / 1e6, flop / card.tflops / 1e6)


def roof_ffn(card, rows):
    weights = 3 * (24 * 640 + 320) * 7168
    flop = 2 * 3 * 7168 * rows * (640 * 3 / 2 + 320)
    return max(weights / card.tbs / 1e6, flop / card.tflops / 1e6)


PAPER = {"H800": 281, "H20": 438, "A100": 531}  # its table 9: an attention layer, 64 rows of 8K a GPU; A800


def print_cards(found):
    print("\nmodelled us of a layer (roof: memory or tensor cores of the card; the report's table 9; wgmma: see sass_model.py)")
    print("%-6s %-34s %8s %8s %8s %8s" % ("card", "", "model", "roof", "report", "wgmma"))
    met = []
    for name, card in CARDS.items():
        l, w = Loops(found, card), Loops(found, card, True)
        for label, kind, context in (("64 x 4K, bf16 cache", BF16, 4096), ("64 x 4K, FP8 cache", FP8, 4096),
                                     ("64 x 8K, bf16 cache", BF16, 8192), ("64 x 8K, FP8 cache", FP8, 8192)):
            t, bound = attention_layer(l, kind, context), attention_layer(w, kind, context)
            report = PAPER.get(name) if context == 8192 and kind == BF16 else None
            print("%-6s %-34s %8.0f %8.0f %8s %8.0f" % (name, "Step-3 attention, " + label, t, roof_attention(
                card, context, 2 if kind == BF16 else 1), report or "-", bound))
            if name == "H800" and context == 8192:
                met.append(("attention, %s cache" % ("bf16" if kind == BF16 else "FP8"), t, 290 if kind == BF16 else 220, bound))
        for rows in (256, 2048):
            t, bound = ffn_layer(l, rows), ffn_layer(w, rows)
            print("%-6s %-34s %8.0f %8.0f %8s %8.0f" % (name, "Step-3 FFN, %d rows" % rows, t, roof_ffn(card, rows), "-", bound))
            if name == "H800" and rows == 2048:
                met.append(("FFN, 2,048 rows", t, 400, bound))
        for model, context in (("Qwen3-235B", 8192),):
            print("%-6s %-34s %8.0f %8s %8s %8.0f" % (name, model + " attention, 64 x 8K, bf16", attention_layer(l, BF16, context, model=model), "-", "-",
                                                     attention_layer(w, BF16, context, model=model)))
        for model in ("DeepSeek-V3", "Qwen3-235B"):
            print("%-6s %-34s %8.0f %8s %8s %8.0f" % (name, model + " FFN, an eighth, 512 rows", ffn_layer(l, 512, model), "-", "-", ffn_layer(w, 512, model)))
    print("\ngoals on an H800, by the model, whose errors stand below (a stage may take 273 us; the report's rank has an attention layer of 64 x 8K):")
    for what, t, goal, bound in met:
        print("  %-24s %5.0f us, goal %d: %s (by the model; products were fitted to an H200 and tried nowhere else)" % (what, t, goal, "met" if t <= goal else "NOT met"))
    print("  with wgmma, a bound (tried in a product on an H200: 5 to 10 %% faster): %s us" % ", ".join("%s %.0f" % (what, bound) for what, _, _, bound in met))
    print_why(found, CARDS["H800"])


def print_why(found, card):
    """What the times are made of: each pipe as if it were alone."""
    print("\nwhy, on an H800 (us; what each would take alone: memory; mma.sync; the other issue slots of the turns; ends of items;")
    print("processors without a block in the last wave; L2. Memory and the sum of the next four hide behind each other; %.1f us until the first data):" % FILL)
    print("  %-30s %7s %8s %9s %7s %6s %6s %6s" % ("kernel", "model", "memory", "mma.sync", "issue", "ends", "waves", "L2"))
    for what, layer in (("attention, bf16 cache", lambda l: attention_layer(l, BF16, 8192)),
                        ("attention, FP8 cache", lambda l: attention_layer(l, FP8, 8192)),
                        ("FFN, 2,048 rows", lambda l: ffn_layer(l, 2048))):
        l = Loops(found, card)
        total = layer(l)
        for piece in l.pieces:
            print("  %-30s %7.1f %8.1f %9.1f %7.1f %6.1f %6.1f %6.1f" % piece)
        products = sum(p[1] for p in l.pieces)
        print("  %s: %.0f us: these %.0f, sums and shares through memory, kernels that wait, launches %.0f" % (
            what, total, products, total - products))
    print("  Setting up a kernel while the one before it runs (launch_early() of launch.cuh, on 9.0 and later) can hide at most")
    print("  %.1f us a kernel in a graph, and of a linear, whose first weights are fetched before, %.1f us more: not in the" % (GAP, FILL))
    print("  times, since no card has shown it.")


def modelled(l, what):
    """The model's time of a line of measured.txt, or None."""
    words = what.replace(",", "").split()
    alone = LAUNCH - GAP
    if words[0] == "linear":
        n, k = (int(x) for x in words[-4].split("x"))
        return l.linear(n, k, int(words[-2]), BF16 if words[-3] == "bf16" else FP8) + alone + GAP
    if words[0] == "attend":
        heads, kv, dim = (int(x) for x in words[2].split("/"))
        return l.attend(heads, kv, dim, int(words[3]), int(words[5]), BF16 if words[6] == "bf16" else FP8) + alone + GAP
    if words[0] == "ffn" and words[1] in ("up", "down", "add"):
        return l.experts(int(words[3]), 24, 640, 7168, 3, 48, 320)[("up", "down", "add").index(words[1])] + alone + GAP
    if words[:2] == ["ffn", "layer"]:
        return ffn_layer(l, int(words[4])) + alone
    if words[:3] == ["layer", "of", "attention"]:
        return attention_layer(l, BF16 if words[7] == "bf16" else FP8, int(words[6])) + alone
    return None


def print_errors(found, path):
    print("\nagainst what gpu_bench measured (%s): us" % path)
    print("%-6s %-44s %9s %9s %7s" % ("card", "", "measured", "model", "error"))
    errors = {}
    with open(path) as f:
        for line in f:
            if line.startswith("#"):
                continue
            card, what, us = line.rstrip("\n").split("\t")
            error = modelled(Loops(found, CARDS[card], as_measured=True), what) / float(us) - 1
            errors.setdefault(card, []).append(abs(error))
            print("%-6s %-44s %9.1f %9.1f %+6.0f %%" % (card, what, float(us), (1 + error) * float(us), 100 * error))
    for card, of_card in errors.items():
        of_card.sort()
        print("%s: median error %.0f %%, largest %.0f %%, of %d times; %s" % (
            card, 100 * of_card[len(of_card) // 2], 100 * of_card[-1], len(of_card),
            "the model's constants were fitted to these" if card == FITTED else "predicted"))
