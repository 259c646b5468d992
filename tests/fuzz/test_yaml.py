"""``dataset.yaml``, whatever is in it: a schema whose splits can be opened or not, or one line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fuzz.examples import NUMBERS, WORDS, altered, each_of, encoded, fuzz, taken_or_refused
from upscore.data.open_dataset import open_dataset
from upscore.data.schema import read_schema

VALID = b"""# a comment
path: .
train: [images/train, images/val]
val: images/val
masks_dir: masks
names: {0: ground, 1: disc, 2: "box"}
nc: 3
label_mapping: {0: 0, 1: 1, 2: 2, 255: -1}
"""

CHUNKS = encoded(
    (
        *NUMBERS, *WORDS, "!!int", "!!int ''", "!!bool maybe", "!!float x", "!!binary x", "!!timestamp x", "!!set {a}", "!!omap [a: 1]",
        "!!python/object/apply:os.system [x]", "!!python/name:os.system", "!!map ab", "!!seq ab", "!!str [a]", "! a", "!<x> a", "&a ",
        "*a", "<<: ", "<<: {a: 1}", "{", "}", "[", "]", "[" * 2000, "{a: " * 2000, "- " * 2000, "? " * 2000, ": ", "\n", "\n  ", "---\n",
        "...\n", "%YAML 1.1\n", "%TAG ! x\n", "# ", "|\n", ">\n", "|9\n", "'", '"', "\t", "null", "yes", "~", "train: ", "names: ", "nc: ",
        "path: ", "label_mapping: ", "masks_dir: ", ", ", "[a, a]", "{[a]: b}", "\\x", "@", "`",
    )
)  # fmt: skip


def looked_at(painted, content: bytes) -> None:
    """Read ``content`` as a data set's file, and open those splits whose folders lie where the test's own images are."""
    folder = painted.parent
    file = folder / "altered.yaml"
    file.write_bytes(content)
    with taken_or_refused():
        schema = read_schema(file)
        for split, places in schema.splits.items():
            paths = [schema.root / place for place in places]
            if all(len(str(path)) < 4000 and path.absolute().is_relative_to(folder) and ".." not in path.parts for path in paths):
                with taken_or_refused():
                    len(open_dataset(file, split))


@fuzz
@each_of(CHUNKS)
@each_of([b"nc: " + chunk for chunk in CHUNKS])
@given(content=st.one_of(altered(VALID, CHUNKS), st.binary(max_size=200), st.lists(st.sampled_from(CHUNKS), max_size=12).map(b"".join)))
def test_any_yaml(painted, content):
    looked_at(painted, content)


@fuzz
@each_of([(key, chunk) for key in ("train", "names", "label_mapping", "path") for chunk in (b"!!int", b"*a", b"9" * 5000, b"[" * 2000)])
@given(
    pair=st.tuples(
        st.sampled_from(["path", "train", "val", "test", "masks_dir", "names", "nc", "label_mapping", "channels", "download"]),
        st.one_of(st.sampled_from(CHUNKS), st.binary(max_size=60), altered(b"{0: 0, 255: 1}", CHUNKS), altered(b"[images/train]", CHUNKS)),
    )
)
def test_any_value_of_a_key(painted, pair):
    key, value = pair
    lines = [line for line in VALID.splitlines(keepends=True) if not line.startswith(key.encode())]
    looked_at(painted, b"".join(lines) + key.encode() + b": " + value + b"\n")
