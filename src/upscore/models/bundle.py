"""A trained network in a folder, with everything that is needed to use it.

::

    my-model/
    ├── bundle.json            architecture and arguments, classes, inference defaults, card
    └── weights.safetensors    tensors by name

A bundle may come from anywhere, so reading one runs no code, follows no path or address in
it, and compares names, shapes and types of all tensors with the architecture, built on the
meta device, before it allocates any. Writing one is all or nothing.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from upscore.errors import BundleError, DataError, ModelError, OutputError
from upscore.files import beside, refuse_other_contents, replace_folder
from upscore.import_path import import_named, import_path
from upscore.input_spec import RGB, InputSpec
from upscore.models.factory import backbone_mismatch, create_model
from upscore.models.manifest import Description, Fingerprint, Input, Labels, as_json, read_document, write_document
from upscore.models.weights import name_mismatch, silent
from upscore.models.weights_file import STORED_DTYPES, digest_file, read_header, read_weights_file
from upscore.ops.geometry import Geometry
from upscore.settings import InferenceSettings
from upscore.text import literal, reason
from upscore.types import LabelSpace, as_label_space

__all__ = ["Bundle", "find_bundle", "refuse_unless_bundle"]

DESCRIPTION = "bundle.json"
WEIGHTS = "weights.safetensors"
ENSEMBLE = "ensemble.json"
"""What an ensemble's folder holds in place of these (:mod:`upscore.models.ensemble`)."""


@dataclass(frozen=True)
class Bundle:
    """A network, its classes and its history."""

    architecture: str  #: a key of :data:`upscore.models.architectures.ARCHITECTURES`, or the class of a network of somebody's own
    arguments: dict[str, Any]  #: the others of :func:`upscore.models.factory.create_model`, but never ``weights``
    labels: LabelSpace  #: the classes, ``num_classes`` of them
    weights: dict[str, Tensor] = field(repr=False)  #: the state of the network, on the CPU
    input: InputSpec = RGB  #: the images that it takes
    inference: InferenceSettings = field(default_factory=InferenceSettings)  #: defaults for prediction
    card: dict[str, Any] = field(default_factory=dict, repr=False)
    """Where the network comes from: recipe digest, metrics, fingerprint of the data, versions, history; JSON values."""
    built_by: str = ""
    """Import path of what builds a network of somebody's own, whose class ``architecture`` then names; "" for those of upscore."""
    builder: Callable[..., nn.Module] | None = field(default=None, repr=False, compare=False)
    """What builds it, from ``arguments``; never from a file."""
    receptive_field: str = field(default="", repr=False, compare=False)
    """How much of an image a score depends on, for people: "404 pixels" or "the whole image"; "" where it is not known."""

    @classmethod
    def of(
        cls,
        architecture: str,
        arguments: Mapping[str, Any],
        model: nn.Module,
        labels: LabelSpace,
        *,
        input: InputSpec = RGB,
        inference: InferenceSettings | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return a bundle of a network, on any device, as it is now; later training does not change it.

        ``architecture`` and ``arguments`` are what ``create_model`` was called with; ``weights`` is left out, and ``num_classes`` may be.
        BundleError where arguments, network and labels do not belong together, or ``card`` holds what JSON cannot.
        """
        complete = {name: value for name, value in arguments.items() if name != "weights"} | {"num_classes": len(labels)}
        if arguments.get("num_classes", len(labels)) != len(labels):
            raise BundleError(f"found a network of {arguments['num_classes']} classes and {len(labels)} labels: they must agree")
        if not input.is_rgb:
            complete["in_channels"] = len(input)
        skeleton = _skeleton(architecture, complete, input)
        for setting in ("bgr", "span"):
            asked, found = (getattr(getattr(network, "normalization", None), setting, None) for network in (skeleton, model))
            if asked != found:
                raise BundleError(
                    f"the network's normalization has {setting} {found}, and its arguments give {asked}: "
                    "add normalization, which its weights brought with them, to the arguments"
                )
        expected = skeleton.state_dict()
        state = model.state_dict()
        mismatch = name_mismatch(expected, state)
        if mismatch:
            raise BundleError(f"the network is not '{architecture}' with the given arguments: it {mismatch}")
        weights = {name: state[name].detach().to("cpu", expected[name].dtype, copy=True).contiguous() for name in expected}
        return cls(
            architecture, complete, labels, weights, input, inference or InferenceSettings(), as_json(card or {}),
            receptive_field=_describe_field(model),
        )  # fmt: skip

    @classmethod
    def of_network(
        cls,
        model: nn.Module,
        labels: LabelSpace | Sequence[str],
        *,
        build: Callable[..., nn.Module] | str,
        arguments: Mapping[str, bool | int | float | str | None] | None = None,
        input: InputSpec = RGB,
        inference: InferenceSettings | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return a bundle of a network of your own, as it is now.

        Parameters
        ----------
        model : nn.Module
            Maps images (N, C, H, W), of RGB in [0, 1], to logits (N, K, H, W).
        labels : LabelSpace or sequence of str
            K classes.
        build : callable or str
            Builds such a network, called with ``arguments``; or its import path, ``"mypackage.networks:make_network"``. The bundle
            records the path for people. It is never imported because a file names it: :meth:`load` is given ``build`` again.
        arguments : mapping, optional
            Keyword arguments of ``build``: numbers, words, true or false.
        input : InputSpec
            The images.
        inference, card
            As for :meth:`of`.

        Raises
        ------
        BundleError
            What ``build`` returns has other tensors than ``model``; an argument or the card holds what JSON cannot.
        """
        given, labels = as_json(arguments or {}), as_label_space(labels)
        if not all(isinstance(value, bool | int | float | str | None) for value in given.values()):
            raise BundleError("an argument of the network is not a number, a word or a yes or no")
        builder = import_named(build, error=BundleError) if isinstance(build, str) else build
        state = model.state_dict()
        if mismatch := _unlike(_build_own(builder, given).state_dict(), state):
            raise BundleError(f"the network is not what {import_path(builder)} builds from {literal(given, 200)}: it {mismatch}")
        return cls._own(model, labels, builder, given, input, inference, card)

    @classmethod
    def of_trained(
        cls,
        model: nn.Module,
        labels: LabelSpace,
        *,
        defined: str,
        input: InputSpec = RGB,
        inference: InferenceSettings | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return a bundle of a network of the caller's own, of which only is known where it is ``defined``: it can be saved, not built."""
        return replace(cls._own(model, labels, type(model), {}, input, inference, card), built_by=defined, builder=None)

    @classmethod
    def _own(
        cls,
        model: nn.Module,
        labels: LabelSpace,
        builder: Callable[..., nn.Module],
        arguments: dict[str, Any],
        input: InputSpec,
        inference: InferenceSettings | None,
        card: Mapping[str, Any] | None,
    ) -> Self:
        weights = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in model.state_dict().items()}
        for name, tensor in weights.items():
            if tensor.dtype not in STORED_DTYPES.values():
                found = f"the network has '{name}' of type {tensor.dtype}"
                raise BundleError(f"{found}, which no bundle holds: register it with persistent=False")
        return cls(
            type(model).__name__, arguments, labels, weights, input, inference or InferenceSettings(), as_json(card or {}),
            import_path(builder), builder, _describe_field(model),
        )  # fmt: skip

    def save(self, folder: str | Path) -> Path:
        """Write the bundle to ``folder``, which afterwards holds all of it, or what it held before; return the folder.

        A bundle that is there already is replaced. OutputError where the folder holds something else, or cannot be written.
        """
        try:
            with replace_folder(Path(folder), what="bundle", holds=(DESCRIPTION, WEIGHTS)) as partial:
                save_file(self.weights, partial / WEIGHTS)
                write_document(self._describe(partial / WEIGHTS), partial / DESCRIPTION)
        except SafetensorError as error:
            raise OutputError(
                f"the bundle cannot be written to '{folder}' ({reason(error)}): check space and rights, or choose another folder"
            ) from error
        return Path(folder).absolute()

    @classmethod
    def load(cls, folder: str | Path, *, build: Callable[..., nn.Module] | str | None = None) -> Self:
        """Read and check a bundle, or that of a run's folder, ``best``.

        Parameters
        ----------
        folder : path
            The bundle's, or the run's.
        build : callable or str, optional
            For a network of your own, what builds it from the bundle's arguments, or its import path. It is code that you name; nothing is
            imported because the file names it.

        Raises
        ------
        BundleError
            There is none, or it is damaged, foreign or made by a newer version; ``build`` is missing or superfluous, or builds a
            network with other tensors.
        """
        folder = _find(Path(folder))
        description = read_document(folder / DESCRIPTION, Description)
        try:
            labels = LabelSpace(tuple(description.labels.names), tuple(description.labels.palette))
        except DataError as error:
            raise BundleError(f"the bundle '{folder}' has impossible classes: {error}") from error
        given = description.input
        try:
            images = InputSpec(tuple(given.bands), given.dtype, tuple(given.mean), tuple(given.std), tuple(given.shown))
        except DataError as error:
            raise BundleError(f"the bundle '{folder}' has an impossible input: {error}") from error
        if (build is None) == bool(description.built_by):
            raise BundleError(_explain_build(folder, description))
        channels = description.arguments.get("in_channels", 3)
        if not description.built_by and type(channels) is int and channels != len(images) and not (images.is_rgb and channels == 1):
            raise BundleError(f"the bundle '{folder}' names {images} for a network of in_channels {channels}: it was altered")
        if not description.built_by and description.arguments.get("num_classes") != len(labels):
            made_for = description.arguments.get("num_classes")
            raise BundleError(f"the bundle '{folder}' names {len(labels)} classes for a network of {made_for}: it was altered")
        try:
            inference = InferenceSettings.from_stored(description.inference)
        except BundleError as error:
            raise BundleError(f"the bundle '{folder}' cannot be used: {error}") from error
        # A backbone that takes a minute to measure is measured for weights that are its own, and for no others.
        found = read_header(folder / WEIGHTS, description.weights)
        builder = import_named(build, error=BundleError) if isinstance(build, str) else build
        try:
            if builder is not None:
                mismatch, expected = "", _build_own(builder, description.arguments).state_dict()
            else:
                mismatch = _of_backbone(description.architecture, description.arguments, found)
                expected = {} if mismatch else _skeleton(description.architecture, description.arguments, images).state_dict()
        except BundleError as error:
            raise BundleError(f"the bundle '{folder}' cannot be used: {error}") from error
        if mismatch := mismatch or _unlike(expected, found):
            what = "its architecture" if builder is None else f"the network that {import_path(builder)} builds"
            raise BundleError(f"'{folder / WEIGHTS}' does not fit {what}: it {mismatch}")
        weights = read_weights_file(folder / WEIGHTS, description.weights)
        arguments, card = dict(description.arguments), dict(description.card)
        return cls(
            description.architecture, arguments, labels, weights, images, inference, card, description.built_by, builder,
            description.receptive_field,
        )  # fmt: skip

    def build(self) -> nn.Module:
        """Return a new network with the weights, in eval mode, on the CPU; nothing is downloaded."""
        if self.builder is not None:
            network = _build_own(self.builder, self.arguments)
            network.load_state_dict(self.weights)
            return network.eval()
        if self.built_by:
            raise BundleError(
                f"the network is somebody's own, {self.built_by}, and what builds it is not known: save it, and load it with build="
            )
        model = _skeleton(self.architecture, self.arguments, self.input)
        model.load_state_dict({name: tensor.clone() for name, tensor in self.weights.items()}, assign=True)
        if any(buffer.is_meta for buffer in model.buffers()):  # some timm networks compute buffers that are not saved
            model = create_model(self.architecture, **self.arguments, input=self.input, report=silent)
            model.load_state_dict(self.weights)
        return model.eval()

    def _describe(self, weights: Path) -> Description:
        return Description(
            architecture=self.architecture,
            built_by=self.built_by,
            arguments=self.arguments,
            receptive_field=self.receptive_field,
            input=Input(
                bands=list(self.input.bands),
                dtype=self.input.dtype,
                mean=list(self.input.mean),
                std=list(self.input.std),
                shown=list(self.input.shown),
            ),
            labels=Labels(names=list(self.labels.names), palette=list(self.labels.palette)),
            inference=self.inference.model_dump(mode="json"),
            card=self.card,
            weights=Fingerprint(sha256=digest_file(weights), bytes=weights.stat().st_size),
        )


def _describe_field(model: nn.Module) -> str:
    """Return a network's receptive field in words; "" where it has no geometry."""
    geometry = getattr(model, "geometry", None)
    if not isinstance(geometry, Geometry):
        return ""
    return "the whole image" if geometry.receptive_field == math.inf else f"{float(geometry.receptive_field):g} pixels"


def _build_own(builder: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> nn.Module:
    """Return what a caller's code builds, whatever goes wrong in it a BundleError."""
    what = f"{import_path(builder)} called with {literal(dict(arguments), 200)}"
    try:
        network = builder(**arguments)
    except Exception as error:  # anybody's code
        raise BundleError(f"{what} raised {type(error).__name__} ({reason(error)}): give build= that returns the network") from error
    if not isinstance(network, nn.Module):
        raise BundleError(f"{what} returned {type(network).__name__}, expected an nn.Module")
    return network


def _explain_build(folder: Path, description: Description) -> str:
    if not description.built_by:
        return f"'{folder}' holds '{description.architecture}', which upscore builds: leave build= out"
    return (
        f"'{folder}' holds a network of somebody's own code, {literal(description.built_by, 200)}, which is never imported because a file "
        "names it: open it from Python, Bundle.load(folder, build=...) or Predictor(folder, build=...)"
    )


def _skeleton(architecture: str, arguments: Mapping[str, Any], images: InputSpec) -> nn.Module:
    """Return the network on the meta device: names and shapes, no numbers."""
    if "weights" in arguments:
        raise BundleError("its arguments ask for other weights than its own: it was altered")
    if not all(isinstance(value, bool | int | float | str | None) for value in arguments.values()):
        raise BundleError("an argument of the network is not a number, a word or a yes or no")
    with _arguments_refused(arguments), torch.device("meta"):
        return create_model(architecture, **arguments, input=images, report=silent)


def _of_backbone(architecture: str, arguments: Mapping[str, Any], found: Mapping[str, Tensor]) -> str:
    """Return in words how ``found`` differs from the backbone that the arguments name; ``""`` if it does not."""
    with _arguments_refused(arguments):
        return backbone_mismatch(architecture, arguments, found)


@contextlib.contextmanager
def _arguments_refused(arguments: Mapping[str, Any]) -> Iterator[None]:
    """Turn whatever a network's constructor raises for impossible arguments into a BundleError."""
    try:
        yield
    except ModelError as error:
        raise BundleError(str(error)) from error
    except (AttributeError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise BundleError(f"the arguments {literal(dict(arguments), 200)} do not make a network ({reason(error)})") from error


def find_bundle(folder: str | Path) -> Path:
    """Return the folder that :meth:`Bundle.load` reads: this one, or a run's ``best``; BundleError where there is none."""
    found = _find(folder := Path(folder))
    return next((path for path in (folder, folder / "best") if found in (path, beside(path, "replaced"))), found)


def _find(folder: Path) -> Path:
    """Return the folder that holds ``bundle.json``: this one, a run's best, or one whose replacement was interrupted."""
    paths = (folder, folder / "best", beside(folder, "replaced"), beside(folder / "best", "replaced"))
    try:
        found = next((path for path in paths if (path / DESCRIPTION).is_file()), None)
        is_file, exists = folder.is_file(), folder.exists()
    except OSError as error:
        raise BundleError(f"'{folder}' cannot be read ({reason(error)})") from error
    if found is not None:
        return found
    if (folder / ENSEMBLE).is_file():
        raise BundleError(f"'{folder}' is an ensemble, expected one network: take one of its members, such as '{folder / 'member-1'}'")
    if is_file:
        raise BundleError(f"'{folder}' is a file, expected a bundle: a folder with {DESCRIPTION} and {WEIGHTS}")
    if not exists:
        raise BundleError(f"there is no bundle at '{folder}'")
    raise BundleError(f"'{folder}' is no bundle: it holds no {DESCRIPTION}, nor does '{folder / 'best'}'")


def _unlike(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Return in words how ``found`` differs from ``expected`` in names, shapes or types; ``""`` if it does not."""
    if mismatch := name_mismatch(expected, found):
        return mismatch
    other = next((name for name in expected if found[name].dtype != expected[name].dtype), None)
    return "" if other is None else f"has '{other}' of type {found[other].dtype}, expected {expected[other].dtype}"


def refuse_unless_bundle(folder: Path) -> None:
    """Raise an OutputError where ``folder`` holds what is no bundle, so that :meth:`Bundle.save` would refuse it."""
    refuse_other_contents(folder, what="bundle", holds=(DESCRIPTION, WEIGHTS))
