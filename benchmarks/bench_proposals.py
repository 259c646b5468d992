"""Fifty proposals of one image through DeconvNet: in batches, one by one, and what aggregation costs.

The peer runs the same boxes one at a time, as the release does. Equality of the results is asserted
first. Aggregation is everything but the network: cutting, resizing to the network's size and back,
and the canvas; it is timed as the whole with a network that returns what it returned before.
One thread: processor time; more: wall clock.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import numpy as np
import torch
from timing import interleave, machine, report, summary

from upscore.inference.proposal_aggregation import boxes_for, scores_over_boxes
from upscore.inference.segmenter import NetworkSegmenter
from upscore.models.factory import create_model
from upscore.proposals import Boxes, EdgeBoxes
from upscore.settings import ProposalSettings


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--widths", type=float, nargs="+", default=[0.125, 1.0])
    flags.add_argument("--boxes", type=int, default=50)
    flags.add_argument("--batch", type=int, nargs="+", default=[8, 16])
    flags.add_argument("--classes", type=int, default=21)
    flags.add_argument("--threads", type=int, default=1)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--device", default="cpu")
    values = flags.parse_args()
    torch.set_num_threads(values.threads)
    image = torch.from_numpy(_image()).permute(2, 0, 1).float().div_(255)
    boxes, _ = boxes_for(image, EdgeBoxes(), ProposalSettings(max_proposals=values.boxes))
    clock = time.process_time if values.threads == 1 and values.device == "cpu" else time.perf_counter
    results = {}
    for width in values.widths:
        torch.manual_seed(0)
        model = create_model("deconvnet", num_classes=values.classes, width=width).eval()
        network = NetworkSegmenter(model, device=values.device, channels_last=True)
        results[f"width {width:g}"] = measure(network, image, boxes, values.batch, values.rounds, clock)
    report(
        {
            "what": f"{len(boxes)} proposals of a 375×500 image through DeconvNet",
            "threads": values.threads,
            "rounds": values.rounds,
            "classes": values.classes,
            "device": values.device,
            "results": results,
            **machine("torch"),
        }
    )


def measure(network: NetworkSegmenter, image: torch.Tensor, boxes: Boxes, batches: list[int], rounds: int, clock) -> dict:
    def run(batch: int, score=network.scores) -> torch.Tensor:
        ((_, canvas),) = scores_over_boxes(score, image, boxes, ProposalSettings(batch_size=batch))
        return canvas.cpu()

    def keep(batch: int) -> list[torch.Tensor]:
        maps: list[torch.Tensor] = []

        def score(images: torch.Tensor) -> torch.Tensor:
            maps.append(network.scores(images))
            return maps[-1]

        run(batch, score)
        return maps

    def aggregate(batch: int) -> torch.Tensor:
        maps = iter(kept[batch])
        return run(batch, lambda images: next(maps))

    alone = run(1)
    for batch in batches:
        assert (run(batch) - alone).abs().max() < 1e-4 * alone.abs().max()
    kept = {batch: keep(batch) for batch in batches}
    variants = {"one by one": partial(run, 1)}
    for batch in batches:
        variants |= {f"batches of {batch}": partial(run, batch), f"aggregation, batches of {batch}": partial(aggregate, batch)}
    table = summary(interleave(variants, rounds=rounds, warmup=0, clock=clock), peer="one by one")
    shares = {}
    for batch in batches:
        whole, part = (table[name]["median_ms"] for name in (f"batches of {batch}", f"aggregation, batches of {batch}"))
        shares[f"batches of {batch}"] = round(part / (whole - part), 3)
    return {"measured": table, "aggregation_of_network": shares}


def _image() -> np.ndarray:
    from upscore.data.open_dataset import open_dataset

    return open_dataset("shapes", "val", size=(375, 500), count=1)[0].image


if __name__ == "__main__":
    main()
