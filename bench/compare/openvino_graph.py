"""The InternVL2 graphs for OpenVINO: vision tower with projector, stateful language model, embedding table.

The exporter of optimum-intel needs torch and the folder's own Python code. These graphs are written with the
operations that its export consists of, so that the CPU plugin recognises the same patterns: RMS, RoPE, and attention
that owns the KV cache (ReadValue, Gather by beam_idx, Concat, ScaledDotProductAttention, Assign).
"""

import numpy as np
import openvino as ov
import openvino.opset13 as op
from openvino.op import Parameter


def const(values, kind=np.float32):
    return op.constant(np.asarray(values, kind))


def ints(*values):
    return op.constant(np.array(values, np.int64))


def name_output(node, name):
    result = op.result(node)
    result.output(0).get_tensor().set_names({name})
    return result


def parameter(shape, kind, name):
    node = Parameter(kind, ov.PartialShape(shape))
    node.set_friendly_name(name)
    node.output(0).get_tensor().set_names({name})
    return node


def linear(x, checkpoint, name):
    y = op.matmul(x, const(checkpoint[f"{name}.weight"]), False, True)
    y.set_friendly_name(name)
    return op.add(y, const(checkpoint[f"{name}.bias"])) if f"{name}.bias" in checkpoint else y


def layer_norm(x, checkpoint, name, epsilon):
    y = op.mvn(x, ints(-1), True, epsilon, "INSIDE_SQRT")
    return op.add(op.multiply(y, const(checkpoint[f"{name}.weight"])), const(checkpoint[f"{name}.bias"]))


def rms_norm(x, checkpoint, name, epsilon):
    mean = op.reduce_mean(op.power(x, const(2.0)), ints(-1), keep_dims=True)
    scale = op.divide(const(1.0), op.sqrt(op.add(mean, const(epsilon))))
    return op.multiply(const(checkpoint[f"{name}.weight"]), op.multiply(x, scale))


# --- vision -----------------------------------------------------------------------------------------------------


def vision_embeddings(pixels, checkpoint, s):
    """[T, 3, side, side] to [T, 1 + patches, width]: class row first, positions added."""
    name, patch = "vision_model.embeddings", s["patch"]
    conv = op.convolution(pixels, const(checkpoint[f"{name}.patch_embedding.weight"]), [patch] * 2, [0, 0], [0, 0], [1, 1])
    bias = checkpoint[f"{name}.patch_embedding.bias"].reshape(1, -1, 1, 1)
    rows = op.transpose(op.reshape(op.add(conv, const(bias)), ints(0, 0, -1), True), ints(0, 2, 1))
    tiles = op.gather(op.shape_of(pixels), ints(0), ints(0))
    shape = op.concat([tiles, ints(1, s["vision"])], 0)
    first = op.broadcast(const(checkpoint[f"{name}.class_embedding"]), shape)
    return op.add(op.concat([first, rows], 1), const(checkpoint[f"{name}.position_embedding"]))


def vision_attention(x, checkpoint, name, s, naive):
    heads, size = s["vision_heads"], s["vision"] // s["vision_heads"]
    qkv = op.reshape(linear(x, checkpoint, f"{name}.qkv"), ints(0, 0, 3, heads, size), True)
    parts = op.split(op.transpose(qkv, ints(2, 0, 3, 1, 4)), 0, 3)
    q, k, v = (op.squeeze(parts.output(i), ints(0)) for i in range(3))
    if naive:
        scores = op.matmul(op.multiply(q, const(size**-0.5)), k, False, True)
        mixed = op.matmul(op.softmax(scores, -1), v, False, False)
    else:
        mixed = op.scaled_dot_product_attention(q, k, v)
    rows = op.reshape(op.transpose(mixed, ints(0, 2, 1, 3)), ints(0, 0, -1), True)
    return linear(rows, checkpoint, f"{name}.proj")


def vision_layer(x, checkpoint, n, s, naive):
    name = f"vision_model.encoder.layers.{n}"
    attention = vision_attention(
        layer_norm(x, checkpoint, f"{name}.norm1", s["vision_eps"]), checkpoint, f"{name}.attn", s, naive)
    x = op.add(x, op.multiply(attention, const(checkpoint[f"{name}.ls1"])))
    hidden = linear(layer_norm(x, checkpoint, f"{name}.norm2", s["vision_eps"]), checkpoint, f"{name}.mlp.fc1")
    down = linear(op.gelu(hidden, "erf"), checkpoint, f"{name}.mlp.fc2")
    return op.add(x, op.multiply(down, const(checkpoint[f"{name}.ls2"])))


def vision_graph(checkpoint, s, naive=False):
    """pixel_values [T, 3, 448, 448] to last_hidden_state [T, 256, hidden]."""
    pixels = parameter([-1, 3, s["image"], s["image"]], ov.Type.f32, "pixel_values")
    x = vision_embeddings(pixels, checkpoint, s)
    for n in range(s["vision_layers"]):
        x = vision_layer(x, checkpoint, n, s, naive)
    side, width = s["image"] // s["patch"], s["vision"]
    patches = op.slice(x, ints(1), ints(2**31 - 1), ints(1), ints(1))
    square = op.reshape(patches, ints(-1, side // 2, 2, side // 2, 2, width), False)
    # [T, i, dr, j, dc, C] -> [T, i, j, dr, dc, C]: four neighbours become one row.
    rows = op.reshape(op.transpose(square, ints(0, 1, 3, 2, 4, 5)), ints(-1, side * side // 4, 4 * width), False)
    hidden = linear(layer_norm(rows, checkpoint, "mlp1.0", 1e-5), checkpoint, "mlp1.1")
    out = linear(op.gelu(hidden, "erf"), checkpoint, "mlp1.3")
    return ov.Model([name_output(out, "last_hidden_state")], [pixels], "vision")


# --- language ---------------------------------------------------------------------------------------------------


def rotary_tables(positions, s):
    """position_ids [B, T] to cos and sin [B, 1, T, head_dim]."""
    frequencies = s["theta"] ** -(np.arange(0, s["head_dim"], 2, dtype=np.float64) / s["head_dim"])
    column = const(frequencies.reshape(1, -1, 1))
    row = op.convert(op.unsqueeze(positions, ints(1)), "f32")
    angles = op.transpose(op.matmul(column, row, False, False), ints(0, 2, 1))
    both = op.concat([angles, angles], -1)
    return [op.unsqueeze(f(both), ints(1)) for f in (op.cos, op.sin)]


def rotate(x, tables, s):
    half = s["head_dim"] // 2
    low = op.slice(x, ints(0), ints(half), ints(1), ints(3))
    high = op.slice(x, ints(half), ints(2**31 - 1), ints(1), ints(3))
    turned = op.concat([op.multiply(high, const(-1.0)), low], -1)
    return op.add(op.multiply(x, tables[0]), op.multiply(turned, tables[1]))


class Cache:
    """Makes the two states of each layer; keeps the Assign nodes for the model's list of sinks."""

    def __init__(self, batch, beams, s):
        self.sinks, self.names = [], []
        self._beams, self._s = beams, s
        self._empty = op.concat([batch, ints(s["kv_heads"], 0, s["head_dim"])], 0)

    def extended(self, fresh, name):
        """What was kept, in the order of beam_idx, with `fresh` behind it: [B, kv_heads, past + T, head_dim]."""
        s = self._s
        shape = ov.PartialShape([-1, s["kv_heads"], -1, s["head_dim"]])
        zeros = op.broadcast(const(0.0), self._empty)
        past = op.gather(op.read_value(zeros, name, ov.Type.f32, shape), self._beams, ints(0).output(0))
        both = op.concat([past, fresh], 2)
        self.sinks.append(op.assign(both, name))
        return both


def shared_heads(x, batch, s):
    """Every head of keys or values once for each head of queries that reads it."""
    group = s["heads"] // s["kv_heads"]
    if group == 1:
        return x
    length = op.gather(op.shape_of(x), ints(2), ints(0))
    wide = op.concat([batch, ints(s["kv_heads"], group), length, ints(s["head_dim"])], 0)
    repeated = op.broadcast(op.unsqueeze(x, ints(2)), wide, broadcast_spec="BIDIRECTIONAL")
    return op.reshape(repeated, ints(0, s["heads"], -1, s["head_dim"]), True)


def causal_mask(attention_mask, embeds):
    """[B, 1, T, past + T]: 0 where a row may look, the least float elsewhere."""
    new = op.gather(op.shape_of(embeds), ints(1).output(0), ints(0))
    zero_one = op.unsqueeze(attention_mask, ints(1, 2))
    total = op.gather(op.shape_of(attention_mask), ints(1), ints(0))
    scalars = [op.squeeze(n, ints(0)) for n in (op.subtract(total, new), total)]
    columns = op.range(op.constant(np.int64(0)), scalars[1], op.constant(np.int64(1)), "i64")
    rows = op.range(scalars[0], scalars[1], op.constant(np.int64(1)), "i64")
    seen = op.less_equal(op.unsqueeze(columns, ints(0)), op.unsqueeze(rows, ints(1)))
    allowed = op.logical_and(op.unsqueeze(seen, ints(0, 1)), op.equal(zero_one, op.constant(np.int64(1))))
    return op.select(allowed, const(0.0), const(np.finfo(np.float32).min))


def decoder_layer(x, n, checkpoint, s, batch, tables, cache, mask):
    name = f"language_model.model.layers.{n}"
    normed = rms_norm(x, checkpoint, f"{name}.input_layernorm", s["eps"])

    def heads_of(part, count):
        rows = op.reshape(linear(normed, checkpoint, f"{name}.self_attn.{part}_proj"), ints(0, 0, count, s["head_dim"]), True)
        return op.transpose(rows, ints(0, 2, 1, 3))

    q = rotate(heads_of("q", s["heads"]), tables, s)
    k = rotate(heads_of("k", s["kv_heads"]), tables, s)
    v = heads_of("v", s["kv_heads"])
    keys = cache.extended(k, f"past_key_values.{n}.keypresent.{n}.key")
    values = cache.extended(v, f"past_key_values.{n}.valuepresent.{n}.value")
    keys, values = shared_heads(keys, batch, s), shared_heads(values, batch, s)
    mixed = op.scaled_dot_product_attention(q, keys, values, mask)
    rows = op.reshape(op.transpose(mixed, ints(0, 2, 1, 3)), ints(0, 0, -1), True)
    x = op.add(x, linear(rows, checkpoint, f"{name}.self_attn.o_proj"))
    normed = rms_norm(x, checkpoint, f"{name}.post_attention_layernorm", s["eps"])
    gate = op.swish(linear(normed, checkpoint, f"{name}.mlp.gate_proj"))
    hidden = op.multiply(gate, linear(normed, checkpoint, f"{name}.mlp.up_proj"))
    return op.add(x, linear(hidden, checkpoint, f"{name}.mlp.down_proj"))


def language_graph(checkpoint, s):
    """inputs_embeds, attention_mask, position_ids, beam_idx to logits of the last row."""
    embeds = parameter([-1, -1, s["hidden"]], ov.Type.f32, "inputs_embeds")
    attention_mask = parameter([-1, -1], ov.Type.i64, "attention_mask")
    positions = parameter([-1, -1], ov.Type.i64, "position_ids")
    beams = parameter([-1], ov.Type.i32, "beam_idx")
    batch = op.gather(op.shape_of(embeds), ints(0), ints(0))
    tables = rotary_tables(positions, s)
    cache = Cache(batch, beams, s)
    mask = causal_mask(attention_mask, embeds)
    x = embeds
    for n in range(s["layers"]):
        x = decoder_layer(x, n, checkpoint, s, batch, tables, cache, mask)
    x = rms_norm(x, checkpoint, "language_model.model.norm", s["eps"])
    x = op.slice(x, ints(-1), ints(2**31 - 1), ints(1), ints(1))
    head = "language_model.lm_head"
    if f"{head}.weight" not in checkpoint:
        head = "language_model.model.embed_tokens"
    logits = linear(x, checkpoint, head)
    inputs = [embeds, attention_mask, positions, beams]
    return ov.Model([name_output(logits, "logits")], cache.sinks, inputs, "language")


def embedding_graph(checkpoint, s):
    """input ids [B, T] to inputs_embeds [B, T, hidden]."""
    ids = parameter([-1, -1], ov.Type.i64, "input")
    table = const(checkpoint["language_model.model.embed_tokens.weight"])
    rows = op.gather(table, ids, op.constant(np.int64(0)))
    return ov.Model([name_output(rows, "inputs_embeds")], [ids], "embedding")
