"""The backend and the gradients' form, by the environment; torch's own hooks are stood in for."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from modelfleet.runtime import train


class Model:
    """Notes which hook it was given."""

    def __init__(self) -> None:
        self.hooks: list[tuple[Any, Any]] = []

    def register_comm_hook(self, state: Any, hook: Any) -> None:
        self.hooks.append((state, hook))


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """As much of torch as is asked for, by the names of its documentation."""
    root, hooks = ModuleType("torch"), ModuleType("torch.distributed.algorithms.ddp_comm_hooks")
    default = SimpleNamespace(fp16_compress_hook="fp16", bf16_compress_hook="bf16")
    power = SimpleNamespace(PowerSGDState=lambda **fields: fields, powerSGD_hook="powersgd")
    vars(hooks).update(default_hooks=default, powerSGD_hook=power)
    vars(root)["cuda"] = SimpleNamespace(is_available=lambda: True)
    monkeypatch.setitem(sys.modules, "torch", root)
    for name in ("torch.distributed", "torch.distributed.algorithms"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "torch.distributed.algorithms.ddp_comm_hooks", hooks)
    return root


def test_the_operators_word_on_the_backend_counts_else_the_devices(
    torch: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISTRIBUTED_BACKEND", raising=False)
    assert train.backend() == "nccl"
    monkeypatch.setenv("DISTRIBUTED_BACKEND", "gloo")
    assert train.backend() == "gloo"


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize(
    ("wish", "hooks"),
    [
        (None, []),
        ("none", []),
        ("fp16", [(None, "fp16")]),
        ("bf16", [(None, "bf16")]),
        (
            "powersgd",
            [({"process_group": None, "matrix_approximation_rank": 4, "start_powerSGD_iter": 1000}, "powersgd")],
        ),
    ],
)
def test_gradients_are_compressed_as_asked_for(wish: str | None, hooks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERSGD_RANK", "4")
    if wish is not None:
        monkeypatch.setenv("GRADIENT_COMPRESSION", wish)
    model = Model()
    assert train.compress_gradients(model) == (wish or "none")
    assert model.hooks == hooks


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize(
    ("name", "value"), [("GRADIENT_COMPRESSION", "zip"), ("POWERSGD_RANK", "0"), ("POWERSGD_START", "soon")]
)
def test_another_word_is_refused_by_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIENT_COMPRESSION", "powersgd")
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name}={value}"):
        train.compress_gradients(Model())
