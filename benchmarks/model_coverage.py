"""Which published architectures the kit takes: transforms, export, JSON, reader, count and run.

torchvision's networks, timm's, and image classifiers of Hugging Face's transformers, which are built
from their configurations; without that package they are left out. Of timm, the evaluation transforms
of every published set of weights are read off, rebuilt, and compared on a photograph.

Every model gets fresh weights and six classes, at its usual resolution. It goes the way of a
submission, in this process, and the runner's logits on two random images must be those of the
model itself. Then each computed value is rounded, as the cost rule says: "rounded" is how far that
moves the logits, "kept" how many of eight random and eight packaged images keep their class. A
refusal must stand in EXPECTED_REFUSALS; anything else is a failure, exit status 1.

    python benchmarks/model_coverage.py                       about 25 minutes on one core
    python benchmarks/model_coverage.py --only huggingface    what needs: pip install transformers
"""

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from starter.contract.system.processors import waiting

os.environ.update(waiting(os.environ))  # before torch is loaded: as the kit's own processes

import timm
import torch
import torchvision
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import nn
from torchvision.transforms import v2

from starter.contract.errors import ParticipantError
from starter.contract.submissions import Kind, SubmissionSource
from starter.data.dataset import open_dataset
from starter.graph.analysis import trace
from starter.graph.costs.macs import count_macs
from starter.graph.executor import Program, to_bfloat16
from starter.graph.format import Graph
from starter.graph.reader import read_graph
from starter.plugin.export import export_model, write_graph
from starter.plugin.prepare import prepared, probe_model
from starter.submission import pipeline, transforms

NUM_CLASSES = 6
IMAGES = 2
RANKED = 8
"""On how many random images, and on how many packaged ones, the classes are compared."""
CALIBRATION_IMAGES = 4
LEAST_SPREAD = 1e-3
"""Of a parameter's values, and of two images' logits as a share of the largest."""
MOST_DIFFERENCE = 1e-4
MOST_ROUNDINGS = 4
"""A larger difference is allowed up to so many times the model's own error in float32."""
MOST_PARAMS = 30_000_000
"""Of the torchvision models, which are all tried up to this size."""

EXPECTED_REFUSALS = {
    "huggingface/pp_lcnet": "E402",  # its output calls the logits a hidden state
}
"""Models that the kit refuses, with the code."""

TIMM_MODELS = """
mobilenetv1_100 mobilenetv2_100 mobilenetv3_small_100 mobilenetv3_large_100 mobilenetv4_conv_small
mobilenetv4_conv_medium mobilenetv4_hybrid_medium mobilenet_edgetpu_v2_s efficientnet_b0
efficientnetv2_rw_t efficientnet_lite0 tf_efficientnet_b0 tf_efficientnet_es efficientnet_cc_b0_4e
efficientnet_b0_gn efficientnet_b0_g16_evos gc_efficientnetv2_rw_t efficientvit_m0 efficientvit_m5
efficientvit_b0 efficientvit_b1 efficientformer_l1 efficientformerv2_s0 efficientvim_m1 cpubone_nano
lowformer_b0 iformer_t swiftformer_xs fasternet_t0 lcnetv2_small ghostnetv3_100 csatv2 mobilevit_xxs
mobilevit_s mobilevitv2_050 convnext_atto convnext_atto_ols convnext_zepto_rms convnext_tiny
convnextv2_atto convnextv2_nano swin_tiny_patch4_window7_224 swin_s3_tiny_224 swinv2_tiny_window8_256
swinv2_cr_tiny_224 vit_tiny_patch16_224 vit_small_patch16_224 vit_tiny_r_s16_p8_224
vit_relpos_small_patch16_224 vit_srelpos_small_patch16_224 vit_small_patch16_rope_224
vit_small_patch16_rope_mixed_224 vit_tiny_patch16_dinov3_qkvb vit_pwee_patch16_reg1_gap_256
vit_dpwee_patch16_reg1_gap_256 flexivit_small vitamin_small_224 deit_tiny_patch16_224
deit_tiny_distilled_patch16_224 deit3_small_patch16_224 beit_base_patch16_224 beitv2_base_patch16_224
eva02_tiny_patch14_224 maxvit_pico_rw_256 maxvit_nano_rw_256 maxvit_tiny_rw_224 maxvit_tiny_tf_224
maxxvit_rmlp_nano_rw_256 coatnet_nano_rw_224 coatnet_rmlp_nano_rw_224 coatnext_nano_rw_224
cait_xxs24_224 pit_ti_224 ghostnet_100 ghostnetv2_100 repghostnet_100 repvgg_a0 repvgg_d2se mobileone_s0
mobileone_s1 fastvit_t8 fastvit_sa12 fastvit_mci0 edgenext_xx_small edgenext_small tinynet_a lcnet_050
mixnet_s hardcorenas_a resnetv2_18 resnetv2_50 resnetv2_50x1_bit resnetv2_50d_gn resnetv2_50d_frn
resnetv2_50d_evos nfnet_l0 nf_resnet50 nf_regnet_b0 eca_nfnet_l0 levit_128s levit_conv_128s
poolformer_s12 poolformerv2_s12 xcit_nano_12_p16_224 xcit_tiny_12_p8_224 volo_d1_224 mixer_s32_224
mixer_b16_224 gmixer_12_224 gmlp_ti16_224 resmlp_12_224 fbnetc_100 fbnetv3_b spnasnet_100 mnasnet_100
semnasnet_100 regnetx_002 regnety_002 regnetz_005 regnetz_b16 regnety_040_sgn resnet10t resnet18
resnet26d resnet50 resnetaa50 resnetblur18 resnet51q resnetrs50 resnext50_32x4d resnext26ts
seresnext26t_32x4d res2net50_14w_8s res2next50 resnest14d resnest26d skresnet18 seresnet18 seresnet50
legacy_seresnet18 ecaresnet26t gcresnext26ts bat_resnext26ts resnet50_clip resnet50_gn resnet50_mlp
tresnet_m densenet121 densenetblur121d rdnet_tiny dla34 dla46x_c dla60_res2net dpn48b dpn68
hrnet_w18_small inception_v3 inception_v4 inception_resnet_v2 xception41 xception41p legacy_xception
pnasnet5large vgg11 vgg11_bn vovnet39a ese_vovnet19b_dw eca_vovnet39b cspresnet50 cspnext_tiny
cs3darknet_s cs3darknet_focus_s cspdarknet53 darknet17 rexnet_100 rexnetr_100 selecsls42 gernet_s
haloregnetz_b halonet26t lambda_resnet26t lambda_resnet26rpt_256 botnet26t_256 eca_botnext26ts_256
sebotnet33ts_256 lamhalobotnet50ts_256 twins_pcpvt_small twins_svt_small pvt_v2_b0 pvt_v2_b2_li
crossvit_tiny_240 crossvit_9_dagger_240 convit_tiny tnt_s_patch16_224 tnt_s_legacy_patch16_224
visformer_tiny coat_tiny coat_lite_tiny sequencer2d_s gcvit_xxtiny davit_tiny hiera_tiny_224
sam2_hiera_tiny inception_next_atto inception_next_tiny repvit_m0_9 repvit_m1 tiny_vit_5m_224
focalnet_tiny_srf focalnet_tiny_lrf caformer_s18 convformer_s18 mvitv2_tiny mvitv2_small_cls nest_tiny
nest_tiny_jx nextvit_small hgnet_tiny hgnetv2_b0 starnet_s1 starnet_s050 shvit_s1 mambaout_femto
vit_medium_patch16_clip_224 naflexvit_base_patch16_gap samvit_base_patch16_224
"""
"""Separated by spaces."""

TINY = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 768}
HUGGING_FACE: dict[str, dict[str, Any]] = {
    "beit": TINY,
    "bit": {},
    "convnext": {},
    "convnextv2": {},
    "cvt": {},
    "data2vec-vision": TINY,
    "deit": TINY,
    "dinov2": TINY,
    "dinov2_with_registers": TINY,
    "efficientnet": {
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "image_size": 224,
        "hidden_dim": 1280,
    },
    "focalnet": {},
    "hgnet_v2": {},
    "hiera": {},
    "ijepa": TINY,
    "levit": {},
    "mobilenet_v1": {},
    "mobilenet_v2": {},
    "mobilevit": {},
    "mobilevitv2": {},
    "poolformer": {},
    "pp_lcnet": {},
    "pvt": {},
    "pvt_v2": {},
    "regnet": {},
    "resnet": {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]},
    "segformer": {},
    "swiftformer": {},
    "swin": {},
    "swinv2": {},
    "textnet": {},
    "vit": TINY,
    "vit_msn": TINY,
}
"""Families of image classifiers, and where their default is a large network, how a smaller one is made."""

HERE = SubmissionSource("benchmark", Path(__file__), Kind.FILE)


@dataclass(frozen=True)
class Outcome:
    """What became of one model."""

    model: str
    size: int = 0
    macs: int = 0
    seconds: float = 0
    """From the export to the logits."""
    difference: float = 0
    """Largest difference of a logit, over the largest logit."""
    rounding: float = 0
    """The model's own error in float32, found by running it in float64; only for a large difference."""
    rounded: float = 0
    """Difference that rounding every computed value makes."""
    kept: int = 0
    """How many of 2 x RANKED images keep their class when values are rounded."""
    code: str = ""
    """The code of the first refusal, or the type of an exception."""
    details: tuple[str, ...] = ()
    """Each refusal with its operator."""

    @property
    def verdict(self) -> str:
        """Say "ok", "refused" (as expected), or why this is a failure."""
        expected = EXPECTED_REFUSALS.get(self.model, "")
        if self.code != expected:
            return "FAILS" if self.code else f"FAILS: taken, but {expected} was expected"
        if self.code:
            return "refused"
        # Written so that a difference that is not a number fails.
        limit = max(MOST_DIFFERENCE, MOST_ROUNDINGS * self.rounding)
        return "ok" if self.difference <= limit else "DIFFERS"


def build(model: str) -> tuple[nn.Module, int]:
    """Return a network with fresh weights (seed 0) and its usual resolution."""
    torch.manual_seed(0)
    library, _, name = model.partition("/")
    if library == "timm":
        network: nn.Module = timm.create_model(name, num_classes=NUM_CLASSES)
        size = int(resolve_data_config(model=network)["input_size"][-1])
    elif library == "huggingface":
        network, size = build_hugging_face(name)
    else:
        network = torchvision.models.get_model(name, num_classes=NUM_CLASSES)
        size = torchvision.models.get_model_weights(name).DEFAULT.transforms().crop_size[0]
    return prepared(network).eval(), size


def build_hugging_face(family: str) -> tuple[nn.Module, int]:
    """Return an image classifier from its configuration, nothing downloaded, and its resolution."""
    import transformers
    from transformers.models.auto import modeling_auto

    names = modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES[family]
    model = getattr(transformers, names if isinstance(names, str) else names[0])
    config = transformers.AutoConfig.for_model(family, num_labels=NUM_CLASSES, **HUGGING_FACE[family])
    size = getattr(config, "image_size", 224)
    side = max(size) if isinstance(size, list | tuple) else size
    return model(config), int(side or 224)


def enliven(network: nn.Module, size: int) -> None:
    """Make every parameter matter, as if trained: fresh ones hide differences behind zeros.

    Parameters that are constant, or nearly, get noise; batch norms take their statistics from one batch.

    Raises:
        AssertionError: the answer does not depend on the image, so nothing could be compared.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.max() - parameter.min() < LEAST_SPREAD:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        for norm in norms:
            norm.momentum, norm.training = 1.0, True
        network(torch.randn(CALIBRATION_IMAGES, 3, size, size))
        network.eval()
        one, other = network(torch.randn(2, 3, size, size))
    assert relative_difference(one, other) > LEAST_SPREAD, "every image has the same answer"


def graph_of(network: nn.Module, size: int) -> Graph:
    """Export a network, write its files, and read them."""
    with tempfile.TemporaryDirectory() as folder:
        graph, weights = Path(folder) / "graph", Path(folder) / "weights"
        write_graph(export_model(network, (3, size, size), HERE), HERE, graph, weights)
        return read_graph(graph, weights)


def take(model: str) -> Outcome:
    """Take one model the whole way.

    Raises:
        ParticipantError: the kit refuses it.
    """
    network, size = build(model)
    if problems := probe_model(network, (3, size, size), NUM_CLASSES, HERE):
        raise ParticipantError(problems)
    enliven(network, size)
    images = torch.randn(IMAGES, 3, size, size)
    started = time.perf_counter()
    walk = trace(graph_of(network, size), num_classes=NUM_CLASSES)
    macs = count_macs(walk).macs
    found = Program(walk, batch_size=IMAGES, rounding=None)(images)
    seconds = time.perf_counter() - started
    with torch.inference_mode():
        expected = network(images)
        difference = relative_difference(expected, found)
        exact = network.double()(images.double()) if difference > MOST_DIFFERENCE else expected
    rounding = relative_difference(exact, expected)
    more = torch.cat([torch.randn(RANKED, 3, size, size), packaged(size)])
    plain, rounded = (in_parts(Program(walk, rounding=how), more) for how in (None, to_bfloat16))
    kept = int((plain.argmax(1) == rounded.argmax(1)).sum())
    details = (f"the model's own float32 rounding is {rounding:.1e}",) if rounding else ()
    by_rounding = relative_difference(plain, rounded)
    return Outcome(model, size, macs, seconds, difference, rounding, by_rounding, kept, details=details)


def in_parts(program: Program, images: torch.Tensor) -> torch.Tensor:
    """Return the logits of any number of images."""
    return torch.cat([program(part) for part in images.split(program.batch_size)])


@cache
def packaged(size: int) -> torch.Tensor:
    """Return RANKED of the packaged evaluation images, normalised: float32 (RANKED, 3, size, size)."""
    dataset = open_dataset(Path(__file__).parents[1] / "data" / "waste")
    read = v2.Compose(
        [
            v2.Resize((size, size)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(dataset.info.mean, dataset.info.std),
        ]
    )
    rows = dataset.solution()
    return torch.stack([read(dataset.images.open(r.image_id)) for r in rows[:: len(rows) // RANKED][:RANKED]])


def relative_difference(expected: torch.Tensor, found: torch.Tensor) -> float:
    """Return the largest difference of a logit, over the largest logit."""
    return ((expected - found).abs().max() / expected.abs().max()).item()


def outcome_of(model: str) -> Outcome:
    """Take one model; a refusal or an exception is an outcome too."""
    try:
        return take(model)
    except ParticipantError as error:
        details = tuple(" ".join(f"{p.code} {p.where}: {p.got}".split()) for p in error.problems)
        return Outcome(model, code=str(error.problems[0].code), details=details)
    except Exception as error:  # noqa: BLE001 - one model must not end the table
        return Outcome(model, code=type(error).__name__, details=(str(error).strip().split("\n")[0],))


def torchvision_models() -> Iterator[str]:
    """Yield the torchvision classifiers of at most MOST_PARAMS parameters."""
    for name in torchvision.models.list_models(module=torchvision.models):
        weights = torchvision.models.get_model_weights(name).DEFAULT
        if weights.meta["num_params"] <= MOST_PARAMS:
            yield f"torchvision/{name}"


def show_timm_transforms() -> bool:
    """Say how many sets of timm's weights have transforms that are rebuilt to the bit; show the others."""
    photograph = open_dataset(Path(__file__).parents[1] / "data" / "waste").images
    image = photograph.open(photograph.ids()[0])
    verdicts: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for name in timm.list_models(pretrained=True):
        weights: Any = timm.get_pretrained_cfg(name)
        data = resolve_data_config(pretrained_cfg=weights.to_dict())
        made = create_transform(**data, is_training=False)
        key = repr(made)
        if key not in verdicts:
            verdicts[key] = transforms_verdict(made, data["input_size"], image)
            if verdicts[key] != "same":
                print(f"    {name}: {verdicts[key]}")
        counts[verdicts[key]] += 1
    print(f"timm's transforms of {counts.total()} sets of weights, {len(verdicts)} of them different: ")
    print("    " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
    return all(verdict in {"same", "refused: a letterbox"} for verdict in counts)


def transforms_verdict(made: Any, input_size: tuple[int, int, int], image: Image.Image) -> str:
    """Say what becomes of a pipeline of timm's: "same" where ours gives the same tensor for an image."""
    try:
        records = transforms.describe(made)
        if pipeline.input_shape(records, extremes=True) != input_size:
            return "another shape"
    except ParticipantError as error:
        told = "Letterbox" in error.problems[0].hint
        return "refused: a letterbox" if told else f"refused: {error.problems[0].got}"
    return "same" if torch.equal(pipeline.build(records)(image), made(image)) else "other values"


def show(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Print one line for each model as it is done; return the outcomes."""
    print(f"{'model':46} {'px':>4} {'MACs':>15} {'seconds':>8} {'differs by':>10}  rounded kept  verdict")
    shown = []
    for outcome in outcomes:
        numbers = f"{outcome.size:4} {outcome.macs:15,} {outcome.seconds:8.1f} {outcome.difference:10.1e}"
        numbers += f" {outcome.rounded:8.1e} {outcome.kept:4}"
        columns = f"{outcome.code:>54}" if outcome.code else numbers
        print(f"{outcome.model:46} {columns}  {outcome.verdict}", flush=True)
        for detail in outcome.details:
            print(f"    {detail[:300]}", flush=True)
        shown.append(outcome)
    return shown


def main() -> None:
    """Take what was asked for, print the table, and exit with 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", help="timm/NAME or torchvision/NAME")
    parser.add_argument("--limit", type=int, help="take only so many models")
    parser.add_argument("--only", choices=["torchvision", "timm", "huggingface"], help="of one library")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    versions = (torch.__version__, torchvision.__version__, timm.__version__)
    print("torch {}, torchvision {}, timm {}".format(*versions))
    hugging_face = HUGGING_FACE if importlib.util.find_spec("transformers") else ()
    models = args.models or [
        *torchvision_models(),
        *(f"timm/{name}" for name in TIMM_MODELS.split()),
        *(f"huggingface/{name}" for name in hugging_face),
    ]
    models = [name for name in models if name.startswith(args.only or "")]
    are_same = args.models or args.only not in {None, "timm"} or show_timm_transforms()
    outcomes = show(outcome_of(model) for model in models[: args.limit])
    verdicts = Counter(outcome.verdict.partition(":")[0] for outcome in outcomes)
    print(f"{len(outcomes)} models: " + ", ".join(f"{n} {verdict}" for verdict, n in verdicts.items()))
    taken = [outcome.difference for outcome in outcomes if not outcome.code]
    print(f"largest difference {max(taken, default=0):.1e}")
    images = 2 * RANKED * len(taken)
    kept = sum(outcome.kept for outcome in outcomes)
    print(f"rounded: {kept} of {images} images keep their class")
    moved = sorted(outcome.rounded for outcome in outcomes if not outcome.code)
    print(f"logits move by {statistics.median(moved or [0]):.1e} of the largest (median of the models)")
    sys.exit(0 if are_same and verdicts.keys() <= {"ok", "refused"} else 1)


if __name__ == "__main__":
    main()
