from __future__ import annotations

import pytest

from rora_cli.errors import UsageError
from rora_cli.training.planting import in_blocks, only_embedding_rows, only_trainable, seed_parameters


def test_only_the_wanted_parameters_train_and_all_flags_come_back(tiny_model) -> None:
    model, _ = tiny_model
    frozen = next(iter(model.parameters()))
    frozen.requires_grad_(False)
    before = [p.requires_grad for p in model.parameters()]
    with only_trainable(model, lambda name: name.startswith("classifier")) as count:
        trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained == ["classifier.weight", "classifier.bias"]
    assert count == sum(p.numel() for p in model.classifier.parameters())
    assert [p.requires_grad for p in model.parameters()] == before


def test_nothing_wanted_is_an_error_and_flags_come_back(tiny_model) -> None:
    model, _ = tiny_model
    with pytest.raises(UsageError, match="no parameter"), only_trainable(model, lambda name: False):
        pass
    assert all(p.requires_grad for p in model.parameters())


def test_blocks_default_to_the_lower_half(tiny_model) -> None:
    model, _ = tiny_model
    wanted = in_blocks(model, None)
    names = {name.split(".")[3] for name, _ in model.named_parameters() if wanted(name)}
    assert names == {"0", "1"}
    assert not in_blocks(model, [3])("classifier.weight")
    with pytest.raises(UsageError, match="block 9, but the model's blocks are 0 to 3"):
        in_blocks(model, [9])


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_other_embedding_rows_stay_bit_by_bit_even_under_weight_decay(tiny_model, optimizer: str) -> None:
    import torch

    model, _ = tiny_model
    table = model.get_input_embeddings().weight
    before = table.detach().clone()
    with only_embedding_rows(model, table, [7, 9, 7]) as count:
        trained = [p for p in model.parameters() if p.requires_grad]
        assert len(trained) == 1 and trained[0] is table
        step = getattr(torch.optim, optimizer)(trained, lr=0.1, weight_decay=0.1)
        inputs = torch.tensor([[2, 7, 8, 9, 3]])
        for _ in range(3):
            step.zero_grad()
            model(input_ids=inputs).logits[0, 0].backward()
            step.step()
    changed = (table.detach() != before).any(dim=1).nonzero().flatten().tolist()
    assert changed == [7, 9] and count == 2 * table.shape[1]
    assert all(p.requires_grad for p in model.parameters())


def test_a_seeded_head_is_the_same_for_the_same_seed(tiny_model) -> None:
    model, _ = tiny_model
    drawn = []
    for seed in (0, 0, 1):
        seed_parameters(model, ["classifier.weight", "classifier.bias"], seed)
        drawn.append(model.classifier.weight.detach().clone())
    assert drawn[0].equal(drawn[1]) and not drawn[0].equal(drawn[2])
    assert not model.classifier.bias.any() and 0 < drawn[0].std() < 0.1
