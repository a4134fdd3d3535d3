"""A corpus of hostile and damaged files: none runs anything, each ends in one clear error."""

import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest
from torch_files import Call, Global, Persistent, storage, tensor, write_archive, write_torch

from dg2_jax.interop.torch_checkpoint import CheckpointError, read_safetensors, read_torch
from dg2_jax.models import weights_file

FLOATS = np.arange(16, dtype=np.float32)


def calls(module, name, *args):
    return lambda path, marker: write_torch(
        path, {"a": Call(Global(module, name), tuple(a.format(marker) for a in args))}
    )


def pickled(data):
    return lambda path, marker: write_archive(path, {"data.pkl": data})


def getattr_chain(path, marker):
    module = Call(Global("importlib", "import_module"), ("os",))
    function = Call(Global("builtins", "getattr"), (module, "system"))
    return write_torch(path, Call(function, (f"touch {marker}",)))


def call_of_a_record(path, marker):
    return write_torch(path, Call(Call(Global("package", "factory"), ()), (f"touch {marker}",)))


def through_tensor_type(path, marker):
    args = (Global("os", "system"), None, (f"touch {marker}",), None)
    return write_torch(path, Call(Global("torch._tensor", "_rebuild_from_type_v2"), args))


def from_unknown_function(path, marker):
    args = (Global("package", "run"), None, (f"touch {marker}",), None)
    return write_torch(path, Call(Global("torch._tensor", "_rebuild_from_type_v2"), args))


def in_state(path, marker):
    evil = Call(Global("posix", "system"), (f"touch {marker}",))
    return write_torch(path, Call(Global("package", "Config"), (), {"a": evil}))


def in_storage_type(path, marker):
    evil = Call(Global("os", "system"), (f"touch {marker}",))
    return write_torch(path, Persistent(("storage", evil, "0", "cpu", 1)), {"0": FLOATS})


def instance_opcode(path, marker):
    data = b"(S'a'\nios\nsystem\n."
    return pickled(data.replace(b"S'a'\n", f"Vtouch {marker}\n".encode()))(path, marker)


def tensors(stored, offset=0, shape=(16,), strides=(1,), held=FLOATS):
    return lambda path, marker: write_torch(
        path, {"a": tensor(stored, offset, shape, strides)}, {"0": held}
    )


def archive(change):
    """A good file whose bytes go through `change`."""

    def write(path, marker):
        write_torch(path, {"a": FLOATS})
        path.write_bytes(change(path.read_bytes()))

    return write


def compressed(path, marker):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickle.dumps({}, 2))
        file.writestr("archive/data/0", bytes(50_000_000))


def central_field(offset, layout, value):
    """Overwrite a field of the first entry of the zip directory."""

    def change(data):
        at = data.find(b"PK\x01\x02") + offset
        return data[:at] + struct.pack(layout, value) + data[at + struct.calcsize(layout) :]

    return archive(change)


def overlapping_entries(data):
    first = data.find(b"PK\x01\x02")
    second = data.find(b"PK\x01\x02", first + 4)
    return data[: second + 42] + data[first + 42 : first + 46] + data[second + 46 :]


def many_entries(data):
    end = data.rfind(b"PK\x05\x06")
    return data[: end + 8] + struct.pack("<HH", 60000, 60000) + data[end + 12 :]


def copies(path, marker):
    big = [[i, i] for i in range(5000)]
    make = Call(Global("collections", "OrderedDict"), (big,))
    again = [Call(Global("collections", "OrderedDict"), (big,)) for _ in range(400)]
    return write_torch(path, [make, *again])


def exploding_key(path, marker):
    nested = ()
    for _ in range(60):
        nested = (nested, nested)
    return write_torch(path, Call(Global("builtins", "set"), ([nested],)))


def raw(data):
    def write(path, marker):
        path.write_bytes(data)

    return write


FLOAT_STORAGE = storage("0", np.float32, 16)
HOSTILE = {
    "os.system": (calls("os", "system", "touch {}"), "os.system"),
    "posix.system": (calls("posix", "system", "touch {}"), "posix.system"),
    "nt.system": (calls("nt", "system", "touch {}"), "nt.system"),
    "subprocess": (calls("subprocess", "check_output", "touch {}"), "subprocess"),
    "eval": (calls("builtins", "eval", "open('{}', 'w')"), "builtins.eval"),
    "exec": (calls("builtins", "exec", "open('{}', 'w')"), "builtins.exec"),
    "python 2 builtins": (calls("__builtin__", "eval", "open('{}', 'w')"), "builtins.eval"),
    "open": (calls("builtins", "open", "{}", "w"), "builtins.open"),
    "import": (calls("builtins", "__import__", "os"), "__import__"),
    "importlib": (calls("importlib", "import_module", "os"), "importlib"),
    "runpy": (calls("runpy", "run_path", "{}"), "runpy"),
    "pty": (calls("pty", "spawn", "touch {}"), "pty.spawn"),
    "dotted name": (calls("collections", "abc.sys.modules"), "collections.abc"),
    "bytearray of a size": (calls("builtins", "bytearray", "9"), "builtins.bytearray"),
    "timeit": (calls("timeit", "timeit", "open('{}', 'w')"), "timeit"),
    "nested reduce": (getattr_chain, "builtins.getattr"),
    "call of a record": (call_of_a_record, "calls a Record"),
    "through a tensor subclass": (through_tensor_type, "os.system"),
    "unknown tensor function": (from_unknown_function, "package.run"),
    "inside a state": (in_state, "posix.system"),
    "as a storage's type": (in_storage_type, "os.system"),
    "instance opcode": (instance_opcode, "os.system"),
    "extension opcode": (pickled(b"\x80\x02\x82\x01."), "opcode"),
    "text persistent id": (pickled(b"Pabc\n."), "opcode"),
    "unhashable key": (pickled(b"\x80\x02}]K\x01s."), "dictionary key"),
    "exploding key": (exploding_key, "dictionary key"),
    "copies of a container": (copies, "far more objects"),
    "empty stack": (pickled(b"\x80\x02a."), "damaged"),
    "no end": (pickled(b"\x80\x02K\x01"), "ends early"),
    "long string": (pickled(b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f."), "ends early"),
    "long integer": (pickled(b"\x80\x02\x8b\xff\xff\xff\x7f."), "integer"),
    "many digits": (pickled(b"I" + b"9" * 100_000 + b"\n."), "digits"),
    "unknown memo": (pickled(b"\x80\x02h\x09."), "damaged"),
    "huge memo index": (pickled(b"\x80\x02Nr\xff\xff\xff\xffh\x09."), "damaged"),
    "bad utf-8": (pickled(b"\x80\x02X\x01\x00\x00\x00\xff."), "damaged"),
    "mark popped": (pickled(b"\x80\x02(R."), "damaged|out of step"),
    "list as state": (pickled(b"\x80\x02Nb."), "damaged"),
    "storage of more": (tensors(storage("0", np.float32, 10**12)), "claims 10+ elements"),
    "storage of less": (tensors(storage("0", np.float32, 4)), "claims 4 elements"),
    "negative storage": (tensors(storage("0", np.float32, -16)), "missing"),
    "missing storage": (tensors(storage("9", np.float32, 16)), "missing"),
    "storage elsewhere": (tensors(storage("../data.pkl", np.float32, 16)), "missing"),
    "tensor beyond": (tensors(FLOAT_STORAGE, 0, (17,)), "beyond its storage"),
    "offset beyond": (tensors(FLOAT_STORAGE, 1), "beyond its storage"),
    "negative offset": (tensors(FLOAT_STORAGE, -4), "bad offset"),
    "negative stride": (tensors(FLOAT_STORAGE, 15, (16,), (-1,)), "bad offset"),
    "huge shape": (tensors(FLOAT_STORAGE, 0, (2**40, 2**40), (0, 0)), "whole file"),
    "expanded": (tensors(FLOAT_STORAGE, 0, (10**6,), (0,)), "whole file"),
    "empty but huge": (tensors(FLOAT_STORAGE, 0, (0, 2**61), (1, 1)), "damaged"),
    "many dimensions": (tensors(FLOAT_STORAGE, 0, (1,) * 40, (1,) * 40), "bad offset"),
    "text as shape": (tensors(FLOAT_STORAGE, 0, ("a",)), "bad offset"),
    "zip bomb": (compressed, "compressed"),
    "lying size": (central_field(24, "<I", 2**31), "compressed|claims"),
    "lying both sizes": (central_field(20, "<Q", (2**31 << 32) + 2**31), "claims"),
    "encrypted": (central_field(8, "<H", 1), "encrypted"),
    "entry outside": (central_field(42, "<I", 2**31), "outside"),
    "overlapping entries": (archive(overlapping_entries), "over another"),
    "too many entries": (archive(many_entries), "directory"),
    "half a file": (archive(lambda d: d[: len(d) // 2]), "truncated"),
    "no last byte": (archive(lambda d: d[:-1]), "truncated"),
    "no data.pkl": (lambda p, m: write_archive(p, {"x": b""}), "no data.pkl"),
    "two data.pkl": (
        lambda p, m: write_archive(p, {"data.pkl": b"", "b/data.pkl": b""}),
        "data.pkl",
    ),
    "torchscript": (
        lambda p, m: write_archive(p, {"data.pkl": b"\x80\x02N.", "code/a.py": b""}),
        "TorchScript",
    ),
    "big-endian": (
        lambda p, m: write_archive(p, {"data.pkl": b"\x80\x02N.", "byteorder": b"big"}),
        "byte order",
    ),
    "raw pickle": (raw(pickle.dumps({"a": 1}, 2)), "raw pickle"),
    "tar": (raw(bytes(257) + b"ustar" + bytes(400)), "tar format"),
    "empty file": (raw(b""), "empty"),
    "text": (raw(b"hello world"), "no zip archive"),
    "only a signature": (raw(b"PK\x03\x04"), "truncated"),
}  # fmt: skip


def with_header(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin, end, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


BROKEN_SAFETENSORS = {
    "empty": (b"", "it is empty"),
    "short": (b"\x01\x00\x00", "truncated"),
    "huge header": (struct.pack("<Q", 2**63) + b"{}", "claims"),
    "header past the end": (struct.pack("<Q", 100) + b"{}", "claims"),
    "not json": (with_header(b"{nope"), "damaged header"),
    "not utf-8": (with_header(b"\xff\xfe"), "damaged header"),
    "deep": (with_header(b"[" * 100_000), "damaged header"),
    "huge number": (with_header(b'{"a":' + b"9" * 10_000 + b"}"), "damaged header"),
    "a list": (with_header([]), "not a dictionary"),
    "repeated key": (with_header(b'{"a":{},"a":{}}'), "twice"),
    "entry is text": (with_header({"a": "b"}), "needs exactly"),
    "no offsets": (with_header({"a": {"dtype": "F32", "shape": [1]}}), "needs exactly"),
    "unknown dtype": (with_header({"a": entry(0, 4, dtype="X9")}, bytes(4)), "dtype must be"),
    "negative shape": (with_header({"a": entry(0, 4, (-1,))}, bytes(4)), "bad shape"),
    "true as shape": (with_header({"a": entry(0, 4, (True,))}, bytes(4)), "bad shape"),
    "reversed": (with_header({"a": entry(4, 0)}, bytes(4)), "does not fill"),
    "size lies": (with_header({"a": entry(0, 4, (2**40,))}, bytes(4)), "does not fill"),
    "past the end": (with_header({"a": entry(0, 400, (100,))}, bytes(4)), "the file has 4"),
    "overlap": (with_header({"a": entry(0, 4), "b": entry(2, 6)}, bytes(6)), "overlaps"),
    "same place": (with_header({"a": entry(0, 4), "b": entry(0, 4)}, bytes(4)), "overlaps"),
    "gap": (with_header({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)), "gap"),
    "left over": (with_header({"a": entry(0, 4)}, bytes(9)), "the file has 9"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_checkpoints_are_refused(tmp_path, name):
    write, message = HOSTILE[name]
    path, marker = tmp_path / "evil.pt", tmp_path / "marker"
    write(path, marker)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_torch(path)
    assert "evil.pt" in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("name", BROKEN_SAFETENSORS)
def test_broken_safetensors_are_refused(tmp_path, name):
    data, message = BROKEN_SAFETENSORS[name]
    path = tmp_path / "evil.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        read_safetensors(path)


@pytest.mark.parametrize("size", [2_000_000, 99_000_000])
def test_headers_up_to_the_limit_of_the_format_are_read(tmp_path, size):
    header = {"__metadata__": {"a": "b, " * (size // 3)}, "x": entry(0, 4)}
    path = tmp_path / "large.safetensors"
    path.write_bytes(with_header(header, np.float32(7).tobytes()))
    assert read_safetensors(path) == {"x": np.float32([7])}
    assert weights_file.load(path, {"x": jnp.zeros(1)}) == {"x": 7}


def test_a_header_of_far_too_many_values_is_refused_before_it_is_parsed(tmp_path):
    path = tmp_path / "evil.safetensors"
    path.write_bytes(with_header(b'{"a":[' + b"0," * 6_000_000 + b"0]}"))
    with pytest.raises(CheckpointError, match="more than 5000000 values"):
        read_safetensors(path)
    path.write_bytes(struct.pack("<Q", 100_000_001) + b"{" + b" " * 100_000_000)
    with pytest.raises(CheckpointError, match="claims 100000001"):
        read_safetensors(path)


@pytest.mark.parametrize("shard", ["../a.safetensors", "/etc/passwd", "a\\b", "", ".."])
def test_an_index_may_not_leave_its_folder(tmp_path, shard):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointError, match="no plain file name"):
        read_safetensors(index)


def test_every_single_byte_change_ends_well(tmp_path):
    path = tmp_path / "a.pt"
    write_torch(path, OrderedDict(a=FLOATS, b=[1, "x", {"c": 2.0}]))
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for at in rng.integers(0, len(good), 1500):
        changed = bytearray(good)
        changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            read_torch(path)
        except CheckpointError:
            refused += 1
    assert refused > 100


BOMBS = {
    "lists": b"]",
    "dictionaries": b"}",
    "sets": b"\x8f",
    "memo": b"]\x94",
    "records": b"h\x00)\x81",
    "wide text": b"X\x08\x00\x00\x00\xf0\x9f\x98\x80abcd",
}


# In a separate process, without the suite's type checks, which make the reader very slow.
MEASURE = """
import sys, tracemalloc
from dg2_jax.interop.torch_checkpoint import CheckpointError, read_torch
tracemalloc.start()
for path in sys.argv[1:]:
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        read_torch(path)
    except CheckpointError as error:
        assert "far more objects" in str(error), error
        del error
    print(tracemalloc.get_traced_memory()[1] - before)
"""


def test_memory_stays_within_twice_the_file(tmp_path):
    size, paths = 8_000_000, []
    for name, body in BOMBS.items():
        text = b"\x80\x04cpackage\nClass\nq\x00" + body * (size // len(body)) + b"."
        paths.append(write_archive(tmp_path / f"{name}.pt", {"data.pkl": text}))
    child = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths], check=True, capture_output=True, text=True
    )
    peaks = [int(line) for line in child.stdout.split()]
    assert len(peaks) == len(BOMBS)
    # The mapped file itself is not in these figures.
    assert max(peaks) + size < 2 * size


def test_a_pickle_that_is_most_of_a_large_file_is_refused(tmp_path):
    text = b"\x80\x02X" + struct.pack("<I", 20_000_000) + b"a" * 20_000_000 + b"."
    path = write_archive(tmp_path / "text.pt", {"data.pkl": text})
    with pytest.raises(CheckpointError, match="its pickle takes"):
        read_torch(path)
