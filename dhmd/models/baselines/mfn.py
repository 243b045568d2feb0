"""MFN: the memory fusion network (Zadeh et al., AAAI 2018, arXiv 1802.00927).

One LSTM per modality, delta-memory attention over the cell states of two successive steps, and a
gated memory of all modalities. Filled in: the widths, in proportion to `model.width`, after MMSA's
configuration; states do not change on padding. Needs word-aligned sequences.

Legend: B utterances, T steps, H hidden width, C width of all cells, G width of the memory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dhmd.models.baselines._sub_networks import require_word_aligned
from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.task import Task


class MFN(nn.Module):
    """LSTMs, delta-memory attention network, multi-view gated memory, and an output network."""

    title = "MFN"

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__()
        width, dropout = config.width, config.dropout.output
        self.cells = nn.ModuleDict({n: nn.LSTMCell(size, width) for n, size in inputs.items()})
        self.width = width
        cells, memory = len(inputs) * width, 2 * width

        def network(size: int, out: int) -> nn.Sequential:
            return nn.Sequential(
                *(nn.Linear(size, 2 * width), nn.ReLU(), nn.Dropout(dropout)),
                nn.Linear(2 * width, out),
            )

        self.attention = network(2 * cells, 2 * cells)  # D_a
        self.update = network(2 * cells, memory)  # D_u
        self.retain_gate = network(2 * cells + memory, memory)  # D_γ1
        self.update_gate = network(2 * cells + memory, memory)  # D_γ2
        self.memory = memory
        self.output = network(cells + memory, task.outputs)

    def forward(self, batch: Batch) -> Tensor:
        """Return outputs `[B, O]`."""
        require_word_aligned("mfn", batch)
        names = list(self.cells)
        real_BT = torch.stack([batch.masks[name] for name in names], dim=2).any(2)
        zero_BH = batch.features[names[0]].new_zeros(len(real_BT), self.width)
        hidden = {name: zero_BH for name in names}
        cell = {name: zero_BH for name in names}
        memory_BG = zero_BH.new_zeros(len(zero_BH), self.memory)
        for step in range(real_BT.shape[1]):
            before_BC = torch.cat([cell[name] for name in names], dim=1)
            real_B1 = real_BT[:, step, None]
            for name in names:
                new_hidden, new_cell = self.cells[name](
                    batch.features[name][:, step], (hidden[name], cell[name])
                )
                hidden[name] = torch.where(real_B1, new_hidden, hidden[name])
                cell[name] = torch.where(real_B1, new_cell, cell[name])
            cells_BC = torch.cat([before_BC, *(cell[name] for name in names)], dim=1)
            updated_BG = self.gated_memory(memory_BG, self.attended(cells_BC))
            memory_BG = torch.where(real_B1, updated_BG, memory_BG)
        last = torch.cat([*(hidden[name] for name in names), memory_BG], dim=1)
        output_BO: Tensor = self.output(last)
        return output_BO

    def attended(self, cells_BC: Tensor) -> Tensor:
        """Weight the cell states of two successive steps by attention (DMAN)."""
        weights_BC: Tensor = self.attention(cells_BC).softmax(1)
        return weights_BC * cells_BC

    def gated_memory(self, memory_BG: Tensor, attended_BC: Tensor) -> Tensor:
        """Update the memory: `γ1 ⊙ u + γ2 ⊙ tanh(û)`."""
        joint = torch.cat([attended_BC, memory_BG], dim=1)
        retain_BG, add_BG = self.retain_gate(joint).sigmoid(), self.update_gate(joint).sigmoid()
        updated: Tensor = retain_BG * memory_BG + add_BG * self.update(attended_BC).tanh()
        return updated
