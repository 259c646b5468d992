"""Object proposals: boxes, how they are found, cached and evaluated (DeconvNet, ICCV 2015, §5)."""

from upscore.proposals.boxes import Boxes, boxes_of_objects, enlarge_boxes, non_maximum_suppression, pairwise_iou, whole_image
from upscore.proposals.cache import BoxFile, CachedProposer, proposals_folder
from upscore.proposals.edges import LearnedEdges, detect_edges
from upscore.proposals.proposers import PROPOSERS, EdgeBoxes, Proposer, SelectiveSearch, SlidingWindows, create_proposer
from upscore.proposals.recall import best_ious, proposal_recall

__all__ = [
    "PROPOSERS",
    "BoxFile",
    "Boxes",
    "CachedProposer",
    "EdgeBoxes",
    "LearnedEdges",
    "Proposer",
    "SelectiveSearch",
    "SlidingWindows",
    "best_ious",
    "boxes_of_objects",
    "create_proposer",
    "detect_edges",
    "enlarge_boxes",
    "non_maximum_suppression",
    "pairwise_iou",
    "proposal_recall",
    "proposals_folder",
    "whole_image",
]
