"""src/text for scripts that compare it with other tokenizers. Run from the root; needs a C compiler."""
import ctypes
import os
import subprocess


class Err(ctypes.Structure):
    _fields_ = [("text", ctypes.c_char * 2048)]


class Ours:
    """src/text/tokenizer.h"""

    def __init__(self, lib, path):
        self.lib, self.t, e = lib, ctypes.c_void_p(), Err()
        if lib.tokenizer_open(ctypes.byref(self.t), path.encode(), ctypes.byref(e)):
            raise ValueError(e.text.decode(errors="replace"))

    def raw_encode(self, data):
        ids, n, e = ctypes.POINTER(ctypes.c_int32)(), ctypes.c_size_t(), Err()
        if self.lib.tokenizer_encode(self.t, data, ctypes.c_size_t(len(data)), ctypes.byref(ids),
                                     ctypes.byref(n), ctypes.byref(e)):
            raise ValueError(e.text.decode(errors="replace"))
        return ids, n.value

    def encode(self, text):
        ids, n = self.raw_encode(text.encode())
        out = ids[:n]
        self.lib.free(ids)
        return out

    def decode(self, ids, skip):
        array, text, n = (ctypes.c_int32 * len(ids))(*ids), ctypes.c_void_p(), ctypes.c_size_t()
        self.lib.tokenizer_decode(self.t, array, ctypes.c_size_t(len(ids)), ctypes.c_bool(skip),
                                  ctypes.byref(text), ctypes.byref(n))
        out = ctypes.string_at(text, n.value)
        lossy, m = ctypes.c_void_p(), ctypes.c_size_t()
        self.lib.tokenizer_utf8_lossy(text, n, ctypes.byref(lossy), ctypes.byref(m))
        repaired = ctypes.string_at(lossy, m.value).decode()
        assert repaired == out.decode(errors="replace"), out
        self.lib.free(text)
        self.lib.free(lossy)
        return repaired


def library(folder):
    """The library, compiled from the sources."""
    out = os.path.join(folder, "libtext.so")
    sources = [f"{d}/{f}" for d in ("src/text", "src/base") for f in sorted(os.listdir(d)) if f.endswith(".c")]
    subprocess.run([
        os.environ.get("CC", "cc"), "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-Isrc", "-shared",
        "-fPIC", "-o", out, *sources, "-ljansson", "-lpcre2-8"
    ],
                   check=True)
    lib = ctypes.CDLL(out)
    lib.free.argtypes = [ctypes.c_void_p]
    return lib
