from __future__ import annotations

import pytest
import torch
from torch import nn

from rora_cli.training.dropout import drop_out, masks_drawn_together


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_drop_out_drops_a_share_p_everywhere_and_keeps_the_mean(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(401, 1000, dtype=dtype, requires_grad=True)
    y = drop_out(x, p)
    dropped = (y == 0).double()
    four_sigma = 4 * (p * (1 - p) / 100_000) ** 0.5
    for lane in range(4):  # one draw decides four entries: each of them has the rate, none knows of another
        assert abs(dropped.flatten()[lane::4].mean() - p) < four_sigma
    assert abs((dropped[:, 0::2] * dropped[:, 1::2]).mean() - p * p) < 2 * four_sigma
    assert set(y.flatten().tolist()) == {0.0, torch.tensor(1 / (1 - round(p * 2**16) / 2**16), dtype=dtype).item()}
    y.sum().backward()
    assert torch.equal(x.grad, y)
    torch.manual_seed(0)
    assert torch.equal(drop_out(x, p), y), "seeded"


def test_modules_drop_out_by_it_inside_and_by_torch_afterwards() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.3), nn.Dropout(0.0))
    x = torch.ones(200, 64)
    with torch.no_grad():
        model[0].weight.zero_(), model[0].bias.fill_(1.0)
        torch.manual_seed(1)
        expected = drop_out(x, 0.3)
        with masks_drawn_together(model):
            torch.manual_seed(1)
            assert torch.equal(model(x), expected)
            assert torch.equal(model.eval()(x), x), "evaluation drops nothing"
        torch.manual_seed(1)
        usual = nn.functional.dropout(x, 0.3)
        torch.manual_seed(1)
        assert torch.equal(model.train()(x), usual)
