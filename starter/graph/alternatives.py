"""What to write instead of an operator that has no cost rule: the hint of its refusal.

The patterns are looked for in an operator's name as whole words, which `_` and `.` separate.
"""

import re

_INSTEAD = {
    r"fft|stft|istft": "a product with a constant DFT matrix (torch.matmul, real and imaginary part apart)",
    r"lstm|gru|rnn": "the recurrence step by step, with nn.LSTMCell's equations in linear layers and sigmoid",
    r"cdist|_euclidean_dist|pairwise_distance": "|a|^2 + |b|^2 - 2 a @ b.T with matmul, then clamp and sqrt",
    r"bilinear$|trilinear": "two einsums of two operands each, or a linear layer over the products",
    r"einsum": "einsums of two operands, one after the other, each with its output after ->",
    r"topk|sort|argsort|kthvalue|median|^mode|unique2?|nonzero|argmax|argmin|masked_select|bincount|histc": (
        "something that does not choose by pixel values: softmax weights, max pooling or amax"
    ),
    r"deform_conv2d": "an ordinary convolution",
    r"grid_sampler|grid_sampler_2d|roi_align": "F.interpolate to a fixed size",
    r"scatter|scatter_add|index_put|index_add": "torch.cat, F.pad or torch.where at fixed places",
    r"fake_quantize": "the layer without it: rounding its weights saves no MACs",
    r"sparse|mkldnn|to_dense": "it with dense tensors",
    r"bitwise|lshift|rshift": "float32 arithmetic: integers hold several values",
    r"complex|view_as_real|angle|polar": "real and imaginary part as two float32 tensors",
    r"linalg|inverse|svd|qr|eig|cholesky|matrix_exp|det": "a fixed number of matmul steps",
    r"cumprod|logcumsumexp": "exp of a cumsum of logs, or the products written out",
    r"batch_norm|native_batch_norm": "a batch norm in eval mode, with its running statistics",
    r"erfinv|lgamma|digamma|i0|bessel|special": "a polynomial, or a smooth activation of the table",
    r"floor_divide|remainder|fmod|div\.(Tensor|Scalar)_mode": "a multiplication by the reciprocal, floor",
    r"atan2|hypot|log10": "atan, sqrt and log of plain arithmetic",
}


HINTS = frozenset(f"Write {instead}." for instead in _INSTEAD.values())
"""Everything that `hint` says."""


def hint(op: str) -> str:
    """Return the next step for the author of a refused operator; empty where there is no special one."""
    name = op.removeprefix("aten.").removesuffix(".default")
    for pattern, instead in _INSTEAD.items():
        if re.search(rf"(?<![a-zA-Z])(?:{pattern})(?![a-zA-Z])", name):
            return f"Write {instead}."
    return ""
