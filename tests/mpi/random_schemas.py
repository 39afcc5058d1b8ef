#!/usr/bin/python3
"""random_schemas.py make N OUT.h5: prompts with a random format each. check OUT.jsonl IN.h5 [END]: completions that
ended by "stop" parse and are valid, as the library jsonschema says. END ends the reasoning before some of them."""
import datetime
import email.headerregistry
import ipaddress
import json
import random
import re
import sys
import urllib.parse
import uuid

import h5py

LABEL = "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
FORMATS = {"date": datetime.date.fromisoformat, "time": datetime.time.fromisoformat, "date-time": datetime.datetime.fromisoformat,
           "uuid": uuid.UUID, "ipv4": ipaddress.IPv4Address,
           "email": lambda t: email.headerregistry.Address(addr_spec=t), "uri": lambda t: urllib.parse.urlsplit(t).hostname or 1 / 0,
           "hostname": lambda t: all(re.fullmatch(LABEL, p) for p in t.split(".")) or 1 / 0,
           "duration": lambda t: re.fullmatch(r"P(?=[^P]*\d)(\d+W|(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?)", t) or 1 / 0}
NAMES = ["name", "age", "a b", "quote\"d", "caf\u00e9", "x", "tags", "next"]
PATTERNS = ["^[a-z]+$", "^\\d{2,4}-\\w+$", "[A-Z]", "^(ab|c)*d?$", "\\\"|\u00e9", "^.{3}$", "^[^a-m]{1,5}x", "^\\S+ \\S+$"]


def number(r, kind):
    s = {"type": kind}
    if r.random() < 0.7:
        low = r.choice([0, -3, 17, -250, 99, 1000])
        s[r.choice(["minimum", "exclusiveMinimum"])] = low
        if r.random() < 0.8:
            s[r.choice(["maximum", "exclusiveMaximum"])] = low + r.choice([2, 5, 12, 400, 100000])
    return s


def schema(r, depth, defs):
    kinds = ["string", "pattern", "format", "enum", "const", "integer", "number", "boolean", "null", "any", "types"]
    if depth > 0:
        kinds += ["object", "array", "anyOf", "map", "tuple", "oneOf", "merged", "keys"] * 2 + (["ref"] if defs else [])
    kind = r.choice(kinds)
    below = lambda: schema(r, depth - 1, defs)
    if kind == "string":
        s = {"type": "string", "description": "text"}
        if r.random() < 0.8:
            s["maxLength"] = r.choice([0, 1, 5, 30])
            if r.random() < 0.5:
                s["minLength"] = r.randint(0, s["maxLength"])
        return s
    if kind == "pattern":
        return {"type": "string", "pattern": r.choice(PATTERNS)}
    if kind == "format":
        return {"type": "string", "format": r.choice(list(FORMATS))}
    if kind == "merged":
        part = lambda names: {"properties": {n: below() for n in names}, "required": [n for n in names if r.random() < 0.6]}
        return {"allOf": [{"$ref": "#/$defs/node"}, {"type": "object", **part(["a", "b"])}], **part(["c"]), "title": "merged"}
    if kind == "keys":
        return {"type": "object", "patternProperties": {r.choice(["^[a-z]{1,6}$", "^x_"]): below()}, "additionalProperties": False}
    if kind == "enum":
        return {"enum": r.sample(["red", "gr\u00fcn", 5, -1.5, True, None, {"a": [1]}, "x\ny"], r.randint(1, 4))}
    if kind == "const":
        return {"const": r.choice(["on", 0, [], {"k": "v"}])}
    if kind in ("integer", "number"):
        return number(r, kind)
    if kind in ("boolean", "null"):
        return {"type": kind}
    if kind == "any":
        return r.choice([True, {}, {"title": "anything"}])
    if kind == "types":
        return {"type": r.sample(["string", "integer", "null", "boolean", "array"], 2)}
    if kind == "array":
        s = {"type": "array", "items": below()}
        if r.random() < 0.8:
            s["maxItems"] = r.randint(0, 4)
            if r.random() < 0.6:
                s["minItems"] = r.randint(0, s["maxItems"])
        return s
    if kind == "tuple":
        return {"type": "array", "prefixItems": [below(), below()], "minItems": 2, "items": False}
    if kind == "anyOf":
        return {"anyOf": [below() for _ in range(r.randint(1, 3))]}
    if kind == "oneOf":
        tagged = lambda tag: {"type": "object", "properties": {"kind": tag, "of": below()}, "required": ["kind"]}
        return {"oneOf": [tagged({"const": "a"}), tagged({"enum": ["b", 1]}), {"type": ["integer", "null"]}], "discriminator": {"propertyName": "kind"}}
    if kind == "map":
        return {"type": "object", "additionalProperties": below()}
    if kind == "ref":
        return {"$ref": "#/$defs/node"}
    names = r.sample(NAMES, r.randint(1, 4))
    s = {"type": "object", "properties": {n: below() for n in names}}
    s["required"] = [n for n in names if r.random() < 0.6]
    if r.random() < 0.3:
        s["additionalProperties"] = False
    return s


def root(r):
    s = schema(r, 3, True)
    s = {"allOf": [s]} if s is True or "$ref" in s else dict(s)
    s["$defs"] = {"node": {"type": "object", "required": ["v"], "properties": {
        "v": {"type": "integer", "minimum": 0, "maximum": 9}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}}
    return s


def make(n, path):
    r = random.Random(5)
    formats = []
    for i in range(n):
        if i % 10 == 8:
            formats.append({"regex": r.choice(["(yes|no)( |, )[a-z]{2,9}\\.", "\\d+(\\.\\d{1,3})?", "[\u0430-\u044f]{3}|\\u00e9+"])})
        elif i % 10 == 9:
            formats.append({"choice": r.sample(["yes", "no", "maybe not", "\u00fcber", "yes indeed"], 3)})
        else:
            formats.append({"json_schema": root(r)})
    with h5py.File(path, "w") as f:
        f["text"] = [f"{r.choice(NAMES)}, noun:" for _ in formats]
        f["format"] = [json.dumps(x) for x in formats]


def check(lines, path, end=None):
    import jsonschema
    with h5py.File(path) as f:
        formats = [json.loads(x) for x in f["format"].asstr()]
    checker = jsonschema.FormatChecker(formats=())
    for name, parse in FORMATS.items():
        checker.checks(name, raises=Exception)(lambda t, parse=parse: not isinstance(t, str) or bool(parse(t)) or parse is datetime.time.fromisoformat)
    ended = reasoned = 0
    for line in open(lines, encoding="utf-8"):
        row = json.loads(line)
        form, text = formats[row["prompt"]], row["text"]
        assert row["finish"] in ("stop", "length"), row
        if row["finish"] == "length":
            continue
        ended += 1
        reasoned += row.get("reasoning", "") != ""
        assert not end or end not in row.get("reasoning", ""), row
        if "regex" in form:
            assert re.fullmatch(form["regex"], text), (form, text)
        elif "choice" in form:
            assert text in form["choice"], (form, text)
        else:
            value = json.loads(text)
            jsonschema.Draft202012Validator.check_schema(form["json_schema"])
            try:
                jsonschema.validate(value, form["json_schema"], cls=jsonschema.Draft202012Validator, format_checker=checker)
            except jsonschema.ValidationError as e:
                raise AssertionError((form, text)) from e
    assert reasoned > 5 if end else ended > len(formats) * 0.5 and not reasoned, (ended, reasoned, len(formats))
    print(f"{ended} of {len(formats)} completions ended, and are what was asked for")


make(int(sys.argv[2]), sys.argv[3]) if sys.argv[1] == "make" else check(*sys.argv[2:])
