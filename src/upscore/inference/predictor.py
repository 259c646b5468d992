"""Bundles, or a live network, as what labels images: the settings in force, and the pipeline they give for each image.

The way an image takes is drawn and built in :mod:`upscore.inference.pipeline`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeGuard, cast

import numpy as np
import torch
from PIL.Image import Image as PILImage
from torch import Tensor, nn

from upscore.data.array_like import image_array
from upscore.errors import BundleError, DataError, RecipeError, nearest_name
from upscore.inference.box_source import BoxSource
from upscore.inference.image_tensors import check_tensor
from upscore.inference.memory_advice import out_of_memory_explained
from upscore.inference.pipeline import Member, Pipeline, build_member, build_pipeline, segment_image
from upscore.inference.segmenter import NetworkSegmenter, Segmenter, choose_device, runs_channels_last
from upscore.inference.sinks import LabelMapSink, ProbsSink, Sink
from upscore.inference.sources import ArraySource, ImageSource, open_source
from upscore.inference.tile_choice import context_of
from upscore.inference.tile_grid import Window
from upscore.input_spec import RGB, Image, InputSpec
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble, load_model
from upscore.models.single_head import with_single_head
from upscore.proposals import BoxFile, Proposer
from upscore.settings import InferenceSettings, ProposalSettings, with_preset
from upscore.types import LabelSpace, Prediction, as_label_space

__all__ = ["Comparison", "ImageLike", "Predictor", "Segmentation"]

ImageLike: TypeAlias = "Image | Tensor | PILImage | str | os.PathLike[str]"
"""One image, as Python libraries hand it over: an array, a tensor, a PIL image, or a path."""


class Comparison(NamedTuple):
    """One image as the network alone labels it, and as it is labelled with the CRF."""

    before: Prediction  #: without the CRF
    after: Prediction  #: with it
    seconds: float  #: that the CRF took


class Segmentation(NamedTuple):
    """What :meth:`Predictor.segment` returns besides what it wrote."""

    warnings: tuple[str, ...]
    """What a user should know of the image: the source's own warnings, that there were no proposals, that tiles were blended."""
    crf_seconds: float


class Predictor:
    """Labels images with the network of a bundle, with several of them, or with a network in memory.

    A network in memory is borrowed as it is, and may be in the middle of its training: its weights are neither copied nor
    rearranged, unless ``channels_last`` asks for it, and its training mode is what it was after every call.

    Parameters
    ----------
    model : Bundle, Ensemble, path, or sequence of them; or nn.Module, or Segmenter
        Several bundles are combined as ``combine`` says; they must have the same classes. A module maps images (N, C, H, W), of RGB
        in [0, 1], to logits (N, K, H, W). Its ``geometry`` attribute, a :class:`upscore.ops.geometry.Geometry`, and ``stride``, an
        int, make exact tiles possible; without them large images are labelled in overlapping tiles. A segmenter is another engine,
        and computes as it will: ``device``, ``channels_last`` and ``precision`` are its own.
    labels : LabelSpace or sequence of str
        The K classes of a module or segmenter; bundles have their own.
    input : InputSpec, optional
        The images of a module or segmenter; RGB of 8 bits when not given.
    build : callable or str
        For a path to the bundle of a network of your own: what builds it (:meth:`upscore.models.bundle.Bundle.load`).
    device : str or torch.device, optional
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``. When not given, the best for bundles, and where it is for a module.
    channels_last : bool
        Compute with a module in NHWC memory order, as a bundle's network does: its weights are rearranged in memory.
    settings : InferenceSettings, optional
        In place of the (first) bundle's own.
    boxes : BoxFile or path, optional
        Boxes to use in place of finding some, by image.
    propose : callable, optional
        Finds the boxes, in place of the proposer that the settings name. It is called every time:
        :class:`upscore.proposals.CachedProposer` caches what it finds.
    edges : path, optional
        A structured-edge model of your own, by which edge boxes are found.
    preset : str, optional
        A name in :data:`upscore.settings.presets.PRESETS`, such as ``"edeconvnet-release"``; ``overrides`` take precedence over its
        settings.
    second_head : bool
        Label by the second head of a bundle's network (:class:`upscore.models.two_heads.TwoHeads`), in its classes.
    **overrides
        Single settings by name: ``tile``, ``margin``, ``flips``, ``rotations``, ``scales``, ``precision``, ``combine``,
        ``proposals`` (a number of boxes, True, False, or a mapping of its settings),
        ``crf`` (True, False, a mapping of its settings, or CRFSettings). Which hold where there are several bundles:
        :meth:`upscore.models.ensemble.Ensemble.resolve_settings`.

    Attributes
    ----------
    labels : LabelSpace
        What the numbers of a label map mean.
    input : InputSpec
        The images that it takes.
    has_second_head : bool
        Whether a bundle's network has two heads.
    settings : InferenceSettings
        In force; ``proposals`` are those of the first network that uses any.
    device : torch.device
        Where it computes.
    source : str
        Where the network came from: the bundle's path, its architecture, or the class of a live model.
    card, cards : dict, tuple of dict
        The card of the (first) bundle, and those of all networks; empty for a live model.
    members : tuple of Member
        The networks, and how each uses proposals.

    Raises
    ------
    BundleError, DataError, RecipeError
        A bundle is damaged, or several differ in their classes; the boxes cannot be read; a setting or the device is impossible;
        ``labels`` are missing, or given for a bundle.

    Examples
    --------
    >>> network = nn.Conv2d(3, 2, 1)
    >>> Predictor(network, labels=["road", "car"]).predict(np.zeros((4, 5, 3), np.uint8)).label_map.shape
    (4, 5)
    """

    def __init__(
        self,
        model: nn.Module | Segmenter | Bundle | Ensemble | str | os.PathLike[str] | Sequence[Bundle | Ensemble | str | os.PathLike[str]],
        *,
        labels: LabelSpace | Sequence[str] | None = None,
        input: InputSpec | None = None,
        build: Callable[..., nn.Module] | str | None = None,
        device: str | torch.device | None = None,
        channels_last: bool = False,
        settings: InferenceSettings | None = None,
        boxes: BoxFile | str | os.PathLike[str] | None = None,
        propose: Proposer | None = None,
        edges: str | os.PathLike[str] | None = None,
        preset: str | None = None,
        second_head: bool = False,
        **overrides: object,
    ) -> None:
        self.has_second_head = False
        overrides = overrides if preset is None else with_preset(preset, overrides)
        if isinstance(model, nn.Module) or _is_segmenter(model):
            if second_head:
                raise RecipeError(f"found second_head for {type(model).__name__}, expected a bundle, which names the classes of its heads")
            if labels is None:
                raise DataError(f"found {type(model).__name__} without labels, expected the names of its classes: give labels=")
            chosen = (settings or InferenceSettings()).with_overrides(**overrides)
            if isinstance(model, nn.Module):
                network = _network(model if device is None else model.to(choose_device(device)), chosen, channels_last=channels_last)
            else:
                network = Member(model, name=type(model).__name__)
            self._assemble([network], [chosen.proposals], as_label_space(labels), chosen, input or RGB)
        else:
            own = {"labels": labels is not None, "input": input is not None, "channels_last": channels_last}
            if found := next((name for name, given in own.items() if given), ""):
                raise RecipeError(f"found {found} for a bundle, which has its own: leave it out")
            self._open(cast(Any, model), build, device or "auto", settings, overrides, second_head=second_head)
        used = [member.proposals for member in self.members if member.proposals is not None]
        self._boxes = BoxSource(boxes, propose, edges, used=used)

    def _open(
        self,
        model: Bundle | Ensemble | str | os.PathLike[str] | Sequence[Bundle | Ensemble | str | os.PathLike[str]],
        build: Callable[..., nn.Module] | str | None,
        device: str | torch.device,
        settings: InferenceSettings | None,
        overrides: Mapping[str, object],
        *,
        second_head: bool,
    ) -> None:
        given = [model] if isinstance(model, (Bundle, Ensemble, str, os.PathLike)) else list(model)
        if not given:
            raise BundleError("found no bundle, expected at least one")
        opened = [each if isinstance(each, (Bundle, Ensemble)) else load_model(Path(each), build=build) for each in given]
        self.has_second_head = any(
            "second_head" in member.arguments for each in opened for member in (each.members if isinstance(each, Ensemble) else (each,))
        )
        opened = [
            replace(each, members=tuple(with_single_head(member, second=second_head) for member in each.members))
            if isinstance(each, Ensemble)
            else with_single_head(each, second=second_head)
            for each in opened
        ]
        combined = Ensemble.of(opened).resolve_settings(settings, **overrides)
        chosen = choose_device(device)
        networks = [
            # A network of somebody's own may expect the usual layout.
            _network(member.build().to(chosen), combined.inference, channels_last=runs_channels_last(chosen) and not member.built_by)
            for member in combined.members
        ]
        proposals = [member.inference.proposals for member in combined.members]
        self._assemble(networks, proposals, combined.labels, combined.inference, combined.input)
        self.source = ", ".join(_source(each) for each in given)
        self.card |= opened[0].card
        self.cards += tuple(member.card for member in combined.members)

    def _assemble(
        self,
        networks: list[Member],
        proposals: list[ProposalSettings | None],
        labels: LabelSpace,
        settings: InferenceSettings,
        input: InputSpec,
    ) -> None:
        self.labels = labels
        self.input = input
        if settings.crf is not None and (unknown := [band for band in settings.crf.bands if band not in input.bands]):
            near = nearest_name(unknown[0], input.bands)
            raise RecipeError(f"crf.bands names '{unknown[0]}'{near}, expected bands of the network's images: {', '.join(input.bands)}")
        self.settings = settings
        self.device = networks[0].segmenter.device
        self.source = f"live {networks[0].name}"
        self.card: dict[str, object] = {}
        self.cards: tuple[Mapping[str, object], ...] = ()
        self.members = tuple(replace(member, proposals=own) for member, own in zip(networks, proposals, strict=True))

    def predict(self, image: ImageLike, *, probs: bool = False, name: str = "", sinks: Sequence[Sink] = ()) -> Prediction:
        """Label one image.

        Parameters
        ----------
        image : array, tensor, PIL image, or path
            Of the bands and the type of ``input``, of any size from 1×1. An array is (H, W, C), (H, W, 3) uint8 for RGB; tensors and PIL
            images are read as :func:`upscore.data.array_like.image_array` describes: (C, H, W), bytes or floats in [0, 1].
        probs : bool
            Return the probabilities too: K × 4 bytes a pixel.
        name : str
            Of the image, in a file of boxes; its path when not given.
        sinks : sequence of Sink
            Get its probabilities too; the caller closes them.

        Returns
        -------
        Prediction
            Exactly the image's size; ``key`` is the path, if it was one. Of equally
            probable classes the first is taken. ``warnings`` are those of :class:`Segmentation`.

        Raises
        ------
        DataError
            It is not such an image, but a list or a folder of them, for instance; or there are no boxes for it in the file of them.
        GeometryError
            As :func:`upscore.inference.tile_choice.choose_tiles`.
        RecipeError
            Memory does not suffice with these settings; the message names those to change.
        """
        source = _image_source(image, name, self.input)
        label_map = LabelMapSink(source.size)
        result = ProbsSink(np.empty((len(self.labels), *source.size), np.float32)) if probs else None
        done = self.segment(source, [label_map, *([] if result is None else [result]), *sinks])
        key = os.fspath(image) if isinstance(image, str | os.PathLike) else ""
        return Prediction(label_map.label_map, self.labels, None if result is None else result.probs, key, done.warnings)

    def compare(self, image: Image, *, name: str = "", sinks: Sequence[Sink] = ()) -> Comparison:
        """Label one image (H, W, C) without and with the CRF; the network runs once.

        ``name`` and ``sinks``, which get the probabilities with the CRF, are as in :meth:`predict`, and so are the errors. RecipeError
        also where the settings have no CRF, or it is not enabled.
        """
        if not self.settings.uses_crf:
            raise RecipeError("found no CRF to compare with: give crf=True")
        source = _image_source(image, name, self.input)
        before, after = LabelMapSink(source.size), LabelMapSink(source.size)
        done = self.segment(source, [after, *sinks], network_sinks=[before])
        plain, refined = (Prediction(sink.label_map, self.labels, warnings=done.warnings) for sink in (before, after))
        return Comparison(plain, refined, done.crf_seconds)

    def segment(
        self,
        source: ImageSource,
        sinks: Sequence[Sink],
        *,
        network_sinks: Sequence[Sink] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Segmentation:
        """Label one image, and write its probabilities into sinks, in bounded memory.

        Sinks and ``progress`` are as in :func:`upscore.inference.pipeline.segment_image`: the caller closes the sinks. Errors are those
        of :meth:`predict`.
        """
        warnings = [*source.warnings]
        with self._memory_explained(source.size, source.name):
            pipeline = self.pipeline(source.size, name=source.name, warn=warnings.append)
            seconds = segment_image(source, pipeline, sinks, network_sinks=network_sinks, progress=progress)
        return Segmentation(tuple(warnings), seconds)

    def iterate(
        self, image: Image, *, name: str = "", warn: Callable[[str], None] = lambda warning: None
    ) -> Iterator[tuple[Window, Tensor]]:
        """Yield the probabilities of one image window by window, in bounded memory; errors are those of :meth:`predict`.

        Parameters
        ----------
        image : (H, W, C) array
            Of the bands and the type of ``input``; may be a memory map.
        name : str
            As :meth:`predict`.
        warn : callable
            Called with what a user should know of this image: that there are no proposals, or that tiles were blended.

        Yields
        ------
        window : Window
            Where they lie; every pixel is in exactly one. A tile, or with a CRF what is
            refined at a time (:mod:`upscore.inference.crf_postprocess`).
        probs : (K, h, w) float32 tensor
            Its probabilities, where they were computed.
        """
        source = _image_source(image, name, self.input)
        with self._memory_explained(source.size, name):
            for labelled in self.pipeline(source.size, name=name, warn=warn).windows(source):
                yield labelled.window, labelled.probs

    def predict_probs(self, images: Tensor) -> Tensor:
        """Return probabilities (N, K, H, W) float32 of images (N, C, H, W), before any normalisation: of RGB floating in [0, 1].

        The settings hold here too; only the result is whole, on the predictor's device. Any size from 1×1. DataError for anything
        else: bytes, values from 0 to 255, normalised ones, channels last.
        """
        check_tensor(images, self.input)
        size = images.shape[-2], images.shape[-1]
        with self._memory_explained(size):
            return self.pipeline(size)(images)

    def pipeline(self, size: tuple[int, int], *, name: str = "", warn: Callable[[str], None] = lambda warning: None) -> Pipeline:
        """Return what labels an image of ``size``, its height and width; the other arguments are those of :meth:`iterate`."""
        return build_pipeline(
            self.members,
            self.settings,
            size=size,
            classes=len(self.labels),
            images=self.input,
            proposer=lambda own: self.proposer(own, name),
            warn=warn,
        )

    def member(self, index: int, *, name: str = "") -> Segmenter:
        """Return one network with its TTA and, of the image ``name``, its proposals; without tiles, ensemble and CRF."""
        return build_member(self.members[index], self.settings, lambda own: self.proposer(own, name), images=self.input)

    def alone(self, index: int) -> Predictor:
        """Return a predictor of one of the networks on whole images, without proposals and CRF."""
        other = copy.copy(self)
        other.members = (replace(self.members[index], proposals=None),)
        other.settings = self.settings.model_copy(update={"proposals": None, "crf": None})
        return other

    def with_canvas(self, index: int, canvas: Tensor) -> Predictor:
        """Return a predictor of one image, of which a network's scores (K, H, W) over its proposals are known: it does not run again."""
        other = copy.copy(self)
        other.members = (*self.members[:index], replace(self.members[index], canvas=canvas), *self.members[index + 1 :])
        return other

    def proposer(self, settings: ProposalSettings, name: str = "") -> Proposer:
        """Return what finds the boxes of the image ``name``, as :meth:`upscore.inference.box_source.BoxSource.proposer`."""
        return self._boxes.proposer(settings, name)

    def _memory_explained(self, size: tuple[int, int], name: str = "") -> AbstractContextManager[None]:
        context = context_of([member.segmenter for member in self.members if member.proposals is None], self.settings)
        return out_of_memory_explained(size, context, self.settings, self.device, name)


def _is_segmenter(model: object) -> TypeGuard[Segmenter]:
    return all(hasattr(model, member) for member in ("geometry", "stride", "device", "scores")) and callable(model)


def _image_source(image: object, name: str, spec: InputSpec) -> ArraySource:
    if isinstance(image, list | tuple) or (isinstance(image, str | os.PathLike) and os.path.isdir(image)):
        found = f"a {type(image).__name__} of {len(image)}" if isinstance(image, list | tuple) else f"the folder '{os.fspath(image)}'"
        raise DataError(f"found {found}, expected one image: upscore.predict_files labels many files, a loop many arrays")
    if isinstance(image, str | os.PathLike):
        return replace(open_source(image, spec), name=name or os.fspath(image))
    return ArraySource(image_array(image, spec), name, spec=spec)


def _network(model: nn.Module, settings: InferenceSettings, *, channels_last: bool) -> Member:
    return Member(NetworkSegmenter(model, precision=settings.precision, channels_last=channels_last), name=type(model).__name__)


def _source(given: Bundle | Ensemble | str | os.PathLike[str]) -> str:
    if isinstance(given, Ensemble):
        return ", ".join(member.architecture for member in given.members)
    return given.architecture if isinstance(given, Bundle) else os.fspath(given)
