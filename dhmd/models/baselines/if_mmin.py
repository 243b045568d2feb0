"""IF-MMIN: imagination of missing modalities from invariant features (Zuo et al., ICASSP 2023).

arXiv 2210.15359, after the authors' code. In pretraining, the encoders, a shared encoder of
modality-invariant features, and a classifier learn the task on complete utterances, with the
central moment discrepancy between invariant features. Then modalities are hidden at random: a
cascade of residual autoencoders imagines the pretrained vectors of the hidden modalities, and its
codes predict the label.
Filled in: widths in proportion to `model.width`; the hidden modalities are drawn for each utterance
and update; a hidden or absent modality has the zero vector, where the authors' code reads zeros;
all losses have weight 1, the default of that code; ten epochs of pretraining.

Legend: B utterances, T steps, I input width, H width of a modality, F all modalities' width.
"""

from __future__ import annotations

from itertools import combinations, pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from dhmd.models.baselines.misa import moment_discrepancy
from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.task import Task

BLOCKS = 5  # residual autoencoders
KERNELS = (3, 4, 5)  # of the text convolutions


class IFMMIN(nn.Module):
    """Encoders, invariant encoder, residual autoencoders, and classifiers of both stages."""

    title = "IF-MMIN"
    min_modalities = 2
    pretraining_epochs = 10

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__()
        self.task, width = task, config.width
        dropout = config.dropout.output
        self.networks = nn.ModuleDict(
            {
                n: TextCNN(size, width, dropout) if n == "text" else MaxLSTM(size, width)
                for n, size in inputs.items()
            }
        )
        self.invariant = nn.Sequential(
            *(nn.Linear(width, width), nn.LeakyReLU()), *(nn.Linear(width, width), nn.LeakyReLU())
        )
        total = len(inputs) * width
        sizes = (2 * width, width, max(width // 2, 2))
        self.blocks = nn.ModuleList(Autoencoder(total, sizes) for _ in range(BLOCKS))
        self.transition = nn.Sequential(nn.Linear(total, total), nn.ReLU(), nn.Linear(total, total))

        def classifier(size: int) -> nn.Sequential:
            return nn.Sequential(
                *(nn.Linear(size, width), nn.ReLU(), nn.Dropout(dropout)),
                *(nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout)),
                nn.Linear(width, task.outputs),
            )

        self.pretraining_classifier = classifier(2 * total)
        self.classifier = classifier(BLOCKS * sizes[-1])
        # Fixed copies of the pretrained encoders, whose vectors are imagined.
        for part in ("networks", "invariant"):
            for name, parameter in getattr(self, part).named_parameters():
                self.register_buffer(_frozen(part, name), parameter.detach().clone())

    def forward(self, batch: Batch) -> Tensor:
        """Return outputs `[B, O]`."""
        vectors = self._vectors(batch)
        output_BO: Tensor = self.classifier(self.imagine(vectors, self._invariant(vectors))[1])
        return output_BO

    def _vectors(self, batch: Batch) -> Tensor:
        """Return the vectors of all modalities, `[B, M, H]`."""
        rows = [net(batch.features[n], batch.masks[n]) for n, net in self.networks.items()]
        return torch.stack(rows, dim=1) * batch.presence[..., None]

    def _invariant(self, vectors_BMH: Tensor) -> Tensor:
        invariant_BMH: Tensor = self.invariant(vectors_BMH)
        return invariant_BMH

    def imagine(self, vectors_BMH: Tensor, invariant_BMH: Tensor) -> tuple[Tensor, Tensor]:
        """Return imagined vectors `[B, F]` and the codes of all blocks.

        Each block reads the output of the previous block plus the invariant features.
        """
        out_BF, codes = vectors_BMH.flatten(1), []
        for block in self.blocks:
            code, out_BF = block(out_BF + invariant_BMH.flatten(1))
            codes.append(code)
        return self.transition(out_BF), torch.cat(codes, dim=1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `task + discrepancy` in pretraining, else `task + imagination + invariance`."""
        if batch.phase == "pretraining":
            return self._pretraining(batch)
        visible_BM = batch.presence & random_subset(batch.presence)
        vectors_BMH = self._vectors(batch) * visible_BM[..., None]
        invariant_BMH = self._invariant(vectors_BMH)
        imagined_BF, codes = self.imagine(vectors_BMH, invariant_BMH)
        with torch.no_grad():
            teacher_BMH = self._pretrained_vectors(batch)
            state = self._pretrained("invariant")
            target_BMH = functional_call(self.invariant, state, (teacher_BMH,))
            hidden_BMH = teacher_BMH * (batch.presence & ~visible_BM)[..., None]
        task = batch.mean(self.task.loss(self.classifier(codes), batch.labels_B))
        imagination = batch.mean((imagined_BF - hidden_BMH.flatten(1)).square().mean(1))
        invariance = batch.mean((invariant_BMH - target_BMH).square().mean((1, 2)))
        parts = {"task": task, "imagination": imagination, "invariance": invariance}
        return {"total": task + imagination + invariance, **parts}

    def _pretraining(self, batch: Batch) -> dict[str, Tensor]:
        vectors_BMH = self._vectors(batch)
        invariant_BMH = self._invariant(vectors_BMH)
        both = torch.cat([vectors_BMH.flatten(1), invariant_BMH.flatten(1)], dim=1)
        task = batch.mean(self.task.loss(self.pretraining_classifier(both), batch.labels_B))
        pairs = list(combinations(invariant_BMH.unbind(1), 2))
        discrepancy = sum((moment_discrepancy(a, b) for a, b in pairs), torch.zeros_like(task))
        discrepancy = batch.share * discrepancy / len(pairs)
        with torch.no_grad():  # the copy is always one update behind
            for part in ("networks", "invariant"):
                for name, parameter in getattr(self, part).named_parameters():
                    self.get_buffer(_frozen(part, name)).copy_(parameter)
        return {"total": task + discrepancy, "task": task, "discrepancy": discrepancy}

    def _pretrained(self, part: str, prefix: str = "") -> dict[str, Tensor]:
        module = getattr(self, part)
        names = [name for name, _ in module.named_parameters() if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.get_buffer(_frozen(part, name)) for name in names}

    def _pretrained_vectors(self, batch: Batch) -> Tensor:
        rows = [
            functional_call(
                net, self._pretrained("networks", f"{n}."), (batch.features[n], batch.masks[n])
            )
            for n, net in self.networks.items()
        ]
        return torch.stack(rows, dim=1) * batch.presence[..., None]


class MaxLSTM(nn.Module):
    """The maximum of an LSTM's states over the real steps; maps `[B, T, I]` to `[B, H]`."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(size, hidden, batch_first=True)

    def forward(self, x_BTI: Tensor, mask_BT: Tensor) -> Tensor:
        states_BTH, _ = self.lstm(x_BTI)
        # States lie between −1 and 1.
        highest: Tensor = states_BTH.masked_fill(~mask_BT[..., None], -1.0).amax(1)
        return highest


class TextCNN(nn.Module):
    """The maximum over steps of rectified convolutions; maps `[B, T, I]` to `[B, H]`."""

    def __init__(self, size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(size, hidden, kernel) for kernel in KERNELS)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Sequential(nn.Linear(len(KERNELS) * hidden, hidden), nn.ReLU())

    def forward(self, x_BTI: Tensor, mask_BT: Tensor) -> Tensor:
        maxima = []
        for kernel, convolution in zip(KERNELS, self.convolutions, strict=True):
            # A window starts at a real step and may extend beyond the last one.
            windows_BHT = convolution(functional.pad(x_BTI.transpose(1, 2), (0, kernel - 1)))
            maxima.append((windows_BHT.relu() * mask_BT[:, None]).amax(2))
        out: Tensor = self.out(self.dropout(torch.cat(maxima, dim=1)))
        return out


class Autoencoder(nn.Module):
    """An autoencoder; returns the code and the reconstruction of `[B, F]`."""

    def __init__(self, size: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = _layers((size, *sizes), nn.LeakyReLU)
        self.decoder = _layers((*reversed(sizes), size), nn.ReLU)

    def forward(self, x_BF: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(x_BF)
        return code, self.decoder(code)


def random_subset(presence_BM: Tensor) -> Tensor:
    """Draw the visible modalities `[B, M]`: a non-empty proper subset for each utterance."""
    utterances, modalities = presence_BM.shape
    digits_M = torch.arange(modalities, device=presence_BM.device)
    subset_B = torch.randint(1, 2**modalities - 1, (utterances,), device=presence_BM.device)
    return (subset_B[:, None] >> digits_M) % 2 == 1


def _layers(sizes: tuple[int, ...], activation: type[nn.Module]) -> nn.Sequential:
    """Build linear layers with an activation function between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


def _frozen(part: str, name: str) -> str:
    """Return the name of the buffer that stores the copy of a parameter."""
    return f"frozen_{part}_{name}".replace(".", "_")
