"""Components of the baselines compared with values by hand or by other formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dhmd.base.errors import DhmdError
from dhmd.models.baselines._sub_networks import LastState, SubNetwork
from dhmd.models.baselines.cm2 import gumbel, negative_log_likelihood
from dhmd.models.baselines.if_mmin import TextCNN, random_subset
from dhmd.models.baselines.jmt import Layer
from dhmd.models.baselines.lmf import low_rank_fusion
from dhmd.models.baselines.misa import moment_discrepancy, orthogonality
from dhmd.models.baselines.mmim import Estimator, contrastive_coding, log_determinant
from dhmd.models.baselines.self_mm import generated_label, relative_distance
from dhmd.models.baselines.tfn import tensor_fusion
from tests.models.baselines.models import NO_DROPOUT, build_module, single_member_batch
from tests.models.batches import random_batch
from tests.models.compare import assert_close
from tests.models.stacked.settings import INPUTS

# ---- sub-networks --------------------------------------------------------------------------------


def test_last_state_ignores_padding() -> None:
    network = LastState(3, 4, bidirectional=True)
    x_BTI = torch.randn(2, 5, 3)
    mask_BT = torch.arange(5) < torch.tensor([[5], [2]])
    actual = network(x_BTI, mask_BT)
    for b, length in enumerate((5, 2)):
        _, (states, _) = network.lstm(x_BTI[b : b + 1, :length])
        assert_close(actual[b], torch.cat([states[0, 0], states[1, 0]]))


def test_a_sub_network_normalises_one_utterance_by_running_statistics() -> None:
    network = SubNetwork(3, 4, 0.0).train()
    one = torch.randn(1, 2, 3)
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert_close(network(one, mask), network.eval()(one, mask))


# ---- TFN and LMF ---------------------------------------------------------------------------------


def test_tensor_fusion_is_the_product_of_all_entries() -> None:
    actual = tensor_fusion(
        [torch.tensor([[2.0]]), torch.tensor([[3.0, 5.0]]), torch.tensor([[7.0]])]
    )
    expected = [1, 7, 3, 21, 5, 35, 2, 14, 6, 42, 10, 70]
    assert actual.tolist() == [expected]


def test_tfn_outputs_are_in_the_range_of_the_labels() -> None:
    output = build_module("tfn")(single_member_batch())
    assert output.abs().max() < 3


def test_low_rank_fusion_is_tensor_fusion_with_a_low_rank_weight() -> None:
    text, audio = torch.randn(4, 2), torch.randn(4, 3)
    factors = {"text": torch.randn(3, 3, 2), "audio": torch.randn(3, 4, 2)}  # rank, 1 + H, O
    actual = low_rank_fusion({"text": text, "audio": audio}, factors).sum(0)
    weight = torch.einsum("rio,rjo->ijo", factors["text"], factors["audio"]).flatten(0, 1)
    assert_close(actual, tensor_fusion([text, audio]) @ weight)


# ---- MFN and EF-LSTM -----------------------------------------------------------------------------


def test_gated_memory_equals_a_hand_computed_value() -> None:
    """Set the gates so that the memory stays, or becomes tanh of the update."""
    model = build_module("mfn")
    memory, attended = torch.randn(2, 16), torch.randn(2, 48)
    for keep, add in ((30.0, -30.0), (-30.0, 30.0)):
        for gate, bias in ((model.retain_gate, keep), (model.update_gate, add)):
            torch.nn.init.zeros_(gate[-1].weight)
            torch.nn.init.constant_(gate[-1].bias, bias)
        expected = memory if keep > 0 else model.update(attended).tanh()
        assert_close(model.gated_memory(memory, attended), expected)


def test_delta_memory_attention_weights_the_cells_of_both_steps() -> None:
    model = build_module("mfn")
    torch.nn.init.zeros_(model.attention[-1].weight)
    torch.nn.init.zeros_(model.attention[-1].bias)
    cells = torch.randn(2, 48)
    assert_close(model.attended(cells), cells / 48)


@pytest.mark.parametrize("name", ["mfn", "ef_lstm", "jmt"])
def test_sequences_of_different_lengths_are_refused(name: str) -> None:
    batch = random_batch(list(INPUTS.values()), num_members=1, steps=(5, 7, 9)).of_member(0)
    with pytest.raises(DhmdError, match=f"{name} needs word-aligned sequences"):
        build_module(name)(batch)


def test_ef_lstm_reads_the_concatenated_features() -> None:
    model, batch = build_module("ef_lstm"), single_member_batch()
    rows = torch.cat([batch.features[n] for n in INPUTS], dim=2)
    length = int(batch.masks["text"][0].sum())
    _, (states, _) = model.lstm.lstm(rows[:1, :length])
    assert_close(model(batch)[0], model.output(states[-1, 0]))


# ---- MISA ----------------------------------------------------------------------------------------


def test_orthogonality_equals_a_hand_computed_value() -> None:
    a = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    b = torch.tensor([[0.0, 2.0], [0.0, -2.0]])
    # Rows (1, 0), (−1, 0) and (0, 1), (0, −1): the product has one entry 2 of 4.
    assert float(orthogonality(a, b)) == pytest.approx(1.0)
    assert float(orthogonality(a, b + 5)) == pytest.approx(1.0)  # centred
    assert float(orthogonality(a, torch.tensor([[0.0, 1.0], [0.0, 1.0]]))) == pytest.approx(0.0)


def test_moment_discrepancy_equals_a_hand_computed_value() -> None:
    a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [4.0]])
    # Means 1 and 2; central moments 1, 0, 1, 0 and 4, 0, 16, 0.
    assert float(moment_discrepancy(a, b)) == pytest.approx(1 + 3 + 15, rel=1e-4)
    assert float(moment_discrepancy(a, a)) == pytest.approx(0, abs=1e-4)


def test_the_total_of_misa_is_the_weighted_sum() -> None:
    losses = build_module("misa").losses(single_member_batch())
    expected = losses["task"] + 0.1 * losses["difference"] + 0.3 * losses["similarity"]
    assert_close(losses["total"], expected + losses["rec"])


# ---- Self-MM -------------------------------------------------------------------------------------


def test_relative_distance_equals_a_hand_computed_value() -> None:
    x, zero = torch.tensor([[3.0, 0.0]]), torch.zeros(2)
    actual = relative_distance(x, torch.tensor([1.0, 0.0]), torch.tensor([3.0, 4.0]))
    assert float(actual) == pytest.approx((4 - 2) / 2)
    assert float(relative_distance(x, zero, zero)) == 0


def test_generated_label_equals_a_hand_computed_value() -> None:
    label, own, fused = (torch.tensor([value]) for value in (2.0, 3.0, 1.5))
    # Ratio: 2 · 2 = 4; difference: 2 + 1.5 = 3.5.
    assert float(generated_label(label, own, fused)) == pytest.approx(3.75)
    assert float(generated_label(label, fused, fused)) == pytest.approx(2.0)


def test_generated_labels_start_at_the_label_and_have_momentum() -> None:
    model, batch = build_module("self_mm"), single_member_batch()
    first = model.losses(replace(batch, epoch=1))
    assert_close(model.labels_audio_N, batch.labels_B)
    # A modality whose label is the fused one has no weight.
    assert float(first["task_audio"].detach()) == 0
    actual = model._representations(batch)
    centres = model._centres("audio")
    own = relative_distance(actual["audio"], *centres)
    of_fusion = relative_distance(actual["fusion"], *model._centres("fusion"))
    new = generated_label(batch.labels_B, own, of_fusion).clamp(-3, 3)
    model.losses(replace(batch, epoch=2))
    assert_close(model.labels_audio_N, batch.labels_B / 3 + new * 2 / 3)
    positive = batch.labels_B > 0
    assert_close(centres[0], model.features_audio_NH[positive].mean(0))


# ---- MMIM ----------------------------------------------------------------------------------------


def test_log_likelihood_equals_a_hand_computed_value() -> None:
    estimator = Estimator(2)
    for part, bias in ((estimator.mean, 1.0), (estimator.log_variance, math.log(2.0))):
        torch.nn.init.zeros_(part[-1].weight)
        torch.nn.init.constant_(part[-1].bias, bias)
    actual = estimator.log_likelihood(torch.randn(1, 2), torch.tensor([[3.0, 2.0]]))
    assert actual.item() == pytest.approx(-(4 / 4 + 1 / 4))


def test_contrastive_coding_equals_a_hand_computed_value() -> None:
    x = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    actual = float(contrastive_coding(x, x))
    assert actual == pytest.approx(math.log(math.e + 1) - 1)


def test_log_determinant_equals_a_hand_computed_value() -> None:
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    assert float(log_determinant(rows)) == pytest.approx(math.log(0.501 * 2.001), rel=1e-3)


def test_phases_of_mmim_train_their_own_parameters() -> None:
    model, batch = build_module("mmim"), single_member_batch()
    for name, _ in model.named_parameters():
        phase = model.parameter_group(name).phase
        assert (phase == "estimation") == name.startswith("estimators.")
    losses = model.losses(replace(batch, phase="estimation"))
    assert set(losses) == {"total"}
    losses = model.losses(batch)
    expected = losses["task"] + 0.1 * losses["contrast"] - 0.1 * losses["information"]
    assert_close(losses["total"], expected)


# ---- DLF -----------------------------------------------------------------------------------------


def test_dlf_has_an_attractor_per_other_modality() -> None:
    model = build_module("dlf")
    assert set(model.attractor) == {"audio", "vision"}
    assert set(build_module("dlf", {"audio": 3, "vision": 5}).attractor) == {"vision"}


def test_the_total_of_dlf_is_the_weighted_sum() -> None:
    model, batch = build_module("dlf").eval(), single_member_batch()
    losses = model.losses(batch)
    decoupling = losses["rec"] + losses["specific"]
    decoupling = decoupling + 0.1 * (losses["triplet"] + losses["orthogonality"])
    assert_close(losses["total"], losses["task"] + losses["heads"] + 0.1 * decoupling)
    outputs = model._outputs(model.disentangled(batch), batch)

    def error(output_BO: Tensor) -> Tensor:
        return ((output_BO[:, 0] - batch.labels_B).abs() * batch.weight_B).sum()

    heads = error(outputs["shared"]) + error(outputs["audio"]) + error(outputs["vision"])
    assert_close(losses["heads"], heads + 3 * error(outputs["text"]))


# ---- IF-MMIN -------------------------------------------------------------------------------------


def test_visible_modalities_are_proper_subsets() -> None:
    torch.manual_seed(0)
    subsets = {tuple(row) for row in random_subset(torch.ones(500, 3, dtype=torch.bool)).tolist()}
    assert len(subsets) == 6
    assert all(0 < sum(row) < 3 for row in subsets)


def test_a_text_cnn_takes_the_maximum_over_windows() -> None:
    network = TextCNN(2, 3, 0.0)
    x = torch.randn(1, 4, 2)
    padded = torch.cat([x, torch.zeros(1, 4, 2)], dim=1)
    actual = network(padded, torch.arange(8)[None] < 4)
    windows = [
        torch.stack(
            [(layer.weight * padded[0, t : t + k].T).sum((1, 2)) + layer.bias for t in range(4)]
        )
        for k, layer in zip((3, 4, 5), network.convolutions, strict=True)
    ]
    expected = network.out(torch.cat([x.relu().amax(0) for x in windows]))
    assert_close(actual[0], expected)


def test_blocks_read_the_previous_output_plus_invariant_features() -> None:
    model = build_module("if_mmin")
    vectors, invariant = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    imagined, codes = model.imagine(vectors, invariant)
    out, expected = vectors.flatten(1), []
    for block in model.blocks:
        code = block.encoder(out + invariant.flatten(1))
        out = block.decoder(code)
        expected.append(code)
    assert_close(codes, torch.cat(expected, dim=1))
    assert_close(imagined, model.transition(out))


def test_the_pretrained_encoders_are_frozen_after_pretraining() -> None:
    model, batch = build_module("if_mmin"), single_member_batch()
    weight = model.networks["audio"].lstm.weight_ih_l0
    with torch.no_grad():
        weight.mul_(2)
    losses = model.losses(replace(batch, phase="pretraining"))
    assert_close(losses["total"], losses["task"] + losses["discrepancy"])
    frozen = model.get_buffer("frozen_networks_audio_lstm_weight_ih_l0")
    assert_close(frozen, weight)
    with torch.no_grad():
        weight.mul_(2)
    losses = model.losses(batch)
    expected = losses["task"] + losses["imagination"] + losses["invariance"]
    assert_close(losses["total"], expected)
    assert_close(frozen * 2, weight)


# ---- CM² -----------------------------------------------------------------------------------------


def test_gumbel_copula_equals_a_hand_computed_value() -> None:
    log_u = torch.tensor([0.5, 0.8]).log()[None]
    assert gumbel(log_u, torch.tensor(1.0)).item() == pytest.approx(math.log(0.4))  # independent
    expected = -math.hypot(math.log(0.5), math.log(0.8))
    assert gumbel(log_u, torch.tensor(2.0)).item() == pytest.approx(expected)


def test_copula_likelihood_equals_torch_distributions() -> None:
    x, means = torch.randn(4, 2, 3), torch.randn(2, 2, 3)
    spreads, weights = torch.rand(2, 2, 3) + 0.5, torch.randn(2, 2).log_softmax(1)
    theta = torch.tensor(1.5)
    actual = negative_log_likelihood(x, means, spreads, weights, theta)
    for b in range(4):
        terms = []
        for k in range(2):
            normal = torch.distributions.Normal(means[:, k], spreads[:, k])
            log_u = normal.cdf(x[b]).log().sum(1)
            copula = -(((-log_u) ** 1.5).sum() ** (1 / 1.5))
            terms.append(copula + (normal.log_prob(x[b]).sum(1) + weights[:, k]).sum())
        assert_close(actual[b], -torch.stack(terms).logsumexp(0))


def test_an_absent_modality_is_drawn_from_its_marginal() -> None:
    model = build_module("cm2").train()
    with torch.no_grad():
        model.means_MKH.copy_(torch.randn(3, 3, 8))
    samples = model.sample(4000)
    shares = model.logits_MK.softmax(1)[..., None]
    spread = torch.nn.functional.softplus(model.spreads_MKH)
    mean = (shares * model.means_MKH).sum(1)
    deviation = (shares * spread).square().sum(1).sqrt()
    assert_close(samples.mean(0), mean, rtol=0.01, atol=0.01)
    assert_close(samples.std(0), deviation, rtol=0.1, atol=1e-3)
    assert_close(model.eval().sample(2)[1], mean)


# ---- JMT -----------------------------------------------------------------------------------------


def test_modalities_and_joint_representation_attend_to_each_other() -> None:
    """Two modalities have the six pairs of the paper."""
    model = build_module("jmt", {"audio": 3, "vision": 5})
    assert sorted(model.pairs) == [
        ("audio", "joint"),
        ("audio", "vision"),
        ("joint", "audio"),
        ("joint", "vision"),
        ("vision", "audio"),
        ("vision", "joint"),
    ]
    assert model.fusion.in_features == 6 * 8
    assert len(build_module("jmt").pairs) == 12


def test_a_layer_equals_torchs_post_norm_layer() -> None:
    layer = Layer(NO_DROPOUT).eval()
    reference = nn.TransformerEncoderLayer(8, 2, dim_feedforward=32, dropout=0.0, batch_first=True)
    ours = layer.attention
    with torch.no_grad():
        parts = (ours.query, ours.key, ours.value)
        reference.self_attn.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.self_attn.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    reference.self_attn.out_proj.load_state_dict(ours.out.state_dict())
    reference.linear1.load_state_dict(layer.feed_forward[0].state_dict())
    reference.linear2.load_state_dict(layer.feed_forward[2].state_dict())
    x_BTD = torch.randn(2, 5, 8)
    mask_BT = torch.arange(5) < torch.tensor([[5], [3]])
    expected = reference(x_BTD, src_key_padding_mask=~mask_BT)
    assert_close(layer(x_BTD, mask_BT)[mask_BT], expected[mask_BT])
