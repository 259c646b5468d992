"""Flags become settings of the same names, and the command that repeats a report holds every flag that was given."""

import shlex

import pytest
import typer

from upscore.cli.app import UsageError, app
from upscore.cli.arguments import given_command
from upscore.cli.inference_options import PANELS, PRESETS_HELP, InferenceOptions, inference_options
from upscore.settings import PRESETS

VALUES = {
    "--flips": None,
    "--rotations": None,
    "--scales": "0.5,1",
    "--tile": "64",
    "--preset": "edeconvnet-release",
    "--max-proposals": "7",
    "--no-proposals": None,
    "--aggregate": "mean",
    "--boxes": "my boxes.json",
    "--edges": "edges.yml.gz",
    "--ensemble": ["a", "b c"],
    "--combine": "product",
    "--precision": "bf16",
    "--second-head": None,
    "--crf": None,
    "--no-crf": None,
    "--set": ["crf.iterations=3", "margin=8"],
}


def words_of(flag):
    value = VALUES[flag]
    values = value if isinstance(value, list) else [value]
    return [word for item in values for word in ([flag] if item is None else [flag, item])]


def test_flags_become_settings():
    options = InferenceOptions(
        scales="0.5,1", tile="64", max_proposals=7, aggregate="mean", combine="product", crf=True, settings=["crf.iterations=3", "margin=8"]
    )
    assert options.overrides() == {
        "scales": (0.5, 1.0),
        "tile": 64,
        "margin": 8,
        "proposals": {"max_proposals": 7, "aggregate": "mean"},
        "combine": "product",
        "crf": {"iterations": 3},
    }
    assert InferenceOptions().overrides() == {}
    assert InferenceOptions(rotations=True).overrides() == {"rotations": True}
    assert InferenceOptions(no_proposals=True, crf=False).overrides() == {"proposals": False, "crf": False}


@pytest.mark.parametrize("setting", ["proposals=20", "crf=true"])
def test_a_section_is_not_a_setting(setting):
    with pytest.raises(UsageError, match=f"found '{setting}', expected NAME=VALUE"):
        InferenceOptions(settings=[setting], max_proposals=5, crf=True).overrides()


@pytest.fixture
def repeated():
    """Parse a command line of a verb with the inference options; return the command that repeats it, as words."""
    found = []
    own = typer.Typer()

    @own.callback()
    def callback() -> None:
        pass

    @own.command("verb")
    @inference_options()
    def verb(context: typer.Context, *, bundle: str, images: list[str], count: int = 3, options: InferenceOptions) -> None:
        found.append((given_command(context), options))

    def parse(*words):
        own(args=["verb", *words], standalone_mode=False)
        command, options = found.pop()
        assert shlex.split(command)[:2] == ["upscore", "verb"]
        again = shlex.split(command)[2:]
        own(args=["verb", *again], standalone_mode=False)
        assert found.pop() == (command, options)
        return again

    return parse


@pytest.mark.parametrize("flag", VALUES)
def test_the_repeated_command_holds_the_flag(repeated, flag):
    words = words_of(flag)
    assert repeated("my run", "a.png", "b.png", *words) == ["my run", "a.png", "b.png", *words]


def test_the_repeated_command_holds_all_flags_and_no_default(repeated):
    words = [word for flag in VALUES if flag != "--crf" for word in words_of(flag)]
    again = repeated("run", "a.png", *words, "--count", "3")
    assert sorted(again) == sorted(["run", "a.png", *words, "--count", "3"])
    assert repeated("run", "a.png") == ["run", "a.png"]


def test_every_inference_option_of_the_verbs_is_tested_here():
    help_flags = set()
    root = typer.main.get_command(app)
    for verb in ("predict", "evaluate", "proposal-sweep", "ensemble"):
        for parameter in root.commands[verb].params:
            if getattr(parameter, "rich_help_panel", None) in PANELS:
                help_flags |= {*parameter.opts, *parameter.secondary_opts}
    assert help_flags == set(VALUES)


def test_the_help_lists_every_preset():
    listed = ", ".join(f"'{preset.name}' ({preset.description})" for preset in PRESETS.values())
    assert f"{listed}." == PRESETS_HELP
    assert all(preset.source for preset in PRESETS.values())


def test_flags_beside_a_preset_take_precedence():
    given = InferenceOptions(preset="edeconvnet-release", max_proposals=7, crf=False, settings=["proposals.beta=0.9"]).overrides()
    assert (given["proposals"]["max_proposals"], given["proposals"]["beta"], given["proposals"]["min_size"]) == (7, 0.9, 112)
    assert given["crf"] is False
    assert given["combine"] == "product"
