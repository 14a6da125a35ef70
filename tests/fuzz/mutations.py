"""Changes of valid records that keep their form: what a hostile hand would try."""

from __future__ import annotations

import copy
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import Any

import numpy as np

from oodml.splits.formats.plain_pickle import read_plain_pickle

# Values that programs stumble over, of every type that JSON has.
ODD = (
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 2**64, 10**400, 0.0, -0.0, 0.5, 1e308,
    -1e308, 5e-324, "", " ", "0", "-1", "NaN", "a" * 300, "../../etc/passwd", "/etc/passwd",
    "\x1b[2J", "</script>", "\u202eabc", "\ud800", "\x00", "class 000", "ä\U0001f600", [], {},
    [[]], [0], [""], {"": ""}, {"a": []}, [None], [1e308, -1e308],
)  # fmt: skip
# What only text can say: JSON of infinite, double and deep things.
_INFINITE = ("1e999", "-1e999", "NaN", "Infinity", '{"a":1,"a":2}', "[" * 2000, "9" * 5000)
_DESCRIPTIONS = (
    "'<f4'", "'>f8'", "'<f2'", "'|O'", "'<c8'", "'<i8'", "'<u1'", "'<U5'", "'<U0'", "'<M8[D]'",
    "'|b1'", "[('a', '<f4')]", "'|V0'", "'<U999999999'", "''", "None", "((((",
)  # fmt: skip


def changed_value(value: Any, random: Random) -> Any:
    """The JSON-like value, changed in place, with one or two places that are others."""
    for _ in range(random.choice((1, 1, 2))):
        value = _changed_once(value, random)
    return value


def _changed_once(value: Any, random: Random) -> Any:
    if not isinstance(value, dict | list) or not value or random.random() < 0.05:
        return _other(value, random)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = random.choice(keys)
    way = random.random()
    if way < 0.06:
        del value[key]
    elif way < 0.10 and isinstance(value, list):
        value.insert(key, copy.deepcopy(random.choice(value)))
    elif way < 0.14 and isinstance(value, dict):
        value[random.choice(ODD[17:31])] = value.pop(key)
    else:
        value[key] = _changed_once(value[key], random)
    return value


def _other(value: Any, random: Random) -> Any:
    if type(value) is int and random.random() < 0.6:
        return value + random.choice((-1, 1, 2, -value))
    if type(value) is float and random.random() < 0.6:
        return value * random.choice((-1, 0, 2, 0.5, 1e200))
    if type(value) is str and value and random.random() < 0.6:
        place = random.randrange(len(value))
        return value[:place] + chr(random.choice((0, 27, 34, 92, 0x202E, 0x1F600))) + value[place:]
    return copy.deepcopy(random.choice(ODD))


def changed_json(data: bytes, random: Random) -> bytes:
    """A JSON text with other values, now and then with one that only text can say."""
    text = json.dumps(changed_value(json.loads(data), random))
    if random.random() < 0.1:
        places = [at for at, sign in enumerate(text) if sign in ":,["]
        at = random.choice(places) + 1 if places else 0
        text = text[:at] + random.choice(_INFINITE) + text[at:].lstrip('0123456789. "')
    return text.encode(errors="surrogatepass")


def changed_pickle(data: bytes, random: Random) -> bytes:
    """The pickle of a changed value, by another protocol at times, or with a name to be called."""
    value = changed_value(pickle.loads(_harmless(data)), random)
    out = pickle.dumps(value, protocol=random.choice((2, 3, 4, 5)))
    if random.random() < 0.2:
        call = random.choice((b"cos\nsystem\n(S'true'\ntR", b"cnumpy\ndtype\n(X\x02\0\0\0f8tR"))
        at = random.randrange(2, len(out))
        out = out[:at] + call + out[at:]
    return out


@lru_cache(1024)
def _harmless(data: bytes) -> bytes:
    """The same value as a pickle of our own: what an earlier change made hostile is refused."""
    return pickle.dumps(read_plain_pickle(data))


def changed_npz(data: bytes, random: Random) -> bytes:
    """An archive with changed members: header, bytes, or the record inside."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(list(members))
    if name == "record.npy" and random.random() < 0.8:
        text = str(np.load(io.BytesIO(members[name])))
        changed = changed_json(text.encode(), random).decode(errors="surrogatepass")
        members[name] = _saved(np.array(changed))
    else:
        members[name] = changed_npy(members[name], random)
    if random.random() < 0.05:
        del members[name]
    out = io.BytesIO()
    packing = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def changed_npy(data: bytes, random: Random) -> bytes:
    """An array under another type or shape, or with other bytes."""
    way = random.random()
    header = data[10 : data.index(b"\n") + 1] if b"\n" in data else b""
    if way < 0.25:
        return data[: random.randrange(len(data) + 1)]
    if way < 0.5 or not header:
        at = random.randrange(len(data))
        return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]
    shape = random.choice(("()", "(3,)", "(0, 4)", "(4, 2)", "(-1, 2)", "(99999999999999, 4)"))
    text = (
        f"{{'descr': {random.choice(_DESCRIPTIONS)}, 'fortran_order': "
        f"{random.choice(('True', 'False', '1'))}, 'shape': {shape}, }}\n"
    )
    content = data[10 + len(header) :]
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + content


def changed_csv(data: bytes, random: Random) -> bytes:
    """Lines that are left out, doubled, exchanged, or have a field that is another."""
    lines = data.decode(errors="replace").split("\n")
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    way = random.random()
    if way < 0.2:
        del lines[at]
    elif way < 0.4:
        lines.insert(at, lines[other])
    else:
        fields = lines[at].split(",")
        place = random.randrange(len(fields))
        fields[place] = random.choice(("", '"', "nan", "1e999", "-1", "9" * 5000, "test", "train",
                                       "validation", "a,b", "\r", "\x00", "=1+1", "ä"))  # fmt: skip
        lines[at] = ",".join(fields)
    return "\n".join(lines).encode(errors="replace")


def _saved(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


CHANGES: dict[str, Callable[[bytes, Random], bytes]] = {
    "ladder": changed_json,
    "run": changed_json,
    "grid": changed_json,
    "npz": changed_npz,
    "npy": changed_npy,
    "pickle": changed_pickle,
    "csv": changed_csv,
}
