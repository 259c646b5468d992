"""Write docs/recipe.md from the recipe's own descriptions: `python docs/make_recipe.py`."""

from pathlib import Path

from upscore.training.recipe import describe_settings

HEAD = """# Every setting of a recipe

A recipe is a TOML file; `upscore train DATA --recipe FILE.toml` starts from one, flags and
`--set section.key=value` change it, and the complete one is kept in the run folder. A setting
whose default is *chosen* is chosen from the data and the machine when it is left out; the
choice and its reason are printed, and kept in the recipe's `[chosen]` table.

| setting | default | meaning |
|---|---|---|
"""


def recipe_page() -> str:
    """Return the page's text."""
    rows = [
        f"| `{name}` | {'*chosen*' if default == 'chosen' else f'`{default}`'} | {meaning} |"
        for name, default, meaning in describe_settings()
    ]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("recipe.md").write_text(recipe_page())
