"""The recipe: every value a run can be told about the optimisation, in one strict, frozen model."""

from engine.recipe.loading import RecipeError, load_recipe, recipe_of, valid_keys
from engine.recipe.named import recipe_names, recipe_path
from engine.recipe.recipe import Recipe, StoredRecipe
from engine.recipe.writing import to_toml

__all__ = [
    "Recipe", "RecipeError", "StoredRecipe", "load_recipe", "recipe_names", "recipe_of", "recipe_path", "to_toml",
    "valid_keys",
]  # fmt: skip
