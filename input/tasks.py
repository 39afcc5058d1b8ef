#!/usr/bin/env python3
"""Questions with one right answer each, for a small chat model: what it is trained on and asked.

    ./tasks.py                  one question of every kind, with its answer
    ./tasks.py --check          the generators against other ways to the same answers
    ./tasks.py --ask 12         held-out questions as JSON Lines of `messages`, 12 of every kind, with the
                                question and right answer beside them (for `tandem import`)
    ./tasks.py --ask 12 --define "cobbler, noun"    and a word to define behind them, as often as it is given

A question is held out when a hash of its text says so (about one in 40): training never sees it, and prompts
are made of nothing else.
"""
import argparse
import datetime
import hashlib
import json
import random
import re

ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen").split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
MONTHS = ("January February March April May June July August September October November December").split()


def words_of(n):
    """0 to 999,999 in words."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + ("-" + ONES[n % 10] if n % 10 else "")
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if n >= size:
            return words_of(n // size) + " " + name + (" " + words_of(n % size) if n % size else "")


def roman_of(n):
    text = ""
    for value, letters in ((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"),
                           (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")):
        text += letters * (n // value)
        n %= value
    return text


NOUNS = ("apple box bus baby book bridge brush bench berry boat bottle boy branch butcher cat cherry church city "
         "class clock cloud country cup daisy day desk dish dog door dress duck eagle engine fairy family farm field "
         "flag flower fly fox friend garden gate glass goat guest hat hill horse house island key kiss kite lady lake "
         "lamp letter light lion market match monkey mountain nurse ocean party peach pen penny picture plant plate "
         "pony queen road rock room rose ship shoe sky song spider star stone storm story street student table teacher "
         "toy train tree truck valley village wall watch wave window wish witch year").split()
ODD_NOUNS = {"man": "men", "woman": "women", "child": "children", "foot": "feet", "tooth": "teeth", "mouse": "mice",
             "goose": "geese", "ox": "oxen", "person": "people", "leaf": "leaves", "wolf": "wolves", "knife": "knives",
             "life": "lives", "wife": "wives", "half": "halves", "shelf": "shelves", "thief": "thieves",
             "loaf": "loaves", "sheep": "sheep", "deer": "deer", "fish": "fish", "potato": "potatoes",
             "tomato": "tomatoes", "hero": "heroes", "echo": "echoes"}
VERBS = ("add agree answer arrive ask bake bark beg call carry clean climb close cook copy cover cry dance decide drop "
         "dry enjoy fix fold hope hug hurry jog join jump kick laugh like listen live look love marry miss move nod "
         "offer open paint pass plan play please pull push rain reply rest rob rub sail save shop smile stay step stop "
         "study talk taste thank tie touch travel trust try turn visit wait walk want wash watch work worry").split()
DOUBLED = set("beg drop hug jog nod plan rob rub shop step stop".split())
ODD_VERBS = {"be": "was", "become": "became", "begin": "began", "break": "broke", "bring": "brought", "build": "built",
             "buy": "bought", "catch": "caught", "choose": "chose", "come": "came", "cut": "cut", "do": "did",
             "draw": "drew", "drink": "drank", "drive": "drove", "eat": "ate", "fall": "fell", "feel": "felt",
             "find": "found", "fly": "flew", "forget": "forgot", "get": "got", "give": "gave", "go": "went",
             "grow": "grew", "have": "had", "hear": "heard", "hold": "held", "keep": "kept", "know": "knew",
             "leave": "left", "lose": "lost", "make": "made", "meet": "met", "pay": "paid", "put": "put",
             "read": "read", "ride": "rode", "ring": "rang", "run": "ran", "say": "said", "see": "saw", "sell": "sold",
             "send": "sent", "sing": "sang", "sit": "sat", "sleep": "slept", "speak": "spoke", "stand": "stood",
             "swim": "swam", "take": "took", "teach": "taught", "tell": "told", "think": "thought", "throw": "threw",
             "understand": "understood", "win": "won", "write": "wrote"}
NAMES = "Ada Ben Chloe David Emma Finn Grace Hugo Iris Jack Kim Leo Maya Noah Olive Paul Rosa Sam Tara Zoe".split()
CITIES = "Berlin Cairo Delhi Lima Lisbon London Madrid Nairobi Oslo Paris Prague Quito Rome Seoul Tokyo Vienna".split()


def plural_of(noun):
    if noun in ODD_NOUNS:
        return ODD_NOUNS[noun]
    if re.search(r"(s|x|ch|sh)$", noun):
        return noun + "es"
    return noun[:-1] + "ies" if re.search(r"[^aeiou]y$", noun) else noun + "s"


def past_of(verb):
    if verb in ODD_VERBS:
        return ODD_VERBS[verb]
    if verb.endswith("e"):
        return verb + "d"
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ied"
    return verb + (verb[-1] if verb in DOUBLED else "") + "ed"


# ---- the tasks: from a random number generator to a question and its answer -----------------

def number(r):
    return r.randrange(10 ** r.choice((2, 3, 4, 5, 6)))


def to_words(r):
    n = number(r)
    return f"Write {n} in words.", words_of(n)


def from_words(r):
    n = number(r)
    return f"Write the number {words_of(n)} in digits.", str(n)


def iso_date(r):
    d = datetime.date.fromordinal(r.randrange(datetime.date(1900, 1, 1).toordinal(),
                                              datetime.date(2100, 1, 1).toordinal()))
    month = MONTHS[d.month - 1]
    form = r.choice((f"{month} {d.day}, {d.year}", f"{d.day} {month} {d.year}"))
    return f"Write the date {form} in ISO form.", f"{d.year}-{d.month:02}-{d.day:02}"


def plural(r):
    count, noun = r.randrange(2, 100), r.choice(NOUNS + list(ODD_NOUNS))
    return f"One {noun}, {count} ... what?", plural_of(noun)


def past(r):
    who, verb = r.choice(NAMES), r.choice(VERBS + list(ODD_VERBS))
    return f"What is the past tense of {verb}, as in \"yesterday {who} ...\"?", past_of(verb)


def to_roman(r):
    n = r.randrange(1, 4000)
    return f"Write {n} as a Roman numeral.", roman_of(n)


def from_roman(r):
    n = r.randrange(1, 4000)
    return f"Which number is {roman_of(n)}?", str(n)


def total(r):
    a, b = r.randrange(21), r.randrange(21)
    return (f"What is {a} + {b}?", str(a + b)) if r.random() < 0.6 else (f"What is {a + b} - {a}?", str(b))


def in_order(r):
    words = r.sample(NOUNS, r.randrange(3, 6))
    return f"Sort these words: {', '.join(words)}.", ", ".join(sorted(words))


def fields(r):
    name, age, city = r.choice(NAMES), r.randrange(5, 100), r.choice(CITIES)
    return (f"As JSON: {name} is {age} years old and lives in {city}.",
            json.dumps({"name": name, "age": age, "city": city}))


TASKS = {f.__name__: f for f in (to_words, from_words, iso_date, plural, past, to_roman, from_roman, total, in_order,
                                 fields)}


def is_held_out(question):
    return hashlib.sha256(question.encode()).digest()[0] < 256 // 40


def examples(task, r, held_out):
    """Questions of a kind without end, all of them held out or none."""
    while True:
        question, answer = TASKS[task](r)
        if is_held_out(question) == held_out:
            yield question, answer


def is_right(answer, text):
    return text.strip() == answer


# ---- other ways to the same answers ---------------------------------------------------------

def number_of(words):
    total = part = 0
    for word in words.replace("-", " ").split():
        if word == "thousand":
            total, part = part * 1000, 0
        elif word == "hundred":
            part *= 100
        else:
            part += ONES.index(word) if word in ONES else 10 * TENS.index(word)
    return total + part


def roman_value(text):
    values = [dict(I=1, V=5, X=10, L=50, C=100, D=500, M=1000)[c] for c in text]
    return sum(-v if v < max(values[i:]) else v for i, v in enumerate(values))


def check():
    for n in list(range(1200)) + [4207, 10000, 99999, 100001, 999999]:
        assert number_of(words_of(n)) == n, (n, words_of(n))
    for n in range(1, 4000):
        assert roman_value(roman_of(n)) == n and not re.search(r"(.)\1{3}", roman_of(n)), (n, roman_of(n))
    assert words_of(4207) == "four thousand two hundred seven" and roman_of(1994) == "MCMXCIV"
    assert [plural_of(n) for n in ("city", "day", "box", "church", "goose")] == ["cities", "days", "boxes", "churches", "geese"]
    assert [past_of(v) for v in ("carry", "stop", "play", "bake", "go")] == ["carried", "stopped", "played", "baked", "went"]
    r, trained, asked = random.Random(1), set(), set()
    for task in TASKS:
        for _, (question, answer) in zip(range(400), examples(task, r, False)):
            trained.add(question)
            assert is_right(answer, f" {answer}\n") and not is_right(answer, answer + "x") and question.isascii()
        for _, (question, answer) in zip(range(20), examples(task, r, True)):
            asked.add(question)
            if task == "iso_date":
                given = question[len("Write the date "):-len(" in ISO form.")]
                form = "%B %d, %Y" if "," in given else "%d %B %Y"
                assert datetime.datetime.strptime(given, form).date() == datetime.date.fromisoformat(answer), question
            if task == "fields":
                assert set(json.loads(answer)) == {"name", "age", "city"}
            if task == "total":
                assert eval(question[len("What is "):-1]) == int(answer), question
    assert not trained & asked and len(asked) > 100, len(asked)
    print(f"{len(TASKS)} kinds of questions, {len(trained)} to train on, {len(asked)} held out, none in both")


def line_of(name, question, task, answer):
    return json.dumps({"id": name, "messages": [{"role": "user", "content": question}], "question": question,
                       "task": task, "answer": answer})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--ask", type=int, metavar="N")
    parser.add_argument("--define", metavar="WORD, PART", action="append", default=[])
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()
    r = random.Random(args.seed)
    if args.check:
        check()
    for task in TASKS if not args.check else ():
        for i, (question, answer) in zip(range(args.ask or 1), examples(task, r, True)):
            if args.ask:
                print(line_of(f"{task}-{i}", question, task, answer))
            else:
                print(f"{task:12} {question}  ->  {answer}")
    for word in args.define:
        print(line_of(word, f"Define {word}.", "definition", ""))


if __name__ == "__main__":
    main()
