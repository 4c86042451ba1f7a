"""Sixty published networks as ONNX files: whether each answers as the kit does, for any batch, and how fast.

Each goes the way of `starter export --onnx`: counted, written, run by onnxruntime on five images, one alone
and four together, and compared with the kit in float32. "differs" is the largest difference as a share of
the largest logit; "batch" is any, or 1 with the operator that could not be followed; "ratio" is the kit's
latency over onnxruntime's for one image on one thread. Images are random, weights as in
model_coverage.py. Exit status 1 if a file is refused.

    python benchmarks/onnx_parity.py                       about 15 minutes on one core
    python benchmarks/onnx_parity.py --only torchvision    or part of a network's name
"""

import argparse
import os
import statistics
import sys
import tempfile
import warnings
from pathlib import Path

from starter.contract.system.processors import waiting

os.environ.update(waiting(os.environ))  # before torch is loaded: as the kit's own processes

import torch
from model_coverage import NUM_CLASSES, build, enliven, graph_of

from starter.contract.errors import ParticipantError
from starter.graph.analysis import trace
from starter.graph.costs.macs import count_macs
from starter.graph.executor import Program
from starter.recipes.export.counted import Counted
from starter.recipes.export.export import export_any
from starter.recipes.export.formats import Format

IMAGES = 5
TORCHVISION = """
alexnet vgg11_bn squeezenet1_1 resnet18 resnext50_32x4d wide_resnet50_2 densenet121 shufflenet_v2_x0_5
shufflenet_v2_x1_0 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mnasnet0_5 efficientnet_b0
efficientnet_v2_s regnet_y_400mf convnext_tiny swin_t swin_v2_t vit_b_32
"""
TIMM = """
mobilenetv4_conv_small mobilenetv4_hybrid_medium efficientnet_lite0 efficientnet_cc_b0_4e ghostnet_100
ghostnetv2_100 lcnet_050 tinynet_a mobileone_s0 repvgg_a0 fasternet_t0 mobilevit_xxs mobilevitv2_050
efficientvit_m0 efficientvit_b0 efficientformer_l1 convnextv2_atto vit_tiny_patch16_224
deit3_small_patch16_224 eva02_tiny_patch14_224 swinv2_tiny_window8_256 maxvit_pico_rw_256 coat_lite_tiny
coatnet_nano_rw_224 cait_xxs24_224 levit_128s xcit_nano_12_p16_224 volo_d1_224 mixer_s32_224 gmlp_ti16_224
poolformer_s12 resnet26d resnest14d skresnet18 ecaresnet26t botnet26t_256 halonet26t lambda_resnet26t
pvt_v2_b0 twins_svt_small
"""
NETWORKS = (
    *(f"torchvision/{name}" for name in TORCHVISION.split()),
    *(f"timm/{name}" for name in TIMM.split()),
)


def counted(name: str) -> Counted:
    """Take a network to where `starter export` begins."""
    model, side = build(name)
    enliven(model, side)
    walk = trace(graph_of(model, side), num_classes=NUM_CLASSES)
    images = torch.randn(IMAGES, 3, side, side)
    return Counted(
        name=name,
        classes=tuple(f"class {i}" for i in range(NUM_CLASSES)),
        walk=walk,
        transforms=(),
        macs=count_macs(walk).macs,
        cost_version="2",
        images=images,
        official=Program(walk, batch_size=IMAGES)(images).numpy(),
        plain=Program(walk, batch_size=IMAGES, rounding=None)(images).numpy(),
    )


def main() -> int:
    """Print a line for each network; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="part of the names to run")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    ratios, refused, fixed = [], 0, 0
    print(f"{'network':40} {'batch':>5} {'differs':>8} {'MB':>6} {'ONNX, ms':>9} {'kit, ms':>9} {'ratio':>6}")
    for name in (name for name in NETWORKS if only in name):
        notes: list[str] = []
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            try:
                found = export_any(counted(name), Format.ONNX, path, notes.append)
            except ParticipantError as error:
                refused += 1
                print(f"{name:40} refused: {error}", flush=True)
                continue
        ratios.append(found.kit_ms / found.file_ms)
        fixed += found.batch is not None
        print(
            f"{name:40} {found.batch or 'any':>5} {found.parity.difference:8.1e} {found.size / 1e6:6.1f} "
            f"{found.file_ms:9.2f} {found.kit_ms:9.2f} {ratios[-1]:6.2f}",
            *(note.partition("number, ")[2] for note in notes),
            flush=True,
        )
    print(f"{len(ratios)} written, {fixed} for one image at a time, {refused} refused")
    if ratios:
        print(f"median of the ratios {statistics.median(ratios):.2f}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
