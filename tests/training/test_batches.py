"""Which images a step reads is a function of the step: resuming, parts and ranks cannot change it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from upscore.training.batches import BatchPlan

plans = st.fixed_dictionaries(
    {
        "images": st.integers(1, 40),
        "unit": st.integers(1, 4),
        "parts": st.integers(1, 3),
        "world": st.integers(1, 3),
        "seed": st.integers(0, 9),
    }
)


def make(values, *, first=0, steps=12, parts=1, rank=0, world=1):
    size = values["unit"] * values["parts"] * values["world"]
    return list(BatchPlan(values["images"], size, seed=values["seed"], first_step=first, steps=steps, parts=parts, rank=rank, world=world))


@given(plans, st.integers(0, 12))
def test_a_resumed_plan_is_the_rest_of_the_whole(values, first):
    assert make(values, first=first) == make(values)[first:]


@given(plans)
def test_parts_and_ranks_share_out_the_same_step(values):
    parts, world = values["parts"], values["world"]
    shares = [make(values, parts=parts, rank=rank, world=world) for rank in range(world)]
    for step, whole in enumerate(make(values)):
        dealt = [item for share in shares for batch in share[step * parts : (step + 1) * parts] for item in batch]
        assert sorted(dealt) == sorted(whole)
        assert {len(batch) for share in shares for batch in share} == {values["unit"]}


@given(plans)
def test_an_epoch_reads_every_image(values):
    size = values["unit"] * values["parts"] * values["world"]
    an_epoch = -(-values["images"] // size)
    plan = make(values, steps=2 * an_epoch)
    for epoch in range(2):
        items = [item for batch in plan[epoch * an_epoch : (epoch + 1) * an_epoch] for item in batch]
        assert {e for e, _ in items} == {epoch}
        assert {i for _, i in items} == set(range(values["images"]))


@given(plans)
def test_no_image_is_in_a_batch_twice_unless_all_are_in_it(values):
    """The last batch of an epoch is filled with other images of the epoch, not with one image repeated."""
    for batch in make(values):
        counts = Counter(index for _, index in batch)
        assert max(counts.values()) - min(counts.get(index, 0) for index in range(values["images"])) <= 1
