"""Write docs/recipe.md from the recipe's own descriptions: `python docs/make_recipe.py`."""

from pathlib import Path

from upscore.training.recipe import describe_settings

HEAD = """# Every setting of a recipe

A recipe is a TOML file. `upscore train DATA --recipe FILE.toml` starts from one, options and
`--set section.key=value` change it, and the complete recipe is saved in the run folder. A setting
with the default *chosen* is chosen from the data and the machine if it is not given. The
choice and its reason are printed, and saved in the recipe's `[chosen]` table.

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
