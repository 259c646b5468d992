"""Where objects may be: boxes, how they are guessed, kept and evaluated (DeconvNet, ICCV 2015, §5)."""

from upscore.proposals.boxes import Boxes, boxes_of_objects, enlarged, overlaps, suppressed, whole_image
from upscore.proposals.cache import BoxFile, CachedProposer, proposals_folder
from upscore.proposals.edges import LearnedEdges, edges_of
from upscore.proposals.proposers import EdgeBoxes, Proposer, SelectiveSearch, SlidingWindows, create_proposer
from upscore.proposals.recall import best_overlaps, recalls

__all__ = [
    "BoxFile",
    "Boxes",
    "CachedProposer",
    "EdgeBoxes",
    "LearnedEdges",
    "Proposer",
    "SelectiveSearch",
    "SlidingWindows",
    "best_overlaps",
    "boxes_of_objects",
    "create_proposer",
    "edges_of",
    "enlarged",
    "overlaps",
    "proposals_folder",
    "recalls",
    "suppressed",
    "whole_image",
]
