"""The two ways in which OpenVINO runs the language model: with states of its own, and with pages of its caller.

Both have `begin(embeds)`, which forgets what was there, and `step(embeds, past)`: embeds [B, T, hidden] behind `past`
others of each sequence, to logits of the last rows [B, vocabulary].
"""

import numpy as np
import openvino as ov
import openvino.opset13 as op

from openvino_graph import parameter


def paged(model):
    """Turns a stateful graph into the paged one, as OpenVINO GenAI does: rows of all sequences in one list.

    A further input, `rows`, says which rows go through the head.
    """
    from openvino._offline_transformations import paged_attention_transformation

    paged_attention_transformation(model)
    head = next(node for node in model.get_ordered_ops() if node.get_friendly_name() == "language_model.lm_head")
    rows = parameter([-1], ov.Type.i64, "rows")
    chosen = op.gather(head.input_value(0), rows, op.constant(np.int64(0)))
    head.input(0).replace_source_output(chosen.output(0))
    model.add_parameters([rows])
    model.validate_nodes_and_infer_types()
    return model


class Stateful:
    """Attention nodes of the CPU plugin that own their cache."""

    def __init__(self, compiled):
        self._request = compiled.create_infer_request()

    def begin(self, embeds):
        self._request.reset_state()
        return self.step(embeds, 0)

    def step(self, embeds, past):
        sequences, new = embeds.shape[:2]
        inputs = {
            "inputs_embeds": embeds,
            "attention_mask": np.ones((sequences, past + new), np.int64),
            "position_ids": np.tile(np.arange(past, past + new), (sequences, 1)),
            "beam_idx": np.arange(sequences, dtype=np.int32),
        }
        return self._request.infer(inputs, share_inputs=True, share_outputs=True)[0][:, -1]


class Paged:
    """A cache of blocks that the caller keeps, here without a scheduler: each sequence has its own stretch."""

    SPARE = 256  # tokens that a sequence may grow by

    def __init__(self, compiled):
        self._request = compiled.create_infer_request()
        self._caches = {
            port.any_name: (port.get_element_type(), [port.get_partial_shape()[i].get_length() for i in (1, 2, 3)])
            for port in compiled.inputs if "_cache." in port.any_name
        }
        self._block = next(shape[1] for name, (_, shape) in self._caches.items() if name.startswith("value_cache"))
        self._blocks = self._stretch = 0

    def begin(self, embeds):
        sequences, tokens = embeds.shape[:2]
        self._stretch = -(-(tokens + self.SPARE) // self._block)
        if sequences * self._stretch > self._blocks:
            self._blocks = sequences * self._stretch
            for name, (kind, shape) in self._caches.items():
                self._request.set_tensor(name, ov.Tensor(kind, ov.Shape([self._blocks, *shape])))
        return self.step(embeds, 0)

    def step(self, embeds, past):
        sequences, new, hidden = embeds.shape
        used = -(-(past + new) // self._block)
        each = np.arange(sequences + 1, dtype=np.int32)
        inputs = {
            "inputs_embeds": embeds.reshape(sequences * new, hidden),
            "position_ids": np.tile(np.arange(past, past + new), sequences),
            "max_context_len": np.array(past + new, np.int32),
            "past_lens": np.full(sequences, past, np.int32),
            "subsequence_begins": each * np.int32(new),
            "block_indices_begins": each * np.int32(used),
            "block_indices": (each[:-1, None] * np.int32(self._stretch) + np.arange(used, dtype=np.int32)).reshape(-1),
            "rows": each[1:].astype(np.int64) * new - 1,
        }
        found = self._request.infer(inputs, share_inputs=True, share_outputs=True)[0]
        return found.reshape(sequences, -1)


KINDS = {"stateful": Stateful, "paged": Paged}
