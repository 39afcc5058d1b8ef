#!/usr/bin/python3
"""Runs scripts of this folder, each a line of stdin (NAME.py ARGUMENT...), and prints ok after each: python and numpy
take longer to start than most of them to run."""
import importlib
import shlex
import sys

for line in sys.stdin:
    script, *sys.argv[1:] = shlex.split(line)
    importlib.import_module(script.removesuffix(".py")).main()
    print("ok", flush=True)
