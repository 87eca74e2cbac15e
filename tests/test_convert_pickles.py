"""PyTorch's weight files read without PyTorch: equal to torch.load, and nothing in a file is ever executed."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jinyi.convert.pickles import PickledTensors
from jinyi.convert.unpickle import read_pickle
from jinyi.errors import FolderError, JinyiError

FORMS = (True, False)  # the zip of today, the sequence of pickles before PyTorch 1.6
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def state() -> dict[str, torch.Tensor]:
    """Every type, and every way in which a tensor may lie in its storage."""
    torch.manual_seed(0)
    base = torch.randn(6, 4)
    found = {name: (torch.randn(3, 5) * 3).to(dtype) for name, dtype in DTYPES.items()}
    return OrderedDict(
        **found,
        whole=base,
        transposed=base.t(),
        rows=base[2:4],
        column=base[:, 1],
        steps=base[::2, 1::2],
        tied=base,
        parameter=torch.nn.Parameter(torch.randn(2, 2)),
        scalar=torch.tensor(2.5),
        nothing=torch.empty(0, 3),
        positions=torch.arange(5).expand((1, -1)),
    )


def save(value: Any, file: Path, new: bool = True, **options: Any) -> Path:
    torch.save(value, file, _use_new_zipfile_serialization=new, **options)
    return file


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float64) else tensor).numpy()


def check_equal(file: Path, expected: dict[str, torch.Tensor]) -> None:
    tensors = PickledTensors([file])
    assert list(tensors) == list(expected)
    for name, tensor in expected.items():
        values = as_numpy(tensor)
        assert tensors[name].dtype == values.dtype and tensors[name].shape == values.shape
        assert tensors.shape(name) == values.shape and DTYPES[tensors.dtype(name)] == tensor.dtype
        np.testing.assert_array_equal(tensors[name], values)
        assert tensors[name].flags.c_contiguous


def refused(file: Path) -> FolderError:
    with pytest.raises(FolderError) as caught:
        tensors = PickledTensors([file])
        for name in tensors:
            tensors[name]
    assert caught.value.found and caught.value.expected and caught.value.fix and caught.value.where
    return caught.value


@pytest.mark.parametrize("new", FORMS)
def test_equal_to_torch(tmp_path: Path, new: bool) -> None:
    file = save(state(), tmp_path / "w.bin", new)
    check_equal(file, torch.load(file, weights_only=True))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_protocols_and_module_attributes(tmp_path: Path, protocol: int) -> None:
    expected = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2)).state_dict()
    assert hasattr(expected, "_metadata")  # kept in the file as an attribute
    for new in FORMS:
        check_equal(save(expected, tmp_path / f"{new}.bin", new, pickle_protocol=protocol), expected)


def test_training_checkpoint(tmp_path: Path) -> None:
    weights = {"a.weight": torch.ones(2, 3)}
    body = {"epoch": 3, "lr": 1e-4, "best": None, "names": ["a"], "sizes": (1, 2), "state_dict": weights}
    check_equal(save(body, tmp_path / "a.ckpt"), weights)
    assert "without tensors" in refused(save({"epoch": 3}, tmp_path / "b.ckpt")).found
    assert "a list" in refused(save([torch.ones(2)], tmp_path / "c.ckpt")).found


def test_shards(tmp_path: Path) -> None:
    files = [save({name: torch.ones(2) * k}, tmp_path / f"{name}.bin") for k, name in enumerate("ab")]
    tensors = PickledTensors(files)
    assert {name: tensors[name][0] for name in tensors} == {"a": 0, "b": 1}
    with pytest.raises(FolderError, match="holds too"):
        PickledTensors([files[0], save({"a": torch.ones(2)}, tmp_path / "again.bin")])


@given(
    shape=st.lists(st.integers(1, 4), max_size=3),
    dtype=st.sampled_from(sorted(DTYPES)),
    order=st.randoms(use_true_random=False),
    cut=st.booleans(),
    new=st.booleans(),
)
def test_any_view_of_any_storage(shape, dtype, order, cut, new, tmp_path_factory) -> None:
    tensor = (torch.arange(int(np.prod([side + 1 for side in shape]))) % 7).to(DTYPES[dtype])
    tensor = tensor.reshape([side + 1 for side in shape])
    axes = list(range(len(shape)))
    order.shuffle(axes)
    tensor = tensor.permute(axes)
    if cut and shape:
        tensor = tensor[1:]
    file = save({"t": tensor, "again": tensor}, tmp_path_factory.mktemp("view") / "w.bin", new)
    check_equal(file, torch.load(file, weights_only=True))


# Nothing is executed


class Evil:
    """Unpickled by Python, it makes a file."""

    def __init__(self, mark: Path, call: Any) -> None:
        self.mark, self.call = mark, call

    def __reduce__(self) -> Any:
        return self.call, (str(self.mark), "w")


PROGRAM = b"""cos
system
(S'touch MARK'
tR."""


@pytest.mark.parametrize("new", FORMS)
def test_a_malicious_file_runs_nothing(tmp_path: Path, new: bool) -> None:
    mark = tmp_path / "mark"
    file = save({"a": torch.ones(2), "b": Evil(mark, open)}, tmp_path / "w.bin", new)
    error = refused(file)
    assert "io.open" in error.found and "executes nothing" in error.fix
    assert not mark.exists()
    torch.load(file, weights_only=False)  # the same file does run there, so the test means something
    assert mark.exists()


def test_malicious_programs_by_opcode(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = str(mark).encode()
    programs = {
        "os.system": PROGRAM.replace(b"MARK", text),
        "builtins.eval": b"\x80\x02cbuiltins\neval\n\x8c\x04open\x85R.",
        "the opcode INST": b"\x80\x02(\x8c\x04trueios\nsystem\n.",
        "the opcode EXT1": b"\x80\x02\x82\x01.",
        "the opcode NEXT_BUFFER": b"\x80\x05\x97.",
        "os.posix_spawn": b"\x80\x04\x8c\x02os\x8c\x0bposix_spawn\x93.",
        "torch.load": b"\x80\x02ctorch\nload\n.",
        "torch._utils._rebuild_tensor_v3": b"\x80\x02ctorch._utils\n_rebuild_tensor_v3\n.",
        "torch.ComplexFloatStorage": b"\x80\x02ctorch\nComplexFloatStorage\n.",
        "pickle protocol 9": b"\x80\x09.",
    }
    for found, program in programs.items():
        with pytest.raises(FolderError, match=re.escape(found)):
            read_pickle(BytesIO(program), "file")
    assert not mark.exists()
    pickle.loads(programs["os.system"])  # which would have run elsewhere
    assert mark.exists()


BAD = {
    "a value more": b"\x80\x02NN.",
    "nothing": b"\x80\x02.",
    "no end": b"\x80\x02}",
    "an open mark": b"\x80\x02(N.",
    "a memo never written": b"\x80\x02h\x07.",
    "a call of a number": b"\x80\x02K\x01)R.",
    "a call without a tuple": b"\x80\x02ccollections\nOrderedDict\n]R.",
    "too few arguments": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "a call of a storage": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "attributes on a list": b"\x80\x02]}b.",
    "items of a list": b"\x80\x02]K\x01K\x02s.",
    "a key alone": b"\x80\x02}(K\x01u.",
    "a key that is a tuple": b"\x80\x02})K\x01s.",
    "a name of a list": b"\x80\x04]\x8c\x01a\x93.",
    "a parameter of a number": b"\x80\x02ctorch._utils\n_rebuild_parameter\nK\x01\x85R.",
    "a reference to a text": b"\x80\x02\x8c\x01aQ.",
    "a length past the end": b"\x80\x04\x8d" + (1 << 62).to_bytes(8, "little") + b"a.",
    "text that is no UTF-8": b"\x80\x02X\x02\x00\x00\x00\xff\xff.",
    "another opcode": b"\x80\x02\xff.",
}


@pytest.mark.parametrize("program", BAD.values(), ids=list(BAD))
def test_senseless_pickles(program: bytes) -> None:
    with pytest.raises(FolderError):
        read_pickle(BytesIO(program), "file")


def tensor_program(size: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    def number(value: int) -> bytes:
        raw = value.to_bytes(9, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw

    def group(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = b"(\x8c\x07storagectorch\nFloatStorage\n\x8c\x010\x8c\x03cpu" + number(size) + b"tQ"
    view = storage + number(offset) + group(shape) + group(strides)
    return b"\x80\x04}\x8c\x01actorch._utils\n_rebuild_tensor_v2\n(" + view + b"\x89}tRs."


def test_tensors_beyond_their_storage() -> None:
    assert read_pickle(BytesIO(tensor_program(6, 0, (2, 3), (3, 1))), "file")["a"].shape == (2, 3)
    for program in (
        tensor_program(6, 1, (2, 3), (3, 1)),
        tensor_program(6, -1, (2,), (1,)),
        tensor_program(6, 0, (2, -3), (3, 1)),
        tensor_program(6, 0, (2, 3), (3,)),
        tensor_program(6, 0, (2, 2), (-1, 1)),
        tensor_program(-6, 0, (2,), (1,)),
        tensor_program(6, 0, (1 << 60,), (0,)),  # a repeated number: would ask for memory without end
        tensor_program(6, 0, (1,) * 40, (1,) * 40),
    ):
        with pytest.raises(FolderError):
            read_pickle(BytesIO(program), "file")


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_data(data: bytes) -> None:
    for start in (b"", b"\x80\x02", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n"):
        try:
            read_pickle(BytesIO(start + data), "file")
        except FolderError as error:
            assert error.where == "file"


# Damaged and foreign files


def changed_bytes(file: Path, mask: int) -> Iterator[int]:
    """Change each byte of a file in turn, and back."""
    data = file.read_bytes()
    for place, value in enumerate(data):
        with open(file, "r+b") as stream:
            stream.seek(place)
            stream.write(bytes([value ^ mask]))
        yield place
        with open(file, "r+b") as stream:
            stream.seek(place)
            stream.write(bytes([value]))
    assert file.read_bytes() == data


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for new in FORMS:
        file = save({"a": torch.ones(2, 3)}, tmp_path / "w.bin", new)
        for length in range(file.stat().st_size - 1, 0, -1):
            os.truncate(file, length)
            with pytest.raises(FolderError):
                tensors = PickledTensors([file])
                [tensors[name] for name in tensors]


def test_every_changed_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    expected = {"a": torch.randn(2, 3), "b": torch.randn(4).half()}
    file = save(expected, tmp_path / "w.bin")
    with zipfile.ZipFile(file) as archive:  # the description and the numbers carry checksums
        assert all(entry.CRC for entry in archive.infolist())
    refusals = 0
    for _ in changed_bytes(file, 0x55):
        try:
            check_equal(file, expected)
        except FolderError:
            refusals += 1
    assert refusals > 200, "at least the entries and their headers matter"


def test_changed_bytes_of_the_old_form_end_in_our_errors_only(tmp_path: Path) -> None:
    file = save({"a": torch.ones(2, 3), "b": torch.ones(2).half()}, tmp_path / "w.bin", False)
    for mask in (0x01, 0x55):
        for _ in changed_bytes(file, mask):
            try:
                tensors = PickledTensors([file])
                assert all(tensors[name].shape == tensors.shape(name) for name in tensors)
            except JinyiError as error:
                assert error.where.startswith(str(file))


def test_files_without_checksums(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        file = save(state(), tmp_path / "w.bin")
    finally:
        torch.serialization.set_crc32_options(True)
    check_equal(file, torch.load(file, weights_only=True))


def test_foreign_files(tmp_path: Path) -> None:
    file = tmp_path / "w.bin"
    for content, words in (
        (b"", "begins with b''"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git LFS"),
        (b"<!DOCTYPE html>", "begins with"),
        (b"\0" * 257 + b"ustar\x0000", "tar archive"),
        (pickle.dumps({"a": 1}, 2), "torch.save did not write"),
        (b"PK\x03\x04 and no more", "damaged archive"),
    ):
        file.write_bytes(content)
        assert words in refused(file).found
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "readme.txt" in refused(file).found
    saved = save({"a": torch.ones(2)}, tmp_path / "good.bin")
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in old.namelist():
            archive.writestr(name, old.read(name))
    assert "compressed" in refused(file).found
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(file, "w") as archive:
        for name in old.namelist():
            archive.writestr(name, b"big" if name.endswith("byteorder") else old.read(name))
    assert "big-endian" in refused(file).found
    with zipfile.ZipFile(file, "w") as archive:  # a program, as torch.jit.save writes it
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"):
            archive.writestr(name, b"")
    assert "TorchScript" in refused(file).fix


def test_big_endian_and_other_protocols_of_the_old_form(tmp_path: Path) -> None:
    data = save({"a": torch.ones(2)}, tmp_path / "w.bin", False).read_bytes()
    file = tmp_path / "other.bin"
    order = data.index(b"little_endian") + len("little_endian")
    place = data.index(b"\x88", order)
    file.write_bytes(data[:place] + b"\x89" + data[place + 1 :])
    assert "big-endian" in refused(file).found
    file.write_bytes(data.replace(b"\x80\x02M\xe9\x03.", b"\x80\x02M\xe8\x03.", 1))
    assert "protocol 1000" in refused(file).found
    file.write_bytes(data + b"\0")
    assert "by what it lists" in refused(file).expected


@pytest.mark.parametrize("new", [True, False])
def test_a_negated_view_is_refused(tmp_path: Path, new: bool) -> None:
    """Its storage holds the numbers before the change of sign."""
    file = save({"a": torch._neg_view(torch.arange(3.0))}, tmp_path / "w.bin", new)
    assert "negated" in refused(file).found


def test_whole_models_are_refused_by_name(tmp_path: Path) -> None:
    error = refused(save(torch.nn.Linear(2, 2), tmp_path / "model.pt"))
    assert "torch.nn.modules.linear.Linear" in error.found and "state_dict()" in error.fix


def test_neither_torch_nor_pickle_is_needed(tmp_path: Path) -> None:
    file = save({"a": torch.ones(2)}, tmp_path / "w.bin")
    code = (
        "import sys; sys.modules['torch'] = None; from pathlib import Path\n"
        "from jinyi.convert.pickles import PickledTensors\n"
        f"print(PickledTensors([Path({str(file)!r})])['a'].tolist(), 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[1.0, 1.0] False"
