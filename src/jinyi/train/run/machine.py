"""What computes a run: device, precision, threads and processes, through accelerate.

Processes are started by torchrun (or by hand, with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT set).
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import (
    AutocastKwargs,
    DistributedDataParallelKwargs,
    broadcast_object_list,
    is_torch_xla_available,
)

from jinyi.errors import InputError
from jinyi.runtime.cores import available_cores
from jinyi.train.recipe import Machine
from jinyi.train.task import Share


@contextmanager
def open_machine(machine: Machine) -> Iterator[Accelerator]:
    """Set up device, processes, precision and threads for one run, and put back afterwards what was changed.

    On CUDA PyTorch is told to take deterministic kernels where it has them, so that a resumed run can repeat.

    Args:
        machine: section of the recipe. `threads` None shares the cores really there among this machine's processes.

    Raises:
        InputError: the device is not there.
    """
    _check_device(machine.device)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")))
    threads = machine.threads or max(1, available_cores().count // here)
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    # accelerate keeps its settings for the life of a process; another run may need others.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        cpu=machine.device == "cpu" or (machine.device == "auto" and not _has_accelerator()),
        mixed_precision="bf16" if machine.precision == "bf16" else "no",
        kwargs_handlers=[
            # A step may leave a head unused.
            DistributedDataParallelKwargs(find_unused_parameters=True, gradient_as_bucket_view=True),
            # With shared weights a cache of bfloat16 copies would keep every layer in memory.
            AutocastKwargs(cache_enabled=not machine.fsdp),
        ],
    )
    if accelerator.num_processes > 1:
        # The group stays for the runs after this one: processes that leave and meet again at once may miss each other.
        atexit.unregister(_leave_group)
        atexit.register(_leave_group)
    torch.set_num_threads(threads)
    if accelerator.device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield accelerator
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def share_of(accelerator: Accelerator) -> Share:
    """Which process this is, of how many."""
    return Share(accelerator.process_index, accelerator.num_processes)


def add_up(values: list[float], accelerator: Accelerator) -> torch.Tensor:
    """Sum of each number over all processes, float32 on the device; every process has to call it."""
    own = torch.tensor(values, dtype=torch.float32, device=accelerator.device)
    total: torch.Tensor = accelerator.reduce(own, "sum") if accelerator.num_processes > 1 else own
    return total


def settle(accelerator: Accelerator) -> None:
    """Have an XLA device compute what is pending; nothing on others.

    XLA collects operations until told to run them; without this, saving would compile a program for every weight.
    """
    if accelerator.device.type == "xla":
        import torch_xla

        torch_xla.sync()


def from_main(value: Any, accelerator: Accelerator) -> Any:
    """The main process's value, on every process; every process has to call it."""
    return broadcast_object_list([value])[0] if accelerator.num_processes > 1 else value


def describe(accelerator: Accelerator) -> dict[str, Any]:
    """What the record of a run says of the machine."""
    device = accelerator.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": "bf16" if accelerator.mixed_precision == "bf16" else "float32",
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
    }


def _leave_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _has_accelerator() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available() or is_torch_xla_available()


def _check_device(device: str) -> None:
    there = {"cuda": torch.cuda.is_available, "xla": is_torch_xla_available}
    if device in there and not there[device]():
        raise InputError(
            where="machine.device",
            found=f"no {device} device that PyTorch {torch.__version__} can use",
            expected=f"one, as the recipe asks for {device}",
            fix="Install the PyTorch build for it, or set machine.device to auto or cpu.",
        )
