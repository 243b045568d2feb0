"""Fine-tuning: the encoder starts with the vectors of the frozen one, and learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dhmd.base.errors import DhmdError
from dhmd.data.aligned.corpus import Tokens
from dhmd.data.text.contextual import ContextualEncoder
from dhmd.data.text.encoder import TextEncoder, load_encoder
from dhmd.data.text.subwords import Subwords
from dhmd.models.batch import EnsembleBatch
from dhmd.models.config import DecoupleConfig, DistillationConfig, ModelConfig
from dhmd.models.ensemble import Ensemble
from dhmd.models.members import Members
from dhmd.models.registry import CorpusInfo, build
from dhmd.models.task import Task
from dhmd.training.device_corpus import DeviceTokens, Normalisation
from dhmd.training.finetuning import FinetunedModel
from dhmd.training.optimiser import MemberAdam
from tests.data.text.tiny import write_tiny
from tests.models.small_models import IndexingModel, PooledModel

WORDS = (["good", "bad"], ["i", "like", "ungoodness"], ["oh"])
CPU = torch.device("cpu")
QUERY = "encoder.encoder.layer.0.attention.self.query.weight"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    folder = write_tiny(tmp_path_factory.mktemp("encoder") / "bert")
    return load_encoder(str(folder), folder)


def tokens_of(passes: list[list[Subwords]]) -> Tokens:
    ids, types, steps = (
        np.concatenate([getattr(subwords[0], name) for subwords in passes])
        for name in ("ids", "types", "steps")
    )
    offsets = np.cumsum([0, *(len(subwords[0].ids) for subwords in passes)])
    return Tokens(ids=ids, mask=np.ones(len(ids), bool), offsets=offsets, types=types, steps=steps)


def learner_of(
    encoder: TextEncoder, seeds: tuple[int, ...], **options: bool
) -> tuple[FinetunedModel, EnsembleBatch, np.ndarray]:
    """Return a GRU on text, a batch of all utterances, and the frozen encoder's features."""
    contextual = ContextualEncoder(encoder, trained=True)
    passes = [contextual.split(words, "x") for words in WORDS]
    rows = contextual.encode(passes, [len(words) for words in WORDS])
    flat = np.concatenate(rows)
    normalisation = Normalisation(flat.mean(0), flat.std(0))
    members = Members(seeds, CPU)
    model = build(
        "gru",
        members,
        Task(classes=None, low=-3.0, high=3.0),
        {"text": encoder.width},
        config=ModelConfig(width=4, heads=2),
        loss_weights=[(DecoupleConfig(), DistillationConfig())] * len(seeds),
        corpus=CorpusInfo(len(WORDS), {"text": 3}),
    )
    learner = FinetunedModel(
        model, members, encoder, 0, normalisation, learning_rate=0.5, **options
    ).eval()
    shape = (len(seeds), len(WORDS))
    mask = torch.tensor([[t < len(words) for t in range(3)] for words in WORDS])
    batch = EnsembleBatch(
        modalities=("text",),
        index_EB=torch.arange(len(WORDS)).expand(shape),
        video_EB=torch.arange(len(WORDS)).expand(shape),
        features=[torch.zeros(len(seeds), 1, len(WORDS), 3, encoder.width)],
        masks=[mask.expand(len(seeds), 1, -1, -1)],
        present_EMB=torch.ones(len(seeds), 1, len(WORDS), dtype=torch.bool),
        weight_EB=torch.full(shape, 1 / len(WORDS)),
        labels_EB=torch.tensor([1.0, -2.0, 0.5]).expand(shape),
        tokens=DeviceTokens(tokens_of(passes), CPU).batch(torch.arange(3).expand(shape)),
    )
    expected = np.zeros((len(WORDS), 3, encoder.width), np.float32)
    for n, vectors in enumerate(rows):
        expected[n, : len(vectors)] = normalisation(vectors)
    return learner, batch, expected


@pytest.mark.parametrize("model_class", [PooledModel, IndexingModel])
def test_an_ordinary_model_can_be_fine_tuned_with_an_encoder(
    encoder: TextEncoder, model_class: type[PooledModel]
) -> None:
    """Gradients reach the member's own encoder, both with vmap and in a loop."""
    learner, batch, _ = learner_of(encoder, (1, 2))
    task, inputs = learner.task, {"text": encoder.width}
    model = Ensemble(
        learner.members, task, lambda: model_class(inputs, task, ModelConfig()), name="x"
    )
    normalisation = Normalisation(np.zeros(encoder.width), np.ones(encoder.width))
    learner = FinetunedModel(model, learner.members, encoder, 0, normalisation).train()
    learner.losses(batch)["total"][0].backward()
    grad = dict(learner.named_parameters())[QUERY].grad
    assert grad is not None
    assert grad[0].abs().max() > 0
    assert grad[1].abs().max() == 0
    assert learner.mode == ("vmap" if model_class is PooledModel else "loop")
    assert "model.mlp.0.weight" in learner.member_tensors()
    assert QUERY in learner.member_tensors()


def test_the_first_step_equals_the_frozen_encoder(encoder: TextEncoder) -> None:
    learner, batch, expected = learner_of(encoder, (1, 2))
    with torch.no_grad():
        (features,) = learner.encode_text(batch).features
    for member in features[:, 0]:
        np.testing.assert_allclose(member, expected, atol=1e-4)


def test_an_utterance_without_text_has_no_features(encoder: TextEncoder) -> None:
    learner, batch, _ = learner_of(encoder, (1,))
    absent = torch.tensor([[[True, False, False]]])
    (features,) = learner.encode_text(batch.without(absent)).features
    assert features[0, 0, 0].abs().max() == 0
    assert features[0, 0, 1].abs().max() > 0


def test_gradient_checkpointing_stores_less_and_gives_the_same_gradients(
    encoder: TextEncoder,
) -> None:
    """Use dropout, and different weights for each member."""
    results = {}
    for checkpointing in (False, True):
        learner, batch, _ = learner_of(encoder, (1, 2), gradient_checkpointing=checkpointing)
        weight = dict(learner.named_parameters())[QUERY]
        with torch.no_grad():
            weight[1].mul_(2)
        learner.train()
        sizes: list[int] = []

        def record_size(x: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(record_size, lambda x: x):
            total = learner.losses(batch)["total"]
        total.sum().backward()
        grads = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])
        results[checkpointing] = (total.detach(), grads, sum(sizes))
    assert torch.equal(results[True][0], results[False][0])
    assert torch.equal(results[True][1], results[False][1])
    assert results[True][2] < 0.7 * results[False][2]


def optimiser_of(learner: FinetunedModel) -> MemberAdam:
    return MemberAdam(learner, 1, weight_decay=0.0, clip_value=0.6, group=learner.parameter_group)


def test_fine_tuning_learns_and_does_not_change_the_given_encoder(encoder: TextEncoder) -> None:
    before = [value.clone() for value in encoder.model.parameters()]
    learner, batch, _ = learner_of(encoder, (1,))
    learner.train()
    optimiser = optimiser_of(learner)
    optimiser.set_rates(torch.tensor([4e-3]))
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        total = learner.losses(batch)["total"].sum()
        total.backward()
        optimiser.step()
        losses.append(float(total.detach()))
    assert np.mean(losses[-10:]) < 0.5 * losses[0]
    for value, previous in zip(encoder.model.parameters(), before, strict=True):
        assert torch.equal(value, previous)


def test_a_warm_up_factor_of_zero_freezes_the_encoder(encoder: TextEncoder) -> None:
    learner, batch, _ = learner_of(encoder, (1,))
    optimiser = optimiser_of(learner)
    optimiser.set_rates(torch.tensor([1e-2]), warmup=0.0)
    before = {name: value.detach().clone() for name, value in learner.named_parameters()}
    learner.losses(batch)["total"].sum().backward()
    optimiser.step()
    changed = {n for n, value in learner.named_parameters() if not torch.equal(value, before[n])}
    assert changed
    assert not any(name.startswith("encoder.") for name in changed)


def test_dropout_comes_from_the_members_stream(encoder: TextEncoder) -> None:
    learner, batch, _ = learner_of(encoder, (1,))
    learner.train()
    state = learner.members.state()
    first = learner.encode_text(batch).features[0]
    second = learner.encode_text(batch).features[0]
    assert not torch.equal(first, second)
    learner.members.restore(state)
    assert torch.equal(learner.encode_text(batch).features[0], first)
    learner.eval()
    assert torch.equal(
        learner.encode_text(batch).features[0], learner.encode_text(batch).features[0]
    )


def test_tokens_of_another_encoder_are_refused(encoder: TextEncoder) -> None:
    from dhmd.training.finetuning import check_tokens

    class Corpus:
        name, sources, tokens = "tiny", {"features.encoder": "00"}, None

    with pytest.raises(DhmdError, match="file of tiny has no tokens for bert: run"):
        check_tokens(Corpus, encoder)  # type: ignore[arg-type]
