"""The peer of run_speed.py: timm's validate.py rebuilt, with the same options and defaults.

The usual way to evaluate a classifier on a folder of images, by somebody who trusts the model.
Kept from validate.py: create_model, load_checkpoint, ImageFolder data set, create_loader with
prefetcher, batch 256, 4 workers, channels-first forward in float32 under inference_mode,
cross-entropy and top-1/top-5 by AverageMeter batch by batch, F1 by scikit-learn, the JSON at the end.
Left out: the warm-up batch of 256 random images, precision and recall, the import of functorch,
log lines (each would cost the peer time, none changes F1), and what is off by default: mixed
precision, channels-last, compilation, several GPUs, retries, lists of models.
Since the options are validate.py's own, a copy of it can stand here: run_speed.py --peer.

    python benchmarks/peer_validate.py FOLDER --model NAME --checkpoint FILE --num-classes 6
        --img-size 112 --device cpu
"""

import argparse
import json
from typing import Any

import torch
from sklearn.metrics import f1_score
from timm.data.config import resolve_data_config
from timm.data.dataset_factory import create_dataset
from timm.data.loader import create_loader
from timm.models import create_model, load_checkpoint
from timm.utils.metrics import AverageMeter, accuracy
from timm.utils.random import random_seed
from torch import nn


def options() -> argparse.Namespace:
    """Read those of validate.py's options that run_speed.py gives; the defaults are validate.py's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="folder with validation/CLASS/IMAGE")
    parser.add_argument("--model", required=True, help="name in timm")
    parser.add_argument("--checkpoint", required=True, help="its weights")
    parser.add_argument("--num-classes", type=int)
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--crop-pct", type=float)
    parser.add_argument("--crop-mode")
    parser.add_argument("--interpolation", default="")
    parser.add_argument("--mean", type=float, nargs="+")
    parser.add_argument("--std", type=float, nargs="+")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--metrics-avg", choices=("micro", "macro", "weighted"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


def open_loader(args: argparse.Namespace, config: dict[str, Any], device: torch.device) -> Any:
    """Return timm's loader of the folder, as validate.py configures it."""
    dataset = create_dataset(root=args.data, name="", split="validation")
    return create_loader(
        dataset,
        input_size=config["input_size"],
        batch_size=args.batch_size,
        use_prefetcher=True,
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
        num_workers=args.workers,
        crop_pct=config["crop_pct"],
        crop_mode=config["crop_mode"],
        pin_memory=False,
        device=device,
    )


def evaluate(model: nn.Module, loader: Any, average: str | None) -> dict[str, float]:
    """Run the model on all images; return loss, top-1 and top-5 in percent, F1 in percent."""
    criterion = nn.CrossEntropyLoss()
    losses, top1, top5 = AverageMeter(), AverageMeter(), AverageMeter()
    predictions, targets = [], []
    model.eval()
    with torch.inference_mode():
        for images, target in loader:
            output = model(images)
            loss = criterion(output, target)
            acc1, acc5 = accuracy(output.detach(), target, topk=(1, 5))
            for meter, value in ((losses, loss), (top1, acc1), (top5, acc5)):
                meter.update(value.item(), output.shape[0])
            predictions.append(output.argmax(dim=1).cpu())
            targets.append(target.cpu())
    result: dict[str, float] = {"loss": losses.avg, "top1": round(top1.avg, 4), "top5": round(top5.avg, 4)}
    if average:
        pair = (torch.cat(targets).numpy(), torch.cat(predictions).numpy())
        result[f"{average}_f1_score"] = round(100 * f1_score(*pair, average=average, zero_division=0), 4)
    return result


def main() -> None:
    """Evaluate one model and print the result as validate.py does."""
    args = options()
    random_seed(args.seed)
    device = torch.device(args.device)
    model = create_model(args.model, num_classes=args.num_classes)
    load_checkpoint(model, args.checkpoint, use_ema=False)
    config = resolve_data_config(vars(args), model=model, use_test_size=True)
    model = model.to(device)
    result = evaluate(model, open_loader(args, config, device), args.metrics_avg)
    print(f"--result\n{json.dumps({'model': args.model, **result}, indent=4)}")


if __name__ == "__main__":
    main()
