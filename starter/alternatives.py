"""What to write instead of an operator that has no cost rule: the hint of its refusal."""

import re

_INSTEAD = {
    r"fft|stft": "a product with a constant DFT matrix (torch.matmul, real and imaginary part apart)",
    r"lstm|gru|rnn": "the recurrence step by step, with nn.LSTMCell's equations in linear layers and sigmoid",
    r"cdist|_euclidean_dist|pairwise_distance": "|a|^2 + |b|^2 - 2 a @ b.T with matmul, then clamp and sqrt",
    r"bilinear$|_trilinear": "two einsums of two operands each, or a linear layer over the products",
    r"einsum": "einsums of two operands, one after the other, each with its output after ->",
    r"topk|sort|argsort|kthvalue|median|mode|unique|nonzero|argmax|argmin|masked_select|bincount|histc": (
        "something that does not choose by pixel values: softmax weights, max pooling or amax"
    ),
    r"grid_sample|grid_sampler|deform|roi_align": "F.interpolate to a fixed size, or a convolution",
    r"scatter|index_put|put_|index_add": "torch.cat, F.pad or torch.where at fixed places",
    r"bitwise|__lshift__|__rshift__|shift|popcount": "float32 arithmetic: integers hold several values",
    r"complex|view_as_real|angle|polar": "real and imaginary part as two float32 tensors",
    r"linalg|inverse|svd|qr|eig|cholesky|matrix_exp|det": "a fixed number of matmul steps",
    r"cumprod|logcumsumexp": "exp of a cumsum of logs, or the products written out",
    r"batch_norm|native_batch_norm": "a batch norm in eval mode, with its running statistics",
    r"erfinv|lgamma|digamma|i0|bessel|special": "a polynomial, or a smooth activation of the table",
    r"floor_divide|remainder|fmod|div\.(Tensor|Scalar)_mode": "a multiplication by the reciprocal, floor",
    r"atan2|hypot|log10": "atan, sqrt and log of plain arithmetic",
}


def instead_of(op: str) -> str:
    """Return what a participant can write instead of `op`, or an empty string."""
    name = op.removeprefix("aten.").removesuffix(".default")
    return next((text for pattern, text in _INSTEAD.items() if re.search(pattern, name)), "")


def hint(op: str) -> str:
    """Return the next step for the author of a refused operator; empty where there is no special one."""
    instead = instead_of(op)
    return f"Write {instead}." if instead else ""
