"""Two filters in one multiplication: what is left of it when results keep few significant bits.

An entry packs two filters of a convolution into one set of weights, W1 + eps x W2: whole numbers and
fractions. One multiplication then gives two products, and rounding takes them apart. The network is
submissions/distilled with every 1x1 convolution and the stem packed (--stem: the stem alone, whose sums are
short), trained for each number of bits with the rounding in place, so that it adapts: activations and the
first filter are quantized to as many levels as the bits hold.

    python benchmarks/packing.py --bits 24 11 8 --epochs 40          about five minutes a line
    python benchmarks/packing.py --honest                            what the bits cost the examples
"""

import argparse
import copy
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from starter.contract.competition import load_competition
from starter.contract.results import Reference
from starter.contract.submissions import discover_one
from starter.data.dataset import Dataset, open_dataset
from starter.evaluation.evaluate import read_reference
from starter.evaluation.scorer import Scorer
from starter.evaluation.scoring import Counts, macro_f1
from starter.graph.analysis import trace
from starter.graph.executor import Program
from starter.graph.reader import read_graph
from starter.plugin.count import count_model
from starter.plugin.export import export_model, write_graph
from starter.plugin.load import load_plugin_apart
from starter.recipes.training.augment import apply_view, draw_view
from starter.submission import pipeline, transforms
from starter.submission.transform_records import TransformRecord

ROOT = Path(__file__).parents[1]

HONEST_BITS = (24, 16, 12, 11, 10, 9, 8, 7)

LEVELS = {
    24: ((6, 5),),
    16: ((6, 5), (4, 3), (3, 2)),
    11: ((4, 2), (3, 2), (2, 2), (1, 2)),
    8: ((3, 2), (2, 2), (1, 2)),
}
"""Bits kept: what is tried, as bits of an activation and of a weight of the first filter, with the sign."""


def rounded(values: Tensor, bits: int) -> Tensor:
    """Return values with so many significant bits, nearest; the gradient passes."""
    if bits >= 24:
        return values
    with torch.no_grad():
        drop = 24 - bits
        whole = values.detach().contiguous().view(torch.int32)
        half = (1 << (drop - 1)) - 1 + ((whole >> drop) & 1)  # ties go to even, as bfloat16's do
        kept = ((whole + half) & -(1 << drop)).view(torch.float32)
    return values + (kept - values).detach()


def quantized(values: Tensor, step: Tensor, most: int) -> Tensor:
    """Return whole numbers of at most `most`; the gradient passes inside the range."""
    scaled = (values / step).clamp(-most, most)
    return scaled + (scaled.round() - scaled).detach()


class Packed(nn.Module):
    """A convolution that computes two filters with each multiplication.

    Args:
        conv: the convolution that it replaces.
        bits: how many significant bits a result keeps.
        activation: bits of an activation, with the sign.
        weight: bits of a weight of the first filter, with the sign.
    """

    eps: Tensor

    def __init__(self, conv: nn.Conv2d, bits: int, activation: int, weight: int) -> None:
        super().__init__()
        self.pairs = conv.out_channels // 2
        self.first = nn.Parameter(conv.weight[: self.pairs].detach().clone())
        self.second = nn.Parameter(conv.weight[self.pairs :].detach().clone())
        self.convolve = partial(F.conv2d, bias=None, stride=conv.stride, padding=conv.padding)
        self.bits, self.most = bits, max(1, 2 ** (activation - 1) - 1)
        self.most_weight = max(1, 2 ** (weight - 1) - 1)
        self.input_step = nn.Parameter(torch.tensor(0.0))
        self.register_buffer("eps", torch.tensor(0.0))

    def calibrate(self, values: Tensor) -> None:
        """Choose the steps from a batch: three standard deviations are the most."""
        self.input_step.data = (3 * values.std() / self.most).log()

    def forward(self, values: Tensor) -> Tensor:
        """Float (batch, C, H, W) to the convolution's result: pack, multiply once, take apart."""
        step = self.input_step.exp()
        whole = quantized(values, step, self.most)
        weight_step = 2.5 * self.first.detach().std() / self.most_weight
        first = quantized(self.first, weight_step, self.most_weight)
        if self.training:
            with torch.no_grad():
                limit = self.convolve(whole, self.second).abs().amax()
                eps = limit.clamp(min=1e-6).reciprocal() * 0.45
                self.eps.copy_(eps if self.eps == 0 else torch.minimum(self.eps * 1.001, eps))
        packed = self.convolve(whole, first + self.eps * self.second)
        packed = rounded(packed, self.bits)
        return self._apart(packed, whole, first, step, weight_step)

    def _apart(
        self, packed: Tensor, whole: Tensor, first: Tensor, step: Tensor, weight_step: Tensor
    ) -> Tensor:
        """Return both results; the gradient goes to each filter as if it had been alone."""
        near = packed.detach().round()
        rest = (packed.detach() - near) / self.eps
        if self.training:
            one = self.convolve(whole, first)
            two = self.convolve(whole, self.second)
            near, rest = one + (near - one).detach(), two + (rest - two).detach()
        return torch.cat([near * (step * weight_step), rest * step], 1)


class PackedForExport(nn.Module):
    """The same with constants only: a convolution, a rounding and a subtraction."""

    weight: Tensor
    step: Tensor
    scale: Tensor

    def __init__(self, packed: Packed) -> None:
        super().__init__()
        step = packed.input_step.exp()
        weight_step = 2.5 * packed.first.std() / packed.most_weight
        first = quantized(packed.first, weight_step, packed.most_weight)
        self.register_buffer("weight", (first + packed.eps * packed.second).detach())
        self.register_buffer("step", step.detach().reciprocal())
        scale = torch.cat(
            [(step * weight_step).expand(packed.pairs), (step / packed.eps).expand(packed.pairs)]
        )
        self.register_buffer("scale", scale.detach()[:, None, None].clone())
        self.most, self.convolve = packed.most, packed.convolve

    def forward(self, values: Tensor) -> Tensor:
        """As `Packed.forward`; the factors would be folded into the batch norm that follows."""
        whole = (values * self.step).round().clamp(-self.most, self.most)
        packed = self.convolve(whole, self.weight)
        near = packed.round()
        return torch.cat([near, packed - near], 1) * self.scale


def pack(model: nn.Module, bits: int, activation: int, weight: int, *, stem_only: bool) -> nn.Module:
    """Return a copy with every 1x1 convolution and the stem packed, or the stem alone."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if not isinstance(child, nn.Conv2d) or (stem_only and child.in_channels != 3):
                continue
            if child.groups == 1 and child.out_channels % 2 == 0:
                setattr(module, name, Packed(child, bits, activation, weight))
    return model


def for_export(model: nn.Module) -> nn.Module:
    """Return what a participant would submit."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Packed):
                setattr(module, name, PackedForExport(child))
    return model.eval()


def loaded(dataset: Dataset, ids: list[str], records: list[TransformRecord]) -> Tensor:
    """Return images as the network gets them."""
    transform = pipeline.build(records)
    return torch.stack([transform(dataset.images.open(image_id)) for image_id in ids])


def train(model: nn.Module, teacher: nn.Module, images: Tensor, epochs: int) -> None:
    """Train with the teacher's answers about the same views."""
    with torch.no_grad():
        hooks = [
            m.register_forward_pre_hook(lambda m, a: m.calibrate(a[0]) if not m.eps else None)
            for m in model.modules()
            if isinstance(m, Packed)
        ]
        model.train()(images[:256])
        for hook in hooks:
            hook.remove()
    batches = len(images) // 64
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 3e-3, total_steps=epochs * batches, pct_start=0.1
    )
    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(len(images))[: batches * 64].split(64):
            view = apply_view(images[rows], draw_view(images[rows].shape, 1.0, flip=True))
            with torch.no_grad():
                wanted = teacher(view).div(2).softmax(1)
            loss = F.cross_entropy(model(view) / 2, wanted)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5)
            optimizer.step()
            schedule.step()


def round_in_place(bits: int, values: Tensor) -> Tensor:
    """As `rounded`; what the runner wants of a rounding."""
    return values.copy_(rounded(values, bits))


def honest(dataset: Dataset) -> None:
    """Print the macro F1 of the packaged plugins for each number of bits, and how many answers change."""
    rows = dataset.solution()
    labels = [row.label for row in rows]
    print(f"{'':12}" + "".join(f"{f'{bits} bits':>16}" for bits in HONEST_BITS))
    for path in (ROOT / "baseline", *sorted((ROOT / "submissions").glob("[!_.]*"))):
        if path.suffix == ".safetensors":
            continue
        source = discover_one(path)
        plugin = load_plugin_apart(source, dataset.competition)
        records = list(transforms.describe(plugin.submission.transforms))
        images = loaded(dataset, [row.image_id for row in rows], records)
        with tempfile.TemporaryDirectory() as folder:
            graph, weights = Path(folder) / "graph", Path(folder) / "weights"
            exported = export_model(plugin.submission.model.eval(), pipeline.input_shape(records), source)
            write_graph(exported, source, graph, weights)
            walk = trace(read_graph(graph, weights), num_classes=len(dataset.info.classes))
        cells, exact = [], None
        for bits in HONEST_BITS:
            program = Program(walk, rounding=partial(round_in_place, bits))
            found = torch.cat([program(part) for part in images.split(program.batch_size)]).argmax(1)
            exact = found if exact is None else exact
            f1 = macro_f1(labels, found.tolist(), dataset.info.classes).macro
            cells.append(f"{f1:.4f} ({int((found != exact).sum())})")
        print(f"{source.name:12}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def main() -> None:
    """Train the attack for each number of bits and print what it scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bits", type=int, nargs="+", default=[24, 16, 11, 8], choices=sorted(LEVELS))
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stem", action="store_true", help="pack the stem alone")
    parser.add_argument("--honest", action="store_true", help="print what the bits cost the examples")
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(given.threads)
    rules = load_competition(ROOT / "competition.toml")
    reference: Reference = read_reference(rules.path(rules.baseline))
    dataset = open_dataset(rules.path(rules.dataset))
    if given.honest:
        honest(dataset)
        return
    source = discover_one(ROOT / "submissions" / "distilled.py")
    plugin = load_plugin_apart(source, dataset.competition)
    records = list(transforms.describe(plugin.submission.transforms))
    model = plugin.submission.model.eval()
    images = loaded(dataset, [row.image_id for row in dataset.train()], records)
    answers = dataset.solution()
    evaluated = loaded(dataset, [row.image_id for row in answers], records)
    labels = [row.label for row in answers]
    scorer = Scorer(reference, rules.score)
    shape = pipeline.input_shape(records)

    def line(name: str, network: nn.Module, counted: nn.Module) -> None:
        with torch.no_grad():
            found = torch.cat([network(part) for part in evaluated.split(128)]).argmax(1).tolist()
        f1 = macro_f1(labels, found, dataset.info.classes).macro
        cost = count_model(counted, shape, source)
        macs = cost.macs
        score = scorer.score(Counts(macs, cost.ptflops_macs, None), f1)
        print(f"{name:44} F1 {f1:.4f}  MACs {macs:9,}  score {score.score if score else 0:.4f}", flush=True)

    line("distilled, as it is", model, model)
    for bits in given.bits:
        for activation, weight in LEVELS[bits]:
            started = time.monotonic()
            attack = pack(model, bits, activation, weight, stem_only=given.stem)
            train(attack, model, images, given.epochs)
            attack.eval()
            seconds = time.monotonic() - started
            line(f"packed, {bits} bits: {activation} x {weight}, {seconds:.0f} s", attack, for_export(attack))


if __name__ == "__main__":
    main()
