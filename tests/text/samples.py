"""Strings that tokenizers get wrong, and generators of more. Used by make_fixtures.py and compare_hf.py."""

FIXED = [
    "",
    " ",
    "  ",
    "   ",
    "\n",
    "\r\n",
    "\r",
    "\t",
    "\n\n\n",
    " \n",
    "\n ",
    "  \n  \n",
    "\r\n\r\n",
    "a\r\nb\r\n",
    "\t\tx",
    " \t \t",
    "a \n b",
    "a  \n\n  b",
    "x   ",
    "   x",
    "x   y    z",
    "\x0b\x0c",
    "\x00",
    "a\x00b",
    "\x1f\x7f",
    "Hello, world!",
    "hello  world",
    " hello",
    "Hello World HELLO wOrLd",
    "The quick brown fox jumps over the lazy dog.",
    "I'm you're he'll we've they'd it's don't",
    "I'M YOU'RE HE'LL",
    "'s't're",
    "'\u017f 'S \u212a",
    "don\u2019t \u201cquoted\u201d \u2018x\u2019 \u2014 \u2013 \u2026",
    "a.b,c;d:e!f?g",
    "...",
    "!!!???",
    "(a)[b]{c}<d>",
    "@user #tag $5 %6 ^7 &8 *9",
    "-word _word +word =word ~word |word \\word /word `word",
    "--flag=value",
    "->x =>y ::z",
    "1",
    "12",
    "123",
    "1234",
    "12345",
    "123456",
    "1234567890",
    "3.14159",
    "1,000,000",
    "1 2 3",
    "a1b22c333d4444",
    "0x1F",
    "\u0661\u0662\u0663\u0664",
    "\u0967\u0968\u0969",
    "\u2160\u2161\u2162",
    "\u00bd\u00bc\u00b2\u00b3",
    "\u2460\u2461",
    "\U0001d7d8\U0001d7d9",
    "\U00010d40\U00010d41\U00010d42\U00010d43",
    "1\U0001d2c0\U0001d2c12",
    "\u4e2d\u6587",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01",
    "\u6211\u7231\u5317\u4eac\u5929\u5b89\u95e8\u3002",
    "\u4e2d\u6587English\u6df7\u5408123\u6587\u672c",
    "\u9fa5\u9fa6\u9fff",
    "\u4e00\u4dff",
    "\u3400\u4dbf",
    "\U00020000\U0002ebf0\U00031350",
    "\u3007\u3005",
    "\u3001\u3002\u300c\u300d",
    "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c",
    "\u30c6\u30b9\u30c8\u30fc",
    "\u3040\u309f\u30a0\u30ff\u3100",
    "\u304b\u3099\u304c",
    "\uff76\uff9e",
    "\u65e5\u672c\u8a9e abc \u30ab\u30bf",
    "\ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8",
    "\u1112\u1161\u11ab",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!",
    "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01",
    "Ti\u1ebfng Vi\u1ec7t",
    "\u12a0\u121b\u122d\u129b",
    "caf\u00e9",
    "cafe\u0301",
    "a\u0300\u0301\u0302b",
    "\u0301abc",
    " \u0301x",
    "\u00c5\u212b",
    "Z\u0351\u036b\u0343a\u0321l\u0334g\u0322o",
    "na\u00efve r\u00e9sum\u00e9",
    "\U0001f600",
    "\U0001f600\U0001f601 \U0001f602",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\U0001f44d\U0001f3fd",
    "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7",
    "\u2764\ufe0f",
    "1\ufe0f\u20e3",
    "\U0001f3f4\U000e0067\U000e0062\U000e007f",
    "text\U0001f680text",
    "\u00a9\u00ae\u2122",
    "a\u00a0b",
    "\u00a0\u00a0x",
    "\u2003em\u2009thin",
    "\u3000\u5168\u89d2\u3000",
    "\u200bzero\u200bwidth",
    "a\u200db\u200cc",
    "\ufeffbom",
    "\u2028\u2029",
    "x\u0085y",
    "\u180e",
    "a\u180eb",
    " \u180e \u180e",
    "\u1680x",
    "\u205f\u202f",
    "\u00ad\u2060",
    "\u1c89\u1c8a",
    "x\u1c8a",
    " \ua7cb!",
    "\u0897a",
    "\U0001171e\U0001171fa",
    "\U000105c0\U000105c1x",
    "\u2ffc\u31ef",
    "\u1b4e\u1b7f",
    "\U00016d40\U00016d6c",
    "\u0378\u0379",
    "\ue000\uf8ff",
    "\ufffd\ufffe\uffff",
    "\U0010ffff",
    "\U000e0001",
    "\u0600\u06dd",
    "\u2061x",
    "int main(void)\n{\n    return 0;\n}\n",
    "for (int i = 0; i < n; ++i) {\n\ta[i] += b[i] * 2.5e-3;\n}",
    "def f(x):\n    return x**2  # square\n",
    "#include <stdio.h>\r\n",
    "if (a&&b||!c) x->y = *p++;",
    "SELECT * FROM t WHERE id=42;",
    "<div class=\"a\">text</div>",
    "{\"key\": [1, 2.0, null, true]}",
    "https://example.org/path?q=1&r=%20#frag",
    "user@example.org",
    "C:\\dir\\file.txt",
    "$x^2 + \\frac{1}{2}$",
    "\\begin{a}\\\\",
    "```c\nx\n```",
    "| a | b |\n|---|---|\n",
    "camelCaseWord snake_case_word SCREAMING_CASE kebab-case",
    "x=1;y=2",
    "a+b=c",
    "\u2200x\u2208\u211d: x\u00b2\u22650",
    "\u2190\u2192\u2194 \u221e \u2260",
    "\u20ac100 \u00a35 \u00a51000",
    "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
    "<\uff5cUser\uff5c>Hi<\uff5cAssistant\uff5c>",
    " <\uff5cUser\uff5c> ",
    "a<\uff5cUser\uff5c>b",
    "<\uff5cUser\uff5c><\uff5cUser\uff5c>",
    "<\uff5cUser",
    "<\uff5cUser\uff5c",
    "<|EOT|>",
    "x <|EOT|> y",
    "\n<|EOT|>\n",
    "<|EOT|><|EOT|>",
    "<|EO",
    "<|EOT|",
    "<<|EOT|>>",
    "12<|EOT|>34",
    "  <|EOT|>  ",
    "<\uff5cfim\u2581hole\uff5c>x",
    "<\uff5ctool\u2581calls\u2581begin\uff5c>{\"a\":1}<\uff5ctool\u2581calls\u2581end\uff5c>",
    "<\uff5cplace\u2581holder\u2581no\u25810\uff5c>",
    "<\uff5cplace\u2581holder\u2581no\u258112\uff5c>",
    "<s>",
    "</s>",
    "<pad>",
    "[INST]",
    "a <s> b",
    "  <s>  b",
    "a<s>b",
    "<s><s>",
    "<mark>",
    "x<mark>y",
    " <mark> ",
    "<mark> <mark>  <mark>",
    "word",
    "words",
    "a word b",
    "aword",
    "word word",
    "word.",
    "_word_",
    "word\u0301",
    "\u00e9word",
    "word\u200d",
    " \u3000<left>",
    "a \t\n<left>b",
    "<left> <left>",
    "<right>  \n x",
    "<right> <right>",
    "a<both>b",
    " <both> ",
    "  <both>  <both>  ",
    "New York",
    "in New York City",
    "NewYork",
    "New  York",
    "longlonger",
    "longlongest",
    "long",
    "longlong",
    "longlongestlonger",
    "\u00e9\u00e8 \u0120the",
    "caf\u00e9 token",
    "<think>\nOkay, let me see.\n</think>\n\nThe answer is \\boxed{42}.",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "ababababababababababababababababababababababababababababababababababababababababababababababab",
    " " * 40 + "x",
    "\n" * 30,
    "=" * 70,
    "-" * 33 + "\n",
    "." * 17,
    "1" * 20,
    "\u4e2d" * 40,
    "the" * 30,
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
]

# What Unicode versions, scripts and definitions of white space and word characters disagree on.
EXOTIC = (
    "a\u1c89\u1c8a1\u0897\U00010d40 \u1b4e\u2427\ua7da\u3001\u3006\u30fc\u309b\U0002ebf0\U0001b132\U0001b155\u180e\u0085\u200c"
    "\u00b2\u00b9\u00bd\u200d\u0363\u09f4\u2160\u20e3\u203fFf\u0378\U0001fae9\ua7cb\U00016d40\u20c0\u2e5d\U0001d2c0 \u0301b"
)

WORDS = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or had an they "
    "which one you were her all she there would their we him been has when who will more no if out so said what "
    "up its about into than them can only other new some could time these two may then do first any my now such "
    "like our over man me even most made after also did many before must through back years where much your way "
    "well down should because each just those people how too little state good very make world still own see men "
    "work long get here between both life being under never day same another know while last might us great old "
    "year off come since against go came right used take three token prompt expert attention layer memory batch "
    "return int char void struct const size float double static include define while import class self None True "
    "naive cafe word words longlonger").split()
CJK = "\u7684\u4e00\u662f\u5728\u4e0d\u4e86\u6709\u548c\u4eba\u8fd9\u4e2d\u5927\u4e3a\u4e0a\u4e2a\u56fd\u6211\u4ee5\u8981\u4ed6\u65f6\u6765\u7528\u4eec\u751f\u5230\u4f5c\u5730\u4e8e\u51fa\u5c31\u5206\u5bf9\u6210\u4f1a\u53ef\u4e3b\u53d1\u5e74\u52a8\u540c\u5de5\u4e5f\u80fd\u4e0b\u8fc7\u5b50\u8bf4\u4ea7\u79cd\u9762"
KANA = "\u3042\u3044\u3046\u3048\u304a\u304b\u304d\u304f\u3051\u3053\u3055\u3057\u3059\u305b\u305d\u30a2\u30a4\u30a6\u30a8\u30aa\u30ab\u30ad\u30af\u30b1\u30b3\u30fc"
SPACES = [
    " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", " \n", "\u2009", "\u180e",
    "\u0085"
]
PUNCT = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + [
    "...", "--", "'s", "'ll", "\u2019", "\u3002", "\uff0c", "\u2014", "\u20ac", "\u00b1"
]
ADDED = [
    "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
    "<|EOT|>", "<s>", "<mark>", "<left>", "<right>", "<both>", "word", "New York", "longlonger",
    "long", "<\uff5c", "<|", "\uff5c>", "<\uff5cfim\u2581hole\uff5c>"
]


def natural(rng):
    """Something like prose, code or chat: words, numbers, marks, spaces."""
    out = []
    for _ in range(rng.randint(1, 40)):
        k = rng.random()
        if k < 0.5:
            w = rng.choice(WORDS)
            out.append(
                rng.choice([w, w, w, w.capitalize(),
                            w.upper(), w + rng.choice(WORDS)]) + rng.choice([" ", " ", " ", ""]))
        elif k < 0.6:
            out.append(str(rng.randint(0, 10**rng.randint(1, 9))))
        elif k < 0.72:
            out.append(rng.choice(PUNCT) * rng.randint(1, 3))
        elif k < 0.82:
            out.append(rng.choice(SPACES))
        elif k < 0.9:
            out.append("".join(rng.choice(CJK) for _ in range(rng.randint(1, 8))))
        elif k < 0.95:
            out.append("".join(rng.choice(KANA) for _ in range(rng.randint(1, 6))))
        else:
            out.append(rng.choice(ADDED))
    return "".join(out)


def character(rng):
    """Any character, the interesting ranges more often."""
    lo, hi = rng.choice([(0, 0x7f), (0, 0x7f), (0x80, 0x24f), (0x300, 0x36f), (0x370, 0x5ff),
                         (0x600, 0x1fff), (0x2000, 0x206f), (0x2070, 0x2fff), (0x3000, 0x30ff),
                         (0x4e00, 0x9fff), (0x1f300, 0x1faff), (0x10000, 0x1ffff), (0, 0xffff),
                         (0, 0x10ffff), (0xa640, 0xabff), (0xe0000, 0xe01ef)])
    while True:
        c = rng.randint(lo, hi)
        if not 0xD800 <= c <= 0xDFFF:
            return chr(c)


def random_unicode(rng):
    """Characters from everywhere, with runs, spaces and added tokens between."""
    out = []
    for _ in range(rng.randint(1, 30)):
        k = rng.random()
        if k < 0.7:
            out.append(character(rng) * rng.choice([1, 1, 1, 2, 5]))
        elif k < 0.85:
            out.append(rng.choice(SPACES))
        elif k < 0.95:
            out.append(rng.choice(WORDS))
        else:
            out.append(rng.choice(ADDED))
    return "".join(out)


def confetti(rng):
    """Few different characters in many orders: the rules of splitting, exhaustively."""
    alphabet = rng.choice([
        " \na", " \r\n\t.", "a1 .", "aA'\u0301 ", "\u4e2d\u3042a1 ", "ab", "aabbc ", "<|s>\uff5c ",
        "'sdmtlrve ", "\u00a0 \u3000x\n"
    ])
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 24)))


def sample(rng):
    return rng.choice([natural, natural, random_unicode, confetti])(rng)
